//! The store: connections, requests, answers, news.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::connection::{Connection, Watch};
use crate::limits::Limits;
use crate::tree::{Asker, Permission, StoreError, Tree, Want, check_path, is_within};
use crate::wire::{Kind, Message};

/// What a watch names to hear of domains that are introduced, and of those that are released.
const INTRODUCED: &str = "@introduceDomain";
const RELEASED: &str = "@releaseDomain";

/// What the store has done with domains for it.
pub trait Domains {
    /// Maps the ring of a domain, and binds its `port`; one that is served already keeps what it has.
    fn introduce(&mut self, domid: u16, port: u32) -> Result<(), StoreError>;

    /// Lets go of them.
    fn release(&mut self, domid: u16);
}

/// A XenStore.
#[derive(Debug)]
pub struct Store {
    tree: Tree,
    /// Counts changes.
    generation: u64,
    /// The domain in control, to which everything is allowed.
    control: u16,
    connections: BTreeMap<u16, Connection>,
    limits: Limits,
}

/// A request, taken apart.
struct Request<'m> {
    who: Asker,
    transaction: u32,
    /// Its payload's strings, each of which had a NUL behind it.
    strings: Vec<&'m str>,
    payload: &'m [u8],
}

impl<'m> Request<'m> {
    fn string(&self, index: usize) -> Result<&'m str, StoreError> {
        self.strings.get(index).copied().ok_or(StoreError::Invalid)
    }

    /// An absolute path.
    fn path(&self, index: usize) -> Result<String, StoreError> {
        absolute(self.who.domid, self.string(index)?)
    }

    fn number<T: core::str::FromStr>(&self, index: usize) -> Result<T, StoreError> {
        self.string(index)?.parse().map_err(|_| StoreError::Invalid)
    }
}

/// Where a domain's own nodes are: the path that those are relative to which it names without a leading `/`.
pub fn home(domid: u16) -> String {
    format!("/local/domain/{domid}")
}

/// A path of a domain's as an absolute one.
fn absolute(domid: u16, path: &str) -> Result<String, StoreError> {
    let path = if path.starts_with('/') { path.to_string() } else { format!("{}/{path}", home(domid)) };
    check_path(&path)?;
    Ok(path)
}

fn with_nul(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

impl Store {
    /// An empty store, to which the domain in control is connected.
    pub fn new(control: u16) -> Self {
        Self::with_limits(control, Limits::SHARED)
    }

    /// The same, with other bounds for those that are served.
    pub fn with_limits(control: u16, limits: Limits) -> Self {
        let connections = [(control, Connection::new(limits))].into();
        Self { tree: Tree::new(control, limits), generation: 0, control, connections, limits }
    }

    /// Serves the domain `domid` from now on, whose home is its own. As [`Kind::Introduce`], by whoever runs the store.
    pub fn introduce(&mut self, domid: u16) -> Result<(), StoreError> {
        let (who, path) = (self.privileged(), home(domid));
        self.tree.make(who, &path)?;
        let owner = Permission { domid, read: false, write: false };
        self.tree.set_permissions(who, &path, Vec::from([owner]))?;
        self.connections.entry(domid).or_insert_with(|| Connection::new(self.limits));
        Ok(())
    }

    /// Sets the value of a node, which whoever runs the store may do anywhere, and tells those who watch it.
    pub fn set(&mut self, path: &str, value: &[u8]) -> Result<(), StoreError> {
        check_path(path)?;
        self.tree.write(self.privileged(), path, value)?;
        self.generation += 1;
        self.tell(path, false);
        Ok(())
    }

    /// The value of a node.
    pub fn get(&self, path: &str) -> Option<&[u8]> {
        self.tree.read(self.privileged(), path).ok()
    }

    fn privileged(&self) -> Asker {
        Asker { domid: self.control, privileged: true }
    }

    /// The domains that are served.
    pub fn domains(&self) -> impl Iterator<Item = u16> {
        self.connections.keys().copied()
    }

    /// Whether a domain is to be told when something is changed at `path`: it watches that, or what it is below.
    pub fn watches(&self, domid: u16, path: &str) -> bool {
        let watches = self.connections.get(&domid).into_iter().flat_map(|connection| &connection.watches);
        watches.into_iter().any(|watch| is_within(path, &watch.path))
    }

    /// How many bytes a domain may send now; it may have to take answers first.
    pub fn room(&self, domid: u16) -> usize {
        self.connections.get(&domid).map_or(0, Connection::room)
    }

    /// Whether a domain's connection cannot go on: it has sent what is no message, or does not take its answers.
    pub fn is_broken(&self, domid: u16) -> bool {
        self.connections.get(&domid).is_some_and(|connection| connection.is_broken)
    }

    /// What waits to be sent to a domain.
    pub fn waiting(&self, domid: u16) -> &[u8] {
        self.connections.get(&domid).map_or(&[], Connection::waiting)
    }

    /// Forgets the first `count` bytes of that: they are sent.
    pub fn sent(&mut self, domid: u16, count: usize) {
        if let Some(connection) = self.connections.get_mut(&domid) {
            connection.sent(count);
        }
    }

    /// A domain is gone: so are its watches and transactions; what it has written stays.
    pub fn disconnect(&mut self, domid: u16) {
        if self.connections.remove(&domid).is_some() {
            self.tell(RELEASED, false);
        }
    }

    /// Takes bytes that a domain has sent, at most [`room`](Self::room) of them, and serves the requests that are whole.
    pub fn receive(&mut self, domains: &mut impl Domains, domid: u16, bytes: &[u8]) {
        let Some(connection) = self.connections.get_mut(&domid) else { return };
        connection.reader.push(bytes);
        while let Some(connection) = self.connections.get_mut(&domid) {
            match connection.reader.take_message() {
                Ok(Some(message)) => self.serve(domains, domid, &message),
                Ok(None) => return,
                Err(_) => {
                    connection.is_broken = true;
                    return;
                }
            }
        }
    }

    /// Answers one request.
    fn serve(&mut self, domains: &mut impl Domains, domid: u16, message: &Message) {
        let header = message.header;
        let who = Asker { domid, privileged: domid == self.control };
        let text = message.payload.split_last().filter(|(last, _)| **last == 0).map(|(_, text)| text);
        let strings = text.and_then(|text| core::str::from_utf8(text).ok());
        let strings = strings.map(|text| text.split('\0').collect()).unwrap_or_default();
        let request = Request { who, transaction: header.transaction, strings, payload: &message.payload };
        let (kind, payload) = match self.act(domains, header.kind, &request) {
            Ok(payload) => (header.kind, payload),
            Err(error) => (Kind::Error, with_nul(error.name())),
        };
        let answer = Message::new(kind, header.request, header.transaction, payload);
        if let Some(connection) = self.connections.get_mut(&domid) {
            connection.send(&answer);
        }
        // A watch tells at once that it is there.
        if header.kind == Kind::Watch && kind == Kind::Watch {
            self.tell_newest(domid);
        }
    }

    /// Does what a request asks for; gives the payload of the answer.
    fn act(
        &mut self,
        domains: &mut impl Domains,
        kind: Kind,
        request: &Request<'_>,
    ) -> Result<Vec<u8>, StoreError> {
        let who = request.who;
        match kind {
            Kind::Read => {
                let path = request.path(0)?;
                return self.view(request)?.read(who, &path).map(<[u8]>::to_vec);
            }
            Kind::Directory => {
                let path = request.path(0)?;
                return self.view(request)?.list(who, &path);
            }
            Kind::GetPerms => {
                let path = request.path(0)?;
                let permissions = self.view(request)?.permissions(who, &path)?;
                return Ok(permissions.iter().flat_map(|entry| with_nul(&entry.to_string())).collect());
            }
            Kind::GetDomainPath => return Ok(with_nul(&home(request.number(0)?))),
            Kind::IsIntroduced => {
                let is_served = self.connections.contains_key(&request.number(0)?);
                return Ok(with_nul(if is_served { "T" } else { "F" }));
            }
            Kind::TransactionStart => {
                let (tree, since) = (self.tree.clone(), self.generation);
                let number = self.connection(who)?.begin(tree, since)?;
                return Ok(with_nul(&number.to_string()));
            }
            Kind::Write | Kind::Mkdir | Kind::Remove | Kind::SetPerms => self.change(kind, request)?,
            Kind::TransactionEnd => self.end(request)?,
            Kind::Watch => self.watch(request)?,
            Kind::Unwatch => {
                let path = watched(who.domid, request.string(0)?)?;
                self.connection(who)?.unwatch(&path, request.string(1)?)?;
            }
            Kind::ResetWatches => self.connection(who)?.reset(),
            Kind::Introduce => {
                control_only(who)?;
                // The second word is a frame that only a store with the right to map it needs.
                let (domid, port) = (request.number(0)?, request.number(2)?);
                domains.introduce(domid, port)?;
                self.connections.entry(domid).or_insert_with(|| Connection::new(self.limits));
                self.tell(INTRODUCED, false);
            }
            Kind::Release => {
                control_only(who)?;
                let domid = request.number(0)?;
                if domid == self.control || !self.connections.contains_key(&domid) {
                    return Err(StoreError::Absent);
                }
                domains.release(domid);
                self.disconnect(domid);
            }
            Kind::WatchEvent | Kind::Error | Kind::Other(_) => return Err(StoreError::Unknown),
        }
        Ok(with_nul("OK"))
    }

    fn connection(&mut self, who: Asker) -> Result<&mut Connection, StoreError> {
        self.connections.get_mut(&who.domid).ok_or(StoreError::Absent)
    }

    /// The nodes that a request is about: those of its transaction, or all.
    fn view(&mut self, request: &Request<'_>) -> Result<&mut Tree, StoreError> {
        if request.transaction == 0 {
            return Ok(&mut self.tree);
        }
        let connection = self.connections.get_mut(&request.who.domid).ok_or(StoreError::Absent)?;
        connection.transaction(request.transaction).map(|transaction| &mut transaction.tree)
    }

    /// Changes a node, and tells those who watch it, or keeps that for the end of the transaction.
    fn change(&mut self, kind: Kind, request: &Request<'_>) -> Result<(), StoreError> {
        let who = request.who;
        let (text, value) = split_nul(request.payload)?;
        let path = absolute(who.domid, text)?;
        let tree = self.view(request)?;
        match kind {
            Kind::Write => tree.write(who, &path, value)?,
            Kind::Remove => tree.remove(who, &path)?,
            Kind::SetPerms => {
                let rest = request.strings.get(1..).unwrap_or_default();
                let permissions = rest.iter().map(|text| Permission::parse(text)).collect::<Option<_>>();
                tree.set_permissions(who, &path, permissions.ok_or(StoreError::Invalid)?)?;
            }
            _ => {
                if !tree.make(who, &path)? {
                    return Ok(());
                }
            }
        }
        let removed = kind == Kind::Remove;
        if request.transaction != 0 {
            let limits = self.limits;
            return self.connection(who)?.transaction(request.transaction)?.note(path, removed, limits);
        }
        self.generation += 1;
        self.tell(&path, removed);
        Ok(())
    }

    /// Ends a transaction: its changes are everybody's, unless something else has changed since it began.
    fn end(&mut self, request: &Request<'_>) -> Result<(), StoreError> {
        let commit = match request.string(0)? {
            "T" => true,
            "F" => false,
            _ => return Err(StoreError::Invalid),
        };
        let generation = self.generation;
        let transaction = self.connection(request.who)?.end(request.transaction)?;
        if !commit || transaction.changes.is_empty() {
            return Ok(());
        }
        if transaction.since != generation {
            return Err(StoreError::Again);
        }
        self.tree = transaction.tree;
        self.generation += 1;
        for (path, removed) in transaction.changes {
            self.tell(&path, removed);
        }
        Ok(())
    }

    fn watch(&mut self, request: &Request<'_>) -> Result<(), StoreError> {
        let (who, name) = (request.who, request.string(0)?);
        let path = watched(who.domid, name)?;
        if path.starts_with('@') {
            control_only(who)?;
        }
        let home = (path != name).then(|| home(who.domid));
        self.connection(who)?.watch(Watch { path, token: request.string(1)?.to_string(), home })
    }

    /// Tells all who watch a path, or may read what they watch below it, that it has changed.
    fn tell(&mut self, path: &str, removed: bool) {
        let Self { tree, control, connections, .. } = self;
        for (domid, connection) in connections {
            let who = Asker { domid: *domid, privileged: domid == control };
            let sees = path.starts_with('@') || tree.may(who, path, Want::Read);
            let concerned = |watch: &&Watch| {
                sees && is_within(path, &watch.path) || removed && is_within(&watch.path, path)
            };
            let news: Vec<_> =
                connection.watches.iter().filter(concerned).map(|watch| event(watch, path)).collect();
            for message in news {
                connection.send(&message);
            }
        }
    }

    /// Tells a domain of the watch that it made last.
    fn tell_newest(&mut self, domid: u16) {
        if let Some(connection) = self.connections.get_mut(&domid)
            && let Some(message) = connection.watches.last().map(|watch| event(watch, &watch.path))
        {
            connection.send(&message);
        }
    }
}

/// The news for a watch that `path` has changed: by the name that its owner has for it.
fn event(watch: &Watch, path: &str) -> Message {
    // What lies above a watch has taken with it what is watched.
    let path = if is_within(path, &watch.path) { path } else { &watch.path };
    let home = watch.home.as_deref().and_then(|home| path.strip_prefix(home)?.strip_prefix('/'));
    let mut payload = with_nul(home.unwrap_or(path));
    payload.extend(with_nul(&watch.token));
    Message::new(Kind::WatchEvent, 0, 0, payload)
}

/// What a watch is about: a path, made absolute, or something that happens to domains.
fn watched(domid: u16, name: &str) -> Result<String, StoreError> {
    if [INTRODUCED, RELEASED].contains(&name) { Ok(name.to_string()) } else { absolute(domid, name) }
}

fn control_only(who: Asker) -> Result<(), StoreError> {
    if who.privileged { Ok(()) } else { Err(StoreError::Denied) }
}

/// A string with its NUL, and what follows.
fn split_nul(payload: &[u8]) -> Result<(&str, &[u8]), StoreError> {
    let at = payload.iter().position(|byte| *byte == 0).ok_or(StoreError::Invalid)?;
    let (text, rest) = payload.split_at(at);
    let text = core::str::from_utf8(text).map_err(|_| StoreError::Invalid)?;
    Ok((text, rest.get(1..).unwrap_or_default()))
}
