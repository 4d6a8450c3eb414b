//! What the control domain did.

use alloc::collections::VecDeque;
use alloc::string::{String, ToString};
use core::fmt;

use log::Level;

/// The most entries that are kept; those before are counted.
pub const JOURNAL_LENGTH: usize = 256;
/// The longest text of an entry in bytes: what is longer was said by somebody else, and is cut.
const MAX_ENTRY: usize = 400;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// System time in nanoseconds.
    pub time: u64,
    /// How bad it is.
    pub level: Level,
    /// What it was.
    pub text: String,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.time / 1000;
        write!(f, "{}.{:06} {}", micros / 1_000_000, micros % 1_000_000, self.text)
    }
}

/// The last things that happened, and how many there were before.
#[derive(Debug, Default)]
pub struct Journal {
    entries: VecDeque<Entry>,
    forgotten: u64,
}

impl Journal {
    /// Enters and logs that something happened at `time`.
    pub(crate) fn enter(&mut self, time: u64, level: Level, what: fmt::Arguments<'_>) {
        let mut text = what.to_string();
        let cut = (0..=MAX_ENTRY.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(cut.unwrap_or(0));
        log::log!(level, "{text}");
        if self.entries.len() == JOURNAL_LENGTH {
            self.entries.pop_front();
            self.forgotten += 1;
        }
        self.entries.push_back(Entry { time, level, text });
    }

    /// What is kept, the oldest first.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// How many entries were before.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_forgotten_and_counted() {
        let mut journal = Journal::default();
        for number in 0..JOURNAL_LENGTH as u64 + 3 {
            journal.enter(number * 1_000_000, Level::Info, format_args!("entry {number}"));
        }
        assert_eq!((journal.forgotten(), journal.entries().count()), (3, JOURNAL_LENGTH));
        assert_eq!(journal.entries().next().unwrap().to_string(), "0.003000 entry 3");
        journal.enter(0, Level::Info, format_args!("{}", "ä".repeat(1000)));
        assert_eq!(journal.entries().last().unwrap().text.len(), MAX_ENTRY);
    }
}
