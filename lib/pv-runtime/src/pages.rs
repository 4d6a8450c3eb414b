//! The domain's own memory as its page tables and Xen see it.

use core::ops::Range;

use xen_abi::mmu::{Pte, TABLE_ENTRIES};
use xen_abi::{GuestVirt, Mfn, Pfn};

use crate::layout::{AREAS, page_of};
use crate::{machine, memory};

/// Entries of the top page table that are the domain's; Xen keeps its own mappings in others.
const OWN_ROOT_ENTRIES: usize = TABLE_ENTRIES / 2;

/// How the runtime uses the pages that are not free.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryMap {
    /// Code and constants: mapped read-only.
    pub constants: Range<Pfn>,
    /// Where the image ends: below it is what was linked, behind it what the builder loaded.
    pub image_end: Pfn,
    /// The page below the stack: not mapped.
    pub stack_guard: Pfn,
    /// The page at address 0: not mapped.
    pub null: Pfn,
}

/// How the runtime uses memory.
pub fn memory_map() -> MemoryMap {
    let symbols = machine::symbols();
    MemoryMap {
        constants: page_of(symbols.image_start)..page_of(symbols.constant_end),
        image_end: page_of(symbols.image_end),
        stack_guard: page_of(symbols.stack_guard),
        null: Pfn::new(0),
    }
}

/// The machine frame of a page, from the p2m list; [`Mfn::INVALID`] outside the domain's memory.
pub fn frame_of(page: Pfn) -> Mfn {
    memory::lock().mfn_of(page)
}

/// The page that a page's machine frame is by Xen's machine-to-physical table, which has to be the same; `None` outside the
/// domain's memory.
pub fn page_by_xen(page: Pfn) -> Option<Pfn> {
    // Only frames that the machine has are looked up: beyond them, and in holes between them, the table is not mapped.
    let frame = frame_of(page);
    (frame != Mfn::INVALID).then(|| memory::pfn_of(frame))
}

/// First virtual address of a page: all pages are mapped at their own address once something asked for them.
pub fn address_of(page: Pfn) -> GuestVirt {
    GuestVirt::new(crate::layout::address_of(page))
}

/// A page table and the entry in it that maps an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// The page table.
    pub table: Pfn,
    /// The entry.
    pub entry: Pte,
}

/// The lowest-level entry for an address; `None` without a page table.
pub fn leaf(address: GuestVirt) -> Option<Leaf> {
    let (table, index) = memory::lock().leaf(address.raw()).ok()?;
    Some(Leaf { table, entry: memory::entry(table, index) })
}

/// The top page table.
pub fn root() -> Pfn {
    memory::lock().root()
}

/// Calls `visit` with each page table, and its level from 4 down to 1, each before those below it.
pub fn visit_tables(visit: &mut dyn FnMut(u32, Pfn)) {
    visit_below(4, root(), visit);
}

fn visit_below(level: u32, table: Pfn, visit: &mut dyn FnMut(u32, Pfn)) {
    visit(level, table);
    if level == 1 {
        return;
    }
    let entries = if level == 4 { OWN_ROOT_ENTRIES } else { TABLE_ENTRIES };
    for index in 0..entries {
        let entry = memory::entry(table, index);
        if entry.is_present() {
            visit_below(level - 1, memory::pfn_of(entry.frame()), visit);
        }
    }
}

// One top-level entry covers all that the runtime maps.
const _: () = assert!(AREAS < 1 << 39);
