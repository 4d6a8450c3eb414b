//! Grant tables, version 1 (public/grant_table.h).

use bitflags::bitflags;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{GrantRef, assert_layout};

/// `GNTTABOP_map_grant_ref`, argument a list of [`MapGrantRef`].
pub const GNTTABOP_MAP_GRANT_REF: u32 = 0;
/// `GNTTABOP_unmap_grant_ref`, argument a list of [`UnmapGrantRef`].
pub const GNTTABOP_UNMAP_GRANT_REF: u32 = 1;
/// `GNTTABOP_setup_table`, argument one [`SetupTable`].
pub const GNTTABOP_SETUP_TABLE: u32 = 2;
/// `GNTTABOP_query_size`, argument one [`QuerySize`].
pub const GNTTABOP_QUERY_SIZE: u32 = 6;

/// `GNTTABOP_set_version`, argument one [`SetVersion`].
pub const GNTTABOP_SET_VERSION: u32 = 8;

/// Name of a grant-table operation in the header, for messages.
pub const fn name(op: u32) -> &'static str {
    match op {
        GNTTABOP_MAP_GRANT_REF => "GNTTABOP_map_grant_ref",
        GNTTABOP_UNMAP_GRANT_REF => "GNTTABOP_unmap_grant_ref",
        GNTTABOP_SETUP_TABLE => "GNTTABOP_setup_table",
        GNTTABOP_QUERY_SIZE => "GNTTABOP_query_size",
        GNTTABOP_SET_VERSION => "GNTTABOP_set_version",
        _ => "unknown GNTTABOP",
    }
}

/// `GNTTAB_RESERVED_CONSOLE`: by convention the entry that grants the console ring.
pub const RESERVED_CONSOLE: GrantRef = GrantRef::new(0);
/// `GNTTAB_RESERVED_XENSTORE`: by convention the entry that grants the XenStore ring.
pub const RESERVED_XENSTORE: GrantRef = GrantRef::new(1);
/// Entries that are reserved for the toolstack (`GNTTAB_NR_RESERVED_ENTRIES`).
pub const RESERVED_ENTRIES: u32 = 8;

/// Grants that the entries of one frame of a domain's maptrack table keep track of.
pub const MAPPINGS_PER_MAPTRACK_FRAME: u32 = 256;

/// Entries of version 1 in one frame of a grant table.
pub const ENTRIES_PER_FRAME: u32 = 512;

bitflags! {
    /// `GTF_*`: state of a grant entry.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct GrantFlags: u16 {
        /// The domain named in the entry may map the frame.
        const PERMIT_ACCESS = 1 << 0;
        /// It may only read it.
        const READONLY = 1 << 2;
        /// Set by Xen while it is mapped for reading.
        const READING = 1 << 3;
        /// Set by Xen while it is mapped for writing.
        const WRITING = 1 << 4;
    }
}

bitflags! {
    /// `GNTMAP_*`: how to map.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct MapFlags: u32 {
        /// For devices.
        const DEVICE_MAP = 1 << 0;
        /// For the CPU, at `host_addr`.
        const HOST_MAP = 1 << 1;
        /// Only for reading.
        const READONLY = 1 << 2;
        /// `host_addr` is the MACHINE address of the page-table entry to write.
        const CONTAINS_PTE = 1 << 4;
    }
}

/// `struct grant_entry_v1`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GrantEntryV1 {
    /// [`GrantFlags`] bits; written last, with everything else in place.
    pub flags: u16,
    /// The domain that may map.
    pub domid: u16,
    /// GFN (the MFN, for PV guests) that is granted; 32 bits.
    pub frame: u32,
}

/// `struct gnttab_map_grant_ref`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MapGrantRef {
    /// IN: virtual address, or with `CONTAINS_PTE` machine address of an entry.
    pub host_addr: u64,
    /// IN: [`MapFlags`] bits.
    pub flags: u32,
    /// IN: the reference.
    pub grant_ref: u32,
    /// IN: the domain that granted.
    pub dom: u16,
    /// OUT: 0 or a negative `GNTST_*`.
    pub status: i16,
    /// OUT: names the mapping.
    pub handle: u32,
    /// OUT: machine address of the frame, with `DEVICE_MAP`.
    pub dev_bus_addr: u64,
}

/// `struct gnttab_unmap_grant_ref`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct UnmapGrantRef {
    /// IN: as given to map.
    pub host_addr: u64,
    /// IN: as given back by map with `DEVICE_MAP`, else 0.
    pub dev_bus_addr: u64,
    /// IN: as given back by map.
    pub handle: u32,
    /// OUT: 0 or a negative `GNTST_*`.
    pub status: i16,
    /// Padding.
    pub pad: u16,
}

/// `struct gnttab_setup_table`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SetupTable {
    /// IN: the domain, usually the caller.
    pub dom: u16,
    /// Padding.
    pub pad0: u16,
    /// IN: frames wanted.
    pub nr_frames: u32,
    /// OUT: 0 or a negative `GNTST_*`.
    pub status: i16,
    /// Padding.
    pub pad1: [u16; 3],
    /// IN: address of a list of `u64`. OUT: the frames.
    pub frame_list: u64,
}

/// `struct gnttab_query_size`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct QuerySize {
    /// IN: the domain.
    pub dom: u16,
    /// Padding.
    pub pad0: u16,
    /// OUT: frames the table has.
    pub nr_frames: u32,
    /// OUT: frames it may have.
    pub max_nr_frames: u32,
    /// OUT: 0 or a negative `GNTST_*`.
    pub status: i16,
    /// Padding.
    pub pad1: u16,
}

/// `struct gnttab_set_version`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SetVersion {
    /// IN: the version that the table is to have. OUT: the one that it has.
    pub version: u32,
}

/// `GNTST_no_device_space`, with which older releases say that no more can be mapped.
pub const STATUS_NO_DEVICE_SPACE: i16 = -7;
/// `GNTST_no_space`: the maptrack table is full.
pub const STATUS_NO_SPACE: i16 = -13;

/// Text of a `GNTST_*` status.
pub const fn status_meaning(status: i16) -> &'static str {
    match status {
        0 => "okay",
        -1 => "general error",
        -2 => "no such domain",
        -3 => "bad grant reference: nothing is granted there, or not to this domain",
        -4 => "bad handle",
        -5 => "bad virtual address",
        -6 => "bad device address",
        STATUS_NO_DEVICE_SPACE => "no I/O MMU space left",
        -8 => "permission denied",
        -9 => "bad page",
        -10 => "copy crosses a page",
        -11 => "page address too large",
        -12 => "try again",
        STATUS_NO_SPACE => "no space left, the maptrack table is full",
        _ => "unknown grant status",
    }
}

assert_layout!(GrantEntryV1, size = 8, domid @ 2, frame @ 4);
assert_layout!(MapGrantRef, size = 32, flags @ 8, grant_ref @ 12, dom @ 16, status @ 18, handle @ 20, dev_bus_addr @ 24);
assert_layout!(UnmapGrantRef, size = 24, handle @ 16, status @ 20);
assert_layout!(SetupTable, size = 24, nr_frames @ 4, status @ 8, frame_list @ 16);
assert_layout!(SetVersion, size = 4);
assert_layout!(QuerySize, size = 16, nr_frames @ 4, max_nr_frames @ 8, status @ 12);
