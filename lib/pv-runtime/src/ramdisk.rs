//! The module that was loaded with the kernel, as memory that can go back to Xen.

use core::ops::Range;

use hypercall::{KeptRamdisk, Parts, Ramdisk};
use xen_abi::{Mfn, PAGE_SIZE, Pfn};

use crate::layout::address_of;
use crate::memory::{self, MemoryError};

/// Pages that are unmapped before their frames are handed over: bounds the list of frames to 4 KiB.
const BATCH: usize = 512;

/// The module that was loaded with the kernel. Its pages are this value's alone: there is one, and slices of it borrow it.
#[derive(Debug)]
pub struct Module {
    place: Place,
}

/// What is left of a [`Module`] after a release.
#[derive(Debug)]
pub struct KeptModule {
    place: Place,
    parts: Parts,
}

/// Where a module lies.
#[derive(Clone, Copy, Debug)]
struct Place {
    first: Pfn,
    /// Where it begins in its first page.
    offset: usize,
    len: usize,
}

impl Place {
    /// The page number `index` of the module.
    fn page(&self, index: usize) -> Pfn {
        Pfn::new(self.first.raw() + index as u64)
    }

    /// Some bytes of the module.
    ///
    /// # Safety
    ///
    /// The range lies in the module; if it is not empty, its pages are mapped, and stay so while the slice lives.
    unsafe fn bytes(&self, range: &Range<usize>) -> &[u8] {
        // Where there is no module, there is no address either: its first page would be page 0, and its slice begin at null.
        if range.is_empty() {
            return &[];
        }
        let start = address_of(self.first) + (self.offset + range.start) as u64;
        // SAFETY: the caller's promise; nobody writes a module.
        unsafe { memory::bytes(start, range.len() as u64) }
    }
}

impl Module {
    /// The module of `len` bytes that begins `offset` bytes into page `first`; empty when `len` is 0.
    ///
    /// # Safety
    ///
    /// Its pages are mapped at their own address and in nobody else's use, now and later: there is one `Module` of them.
    pub(crate) unsafe fn new(first: Pfn, offset: usize, len: usize) -> Self {
        Self { place: Place { first, offset, len } }
    }
}

impl Ramdisk for Module {
    type Kept = KeptModule;
    type Error = MemoryError;

    fn bytes(&self) -> &[u8] {
        // SAFETY: all of the module is mapped as long as there is a `Module`, which the slice borrows.
        unsafe { self.place.bytes(&(0..self.place.len)) }
    }

    fn release(
        self,
        keep: &[Range<usize>],
        mut give_back: impl FnMut(&[Mfn]),
    ) -> (KeptModule, Result<(), MemoryError>) {
        let place = self.place;
        let parts = Parts::new(place.offset, place.len, keep);
        // On the stack: what allocates while the address space is locked waits for itself when the heap has to grow.
        let mut frames = [Mfn::INVALID; BATCH];
        let mut unmap = || {
            for pages in parts.released() {
                for start in pages.clone().step_by(BATCH) {
                    let frames = frames.get_mut(..BATCH.min(pages.end - start)).unwrap_or_default();
                    // SAFETY: the pages are the module's, which was given away and of which no slice is left; no part that is
                    // kept has a byte in them.
                    unsafe { memory::lock().give_up(place.page(start), frames) }?;
                    give_back(frames);
                }
            }
            Ok(())
        };
        let unmapped = unmap();
        (KeptModule { place, parts }, unmapped)
    }
}

impl KeptRamdisk for KeptModule {
    fn bytes(&self, range: Range<usize>) -> Option<&[u8]> {
        let inside = range.start <= range.end && range.end <= self.place.len;
        // SAFETY: the range lies in the module, and the pages of the parts that were kept stay mapped.
        (inside && self.parts.keeps(self.place.offset, &range)).then(|| unsafe { self.place.bytes(&range) })
    }
}

const _: () = assert!(BATCH * size_of::<Mfn>() == PAGE_SIZE);
