//! The user's terminal, while what is typed there is for a machine.

use std::io::{self, IsTerminal as _};
use std::panic;
use std::sync::{Mutex, PoisonError};

use rustix::process::getpgrp;
use rustix::termios::{
    InputModes, LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetpgrp, tcsetattr,
};

/// The settings of the terminal before they were changed.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// Whether somebody sits at standard input and sees standard output, and this program is the one that the terminal is for.
pub(crate) fn is_attended() -> bool {
    io::stdin().is_terminal()
        && io::stdout().is_terminal()
        && tcgetpgrp(io::stdin()).is_ok_and(|group| group == getpgrp())
}

/// The terminal hands over each key as it is typed: no echo, no editing, no signals. Output is as before.
///
/// Its settings come back when this is dropped, and before the report of a panic. (Signals end domb in order, so that it is
/// dropped then too.)
pub(crate) struct RawTerminal(());

impl RawTerminal {
    /// Changes the settings.
    pub(crate) fn enter() -> io::Result<Self> {
        let mut settings = tcgetattr(io::stdin())?;
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(settings.clone());
        let report = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            restore();
            report(info);
        }));
        settings.input_modes -= InputModes::IGNBRK
            | InputModes::BRKINT
            | InputModes::PARMRK
            | InputModes::ISTRIP
            | InputModes::INLCR
            | InputModes::IGNCR
            | InputModes::ICRNL
            | InputModes::IXON;
        settings.local_modes -= LocalModes::ICANON
            | LocalModes::ECHO
            | LocalModes::ECHONL
            | LocalModes::ISIG
            | LocalModes::IEXTEN;
        settings.special_codes[SpecialCodeIndex::VMIN] = 1;
        settings.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(io::stdin(), OptionalActions::Now, &settings)?;
        Ok(Self(()))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        restore();
    }
}

/// Puts the settings back. What was typed and not read is dropped: it was meant for the machine.
fn restore() {
    if let Some(settings) = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take() {
        // A terminal that is gone needs no settings.
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &settings);
    }
}
