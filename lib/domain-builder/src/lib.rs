//! Carries a plan out.
//!
//! A domain goes through stages, each a type of its own: [`Created`] (it exists, paused, without memory), [`Populated`] (it
//! has its memory), [`Loaded`] (its memory holds what the plan says), [`Sealed`] (its page tables are Xen's to guard and its
//! first vCPU has registers). A step takes the domain by value and gives it back in the next stage; a step that fails, or a
//! stage that is dropped, destroys the domain, so that nothing half-built can stay behind.
//!
//! A PVH domain has stages of its own by the same names, in [`pvh`]; once sealed, it is like any other.
//!
//! Planning is complete before the first hypercall (see `domain-plan`); what is left to go wrong here is what only Xen knows.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod domain;
mod error;
mod populate;
mod pv;
pub mod pvh;
mod rings;
mod settings;

pub use domain::{DomainSpec, Guarded};
pub use error::{BuildError, Step};
pub use pv::{Created, Loaded, Populated, Sealed, Started, build_pv};
pub use pvh::build_pvh;
pub use rings::{Ring, Servers};
