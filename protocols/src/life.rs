//! The part of a boot spec that says how a VM lives: what follows its end, and how often it may come back.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::kind::ExitAction;
pub use crate::limits::{MAX_AFTER, MAX_READY_LEN, MAX_RESTART_DELAY_MS, MAX_RESTART_LIMIT};
use crate::names::check_name;
use crate::spec_error::SpecError;

/// Restarts of a VM in a row unless its file says otherwise: with the default delay, five minutes of
/// trying.
pub const DEFAULT_RESTART_LIMIT: u32 = 10;
/// The time before the first restart unless the VM file says otherwise, in milliseconds.
pub const DEFAULT_RESTART_DELAY_MS: u32 = 1000;

/// How a VM lives. The order of the fields is the wire format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Life {
    /// What happens when its watchdog is not fed.
    pub on_watchdog: ExitAction,
    /// How often it is restarted in a row, `1..=`[`MAX_RESTART_LIMIT`]. Only [`ExitAction::Restart`] uses it.
    pub restart_limit: u32,
    /// Milliseconds before the first restart in a row, `0..=`[`MAX_RESTART_DELAY_MS`]; it doubles with each further one.
    pub restart_delay_ms: u32,
    /// Whether the whole platform ends when this VM ends badly.
    pub critical: bool,
    /// The VMs that it starts after: at most [`MAX_AFTER`] names, none twice. [`disorders`](crate::order::disorders) finds names
    /// that no VM has, and cycles.
    pub after: Vec<String>,
    /// The text that its console shows when it is ready for those that start after it: 1 to [`MAX_READY_LEN`] bytes within one
    /// line, no control characters. Without it, it is ready when it has started.
    pub ready: Option<String>,
}

impl Default for Life {
    fn default() -> Self {
        Self {
            on_watchdog: ExitAction::Destroy,
            restart_limit: DEFAULT_RESTART_LIMIT,
            restart_delay_ms: DEFAULT_RESTART_DELAY_MS,
            critical: false,
            after: Vec::new(),
            ready: None,
        }
    }
}

impl Life {
    /// Checks every field against its range.
    pub(crate) fn validate(&self) -> Result<(), SpecError> {
        if !(1..=MAX_RESTART_LIMIT).contains(&self.restart_limit) {
            return Err(SpecError::BadRestartLimit { limit: self.restart_limit });
        }
        if self.restart_delay_ms > MAX_RESTART_DELAY_MS {
            return Err(SpecError::BadRestartDelay { delay_ms: self.restart_delay_ms });
        }
        check_after(&self.after)?;
        self.ready.as_deref().map_or(Ok(()), check_ready)
    }
}

/// Checks the names of the VMs that one starts after; see [`Life::after`].
pub fn check_after(after: &[String]) -> Result<(), SpecError> {
    if after.len() > MAX_AFTER {
        return Err(SpecError::AfterTooMany { count: after.len() });
    }
    for (index, name) in after.iter().enumerate() {
        check_name(name)?;
        if after.iter().take(index).any(|earlier| earlier == name) {
            return Err(SpecError::AfterTwice { name: name.clone() });
        }
    }
    Ok(())
}

/// Checks the text by which a VM shows that it is ready; see [`Life::ready`].
pub fn check_ready(ready: &str) -> Result<(), SpecError> {
    if ready.is_empty() || ready.len() > MAX_READY_LEN || ready.chars().any(char::is_control) {
        return Err(SpecError::BadReady { ready: ready.into() });
    }
    Ok(())
}
