//! The commands, one module each, and what they share.

pub(crate) mod chart;
pub(crate) mod check;
pub(crate) mod compile;
pub(crate) mod documents;
pub(crate) mod explain;
pub(crate) mod inspect;
pub(crate) mod keygen;
pub(crate) mod new;
pub(crate) mod pack;
pub(crate) mod report;
pub(crate) mod run;
pub(crate) mod sign;
mod stack;
pub(crate) mod verify;

use std::path::PathBuf;

use image::config::VmFile;
use image::platform::Platform;

use crate::messages::{self, Failure};

/// Reads all VM files, shows their warnings, and reports the mistakes of all of them at once.
fn read_files(paths: &[PathBuf]) -> Result<Vec<VmFile>, Failure> {
    let mut files = Vec::new();
    let mut failures = Vec::new();
    for path in paths {
        match VmFile::read(path) {
            Ok(file) => {
                file.warning_texts().for_each(|text| messages::warn(&text));
                files.push(file);
            }
            Err(error) => failures.push(Failure::from(error)),
        }
    }
    if failures.is_empty() { Ok(files) } else { Err(Failure::all(failures)) }
}

/// Reads VM files and their images, and unpacks packed kernels unless they are to be kept as they are.
fn load_platform(paths: &[PathBuf], keep_packed: bool) -> Result<Platform, Failure> {
    let mut platform = Platform::load(read_files(paths)?)?;
    if !keep_packed {
        platform.unpack_kernels();
    }
    Ok(platform)
}
