//! What the store keeps for each domain that it serves.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use crate::limits::Limits;
use crate::tree::{StoreError, Tree};
use crate::wire::{Message, Reader};

/// The longest token of a watch.
const MAX_TOKEN: usize = 256;
/// So many bytes wait for a domain at most before no more is read from it.
const MAX_WAITING: usize = 16 << 10;

/// A wish to be told of changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Watch {
    /// An absolute path, or the name of something that happens to domains.
    pub(crate) path: String,
    /// What its owner knows it by.
    pub(crate) token: String,
    /// What its owner's paths are relative to, if this one is.
    pub(crate) home: Option<String>,
}

/// Changes that others do not see yet.
#[derive(Debug)]
pub(crate) struct Transaction {
    pub(crate) tree: Tree,
    /// The store's generation at its start.
    pub(crate) since: u64,
    /// The paths that changed, and whether they were removed.
    pub(crate) changes: Vec<(String, bool)>,
}

impl Transaction {
    /// Enters that a path was changed: once, however often that was.
    pub(crate) fn note(&mut self, path: String, removed: bool, limits: Limits) -> Result<(), StoreError> {
        if self.changes.iter().any(|change| (&change.0, change.1) == (&path, removed)) {
            return Ok(());
        }
        let bytes: usize = self.changes.iter().map(|(path, _)| path.len()).sum();
        if self.changes.len() >= limits.nodes || bytes + path.len() > limits.bytes {
            return Err(StoreError::Full);
        }
        self.changes.push((path, removed));
        Ok(())
    }
}

/// A domain that is served.
#[derive(Debug)]
pub(crate) struct Connection {
    limits: Limits,
    pub(crate) reader: Reader,
    waiting: Vec<u8>,
    pub(crate) watches: Vec<Watch>,
    transactions: BTreeMap<u32, Transaction>,
    last_transaction: u32,
    /// It does not read, or has sent what is no message.
    pub(crate) is_broken: bool,
}

impl Connection {
    /// Nothing was said yet.
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            reader: Reader::default(),
            waiting: Vec::new(),
            watches: Vec::new(),
            transactions: BTreeMap::new(),
            last_transaction: 0,
            is_broken: false,
        }
    }

    /// How many bytes it may send now.
    pub(crate) fn room(&self) -> usize {
        if self.is_broken || self.waiting.len() >= MAX_WAITING { 0 } else { self.reader.room() }
    }

    /// What waits to be sent to it.
    pub(crate) fn waiting(&self) -> &[u8] {
        &self.waiting
    }

    /// Forgets the first `count` bytes of what waits: they are sent.
    pub(crate) fn sent(&mut self, count: usize) {
        self.waiting.drain(..count.min(self.waiting.len()));
    }

    pub(crate) fn send(&mut self, message: &Message) {
        if self.is_broken {
            return;
        }
        self.waiting.extend_from_slice(&message.encode());
        if self.waiting.len() > self.limits.news {
            self.is_broken = true;
            self.waiting = Vec::new();
        }
    }

    pub(crate) fn watch(&mut self, watch: Watch) -> Result<(), StoreError> {
        if watch.token.len() > MAX_TOKEN {
            return Err(StoreError::TooLong);
        }
        if self.watches.iter().any(|other| (&other.path, &other.token) == (&watch.path, &watch.token)) {
            return Err(StoreError::Exists);
        }
        let size = |watch: &Watch| watch.path.len() + watch.token.len();
        let bytes: usize = self.watches.iter().map(size).sum();
        if self.watches.len() >= self.limits.watches || bytes + size(&watch) > self.limits.bytes {
            return Err(StoreError::Full);
        }
        self.watches.push(watch);
        Ok(())
    }

    pub(crate) fn unwatch(&mut self, path: &str, token: &str) -> Result<(), StoreError> {
        let at = self
            .watches
            .iter()
            .position(|watch| (watch.path.as_str(), watch.token.as_str()) == (path, token));
        self.watches.remove(at.ok_or(StoreError::Absent)?);
        Ok(())
    }

    /// Begins a transaction on `tree`; gives its number.
    pub(crate) fn begin(&mut self, tree: Tree, since: u64) -> Result<u32, StoreError> {
        if self.transactions.len() >= self.limits.transactions {
            return Err(StoreError::Full);
        }
        loop {
            self.last_transaction = self.last_transaction.wrapping_add(1);
            let number = self.last_transaction;
            if number != 0 && !self.transactions.contains_key(&number) {
                self.transactions.insert(number, Transaction { tree, since, changes: Vec::new() });
                return Ok(number);
            }
        }
    }

    pub(crate) fn transaction(&mut self, number: u32) -> Result<&mut Transaction, StoreError> {
        self.transactions.get_mut(&number).ok_or(StoreError::Absent)
    }

    /// Takes a transaction that ends.
    pub(crate) fn end(&mut self, number: u32) -> Result<Transaction, StoreError> {
        self.transactions.remove(&number).ok_or(StoreError::Absent)
    }

    /// Forgets watches and transactions.
    pub(crate) fn reset(&mut self) {
        self.watches.clear();
        self.transactions.clear();
    }
}
