//! `domb inspect`: what is in these files?

use std::process::ExitCode;

use image::{files, inspect};

use crate::arguments::Inspect;
use crate::messages::{self, Failure};

/// The largest file that is looked into.
const MAX_LEN: u64 = 8 << 30;

pub(crate) fn run(arguments: &Inspect) -> Result<ExitCode, Failure> {
    let mut failures = Vec::new();
    for path in &arguments.files {
        let name = path.display();
        match files::read_bounded(path, MAX_LEN) {
            Ok(bytes) => match inspect::describe(&bytes) {
                Ok(text) => messages::result(&format!("{name}: {text}")),
                Err(error) => failures.push(Failure::new(format!("{name}: {error}"))),
            },
            Err(error) => failures.push(error.into()),
        }
    }
    if failures.is_empty() { Ok(ExitCode::SUCCESS) } else { Err(Failure::all(failures)) }
}
