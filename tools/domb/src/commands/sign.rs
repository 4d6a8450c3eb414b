//! `domb sign`: a manifest and its signature for a RAM disk or a disk image.

use std::process::ExitCode;

use image::signing::Release;
use image::{files, signing};

use super::inspect::MAX_LEN;
use crate::arguments::Sign;
use crate::messages::{Failure, Progress};

pub(crate) fn run(arguments: &Sign) -> Result<ExitCode, Failure> {
    let _progress = Progress::start("signing");
    let key = signing::read_private(&arguments.key)?;
    let bytes = files::read_bounded(&arguments.file, MAX_LEN)?;
    let release = Release {
        platform: arguments.release.platform.clone().unwrap_or_default(),
        version: arguments.release.platform_version.unwrap_or(0),
    };
    let signed = signing::sign(&bytes, &release, &key)
        .map_err(|error| Failure::new(format!("{}: {error}", arguments.file.display())))?;
    files::replace_whole(&arguments.output, |out| out.write_all(&signed))?;
    Ok(ExitCode::SUCCESS)
}
