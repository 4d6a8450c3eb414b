//! The releases of Xen that can be simulated, and in what they differ.

use core::fmt;

use hypercall::XenVersion;
use xen_abi::DomId;

/// A release of Xen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the release's own number")]
pub enum Release {
    V4_14,
    V4_15,
    V4_16,
    V4_17,
    V4_18,
    V4_19,
    V4_20,
    V4_21,
    V4_22,
    V4_23,
}

impl Release {
    /// Every release, oldest first.
    pub const ALL: [Self; 10] = [
        Self::V4_14,
        Self::V4_15,
        Self::V4_16,
        Self::V4_17,
        Self::V4_18,
        Self::V4_19,
        Self::V4_20,
        Self::V4_21,
        Self::V4_22,
        Self::V4_23,
    ];

    /// The release's number.
    pub fn version(self) -> XenVersion {
        XenVersion { major: 4, minor: 14 + self as u16 }
    }

    /// `XEN_DOMCTL_INTERFACE_VERSION`.
    pub fn domctl(self) -> u32 {
        match self {
            Self::V4_14 => 0x12,
            Self::V4_15 => 0x13,
            Self::V4_16 => 0x14,
            Self::V4_17 => 0x15,
            Self::V4_18 => 0x16,
            Self::V4_19 | Self::V4_20 | Self::V4_21 => 0x17,
            Self::V4_22 | Self::V4_23 => 0x18,
        }
    }

    /// `XEN_SYSCTL_INTERFACE_VERSION`.
    pub fn sysctl(self) -> u32 {
        match self {
            Self::V4_14 | Self::V4_15 => 0x13,
            Self::V4_16 => 0x14,
            Self::V4_17 | Self::V4_18 | Self::V4_19 | Self::V4_20 => 0x15,
            Self::V4_21 | Self::V4_22 | Self::V4_23 => 0x16,
        }
    }

    /// Flag bits that a create call may carry.
    pub(crate) fn create_flags(self) -> u32 {
        match self {
            Self::V4_14 => 0x3f,
            Self::V4_15 => 0x7f,
            Self::V4_16 | Self::V4_17 | Self::V4_18 | Self::V4_19 | Self::V4_20 => 0xff,
            Self::V4_21 | Self::V4_22 | Self::V4_23 => 0x1ff,
        }
    }

    /// Whether a domain that takes shadow paging is refused before anything is made of it, where Xen is built without it.
    pub(crate) fn checks_shadow_early(self) -> bool {
        self >= Self::V4_22
    }

    /// Whether `domid` in a create call asks Xen to choose the identifier.
    pub(crate) fn chooses_domid(self, domid: DomId) -> bool {
        if self >= Self::V4_22 { domid == DomId::ANY } else { domid.raw() == 0 || !domid.is_ordinary() }
    }

    /// Whether the identifier of a domain that Xen refuses to create stays taken until the machine is reset. (Seen on 4.21, 4.22 and
    /// the tree that becomes 4.23; not on 4.20.)
    pub(crate) fn loses_refused_domids(self) -> bool {
        self >= Self::V4_21
    }

    /// Whether getdomaininfo finds only the very domain asked for. Older releases answer with the next one that exists, and
    /// call identifiers that no domain can have invalid. (Seen on 4.18; not on 4.17.)
    pub(crate) fn finds_exactly(self) -> bool {
        self >= Self::V4_18
    }

    /// Whether a caller that may not control domains is told EPERM, not ESRCH, of a domain that there is not. (Seen on the tree that
    /// becomes 4.23, and read in the source of 4.22; that of 4.21 has not got it.)
    pub(crate) fn hides_unknown_domains(self) -> bool {
        self >= Self::V4_22
    }

    /// Whether a debug register wider than 32 bits is refused in DR6 and DR7. (Seen on 4.18; not on 4.17.)
    pub(crate) fn checks_debug_registers(self) -> bool {
        self >= Self::V4_18
    }

    /// Whether a grant table may be allowed more frames than Xen's own default. (Seen on 4.18; not on 4.17.)
    pub(crate) fn allows_large_grant_tables(self) -> bool {
        self >= Self::V4_18
    }

    /// Whether S3 integrity may be asked for on a machine without trusted boot. (Seen on 4.16; not on 4.17.)
    pub(crate) fn ignores_s3_integrity(self) -> bool {
        self < Self::V4_17
    }

    /// Whether a poll takes ports that are not open. (Seen on 4.14; not on 4.15.)
    pub(crate) fn polls_closed_ports(self) -> bool {
        self < Self::V4_15
    }

    /// Whether `XEN_DOMCTL_set_paging_mempool_size` exists.
    pub(crate) fn has_paging_mempool(self) -> bool {
        self >= Self::V4_17
    }

    /// Whether a global virtual interrupt may be bound only by the domain that handles it.
    pub(crate) fn guards_global_virqs(self) -> bool {
        self >= Self::V4_21
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.version().fmt(f)
    }
}
