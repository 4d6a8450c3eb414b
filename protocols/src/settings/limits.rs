//! Limits of a VM inside of Xen.

use serde::{Deserialize, Serialize};

use super::{SettingsError, within};

/// Event channels of a VM whose file does not say.
pub const DEFAULT_EVENT_CHANNELS: u32 = 1023;
/// The most event channels: what the FIFO interface of Xen has, less port 0.
pub const MAX_EVENT_CHANNELS: u32 = 131_071;
/// Frames of the grant table of a VM whose file does not say: 32768 grants.
pub const DEFAULT_GRANT_FRAMES: u32 = 64;
/// Frames of the table of mapped grants of a VM whose file does not say.
pub const DEFAULT_MAPTRACK_FRAMES: u32 = 1024;
/// The most frames of either table: Xen's own bound on what an administrator may allow is lower.
pub const MAX_TABLE_FRAMES: u32 = 1 << 20;

/// What Xen allows a VM to have. The order of the fields is the wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Event channels, `1..=`[`MAX_EVENT_CHANNELS`]: the number of its highest port.
    pub event_channels: u32,
    /// Frames that its grant table may grow to, `1..=`[`MAX_TABLE_FRAMES`]; each holds 512 grants.
    pub grant_frames: u32,
    /// Frames that the table of the grants that it has mapped may grow to, `0..=`[`MAX_TABLE_FRAMES`].
    pub maptrack_frames: u32,
    /// The highest version of the grant table that it may choose, 1 or 2; `None` for the highest that Xen has.
    pub grant_version: Option<u8>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            event_channels: DEFAULT_EVENT_CHANNELS,
            grant_frames: DEFAULT_GRANT_FRAMES,
            maptrack_frames: DEFAULT_MAPTRACK_FRAMES,
            grant_version: None,
        }
    }
}

impl Limits {
    /// Checks every field against its range.
    pub(super) fn validate(&self) -> Result<(), SettingsError> {
        within("event channels", self.event_channels, 1, MAX_EVENT_CHANNELS)?;
        within("grant frames", self.grant_frames, 1, MAX_TABLE_FRAMES)?;
        within("maptrack frames", self.maptrack_frames, 0, MAX_TABLE_FRAMES)?;
        within("grant table version", u32::from(self.grant_version.unwrap_or(1)), 1, 2)
    }
}
