//! `domb sign`: a manifest and its signature for a RAM disk or a disk image.

use std::process::ExitCode;

use image::{files, signing};

use super::inspect::MAX_LEN;
use super::stack::release;
use crate::arguments::Sign;
use crate::messages::{Failure, Progress};

pub(crate) fn run(arguments: &Sign) -> Result<ExitCode, Failure> {
    let _progress = Progress::start("signing");
    let key = signing::read_private(&arguments.key)?;
    let bytes = files::read_bounded(&arguments.file, MAX_LEN)?;
    let signed = signing::sign(&bytes, &release(&arguments.release), &key)
        .map_err(|error| Failure::new(format!("{}: {error}", arguments.file.display())))?;
    files::write_whole(&arguments.output, |out| out.write_all(&signed))?;
    Ok(ExitCode::SUCCESS)
}
