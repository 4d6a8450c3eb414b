//! How a run ended, for programs.

use image::chart::{Phase, Row, Timeline};
use image::qemu::{Outcome, QemuCommand};
use image::source::Severity;
use protocols::MachineStatus;
use serde::Serialize;

use super::exit_code;
use crate::json::{self, Message};
use crate::messages::Failure;

const SCHEMA: &str = "domb-run-1";

/// How a machine ended.
#[derive(Clone, Copy)]
pub(super) enum Ended<'a> {
    /// By ACPI, as one without an exit port does: nothing tells how its VMs ended but its log.
    SwitchedOff,
    /// As QEMU tells.
    As(&'a Outcome),
}

/// The value of `domb run --json`.
#[derive(Serialize)]
struct Value {
    /// How the machine ended, in a word.
    status: &'static str,
    /// domb's exit status.
    exit_status: u8,
    /// The QEMU command, ready for a shell.
    command: Option<String>,
    /// The VMs that db-boot's log names.
    vms: Vec<Vm>,
}

/// A VM, as far as db-boot's log tells.
#[derive(Serialize)]
struct Vm {
    name: String,
    /// Its latest domain id.
    domid: Option<u16>,
    /// Its latest state: `poweroff`, `crash`, `exit status=3`, `running`, `built`, `not built`, ...
    state: String,
    /// Whether something about it is wrong.
    bad: bool,
    /// Microseconds that building it took.
    building_us: Option<u64>,
    /// Microseconds that it ran.
    running_us: Option<u64>,
}

impl From<&Row> for Vm {
    fn from(row: &Row) -> Self {
        Self {
            name: row.name.clone(),
            domid: row.domid.as_ref().and_then(|domid| domid.parse().ok()),
            state: row.verdict.clone(),
            bad: row.bad,
            building_us: row.total(|stretch| stretch.phase.is_step()),
            running_us: row.total(|stretch| stretch.phase == Phase::Running),
        }
    }
}

/// Shows how a machine ended that wrote `console`.
pub(super) fn show(ended: Ended<'_>, command: &QemuCommand, console: &str) -> Result<(), Failure> {
    let (status, exit_status, text) = match ended {
        Ended::SwitchedOff => ("switched-off", 0, String::new()),
        Ended::As(outcome) => (word(outcome), exit_code(outcome), outcome.to_string()),
    };
    let vms = Timeline::read(console).map(|timeline| timeline.vms.iter().map(Vm::from).collect());
    let value =
        Value { status, exit_status, command: Some(command.to_string()), vms: vms.unwrap_or_default() };
    let ok = exit_status == 0;
    let messages: Vec<_> = (!ok).then(|| Message::new(Severity::Error, &text)).into_iter().collect();
    json::show(SCHEMA, ok, &messages, Some(&value))
}

/// Shows why no machine was started.
pub(super) fn not_run(failure: &Failure) -> Result<(), Failure> {
    let value = Value { status: "not-run", exit_status: 1, command: None, vms: Vec::new() };
    json::show(SCHEMA, false, &Message::all(failure), Some(&value))
}

fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Status(MachineStatus::Success) => "success",
        Outcome::Status(MachineStatus::VmFailed) => "vm-failed",
        Outcome::Status(MachineStatus::BuildFailed) => "build-failed",
        Outcome::Status(MachineStatus::BuilderFailed) => "builder-failed",
        Outcome::NoStatus(_) => "no-status",
        Outcome::Timeout(_) => "timeout",
        Outcome::Interrupted => "interrupted",
    }
}
