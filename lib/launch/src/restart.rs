//! When a VM that ended comes back.

use protocols::Life;
use xen_abi::DomId;

use crate::PlannedVm;

/// A run of this length ends a row of restarts: 60 s, in nanoseconds. Who lives so long did not fail at its start.
const LONG_RUN: u64 = 60_000_000_000;

/// Where the doubling of delays stops: 60 s, in nanoseconds. A longer first delay stays as it is.
const LONGEST_DELAY: u64 = 60_000_000_000;

/// How long a restart that is due waits for the memory and the identifier of the domain before: 2 s, in nanoseconds. Another
/// domain may hold on to a page of it for ever.
const PATIENCE: u64 = 2_000_000_000;

/// How long until the domain before is looked at again: 10 ms, in nanoseconds.
const LOOK_AGAIN: u64 = 10_000_000;

/// The restarts of a VM in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Row {
    restarts: u32,
}

impl Row {
    /// Counts one more restart, of a VM that ran for `ran` nanoseconds, and says how long to wait before it, in nanoseconds;
    /// `None` when the VM has had all its restarts.
    pub(crate) fn count(&mut self, life: &Life, ran: u64) -> Option<u64> {
        if ran >= LONG_RUN {
            self.restarts = 0;
        }
        if self.restarts >= life.restart_limit {
            return None;
        }
        let first = u64::from(life.restart_delay_ms).saturating_mul(1_000_000);
        let doubled =
            1_u64.checked_shl(self.restarts).map_or(u64::MAX, |factor| first.saturating_mul(factor));
        self.restarts += 1;
        Some(if first == 0 { 0 } else { doubled.min(LONGEST_DELAY.max(first)) })
    }

    /// How many there were.
    pub(crate) fn restarts(self) -> u32 {
        self.restarts
    }
}

/// A VM that will be built again.
pub(crate) struct Waiting<'p> {
    pub(crate) vm: &'p PlannedVm,
    pub(crate) row: Row,
    /// The domain it was; `None` when that is gone, or was never complete.
    before: Option<DomId>,
    /// When to act.
    due: u64,
    /// Until when the domain before is waited for.
    patience: u64,
}

impl<'p> Waiting<'p> {
    /// A restart of `vm` that is due at the system time `due`, in nanoseconds.
    pub(crate) fn new(vm: &'p PlannedVm, row: Row, before: Option<DomId>, due: u64) -> Self {
        Self { vm, row, before, due, patience: due.saturating_add(PATIENCE) }
    }

    /// When something is to be done about it.
    pub(crate) fn due(&self) -> u64 {
        self.due
    }

    /// Whether the VM can be built now. If not, [`due`](Self::due) says when to ask again.
    ///
    /// A domain that was destroyed has its identifier, and the last of its memory, until Xen is done with it.
    pub(crate) fn is_ready(&mut self, now: u64, is_gone: impl FnOnce(DomId) -> bool) -> bool {
        if now < self.due {
            return false;
        }
        let waits = now < self.patience && self.before.is_some_and(|domid| !is_gone(domid));
        if waits {
            self.due = now.saturating_add(LOOK_AGAIN);
        }
        !waits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    /// The delays of restarts in a row, in milliseconds.
    fn delays(restart_delay_ms: u32, restart_limit: u32) -> Vec<u64> {
        let life = Life { restart_delay_ms, restart_limit, ..Life::default() };
        let mut row = Row::default();
        core::iter::from_fn(|| row.count(&life, 0)).map(|delay| delay / 1_000_000).collect()
    }

    #[test]
    fn delays_double_up_to_a_minute_until_the_limit() {
        assert_eq!(delays(1000, 8), [1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000]);
        assert_eq!(delays(0, 3), [0, 0, 0]);
        assert_eq!(delays(3_600_000, 2), [3_600_000, 3_600_000]);
        assert_eq!(delays(1, 100).last(), Some(&60000));
    }

    #[test]
    fn a_long_run_begins_a_new_row() {
        let life = Life { restart_limit: 2, ..Life::default() };
        let mut row = Row::default();
        assert_eq!(row.count(&life, 0), Some(1_000_000_000));
        assert_eq!(row.count(&life, LONG_RUN - 1), Some(2_000_000_000));
        assert_eq!(row.count(&life, LONG_RUN - 1), None);
        assert_eq!(row.count(&life, LONG_RUN), Some(1_000_000_000));
        assert_eq!(row.restarts(), 1);
    }
}
