//! `domb pack`: VMs to a disk image, or to db-boot's RAM disk.

use std::path::Path;
use std::process::ExitCode;

use image::files;

use super::load_platform;
use super::stack::{self, Stack};
use crate::arguments::Pack;
use crate::messages::{Failure, Progress};

pub(crate) fn run(arguments: &Pack) -> Result<ExitCode, Failure> {
    let _progress = Progress::start("packing");
    let Some(output) = &arguments.output else {
        let platform = load_platform(&arguments.files, arguments.stack.keep_packed)?;
        let archive = stack::archive(&platform, &arguments.stack)?;
        return write(arguments.archive_only.as_deref(), &archive);
    };
    let stack =
        Stack::load(&arguments.files, &arguments.stack, !arguments.no_exit_port, arguments.interactive)?;
    if let Some(machine_mib) = arguments.machine_memory {
        stack.fits(machine_mib)?;
    }
    let disk = stack.disk(arguments.grub.as_deref())?;
    write(Some(output), &disk)?;
    write(arguments.archive_only.as_deref(), &stack.archive)
}

fn write(path: Option<&Path>, bytes: &[u8]) -> Result<ExitCode, Failure> {
    if let Some(path) = path {
        files::write_whole(path, |out| out.write_all(bytes))?;
    }
    Ok(ExitCode::SUCCESS)
}
