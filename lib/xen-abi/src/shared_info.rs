//! The page that Xen shares with each domain (public/xen.h, `struct shared_info`).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::assert_layout;

/// vCPUs that have their state in the shared page itself (`XEN_LEGACY_MAX_VCPUS`).
pub const LEGACY_MAX_VCPUS: usize = 32;

/// 64-bit words of the pending and the mask bitmap: 4096 ports with the two-level interface.
pub const EVENT_WORDS: usize = 64;

/// `struct vcpu_time_info`: how to compute time from the TSC.
///
/// Valid when `version` was even and the same before and after reading the rest.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VcpuTimeInfo {
    /// Odd while Xen writes.
    pub version: u32,
    /// Padding.
    pub pad0: u32,
    /// TSC at the last update.
    pub tsc_timestamp: u64,
    /// Nanoseconds since Xen's start at the last update.
    pub system_time: u64,
    /// Multiplier, a fraction of 2^32.
    pub tsc_to_system_mul: u32,
    /// Shift to apply before the multiplier; negative shifts right.
    pub tsc_shift: i8,
    /// `XEN_PVCLOCK_*` bits.
    pub flags: u8,
    /// Padding.
    pub pad1: [u8; 2],
}

/// `struct vcpu_info`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VcpuInfo {
    /// Non-zero when an event is pending.
    pub evtchn_upcall_pending: u8,
    /// Non-zero when the vCPU does not want upcalls.
    pub evtchn_upcall_mask: u8,
    /// Padding.
    pub pad0: [u8; 6],
    /// Bit n is set when word n of the pending bitmap has news.
    pub evtchn_pending_sel: u64,
    /// Address of the last page fault.
    pub cr2: u64,
    /// Padding.
    pub pad1: u64,
    /// Clock.
    pub time: VcpuTimeInfo,
}

/// `struct arch_shared_info` for x86-64.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ArchSharedInfo {
    /// Entries of the p2m tables.
    pub max_pfn: u64,
    /// MFN of the list of lists of p2m frames.
    pub pfn_to_mfn_frame_list_list: u64,
    /// Reason of the last NMI.
    pub nmi_reason: u64,
    /// Root of the address space in which `p2m_vaddr` is valid.
    pub p2m_cr3: u64,
    /// Virtual address of the linear p2m list.
    pub p2m_vaddr: u64,
    /// Odd while the guest changes its p2m list.
    pub p2m_generation: u64,
}

/// `struct shared_info` for x86-64.
#[derive(Clone, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SharedInfo {
    /// State of the first vCPUs.
    pub vcpu_info: [VcpuInfo; LEGACY_MAX_VCPUS],
    /// Pending bitmap of the two-level event interface.
    pub evtchn_pending: [u64; EVENT_WORDS],
    /// Mask bitmap of the two-level event interface.
    pub evtchn_mask: [u64; EVENT_WORDS],
    /// Odd while Xen writes the wall clock.
    pub wc_version: u32,
    /// Seconds since 1970 at system time 0, low word.
    pub wc_sec: u32,
    /// Nanoseconds to add.
    pub wc_nsec: u32,
    /// Seconds, high word.
    pub wc_sec_hi: u32,
    /// The architecture's part.
    pub arch: ArchSharedInfo,
}

assert_layout!(VcpuTimeInfo, size = 32, tsc_timestamp @ 8, system_time @ 16, tsc_to_system_mul @ 24, tsc_shift @ 28, flags @ 29);
assert_layout!(VcpuInfo, size = 64, evtchn_upcall_mask @ 1, evtchn_pending_sel @ 8, cr2 @ 16, time @ 32);
assert_layout!(SharedInfo, size = 3136, evtchn_pending @ 2048, evtchn_mask @ 2560, wc_version @ 3072, wc_sec_hi @ 3084, arch @ 3088);
