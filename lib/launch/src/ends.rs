//! What happens when a VM ends, and what ends a platform.

use alloc::rc::Rc;

use hypercall::{FrameWindow, RawHypercall};
use platform::{Ending, is_over};
use protocols::platform::Ends;
use protocols::{BootSpec, ExitAction, GuestKind};

use crate::PlannedVm;
use crate::running::Running;
use crate::service::{Fate, News};
use crate::shutdown::Stopping;
use crate::supervisor::Supervisor;

/// Says where to look when a VM has ended otherwise than it should, and has written nothing to its console.
fn explain_silence(spec: &BootSpec, ending: Ending) {
    let what = match ending {
        Ending::Reboot if spec.kind == GuestKind::Pvh => {
            "so ends, too, a PVH guest that faults while it handles a fault (triple fault)"
        }
        Ending::Reboot | Ending::Crash | Ending::Exit(1..) | Ending::Unknown(_) => {
            "a kernel may need to be told to use its console (Linux: console=hvc0)"
        }
        _ => return,
    };
    log::warn!(
        "vm={} event=silent: it ended and had written nothing to its console: {what}; Xen says more with loglvl=all guest_loglvl=all on \
         its command line",
        spec.name
    );
}

impl<'x, H: RawHypercall, W: FrameWindow> Supervisor<'_, 'x, H, W> {
    /// Enters that a VM has ended for good, or was never started.
    pub(crate) fn note_end(&mut self, vm: &PlannedVm) {
        self.news.push_back(News::Final(vm.spec.name.clone()));
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
        let left =
            self.running.iter().map(|vm| &*vm.vm).chain(self.waiting.iter().map(|waiting| &*waiting.vm));
        let over = is_over(
            &self.settings.ends,
            left.map(|vm| &vm.spec.life),
            self.held.vms().map(|vm| &vm.spec.life),
        );
        let is_ended = self.operator.as_ref().is_some_and(|operator| operator.wants_end);
        over || is_ended || self.lost || self.ended
    }

    /// Deals with a VM that has ended.
    pub(crate) fn end(&mut self, mut vm: Running<'x, H, W::Shared>, ending: Ending) {
        self.hear_out(&mut vm);
        let (planned, domid) = (Rc::clone(&vm.vm), vm.domid);
        let spec = &planned.spec;
        log::info!("vm={} domid={domid} event=ended reason={ending}", spec.name);
        if vm.console.as_ref().is_some_and(|console| !console.has_spoken) {
            explain_silence(spec, ending);
        }
        if vm.is_served() {
            return self.end_served(vm, ending);
        }
        let action = match ending.action(spec) {
            // What was asked to power off is not wanted back.
            ExitAction::Restart if vm.asked.is_some() || self.stopping != Stopping::No => ExitAction::Destroy,
            action => action,
        };
        match action {
            ExitAction::Destroy => {
                self.destroy(vm);
                self.count(&planned, ending);
            }
            ExitAction::Preserve => {
                self.preserved.push((spec.name.clone(), domid));
                log::info!("vm={} domid={domid} event=preserved", spec.name);
                self.count(&planned, ending);
            }
            ExitAction::Restart => {
                let (row, ran) = (vm.row, self.time().saturating_sub(vm.since));
                if self.destroy(vm) == Fate::Destroyed {
                    self.restart_later(planned, row, ran, Some(domid));
                } else {
                    log::error!("vm={} event=given-up: the domain it was is still there", spec.name);
                    self.count_bad(&planned);
                }
            }
        }
    }

    /// Destroys a VM that somebody does not want any more, whatever its actions are.
    pub(crate) fn destroy_on_demand(&mut self, mut vm: Running<'x, H, W::Shared>) {
        self.hear_out(&mut vm);
        let planned = Rc::clone(&vm.vm);
        log::info!("vm={} domid={} event=ended reason=destroyed", planned.spec.name, vm.domid);
        if vm.is_served() {
            return self.end_served(vm, Ending::Destroyed);
        }
        self.destroy(vm);
        self.lose_if_critical(&planned);
    }

    /// Enters a VM that does not come back because somebody wants it so: its end is nobody's failure, unless the platform cannot
    /// do without it.
    pub(crate) fn lose_if_critical(&mut self, vm: &PlannedVm) {
        if vm.spec.life.critical {
            self.count_bad(vm);
        } else {
            self.note_end(vm);
        }
    }

    /// Enters how a VM ended that does not come back.
    fn count(&mut self, vm: &PlannedVm, ending: Ending) {
        if ending.is_good() {
            self.note_end(vm);
        } else {
            self.count_bad(vm);
        }
    }

    pub(crate) fn count_bad(&mut self, vm: &PlannedVm) {
        self.bad += 1;
        if vm.spec.life.critical {
            log::error!("vm={} event=critical: it ended badly, and the platform ends with it", vm.spec.name);
            self.lost = true;
        }
        self.note_end(vm);
    }
}
