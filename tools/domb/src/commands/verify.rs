//! `domb verify`: is this what that key signed?

use std::process::ExitCode;

use image::builder::Builder;
use image::disk::DiskContents;
use image::inspect::{ManifestFacts, UnsignedFacts};
use image::signing::Verified;
use image::xen::Xen;
use image::{files, signing};
use serde::Serialize;

use super::inspect::MAX_LEN;
use crate::arguments::Verify;
use crate::json::{self, Message};
use crate::messages::{self, Failure, Progress};

pub(crate) fn run(arguments: &Verify) -> Result<ExitCode, Failure> {
    let verified = verify(arguments);
    if arguments.json {
        let messages = verified.as_ref().err().map(Message::all).unwrap_or_default();
        let value = verified.as_ref().ok().map(Facts::from);
        json::show("domb-verify-1", verified.is_ok(), &messages, value.as_ref())?;
        verified?;
    } else {
        let Verified { manifest, disk } = verified?;
        messages::result(&image::inspect::manifest(&manifest))?;
        if let Some(disk) = disk {
            messages::result(&UnsignedFacts::from(&disk).to_string())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The value of `domb verify --json`.
#[derive(Serialize)]
struct Facts {
    #[serde(flatten)]
    manifest: ManifestFacts,
    /// What is on a disk image beside the RAM disk.
    unsigned: Option<UnsignedFacts>,
}

impl From<&Verified> for Facts {
    fn from(verified: &Verified) -> Self {
        Self {
            manifest: (&verified.manifest).into(),
            unsigned: verified.disk.as_ref().map(UnsignedFacts::from),
        }
    }
}

fn verify(arguments: &Verify) -> Result<Verified, Failure> {
    let _progress = Progress::start("verifying");
    let key = signing::read_public(&arguments.key)?;
    let bytes = files::read_bounded(&arguments.file, MAX_LEN)?;
    let fail = |error: &dyn std::fmt::Display| Failure::new(format!("{}: {error}", arguments.file.display()));
    let verified = signing::verify(&bytes, &key, arguments.least_version).map_err(|error| fail(&error))?;
    match &verified.disk {
        Some(disk) => compare(arguments, disk)?,
        None if arguments.xen.is_some() || arguments.db_boot.is_some() => {
            return Err(fail(&"it is a RAM disk: there is no Xen and no db-boot in it to compare"));
        }
        None => {}
    }
    Ok(verified)
}

/// Compares what is on a disk with the files that it was made from.
fn compare(arguments: &Verify, disk: &DiskContents) -> Result<(), Failure> {
    let mut failures = Vec::new();
    let mut compare = |path: &std::path::Path, place: &str, found: &[u8], wanted: &[u8]| {
        // What is small has zeros behind it on a disk.
        let padding = found.strip_prefix(wanted);
        if !padding.is_some_and(|padding| padding.iter().all(|byte| *byte == 0)) {
            failures.push(Failure::new(format!(
                "{}: {place} on it is not {}: pack the disk again, or find out who has changed it",
                arguments.file.display(),
                path.display()
            )));
        }
    };
    if let Some(path) = &arguments.xen {
        compare(path, "/boot/xen", &disk.xen, &Xen::read(path)?.elf);
    }
    if let Some(path) = &arguments.db_boot {
        compare(path, "/boot/db-boot", &disk.db_boot, &Builder::read(path)?.elf);
    }
    if failures.is_empty() { Ok(()) } else { Err(Failure::all(failures)) }
}
