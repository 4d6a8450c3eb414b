//! The rings by which a domain reaches those that serve it: its console and its XenStore.

use hypercall::{FrameWindow, RawHypercall, Xen};
use xen_abi::grant_table::{GrantEntryV1, GrantFlags, RESERVED_CONSOLE, RESERVED_XENSTORE};
use xen_abi::{DomId, GrantRef, Mfn, Port};
use zerocopy::IntoBytes;

use crate::{BuildError, Step};

/// Who serves the rings of a domain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Servers {
    /// Its console. Without, the calling domain does, which needs no grant: it maps the ring by its right over the domain.
    pub console: Option<DomId>,
    /// Its XenStore; [`DomId::SELF`] is the calling domain, which needs no grant, as for the console. Without, nobody does: the domain
    /// is told of none.
    pub store: Option<DomId>,
}

/// A ring, as the domain has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ring {
    /// Its page: the machine frame, or of a PVH domain the guest frame.
    pub frame: Mfn,
    /// The domain's port of it.
    pub port: Port,
}

/// The rings' ports of a domain whose rings have no pages yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RingPorts {
    servers: Servers,
    pub(crate) console: Port,
    pub(crate) store: Option<Port>,
}

impl RingPorts {
    /// Opens the ports of a new domain: the console's first, then that of the XenStore, if it is served.
    pub(crate) fn open<H: RawHypercall>(
        xen: &Xen<H>,
        domain: DomId,
        servers: Servers,
    ) -> Result<Self, BuildError> {
        let open = |server| xen.alloc_unbound(domain, server).map_err(BuildError::call(Step::Ports));
        let console = open(servers.console.unwrap_or(DomId::SELF))?;
        let store = servers.store.map(open).transpose()?;
        Ok(Self { servers, console, store })
    }

    /// Lets those map the rings who serve them from another domain, by the grants that are reserved for this.
    ///
    /// `rings` are the frames of console and XenStore in the numbers of `domain`, which has a grant table of version 1, as every
    /// domain has that has not started.
    pub(crate) fn grant<H: RawHypercall>(
        &self,
        xen: &Xen<H>,
        window: &mut impl FrameWindow,
        domain: DomId,
        rings: [Option<Mfn>; 2],
    ) -> Result<(), BuildError> {
        let [console, store] = rings;
        let Servers { console: for_console, store: for_store } = self.servers;
        let wanted = [(RESERVED_CONSOLE, for_console, console), (RESERVED_XENSTORE, for_store, store)];
        let mut entries: [Option<(GrantRef, GrantEntryV1)>; 2] = [None; 2];
        for (entry, (reference, server, frame)) in entries.iter_mut().zip(wanted) {
            if let Some(server) = server.filter(|server| *server != DomId::SELF) {
                *entry = Some((reference, entry_for(domain, server, frame)?));
            }
        }
        if entries.iter().all(Option::is_none) {
            return Ok(());
        }
        let table = xen.grant_table_frame(domain).map_err(BuildError::call(Step::Ports))?;
        let fill = |bytes: &mut [u8]| {
            for (reference, entry) in entries.iter().flatten() {
                let start = reference.raw() as usize * size_of::<GrantEntryV1>();
                // The reserved entries are the first of the page.
                if let Some(place) = bytes.get_mut(start..start + size_of::<GrantEntryV1>()) {
                    place.copy_from_slice(entry.as_bytes());
                }
            }
        };
        window.with_machine_frame(domain, table, fill).map_err(BuildError::window(Step::Ports))
    }
}

/// The entry of `domain` that lets `server` read and write `frame`.
fn entry_for(domain: DomId, server: DomId, frame: Option<Mfn>) -> Result<GrantEntryV1, BuildError> {
    // An entry of version 1 holds 32 bits: 16 TiB, which is more than a plan can have.
    let frame = frame.and_then(|frame| u32::try_from(frame.raw()).ok());
    let no_frame = BuildError::NoFrame { step: Step::Ports, domain, what: "the grant of a ring" };
    let frame = frame.ok_or(no_frame)?;
    Ok(GrantEntryV1 { flags: GrantFlags::PERMIT_ACCESS.bits(), domid: server.raw(), frame })
}
