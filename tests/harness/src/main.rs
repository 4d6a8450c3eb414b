//! Boots the tests of this checkout and judges them; also checks the source tree's own rules.
//!
//! `make` calls this program at the top of the checkout; tests/README.md is its manual. The way of a test:
//! [`suite`] reads `test.toml`, [`machine`] makes what is needed and runs `domb run`, [`console`] takes the output apart,
//! [`judge`] compares it with what was expected. [`bench`] measures, [`soak`] looks for what is lost over thousands of VMs; [`floors`] and [`inventory`] look at the
//! source instead.
#![forbid(unsafe_code)]

/// Prints a line. Unlike `println!` it does not mind a reader that has gone away (`make -C tests list | head -3`): the
/// exit status says what matters.
macro_rules! say {
    ($($argument:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($argument)*);
    }};
}

mod bench;
mod console;
mod damage;
mod floors;
mod inventory;
mod judge;
mod machine;
mod process;
mod soak;
mod suite;
mod table;
mod verdict;
mod vmfile;

use std::collections::VecDeque;
use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;
use std::thread;

use clap::{Parser, Subcommand};

use machine::{HostError, Job, Report, Xen};
use suite::Boot;
use verdict::Verdict;

#[derive(Parser)]
#[command(about, version)]
struct Arguments {
    #[command(subcommand)]
    command: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Name every test with its description
    List,
    /// Build, pack and boot one test; show its console; exit with its verdict
    Run {
        /// The test's name
        name: String,
        /// A version (4.14, 4.17, 4.20, 4.17-full) or the path of a xen.gz; by default 4.17, or the one that the test is for
        #[arg(long, default_value = "")]
        xen: String,
        /// How Xen is started
        #[arg(long, default_value = "direct")]
        boot: Boot,
        /// Multiplies the test's time limit
        #[arg(long, default_value_t = 1.0)]
        timeout_factor: f64,
    },
    /// Run tests (all, or those named) on every Xen, each in the ways of booting that it names
    All {
        /// Only these tests
        names: Vec<String>,
        /// Xen versions or paths, separated by blanks
        #[arg(long, default_value = "4.14 4.17 4.20 4.17-full")]
        xens: String,
        /// How many machines run at a time [default: one for each processor]
        #[arg(long)]
        jobs: Option<usize>,
        /// Multiplies the tests' time limits
        #[arg(long, default_value_t = 1.0)]
        timeout_factor: f64,
    },
    /// Measure db-boot beside Debian's xl, and beside what building a VM has to cost
    Bench {
        /// A version (4.14, 4.17, 4.20) or the path of a xen.gz; by default 4.17
        #[arg(long, default_value = "")]
        xen: String,
        /// The essential figures only
        #[arg(long)]
        quick: bool,
        /// Add the figures to tests/bench/history.txt
        #[arg(long)]
        record: bool,
    },
    /// Build and destroy thousands of VMs in one boot, and see that memory and time stay flat
    Soak {
        /// A version (4.14, 4.17, 4.20) or the path of a xen.gz; by default 4.17
        #[arg(long, default_value = "")]
        xen: String,
        /// How many PV VMs; a tenth as many PVH ones follow, in a boot of their own
        #[arg(long, default_value_t = 10_000)]
        vms: u32,
    },
    /// Check that crates depend on lower floors only
    CheckFloors,
    /// Compare docs/unsafe.md with the source
    CheckUnsafe {
        /// Write docs/unsafe.md instead
        #[arg(long)]
        write: bool,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match std::env::current_dir().map_err(Into::into).and_then(|top| act(&top, arguments.command)) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("harness: error: {error}");
            ExitCode::from(Verdict::Error.exit_status())
        }
    }
}

/// Does what was asked in the checkout at `top`; the exit status.
fn act(top: &Path, action: Action) -> Result<u8, Box<dyn Error>> {
    match action {
        Action::List => {
            for test in suite::all(top)? {
                say!("{:16} {}", test.name, test.spec.description);
            }
            Ok(0)
        }
        Action::Run { name, xen, boot, timeout_factor } => {
            let test = suite::find(top, &name)?;
            let xen = xen_for(&test, &xen);
            run_one(top, &Job { test, xen, boot }, timeout_factor)
        }
        Action::All { names, xens, jobs, timeout_factor } => {
            let processors = thread::available_parallelism().map_or(1, usize::from);
            let workers = jobs.unwrap_or(processors).max(1);
            run_all(top, &jobs_of(top, &names, &xens)?, workers, timeout_factor)
        }
        Action::Bench { xen, quick, record } => {
            bench::run(top, &bench::Choice { xen: Xen::new(&xen), quick, record })
        }
        Action::Soak { xen, vms } => soak::run(top, &soak::Choice { xen: Xen::new(&xen), vms }),
        Action::CheckFloors => Ok(floors::check(top)?),
        Action::CheckUnsafe { write } => Ok(inventory::check(top, write)?),
    }
}

/// `NAME.run`: with its console, and the verdict at the end.
fn run_one(top: &Path, job: &Job, factor: f64) -> Result<u8, Box<dyn Error>> {
    if !job.applies() {
        let xens = match job.test.spec.xens.join(", ") {
            none if none.is_empty() => "Xens as they are released".to_owned(),
            xens => format!("Xen {xens}"),
        };
        say!("{}: {} (by its test.toml it is for {xens} only)", Verdict::Skip, job.id());
        return Ok(Verdict::Skip.exit_status());
    }
    machine::prepare(top, std::slice::from_ref(job))?;
    let report = machine::run(top, job, factor, true)?;
    print_report(job, &report);
    say!("again: {}", report.command);
    say!("log:   {}", relative(top, &report.log).display());
    say!(
        "{}: {} on Xen {} ({:.1} s)",
        report.verdict(),
        job.test.name,
        job.xen.label,
        report.took.as_secs_f64()
    );
    Ok(report.verdict().exit_status())
}

/// The Xen that is asked for; if none is, the usual one, or the first of those that the test is for.
fn xen_for(test: &suite::Test, asked: &str) -> Xen {
    let usual = Xen::new(asked);
    let first = test.spec.xens.first().filter(|_| asked.is_empty());
    match first {
        Some(first) if !test.spec.xens.contains(&usual.label) => Xen::new(first),
        _ => usual,
    }
}

fn print_report(job: &Job, report: &Report) {
    for finding in &report.findings {
        say!("{}: {}: {}", job.test.name, finding.verdict, finding.text);
    }
}

fn relative<'a>(top: &Path, path: &'a Path) -> &'a Path {
    path.strip_prefix(top).unwrap_or(path)
}

/// Every boot that a run of all tests consists of.
fn jobs_of(top: &Path, names: &[String], xens: &str) -> Result<Vec<Job>, Box<dyn Error>> {
    let tests = if names.is_empty() {
        suite::all(top)?
    } else {
        names.iter().map(|name| suite::find(top, name)).collect::<Result<_, _>>()?
    };
    let xens: Vec<Xen> = xens.split_whitespace().map(Xen::new).collect();
    let mut jobs = Vec::new();
    for test in &tests {
        for xen in &xens {
            for &boot in &test.spec.boots {
                jobs.push(Job { test: test.clone(), xen: xen.clone(), boot });
            }
        }
    }
    Ok(jobs)
}

/// Runs the jobs on `workers` threads: a line for each as it ends, then the table and the sum.
fn run_all(top: &Path, jobs: &[Job], workers: usize, factor: f64) -> Result<u8, Box<dyn Error>> {
    let wanted: Vec<Job> = jobs.iter().filter(|job| job.applies()).cloned().collect();
    machine::prepare(top, &wanted)?;
    let queue: Mutex<VecDeque<(usize, &Job)>> = Mutex::new(jobs.iter().enumerate().collect());
    let results: Mutex<Vec<Option<Verdict>>> = Mutex::new(vec![None; jobs.len()]);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some((index, job)) = lock(&queue).pop_front() {
                    let verdict = run_quietly(top, job, factor);
                    if let Some(result) = lock(&results).get_mut(index) {
                        *result = Some(verdict);
                    }
                }
            });
        }
    });
    let verdicts: Vec<Verdict> =
        lock(&results).iter().map(|verdict| verdict.unwrap_or(Verdict::Error)).collect();
    say!("\n{}{}", table::table(jobs, &verdicts), table::sum(&verdicts));
    let failed = verdicts.into_iter().filter(|verdict| *verdict > Verdict::Skip).max();
    Ok(failed.unwrap_or(Verdict::Success).exit_status())
}

/// A poisoned lock only means that another worker panicked: its own job is lost, the others go on.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// One job of many: its line, and what there is to say when it is not a success.
fn run_quietly(top: &Path, job: &Job, factor: f64) -> Verdict {
    if !job.applies() {
        return Verdict::Skip;
    }
    let report: Result<Report, HostError> = machine::run(top, job, factor, false);
    // One lock for all lines of a job.
    let out = std::io::stdout().lock();
    match report {
        Ok(report) => {
            say!("{:8} {} ({:.1} s)", report.verdict(), job.id(), report.took.as_secs_f64());
            print_report(job, &report);
            if report.verdict() > Verdict::Skip {
                say!("    log:   {}", relative(top, &report.log).display());
                say!("    again: {}", job.make_command());
            }
            drop(out);
            report.verdict()
        }
        Err(error) => {
            say!("{:8} {}: {error}", Verdict::Error, job.id());
            drop(out);
            Verdict::Error
        }
    }
}
