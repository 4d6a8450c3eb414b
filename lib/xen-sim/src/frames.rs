//! The frame table: who has each frame of the machine, as what it is used, and what it holds.

use std::collections::BTreeSet;

use xen_abi::mmu::TABLE_ENTRIES;
use xen_abi::{DomId, Mfn, PAGE_SIZE, PageCount};
use zerocopy::{FromZeros, IntoBytes};

/// Bytes of a frame.
pub(crate) type Page = [u8; PAGE_SIZE];
/// The same as page-table entries.
pub(crate) type Table = [u64; TABLE_ENTRIES];

/// The first frame that is handed out: below it are the processor's and Xen's own. No frame number is ever a small number
/// that could be mistaken for a PFN.
const FIRST: u64 = 0x4_0000;

/// The largest extent, 2^18 frames.
const MAX_ORDER: u32 = 18;

/// What a frame is used as, which Xen calls its type. A frame has one type as long as something uses it as that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// Nothing in particular.
    Plain,
    /// Mapped writable somewhere.
    Writable,
    /// Page table of this level, 1 to 4, or [`ROOT_32`](crate::pagetables::ROOT_32).
    Table(u8),
    /// Holds descriptors of a GDT or LDT.
    Descriptors,
}

/// Who a frame is allocated to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    /// Nobody.
    Free,
    /// The domain, as its memory: counts towards its limit.
    Domain(DomId),
    /// Xen, which shares it with the domain: its shared info page, its grant table.
    Shared(DomId),
    /// Xen, on behalf of the domain: its bookkeeping.
    Private(DomId),
}

/// One frame.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) holder: Holder,
    /// Whether the allocation itself still holds the frame; taken back when its domain is destroyed.
    pub(crate) allocated: bool,
    /// References beside the allocation: mappings and type references.
    pub(crate) references: u32,
    pub(crate) usage: Use,
    /// How often it is used as that.
    pub(crate) uses: u32,
    /// Whether one of the uses is a pin.
    pub(crate) pinned: bool,
    /// Its entry in the machine-to-physical table.
    pub(crate) pfn: Option<u64>,
    /// What it holds; nothing is kept of a frame that is as it was handed out.
    contents: Option<Box<Page>>,
}

impl Frame {
    const fn free() -> Self {
        Self {
            holder: Holder::Free,
            allocated: false,
            references: 0,
            usage: Use::Plain,
            uses: 0,
            pinned: false,
            pfn: None,
            contents: None,
        }
    }

    /// The domain that the frame belongs to, in the sense of who may map it.
    pub(crate) fn owner(&self) -> Option<DomId> {
        match self.holder {
            Holder::Domain(domain) | Holder::Shared(domain) => Some(domain),
            Holder::Free | Holder::Private(_) => None,
        }
    }
}

/// The frame table and the allocator of free frames.
#[derive(Debug)]
pub(crate) struct Frames {
    table: Vec<Frame>,
    /// Free extents by order, as indices of their first frames.
    free: Vec<BTreeSet<u64>>,
    free_count: u64,
    /// Byte that a newly allocated frame is full of.
    fill: u8,
    /// Frames that can still be allocated before the allocator fails on purpose.
    pub(crate) allowance: Option<u64>,
}

impl Frames {
    /// A machine with `count` frames, all free.
    pub(crate) fn new(count: PageCount, fill: u8) -> Self {
        let count = count.raw();
        let mut this = Self {
            table: (0..count).map(|_| Frame::free()).collect(),
            free: (0..=MAX_ORDER).map(|_| BTreeSet::new()).collect(),
            free_count: count,
            fill,
            allowance: None,
        };
        let mut at = 0;
        while at < count {
            let order = (0..=MAX_ORDER)
                .rev()
                .find(|order| at.is_multiple_of(1 << order) && at + (1 << order) <= count)
                .unwrap_or(0);
            this.free[order as usize].insert(at);
            at += 1 << order;
        }
        this
    }

    /// Frames that nobody has.
    pub(crate) fn free_count(&self) -> u64 {
        self.free_count
    }

    /// Frames in all.
    pub(crate) fn total(&self) -> u64 {
        self.table.len() as u64
    }

    /// The highest frame number of the machine.
    pub(crate) fn highest(&self) -> Mfn {
        Mfn::new(FIRST + self.total().saturating_sub(1))
    }

    /// The frame of that number, if the machine has it.
    pub(crate) fn get(&self, mfn: Mfn) -> Option<&Frame> {
        self.table.get(index(mfn)?)
    }

    /// The frame of that number, if the machine has it.
    pub(crate) fn get_mut(&mut self, mfn: Mfn) -> Option<&mut Frame> {
        self.table.get_mut(index(mfn)?)
    }

    /// How many frames of memory a domain has, those included that are only waiting for others to let go of them.
    pub(crate) fn memory_of(&self, domain: DomId) -> u64 {
        self.table.iter().filter(|frame| frame.holder == Holder::Domain(domain)).count() as u64
    }

    /// How many frames are held by a domain, or by Xen for it.
    pub(crate) fn held_for(&self, domain: DomId) -> usize {
        let held = |frame: &&Frame| match frame.holder {
            Holder::Domain(it) | Holder::Shared(it) | Holder::Private(it) => it == domain,
            Holder::Free => false,
        };
        self.table.iter().filter(held).count()
    }

    /// Every frame with its number.
    pub(crate) fn all(&self) -> impl Iterator<Item = (Mfn, &Frame)> {
        (FIRST..).map(Mfn::new).zip(&self.table)
    }

    /// Takes 2^`order` neighbouring frames for `holder`; `None` when no extent of that size is free.
    ///
    /// Extents are handed out from the highest address down, as Xen does it: frames of successive calls do not follow each
    /// other upwards, and whoever relies on that fails here.
    pub(crate) fn allocate(&mut self, order: u32, holder: Holder) -> Option<Mfn> {
        let size = 1_u64.checked_shl(order)?;
        if self.allowance.is_some_and(|allowance| allowance < size) {
            return None;
        }
        let found = (order..=MAX_ORDER).find(|order| !self.free[*order as usize].is_empty())?;
        let mut start = self.free[found as usize].pop_last()?;
        for split in (order..found).rev() {
            self.free[split as usize].insert(start);
            start += 1 << split;
        }
        for at in start..start + size {
            if let Some(frame) = self.get_mut(Mfn::new(FIRST + at)) {
                *frame = Frame { holder, allocated: true, ..Frame::free() };
            }
        }
        self.free_count -= size;
        if let Some(allowance) = &mut self.allowance {
            *allowance -= size;
        }
        Some(Mfn::new(FIRST + start))
    }

    /// Takes one reference; refused unless the frame is the owner's. A frame that goes can be referred to until it is gone.
    pub(crate) fn get_reference(&mut self, mfn: Mfn, owner: DomId) -> bool {
        match self.get_mut(mfn) {
            Some(frame) if frame.owner() == Some(owner) => {
                frame.references += 1;
                true
            }
            _ => false,
        }
    }

    /// Gives one reference back; the last one frees a frame that is not allocated any more.
    pub(crate) fn put_reference(&mut self, mfn: Mfn) {
        if let Some(frame) = self.get_mut(mfn) {
            frame.references -= 1;
        }
        self.free_if_unused(mfn);
    }

    /// Ends the allocation; the frame is free once nothing refers to it.
    pub(crate) fn release(&mut self, mfn: Mfn) {
        if let Some(frame) = self.get_mut(mfn) {
            frame.allocated = false;
        }
        self.free_if_unused(mfn);
    }

    fn free_if_unused(&mut self, mfn: Mfn) {
        let Some(mut at) = index(mfn) else { return };
        match self.table.get_mut(at) {
            Some(frame) if !frame.allocated && frame.references == 0 && frame.holder != Holder::Free => {
                *frame = Frame::free();
            }
            _ => return,
        }
        self.free_count += 1;
        let mut order = 0;
        while order < MAX_ORDER && self.free[order as usize].remove(&((at ^ (1 << order)) as u64)) {
            at &= !(1 << order);
            order += 1;
        }
        self.free[order as usize].insert(at as u64);
    }

    /// The contents of a frame.
    pub(crate) fn read(&self, mfn: Mfn) -> Page {
        self.get(mfn).and_then(|frame| frame.contents.as_deref()).map_or([self.fill; PAGE_SIZE], |page| *page)
    }

    /// Copies bytes out of a frame.
    pub(crate) fn read_at(&self, mfn: Mfn, offset: usize, bytes: &mut [u8]) {
        match self.get(mfn).and_then(|frame| frame.contents.as_deref()) {
            Some(page) => bytes.copy_from_slice(&page[offset..offset + bytes.len()]),
            None => bytes.fill(self.fill),
        }
    }

    /// Sets the contents of a frame from `offset`.
    pub(crate) fn write_at(&mut self, mfn: Mfn, offset: usize, bytes: &[u8]) {
        let fill = self.fill;
        if let Some(frame) = self.get_mut(mfn) {
            if frame.contents.is_none() && bytes.iter().all(|byte| *byte == fill) {
                return;
            }
            let page = frame.contents.get_or_insert_with(|| Box::new([fill; PAGE_SIZE]));
            page[offset..offset + bytes.len()].copy_from_slice(bytes);
        }
    }

    /// The contents of a frame as page-table entries.
    pub(crate) fn table(&self, mfn: Mfn) -> Table {
        let mut table = Table::new_zeroed();
        table.as_mut_bytes().copy_from_slice(&self.read(mfn));
        table
    }
}

/// Where a frame stands in the table.
fn index(mfn: Mfn) -> Option<usize> {
    usize::try_from(mfn.raw().checked_sub(FIRST)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: Holder = Holder::Domain(DomId::new(1));

    #[test]
    fn every_frame_can_be_taken_once_and_given_back() {
        let mut frames = Frames::new(PageCount::new(1000), 0);
        let mut taken: Vec<_> = std::iter::from_fn(|| frames.allocate(0, OWNER)).collect();
        assert_eq!((taken.len(), frames.free_count()), (1000, 0));
        taken.sort_unstable();
        taken.dedup();
        assert_eq!(taken.len(), 1000);
        for mfn in taken {
            frames.release(mfn);
        }
        assert_eq!(frames.free_count(), 1000);
        assert!(frames.allocate(9, OWNER).is_some(), "neighbours are merged again");
    }

    #[test]
    fn an_extent_is_aligned_and_its_frames_follow_each_other() {
        let mut frames = Frames::new(PageCount::new(4096), 0);
        let _odd = frames.allocate(0, OWNER).unwrap();
        let extent = frames.allocate(9, OWNER).unwrap();
        assert_eq!(extent.raw() % 512, 0);
        assert!((0..512).all(|at| frames.get(Mfn::new(extent.raw() + at)).unwrap().allocated));
    }

    #[test]
    fn a_referenced_frame_outlives_its_allocation() {
        let mut frames = Frames::new(PageCount::new(16), 0);
        let mfn = frames.allocate(0, OWNER).unwrap();
        assert!(frames.get_reference(mfn, DomId::new(1)));
        frames.release(mfn);
        assert_eq!(frames.free_count(), 15);
        frames.put_reference(mfn);
        assert!(!frames.get_reference(mfn, DomId::new(1)), "it is nobody's any more");
        assert_eq!(frames.free_count(), 16);
    }

    #[test]
    fn the_contents_do_not_survive_a_change_of_owner() {
        let mut frames = Frames::new(PageCount::new(1), 0xc2);
        let mfn = frames.allocate(0, OWNER).unwrap();
        frames.write_at(mfn, 0, b"secret");
        frames.release(mfn);
        let again = frames.allocate(0, OWNER).unwrap();
        assert_eq!(frames.read(again), [0xc2; PAGE_SIZE]);
    }
}
