//! When a VM that ended comes back.

use protocols::Life;

/// A run of this length ends a row of restarts: 60 s, in nanoseconds. Who lives so long did not fail at its start.
const LONG_RUN: u64 = 60_000_000_000;

/// Where the doubling of delays stops: 60 s, in nanoseconds. A longer first delay stays as it is.
const LONGEST_DELAY: u64 = 60_000_000_000;

/// The restarts of a VM in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Row {
    restarts: u32,
}

impl Row {
    /// Counts one more restart, of a VM that ran for `ran` nanoseconds, and says how long to wait before it, in nanoseconds;
    /// `None` when the VM has had all its restarts.
    pub fn count(&mut self, life: &Life, ran: u64) -> Option<u64> {
        if ran >= LONG_RUN {
            self.restarts = 0;
        }
        if self.restarts >= life.restart_limit {
            return None;
        }
        let first = u64::from(life.restart_delay_ms).saturating_mul(1_000_000);
        let doubled =
            1_u64.checked_shl(self.restarts).map_or(u64::MAX, |factor| first.saturating_mul(factor));
        self.restarts = self.restarts.saturating_add(1);
        Some(if first == 0 { 0 } else { doubled.min(LONGEST_DELAY.max(first)) })
    }

    /// How many there were.
    pub fn restarts(self) -> u32 {
        self.restarts
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
