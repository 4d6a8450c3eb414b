//! What a guest that has the screen does to the terminal behind it: followed, taken back when another gets the screen, and done
//! again when the guest has it back.

use alloc::format;
use alloc::vec::Vec;

/// Private modes (DEC's and xterm's) that are on where nobody has changed them: wrapping at the margin, the cursor.
const USUALLY_ON: [u16; 2] = [7, 25];

/// The most modes that are followed: many times what any program sets.
const MAX_MODES: usize = 32;

/// The modes that a guest has left its terminal in.
#[derive(Debug, Default)]
pub(crate) struct Modes {
    /// Private modes that are not as usual.
    changed: Vec<u16>,
    /// Whether the keypad sends sequences of its own.
    keypad: bool,
    /// Whether only a part of the screen scrolls.
    margins: bool,
    /// Whether there was any sequence: colours, character sets.
    touched: bool,
}

impl Modes {
    /// Takes note of a sequence, from its escape character to its end.
    pub(crate) fn follow(&mut self, sequence: &[u8]) {
        self.touched = true;
        match sequence {
            [0x1b, b'[', b'?', parameters @ .., end @ (b'h' | b'l')] => {
                let numbers = parameters.split(|byte| *byte == b';');
                let numbers = numbers.filter_map(|digits| str::from_utf8(digits).ok()?.parse().ok());
                numbers.for_each(|mode| self.set(mode, *end == b'h'));
            }
            [0x1b, b'[', .., b'r'] => self.margins = sequence.len() > 3,
            [0x1b, b'='] => self.keypad = true,
            [0x1b, b'>'] => self.keypad = false,
            // A reset of the whole terminal.
            [0x1b, b'c'] => *self = Self { touched: true, ..Self::default() },
            _ => {}
        }
    }

    fn set(&mut self, mode: u16, on: bool) {
        self.changed.retain(|known| *known != mode);
        if on != USUALLY_ON.contains(&mode) && self.changed.len() < MAX_MODES {
            self.changed.push(mode);
        }
    }

    /// What brings the terminal back to where it is usually; nothing if the guest has written text alone. `is_within` says that it is
    /// in the middle of a sequence.
    pub(crate) fn undo(&self, is_within: bool) -> Vec<u8> {
        // CAN ends a sequence of any kind.
        let mut bytes = if is_within { b"\x18".to_vec() } else { Vec::new() };
        if !self.touched {
            return bytes;
        }
        for mode in self.changed.iter().rev() {
            bytes.extend(private(*mode, USUALLY_ON.contains(mode)));
        }
        if self.keypad {
            bytes.extend_from_slice(b"\x1b>");
        }
        if self.margins {
            // Setting them moves the cursor, which is saved and put back.
            bytes.extend_from_slice(b"\x1b7\x1b[r\x1b8");
        }
        // No colours, ASCII's characters.
        bytes.extend_from_slice(b"\x1b[0m\x1b(B\x0f");
        bytes
    }

    /// What brings it to where the guest has left it, as far as that concerns modes; the guest paints its screen itself.
    pub(crate) fn redo(&self) -> Vec<u8> {
        let modes = self.changed.iter();
        let mut bytes: Vec<u8> = modes.flat_map(|mode| private(*mode, !USUALLY_ON.contains(mode))).collect();
        if self.keypad {
            bytes.extend_from_slice(b"\x1b=");
        }
        bytes
    }
}

/// The sequence that sets a private mode.
fn private(mode: u16, on: bool) -> Vec<u8> {
    format!("\x1b[?{mode}{}", if on { 'h' } else { 'l' }).into_bytes()
}

/// Whether a sequence may be sent to the terminal once more. Most only move the cursor within the line or choose colours; others have the
/// terminal answer, or change what lies beyond the line.
pub(crate) fn is_harmless(sequence: &[u8]) -> bool {
    let [0x1b, b'[', parameters @ .., end] = sequence else { return false };
    let is_plain = parameters.iter().all(|byte| byte.is_ascii_digit() || matches!(byte, b';' | b':'));
    is_plain && matches!(end, b'm' | b'C' | b'D' | b'G' | b'K' | b'P' | b'X' | b'@')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn followed(sequences: &[&[u8]]) -> Modes {
        let mut modes = Modes::default();
        for sequence in sequences {
            modes.follow(sequence);
        }
        modes
    }

    #[test]
    fn what_an_editor_does_is_undone_and_done_again() {
        let modes =
            followed(&[b"\x1b[?1049h", b"\x1b[?1;2004h", b"\x1b=", b"\x1b[1;20r", b"\x1b[?25l", b"\x1b[31m"]);
        let expected = b"\x1b[?25h\x1b[?2004l\x1b[?1l\x1b[?1049l\x1b>\x1b7\x1b[r\x1b8\x1b[0m\x1b(B\x0f";
        assert_eq!(modes.undo(false), expected);
        assert_eq!(modes.redo(), b"\x1b[?1049h\x1b[?1h\x1b[?2004h\x1b[?25l\x1b=");
    }

    #[test]
    fn what_the_guest_has_undone_itself_is_not_undone_again() {
        let modes =
            followed(&[b"\x1b[?1049h", b"\x1b[?25l", b"\x1b[?25h", b"\x1b[?1049l", b"\x1b[5;9r", b"\x1b[r"]);
        assert_eq!(modes.undo(false), b"\x1b[0m\x1b(B\x0f");
        assert_eq!(modes.redo(), b"");
        assert_eq!(followed(&[b"\x1b[?1h", b"\x1bc"]).redo(), b"");
    }

    #[test]
    fn plain_text_needs_nothing_and_a_cut_sequence_is_ended() {
        assert_eq!(followed(&[]).undo(false), b"");
        assert_eq!(followed(&[]).undo(true), b"\x18");
    }

    #[test]
    fn modes_without_end_take_no_memory_without_end() {
        let mut modes = Modes::default();
        (0..u16::MAX).for_each(|mode| modes.follow(&private(mode, true)));
        assert_eq!(modes.changed.len(), MAX_MODES);
        modes.follow(b"\x1b[?99999999999;h");
    }

    #[test]
    fn questions_to_the_terminal_are_not_asked_twice() {
        for sequence in [
            &b"\x1b[6n"[..],
            b"\x1b[c",
            b"\x1b[>c",
            b"\x1b[18t",
            b"\x1b]10;?\x07",
            b"\x1bP$qm\x1b\\",
            b"\x1b[?6n",
            b"\x1bZ",
        ] {
            assert!(!is_harmless(sequence), "{sequence:?}");
        }
        for sequence in [&b"\x1b[m"[..], b"\x1b[1;31m", b"\x1b[K", b"\x1b[3D"] {
            assert!(is_harmless(sequence), "{sequence:?}");
        }
    }
}
