//! What both ends do.

use event_channel::{EventWords, LocalPort};
use hypercall::{CallError, RawHypercall, SharedMemory, Xen};
use xen_abi::event_channel::PortState;
use xen_abi::{DomId, Port};

use crate::layout::{
    LEFT, LIVE_AWAITED, LIVE_CLOSED, LIVE_OPEN, NOTIFY_READ, NOTIFY_WRITE, RIGHT, STATE, Sizes,
};
use crate::memory::Memory;
use crate::stream::{OutOfRange, Stream};
use crate::{ChannelError, Lie};

/// How often [`Channel::wait`] asks Xen whether the peer is still there: every 100 ms, in nanoseconds. No event tells that a
/// domain was destroyed.
pub const CHECK_INTERVAL: u64 = 100_000_000;

/// How often the word of live and notify bytes is tried to be changed. An honest peer changes it once for each read or write, so
/// that one attempt in a few fails at worst.
const ATTEMPTS: usize = 1000;

/// Which end this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Server,
    Client,
}

impl Role {
    /// Places of the two live bytes in the word at [`STATE`]: the own, then the peer's.
    fn live_bytes(self) -> (usize, usize) {
        match self {
            Self::Server => (1, 0),
            Self::Client => (0, 1),
        }
    }

    /// Places of the two notify bytes: the one that tells the peer when to notify, then the one that the peer sets.
    fn notify_bytes(self) -> (usize, usize) {
        match self {
            Self::Server => (2, 3),
            Self::Client => (3, 2),
        }
    }
}

/// The state of the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// The client has not connected yet.
    Awaited,
    /// It uses the channel.
    Open,
    /// It has closed the channel.
    Closed,
    /// It is gone without having closed it.
    Gone,
}

/// One end of a channel. [`Server`](crate::Server) and [`Client`](crate::Client) are the two kinds.
pub struct Channel<'x, H: RawHypercall, M> {
    xen: &'x Xen<H>,
    pub(crate) memory: M,
    port: LocalPort<'x, H>,
    role: Role,
    peer: DomId,
    sizes: Sizes,
    writes: Stream,
    reads: Stream,
    /// What ended the channel, if anything did: from then on nothing in the shared pages counts.
    broken: Option<Lie>,
    /// The peer was there and its port is not any more.
    gone: bool,
}

/// What an end is made of.
pub(crate) struct Parts<'x, H: RawHypercall, M> {
    pub(crate) xen: &'x Xen<H>,
    pub(crate) memory: M,
    pub(crate) port: LocalPort<'x, H>,
    pub(crate) role: Role,
    pub(crate) peer: DomId,
    pub(crate) sizes: Sizes,
}

impl<'x, H: RawHypercall, M: Memory> Channel<'x, H, M> {
    /// An end of a channel that goes on where the indices say that `load` gives for their offsets.
    pub(crate) fn new(parts: Parts<'x, H, M>, load: impl Fn(&M, usize) -> u32) -> Result<Self, ChannelError> {
        let Parts { xen, memory, port, role, peer, sizes } = parts;
        let found = streams(role, sizes, |offset| load(&memory, offset));
        let (writes, reads) = found.map_err(|lie| ChannelError::Broken { peer, lie })?;
        Ok(Self { xen, memory, port, role, peer, sizes, writes, reads, broken: None, gone: false })
    }

    /// Forgets the peer and everything that it did: the shared page was filled anew, for another one.
    pub(crate) fn start_again(&mut self) -> Result<(), ChannelError> {
        let (found, peer) = (streams(self.role, self.sizes, |_| 0), self.peer);
        (self.writes, self.reads) = found.map_err(|lie| ChannelError::Broken { peer, lie })?;
        (self.broken, self.gone) = (None, false);
        Ok(())
    }

    /// The other domain.
    pub fn peer(&self) -> DomId {
        self.peer
    }

    /// The own port, to wait for: alone with [`wait`](Self::wait), or together with others.
    pub fn port(&self) -> Port {
        self.port.port()
    }

    /// The sizes of the rings.
    pub fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// How many bytes can be read now. When there are none, the peer is asked to notify once there are.
    ///
    /// The end of the stream is an error: [`Closed`](ChannelError::Closed) or [`Gone`](ChannelError::Gone), after the last byte.
    pub fn readable(&mut self) -> Result<usize, ChannelError> {
        let mut ready = self.filled()?;
        if ready == 0 {
            self.request(NOTIFY_WRITE)?;
            // In this order: a peer that writes and then closes is not taken for one that only closes.
            let peer = self.peer_state()?;
            ready = self.filled()?;
            if ready == 0 {
                self.refuse_ended(peer)?;
            }
        }
        Ok(ready as usize)
    }

    /// How many bytes can be written now. When fewer than `wanted`, the peer is asked to notify once it has read some.
    pub fn writable(&mut self, wanted: usize) -> Result<usize, ChannelError> {
        let peer = self.peer_state()?;
        self.refuse_ended(peer)?;
        let mut room = self.room()? as usize;
        if room < wanted {
            self.request(NOTIFY_READ)?;
            room = self.room()? as usize;
        }
        Ok(room)
    }

    /// Reads what is there, at most `buffer.len()` bytes; 0 when there is nothing yet.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ChannelError> {
        let count = self.readable()?.min(buffer.len());
        let Some(buffer) = buffer.get_mut(..count).filter(|buffer| !buffer.is_empty()) else { return Ok(0) };
        self.reads.drain(&self.memory, buffer);
        self.publish(self.reads.indices.consumer, self.reads.own());
        self.tell(NOTIFY_READ)?;
        Ok(count)
    }

    /// Writes as much of `bytes` as there is room for, and says how much that was; 0 when the ring is full.
    ///
    /// A server may write before its client has connected.
    pub fn write(&mut self, bytes: &[u8]) -> Result<usize, ChannelError> {
        let count = self.writable(bytes.len())?.min(bytes.len());
        let Some(bytes) = bytes.get(..count).filter(|bytes| !bytes.is_empty()) else { return Ok(0) };
        self.writes.fill(&self.memory, bytes);
        self.publish(self.writes.indices.producer, self.writes.own());
        self.tell(NOTIFY_WRITE)?;
        Ok(count)
    }

    /// Whether everything written has been read by the peer.
    pub fn is_drained(&mut self) -> Result<bool, ChannelError> {
        let size = self.written_size();
        Ok(self.writable(size)? == size)
    }

    /// Bytes of the ring that is written.
    fn written_size(&self) -> usize {
        let order = match self.role {
            Role::Server => self.sizes.right,
            Role::Client => self.sizes.left,
        };
        order.bytes() as usize
    }

    /// The state of the other end, as the shared page and what is known of its port tell.
    pub fn peer_state(&mut self) -> Result<Peer, ChannelError> {
        if let Some(lie) = self.broken {
            return Err(ChannelError::Broken { peer: self.peer, lie });
        }
        if self.gone {
            return Ok(Peer::Gone);
        }
        let (_, theirs) = self.role.live_bytes();
        match byte(self.state(), theirs) {
            LIVE_CLOSED => Ok(Peer::Closed),
            LIVE_OPEN => Ok(Peer::Open),
            LIVE_AWAITED if self.role == Role::Server => Ok(Peer::Awaited),
            other => Err(self.break_off(Lie::Live(other))),
        }
    }

    /// Asks Xen whether the peer still holds its end of the port, which a domain that was destroyed does not: one hypercall.
    ///
    /// What such a peer wrote can still be read.
    pub fn check_peer(&mut self) -> Result<Peer, ChannelError> {
        // First the port: a client connects it before it says that it is there.
        let state = self.port.state().map_err(self.call_failed())?;
        let peer = self.peer_state()?;
        if peer == Peer::Open && !matches!(state, PortState::Interdomain { .. }) {
            // It may have closed the channel properly between the two looks.
            let peer = self.peer_state()?;
            self.gone = peer == Peer::Open;
        }
        self.peer_state()
    }

    /// Sleeps until the peer has done something, at most until system time `deadline` (nanoseconds); says whether it has.
    ///
    /// To be called after [`read`](Self::read) has given nothing, or [`write`](Self::write) has taken less than it was given: they ask
    /// the peer to notify then, and not otherwise. Finds out within [`CHECK_INTERVAL`] when the peer is gone; the next read or write tells.
    pub fn wait(
        &mut self,
        words: EventWords<'_>,
        deadline: Option<u64>,
        now: impl Fn() -> u64,
    ) -> Result<bool, ChannelError> {
        let check = now().saturating_add(CHECK_INTERVAL);
        let until = deadline.map_or(check, |deadline| deadline.min(check));
        let port = self.port();
        let woken = event_channel::wait(self.xen, words, &[port], Some(until), now);
        let woken = woken.map_err(self.call_failed())?;
        words.take(port);
        if !woken {
            self.check_peer()?;
        }
        Ok(woken)
    }

    /// Whether the server has not seen a client yet.
    pub(crate) fn is_awaited(&self) -> bool {
        let (own, _) = Role::Client.live_bytes();
        byte(self.state(), own) == LIVE_AWAITED
    }

    /// Says that this end does not use the channel any more, and wakes the peer.
    pub(crate) fn say_closed(&mut self) -> Result<(), ChannelError> {
        let (own, _) = self.role.live_bytes();
        // A peer that changes the word without pause does not keep this byte from being written: it is then written alone.
        if self.update(own, |_| LIVE_CLOSED).is_err()
            && let Some(shared) = self.memory.page(0)
        {
            shared.write(STATE.saturating_add(own), &[LIVE_CLOSED]);
        }
        self.port.notify().map_err(self.call_failed())
    }

    /// Says that this end uses the channel.
    pub(crate) fn say_open(&mut self) -> Result<(), ChannelError> {
        let (own, _) = self.role.live_bytes();
        self.update(own, |_| LIVE_OPEN)?;
        self.request(NOTIFY_WRITE)?;
        self.port.notify().map_err(self.call_failed())
    }

    /// Takes the channel apart.
    pub(crate) fn into_memory(self) -> M {
        self.memory
    }

    fn call_failed(&self) -> impl Fn(CallError) -> ChannelError + use<H, M> {
        let peer = self.peer;
        move |error| ChannelError::Call { peer, error }
    }

    /// Ends the use of the channel because of what the peer wrote.
    fn break_off(&mut self, lie: Lie) -> ChannelError {
        let lie = *self.broken.get_or_insert(lie);
        ChannelError::Broken { peer: self.peer, lie }
    }

    fn refuse_ended(&self, state: Peer) -> Result<(), ChannelError> {
        let peer = self.peer;
        match state {
            Peer::Awaited | Peer::Open => Ok(()),
            Peer::Closed => Err(ChannelError::Closed { peer }),
            Peer::Gone => Err(ChannelError::Gone { peer }),
        }
    }

    /// Bytes that can be read; looks at the peer's index once.
    fn filled(&mut self) -> Result<u32, ChannelError> {
        let index = self.load(self.reads.indices.producer);
        self.unless_broken()?;
        self.reads.filled(index).map_err(|error| self.break_off(producer_lie(error)))
    }

    /// Bytes that can be written; looks at the peer's index once.
    fn room(&mut self) -> Result<u32, ChannelError> {
        let index = self.load(self.writes.indices.consumer);
        self.unless_broken()?;
        self.writes.room(index).map_err(|error| self.break_off(consumer_lie(error)))
    }

    fn unless_broken(&self) -> Result<(), ChannelError> {
        self.broken.map_or(Ok(()), |lie| Err(ChannelError::Broken { peer: self.peer, lie }))
    }

    /// A word of the shared page.
    fn load(&self, offset: usize) -> u32 {
        self.memory.page(0).map_or(0, |shared| shared.load_u32(offset))
    }

    /// Lets the peer see an own index, and with it all bytes before.
    fn publish(&self, offset: usize, index: u32) {
        if let Some(shared) = self.memory.page(0) {
            shared.store_u32(offset, index);
        }
    }

    /// The live and notify bytes.
    fn state(&self) -> [u8; 4] {
        self.load(STATE).to_le_bytes()
    }

    /// Asks the peer to notify when it does what `bit` stands for. Indices have to be looked at again after that: what the peer
    /// did before it saw the request, it does not announce.
    fn request(&mut self, bit: u8) -> Result<(), ChannelError> {
        let (ours, _) = self.role.notify_bytes();
        self.update(ours, |bits| bits | bit).map(|_| ())
    }

    /// Notifies the peer if it has asked to be when what `bit` stands for is done.
    fn tell(&mut self, bit: u8) -> Result<(), ChannelError> {
        let (_, theirs) = self.role.notify_bytes();
        let before = self.update(theirs, |bits| bits & !bit)?;
        if before & bit == 0 { Ok(()) } else { self.port.notify().map_err(self.call_failed()) }
    }

    /// Changes a byte of the state word; gives back what it was.
    ///
    /// The word is exchanged also when the byte stays the same: the exchange keeps what was published before from being seen after
    /// it, which is what makes a request and an index that cross each other be seen by at least one side.
    fn update(&mut self, place: usize, change: impl Fn(u8) -> u8) -> Result<u8, ChannelError> {
        for _ in 0..ATTEMPTS {
            let before = self.state();
            let old = byte(before, place);
            let mut after = before;
            if let Some(byte) = after.get_mut(place) {
                *byte = change(old);
            }
            let Some(shared) = self.memory.page(0) else { return Ok(old) };
            let (before, after) = (u32::from_le_bytes(before), u32::from_le_bytes(after));
            if shared.compare_exchange_u32(STATE, before, after).is_ok() {
                return Ok(old);
            }
        }
        Err(self.break_off(Lie::Restless))
    }
}

/// The ring that is written and the one that is read; `load` gives the indices by their offsets in the shared page.
fn streams(role: Role, sizes: Sizes, load: impl Fn(usize) -> u32) -> Result<(Stream, Stream), Lie> {
    let left = (LEFT, sizes.left_place(), sizes.left);
    let right = (RIGHT, sizes.right_place(), sizes.right);
    let (written, read) = match role {
        Role::Server => (right, left),
        Role::Client => (left, right),
    };
    let (indices, place, order) = written;
    let writes = Stream::to_write(indices, place, order, load(indices.producer), load(indices.consumer));
    let (indices, place, order) = read;
    let reads = Stream::to_read(indices, place, order, load(indices.consumer), load(indices.producer));
    Ok((writes.map_err(consumer_lie)?, reads.map_err(producer_lie)?))
}

fn consumer_lie(OutOfRange { index, before, limit }: OutOfRange) -> Lie {
    Lie::Consumer { index, before, limit }
}

fn producer_lie(OutOfRange { index, before, limit }: OutOfRange) -> Lie {
    Lie::Producer { index, before, limit }
}

/// A byte of a word.
fn byte(word: [u8; 4], place: usize) -> u8 {
    word.get(place).copied().unwrap_or_default()
}

impl<H: RawHypercall, M> core::fmt::Debug for Channel<'_, H, M> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Channel")
            .field("role", &self.role)
            .field("peer", &self.peer)
            .field("port", &self.port)
            .field("sizes", &self.sizes)
            .field("broken", &self.broken)
            .field("gone", &self.gone)
            .finish_non_exhaustive()
    }
}
