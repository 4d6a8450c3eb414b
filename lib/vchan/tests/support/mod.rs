//! Two domains on a simulated machine, and channels between them.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise, in its helpers too")]

use event_channel::{EventWords, LocalPort};
use grant_table::GrantTable;
use hypercall::{SharedMemory, Xen};
use vchan::{ChannelError, Client, Order, Server, Sizes, Terms};
use xen_abi::{DomId, GrantRef, PageCount};
use xen_sim::{Guest, Machine, SimHypervisor, SimOwnPage, SimShared, SimSlot};

pub(crate) type SimServer<'x> = Server<'x, SimHypervisor, SimOwnPage>;
pub(crate) type SimClient<'x> = Client<'x, SimHypervisor, SimSlot>;

/// Pages of each domain: enough for the largest rings.
const PAGES: u64 = 520;

/// A domain.
pub(crate) struct Side {
    pub(crate) guest: Guest,
    pub(crate) hypervisor: SimHypervisor,
    pub(crate) xen: Xen<SimHypervisor>,
}

impl Side {
    fn new(guest: Guest) -> Self {
        let hypervisor = guest.hypervisor();
        let xen = Xen::unprivileged(guest.hypervisor()).unwrap();
        Self { guest, hypervisor, xen }
    }

    pub(crate) fn domain(&self) -> DomId {
        self.guest.domain()
    }

    pub(crate) fn words(&self) -> EventWords<'_> {
        EventWords::new(self.hypervisor.pending_words(), self.hypervisor.mask_words())
    }

    /// Own pages with their frames, as a kernel would take them from its heap.
    pub(crate) fn own_pages(&self, count: usize) -> Vec<SimOwnPage> {
        self.guest.frames().into_iter().take(count).map(|frame| self.guest.own_page(frame)).collect()
    }

    pub(crate) fn table(&self) -> GrantTable<SimShared> {
        GrantTable::open(&self.xen, &mut self.guest.window(), 2).unwrap()
    }
}

/// A server's domain and a client's.
pub(crate) struct World {
    pub(crate) machine: Machine,
    pub(crate) server: Side,
    pub(crate) client: Side,
}

impl World {
    pub(crate) fn new() -> Self {
        let machine = Machine::builder().build();
        let [server, client] = [(); 2].map(|()| Side::new(machine.spawn(PageCount::new(PAGES))));
        Self { machine, server, client }
    }

    pub(crate) fn terms(&self, sizes: Sizes) -> Terms {
        Terms { client: self.client.domain(), sizes, reference: None }
    }

    pub(crate) fn offer(&self, table: &mut GrantTable<SimShared>, sizes: Sizes) -> SimServer<'_> {
        let port = LocalPort::listen(&self.server.xen, self.client.domain()).unwrap();
        let pages = self.server.own_pages(1 + sizes.pages());
        Server::offer(&self.server.xen, table, port, &self.terms(sizes), pages).unwrap()
    }

    pub(crate) fn connect(&self, server: &SimServer<'_>) -> Result<SimClient<'_>, ChannelError> {
        self.connect_to(server.reference(), server.port())
    }

    pub(crate) fn connect_to(
        &self,
        reference: GrantRef,
        port: xen_abi::Port,
    ) -> Result<SimClient<'_>, ChannelError> {
        let slot = || Some(self.client.guest.grant_slot());
        Client::connect(&self.client.xen, self.server.domain(), reference, port, slot)
    }

    /// Destroys a domain from Dom0.
    pub(crate) fn destroy(&self, side: &Side) {
        Xen::probe(self.machine.dom0()).unwrap().destroy_domain(side.domain()).unwrap();
    }
}

pub(crate) fn sizes(left: u16, right: u16) -> Sizes {
    Sizes::new(Order::new(left).unwrap(), Order::new(right).unwrap()).unwrap()
}

/// A byte that differs from one stretch of 251 bytes to the next.
fn pages(index: usize) -> u8 {
    u8::try_from(index / 251 % 256).unwrap()
}

/// Bytes that differ from place to place.
pub(crate) fn pattern(count: usize) -> Vec<u8> {
    (0_u8..=u8::MAX)
        .cycle()
        .map(|byte| byte.wrapping_mul(7))
        .zip(0..count)
        .map(|(byte, index)| byte ^ pages(index))
        .collect()
}

/// The bytes of a page.
pub(crate) fn bytes_of(page: &impl SharedMemory, range: core::ops::Range<usize>) -> Vec<u8> {
    let mut bytes = vec![0; range.len()];
    page.read(range.start, &mut bytes);
    bytes
}
