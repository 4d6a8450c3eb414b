//! Page tables of PV guests (public/xen.h: `mmu_update`, `mmuext_op`, `update_va_mapping`).

use bitflags::bitflags;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{Mfn, PAGE_SHIFT, assert_layout};

/// Entries in a page table of any level.
pub const TABLE_ENTRIES: usize = 512;

bitflags! {
    /// Flag bits of a page-table entry.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct PteFlags: u64 {
        /// Present.
        const PRESENT = 1 << 0;
        /// Writable.
        const RW = 1 << 1;
        /// Reachable from user mode; Xen adds it for PV guests, whose kernels run outside ring 0.
        const USER = 1 << 2;
        /// Read or written since it was cleared.
        const ACCESSED = 1 << 5;
        /// Written since it was cleared.
        const DIRTY = 1 << 6;
        /// Not to be executed, where the processor knows this bit; elsewhere Xen refuses it. In a table above, of all below it.
        const NO_EXECUTE = 1 << 63;
    }
}

/// Bits of an entry that hold the frame: 12 to 51.
const FRAME_MASK: u64 = ((1 << 52) - 1) & !((1 << PAGE_SHIFT) - 1);

/// A page-table entry of any level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Pte(u64);

impl Pte {
    /// An entry for nothing.
    pub const EMPTY: Self = Self(0);

    /// An entry for `frame`; bits of the frame number above 40 do not fit and are cut off.
    pub const fn new(frame: Mfn, flags: PteFlags) -> Self {
        Self(((frame.raw() << PAGE_SHIFT) & FRAME_MASK) | flags.bits())
    }

    /// The entry as the processor reads it.
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// The same entry with more flags.
    #[must_use]
    pub const fn with(self, flags: PteFlags) -> Self {
        Self(self.0 | flags.bits())
    }

    /// The frame the entry is for.
    pub const fn frame(self) -> Mfn {
        Mfn::new((self.0 & FRAME_MASK) >> PAGE_SHIFT)
    }

    /// The flag bits known here.
    pub const fn flags(self) -> PteFlags {
        PteFlags::from_bits_truncate(self.0)
    }

    /// Whether the entry is present.
    pub const fn is_present(self) -> bool {
        self.flags().contains(PteFlags::PRESENT)
    }
}

/// `MMU_NORMAL_PT_UPDATE`, the low bits of [`MmuUpdate::ptr`]: change a page-table entry.
pub const MMU_NORMAL_PT_UPDATE: u64 = 0;
/// `MMU_MACHPHYS_UPDATE`, the low bits of [`MmuUpdate::ptr`]: change the machine-to-physical table.
pub const MMU_MACHPHYS_UPDATE: u64 = 1;
/// `MMU_PT_UPDATE_NO_TRANSLATE`, the low bits of [`MmuUpdate::ptr`]: change a page-table entry, which names a MACHINE frame even
/// where the frame's domain has a translation of its own.
pub const MMU_PT_UPDATE_NO_TRANSLATE: u64 = 3;

/// Set in a count given back by `mmu_update` and `mmuext_op` when Xen was interrupted (`MMU_UPDATE_PREEMPTED`).
pub const MMU_UPDATE_PREEMPTED: u32 = 1 << 31;

/// `struct mmu_update`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MmuUpdate {
    /// MACHINE address of the entry, command in the low two bits.
    pub ptr: u64,
    /// New entry, or new PFN.
    pub val: u64,
}

/// `MMUEXT_PIN_L1_TABLE`.
pub const MMUEXT_PIN_L1_TABLE: u32 = xen_sys::MMUEXT_PIN_L1_TABLE;
/// `MMUEXT_PIN_L3_TABLE`: the same as the next for the top table of a 32-bit guest.
pub const MMUEXT_PIN_L3_TABLE: u32 = xen_sys::MMUEXT_PIN_L3_TABLE;
/// `MMUEXT_PIN_L4_TABLE`: make a frame, and what hangs below it, page tables for good.
pub const MMUEXT_PIN_L4_TABLE: u32 = xen_sys::MMUEXT_PIN_L4_TABLE;
/// `MMUEXT_UNPIN_TABLE`.
pub const MMUEXT_UNPIN_TABLE: u32 = xen_sys::MMUEXT_UNPIN_TABLE;
/// `MMUEXT_TLB_FLUSH_LOCAL`: forget all translations of this vCPU.
pub const MMUEXT_TLB_FLUSH_LOCAL: u32 = xen_sys::MMUEXT_TLB_FLUSH_LOCAL;

/// `struct mmuext_op`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MmuextOp {
    /// `MMUEXT_*`.
    pub cmd: u32,
    /// Padding.
    pub pad: u32,
    /// MFN or linear address, as the command has it.
    pub arg1: u64,
    /// The command's second argument.
    pub arg2: u64,
}

/// `UVMF_INVLPG`: forget the one translation that is changed.
pub const UVMF_INVLPG: u64 = 2;

assert_layout!(MmuUpdate, size = 16, val @ 8);
assert_layout!(MmuextOp, size = 24, arg1 @ 8, arg2 @ 16);
const _: () = assert!(size_of::<MmuUpdate>() == size_of::<xen_sys::mmu_update>());
const _: () = assert!(size_of::<MmuextOp>() == size_of::<xen_sys::mmuext_op>());

/// `struct multicall_entry`: one of several hypercalls made at once.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MulticallEntry {
    /// IN: hypercall number.
    pub op: u64,
    /// OUT: its result.
    pub result: u64,
    /// IN: its arguments.
    pub args: [u64; 6],
}

assert_layout!(MulticallEntry, size = 64, result @ 8, args @ 16);
const _: () = assert!(size_of::<MulticallEntry>() == size_of::<xen_sys::multicall_entry>());
