//! Event channels (public/event_channel.h).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::assert_layout;

/// `EVTCHNOP_bind_interdomain`, argument [`BindInterdomain`].
pub const EVTCHNOP_BIND_INTERDOMAIN: u32 = xen_sys::EVTCHNOP_bind_interdomain;
/// `EVTCHNOP_bind_virq`, argument [`BindVirq`].
pub const EVTCHNOP_BIND_VIRQ: u32 = xen_sys::EVTCHNOP_bind_virq;
/// `EVTCHNOP_close`, argument [`OnePort`].
pub const EVTCHNOP_CLOSE: u32 = xen_sys::EVTCHNOP_close;
/// `EVTCHNOP_send`, argument [`OnePort`].
pub const EVTCHNOP_SEND: u32 = xen_sys::EVTCHNOP_send;
/// `EVTCHNOP_status`, argument [`Status`].
pub const EVTCHNOP_STATUS: u32 = xen_sys::EVTCHNOP_status;
/// `EVTCHNOP_alloc_unbound`, argument [`AllocUnbound`].
pub const EVTCHNOP_ALLOC_UNBOUND: u32 = xen_sys::EVTCHNOP_alloc_unbound;
/// `EVTCHNOP_bind_ipi`, argument [`BindIpi`].
pub const EVTCHNOP_BIND_IPI: u32 = xen_sys::EVTCHNOP_bind_ipi;
/// `EVTCHNOP_unmask`, argument [`OnePort`].
pub const EVTCHNOP_UNMASK: u32 = xen_sys::EVTCHNOP_unmask;

/// `VIRQ_TIMER`: the vCPU's timer.
pub const VIRQ_TIMER: u32 = xen_sys::VIRQ_TIMER;
/// `VIRQ_CONSOLE`: bytes typed at Xen's console.
pub const VIRQ_CONSOLE: u32 = xen_sys::VIRQ_CONSOLE;
/// `VIRQ_DOM_EXC`: a domain ended, or is gone.
pub const VIRQ_DOM_EXC: u32 = xen_sys::VIRQ_DOM_EXC;

/// Name of an event-channel operation in the header, for messages.
pub const fn name(op: u32) -> &'static str {
    match op {
        EVTCHNOP_BIND_INTERDOMAIN => "EVTCHNOP_bind_interdomain",
        EVTCHNOP_BIND_VIRQ => "EVTCHNOP_bind_virq",
        EVTCHNOP_CLOSE => "EVTCHNOP_close",
        EVTCHNOP_SEND => "EVTCHNOP_send",
        EVTCHNOP_STATUS => "EVTCHNOP_status",
        EVTCHNOP_ALLOC_UNBOUND => "EVTCHNOP_alloc_unbound",
        EVTCHNOP_BIND_IPI => "EVTCHNOP_bind_ipi",
        EVTCHNOP_UNMASK => "EVTCHNOP_unmask",
        _ => "unknown EVTCHNOP",
    }
}

/// `struct evtchn_alloc_unbound`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct AllocUnbound {
    /// IN: the domain that gets the port.
    pub dom: u16,
    /// IN: the domain that may bind to it.
    pub remote_dom: u16,
    /// OUT: the port.
    pub port: u32,
}

/// `struct evtchn_bind_interdomain`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BindInterdomain {
    /// IN: the other domain.
    pub remote_dom: u16,
    /// Padding.
    pub pad: u16,
    /// IN: its unbound port.
    pub remote_port: u32,
    /// OUT: the caller's port.
    pub local_port: u32,
}

/// `struct evtchn_bind_virq`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BindVirq {
    /// IN: `VIRQ_*`.
    pub virq: u32,
    /// IN: the vCPU to notify.
    pub vcpu: u32,
    /// OUT: the port.
    pub port: u32,
}

/// `struct evtchn_bind_ipi`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BindIpi {
    /// IN: the vCPU to notify.
    pub vcpu: u32,
    /// OUT: the port.
    pub port: u32,
}

/// `struct evtchn_close`, `evtchn_send` and `evtchn_unmask`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct OnePort {
    /// IN: the caller's port.
    pub port: u32,
}

/// `struct evtchn_status`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Status {
    /// IN: the domain.
    pub dom: u16,
    /// Padding.
    pub pad: u16,
    /// IN: its port.
    pub port: u32,
    /// OUT: `EVTCHNSTAT_*`: 0 closed, 1 unbound, 2 interdomain, 3 pirq, 4 virq, 5 ipi.
    pub status: u32,
    /// OUT: the vCPU to notify.
    pub vcpu: u32,
    /// OUT: the state's own words.
    pub detail: [u32; 2],
}

assert_layout!(AllocUnbound, size = 8, remote_dom @ 2, port @ 4);
assert_layout!(BindInterdomain, size = 12, remote_port @ 4, local_port @ 8);
assert_layout!(BindVirq, size = 12, vcpu @ 4, port @ 8);
assert_layout!(BindIpi, size = 8, port @ 4);
assert_layout!(OnePort, size = 4);
assert_layout!(Status, size = 24, port @ 4, status @ 8, vcpu @ 12, detail @ 16);
