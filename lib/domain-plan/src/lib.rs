//! The start-of-day picture of a guest, as a value.
//!
//! What a PV kernel finds when it starts (public/xen.h, "Start-of-day memory layout") follows from its image and from a few
//! numbers: where its segments, its RAM disk, its p2m list, its page tables and its boot stack are, what is mapped where and
//! how, what is in its start info and in its registers. [`PvPlan::new`] works all of that out, in pseudo-physical frame
//! numbers, without asking Xen for anything; the builder then only carries it out. The same code tells a user on the host
//! that a kernel will not fit, and why.
//!
//! Only machine frame numbers cannot be known beforehand. The functions that give the contents of memory take them from a
//! [`P2m`], which the builder fills while it populates the domain. A [`PvhPlan`] needs none: a PVH guest's own frame numbers are
//! all there is to it.
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

extern crate alloc;

mod areas;
mod error;
mod guest;
mod kernel;
mod p2m;
mod pv;
mod pvh;
mod report;
mod start;
mod tables;

pub use areas::{Area, AreaKind};
pub use error::PlanError;
pub use guest::GuestPlan;
pub use kernel::{Load, PvKernel};
pub use kernel_image::AddressSize;
pub use p2m::P2m;
pub use pv::{GuestRequest, Module, PvPlan};
pub use pvh::{FrameRange, PvhKernel, PvhPlan, Vcpus, usual_paging_pool};
pub use start::{StartOfDay, mask_upcalls};
pub use tables::{MappedRange, PageTables, Table};
