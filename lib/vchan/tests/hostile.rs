//! Peers that lie: in the page that they give, in what they write later, and between two looks.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise, in its helpers too")]

mod support;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use event_channel::LocalPort;
use grant_table::Shareable;
use hypercall::SharedMemory;
use proptest::prelude::*;
use support::{World, pattern, sizes};
use vchan::{Channel, ChannelError, LayoutError, Lie, Memory, Server};
use xen_abi::Mfn;
use xen_sim::{SimHypervisor, SimOwnPage};

/// The server's shared page as its own kernel sees it, to forge.
fn shared_page(world: &World) -> SimOwnPage {
    world.server.guest.own_page(world.server.guest.frames()[0])
}

#[test]
fn a_page_that_describes_no_channel_is_refused_and_let_go() {
    let cases = [
        (0x000b_0009_u32, LayoutError::BadOrder { order: 9 }),
        (0x0015_000b, LayoutError::BadOrder { order: 21 }),
        (0xffff_000b, LayoutError::BadOrder { order: 0xffff }),
        (0x000a_000a, LayoutError::SamePlace { order: 10 }),
        (0x000b_000b, LayoutError::SamePlace { order: 11 }),
        (0x0014_000a, LayoutError::NoRoomForList { pages: 256, room: 250 }),
    ];
    let world = World::new();
    let mut table = world.server.table();
    let server = world.offer(&mut table, sizes(10, 11));
    for (word, expected) in cases {
        shared_page(&world).store_u32(16, word);
        let refused = world.connect(&server).unwrap_err();
        assert_eq!(refused, ChannelError::Layout { peer: world.server.domain(), error: expected });
    }
    assert!(server.close(&mut table).is_ok(), "nothing is mapped");
}

#[test]
fn references_that_grant_nothing_are_refused_and_let_go() {
    let world = World::new();
    let mut table = world.server.table();
    let server = world.offer(&mut table, sizes(13, 13));
    for word in [0_u32, 7, 400, 1 << 20, u32::MAX] {
        shared_page(&world).store_u32(24 + 3 * 4, word);
        assert!(matches!(world.connect(&server), Err(ChannelError::Grant { .. })), "{word}");
    }
    assert!(server.close(&mut table).is_ok(), "nothing is mapped");
}

#[test]
fn indices_that_do_not_fit_from_the_start_are_refused() {
    let world = World::new();
    let mut table = world.server.table();
    let server = world.offer(&mut table, sizes(10, 11));
    for (offset, word) in [(0, 1_u32), (4, 1025), (8, 1), (12, 2049), (12, u32::MAX)] {
        let page = shared_page(&world);
        page.store_u32(offset, word);
        assert!(matches!(world.connect(&server), Err(ChannelError::Broken { .. })), "{offset} {word}");
        page.store_u32(offset, 0);
    }
    shared_page(&world).write(21, &[0]);
    assert!(matches!(world.connect(&server), Err(ChannelError::Closed { .. })));
    shared_page(&world).write(21, &[77]);
    let refused = world.connect(&server).unwrap_err();
    assert_eq!(refused, ChannelError::Broken { peer: world.server.domain(), lie: Lie::Live(77) });
}

#[test]
fn a_consumer_that_goes_back_is_found_though_it_stays_within_the_ring() {
    let world = World::new();
    let mut table = world.server.table();
    let mut server = world.offer(&mut table, sizes(10, 11));
    let mut client = world.connect(&server).unwrap();
    assert_eq!(client.write(&pattern(1000)).unwrap(), 1000);
    assert_eq!(server.read(&mut [0; 600]).unwrap(), 600);
    assert_eq!(client.write(&[0; 10]).unwrap(), 10);
    shared_page(&world).store_u32(0, 599);
    let lie = Lie::Consumer { index: 599, before: 600, limit: 1010 };
    let broken = ChannelError::Broken { peer: world.server.domain(), lie };
    assert_eq!(client.write(&[0; 10]), Err(broken));
    assert!(broken.to_string().contains("went from 0x258 to 0x257"), "{broken}");
    shared_page(&world).store_u32(0, 600);
    assert_eq!(client.write(&[0; 10]), Err(broken), "it stays broken");
    assert_eq!(client.read(&mut [0; 10]), Err(broken));
    assert_eq!(client.check_peer(), Err(broken));
    assert!(client.close().is_ok(), "what is broken can be closed");
}

#[test]
fn a_producer_that_overruns_the_ring_is_found() {
    let world = World::new();
    let mut table = world.server.table();
    let mut server = world.offer(&mut table, sizes(10, 11));
    let client = world.connect(&server).unwrap();
    for index in [1025, 0x8000_0000, u32::MAX] {
        shared_page(&world).store_u32(4, index);
        let lie = Lie::Producer { index: 1025, before: 0, limit: 1024 };
        let peer = world.client.domain();
        assert_eq!(server.read(&mut [0; 10]), Err(ChannelError::Broken { peer, lie }));
    }
    drop(client);
}

#[test]
fn own_indices_in_the_page_do_not_count() {
    let world = World::new();
    let mut table = world.server.table();
    let mut server = world.offer(&mut table, sizes(10, 11));
    let mut client = world.connect(&server).unwrap();
    client.write(b"abc").unwrap();
    // The server's own indices, as a hostile client would change them.
    shared_page(&world).store_u32(0, 0xdead_beef);
    shared_page(&world).store_u32(12, 0xdead_beef);
    let mut buffer = [0; 8];
    assert_eq!(server.read(&mut buffer).unwrap(), 3);
    assert_eq!(&buffer[..3], b"abc");
    assert_eq!(server.write(b"defg").unwrap(), 4);
    assert_eq!(shared_page(&world).load_u32(0), 3, "and are put right");
    assert_eq!(shared_page(&world).load_u32(12), 4);
}

/// A page that its other owner scribbles on at every access: what is loaded next is whatever `next` says, for ever.
#[derive(Debug)]
struct Restless {
    page: SimOwnPage,
    scribble: Rc<Scribble>,
}

/// What to write where, in turn.
#[derive(Debug)]
struct Scribble {
    writes: RefCell<Vec<(usize, u32)>>,
    next: Cell<usize>,
}

impl Scribble {
    fn step(&self, page: &SimOwnPage) {
        let writes = self.writes.borrow();
        if let Some((offset, word)) = writes.get(self.next.get() % writes.len().max(1)) {
            page.store_u32(*offset, *word);
        }
        self.next.set(self.next.get() + 1);
    }
}

// SAFETY: no memory of the program that simulates is behind it.
unsafe impl Shareable for Restless {
    fn frame(&self) -> Mfn {
        self.page.frame()
    }
}

impl SharedMemory for Restless {
    fn size(&self) -> usize {
        self.page.size()
    }
    fn read(&self, offset: usize, buffer: &mut [u8]) {
        self.page.read(offset, buffer);
        self.scribble.step(&self.page);
    }
    fn write(&self, offset: usize, bytes: &[u8]) {
        self.page.write(offset, bytes);
        self.scribble.step(&self.page);
    }
    fn load_u32(&self, offset: usize) -> u32 {
        let word = self.page.load_u32(offset);
        self.scribble.step(&self.page);
        word
    }
    fn store_u32(&self, offset: usize, value: u32) {
        self.page.store_u32(offset, value);
        self.scribble.step(&self.page);
    }
    fn compare_exchange_u32(&self, offset: usize, current: u32, new: u32) -> Result<u32, u32> {
        let result = self.page.compare_exchange_u32(offset, current, new);
        self.scribble.step(&self.page);
        result
    }
}

/// Uses a channel without trusting it; every result is one of those that there may be.
fn use_channel<M: Memory>(channel: &mut Channel<'_, SimHypervisor, M>, most: usize) {
    let mut broken = None;
    for round in 0..40 {
        let mut buffer = [0; 300];
        let results = [
            channel.read(&mut buffer),
            channel.write(&buffer),
            channel.readable(),
            channel.writable(most),
            channel.check_peer().map(|_| 0),
        ];
        for result in results {
            match result {
                Ok(count) => assert!(count <= most, "{count} bytes of {most} in round {round}"),
                Err(error @ ChannelError::Broken { .. }) => {
                    assert_eq!(*broken.get_or_insert(error), error, "the first lie is the one that is told");
                }
                Err(ChannelError::Closed { .. } | ChannelError::Gone { .. }) => {}
                Err(other) => unreachable!("{other}"),
            }
        }
    }
}

/// Words at the places that count, and values that are close to those that are right.
fn any_writes() -> impl Strategy<Value = Vec<(usize, u32)>> {
    let offset = prop_oneof![8 => (0_usize..6).prop_map(|word| word * 4), 1 => (6_usize..1024).prop_map(|word| word * 4)];
    let word = prop_oneof![
        3 => 0_u32..3000,
        1 => any::<u32>(),
        2 => Just(0x0101_0101_u32),
        1 => Just(0x0303_0101_u32),
    ];
    prop::collection::vec((offset, word), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn no_client_that_scribbles_at_every_moment_gets_further_than_an_error(writes in any_writes()) {
        let world = World::new();
        let mut table = world.server.table();
        let port = LocalPort::listen(&world.server.xen, world.client.domain()).unwrap();
        let scribble = Rc::new(Scribble { writes: RefCell::default(), next: Cell::new(0) });
        let restless = |page| Restless { page, scribble: Rc::clone(&scribble) };
        let pages = world.server.own_pages(2).into_iter().map(restless).collect();
        let terms = world.terms(sizes(12, 11));
        let mut server = Server::offer(&world.server.xen, &mut table, port, &terms, pages).unwrap();
        let client = world.connect_to(server.reference(), server.port()).unwrap();
        *scribble.writes.borrow_mut() = writes;
        use_channel(&mut server, 4096);
        drop(client);
        prop_assert!(server.close(&mut table).is_ok());
    }

    #[test]
    fn no_server_that_scribbles_between_calls_gets_further_than_an_error(writes in any_writes()) {
        let world = World::new();
        let mut table = world.server.table();
        let server = world.offer(&mut table, sizes(11, 12));
        let Ok(mut client) = world.connect(&server) else { unreachable!("an honest start") };
        for (offset, word) in writes {
            shared_page(&world).store_u32(offset, word);
            use_channel(&mut client, 4096);
        }
        client.close().unwrap();
        prop_assert!(server.close(&mut table).is_ok());
    }
}

#[test]
fn a_state_that_changes_without_pause_is_found() {
    let world = World::new();
    let mut table = world.server.table();
    let port = LocalPort::listen(&world.server.xen, world.client.domain()).unwrap();
    let scribble = Rc::new(Scribble { writes: RefCell::default(), next: Cell::new(0) });
    let restless = |page| Restless { page, scribble: Rc::clone(&scribble) };
    let pages = world.server.own_pages(1).into_iter().map(restless).collect();
    let terms = world.terms(sizes(10, 11));
    let mut server = Server::offer(&world.server.xen, &mut table, port, &terms, pages).unwrap();
    let client = world.connect_to(server.reference(), server.port()).unwrap();
    // Live bytes that are right, and notify bytes that are never twice the same.
    *scribble.writes.borrow_mut() = vec![(20, 0x0000_0101), (20, 0x0101_0101), (20, 0x0202_0101)];
    let error = server.read(&mut [0; 10]).unwrap_err();
    assert_eq!(error, ChannelError::Broken { peer: world.client.domain(), lie: Lie::Restless });
    drop(client);
    assert!(server.close(&mut table).is_ok(), "what is broken can be closed");
}

#[test]
fn a_client_that_scribbles_before_the_offer_is_complete_does_not_spoil_it() {
    let world = World::new();
    let mut table = world.server.table();
    let port = LocalPort::listen(&world.server.xen, world.client.domain()).unwrap();
    let scribble = Rc::new(Scribble { writes: RefCell::new(vec![(4, 9999), (12, 77)]), next: Cell::new(0) });
    let restless = |page| Restless { page, scribble: Rc::clone(&scribble) };
    let pages = world.server.own_pages(1).into_iter().map(restless).collect();
    let terms = world.terms(sizes(10, 11));
    let mut server = Server::offer(&world.server.xen, &mut table, port, &terms, pages).unwrap();
    assert!(matches!(server.read(&mut [0; 10]), Err(ChannelError::Broken { .. })), "told when it is used");
    assert!(server.close(&mut table).is_ok(), "nothing is left granted");
}
