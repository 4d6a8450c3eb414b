//! Physical devices (public/physdev.h).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::assert_layout;

/// `PHYSDEVOP_set_iopl`, argument [`SetIopl`].
pub const PHYSDEVOP_SET_IOPL: u32 = 6;

/// `PHYSDEVOP_map_pirq`, argument [`MapPirq`].
pub const PHYSDEVOP_MAP_PIRQ: u32 = 13;
/// `PHYSDEVOP_unmap_pirq`, argument [`UnmapPirq`].
pub const PHYSDEVOP_UNMAP_PIRQ: u32 = 14;
/// `MAP_PIRQ_TYPE_GSI`: an interrupt line of the machine.
pub const MAP_PIRQ_TYPE_GSI: i32 = 1;

/// The header's name of an operation, for traces and messages.
pub const fn name(op: u32) -> &'static str {
    match op {
        PHYSDEVOP_SET_IOPL => "PHYSDEVOP_set_iopl",
        PHYSDEVOP_MAP_PIRQ => "PHYSDEVOP_map_pirq",
        PHYSDEVOP_UNMAP_PIRQ => "PHYSDEVOP_unmap_pirq",
        _ => "physdev_op",
    }
}

/// `struct physdev_set_iopl`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SetIopl {
    /// IN: the privilege level that may use I/O ports; 1 is the kernel of a PV guest.
    pub iopl: u32,
}

assert_layout!(SetIopl, size = 4);

/// `struct physdev_map_pirq`: gives a domain a name for an interrupt of the machine.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MapPirq {
    /// IN: the domain.
    pub domid: u16,
    /// Padding.
    pub pad: u16,
    /// IN: what kind of interrupt, `MAP_PIRQ_TYPE_*`.
    pub kind: i32,
    /// IN: which; a line's number for [`MAP_PIRQ_TYPE_GSI`].
    pub index: i32,
    /// IN: the name that it is to have in the domain; a negative number lets Xen choose. OUT: the name that it has.
    pub pirq: i32,
    /// IN: of message-signalled interrupts only.
    pub bus: i32,
    /// IN: of message-signalled interrupts only.
    pub devfn: i32,
    /// IN: of message-signalled interrupts only.
    pub entry_nr: i32,
    /// Padding.
    pub pad2: u32,
    /// IN: of message-signalled interrupts only.
    pub table_base: u64,
}

assert_layout!(MapPirq, size = 40, kind @ 4, index @ 8, pirq @ 12, entry_nr @ 24, table_base @ 32);

/// `struct physdev_unmap_pirq`: takes such a name back.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct UnmapPirq {
    /// IN: the domain.
    pub domid: u16,
    /// Padding.
    pub pad: u16,
    /// IN: the name.
    pub pirq: i32,
}

assert_layout!(UnmapPirq, size = 8, pirq @ 4);
