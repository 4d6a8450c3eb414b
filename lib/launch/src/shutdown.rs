//! Orderly ends: VMs are asked to power off, have their time, and are destroyed if they do not.
//!
//! Only a VM with a XenStore of the builder's can be asked. One at a time is asked at the prompt; all of the platform when that ends, each
//! when nobody runs any more that started after it. VMs that a service has had built come first. Each of them has a XenStore, whether its kernel
//! knows what that is or not: those are asked that listen, and all of them together have the time of one.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;

use hypercall::{CallError, FrameWindow, RawHypercall, SharedMemory};
use xen_abi::DomId;

use crate::running::Running;
use crate::service::NoService;
use crate::supervisor::Supervisor;

/// Nanoseconds in a millisecond.
const MILLISECOND: u64 = 1_000_000;

/// That a VM was asked to power off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// The system time until which it has for that, in nanoseconds.
    pub(crate) until: u64,
    /// Whether that has passed, and was said.
    pub(crate) is_late: bool,
}

/// Whether the platform is being stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stopping {
    #[default]
    No,
    /// VMs that can be asked are, and have their time.
    InOrder,
    /// Nobody has time any more.
    AtOnce,
}

impl<H: RawHypercall, S: SharedMemory> Running<'_, H, S> {
    /// When the time that it has to power off is over, if it was asked and that was not noticed yet.
    pub(crate) fn power_off_deadline(&self) -> Option<u64> {
        self.asked.filter(|asked| !asked.is_late).map(|asked| asked.until)
    }

    /// Whether asking it to power off has a sense.
    fn can_be_asked(&self) -> bool {
        self.store.is_some() && !self.is_paused
    }

    /// Whether it is asked before it is destroyed. Of a VM of the platform its VM file says that it listens.
    fn is_worth_asking(&self) -> bool {
        let listens = self.store.as_ref().is_some_and(|store| !self.is_served() || store.listens());
        listens && !self.is_paused
    }
}

impl<H: RawHypercall, W: FrameWindow> Supervisor<'_, '_, H, W> {
    /// Nanoseconds that a VM gets to power off.
    fn shutdown_time(&self) -> u64 {
        u64::from(self.settings.shutdown_time_ms()) * MILLISECOND
    }

    /// Asks a VM that runs to power off, and has its time begin; whether it could be asked. It does not come back then.
    fn ask_in_time(&mut self, index: usize) -> bool {
        let until = self.time().saturating_add(self.shutdown_time());
        self.ask_until(index, until)
    }

    /// Asks a VM of the service's that listens; gives the time until which it has for that.
    pub(crate) fn ask_served(&mut self, domid: DomId) -> Option<u64> {
        let index = self.running.iter().position(|vm| vm.domid == domid && vm.is_worth_asking())?;
        let until = self.time().saturating_add(self.shutdown_time());
        self.ask_until(index, until).then_some(until)
    }

    fn ask_until(&mut self, index: usize, until: u64) -> bool {
        let Some(domid) = self.running.get(index).map(|vm| vm.domid) else { return false };
        let is_asked = self.ask_to_power_off(domid);
        if let Some(vm) = self.running.get_mut(index).filter(|_| is_asked) {
            vm.asked = Some(Asked { until, is_late: false });
        }
        is_asked
    }

    /// `shutdown NAME` at the prompt: why the VM cannot be asked, or how long it has.
    pub(crate) fn shut_down(&mut self, name: &str) -> String {
        let Some(index) = self.running.iter().position(|vm| vm.name() == name) else {
            return format!("{name} does not run");
        };
        match self.running.get(index) {
            Some(vm) if vm.store.is_none() && !vm.vm.own_store => {
                return format!(
                    "{name} has no XenStore to be asked by: `xenstore = 1` in its VM file gives it one; `destroy {name}` ends it at once"
                );
            }
            Some(vm) if vm.is_paused => {
                return format!("{name} is paused and hears nothing; `unpause {name}` first");
            }
            _ => {}
        }
        if self.ask_in_time(index) {
            format!("{name} is asked to power off, and has {} ms", self.settings.shutdown_time_ms())
        } else {
            format!(
                "{name} cannot be asked: it broke the rules of its XenStore; `destroy {name}` ends it at once"
            )
        }
    }

    /// `shutdown` at the prompt: all VMs that can be asked, which are named.
    pub(crate) fn shut_down_all(&mut self) -> String {
        let mut asked = alloc::vec::Vec::new();
        for index in 0..self.running.len() {
            let can = self.running.get(index).is_some_and(Running::can_be_asked);
            if can && self.ask_in_time(index) {
                asked.extend(self.running.get(index).map(|vm| String::from(vm.name())));
            }
        }
        if asked.is_empty() {
            return "no VM that runs can be asked: `xenstore = 1` in a VM file gives it a XenStore to be asked by".into();
        }
        format!("asked to power off, with {} ms each: {}", self.settings.shutdown_time_ms(), asked.join(", "))
    }

    /// When the time of the first VM is over that was asked to power off.
    pub(crate) fn power_off_deadline(&self) -> Option<u64> {
        self.running.iter().filter_map(Running::power_off_deadline).min()
    }

    /// Says which VMs were asked to power off and did not in their time.
    pub(crate) fn note_unheard(&mut self) {
        let (now, time) = (self.time(), self.settings.shutdown_time_ms());
        for vm in &mut self.running {
            if vm.power_off_deadline().is_some_and(|until| until <= now) {
                let (name, domid) = (vm.name(), vm.domid);
                log::warn!(
                    "vm={name} domid={domid} event=late: it was asked to power off {time} ms ago and still runs"
                );
                vm.asked = vm.asked.map(|asked| Asked { is_late: true, ..asked });
            }
        }
    }

    /// Has all VMs end, those in order that can be asked, and starts none again. Where none can be, it makes no call.
    pub(crate) fn stop(&mut self) -> Result<(), CallError> {
        self.cancel_starts();
        if !self.running.iter().any(Running::is_worth_asking) {
            return Ok(());
        }
        self.stopping = Stopping::InOrder;
        log::info!("platform=stopping time={}ms", self.settings.shutdown_time_ms());
        let served_until = self.time().saturating_add(self.shutdown_time());
        self.stop_unneeded(served_until);
        while self.stopping == Stopping::InOrder
            && self.running.iter().any(|vm| vm.power_off_deadline().is_some())
        {
            self.turn(&mut NoService)?;
            self.stop_unneeded(served_until);
        }
        Ok(())
    }

    /// Asks or destroys the VMs after which nobody else started that still runs, until all that are left have time or are needed. Those of
    /// the service have until `served_until`, a system time in nanoseconds.
    fn stop_unneeded(&mut self, served_until: u64) {
        loop {
            let is_served_left = self.running.iter().any(Running::is_served);
            let needed: BTreeSet<String> =
                self.running.iter().flat_map(|vm| &vm.vm.spec.life.after).cloned().collect();
            let mut destroyed = false;
            for index in (0..self.running.len()).rev() {
                let is_next =
                    |vm: &&Running<'_, _, _>| vm.is_served() == is_served_left && !needed.contains(vm.name());
                let Some(vm) = self.running.get(index).filter(is_next) else { continue };
                let until = if is_served_left {
                    served_until
                } else {
                    self.time().saturating_add(self.shutdown_time())
                };
                let may_ask = vm.asked.is_none() && vm.is_worth_asking() && self.time() < until;
                if vm.power_off_deadline().is_some() || may_ask && self.ask_until(index, until) {
                    continue;
                }
                self.destroy_at(index);
                destroyed = true;
            }
            // Nobody checks whether those start after one another in a circle.
            let is_waiting = self.running.iter().any(|vm| vm.power_off_deadline().is_some());
            if !destroyed && is_served_left && !is_waiting {
                while let Some(index) = self.running.iter().rposition(Running::is_served) {
                    self.destroy_at(index);
                }
                destroyed = true;
            }
            if !destroyed {
                return;
            }
        }
    }

    fn destroy_at(&mut self, index: usize) {
        let mut vm = self.running.remove(index);
        if vm.is_served() {
            self.destroy_running(vm);
        } else {
            self.hear_out(&mut vm);
            self.destroy(vm);
        }
    }
}
