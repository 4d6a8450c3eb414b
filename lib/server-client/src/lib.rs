//! The asking side of the protocols between domains (`docs/protocols.md`).
//!
//! * [`Transport`] is a stream of bytes each way that never blocks; a channel of `vchan` is one.
//! * [`Messages`] sends and receives messages over it, with a bound on what waits to be sent. It serves either side of a conversation.
//! * [`Client`] asks db-server: it says hello, numbers requests, keeps no more of them under way than its quota allows, and matches
//!   answers to what was asked.
//!
//! Nothing here waits: a caller turns the client whenever something may have moved, and sleeps on the channel's port in between.
//! The peer is not trusted; whatever it sends leads to an event or to an error.
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

extern crate alloc;

mod client;
mod error;
mod messages;
mod transport;

pub use client::{Client, Event, RequestId};
pub use error::{ClientError, MessagesError};
pub use messages::{Messages, SEND_LIMIT};
pub use transport::Transport;
