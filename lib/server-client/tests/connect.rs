//! Connecting over the simulated Xen: a server that is there, one that is not there yet, and one that never is.
#![allow(missing_docs, reason = "a test's name says what it checks")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise, in its helpers too"
)]

use std::cell::{Cell, RefCell};

use event_channel::LocalPort;
use grant_table::GrantTable;
use hypercall::Xen;
use protocols::channel::{ChannelWord, End};
use server_client::{ConnectError, Patience, connect};
use vchan::{Order, Server, Sizes, Terms};
use xen_abi::PageCount;
use xen_sim::{Guest, Machine, SimHypervisor};

const PATIENCE: Patience = Patience::of(1_000_000_000);

struct World {
    server: Guest,
    client: Guest,
    server_xen: Xen<SimHypervisor>,
    client_xen: Xen<SimHypervisor>,
    /// The clock: each look at it takes 10 ms.
    now: Cell<u64>,
}

impl World {
    fn new() -> Self {
        let machine = Machine::builder().build();
        let [server, client] = [(); 2].map(|()| machine.spawn(PageCount::new(64)));
        let [server_xen, client_xen] =
            [&server, &client].map(|guest| Xen::unprivileged(guest.hypervisor()).unwrap());
        Self { server, client, server_xen, client_xen, now: Cell::new(0) }
    }

    fn clock(&self) -> u64 {
        self.now.set(self.now.get() + 10_000_000);
        self.now.get()
    }

    fn word(&self, reference: u32, port: u32) -> ChannelWord {
        let domid = self.server.domain().raw();
        ChannelWord { end: End::Client, name: "control".into(), domid, reference, port }
    }
}

#[test]
fn a_server_that_comes_late_is_waited_for() {
    let world = World::new();
    let mut table = GrantTable::open(&world.server_xen, &mut world.server.window(), 1).unwrap();
    let port = LocalPort::listen(&world.server_xen, world.client.domain()).unwrap();
    let sizes = Sizes::new(Order::new(10).unwrap(), Order::new(11).unwrap()).unwrap();
    let terms = Terms { client: world.client.domain(), sizes, reference: None };
    let number = port.port().raw();
    let mut frames = world.server.frames().into_iter();
    let pages: Vec<_> =
        frames.by_ref().take(1 + sizes.pages()).map(|frame| world.server.own_page(frame)).collect();
    // The first reference of the table, as the server gives it out below.
    let offered = RefCell::new(None);
    let waiting = RefCell::new(Some((port, pages)));
    let tries = Cell::new(0);
    let slot = || {
        tries.set(tries.get() + 1);
        if tries.get() == 4 {
            let (port, pages) = waiting.borrow_mut().take().unwrap();
            let server = Server::offer(&world.server_xen, &mut table, port, &terms, pages).unwrap();
            *offered.borrow_mut() = Some(server);
        }
        Some(world.client.grant_slot())
    };
    let told = world.word(8, number);
    let client = connect(&world.client_xen, &told, PATIENCE, || world.clock(), slot).unwrap();
    assert_eq!(
        offered.borrow().as_ref().map(|server| server.reference().raw()),
        Some(8),
        "the test's assumption"
    );
    assert_eq!(client.peer(), world.server.domain());
    assert_eq!(tries.get(), 4);
}

#[test]
fn a_server_that_never_comes_is_given_up_with_the_last_error() {
    let world = World::new();
    let slot = || Some(world.client.grant_slot());
    let error = connect(&world.client_xen, &world.word(8, 3), PATIENCE, || world.clock(), slot).unwrap_err();
    let text = error.to_string();
    let ConnectError::GivenUp { given_up, .. } = error else { panic!("{error}") };
    assert!((2..60).contains(&given_up.tries) && given_up.without >= PATIENCE.time, "{given_up:?}");
    assert!(
        text.contains("cannot connect to control in domain") && text.contains("at last: channel with domain"),
        "{text}"
    );
    assert!(text.contains("EVTCHNOP_bind_interdomain"), "{text}");
}
