//! How a test kernel says what it found: one line on its console that the test runner looks for.
//!
//! ```text
//! TEST memorywalk 5f3a VERDICT SUCCESS: 4096 pages
//! ```
//!
//! The second word is the kernel's name, the third the value of `nonce=` on its command line, by which the runner tells this
//! run's lines from others. A kernel that says nothing has made an error; so has one that panics, and this crate says so.
//!
//! ```ignore
//! verdict::test!(run);
//!
//! fn run(boot: &mut Boot) -> Outcome {
//!     let pages = boot.start_info().nr_pages;
//!     require!(pages > 0, "the domain has no memory");
//!     success!("{pages} pages")
//! }
//! ```
#![no_std]

extern crate alloc;

use alloc::string::String;
use core::fmt;

use pv_runtime::{Boot, Ending, println};
use spin::Once;

#[doc(hidden)]
pub use alloc::format as __format;
#[doc(hidden)]
pub use pv_runtime as __runtime;

/// What the runner knows this run by; `-` when the command line has no nonce.
static NONCE: Once<&'static str> = Once::new();

/// A verdict that is not a success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The machine lacks what would be tested.
    Skip(String),
    /// The test itself went wrong, before it could find out.
    Error(String),
    /// What was tested is wrong.
    Failure(String),
}

/// What a test gives back: what it found in order, or another verdict.
pub type Outcome = Result<String, Verdict>;

impl Verdict {
    /// The test itself went wrong, as `error` says: for `map_err`.
    pub fn error(error: impl fmt::Display) -> Self {
        Self::Error(alloc::format!("{error}"))
    }

    /// What was tested is wrong, as `error` says: for `map_err`.
    pub fn failure(error: impl fmt::Display) -> Self {
        Self::Failure(alloc::format!("{error}"))
    }
}

/// The line that tells a verdict.
struct Line<'a> {
    kernel: &'a str,
    nonce: &'a str,
    word: &'a str,
    message: fmt::Arguments<'a>,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kernel, nonce, word, message } = self;
        write!(f, "TEST {kernel} {nonce} VERDICT {word}: {message}")
    }
}

fn tell(word: &str, message: fmt::Arguments<'_>) {
    let nonce = NONCE.get().copied().unwrap_or("-");
    println!("{}", Line { kernel: pv_runtime::name(), nonce, word, message });
}

/// Tells that the kernel came to an end that it did not choose.
fn tell_failure(what: fmt::Arguments<'_>) {
    tell("ERROR", what);
}

/// Makes ready for a verdict: from here on a panic or an exception is told as one. Kernels that do not use [`test!`] call it.
pub fn prepare(boot: &Boot) {
    NONCE.call_once(|| boot.argument("nonce").unwrap_or("-"));
    pv_runtime::on_failure(tell_failure);
}

/// Runs a test and tells its verdict; called by [`test!`].
pub fn run(boot: &mut Boot, test: impl FnOnce(&mut Boot) -> Outcome) -> Ending {
    prepare(boot);
    report(test(boot));
    Ending::Poweroff
}

/// Tells a verdict.
pub fn report(outcome: Outcome) {
    match outcome {
        Ok(message) => tell("SUCCESS", format_args!("{message}")),
        Err(Verdict::Skip(message)) => tell("SKIP", format_args!("{message}")),
        Err(Verdict::Error(message)) => tell("ERROR", format_args!("{message}")),
        Err(Verdict::Failure(message)) => tell("FAILURE", format_args!("{message}")),
    }
}

/// Makes `fn test(boot: &mut Boot) -> Outcome` the program of a test kernel.
#[macro_export]
macro_rules! test {
    ($test:path) => {
        $crate::__runtime::entry!(__run);

        fn __run(boot: &mut $crate::__runtime::Boot) -> $crate::__runtime::Ending {
            $crate::run(boot, $test)
        }
    };
}

/// Ends a test well, with what it found.
#[macro_export]
macro_rules! success {
    ($($message:tt)*) => { ::core::result::Result::Ok($crate::__format!($($message)*)) };
}

/// Goes on if a condition holds; ends the test as a failure, with a message, if not.
#[macro_export]
macro_rules! require {
    ($condition:expr, $($message:tt)*) => {
        if !$condition {
            return ::core::result::Result::Err($crate::Verdict::Failure($crate::__format!($($message)*)));
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn a_line_has_the_words_that_the_runner_looks_for() {
        let line = Line { kernel: "hello", nonce: "5f", word: "SKIP", message: format_args!("no {}", 7) };
        assert_eq!(line.to_string(), "TEST hello 5f VERDICT SKIP: no 7");
    }

    #[test]
    fn requirements_end_a_test_as_a_failure() {
        fn test(pages: u64) -> Outcome {
            require!(pages > 1, "{pages} pages");
            success!("all {pages}")
        }
        assert_eq!(test(2), Ok("all 2".to_string()));
        assert_eq!(test(1), Err(Verdict::Failure("1 pages".to_string())));
    }
}
