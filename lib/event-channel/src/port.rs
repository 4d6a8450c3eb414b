//! Ownership of ports.

use core::fmt;
use core::mem::ManuallyDrop;

use hypercall::{CallError, RawHypercall, Xen};
use xen_abi::event_channel::PortState;
use xen_abi::{DomId, Port, VcpuId};

/// A port of the calling domain, closed when dropped.
pub struct LocalPort<'x, H: RawHypercall> {
    xen: &'x Xen<H>,
    port: Port,
}

impl<'x, H: RawHypercall> LocalPort<'x, H> {
    /// Binds a new port to a virtual interrupt (`VIRQ_*`) of `vcpu`.
    pub fn bind_virq(xen: &'x Xen<H>, virq: u32, vcpu: VcpuId) -> Result<Self, CallError> {
        Ok(Self::adopt(xen, xen.bind_virq(virq, vcpu)?))
    }

    /// Makes a port by which the domain notifies its own `vcpu`.
    pub fn bind_ipi(xen: &'x Xen<H>, vcpu: VcpuId) -> Result<Self, CallError> {
        Ok(Self::adopt(xen, xen.bind_ipi(vcpu)?))
    }

    /// Binds a new port to `remote_port`, which `remote` holds open for the calling domain.
    pub fn connect(xen: &'x Xen<H>, remote: DomId, remote_port: Port) -> Result<Self, CallError> {
        Ok(Self::adopt(xen, xen.bind_interdomain(remote, remote_port)?))
    }

    /// Makes a port that `peer` may connect to.
    pub fn listen(xen: &'x Xen<H>, peer: DomId) -> Result<Self, CallError> {
        Ok(Self::adopt(xen, xen.alloc_unbound(DomId::SELF, peer)?))
    }

    /// Takes over a port that is open already, such as one that the domain was born with.
    pub fn adopt(xen: &'x Xen<H>, port: Port) -> Self {
        Self { xen, port }
    }

    /// The port's number.
    pub fn port(&self) -> Port {
        self.port
    }

    /// Wakes the other end.
    pub fn notify(&self) -> Result<(), CallError> {
        self.xen.send(self.port)
    }

    /// What the port is bound to. No event tells that the other end was closed, or that its domain is gone: this does.
    pub fn state(&self) -> Result<PortState, CallError> {
        self.xen.port_state(self.port)
    }

    /// Closes the port now, and says whether that worked.
    pub fn close(self) -> Result<(), CallError> {
        let this = ManuallyDrop::new(self);
        this.xen.close_port(this.port)
    }

    /// Gives up ownership: the port stays open.
    pub fn leak(self) -> Port {
        ManuallyDrop::new(self).port
    }
}

impl<H: RawHypercall> Drop for LocalPort<'_, H> {
    fn drop(&mut self) {
        if let Err(error) = self.xen.close_port(self.port) {
            log::error!("port {} stays open: {error}", self.port);
        }
    }
}

impl<H: RawHypercall> fmt::Debug for LocalPort<'_, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LocalPort").field(&self.port).finish()
    }
}

/// An end that `domain` holds, waiting for its peer.
///
/// Only `domain` can close it (there is no call to close another domain's port), so it lives until it is closed from there
/// or until the domain is destroyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The domain that holds the port.
    pub domain: DomId,
    /// The port, in the numbering of `domain`.
    pub port: Port,
}

impl Offer {
    /// Makes a port of `domain` that `peer` may connect to; only who controls `domain` may do that.
    pub fn make<H: RawHypercall>(xen: &Xen<H>, domain: DomId, peer: DomId) -> Result<Self, CallError> {
        Ok(Self { domain, port: xen.alloc_unbound(domain, peer)? })
    }

    /// Connects a new port of the calling domain, which has to be the peer that the offer was made for.
    pub fn connect<H: RawHypercall>(self, xen: &Xen<H>) -> Result<LocalPort<'_, H>, CallError> {
        LocalPort::connect(xen, self.domain, self.port)
    }
}
