//! The wire formats of the project.
//!
//! Whatever one of our programs writes and another reads is defined here and nowhere else: the boot spec
//! that `domb` compiles and db-boot reads from its RAM disk ([`spec`], [`life`], [`channel`], [`settings`], [`store`] and [`module`] as parts of it, and [`order`]
//! over several), the platform spec over all of them ([`platform`], with [`server`] as a part of it), what only the
//! control domain is told ([`control`]), the names they have there ([`archive`]), the manifest that such a
//! RAM disk is signed with ([`manifest`]), the note in db-boot's file about the key that it requires ([`trust_note`]), the byte with
//! which db-boot ends the machine ([`status`]), and the messages that db-server and
//! the control domain exchange with others ([`message`]).
//!
//! Every format starts with a magic and a version, has a named bound for everything that has a length, and
//! decodes totally: any sequence of bytes gives a valid value or an error, never a panic. The tests pin the
//! bytes, so that a change of a type that would change the wire fails before it is released.
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

extern crate alloc;

pub mod archive;
pub mod channel;
pub mod control;
pub mod digest;
pub mod header;
mod kind;
pub mod life;
mod limits;
pub mod manifest;
pub mod message;
pub mod module;
mod names;
pub mod order;
pub mod platform;
pub mod server;
pub mod settings;
pub mod spec;
mod spec_error;
pub mod status;
pub mod store;
pub mod trust_note;

pub use channel::Channels;
pub use digest::Digest;
pub use life::Life;
pub use manifest::{FileRecord, Manifest, ManifestError, ManifestSignature};
pub use platform::PlatformSpec;
pub use server::ServerSpec;
pub use settings::{Settings, SettingsError};
pub use spec::{BootSpec, ExitAction, GuestKind, SpecError};
pub use status::MachineStatus;
pub use store::StoreRole;
