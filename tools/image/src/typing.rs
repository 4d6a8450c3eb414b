//! What is typed for the machine: from a terminal or a script to its serial line.
//!
//! Nobody listens at that line before db-boot does, and what arrives earlier is lost: bytes are kept until db-boot says that
//! somebody has the keyboard. Then they go slowly, for Xen keeps no more than 128 of them.

use std::io::{Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::interrupt;

/// What db-boot's line begins with by which it says that somebody listens.
const LISTENS: &[u8] = b"db-boot: keyboard=";

/// Bytes that are sent at once, an eighth of what Xen keeps, and the time between two such pieces: 4 kB a second.
const PIECE: usize = 16;
const PAUSE: Duration = Duration::from_millis(4);

/// Pieces of what was typed, of at most 1 KiB each, that are kept: the next one of a script has to wait, one of a terminal
/// is lost. Who types is heard in any case, for one key is to stop the machine.
const PIECES_KEPT: usize = 1024;

/// Where typed bytes come from.
pub struct Keyboard {
    source: Box<dyn Read + Send>,
    is_terminal: bool,
}

impl Keyboard {
    /// A terminal, at which [`QUIT_KEY`] three times within a second stops the machine.
    pub fn terminal(source: Box<dyn Read + Send>) -> Self {
        Self { source, is_terminal: true }
    }

    /// A script: every byte is the machine's.
    pub fn script(source: Box<dyn Read + Send>) -> Self {
        Self { source, is_terminal: false }
    }

    /// Sends what is typed to the machine as soon as somebody listens; gives back what has to see the machine's output.
    ///
    /// The threads that do so end with the source or the machine; one that waits for a key when the machine has ended
    /// stays behind.
    pub(crate) fn connect(self, machine: impl Write + Send + 'static) -> Ear {
        let gate = Arc::new(Gate::default());
        let (sender, receiver) = sync_channel(PIECES_KEPT);
        thread::spawn(move || self.take(&sender));
        let opened = gate.clone();
        thread::spawn(move || send(&receiver, &opened, machine));
        Ear { gate, seen: Vec::new() }
    }

    /// Takes what is typed, also before somebody listens.
    fn take(mut self, sender: &SyncSender<Vec<u8>>) {
        let mut quit = QuitKey::default();
        let mut buffer = [0; 1024];
        while let Ok(count @ 1..) = self.source.read(&mut buffer) {
            let typed = &buffer[..count];
            if self.is_terminal && quit.press(typed, Instant::now()) {
                interrupt::request();
            }
            let is_gone = if self.is_terminal {
                matches!(sender.try_send(typed.to_vec()), Err(TrySendError::Disconnected(_)))
            } else {
                sender.send(typed.to_vec()).is_err()
            };
            if is_gone {
                return;
            }
        }
    }
}

/// Sends typed bytes, once the gate is open.
fn send(typed: &Receiver<Vec<u8>>, gate: &Gate, mut machine: impl Write) {
    if !gate.wait() {
        return;
    }
    for bytes in typed {
        for piece in bytes.chunks(PIECE) {
            if machine.write_all(piece).and_then(|()| machine.flush()).is_err() {
                return;
            }
            thread::sleep(PAUSE);
        }
    }
}

/// The key that stops the machine: Ctrl-\.
pub const QUIT_KEY: u8 = 0x1c;

/// Counts how often [`QUIT_KEY`] was pressed in a row.
#[derive(Default)]
struct QuitKey {
    count: u32,
    first: Option<Instant>,
}

impl QuitKey {
    /// Takes what was typed at `now`; says whether that makes three.
    fn press(&mut self, typed: &[u8], now: Instant) -> bool {
        for byte in typed {
            if *byte != QUIT_KEY {
                *self = Self::default();
                continue;
            }
            if self.first.is_some_and(|first| now.duration_since(first) > Duration::from_secs(1)) {
                *self = Self::default();
            }
            self.first.get_or_insert(now);
            self.count += 1;
            if self.count == 3 {
                return true;
            }
        }
        false
    }
}

/// Whether somebody listens; `None` as long as that is not known.
#[derive(Default)]
struct Gate {
    listens: Mutex<Option<bool>>,
    changed: Condvar,
}

impl Gate {
    fn set(&self, listens: bool) {
        self.listens.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(listens);
        self.changed.notify_all();
    }

    fn wait(&self) -> bool {
        let mut listens = self.listens.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(listens) = *listens {
                return listens;
            }
            listens = self.changed.wait(listens).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Watches the machine's output for the line by which db-boot says that somebody listens.
pub(crate) struct Ear {
    gate: Arc<Gate>,
    /// The end of what was seen before, as far as the line could have begun there.
    seen: Vec<u8>,
}

impl Ear {
    /// Takes more of the output.
    pub(crate) fn hear(&mut self, output: &[u8]) {
        self.seen.extend_from_slice(output);
        if self.seen.windows(LISTENS.len()).any(|part| part == LISTENS) {
            self.gate.set(true);
        }
        self.seen.drain(..self.seen.len().saturating_sub(LISTENS.len() - 1));
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        // There is no machine any more: nobody will.
        self.gate.set(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    /// Shows what the machine gets.
    struct Machine(std::sync::mpsc::Sender<Vec<u8>>);

    impl Write for Machine {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            assert!(bytes.len() <= PIECE);
            self.0.send(bytes.to_vec()).unwrap();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn nothing_is_sent_before_somebody_listens_and_then_all_of_it() {
        let text = b"typed early, and more than one piece of it".to_vec();
        let (sender, got) = channel();
        let mut ear = Keyboard::script(Box::new(std::io::Cursor::new(text.clone()))).connect(Machine(sender));
        ear.hear(b"[    1.0] db-boot: info: x\ndb-boot: key");
        assert!(got.recv_timeout(Duration::from_millis(50)).is_err());
        ear.hear(b"board=vm: what you type");
        let sent: Vec<u8> = got.iter().flatten().collect();
        assert_eq!(sent, text);
    }

    #[test]
    fn a_machine_that_ends_unheard_lets_go_of_the_threads() {
        let (sender, got) = channel();
        drop(Keyboard::script(Box::new(std::io::Cursor::new(b"x"))).connect(Machine(sender)));
        assert!(got.recv().is_err());
    }

    /// A source that gives one byte at a time, and tells how many are left.
    struct Keys(usize, std::sync::mpsc::Sender<usize>);

    impl Read for Keys {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let Some(left) = self.0.checked_sub(1) else { return Ok(0) };
            self.0 = left;
            buffer[0] = b'x';
            self.1.send(left).unwrap();
            Ok(1)
        }
    }

    #[test]
    fn a_terminal_is_heard_however_much_was_typed_that_nobody_listens_to() {
        let (sender, got) = channel();
        let (taken, left) = channel();
        let ear = Keyboard::terminal(Box::new(Keys(PIECES_KEPT * 2, taken))).connect(Machine(sender));
        let mut last = usize::MAX;
        while let Ok(left) = left.recv_timeout(Duration::from_secs(5)) {
            last = left;
        }
        assert_eq!(last, 0, "every key was taken");
        drop(ear);
        assert!(got.recv().is_err());
    }

    #[test]
    fn three_quit_keys_within_a_second_stop_the_machine() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut quit = QuitKey::default();
        assert!(!quit.press(b"\x1c", at(0)) && !quit.press(b"\x1c", at(500)) && quit.press(b"\x1c", at(900)));
        let mut quit = QuitKey::default();
        assert!(!quit.press(b"\x1c\x1cx\x1c\x1c", at(0)) && quit.press(b"\x1c", at(10)));
        let mut quit = QuitKey::default();
        assert!(
            !quit.press(b"\x1c\x1c", at(0))
                && !quit.press(b"\x1c", at(1100))
                && !quit.press(b"\x1c", at(1200))
        );
    }
}
