//! Kernels as files: what is in them, and what Xen's tools would make of it.
//!
//! The way from a file to a guest's start has three steps, each a value of its own:
//!
//! 1. [`unwrap`] takes whatever people call a kernel (an ELF file, a compressed ELF file, Linux's bzImage in every
//!    compression in [`Compression`]) and yields the ELF bytes, never more of them than the caller allows.
//! 2. [`KernelImage::parse`] reads the ELF: the segments to load and the Xen notes ([`XenNotes`]), from note
//!    segments, note sections or the old `__xen_guest` section, in the order in which Xen's libelf looks for them.
//! 3. [`KernelImage::layout`] yields the addresses a PV guest starts with ([`PvLayout`]), by libelf's rules.
//!
//! Kernels are hostile input. Every size is compared with what is there before it is used, every sum is checked,
//! allocation follows only after the size it needs was found within the limit, and a kernel that cannot be started
//! is refused with the numbers that are wrong and what would help.
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

extern crate alloc;

mod archive;
mod bytes;
mod bzimage;
mod cost;
mod decompress;
mod elf;
mod error;
mod features;
mod format;
mod guest_section;
mod layout;
mod notes;
mod symbols;

pub use archive::{MAX_PADDING, PackedArchive};
pub use cost::UnpackingCost;
pub use elf::{KernelImage, Segment};
pub use error::ImageError;
pub use features::Features;
pub use format::{Compression, Format, Unpacking, Unwrapped, unwrap};
pub use layout::{AddressSize, PvLayout};
pub use notes::{MfnValid, NoteSource, Phys32Reloc, XenNotes};
pub use symbols::Symbols;

/// Most program headers read from one kernel. Linux has five or six, the largest of other systems about a dozen.
pub const MAX_PROGRAM_HEADERS: usize = 256;

/// Most section headers looked at. A kernel built with one section for each function has tens of thousands.
pub const MAX_SECTION_HEADERS: usize = 65_536;

/// Most notes read from one kernel: ten times as many as the largest kernel seen, a small part of what libelf takes.
pub const MAX_NOTES: usize = 1024;

/// Longest text of a note in bytes, libelf's bound.
pub const MAX_NOTE_TEXT: usize = 4096;
