//! `domb check`: is everything that can be known on the host as it should be?

use std::process::ExitCode;

use super::load_platform;
use crate::arguments::Check;
use crate::messages::Failure;

pub(crate) fn run(arguments: &Check) -> Result<ExitCode, Failure> {
    let platform = load_platform(&arguments.files)?;
    for vm in platform.vms() {
        vm.spec.validate()?;
        println!("{}: fine", vm.spec.name);
    }
    Ok(ExitCode::SUCCESS)
}
