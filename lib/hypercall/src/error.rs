//! What a call to Xen answers when it does not succeed.

use thiserror::Error;
use xen_abi::{DomId, Errno, Mfn};

/// A hypercall that Xen refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{call} for domain {domain}: {errno}")]
pub struct CallError {
    /// The call, by its name in the public headers.
    pub call: &'static str,
    /// The domain that the call was about.
    pub domain: DomId,
    /// What Xen answered.
    pub errno: Errno,
}

/// Frames that could not be mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WindowError {
    /// Xen refused to map one of the frames.
    #[error(
        "mapping frame {frame} of domain {domain} ({done} of {wanted} frames were mapped): {errno}; \
         the frame has to belong to that domain, and to be mapped writable it must not be a page table"
    )]
    Refused {
        /// Who is said to own the frames.
        domain: DomId,
        /// The first frame that was refused.
        frame: Mfn,
        /// Frames mapped before it.
        done: usize,
        /// Frames in the request.
        wanted: usize,
        /// What Xen answered.
        errno: Errno,
    },
    /// The request does not fit the window.
    #[error("a window of {capacity} frames cannot map {wanted} at once")]
    TooMany {
        /// Frames in the request.
        wanted: usize,
        /// Frames the window has.
        capacity: usize,
    },
    /// The frames are the calling domain's own, which a safe call must not give a second address.
    #[error("the calling domain's own frames are not mapped a second time: name the domain they belong to")]
    Own,
    /// There is no address space left for frames that stay mapped.
    #[error(
        "no address space left to keep {wanted} more frames mapped; the runtime reserves room for {capacity}"
    )]
    Exhausted {
        /// Frames in the request.
        wanted: usize,
        /// Frames that can stay mapped at once.
        capacity: usize,
    },
}
