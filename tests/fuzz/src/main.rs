//! `fuzz [--target NAME] [--seconds N] [--seed S]`: hostile input for all targets, or for one.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use fuzz::{Counting, Finding, Outcome, Target, fuzz, targets};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Seconds for each target unless told otherwise.
const SECONDS: u64 = 3;
/// An input that takes this long is taken for one that never ends.
const FOR_EVER: Duration = Duration::from_secs(120);

/// The target that is being fuzzed, since when it is overdue unless it ends.
static OVERDUE: Mutex<Option<(&'static str, Instant)>> = Mutex::new(None);

struct Arguments {
    target: Option<String>,
    seconds: u64,
    seed: u64,
}

fn main() -> ExitCode {
    let Some(arguments) = arguments() else {
        print("usage: fuzz [--target NAME] [--seconds SECONDS-EACH] [--seed NUMBER]\n");
        return ExitCode::from(2);
    };
    let chosen = |target: &Target| arguments.target.as_deref().is_none_or(|name| name == target.name);
    let targets: Vec<_> = targets().into_iter().filter(chosen).collect();
    if targets.is_empty() {
        let names: Vec<_> = fuzz::targets().iter().map(|target| target.name).collect();
        print(&format!("fuzz: there is no such target; there are {}\n", names.join(", ")));
        return ExitCode::from(2);
    }
    std::thread::spawn(watch);
    let (mut found, mut runs) = (0, 0);
    for target in &targets {
        let time = Duration::from_secs(arguments.seconds);
        if let Ok(mut overdue) = OVERDUE.lock() {
            *overdue = Some((target.name, Instant::now() + time + FOR_EVER));
        }
        let outcome = fuzz(target, arguments.seed, u64::MAX, time);
        print(&line(target, &outcome));
        runs += outcome.runs;
        if let Some(finding) = &outcome.finding {
            found += 1;
            report(target, finding);
        }
    }
    print(&format!(
        "fuzz: {} targets, {runs} inputs, seed {}: {found} findings\n",
        targets.len(),
        arguments.seed
    ));
    ExitCode::from(u8::from(found > 0))
}

fn arguments() -> Option<Arguments> {
    let mut given = Arguments { target: None, seconds: SECONDS, seed: 1 };
    let mut words = std::env::args().skip(1);
    while let Some(key) = words.next() {
        // An empty value is none: make passes on variables that nobody has set.
        let value = words.next()?;
        match key.as_str() {
            _ if value.is_empty() => {}
            "--target" => given.target = Some(value),
            "--seconds" => given.seconds = value.parse().ok()?,
            "--seed" => given.seed = value.parse().ok()?,
            _ => return None,
        }
    }
    Some(given)
}

fn line(target: &Target, outcome: &Outcome) -> String {
    let edges = outcome.edges.map_or_else(|| "no coverage".to_owned(), |edges| format!("{edges} edges"));
    format!(
        "{:14} {:>8} inputs, {:>4} kept, {edges}, at most {} KiB, slowest {} ms\n",
        target.name,
        outcome.runs,
        outcome.kept,
        outcome.peak / 1024,
        outcome.slowest.as_millis()
    )
}

/// Keeps an input that does harm, and says where.
fn report(target: &Target, finding: &Finding) {
    let folder = PathBuf::from("build/fuzz").join(target.name);
    let path = folder.join(format!("{}.bin", trust::sha256(&finding.input)));
    let kept = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&path, &finding.input));
    print(&format!("fuzz: {}: {}\n", target.name, finding.what));
    match kept {
        Ok(()) => print(&format!(
            "fuzz: the input ({} bytes) is {}; once mended it belongs in tests/fuzz/regressions/{}\n",
            finding.input.len(),
            path.display(),
            target.name
        )),
        Err(error) => print(&format!("fuzz: the input cannot be kept: {error}\n")),
    }
}

/// Ends the program when an input goes on for ever.
fn watch() {
    loop {
        std::thread::sleep(Duration::from_secs(1));
        let overdue = OVERDUE.lock().ok().and_then(|overdue| *overdue);
        if let Some((name, _)) = overdue.filter(|(_, when)| *when < Instant::now()) {
            print(&format!("fuzz: {name}: an input has been under way for {} s\n", FOR_EVER.as_secs()));
            std::process::exit(1);
        }
    }
}

/// Prints; whoever reads may have gone, which is no error.
fn print(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _gone = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}
