//! The security labels of a VM, on a Xen with FLASK.

use alloc::string::String;

use serde::{Deserialize, Serialize};

use super::SettingsError;

/// The longest label in bytes. Xen's own bound is a page; no policy's labels come near this one.
pub const MAX_LABEL_LEN: usize = 255;

/// Security labels. The order of the fields is the wire format.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Labels {
    /// The label that it runs with; `None` for the one that Xen's own tools give, which a Xen without FLASK takes too.
    pub running: Option<String>,
    /// The label that it is built with; `None` for that which it runs with.
    pub building: Option<String>,
}

impl Labels {
    /// Whether a label is asked for.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Checks every label, and that one to build with is not the only one.
    pub(super) fn validate(&self) -> Result<(), SettingsError> {
        let labels = [&self.running, &self.building];
        labels.into_iter().flatten().try_for_each(|label| check_label(label))?;
        match (&self.building, &self.running) {
            (Some(building), None) => Err(SettingsError::LoneBuildLabel { label: building.clone() }),
            _ => Ok(()),
        }
    }
}

/// Checks a label: 1 to [`MAX_LABEL_LEN`] printable ASCII characters without spaces, three parts at least with colons between.
pub fn check_label(label: &str) -> Result<(), SettingsError> {
    let printable = label.bytes().all(|byte| byte.is_ascii_graphic());
    let parts = label.split(':').filter(|part| !part.is_empty()).count();
    if printable && parts >= 3 && label.len() <= MAX_LABEL_LEN {
        Ok(())
    } else {
        Err(SettingsError::BadLabel { label: label.into() })
    }
}
