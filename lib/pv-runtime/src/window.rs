//! Frames that are mapped for a while: a window for frames that are filled and let go again, and an area for those that stay.
//!
//! Both have page tables of their own that are made at the start, so that mapping costs one hypercall for any number of
//! frames, and unmapping one more.

use alloc::boxed::Box;
use alloc::vec;
use core::alloc::Layout;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};

use grant_table::{GrantAddress, GrantSlot, Shareable};
use hypercall::{FrameWindow, OwnFrameWindow, SharedMemory, WindowError};
use spin::Mutex;
use xen_abi::mmu::{MMU_NORMAL_PT_UPDATE, MMU_PT_UPDATE_NO_TRANSLATE, MmuUpdate, Pte, TABLE_ENTRIES};
use xen_abi::{DomId, GuestVirt, MachineAddr, Mfn, PAGE_SIZE, Pfn};

use crate::hypervisor::{Hypervisor, UpdateError};
use crate::layout::AREAS;
use crate::memory::{self, MemoryError, TablePages};
use crate::slots::Slots;

/// Page tables of the window.
const WINDOW_TABLES: usize = 2;
/// Frames that the window maps at once.
pub const WINDOW_FRAMES: usize = WINDOW_TABLES * TABLE_ENTRIES;
/// Page tables of the area for frames that stay mapped.
const KEPT_TABLES: usize = 4;
/// Frames that can stay mapped.
pub const KEPT_FRAMES: usize = KEPT_TABLES * TABLE_ENTRIES;

/// First address of the window.
const WINDOW: u64 = AREAS;
/// First address of the area for frames that stay mapped.
const KEPT: u64 = WINDOW + (WINDOW_FRAMES * PAGE_SIZE) as u64;

/// The area for frames that stay mapped.
static KEPT_AREA: Mutex<Option<Kept>> = Mutex::new(None);

/// By which numbers frames are named.
#[derive(Clone, Copy, Debug)]
enum Numbers {
    /// Their owner's: guest frames, if it has a translation of its own.
    Owner,
    /// The machine's.
    Machine,
}

/// An area of address space with its page tables.
#[derive(Clone, Copy, Debug)]
struct Area<const TABLES: usize> {
    first: u64,
    tables: [MachineAddr; TABLES],
}

#[derive(Debug)]
struct Kept {
    area: Area<KEPT_TABLES>,
    slots: Slots<{ KEPT_FRAMES / 64 }>,
}

/// Pages of the heap that become page tables, and are not given back once they are.
struct HeapPages;

impl HeapPages {
    /// What a page of the heap is allocated with.
    const LAYOUT: Layout = Layout::new::<Page>();

    /// Gives a page back.
    ///
    /// # Safety
    ///
    /// [`take`](TablePages::take) gave the page, and nobody has used it or given it back since.
    unsafe fn give_back(page: Pfn) {
        let first = core::ptr::with_exposed_provenance_mut::<u8>(crate::layout::address_of(page) as usize);
        // SAFETY: the page was allocated with this layout, and is given back once, as the caller says.
        unsafe { alloc::alloc::dealloc(first, Self::LAYOUT) };
    }
}

/// A page of memory.
#[repr(C, align(4096))]
struct Page([u8; PAGE_SIZE]);

impl TablePages for HeapPages {
    fn take(&mut self) -> Option<Pfn> {
        // SAFETY: the layout has a size.
        let page = NonNull::new(unsafe { alloc::alloc::alloc(Self::LAYOUT) })?;
        Some(crate::layout::page_of(page.as_ptr().expose_provenance() as u64))
    }
}

impl<const TABLES: usize> Area<TABLES> {
    /// Makes the page tables of the area that begins at `first`.
    fn new(first: u64) -> Result<Self, MemoryError> {
        /// Pages at hand: the heap must not be asked while the address space is locked, as growing it locks that too.
        struct AtHand<const N: usize>([Option<Pfn>; N]);
        impl<const N: usize> TablePages for AtHand<N> {
            fn take(&mut self) -> Option<Pfn> {
                self.0.iter_mut().find_map(Option::take)
            }
        }
        impl<const N: usize> Drop for AtHand<N> {
            fn drop(&mut self) {
                for page in self.0.iter_mut().filter_map(Option::take) {
                    // SAFETY: both pages came from the heap, and one that was taken out to be used is not here any more.
                    unsafe { HeapPages::give_back(page) };
                }
            }
        }
        let mut tables = [MachineAddr::new(0); TABLES];
        for (index, table) in tables.iter_mut().enumerate() {
            let mut pages = AtHand([HeapPages.take(), HeapPages.take()]);
            let memory = memory::lock();
            let address = first + (index * TABLE_ENTRIES * PAGE_SIZE) as u64;
            let page = memory.add_leaf(address, &mut pages)?;
            *table = memory.entry_address(page, 0);
        }
        Ok(Self { first, tables })
    }

    /// Machine address of the page-table entry of a page of the area.
    fn entry(&self, slot: usize) -> MachineAddr {
        let table = self.tables.get(slot / TABLE_ENTRIES).copied().unwrap_or_default();
        MachineAddr::new(table.raw() + (slot % TABLE_ENTRIES * size_of::<Pte>()) as u64)
    }

    /// Address of a page of the area.
    fn address(&self, slot: usize) -> u64 {
        self.first + (slot * PAGE_SIZE) as u64
    }

    /// The updates that make the pages from `slot` on map `entries`; `command` says what their frames are.
    fn updates(
        &self,
        slot: usize,
        command: u64,
        entries: impl Iterator<Item = Pte>,
        updates: &mut [MmuUpdate],
    ) {
        for (index, (update, entry)) in updates.iter_mut().zip(entries).enumerate() {
            *update = MmuUpdate { ptr: self.entry(slot + index).raw() | command, val: entry.raw() };
        }
    }

    /// Maps frames of `owner` from `slot` on: all, or none. They are numbered as `owner` does, or as the machine does.
    ///
    /// # Safety
    ///
    /// The slots are the caller's, and nothing refers to their addresses.
    unsafe fn map(
        &self,
        slot: usize,
        owner: DomId,
        numbers: Numbers,
        frames: &[Mfn],
        updates: &mut [MmuUpdate],
    ) -> Result<(), WindowError> {
        let command = match numbers {
            Numbers::Owner => MMU_NORMAL_PT_UPDATE,
            Numbers::Machine => MMU_PT_UPDATE_NO_TRANSLATE,
        };
        let flags = memory::data();
        self.updates(slot, command, frames.iter().map(|frame| Pte::new(*frame, flags)), updates);
        // SAFETY: only entries of this area change.
        let result = unsafe { Hypervisor.update_tables(owner, updates) };
        result.map_err(|UpdateError { done, wanted, errno }| {
            // SAFETY: as above.
            unsafe { self.unmap(slot, updates.get_mut(..done).unwrap_or_default()) };
            let frame = frames.get(done).copied().unwrap_or(Mfn::INVALID);
            WindowError::Refused { domain: owner, frame, done, wanted, errno }
        })
    }

    /// Unmaps as many pages from `slot` on as there are `updates`.
    ///
    /// # Safety
    ///
    /// As [`map`](Self::map).
    unsafe fn unmap(&self, slot: usize, updates: &mut [MmuUpdate]) {
        if updates.is_empty() {
            return;
        }
        self.updates(slot, MMU_NORMAL_PT_UPDATE, core::iter::repeat(Pte::EMPTY), updates);
        // SAFETY: only entries of this area change.
        if let Err(error) = unsafe { Hypervisor.update_tables_and_flush(updates) } {
            // Xen does not refuse to empty an own entry; if it did, frames would stay mapped that others rely on.
            crate::ending::fail(format_args!("unmapping {} frames: {error}", updates.len()));
        }
    }
}

/// Makes the area for frames that stay mapped.
pub(crate) fn initialise() -> Result<(), MemoryError> {
    let area = Area::new(KEPT)?;
    *KEPT_AREA.lock() = Some(Kept { area, slots: Slots::new() });
    Ok(())
}

/// Updates for one page or for many; one page is the common case of frames that stay mapped and needs no heap.
fn with_updates<R>(count: usize, act: impl FnOnce(&mut [MmuUpdate]) -> R) -> R {
    if count == 1 { act(&mut [MmuUpdate::default()]) } else { act(&mut vec![MmuUpdate::default(); count]) }
}

/// Gives access to frames; there is one.
#[derive(Debug)]
pub struct Window {
    area: Area<WINDOW_TABLES>,
    updates: Box<[MmuUpdate]>,
}

impl Window {
    /// Makes the window. Must be called once.
    pub(crate) fn new() -> Result<Self, MemoryError> {
        let updates = vec![MmuUpdate::default(); WINDOW_FRAMES].into_boxed_slice();
        Ok(Self { area: Area::new(WINDOW)?, updates })
    }
}

impl Window {
    /// Maps frames of another domain, calls `access` with their bytes, and unmaps them.
    fn with<R>(
        &mut self,
        owner: DomId,
        numbers: Numbers,
        frames: &[Mfn],
        access: impl FnOnce(&mut [u8]) -> R,
    ) -> Result<R, WindowError> {
        another(owner)?;
        let too_many = WindowError::TooMany { wanted: frames.len(), capacity: WINDOW_FRAMES };
        let updates = self.updates.get_mut(..frames.len()).ok_or(too_many)?;
        // SAFETY: the window is borrowed, so nobody uses its addresses.
        unsafe { self.area.map(0, owner, numbers, frames, updates) }?;
        let first = core::ptr::with_exposed_provenance_mut::<u8>(self.area.first as usize);
        // SAFETY: the frames are mapped read-write one after the other. They are another domain's: Xen compares the owner of
        // each with `owner`, and does not accept the caller's own identifier for it, so that no memory of this program is among
        // them. By the trait's contract that domain has not started and nobody writes them meanwhile.
        let bytes = unsafe { core::slice::from_raw_parts_mut(first, frames.len() * PAGE_SIZE) };
        let result = access(bytes);
        // SAFETY: `access` could not keep its argument.
        unsafe { self.area.unmap(0, updates) };
        Ok(result)
    }
}

impl FrameWindow for Window {
    type Shared = SharedFrames;

    fn capacity(&self) -> usize {
        WINDOW_FRAMES
    }

    fn with_frames<R>(
        &mut self,
        owner: DomId,
        frames: &[Mfn],
        access: impl FnOnce(&mut [u8]) -> R,
    ) -> Result<R, WindowError> {
        self.with(owner, Numbers::Owner, frames, access)
    }

    fn with_machine_frame<R>(
        &mut self,
        owner: DomId,
        frame: Mfn,
        access: impl FnOnce(&mut [u8]) -> R,
    ) -> Result<R, WindowError> {
        self.with(owner, Numbers::Machine, &[frame], access)
    }

    fn map_shared(&mut self, owner: DomId, frames: &[Mfn]) -> Result<SharedFrames, WindowError> {
        another(owner)?;
        // SAFETY: another domain's frames, as for the window.
        unsafe { SharedFrames::map(owner, frames) }
    }
}

impl OwnFrameWindow for Window {
    unsafe fn map_own(&mut self, frames: &[Mfn]) -> Result<SharedFrames, WindowError> {
        // SAFETY: the caller's promise.
        unsafe { SharedFrames::map(DomId::SELF, frames) }
    }
}

/// Refuses this domain itself: its frames have an address already, and Rust code may hold references to them.
fn another(owner: DomId) -> Result<(), WindowError> {
    if owner == DomId::SELF { Err(WindowError::Own) } else { Ok(()) }
}

/// Address space without frames, for mappings that Xen makes: of granted frames.
#[derive(Debug)]
pub struct ReservedPages {
    area: Area<KEPT_TABLES>,
    slot: usize,
    count: usize,
}

impl ReservedPages {
    /// Reserves `count` pages in a row; they have page tables, but nothing is mapped.
    pub fn new(count: usize) -> Result<Self, WindowError> {
        let exhausted = WindowError::Exhausted { wanted: count, capacity: KEPT_FRAMES };
        let mut kept = KEPT_AREA.lock();
        let kept = kept.as_mut().ok_or(exhausted)?;
        let slot = kept.slots.take(count).ok_or(exhausted)?;
        Ok(Self { area: kept.area, slot, count })
    }

    /// The first address.
    pub fn address(&self) -> GuestVirt {
        GuestVirt::new(self.area.address(self.slot))
    }

    /// How many bytes there are.
    pub fn size(&self) -> usize {
        self.count * PAGE_SIZE
    }
}

impl Drop for ReservedPages {
    /// Whoever had Xen map something here had it unmapped before.
    fn drop(&mut self) {
        if let Some(kept) = KEPT_AREA.lock().as_mut() {
            kept.slots.give_back(self.slot, self.count);
        }
    }
}

/// Memory that others can write at any time, at an address that stays mapped.
///
/// The building block of [`SharedFrames`], and of whatever else has such memory: granted frames, own pages that are granted.
#[derive(Debug)]
pub struct SharedBytes {
    first: NonNull<u8>,
    size: usize,
}

impl SharedBytes {
    /// The `size` bytes at `address`.
    ///
    /// # Safety
    ///
    /// They are mapped read-write, aligned to 4 and stay mapped as long as the value lives, and no reference to them exists.
    pub unsafe fn new(address: GuestVirt, size: usize) -> Option<Self> {
        let first = NonNull::new(core::ptr::with_exposed_provenance_mut(address.raw() as usize))?;
        Some(Self { first, size })
    }

    /// The address of `len` bytes at `offset`, which have to be within.
    fn at(&self, offset: usize, len: usize) -> NonNull<u8> {
        let within = offset.checked_add(len).is_some_and(|end| end <= self.size);
        assert!(within, "access to {len} bytes at {offset} of {} shared bytes", self.size);
        // SAFETY: within the memory, as just checked.
        unsafe { self.first.add(offset) }
    }

    fn word(&self, offset: usize) -> &AtomicU32 {
        let word = self.at(offset, size_of::<u32>()).cast::<u32>();
        assert!(word.is_aligned(), "word at offset {offset} of shared memory is not aligned");
        // SAFETY: aligned, mapped while `self` lives, and words are only accessed atomically or as volatile bytes.
        unsafe { AtomicU32::from_ptr(word.as_ptr()) }
    }
}

impl SharedMemory for SharedBytes {
    fn size(&self) -> usize {
        self.size
    }

    fn read(&self, offset: usize, buffer: &mut [u8]) {
        let from = self.at(offset, buffer.len());
        for (index, byte) in buffer.iter_mut().enumerate() {
            // SAFETY: within the memory; others may write it, hence volatile.
            *byte = unsafe { from.add(index).read_volatile() };
        }
    }

    fn write(&self, offset: usize, bytes: &[u8]) {
        let to = self.at(offset, bytes.len());
        for (index, byte) in bytes.iter().enumerate() {
            // SAFETY: as above.
            unsafe { to.add(index).write_volatile(*byte) };
        }
    }

    fn load_u32(&self, offset: usize) -> u32 {
        self.word(offset).load(Ordering::SeqCst)
    }

    fn store_u32(&self, offset: usize, value: u32) {
        self.word(offset).store(value, Ordering::SeqCst);
    }

    fn compare_exchange_u32(&self, offset: usize, current: u32, new: u32) -> Result<u32, u32> {
        self.word(offset).compare_exchange(current, new, Ordering::SeqCst, Ordering::SeqCst)
    }
}

/// Frames that stay mapped until the value is dropped.
#[derive(Debug)]
pub struct SharedFrames {
    bytes: SharedBytes,
    pages: ReservedPages,
}

impl SharedFrames {
    /// Maps `frames` of `owner` one after the other.
    ///
    /// # Safety
    ///
    /// If `owner` is this domain, nothing but such shared memory refers to the frames as long as the value lives.
    pub(crate) unsafe fn map(owner: DomId, frames: &[Mfn]) -> Result<Self, WindowError> {
        let pages = ReservedPages::new(frames.len())?;
        // SAFETY: the addresses are those of `pages`, which nobody else has reserved and no value refers to before this function is done.
        // What is mapped there is another domain's, or by the caller's promise memory that no reference of Rust's points to.
        with_updates(frames.len(), |updates| unsafe {
            pages.area.map(pages.slot, owner, Numbers::Owner, frames, updates)
        })?;
        // SAFETY: Xen has just mapped as many frames as there are pages, read-write and beginning at a page's start; `Drop` of the value that
        // holds both unmaps them, and gives the pages back only then. No reference to them was ever made.
        let bytes = unsafe { SharedBytes::new(pages.address(), pages.size()) };
        let capacity = KEPT_FRAMES;
        let bytes = bytes.ok_or(WindowError::Exhausted { wanted: frames.len(), capacity })?;
        Ok(Self { bytes, pages })
    }

    /// The first address.
    pub fn address(&self) -> GuestVirt {
        self.pages.address()
    }
}

/// A page of address space for a granted frame.
#[derive(Debug)]
pub struct GrantPage {
    bytes: SharedBytes,
    page: ReservedPages,
}

impl GrantPage {
    /// Reserves a page.
    pub fn new() -> Result<Self, WindowError> {
        let page = ReservedPages::new(1)?;
        // SAFETY: the page is this value's, and `GrantSlot` hands the bytes out only while a frame is mapped there.
        let bytes = unsafe { SharedBytes::new(page.address(), page.size()) };
        let bytes = bytes.ok_or(WindowError::Exhausted { wanted: 1, capacity: KEPT_FRAMES })?;
        Ok(Self { bytes, page })
    }
}

// SAFETY: 1. the page was reserved for this value, and reserved pages have nothing mapped. 2. `bytes` is that page.
unsafe impl GrantSlot for GrantPage {
    type Memory = SharedBytes;

    fn address(&self) -> GrantAddress {
        GrantAddress::Virtual(self.page.address().raw())
    }

    unsafe fn memory(&self) -> &SharedBytes {
        &self.bytes
    }
}

/// An own page to share with others: zeroed, and never given back to the heap, because others may have it mapped.
#[derive(Debug)]
pub struct OwnPage {
    bytes: SharedBytes,
    page: Pfn,
}

impl OwnPage {
    /// Takes a page of the heap for good; `None` when there is none left.
    pub fn new() -> Option<Self> {
        let page = HeapPages.take()?;
        let address = crate::layout::address_of(page);
        let first = core::ptr::with_exposed_provenance_mut::<u8>(address as usize);
        // SAFETY: a page of the heap that nobody else has.
        unsafe { first.write_bytes(0, PAGE_SIZE) };
        // SAFETY: as above; it is never given back.
        let bytes = unsafe { SharedBytes::new(GuestVirt::new(address), PAGE_SIZE) }?;
        Some(Self { bytes, page })
    }
}

// SAFETY: the page is never given back, and only volatile and atomic accesses reach it.
unsafe impl Shareable for OwnPage {
    fn frame(&self) -> Mfn {
        memory::lock().mfn_of(self.page)
    }
}

/// Hands the methods of [`SharedMemory`] on to a field.
macro_rules! shared_memory_by_field {
    ($type:ty, $field:ident) => {
        impl SharedMemory for $type {
            fn size(&self) -> usize {
                self.$field.size()
            }

            fn read(&self, offset: usize, buffer: &mut [u8]) {
                self.$field.read(offset, buffer);
            }

            fn write(&self, offset: usize, bytes: &[u8]) {
                self.$field.write(offset, bytes);
            }

            fn load_u32(&self, offset: usize) -> u32 {
                self.$field.load_u32(offset)
            }

            fn store_u32(&self, offset: usize, value: u32) {
                self.$field.store_u32(offset, value);
            }

            fn compare_exchange_u32(&self, offset: usize, current: u32, new: u32) -> Result<u32, u32> {
                self.$field.compare_exchange_u32(offset, current, new)
            }
        }
    };
}

shared_memory_by_field!(SharedFrames, bytes);
shared_memory_by_field!(OwnPage, bytes);

impl Drop for SharedFrames {
    fn drop(&mut self) {
        let ReservedPages { area, slot, count } = &self.pages;
        // SAFETY: the value that gave access is going away.
        with_updates(*count, |updates| unsafe { area.unmap(*slot, updates) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_an_area_has_an_address_and_an_entry() {
        let tables = [MachineAddr::new(0x5000), MachineAddr::new(0x9000)];
        let area = Area { first: 0x10_0000, tables };
        assert_eq!(area.address(513), 0x10_0000 + 513 * 4096);
        assert_eq!(area.entry(0), MachineAddr::new(0x5000));
        assert_eq!(area.entry(511), MachineAddr::new(0x5ff8));
        assert_eq!(area.entry(513), MachineAddr::new(0x9008));
    }

    #[test]
    fn shared_bytes_are_bounds_checked() {
        let mut memory = [0_u32; 4];
        let address = GuestVirt::new((&raw mut memory).expose_provenance() as u64);
        // SAFETY: 16 bytes that live to the end of the test and are only used through the value.
        let shared = unsafe { SharedBytes::new(address, 16) }.unwrap();
        shared.write(3, &[1, 2, 3, 4]);
        let mut back = [0; 6];
        shared.read(2, &mut back);
        assert_eq!(back, [0, 1, 2, 3, 4, 0]);
        shared.store_u32(12, 0x0403_0201);
        assert_eq!(shared.load_u32(12), 0x0403_0201);
        assert!(std::panic::catch_unwind(|| shared.load_u32(13)).is_err());
        assert!(std::panic::catch_unwind(|| shared.read(15, &mut [0; 2])).is_err());
        assert!(std::panic::catch_unwind(|| shared.read(usize::MAX, &mut [0; 2])).is_err());
    }
}
