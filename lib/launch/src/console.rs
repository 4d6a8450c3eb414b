//! Guests' consoles: taking bytes out of their rings and making lines of them, putting in what was typed.

use alloc::borrow::Cow;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;

use hypercall::SharedMemory;
use xen_abi::console::{ConsoleInterface, IN_RING, OUT_RING};

/// Offsets of the output half in the ring page.
const OUTPUT: usize = core::mem::offset_of!(ConsoleInterface, output);
const OUT_CONS: usize = core::mem::offset_of!(ConsoleInterface, out_cons);
const OUT_PROD: usize = core::mem::offset_of!(ConsoleInterface, out_prod);
/// Offsets of the input half.
const INPUT: usize = core::mem::offset_of!(ConsoleInterface, input);
const IN_CONS: usize = core::mem::offset_of!(ConsoleInterface, in_cons);
const IN_PROD: usize = core::mem::offset_of!(ConsoleInterface, in_prod);

/// A guest's console ring, seen from the console's keeper.
///
/// The page is the guest's: what is read of it is a claim, not a fact. An index that cannot be is taken as a full ring.
pub struct ConsoleRing<S> {
    page: S,
}

impl<S: SharedMemory> ConsoleRing<S> {
    /// Over the mapped ring page.
    pub fn new(page: S) -> Self {
        Self { page }
    }

    /// Takes everything that the guest has written; says whether there was anything.
    pub fn take_output(&self, mut sink: impl FnMut(&[u8])) -> bool {
        let consumer = self.page.load_u32(OUT_CONS);
        let producer = self.page.load_u32(OUT_PROD);
        let waiting = (producer.wrapping_sub(consumer) as usize).min(OUT_RING);
        if waiting == 0 {
            return false;
        }
        let start = producer.wrapping_sub(u32::try_from(waiting).unwrap_or_default()) as usize % OUT_RING;
        let mut buffer = [0_u8; OUT_RING];
        let (first, second) = split(start, waiting, OUT_RING);
        for (from, length, to) in [(start, first, 0), (0, second, first)] {
            if let Some(part) = buffer.get_mut(to..to + length) {
                self.page.read(OUTPUT + from, part);
            }
        }
        self.page.store_u32(OUT_CONS, producer);
        sink(buffer.get(..waiting).unwrap_or_default());
        true
    }

    /// Moves as much of `typed` to the guest as its ring has room for; says whether that was anything.
    ///
    /// A guest that has left less than no room, by its indices, gets nothing until it has put them right.
    pub fn put_input(&self, typed: &mut VecDeque<u8>) -> bool {
        let producer = self.page.load_u32(IN_PROD);
        let used = producer.wrapping_sub(self.page.load_u32(IN_CONS)) as usize;
        let count = IN_RING.saturating_sub(used).min(typed.len());
        if count == 0 {
            return false;
        }
        let bytes: Vec<u8> = typed.drain(..count).collect();
        let start = producer as usize % IN_RING;
        let (first, _) = split(start, count, IN_RING);
        let (before_end, from_start) = bytes.split_at(first);
        self.page.write(INPUT + start, before_end);
        self.page.write(INPUT, from_start);
        self.page.store_u32(IN_PROD, producer.wrapping_add(u32::try_from(count).unwrap_or_default()));
        true
    }
}

/// How many of `length` bytes from `start` lie before the end of a ring of `size` bytes, and how many behind.
fn split(start: usize, length: usize, size: usize) -> (usize, usize) {
    let first = length.min(size - start);
    (first, length - first)
}

/// Longest line that is kept together; a longer one is cut here, so that a guest cannot take the builder's memory.
const MAX_LINE: usize = 4096;

/// Where a guest's output is within an escape sequence (ECMA-48).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Escape {
    /// Outside of any.
    #[default]
    None,
    /// Behind the escape character.
    Begun,
    /// Among the parameters of a control sequence, which a byte from `@` on ends.
    Control,
    /// In a string for the terminal, such as a window's title, which BEL or another escape ends.
    Text,
}

impl Escape {
    /// Takes the next byte; says whether it is text.
    pub(crate) fn step(&mut self, byte: u8) -> bool {
        let (next, is_text) = match (*self, byte) {
            // A new sequence, or bytes of this one that one more follows: intermediate ones, single shifts.
            (_, 0x1b) | (Self::Begun, b' '..=b'/' | b'N' | b'O') => (Self::Begun, false),
            (_, b'\n') | (Self::None, _) => (Self::None, true),
            (Self::Begun, b'[') => (Self::Control, false),
            (Self::Begun, b']' | b'P' | b'X' | b'^' | b'_') => (Self::Text, false),
            (Self::Control, b'@'..=b'~') | (Self::Begun, _) | (Self::Text, 0x07) => (Self::None, false),
            (within, _) => (within, false),
        };
        *self = next;
        is_text
    }
}

/// Makes lines of what a guest writes.
#[derive(Debug, Default)]
pub struct LineBuffer {
    line: Vec<u8>,
    escape: Escape,
}

impl LineBuffer {
    /// Adds bytes; calls `sink` with each line that is complete, without its end.
    ///
    /// Carriage returns, escape sequences and whatever else could drive a terminal are left out, tabs stay: the terminal is
    /// the operator's, and shows other guests too. Bytes that are no UTF-8 become question marks: some are control characters
    /// to terminals of other encodings.
    pub fn push(&mut self, bytes: &[u8], mut sink: impl FnMut(&[u8])) {
        for byte in bytes {
            if !self.escape.step(*byte) {
                continue;
            }
            match byte {
                b'\n' => self.flush_line(&mut sink),
                b'\t' | b' '..=b'~' | 0x80..=0xff => self.line.push(*byte),
                _ => {}
            }
            if self.line.len() >= MAX_LINE {
                self.flush(&mut sink);
            }
        }
    }

    /// Gives `sink` the line that was begun, if there is one: when its guest is gone, or waits for an answer to it.
    ///
    /// The beginning of a character whose rest has not come stays, unless there is nothing else.
    pub fn flush(&mut self, mut sink: impl FnMut(&[u8])) {
        let rest = self.line.split_off(whole_characters(&self.line));
        if !self.line.is_empty() {
            self.flush_line(&mut sink);
        }
        self.line = rest;
    }

    /// Whether a line was begun and not ended.
    pub fn is_open(&self) -> bool {
        !self.line.is_empty()
    }

    fn flush_line(&mut self, sink: &mut impl FnMut(&[u8])) {
        sink(&legible(&self.line));
        self.line.clear();
    }
}

/// How many bytes of `line` do not belong to a character that is cut off at its end; all if there is no other.
fn whole_characters(line: &[u8]) -> usize {
    let cut = match line.utf8_chunks().last().map(|chunk| chunk.invalid()) {
        // What is no beginning of a character either is not waited for.
        Some(invalid) if str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none()) => {
            invalid.len()
        }
        _ => 0,
    };
    if cut == line.len() { cut } else { line.len() - cut }
}

/// Whether a character is for the terminal rather than for the eye: control characters, ends of lines and paragraphs, and those that
/// turn the direction of the text around, so that it reads as what it is not.
fn drives_terminal(character: char) -> bool {
    let turns = matches!(
        character,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    turns || (character.is_control() && character != '\t')
}

/// The text of `line`, in which the control characters of ASCII are dealt with already.
///
/// Beyond ASCII there are more of them, U+0080 to U+009F: terminals take U+009B for the start of a control sequence, and
/// U+0085 for the end of the line.
fn legible(line: &[u8]) -> Cow<'_, [u8]> {
    if line.is_ascii() {
        return line.into();
    }
    let mut text = String::with_capacity(line.len());
    for chunk in line.utf8_chunks() {
        text.extend(chunk.valid().chars().filter(|character| !drives_terminal(*character)));
        if !chunk.invalid().is_empty() {
            text.push('?');
        }
    }
    text.into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use core::cell::RefCell;

    /// A ring page in ordinary memory.
    struct Page(RefCell<[u8; 4096]>);

    impl SharedMemory for Page {
        fn size(&self) -> usize {
            4096
        }
        fn read(&self, offset: usize, buffer: &mut [u8]) {
            buffer.copy_from_slice(&self.0.borrow()[offset..offset + buffer.len()]);
        }
        fn write(&self, offset: usize, bytes: &[u8]) {
            self.0.borrow_mut()[offset..offset + bytes.len()].copy_from_slice(bytes);
        }
        fn load_u32(&self, offset: usize) -> u32 {
            let mut word = [0; 4];
            self.read(offset, &mut word);
            u32::from_le_bytes(word)
        }
        fn store_u32(&self, offset: usize, value: u32) {
            self.write(offset, &value.to_le_bytes());
        }
        fn compare_exchange_u32(&self, offset: usize, current: u32, new: u32) -> Result<u32, u32> {
            let found = self.load_u32(offset);
            if found != current {
                return Err(found);
            }
            self.store_u32(offset, new);
            Ok(found)
        }
    }

    fn ring(consumer: u32, producer: u32) -> ConsoleRing<Page> {
        let page = Page(RefCell::new([0; 4096]));
        let pattern: Vec<u8> = (0..OUT_RING).map(|index| u8::try_from(index % 251).unwrap()).collect();
        page.write(OUTPUT, &pattern);
        page.store_u32(OUT_CONS, consumer);
        page.store_u32(OUT_PROD, producer);
        ConsoleRing::new(page)
    }

    fn taken(ring: &ConsoleRing<Page>) -> Vec<u8> {
        let mut all = Vec::new();
        ring.take_output(|bytes| all.extend_from_slice(bytes));
        all
    }

    #[test]
    fn output_is_taken_in_order_and_once() {
        let ring = ring(3, 6);
        assert_eq!(taken(&ring), [3, 4, 5]);
        assert!(!ring.take_output(|_| ()));
    }

    #[test]
    fn output_that_wraps_is_taken_whole() {
        let size = u32::try_from(OUT_RING).unwrap();
        let ring = ring(size - 2, size + 2);
        let last = u8::try_from((OUT_RING - 1) % 251).unwrap();
        assert_eq!(taken(&ring), [last - 1, last, 0, 1]);
    }

    #[test]
    fn free_running_indices_may_overflow() {
        assert_eq!(taken(&ring(u32::MAX, 1)).len(), 2);
    }

    #[test]
    fn a_producer_that_lies_yields_one_ring_and_no_more() {
        for (consumer, producer) in [(0, u32::MAX), (5, 4), (0, 0x8000_0000), (7, 7 + 2049)] {
            let ring = ring(consumer, producer);
            assert_eq!(taken(&ring).len(), OUT_RING);
            assert!(!ring.take_output(|_| ()), "the ring is empty afterwards");
        }
    }

    /// Takes what was typed as a guest does: at most `most` bytes.
    fn typed_in(ring: &ConsoleRing<Page>, most: usize) -> Vec<u8> {
        let (mut consumer, producer) = (ring.page.load_u32(IN_CONS), ring.page.load_u32(IN_PROD));
        let mut taken = Vec::new();
        while consumer != producer && taken.len() < most {
            let mut byte = [0];
            ring.page.read(INPUT + consumer as usize % IN_RING, &mut byte);
            taken.extend(byte);
            consumer = consumer.wrapping_add(1);
        }
        ring.page.store_u32(IN_CONS, consumer);
        taken
    }

    #[test]
    fn input_waits_for_room_and_wraps() {
        let ring = ring(0, 0);
        let from = u32::MAX - 2;
        ring.page.store_u32(IN_CONS, from);
        ring.page.store_u32(IN_PROD, from);
        let all: Vec<u8> = (0..=255).cycle().take(IN_RING + 10).collect();
        let mut typed = VecDeque::from(all.clone());
        assert!(ring.put_input(&mut typed));
        assert_eq!(typed.len(), 10);
        assert!(!ring.put_input(&mut typed), "the ring is full");
        let mut taken = typed_in(&ring, 4);
        assert!(ring.put_input(&mut typed));
        assert_eq!(typed.len(), 6);
        taken.extend(typed_in(&ring, usize::MAX));
        assert!(ring.put_input(&mut typed));
        taken.extend(typed_in(&ring, usize::MAX));
        assert_eq!(taken, all);
        assert!(!ring.put_input(&mut typed), "nothing is left");
    }

    #[test]
    fn a_consumer_that_lies_gets_nothing_until_it_is_right() {
        for (consumer, producer) in [(1, 0), (0, 1025), (0x8000_0000, 0), (0, u32::MAX)] {
            let ring = ring(0, 0);
            ring.page.store_u32(IN_CONS, consumer);
            ring.page.store_u32(IN_PROD, producer);
            let mut typed = VecDeque::from(*b"kept");
            assert!(!ring.put_input(&mut typed), "{consumer:#x} {producer:#x}");
            ring.page.store_u32(IN_CONS, producer);
            assert!(ring.put_input(&mut typed));
            assert_eq!(typed_in(&ring, usize::MAX), b"kept");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_byte_is_lost_or_doubled(start: u32, parts: Vec<(u8, u16)>) {
            let ring = ring(0, 0);
            ring.page.store_u32(IN_CONS, start);
            ring.page.store_u32(IN_PROD, start);
            let (mut typed, mut all, mut taken) = (VecDeque::new(), Vec::new(), Vec::new());
            for (put, take) in parts {
                let next = all.last().map_or(0, |last: &u8| last.wrapping_add(1));
                let bytes: Vec<u8> = (0..put).map(|offset| next.wrapping_add(offset)).collect();
                all.extend(&bytes);
                typed.extend(bytes);
                ring.put_input(&mut typed);
                taken.extend(typed_in(&ring, usize::from(take)));
            }
            while ring.put_input(&mut typed) || ring.page.load_u32(IN_CONS) != ring.page.load_u32(IN_PROD) {
                taken.extend(typed_in(&ring, usize::MAX));
            }
            proptest::prop_assert_eq!(taken, all);
        }
    }

    fn lines(parts: &[&str]) -> (Vec<String>, LineBuffer) {
        let mut buffer = LineBuffer::default();
        let mut lines = vec![];
        for part in parts {
            buffer.push(part.as_bytes(), |line| lines.push(String::from_utf8_lossy(line).into_owned()));
        }
        (lines, buffer)
    }

    #[test]
    fn lines_are_put_together_from_parts() {
        let (lines, mut buffer) = lines(&["on", "e\r\ntwo\n\nthr"]);
        assert_eq!(lines, ["one", "two", ""]);
        let mut rest = vec![];
        buffer.flush(|line| rest.extend_from_slice(line));
        assert_eq!(rest, b"thr");
        assert!(!buffer.is_open());
    }

    #[test]
    fn a_guest_does_not_drive_the_terminal() {
        let parts =
            ["\x1b[1;31mred\x1b", "[0m plain\x1b]0;title\x07 \x1b(Bend\x08\n", "\x1b]never ended\nnext\n"];
        assert_eq!(lines(&parts).0, ["red plain end", "", "next"]);
    }

    #[test]
    fn control_characters_beyond_ascii_do_not_drive_it_either() {
        let mut buffer = LineBuffer::default();
        let mut shown = vec![];
        for (written, line) in [
            (&b"caf\xc3\xa9 \xe2\x82\xac"[..], "caf\u{e9} \u{20ac}"),
            (b"\xc2\x9b2Aup, \xc2\x85[other] forged, \xc2\x9d0;title", "2Aup, [other] forged, 0;title"),
            (b"\x9b2Aup, \x85[other] forged", "?2Aup, ?[other] forged"),
            (b"cut \xe2\x82", "cut ?"),
            (b"a\tb\xff", "a\tb?"),
            ("file\u{202e}txt.exe\u{2066} \u{2028}end \u{5d0}".as_bytes(), "filetxt.exe end \u{5d0}"),
        ] {
            buffer.push(written, |_| unreachable!("the line goes on"));
            buffer.push(b"\n", |line| shown.push(String::from_utf8(line.to_vec()).unwrap()));
            assert_eq!(shown.pop().as_deref(), Some(line));
        }
    }

    #[test]
    fn a_character_that_comes_in_parts_is_shown_whole() {
        let (mut buffer, mut shown) = (LineBuffer::default(), vec![]);
        let mut flushed = |buffer: &mut LineBuffer| {
            shown.clear();
            buffer.flush(|line| shown.extend_from_slice(line));
            String::from_utf8(shown.clone()).unwrap()
        };
        buffer.push(b"price: \xe2\x82", |_| unreachable!("the line goes on"));
        assert_eq!(flushed(&mut buffer), "price: ");
        buffer.push(b"\xac? ", |_| unreachable!("the line goes on"));
        assert_eq!(flushed(&mut buffer), "\u{20ac}? ");
        assert!(!buffer.is_open());
        // Alone, it is not waited for twice; what begins no character not at all.
        for (bytes, text) in [(&b"\xe2\x82"[..], "?"), (b"a\xff", "a?"), (b"\xe2\x82x", "?x")] {
            buffer.push(bytes, |_| unreachable!("the line goes on"));
            assert_eq!(flushed(&mut buffer), text);
            assert!(!buffer.is_open());
        }
        let mut long = vec![b'x'; MAX_LINE - 1];
        long.extend("\u{20ac}\n".bytes());
        let mut lines = vec![];
        buffer.push(&long, |line| lines.push(String::from_utf8(line.to_vec()).unwrap()));
        assert_eq!(lines.concat(), "x".repeat(MAX_LINE - 1) + "\u{20ac}");
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let (lines, buffer) = lines(&[&"x".repeat(MAX_LINE + 1)]);
        assert_eq!(lines, ["x".repeat(MAX_LINE)]);
        assert!(buffer.is_open());
    }
}
