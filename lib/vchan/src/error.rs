//! What can go wrong with a channel.

use core::fmt;

use grant_table::GrantError;
use hypercall::CallError;
use thiserror::Error;
use xen_abi::DomId;

use crate::Order;

/// Sizes that no channel can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LayoutError {
    /// An order outside of the range.
    #[error(
        "a ring of 2^{order} bytes: must be 2^{} to 2^{}",
        Order::SMALLEST.number(),
        Order::LARGEST.number()
    )]
    BadOrder {
        /// The order.
        order: u16,
    },
    /// Both rings would be at the same place in the shared page.
    #[error("both rings of 2^{order} bytes: they would be at one place; make one of them larger")]
    SamePlace {
        /// The order of both.
        order: u16,
    },
    /// The list of pages would reach into a ring.
    #[error(
        "rings of {pages} pages beside one within the shared page, which leaves room to list {room}; make the large \
         ring smaller or the small one a page"
    )]
    NoRoomForList {
        /// Pages to list.
        pages: usize,
        /// Pages that there is room for.
        room: usize,
    },
}

/// What a peer wrote that no honest one writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// It claims to have read what it cannot have: its index went backwards, or past what was written.
    Consumer {
        /// The index that it wrote.
        index: u32,
        /// The index before.
        before: u32,
        /// The furthest that it may be.
        limit: u32,
    },
    /// It claims to have written what it cannot have: its index went backwards, or past the end of the free room.
    Producer {
        /// The index that it wrote.
        index: u32,
        /// The index before.
        before: u32,
        /// The furthest that it may be.
        limit: u32,
    },
    /// Its live byte holds a value that there is not.
    Live(u8),
    /// It changed the word of the live and notify bytes faster than it could be updated.
    Restless,
}

impl fmt::Display for Lie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Consumer { index, before, limit } => write!(
                f,
                "its index of what it has read went from {before:#x} to {index:#x}, and at most {limit:#x} is possible"
            ),
            Self::Producer { index, before, limit } => write!(
                f,
                "its index of what it has written went from {before:#x} to {index:#x}, and at most {limit:#x} is possible"
            ),
            Self::Live(byte) => write!(f, "its live byte is {byte}, and only 0, 1 and 2 mean something"),
            Self::Restless => f.write_str("it changes its state without pause"),
        }
    }
}

/// Why a channel cannot be used, or not any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ChannelError {
    /// A call about the port failed.
    #[error("channel with domain {peer}: {error}")]
    Call {
        /// The peer.
        peer: DomId,
        /// The call that failed.
        error: CallError,
    },
    /// A page could not be granted or mapped.
    #[error("channel with domain {peer}: {error}")]
    Grant {
        /// The peer.
        peer: DomId,
        /// What went wrong.
        error: GrantError,
    },
    /// There is no address space for another page.
    #[error(
        "channel with domain {peer}: no address space is left to map page {page} of it; use smaller rings"
    )]
    NoAddressSpace {
        /// The peer.
        peer: DomId,
        /// Which page of the channel.
        page: usize,
    },
    /// There are fewer pages than the rings take.
    #[error(
        "channel with domain {peer}: the rings and the shared page take {wanted} pages, {given} were given"
    )]
    TooFewPages {
        /// The peer.
        peer: DomId,
        /// Pages that are needed.
        wanted: usize,
        /// Pages that were given.
        given: usize,
    },
    /// The server's page describes a channel that there cannot be.
    #[error("channel with domain {peer}: its page says {error}; it is no vchan server, or a broken one")]
    Layout {
        /// The peer.
        peer: DomId,
        /// What is wrong.
        error: LayoutError,
    },
    /// The server has had a client already.
    #[error(
        "channel with domain {peer}: another client has used it, or an earlier life of this one; try again when the server has \
         renewed it"
    )]
    Taken {
        /// The peer.
        peer: DomId,
    },
    /// The peer broke the protocol. The channel is not used any more.
    #[error("channel with domain {peer}: the peer is broken: {lie}; close the channel")]
    Broken {
        /// The peer.
        peer: DomId,
        /// What it did.
        lie: Lie,
    },
    /// The peer has closed its end.
    #[error("channel with domain {peer}: the peer has closed it")]
    Closed {
        /// The peer.
        peer: DomId,
    },
    /// The peer's port is gone: its domain was destroyed, or its program died without closing the channel.
    #[error("channel with domain {peer}: the peer is gone without having closed it")]
    Gone {
        /// The peer.
        peer: DomId,
    },
}
