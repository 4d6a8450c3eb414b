//! What a PVH guest is told at its start (public/arch-x86/hvm/start_info.h). All addresses are guest-physical, in bytes.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::assert_layout;

/// `XEN_HVM_START_MAGIC_VALUE`.
pub const MAGIC: u32 = 0x336e_c578;
/// The version that has a memory map.
pub const VERSION: u32 = 1;

/// `XEN_HVM_MEMMAP_TYPE_RAM`.
pub const MEMORY_RAM: u32 = 1;
/// `XEN_HVM_MEMMAP_TYPE_RESERVED`.
pub const MEMORY_RESERVED: u32 = 2;
/// `XEN_HVM_MEMMAP_TYPE_ACPI`: tables, free once they are read.
pub const MEMORY_ACPI: u32 = 3;

/// `struct hvm_start_info`, version 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct HvmStartInfo {
    /// [`MAGIC`].
    pub magic: u32,
    /// [`VERSION`].
    pub version: u32,
    /// [`StartFlags`](crate::start_info::StartFlags) bits; 0 for a guest of which nothing is claimed.
    pub flags: u32,
    /// Entries of the module list.
    pub nr_modules: u32,
    /// Address of the module list, [`Module`]; 0 without modules.
    pub modlist_paddr: u64,
    /// Address of the command line, NUL-terminated; 0 without one.
    pub cmdline_paddr: u64,
    /// Address of the ACPI RSDP.
    pub rsdp_paddr: u64,
    /// Address of the memory map, [`MemoryRange`].
    pub memmap_paddr: u64,
    /// Entries of the memory map.
    pub memmap_entries: u32,
    /// 0.
    pub reserved: u32,
}

/// `struct hvm_modlist_entry`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Module {
    /// Address of the first byte.
    pub paddr: u64,
    /// Bytes.
    pub size: u64,
    /// Address of the module's own command line; 0 without one.
    pub cmdline_paddr: u64,
    /// 0.
    pub reserved: u64,
}

/// `struct hvm_memmap_table_entry`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MemoryRange {
    /// Address of the first byte.
    pub addr: u64,
    /// Bytes.
    pub size: u64,
    /// `MEMORY_*`.
    pub kind: u32,
    /// 0.
    pub reserved: u32,
}

assert_layout!(HvmStartInfo, size = 56, nr_modules @ 12, modlist_paddr @ 16, rsdp_paddr @ 32, memmap_paddr @ 40, memmap_entries @ 48);
assert_layout!(Module, size = 32, size @ 8, cmdline_paddr @ 16);
assert_layout!(MemoryRange, size = 24, size @ 8, kind @ 16);
