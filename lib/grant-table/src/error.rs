//! What can go wrong with grants.

use hypercall::{CallError, WindowError};
use thiserror::Error;
use xen_abi::grant_table::status_meaning;
use xen_abi::{DomId, GrantRef, Mfn};

/// A grant that could not be made, taken back or mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum GrantError {
    /// Xen refused the call as a whole.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The table's frame could not be mapped.
    #[error("the grant table: {0}")]
    Window(#[from] WindowError),
    /// Xen refused one operation.
    #[error("{call} of reference {reference} of domain {domain}: {}", status_meaning(*.status))]
    Refused {
        /// The call, by its name in the public headers.
        call: &'static str,
        /// The domain that granted.
        domain: DomId,
        /// The reference.
        reference: GrantRef,
        /// The `GNTST_*` status.
        status: i16,
    },
    /// Every entry of the table is in use.
    #[error(
        "all {entries} references of the grant table are in use; revoke some, or give the table more frames"
    )]
    TableFull {
        /// Entries that the table has beside the reserved ones.
        entries: u32,
    },
    /// The peer has the frame mapped.
    #[error(
        "reference {reference} cannot be revoked: its peer has the frame mapped; ask the peer to unmap it first"
    )]
    InUse {
        /// The reference.
        reference: GrantRef,
    },
    /// The reference was not made by this table, or revoked already.
    #[error("reference {reference} was not granted here, or has been revoked already")]
    NotGranted {
        /// The reference.
        reference: GrantRef,
    },
    /// The reference is not one that is set aside, or it is in use.
    #[error(
        "reference {reference} is not free for a peer that knows it beforehand: those are 0 to 7, each once"
    )]
    NotReserved {
        /// The reference.
        reference: GrantRef,
    },
    /// Entries of version 1 have 32 bits for a frame number.
    #[error(
        "frame {frame} cannot be granted: entries of version 1 hold frame numbers of 32 bits (below 16 TiB)"
    )]
    FrameTooHigh {
        /// The frame.
        frame: Mfn,
    },
}
