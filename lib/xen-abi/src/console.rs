//! The console: Xen's own (`console_io`, public/xen.h) and a domain's ring (public/io/console.h).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::assert_layout;

/// `CONSOLEIO_write`: argument 1 of `console_io`, write bytes to Xen's console.
pub const CONSOLEIO_WRITE: u32 = xen_sys::CONSOLEIO_write;
/// `CONSOLEIO_read`: argument 1 of `console_io`, take bytes typed at Xen's console.
pub const CONSOLEIO_READ: u32 = xen_sys::CONSOLEIO_read;

/// Bytes a domain's console ring holds for input to the domain.
pub const IN_RING: usize = 1024;
/// Bytes a domain's console ring holds for output from the domain.
pub const OUT_RING: usize = 2048;

/// `struct xencons_interface`: the page shared by a domain and whoever shows its console.
///
/// Producer and consumer indices run freely and are reduced modulo the ring's size at each access.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ConsoleInterface {
    /// Bytes going to the domain.
    pub input: [u8; IN_RING],
    /// Bytes coming from the domain.
    pub output: [u8; OUT_RING],
    /// Consumer of `input`: the domain advances it.
    pub in_cons: u32,
    /// Producer of `input`: the console's keeper advances it.
    pub in_prod: u32,
    /// Consumer of `output`: the console's keeper advances it.
    pub out_cons: u32,
    /// Producer of `output`: the domain advances it.
    pub out_prod: u32,
}

assert_layout!(ConsoleInterface, size = 3088, output @ 1024, in_cons @ 3072, in_prod @ 3076, out_cons @ 3080, out_prod @ 3084);
