//! VMs that are built and wait for others before they start.
//!
//! Who waits for whom is kept by name, so that a VM that becomes ready, or never will, costs no more than the VMs that wait for
//! it, however many others wait.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use hypercall::{FrameWindow, RawHypercall};

use crate::PlannedVm;
use crate::build::{BuiltVm, take_back};
use crate::refused::log_failure;
use crate::supervisor::Supervisor;

/// The VMs that wait, and those that they need not wait for any more.
pub(crate) struct Held<'x, 'p, H: RawHypercall> {
    /// By the order in which they came, each with how many it still waits for.
    vms: BTreeMap<usize, (BuiltVm<'x, 'p, H>, usize)>,
    /// Who waits for a VM that is not ready.
    waiters: BTreeMap<&'p str, Vec<usize>>,
    /// Those that wait for nothing any more.
    free: BTreeSet<usize>,
    ready: BTreeSet<&'p str>,
    /// How many have come.
    came: usize,
}

impl<H: RawHypercall> Default for Held<'_, '_, H> {
    fn default() -> Self {
        Self {
            vms: BTreeMap::new(),
            waiters: BTreeMap::new(),
            free: BTreeSet::new(),
            ready: BTreeSet::new(),
            came: 0,
        }
    }
}

impl<'x, 'p, H: RawHypercall> Held<'x, 'p, H> {
    /// Keeps a VM until those are ready that it starts after.
    pub(crate) fn hold(&mut self, vm: BuiltVm<'x, 'p, H>) {
        let number = self.came;
        self.came += 1;
        let planned: &'p PlannedVm = vm.vm;
        let mut missing = 0;
        for name in &planned.spec.life.after {
            if !self.ready.contains(name.as_str()) {
                self.waiters.entry(name).or_default().push(number);
                missing += 1;
            }
        }
        if missing == 0 {
            self.free.insert(number);
        }
        self.vms.insert(number, (vm, missing));
    }

    /// How many wait.
    pub(crate) fn count(&self) -> usize {
        self.vms.len()
    }

    /// Those that wait.
    pub(crate) fn vms(&self) -> impl Iterator<Item = &'p PlannedVm> {
        self.vms.values().map(|(built, _)| built.vm)
    }

    /// The names of those that wait.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.vms().map(|vm| vm.spec.name.as_str())
    }

    /// Those that wait, with the names of the VMs that they start after.
    pub(crate) fn waits(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.vms().map(|vm| (vm.spec.name.as_str(), vm.spec.life.after.as_slice()))
    }

    /// Enters a VM as ready, for good: that it is restarted later changes nothing for those that have started.
    pub(crate) fn note(&mut self, vm: &'p PlannedVm, is_late: bool) {
        if !self.ready.insert(&vm.spec.name) {
            return;
        }
        if vm.spec.life.ready.is_some() && !is_late {
            log::info!("vm={} event=ready", vm.spec.name);
        }
        for number in self.waiters.remove(vm.spec.name.as_str()).unwrap_or_default() {
            if let Some((_, missing)) = self.vms.get_mut(&number) {
                *missing -= 1;
                if *missing == 0 {
                    self.free.insert(number);
                }
            }
        }
    }

    /// Takes the first VM out that waits for nothing any more.
    fn next_ready(&mut self) -> Option<BuiltVm<'x, 'p, H>> {
        let number = self.free.pop_first()?;
        self.vms.remove(&number).map(|(built, _)| built)
    }

    /// The names of VMs that are waited for and not among `coming`.
    fn hopes_lost(&self, coming: &BTreeSet<&str>) -> Vec<&'p str> {
        self.waiters.keys().copied().filter(|name| !coming.contains(name)).collect()
    }

    /// Takes out the VMs that wait for the one called `name`.
    fn waiting_for(&mut self, name: &str) -> Vec<BuiltVm<'x, 'p, H>> {
        let numbers = self.waiters.remove(name).unwrap_or_default();
        numbers.iter().filter_map(|number| self.vms.remove(number)).map(|(built, _)| built).collect()
    }

    /// Destroys all that wait.
    pub(crate) fn take_back(&mut self) {
        let mut built = core::mem::take(&mut self.vms).into_values().map(|(built, _)| built).collect();
        take_back(&mut built);
        self.waiters.clear();
        self.free.clear();
    }
}

impl<H: RawHypercall, W: FrameWindow> Supervisor<'_, '_, '_, H, W> {
    /// Starts the VMs that waited for one which is ready now, and gives up those that wait for one which never will be.
    pub(crate) fn release(&mut self) {
        self.note_ready();
        while let Some(held) = self.held.next_ready() {
            let vm = held.vm;
            if let Err(error) = self.start(held) {
                log_failure(self.xen(), &vm.spec.name, &error);
                self.count_missing(vm);
            }
            self.note_ready();
        }
        if self.held.count() == 0 {
            return;
        }
        let coming = self.coming();
        let mut lost = self.held.hopes_lost(&coming);
        while let Some(after) = lost.pop() {
            for held in self.held.waiting_for(after) {
                let vm = held.vm;
                let name = vm.spec.name.as_str();
                log::error!("vm={name} event=not-started: it starts after {after}, which was never ready");
                drop(held);
                self.count_missing(vm);
                lost.push(name);
            }
        }
    }
}
