//! Hostile input for every parser and decoder.
//!
//! A [`Target`] is a function that gives bytes to one parser and checks what comes out; it must never panic, never allocate without
//! a bound, and never go on for ever. [`fuzz`] mutates [seeds](seeds) and keeps what reaches new code: the mutations follow from a number, the
//! seed, alone, so that equal runs find equal things. Coverage comes from LLVM's counters, which `make fuzz` has the compiler
//! put in; without them (`cargo test`) the mutations are blind.

mod alloc;
mod coverage;
mod disks;
mod driver;
mod firmware;
mod mutate;
mod peers;
pub mod seeds;
mod target;

pub use alloc::Counting;
pub use driver::{Finding, Outcome, check, fuzz};
pub use target::{Target, targets};
