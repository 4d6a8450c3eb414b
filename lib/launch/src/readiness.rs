//! VMs that have shown that they are ready, or have not in time.

use alloc::collections::BTreeSet;

use hypercall::{FrameWindow, RawHypercall};
use protocols::platform::{LateAction, Readiness};

use crate::supervisor::Supervisor;

/// Nanoseconds in a millisecond.
const MILLISECOND: u64 = 1_000_000;

impl<H: RawHypercall, W: FrameWindow> Supervisor<'_, '_, H, W> {
    /// Enters the VMs that have shown that they are ready.
    pub(crate) fn note_ready(&mut self) {
        for vm in self.running.iter().filter(|vm| vm.is_ready && !vm.is_served()) {
            self.held.note(&vm.vm, vm.is_late);
        }
    }

    /// The names of the VMs that are started or will be, so that they may become ready.
    pub(crate) fn coming(&self) -> BTreeSet<&str> {
        let given_up = self.settings.readiness.is_some_and(|limit| limit.late == LateAction::GiveUp);
        let running = self.running.iter().filter(|vm| !(vm.is_late && given_up)).map(|vm| &*vm.vm);
        let waiting = self.waiting.iter().map(|waiting| &*waiting.vm);
        let all = running.chain(waiting).chain(self.held.vms());
        all.map(|vm| vm.spec.name.as_str()).collect()
    }

    /// When the next VM is late that has not shown that it is ready.
    pub(crate) fn late_deadline(&self) -> Option<u64> {
        let patience = u64::from(self.settings.readiness?.timeout_ms) * MILLISECOND;
        let waited_for = self.running.iter().filter(|vm| !vm.is_ready && !vm.is_late);
        waited_for.map(|vm| vm.since.saturating_add(patience)).min()
    }

    /// Deals with the VMs that have not shown in time that they are ready.
    pub(crate) fn note_late(&mut self) {
        let Some(Readiness { timeout_ms, late }) = self.settings.readiness else { return };
        let (now, patience) = (self.time(), u64::from(timeout_ms) * MILLISECOND);
        for vm in &mut self.running {
            if vm.is_ready || vm.is_late || now < vm.since.saturating_add(patience) {
                continue;
            }
            vm.is_late = true;
            let name = &vm.vm.spec.name;
            match late {
                LateAction::GiveUp => {
                    log::error!(
                        "vm={name} event=late after={timeout_ms}ms: those that start after it are given up"
                    );
                }
                LateAction::Start => {
                    log::warn!(
                        "vm={name} event=late after={timeout_ms}ms: those that start after it start all the same"
                    );
                    vm.is_ready = true;
                }
                LateAction::End => {
                    log::error!(
                        "vm={name} event=late after={timeout_ms}ms: it was never ready, and the platform ends"
                    );
                    self.bad += 1;
                    self.lost = true;
                }
            }
        }
    }
}
