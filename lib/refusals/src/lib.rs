//! Why a Xen refuses a call.
//!
//! Xen answers with an error number, and a release build says nothing more. Each number can come from one of several checks; this
//! crate knows which checks those are for the calls that the builder makes, in which releases, and what to change. db-boot logs the
//! likeliest below an error; `domb explain` tells all, for a line of db-boot's log.
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

extern crate alloc;

mod line;
mod table;

use alloc::vec::Vec;

use xen_abi::Errno;

pub use line::{Question, read};
pub use table::calls;

/// A release of Xen: its major and minor number.
pub type Release = (u16, u16);

/// One check that Xen makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Check {
    /// What Xen has found, a sentence.
    pub found: &'static str,
    /// What to do about it, a sentence.
    pub remedy: &'static str,
    /// The first release with it; `None` for all.
    pub since: Option<Release>,
    /// The last release with it; `None` for all.
    pub until: Option<Release>,
}

impl Check {
    /// Whether a release makes the check; an unknown one may.
    fn applies(&self, xen: Option<Release>) -> bool {
        let Some(xen) = xen else { return true };
        self.since.is_none_or(|since| since <= xen) && self.until.is_none_or(|until| xen <= until)
    }
}

/// Why Xen may have given an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// What the call is for, a sentence; `None` for a call that the builder does not make.
    pub purpose: Option<&'static str>,
    /// The checks that answer so, likely ones first.
    pub checks: Vec<Check>,
    /// Whether these are checks of this very call; if not, they are what the error number means anywhere.
    pub specific: bool,
}

/// Explains why `call`, by its name in Xen's headers, was answered with `errno` by the release `xen`, if that is known.
pub fn explain(call: &str, errno: Errno, xen: Option<Release>) -> Explanation {
    let known = table::CALLS.iter().find(|entry| entry.name == call);
    let checks: Vec<Check> = known
        .into_iter()
        .flat_map(|entry| entry.refusals)
        .filter(|(number, check)| *number == errno && check.applies(xen))
        .map(|(_, check)| *check)
        .collect();
    let purpose = known.map(|entry| entry.purpose);
    if checks.is_empty() {
        return Explanation { purpose, checks: table::anywhere(errno).collect(), specific: false };
    }
    Explanation { purpose, checks, specific: true }
}
