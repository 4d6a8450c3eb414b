//! The control domain: starts, watches and stops whole platforms by asking db-server, without any privilege of its own.
//!
//! [`Source`] is the platform in its RAM disk, [`Control`] the state machine that brings it up: what is asked of db-server and answered
//! to clients depends on the state of each VM (`vm`), its platform (`platform`), the images that db-server lacks (`uploads`) and what
//! clients asked for (`clients`, `jobs`). Everything that happens is entered in the [`Journal`].
//!
//! [`Control`] neither waits nor reads a clock: its owner tells it the time, turns its conversations when something may have moved, and
//! sleeps until [`Control::deadline`]. So it runs on the host against a simulated db-server as it does in the VM.
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing)]

extern crate alloc;

mod clients;
mod control;
mod jobs;
mod journal;
mod options;
mod platform_state;
mod server;
mod source;
mod total;
mod uploads;
mod vm;

pub use clients::Terms;
pub use control::{Config, Control, Lost, SERVER_PATIENCE, Status};
pub use journal::{Entry, JOURNAL_LENGTH, Journal};
pub use options::Options;
pub use source::{Refusal, Source};
pub use total::total;
