//! Grant tables: how one domain lets another use frames of its memory.
//!
//! * [`GrantTable`] is the granting side: it writes entries (version 1) into the calling domain's own table and takes them back.
//! * [`Mapping`] is the other side: a frame that another domain granted, mapped until the value is dropped.
#![no_std]

extern crate alloc;

mod error;
mod mapping;
mod table;

pub use error::GrantError;
pub use mapping::{GrantAddress, GrantSlot, Mapping};
pub use table::{Access, GrantTable, Shareable};
