//! The bitmaps in the shared info page that say which ports are pending and which are masked (two-level interface).

use core::sync::atomic::{AtomicU64, Ordering};

use xen_abi::Port;
use xen_abi::shared_info::EVENT_WORDS;

/// The ports whose bit is set in `pending` and not in `mask`, lowest first.
///
/// Bit b of word w stands for port 64·w + b.
pub fn pending_ports(
    pending: impl IntoIterator<Item = u64>,
    mask: impl IntoIterator<Item = u64>,
) -> impl Iterator<Item = Port> {
    (0_u32..).step_by(64).zip(pending.into_iter().zip(mask)).flat_map(|(base, (pending, mask))| {
        SetBits(pending & !mask).map(move |bit| Port::new(base.saturating_add(bit)))
    })
}

/// The numbers of the bits that are set, lowest first.
struct SetBits(u64);

impl Iterator for SetBits {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        if self.0 == 0 {
            return None;
        }
        let lowest = self.0.trailing_zeros();
        self.0 &= self.0.wrapping_sub(1);
        Some(lowest)
    }
}

/// The event bitmaps of the calling domain, which Xen sets bits in at any time.
#[derive(Clone, Copy)]
pub struct EventWords<'a> {
    pending: &'a [AtomicU64; EVENT_WORDS],
    mask: &'a [AtomicU64; EVENT_WORDS],
}

impl<'a> EventWords<'a> {
    /// Over the fields `evtchn_pending` and `evtchn_mask` of the mapped shared info page.
    pub const fn new(pending: &'a [AtomicU64; EVENT_WORDS], mask: &'a [AtomicU64; EVENT_WORDS]) -> Self {
        Self { pending, mask }
    }

    /// The bit of `port` in `words`; `None` for a port beyond the 4096 of this interface.
    fn bit(words: &[AtomicU64; EVENT_WORDS], port: Port) -> Option<(&AtomicU64, u64)> {
        let index = usize::try_from(port.raw() / 64).ok()?;
        Some((words.get(index)?, 1 << (port.raw() % 64)))
    }

    /// Whether `port` is pending.
    pub fn is_pending(&self, port: Port) -> bool {
        Self::bit(self.pending, port).is_some_and(|(word, bit)| word.load(Ordering::Acquire) & bit != 0)
    }

    /// Clears `port` if it is pending, and says whether it was.
    ///
    /// Clear first, then look at what the event announces: the other way round loses an event in between.
    pub fn take(&self, port: Port) -> bool {
        Self::bit(self.pending, port)
            .is_some_and(|(word, bit)| word.fetch_and(!bit, Ordering::AcqRel) & bit != 0)
    }

    /// Masks or unmasks `port`. A masked port still becomes pending, and still ends a poll; it just causes no upcall.
    pub fn set_masked(&self, port: Port, masked: bool) {
        if let Some((word, bit)) = Self::bit(self.mask, port) {
            if masked {
                word.fetch_or(bit, Ordering::AcqRel);
            } else {
                word.fetch_and(!bit, Ordering::AcqRel);
            }
        }
    }

    /// Ports that are pending and not masked, lowest first; each word is read once.
    pub fn pending(&self) -> impl Iterator<Item = Port> + use<'a> {
        pending_ports(self.pending.iter().map(load), self.mask.iter().map(load))
    }
}

fn load(word: &AtomicU64) -> u64 {
    word.load(Ordering::Acquire)
}

impl core::fmt::Debug for EventWords<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_list().entries(self.pending()).finish()
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::collections::BTreeSet;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    fn zero() -> [AtomicU64; EVENT_WORDS] {
        [const { AtomicU64::new(0) }; EVENT_WORDS]
    }

    #[test]
    fn first_and_last_port_are_found() {
        let mut pending = [0; EVENT_WORDS];
        pending[0] = 1 << 1;
        pending[EVENT_WORDS - 1] = 1 << 63;
        let found: Vec<_> = pending_ports(pending, [0; EVENT_WORDS]).collect();
        assert_eq!(found, [Port::new(1), Port::new(4095)]);
    }

    #[test]
    fn a_masked_port_is_not_listed_but_can_be_taken() {
        let (pending, mask) = (zero(), zero());
        let words = EventWords::new(&pending, &mask);
        pending[1].store(1 << 3, Ordering::Relaxed);
        words.set_masked(Port::new(67), true);
        assert_eq!(words.pending().count(), 0);
        assert!(words.is_pending(Port::new(67)));
        assert!(words.take(Port::new(67)));
        assert!(!words.take(Port::new(67)));
    }

    #[test]
    fn taking_one_port_leaves_its_neighbours() {
        let (pending, mask) = (zero(), zero());
        let words = EventWords::new(&pending, &mask);
        pending[0].store(0b1110, Ordering::Relaxed);
        assert!(words.take(Port::new(2)));
        assert_eq!(words.pending().collect::<Vec<_>>(), [Port::new(1), Port::new(3)]);
    }

    #[test]
    fn a_port_beyond_the_bitmap_is_never_pending() {
        let (pending, mask) = (zero(), zero());
        let words = EventWords::new(&pending, &mask);
        assert!(!words.is_pending(Port::new(4096)));
        assert!(!words.take(Port::new(u32::MAX)));
        words.set_masked(Port::new(4096), true);
    }

    proptest! {
        #[test]
        fn the_scan_agrees_with_sets(
            pending in prop::collection::btree_set(0_u32..4096, 0..80),
            mask in prop::collection::btree_set(0_u32..4096, 0..80),
        ) {
            let words = |set: &BTreeSet<u32>| {
                let mut words = [0_u64; EVENT_WORDS];
                for port in set {
                    words[*port as usize / 64] |= 1 << (port % 64);
                }
                words
            };
            let found: Vec<u32> = pending_ports(words(&pending), words(&mask)).map(Port::raw).collect();
            let expected: Vec<u32> = pending.difference(&mask).copied().collect();
            prop_assert_eq!(found, expected);
        }
    }
}
