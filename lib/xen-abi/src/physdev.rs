//! Physical devices (public/physdev.h).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::assert_layout;

/// `PHYSDEVOP_set_iopl`, argument [`SetIopl`].
pub const PHYSDEVOP_SET_IOPL: u32 = 6;

/// `struct physdev_set_iopl`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SetIopl {
    /// IN: the privilege level that may use I/O ports; 1 is the kernel of a PV guest.
    pub iopl: u32,
}

assert_layout!(SetIopl, size = 4);
