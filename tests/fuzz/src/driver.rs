//! Trying inputs.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::alloc;
use crate::coverage::Coverage;
use crate::mutate::{Numbers, mutate};
use crate::target::Target;

/// Inputs that are kept.
const MAX_KEPT: usize = 4096;
/// How often a finding is tried shorter.
const MINIMISE: usize = 20_000;

thread_local! {
    /// Where the last panic was, and its words.
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// An input that does harm.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The input, as short as it was made.
    pub input: Vec<u8>,
    /// What it does.
    pub what: String,
}

/// What came of fuzzing a target.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Inputs that were tried.
    pub runs: u64,
    /// Inputs that reached something new, the seeds included.
    pub kept: usize,
    /// Edges of the flow of control that were reached; `None` in a build without coverage.
    pub edges: Option<usize>,
    /// The most memory that an input took, in bytes.
    pub peak: usize,
    /// The longest that one took.
    pub slowest: Duration,
    /// The first input that does harm.
    pub finding: Option<Finding>,
}

/// Has panics kept for [`check`] instead of printed.
pub(crate) fn keep_panics() {
    std::panic::set_hook(Box::new(|info| PANIC.set(info.to_string())));
}

/// Gives `input` to the target; the most memory it took, or what harm it does.
pub fn check(target: &Target, input: &[u8]) -> Result<usize, String> {
    let before = alloc::now();
    alloc::reset();
    let ended = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    let peak = alloc::peak(before);
    if ended.is_err() {
        return Err(PANIC.with_borrow(|panic| format!("it panics: {panic}")));
    }
    let most = target.memory + 32 * input.len();
    if peak > most {
        return Err(format!("it takes {peak} bytes of memory; {most} are its bound"));
    }
    Ok(peak)
}

/// Tries the seeds of the target, then changed ones until `runs` are done or the time is over. `seed` decides how they are
/// changed.
pub fn fuzz(target: &Target, seed: u64, runs: u64, time: Duration) -> Outcome {
    keep_panics();
    let (begin, mut numbers, mut coverage) = (Instant::now(), Numbers::new(seed), Coverage::new());
    let (mut kept, mut outcome): (Vec<Vec<u8>>, _) = (Vec::new(), Outcome::default());
    let mut seeds = (target.seeds)();
    while outcome.runs < runs && (begin.elapsed() < time || !seeds.is_empty()) {
        let unchanged = seeds.pop();
        let is_seed = unchanged.is_some();
        let input = unchanged.unwrap_or_else(|| {
            let mut input = numbers.pick(&kept).cloned().unwrap_or_default();
            let other = numbers.pick(&kept).cloned().unwrap_or_default();
            mutate(&mut numbers, &mut input, &other, target.words);
            input
        });
        coverage.clear();
        let start = Instant::now();
        let checked = check(target, &input);
        outcome.slowest = outcome.slowest.max(start.elapsed());
        outcome.runs += 1;
        match checked {
            Ok(peak) => outcome.peak = outcome.peak.max(peak),
            Err(what) => {
                outcome.finding = Some(minimise(target, input, what));
                break;
            }
        }
        if (coverage.take() || is_seed) && kept.len() < MAX_KEPT {
            kept.push(input);
        }
    }
    outcome.kept = kept.len();
    outcome.edges = coverage.is_there().then(|| coverage.edges());
    outcome
}

/// Makes a finding shorter as long as it does harm.
fn minimise(target: &Target, mut input: Vec<u8>, mut what: String) -> Finding {
    let (mut tries, mut size) = (0, input.len().div_ceil(2));
    while size > 0 && tries < MINIMISE {
        let mut at = 0;
        while at < input.len() && tries < MINIMISE {
            let shorter = [&input[..at], &input[input.len().min(at + size)..]].concat();
            tries += 1;
            match check(target, &shorter) {
                Err(why) => (input, what) = (shorter, why),
                Ok(_) => at += size,
            }
        }
        size = if size == 1 { 0 } else { size.div_ceil(2) };
    }
    Finding { input, what }
}
