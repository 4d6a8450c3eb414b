//! The nodes of a store, and who may do what with them.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::ops::Bound;

use crate::limits::Limits;

/// The longest absolute path (`XENSTORE_ABS_PATH_MAX`).
const MAX_PATH: usize = 3072;
/// The longest value.
const MAX_VALUE: usize = 2048;
/// The most entries of a list of permissions.
const MAX_PERMISSIONS: usize = 16;

/// Declares the errors with their names on the wire.
macro_rules! errors {
    ($($name:ident = $wire:literal, $text:literal;)*) => {
        /// Why a request is refused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum StoreError {
            $(#[doc = $text] $name,)*
        }

        impl StoreError {
            /// Its name in an answer.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $wire,)*
                }
            }
        }
    };
}

errors! {
    Invalid = "EINVAL", "The request makes no sense.";
    Denied = "EACCES", "It is not for this domain to do.";
    Absent = "ENOENT", "There is no such node, watch, transaction or domain.";
    Exists = "EEXIST", "There is one already.";
    Again = "EAGAIN", "Something else has changed meanwhile: the transaction is to be made anew.";
    Full = "ENOSPC", "The domain has as many of these as it may have.";
    TooLong = "E2BIG", "It is too long.";
    Unknown = "ENOSYS", "Such requests are not served.";
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What one domain may do with a node. The first of a node's list names its owner, who may do all, and says what those may that are
/// not in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permission {
    /// The domain.
    pub domid: u16,
    /// It may read.
    pub read: bool,
    /// It may write, and make nodes below.
    pub write: bool,
}

impl Permission {
    /// Reads one as it is on the wire: `r7`, `w7`, `b7`, `n7`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (read, write) = match text.get(..1)? {
            "r" => (true, false),
            "w" => (false, true),
            "b" => (true, true),
            "n" => (false, false),
            _ => return None,
        };
        Some(Self { domid: text.get(1..)?.parse().ok()?, read, write })
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = match (self.read, self.write) {
            (true, false) => 'r',
            (false, true) => 'w',
            (true, true) => 'b',
            (false, false) => 'n',
        };
        write!(f, "{letter}{}", self.domid)
    }
}

/// A node.
#[derive(Clone, Debug)]
struct Node {
    value: Vec<u8>,
    permissions: Vec<Permission>,
}

/// What is wanted of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    Read,
    Write,
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker {
    pub(crate) domid: u16,
    pub(crate) privileged: bool,
}

/// All nodes, by absolute path. The root is there, and every node has its parent.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    nodes: BTreeMap<String, Node>,
    limits: Limits,
}

/// Checks an absolute path: parts of the characters that may be there, none of them empty.
pub(crate) fn check_path(path: &str) -> Result<(), StoreError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_@:/+.,".contains(c);
    let parts = path.strip_prefix('/').ok_or(StoreError::Invalid)?;
    let parts_are_good = path == "/" || parts.split('/').all(|part| !part.is_empty());
    if path.len() > MAX_PATH || !parts_are_good || !path.chars().all(allowed) {
        return Err(StoreError::Invalid);
    }
    Ok(())
}

/// The path above one.
fn parent(path: &str) -> &str {
    match path.rfind('/') {
        Some(0) | None => "/",
        Some(at) => path.get(..at).unwrap_or("/"),
    }
}

/// Whether `path` is `above` or lies below it.
pub(crate) fn is_within(path: &str, above: &str) -> bool {
    above == "/" || path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl Tree {
    /// The root alone, which belongs to `owner`.
    pub(crate) fn new(owner: u16, limits: Limits) -> Self {
        let permissions = alloc::vec![Permission { domid: owner, read: false, write: false }];
        let root = Node { value: Vec::new(), permissions };
        Self { nodes: [("/".to_string(), root)].into(), limits }
    }

    fn node(&self, who: Asker, path: &str, want: Want) -> Result<&Node, StoreError> {
        let Some(node) = self.nodes.get(path) else {
            // Who may not look into the directory does not learn what is not in it.
            let above = self.nearest(path);
            return Err(if above.allows(who, Want::Read) { StoreError::Absent } else { StoreError::Denied });
        };
        if node.allows(who, want) { Ok(node) } else { Err(StoreError::Denied) }
    }

    /// The node at a path, or the next one above it that is there.
    fn nearest(&self, path: &str) -> &Node {
        let mut at = path;
        loop {
            if let Some(node) = self.nodes.get(at) {
                return node;
            }
            if at == "/" {
                const NOBODYS: &Node = &Node { value: Vec::new(), permissions: Vec::new() };
                return NOBODYS;
            }
            at = parent(at);
        }
    }

    /// Whether somebody may do this with a node, or with the next above it that is there.
    pub(crate) fn may(&self, who: Asker, path: &str, want: Want) -> bool {
        self.nearest(path).allows(who, want)
    }

    pub(crate) fn read(&self, who: Asker, path: &str) -> Result<&[u8], StoreError> {
        self.node(who, path, Want::Read).map(|node| node.value.as_slice())
    }

    /// The names in a directory, each with a NUL behind it.
    pub(crate) fn list(&self, who: Asker, path: &str) -> Result<Vec<u8>, StoreError> {
        self.node(who, path, Want::Read)?;
        let prefix = if path == "/" { path.to_string() } else { alloc::format!("{path}/") };
        let mut names = Vec::new();
        let from = (Bound::Excluded(prefix.clone()), Bound::Unbounded);
        for (below, _) in self.nodes.range(from) {
            let Some(name) = below.strip_prefix(prefix.as_str()) else { break };
            if !name.contains('/') {
                names.extend_from_slice(name.as_bytes());
                names.push(0);
            }
        }
        Ok(names)
    }

    /// Sets a value; nodes that are missing on the way are made.
    pub(crate) fn write(&mut self, who: Asker, path: &str, value: &[u8]) -> Result<(), StoreError> {
        if value.len() > MAX_VALUE {
            return Err(StoreError::TooLong);
        }
        let before = self.nodes.get(path).map_or(0, |node| node.value.len());
        if !who.privileged && value.len() > before {
            self.check_room(value.len() - before)?;
        }
        self.make(who, path)?;
        match self.nodes.get_mut(path) {
            Some(node) if node.allows(who, Want::Write) => {
                node.value = value.to_vec();
                Ok(())
            }
            _ => Err(StoreError::Denied),
        }
    }

    /// Makes a node, with those above it, unless it is there. Says whether it was not.
    pub(crate) fn make(&mut self, who: Asker, path: &str) -> Result<bool, StoreError> {
        if self.nodes.contains_key(path) {
            return Ok(false);
        }
        let above = self.nearest(path);
        if !above.allows(who, Want::Write) {
            return Err(StoreError::Denied);
        }
        let mut permissions = above.permissions.clone();
        if let (false, Some(owner)) = (who.privileged, permissions.first_mut()) {
            owner.domid = who.domid;
        }
        let mut missing = Vec::new();
        let mut at = path;
        while !self.nodes.contains_key(at) {
            missing.push(at.to_string());
            at = parent(at);
        }
        if !who.privileged {
            if self.owned_by(who.domid) + missing.len() > self.limits.nodes {
                return Err(StoreError::Full);
            }
            self.check_room(missing.iter().map(String::len).sum())?;
        }
        for path in missing {
            self.nodes.insert(path, Node { value: Vec::new(), permissions: permissions.clone() });
        }
        Ok(true)
    }

    /// Whether so many bytes more of paths and values may be kept.
    fn check_room(&self, more: usize) -> Result<(), StoreError> {
        let kept: usize = self.nodes.iter().map(|(path, node)| path.len() + node.value.len()).sum();
        if kept.saturating_add(more) > self.limits.bytes { Err(StoreError::Full) } else { Ok(()) }
    }

    fn owned_by(&self, domid: u16) -> usize {
        let is_own = |node: &&Node| node.permissions.first().is_some_and(|owner| owner.domid == domid);
        self.nodes.values().filter(is_own).count()
    }

    /// Removes a node with all below it.
    pub(crate) fn remove(&mut self, who: Asker, path: &str) -> Result<(), StoreError> {
        if path == "/" {
            return Err(StoreError::Invalid);
        }
        if !self.nodes.contains_key(path) {
            // A node that is not there is removed already, if the directory is.
            let above = self.node(who, parent(path), Want::Write);
            return above.map(|_| ());
        }
        self.node(who, path, Want::Write)?;
        self.nodes.retain(|other, _| !is_within(other, path));
        Ok(())
    }

    pub(crate) fn permissions(&self, who: Asker, path: &str) -> Result<&[Permission], StoreError> {
        self.node(who, path, Want::Read).map(|node| node.permissions.as_slice())
    }

    /// Sets the permissions of a node, which only its owner may, and only the privileged may give to another.
    pub(crate) fn set_permissions(
        &mut self,
        who: Asker,
        path: &str,
        permissions: Vec<Permission>,
    ) -> Result<(), StoreError> {
        self.node(who, path, Want::Write)?;
        let node = self.nodes.get_mut(path).ok_or(StoreError::Absent)?;
        let owner = node.permissions.first().map(|owner| owner.domid);
        let new_owner = permissions.first().map(|owner| owner.domid).ok_or(StoreError::Invalid)?;
        if permissions.len() > MAX_PERMISSIONS {
            return Err(StoreError::Full);
        }
        if !who.privileged && (owner != Some(who.domid) || new_owner != who.domid) {
            return Err(StoreError::Denied);
        }
        node.permissions = permissions;
        Ok(())
    }
}

impl Node {
    fn allows(&self, who: Asker, want: Want) -> bool {
        let Some(first) = self.permissions.first() else { return who.privileged };
        if who.privileged || first.domid == who.domid {
            return true;
        }
        let named = self.permissions.iter().skip(1).find(|entry| entry.domid == who.domid);
        let entry = named.unwrap_or(first);
        match want {
            Want::Read => entry.read,
            Want::Write => entry.write,
        }
    }
}
