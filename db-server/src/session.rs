//! A conversation with one controller.
//!
//! What it may take of db-server is bounded: one message that is being received, answers up to [`MAX_OUT`] and one more, and
//! the time that it may leave something half said.

use alloc::vec::Vec;

use grant_table::{GrantTable, Shareable};
use hypercall::{RawHypercall, SharedMemory};
use protocols::message::{self, Frame, Message, MessageError, Stream};
use thiserror::Error;
use vchan::{ChannelError, Peer, Server};
use xen_abi::Port;

/// Bytes that are taken from a channel at a time.
const READ: usize = 16 << 10;

/// Answers that wait in bytes; a controller that does not take them is not heard until it does.
const MAX_OUT: usize = 64 << 10;

/// How long a controller may leave a message half sent, or answers unread: 10 s, in nanoseconds.
pub(crate) const PATIENCE: u64 = 10_000_000_000;

/// How often is looked whether a controller is still there: once a second, in nanoseconds. Its end is an event; that it has a new
/// kernel, or has let go of its channel for another reason, is not.
const CHECK: u64 = 1_000_000_000;

/// How often a channel that was closed is tried to be made new: 20 ms, in nanoseconds.
const RENEWAL: u64 = 20_000_000;

/// Why a conversation ends that its controller has not ended.
#[derive(Debug, Error)]
pub(crate) enum Fault {
    /// It is gone, or its channel broke.
    #[error("{0}")]
    Channel(#[from] ChannelError),
    /// What it sent is no message.
    #[error("{0}")]
    Garbage(#[from] MessageError),
    /// It stopped in the middle of a message.
    #[error("a message was begun and not continued for {} s", PATIENCE / 1_000_000_000)]
    Stalled,
    /// It does not read.
    #[error("{waiting} bytes of answers were not taken for {} s", PATIENCE / 1_000_000_000)]
    Deaf {
        /// Bytes that wait.
        waiting: usize,
    },
}

impl Fault {
    /// The word for it in the log.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Channel(ChannelError::Broken { .. }) => "broken-channel",
            Self::Channel(_) => "gone",
            Self::Garbage(_) => "garbage",
            Self::Stalled => "stalled",
            Self::Deaf { .. } => "deaf",
        }
    }

    /// Whether the controller has simply left.
    pub(crate) fn is_farewell(&self) -> bool {
        matches!(self, Self::Channel(ChannelError::Closed { .. }))
    }
}

/// What a channel is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It is there for its controller to connect to, or to use.
    Open,
    /// It was closed, and is made new when the controller has let go of it; the time is that of the next attempt.
    Closed(u64),
}

/// A conversation with a controller, over a channel that outlives it.
pub(crate) struct Session<'x, H: RawHypercall, P> {
    channel: Server<'x, H, P>,
    state: State,
    stream: Stream,
    /// Bytes that have arrived behind the last message.
    rest: Vec<u8>,
    /// Answers that are not sent yet.
    out: Vec<u8>,
    /// When there was progress last: in receiving, and in sending.
    heard: u64,
    taken: u64,
    /// When to look again whether the controller is still there.
    check: u64,
    /// Whether the controller has connected since the channel was new.
    is_used: bool,
}

impl<'x, H: RawHypercall, P: SharedMemory + Shareable> Session<'x, H, P> {
    /// Nothing was said yet.
    pub(crate) fn new(channel: Server<'x, H, P>) -> Self {
        Self {
            channel,
            state: State::Open,
            stream: Stream::new(),
            rest: Vec::new(),
            out: Vec::new(),
            heard: 0,
            taken: 0,
            check: 0,
            is_used: false,
        }
    }

    /// The own port.
    pub(crate) fn port(&self) -> Port {
        self.channel.port()
    }

    /// Whether there is a channel to talk by.
    pub(crate) fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// When there is something to do although the controller does nothing.
    pub(crate) fn deadline(&self) -> Option<u64> {
        match self.state {
            State::Closed(retry) => Some(retry),
            State::Open if !self.is_used => None,
            State::Open => {
                let stalled = (!self.stream.is_between_messages()).then_some(self.heard);
                let deaf = (!self.out.is_empty()).then_some(self.taken);
                let limits = stalled.into_iter().chain(deaf).map(|since| since.saturating_add(PATIENCE));
                limits.chain([self.check]).min()
            }
        }
    }

    /// The next message, if it is there as a whole: without one, the channel was empty, and whatever comes is announced by an event.
    /// Nothing is received while too many answers wait.
    pub(crate) fn receive(&mut self, now: u64) -> Result<Option<Frame>, Fault> {
        // A message ends this loop before long, and a bad one as well: none is longer than a few pieces.
        while self.out.len() <= MAX_OUT {
            if self.rest.is_empty() && !self.fill(now)? {
                break;
            }
            let mut bytes = self.rest.as_slice();
            let frame = self.stream.take(&mut bytes)?;
            let taken = self.rest.len().saturating_sub(bytes.len());
            self.rest.drain(..taken);
            if frame.is_some() {
                return Ok(frame);
            }
        }
        Ok(None)
    }

    /// Takes what has come, at most [`READ`] bytes; says whether that was anything.
    fn fill(&mut self, now: u64) -> Result<bool, Fault> {
        let ready = self.channel.readable()?.min(READ);
        if ready == 0 {
            return Ok(false);
        }
        let mut buffer = alloc::vec![0; ready];
        let count = self.channel.read(&mut buffer)?;
        buffer.truncate(count);
        (self.rest, self.heard) = (buffer, now);
        Ok(count > 0)
    }

    /// Whether more may be had by [`receive`](Self::receive) at once.
    pub(crate) fn has_more(&self) -> bool {
        !self.rest.is_empty() && self.out.len() <= MAX_OUT
    }

    /// Adds a message to those that are to be sent. One that cannot be encoded would be a defect of db-server's; it is logged.
    pub(crate) fn send<M: Message>(&mut self, id: u32, message: &M, now: u64) {
        match message::encode(id, message) {
            Ok(bytes) => {
                if self.out.is_empty() {
                    self.taken = now;
                }
                self.out.extend_from_slice(&bytes);
            }
            Err(error) => log::error!("event=unsaid request={id}: {error}"),
        }
    }

    /// Sends what there is room for.
    pub(crate) fn flush(&mut self, now: u64) -> Result<(), Fault> {
        while !self.out.is_empty() {
            let count = self.channel.write(&self.out)?;
            if count == 0 {
                break;
            }
            self.out.drain(..count);
            self.taken = now;
        }
        Ok(())
    }

    /// Finds out whether the controller has been silent, or deaf, for too long, or is gone.
    pub(crate) fn check(&mut self, now: u64) -> Result<(), Fault> {
        if !self.is_used {
            // From when it has connected, not from when it has said something: it may die in between.
            if self.channel.peer_state()? == Peer::Awaited {
                return Ok(());
            }
            (self.is_used, self.check) = (true, now.saturating_add(CHECK));
        }
        let is_late = |since: u64| now.saturating_sub(since) >= PATIENCE;
        if !self.out.is_empty() && is_late(self.taken) {
            return Err(Fault::Deaf { waiting: self.out.len() });
        }
        // Bytes that wait here because answers wait are not late.
        let is_heard = self.rest.is_empty() && self.out.len() <= MAX_OUT;
        if is_heard && !self.stream.is_between_messages() && is_late(self.heard) {
            return Err(Fault::Stalled);
        }
        if now >= self.check {
            self.check = now.saturating_add(CHECK);
            // What a controller that is gone has sent before is still heard: reading tells of its end.
            if self.channel.check_peer()? == Peer::Gone {
                self.heard = now;
            }
        }
        Ok(())
    }

    /// Has the next [`check`](Self::check) ask whether the controller is there.
    pub(crate) fn suspect(&mut self) {
        self.check = 0;
    }

    /// Ends the conversation: what can be sent at once of what waits is sent, and the channel closed. It is made new as soon as the
    /// controller has let go of it.
    pub(crate) fn hang_up(&mut self, now: u64) {
        // The peer may be gone, or the reason why this happens.
        let _ = self.flush(now);
        let _ = self.channel.hang_up();
        (self.stream, self.rest, self.out) = (Stream::new(), Vec::new(), Vec::new());
        self.state = State::Closed(now);
        self.is_used = false;
    }

    /// Makes the channel new, if it was closed and the controller has let go of it; says whether that has happened now.
    pub(crate) fn renew<S: SharedMemory>(&mut self, table: &mut GrantTable<S>, now: u64) -> bool {
        match self.state {
            State::Closed(retry) if now >= retry => {}
            _ => return false,
        }
        self.state = State::Closed(now.saturating_add(RENEWAL));
        let reference = self.channel.reference();
        match self.channel.renew(table) {
            Ok(true) => {}
            Ok(false) => return false,
            Err(error) => {
                log::error!("event=channel-lost {error}");
                self.state = State::Closed(u64::MAX);
                return false;
            }
        }
        if self.channel.reference() != reference {
            log::error!("event=channel-lost: its grant reference is another than the controller was told");
            self.state = State::Closed(u64::MAX);
            return false;
        }
        self.state = State::Open;
        true
    }
}
