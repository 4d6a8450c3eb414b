//! The builder's RAM disk: a CPIO archive, read strictly, written deterministically.
//!
//! db-boot finds its guests' specs and images in one archive that Xen hands over as a module. Nothing about that
//! archive may be trusted, and nothing in it may be lost silently: an archive is either understood to its last byte
//! or refused with an error that names the entry, the offset and the way out.
//!
//! * [`Archive::parse`] reads the three ASCII formats that people make: `newc` (magic 070701), `crc` (070702) and
//!   `odc` (070707), single or concatenated as Linux allows. Data is borrowed from the input, never copied.
//! * [`Writer`] writes `newc` with every field that could differ between two runs fixed.
//!
//! Decoding is done by the crate `cpio_reader`. It answers a corrupt header by ending its iteration, exactly as if
//! the archive were complete, so this crate frames every entry itself (see `frame.rs`), hands the decoder one framed entry at
//! a time, and treats silence as an error.
//!
//! ```
//! let mut writer = ramdisk::Writer::new();
//! writer.file("vms/hello.spec", b"spec")?;
//! let bytes = writer.finish();
//!
//! let archive = ramdisk::Archive::parse(&bytes)?;
//! assert_eq!(archive.file("vms/hello.spec")?, b"spec");
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

extern crate alloc;

mod archive;
mod error;
mod frame;
mod kind;
mod lookalike;
mod name;
mod near;
mod writer;

pub use archive::{Archive, Entry};
pub use error::{NameFault, RamdiskError};
pub use frame::Format;
pub use kind::Kind;
pub use lookalike::Lookalike;
pub use writer::{Item, Sink, Writer, WriterError};

/// Most entries an archive may have, over all concatenated parts.
///
/// The index costs less than 100 bytes an entry, so this bounds it to about 1.5 MiB of the builder's heap. A platform
/// of a thousand VMs with four files each uses a quarter of it; a guest's own root file system belongs into the
/// guest's RAM disk, which is one opaque file here.
pub const MAX_ENTRIES: usize = 16_384;

/// Longest name in bytes, its terminating NUL included: Linux's `PATH_MAX`, beyond which Linux refuses it too.
pub const MAX_NAME_SIZE: usize = 4096;

/// The name that ends an archive.
const TRAILER: &str = "TRAILER!!!";
