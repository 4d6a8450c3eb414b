//! Hostile peers: what shares memory with us, or sends us requests. The input is what the peer does.

use std::cell::RefCell;

use event_channel::LocalPort;
use grant_table::GrantTable;
use hypercall::{SharedMemory, Xen};
use vchan::{Channel, ChannelError, Client, Memory, Order, Server, Sizes, Terms};
use xen_abi::PageCount;
use xen_sim::{Guest, Machine, SimHypervisor, SimOwnPage};
use xenstore::{Domains, Kind, Message, Reader, Ring, Side, Store, StoreError};

/// Bytes of an input for each thing that a peer writes: a place in the shared page, and a word.
const WRITE: usize = 6;

/// The writes of a peer.
fn writes(input: &[u8]) -> impl Iterator<Item = (usize, u32)> + '_ {
    input.chunks_exact(WRITE).filter_map(|chunk| {
        let (place, word) = (chunk.first_chunk::<2>()?, chunk.last_chunk::<4>()?);
        let offset = usize::from(u16::from_le_bytes(*place)) & 0xffc;
        Some((offset, u32::from_le_bytes(*word)))
    })
}

/// One write, as it is in an input.
fn write(offset: u16, word: u32) -> Vec<u8> {
    [&offset.to_le_bytes()[..], &word.to_le_bytes()[..]].concat()
}

/// Writes to the places that count.
pub(crate) fn page_writes(places: &[u16]) -> Vec<Vec<u8>> {
    let words = [0, 1, 1023, 1024, 1025, 2049, 0x0101_0101, 0x8000_0000, u32::MAX];
    let every: Vec<_> =
        words.iter().flat_map(|word| places.iter().map(|place| write(*place, *word))).collect();
    vec![every.concat(), write(places.first().copied().unwrap_or(0), 7)]
}

/// Both ends of a vchan, whose shared page the other domain changes before every call.
pub(crate) fn vchan(input: &[u8]) {
    let (Some(left), Some(right)) = (Order::new(10), Order::new(11)) else { return };
    let Ok(sizes) = Sizes::new(left, right) else { return };
    let machine = Machine::builder().build();
    let [serving, using] = [(); 2].map(|()| machine.spawn(PageCount::new(16)));
    let connected = connect(&serving, &using, sizes, input);
    assert!(connected.is_some(), "an honest begin is not refused");
}

/// Connects two domains, and has each end used while the page changes.
fn connect(serving: &Guest, using: &Guest, sizes: Sizes, input: &[u8]) -> Option<()> {
    let (server_xen, client_xen) =
        (Xen::unprivileged(serving.hypervisor()).ok()?, Xen::unprivileged(using.hypervisor()).ok()?);
    let mut table = GrantTable::open(&server_xen, &mut serving.window(), 2).ok()?;
    let port = LocalPort::listen(&server_xen, using.domain()).ok()?;
    let frames = serving.frames();
    let pages: Vec<SimOwnPage> =
        frames.iter().take(1 + sizes.pages()).map(|frame| serving.own_page(*frame)).collect();
    let terms = Terms { client: using.domain(), sizes, reference: None };
    let mut server = Server::offer(&server_xen, &mut table, port, &terms, pages).ok()?;
    let slot = || Some(using.grant_slot());
    let (reference, offered) = (server.reference(), server.port());
    let mut client = Client::connect(&client_xen, serving.domain(), reference, offered, slot).ok()?;
    let shared = serving.own_page(*frames.first()?);
    for (round, (offset, word)) in writes(input).enumerate() {
        shared.store_u32(offset, word);
        use_channel(&mut server, round);
        shared.store_u32(offset, word);
        use_channel(&mut client, round);
    }
    let _released = client.close();
    assert!(server.close(&mut table).is_ok(), "what a peer has written does not keep pages");
    Some(())
}

/// One call; whatever the page says, the answer is one that there may be.
fn use_channel<M: Memory>(channel: &mut Channel<'_, SimHypervisor, M>, round: usize) {
    const LARGEST: usize = 2048;
    let mut buffer = [0; 300];
    let result = match round % 5 {
        0 => channel.read(&mut buffer),
        1 => channel.write(&buffer),
        2 => channel.readable(),
        3 => channel.writable(LARGEST),
        _ => channel.check_peer().map(|_| 0),
    };
    match result {
        Ok(count) => assert!(count <= LARGEST, "{count} bytes are more than a ring has"),
        Err(ChannelError::Broken { .. } | ChannelError::Closed { .. } | ChannelError::Gone { .. }) => {}
        Err(other) => unreachable!("{other}"),
    }
}

/// Nobody that a XenStore has to do with.
struct Nobody;

impl Domains for Nobody {
    fn introduce(&mut self, _: u16, _: u32) -> Result<(), StoreError> {
        Ok(())
    }

    fn release(&mut self, _: u16) {}
}

/// A store, asked by two domains by turns; whatever they send, the domain in control is served and finds what it wrote.
pub(crate) fn xenstore(input: &[u8]) {
    const CONTROL: u16 = 6;
    /// What a domain sends at a time: messages are cut somewhere.
    const PIECE: usize = 61;
    let mut store = Store::new(CONTROL);
    let requests = [
        (Kind::Introduce, &b"7\x000\x002\0"[..]),
        (Kind::Introduce, b"8\x000\x002\0"),
        (Kind::Write, b"/kept\0safe"),
    ];
    for (kind, payload) in requests {
        assert_eq!(ask(&mut store, CONTROL, kind, payload).as_deref(), Some(&b"OK\0"[..]));
    }
    for (domid, half) in [7, 8].into_iter().zip(input.chunks(input.len().div_ceil(2).max(1))) {
        for piece in half.chunks(PIECE) {
            let room = store.room(domid);
            store.receive(&mut Nobody, domid, piece.get(..room).unwrap_or(piece));
            let waiting = store.waiting(domid).len();
            store.sent(domid, waiting / 2);
        }
    }
    assert_eq!(ask(&mut store, CONTROL, Kind::Read, b"/kept\0").as_deref(), Some(&b"safe"[..]));
}

/// Asks, and gives the answer's payload, which the message that comes back has to hold whole.
fn ask(store: &mut Store, domid: u16, kind: Kind, payload: &[u8]) -> Option<Vec<u8>> {
    store.receive(&mut Nobody, domid, &Message::new(kind, 1, 0, payload.to_vec()).encode());
    let mut reader = Reader::default();
    let bytes = store.waiting(domid).to_vec();
    store.sent(domid, bytes.len());
    reader.push(bytes.get(..reader.room()).unwrap_or(&bytes));
    let mut messages = std::iter::from_fn(|| reader.take_message().ok().flatten());
    messages.find(|message| message.header.kind != Kind::WatchEvent).map(|message| message.payload)
}

/// Requests of every kind, one behind the other.
pub(crate) fn store_requests() -> Vec<Vec<u8>> {
    let payloads: [&[u8]; 5] = [b"data\0", b"data\0value", b"/local\0token\0", b"T\0", b""];
    let kinds = (1..24).map(Kind::from_raw);
    let every: Vec<_> = kinds
        .flat_map(|kind| payloads.map(|payload| Message::new(kind, 9, 0, payload.to_vec()).encode()))
        .collect();
    vec![every.concat(), Message::new(Kind::Write, 1, 0, b"data/a\0b".to_vec()).encode()]
}

/// A page that another domain has too.
struct Page(RefCell<Vec<u8>>);

impl SharedMemory for &Page {
    fn size(&self) -> usize {
        self.0.borrow().len()
    }

    fn read(&self, offset: usize, buffer: &mut [u8]) {
        let page = self.0.borrow();
        buffer.copy_from_slice(&page[offset..offset + buffer.len()]);
    }

    fn write(&self, offset: usize, bytes: &[u8]) {
        let mut page = self.0.borrow_mut();
        page[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    fn load_u32(&self, offset: usize) -> u32 {
        let mut word = [0; 4];
        self.read(offset, &mut word);
        u32::from_le_bytes(word)
    }

    fn store_u32(&self, offset: usize, value: u32) {
        self.write(offset, &value.to_le_bytes());
    }

    fn compare_exchange_u32(&self, offset: usize, current: u32, new: u32) -> Result<u32, u32> {
        let found = self.load_u32(offset);
        if found == current {
            self.store_u32(offset, new);
            return Ok(found);
        }
        Err(found)
    }
}

/// Both ends of a XenStore's ring, in a page that changes before every call.
pub(crate) fn store_ring(input: &[u8]) {
    const RING: usize = 1024;
    let page = Page(RefCell::new(vec![0; 4096]));
    let ends = [Ring::new(&page, Side::Client), Ring::new(&page, Side::Server)];
    let mut buffer = [0; 2000];
    for (offset, word) in writes(input) {
        for end in &ends {
            (&&page).store_u32(offset, word);
            for moved in [end.read(&mut buffer), end.write(&buffer)] {
                assert!(moved.is_err() || moved.is_ok_and(|count| count <= RING), "{moved:?}");
            }
        }
    }
}
