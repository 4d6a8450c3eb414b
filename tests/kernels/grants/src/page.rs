//! What stands in a shared page: marks at its beginning, a pattern of its owner in the middle, what the peer wrote at the end.

use alloc::vec;

use hypercall::SharedMemory;
use xen_abi::{DomId, PAGE_SIZE};

/// A word that says that something has happened.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mark {
    /// The owner has filled the page.
    Ready,
    /// The peer has written its part.
    Written,
    /// The owner needs the peer's pages no more.
    Finished,
}

/// What a word holds when something has happened.
const SET: u32 = 0x6772_616e;

/// Where the owner's pattern begins.
const PATTERN: usize = 64;
/// Where the peer writes.
const ANSWER: usize = PAGE_SIZE / 2;

impl Mark {
    const fn offset(self) -> usize {
        size_of::<u32>()
            * match self {
                Self::Ready => 0,
                Self::Written => 1,
                Self::Finished => 2,
            }
    }
}

pub(crate) fn mark(page: &impl SharedMemory, mark: Mark) {
    page.store_u32(mark.offset(), SET);
}

pub(crate) fn is_marked(page: &impl SharedMemory, mark: Mark) -> bool {
    page.load_u32(mark.offset()) == SET
}

/// Bytes that differ from one reader to another, and from one place to another.
fn pattern(seed: DomId, len: usize) -> vec::Vec<u8> {
    let [low, high] = seed.raw().to_le_bytes();
    (0_u8..=u8::MAX).cycle().take(len).map(|byte| byte.wrapping_mul(7) ^ low ^ high.rotate_left(4)).collect()
}

/// Writes the owner's part, for `peer` to read.
pub(crate) fn fill(page: &impl SharedMemory, peer: DomId) {
    page.write(PATTERN, &pattern(peer, ANSWER - PATTERN));
}

/// Whether the owner's part is what `reader` has to find.
pub(crate) fn is_filled(page: &impl SharedMemory, reader: DomId) -> bool {
    holds(page, PATTERN, &pattern(reader, ANSWER - PATTERN))
}

/// Writes the peer's part.
pub(crate) fn answer(page: &impl SharedMemory, owner: DomId) {
    page.write(ANSWER, &pattern(owner, PAGE_SIZE - ANSWER));
}

/// Whether the peer's part is what `owner` has to find.
pub(crate) fn is_answered(page: &impl SharedMemory, owner: DomId) -> bool {
    holds(page, ANSWER, &pattern(owner, PAGE_SIZE - ANSWER))
}

fn holds(page: &impl SharedMemory, offset: usize, expected: &[u8]) -> bool {
    let mut found = vec![0; expected.len()];
    page.read(offset, &mut found);
    found == expected
}
