//! What ends a platform.

use hypercall::{FrameWindow, RawHypercall};
use platform::is_over;
use protocols::platform::Ends;

use crate::PlannedVm;
use crate::supervisor::Supervisor;

impl<'p, H: RawHypercall, W: FrameWindow> Supervisor<'_, '_, 'p, H, W> {
    /// Enters that a VM has ended for good, or was never started.
    pub(crate) fn note_end(&mut self, vm: &PlannedVm) {
        if let Ends::With(names) = &self.settings.ends
            && names.contains(&vm.spec.name)
            && !self.ended
        {
            log::info!("vm={} event=last: the platform ends with it", vm.spec.name);
            self.ended = true;
        }
    }

    /// Whether there is nothing left to look after.
    pub(crate) fn is_over(&self) -> bool {
        let left = self.running.iter().map(|vm| vm.vm).chain(self.waiting.iter().map(|waiting| waiting.vm));
        let life = |vm: &'p PlannedVm| &vm.spec.life;
        let over = is_over(&self.settings.ends, left.map(life), self.held.vms().map(life));
        let is_ended = self.operator.as_ref().is_some_and(|operator| operator.wants_end);
        over || is_ended || self.lost || self.ended
    }
}
