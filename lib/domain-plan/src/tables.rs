//! The page tables a guest starts on.
//!
//! Tables are planned as a list of (level, first address translated, frame); entries are computed one table at a time,
//! when the machine frames are known.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use kernel_image::AddressSize;
use x86_64::VirtAddr;
use xen_abi::mmu::{Pte, PteFlags, TABLE_ENTRIES};
use xen_abi::{GuestVirt, Mfn, PAGE_SHIFT, PAGE_SIZE, PageCount, Pfn, pv32};

use crate::{FrameRange, P2m, PlanError};

/// Bytes of a page.
const PAGE: u64 = PAGE_SIZE as u64;

/// Bits of an address that translation uses; those above repeat bit 47.
const TRANSLATED: u64 = (1 << 48) - 1;

/// Bits of the index at each level.
const INDEX_BITS: u32 = 9;

/// First and last top-level entry that Xen keeps for itself (`HYPERVISOR_VIRT_START`, `HYPERVISOR_VIRT_END`).
const XEN_SLOTS: core::ops::RangeInclusive<u64> = 256..=271;

/// The table of level 2 that a 32-bit guest always has: Xen puts its own entries at the end of the last GiB.
const LAST_GIB: (u32, u64) = (2, 3 << 30);

/// The top level of an address space.
const fn top_level(address_size: AddressSize) -> u32 {
    if address_size.is_32_bit() { 3 } else { 4 }
}

/// A run of pages that is mapped one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MappedRange {
    /// The first address.
    pub virt: GuestVirt,
    /// The first frame.
    pub first: Pfn,
    /// How many.
    pub pages: PageCount,
}

impl MappedRange {
    /// First translated address, and the one behind the last.
    fn span(&self) -> (u64, u64) {
        let start = self.virt.raw() & TRANSLATED;
        (start, start.saturating_add(self.pages.bytes().unwrap_or(u64::MAX)))
    }

    /// The frame at a translated address.
    fn frame(&self, address: u64) -> Option<Pfn> {
        let (start, end) = self.span();
        if !(start..end).contains(&address) {
            return None;
        }
        self.first.checked_add(PageCount::new(address.wrapping_sub(start) >> PAGE_SHIFT))
    }

    /// Fails unless a PV guest may map this range.
    fn check(&self, what: &'static str, address_size: AddressSize) -> Result<(), PlanError> {
        if address_size.is_32_bit() {
            let (start, end) = self.span();
            let fits = start == self.virt.raw() && end <= pv32::HYPERVISOR_VIRT_START;
            return if fits { Ok(()) } else { Err(PlanError::Unmappable32 { what, start, end }) };
        }
        self.check_64(what)
    }

    fn check_64(&self, what: &'static str) -> Result<(), PlanError> {
        let start = self.virt.raw();
        let bytes = self.pages.bytes().ok_or(PlanError::Overflow { what })?;
        let last = start.wrapping_add(bytes.saturating_sub(1));
        let error = PlanError::Unmappable { what, start, end: last.wrapping_add(1) };
        let (Ok(first), Ok(end)) = (VirtAddr::try_new(start), VirtAddr::try_new(last)) else {
            return Err(error);
        };
        let (first_slot, last_slot) =
            (u64::from(u16::from(first.p4_index())), u64::from(u16::from(end.p4_index())));
        let same_half = first_slot < *XEN_SLOTS.start() && last_slot < *XEN_SLOTS.start()
            || first_slot > *XEN_SLOTS.end() && last_slot > *XEN_SLOTS.end();
        if last < start || !same_half { Err(error) } else { Ok(()) }
    }
}

/// One page table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    /// 1 for tables of pages, 4 for the top, or 3 in a 32-bit guest.
    pub level: u32,
    /// The first translated address (48 bits) that it is responsible for.
    pub base: u64,
    /// The frame it is in.
    pub frame: Pfn,
}

/// `log2` of the bytes that one entry of a table at `level` is responsible for.
const fn entry_shift(level: u32) -> u32 {
    PAGE_SHIFT.saturating_add(INDEX_BITS.saturating_mul(level.saturating_sub(1)))
}

/// All tables, and what they map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageTables {
    address_size: AddressSize,
    ranges: Vec<MappedRange>,
    /// By ascending frame; the top-level table is the first.
    tables: Vec<Table>,
    /// The frame of the table at a level that is responsible for an address, for finding the table below an entry.
    index: BTreeMap<(u32, u64), Pfn>,
}

impl PageTables {
    /// No tables, nothing mapped.
    pub(crate) const fn new(address_size: AddressSize) -> Self {
        Self { address_size, ranges: Vec::new(), tables: Vec::new(), index: BTreeMap::new() }
    }

    /// What is mapped.
    pub fn ranges(&self) -> &[MappedRange] {
        &self.ranges
    }

    /// All tables, by ascending frame.
    pub fn tables(&self) -> &[Table] {
        &self.tables
    }

    /// The top-level table.
    pub fn top(&self) -> Option<&Table> {
        self.tables.first()
    }

    /// The table in a frame.
    pub fn table_in(&self, frame: Pfn) -> Option<&Table> {
        self.tables
            .binary_search_by_key(&frame, |table| table.frame)
            .ok()
            .and_then(|place| self.tables.get(place))
    }

    /// The tables that mapping `range` takes and that do not exist yet, from the top down, by address within a level.
    fn missing<'a>(&'a self, range: &MappedRange) -> impl Iterator<Item = (u32, u64)> + 'a {
        let (start, end) = range.span();
        (1..=top_level(self.address_size)).rev().flat_map(move |level| {
            // One table covers as much as one entry of the level above.
            let shift = entry_shift(level.saturating_add(1));
            let last = end.saturating_sub(1) >> shift;
            let always = (self.address_size.is_32_bit() && LAST_GIB.0 == level).then_some(LAST_GIB);
            let always = always.filter(|(_, base)| base >> shift > last);
            ((start >> shift)..=last)
                .map(move |number| (level, number << shift))
                .chain(always)
                .filter(|place| !self.index.contains_key(place))
        })
    }

    /// How many tables mapping `range` takes that do not exist yet.
    pub(crate) fn count_missing(&self, range: &MappedRange) -> PageCount {
        if range.pages == PageCount::ZERO {
            return PageCount::ZERO;
        }
        PageCount::new(self.missing(range).count() as u64)
    }

    /// Maps `range`, with the tables it takes in the frames from `frame` on.
    pub(crate) fn map(
        &mut self,
        range: MappedRange,
        what: &'static str,
        frame: Pfn,
    ) -> Result<(), PlanError> {
        range.check(what, self.address_size)?;
        let missing: Vec<_> = self.missing(&range).collect();
        for ((level, base), number) in missing.into_iter().zip(0..) {
            let frame = frame
                .checked_add(PageCount::new(number))
                .ok_or(PlanError::Overflow { what: "the frame of a page table" })?;
            self.tables.push(Table { level, base, frame });
            self.index.insert((level, base), frame);
        }
        self.ranges.push(range);
        Ok(())
    }

    /// Fails with the place of an overlap if `range` and something mapped before share an address.
    pub(crate) fn overlap(&self, range: &MappedRange) -> Option<MappedRange> {
        let (start, end) = range.span();
        self.ranges.iter().copied().find(|other| {
            let (other_start, other_end) = other.span();
            start < other_end && other_start < end
        })
    }

    /// The frame at a virtual address, if it is mapped.
    pub fn translate(&self, address: GuestVirt) -> Option<Pfn> {
        self.ranges.iter().find_map(|range| range.frame(address.raw() & TRANSLATED))
    }

    /// The entries of `table` as the processor reads them.
    ///
    /// Pages are writable, except those in `read_only`, which has to name the page tables: Xen does not let a guest write those.
    pub fn entries(&self, table: &Table, p2m: &P2m, read_only: &[FrameRange]) -> [Pte; TABLE_ENTRIES] {
        let mut entries = [Pte::EMPTY; TABLE_ENTRIES];
        if table.level > 1 {
            self.point_below(table, p2m, &mut entries);
        } else {
            for range in &self.ranges {
                map_pages(range, table, p2m, read_only, &mut entries);
            }
        }
        entries
    }

    /// Points the entries of a table of a higher level to the tables below it.
    fn point_below(&self, table: &Table, p2m: &P2m, entries: &mut [Pte; TABLE_ENTRIES]) {
        let flags = PteFlags::PRESENT | PteFlags::RW | PteFlags::USER | PteFlags::ACCESSED | PteFlags::DIRTY;
        let (below, shift) = (table.level.saturating_sub(1), entry_shift(table.level));
        let end = table.base.saturating_add((TABLE_ENTRIES as u64) << shift);
        for ((_, address), frame) in self.index.range((below, table.base)..(below, end)) {
            let number = usize::try_from(address.wrapping_sub(table.base) >> shift).unwrap_or(usize::MAX);
            if let (Some(entry), Some(mfn)) = (entries.get_mut(number), p2m.mfn(*frame)) {
                *entry = Pte::new(mfn, flags);
            }
        }
    }
}

/// Enters the pages of `range` that `table`, one of the lowest level, is responsible for.
///
/// By runs, not page by page: the tables of a small guest are a good part of what is written for it.
fn map_pages(
    range: &MappedRange,
    table: &Table,
    p2m: &P2m,
    read_only: &[FrameRange],
    entries: &mut [Pte; TABLE_ENTRIES],
) {
    let (start, end) = range.span();
    let first = start.saturating_sub(table.base).div_ceil(PAGE);
    let behind = end.saturating_sub(table.base).div_ceil(PAGE).min(TABLE_ENTRIES as u64);
    let address = table.base.saturating_add(first << PAGE_SHIFT);
    let (Some(frame), Some(pages)) = (range.frame(address), behind.checked_sub(first)) else { return };
    let slots = usize::try_from(first).unwrap_or(usize::MAX)..usize::try_from(behind).unwrap_or(usize::MAX);
    let Some(slots) = entries.get_mut(slots) else { return };
    let flags = PteFlags::PRESENT | PteFlags::ACCESSED;
    for (entry, mfn) in slots.iter_mut().zip(p2m.mfns(frame, pages)) {
        if mfn != Mfn::INVALID {
            *entry = Pte::new(mfn, flags | PteFlags::RW);
        }
    }
    for tables in read_only {
        let from = tables.first.raw().saturating_sub(frame.raw());
        let to = tables.first.raw().saturating_add(tables.pages.raw()).saturating_sub(frame.raw()).min(pages);
        let within = usize::try_from(from).unwrap_or(usize::MAX)..usize::try_from(to).unwrap_or(0);
        for entry in slots.get_mut(within).unwrap_or_default().iter_mut().filter(|entry| entry.is_present()) {
            *entry = Pte::new(entry.frame(), flags);
        }
    }
}
