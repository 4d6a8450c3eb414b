//! The VMs that controllers have asked for: whose each is, and what it is doing.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use platform::Ending;
use protocols::message::EndReason;

/// A VM that a controller has asked for, and of which something is left.
#[derive(Debug)]
pub(crate) struct Vm {
    /// The controller, by index.
    pub(crate) owner: usize,
    pub(crate) name: String,
    /// The most memory it may have, which counts against the quota, in KiB.
    pub(crate) memory_kib: u64,
    pub(crate) vcpus: u32,
    pub(crate) state: State,
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
    /// It was destroyed, and Xen is not done with it.
    Going(Going),
}

/// The end of a VM that was destroyed.
#[derive(Debug)]
pub(crate) struct Going {
    /// Since when.
    pub(crate) since: u64,
    /// What is told of it, if it is: not of one that never was complete.
    pub(crate) reason: Option<EndReason>,
    /// The requests to destroy it, by number.
    pub(crate) waiters: Vec<u32>,
    /// Whether those who wait were told that it takes longer.
    pub(crate) is_late: bool,
}

impl Going {
    /// A VM that goes from `now` on.
    pub(crate) fn new(now: u64, reason: Option<EndReason>) -> Self {
        Self { since: now, reason, waiters: Vec::new(), is_late: false }
    }
}

/// All of them, by domain id.
#[derive(Debug, Default)]
pub(crate) struct Vms(pub(crate) BTreeMap<u16, Vm>);

impl Vms {
    /// Those of a controller.
    pub(crate) fn of(&self, owner: usize) -> impl Iterator<Item = (u16, &Vm)> {
        self.0.iter().filter(move |(_, vm)| vm.owner == owner).map(|(domid, vm)| (*domid, vm))
    }

    /// A controller's VM that is built and not destroyed.
    pub(crate) fn get(&mut self, owner: usize, domid: u16) -> Option<&mut Vm> {
        let vm = self.0.get_mut(&domid).filter(|vm| vm.owner == owner)?;
        matches!(vm.state, State::Live | State::Preserved).then_some(vm)
    }

    /// Memory in KiB and number of a controller's VMs.
    pub(crate) fn used_by(&self, owner: usize) -> (u64, u32) {
        self.of(owner).fold((0, 0), |(memory, count), (_, vm)| (memory + vm.memory_kib, count + 1))
    }

    /// Requests of a controller's that wait for a VM to be gone.
    pub(crate) fn waiters_of(&self, owner: usize) -> usize {
        let going = self.of(owner).filter_map(|(_, vm)| match &vm.state {
            State::Going(going) => Some(going.waiters.len()),
            _ => None,
        });
        going.sum()
    }

    /// Whether a VM has this name.
    pub(crate) fn has_name(&self, name: &str) -> bool {
        self.0.values().any(|vm| vm.name == name)
    }
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
