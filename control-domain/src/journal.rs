//! What the control domain did.

use alloc::collections::VecDeque;
use alloc::string::{String, ToString};
use core::fmt;

use log::Level;
use protocols::message::{JournalEntry, JournalLevel};

/// The most entries that are kept; those before are counted.
pub const JOURNAL_LENGTH: usize = 256;
/// The most of them that are about clients and the platforms that they created: one that does something without pause makes itself and its like
/// forgotten, and not what became of the own platform.
const CLIENTS_LENGTH: usize = JOURNAL_LENGTH / 4;
/// The longest text of an entry in bytes: what is longer was said by somebody else, and is cut.
const MAX_ENTRY: usize = 400;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// How many entries there were before it.
    pub number: u64,
    /// System time in nanoseconds.
    pub time: u64,
    /// How bad it is.
    pub level: Level,
    /// What it was.
    pub text: String,
    /// Whether a client did it, or it is about a client's platform.
    is_clients: bool,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.time / 1000;
        write!(f, "{}.{:06} {}", micros / 1_000_000, micros % 1_000_000, self.text)
    }
}

impl From<&Entry> for JournalEntry {
    fn from(entry: &Entry) -> Self {
        let level = match entry.level {
            Level::Error => JournalLevel::Error,
            Level::Warn => JournalLevel::Warn,
            Level::Info | Level::Debug | Level::Trace => JournalLevel::Info,
        };
        Self { number: entry.number, time: entry.time, level, text: entry.text.clone() }
    }
}

/// The last things that happened, and how many there were before.
#[derive(Debug, Default)]
pub struct Journal {
    entries: VecDeque<Entry>,
    /// Entries that there have been.
    count: u64,
    /// Those that are kept and are about what clients did.
    of_clients: usize,
}

impl Journal {
    /// Enters and logs that something happened at `time`.
    pub(crate) fn enter(&mut self, time: u64, level: Level, what: fmt::Arguments<'_>) {
        self.enter_of(false, time, level, what);
    }

    /// The same of what a client did, or of a platform that it has created, if `is_clients`.
    pub(crate) fn enter_of(&mut self, is_clients: bool, time: u64, level: Level, what: fmt::Arguments<'_>) {
        let mut text = what.to_string();
        let cut = (0..=MAX_ENTRY.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(cut.unwrap_or(0));
        log::log!(level, "{text}");
        if is_clients && self.of_clients == CLIENTS_LENGTH {
            self.forget(self.entries.iter().position(|entry| entry.is_clients));
        } else if self.entries.len() == JOURNAL_LENGTH {
            self.forget(Some(0));
        }
        self.entries.push_back(Entry { number: self.count, time, level, text, is_clients });
        self.of_clients += usize::from(is_clients);
        self.count += 1;
    }

    fn forget(&mut self, index: Option<usize>) {
        let forgotten = index.and_then(|index| self.entries.remove(index));
        self.of_clients -= usize::from(forgotten.is_some_and(|entry| entry.is_clients));
    }

    /// What is kept, the oldest first.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// What is kept from the entry with the number `first` on, as clients see it.
    pub(crate) fn since(&self, first: u64) -> impl Iterator<Item = JournalEntry> {
        let skip = self.entries.partition_point(|entry| entry.number < first);
        self.entries.iter().skip(skip).map(JournalEntry::from)
    }

    /// How many entries are not kept any more.
    pub fn forgotten(&self) -> u64 {
        self.count - self.entries.len() as u64
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

    #[test]
    fn what_clients_do_does_not_drive_out_the_rest() {
        let mut journal = Journal::default();
        for time in 0..1000 {
            if time % 100 == 0 {
                journal.enter(time, Level::Warn, format_args!("event=restarting"));
            }
            journal.enter_of(true, time, Level::Info, format_args!("client=web says hello"));
        }
        let of_clients = journal.entries().filter(|entry| entry.is_clients).count();
        assert_eq!((of_clients, journal.entries().count() - of_clients), (CLIENTS_LENGTH, 10));
        assert!(journal.entries().is_sorted_by_key(|entry| entry.number));
        assert_eq!(journal.forgotten(), 1010 - 10 - CLIENTS_LENGTH as u64);
        let since: alloc::vec::Vec<_> = journal.since(500).map(|entry| entry.number).collect();
        assert!(since.first() > Some(&499) && since.last() == Some(&1009), "{since:?}");
        for _ in 0..JOURNAL_LENGTH {
            journal.enter(0, Level::Info, format_args!("event=other"));
        }
        assert_eq!(
            (journal.of_clients, journal.since(u64::MAX).count()),
            (0, 0),
            "the oldest go, whose they are"
        );
    }
}
