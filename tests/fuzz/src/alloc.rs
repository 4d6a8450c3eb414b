//! An allocator that counts, to see what a parser takes for an input.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// Bytes that this thread has allocated and not freed; negative when it frees what others have allocated.
    static NOW: Cell<isize> = const { Cell::new(0) };
    /// The most there were since the last reset.
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator, counted for each thread.
#[derive(Debug)]
pub struct Counting;

impl Counting {
    /// Bytes that this thread has allocated and not freed, if the program has this allocator.
    pub fn now() -> isize {
        now()
    }
}

/// Adds to what the thread has. Nothing is counted while the thread ends.
fn count(bytes: isize) {
    let now = NOW.try_with(|now| {
        now.set(now.get() + bytes);
        now.get()
    });
    if let Ok(now) = now {
        let _ended = PEAK.try_with(|peak| peak.set(peak.get().max(now)));
    }
}

/// Begins to measure anew.
pub(crate) fn reset() {
    PEAK.set(NOW.get());
}

/// The most bytes that were allocated at once since the reset, beyond what was there then. `before` is what [`now`] said.
pub(crate) fn peak(before: isize) -> usize {
    usize::try_from(PEAK.get() - before).unwrap_or(0)
}

/// Bytes that are allocated.
pub(crate) fn now() -> isize {
    NOW.get()
}

/// A size as a difference; no allocation is larger than `isize::MAX`.
fn signed(size: usize) -> isize {
    isize::try_from(size).unwrap_or(isize::MAX)
}

// SAFETY: every call is handed to the system's allocator as it is; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(signed(layout.size()));
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-signed(layout.size()));
        // SAFETY: the pointer came from the system's allocator by `alloc` with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(signed(size) - signed(layout.size()));
        // SAFETY: as for `dealloc`, and the caller answers for the new size.
        unsafe { System.realloc(pointer, layout, size) }
    }
}
