//! How a VM ended.

use core::fmt;

use protocols::message::EndReason;
use protocols::status::guest_exit_status;
use protocols::{BootSpec, ExitAction};
use xen_abi::sched::{
    SHUTDOWN_CRASH, SHUTDOWN_POWEROFF, SHUTDOWN_REBOOT, SHUTDOWN_SOFT_RESET, SHUTDOWN_SUSPEND,
    SHUTDOWN_WATCHDOG,
};

/// How a VM ended, from the reason that it, or Xen for it, gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// In order.
    Poweroff,
    /// It wants to be started again.
    Reboot,
    /// It sleeps.
    Suspend,
    /// It gave up, or Xen stopped it for a fault.
    Crash,
    /// Its watchdog was not fed.
    Watchdog,
    /// It asks for a reset that keeps its memory.
    SoftReset,
    /// With an exit status, 0 to 127.
    Exit(u8),
    /// For a reason that has no meaning here.
    Unknown(u8),
    /// It vanished: something else destroyed it.
    Gone,
    /// It was destroyed because somebody wanted it so.
    Destroyed,
}

impl Ending {
    /// What a shutdown reason means.
    pub fn from_reason(reason: u8) -> Self {
        match reason {
            SHUTDOWN_POWEROFF => Self::Poweroff,
            SHUTDOWN_REBOOT => Self::Reboot,
            SHUTDOWN_SUSPEND => Self::Suspend,
            SHUTDOWN_CRASH => Self::Crash,
            SHUTDOWN_WATCHDOG => Self::Watchdog,
            SHUTDOWN_SOFT_RESET => Self::SoftReset,
            other => guest_exit_status(u32::from(other)).map_or(Self::Unknown(other), Self::Exit),
        }
    }

    /// Whether a VM that ended so did what it was to do.
    pub fn is_good(self) -> bool {
        matches!(self, Self::Poweroff | Self::Reboot | Self::Suspend | Self::Exit(0))
    }

    /// What `spec` asks for when the VM ends so. An ending that has no setting of its own is taken like a power-off if it is
    /// good, and like a crash if not; for a VM that is gone nothing can be done.
    pub fn action(self, spec: &BootSpec) -> ExitAction {
        match self {
            Self::Poweroff | Self::Suspend | Self::Exit(0) => spec.on_poweroff,
            Self::Reboot => spec.on_reboot,
            Self::Watchdog => spec.life.on_watchdog,
            Self::Crash | Self::SoftReset | Self::Exit(_) | Self::Unknown(_) => spec.on_crash,
            Self::Gone | Self::Destroyed => ExitAction::Destroy,
        }
    }
}

impl From<EndReason> for Ending {
    /// What db-server tells of an end.
    fn from(reason: EndReason) -> Self {
        match reason {
            EndReason::Poweroff => Self::Poweroff,
            EndReason::Reboot => Self::Reboot,
            EndReason::Suspend => Self::Suspend,
            EndReason::Crash => Self::Crash,
            EndReason::Watchdog => Self::Watchdog,
            EndReason::SoftReset => Self::SoftReset,
            EndReason::Status(status) => Self::Exit(status),
            EndReason::Destroyed => Self::Destroyed,
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Poweroff => f.write_str("poweroff"),
            Self::Reboot => f.write_str("reboot"),
            Self::Suspend => f.write_str("suspend"),
            Self::Crash => f.write_str("crash"),
            Self::Watchdog => f.write_str("watchdog"),
            Self::SoftReset => f.write_str("soft_reset"),
            Self::Exit(status) => write!(f, "exit status={status}"),
            Self::Unknown(reason) => write!(f, "unknown code={reason}"),
            Self::Gone => f.write_str("gone"),
            Self::Destroyed => f.write_str("destroyed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn every_reason_has_one_ending() {
        let texts = ["poweroff", "reboot", "suspend", "crash", "watchdog", "soft_reset", "unknown code=6"];
        for (reason, text) in (0..).zip(texts) {
            assert_eq!(Ending::from_reason(reason).to_string(), text);
        }
        assert_eq!(Ending::from_reason(0x7f), Ending::Unknown(0x7f));
        assert_eq!(Ending::from_reason(0x80), Ending::Exit(0));
        assert_eq!(Ending::from_reason(0xff).to_string(), "exit status=127");
    }

    #[test]
    fn only_an_orderly_end_is_good() {
        let good: alloc::vec::Vec<u8> =
            (0..=255).filter(|reason| Ending::from_reason(*reason).is_good()).collect();
        assert_eq!(good, [SHUTDOWN_POWEROFF, SHUTDOWN_REBOOT, SHUTDOWN_SUSPEND, 0x80]);
        assert!(!Ending::Gone.is_good());
    }
}
