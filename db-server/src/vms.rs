//! The VMs that controllers have asked for: whose each is, and what it is doing.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;

use hypercall::{FrameWindow, RawHypercall};
use launch::{Fate, Host};
use platform::Ending;
use protocols::message::{EndReason, Failure, Reason};

use xen_abi::DomId;

use crate::failure::failure;
use crate::going::Going;

/// A VM that a controller has asked for, and of which something is left.
#[derive(Debug)]
pub(crate) struct Vm {
    /// The controller, by index.
    pub(crate) owner: usize,
    /// The number that no other VM has, from 1 on.
    pub(crate) serial: u64,
    pub(crate) name: String,
    /// The most memory it may have, which counts against the quota, in KiB.
    pub(crate) memory_kib: u64,
    pub(crate) vcpus: u32,
    pub(crate) store: StoreServer,
    pub(crate) state: State,
    /// Until when it may power off, if it was asked as nobody wants it any more.
    pub(crate) leave: Option<u64>,
}

/// Who serves a VM its XenStore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoreServer {
    /// db-server.
    Own,
    /// The domain of this id.
    Other(u16),
    /// It has none.
    Nobody,
}

/// What a VM is doing.
#[derive(Debug)]
pub(crate) enum State {
    /// It is being built.
    Building,
    /// It was built; it runs, or is paused.
    Live,
    /// It has ended and was kept.
    Preserved,
    /// It was destroyed, or was to be, and Xen is not done with it.
    Going(Going),
}

impl Vm {
    /// Ends it as nobody wants it any more: it is asked to power off if it listens for that, and destroyed if not.
    pub(crate) fn dismiss<H: RawHypercall, W: FrameWindow>(
        &mut self,
        host: &mut Host<'_, '_, '_, H, W>,
        domid: u16,
    ) {
        if matches!(self.state, State::Live) && self.leave.is_none() {
            self.leave = host.ask_in_time(DomId::new(domid));
        }
        if self.leave.is_none_or(|until| until <= host.time()) {
            self.destroy(host, domid, None);
        }
    }

    /// Destroys it, unless that is done already; `reason` is what is told of it if it ran. What Xen did not destroy before is tried again.
    pub(crate) fn destroy<H: RawHypercall, W: FrameWindow>(
        &mut self,
        host: &mut Host<'_, '_, '_, H, W>,
        domid: u16,
        reason: impl Into<Option<EndReason>>,
    ) {
        let (now, id) = (host.time(), DomId::new(domid));
        match &mut self.state {
            State::Building => {}
            State::Live | State::Preserved => {
                let reason = reason.into().filter(|_| matches!(self.state, State::Live));
                host.destroy(&self.name, id);
                self.state = State::Going(Going::new(now, reason));
            }
            State::Going(going) => {
                let is_refused = host.xen().leak_of(id).is_some() && !host.is_gone(id);
                if is_refused && host.destroy(&self.name, id) == Fate::Destroyed {
                    going.begin_again(now);
                }
            }
        }
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Vms {
    /// By domain id.
    pub(crate) all: BTreeMap<u16, Vm>,
    /// The serial number that was given last.
    last_serial: u64,
}

impl Vms {
    /// The serial number of the next VM.
    pub(crate) fn next_serial(&mut self) -> u64 {
        self.last_serial = self.last_serial.saturating_add(1);
        self.last_serial
    }

    /// Those of a controller.
    pub(crate) fn of(&self, owner: usize) -> impl Iterator<Item = (u16, &Vm)> {
        self.all.iter().filter(move |(_, vm)| vm.owner == owner).map(|(domid, vm)| (*domid, vm))
    }

    /// A controller's VM that was built, if it has the serial number that is asked for.
    pub(crate) fn find(&mut self, owner: usize, domid: u16, serial: Option<u64>) -> Result<&mut Vm, Failure> {
        let known = |vm: &&mut Vm| vm.owner == owner && !matches!(vm.state, State::Building);
        let vm = self.all.get_mut(&domid).filter(known).ok_or_else(|| {
            failure(
                Reason::NoSuchVm,
                format!("domain {domid}: it is none of the controller's VMs that were built"),
            )
        })?;
        match serial {
            Some(serial) if serial != vm.serial => {
                let (name, other) = (&vm.name, vm.serial);
                let detail = format!(
                    "domain {domid}: the VM with serial number {serial} is gone; {name}, which has the id now, has {other}"
                );
                Err(failure(Reason::NoSuchVm, detail))
            }
            _ => Ok(vm),
        }
    }

    /// Memory in KiB and number of a controller's VMs.
    pub(crate) fn used_by(&self, owner: usize) -> (u64, u32) {
        total(self.of(owner).map(|(_, vm)| vm))
    }

    /// The same of those that are destroyed, or were to be, and not gone.
    pub(crate) fn going_of(&self, owner: usize) -> (u64, u32) {
        total(self.of(owner).map(|(_, vm)| vm).filter(|vm| matches!(vm.state, State::Going(_))))
    }

    /// Requests of a controller's that wait for a VM to be gone.
    pub(crate) fn waiters_of(&self, owner: usize) -> usize {
        let going = self.of(owner).filter_map(|(_, vm)| match &vm.state {
            State::Going(going) => Some(going.waiters()),
            _ => None,
        });
        going.sum()
    }

    /// The VM that has this name.
    pub(crate) fn by_name(&self, name: &str) -> Option<&Vm> {
        self.all.values().find(|vm| vm.name == name)
    }
}

fn total<'v>(vms: impl Iterator<Item = &'v Vm>) -> (u64, u32) {
    vms.fold((0, 0), |(memory, count), vm| (memory + vm.memory_kib, count + 1))
}

/// What is told of a VM's end.
pub(crate) fn end_reason(ending: Ending) -> EndReason {
    match ending {
        Ending::Poweroff => EndReason::Poweroff,
        Ending::Reboot => EndReason::Reboot,
        Ending::Suspend => EndReason::Suspend,
        // A reason without a meaning is no good sign.
        Ending::Crash | Ending::Unknown(_) => EndReason::Crash,
        Ending::Watchdog => EndReason::Watchdog,
        Ending::SoftReset => EndReason::SoftReset,
        Ending::Exit(status) => EndReason::Status(status),
        Ending::Gone | Ending::Destroyed => EndReason::Destroyed,
    }
}
