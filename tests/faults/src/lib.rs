//! Every fault at every place: whole platforms on the simulated Xen, launched again and again, each time with another thing that
//! goes wrong.
//!
//! A [`Scenario`] is a platform and what its guests do. It is launched once without faults, to see which calls are made; then
//! once for each [`Trial`]: each call refused with each error number that Xen has, refused with rubbish in its answers, refused
//! whenever it is made again, done in part, and memory that runs out at each page. [`judge`] says whether a run ended as every run has to:
//! in an error that names the call and the VM, and with a clean machine.
//!
//! `make fault-sweep` runs all of it; the tests of this crate run a slice.

#![forbid(unsafe_code)]

pub mod judge;
pub mod kernel;
pub mod logged;
pub mod scenario;
pub mod trial;

pub use judge::judge;
pub use scenario::{Run, Scenario, scenarios};
pub use trial::{Plan, Trial};
