//! What messages travel over.

use core::fmt;

use hypercall::RawHypercall;
use vchan::{Channel, ChannelError, Memory};

/// A stream of bytes in each direction. Nothing blocks.
pub trait Transport {
    /// Why the stream cannot be used any more.
    type Error: fmt::Display;

    /// Takes what has come, at most `buffer.len()` bytes; 0 when there is nothing yet. The end of the stream is an error.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Self::Error>;

    /// Gives as much of `bytes` as there is room for, and says how much that was; 0 when there is none yet.
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Self::Error>;
}

impl<H: RawHypercall, M: Memory> Transport for Channel<'_, H, M> {
    type Error = ChannelError;

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ChannelError> {
        Self::read(self, buffer)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<usize, ChannelError> {
        Self::write(self, bytes)
    }
}
