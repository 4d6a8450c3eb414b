//! A platform spec, for people and for programs.

use std::fmt::Write as _;

use protocols::PlatformSpec;
use protocols::platform::{Ends, LateAction, LogLevel, Policy};
use serde::Serialize;

use super::server::{self, ServerFacts};

/// What a platform spec says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlatformFacts {
    /// What happens to the other VMs when one cannot be built: `all` means that none is started, `each` that they are.
    pub policy: String,
    /// What ends the platform: `last`, `critical`, `never`, or `with`.
    pub ends: String,
    /// The VMs whose end ends the platform, where `ends` is `with`.
    pub ends_with: Vec<String>,
    /// What the VMs may start with together, in KiB.
    pub memory_limit_kib: Option<u64>,
    /// How many vCPUs they may have together.
    pub vcpus_limit: Option<u32>,
    /// How many they may be.
    pub vms_limit: Option<u32>,
    /// How long VMs may take to become ready, in milliseconds.
    pub ready_timeout_ms: Option<u32>,
    /// What happens when one does not: `give-up`, `start` or `end`.
    pub on_late: Option<String>,
    /// How long a VM gets to power itself off when it is asked to, in milliseconds.
    pub shutdown_ms: u32,
    /// How much db-boot says: `error`, `warn`, `info` or `debug`.
    pub loglevel: Option<String>,
    /// What db-server serves; none: nothing, db-boot will do.
    pub server: Option<ServerFacts>,
}

impl From<&PlatformSpec> for PlatformFacts {
    fn from(spec: &PlatformSpec) -> Self {
        let (ends, ends_with) = match &spec.ends {
            Ends::Last => ("last", Vec::new()),
            Ends::Critical => ("critical", Vec::new()),
            Ends::With(names) => ("with", names.clone()),
            Ends::Never => ("never", Vec::new()),
        };
        let policy = match spec.policy {
            Policy::All => "all",
            Policy::Each => "each",
        };
        let late = |late| match late {
            LateAction::GiveUp => "give-up",
            LateAction::Start => "start",
            LateAction::End => "end",
        };
        let level = |level| match level {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
        };
        Self {
            policy: policy.into(),
            ends: ends.into(),
            ends_with,
            memory_limit_kib: spec.limits.memory_kib,
            vcpus_limit: spec.limits.vcpus,
            vms_limit: spec.limits.vms,
            ready_timeout_ms: spec.readiness.map(|readiness| readiness.timeout_ms),
            on_late: spec.readiness.map(|readiness| late(readiness.late).into()),
            shutdown_ms: spec.shutdown_time_ms(),
            loglevel: spec.log_level.map(|it| level(it).into()),
            server: spec.server.as_ref().map(ServerFacts::from),
        }
    }
}

/// Describes a platform spec in a line each for what it says.
pub(crate) fn describe(spec: &PlatformSpec) -> String {
    let facts = PlatformFacts::from(spec);
    let mut out = String::new();
    let mut field = |name: &str, value: String| _ = writeln!(out, "{name:<13} {value}");
    let policy = match spec.policy {
        Policy::All => "no VM is started unless all can be",
        Policy::Each => "VMs are started although others cannot be",
    };
    field("policy", format!("{}: {policy}", facts.policy));
    let ends = match &spec.ends {
        Ends::Last => "with the last VM".into(),
        Ends::Critical => "with the last critical VM".into(),
        Ends::With(names) => format!("with any of {}", names.join(", ")),
        Ends::Never => "never".into(),
    };
    field("ends", ends);
    let limits = [
        (facts.memory_limit_kib.map(|kib| kib / 1024), "MiB"),
        (facts.vcpus_limit.map(u64::from), "vCPUs"),
        (facts.vms_limit.map(u64::from), "VMs"),
    ];
    let limits: Vec<_> =
        limits.iter().filter_map(|(limit, unit)| limit.map(|limit| format!("{limit} {unit}"))).collect();
    if !limits.is_empty() {
        field("limits", limits.join(", "));
    }
    if let Some(readiness) = spec.readiness {
        let late = match readiness.late {
            LateAction::GiveUp => "those that wait for a VM are given up",
            LateAction::Start => "those that wait for a VM start all the same",
            LateAction::End => "the platform ends",
        };
        field("ready timeout", format!("{} ms; then {late}", readiness.timeout_ms));
    }
    if let Some(time) = spec.shutdown_ms {
        field("shutdown", format!("{time} ms for a VM to power itself off"));
    }
    if let Some(level) = facts.loglevel {
        field("loglevel", level);
    }
    for (name, value) in spec.server.iter().flat_map(server::lines) {
        field(name, value);
    }
    out
}
