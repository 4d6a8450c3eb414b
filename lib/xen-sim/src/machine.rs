//! The machine that a test switches on.

use std::cell::{Cell, RefCell, RefMut};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::rc::Rc;

use xen_abi::number::HypercallNumber;
use xen_abi::sysctl::Capabilities;
use xen_abi::{DomId, Mfn, PageCount};

use crate::DOM0;
use crate::domains::Life;
use crate::faults::{CallSite, Effect, Fault, Faults};
use crate::frames::Frames;
use crate::grants::Maptrack;
use crate::guest::Guest;
use crate::hypervisor::SimHypervisor;
use crate::release::Release;
use crate::scheduling::Cpus;
use crate::state::State;
use crate::trace::{Call, Trace};
use crate::window::{SimSlot, SimWindow};

/// First address of the pages that simulated domains map grants at.
const SLOTS: u64 = 0x7f00_0000_0000;

/// What a machine is to be like.
#[derive(Clone, Copy, Debug)]
pub struct Builder {
    release: Release,
    memory: PageCount,
    dom0_memory: PageCount,
    fill: u8,
    window: usize,
    lingers: bool,
    capabilities: Capabilities,
    flask: Option<bool>,
    pv32: bool,
    cpus: Cpus,
    look: u64,
}

impl Builder {
    /// How long each look at the clock takes, in nanoseconds; nothing unless set. With it, who works until some time makes several
    /// steps of it.
    #[must_use]
    pub fn look_time(self, nanoseconds: u64) -> Self {
        Self { look: nanoseconds, ..self }
    }

    /// The release of Xen; 4.17 unless set.
    #[must_use]
    pub fn release(self, release: Release) -> Self {
        Self { release, ..self }
    }

    /// All memory, Dom0's included; 256 MiB unless set.
    #[must_use]
    pub fn memory(self, pages: PageCount) -> Self {
        Self { memory: pages, ..self }
    }

    /// Dom0's memory; 4 MiB unless set.
    #[must_use]
    pub fn dom0_memory(self, pages: PageCount) -> Self {
        Self { dom0_memory: pages, ..self }
    }

    /// Hands out memory full of the byte 0xc2 instead of zeros, as a debug build of Xen does: nothing may rely on zeros.
    #[must_use]
    pub fn stale_memory(self) -> Self {
        Self { fill: 0xc2, ..self }
    }

    /// Lets Xen free the last of a destroyed domain only when Dom0 sleeps next, as a real one does it a little later.
    #[must_use]
    pub fn lingering(self) -> Self {
        Self { lingers: true, ..self }
    }

    /// What Xen says of the machine; PV, hardware-assisted guests and nested paging unless set. A create call that needs more
    /// is refused.
    #[must_use]
    pub fn capabilities(self, capabilities: Capabilities) -> Self {
        Self { capabilities, ..self }
    }

    /// Gives Xen FLASK, with a small policy that is enforced or not; without FLASK unless set. Dom0 may create domains with the
    /// labels `domU_t` and `isolated_domU_t`, and with `nomigrate_t_building`, which it may then change to `nomigrate_t`, each behind
    /// `system_u:system_r:`; there is `xen_t` besides, and no other.
    #[must_use]
    pub fn flask(self, enforced: bool) -> Self {
        Self { flask: Some(enforced), ..self }
    }

    /// Lets Xen run 32-bit PV domains, as one that is built with CONFIG_PV32; not unless set.
    #[must_use]
    pub fn pv32(self) -> Self {
        Self { pv32: true, ..self }
    }

    /// The CPUs of pool 0, 4 unless set; and further pools of one CPU each, none unless set.
    #[must_use]
    pub fn cpus(self, first_pool: u32, more_pools: u32) -> Self {
        Self { cpus: Cpus { first_pool, more_pools }, ..self }
    }

    /// Frames that a window maps at once; 512 unless set.
    #[must_use]
    pub fn window(self, frames: usize) -> Self {
        Self { window: frames, ..self }
    }

    /// Switches the machine on: Xen runs, and Dom0 is there with its memory.
    ///
    /// Panics when the memory is too small for Dom0.
    pub fn build(self) -> Machine {
        let mut state = State {
            release: self.release,
            frames: Frames::new(self.memory, self.fill),
            domains: BTreeMap::new(),
            last_domid: 0,
            lost_domids: std::collections::BTreeSet::new(),
            virq_handlers: BTreeMap::new(),
            maptrack: Maptrack::default(),
            windows: BTreeMap::new(),
            now: 1_000_000_000,
            console: Vec::new(),
            typed: Vec::new(),
            said: Vec::new(),
            faults: Faults::default(),
            trace: Trace::default(),
            calls: 0,
            ended: None,
            lingers: self.lingers,
            capabilities: self.capabilities,
            flask: self.flask,
            pv32: self.pv32,
            cpus: self.cpus,
            lingering: Vec::new(),
            free_at_start: 0,
        };
        let started = state.start_domain(DOM0, self.dom0_memory);
        assert!(started.is_ok(), "{} pages are too few for a Dom0 of {}", self.memory, self.dom0_memory);
        state.free_at_start = state.frames.free_count();
        Machine {
            inner: Rc::new(Inner {
                state: RefCell::new(state),
                script: RefCell::default(),
                watcher: RefCell::default(),
                window: self.window,
                look: self.look,
                slots: Cell::new(SLOTS),
            }),
        }
    }
}

/// One thing that happens while Dom0 sleeps.
type Step = Box<dyn FnOnce(&Machine)>;

/// What happens before each of Dom0's calls.
type Watcher = Box<dyn FnMut(&Machine)>;

struct Inner {
    state: RefCell<State>,
    script: RefCell<VecDeque<Step>>,
    watcher: RefCell<Option<Watcher>>,
    window: usize,
    /// Nanoseconds that a look at the clock takes.
    look: u64,
    slots: Cell<u64>,
}

/// A simulated machine with Xen and a Dom0. A clone is another handle on the same machine.
#[derive(Clone)]
pub struct Machine {
    inner: Rc<Inner>,
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine").finish_non_exhaustive()
    }
}

impl Machine {
    /// A machine to be described.
    pub fn builder() -> Builder {
        Builder {
            release: Release::V4_17,
            memory: PageCount::new(0x1_0000),
            dom0_memory: PageCount::new(0x400),
            fill: 0,
            window: 512,
            lingers: false,
            capabilities: Capabilities::PV.union(Capabilities::HVM).union(Capabilities::HAP),
            flask: None,
            pv32: false,
            cpus: Cpus { first_pool: 4, more_pools: 0 },
            look: 0,
        }
    }

    /// A machine with Xen of that release and nothing else out of the ordinary.
    pub fn with_release(release: Release) -> Self {
        Self::builder().release(release).build()
    }

    /// The state of the machine. It must not be held while anything else is called on the machine.
    pub(crate) fn state(&self) -> RefMut<'_, State> {
        self.inner.state.borrow_mut()
    }

    /// The seam of Dom0.
    pub fn dom0(&self) -> SimHypervisor {
        self.hypervisor(DOM0)
    }

    /// The window of Dom0.
    pub fn window(&self) -> SimWindow {
        SimWindow::new(self.clone(), DOM0, self.inner.window)
    }

    /// The frames of Dom0's memory.
    pub fn dom0_frames(&self) -> Vec<Mfn> {
        Guest::new(self.clone(), DOM0).frames()
    }

    /// A domain other than Dom0, to look at and to act as.
    ///
    /// Panics when there is none of that identifier.
    pub fn guest(&self, domain: DomId) -> Guest {
        assert!(self.has_domain(domain), "there is no domain {domain}");
        Guest::new(self.clone(), domain)
    }

    /// A domain that is simply there and runs, with `pages` pages and one vCPU, as though somebody had built it: for tests that
    /// need a second domain and do not care what it executes. It has no start info, hence no console, and no page tables.
    ///
    /// Panics when there is not enough memory.
    pub fn spawn(&self, pages: PageCount) -> Guest {
        let spawned = self.state().spawn(pages);
        assert!(spawned.is_ok(), "no memory for a domain of {pages} pages");
        Guest::new(self.clone(), spawned.unwrap_or(DOM0))
    }

    pub(crate) fn hypervisor(&self, domain: DomId) -> SimHypervisor {
        let bits = self.state().domains.get(&domain).map(|it| it.ports.bits.clone());
        SimHypervisor::new(self.clone(), domain, bits.unwrap_or_else(crate::events::EventBits::new))
    }

    pub(crate) fn window_of(&self, domain: DomId) -> SimWindow {
        SimWindow::new(self.clone(), domain, self.inner.window)
    }

    /// A page of the address space of `domain` that a grant can be mapped at.
    pub fn grant_slot(&self, domain: DomId) -> SimSlot {
        let address = self.inner.slots.get();
        self.inner.slots.set(address + 4096);
        SimSlot::new(self.clone(), domain, address)
    }

    /// Counts a call and finds the fault that waits for it.
    pub(crate) fn begin(
        &self,
        caller: DomId,
        number: HypercallNumber,
        name: &'static str,
        domain: DomId,
    ) -> (Call, Option<Effect>) {
        if caller == DOM0 {
            self.run_watcher();
        }
        let index = self.calls();
        let effect = self.state().strike(&CallSite { index, number, name, caller, domain });
        (Call { index, number, name, caller, domain, numbers: Vec::new(), result: Ok(0) }, effect)
    }

    /// Enters a call in the trace.
    pub(crate) fn end(&self, call: Call) {
        self.state().trace.push(call);
    }

    /// Makes a fault wait for its call.
    pub fn inject(&self, fault: Fault) {
        self.state().faults.add(fault);
    }

    /// Forgets all faults that wait.
    pub fn clear_faults(&self) {
        self.state().faults.clear();
    }

    /// Lets only so many more frames be allocated; `None` lifts the limit.
    pub fn run_out_of_memory_after(&self, frames: Option<PageCount>) {
        self.state().frames.allowance = frames.map(PageCount::raw);
    }

    /// How many calls were made since the machine was switched on.
    pub fn calls(&self) -> usize {
        self.state().calls
    }

    /// The calls since the machine was switched on, or since the trace was cleared.
    pub fn trace(&self) -> Trace {
        self.state().trace.clone()
    }

    /// Forgets the calls so far.
    pub fn clear_trace(&self) {
        self.state().trace.clear();
    }

    /// Lets `step` happen when Dom0 next sleeps without anything to wake it, after all steps that were added before.
    pub fn when_idle(&self, step: impl FnOnce(&Machine) + 'static) {
        self.inner.script.borrow_mut().push_back(Box::new(step));
    }

    /// Lets `watcher` happen before each call of Dom0's from now on, in place of what did so far: whatever it does has happened between
    /// two calls. It is not called for the calls that it makes itself.
    pub fn before_calls(&self, watcher: impl FnMut(&Machine) + 'static) {
        *self.inner.watcher.borrow_mut() = Some(Box::new(watcher));
    }

    fn run_watcher(&self) {
        let taken = self.inner.watcher.borrow_mut().take();
        if let Some(mut watcher) = taken {
            watcher(self);
            // One that was set meanwhile has taken its place.
            self.inner.watcher.borrow_mut().get_or_insert(watcher);
        }
    }

    /// Lets the next step happen, if there is one.
    pub(crate) fn run_step(&self) -> bool {
        let step = self.inner.script.borrow_mut().pop_front();
        step.map(|step| step(self)).is_some()
    }

    /// Ends the test: a domain waits for something that can never happen.
    #[expect(clippy::panic, reason = "the test would hang")]
    pub(crate) fn fail_for_ever(&self, domain: DomId, ports: &[u32]) -> ! {
        panic!(
            "domain {domain} waits for ports {ports:?} without a deadline, and nothing is left that could happen; \
             the last calls were:\n{}",
            self.last_calls(10)
        );
    }

    fn last_calls(&self, count: usize) -> String {
        let state = self.state();
        let calls = state.trace.calls();
        let last = &calls[calls.len().saturating_sub(count)..];
        last.iter().map(|call| format!("  {call}")).collect::<Vec<_>>().join("\n")
    }

    /// System time in nanoseconds. Each hypercall takes a microsecond.
    pub fn now(&self) -> u64 {
        let mut state = self.state();
        state.now += self.inner.look;
        state.now
    }

    /// Lets time pass.
    pub fn advance(&self, nanoseconds: u64) {
        self.state().now += nanoseconds;
    }

    /// What was written to Xen's console so far.
    pub fn console(&self) -> String {
        String::from_utf8_lossy(&self.state().console).into_owned()
    }

    /// Types at Xen's console, which raises `VIRQ_CONSOLE`. Xen keeps 128 bytes that nobody has read, and drops the rest; says
    /// how many it kept.
    pub fn type_at_console(&self, text: &[u8]) -> usize {
        /// Xen's buffer of the serial line.
        const TYPED: usize = 128;
        let mut state = self.state();
        let kept = text.len().min(TYPED - state.typed.len());
        state.typed.extend_from_slice(&text[..kept]);
        state.raise_virq(xen_abi::event_channel::VIRQ_CONSOLE);
        kept
    }

    /// Lets Xen say something on its console, which keeps it in its ring.
    pub fn xen_says(&self, text: &str) {
        self.state().said.extend_from_slice(text.as_bytes());
    }

    /// Frames that nobody has.
    pub fn free_memory(&self) -> PageCount {
        PageCount::new(self.state().frames.free_count())
    }

    /// The domains beside Dom0, zombies included.
    pub fn domains(&self) -> Vec<DomId> {
        self.state().domains.keys().copied().filter(|domain| *domain != DOM0).collect()
    }

    /// Whether there is a domain of that identifier, zombies included.
    pub fn has_domain(&self, domain: DomId) -> bool {
        self.state().domains.contains_key(&domain)
    }

    /// With which reason Dom0 shut the machine down; `None` while it runs.
    pub fn ended(&self) -> Option<u8> {
        self.state().ended
    }

    /// Lets Xen free the last of destroyed domains, as it does a little later even when Dom0 never sleeps again.
    pub fn settle(&self) {
        while self.state().free_lingering() {}
    }

    /// What is left of anything that was built since the machine was switched on, in words; empty when there is nothing.
    pub fn leftovers(&self) -> Vec<String> {
        let state = self.state();
        let mut found = Vec::new();
        for (domid, domain) in state.domains.iter().filter(|(domid, _)| **domid != DOM0) {
            let zombie = if domain.life == Life::Dead { " (a zombie)" } else { "" };
            found.push(format!("domain {domid}{zombie} with {} frames", state.frames.held_for(*domid)));
        }
        if let Some(dom0) = state.domains.get(&DOM0) {
            found.extend(dom0.ports.all().map(|(port, binding)| format!("port {port} of Dom0: {binding:?}")));
        }
        let names = state.domains.get(&DOM0).map_or(&[][..], |dom0| dom0.devices.names());
        found.extend(names.iter().map(|line| format!("interrupt {line}, still mapped for Dom0")));
        found.extend(state.windows.keys().map(|mfn| format!("a mapping of frame {mfn}")));
        if state.maptrack.len() > 0 {
            found.push(format!("{} mapped grants", state.maptrack.len()));
        }
        if !state.lingering.is_empty() {
            found.push(format!("the last of {} destroyed domains", state.lingering.len()));
        }
        let free = state.frames.free_count();
        if free != state.free_at_start {
            found.push(format!("{free} frames are free, and {} were at the start", state.free_at_start));
        }
        found
    }

    /// Panics, with a list, unless the machine is as it was when it was switched on: no domain but Dom0, no port, no mapping,
    /// all memory free again.
    #[track_caller]
    pub fn assert_clean(&self) {
        let found = self.leftovers();
        assert!(
            found.is_empty(),
            "the machine is not clean:\n  {}\nthe last calls were:\n{}",
            found.join("\n  "),
            self.last_calls(10)
        );
    }
}
