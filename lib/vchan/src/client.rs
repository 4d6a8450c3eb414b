//! The end that maps.

use alloc::vec::Vec;

use event_channel::LocalPort;
use grant_table::{Access, GrantSlot, Mapping};
use hypercall::{RawHypercall, SharedMemory, Xen};
use xen_abi::{DomId, GrantRef, Port};

use crate::channel::{Channel, Parts, Role};
use crate::layout::{GRANTS, ORDERS, Sizes};
use crate::memory::Memory;
use crate::{ChannelError, LayoutError, Peer};

/// Pages of a server.
#[derive(Debug)]
pub struct Mapped<'x, H: RawHypercall, P: GrantSlot> {
    pages: Vec<Mapping<'x, H, P>>,
}

impl<'x, H: RawHypercall, P: GrantSlot> Memory for Mapped<'x, H, P> {
    type Page = Mapping<'x, H, P>;

    fn page(&self, index: usize) -> Option<&Self::Page> {
        self.pages.get(index)
    }
}

/// The end that connects to what a [`Server`](crate::Server) offers.
///
/// Dropped without [`close`](Self::close), it is gone as though its domain had been destroyed.
pub type Client<'x, H, P> = Channel<'x, H, Mapped<'x, H, P>>;

impl<'x, H: RawHypercall, P: GrantSlot> Channel<'x, H, Mapped<'x, H, P>> {
    /// Connects to the channel whose shared page `server` granted as `reference` and whose port there is `port`.
    ///
    /// [`Taken`](ChannelError::Taken) says that a client was there before, perhaps an earlier life of this VM: unlike libxenvchan's, this
    /// client does not go on in the middle of somebody else's stream. It is worth trying again, as is [`Grant`](ChannelError::Grant)
    /// with a server that has not started yet.
    ///
    /// `slot` gives a page of address space each time it is called, and `None` when there is none left. An error leaves nothing
    /// mapped and no port open.
    pub fn connect(
        xen: &'x Xen<H>,
        server: DomId,
        reference: GrantRef,
        port: Port,
        slot: impl FnMut() -> Option<P>,
    ) -> Result<Self, ChannelError> {
        let port = LocalPort::connect(xen, server, port)
            .map_err(|error| ChannelError::Call { peer: server, error })?;
        Self::connect_by(xen, server, reference, port, slot)
    }

    /// The same over a port that is connected to the server's already, by which the client was told that the page is there.
    pub fn connect_by(
        xen: &'x Xen<H>,
        server: DomId,
        reference: GrantRef,
        port: LocalPort<'x, H>,
        mut slot: impl FnMut() -> Option<P>,
    ) -> Result<Self, ChannelError> {
        let mut map = |page, reference, access| {
            let slot = slot().ok_or(ChannelError::NoAddressSpace { peer: server, page })?;
            Mapping::new(xen, slot, server, reference, access)
                .map_err(|error| ChannelError::Grant { peer: server, error })
        };
        let shared = map(0, reference, Access::ReadWrite)?;
        let (sizes, list) =
            read_layout(&shared).map_err(|error| ChannelError::Layout { peer: server, error })?;
        let mut pages = Vec::with_capacity(list.len().saturating_add(1));
        pages.push(shared);
        for (index, reference) in (1_usize..).zip(list) {
            // The client writes what is left, and only reads what is right.
            let access = if index <= sizes.left.pages() { Access::ReadWrite } else { Access::ReadOnly };
            pages.push(map(index, reference, access)?);
        }
        let memory = Mapped { pages };
        let parts = Parts { xen, memory, port, role: Role::Client, peer: server, sizes };
        let load =
            |memory: &Mapped<'x, H, P>, offset| memory.page(0).map_or(0, |shared| shared.load_u32(offset));
        let mut channel = Self::new(parts, load)?;
        if channel.peer_state()? == Peer::Closed {
            return Err(ChannelError::Closed { peer: server });
        }
        if !channel.is_awaited() {
            return Err(ChannelError::Taken { peer: server });
        }
        channel.say_open()?;
        Ok(channel)
    }

    /// Closes the channel: the server reads what was written, and then its end. Gives the address space back.
    pub fn close(mut self) -> Result<Vec<P>, ChannelError> {
        let peer = self.peer();
        self.say_closed()?;
        let unmap = |page: Mapping<'x, H, P>| page.unmap();
        let slots: Result<Vec<P>, _> = self.into_memory().pages.into_iter().map(unmap).collect();
        slots.map_err(|error| ChannelError::Grant { peer, error })
    }
}

/// The sizes, and the references of the pages of both rings; each word is read once.
fn read_layout(shared: &impl SharedMemory) -> Result<(Sizes, Vec<GrantRef>), LayoutError> {
    let sizes = Sizes::decode(shared.load_u32(ORDERS))?;
    let offsets = (GRANTS..).step_by(size_of::<u32>()).take(sizes.pages());
    Ok((sizes, offsets.map(|offset| GrantRef::new(shared.load_u32(offset))).collect()))
}
