//! Ports of a VM that others have been told of.

use domain_builder::{BuildError, Sealed, Step};
use event_channel::Offer;
use hypercall::{RawHypercall, Xen};
use protocols::store::STORE_PORT;
use protocols::{BootSpec, StoreRole};
use xen_abi::{DomId, Port};

/// Opens a port of the new domain for the client of each channel that it serves, at the number that both command lines have; the
/// port of its XenStore is open already, and has to be the one that the VM in control was told.
///
/// Xen opens the lowest port that is free, and a new domain has those of its rings only. The ports go with the domain.
pub(crate) fn open_ports<H: RawHypercall>(
    xen: &Xen<H>,
    domain: &Sealed<'_, H>,
    spec: &BootSpec,
) -> Result<(), BuildError> {
    let domid = domain.domid();
    if let (StoreRole::Client { server }, Some(ring)) = (spec.store, domain.store()) {
        check(domid, DomId::new(server), Port::new(STORE_PORT), ring.port)?;
    }
    for (client, port) in spec.channel_ports() {
        let client = DomId::new(client);
        let step = Step::Ports;
        let offer = Offer::make(xen, domid, client).map_err(|error| BuildError::Call { step, error })?;
        check(domid, client, Port::new(port), offer.port)?;
    }
    Ok(())
}

/// Fails unless the port that Xen opened is the one that was promised.
fn check(domain: DomId, client: DomId, promised: Port, got: Port) -> Result<(), BuildError> {
    if got == promised { Ok(()) } else { Err(BuildError::Port { domain, client, promised, got }) }
}
