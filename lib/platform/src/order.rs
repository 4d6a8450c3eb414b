//! VMs that wait for others before they start.
//!
//! Who waits for whom is kept by name, so that a VM that becomes ready, or never will, costs no more than the VMs that wait for
//! it, however many others wait.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

/// The VMs that wait, each with a value of the caller's, and those that they need not wait for any more.
#[derive(Clone, Debug)]
pub struct StartOrder<V> {
    /// By the order in which they came.
    vms: BTreeMap<usize, Waiter<V>>,
    /// Who waits for a VM that is not ready.
    waiters: BTreeMap<String, Vec<usize>>,
    /// Those that wait for nothing any more.
    free: BTreeSet<usize>,
    ready: BTreeSet<String>,
    /// How many have come.
    came: usize,
}

/// A VM that waits.
#[derive(Clone, Debug)]
struct Waiter<V> {
    vm: V,
    /// How many it still waits for.
    missing: usize,
}

impl<V> Default for StartOrder<V> {
    fn default() -> Self {
        Self {
            vms: BTreeMap::new(),
            waiters: BTreeMap::new(),
            free: BTreeSet::new(),
            ready: BTreeSet::new(),
            came: 0,
        }
    }
}

impl<V> StartOrder<V> {
    /// Keeps a VM until those are ready that it starts `after`.
    pub fn hold(&mut self, vm: V, after: &[String]) {
        let number = self.came;
        self.came = self.came.saturating_add(1);
        let mut missing = 0_usize;
        for name in after {
            if !self.ready.contains(name.as_str()) {
                self.waiters.entry(name.clone()).or_default().push(number);
                missing = missing.saturating_add(1);
            }
        }
        if missing == 0 {
            self.free.insert(number);
        }
        self.vms.insert(number, Waiter { vm, missing });
    }

    /// How many wait.
    pub fn count(&self) -> usize {
        self.vms.len()
    }

    /// Those that wait.
    pub fn vms(&self) -> impl Iterator<Item = &V> {
        self.vms.values().map(|waiter| &waiter.vm)
    }

    /// Enters a VM as ready, for good: that it is restarted later changes nothing for those that have started. Says whether that
    /// is news.
    pub fn note(&mut self, name: &str) -> bool {
        if self.ready.contains(name) {
            return false;
        }
        self.ready.insert(name.into());
        for number in self.waiters.remove(name).unwrap_or_default() {
            if let Some(waiter) = self.vms.get_mut(&number) {
                waiter.missing = waiter.missing.saturating_sub(1);
                if waiter.missing == 0 {
                    self.free.insert(number);
                }
            }
        }
        true
    }

    /// Takes the first VM out that waits for nothing any more.
    pub fn next_ready(&mut self) -> Option<V> {
        let number = self.free.pop_first()?;
        self.vms.remove(&number).map(|waiter| waiter.vm)
    }

    /// The names of VMs that are waited for and not among `coming`.
    pub fn hopes_lost(&self, coming: &BTreeSet<&str>) -> Vec<String> {
        self.waiters.keys().filter(|name| !coming.contains(name.as_str())).cloned().collect()
    }

    /// Takes out the VMs that wait for the one called `name`.
    pub fn waiting_for(&mut self, name: &str) -> Vec<V> {
        let numbers = self.waiters.remove(name).unwrap_or_default();
        numbers.iter().filter_map(|number| self.vms.remove(number)).map(|waiter| waiter.vm).collect()
    }

    /// Takes out all that wait, in the order in which they came.
    pub fn take_all(&mut self) -> Vec<V> {
        self.waiters.clear();
        self.free.clear();
        core::mem::take(&mut self.vms).into_values().map(|waiter| waiter.vm).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| String::from(*name)).collect()
    }

    #[test]
    fn a_vm_starts_when_the_last_that_it_waits_for_is_ready() {
        let mut order = StartOrder::default();
        order.hold("web", &names(&["db", "cache"]));
        order.hold("db", &[]);
        order.hold("cache", &[]);
        assert_eq!(
            (order.next_ready(), order.next_ready(), order.next_ready()),
            (Some("db"), Some("cache"), None)
        );
        assert!(order.note("db") && !order.note("db"));
        assert_eq!(order.next_ready(), None);
        order.note("cache");
        assert_eq!(order.next_ready(), Some("web"));
        order.hold("late", &names(&["db"]));
        assert_eq!(order.next_ready(), Some("late"));
    }

    #[test]
    fn those_that_wait_for_nobody_who_comes_are_found() {
        let mut order = StartOrder::default();
        order.hold("web", &names(&["db", "cache"]));
        order.hold("log", &names(&["cache"]));
        assert_eq!(order.hopes_lost(&["cache"].into()), ["db"]);
        assert_eq!(order.waiting_for("db"), ["web"]);
        assert_eq!(order.take_all(), ["log"]);
        order.note("cache");
        assert_eq!((order.next_ready(), order.count()), (None, 0));
    }

    proptest! {
        /// However VMs depend on earlier ones, all start, each after those that it waits for.
        #[test]
        fn every_order_without_a_cycle_comes_to_its_end(edges in prop::collection::vec(prop::collection::vec(0_usize..12, 0..4), 1..12)) {
            let mut order = StartOrder::default();
            for (index, after) in edges.iter().enumerate() {
                let after: BTreeSet<_> = after.iter().filter(|other| **other < index).collect();
                let after: Vec<_> = after.into_iter().map(|other| alloc::format!("{other}")).collect();
                order.hold((index, after.clone()), &after);
            }
            let mut started = BTreeSet::new();
            while let Some((index, after)) = order.next_ready() {
                prop_assert!(after.iter().all(|name| started.contains(name)));
                let name = alloc::format!("{index}");
                order.note(&name);
                started.insert(name);
            }
            prop_assert_eq!((started.len(), order.count()), (edges.len(), 0));
        }
    }
}
