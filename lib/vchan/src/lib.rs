//! Byte streams between domains, in the wire format of public/io/libxenvchan.h.
//!
//! A channel is a page that both ends map, two rings of bytes (in that page, or in pages of their own), and an event channel.
//! The *server* gives the pages, grants them and opens the port ([`Server::offer`]); the *client* maps and connects
//! ([`Client::connect`]). After that both are alike: [`Channel::read`], [`Channel::write`], [`Channel::wait`]. Whoever brings the
//! two together tells the client the server's domain, one grant reference and one port; there is no XenStore in it.
//!
//! The other end is not trusted. Whatever it writes into the shared pages, and whenever, leads to bytes or to an error
//! ([`ChannelError::Broken`]), never to a panic or to an access outside of the rings: each word that the peer can change is read
//! once for each decision, the own indices are kept outside of the shared page, and an index of the peer that moves backwards or
//! further than the ring allows ends the channel.
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

extern crate alloc;

mod channel;
mod client;
mod error;
mod layout;
mod memory;
mod server;
mod stream;

pub use channel::{CHECK_INTERVAL, Channel, Peer};
pub use client::{Client, Mapped};
pub use error::{ChannelError, LayoutError, Lie};
pub use layout::{Order, Sizes};
pub use memory::Memory;
pub use server::{Leftover, Offered, Server, Terms};
