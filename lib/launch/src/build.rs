//! Building planned VMs, paused.

use alloc::rc::Rc;
use alloc::vec::Vec;

use domain_builder::{BuildError, Construction, DomainSpec, Progress, Ring, Sealed, Step};
use hypercall::{FrameWindow, RawHypercall};
use protocols::GuestKind;
use xen_abi::{DomId, Mfn, PageCount};

use crate::channels::open_ports;
use crate::counted::CountedWindow;
use crate::{Environment, PlannedVm, Recipe};

/// A VM that is complete and paused; it is destroyed when this is dropped.
pub struct BuiltVm<'x, H: RawHypercall> {
    pub(crate) vm: Rc<PlannedVm>,
    pub(crate) domain: Sealed<'x, H>,
}

impl<H: RawHypercall> BuiltVm<'_, H> {
    /// The VM.
    pub fn vm(&self) -> &PlannedVm {
        &self.vm
    }

    /// The frame of its start info, as the console's.
    pub fn start_info(&self) -> Mfn {
        self.domain.start_info()
    }

    /// Its console's ring.
    pub fn console(&self) -> Ring {
        Ring { frame: self.domain.console_frame(), port: self.domain.console() }
    }

    /// Its XenStore's ring, if that is served.
    pub fn store(&self) -> Option<Ring> {
        self.domain.store()
    }
}

/// A VM that is being built, a step at a time, each of which takes a bounded time. Dropped before it is complete, it is destroyed.
pub struct Building<'x, H: RawHypercall> {
    vm: Rc<PlannedVm>,
    spec: DomainSpec,
    construction: Construction<'x, H>,
    /// When it was begun.
    begin: u64,
    /// When the part of the work before this one was done.
    last: u64,
    /// Hypercalls that were made for it, those of the window not counted.
    calls: u64,
    /// Frames that were mapped for it.
    mapped: u64,
}

impl<'x, H: RawHypercall> Building<'x, H> {
    /// Nothing of `vm` yet, at system time `now` in nanoseconds.
    pub fn new(vm: Rc<PlannedVm>, now: u64) -> Self {
        let spec = vm.domain_spec();
        Self { vm, spec, construction: Construction::default(), begin: now, last: now, calls: 0, mapped: 0 }
    }

    /// The VM.
    pub fn vm(&self) -> &Rc<PlannedVm> {
        &self.vm
    }

    /// Makes the next step, and logs a line for each part of the work that is done, with its duration; gives the VM when it is
    /// complete. After an error it is gone.
    pub(crate) fn step<W: FrameWindow>(
        &mut self,
        environment: &mut Environment<'x, H, W>,
        recipe: &Recipe<'_>,
    ) -> Result<Option<BuiltVm<'x, H>>, BuildError> {
        let (xen, before) = (environment.xen, environment.xen.counts().total());
        let Recipe { plan, ramdisk } = recipe;
        let mut window = CountedWindow::new(&mut environment.window);
        let progress = self.construction.step(xen, &mut window, &self.spec, plan.into(), ramdisk)?;
        self.mapped += window.frames();
        let domain = match progress {
            Progress::Within => None,
            Progress::Done(step, domid) => {
                self.log(step, domid, (environment.now)());
                None
            }
            Progress::Complete(domain) => {
                self.log(Step::Seal, domain.domid(), (environment.now)());
                open_ports(xen, &domain, &self.vm.spec)?;
                Some(domain)
            }
        };
        self.calls += xen.counts().total() - before;
        let Some(domain) = domain else { return Ok(None) };
        let spec = &self.vm.spec;
        log::info!(
            "vm={} domid={} event=built type={} vcpus={} memory={}KiB written={}KiB extents={} hypercalls={} mapped={} took={}us",
            spec.name,
            domain.domid(),
            kind(spec.kind),
            spec.vcpus,
            plan.memory().kib(),
            plan.written().kib(),
            domain.memory_runs(),
            self.calls,
            self.mapped,
            micros(self.begin, (environment.now)())
        );
        Ok(Some(BuiltVm { vm: Rc::clone(&self.vm), domain }))
    }

    fn log(&mut self, step: Step, domid: DomId, now: u64) {
        let took = micros(self.last, now);
        log::info!("vm={} domid={domid} step={step} took={took}us", self.vm.spec.name);
        self.last = now;
    }
}

/// A kind of guests, by the word that VM files have for it.
fn kind(kind: GuestKind) -> &'static str {
    match kind {
        GuestKind::Pv => "pv",
        GuestKind::Pvh => "pvh",
    }
}

/// Builds one VM.
pub(crate) fn build_vm<'x, H: RawHypercall, W: FrameWindow>(
    environment: &mut Environment<'x, H, W>,
    vm: &Rc<PlannedVm>,
    recipe: &Recipe<'_>,
) -> Result<BuiltVm<'x, H>, BuildError> {
    let mut building = Building::new(Rc::clone(vm), (environment.now)());
    loop {
        if let Some(built) = building.step(environment, recipe)? {
            return Ok(built);
        }
    }
}

/// The memory of all VMs.
pub(crate) fn total_memory(vms: &[Rc<PlannedVm>]) -> PageCount {
    PageCount::new(vms.iter().map(|vm| vm.spec.memory_kib / 4).sum())
}

/// From nanoseconds to microseconds between two times.
pub(crate) fn micros(from: u64, to: u64) -> u64 {
    to.saturating_sub(from) / 1000
}

/// Gives up every VM in `built`, last first.
pub(crate) fn take_back<H: RawHypercall>(built: &mut Vec<BuiltVm<'_, H>>) {
    while let Some(vm) = built.pop() {
        log::info!("vm={} domid={} event=taken-back", vm.vm.spec.name, vm.domain.domid());
    }
}
