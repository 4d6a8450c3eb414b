//! Messages between domains: what db-server and the control domain are asked, and what they answer.
//!
//! They travel over any stream of bytes, such as a channel of `lib/vchan`. Each is a header of [`HEADER_LEN`] bytes and a body, both
//! bounded; [`Stream`] puts them together from whatever pieces arrive. A request carries a number of the asker's choice, its
//! answer the same number, so that many can be under way; notices, which nobody asked for at that moment, carry 0.
//!
//! `docs/protocols.md` is the specification, with everything that a client in another language needs.

mod bytes;
mod control;
mod failure;
mod frame;
mod server;

use alloc::string::String;
use alloc::vec::Vec;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use control::{
    ControlNotice, ControlReply, ControlRequest, ControlVm, JournalEntry, JournalLevel, Measurement,
};
pub use failure::{Failure, MessageError, Reason};
pub use frame::{Frame, HEADER_LEN, Kind, MAGIC, MAX_BODY_LEN, Stream, VERSION};
pub use server::{
    BuildRequest, Built, EndReason, Facts, ImageSource, Quota, RingPlace, ServerNotice, ServerReply,
    ServerRequest, VmEntry, VmState,
};

use crate::digest::Digest;
use crate::spec::{self, check_name};

/// The most bytes of an image in one message.
pub const MAX_CHUNK_LEN: usize = 32 << 10;
/// The most entries of a list in one message; the rest is asked for with another request.
pub const MAX_ENTRIES: usize = 256;
/// The most entries of the control domain's journal in one message: as many of the longest fit.
pub const MAX_JOURNAL_ENTRIES: usize = 48;
/// The longest explanation or label in bytes.
pub const MAX_TEXT_LEN: usize = 1024;
/// The longest encoded boot spec in bytes.
pub const MAX_SPEC_LEN: usize = spec::HEADER_LEN + spec::MAX_BODY_LEN;
/// The most VMs of a platform that is created by one message.
pub const MAX_PLATFORM_VMS: usize = 64;

/// A kind of message.
pub trait Message: Serialize + DeserializeOwned {
    /// The kind in the header.
    const KIND: Kind;

    /// Checks what the types alone do not.
    fn validate(&self) -> Result<(), MessageError>;
}

/// The bytes of a message; one that is not valid is not encoded.
///
/// `id` is the number of the request that it is or answers, and 0 in a notice.
pub fn encode<M: Message>(id: u32, message: &M) -> Result<Vec<u8>, MessageError> {
    message.validate()?;
    frame::encode(M::KIND, id, message)
}

impl Frame {
    /// Reads the body. Total: any bytes give a message that is valid, or an error.
    pub fn decode<M: Message>(&self) -> Result<M, MessageError> {
        if self.kind != M::KIND {
            return Err(MessageError::OtherKind { found: self.kind, wanted: M::KIND });
        }
        let bad = |cause| MessageError::BadBody { kind: self.kind, length: self.body.len(), cause };
        let (message, rest) = postcard::take_from_bytes::<M>(&self.body).map_err(bad)?;
        if !rest.is_empty() {
            return Err(MessageError::TrailingBytes { kind: self.kind, count: rest.len() });
        }
        message.validate()?;
        if !frame::is_encoding(&message, &self.body) {
            return Err(MessageError::NotCanonical { kind: self.kind });
        }
        Ok(message)
    }
}

/// Checks the length of something in bytes or entries.
fn check_len(what: &'static str, length: usize, most: usize) -> Result<(), MessageError> {
    if length > most { Err(MessageError::TooLong { what, length, most }) } else { Ok(()) }
}

/// Checks the name of a VM, a platform or a program.
fn check_names<'n>(names: impl IntoIterator<Item = &'n String>) -> Result<(), MessageError> {
    names.into_iter().try_for_each(|name| check_name(name).map_err(MessageError::Spec))
}

/// Checks the length of an encoded boot spec. Whether it is one is for the receiver to find out, whose answer says what is wrong
/// with it: a spec of another release is no reason to end the channel.
fn check_spec(spec: &[u8]) -> Result<(), MessageError> {
    check_len("a boot spec", spec.len(), MAX_SPEC_LEN)
}
