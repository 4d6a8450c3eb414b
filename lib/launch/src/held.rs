//! VMs that are built and wait for others before they start.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

use hypercall::{FrameWindow, RawHypercall};

use crate::PlannedVm;
use crate::build::{BuiltVm, take_back};
use crate::supervisor::Supervisor;

/// The VMs that wait, and those that they need not wait for any more.
pub(crate) struct Held<'x, 'p, H: RawHypercall> {
    vms: Vec<BuiltVm<'x, 'p, H>>,
    ready: BTreeSet<&'p str>,
}

impl<H: RawHypercall> Default for Held<'_, '_, H> {
    fn default() -> Self {
        Self { vms: Vec::new(), ready: BTreeSet::new() }
    }
}

impl<'x, 'p, H: RawHypercall> Held<'x, 'p, H> {
    /// Keeps a VM until those are ready that it starts after.
    pub(crate) fn hold(&mut self, vm: BuiltVm<'x, 'p, H>) {
        self.vms.push(vm);
    }

    /// How many wait.
    pub(crate) fn count(&self) -> usize {
        self.vms.len()
    }

    /// Whether the VM called `name` is among them.
    fn has(&self, name: &str) -> bool {
        self.vms.iter().any(|held| held.vm.spec.name == name)
    }

    /// The names of those that wait.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.vms.iter().map(|held| held.vm.spec.name.as_str())
    }

    /// Those that wait, with the names of the VMs that they start after.
    pub(crate) fn waits(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.vms.iter().map(|held| (held.vm.spec.name.as_str(), held.vm.spec.life.after.as_slice()))
    }

    /// Enters a VM as ready, for good: that it is restarted later changes nothing for those that have started.
    pub(crate) fn note(&mut self, vm: &'p PlannedVm) {
        let is_new = self.ready.insert(&vm.spec.name);
        if is_new && vm.spec.life.ready.is_some() {
            log::info!("vm={} event=ready", vm.spec.name);
        }
    }

    /// Takes the first VM out that waits for nothing any more.
    fn next_ready(&mut self) -> Option<BuiltVm<'x, 'p, H>> {
        let is_ready = |held: &BuiltVm<'_, '_, H>| {
            held.vm.spec.life.after.iter().all(|after| self.ready.contains(after.as_str()))
        };
        let index = self.vms.iter().position(is_ready)?;
        Some(self.vms.remove(index))
    }

    /// The first VM that waits for one which is neither ready nor, as `comes` says, will ever be; and the name of that.
    fn hopeless(&self, comes: impl Fn(&str) -> bool) -> Option<(usize, &'p str)> {
        self.vms.iter().enumerate().find_map(|(index, held)| {
            let vm: &'p PlannedVm = held.vm;
            let mut names = vm.spec.life.after.iter().map(String::as_str);
            let missing = |name: &&str| !self.ready.contains(name) && !self.has(name) && !comes(name);
            Some((index, names.find(missing)?))
        })
    }

    /// Destroys all that wait.
    pub(crate) fn take_back(&mut self) {
        take_back(&mut self.vms);
    }
}

impl<H: RawHypercall, W: FrameWindow> Supervisor<'_, '_, '_, H, W> {
    /// Starts the VMs that waited for one which is ready now, and gives up those that wait for one which never will be.
    pub(crate) fn release(&mut self) {
        self.note_ready();
        while let Some(held) = self.held.next_ready() {
            let vm = held.vm;
            if let Err(error) = self.start(held) {
                log::error!("vm={} {error}", vm.spec.name);
                self.count_missing(vm);
            }
            self.note_ready();
        }
        while let Some((index, after)) = self.held.hopeless(|name| self.comes(name)) {
            let held = self.held.vms.remove(index);
            let vm = held.vm;
            log::error!(
                "vm={} event=not-started: it starts after {after}, which was never ready",
                vm.spec.name
            );
            drop(held);
            self.count_missing(vm);
        }
    }
}
