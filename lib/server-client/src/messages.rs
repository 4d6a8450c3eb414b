//! Messages over a stream.

use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;

use protocols::message::{self, Frame, Message, MessageError, Stream};

use crate::{MessagesError, Transport};

/// The most bytes that wait to be sent: a few of the longest messages.
pub const SEND_LIMIT: usize = 512 << 10;

/// Bytes read at once.
const PIECE: usize = 4096;

/// One end of a conversation in messages.
#[derive(Debug, Default)]
pub struct Messages {
    received: Stream,
    /// Bytes that came and are no part of a message that was taken yet: at most [`PIECE`].
    pending: Vec<u8>,
    outgoing: VecDeque<u8>,
}

impl Messages {
    /// Queues a message.
    pub fn send<M: Message>(&mut self, id: u32, message: &M) -> Result<(), MessageError> {
        self.outgoing.extend(message::encode(id, message)?);
        Ok(())
    }

    /// Bytes that wait to be sent.
    pub fn unsent(&self) -> usize {
        self.outgoing.len()
    }

    /// Gives the stream as much as it takes; says whether that was anything.
    pub fn flush<T: Transport>(&mut self, transport: &mut T) -> Result<bool, MessagesError<T::Error>> {
        let mut moved = false;
        while !self.outgoing.is_empty() {
            let (front, _) = self.outgoing.as_slices();
            let count = transport.write(front).map_err(MessagesError::Transport)?;
            if count == 0 {
                break;
            }
            self.outgoing.drain(..count.min(self.outgoing.len()));
            moved = true;
        }
        let waiting = self.outgoing.len();
        if waiting > SEND_LIMIT {
            return Err(MessagesError::Stalled { waiting, limit: SEND_LIMIT });
        }
        Ok(moved)
    }

    /// The next message that is complete; `None` when there is none yet. No more is read than that takes, so that a peer that
    /// sends without pause fills its ring and no memory of this side.
    pub fn receive<T: Transport>(
        &mut self,
        transport: &mut T,
    ) -> Result<Option<Frame>, MessagesError<T::Error>> {
        loop {
            let mut rest = self.pending.as_slice();
            let frame = self.received.take(&mut rest)?;
            let taken = self.pending.len().saturating_sub(rest.len());
            self.pending.drain(..taken);
            if frame.is_some() {
                return Ok(frame);
            }
            let mut buffer = vec![0; PIECE];
            let count = transport.read(&mut buffer).map_err(MessagesError::Transport)?;
            if count == 0 {
                return Ok(None);
            }
            buffer.truncate(count);
            self.pending.append(&mut buffer);
        }
    }
}
