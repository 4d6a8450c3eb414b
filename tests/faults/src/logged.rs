//! What the code under test logs, kept for whoever looks at it afterwards.

use std::cell::RefCell;

use log::{Level, LevelFilter, Log, Metadata, Record};

thread_local! {
    /// What was logged in this thread.
    static LINES: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
}

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// How bad it is.
    pub level: Level,
    /// The line.
    pub text: String,
}

struct Keeper;

impl Log for Keeper {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let line = Line { level: record.level(), text: record.args().to_string() };
        LINES.with_borrow_mut(|lines| lines.push(line));
    }

    fn flush(&self) {}
}

/// Begins to keep what is logged, in every thread for itself.
pub fn keep() {
    static KEEPER: Keeper = Keeper;
    // Fails whenever it is done already, which is as well.
    if log::set_logger(&KEEPER).is_ok() {
        log::set_max_level(LevelFilter::Debug);
    }
}

/// The lines that this thread has logged since they were last taken.
pub fn take() -> Vec<Line> {
    LINES.take()
}

/// The same as one text, without taking them.
pub fn text() -> String {
    LINES.with_borrow(|lines| lines.iter().map(|line| line.text.as_str()).collect::<Vec<_>>().join("\n"))
}
