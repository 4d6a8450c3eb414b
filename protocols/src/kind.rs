//! What kinds of guests there are, and what becomes of them.

use serde::{Deserialize, Serialize};

/// The kind of a guest. The order of the variants is the wire format: additions go last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GuestKind {
    /// A 64-bit paravirtualised guest.
    Pv,
    /// A hardware-assisted guest without emulated devices.
    Pvh,
}

/// What becomes of a VM when it ends. The order of the variants is the wire format: additions go last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitAction {
    /// It is destroyed; everything it held is free again.
    Destroy,
    /// It stays, paused, for someone to look at.
    Preserve,
    /// It is destroyed, and built and started again from the same images; see [`Life::restart_limit`](crate::Life::restart_limit).
    Restart,
}
