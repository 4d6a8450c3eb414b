//! What a platform of VMs is and how it lives, whoever builds it: db-boot itself, or the control domain, which asks db-server.
//!
//! [`Specs`] reads the platform spec and the boot specs of a RAM disk. [`Ending`] is how a VM ended and what its spec wants then,
//! [`Row`] knows when it comes back, [`StartOrder`] which VMs may start now, [`is_over`] when nothing is left to look after.
//!
//! Pure code over values: no clock of its own, no hypercall.
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

extern crate alloc;

mod ending;
mod ends;
mod order;
mod restart;
mod specs;

pub use ending::Ending;
pub use ends::is_over;
pub use order::StartOrder;
pub use restart::Row;
pub use specs::{ReadError, SpecFailure, SpecFault, Specs};
