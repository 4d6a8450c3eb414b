//! What a test comes to, and the line in which a VM says so.

use std::fmt;

use serde::Deserialize;

/// The outcome of a VM or a test, the severer the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    /// Everything expected was seen.
    Success,
    /// The machine lacks what the test is about.
    Skip,
    /// The test itself went wrong; silence is this too.
    Error,
    /// A fault was found.
    Failure,
    /// A VM or the builder ended by a crash (given by the runner only).
    Crash,
    /// The machine did not end in time (given by the runner only).
    Timeout,
}

impl Verdict {
    /// The runner's exit status, the same as XTF's.
    pub(crate) fn exit_status(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Skip => 3,
            Self::Error => 4,
            Self::Failure => 5,
            Self::Crash => 6,
            Self::Timeout => 7,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Success => "SUCCESS",
            Self::Skip => "SKIP",
            Self::Error => "ERROR",
            Self::Failure => "FAILURE",
            Self::Crash => "CRASH",
            Self::Timeout => "TIMEOUT",
        })
    }
}

/// What test.toml expects of a VM's verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ExpectedVerdict {
    /// A `SUCCESS` line.
    Success,
    /// A `SKIP` line.
    Skip,
    /// An `ERROR` line.
    Error,
    /// A `FAILURE` line.
    Failure,
    /// No verdict line at all.
    None,
}

impl ExpectedVerdict {
    /// The verdict that meets the expectation; `None` when silence does.
    pub(crate) fn verdict(self) -> Option<Verdict> {
        match self {
            Self::Success => Some(Verdict::Success),
            Self::Skip => Some(Verdict::Skip),
            Self::Error => Some(Verdict::Error),
            Self::Failure => Some(Verdict::Failure),
            Self::None => None,
        }
    }
}

/// One verdict line: `TEST <test> <nonce> VERDICT <verdict>: <message>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct VerdictLine<'a> {
    /// The test's (the kernel's) name.
    pub(crate) test: &'a str,
    /// The run that it belongs to.
    pub(crate) nonce: &'a str,
    /// What the VM found. Never [`Verdict::Crash`] or [`Verdict::Timeout`], which a VM cannot claim.
    pub(crate) verdict: Verdict,
    /// The rest of the line.
    pub(crate) message: &'a str,
}

impl<'a> VerdictLine<'a> {
    /// The verdict in a console line. Text before `TEST ` (a log prefix) is allowed.
    pub(crate) fn parse(line: &'a str) -> Option<Self> {
        let (_, rest) = line.split_once("TEST ")?;
        let (test, rest) = rest.split_once(' ')?;
        let (nonce, rest) = rest.split_once(" VERDICT ")?;
        let (word, message) = rest.split_once(": ").unwrap_or((rest, ""));
        let verdict = match word.trim_end() {
            "SUCCESS" => Verdict::Success,
            "SKIP" => Verdict::Skip,
            "ERROR" => Verdict::Error,
            "FAILURE" => Verdict::Failure,
            _ => return None,
        };
        Some(Self { test, nonce, verdict, message })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_severest_is_the_greatest() {
        let mut all = [
            Verdict::Timeout,
            Verdict::Success,
            Verdict::Crash,
            Verdict::Error,
            Verdict::Skip,
            Verdict::Failure,
        ];
        all.sort();
        assert_eq!(all.map(Verdict::exit_status), [0, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn a_verdict_line_is_read() {
        let line = VerdictLine::parse("info: TEST hello 1f2e VERDICT FAILURE: page 7: not zero").unwrap();
        assert_eq!((line.test, line.nonce), ("hello", "1f2e"));
        assert_eq!((line.verdict, line.message), (Verdict::Failure, "page 7: not zero"));
        assert_eq!(VerdictLine::parse("TEST hello 1 VERDICT SKIP").unwrap().verdict, Verdict::Skip);
    }

    #[test]
    fn other_lines_and_the_runners_verdicts_are_not() {
        for line in [
            "",
            "TEST",
            "TEST hello",
            "TEST hello 1 VERDICT",
            "TEST hello 1 VERDICT CRASH: no",
            "TEST hello 1 VERDICT TIMEOUT: no",
            "TEST hello 1 VERDICT GREAT: no",
            "test hello 1 verdict SUCCESS: no",
        ] {
            assert_eq!(VerdictLine::parse(line), None, "{line}");
        }
    }
}
