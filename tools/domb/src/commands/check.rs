//! `domb check`: is everything that can be known on the host as it should be?

use std::process::ExitCode;

use image::check::{self, VmReport};
use image::inspect::PlatformFacts;
use image::memory::{BuilderNeed, USUAL_BUILDER};
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
    let Checks { platform, reports } = checked?;
    if let Some(platform) = platform.filter(|_| !arguments.json) {
        let memory = reports.iter().map(|report| report.spec.memory_kib / 1024).sum::<u64>();
        let ends = if platform.ends == "with" { platform.ends_with.join(", ") } else { platform.ends };
        let vms = match reports.len() {
            1 => "1 VM".to_owned(),
            count => format!("{count} VMs"),
        };
        messages::result(&format!("platform: {vms}, {memory} MiB, ends: {ends}\n"))?;
    }
    for report in reports.iter().filter(|_| !arguments.json) {
        messages::result(&format!("{report}\n"))?;
        if arguments.plan {
            messages::result(&format!("{}\n", report.plan))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Checks the VMs; the warnings about their files, which were shown already, go to `warnings`.
fn check(arguments: &Check, warnings: &mut Vec<String>) -> Result<Checks, Failure> {
    let _progress = Progress::start("checking");
    let platform = load_platform(&arguments.files, true)?;
    warnings.extend_from_slice(platform.warnings());
    let reports = check::check(&platform)?;
    let mut warn = |text: String| {
        messages::warn(&text);
        warnings.push(text);
    };
    reports.iter().flat_map(|report| &report.warnings).for_each(|text| warn(text.clone()));
    if let Some(machine_mib) = arguments.machine_memory {
        let archive = u64::try_from(platform.archive()?.len()).unwrap_or(u64::MAX);
        let need = BuilderNeed {
            image: USUAL_BUILDER,
            archive,
            unpacking: platform.unpacking_cost(),
            serving: platform.serving_need(),
        };
        super::fits(&platform, need.dom0_mem_mib(), machine_mib, &mut warn)?;
    }
    Ok(Checks { platform: platform.settings().map(PlatformFacts::from), reports })
}

/// What was found to be right.
struct Checks {
    platform: Option<PlatformFacts>,
    reports: Vec<VmReport>,
}

/// The value of `domb check --json`.
#[derive(Serialize)]
struct Checked<'c> {
    platform: Option<&'c PlatformFacts>,
    vms: Vec<VmSummary>,
}

fn show_json(checked: &Result<Checks, Failure>, warnings: &[String]) -> Result<(), Failure> {
    let mut messages: Vec<_> = warnings.iter().map(|text| Message::new(Severity::Warning, text)).collect();
    let value = match checked {
        Ok(Checks { platform, reports }) => {
            let vms = reports.iter().map(VmSummary::from).collect();
            Some(Checked { platform: platform.as_ref(), vms })
        }
        Err(failure) => {
            messages.extend(Message::all(failure));
            None
        }
    };
    json::show("domb-check-1", checked.is_ok(), &messages, value.as_ref())
}
