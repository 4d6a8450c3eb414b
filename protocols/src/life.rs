//! The part of a boot spec that says how a VM lives: what follows its end, and how often it may come back.

use serde::{Deserialize, Serialize};

use crate::spec::{ExitAction, SpecError};

/// Restarts of a VM in a row unless its file says otherwise: with the default delay, five minutes of
/// trying.
pub const DEFAULT_RESTART_LIMIT: u32 = 10;
/// The most restarts in a row that can be asked for: enough for every VM that is restarted on purpose.
pub const MAX_RESTART_LIMIT: u32 = 1_000_000;
/// The time before the first restart unless the VM file says otherwise, in milliseconds.
pub const DEFAULT_RESTART_DELAY_MS: u32 = 1000;
/// The longest time before the first restart that can be asked for, in milliseconds: an hour.
pub const MAX_RESTART_DELAY_MS: u32 = 3_600_000;

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
}

impl Default for Life {
    fn default() -> Self {
        Self {
            on_watchdog: ExitAction::Destroy,
            restart_limit: DEFAULT_RESTART_LIMIT,
            restart_delay_ms: DEFAULT_RESTART_DELAY_MS,
            critical: false,
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
        Ok(())
    }
}
