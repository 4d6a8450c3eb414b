//! `domb report`: everything that is packed, with digests.

use std::process::ExitCode;

use image::report::Report;

use super::load_platform;
use crate::arguments;
use crate::json::{self, Message};
use crate::messages::{self, Failure, Progress};

pub(crate) fn run(arguments: &arguments::Report) -> Result<ExitCode, Failure> {
    let report = report(arguments);
    if arguments.json {
        let messages = report.as_ref().err().map(Message::all).unwrap_or_default();
        json::show("domb-report-1", report.is_ok(), &messages, report.as_ref().ok())?;
        report?;
    } else {
        messages::result(&report?.to_string())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn report(arguments: &arguments::Report) -> Result<Report, Failure> {
    let _progress = Progress::start("reporting");
    Ok(Report::of(load_platform(&arguments.files, true)?, arguments.keep_packed)?)
}
