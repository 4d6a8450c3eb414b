//! The order in which VMs start, as far as their specs tie them to each other.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use thiserror::Error;

/// Why a VM could never start.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OrderError {
    /// It is to start after a VM that there is not.
    #[error("it is to start after {after:?}, and there is no VM of that name")]
    Unknown {
        /// The name.
        after: String,
    },
    /// It waits for itself, over other VMs or directly.
    #[error("it would wait for itself: {}", .path.join(" starts after "))]
    Cycle {
        /// The names on the way, each after the next; the first and the last are its own.
        path: Vec<String>,
    },
}

/// A VM and the names of those that it starts after.
pub type Node<'a> = (&'a str, &'a [String]);

/// Finds every VM that could never start: its index in `vms`, and why.
///
/// A VM that waits for one of these without being on a cycle itself is not listed: it is in order once they are.
pub fn disorders(vms: &[Node<'_>]) -> Vec<(usize, OrderError)> {
    let by_name: BTreeMap<&str, &[String]> = vms.iter().copied().collect();
    let mut found = Vec::new();
    for (index, (name, after)) in vms.iter().enumerate() {
        let unknown = after.iter().find(|after| !by_name.contains_key(after.as_str()));
        if let Some(after) = unknown {
            found.push((index, OrderError::Unknown { after: after.clone() }));
        } else if let Some(path) = way_back(name, &by_name) {
            found.push((index, OrderError::Cycle { path }));
        }
    }
    found
}

/// The shortest way from a VM over those that it starts after back to itself.
fn way_back(start: &str, by_name: &BTreeMap<&str, &[String]>) -> Option<Vec<String>> {
    // From where each VM was reached first: breadth first, each VM once, so that no cycle elsewhere matters.
    let mut reached: BTreeMap<&str, &str> = BTreeMap::new();
    let mut edge = Vec::from([start]);
    while !edge.is_empty() {
        let mut next = Vec::new();
        for name in edge {
            for after in by_name.get(name).copied().unwrap_or_default() {
                if reached.contains_key(after.as_str()) {
                    continue;
                }
                reached.insert(after, name);
                if after == start {
                    return Some(path(start, &reached));
                }
                next.push(after.as_str());
            }
        }
        edge = next;
    }
    None
}

/// The names from `start` to itself, following `reached` backwards.
fn path(start: &str, reached: &BTreeMap<&str, &str>) -> Vec<String> {
    let mut names = Vec::from([String::from(start)]);
    let mut at = start;
    while let Some(from) = reached.get(at) {
        names.push(String::from(*from));
        if *from == start {
            break;
        }
        at = from;
    }
    names.reverse();
    names
}
