//! db-server: VMs on demand.
//!
//! The platform's VMs are built as by db-boot. Some of them, named in the platform file, are *controllers*: each has a channel to
//! db-server, by which it sends images and asks for VMs. [`DbServer`] is the [`Service`](launch::Service) that answers.
//!
//! `session` is a conversation with a controller: bytes in, messages out, and what ends it. `requests` answers what can be answered at
//! once, `build` does the rest a bounded part at a time; `store` keeps images, `permits` says who may have what, `vms` who has what, and `going` what is
//! left of VMs that were destroyed.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod build;
mod failure;
mod going;
mod permits;
mod requests;
mod server;
mod session;
mod store;
mod vms;

pub use server::{DbServer, Pages};
