//! One direction of a channel: the arithmetic of indices, and copying to and from a ring.
//!
//! Indices run freely and wrap at 2^32; the place in the ring is the index modulo its size. Of the two indices of a ring one is
//! the peer's: what was last seen of it is kept, so that one that moves backwards is noticed.

use hypercall::SharedMemory;
use xen_abi::PAGE_SIZE;

use crate::layout::{Indices, Order, Place};
use crate::memory::Memory;

/// An index of the peer that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OutOfRange {
    pub(crate) index: u32,
    pub(crate) before: u32,
    pub(crate) limit: u32,
}

/// A ring as one of its two users sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stream {
    pub(crate) indices: Indices,
    place: Place,
    size: u32,
    /// The own index, which is what counts; what is in the shared page is a copy for the peer.
    own: u32,
    /// The peer's index when it was last looked at.
    peers: u32,
}

impl Stream {
    /// A ring to write to, of which `produced` is the own index and `consumed` the peer's.
    pub(crate) fn to_write(
        indices: Indices,
        place: Place,
        order: Order,
        produced: u32,
        consumed: u32,
    ) -> Result<Self, OutOfRange> {
        let full = produced.wrapping_sub(order.bytes());
        let mut stream = Self { indices, place, size: order.bytes(), own: produced, peers: full };
        stream.room(consumed)?;
        Ok(stream)
    }

    /// A ring to read from, of which `consumed` is the own index and `produced` the peer's.
    pub(crate) fn to_read(
        indices: Indices,
        place: Place,
        order: Order,
        consumed: u32,
        produced: u32,
    ) -> Result<Self, OutOfRange> {
        let mut stream = Self { indices, place, size: order.bytes(), own: consumed, peers: consumed };
        stream.filled(produced)?;
        Ok(stream)
    }

    /// The own index.
    pub(crate) fn own(&self) -> u32 {
        self.own
    }

    /// Takes note of the peer's consumer index; gives back how many bytes can be written.
    pub(crate) fn room(&mut self, consumer: u32) -> Result<u32, OutOfRange> {
        self.advance_peer(consumer, self.own)?;
        let filled = self.own.wrapping_sub(self.peers);
        Ok(self.size.saturating_sub(filled))
    }

    /// Takes note of the peer's producer index; gives back how many bytes can be read.
    pub(crate) fn filled(&mut self, producer: u32) -> Result<u32, OutOfRange> {
        self.advance_peer(producer, self.own.wrapping_add(self.size))?;
        Ok(self.peers.wrapping_sub(self.own))
    }

    /// Moves what is known of the peer's index forward to `index`, which is at most `limit`.
    fn advance_peer(&mut self, index: u32, limit: u32) -> Result<(), OutOfRange> {
        let before = self.peers;
        if index.wrapping_sub(before) > limit.wrapping_sub(before) {
            return Err(OutOfRange { index, before, limit });
        }
        self.peers = index;
        Ok(())
    }

    /// Copies `bytes` into the ring and moves the own index; there has to be room for them.
    pub(crate) fn fill<M: Memory>(&mut self, memory: &M, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let Some((page, offset, run)) = self.run(memory) else { return };
            let (now, later) = rest.split_at(run.min(rest.len()));
            page.write(offset, now);
            self.own = self.own.wrapping_add(count(now));
            rest = later;
        }
    }

    /// Copies out of the ring and moves the own index; there have to be as many bytes.
    pub(crate) fn drain<M: Memory>(&mut self, memory: &M, buffer: &mut [u8]) {
        let mut rest = buffer;
        while !rest.is_empty() {
            let Some((page, offset, run)) = self.run(memory) else { return };
            let (now, later) = rest.split_at_mut(run.min(rest.len()));
            page.read(offset, now);
            self.own = self.own.wrapping_add(count(now));
            rest = later;
        }
    }

    /// Where the own index points: the page, the offset in it, and how many bytes of the ring follow there, at least one.
    fn run<'m, M: Memory>(&self, memory: &'m M) -> Option<(&'m M::Page, usize, usize)> {
        // The size is a power of two.
        let at = (self.own & self.size.wrapping_sub(1)) as usize;
        let left = (self.size as usize).wrapping_sub(at);
        match self.place {
            Place::Within(first) => Some((memory.page(0)?, first.checked_add(at)?, left)),
            Place::Pages(first) => {
                let offset = at % PAGE_SIZE;
                let page = memory.page(first.checked_add(at / PAGE_SIZE)?)?;
                Some((page, offset, left.min(PAGE_SIZE.wrapping_sub(offset))))
            }
        }
    }
}

/// The length of a part of a ring, which is at most 2^20.
fn count(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use proptest::prelude::*;

    use super::*;
    use crate::layout::LEFT;

    fn writer(own: u32, peers: u32) -> Stream {
        Stream::to_write(LEFT, Place::Within(1024), Order::SMALLEST, own, peers).unwrap()
    }

    fn reader(own: u32, peers: u32) -> Stream {
        Stream::to_read(LEFT, Place::Within(1024), Order::SMALLEST, own, peers).unwrap()
    }

    #[test]
    fn room_and_filling_add_up() {
        assert_eq!(writer(0, 0).room(0), Ok(1024));
        assert_eq!(writer(1024, 0).room(0), Ok(0));
        assert_eq!(writer(1024, 0).room(1000), Ok(1000));
        assert_eq!(reader(0, 0).filled(0), Ok(0));
        assert_eq!(reader(0, 0).filled(1024), Ok(1024));
    }

    #[test]
    fn indices_wrap() {
        assert_eq!(writer(5, u32::MAX - 10).room(2), Ok(1021));
        assert_eq!(reader(u32::MAX, u32::MAX).filled(9), Ok(10));
    }

    #[test]
    fn an_index_that_moves_backwards_or_too_far_is_found() {
        assert!(writer(100, 50).room(49).is_err());
        assert!(writer(100, 50).room(101).is_err());
        assert!(reader(100, 110).filled(109).is_err());
        assert!(reader(100, 110).filled(100 + 1025).is_err());
        let error = writer(u32::MAX, 7_u32.wrapping_neg()).room(1).unwrap_err();
        assert_eq!(error, OutOfRange { index: 1, before: 7_u32.wrapping_neg(), limit: u32::MAX });
    }

    #[test]
    fn a_ring_that_is_too_full_from_the_start_is_refused() {
        let place = Place::Within(1024);
        assert!(Stream::to_write(LEFT, place, Order::SMALLEST, 1025, 0).is_err());
        assert!(Stream::to_write(LEFT, place, Order::SMALLEST, 0, 1).is_err());
        assert!(Stream::to_read(LEFT, place, Order::SMALLEST, 0, 1025).is_err());
        assert!(Stream::to_read(LEFT, place, Order::SMALLEST, 1, 0).is_err());
    }

    proptest! {
        #[test]
        fn no_index_gives_more_than_the_ring_has(own: u32, lag in 0_u32..=1024, index: u32) {
            if let Ok(room) = writer(own, own.wrapping_sub(lag)).room(index) {
                prop_assert!(room <= 1024);
                prop_assert_eq!(room.wrapping_add(own.wrapping_sub(index)), 1024);
            }
            if let Ok(filled) = reader(own, own.wrapping_add(lag)).filled(index) {
                prop_assert!((lag..=1024).contains(&filled));
            }
        }
    }
}
