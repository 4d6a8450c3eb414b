//! Event channels (public/event_channel.h).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{DomId, Port, assert_layout};

/// `EVTCHNOP_bind_interdomain`, argument [`BindInterdomain`].
pub const EVTCHNOP_BIND_INTERDOMAIN: u32 = xen_sys::EVTCHNOP_bind_interdomain;
/// `EVTCHNOP_bind_virq`, argument [`BindVirq`].
pub const EVTCHNOP_BIND_VIRQ: u32 = xen_sys::EVTCHNOP_bind_virq;
/// `EVTCHNOP_bind_pirq`, argument [`BindPirq`].
pub const EVTCHNOP_BIND_PIRQ: u32 = xen_sys::EVTCHNOP_bind_pirq;
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
        EVTCHNOP_BIND_PIRQ => "EVTCHNOP_bind_pirq",
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

/// `struct evtchn_bind_pirq`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BindPirq {
    /// IN: the caller's name for an interrupt of the machine.
    pub pirq: u32,
    /// IN: `BIND_PIRQ__*`; 0 for an interrupt that nobody else uses.
    pub flags: u32,
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

/// What a port is bound to, as [`Status`] tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortState {
    /// Nothing: the port is not open.
    Closed,
    /// It waits for this domain to connect, or the domain that was connected has closed its end or is gone.
    Unbound(DomId),
    /// A port of another domain.
    Interdomain {
        /// The domain.
        domain: DomId,
        /// Its port.
        port: Port,
    },
    /// An interrupt, or the domain itself.
    Other,
}

/// `EVTCHNSTAT_closed`.
pub const EVTCHNSTAT_CLOSED: u32 = 0;
/// `EVTCHNSTAT_unbound`: the first word of the detail is the domain that may connect.
pub const EVTCHNSTAT_UNBOUND: u32 = 1;
/// `EVTCHNSTAT_interdomain`: the detail is the other domain and its port.
pub const EVTCHNSTAT_INTERDOMAIN: u32 = 2;
/// `EVTCHNSTAT_virq`: the first word of the detail is the virtual interrupt.
pub const EVTCHNSTAT_VIRQ: u32 = 4;
/// `EVTCHNSTAT_ipi`.
pub const EVTCHNSTAT_IPI: u32 = 5;

impl Status {
    /// The state in the OUT fields.
    pub fn state(&self) -> PortState {
        let [domain, port] = self.detail;
        // Xen writes 16 bits of the first word.
        let [low, high, _, _] = domain.to_le_bytes();
        let domain = DomId::new(u16::from_le_bytes([low, high]));
        match self.status {
            EVTCHNSTAT_CLOSED => PortState::Closed,
            EVTCHNSTAT_UNBOUND => PortState::Unbound(domain),
            EVTCHNSTAT_INTERDOMAIN => PortState::Interdomain { domain, port: Port::new(port) },
            _ => PortState::Other,
        }
    }
}

assert_layout!(AllocUnbound, size = 8, remote_dom @ 2, port @ 4);
assert_layout!(BindInterdomain, size = 12, remote_port @ 4, local_port @ 8);
assert_layout!(BindVirq, size = 12, vcpu @ 4, port @ 8);
assert_layout!(BindPirq, size = 12, flags @ 4, port @ 8);
assert_layout!(BindIpi, size = 8, port @ 4);
assert_layout!(OnePort, size = 4);
assert_layout!(Status, size = 24, port @ 4, status @ 8, vcpu @ 12, detail @ 16);
