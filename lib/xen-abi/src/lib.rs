//! Xen's public x86-64 interface as Rust types: numbers, layouts and errors; no logic.
//!
//! One module for each public header. Structures are `repr(C)` mirrors whose sizes and offsets are asserted at compile
//! time, and compared with the C headers of several Xen releases by `tests/headers.rs`. Where the layout differs from one
//! release to the next (the control interfaces domctl and sysctl do), the module has an encoder that takes the
//! interface version; versions are data here, never `cfg`.
//!
//! Quantities of Xen's glossary are distinct types ([`Pfn`], [`Mfn`], [`DomId`], ...): passing one where the other is meant
//! does not compile.
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod errno;
mod types;

pub mod console;
pub mod cpu_policy;
pub mod device_access;
pub mod domctl;
pub mod elfnote;
pub mod event_channel;
pub mod flask;
pub mod grant_table;
pub mod hvm;
pub mod memory;
pub mod mmu;
pub mod number;
pub mod physdev;
pub mod platform;
pub mod pv32;
pub mod sched;
pub mod scheduling;
pub mod shared_info;
pub mod start_info;
pub mod sysctl;
pub mod vcpu;
pub mod version;

pub use errno::Errno;
pub use types::{DomId, GrantRef, GuestVirt, MachineAddr, Mfn, PageCount, Pfn, Port, VcpuId};

/// Bytes in a page; every frame, guest or machine, has this size.
pub const PAGE_SIZE: usize = 4096;

/// `log2` of [`PAGE_SIZE`].
pub const PAGE_SHIFT: u32 = 12;

/// Asserts at compile time that a mirrored field stands where the public header puts it.
macro_rules! assert_layout {
    ($type:ty, size = $size:expr $(, $field:ident @ $offset:expr)* $(,)?) => {
        const _: () = assert!(core::mem::size_of::<$type>() == $size);
        $(const _: () = assert!(core::mem::offset_of!($type, $field) == $offset);)*
    };
}
pub(crate) use assert_layout;
