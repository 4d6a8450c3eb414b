//! The heap: all free memory of the domain, mapped in steps as it is asked for.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::NonNull;

use linked_list_allocator::Heap;
use spin::Mutex;
use xen_abi::{PAGE_SIZE, Pfn};

use crate::layout::{address_of, tables_for};
use crate::memory::{self, MemoryError, TablePages};

/// Pages of the heap at the beginning, if the builder mapped so many.
const FIRST_PAGES: u64 = 256;

/// Page tables that are kept for the next step: one step maps at most this many times 2 MiB.
const STOCK: usize = 16;

/// The allocator of every kernel.
#[cfg_attr(target_os = "none", global_allocator)]
pub(crate) static HEAP: KernelHeap = KernelHeap(Mutex::new(State::new()));

/// The heap behind its lock.
pub(crate) struct KernelHeap(Mutex<State>);

/// Pages set aside to become page tables.
pub(crate) struct Stock {
    pages: [Pfn; STOCK],
    len: usize,
}

impl TablePages for Stock {
    fn take(&mut self) -> Option<Pfn> {
        self.len = self.len.checked_sub(1)?;
        self.pages.get(self.len).copied()
    }
}

struct State {
    heap: Heap,
    /// Behind the heap's last page.
    end: Pfn,
    /// How far the heap may grow.
    limit: Pfn,
    stock: Stock,
}

impl State {
    const fn new() -> Self {
        Self {
            heap: Heap::empty(),
            end: Pfn::new(0),
            limit: Pfn::new(0),
            stock: Stock { pages: [Pfn::new(0); STOCK], len: 0 },
        }
    }

    /// Sets pages of the heap aside until there are as many as the rest of the domain's memory can need, or the stock is full.
    fn fill_stock(&mut self) {
        let Ok(page) = Layout::from_size_align(PAGE_SIZE, PAGE_SIZE) else { return };
        let needed = tables_for(memory::lock().mapped(), self.limit);
        while self.stock.len < STOCK && (self.stock.len as u64) < needed {
            let Ok(block) = self.heap.allocate_first_fit(page) else { return };
            if let Some(slot) = self.stock.pages.get_mut(self.stock.len) {
                *slot = crate::layout::page_of(block.addr().get() as u64);
                self.stock.len += 1;
            }
        }
    }

    /// Makes the heap larger; false when there is nothing left.
    fn grow(&mut self) -> Result<bool, MemoryError> {
        let mut mapped = memory::lock().mapped().min(self.limit);
        if mapped <= self.end {
            memory::lock().extend(self.limit, &mut self.stock)?;
            mapped = memory::lock().mapped().min(self.limit);
        }
        let Some(more) = mapped.raw().checked_sub(self.end.raw()).filter(|more| *more > 0) else {
            return Ok(false);
        };
        // SAFETY: the heap ends at `end`, and by the promise to `initialise` all from there to `limit` is free. Up to `mapped`, which is
        // not above `limit`, it is mapped by now: `extend` (of the address space) makes tables of pages of the stock only, which are
        // allocated from the part below `end`. `end` moves behind them at once, so that no page is added twice.
        unsafe { self.heap.extend((more as usize) * PAGE_SIZE) };
        self.end = mapped;
        self.fill_stock();
        Ok(true)
    }

    fn allocate(&mut self, layout: Layout) -> Option<NonNull<u8>> {
        loop {
            if let Ok(block) = self.heap.allocate_first_fit(layout) {
                return Some(block);
            }
            // Out of memory either way; a refusal by Xen is worth a line, which needs no heap. Who allocates may be printing.
            match self.grow() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => {
                    crate::console::print_if_free(format_args!("the heap cannot grow: {error}"));
                    return None;
                }
            }
        }
    }
}

// SAFETY: blocks come from a heap of pages that nothing else uses, under one lock; sizes and alignments are kept.
unsafe impl GlobalAlloc for KernelHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.0.lock().allocate(layout).map_or(core::ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if let Some(block) = NonNull::new(block) {
            // SAFETY: the caller got the block from this heap with this layout.
            unsafe { self.0.lock().heap.deallocate(block, layout) };
        }
    }
}

/// What the heap uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeapUse {
    /// Bytes that are allocated.
    pub used: usize,
    /// Bytes that the heap holds by now.
    pub size: usize,
    /// Bytes that it can grow to.
    pub limit: usize,
}

impl HeapUse {
    /// Bytes that can still be allocated, if no gap between allocations is lost.
    pub fn spare(&self) -> usize {
        self.limit.saturating_sub(self.used)
    }
}

/// What the heap uses at the moment.
pub fn heap_use() -> HeapUse {
    let state = HEAP.0.lock();
    let size = state.heap.size();
    let more = (state.limit.raw().saturating_sub(state.end.raw()) as usize) * PAGE_SIZE;
    HeapUse { used: state.heap.used(), size, limit: size + more }
}

/// Gives the free pages from `start` up to `end` to the heap.
///
/// # Safety
///
/// The pages are free, those below `memory::mapped` are mapped read-write; called once.
pub(crate) unsafe fn initialise(start: Pfn, end: Pfn) {
    let mut state = HEAP.0.lock();
    let mapped = memory::lock().mapped().min(end);
    let first_end = Pfn::new(mapped.raw().min(start.raw() + FIRST_PAGES));
    let bottom = core::ptr::with_exposed_provenance_mut::<u8>(address_of(start) as usize);
    let size = (first_end.raw().saturating_sub(start.raw()) as usize) * PAGE_SIZE;
    // SAFETY: the pages are free and mapped, as the caller says.
    unsafe { state.heap.init(bottom, size) };
    state.end = first_end;
    state.limit = end;
    state.fill_stock();
}

/// Takes all pages that the heap has not grown into, now mapped; the heap grows no more.
///
/// Page tables come from the stock, then from the front of these pages, which what is given back leaves out.
pub(crate) fn take_rest() -> Result<(Pfn, Pfn), MemoryError> {
    struct Front<'a> {
        stock: &'a mut Stock,
        next: Pfn,
        end: Pfn,
    }
    impl TablePages for Front<'_> {
        fn take(&mut self) -> Option<Pfn> {
            self.stock.take().or_else(|| {
                let page = self.next;
                (page < self.end).then(|| {
                    self.next = Pfn::new(page.raw() + 1);
                    page
                })
            })
        }
    }
    let mut state = HEAP.0.lock();
    let (end, mut next) = (state.limit, state.end);
    state.limit = next;
    loop {
        let mapped = memory::lock().mapped();
        if mapped >= end {
            return Ok((next, end));
        }
        let mut front = Front { stock: &mut state.stock, next, end: mapped };
        if !memory::lock().extend(end, &mut front)? {
            return Err(MemoryError::OutOfTables(mapped));
        }
        next = front.next;
    }
}

/// Maps pages at their own address up to `end`, whoever they belong to.
pub(crate) fn map_up_to(end: Pfn) -> Result<(), MemoryError> {
    let mut state = HEAP.0.lock();
    loop {
        let mapped = memory::lock().mapped();
        if mapped >= end {
            return Ok(());
        }
        if !memory::lock().extend(end, &mut state.stock)? {
            return Err(MemoryError::OutOfTables(mapped));
        }
        state.fill_stock();
    }
}
