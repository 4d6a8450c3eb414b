//! Results for programs, as JSON on standard output.
//!
//! Every result is one object with a `schema`, `domb-COMMAND-NUMBER`. Fields may be added to a schema; a field that is
//! renamed, removed or given another meaning gets the schema another number. Messages are shown on standard error as
//! well, so that a person who looks on sees them.

use image::source::Severity;
use serde::Serialize;

use crate::messages::{self, Failure};

/// A message as a program reads it.
#[derive(Serialize)]
pub(crate) struct Message {
    /// `error` or `warning`.
    severity: String,
    /// The text, several lines when it shows a place in a file.
    text: String,
}

impl Message {
    pub(crate) fn new(severity: Severity, text: &str) -> Self {
        Self { severity: severity.to_string(), text: text.to_owned() }
    }

    /// The reasons of a failure.
    pub(crate) fn all(failure: &Failure) -> Vec<Self> {
        failure.reasons().iter().map(|(severity, text)| Self::new(*severity, text)).collect()
    }
}

/// What every result has.
#[derive(Serialize)]
struct Result<'a, T> {
    schema: &'a str,
    /// Whether the command did what it was asked.
    ok: bool,
    messages: &'a [Message],
    #[serde(flatten)]
    value: Option<&'a T>,
}

/// Writes the result of a command: its value, unless it failed, and its messages.
pub(crate) fn show<T: Serialize>(
    schema: &str,
    ok: bool,
    messages: &[Message],
    value: Option<&T>,
) -> std::result::Result<(), Failure> {
    let result = Result { schema, ok, messages, value };
    let text = serde_json::to_string_pretty(&result).map_err(Failure::new)?;
    messages::result(&(text + "\n"))
}
