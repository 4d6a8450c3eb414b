//! `domb compile`: a VM file to a boot spec.

use std::path::PathBuf;
use std::process::ExitCode;

use super::read_files;
use crate::arguments::Compile;
use crate::messages::Failure;

pub(crate) fn run(arguments: &Compile) -> Result<ExitCode, Failure> {
    for file in read_files(std::slice::from_ref(&arguments.file))? {
        let spec = image::platform::compile(&file)?;
        let bytes = spec.encode()?;
        let beside = || PathBuf::from(format!("{}{}", spec.name, protocols::archive::SPEC_SUFFIX));
        let output = arguments.output.clone().unwrap_or_else(beside);
        image::files::write_whole(&output, |out| out.write_all(&bytes))?;
    }
    Ok(ExitCode::SUCCESS)
}
