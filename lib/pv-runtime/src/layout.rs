//! Where things are in the address space. Pure arithmetic; `memory` acts on it.
//!
//! ```text
//! 0                   not mapped: a null pointer faults
//! 0x10000             the image, linked there, then what the domain's builder put behind it: module, p2m list, start
//!                     info, rings, page tables, boot stack
//! Regions::free_start the heap, as far as pages were needed so far
//!  ...                pages of the domain that nothing has asked for yet
//! nr_pages * 4096
//! 0x40_0000_0000      the areas for frames that are mapped for a while: see `window`
//! ```
//! Up to here a virtual address is the pseudo-physical address.

use thiserror::Error;
use xen_abi::mmu::TABLE_ENTRIES;
use xen_abi::start_info::{MAGIC, StartFlags, StartInfo};
use xen_abi::{PAGE_SHIFT, PAGE_SIZE, PageCount, Pfn};

/// First address of the areas for mapped frames. Own page tables below it: half of the first top-level entry's reach.
pub(crate) const AREAS: u64 = 0x40_0000_0000;

/// The most pages a domain can have with all of them mapped below [`AREAS`]: 256 GiB.
pub(crate) const MAX_PAGES: u64 = AREAS >> PAGE_SHIFT;

/// Why a start info was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum LayoutError {
    /// The structure is not one.
    #[error(
        "the start info does not begin with \"xen-3.0-x86_64\": this is no 64-bit PV domain, or its builder is broken"
    )]
    Magic,
    /// The domain has more memory than the address space is laid out for.
    #[error("the domain has {pages} pages; this runtime maps at most {MAX_PAGES}")]
    TooLarge {
        /// Pages of the domain.
        pages: u64,
    },
    /// What was loaded ends behind the domain's memory.
    #[error("what the builder loaded ends at page {end}, but the domain has only {pages} pages")]
    Overlap {
        /// First free page.
        end: u64,
        /// Pages of the domain.
        pages: u64,
    },
}

/// Which pages are free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Regions {
    /// First page behind everything that the builder put into memory.
    pub(crate) free_start: Pfn,
    /// End of the free pages.
    pub(crate) free_end: Pfn,
}

/// The page that holds the address.
pub(crate) const fn page_of(address: u64) -> Pfn {
    Pfn::new(address >> PAGE_SHIFT)
}

/// The first page that begins at or behind the address.
const fn page_behind(address: u64) -> u64 {
    address.div_ceil(PAGE_SIZE as u64)
}

/// First byte of a page, as virtual address.
pub(crate) const fn address_of(page: Pfn) -> u64 {
    page.raw() << PAGE_SHIFT
}

/// First page of the module and the end of its pages, if there is one.
pub(crate) fn module(start: &StartInfo) -> Option<(Pfn, Pfn)> {
    if start.mod_start == 0 || start.mod_len == 0 {
        return None;
    }
    let by_page = StartFlags::from_bits_truncate(start.flags).contains(StartFlags::MOD_START_PFN);
    // By address it may begin within a page, and end within one page more than its length takes.
    let (first, offset) = if by_page {
        (Pfn::new(start.mod_start), 0)
    } else {
        (page_of(start.mod_start), start.mod_start % PAGE_SIZE as u64)
    };
    let end = first.checked_add(PageCount::for_bytes(offset.checked_add(start.mod_len)?))?;
    Some((first, end))
}

/// Finds the free pages of a domain.
///
/// `boot_stack_end` is the stack pointer at the first instruction; `rings` are the pages of console and XenStore.
pub(crate) fn regions(
    start: &StartInfo,
    start_address: u64,
    image_end: u64,
    boot_stack_end: u64,
    rings: [Option<Pfn>; 2],
) -> Result<Regions, LayoutError> {
    if !start.magic.starts_with(MAGIC) {
        return Err(LayoutError::Magic);
    }
    let pages = start.nr_pages;
    if pages > MAX_PAGES {
        return Err(LayoutError::TooLarge { pages });
    }
    let ends = [
        page_behind(image_end),
        page_behind(boot_stack_end),
        page_behind(start_address.saturating_add(size_of::<StartInfo>() as u64)),
        page_behind(start.pt_base).saturating_add(start.nr_pt_frames),
        page_behind(start.mfn_list.saturating_add(pages.saturating_mul(8))),
    ];
    let rings = rings.into_iter().flatten().map(|page| page.raw().saturating_add(1));
    let mut free_start = ends.into_iter().chain(rings).max().unwrap_or(0);
    let mut free_end = pages;
    if let Some((first, end)) = module(start) {
        // A module that was loaded behind a pad is the end of free memory, not its beginning.
        if first.raw() >= free_start
            && StartFlags::from_bits_truncate(start.flags).contains(StartFlags::MOD_START_PFN)
        {
            free_end = first.raw();
        } else {
            free_start = free_start.max(end.raw());
        }
    }
    if free_start >= free_end {
        return Err(LayoutError::Overlap { end: free_start, pages });
    }
    Ok(Regions { free_start: Pfn::new(free_start), free_end: Pfn::new(free_end) })
}

/// Page tables it takes at most to map the pages from `from` up to `to`, with none shared with what is mapped already.
pub(crate) fn tables_for(from: Pfn, to: Pfn) -> u64 {
    const ENTRIES: u64 = TABLE_ENTRIES as u64;
    const REACH_OF_L2: u64 = ENTRIES * ENTRIES;
    let span = |reach: u64| to.raw().div_ceil(reach).saturating_sub(from.raw() / reach);
    if from >= to { 0 } else { span(ENTRIES) + span(REACH_OF_L2) }
}

/// Index of an address into the table of each level, from level 1 to level 4.
pub(crate) fn indices(address: u64) -> [usize; 4] {
    let address = x86_64::VirtAddr::new_truncate(address);
    [
        usize::from(address.p1_index()),
        usize::from(address.p2_index()),
        usize::from(address.p3_index()),
        usize::from(address.p4_index()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> StartInfo {
        let mut start = StartInfo::zeroed();
        start.magic[..MAGIC.len()].copy_from_slice(MAGIC);
        start.nr_pages = 4096;
        start.mfn_list = 0x20_0000;
        start.pt_base = 0x21_0000;
        start.nr_pt_frames = 5;
        start
    }

    #[test]
    fn free_memory_begins_behind_the_last_thing_that_was_loaded() {
        let found = regions(&start(), 0x20_8000, 0x10_0000, 0x21_6000, [None, None]).unwrap();
        assert_eq!(found, Regions { free_start: Pfn::new(0x216), free_end: Pfn::new(4096) });
        let rings = [Some(Pfn::new(0x300)), Some(Pfn::new(0x2ff))];
        let found = regions(&start(), 0x20_8000, 0x10_0000, 0x21_6000, rings).unwrap();
        assert_eq!(found.free_start, Pfn::new(0x301));
    }

    #[test]
    fn the_p2m_list_counts_with_all_its_entries() {
        let mut start = start();
        start.mfn_list = 0x22_0000;
        let found = regions(&start, 0x20_8000, 0x10_0000, 0x21_6000, [None, None]).unwrap();
        assert_eq!(found.free_start, Pfn::new(0x220 + 4096 * 8 / 4096));
    }

    #[test]
    fn a_module_is_in_front_of_free_memory_or_behind_it() {
        let mut start = start();
        start.mod_start = 0x40_0000;
        start.mod_len = 0x1001;
        let found = regions(&start, 0x20_8000, 0x10_0000, 0x21_6000, [None, None]).unwrap();
        assert_eq!(found.free_start, Pfn::new(0x402));
        // From the middle of a page on, two pages' worth of bytes reach into a third.
        start.mod_start = 0x40_0800;
        start.mod_len = 0x1801;
        let found = regions(&start, 0x20_8000, 0x10_0000, 0x21_6000, [None, None]).unwrap();
        assert_eq!(found.free_start, Pfn::new(0x403));
        start.mod_start = 0x800;
        start.flags = StartFlags::MOD_START_PFN.bits();
        let found = regions(&start, 0x20_8000, 0x10_0000, 0x21_6000, [None, None]).unwrap();
        assert_eq!(found, Regions { free_start: Pfn::new(0x216), free_end: Pfn::new(0x800) });
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let mut none = start();
        none.magic = [0; 32];
        assert_eq!(regions(&none, 0, 0, 0, [None, None]), Err(LayoutError::Magic));
        let mut huge = start();
        huge.nr_pages = u64::MAX;
        assert_eq!(regions(&huge, 0, 0, 0, [None, None]), Err(LayoutError::TooLarge { pages: u64::MAX }));
        let mut small = start();
        small.nr_pages = 0x200;
        let refused = regions(&small, 0, 0, 0x21_6000, [None, None]);
        assert_eq!(refused, Err(LayoutError::Overlap { end: 0x216, pages: 0x200 }));
    }

    #[test]
    fn tables_are_counted_at_both_levels() {
        let count = |from, to| tables_for(Pfn::new(from), Pfn::new(to));
        assert_eq!(count(0, 0), 0);
        assert_eq!(count(5, 5), 0);
        assert_eq!(count(0, 1), 2);
        assert_eq!(count(511, 513), 3);
        assert_eq!(count(0, 512 * 512), 513);
        assert_eq!(count(512 * 512 - 1, 512 * 512 + 1), 4);
    }

    #[test]
    fn an_address_has_an_index_at_each_level() {
        assert_eq!(indices(0), [0, 0, 0, 0]);
        assert_eq!(indices(AREAS + 0x1000), [1, 0, 256, 0]);
        assert_eq!(indices(0x20_3000), [3, 1, 0, 0]);
    }
}
