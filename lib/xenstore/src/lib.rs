//! XenStore, as Xen's public headers have it (io/xs_wire.h): messages, the ring that they go by, and a small store.
//!
//! The [`Store`] knows nothing of domains but their numbers: who runs it carries bytes between its connections and the rings, and maps
//! the ring of a domain that is introduced ([`Domains`]). It serves what kernels ask of a XenStore: reading, writing, directories,
//! permissions, watches and transactions. Every peer is a stranger: whatever it sends, it gets an answer or loses its
//! connection, and what it can make the store keep has a bound.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod connection;
mod limits;
mod ring;
mod store;
mod tree;
mod wire;

pub use limits::Limits;
pub use ring::{Ring, RingError, Side};
pub use store::{Domains, Store, home};
pub use tree::{Permission, StoreError};
pub use wire::{Header, Kind, MAX_PAYLOAD, Message, Reader};
