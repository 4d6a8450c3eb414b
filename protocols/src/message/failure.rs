//! What goes wrong: with a request (which is an answer), and with a message itself (which ends the channel).

use alloc::string::String;
use core::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Kind, MAGIC, MAX_BODY_LEN, MAX_TEXT_LEN, VERSION, check_len};
use crate::SpecError;

/// Why a request was refused. The order of the variants is the wire format: additions go last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// No version of the protocol is spoken by both.
    Version,
    /// There was no hello before.
    NoHello,
    /// The asker may not do this.
    NotPermitted,
    /// It would be more than the asker may have.
    OverQuota,
    /// There is no such VM, or it is not the asker's.
    NoSuchVm,
    /// There is no such image in the store or in the RAM disk.
    NoSuchImage,
    /// The bytes of an image are not those that its digest is of.
    WrongDigest,
    /// A part of an image does not follow the one before, or goes beyond its size.
    WrongOffset,
    /// The boot spec cannot be used.
    BadSpec,
    /// The kernel cannot be used.
    BadKernel,
    /// There is not enough memory in the machine or in the store.
    OutOfMemory,
    /// Xen refused a call.
    Xen,
    /// The VM or the platform is not in a state in which this can be done.
    WrongState,
    /// Too many requests of the asker are under way.
    Busy,
    /// The name or the domain id is taken.
    Taken,
}

/// A request that was refused, or that failed; nothing of it is left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Error)]
#[error("{detail}")]
pub struct Failure {
    /// What a program goes by.
    pub reason: Reason,
    /// What a person goes by: operation, subject, cause and remedy, at most [`MAX_TEXT_LEN`] bytes.
    pub detail: String,
}

impl Failure {
    pub(super) fn validate(&self) -> Result<(), MessageError> {
        check_len("the detail of a failure", self.detail.len(), MAX_TEXT_LEN)
    }
}

/// Why bytes are not a message, or a message cannot be sent.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MessageError {
    /// The first four bytes are not [`MAGIC`].
    #[error(
        "message: starts with {found:02x?}, not with {:02x?}: the peer speaks another protocol, or lost its place",
        MAGIC
    )]
    BadMagic {
        /// The bytes found.
        found: [u8; 4],
    },
    /// A version that this program does not read.
    #[error("message: version {found}, this program reads version {VERSION}; hello settles the version")]
    UnknownVersion {
        /// The version in the header.
        found: u16,
    },
    /// A kind that there is not.
    #[error("message: kind {found} does not exist in version {VERSION}")]
    UnknownKind {
        /// The kind in the header.
        found: u16,
    },
    /// A kind that the receiver does not expect from this peer.
    #[error("message: a {found}, where only a {wanted} may come")]
    OtherKind {
        /// The kind in the header.
        found: Kind,
        /// The one that may come.
        wanted: Kind,
    },
    /// A notice with the number of a request.
    #[error("message: a {kind} with the number {id}: a notice answers no request, its number is 0")]
    NumberedNotice {
        /// The kind in the header.
        kind: Kind,
        /// The number in the header.
        id: u32,
    },
    /// A body that is longer than any message's.
    #[error("message: a body of {length} bytes, at most {MAX_BODY_LEN} are allowed")]
    BodyTooLong {
        /// The length in the header, or that encoding would need.
        length: usize,
    },
    /// The body does not decode.
    #[error("message: the {length} bytes of a {kind} do not decode ({cause})")]
    BadBody {
        /// The kind.
        kind: Kind,
        /// Length of the body in bytes.
        length: usize,
        /// What the decoder says.
        cause: postcard::Error,
    },
    /// Bytes follow in the body.
    #[error("message: {count} bytes follow the end of a {kind} in its body")]
    TrailingBytes {
        /// The kind.
        kind: Kind,
        /// How many.
        count: usize,
    },
    /// The body decodes, but a shorter encoding of the same exists.
    #[error("message: the body of a {kind} is not in its shortest form")]
    NotCanonical {
        /// The kind.
        kind: Kind,
    },
    /// Something is longer than allowed.
    #[error("message: {what} of {length}, at most {most} are allowed")]
    TooLong {
        /// What it is.
        what: &'static str,
        /// Bytes or entries.
        length: usize,
        /// The most that are allowed.
        most: usize,
    },
    /// A boot spec or a name within the message is not valid.
    #[error("message: {0}")]
    Spec(SpecError),
    /// A body could not be encoded. Cannot happen for a valid message.
    #[error("message: cannot be encoded ({cause})")]
    Encode {
        /// What the encoder says.
        cause: postcard::Error,
    },
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ServerRequest => "request to db-server",
            Self::ServerReply => "reply of db-server",
            Self::ServerNotice => "notice of db-server",
            Self::ControlRequest => "request to the control domain",
            Self::ControlReply => "reply of the control domain",
            Self::ControlNotice => "notice of the control domain",
        })
    }
}
