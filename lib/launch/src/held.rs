//! VMs that are built and wait for others before they start.

use alloc::rc::Rc;
use alloc::string::String;

use hypercall::{FrameWindow, RawHypercall};
use platform::StartOrder;

use crate::PlannedVm;
use crate::build::{BuiltVm, take_back};
use crate::refused::log_failure;
use crate::supervisor::Supervisor;

/// The VMs that wait.
pub(crate) struct Held<'x, H: RawHypercall> {
    order: StartOrder<BuiltVm<'x, H>>,
}

impl<H: RawHypercall> Default for Held<'_, H> {
    fn default() -> Self {
        Self { order: StartOrder::default() }
    }
}

impl<'x, H: RawHypercall> Held<'x, H> {
    /// Keeps a VM until those are ready that it starts after.
    pub(crate) fn hold(&mut self, vm: BuiltVm<'x, H>) {
        let planned = Rc::clone(&vm.vm);
        self.order.hold(vm, &planned.spec.life.after);
    }

    /// How many wait.
    pub(crate) fn count(&self) -> usize {
        self.order.count()
    }

    /// Those that wait.
    pub(crate) fn vms(&self) -> impl Iterator<Item = &PlannedVm> {
        self.order.vms().map(|built| &*built.vm)
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
    pub(crate) fn note(&mut self, vm: &PlannedVm, is_late: bool) {
        if self.order.note(&vm.spec.name) && vm.spec.life.ready.is_some() && !is_late {
            log::info!("vm={} event=ready", vm.spec.name);
        }
    }

    /// Destroys all that wait.
    pub(crate) fn take_back(&mut self) {
        take_back(&mut self.order.take_all());
    }
}

impl<H: RawHypercall, W: FrameWindow> Supervisor<'_, '_, H, W> {
    /// Starts the VMs that waited for one which is ready now, and gives up those that wait for one which never will be.
    pub(crate) fn release(&mut self) {
        self.note_ready();
        while let Some(held) = self.held.order.next_ready() {
            let vm = Rc::clone(&held.vm);
            if let Err(error) = self.start(held) {
                log_failure(self.xen(), &vm.spec.name, &error);
                self.count_missing(&vm);
            }
            self.note_ready();
        }
        if self.held.count() == 0 {
            return;
        }
        let coming = self.coming();
        let mut lost = self.held.order.hopes_lost(&coming);
        while let Some(after) = lost.pop() {
            for held in self.held.order.waiting_for(&after) {
                let vm = Rc::clone(&held.vm);
                let name = vm.spec.name.as_str();
                log::error!("vm={name} event=not-started: it starts after {after}, which was never ready");
                drop(held);
                self.count_missing(&vm);
                lost.push(name.into());
            }
        }
    }
}
