//! From what a machine printed and how it ended to a verdict, with the reasons.

use protocols::MachineStatus;

use crate::console::{self, Console};
use crate::suite::{Status, TestSpec, VmSpec};
use crate::verdict::{Verdict, VerdictLine};

/// A VM of a run, and what is expected of it.
#[derive(Clone, Debug)]
pub(crate) struct RunVm<'a> {
    /// Its name on this machine.
    pub(crate) name: String,
    /// The word after `TEST` in its verdict lines.
    pub(crate) test: String,
    /// Its nonce.
    pub(crate) nonce: String,
    /// What test.toml expects.
    pub(crate) spec: &'a VmSpec,
}

/// How `domb run` ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The machine ended with a status.
    Ended(Status),
    /// domb could not start the machine at all (its reason is in the log).
    NotStarted,
    /// The machine went away without a status of db-boot's.
    Vanished,
    /// The time limit passed.
    TimedOut,
}

impl Outcome {
    /// From the exit code of QEMU, which db-boot's status determines.
    pub(crate) fn from_qemu(code: i32) -> Self {
        let status = MachineStatus::from_qemu_status(code);
        status.map_or(Self::Vanished, |status| Self::Ended(status.into()))
    }

    /// From the exit code of `domb run`. `None` means that it was killed.
    pub(crate) fn from_domb(code: Option<i32>, builder_panicked: bool) -> Self {
        match code {
            Some(0) => Self::Ended(Status::Success),
            Some(2) => Self::Ended(Status::VmFailed),
            Some(3) => Self::Ended(Status::BuildFailed),
            Some(4) if builder_panicked => Self::Ended(Status::BuilderFailed),
            Some(4) | None => Self::Vanished,
            Some(5) => Self::TimedOut,
            Some(_) => Self::NotStarted,
        }
    }
}

impl From<MachineStatus> for Status {
    fn from(status: MachineStatus) -> Self {
        match status {
            MachineStatus::Success => Self::Success,
            MachineStatus::VmFailed => Self::VmFailed,
            MachineStatus::BuildFailed => Self::BuildFailed,
            MachineStatus::BuilderFailed => Self::BuilderFailed,
        }
    }
}

/// A reason why a test is not a success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// How bad it is.
    pub(crate) verdict: Verdict,
    /// What it is, with the VM's name.
    pub(crate) text: String,
}

/// All that keeps a run from being a success; the severest first.
pub(crate) fn judge(
    test: &TestSpec,
    vms: &[RunVm<'_>],
    console: &Console<'_>,
    outcome: Outcome,
    untyped: Option<&str>,
) -> Vec<Finding> {
    if outcome == Outcome::NotStarted {
        return vec![finding(
            Verdict::Error,
            "domb did not start the machine; its message is in the log".into(),
        )];
    }
    let mut findings: Vec<Finding> = vms.iter().flat_map(|vm| judge_vm(vm, console)).collect();
    if let Some(text) = untyped {
        let never =
            format!("the console never showed {text:?}, after which was to be typed (or not in order)");
        findings.push(finding(Verdict::Failure, never));
    }
    let builder = console.of_builder();
    if let Some(text) = console::first_missing(&builder, &test.log) {
        findings
            .push(finding(Verdict::Failure, format!("db-boot's log lacks {text:?} (or it is out of order)")));
    }
    let unexplained =
        |(before, after): &(u64, u64)| before != after && !is_kept(*before, *after, test.kept_memory);
    if let Some((before, after)) = console.free_memory().filter(unexplained) {
        let lost = format!(
            "Xen has {after} KiB of free memory after the last VM, it should be {before} KiB as before the first"
        );
        findings.push(finding(Verdict::Failure, lost));
    }
    if let Some((before, after)) = console.usage().filter(|(before, after)| before != after) {
        findings.push(finding(
            Verdict::Failure,
            format!("after the last VM there are {after}, before the first there were {before}"),
        ));
    }
    match outcome {
        Outcome::TimedOut => {
            findings
                .push(finding(Verdict::Timeout, "the machine was still running at the time limit".into()));
        }
        Outcome::Vanished => {
            findings.push(finding(Verdict::Crash, "the machine ended without a status from db-boot".into()));
        }
        // What went wrong with a VM explains the machine's status too; it is a finding of its own only alone.
        Outcome::Ended(status) if status != test.status && findings.is_empty() => {
            findings.push(unexpected_status(status, test.status));
        }
        Outcome::Ended(_) | Outcome::NotStarted => {}
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.verdict));
    findings
}

/// Whether the free memory became less by `most` KiB at most.
fn is_kept(before: u64, after: u64, most: u64) -> bool {
    before.checked_sub(after).is_some_and(|lost| lost <= most)
}

fn finding(verdict: Verdict, text: String) -> Finding {
    Finding { verdict, text }
}

fn unexpected_status(status: Status, expected: Status) -> Finding {
    let verdict = match status {
        Status::BuilderFailed => Verdict::Crash,
        Status::BuildFailed => Verdict::Error,
        Status::Success | Status::VmFailed => Verdict::Failure,
    };
    finding(verdict, format!("the machine's status is {status:?}, expected was {expected:?}"))
}

/// The findings on one VM.
fn judge_vm(vm: &RunVm<'_>, console: &Console<'_>) -> Vec<Finding> {
    let lines = console.of_vm(&vm.name);
    let end = console.end_of_vm(&vm.name);
    let about = |verdict, text: String| finding(verdict, format!("{}: {text}", vm.name));
    if let (None, Some(reason)) = (&end, console.not_started(&vm.name)) {
        let expected = vm.spec.end.as_deref() == Some("none");
        return if expected {
            Vec::new()
        } else {
            vec![about(Verdict::Error, format!("it was not started: {reason}"))]
        };
    }
    let mut findings = Vec::new();
    let verdict = judge_verdict(vm, &lines, end.as_deref());
    // A VM that found a fault ends with another status too: once is enough.
    let ends = if verdict.is_none() { judge_end(vm, end.as_deref()) } else { None };
    findings.extend(verdict.into_iter().chain(ends).map(|(verdict, text)| about(verdict, text)));
    if let Some(text) = console::first_missing(&lines, &vm.spec.console) {
        findings.push(about(Verdict::Failure, format!("its console lacks {text:?} (or it is out of order)")));
    }
    for text in &vm.spec.absent {
        if let Some(line) = lines.iter().find(|line| line.contains(text.as_str())) {
            findings.push(about(Verdict::Failure, format!("its console must not hold {text:?}: {line:?}")));
        }
    }
    let block = if vm.spec.block { console::check_block(&lines, &vm.nonce) } else { Ok(()) };
    if let Err(what) = block {
        findings.push(about(Verdict::Failure, format!("console output was lost or mixed up: {what}")));
    }
    findings
}

/// Compares what the VM said with what it was to say.
fn judge_verdict(vm: &RunVm<'_>, lines: &[&str], end: Option<&str>) -> Option<(Verdict, String)> {
    let said = lines.iter().filter_map(|line| VerdictLine::parse(line));
    let own = said.filter(|said| said.nonce == vm.nonce && said.test == vm.test);
    let severest = own.max_by_key(|said| said.verdict);
    match (severest, vm.spec.verdict.verdict()) {
        (None, None) => None,
        (None, Some(_)) if is_crash(end) => {
            Some((Verdict::Crash, "it crashed before it gave a verdict".into()))
        }
        (None, Some(_)) => Some((Verdict::Error, "it gave no verdict".into())),
        (Some(said), Some(expected)) if said.verdict == expected => None,
        (Some(said), Some(Verdict::Success)) => Some((said.verdict, said.message.to_owned())),
        (Some(said), expected) => {
            let expected = expected.map_or("none".to_owned(), |verdict| verdict.to_string());
            Some((
                Verdict::Failure,
                format!("it says {} ({}), expected was {expected}", said.verdict, said.message),
            ))
        }
    }
}

/// Compares how the VM ended with how it was to end.
fn judge_end(vm: &RunVm<'_>, end: Option<&str>) -> Option<(Verdict, String)> {
    let met = match (vm.spec.end.as_deref(), end) {
        (None, Some(end)) => matches!(end, "poweroff" | "exit status=0"),
        (Some("none"), end) => end.is_none(),
        (Some(expected), end) => end == Some(expected),
        (None, None) => false,
    };
    if met {
        return None;
    }
    let expected = vm.spec.end.as_deref().unwrap_or("poweroff or exit status=0");
    Some(match end {
        None => (Verdict::Error, format!("db-boot did not report its end, expected was {expected}")),
        Some(end) if is_crash(Some(end)) => {
            (Verdict::Crash, format!("it ended by {end}, expected was {expected}"))
        }
        Some(end) => (Verdict::Failure, format!("it ended by {end}, expected was {expected}")),
    })
}

fn is_crash(end: Option<&str>) -> bool {
    matches!(end, Some("crash" | "watchdog"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The verdict (and first finding) on a run of one VM called `vm` with nonce 1 and these lines.
    fn verdict_on(vm: &str, lines: &str, outcome: Outcome) -> (Verdict, String) {
        let test = format!("description = \"d\"\n[[vm]]\nconfig = \"c\"\n{vm}\n");
        let test: TestSpec = toml::from_str(&test).unwrap();
        let vms = [RunVm { name: "vm".into(), test: "k".into(), nonce: "1".into(), spec: &test.vms[0] }];
        let findings = judge(&test, &vms, &Console::new(lines), outcome, None);
        let first = findings.first().cloned();
        first.map_or((Verdict::Success, String::new()), |finding| (finding.verdict, finding.text))
    }

    const OK: Outcome = Outcome::Ended(Status::Success);
    const BAD: Outcome = Outcome::Ended(Status::VmFailed);
    const SUCCESS: &str = "[vm] TEST k 1 VERDICT SUCCESS: fine\n";
    const POWEROFF: &str = "[    0.500000] db-boot: info: vm=vm event=ended reason=poweroff\n";
    const STARTED: &str = "[    0.100000] db-boot: info: vm=vm domid=1 event=started\n";
    const CRASH: &str = "[    0.500000] db-boot: info: vm=vm event=ended reason=crash\n";

    #[test]
    fn a_success_with_its_end_is_a_success() {
        assert_eq!(verdict_on("", &format!("{SUCCESS}{POWEROFF}"), OK).0, Verdict::Success);
        let status = POWEROFF.replace("poweroff", "exit status=0");
        assert_eq!(verdict_on("", &format!("{SUCCESS}{status}"), OK).0, Verdict::Success);
    }

    #[test]
    fn silence_is_an_error() {
        let (verdict, text) = verdict_on("", POWEROFF, OK);
        assert_eq!((verdict, text.as_str()), (Verdict::Error, "vm: it gave no verdict"));
    }

    #[test]
    fn a_verdict_of_another_run_vm_or_kernel_does_not_count() {
        for line in [
            SUCCESS.replace(" 1 ", " 2 "),
            SUCCESS.replace("[vm]", "[other]"),
            SUCCESS.replace("[vm] ", ""),
            SUCCESS.replace(" k ", " other "),
        ] {
            assert_eq!(verdict_on("", &format!("{line}{POWEROFF}"), OK).0, Verdict::Error, "{line}");
        }
    }

    #[test]
    fn the_severest_verdict_counts() {
        let lines = format!("{SUCCESS}[vm] TEST k 1 VERDICT FAILURE: page 3\n{SUCCESS}{POWEROFF}");
        assert_eq!(verdict_on("", &lines, BAD), (Verdict::Failure, "vm: page 3".into()));
        let lines = format!("{SUCCESS}[vm] TEST k 1 VERDICT SKIP: no HAP\n{POWEROFF}");
        assert_eq!(verdict_on("", &lines, OK), (Verdict::Skip, "vm: no HAP".into()));
    }

    #[test]
    fn a_crash_is_one_with_and_without_a_verdict() {
        assert_eq!(verdict_on("", CRASH, BAD).0, Verdict::Crash);
        assert_eq!(verdict_on("", &format!("{SUCCESS}{CRASH}"), BAD).0, Verdict::Crash);
    }

    #[test]
    fn an_expected_crash_is_none() {
        let expected = "verdict = \"none\"\nend = \"crash\"";
        // The machine's status is vm-failed then, which the test has to expect too.
        assert_eq!(verdict_on(expected, CRASH, BAD).0, Verdict::Failure);
        assert_eq!(verdict_on(expected, CRASH, OK).0, Verdict::Success);
        assert_eq!(verdict_on(expected, POWEROFF, OK).0, Verdict::Failure);
        assert_eq!(verdict_on(expected, &format!("{SUCCESS}{CRASH}"), OK).0, Verdict::Failure);
    }

    #[test]
    fn a_missing_end_is_an_error_unless_expected() {
        assert_eq!(verdict_on("", &format!("{STARTED}{SUCCESS}"), OK).0, Verdict::Error);
        assert_eq!(verdict_on("verdict = \"none\"\nend = \"none\"", "", OK).0, Verdict::Success);
        assert_eq!(verdict_on("verdict = \"none\"\nend = \"none\"", POWEROFF, OK).0, Verdict::Failure);
    }

    #[test]
    fn console_texts_are_required_and_forbidden() {
        let lines = format!("[vm] pages=4\n{SUCCESS}{POWEROFF}");
        assert_eq!(verdict_on("console = [\"pages=\", \"SUCCESS\"]", &lines, OK).0, Verdict::Success);
        assert_eq!(verdict_on("console = [\"SUCCESS\", \"pages=\"]", &lines, OK).0, Verdict::Failure);
        assert_eq!(verdict_on("absent = [\"pages=\"]", &lines, OK).0, Verdict::Failure);
        assert_eq!(verdict_on("block = true", &lines, OK).0, Verdict::Failure);
    }

    #[test]
    fn memory_that_is_left_behind_is_a_failure() {
        let memory =
            "[    0.900000] db-boot: info: event=memory free-before=8KiB free-after=12KiB released=4KiB\n";
        let lines = format!("{SUCCESS}{POWEROFF}{memory}");
        assert_eq!(verdict_on("", &lines, OK).0, Verdict::Success);
        assert_eq!(verdict_on("", &lines.replace("after=12", "after=8"), OK).0, Verdict::Failure);
        for (before, after, most, kept) in
            [(8, 4, 4, true), (8, 4, 3, false), (4, 8, 9, false), (8, 8, 0, true)]
        {
            assert_eq!(is_kept(before, after, most), kept);
        }
    }

    #[test]
    fn domains_and_ports_that_are_left_behind_are_a_failure() {
        let usage = |vms: u32, free: u32, domains: u32| {
            let figures = format!("vms={vms} free={free}KiB domains={domains} ports=0 spare=9B");
            format!("[    0.100000] db-boot: info: event=usage {figures}\n")
        };
        let lines = format!("{}{SUCCESS}{POWEROFF}{}{}", usage(0, 9, 1), usage(1, 8, 2), usage(1, 7, 1));
        assert_eq!(verdict_on("", &lines, OK).0, Verdict::Success);
        let left = format!("{}{SUCCESS}{POWEROFF}{}", usage(0, 9, 1), usage(1, 9, 2));
        let (verdict, text) = verdict_on("", &left, OK);
        assert_eq!(verdict, Verdict::Failure);
        assert!(
            text.contains("there are domains=2 ports=0, before the first there were domains=1 ports=0"),
            "{text}"
        );
        // One port of each of three hundred lives.
        let lost: String =
            (0..=300).map(|vms| usage(vms, 9, 1).replace("ports=0", &format!("ports={vms}"))).collect();
        let (verdict, text) = verdict_on("", &format!("{lost}{SUCCESS}{POWEROFF}"), OK);
        assert_eq!(verdict, Verdict::Failure);
        assert!(text.contains("there are domains=1 ports=300"), "{text}");
    }

    #[test]
    fn the_machines_end_counts_too() {
        let lines = format!("{SUCCESS}{POWEROFF}");
        assert_eq!(verdict_on("", &lines, BAD).0, Verdict::Failure);
        assert_eq!(verdict_on("", &lines, Outcome::TimedOut).0, Verdict::Timeout);
        assert_eq!(verdict_on("", &lines, Outcome::Vanished).0, Verdict::Crash);
        assert_eq!(verdict_on("", "", Outcome::NotStarted).0, Verdict::Error);
        assert_eq!(verdict_on("", "", Outcome::TimedOut).0, Verdict::Timeout);
    }

    #[test]
    fn dombs_exit_codes_are_understood() {
        for (code, outcome) in [
            (Some(0), OK),
            (Some(1), Outcome::NotStarted),
            (Some(2), BAD),
            (Some(3), Outcome::Ended(Status::BuildFailed)),
            (Some(4), Outcome::Vanished),
            (Some(5), Outcome::TimedOut),
            (None, Outcome::Vanished),
        ] {
            assert_eq!(Outcome::from_domb(code, false), outcome, "{code:?}");
        }
        assert_eq!(Outcome::from_domb(Some(4), true), Outcome::Ended(Status::BuilderFailed));
    }
}
