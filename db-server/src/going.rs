//! VMs that were destroyed, or were to be, and are not gone: their names, domain ids and memory count until they are.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use hypercall::{RawHypercall, Xen};
use protocols::message::EndReason;
use xen_abi::DomId;

/// How long a VM that was destroyed gets to be gone before those who wait are told otherwise: 2 s, in nanoseconds. Another domain may
/// hold on to a page of it for ever.
const VANISH_TIME: u64 = 2_000_000_000;

/// How soon is looked again whether it is gone: 10 ms, in nanoseconds. Xen announces it, shortly before.
const LOOK_AGAIN: u64 = 10_000_000;

/// The longest time between two looks at one that is late, which doubles from look to look: 1 s, in nanoseconds.
const LONGEST_PAUSE: u64 = 1_000_000_000;

/// A request that waits for a VM to be gone.
#[derive(Debug)]
struct Waiter {
    request: u32,
    /// How long.
    until: u64,
}

/// The end of a VM.
#[derive(Debug)]
pub(crate) struct Going {
    /// Since when.
    since: u64,
    /// What is to be told of it, if something is: nothing of one that never was complete, or was told already.
    reason: Option<EndReason>,
    /// The requests to destroy it.
    waiters: Vec<Waiter>,
    /// When to look at it again, and how long after that.
    look: u64,
    pause: u64,
}

impl Going {
    /// A VM that goes from `now` on.
    pub(crate) fn new(now: u64, reason: Option<EndReason>) -> Self {
        Self { since: now, reason, waiters: Vec::new(), look: now, pause: LOOK_AGAIN }
    }

    /// It goes from `now` on, as Xen has agreed at last.
    pub(crate) fn begin_again(&mut self, now: u64) {
        (self.since, self.look, self.pause) = (now, now, LOOK_AGAIN);
    }

    /// Has a request wait for the VM to be gone, for a while.
    pub(crate) fn wait(&mut self, request: u32, now: u64) {
        self.waiters.push(Waiter { request, until: now.saturating_add(VANISH_TIME) });
        self.look = now;
    }

    /// Requests that wait.
    pub(crate) fn waiters(&self) -> usize {
        self.waiters.len()
    }

    /// Nobody is left to be answered.
    pub(crate) fn forget_waiters(&mut self) {
        self.waiters.clear();
    }

    fn is_late(&self, now: u64) -> bool {
        now.saturating_sub(self.since) >= VANISH_TIME
    }

    /// When to look at it although nothing happens.
    pub(crate) fn deadline(&self) -> u64 {
        self.waiters.iter().map(|waiter| waiter.until).fold(self.look, u64::min)
    }

    /// Whether to look at it now: whenever there is something to do, until it is late.
    pub(crate) fn is_due(&self, now: u64) -> bool {
        !self.is_late(now) || now >= self.deadline()
    }

    /// Notes that it was looked at, and is not gone.
    pub(crate) fn note_look(&mut self, now: u64) {
        self.look = now.saturating_add(self.pause);
        if self.is_late(now) {
            self.pause = self.pause.saturating_mul(2).min(LONGEST_PAUSE);
        }
    }

    /// The requests that are to be answered now.
    pub(crate) fn take_waiters(&mut self, is_gone: bool, now: u64) -> Vec<u32> {
        let answered = self.waiters.extract_if(.., |waiter| is_gone || waiter.until <= now);
        answered.map(|waiter| waiter.request).collect()
    }

    /// What is to be told of its end now. One that Xen did not destroy on demand may run: nothing is told until it is gone.
    pub(crate) fn take_reason(&mut self, is_gone: bool, is_refused: bool, now: u64) -> Option<EndReason> {
        let may_run = is_refused && self.reason == Some(EndReason::Destroyed);
        let is_told = is_gone || self.is_late(now) && !may_run;
        if is_told { self.reason.take() } else { None }
    }

    /// Why the VM `name` is there still, and what there is to do.
    pub(crate) fn describe<H: RawHypercall>(&self, xen: &Xen<H>, domid: u16, name: &str, now: u64) -> String {
        let (domid, since) = (DomId::new(domid), now.saturating_sub(self.since) / 1_000_000);
        let counts = "until it is gone, its name, its domain id and its memory count";
        if let Some(leak) = xen.leak_of(domid) {
            return format!("vm {name}: Xen does not destroy it: {leak}; {counts}; Destroy tries again");
        }
        let kept = xen.kept_by(domid).map_or(0, |pages| pages.raw().saturating_mul(4));
        format!(
            "vm {name}: it was destroyed {since} ms ago, and {kept} KiB of it are left, which another domain holds on to if this lasts; {counts}; \
             Destroy waits for that"
        )
    }
}
