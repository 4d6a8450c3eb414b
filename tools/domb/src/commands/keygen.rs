//! `domb keygen`: a pair of keys.

use std::process::ExitCode;

use image::signing;

use crate::arguments::Keygen;
use crate::messages::{self, Failure};

pub(crate) fn run(arguments: &Keygen) -> Result<ExitCode, Failure> {
    let made = signing::generate(&arguments.name)?;
    messages::note(&format!(
        "{} signs platforms: keep it where only you can read it; {} verifies them: build it into db-boot with \
         `make db-boot TRUST_KEY={}`",
        made.private_file.display(),
        made.public_file.display(),
        made.public_file.display()
    ));
    messages::result(&format!("{}\n", made.public))?;
    Ok(ExitCode::SUCCESS)
}
