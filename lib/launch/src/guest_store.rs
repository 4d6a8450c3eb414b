//! XenStores of single VMs, which the builder serves itself: by them a VM can be asked to power off.

use alloc::string::ToString;

use domain_builder::Ring as RingPlace;
use event_channel::{LocalPort, Offer};
use hypercall::{FrameWindow, RawHypercall, SharedMemory};
use xen_abi::{DomId, Port};
use xenstore::{Domains, Limits, Ring, RingError, Side, Store, StoreError, home};

use crate::supervisor::{AttachError, Supervisor};
use crate::{Environment, PlannedVm};

/// Bytes of a ring.
const RING: usize = 1024;

/// How often a ring is looked at before it is others' turn: a guest that writes without pause on another processor waits then.
const ROUNDS: usize = 8;

/// Heap below which no guest is heard, in bytes: what they have the builder keep is not to be in the way of its own work.
const RESERVE: usize = 1 << 20;

/// What a guest reads that is to power off, and where it waits for it.
const SHUTDOWN: &str = "control/shutdown";
const POWEROFF: &[u8] = b"poweroff";

/// Why a guest's store is served no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StoreFault {
    /// Its indices are impossible.
    #[error("{0}")]
    Ring(RingError),
    /// It sent what is no message, or does not read what it is told.
    #[error("it sent what is no message, or does not read its news")]
    Broken,
}

/// The store of one VM.
pub(crate) struct GuestStore<'x, H: RawHypercall, S> {
    port: LocalPort<'x, H>,
    ring: Ring<S>,
    store: Store,
    domid: u16,
    /// Whether there may be more in the ring although no event tells.
    has_more: bool,
}

/// Nobody else is served by such a store.
struct Alone;

impl Domains for Alone {
    fn introduce(&mut self, _: u16, _: u32) -> Result<(), StoreError> {
        Err(StoreError::Unknown)
    }

    fn release(&mut self, _: u16) {}
}

impl<'x, H: RawHypercall, S: SharedMemory> GuestStore<'x, H, S> {
    /// Takes up the ring of a VM that has not started.
    pub(crate) fn new<W: FrameWindow<Shared = S>>(
        environment: &mut Environment<'x, H, W>,
        vm: &PlannedVm,
        domid: DomId,
        place: RingPlace,
    ) -> Result<Self, AttachError> {
        let memory = environment.window.map_shared(domid, &[place.frame])?;
        let port = Offer { domain: domid, port: place.port }.connect(environment.xen)?;
        let store = first(domid.raw(), &vm.spec.name).map_err(AttachError::Store)?;
        let ring = Ring::new(memory, Side::Server);
        Ok(Self { port, ring, store, domid: domid.raw(), has_more: false })
    }

    pub(crate) fn port(&self) -> Port {
        self.port.port()
    }

    /// Carries bytes between ring and store, for a bounded time.
    pub(crate) fn serve(&mut self) -> Result<(), StoreFault> {
        let mut moved = 0;
        self.has_more = false;
        for round in 1..=ROUNDS {
            let now = self.carry()?;
            moved += now;
            if now == 0 {
                break;
            }
            self.has_more = round == ROUNDS;
        }
        if moved > 0
            && let Err(error) = self.port.notify()
        {
            log::warn!("domid={} XenStore: {error}", self.domid);
        }
        Ok(())
    }

    /// Carries what one ring holds each way; says how many bytes.
    fn carry(&mut self) -> Result<usize, StoreFault> {
        let Self { ring, store, domid, .. } = self;
        let mut buffer = [0; RING];
        let room = store.room(*domid).min(buffer.len());
        let taken = ring.read(buffer.get_mut(..room).unwrap_or_default()).map_err(StoreFault::Ring)?;
        store.receive(&mut Alone, *domid, buffer.get(..taken).unwrap_or_default());
        if store.is_broken(*domid) {
            return Err(StoreFault::Broken);
        }
        let sent = ring.write(store.waiting(*domid)).map_err(StoreFault::Ring)?;
        store.sent(*domid, sent);
        Ok(taken + sent)
    }

    /// Whether the VM waits to be asked to power off. One that looks now and then without waiting is not known from one that never does.
    pub(crate) fn listens(&self) -> bool {
        self.store.watches(self.domid, &path(self.domid, SHUTDOWN))
    }

    /// Asks the VM to power off: now, if it listens, else as soon as it does.
    fn ask_to_power_off(&mut self) -> Result<(), StoreFault> {
        // The node is one of the few that were there before the guest could fill the store.
        let _ = self.store.set(&path(self.domid, SHUTDOWN), POWEROFF);
        self.serve()
    }
}

/// A store as a VM finds it.
fn first(domid: u16, name: &str) -> Result<Store, StoreError> {
    let mut store = Store::with_limits(DomId::DOM0.raw(), Limits::SINGLE);
    store.introduce(domid)?;
    for (node, value) in [("domid", domid.to_string().as_bytes()), ("name", name.as_bytes()), (SHUTDOWN, b"")]
    {
        store.set(&path(domid, node), value)?;
    }
    Ok(store)
}

fn path(domid: u16, node: &str) -> alloc::string::String {
    alloc::format!("{}/{node}", home(domid))
}

impl<H: RawHypercall, W: FrameWindow> Supervisor<'_, '_, H, W> {
    /// Serves the VMs' stores that have something to say, unless memory is short; says whether there is more to do.
    pub(crate) fn serve_stores(&mut self) -> bool {
        let events = self.environment.events;
        let is_short = (self.environment.spare_memory)() < RESERVE;
        let mut has_more = false;
        for vm in &mut self.running {
            let Some(store) = &mut vm.store else { continue };
            store.has_more |= events.take(store.port());
            if is_short {
                continue;
            }
            if store.has_more
                && let Err(fault) = store.serve()
            {
                log::warn!("vm={} domid={} event=store-dropped {fault}", vm.name(), vm.domid);
                vm.store = None;
                continue;
            }
            has_more |= vm.store.as_ref().is_some_and(|store| store.has_more);
        }
        has_more
    }

    /// Asks a VM to power off by its XenStore; whether it has one.
    pub(crate) fn ask_to_power_off(&mut self, domid: DomId) -> bool {
        let Some(vm) = self.running.iter_mut().find(|vm| vm.domid == domid) else { return false };
        let Some(store) = &mut vm.store else { return false };
        if let Err(fault) = store.ask_to_power_off() {
            log::warn!("vm={} domid={domid} event=store-dropped {fault}", vm.name());
            vm.store = None;
            return false;
        }
        log::info!("vm={} domid={domid} event=asked-to-power-off", vm.name());
        true
    }
}
