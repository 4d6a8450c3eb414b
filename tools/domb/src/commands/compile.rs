//! `domb compile`: a VM file to a boot spec, a platform file to all specs of its RAM disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use image::files::{self, FileError};
use image::platform::Platform;
use image::platform_file::PlatformFile;
use protocols::archive::{CONTROL_ENTRY, PLATFORM_ENTRY, SPEC_SUFFIX, spec_entry};

use super::{Inputs, read_inputs};
use crate::arguments::Compile;
use crate::messages::Failure;

pub(crate) fn run(arguments: &Compile) -> Result<ExitCode, Failure> {
    match read_inputs(std::slice::from_ref(&arguments.file))? {
        Inputs::Vms(files) => {
            for file in files {
                let spec = image::platform::compile(&file)?;
                let beside = || PathBuf::from(format!("{}{SPEC_SUFFIX}", spec.name));
                write(&arguments.output.clone().unwrap_or_else(beside), &spec.encode()?)?;
            }
        }
        Inputs::Platform(file) => {
            compile_platform(*file, arguments.output.as_deref().unwrap_or(Path::new(".")))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes all specs into `folder`, by the names that they have in a RAM disk. Nothing is written unless all are right. The images are
/// read: two that differ and have one file name get different names.
fn compile_platform(file: PlatformFile, folder: &Path) -> Result<(), Failure> {
    let mut outputs = vec![(folder.join(PLATFORM_ENTRY), file.spec.encode()?)];
    if let Some(control) = &file.control {
        outputs.push((folder.join(CONTROL_ENTRY), control.encode()?));
    }
    for spec in Platform::load_file(file)?.specs() {
        outputs.push((folder.join(spec_entry(&spec.name)), spec.encode()?));
    }
    for (path, bytes) in outputs {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|cause| FileError::new("make the folder", parent, cause))?;
        }
        write(&path, &bytes)?;
    }
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    Ok(files::write_whole(path, |out| out.write_all(bytes))?)
}
