//! Carries a plan out.
//!
//! A domain goes through stages, each a type of its own: [`Created`] (it exists, paused, without memory), [`Populated`] (it
//! has its memory), [`Loaded`] (its memory holds what the plan says), [`Sealed`] (its page tables are Xen's to guard and its
//! first vCPU has registers). A step takes the domain by value and gives it back in the next stage; a step that fails, or a
//! stage that is dropped, destroys the domain, so that nothing half-built can stay behind.
//!
//! Getting memory and filling it are stages of their own, which are gone through in steps that are bounded each: a [`Construction`] can
//! be left alone between any two steps.
//!
//! A PVH domain has stages of its own by the same names, in [`pvh`]; once sealed, it is like any other.
//!
//! Planning is complete before the first hypercall (see `domain-plan`); what is left to go wrong here is what only Xen knows.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod construction;
mod domain;
mod error;
mod labels;
mod paging;
mod populate;
mod processor;
mod pv;
pub mod pvh;
mod rings;
mod settings;

pub use construction::{Construction, PlanRef, Progress, build_pv, build_pvh};
pub use domain::{DomainSpec, Guarded};
pub use error::{BuildError, Step};
pub use labels::{LabelNumbers, find_labels};
pub use pv::{Created, Loaded, Loading, Populated, Populating, Sealed, Started};
pub use rings::{Ring, Servers};
