//! Ports: the ends of event channels.

use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use xen_abi::event_channel::{
    EVTCHNSTAT_CLOSED, EVTCHNSTAT_INTERDOMAIN, EVTCHNSTAT_IPI, EVTCHNSTAT_UNBOUND, EVTCHNSTAT_VIRQ, Status,
    VIRQ_DOM_EXC, VIRQ_TIMER,
};
use xen_abi::shared_info::EVENT_WORDS;
use xen_abi::{DomId, Errno, Port};

use crate::hypervisor::Outcome;
use crate::request::Request;
use crate::state::State;

/// Ports of the two-level interface.
const MAX_PORTS: u32 = 4096;
const _: () = assert!(MAX_PORTS as usize == 64 * EVENT_WORDS);
/// Virtual interrupts there are (`NR_VIRQS`).
const VIRQS: u32 = 24;

/// What a port is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Binding {
    /// Waits for a domain to connect.
    Unbound(DomId),
    /// The other end.
    Interdomain(DomId, Port),
    /// A virtual interrupt of a vCPU.
    Virq(u32),
    /// The domain itself.
    Ipi,
}

/// The bitmaps of a domain's shared info page.
///
/// They are kept beside the simulated frame, because the code under test reads and clears them in place.
#[derive(Debug)]
pub(crate) struct EventBits {
    pub(crate) pending: [AtomicU64; EVENT_WORDS],
    pub(crate) mask: [AtomicU64; EVENT_WORDS],
}

impl EventBits {
    pub(crate) fn new() -> Rc<Self> {
        let zero = || [const { AtomicU64::new(0) }; EVENT_WORDS];
        Rc::new(Self { pending: zero(), mask: zero() })
    }

    fn set(&self, port: Port) {
        let number = port.raw();
        self.pending[(number / 64) as usize].fetch_or(1 << (number % 64), Ordering::AcqRel);
    }

    fn clear(&self, port: Port) {
        let number = port.raw();
        self.pending[(number / 64) as usize].fetch_and(!(1 << (number % 64)), Ordering::AcqRel);
    }

    pub(crate) fn is_pending(&self, port: Port) -> bool {
        let number = port.raw();
        self.pending
            .get((number / 64) as usize)
            .is_some_and(|word| word.load(Ordering::Acquire) >> (number % 64) & 1 == 1)
    }
}

/// A domain's ports.
#[derive(Debug)]
pub(crate) struct Ports {
    bindings: Vec<Option<Binding>>,
    /// Highest port allowed.
    limit: u32,
    pub(crate) bits: Rc<EventBits>,
}

impl Ports {
    /// No ports; `limit` is the highest that may be opened.
    pub(crate) fn new(limit: u32) -> Self {
        Self { bindings: vec![None], limit: limit.min(MAX_PORTS - 1), bits: EventBits::new() }
    }

    /// Opens the lowest free port. Port 0 is never used.
    fn open(&mut self, binding: Binding) -> Result<Port, Errno> {
        let number = (1..self.bindings.len())
            .find(|number| self.bindings[*number].is_none())
            .unwrap_or(self.bindings.len());
        let port = u32::try_from(number).map_err(|_| Errno::ENOSPC)?;
        if port > self.limit {
            return Err(Errno::ENOSPC);
        }
        if number == self.bindings.len() {
            self.bindings.push(None);
        }
        self.bindings[number] = Some(binding);
        Ok(Port::new(port))
    }

    pub(crate) fn get(&self, port: Port) -> Option<Binding> {
        self.bindings.get(port.raw() as usize).copied().flatten()
    }

    fn set(&mut self, port: Port, binding: Option<Binding>) {
        if let Some(place) = self.bindings.get_mut(port.raw() as usize) {
            *place = binding;
        }
        if binding.is_none() {
            self.bits.clear(port);
        }
    }

    /// Every open port.
    pub(crate) fn all(&self) -> impl Iterator<Item = (Port, Binding)> {
        (0..).map(Port::new).zip(&self.bindings).filter_map(|(port, binding)| Some((port, (*binding)?)))
    }
}

impl State {
    /// `EVTCHNOP_alloc_unbound`.
    pub(crate) fn alloc_unbound(
        &mut self,
        caller: DomId,
        domain: DomId,
        remote: DomId,
    ) -> Result<Port, Errno> {
        let domain = resolve(domain, caller);
        let remote = resolve(remote, caller);
        let privileged = self.is_privileged(caller);
        let target = self.living(domain)?;
        if domain != caller && !privileged {
            return Err(Errno::EPERM);
        }
        target.ports.open(Binding::Unbound(remote))
    }

    /// `EVTCHNOP_bind_interdomain`.
    pub(crate) fn bind_interdomain(
        &mut self,
        caller: DomId,
        remote: DomId,
        remote_port: Port,
    ) -> Result<Port, Errno> {
        let remote = resolve(remote, caller);
        if self.living(remote)?.ports.get(remote_port) != Some(Binding::Unbound(caller)) {
            return Err(Errno::EINVAL);
        }
        let port = self.living(caller)?.ports.open(Binding::Interdomain(remote, remote_port))?;
        self.living(remote)?.ports.set(remote_port, Some(Binding::Interdomain(caller, port)));
        // Something may have been sent before the ends met, so Xen always notifies the end that connects.
        self.raise(caller, port);
        Ok(port)
    }

    /// `EVTCHNOP_bind_virq`.
    pub(crate) fn bind_virq(&mut self, caller: DomId, virq: u32, vcpu: u32) -> Result<Port, Errno> {
        let global = virq != VIRQ_TIMER;
        if virq >= VIRQS || (global && vcpu != 0) {
            return Err(Errno::EINVAL);
        }
        if global && self.release.guards_global_virqs() && self.virq_handler(virq) != caller {
            return Err(Errno::EBUSY);
        }
        let domain = self.living(caller)?;
        if vcpu >= domain.max_vcpus {
            return Err(Errno::ENOENT);
        }
        if domain.ports.all().any(|(_, binding)| binding == Binding::Virq(virq)) {
            return Err(Errno::EEXIST);
        }
        domain.ports.open(Binding::Virq(virq))
    }

    /// `EVTCHNOP_bind_ipi`.
    pub(crate) fn bind_ipi(&mut self, caller: DomId, vcpu: u32) -> Result<Port, Errno> {
        let domain = self.living(caller)?;
        if vcpu >= domain.max_vcpus {
            return Err(Errno::ENOENT);
        }
        domain.ports.open(Binding::Ipi)
    }

    /// `EVTCHNOP_send`.
    pub(crate) fn send(&mut self, caller: DomId, port: Port) -> Result<(), Errno> {
        match self.living(caller)?.ports.get(port) {
            Some(Binding::Interdomain(remote, remote_port)) => self.raise(remote, remote_port),
            Some(Binding::Ipi) => self.raise(caller, port),
            Some(Binding::Unbound(_)) => {}
            Some(Binding::Virq(_)) | None => return Err(Errno::EINVAL),
        }
        Ok(())
    }

    /// `EVTCHNOP_status`.
    fn port_status(&mut self, caller: DomId, argument: &mut Status) -> Result<(), Errno> {
        let domain = resolve(DomId::new(argument.dom), caller);
        let privileged = self.is_privileged(caller);
        let ports = &self.domain(domain)?.ports;
        if argument.port == 0 || argument.port >= MAX_PORTS {
            return Err(Errno::EINVAL);
        }
        if domain != caller && !privileged {
            return Err(Errno::EPERM);
        }
        let (status, detail) = match ports.get(Port::new(argument.port)) {
            None => (EVTCHNSTAT_CLOSED, argument.detail),
            Some(Binding::Unbound(remote)) => (EVTCHNSTAT_UNBOUND, [u32::from(remote.raw()), 0]),
            Some(Binding::Interdomain(remote, port)) => {
                (EVTCHNSTAT_INTERDOMAIN, [u32::from(remote.raw()), port.raw()])
            }
            Some(Binding::Virq(virq)) => (EVTCHNSTAT_VIRQ, [virq, 0]),
            Some(Binding::Ipi) => (EVTCHNSTAT_IPI, argument.detail),
        };
        (argument.status, argument.vcpu, argument.detail) = (status, 0, detail);
        Ok(())
    }

    /// `EVTCHNOP_close`.
    pub(crate) fn close_port(&mut self, caller: DomId, port: Port) -> Result<(), Errno> {
        let ports = &mut self.living(caller)?.ports;
        let binding = ports.get(port).ok_or(Errno::EINVAL)?;
        ports.set(port, None);
        if let Binding::Interdomain(remote, remote_port) = binding
            && let Some(peer) = self.domains.get_mut(&remote)
            && peer.ports.get(remote_port).is_some()
        {
            // The other end stays, and may be connected to again by the same domain.
            peer.ports.set(remote_port, Some(Binding::Unbound(caller)));
        }
        Ok(())
    }

    /// Closes every port of a domain that ends; virtual interrupts that it handled are Dom0's again.
    pub(crate) fn close_all_ports(&mut self, domain: DomId) {
        self.virq_handlers.retain(|_, handler| *handler != domain);
        let open: Vec<Port> = self
            .domains
            .get(&domain)
            .map(|it| it.ports.all().map(|(port, _)| port).collect())
            .unwrap_or_default();
        for port in open {
            // Cannot fail: the port is open, and the domain exists.
            let _closed = self.close_port(domain, port);
        }
    }

    /// Makes a port pending.
    pub(crate) fn raise(&mut self, domain: DomId, port: Port) {
        if let Some(domain) = self.domains.get(&domain) {
            domain.ports.bits.set(port);
        }
    }

    /// Who hears of a global virtual interrupt.
    fn virq_handler(&self, virq: u32) -> DomId {
        self.virq_handlers.get(&virq).copied().unwrap_or(crate::DOM0)
    }

    /// `XEN_DOMCTL_set_virq_handler`.
    pub(crate) fn set_virq_handler(&mut self, domain: DomId, virq: u32) -> Result<(), Errno> {
        self.living(domain)?;
        if virq >= VIRQS || virq == VIRQ_TIMER {
            return Err(Errno::EINVAL);
        }
        let before = self.virq_handler(virq);
        if before != domain && self.release.guards_global_virqs() && self.port_of_virq(before, virq).is_some()
        {
            return Err(Errno::EBUSY);
        }
        self.virq_handlers.insert(virq, domain);
        Ok(())
    }

    /// The port that a domain has bound to a virtual interrupt.
    fn port_of_virq(&self, domain: DomId, virq: u32) -> Option<Port> {
        let mut ports = self.domains.get(&domain)?.ports.all();
        ports.find(|(_, binding)| *binding == Binding::Virq(virq)).map(|(port, _)| port)
    }

    /// Raises a global virtual interrupt with the domain that handles it.
    pub(crate) fn raise_virq(&mut self, virq: u32) {
        let handler = self.virq_handler(virq);
        if let Some(port) = self.port_of_virq(handler, virq) {
            self.raise(handler, port);
        }
    }

    /// Tells whoever handles it that a domain changed its state.
    pub(crate) fn raise_domain_event(&mut self) {
        self.raise_virq(VIRQ_DOM_EXC);
    }

    /// Whether one of `ports` is pending; EINVAL if one cannot be polled.
    pub(crate) fn any_pending(&mut self, caller: DomId, ports: &[u32]) -> Result<bool, Errno> {
        let lenient = self.release.polls_closed_ports();
        let own = &self.living(caller)?.ports;
        for port in ports.iter().copied().map(Port::new) {
            if port.raw() >= MAX_PORTS || own.get(port).is_none() && !lenient {
                return Err(Errno::EINVAL);
            }
            if own.bits.is_pending(port) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// `event_channel_op`.
    pub(crate) fn event_channel_op(&mut self, caller: DomId, request: &mut Request) -> Outcome {
        match request {
            Request::AllocUnbound(argument) => {
                let (domain, remote) = (DomId::new(argument.dom), DomId::new(argument.remote_dom));
                argument.port = self.alloc_unbound(caller, domain, remote)?.raw();
            }
            Request::BindInterdomain(argument) => {
                let (remote, port) = (DomId::new(argument.remote_dom), Port::new(argument.remote_port));
                argument.local_port = self.bind_interdomain(caller, remote, port)?.raw();
            }
            Request::BindVirq(argument) => {
                argument.port = self.bind_virq(caller, argument.virq, argument.vcpu)?.raw();
            }
            Request::BindIpi(argument) => argument.port = self.bind_ipi(caller, argument.vcpu)?.raw(),
            Request::Close(argument) => self.close_port(caller, Port::new(argument.port))?,
            Request::Send(argument) => self.send(caller, Port::new(argument.port))?,
            Request::Unmask(_) => {}
            Request::PortStatus(argument) => self.port_status(caller, argument)?,
            _ => return Err(Errno::ENOSYS),
        }
        Ok(0)
    }
}

/// The domain meant by `domain`, which may be `DOMID_SELF`.
pub(crate) fn resolve(domain: DomId, caller: DomId) -> DomId {
    if domain == DomId::SELF { caller } else { domain }
}
