//! What typed bytes mean: for a guest, for the builder's prompt, or to get from one to the other.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::console::Escape;

/// The key that opens the builder's prompt: a control character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EscapeKey(u8);

impl EscapeKey {
    /// Ctrl-], as telnet has it.
    pub const DEFAULT: Self = Self(0x1d);

    /// Reads `^]`, `^T` and the like: a circumflex and a character from `@` to `_`, small letters as well. The keys that end a
    /// line, go back or begin a key's sequence (^H ^I ^J ^M ^[) cannot be spared.
    pub fn parse(text: &str) -> Option<Self> {
        let [b'^', key] = text.as_bytes() else { return None };
        let key = key.to_ascii_uppercase();
        let control = key.checked_sub(b'@').filter(|control| *control < 0x20)?;
        (!matches!(control, 0x08 | 0x09 | b'\n' | b'\r' | 0x1b)).then_some(Self(control))
    }
}

impl fmt::Display for EscapeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ctrl-{}", char::from(self.0 | 0x40))
    }
}

/// What a typed byte asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Press {
    /// Nothing (yet).
    Nothing,
    /// To be handed to the guest that has the keyboard. If the prompt was open, it is not any more.
    Guest(u8),
    /// The prompt was opened.
    Open,
    /// The prompt was closed: the keyboard is the guest's again.
    Close,
    /// The next guest is to have the keyboard.
    Next,
    /// The line at the prompt changed: these bytes show it.
    Echo(Vec<u8>),
    /// A line was entered at the prompt, which stays open.
    Line(String),
}

/// Decides for each typed byte whom it is for, and edits the line at the prompt.
#[derive(Debug)]
pub struct Keyboard {
    escape: EscapeKey,
    /// The line at the prompt, if that is open.
    line: Option<String>,
    /// Where the prompt is within the sequence of a key such as an arrow, which it does not know.
    sequence: Escape,
    /// Whether the byte before was a carriage return at the prompt: a line feed behind it belongs to it.
    returned: bool,
}

const BELL: u8 = 0x07;
const ESCAPE: u8 = 0x1b;
/// Takes the last character away from the screen.
const RUB_OUT: &[u8] = b"\x08 \x08";

impl Keyboard {
    /// The longest line in bytes at the prompt: a command and a VM's name.
    const MAX_LINE: usize = 120;

    /// A guest's keyboard, with `escape` for the way to the prompt.
    pub fn new(escape: EscapeKey) -> Self {
        Self { escape, line: None, sequence: Escape::default(), returned: false }
    }

    /// The key for the prompt.
    pub fn escape(&self) -> EscapeKey {
        self.escape
    }

    /// The line at the prompt so far; `None` when the prompt is not open.
    pub fn line(&self) -> Option<&str> {
        self.line.as_deref()
    }

    /// Opens the prompt.
    pub fn open(&mut self) {
        self.line = Some(String::new());
        self.sequence = Escape::default();
    }

    /// Closes the prompt.
    pub fn close(&mut self) {
        self.line = None;
    }

    /// Takes the next byte.
    pub fn press(&mut self, byte: u8) -> Press {
        if core::mem::take(&mut self.returned) && byte == b'\n' {
            return Press::Nothing;
        }
        let is_escape = byte == self.escape.0;
        let Some(line) = &mut self.line else {
            if !is_escape {
                return Press::Guest(byte);
            }
            self.open();
            return Press::Open;
        };
        if is_escape {
            // Twice in a row is once for the guest; behind a command it is the way back.
            let at_once = line.is_empty();
            self.close();
            return if at_once { Press::Guest(byte) } else { Press::Close };
        }
        if byte.is_ascii_control() && byte != ESCAPE {
            // No key's sequence has one: what looked like its beginning was Alt with another key, such as Alt-P.
            self.sequence = Escape::default();
        }
        if !self.sequence.step(byte) {
            return Press::Nothing;
        }
        self.edit(byte)
    }

    /// Takes the next byte of a line at the prompt.
    fn edit(&mut self, byte: u8) -> Press {
        let Some(line) = &mut self.line else { return Press::Nothing };
        match byte {
            b'\r' | b'\n' => {
                self.returned = byte == b'\r';
                Press::Line(core::mem::take(line))
            }
            // Ctrl-D: the end, where there is nothing else.
            0x04 if line.is_empty() => {
                self.close();
                Press::Close
            }
            // Ctrl-N.
            0x0e if line.is_empty() => {
                self.close();
                Press::Next
            }
            0x08 | 0x7f if line.pop().is_some() => Press::Echo(RUB_OUT.to_vec()),
            // Ctrl-U, Ctrl-C: all of it.
            0x15 | 0x03 => Press::Echo(RUB_OUT.repeat(core::mem::take(line).len())),
            b' '..=b'~' if line.len() < Self::MAX_LINE => {
                line.push(char::from(byte));
                Press::Echo(Vec::from([byte]))
            }
            _ => Press::Echo(Vec::from([BELL])),
        }
    }
}

/// What was typed for a guest that has had no room for it yet.
#[derive(Debug, Default)]
pub struct Typed {
    pub(crate) waiting: VecDeque<u8>,
    lost: u64,
}

impl Typed {
    /// The most bytes that wait for a guest: a page of text. What a guest reads too slowly is not to take the builder's memory.
    pub const MAX: usize = 4096;

    /// Keeps a byte; says whether there was room.
    pub fn push(&mut self, byte: u8) -> bool {
        if self.waiting.len() < Self::MAX {
            self.waiting.push_back(byte);
            return true;
        }
        self.lost += 1;
        false
    }

    /// How many bytes there was no room for since this was last asked while there is room again; 0 as long as there is none.
    pub(crate) fn take_lost(&mut self) -> u64 {
        if self.waiting.len() < Self::MAX { core::mem::take(&mut self.lost) } else { 0 }
    }

    /// Whether none was lost so far, since [`take_lost`](Self::take_lost) told.
    pub(crate) fn is_whole(&self) -> bool {
        self.lost == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::vec;
    use proptest::prelude::*;

    fn pressed(keyboard: &mut Keyboard, bytes: &[u8]) -> Vec<Press> {
        let presses = bytes.iter().map(|byte| keyboard.press(*byte));
        presses.filter(|press| !matches!(press, Press::Echo(_) | Press::Nothing)).collect()
    }

    /// What is on the screen after the echo of `bytes` at the prompt.
    fn shown(bytes: &[u8]) -> (String, Option<String>) {
        let mut keyboard = Keyboard::new(EscapeKey::DEFAULT);
        keyboard.open();
        let (mut screen, mut at) = (vec![], 0);
        for byte in bytes {
            let Press::Echo(echo) = keyboard.press(*byte) else { continue };
            for byte in echo {
                match byte {
                    BELL => {}
                    0x08 => at -= 1,
                    byte => {
                        screen.truncate(at);
                        screen.push(byte);
                        at += 1;
                    }
                }
            }
        }
        assert!(screen.split_off(at).iter().all(|byte| *byte == b' '), "what was taken back is blank");
        (String::from_utf8(screen).unwrap(), keyboard.line().map(str::to_string))
    }

    #[test]
    fn escape_keys_are_control_characters_that_can_be_spared() {
        for (text, byte, name) in [("^]", 0x1d, "Ctrl-]"), ("^t", 0x14, "Ctrl-T"), ("^@", 0, "Ctrl-@")] {
            let key = EscapeKey::parse(text).unwrap();
            assert_eq!((key, key.to_string().as_str()), (EscapeKey(byte), name));
        }
        for text in ["", "^", "]", "^M", "^j", "^[", "^H", "^1", "^}", "Ctrl-T", "^TT", "^é"] {
            assert_eq!(EscapeKey::parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_typed_is_the_guests_until_the_escape_key() {
        let mut keyboard = Keyboard::new(EscapeKey::DEFAULT);
        assert_eq!(
            pressed(&mut keyboard, b"a\r\x03\x1dlist\r\x04b"),
            [
                Press::Guest(b'a'),
                Press::Guest(b'\r'),
                Press::Guest(3),
                Press::Open,
                Press::Line("list".to_string()),
                Press::Close,
                Press::Guest(b'b')
            ]
        );
    }

    #[test]
    fn the_escape_key_twice_is_for_the_guest_and_behind_text_the_way_back() {
        let mut keyboard = Keyboard::new(EscapeKey::DEFAULT);
        assert_eq!(
            pressed(&mut keyboard, b"\x1d\x1dx"),
            [Press::Open, Press::Guest(0x1d), Press::Guest(b'x')]
        );
        assert_eq!(pressed(&mut keyboard, b"\x1dli\x1dx"), [Press::Open, Press::Close, Press::Guest(b'x')]);
        assert_eq!(pressed(&mut keyboard, b"\x1d\x0ex"), [Press::Open, Press::Next, Press::Guest(b'x')]);
    }

    #[test]
    fn a_key_with_alt_does_not_deafen_the_prompt() {
        for key in [b']', b'P', b'X', b'^', b'_', b'[', b'O'] {
            let mut keyboard = Keyboard::new(EscapeKey::DEFAULT);
            keyboard.open();
            assert_eq!(
                pressed(&mut keyboard, &[0x1b, key, b'\r']),
                [Press::Line(String::new())],
                "Alt-{key}"
            );
            assert_eq!(pressed(&mut keyboard, &[0x1b, key, 0x1d, 0x1d]), [Press::Guest(0x1d), Press::Open]);
            assert_eq!(pressed(&mut keyboard, b"list\r"), [Press::Line("list".to_string())], "Alt-{key}");
        }
    }

    #[test]
    fn a_line_ends_once_by_return_line_feed_or_both() {
        let mut keyboard = Keyboard::new(EscapeKey::DEFAULT);
        keyboard.open();
        let lines = ["a", "b", "c", ""].map(|line| Press::Line(line.to_string()));
        assert_eq!(pressed(&mut keyboard, b"a\rb\r\nc\n\n"), lines);
    }

    #[test]
    fn the_line_can_be_edited() {
        for (typed, line) in [
            (&b"lisst\x7f\x08t"[..], "list"),
            (b"\x7f\x08", ""),
            (b"destroy a\x15list", "list"),
            (b"destroy a\x03", ""),
            (b"li\x1b[A\x1b[1;5Dst\x1bOP", "list"),
            (b"li\xc3\xa9\0st", "list"),
            (b"lost\x1bP\x15list", "list"),
        ] {
            assert_eq!(shown(typed), (line.to_string(), Some(line.to_string())));
        }
        let long = shown(&[b'x'; 500]);
        assert_eq!(long.1.unwrap().len(), Keyboard::MAX_LINE);
    }

    #[test]
    fn bytes_without_room_are_counted_and_told_when_there_is_room_again() {
        let mut typed = Typed::default();
        assert!((0..Typed::MAX).all(|_| typed.push(b'x')) && typed.is_whole());
        assert!(!typed.push(b'y') && !typed.push(b'z') && !typed.is_whole());
        assert_eq!(typed.take_lost(), 0);
        typed.waiting.pop_front();
        assert_eq!((typed.take_lost(), typed.take_lost()), (2, 0));
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_and_the_screen_shows_the_line(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut keyboard = Keyboard::new(EscapeKey::DEFAULT);
            let mut entered = vec![];
            for byte in &bytes {
                let before = keyboard.line().is_none();
                match keyboard.press(*byte) {
                    // Without the prompt every byte but the escape key is the guest's, unchanged.
                    Press::Guest(to_guest) => prop_assert_eq!(to_guest, *byte),
                    Press::Open => prop_assert!(before && keyboard.line() == Some("")),
                    Press::Close | Press::Next => prop_assert!(!before && keyboard.line().is_none()),
                    Press::Line(line) => entered.push(line),
                    Press::Echo(_) => prop_assert!(!before),
                    Press::Nothing => {}
                }
            }
            for line in entered.iter().map(String::as_str).chain(keyboard.line()) {
                prop_assert!(line.len() <= Keyboard::MAX_LINE && line.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            }
        }

        #[test]
        fn the_echo_is_the_line(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let bytes: Vec<u8> =
                bytes.into_iter().filter(|byte| !matches!(byte, b'\r' | b'\n' | 4 | 0x0e | 0x1d)).collect();
            let (screen, line) = shown(&bytes);
            prop_assert_eq!(Some(screen), line);
        }
    }
}
