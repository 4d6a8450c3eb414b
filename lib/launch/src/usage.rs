//! What is in use: of Xen's memory, domains, the builder's own ports and heap. Whoever doubts that nothing is lost over thousands of
//! VMs has it logged (`usage=N`).

use core::num::NonZeroU32;

use hypercall::{FrameWindow, RawHypercall, Xen};
use xen_abi::Port;
use xen_abi::event_channel::PortState;

use crate::Environment;

/// The highest port that is looked at: that of the interface which a builder uses.
const LAST_PORT: u32 = 4095;

/// Counts the VMs that were started, and knows when to log what is in use.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// After how many VMs; never without.
    every: Option<NonZeroU32>,
    /// VMs that were started, restarts among them.
    started: u32,
}

impl Usage {
    /// Logs after `every` so many VMs.
    pub(crate) fn new(every: Option<NonZeroU32>) -> Self {
        Self { every, started: 0 }
    }

    /// Enters a VM that was started.
    pub(crate) fn count<H: RawHypercall, W: FrameWindow>(&mut self, environment: &Environment<'_, H, W>) {
        self.started = self.started.saturating_add(1);
        if self.every.is_some_and(|every| self.started.is_multiple_of(every.get())) {
            self.log(environment);
        }
    }

    /// Logs what is in use now, if it is to be logged at all. What Xen does not tell is left out.
    pub(crate) fn log<H: RawHypercall, W: FrameWindow>(self, environment: &Environment<'_, H, W>) {
        if self.every.is_none() {
            return;
        }
        let xen = environment.xen;
        let memory = xen.machine_memory().ok().flatten();
        let domains = xen.domains().ok().flatten().map(|domains| domains.len() as u64);
        let spare = (environment.spare_memory)();
        log::info!(
            "event=usage vms={}{}{} ports={} spare={spare}B",
            self.started,
            memory.map(|memory| Figure("free", memory.free.kib(), "KiB")).unwrap_or_default(),
            domains.map(|domains| Figure("domains", domains, "")).unwrap_or_default(),
            open_ports(xen)
        );
    }
}

/// ` key=number` and a unit, or nothing.
#[derive(Default)]
struct Figure(&'static str, u64, &'static str);

impl core::fmt::Display for Figure {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self(key, number, unit) = self;
        if key.is_empty() { Ok(()) } else { write!(f, " {key}={number}{unit}") }
    }
}

/// How many ports of the builder's domain are open. Xen knows no ports above the first that it does not answer for.
fn open_ports<H: RawHypercall>(xen: &Xen<H>) -> usize {
    let states = (1..=LAST_PORT).map_while(|port| xen.port_state(Port::new(port)).ok());
    states.filter(|state| !matches!(state, PortState::Closed)).count()
}
