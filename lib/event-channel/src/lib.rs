//! Event channels: how domains, and Xen, wake each other.
//!
//! A port is one end of a channel. [`LocalPort`] owns an end of the calling domain and closes it when it is dropped;
//! [`Offer`] is an end that another domain holds and that the caller, or a third domain, may connect to. What arrived is
//! seen in the two bitmaps of the shared info page, which [`EventWords`] reads and clears; [`wait`] sleeps until there is
//! something to see.
//!
//! Nothing here needs upcalls: they can stay masked for good.
#![no_std]

mod port;
mod wait;
mod words;

pub use port::{LocalPort, Offer};
pub use wait::{SLICE, wait};
pub use words::{EventWords, pending_ports};
