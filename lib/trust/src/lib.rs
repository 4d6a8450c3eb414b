//! Is this RAM disk the one that was signed, and what exactly was in it?
//!
//! * [`measure`] takes the SHA-256 of every file of a RAM disk, once; everything below works on these records.
//! * [`verify`] holds the records against the signed manifest in the RAM disk. Nothing may differ: not a byte of a file, not the
//!   order of the entries, not a field of their headers.
//! * [`sign`] makes a RAM disk that `verify` accepts; it is for the host.
//! * [`EventLog`] keeps what was measured, in the layout that TPM software reads.
//!
//! Pure code over bytes: what is hashed is what the caller has in memory, and what it builds from afterwards.
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

extern crate alloc;

mod event_log;
mod key;
mod measure;
mod sign;
mod verify;

pub use event_log::{Event, EventKind, EventLog, EventLogError, RegisterIndex, read_event_log, replay};
pub use key::{KeyError, PublicKey, SigningKey};
pub use measure::{measure, sha256};
pub use sign::{SignError, sign};
pub use verify::{TrustError, verify};
