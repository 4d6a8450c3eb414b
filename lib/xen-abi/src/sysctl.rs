//! Facts about the machine (public/sysctl.h): a tools interface whose layout changes between releases.

use bitflags::bitflags;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::cpu_policy::XEN_SYSCTL_GET_CPU_POLICY;
use crate::scheduling::XEN_SYSCTL_CPUPOOL_OP;
use crate::{PageCount, assert_layout};

/// Version of the sysctl interface (`XEN_SYSCTL_INTERFACE_VERSION`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SysctlVersion(u32);

impl SysctlVersion {
    /// Xen 4.14.
    pub const OLDEST: Self = Self(0x13);
    /// Xen 4.21 and later.
    pub const NEWEST: Self = Self(0x16);

    /// Every version that this crate has layouts for, newest first: the order in which to probe.
    pub fn known() -> impl Iterator<Item = Self> {
        (Self::OLDEST.0..=Self::NEWEST.0).rev().map(Self)
    }

    /// The raw number, if this crate has layouts for it.
    pub fn from_raw(raw: u32) -> Option<Self> {
        (Self::OLDEST.0..=Self::NEWEST.0).contains(&raw).then_some(Self(raw))
    }

    /// The raw number for the header of a call.
    pub const fn raw(self) -> u32 {
        self.0
    }

    /// Offset of `total_pages` in `struct xen_sysctl_physinfo`: 0x15 put `arch_capabilities` and padding before it.
    pub const fn physinfo_pages_offset(self) -> usize {
        if self.0 >= 0x15 { 40 } else { 32 }
    }
}

impl core::fmt::Display for SysctlVersion {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// `XEN_SYSCTL_readconsole`, argument [`ReadConsole`].
pub const XEN_SYSCTL_READCONSOLE: u32 = 1;

/// `struct xen_sysctl_readconsole`: a look at the ring in which Xen keeps what it has written to its console.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ReadConsole {
    /// IN: not 0 takes what is read out of the ring.
    pub clear: u8,
    /// IN: not 0 begins at `index` instead of the oldest byte.
    pub incremental: u8,
    /// Padding.
    pub pad: [u8; 2],
    /// IN: where to begin, counted in bytes since Xen started, modulo 2^32; OUT: behind the last byte that was read.
    pub index: u32,
    /// IN: address of the buffer.
    pub buffer: u64,
    /// IN: bytes of the buffer; OUT: bytes that were read.
    pub count: u32,
    /// Padding of ours.
    pub pad_end: u32,
}

assert_layout!(ReadConsole, size = 24, incremental @ 1, index @ 4, buffer @ 8, count @ 16);

/// `XEN_SYSCTL_physinfo`.
pub const XEN_SYSCTL_PHYSINFO: u32 = 3;

/// `XEN_SYSCTL_getdomaininfolist`, argument [`DomainInfoList`].
pub const XEN_SYSCTL_GETDOMAININFOLIST: u32 = 6;

/// `struct xen_sysctl_getdomaininfolist`: the domains that there are, by identifier.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DomainInfoList {
    /// IN: the least identifier to tell of.
    pub first_domain: u16,
    /// Padding.
    pub pad: u16,
    /// IN: how many entries the buffer has room for.
    pub max_domains: u32,
    /// IN: address of the buffer, whose entries have [`DomctlVersion::domain_info_size`](crate::domctl::DomctlVersion::domain_info_size)
    /// bytes each.
    pub buffer: u64,
    /// OUT: how many entries Xen has filled.
    pub num_domains: u32,
    /// Padding of ours.
    pub pad_end: u32,
}

assert_layout!(DomainInfoList, size = 24, max_domains @ 4, buffer @ 8, num_domains @ 16);

/// The header's name of a command, for traces and messages.
pub const fn name(command: u32) -> &'static str {
    match command {
        XEN_SYSCTL_PHYSINFO => "XEN_SYSCTL_physinfo",
        XEN_SYSCTL_READCONSOLE => "XEN_SYSCTL_readconsole",
        XEN_SYSCTL_GETDOMAININFOLIST => "XEN_SYSCTL_getdomaininfolist",
        XEN_SYSCTL_CPUPOOL_OP => "XEN_SYSCTL_cpupool_op",
        XEN_SYSCTL_GET_CPU_POLICY => "XEN_SYSCTL_get_cpu_policy",
        _ => "sysctl",
    }
}

/// Offset of `capabilities` in `struct xen_sysctl_physinfo`, the same in every version.
pub const PHYSINFO_CAPABILITIES_OFFSET: usize = 28;

bitflags! {
    /// `XEN_SYSCTL_PHYSCAP_*`: what this Xen can do on this machine.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Capabilities: u32 {
        /// Hardware-assisted guests: Xen is built for them, and the machine has VT-x or AMD-V.
        const HVM = 1 << 0;
        /// PV guests.
        const PV = 1 << 1;
        /// Nested paging for hardware-assisted guests.
        const HAP = 1 << 3;
        /// Shadow paging, which Xen is built with or not.
        const SHADOW = 1 << 4;
        /// Whatever else a Xen tells.
        const _ = !0;
    }
}

impl Capabilities {
    /// Reads the answer of a physinfo call.
    pub fn decode(payload: &[u8; PAYLOAD]) -> Self {
        let bytes = payload.get(PHYSINFO_CAPABILITIES_OFFSET..).and_then(|bytes| bytes.first_chunk::<4>());
        Self::from_bits_retain(bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes)))
    }
}

/// Bytes of the payload of every sysctl.
pub const PAYLOAD: usize = 128;

/// `struct xen_sysctl`.
#[derive(Clone, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(8))]
pub struct Sysctl {
    /// Command number.
    pub cmd: u32,
    /// [`SysctlVersion`] number.
    pub interface_version: u32,
    /// The command's own structure, zero padded.
    pub payload: [u8; PAYLOAD],
}

assert_layout!(Sysctl, size = 136, payload @ 8);

/// Memory of the machine, from `struct xen_sysctl_physinfo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MachineMemory {
    /// All pages that Xen manages.
    pub total: PageCount,
    /// Pages that no domain has.
    pub free: PageCount,
    /// Of the free ones, pages that are still to be scrubbed.
    pub scrub: PageCount,
    /// Pages that domains have claimed and not got yet.
    pub outstanding: PageCount,
}

impl MachineMemory {
    /// Reads the answer of a physinfo call in the layout of `version`.
    pub fn decode(payload: &[u8; PAYLOAD], version: SysctlVersion) -> Option<Self> {
        let (counts, _) =
            <[u64; 4]>::read_from_prefix(payload.get(version.physinfo_pages_offset()..)?).ok()?;
        let [total, free, scrub, outstanding] = counts.map(PageCount::new);
        Some(Self { total, free, scrub, outstanding })
    }
}
