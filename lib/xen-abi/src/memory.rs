//! Memory of domains (public/memory.h).

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::assert_layout;

/// `XENMEM_maximum_ram_page`: result is the highest MFN of the machine.
pub const XENMEM_MAXIMUM_RAM_PAGE: u32 = 2;
/// `XENMEM_decrease_reservation`, argument [`Reservation`].
pub const XENMEM_DECREASE_RESERVATION: u32 = 1;
/// `XENMEM_current_reservation`, argument a domid; result is the pages it has.
pub const XENMEM_CURRENT_RESERVATION: u32 = 3;
/// `XENMEM_populate_physmap`, argument [`Reservation`].
pub const XENMEM_POPULATE_PHYSMAP: u32 = 6;
/// `XENMEM_machphys_mapping`, argument [`MachphysMapping`].
pub const XENMEM_MACHPHYS_MAPPING: u32 = 12;
/// `XENMEM_set_memory_map`, argument [`ForeignMemoryMap`].
pub const XENMEM_SET_MEMORY_MAP: u32 = 13;
/// `XENMEM_claim_pages`, argument [`Reservation`] with one extent list of no address.
pub const XENMEM_CLAIM_PAGES: u32 = 24;
/// `XENMEM_acquire_resource`, argument [`AcquireResource`].
pub const XENMEM_ACQUIRE_RESOURCE: u32 = 28;

/// `XENMEM_resource_grant_table` of [`AcquireResource::resource_type`].
pub const RESOURCE_GRANT_TABLE: u32 = 1;

/// Largest extent that a domain may ask for which controls others: 2^18 pages, 1 GiB (`CONFIG_CTLDOM_MAX_ORDER`).
pub const CONTROL_DOMAIN_MAX_ORDER: u32 = 18;

/// Bits of the sub-operation in a memory operation; above them Xen keeps where to continue.
pub const MEMOP_CMD_MASK: u32 = (1 << 6) - 1;

/// Name of a memory operation in the header, for messages.
pub const fn name(op: u32) -> &'static str {
    match op {
        XENMEM_MAXIMUM_RAM_PAGE => "XENMEM_maximum_ram_page",
        XENMEM_DECREASE_RESERVATION => "XENMEM_decrease_reservation",
        XENMEM_CURRENT_RESERVATION => "XENMEM_current_reservation",
        XENMEM_POPULATE_PHYSMAP => "XENMEM_populate_physmap",
        XENMEM_MACHPHYS_MAPPING => "XENMEM_machphys_mapping",
        XENMEM_SET_MEMORY_MAP => "XENMEM_set_memory_map",
        XENMEM_CLAIM_PAGES => "XENMEM_claim_pages",
        XENMEM_ACQUIRE_RESOURCE => "XENMEM_acquire_resource",
        _ => "unknown XENMEM",
    }
}

/// `struct xen_memory_reservation`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Reservation {
    /// IN: address of a list of `u64`: first PFN of each extent. OUT, PV domains: first MFN of each extent.
    pub extent_start: u64,
    /// IN: number of extents.
    pub nr_extents: u64,
    /// IN: log2 of the pages in an extent.
    pub extent_order: u32,
    /// IN: `XENMEMF_*`.
    pub mem_flags: u32,
    /// IN: the domain.
    pub domid: u16,
    /// Padding.
    pub pad: [u16; 3],
}

/// `struct xen_machphys_mapping`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MachphysMapping {
    /// OUT: virtual address of the machine-to-physical table in every PV guest.
    pub v_start: u64,
    /// OUT: its end.
    pub v_end: u64,
    /// OUT: highest MFN it covers.
    pub max_mfn: u64,
}

/// `struct xen_foreign_memory_map`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ForeignMemoryMap {
    /// IN: the domain.
    pub domid: u16,
    /// Padding.
    pub pad: [u16; 3],
    /// IN: number of entries, at most [`MAX_MAP_ENTRIES`].
    pub nr_entries: u32,
    /// Padding.
    pub pad2: u32,
    /// IN: address of a list of [`MapEntry`].
    pub buffer: u64,
}

/// The most entries of a domain's memory map (Xen's `E820MAX`).
pub const MAX_MAP_ENTRIES: u32 = 1024;

/// An entry of a memory map in the format of the PC BIOS's call E820, which has no padding.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct MapEntry {
    /// Guest-physical address of the first byte.
    pub addr: U64,
    /// Bytes.
    pub size: U64,
    /// What it is: the same numbers as in a PVH guest's start info, `hvm::start_info::MEMORY_*`.
    pub kind: U32,
}

/// `struct xen_mem_acquire_resource`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct AcquireResource {
    /// IN: the domain.
    pub domid: u16,
    /// IN: kind of resource.
    pub resource_type: u16,
    /// IN: which one of its kind.
    pub id: u32,
    /// IN: number of frames. OUT: with no list, the frames there are.
    pub nr_frames: u32,
    /// IN: 0.
    pub pad: u32,
    /// IN: first frame wanted.
    pub frame: u64,
    /// IN: address of a list of `u64`. OUT, PV callers: an MFN for each frame.
    pub frame_list: u64,
}

assert_layout!(Reservation, size = 32, nr_extents @ 8, extent_order @ 16, mem_flags @ 20, domid @ 24);
assert_layout!(MachphysMapping, size = 24);
assert_layout!(ForeignMemoryMap, size = 24, nr_entries @ 8, buffer @ 16);
assert_layout!(MapEntry, size = 20, size @ 8, kind @ 16);
assert_layout!(AcquireResource, size = 32, resource_type @ 2, id @ 4, nr_frames @ 8, frame @ 16, frame_list @ 24);
