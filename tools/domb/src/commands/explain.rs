//! `domb explain`: why did Xen refuse that?

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Read as _};
use std::process::ExitCode;

use refusals::{Explanation, Question};

use crate::arguments::Explain;
use crate::messages::{self, Failure};

/// The longest text that is read from standard input: more than any log of a boot has.
const MAX_LEN: u64 = 64 << 20;

pub(crate) fn run(arguments: &Explain) -> Result<ExitCode, Failure> {
    let mut text = arguments.words.join(" ");
    if text.is_empty() && !std::io::stdin().is_terminal() {
        let mut log = Vec::new();
        let read = std::io::stdin().take(MAX_LEN).read_to_end(&mut log);
        read.map_err(|error| Failure::new(format!("standard input: {error}")))?;
        // A console has whatever its guests write, and a serial line makes mistakes.
        text = String::from_utf8_lossy(&log).into_owned();
    }
    let question = refusals::read(&text).ok_or_else(|| {
        Failure::new(
            "there is no call and error number in this: give a line of db-boot's log, or both names, as in \
             `domb explain XEN_DOMCTL_createdomain EINVAL`",
        )
    })?;
    let explanation = refusals::explain(question.call, question.errno, question.xen);
    messages::result(&show(&question, &explanation))?;
    Ok(ExitCode::SUCCESS)
}

fn show(question: &Question<'_>, explanation: &Explanation) -> String {
    let xen = question.xen.map_or(String::new(), |(major, minor)| format!(", Xen {major}.{minor}"));
    let mut text = format!("{}: {}{xen}", question.call, question.errno);
    if let Some(purpose) = explanation.purpose {
        let _ = write!(text, "\n  {purpose}");
    }
    if !explanation.specific {
        text += "\n  Xen gives this answer to this call for no reason of its own; what it means everywhere:";
    }
    if explanation.checks.is_empty() {
        text +=
            "\n  Nothing is known of it. Start Xen with loglvl=all guest_loglvl=all: its log may say more.";
    }
    for check in &explanation.checks {
        let _ = write!(text, "\n- {}\n  {}", check.found, check.remedy);
    }
    text
}
