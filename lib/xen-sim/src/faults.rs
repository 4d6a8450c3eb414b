//! Faults on purpose.

use std::fmt;

use xen_abi::number::HypercallNumber;
use xen_abi::{DomId, Errno};

/// A call that is about to be made, for a predicate to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallSite {
    /// How many calls were made before it, since the machine was switched on.
    pub index: usize,
    /// The hypercall.
    pub number: HypercallNumber,
    /// The operation's name in the public headers; `map frames` for a mapping through a window.
    pub name: &'static str,
    /// Who makes the call.
    pub caller: DomId,
    /// The domain that the call is about.
    pub domain: DomId,
}

/// What happens instead of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The call has no effect and gives this error.
    Fail(Errno),
    /// The same, and the fields that the call would have filled in are full of rubbish.
    FailAndScribble(Errno),
    /// The call does only that many of the things it is asked for: extents to populate, page-table updates or operations,
    /// frames to map. A destroy call frees so many pages and is handed back with ERESTART. Other calls are made as they are.
    Short(usize),
    /// The call succeeds, and Xen never lets go of the last of a domain that it destroys, as when another one has a page of it
    /// mapped.
    Hold,
}

/// When a fault happens.
type Predicate = Box<dyn FnMut(&CallSite) -> bool>;

/// A fault: at which calls, how often, and what.
pub struct Fault {
    matches: Predicate,
    skip: usize,
    times: usize,
    effect: Effect,
}

impl Fault {
    /// A fault at the call of that index (see [`CallSite::index`]).
    pub fn at(index: usize, effect: Effect) -> Self {
        Self::when(move |site| site.index == index, effect)
    }

    /// A fault at every operation of that name.
    pub fn named(name: &'static str, effect: Effect) -> Self {
        Self::when(move |site| site.name == name, effect)
    }

    /// A fault at every call that `matches` says yes to.
    pub fn when(matches: impl FnMut(&CallSite) -> bool + 'static, effect: Effect) -> Self {
        Self { matches: Box::new(matches), skip: 0, times: usize::MAX, effect }
    }

    /// The same, but the first `count` calls that match are let through.
    #[must_use]
    pub fn after(self, count: usize) -> Self {
        Self { skip: count, ..self }
    }

    /// The same, but only that often.
    #[must_use]
    pub fn times(self, count: usize) -> Self {
        Self { times: count, ..self }
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fault").field("effect", &self.effect).finish_non_exhaustive()
    }
}

/// The faults that wait to happen.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    waiting: Vec<Fault>,
}

impl Faults {
    pub(crate) fn add(&mut self, fault: Fault) {
        self.waiting.push(fault);
    }

    pub(crate) fn clear(&mut self) {
        self.waiting.clear();
    }

    /// The effect of the first fault that matches; every fault that matches counts the call.
    pub(crate) fn strike(&mut self, site: &CallSite) -> Option<Effect> {
        let mut struck = None;
        for fault in &mut self.waiting {
            if !(fault.matches)(site) {
                continue;
            }
            if fault.skip > 0 {
                fault.skip -= 1;
            } else if fault.times > 0 && struck.is_none() {
                fault.times -= 1;
                struck = Some(fault.effect);
            }
        }
        struck
    }
}
