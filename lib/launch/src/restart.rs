//! VMs that will be built again.

use alloc::rc::Rc;

use platform::Row;
use xen_abi::DomId;

use crate::PlannedVm;

/// How long a restart that is due waits for the memory and the identifier of the domain before: 2 s, in nanoseconds. Another
/// domain may hold on to a page of it for ever.
const PATIENCE: u64 = 2_000_000_000;

/// How long until the domain before is looked at again: 10 ms, in nanoseconds.
const LOOK_AGAIN: u64 = 10_000_000;

/// A VM that will be built again.
pub(crate) struct Waiting {
    pub(crate) vm: Rc<PlannedVm>,
    pub(crate) row: Row,
    /// The domain it was; `None` when that is gone, or was never complete.
    before: Option<DomId>,
    /// When to act.
    due: u64,
    /// Until when the domain before is waited for.
    patience: u64,
}

impl Waiting {
    /// A restart of `vm` that is due at the system time `due`, in nanoseconds.
    pub(crate) fn new(vm: Rc<PlannedVm>, row: Row, before: Option<DomId>, due: u64) -> Self {
        Self { vm, row, before, due, patience: due.saturating_add(PATIENCE) }
    }

    /// When something is to be done about it.
    pub(crate) fn due(&self) -> u64 {
        self.due
    }

    /// Whether the VM can be built now. If not, [`due`](Self::due) says when to ask again.
    ///
    /// A domain that was destroyed has its identifier, and the last of its memory, until Xen is done with it.
    pub(crate) fn is_ready(&mut self, now: u64, is_gone: impl FnOnce(DomId) -> bool) -> bool {
        if now < self.due {
            return false;
        }
        let waits = now < self.patience && self.before.is_some_and(|domid| !is_gone(domid));
        if waits {
            self.due = now.saturating_add(LOOK_AGAIN);
        }
        !waits
    }
}
