//! What holds for all VMs, in words for the log.

use core::fmt;

use protocols::PlatformSpec;
use protocols::platform::{Ends, LateAction, Policy};

/// The settings of a platform, as fields of a line of the log; those that are not set are left out.
pub(crate) struct Words<'s>(pub(crate) &'s PlatformSpec);

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(settings) = self;
        let policy = match settings.policy {
            Policy::All => "all",
            Policy::Each => "each",
        };
        write!(f, "policy={policy} ends=")?;
        match &settings.ends {
            Ends::Last => f.write_str("last")?,
            Ends::Critical => f.write_str("critical")?,
            Ends::Never => f.write_str("never")?,
            Ends::With(names) => f.write_str(&names.join(","))?,
        }
        let limits = &settings.limits;
        if let Some(memory) = limits.memory_kib {
            write!(f, " memory-limit={memory}KiB")?;
        }
        if let Some(vcpus) = limits.vcpus {
            write!(f, " vcpus-limit={vcpus}")?;
        }
        if let Some(vms) = limits.vms {
            write!(f, " vms-limit={vms}")?;
        }
        if let Some(readiness) = &settings.readiness {
            let late = match readiness.late {
                LateAction::GiveUp => "give-up",
                LateAction::Start => "start",
                LateAction::End => "end",
            };
            write!(f, " ready-timeout={}ms on-late={late}", readiness.timeout_ms)?;
        }
        if let Some(shutdown) = settings.shutdown_ms {
            write!(f, " shutdown={shutdown}ms")?;
        }
        if let Some(server) = &settings.server {
            write!(f, " controllers={}", server.controllers.len())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;
    use alloc::vec;

    use protocols::platform::{Limits, Readiness};

    use super::*;

    #[test]
    fn what_is_set_is_said_and_nothing_else() {
        assert_eq!(Words(&PlatformSpec::default()).to_string(), "policy=all ends=last");
        let settings = PlatformSpec {
            policy: Policy::Each,
            ends: Ends::With(vec!["web".into(), "db".into()]),
            limits: Limits { memory_kib: Some(4096), vcpus: Some(3), vms: Some(2) },
            readiness: Some(Readiness { timeout_ms: 500, late: LateAction::Start }),
            shutdown_ms: Some(700),
            ..PlatformSpec::default()
        };
        assert_eq!(
            Words(&settings).to_string(),
            "policy=each ends=web,db memory-limit=4096KiB vcpus-limit=3 vms-limit=2 ready-timeout=500ms on-late=start shutdown=700ms"
        );
    }
}
