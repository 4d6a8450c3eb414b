//! `domb verify`: is this what that key signed?

use std::process::ExitCode;

use image::inspect::ManifestFacts;
use image::{files, signing};
use protocols::Manifest;

use super::inspect::MAX_LEN;
use crate::arguments::Verify;
use crate::json::{self, Message};
use crate::messages::{self, Failure, Progress};

pub(crate) fn run(arguments: &Verify) -> Result<ExitCode, Failure> {
    let verified = verify(arguments);
    if arguments.json {
        let messages = verified.as_ref().err().map(Message::all).unwrap_or_default();
        let value = verified.as_ref().ok().map(ManifestFacts::from);
        json::show("domb-verify-1", verified.is_ok(), &messages, value.as_ref())?;
        verified?;
    } else {
        messages::result(&image::inspect::manifest(&verified?));
    }
    Ok(ExitCode::SUCCESS)
}

fn verify(arguments: &Verify) -> Result<Manifest, Failure> {
    let _progress = Progress::start("verifying");
    let key = signing::read_public(&arguments.key)?;
    let bytes = files::read_bounded(&arguments.file, MAX_LEN)?;
    signing::verify(&bytes, &key, arguments.least_version)
        .map_err(|error| Failure::new(format!("{}: {error}", arguments.file.display())))
}
