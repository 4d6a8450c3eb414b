//! Which parts of the code an input has reached: counters that LLVM increments on every edge of the flow of control, if the build asks
//! for them (`-C passes=sancov-module`).

use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, Ordering};

/// The counters of each object file.
static COUNTERS: Mutex<Vec<&'static [AtomicU8]>> = Mutex::new(Vec::new());

/// Called before `main`, once for each object file that has counters.
///
/// # Safety
///
/// `start..stop` are bytes that live as long as the program, and nobody but the code under test writes to them.
#[unsafe(no_mangle)]
unsafe extern "C" fn __sanitizer_cov_8bit_counters_init(start: *const AtomicU8, stop: *const AtomicU8) {
    // SAFETY: both are ends of one array, says the caller, which is the linker.
    let count = usize::try_from(unsafe { stop.offset_from(start) }).unwrap_or(0);
    // SAFETY: the same; the instrumented code increments them without atomicity, in the one thread that fuzzes.
    let counters = unsafe { std::slice::from_raw_parts(start, count) };
    if let Ok(mut all) = COUNTERS.lock() {
        all.push(counters);
    }
}

/// What was reached so far: for each counter the magnitudes that were seen.
#[derive(Debug)]
pub(crate) struct Coverage {
    counters: Vec<&'static [AtomicU8]>,
    seen: Vec<u8>,
}

impl Coverage {
    pub(crate) fn new() -> Self {
        let counters = COUNTERS.lock().map(|all| all.clone()).unwrap_or_default();
        let seen = vec![0; counters.iter().map(|part| part.len()).sum()];
        Self { counters, seen }
    }

    /// Whether the build has counters at all.
    pub(crate) fn is_there(&self) -> bool {
        !self.seen.is_empty()
    }

    /// Edges that were reached.
    pub(crate) fn edges(&self) -> usize {
        self.seen.iter().filter(|seen| **seen != 0).count()
    }

    /// Sets all counters to zero, before a run.
    pub(crate) fn clear(&self) {
        for counter in self.counters.iter().copied().flatten() {
            counter.store(0, Ordering::Relaxed);
        }
    }

    /// Takes the counters after a run; whether anything is new.
    pub(crate) fn take(&mut self) -> bool {
        let mut new = false;
        for (counter, seen) in self.counters.iter().copied().flatten().zip(&mut self.seen) {
            let bit = magnitude(counter.load(Ordering::Relaxed));
            new |= *seen & bit != bit;
            *seen |= bit;
        }
        new
    }
}

/// One bit for how often an edge was taken: 1, 2, 3, 4 to 7, 8 to 15, 16 to 31, 32 to 127, more.
fn magnitude(count: u8) -> u8 {
    match count {
        0 => 0,
        1..=3 => 1 << (count - 1),
        4..=7 => 1 << 3,
        8..=15 => 1 << 4,
        16..=31 => 1 << 5,
        32..=127 => 1 << 6,
        128.. => 1 << 7,
    }
}
