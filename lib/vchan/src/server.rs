//! The end that gives the pages.

use alloc::vec::Vec;

use event_channel::LocalPort;
use grant_table::{Access, GrantError, GrantTable, Shareable};
use hypercall::{RawHypercall, SharedMemory, Xen};
use xen_abi::grant_table::RESERVED_ENTRIES;
use xen_abi::{DomId, GrantRef, PAGE_SIZE};

use crate::ChannelError;
use crate::channel::{Channel, Parts, Role};
use crate::layout::{GRANTS, LIVE_AWAITED, LIVE_OPEN, NOTIFY_WRITE, ORDERS, STATE, Sizes};
use crate::memory::Memory;

/// Own pages that are granted to a client.
#[derive(Debug)]
pub struct Offered<P> {
    /// With the reference by which it is granted.
    pages: Vec<(P, GrantRef)>,
}

impl<P: SharedMemory> Memory for Offered<P> {
    type Page = P;

    fn page(&self, index: usize) -> Option<&P> {
        self.pages.get(index).map(|(page, _)| page)
    }
}

/// The end that offers a channel, which a [`Client`](crate::Client) connects to.
///
/// Dropped without [`close`](Self::close), its pages stay granted for good, and it is gone as though its domain had been
/// destroyed.
pub type Server<'x, H, P> = Channel<'x, H, Offered<P>>;

/// Pages of a channel that was closed, some of which the client still has mapped.
#[derive(Debug)]
#[must_use = "the pages stay granted until they are taken back"]
pub struct Leftover<P> {
    /// Those that are granted still, with their references.
    pages: Vec<(P, GrantRef)>,
    /// Those that are not any more.
    free: Vec<P>,
}

/// What is offered, to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The domain that may connect.
    pub client: DomId,
    /// The sizes of the rings.
    pub sizes: Sizes,
    /// Where the shared page's reference is to be, for a client that knows it beforehand: one of the reserved ones. Without it, any
    /// reference is taken.
    pub reference: Option<GrantRef>,
}

impl<'x, H: RawHypercall, P: SharedMemory + Shareable> Channel<'x, H, Offered<P>> {
    /// Offers a channel over `port`, a port that the client may connect to.
    ///
    /// `pages` are own pages, which nobody else uses: the shared page and [`Sizes::pages`] more; those beyond
    /// are dropped. An error takes back what was granted.
    pub fn offer<S: SharedMemory>(
        xen: &'x Xen<H>,
        table: &mut GrantTable<S>,
        port: LocalPort<'x, H>,
        terms: &Terms,
        pages: Vec<P>,
    ) -> Result<Self, ChannelError> {
        let Terms { client: peer, sizes, .. } = *terms;
        let (wanted, given) = (sizes.pages().saturating_add(1), pages.len());
        let mut pages = pages.into_iter().take(wanted);
        let Some(shared) = pages.next().filter(|_| given >= wanted) else {
            return Err(ChannelError::TooFewPages { peer, wanted, given });
        };
        let mut leftover = Leftover { pages: Vec::with_capacity(wanted), free: Vec::new() };
        match grant_all(table, terms, shared, pages, &mut leftover.pages) {
            Ok(()) => {
                let memory = Offered { pages: leftover.pages };
                // From the start: what the client may have written into the page meanwhile does not count.
                Self::new(Parts { xen, memory, port, role: Role::Server, peer, sizes }, |_, _| 0)
            }
            Err(error) => {
                // The client knows none of the references, so that it has mapped none in good faith.
                let _ = leftover.take_back(table);
                Err(ChannelError::Grant { peer, error })
            }
        }
    }

    /// The reference of the shared page, which the client has to be told together with the [`port`](Channel::port).
    pub fn reference(&self) -> GrantRef {
        self.memory.pages.first().map_or(GrantRef::new(u32::MAX), |(_, reference)| *reference)
    }

    /// Makes the channel what it was when it was offered, for a client that comes after one that has closed it or is gone: by the same
    /// port and, if it is a reserved one, the same [`reference`](Self::reference). What was not read is lost.
    ///
    /// `false` as long as the client before has pages mapped; nothing has changed for it then, and it can be tried again.
    pub fn renew<S>(&mut self, table: &mut GrantTable<S>) -> Result<bool, ChannelError>
    where
        S: SharedMemory,
    {
        let (peer, sizes) = (self.peer(), self.sizes());
        let failed = |error| ChannelError::Grant { peer, error };
        if self.memory.pages.iter().any(|(_, reference)| table.is_mapped(*reference)) {
            return Ok(false);
        }
        let Some((_, reference)) = self.memory.pages.first() else { return Ok(false) };
        let reference = *reference;
        // From here on nobody can connect, until the page is filled anew.
        match table.revoke(reference) {
            Ok(()) => {}
            Err(GrantError::InUse { .. }) => return Ok(false),
            Err(error) => return Err(failed(error)),
        }
        for (page, _) in &self.memory.pages {
            page.write(0, &[0; PAGE_SIZE]);
        }
        let list: Vec<GrantRef> = self.memory.pages.iter().skip(1).map(|(_, reference)| *reference).collect();
        if let Some((shared, _)) = self.memory.pages.first() {
            prepare(shared, sizes, list.into_iter());
        }
        self.start_again()?;
        let known = Some(reference).filter(|reference| reference.raw() < RESERVED_ENTRIES);
        if let Some((shared, reference)) = self.memory.pages.first_mut() {
            *reference = grant_shared(table, peer, shared, known).map_err(failed)?;
        }
        Ok(true)
    }

    /// Ends the stream: the client reads what was written, and then its end. The channel stays, for [`renew`](Self::renew).
    pub fn hang_up(&mut self) -> Result<(), ChannelError> {
        self.say_closed()
    }

    /// Closes the channel: the client reads what was written, and then its end. Gives the pages back, or, as long as the client
    /// has some of them mapped, what is left to be taken back later.
    pub fn close<S>(mut self, table: &mut GrantTable<S>) -> Result<Vec<P>, Leftover<P>>
    where
        S: SharedMemory,
    {
        // The pages are taken back whether the client can be told or not.
        let _ = self.say_closed();
        Leftover { pages: self.into_memory().pages, free: Vec::new() }.take_back(table)
    }
}

/// Grants the pages of the rings, fills the shared page and grants it last: from then on the client may look.
fn grant_all<P: SharedMemory + Shareable, S: SharedMemory>(
    table: &mut GrantTable<S>,
    terms: &Terms,
    shared: P,
    pages: impl Iterator<Item = P>,
    granted: &mut Vec<(P, GrantRef)>,
) -> Result<(), GrantError> {
    let Terms { client, sizes, reference } = *terms;
    for (index, page) in pages.enumerate() {
        // What a page held before is not the client's business.
        page.write(0, &[0; PAGE_SIZE]);
        // The client writes what is left, and only reads what is right.
        let access = if index < sizes.left.pages() { Access::ReadWrite } else { Access::ReadOnly };
        let reference = table.grant(client, &page, access)?;
        granted.push((page, reference));
    }
    prepare(&shared, sizes, granted.iter().map(|(_, reference)| *reference));
    let reference = grant_shared(table, client, &shared, reference)?;
    granted.insert(0, (shared, reference));
    Ok(())
}

/// Grants the shared page, by the reference that the client knows or by any.
fn grant_shared<P: Shareable, S: SharedMemory>(
    table: &mut GrantTable<S>,
    client: DomId,
    shared: &P,
    known: Option<GrantRef>,
) -> Result<GrantRef, GrantError> {
    match known {
        None => table.grant(client, shared, Access::ReadWrite),
        Some(reference) => {
            table.grant_reserved(reference, client, shared, Access::ReadWrite).map(|()| reference)
        }
    }
}

/// Fills the shared page for a client that has not connected yet.
fn prepare(shared: &impl SharedMemory, sizes: Sizes, list: impl Iterator<Item = GrantRef>) {
    shared.write(0, &[0; PAGE_SIZE]);
    shared.store_u32(ORDERS, sizes.encode());
    for (offset, reference) in (GRANTS..).step_by(size_of::<u32>()).zip(list) {
        shared.store_u32(offset, reference.raw());
    }
    // In the order of the bytes: the client's live byte, the server's, when the client is to notify, when the server is.
    let state = [LIVE_AWAITED, LIVE_OPEN, NOTIFY_WRITE, 0];
    shared.store_u32(STATE, u32::from_le_bytes(state));
}

impl<P: SharedMemory + Shareable> Leftover<P> {
    /// Takes back what the client has let go of meanwhile; gives the pages when that is all of them.
    pub fn take_back<S>(mut self, table: &mut GrantTable<S>) -> Result<Vec<P>, Self>
    where
        S: SharedMemory,
    {
        let mut held = Vec::new();
        for (page, reference) in self.pages {
            match table.revoke(reference) {
                Ok(()) => self.free.push(page),
                Err(_) => held.push((page, reference)),
            }
        }
        if held.is_empty() { Ok(self.free) } else { Err(Self { pages: held, free: self.free }) }
    }

    /// How many pages the client still has mapped.
    pub fn held(&self) -> usize {
        self.pages.len()
    }
}
