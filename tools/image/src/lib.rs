//! What `domb` does, as a library.
//!
//! A VM file ([`config`]) becomes a boot spec; several of them with their images are a [`platform`], which can have a file of its own
//! ([`platform_file`]). The platform
//! is packed into db-boot's RAM disk, and together with Xen and db-boot into a bootable disk or
//! the arguments of a [`qemu`] run. Nothing here needs root, and equal inputs give equal bytes.
#![forbid(unsafe_code)]

pub mod builder;
mod channels;
pub mod chart;
pub mod check;
pub mod config;
pub mod disk;
pub mod files;
mod initrd;
pub mod inspect;
pub mod interrupt;
pub mod kernel;
pub mod memory;
pub mod packed;
pub mod platform;
pub mod platform_file;
pub mod qemu;
pub mod report;
pub mod signing;
pub mod source;
pub mod typing;
pub mod xen;
