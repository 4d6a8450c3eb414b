//! `fault-sweep`: every fault at every call of every platform on every release, counted.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use faults::{Plan, Trial, judge, scenarios};
use xen_sim::Release;

/// How many of the runs that end badly are shown.
const SHOWN: usize = 20;

/// What was found so far.
#[derive(Default)]
struct Findings {
    jobs: AtomicUsize,
    tried: AtomicUsize,
    calls: AtomicUsize,
    bad: Mutex<Vec<String>>,
}

fn main() -> ExitCode {
    let plan: fn(Release) -> Plan = match std::env::args().nth(1).as_deref() {
        None => Plan::of,
        Some("--quick") => |_| Plan::SLICE,
        Some(_) => {
            print("usage: fault-sweep [--quick]\n");
            return ExitCode::from(2);
        }
    };
    // A panic is a finding, which is told with all others.
    std::panic::set_hook(Box::new(|_| ()));
    let (begin, findings) = (Instant::now(), Findings::default());
    let count = scenarios().len() * Release::ALL.len();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| work(plan, &findings, count));
        }
    });
    conclude(&findings, count, begin)
}

/// Does jobs until there are none: each is a platform on a release.
fn work(plan: fn(Release) -> Plan, findings: &Findings, count: usize) {
    let scenarios = scenarios();
    loop {
        let job = findings.jobs.fetch_add(1, Ordering::Relaxed);
        let (Some(release), Some(scenario)) =
            (Release::ALL.get(job / scenarios.len()), scenarios.get(job % scenarios.len()))
        else {
            return;
        };
        let place = format!("{} on Xen {release}", scenario.name);
        let whole = match Plan::whole(scenario, *release) {
            Ok(whole) => whole,
            Err(reason) => {
                note(findings, format!("{place} without a fault: {reason}"));
                continue;
            }
        };
        let trials = plan(*release).trials(&whole);
        for trial in &trials {
            if let Err(reason) = attempt(scenario, *release, &whole, trial) {
                note(findings, format!("{place}: {trial}: {reason}"));
            }
        }
        findings.calls.fetch_add(whole.trace.calls().len(), Ordering::Relaxed);
        let tried = findings.tried.fetch_add(trials.len(), Ordering::Relaxed) + trials.len();
        if std::io::stdout().is_terminal() {
            print(&format!("\r{} of {count}: {tried} faults ", job + 1));
        }
    }
}

fn attempt(
    scenario: &faults::Scenario,
    release: Release,
    whole: &faults::Run,
    trial: &Trial,
) -> Result<(), String> {
    let machine = scenario.machine(release);
    trial.prepare(&machine);
    judge(whole, trial, &scenario.launch(&machine))
}

fn note(findings: &Findings, text: String) {
    if let Ok(mut bad) = findings.bad.lock() {
        bad.push(text);
    }
}

/// Says what was found; the exit status.
fn conclude(findings: &Findings, count: usize, begin: Instant) -> ExitCode {
    if std::io::stdout().is_terminal() {
        print("\r");
    }
    let bad = findings.bad.lock().map(|bad| bad.clone()).unwrap_or_default();
    for text in bad.iter().take(SHOWN) {
        print(&format!("fault-sweep: {text}\n"));
    }
    if bad.len() > SHOWN {
        print(&format!("fault-sweep: ... and {} more\n", bad.len() - SHOWN));
    }
    print(&format!(
        "fault-sweep: {} faults at {} calls of {count} launches ({} platforms, {} releases): {} ended badly, {:.1} s\n",
        findings.tried.load(Ordering::Relaxed),
        findings.calls.load(Ordering::Relaxed),
        scenarios().len(),
        Release::ALL.len(),
        bad.len(),
        begin.elapsed().as_secs_f64()
    ));
    ExitCode::from(u8::from(!bad.is_empty()))
}

/// Prints; whoever reads may have gone, which is no error.
fn print(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _gone = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}
