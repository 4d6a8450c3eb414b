//! `domb check`: is everything that can be known on the host as it should be?

use std::process::ExitCode;

use image::check;

use super::load_platform;
use crate::arguments::Check;
use crate::messages::{self, Failure, Progress};

pub(crate) fn run(arguments: &Check) -> Result<ExitCode, Failure> {
    let reports = {
        let _progress = Progress::start("checking");
        check::check(&load_platform(&arguments.files, true)?)?
    };
    for report in reports {
        messages::result(&format!("{report}\n"));
        if arguments.plan {
            messages::result(&format!("{}\n", report.plan));
        }
    }
    Ok(ExitCode::SUCCESS)
}
