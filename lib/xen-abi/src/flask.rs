//! Security labels of Xen's FLASK policy (public/xsm/flask_op.h).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::assert_layout;

/// `XEN_FLASK_INTERFACE_VERSION`.
pub const FLASK_INTERFACE_VERSION: u32 = 1;
/// `FLASK_GETENFORCE`: 1 when the policy is enforced, 0 when it is only logged what it would refuse. No argument.
pub const FLASK_GETENFORCE: u32 = 2;
/// `FLASK_CONTEXT_TO_SID`, argument [`SidContext`].
pub const FLASK_CONTEXT_TO_SID: u32 = 4;
/// `FLASK_SID_TO_CONTEXT`, argument [`SidContext`].
pub const FLASK_SID_TO_CONTEXT: u32 = 5;
/// `FLASK_RELABEL_DOMAIN`, argument [`Relabel`].
pub const FLASK_RELABEL_DOMAIN: u32 = 24;

/// The number of the label that Xen's tools give domains without one of their own (`SECINITSID_DOMU`), up to Xen 4.16; since then it is
/// one higher. It is the place of `domU` in Xen's list of initial labels, whatever a policy calls it.
const DOMU_BEFORE_4_17: u32 = 11;

/// The number of the label for domains that nobody gave one, in Xen `major`.`minor`.
pub const fn domu_sid(major: u16, minor: u16) -> u32 {
    let since_4_17 = major > 4 || (major == 4 && minor >= 17);
    if since_4_17 { DOMU_BEFORE_4_17.saturating_add(1) } else { DOMU_BEFORE_4_17 }
}

/// Bytes of the argument of every operation.
pub const PAYLOAD: usize = 32;

/// `struct xen_flask_op`.
#[derive(Clone, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(8))]
pub struct FlaskOp {
    /// IN: `FLASK_*`.
    pub cmd: u32,
    /// IN: [`FLASK_INTERFACE_VERSION`].
    pub interface_version: u32,
    /// The operation's own structure, zero padded.
    pub payload: [u8; PAYLOAD],
}

assert_layout!(FlaskOp, size = 40, interface_version @ 4, payload @ 8);

/// `struct xen_flask_sid_context`: a label as a number and as a text.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SidContext {
    /// The number; OUT of [`FLASK_CONTEXT_TO_SID`].
    pub sid: u32,
    /// IN: bytes of the text, or of the room for it. OUT: bytes that the text has, with a NUL behind it.
    pub size: u32,
    /// Address of the text, or of the room for it.
    pub context: u64,
}

assert_layout!(SidContext, size = 16, size @ 4, context @ 8);

/// `struct xen_flask_relabel`: gives a domain another label.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Relabel {
    /// IN: the domain.
    pub domid: u32,
    /// IN: the number of its new label.
    pub sid: u32,
}

assert_layout!(Relabel, size = 8, sid @ 4);

impl FlaskOp {
    /// An operation with `argument` as its argument.
    pub fn new<T: IntoBytes + Immutable>(cmd: u32, argument: &T) -> Self {
        const { assert!(size_of::<T>() <= PAYLOAD) };
        let mut payload = [0; PAYLOAD];
        for (to, from) in payload.iter_mut().zip(argument.as_bytes()) {
            *to = *from;
        }
        Self { cmd, interface_version: FLASK_INTERFACE_VERSION, payload }
    }
}

/// The header's name of an operation, for traces and messages.
pub const fn name(cmd: u32) -> &'static str {
    match cmd {
        FLASK_GETENFORCE => "FLASK_GETENFORCE",
        FLASK_CONTEXT_TO_SID => "FLASK_CONTEXT_TO_SID",
        FLASK_SID_TO_CONTEXT => "FLASK_SID_TO_CONTEXT",
        FLASK_RELABEL_DOMAIN => "FLASK_RELABEL_DOMAIN",
        _ => "xsm_op",
    }
}
