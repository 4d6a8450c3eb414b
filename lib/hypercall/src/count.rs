//! Counting calls: cheap enough to be always on, exact enough to be held in a test.

use core::cell::Cell;
use core::fmt;

use xen_abi::number::HypercallNumber;

/// How often each hypercall was made.
pub struct CallCounts {
    counts: [Cell<u64>; HypercallNumber::COUNT],
}

impl CallCounts {
    /// All zero.
    pub(crate) const fn new() -> Self {
        Self { counts: [const { Cell::new(0) }; HypercallNumber::COUNT] }
    }

    /// Counts one call.
    pub(crate) fn record(&self, number: HypercallNumber) {
        if let Some(count) = self.counts.get(number.raw() as usize) {
            count.set(count.get().wrapping_add(1));
        }
    }

    /// How often `number` was called.
    pub fn of(&self, number: HypercallNumber) -> u64 {
        self.counts.get(number.raw() as usize).map_or(0, Cell::get)
    }

    /// How many hypercalls were made in all.
    pub fn total(&self) -> u64 {
        self.counts.iter().map(Cell::get).sum()
    }
}

impl fmt::Debug for CallCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CallCounts(total {})", self.total())
    }
}
