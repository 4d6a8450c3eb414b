//! Ports for the channels between VMs.

use domain_builder::{BuildError, Step};
use event_channel::Offer;
use hypercall::{RawHypercall, Xen};
use protocols::Channels;
use xen_abi::{DomId, Port};

/// Opens a port of the new domain for the client of each channel that it serves, at the number that both command lines have.
///
/// Xen opens the lowest port that is free, and a new domain has its console's only. The ports go with the domain.
pub(crate) fn open_ports<H: RawHypercall>(
    xen: &Xen<H>,
    domain: DomId,
    channels: &Channels,
) -> Result<(), BuildError> {
    for (client, port) in channels.ports() {
        let (client, promised) = (DomId::new(client), Port::new(port));
        let step = Step::Ports;
        let offer = Offer::make(xen, domain, client).map_err(|error| BuildError::Call { step, error })?;
        if offer.port != promised {
            return Err(BuildError::Port { domain, client, promised, got: offer.port });
        }
    }
    Ok(())
}
