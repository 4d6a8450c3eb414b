//! The kernel's own address space: its page tables, and mapping the pages that the builder left unmapped.
//!
//! Page tables of a PV guest are read-only to it; an entry is changed by a hypercall. A new table is filled while it is still
//! an ordinary page, made read-only, and then entered into the table above it, at which point Xen checks all of it.

use spin::{Mutex, MutexGuard, Once};
use thiserror::Error;
use xen_abi::mmu::{MMU_NORMAL_PT_UPDATE, MmuUpdate, Pte, PteFlags, TABLE_ENTRIES};
use xen_abi::start_info::StartInfo;
use xen_abi::{DomId, GuestVirt, MachineAddr, Mfn, PAGE_SHIFT, PAGE_SIZE, Pfn};

use crate::hypervisor::{Hypervisor, UpdateError};
use crate::layout::{address_of, indices, page_of};

/// Flags of an entry for a table, and for an ordinary page but for [`data`].
const READ_WRITE: PteFlags = PteFlags::PRESENT
    .union(PteFlags::RW)
    .union(PteFlags::USER)
    .union(PteFlags::ACCESSED)
    .union(PteFlags::DIRTY);
/// Flags of an entry for a page that must not change.
pub(crate) const READ_ONLY: PteFlags = PteFlags::PRESENT.union(PteFlags::USER).union(PteFlags::ACCESSED);

/// `NO_EXECUTE` where this processor has it; empty elsewhere.
static NO_EXECUTE: Once<PteFlags> = Once::new();

/// Flags of an entry for an ordinary page, which holds data.
pub(crate) fn data() -> PteFlags {
    READ_WRITE.union(NO_EXECUTE.get().copied().unwrap_or(PteFlags::empty()))
}

/// Whether the processor knows the bit, as Xen has it for this domain: extended features, bit 20 of EDX.
fn find_no_execute() -> PteFlags {
    const EXTENDED: u32 = 0x8000_0001;
    let [highest, ..] = crate::processor::cpuid(EXTENDED - 1, 0);
    let [.., features] = crate::processor::cpuid(EXTENDED, 0);
    let is_there = highest >= EXTENDED && features >> 20 & 1 == 1;
    if is_there { PteFlags::NO_EXECUTE } else { PteFlags::empty() }
}

/// The table that tells for each machine frame which page of its owner it is; Xen maps it here for every PV guest.
const MACHINE_TO_PHYSICAL: u64 = 0xffff_8000_0000_0000;

/// Updates that are collected before Xen is asked.
const BATCH: usize = 128;

/// The address space, from the first moment on.
static MEMORY: Once<Mutex<Memory>> = Once::new();

/// Why the address space could not be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MemoryError {
    /// Xen refused an update.
    #[error(transparent)]
    Update(#[from] UpdateError),
    /// An address has no page table.
    #[error("address {0} has no page table: it is outside what the builder and this runtime mapped")]
    NoTable(GuestVirt),
    /// No page is left to make a page table of.
    #[error("no page is left to make a page table of while mapping page {0}")]
    OutOfTables(Pfn),
}

/// The kernel's page tables and its list of frames.
#[derive(Debug)]
pub(crate) struct Memory {
    /// Address of the p2m list.
    p2m: u64,
    /// Pages of the domain, which is the length of the p2m list.
    pages: u64,
    /// The top page table.
    root: Pfn,
    /// End of the pages that are mapped at their own address.
    mapped: Pfn,
}

/// Pages that can become page tables: mapped read-write, in nobody's use.
pub(crate) trait TablePages {
    /// The next one.
    fn take(&mut self) -> Option<Pfn>;
}

/// Updates on their way to Xen.
struct Batch {
    updates: [MmuUpdate; BATCH],
    len: usize,
}

impl Batch {
    const fn new() -> Self {
        Self { updates: [MmuUpdate { ptr: 0, val: 0 }; BATCH], len: 0 }
    }

    /// Adds an update, and makes all of them when there is no room for another.
    ///
    /// # Safety
    ///
    /// As [`Hypervisor::update_tables`].
    unsafe fn push(&mut self, entry: MachineAddr, value: Pte) -> Result<(), UpdateError> {
        if let Some(slot) = self.updates.get_mut(self.len) {
            *slot = MmuUpdate { ptr: entry.raw() | MMU_NORMAL_PT_UPDATE, val: value.raw() };
            self.len += 1;
        }
        // SAFETY: the caller's promise, for this update and those before.
        if self.len == BATCH { unsafe { self.flush() } } else { Ok(()) }
    }

    /// Makes the updates.
    ///
    /// # Safety
    ///
    /// As [`Hypervisor::update_tables`].
    unsafe fn flush(&mut self) -> Result<(), UpdateError> {
        let updates = self.updates.get(..self.len).unwrap_or_default();
        self.len = 0;
        if updates.is_empty() {
            return Ok(());
        }
        // SAFETY: the caller's promise.
        unsafe { Hypervisor.update_tables(DomId::SELF, updates) }
    }
}

/// Page of this domain that a machine frame of it is. The answer for a frame of another domain means nothing.
pub(crate) fn pfn_of(frame: Mfn) -> Pfn {
    let entry = MACHINE_TO_PHYSICAL + frame.raw() * 8;
    let entry = core::ptr::with_exposed_provenance::<u64>(entry as usize);
    // SAFETY: Xen maps the table for reading at this address, for all frames that the machine has. The frames asked for come from the
    // domain's own entries and start info, which Xen has checked; for any other the read faults, which ends the kernel with a report.
    // Xen may change it at any time, hence volatile.
    Pfn::new(unsafe { entry.read_volatile() })
}

/// An entry of a page table.
pub(crate) fn entry(table: Pfn, index: usize) -> Pte {
    let entry = address_of(table) + ((index % TABLE_ENTRIES) * size_of::<Pte>()) as u64;
    let entry = core::ptr::with_exposed_provenance::<Pte>(entry as usize);
    // SAFETY: `table` is the root or was found in an entry of a table above, and the builder and `make_table` have every page table mapped for
    // reading at its own address; the remainder keeps the entry within it. No reference to a table exists, as `make_table` takes
    // pages that nobody uses. Xen and the processor change entries, hence volatile.
    unsafe { entry.read_volatile() }
}

/// The address space. Taken for moments only.
pub(crate) fn lock() -> MutexGuard<'static, Memory> {
    MEMORY.wait().lock()
}

/// Takes over the address space that the builder made.
pub(crate) fn initialise(start: &StartInfo, free_start: Pfn) {
    let mut memory = Memory {
        p2m: start.mfn_list,
        pages: start.nr_pages,
        root: page_of(start.pt_base),
        mapped: free_start,
    };
    memory.find_mapped_end();
    NO_EXECUTE.call_once(find_no_execute);
    MEMORY.call_once(|| Mutex::new(memory));
}

impl Memory {
    /// The top page table.
    pub(crate) fn root(&self) -> Pfn {
        self.root
    }

    /// End of the pages that are mapped at their own address.
    pub(crate) fn mapped(&self) -> Pfn {
        self.mapped
    }

    /// Machine frame of a page; [`Mfn::INVALID`] outside the domain's memory.
    pub(crate) fn mfn_of(&self, page: Pfn) -> Mfn {
        if page.raw() >= self.pages {
            return Mfn::INVALID;
        }
        let entry = core::ptr::with_exposed_provenance::<u64>((self.p2m + page.raw() * 8) as usize);
        // SAFETY: the builder mapped one entry for each page of the domain, and `give_up` alone writes them, with the lock held.
        Mfn::new(unsafe { entry.read() })
    }

    /// Machine address of an entry of a page table.
    pub(crate) fn entry_address(&self, table: Pfn, index: usize) -> MachineAddr {
        MachineAddr::new((self.mfn_of(table).raw() << PAGE_SHIFT) + (index * size_of::<Pte>()) as u64)
    }

    /// The page table of `level` (1 to 3) for an address; the level that has none as error.
    fn table(&self, level: usize, address: u64) -> Option<Pfn> {
        let mut table = self.root;
        for index in indices(address).into_iter().skip(level).rev() {
            let below = entry(table, index);
            if !below.is_present() {
                return None;
            }
            table = pfn_of(below.frame());
        }
        Some(table)
    }

    /// The lowest-level page table for an address, and the index of the address in it.
    pub(crate) fn leaf(&self, address: u64) -> Result<(Pfn, usize), MemoryError> {
        let [index, ..] = indices(address);
        let table = self.table(1, address).ok_or(MemoryError::NoTable(GuestVirt::new(address)))?;
        Ok((table, index))
    }

    /// Moves the end of the mapped pages to where it is.
    fn find_mapped_end(&mut self) {
        while self.mapped.raw() < self.pages {
            let present = self
                .leaf(address_of(self.mapped))
                .is_ok_and(|(table, index)| entry(table, index).is_present());
            if !present {
                return;
            }
            self.mapped = Pfn::new(self.mapped.raw() + 1);
        }
    }

    /// Sets how the pages from `from` up to `to` are mapped at their own addresses; without flags they are unmapped.
    ///
    /// # Safety
    ///
    /// No reference exists that the change makes invalid.
    pub(crate) unsafe fn protect(
        &self,
        from: Pfn,
        to: Pfn,
        flags: Option<PteFlags>,
    ) -> Result<(), MemoryError> {
        let mut batch = Batch::new();
        for page in from.raw()..to.raw() {
            let (table, index) = self.leaf(page << PAGE_SHIFT)?;
            let value = flags.map_or(Pte::EMPTY, |flags| Pte::new(self.mfn_of(Pfn::new(page)), flags));
            // SAFETY: the caller's promise; no page gets another frame than its own.
            unsafe { batch.push(self.entry_address(table, index), value) }?;
        }
        // SAFETY: as above.
        unsafe { batch.flush() }?;
        Hypervisor.flush().map_err(|errno| UpdateError { done: 0, wanted: 1, errno })?;
        Ok(())
    }

    /// Unmaps the pages from `from` on, as many as `frames` has room for, and forgets that they were this domain's; their frames,
    /// then in `frames`, are the caller's to hand to Xen.
    ///
    /// Allocates nothing, as nothing here does: the heap may have to grow for that, which takes the lock that this value is behind.
    ///
    /// # Safety
    ///
    /// Nothing refers to the pages, and nothing will: they are no free memory either.
    pub(crate) unsafe fn give_up(&self, from: Pfn, frames: &mut [Mfn]) -> Result<(), MemoryError> {
        let to = Pfn::new(from.raw() + frames.len() as u64);
        for (page, frame) in (from.raw()..).zip(frames) {
            *frame = self.mfn_of(Pfn::new(page));
        }
        // SAFETY: the caller's promise.
        unsafe { self.protect(from, to, None) }?;
        for page in from.raw()..to.raw().min(self.pages) {
            let entry = core::ptr::with_exposed_provenance_mut::<u64>((self.p2m + page * 8) as usize);
            // SAFETY: the builder mapped one entry for each page of the domain, writable; this value is locked, and it alone
            // reads the list.
            unsafe { entry.write(Mfn::INVALID.raw()) };
        }
        Ok(())
    }

    /// Fills a page with the entries of a page table and makes it read-only, which is all but the last step to a table.
    fn make_table(
        &self,
        batch: &mut Batch,
        page: Pfn,
        entries: impl Fn(u64) -> Pte,
    ) -> Result<(), MemoryError> {
        let first = core::ptr::with_exposed_provenance_mut::<Pte>(address_of(page) as usize);
        for index in 0..TABLE_ENTRIES {
            // SAFETY: the page is mapped read-write and in nobody's use, as `TablePages` says.
            unsafe { first.add(index).write(entries(index as u64)) };
        }
        let (table, index) = self.leaf(address_of(page))?;
        let read_only = Pte::new(self.mfn_of(page), READ_ONLY);
        // SAFETY: the page stays mapped, and nothing writes it any more.
        unsafe { batch.push(self.entry_address(table, index), read_only) }?;
        Ok(())
    }

    /// Keeps whatever is mapped from `from` to the end of the mapped pages from being executed: page by page where their table of level 1
    /// has earlier pages too, else in the table above.
    ///
    /// # Safety
    ///
    /// No code is there.
    pub(crate) unsafe fn forbid_execution(&self, from: Pfn) -> Result<(), MemoryError> {
        let Some(flag) = NO_EXECUTE.get().filter(|flag| !flag.is_empty()) else { return Ok(()) };
        let (mut page, mut batch) = (from.raw(), Batch::new());
        while page < self.mapped.raw() {
            let [index, upper_index, ..] = indices(page << PAGE_SHIFT);
            let (table, index, pages) = if index == 0 {
                let upper = self.table(2, page << PAGE_SHIFT);
                let upper = upper.ok_or(MemoryError::NoTable(GuestVirt::new(page << PAGE_SHIFT)))?;
                (upper, upper_index, TABLE_ENTRIES as u64)
            } else {
                let (leaf, index) = self.leaf(page << PAGE_SHIFT)?;
                (leaf, index, 1)
            };
            let old = entry(table, index);
            if old.is_present() {
                // SAFETY: the entry stays as it is, for the same frame, but that code cannot be there, and by the caller's promise none is.
                unsafe { batch.push(self.entry_address(table, index), old.with(*flag)) }?;
            }
            page += pages;
        }
        // SAFETY: as at each push.
        unsafe { batch.flush() }?;
        Hypervisor.flush().map_err(|errno| UpdateError { done: 0, wanted: 1, errno })?;
        Ok(())
    }

    /// Makes sure that an address has a table of level 2 and, if not, makes one.
    fn ensure_l2(&self, address: u64, pages: &mut dyn TablePages) -> Result<Option<Pfn>, MemoryError> {
        if let Some(table) = self.table(2, address) {
            return Ok(Some(table));
        }
        let [_, _, index, _] = indices(address);
        let upper = self.table(3, address).ok_or(MemoryError::NoTable(GuestVirt::new(address)))?;
        let Some(page) = pages.take() else { return Ok(None) };
        let mut batch = Batch::new();
        self.make_table(&mut batch, page, |_| Pte::EMPTY)?;
        let value = Pte::new(self.mfn_of(page), READ_WRITE);
        // SAFETY: the entry was empty, and the new table is too.
        unsafe { batch.push(self.entry_address(upper, index), value) }?;
        // SAFETY: as above.
        unsafe { batch.flush() }?;
        Ok(Some(page))
    }

    /// Maps pages at their own address from where that ends, as many as `pages` has page tables for and at most up to
    /// `limit`. Gives back whether anything was mapped.
    pub(crate) fn extend(&mut self, limit: Pfn, pages: &mut dyn TablePages) -> Result<bool, MemoryError> {
        let before = self.mapped;
        let limit = Pfn::new(limit.raw().min(self.pages));
        let mut mapped = before;
        let mut batch = Batch::new();
        while mapped < limit {
            let address = address_of(mapped);
            let Some(upper) = self.ensure_l2(address, pages)? else { break };
            let [first, index, ..] = indices(address);
            let reach = mapped.raw() - first as u64 + TABLE_ENTRIES as u64;
            let end = Pfn::new(reach.min(limit.raw()));
            let below = entry(upper, index);
            if below.is_present() {
                // The builder's last table is there already, only not full.
                for page in mapped.raw()..end.raw() {
                    let entry = self.entry_address(pfn_of(below.frame()), indices(page << PAGE_SHIFT)[0]);
                    // SAFETY: the entry was empty: the builder maps from the start of memory without a gap, and `mapped` is behind the
                    // last page that is. So there is no reference to anything at the page's address; it gets the page's own frame.
                    unsafe { batch.push(entry, Pte::new(self.mfn_of(Pfn::new(page)), data())) }?;
                }
            } else {
                let Some(page) = pages.take() else { break };
                let base = mapped.raw() - first as u64;
                self.make_table(&mut batch, page, |index| match Pfn::new(base + index) {
                    own if own < end => Pte::new(self.mfn_of(own), data()),
                    _ => Pte::EMPTY,
                })?;
                let value = Pte::new(self.mfn_of(page), READ_WRITE);
                // SAFETY: the entry of the table above was seen to be empty, so that nothing was mapped where the new table's entries are,
                // and no reference can point there; each of them is a page's own frame.
                unsafe { batch.push(self.entry_address(upper, index), value) }?;
            }
            mapped = end;
        }
        // SAFETY: as at each push.
        unsafe { batch.flush() }?;
        self.mapped = mapped;
        Ok(mapped > before)
    }

    /// Makes an empty page table of level 1 for an address that has none.
    pub(crate) fn add_leaf(&self, address: u64, pages: &mut dyn TablePages) -> Result<Pfn, MemoryError> {
        let out = MemoryError::OutOfTables(page_of(address));
        let upper = self.ensure_l2(address, pages)?.ok_or(out)?;
        let page = pages.take().ok_or(out)?;
        let [_, index, ..] = indices(address);
        let mut batch = Batch::new();
        self.make_table(&mut batch, page, |_| Pte::EMPTY)?;
        let value = Pte::new(self.mfn_of(page), READ_WRITE);
        // SAFETY: the entry was empty, and the new table is too.
        unsafe { batch.push(self.entry_address(upper, index), value) }?;
        // SAFETY: as above.
        unsafe { batch.flush() }?;
        Ok(page)
    }
}

/// The bytes of pages that are mapped at their own address.
///
/// # Safety
///
/// The pages are mapped, stay so, and nobody writes them while the slice lives.
pub(crate) unsafe fn bytes(from: u64, len: u64) -> &'static [u8] {
    let first = core::ptr::with_exposed_provenance::<u8>(from as usize);
    // SAFETY: the caller's promise.
    unsafe { core::slice::from_raw_parts(first, len as usize) }
}

const _: () = assert!(PAGE_SIZE == TABLE_ENTRIES * size_of::<Pte>());
