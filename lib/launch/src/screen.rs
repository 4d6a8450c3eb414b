//! Xen's console as a screen that several write to: whole lines of the builder and of most guests, and, bytes as they come, the
//! one guest that has the keyboard.

use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use hypercall::{RawHypercall, Xen};

use crate::console::Escape;
use crate::terminal::{Modes, is_harmless};

/// Where the cursor of Xen's console stands: at the beginning of a line, or behind text without an end, such as a prompt.
///
/// Who writes whole lines to the console asks for a new line first. As long as nobody has written less than a line that
/// changes nothing.
#[derive(Debug, Default)]
pub struct Cursor {
    behind_text: AtomicBool,
}

impl Cursor {
    /// At the beginning of a line.
    pub const fn new() -> Self {
        Self { behind_text: AtomicBool::new(false) }
    }

    /// Ends the line that the cursor is in, if it is in one, by way of `write`.
    pub fn begin_line(&self, write: impl FnOnce(&[u8])) {
        if self.behind_text.swap(false, Ordering::Relaxed) {
            write(b"\n");
        }
    }

    /// Whether it stands at the beginning of a line.
    pub fn is_at_beginning(&self) -> bool {
        !self.behind_text.load(Ordering::Relaxed)
    }

    /// Writes `line`, which has no end of line yet, on a line of its own.
    pub(crate) fn write_line<H: RawHypercall>(&self, xen: &Xen<H>, mut line: Vec<u8>) {
        self.begin_line(|end| write(xen, end));
        line.push(b'\n');
        write(xen, &line);
    }

    /// Writes bytes as they are, behind `open`, the text in the same line that was written before; writes that again if
    /// something else came in between.
    pub(crate) fn write_behind<H: RawHypercall>(&self, xen: &Xen<H>, open: &[u8], bytes: &[u8]) {
        if self.is_at_beginning() && !open.is_empty() {
            write(xen, open);
        }
        write(xen, bytes);
        if let Some(last) = bytes.last().or(open.last()) {
            self.behind_text.store(*last != b'\n', Ordering::Relaxed);
        }
    }
}

/// Writes to Xen's console.
pub(crate) fn write<H: RawHypercall>(xen: &Xen<H>, bytes: &[u8]) {
    if !bytes.is_empty() {
        // A console that does not take text leaves nothing to report it on.
        let _ = xen.console_write(bytes);
    }
}

/// The line that a guest has begun and not ended, to be shown again when something else was written in between; and what the guest
/// has done to the terminal.
///
/// The line is kept as the guest wrote it, but for sequences that [must not be sent twice](is_harmless).
#[derive(Debug, Default)]
pub(crate) struct OpenLine {
    text: Vec<u8>,
    /// Whether it became too long to be kept.
    is_cut: bool,
    escape: Escape,
    /// The sequence that the guest is in, from its escape character on.
    sequence: Vec<u8>,
    modes: Modes,
}

impl OpenLine {
    /// The longest line in bytes that is shown again; prompts and what is typed at them are shorter.
    const MAX: usize = 1024;
    /// Asks the terminal for its name.
    const ENQUIRY: u8 = 0x05;

    /// Takes note of what the guest has written.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let was_within = self.escape != Escape::None;
            let is_text = self.escape.step(*byte);
            if *byte == b'\n' {
                self.text.clear();
                self.sequence.clear();
                self.is_cut = false;
            } else if is_text {
                self.keep(&[*byte]);
            } else {
                self.within_sequence(*byte, was_within);
            }
        }
    }

    fn within_sequence(&mut self, byte: u8, was_within: bool) {
        if !was_within {
            self.sequence.clear();
        }
        if self.sequence.len() < Self::MAX {
            self.sequence.push(byte);
        }
        if self.escape == Escape::None {
            let sequence = core::mem::take(&mut self.sequence);
            self.modes.follow(&sequence);
            if is_harmless(&sequence) {
                self.keep(&sequence);
            }
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.is_cut || self.text.len() + bytes.len() > Self::MAX {
            self.text.clear();
            self.is_cut = true;
        } else if bytes != [Self::ENQUIRY] {
            self.text.extend_from_slice(bytes);
        }
    }

    /// The line so far, with the sequence that it ends in, if it is in the middle of one; empty when there is none, or when it is too long.
    pub(crate) fn text(&self) -> Cow<'_, [u8]> {
        if self.sequence.is_empty() {
            return (&self.text).into();
        }
        [&self.text[..], &self.sequence].concat().into()
    }

    /// What brings the terminal back to where it is usually, for others to write to it.
    pub(crate) fn undo_modes(&self) -> Vec<u8> {
        self.modes.undo(self.escape != Escape::None)
    }

    /// What brings it to where this guest has left it.
    pub(crate) fn redo_modes(&self) -> Vec<u8> {
        self.modes.redo()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_begun_only_where_one_is_open() {
        let cursor = Cursor::new();
        cursor.begin_line(|_| unreachable!("nothing was written"));
        cursor.behind_text.store(true, Ordering::Relaxed);
        let mut ends = 0;
        for _ in 0..2 {
            cursor.begin_line(|end| {
                assert_eq!(end, b"\n");
                ends += 1;
            });
        }
        assert_eq!(ends, 1);
    }

    #[test]
    fn the_open_line_is_what_follows_the_last_end() {
        let mut line = OpenLine::default();
        for (bytes, text) in
            [("one\ntwo", "two"), (" three", "two three"), ("\n", ""), ("~ # ", "~ # "), ("a\nb\nc", "c")]
        {
            line.push(bytes.as_bytes());
            assert_eq!(line.text().as_ref(), text.as_bytes());
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_not_kept_in_part() {
        let mut line = OpenLine::default();
        line.push(&[b'x'; OpenLine::MAX]);
        assert_eq!(line.text().len(), OpenLine::MAX);
        line.push(b"y");
        assert!(line.text().is_empty());
        line.push(b"z");
        assert!(line.text().is_empty());
        line.push(b"\n$ ");
        assert_eq!(line.text().as_ref(), b"$ ");
    }

    #[test]
    fn what_would_be_answered_twice_is_not_shown_again() {
        let mut line = OpenLine::default();
        line.push(b"\x1b[1m~ # \x1b[6n\x1b[c\x05ls\x1b]0;title\x07\x1b[0m\x08");
        assert_eq!(line.text().as_ref(), b"\x1b[1m~ # ls\x1b[0m\x08");
        line.push(b"\x1b[3");
        assert_eq!(line.text().as_ref(), b"\x1b[1m~ # ls\x1b[0m\x08\x1b[3");
        line.push(b"1m");
        assert_eq!(line.text().as_ref(), b"\x1b[1m~ # ls\x1b[0m\x08\x1b[31m");
    }

    #[test]
    fn modes_are_followed_through_sequences_in_parts() {
        let mut line = OpenLine::default();
        line.push(b"\x1b[?10");
        assert_eq!(line.undo_modes(), b"\x18");
        line.push(b"49h\n");
        assert_eq!(line.undo_modes(), b"\x1b[?1049l\x1b[0m\x1b(B\x0f");
        assert_eq!(line.redo_modes(), b"\x1b[?1049h");
    }
}
