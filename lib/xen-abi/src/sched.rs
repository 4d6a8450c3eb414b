//! Scheduler operations (public/sched.h).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::assert_layout;

/// `SCHEDOP_yield`: give up the CPU.
pub const SCHEDOP_YIELD: u32 = xen_sys::SCHEDOP_yield;
/// `SCHEDOP_block`: wait for an upcall; unmasks upcalls on the way.
pub const SCHEDOP_BLOCK: u32 = xen_sys::SCHEDOP_block;
/// `SCHEDOP_shutdown`: end the calling domain, argument [`Shutdown`].
pub const SCHEDOP_SHUTDOWN: u32 = xen_sys::SCHEDOP_shutdown;
/// `SCHEDOP_poll`: wait for one of a set of ports, argument [`Poll`].
pub const SCHEDOP_POLL: u32 = xen_sys::SCHEDOP_poll;

/// The most ports one [`Poll`] may name (Xen refuses more).
pub const POLL_MAX_PORTS: usize = 128;

/// `SHUTDOWN_poweroff`: the domain ended in order.
pub const SHUTDOWN_POWEROFF: u8 = 0;
/// `SHUTDOWN_reboot`: the domain wants to be started again.
pub const SHUTDOWN_REBOOT: u8 = 1;
/// `SHUTDOWN_suspend`: the domain wrote its state down and sleeps.
pub const SHUTDOWN_SUSPEND: u8 = 2;
/// `SHUTDOWN_crash`: the domain gave up.
pub const SHUTDOWN_CRASH: u8 = 3;
/// `SHUTDOWN_watchdog`: the domain's watchdog was not fed.
pub const SHUTDOWN_WATCHDOG: u8 = 4;
/// `SHUTDOWN_soft_reset`: the domain asks for a reset that keeps its memory.
pub const SHUTDOWN_SOFT_RESET: u8 = 5;

/// `struct sched_shutdown`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Shutdown {
    /// IN: one of the `SHUTDOWN_*` reasons; Xen keeps the low 8 bits.
    pub reason: u32,
}

/// `struct sched_poll`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Poll {
    /// IN: address of `nr_ports` ports, each a `u32`.
    pub ports: u64,
    /// IN: at most [`POLL_MAX_PORTS`].
    pub nr_ports: u32,
    /// Padding.
    pub pad: u32,
    /// IN: system time in nanoseconds to return at the latest; 0 for no limit.
    pub timeout: u64,
}

assert_layout!(Shutdown, size = 4);
assert_layout!(Poll, size = 24, nr_ports @ 8, timeout @ 16);
