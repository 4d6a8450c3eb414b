//! The VM that serves the XenStore.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use event_channel::LocalPort;
use grant_table::{Access, Mapping};
use hypercall::Xen;
use protocols::store::Master;
use pv_runtime::{Boot, GrantPage, Hypervisor, println};
use verdict::{Outcome, Verdict, success};
use xen_abi::event_channel::VIRQ_DOM_EXC;
use xen_abi::grant_table::RESERVED_XENSTORE;
use xen_abi::{DomId, Errno, Port, VcpuId};
use xenstore::{Domains, Ring, Side, Store, StoreError};

use crate::{Machine, now};

/// How long nothing may happen at all: 120 s, in nanoseconds. A Linux that boots in an emulated machine needs its time.
const PATIENCE: u64 = 120_000_000_000;

type Memory<'x> = Mapping<'x, Hypervisor, GrantPage>;

/// A client's ring, and the port that it is announced by.
struct Link<'x> {
    ring: Ring<Memory<'x>>,
    port: LocalPort<'x, Hypervisor>,
}

/// The rings of all clients.
struct Links<'x> {
    xen: &'x Xen<Hypervisor>,
    by_domain: BTreeMap<u16, Link<'x>>,
    /// Clients that there ever were.
    served: usize,
}

impl Domains for Links<'_> {
    fn introduce(&mut self, domid: u16, port: u32) -> Result<(), StoreError> {
        if self.by_domain.contains_key(&domid) {
            return Ok(());
        }
        let domain = DomId::new(domid);
        let slot = GrantPage::new().map_err(|_| StoreError::Full)?;
        let mapped = Mapping::new(self.xen, slot, domain, RESERVED_XENSTORE, Access::ReadWrite);
        let memory = mapped.map_err(|_| StoreError::Invalid)?;
        let port = LocalPort::connect(self.xen, domain, Port::new(port)).map_err(|_| StoreError::Invalid)?;
        self.by_domain.insert(domid, Link { ring: Ring::new(memory, Side::Server), port });
        self.served += 1;
        Ok(())
    }

    fn release(&mut self, domid: u16) {
        self.by_domain.remove(&domid);
    }
}

pub(crate) fn run(machine: &Machine, boot: &Boot) -> Outcome {
    let Machine { xen, words } = machine;
    let Some(Master(master)) = Master::on(boot.command_line()) else {
        return Err(Verdict::Skip("there are no --event and --master-domid on the command line".into()));
    };
    let ends = LocalPort::bind_virq(xen, VIRQ_DOM_EXC, VcpuId::BOOT).map_err(Verdict::failure)?;
    let mut links = Links { xen, by_domain: BTreeMap::new(), served: 0 };
    links.introduce(master.domid, master.port).map_err(Verdict::failure)?;
    let mut store = Store::new(master.domid);
    println!("serving domain {} first", master.domid);
    let (mut announced, mut gone) = (0, 0);
    while !links.by_domain.is_empty() {
        if carry(&mut store, &mut links)? {
            continue;
        }
        let ports: Vec<Port> =
            links.by_domain.values().map(|link| link.port.port()).chain([ends.port()]).collect();
        let deadline = now() + PATIENCE;
        let woken = event_channel::wait(xen, *words, &ports, Some(deadline), now).map_err(Verdict::error)?;
        if !woken && now() >= deadline {
            return Err(Verdict::Failure("nothing happens any more".into()));
        }
        for port in ports {
            let is_set = words.take(port);
            if is_set && port == ends.port() {
                announced += 1;
                gone += bury(xen, &mut store, &mut links)?;
            }
        }
    }
    if announced == 0 {
        return Err(Verdict::Failure("Xen has told of no end".into()));
    }
    success!("{} domains served, {gone} ends seen", links.served)
}

/// Carries bytes between the rings and the store; says whether there were any.
fn carry(store: &mut Store, links: &mut Links<'_>) -> Result<bool, Verdict> {
    let mut moved = false;
    for domid in store.domains().collect::<Vec<_>>() {
        let mut buffer = [0; 1024];
        let room = store.room(domid).min(buffer.len());
        let Some(link) = links.by_domain.get(&domid) else { continue };
        let taken = link.ring.read(buffer.get_mut(..room).unwrap_or_default()).map_err(Verdict::failure)?;
        store.receive(links, domid, buffer.get(..taken).unwrap_or_default());
        if store.is_broken(domid) {
            return Err(Verdict::Failure(alloc::format!("domain {domid} cannot be served any more")));
        }
        // It may have been released by what it sent.
        let Some(link) = links.by_domain.get(&domid) else { continue };
        let sent = link.ring.write(store.waiting(domid)).map_err(Verdict::failure)?;
        store.sent(domid, sent);
        if taken + sent > 0 {
            link.port.notify().map_err(Verdict::failure)?;
            moved = true;
        }
    }
    Ok(moved)
}

/// Lets go of the clients that have ended; says how many.
fn bury(xen: &Xen<Hypervisor>, store: &mut Store, links: &mut Links<'_>) -> Result<usize, Verdict> {
    let mut gone = 0;
    for domid in links.by_domain.keys().copied().collect::<Vec<_>>() {
        let has_ended = match xen.find_domain(DomId::new(domid)) {
            Ok(info) => info.is_none_or(|info| info.shutdown_reason().is_some()),
            // It may ask about all that there are: from Xen 4.22 on that is said of those that there are not.
            Err(error) if error.errno == Errno::EPERM => true,
            Err(error) => return Err(Verdict::failure(error)),
        };
        if has_ended {
            println!("domain {domid} has ended");
            links.release(domid);
            store.disconnect(domid);
            gone += 1;
        }
    }
    Ok(gone)
}
