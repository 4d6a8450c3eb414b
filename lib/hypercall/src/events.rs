//! Typed calls about event channels: ports, and waiting for them.

use xen_abi::event_channel::{
    self, AllocUnbound, BindInterdomain, BindIpi, BindVirq, EVTCHNOP_ALLOC_UNBOUND,
    EVTCHNOP_BIND_INTERDOMAIN, EVTCHNOP_BIND_IPI, EVTCHNOP_BIND_VIRQ, EVTCHNOP_CLOSE, EVTCHNOP_SEND,
    EVTCHNOP_STATUS, OnePort, PortState, Status,
};
use xen_abi::number::HypercallNumber;
use xen_abi::sched::{Poll, SCHEDOP_POLL};
use xen_abi::{DomId, Port, VcpuId};

use crate::calls::{address, address_mut};
use crate::{CallError, RawHypercall, Xen};

impl<H: RawHypercall> Xen<H> {
    /// Makes an event-channel operation on an argument without addresses.
    pub(crate) fn event_op<T>(&self, op: u32, argument: &mut T, domain: DomId) -> Result<(), CallError> {
        let args = [u64::from(op), address_mut(argument), 0, 0, 0];
        // SAFETY: the argument's type is the one that `op` takes, as each caller here sees to, and holds no address.
        unsafe { self.call(HypercallNumber::EVENT_CHANNEL_OP, args, event_channel::name(op), domain) }
            .map(|_| ())
    }

    /// Allocates a port of `domain` that `remote` may bind to.
    pub fn alloc_unbound(&self, domain: DomId, remote: DomId) -> Result<Port, CallError> {
        let mut argument = AllocUnbound { dom: domain.raw(), remote_dom: remote.raw(), port: 0 };
        self.event_op(EVTCHNOP_ALLOC_UNBOUND, &mut argument, domain)?;
        Ok(Port::new(argument.port))
    }

    /// Binds a new port of the caller to an unbound port of `remote`.
    pub fn bind_interdomain(&self, remote: DomId, remote_port: Port) -> Result<Port, CallError> {
        let mut argument = BindInterdomain {
            remote_dom: remote.raw(),
            pad: 0,
            remote_port: remote_port.raw(),
            local_port: 0,
        };
        self.event_op(EVTCHNOP_BIND_INTERDOMAIN, &mut argument, remote)?;
        Ok(Port::new(argument.local_port))
    }

    /// Binds a new port of the caller to a virtual interrupt.
    pub fn bind_virq(&self, virq: u32, vcpu: VcpuId) -> Result<Port, CallError> {
        let mut argument = BindVirq { virq, vcpu: vcpu.raw(), port: 0 };
        self.event_op(EVTCHNOP_BIND_VIRQ, &mut argument, DomId::SELF)?;
        Ok(Port::new(argument.port))
    }

    /// Makes a new port of the caller that it notifies itself by.
    pub fn bind_ipi(&self, vcpu: VcpuId) -> Result<Port, CallError> {
        let mut argument = BindIpi { vcpu: vcpu.raw(), port: 0 };
        self.event_op(EVTCHNOP_BIND_IPI, &mut argument, DomId::SELF)?;
        Ok(Port::new(argument.port))
    }

    /// Notifies the other end of a port.
    pub fn send(&self, port: Port) -> Result<(), CallError> {
        self.event_op(EVTCHNOP_SEND, &mut OnePort { port: port.raw() }, DomId::SELF)
    }

    /// What a port of the caller is bound to.
    pub fn port_state(&self, port: Port) -> Result<PortState, CallError> {
        let mut argument = Status { dom: DomId::SELF.raw(), port: port.raw(), ..Status::default() };
        self.event_op(EVTCHNOP_STATUS, &mut argument, DomId::SELF)?;
        Ok(argument.state())
    }

    /// Gives a port of the caller back.
    pub fn close_port(&self, port: Port) -> Result<(), CallError> {
        self.event_op(EVTCHNOP_CLOSE, &mut OnePort { port: port.raw() }, DomId::SELF)
    }

    /// Waits until one of `ports` is pending, or until system time `deadline` (nanoseconds; `None` waits for ever).
    ///
    /// Returns at once for a port that is pending already. Ports need not be unmasked.
    pub fn poll(&self, ports: &[Port], deadline: Option<u64>) -> Result<(), CallError> {
        let mut argument = Poll {
            ports: address(ports),
            nr_ports: u32::try_from(ports.len()).unwrap_or(u32::MAX),
            pad: 0,
            timeout: deadline.unwrap_or(0),
        };
        let args = [u64::from(SCHEDOP_POLL), address_mut(&mut argument), 0, 0, 0];
        // SAFETY: `Port` has the layout of the header's evtchn_port_t; the list has the length that is said.
        unsafe { self.call(HypercallNumber::SCHED_OP, args, "SCHEDOP_poll", DomId::SELF) }.map(|_| ())
    }
}
