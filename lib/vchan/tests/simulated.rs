//! Channels between two simulated domains.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise, in its helpers too")]

mod support;

use event_channel::LocalPort;
use grant_table::GrantError;
use hypercall::SharedMemory;
use proptest::prelude::*;
use support::{SimClient, SimServer, World, bytes_of, pattern, sizes};
use vchan::{CHECK_INTERVAL, Channel, ChannelError, Memory, Peer, Server, Sizes, Terms};
use xen_abi::{DomId, Errno, GrantRef};
use xen_sim::{Effect, Fault, SimHypervisor};

/// Sends `bytes` through a channel in pieces that never fit the ring, and gives back what arrived.
fn carry<A: Memory, B: Memory>(
    from: &mut Channel<'_, SimHypervisor, A>,
    to: &mut Channel<'_, SimHypervisor, B>,
    bytes: &[u8],
) -> Vec<u8> {
    let (mut sent, mut arrived, mut buffer) = (0, Vec::new(), vec![0; 1777]);
    while arrived.len() < bytes.len() {
        sent += from.write(&bytes[sent..]).unwrap();
        let count = to.read(&mut buffer).unwrap();
        assert!(count > 0, "stuck after {} bytes", arrived.len());
        arrived.extend_from_slice(&buffer[..count]);
    }
    arrived
}

#[test]
fn rings_of_every_size_carry_bytes_both_ways() {
    let pairs = [(10, 11), (11, 10), (10, 12), (12, 10), (11, 13), (12, 12), (14, 11), (16, 15), (10, 19)];
    for (left, right) in pairs.into_iter().chain([(18, 17), (20, 11), (20, 20)]) {
        let world = World::new();
        let mut table = world.server.table();
        let mut server = world.offer(&mut table, sizes(left, right));
        let mut client = world.connect(&server).unwrap();
        assert_eq!(client.sizes(), sizes(left, right));
        let bytes = pattern((1 << left) * 2 + 1001);
        assert_eq!(carry(&mut client, &mut server, &bytes), bytes, "left, {left} {right}");
        let bytes = pattern((1 << right) * 2 + 1001);
        assert_eq!(carry(&mut server, &mut client, &bytes), bytes, "right, {left} {right}");
        client.close().unwrap();
        assert_eq!(server.close(&mut table).unwrap().len(), 1 + sizes(left, right).pages());
    }
}

#[test]
fn the_shared_page_is_as_the_header_says() {
    let world = World::new();
    let mut table = world.server.table();
    let mut server = world.offer(&mut table, sizes(10, 13));
    let page = world.server.guest.own_page(world.server.guest.frames()[0]);
    let head = |range| bytes_of(&page, range);
    assert_eq!(head(0..16), [0; 16], "indices");
    assert_eq!(head(16..20), [10, 0, 13, 0], "orders");
    assert_eq!(head(20..24), [2, 1, 1, 0], "cli_live, srv_live, cli_notify, srv_notify");
    assert_eq!(head(24..36), [8, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0], "references, after which nothing");
    assert_eq!(server.reference(), GrantRef::new(10), "granted last");

    let mut client = world.connect(&server).unwrap();
    assert_eq!(head(20..24), [1, 1, 1, 1], "the client is there and wants to hear of bytes");
    assert_eq!(client.write(b"abc").unwrap(), 3);
    assert_eq!(head(0..16), [0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], "left.prod");
    assert_eq!(head(1024..1027), b"abc");
    assert_eq!(head(20..24), [1, 1, 0, 1], "the server was told, and wants to be no more");
    let mut buffer = [0; 8];
    assert_eq!(server.read(&mut buffer).unwrap(), 3);
    assert_eq!(head(0..8), [3, 0, 0, 0, 3, 0, 0, 0], "left.cons");
    assert_eq!(server.read(&mut buffer).unwrap(), 0);
    assert_eq!(head(20..24), [1, 1, 1, 1], "the server waits for bytes again");
    assert_eq!(server.write(b"xy").unwrap(), 2);
    assert_eq!(head(12..16), [2, 0, 0, 0], "right.prod");
    assert_eq!(head(20..24), [1, 1, 1, 0], "the client was told");
    client.close().unwrap();
    assert_eq!(head(20..24), [0, 1, 1, 0], "the client has closed");
}

#[test]
fn a_full_ring_holds_the_writer_back_until_something_is_read() {
    let world = World::new();
    let mut table = world.server.table();
    let mut server = world.offer(&mut table, sizes(10, 11));
    let mut client = world.connect(&server).unwrap();
    assert_eq!(client.write(&pattern(5000)).unwrap(), 1024);
    assert_eq!(client.write(b"more").unwrap(), 0);
    assert!(!client.is_drained().unwrap());
    world.client.words().take(client.port());
    let mut buffer = [0; 100];
    assert_eq!(server.read(&mut buffer).unwrap(), 100);
    assert!(world.client.words().take(client.port()), "the writer is woken once there is room");
    assert_eq!(client.write(&[0; 200]).unwrap(), 100);
    assert_eq!(server.read(&mut [0; 2000]).unwrap(), 1024);
    assert!(client.is_drained().unwrap());
}

#[test]
fn nobody_is_woken_who_did_not_ask() {
    let world = World::new();
    let mut table = world.server.table();
    let mut server = world.offer(&mut table, sizes(12, 12));
    let mut client = world.connect(&server).unwrap();
    let server_port = server.port();
    let woken = || world.server.words().take(server_port);
    woken();
    client.write(b"one").unwrap();
    assert!(woken(), "a server wants to hear of the first bytes");
    client.write(b"two").unwrap();
    assert!(!woken(), "it was told already, and has not looked");
    assert_eq!(server.read(&mut [0; 100]).unwrap(), 6);
    client.write(b"three").unwrap();
    assert!(!woken(), "it found something when it looked last");
    assert_eq!(server.read(&mut [0; 100]).unwrap(), 5);
    assert_eq!(server.read(&mut [0; 100]).unwrap(), 0);
    client.write(b"four").unwrap();
    assert!(woken(), "it found nothing when it looked last");
}

#[test]
fn a_server_may_write_before_its_client_is_there() {
    let world = World::new();
    let mut table = world.server.table();
    let mut server = world.offer(&mut table, sizes(10, 11));
    assert_eq!(server.peer_state(), Ok(Peer::Awaited));
    assert_eq!(server.check_peer(), Ok(Peer::Awaited));
    assert_eq!(server.write(b"welcome").unwrap(), 7);
    assert_eq!(server.read(&mut [0; 8]).unwrap(), 0, "nothing yet, and no error");
    let mut client = world.connect(&server).unwrap();
    let mut buffer = [0; 16];
    assert_eq!(client.read(&mut buffer).unwrap(), 7);
    assert_eq!(&buffer[..7], b"welcome");
    assert_eq!(server.check_peer(), Ok(Peer::Open));
}

#[test]
fn what_was_written_before_the_end_is_read() {
    let world = World::new();
    let mut table = world.server.table();
    let mut server = world.offer(&mut table, sizes(10, 11));
    let mut client = world.connect(&server).unwrap();
    client.write(b"last words").unwrap();
    world.server.words().take(server.port());
    let (peer, client_domain) = (server.peer(), world.client.domain());
    assert_eq!(client.close().unwrap().len(), 1);
    assert!(world.server.words().take(server.port()), "the end is announced");
    assert_eq!(server.write(b"x"), Err(ChannelError::Closed { peer }));
    assert_eq!(server.read(&mut [0; 4]).unwrap(), 4);
    assert_eq!(server.read(&mut [0; 40]).unwrap(), 6);
    assert_eq!(server.read(&mut [0; 40]), Err(ChannelError::Closed { peer: client_domain }));
    assert_eq!(server.close(&mut table).unwrap().len(), 1);
}

#[test]
fn pages_that_the_client_has_mapped_are_taken_back_later() {
    let world = World::new();
    let mut table = world.server.table();
    let mut server = world.offer(&mut table, sizes(13, 12));
    server.write(b"bye").unwrap();
    let mut client = world.connect(&server).unwrap();
    let leftover = server.close(&mut table).unwrap_err();
    assert_eq!(leftover.held(), 4);
    let mut buffer = [0; 8];
    assert_eq!(client.read(&mut buffer).unwrap(), 3);
    assert_eq!(client.read(&mut buffer), Err(ChannelError::Closed { peer: world.server.domain() }));
    let leftover = leftover.take_back(&mut table).unwrap_err();
    client.close().unwrap();
    assert_eq!(leftover.take_back(&mut table).unwrap().len(), 4);
}

#[test]
fn a_client_whose_domain_is_destroyed_is_gone() {
    let world = World::new();
    let mut table = world.server.table();
    let mut server = world.offer(&mut table, sizes(12, 12));
    let mut client = world.connect(&server).unwrap();
    client.write(b"half a mess").unwrap();
    world.destroy(&world.client);
    assert_eq!(server.peer_state(), Ok(Peer::Open), "its live byte still says so");
    assert_eq!(server.check_peer(), Ok(Peer::Gone));
    let peer = world.client.domain();
    assert_eq!(server.read(&mut [0; 40]).unwrap(), 11, "what it put is there");
    assert_eq!(server.read(&mut [0; 40]), Err(ChannelError::Gone { peer }));
    assert_eq!(server.write(b"x"), Err(ChannelError::Gone { peer }));
    assert_eq!(server.close(&mut table).unwrap().len(), 3, "Xen has unmapped them");
    // The values of a domain that is gone do not reach Xen any more.
    core::mem::forget(client);
}

#[test]
fn a_server_whose_domain_is_destroyed_is_gone_and_its_words_stay() {
    let world = World::new();
    let mut table = world.server.table();
    let mut server = world.offer(&mut table, sizes(12, 12));
    let mut client = world.connect(&server).unwrap();
    server.write(b"farewell").unwrap();
    core::mem::forget((server, table));
    world.destroy(&world.server);
    assert_eq!(client.check_peer(), Ok(Peer::Gone));
    assert_eq!(client.read(&mut [0; 40]).unwrap(), 8);
    assert!(matches!(client.read(&mut [0; 40]), Err(ChannelError::Gone { .. })));
    assert!(matches!(client.write(b"x"), Err(ChannelError::Gone { .. })));
    client.close().unwrap();
}

#[test]
fn an_end_that_is_dropped_is_gone() {
    let world = World::new();
    let mut table = world.server.table();
    let mut server = world.offer(&mut table, sizes(10, 11));
    drop(world.connect(&server).unwrap());
    assert_eq!(server.check_peer(), Ok(Peer::Gone));
    assert!(server.close(&mut table).is_ok(), "nothing stays mapped");
}

#[test]
fn waiting_ends_with_an_event_at_the_deadline_or_with_the_peer() {
    let world = World::new();
    let mut table = world.server.table();
    let mut server = world.offer(&mut table, sizes(10, 11));
    let mut client = world.connect(&server).unwrap();
    let now = || world.machine.now();
    server.wait(world.server.words(), None, now).unwrap();
    assert_eq!(server.read(&mut [0; 4]).unwrap(), 0);
    client.write(b"x").unwrap();
    assert_eq!(server.wait(world.server.words(), None, now), Ok(true));
    assert_eq!(server.read(&mut [0; 4]).unwrap(), 1);
    let deadline = now() + 5_000_000;
    assert_eq!(server.wait(world.server.words(), Some(deadline), now), Ok(false));
    assert!((deadline..deadline + 1_000_000).contains(&now()));
    let before = now();
    world.destroy(&world.client);
    assert_eq!(server.wait(world.server.words(), None, now), Ok(false));
    assert!(now() - before < CHECK_INTERVAL + 1_000_000);
    assert_eq!(server.peer_state(), Ok(Peer::Gone));
    core::mem::forget(client);
}

#[test]
fn a_reference_that_the_client_knows_beforehand_is_used_once() {
    let world = World::new();
    let mut table = world.server.table();
    let reference = Some(GrantRef::new(2));
    let terms = Terms { reference, ..world.terms(sizes(12, 11)) };
    let offer = |table: &mut _, pages| {
        let port = LocalPort::listen(&world.server.xen, world.client.domain()).unwrap();
        Server::offer(&world.server.xen, table, port, &terms, pages)
    };
    let server = offer(&mut table, world.server.own_pages(2)).unwrap();
    assert_eq!(server.reference(), GrantRef::new(2));
    let client = world.connect(&server).unwrap();
    let refused = offer(&mut table, world.server.own_pages(4).split_off(2)).unwrap_err();
    let error = GrantError::NotReserved { reference: GrantRef::new(2) };
    assert_eq!(refused, ChannelError::Grant { peer: world.client.domain(), error });
    client.close().unwrap();
    let pages = server.close(&mut table).unwrap();
    assert!(offer(&mut table, pages).is_ok(), "it can be used again");
}

#[test]
fn a_channel_is_renewed_for_the_next_client() {
    let world = World::new();
    let mut table = world.server.table();
    let terms = Terms { reference: Some(GrantRef::new(3)), ..world.terms(sizes(12, 11)) };
    let listening = LocalPort::listen(&world.server.xen, world.client.domain()).unwrap();
    let pages = world.server.own_pages(2);
    let mut server = Server::offer(&world.server.xen, &mut table, listening, &terms, pages).unwrap();
    let port = server.port();
    for round in 0..3 {
        let mut client = world.connect(&server).unwrap();
        assert_eq!(client.read(&mut [0; 8]).unwrap(), 0, "nothing of an earlier round is there");
        client.write(b"left behind").unwrap();
        server.write(b"unread").unwrap();
        assert_eq!(server.renew(&mut table), Ok(false), "it is in use");
        assert_eq!(server.read(&mut [0; 4]).unwrap(), 4, "and goes on");
        if round == 1 {
            client.close().unwrap();
        } else {
            drop(client);
            assert_eq!(server.check_peer(), Ok(Peer::Gone));
        }
        assert_eq!(server.renew(&mut table), Ok(true));
        assert_eq!((server.reference(), server.port()), (GrantRef::new(3), port));
        assert_eq!(server.peer_state(), Ok(Peer::Awaited));
        let data = world.server.guest.own_page(world.server.guest.frames()[1]);
        assert_eq!(bytes_of(&data, 0..16), [0; 16], "what was written is wiped");
    }
    assert_eq!(server.close(&mut table).unwrap().len(), 2);
}

#[test]
fn a_client_that_comes_back_too_early_does_not_go_on_in_the_middle() {
    let world = World::new();
    let mut table = world.server.table();
    let mut server = world.offer(&mut table, sizes(12, 11));
    let mut first = world.connect(&server).unwrap();
    server.write(b"for the first").unwrap();
    assert_eq!(first.read(&mut [0; 4]).unwrap(), 4);
    drop(first);
    let peer = world.server.domain();
    assert_eq!(world.connect(&server).unwrap_err(), ChannelError::Taken { peer });
    assert_eq!(server.check_peer(), Ok(Peer::Gone), "the try has changed nothing");
    assert_eq!(server.renew(&mut table), Ok(true));
    let second = world.connect(&server).unwrap();
    second.close().unwrap();
    assert_eq!(world.connect(&server).unwrap_err(), ChannelError::Taken { peer }, "closed by the second");
}

#[test]
fn a_broken_peer_is_forgotten_when_the_channel_is_renewed() {
    let world = World::new();
    let mut table = world.server.table();
    let mut server = world.offer(&mut table, sizes(10, 11));
    let client = world.connect(&server).unwrap();
    world.server.guest.own_page(world.server.guest.frames()[0]).store_u32(4, 9999);
    assert!(matches!(server.read(&mut [0; 8]), Err(ChannelError::Broken { .. })));
    assert_eq!(server.renew(&mut table), Ok(false));
    assert!(matches!(server.read(&mut [0; 8]), Err(ChannelError::Broken { .. })), "not forgotten yet");
    drop(client);
    assert_eq!(server.renew(&mut table), Ok(true));
    let mut client = world.connect(&server).unwrap();
    client.write(b"honest").unwrap();
    assert_eq!(server.read(&mut [0; 8]).unwrap(), 6);
}

#[test]
fn too_few_pages_are_refused() {
    let world = World::new();
    let mut table = world.server.table();
    for given in [0, 2] {
        let port = LocalPort::listen(&world.server.xen, world.client.domain()).unwrap();
        let pages = world.server.own_pages(given);
        let terms = world.terms(sizes(12, 12));
        let refused = Server::offer(&world.server.xen, &mut table, port, &terms, pages).unwrap_err();
        assert_eq!(refused, ChannelError::TooFewPages { peer: world.client.domain(), wanted: 3, given });
    }
}

#[test]
fn whatever_call_of_connecting_fails_nothing_stays_mapped() {
    let world = World::new();
    let mut table = world.server.table();
    let mut server = world.offer(&mut table, sizes(13, 12));
    let before = world.machine.calls();
    world.connect(&server).unwrap().close().unwrap();
    assert_eq!(server.renew(&mut table), Ok(true));
    // Connecting makes a call for the port, four for the pages, and one to wake the server.
    let mut failed = 0;
    for index in 0..6 {
        let server_before = world.machine.calls();
        world.machine.inject(Fault::at(server_before + index, Effect::Fail(Errno::ENOMEM)));
        let refused = world.connect(&server);
        assert!(refused.is_err(), "call {index} of {}", server_before - before);
        assert!(refused.unwrap_err().to_string().contains("ENOMEM"), "call {index}");
        world.machine.clear_faults();
        failed += 1;
        assert_eq!(server.renew(&mut table), Ok(true), "nothing is mapped after call {index} failed");
        world.connect(&server).unwrap().close().unwrap();
        assert_eq!(server.renew(&mut table), Ok(true));
    }
    assert_eq!(failed, 6);
    assert_eq!(server.close(&mut table).unwrap().len(), 4, "nothing is mapped");
}

/// What an end does when it is its turn.
#[derive(Clone, Copy, Debug)]
struct Turn {
    server: bool,
    write: usize,
    read: usize,
}

prop_compose! {
    fn any_turn()(server: bool, write in 0_usize..3000, read in 1_usize..3000) -> Turn {
        Turn { server, write, read }
    }
}

/// An end with what it still has to send, and what it got.
struct End<C> {
    channel: C,
    to_send: Vec<u8>,
    sent: usize,
    got: Vec<u8>,
}

impl<C> End<C> {
    fn new(channel: C, bytes: usize) -> Self {
        Self { channel, to_send: pattern(bytes), sent: 0, got: Vec::new() }
    }
}

impl<M: Memory> End<Channel<'_, SimHypervisor, M>> {
    /// Does as much as `write` and `read` allow; says whether it could do all of it, and hence need not wait.
    fn act(&mut self, write: usize, read: usize) -> bool {
        let end = self.to_send.len().min(self.sent + write);
        let wanted = end - self.sent;
        let put = self.channel.write(&self.to_send[self.sent..end]).unwrap();
        self.sent += put;
        let mut buffer = vec![0; read];
        let count = self.channel.read(&mut buffer).unwrap();
        self.got.extend_from_slice(&buffer[..count]);
        (put == wanted && self.sent < self.to_send.len()) || count > 0
    }

    /// Acts until nothing can be done without the peer.
    fn exhaust(&mut self) {
        while self.act(usize::MAX / 2, 700) {}
    }
}

fn any_sizes() -> impl Strategy<Value = Sizes> {
    prop::sample::select(vec![(10, 11), (11, 10), (12, 11), (10, 12), (12, 12), (13, 14)])
        .prop_map(|(left, right)| sizes(left, right))
}

fn deliver(
    mut server: End<SimServer<'_>>,
    mut client: End<SimClient<'_>>,
    world: &World,
    turns: &[Turn],
) -> Result<(), TestCaseError> {
    for turn in turns {
        if turn.server {
            server.act(turn.write, turn.read);
        } else {
            client.act(turn.write, turn.read);
        }
    }
    // From here on an end acts only when it was woken: a lost event would leave bytes behind.
    server.exhaust();
    client.exhaust();
    loop {
        let woken = [
            world.server.words().take(server.channel.port()),
            world.client.words().take(client.channel.port()),
        ];
        match woken {
            [false, false] => break,
            [true, _] => server.exhaust(),
            [false, true] => client.exhaust(),
        }
    }
    prop_assert_eq!(&client.got, &server.to_send);
    prop_assert_eq!(&server.got, &client.to_send);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_byte_arrives_in_order_whoever_acts_when_and_nobody_misses_an_event(
        sizes in any_sizes(),
        turns in prop::collection::vec(any_turn(), 0..60),
        bytes in (0_usize..40_000, 0_usize..40_000),
    ) {
        let world = World::new();
        let mut table = world.server.table();
        let server = world.offer(&mut table, sizes);
        let client = world.connect(&server).unwrap();
        deliver(End::new(server, bytes.0), End::new(client, bytes.1), &world, &turns)?;
    }
}

#[test]
fn a_stranger_does_not_connect() {
    let world = World::new();
    let mut table = world.server.table();
    let server = world.offer(&mut table, sizes(10, 11));
    let stranger = world.machine.spawn(xen_abi::PageCount::new(1));
    let xen = hypercall::Xen::unprivileged(stranger.hypervisor()).unwrap();
    let slot = || Some(stranger.grant_slot());
    let refused =
        vchan::Client::connect(&xen, server_domain(&world), server.reference(), server.port(), slot);
    assert!(matches!(refused, Err(ChannelError::Call { .. })), "{refused:?}");
    let page = bytes_of(&world.server.guest.own_page(world.server.guest.frames()[0]), 20..21);
    assert_eq!(page, [2], "the client is still awaited");
}

fn server_domain(world: &World) -> DomId {
    world.server.domain()
}
