//! `domb check`: is everything that can be known on the host as it should be?

use std::process::ExitCode;

use image::check::{self, VmReport};
use image::report::VmSummary;
use image::source::Severity;
use serde::Serialize;

use super::load_platform;
use crate::arguments::Check;
use crate::json::{self, Message};
use crate::messages::{self, Failure, Progress};

pub(crate) fn run(arguments: &Check) -> Result<ExitCode, Failure> {
    let mut warnings = Vec::new();
    let checked = check(arguments, &mut warnings);
    if arguments.json {
        show_json(&checked, &warnings)?;
    }
    let reports = checked?;
    for report in reports.iter().filter(|_| !arguments.json) {
        messages::result(&format!("{report}\n"));
        if arguments.plan {
            messages::result(&format!("{}\n", report.plan));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Checks the VMs; the warnings about their files, which were shown already, go to `warnings`.
fn check(arguments: &Check, warnings: &mut Vec<String>) -> Result<Vec<VmReport>, Failure> {
    let _progress = Progress::start("checking");
    let platform = load_platform(&arguments.files, true)?;
    warnings.extend(platform.vms().iter().flat_map(|vm| vm.file.warning_texts()));
    Ok(check::check(&platform)?)
}

/// The value of `domb check --json`.
#[derive(Serialize)]
struct Checked {
    vms: Vec<VmSummary>,
}

fn show_json(checked: &Result<Vec<VmReport>, Failure>, warnings: &[String]) -> Result<(), Failure> {
    let mut messages: Vec<_> = warnings.iter().map(|text| Message::new(Severity::Warning, text)).collect();
    let value = match checked {
        Ok(reports) => Some(Checked { vms: reports.iter().map(VmSummary::from).collect() }),
        Err(failure) => {
            messages.extend(Message::all(failure));
            None
        }
    };
    json::show("domb-check-1", checked.is_ok(), &messages, value.as_ref())
}
