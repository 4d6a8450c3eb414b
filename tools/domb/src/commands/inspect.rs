//! `domb inspect`: what is in these files?

use std::path::Path;
use std::process::ExitCode;

use image::files;
use image::inspect::{self, Facts};
use serde::Serialize;

use crate::arguments::Inspect;
use crate::json::{self, Message};
use crate::messages::{self, Failure, Progress};

/// The largest file that is looked into.
pub(crate) const MAX_LEN: u64 = 8 << 30;

pub(crate) fn run(arguments: &Inspect) -> Result<ExitCode, Failure> {
    let mut failures = Vec::new();
    let mut known = Vec::new();
    for path in &arguments.files {
        let result = if arguments.json {
            look(path, inspect::facts)
                .map(|facts| known.push(File { path: path.display().to_string(), facts }))
        } else {
            look(path, inspect::describe)
                .and_then(|text| messages::result(&format!("{}: {text}", path.display())))
        };
        failures.extend(result.err());
    }
    let failure = (!failures.is_empty()).then(|| Failure::all(failures));
    if arguments.json {
        let messages = failure.as_ref().map(Message::all).unwrap_or_default();
        json::show("domb-inspect-1", failure.is_none(), &messages, Some(&Files { files: known }))?;
    }
    failure.map_or(Ok(ExitCode::SUCCESS), Err)
}

/// What `inspect` says about the file at `path`.
fn look<T>(path: &Path, inspect: fn(&[u8]) -> Result<T, inspect::InspectError>) -> Result<T, Failure> {
    let _progress = Progress::start(&format!("inspecting {}", path.display()));
    let bytes = files::read_bounded(path, MAX_LEN)?;
    inspect(&bytes).map_err(|error| Failure::new(format!("{}: {error}", path.display())))
}

/// The value of `domb inspect --json`: the files that are something known.
#[derive(Serialize)]
struct Files {
    files: Vec<File>,
}

#[derive(Serialize)]
struct File {
    path: String,
    #[serde(flatten)]
    facts: Facts,
}
