//! What people read: errors, warnings and progress on standard error.

use std::fmt::Display;
use std::io::{ErrorKind, IsTerminal as _, Write as _, stderr, stdout};

use image::config::ConfigError;
use image::platform::PlatformError;
use image::platform_file::PlatformFileError;
use image::report::ReportError;
use image::source::Severity;

/// Everything that made a command fail.
#[derive(Debug)]
pub(crate) struct Failure(Vec<(Severity, String)>);

impl Failure {
    /// A failure for one reason.
    pub(crate) fn new(reason: impl Display) -> Self {
        Self(vec![(Severity::Error, reason.to_string())])
    }

    /// A failure for all reasons of several others.
    pub(crate) fn all(failures: Vec<Self>) -> Self {
        Self(failures.into_iter().flat_map(|failure| failure.0).collect())
    }

    /// The reasons.
    pub(crate) fn reasons(&self) -> &[(Severity, String)] {
        &self.0
    }

    /// Shows all reasons, and how many there are if there are many.
    pub(crate) fn show(&self) {
        for (severity, text) in &self.0 {
            show(*severity, text);
        }
        let errors = self.0.iter().filter(|(severity, _)| *severity == Severity::Error).count();
        if errors > 1 {
            show(Severity::Error, &format!("{errors} errors"));
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self(error.messages())
    }
}

impl From<PlatformFileError> for Failure {
    fn from(error: PlatformFileError) -> Self {
        Self(error.messages)
    }
}

impl From<PlatformError> for Failure {
    fn from(error: PlatformError) -> Self {
        Self(error.messages())
    }
}

impl From<ReportError> for Failure {
    fn from(error: ReportError) -> Self {
        match error {
            ReportError::Platform(error) => error.into(),
            ReportError::Archive(error) => error.into(),
        }
    }
}

macro_rules! failure_from {
    ($($error:ty),* $(,)?) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::new(error)
            }
        }
    )*};
}

failure_from!(
    image::builder::BuilderError,
    image::disk::DiskError,
    image::files::FileError,
    image::platform::ArchiveError,
    image::qemu::RunError,
    image::signing::KeyFileError,
    image::signing::SigningError,
    image::xen::XenError,
    protocols::SpecError,
    protocols::control::ControlSpecError,
    protocols::platform::PlatformSpecError,
);

/// Shows a result on standard output. A reader that has gone away, as `head` does, is no error; a result that is lost
/// otherwise is one.
pub(crate) fn result(text: &str) -> Result<(), Failure> {
    let mut out = stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(cause) if cause.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::new(format!("cannot write the result to standard output: {cause}")))
        }
        _ => Ok(()),
    }
}

/// Shows how the command line is wrong.
pub(crate) fn usage(error: &clap::Error) {
    let text = error.render();
    let _ =
        if coloured() { write!(stderr(), "domb: {}", text.ansi()) } else { write!(stderr(), "domb: {text}") };
}

/// Shows a warning.
pub(crate) fn warn(text: &str) {
    show(Severity::Warning, text);
}

/// Shows a remark that is neither.
pub(crate) fn note(text: &str) {
    // Nothing can be done about a standard error that is closed.
    let _ = writeln!(stderr(), "domb: {text}");
}

fn show(severity: Severity, text: &str) {
    let (on, off) = match (coloured(), severity) {
        (false, _) => ("", ""),
        (true, Severity::Error) => ("\x1b[1;31m", "\x1b[0m"),
        (true, Severity::Warning) => ("\x1b[1;33m", "\x1b[0m"),
    };
    // Names of files, and what stands in them, are not ours: an escape sequence in one must not reach the terminal.
    let plain =
        |c: char| if c.is_control() && c != '\n' && c != '\t' { char::REPLACEMENT_CHARACTER } else { c };
    let text: String = text.chars().map(plain).collect();
    let _ = writeln!(stderr(), "domb: {on}{severity}:{off} {text}");
}

/// Colour is for terminals whose user does not mind (<https://no-color.org>).
fn coloured() -> bool {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    understands_escapes() && !unwanted
}

/// Whether standard error is a terminal that takes more than lines.
fn understands_escapes() -> bool {
    stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Says what takes long on a terminal; the line goes away when the value is dropped.
pub(crate) struct Progress {
    shown: bool,
}

impl Progress {
    /// Shows `text` on a terminal that can take it back, nothing elsewhere.
    pub(crate) fn start(text: &str) -> Self {
        let shown = understands_escapes();
        if shown {
            let _ = write!(stderr(), "domb: {text} ...");
            let _ = stderr().flush();
        }
        Self { shown }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}
