//! The seam to Xen, and typed calls on top of it.
//!
//! Everything that this project asks of Xen passes through two traits. [`RawHypercall`] makes one hypercall at register
//! level. [`FrameWindow`] gives access to frames of memory, the caller's or another domain's. `pv-runtime` implements both
//! with a few lines of assembly, `xen-sim` by a model of Xen, so that all else (encoding of structures, choice of interface
//! version, batching, rollback) is the same code in a unikernel and in a test on the host.
//!
//! [`Xen`] is what the rest of the project holds: it has found out which versions of the control interfaces this Xen speaks
//! and has a method for each call that is made, with errors that name the call, the domain and the error number.
#![no_std]

extern crate alloc;

mod calls;
mod console_ring;
mod control;
mod count;
mod cpu_policy;
mod destroy;
mod device_access;
mod domains;
mod error;
mod events;
mod grants;
mod hvm;
mod labels;
mod memory;
mod platform;
mod probe;
mod pv32;
mod ramdisk;
mod scheduling;
mod seam;

pub use calls::{Xen, call_name};
pub use count::CallCounts;
pub use cpu_policy::LeafNumber;
pub use destroy::Leak;
pub use error::{CallError, WindowError};
pub use labels::Enforcement;
pub use memory::Populated;
pub use platform::{EfiTables, SleepRequest};
pub use probe::{Interface, ProbeError, XenVersion};
pub use pv32::GuestKinds;
pub use ramdisk::{KeptRamdisk, Parts, Ramdisk};
pub use scheduling::{AffinityKind, CpuPool};
pub use seam::{FrameWindow, OwnFrameWindow, RawHypercall, SharedMemory};
