//! The asking side of the protocols between domains (`docs/protocols.md`).
//!
//! * [`Transport`] is a stream of bytes each way that never blocks; a channel of `vchan` is one.
//! * [`Messages`] sends and receives messages over it, with a bound on what waits to be sent. It serves either side of a conversation.
//! * [`Client`] asks db-server: it says hello, numbers requests, keeps no more of them under way than its quota allows, and matches
//!   answers to what was asked.
//! * [`connect`] and [`try_connect`] connect to the channel of a command line; [`Attempts`] says when to try again after a loss, and when to
//!   give up.
//!
//! Nothing here but [`connect`] waits: a caller turns the client whenever something may have moved, and sleeps on the channel's port in between.
//! The peer is not trusted; whatever it sends leads to an event or to an error.
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

extern crate alloc;

mod attempts;
mod client;
mod connect;
mod error;
mod messages;
mod transport;

pub use attempts::{Attempts, GivenUp, Patience, STEADY};
pub use client::{Client, Event, RequestId};
pub use connect::{ConnectError, connect, try_connect};
pub use error::{ClientError, MessagesError};
pub use messages::{Messages, SEND_LIMIT};
pub use transport::Transport;
