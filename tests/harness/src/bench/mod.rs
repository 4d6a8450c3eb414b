//! `make bench`: what building VMs costs, beside what it costs others, and beside what it has to cost.
//!
//! Three systems run on the same Xen in the same emulated machine, whose time is the number of instructions that were executed
//! (QEMU's `-icount`), so that a busy host does not matter: db-boot, and db-server on request; Debian's `xl` in a Linux Dom0 that has nothing else
//! to do; and tests/bench/floor, which makes only the calls that no builder can leave out. [`boots`] runs them,
//! [`figures`] takes the numbers from what they print, [`report`] and [`chart`] show them, [`history`] keeps them.
//!
//! Nothing here passes or fails by a time. What fails is a measurement that could not be made.

mod boots;
mod chart;
mod figures;
mod history;
mod machines;
mod report;
mod requests;

pub(crate) use figures::number;
pub(crate) use machines::ICOUNT;

use std::error::Error;
use std::fs;
use std::path::Path;

use crate::machine::Xen;
use figures::Figures;

/// What is measured.
#[derive(Clone, Debug)]
pub(crate) struct Choice {
    /// The Xen that all systems run on.
    pub(crate) xen: Xen,
    /// Only the essential figures: a few minutes instead of many.
    pub(crate) quick: bool,
    /// Whether the figures go into the history.
    pub(crate) record: bool,
}

/// Where the guests' sizes end in a quick run, in MiB.
const QUICK_SIZES: &[u64] = &[8, 64];
/// All sizes, in MiB.
const SIZES: &[u64] = &[8, 64, 256, 1024, 4096];

impl Choice {
    /// Whether xl is measured: it works on the Xen of its own release only.
    fn has_xl(&self) -> bool {
        self.xen.label == machines::XL_RELEASE
    }

    /// The sizes of guests, in MiB, by size.
    fn sizes(&self) -> &'static [u64] {
        if self.quick { QUICK_SIZES } else { SIZES }
    }
}

/// Measures, and shows what came out.
pub(crate) fn run(top: &Path, choice: &Choice) -> Result<u8, Box<dyn Error>> {
    let bench = machines::Bench::prepare(top, choice)?;
    let mut figures = Figures::default();
    boots::all(&bench, choice, &mut figures)?;
    figures.check(&report::needed(choice))?;
    let past = history::read(top)?;
    say!("\n{}", report::text(&figures, choice, &past));
    let picture = top.join("build/bench/bench.svg");
    fs::write(&picture, chart::svg(&figures, choice))?;
    say!("chart: {}", picture.strip_prefix(top).unwrap_or(&picture).display());
    if choice.record {
        history::append(top, &choice.xen.label, &figures)?;
        say!("history: {}", history::FILE);
    }
    Ok(0)
}
