//! Planning a PV guest.

use alloc::vec::Vec;

use xen_abi::start_info::{MAX_COMMAND_LINE, StartFlags};
use xen_abi::{GuestVirt, PAGE_SHIFT, PAGE_SIZE, PageCount, Pfn};

use crate::areas::Allocator;
use crate::{AddressSize, Area, AreaKind, MappedRange, PageTables, PlanError, PvKernel};

/// The initial mapping ends at a multiple of this (public/xen.h).
const MAPPING_ALIGNMENT: u64 = 4 << 20;

/// What the initial mapping has at least behind the boot stack (public/xen.h).
const MAPPING_SLACK: PageCount = PageCount::new((512 << 10) >> PAGE_SHIFT);

/// The most memory that can be planned: 16 TiB, what Xen supports for a 64-bit PV guest.
const MAX_MEMORY: PageCount = PageCount::new(1 << 32);

/// The same for a 32-bit guest: 64 GiB, which is what PAE reaches.
const MAX_MEMORY_32: PageCount = PageCount::new(1 << 24);

/// What is asked for, besides the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestRequest<'r> {
    /// The guest's memory.
    pub memory: PageCount,
    /// What it may grow to: tables of a PVH guest's paging are counted for so much.
    pub max_memory: PageCount,
    /// The kernel's command line, at most 1023 bytes.
    pub command_line: &'r str,
    /// Bytes of the RAM disk, if there is one.
    pub ramdisk: Option<u64>,
    /// The parts of the RAM disk that a PVH guest is told of one by one, each from a page on; empty: it is told of the whole. A
    /// PV guest is always told of the whole.
    pub modules: &'r [Module<'r>],
    /// What the start info claims about the guest; a plan adds what it has to say itself.
    pub claims: StartFlags,
    /// What Xen is to keep for the tables of a PVH guest's paging; none: as much as Xen's own tools give.
    pub paging_pool: Option<PageCount>,
}

impl<'r> GuestRequest<'r> {
    /// A guest without a RAM disk, of which nothing is claimed.
    pub const fn new(memory: PageCount, command_line: &'r str) -> Self {
        let (modules, claims) = (&[], StartFlags::empty());
        Self { memory, max_memory: memory, command_line, ramdisk: None, modules, claims, paging_pool: None }
    }
}

/// A part of a RAM disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Module<'r> {
    /// Its bytes.
    pub bytes: u64,
    /// Its command line; empty for none.
    pub command_line: &'r str,
}

/// The start-of-day picture of a PV guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PvPlan<'k> {
    pub(crate) kernel: PvKernel<'k>,
    pub(crate) memory: PageCount,
    pub(crate) command_line: Vec<u8>,
    pub(crate) ramdisk: Option<u64>,
    pub(crate) claims: StartFlags,
    pub(crate) areas: Vec<Area>,
    pub(crate) tables: PageTables,
    pub(crate) hypercall_page: Option<Pfn>,
}

impl<'k> PvPlan<'k> {
    /// Works out where everything goes, or says why it cannot.
    pub fn new(kernel: PvKernel<'k>, request: &GuestRequest<'_>) -> Result<Self, PlanError> {
        if request.memory == PageCount::ZERO || request.memory > MAX_MEMORY {
            return Err(PlanError::MemorySize(request.memory));
        }
        if kernel.address_size.is_32_bit() && request.memory > MAX_MEMORY_32 {
            return Err(PlanError::MemorySize32(request.memory));
        }
        if request.command_line.len() >= MAX_COMMAND_LINE {
            return Err(PlanError::CommandLine { length: request.command_line.len() });
        }
        let hypercall_page = check_kernel(&kernel)?;
        let (areas, tables) =
            place(&kernel, request).map_err(|error| with_least_memory(error, &kernel, request))?;
        Ok(Self {
            kernel,
            memory: request.memory,
            command_line: request.command_line.as_bytes().to_vec(),
            ramdisk: request.ramdisk,
            claims: request.claims,
            areas,
            tables,
            hypercall_page,
        })
    }

    /// The guest's memory.
    pub fn memory(&self) -> PageCount {
        self.memory
    }

    /// All areas, by ascending frame; what lies behind the last is free.
    pub fn areas(&self) -> &[Area] {
        &self.areas
    }

    /// The one area of a kind, if the plan has it.
    pub fn area(&self, kind: AreaKind) -> Option<&Area> {
        self.areas.iter().find(|area| area.kind == kind)
    }

    /// The page tables.
    pub fn tables(&self) -> &PageTables {
        &self.tables
    }

    /// How wide its addresses are.
    pub fn address_size(&self) -> AddressSize {
        self.kernel.address_size
    }

    /// The kernel.
    pub fn kernel(&self) -> &PvKernel<'k> {
        &self.kernel
    }

    /// The frame that Xen is to fill with hypercall stubs, if the kernel has one.
    pub fn hypercall_page(&self) -> Option<Pfn> {
        self.hypercall_page
    }

    /// Pages that are written before the guest starts.
    pub fn written(&self) -> PageCount {
        let written = self.areas.iter().filter(|area| area.kind != AreaKind::Padding);
        PageCount::new(written.map(|area| area.pages.raw()).sum())
    }
}

/// Fails unless the kernel's own numbers are sound; gives back the frame of its hypercall page.
fn check_kernel(kernel: &PvKernel<'_>) -> Result<Option<Pfn>, PlanError> {
    let page = PAGE_SIZE as u64;
    let base = kernel.base.raw();
    if !base.is_multiple_of(page) {
        return Err(PlanError::Misaligned { what: "the kernel's base (VIRT_BASE)", address: kernel.base });
    }
    let (start, end) = kernel.extent()?;
    let what = "the kernel's address";
    let (start, end) =
        base.checked_add(start).zip(base.checked_add(end)).ok_or(PlanError::Overflow { what })?;
    if !(start..end).contains(&kernel.entry.raw()) {
        return Err(PlanError::OutsideKernel { what: "ENTRY", address: kernel.entry, start, end });
    }
    let Some(address) = kernel.hypercall_page else { return Ok(None) };
    if !address.raw().is_multiple_of(page) {
        return Err(PlanError::Misaligned { what: "the kernel's HYPERCALL_PAGE", address });
    }
    if !(start..end).contains(&address.raw()) {
        return Err(PlanError::OutsideKernel { what: "HYPERCALL_PAGE", address, start, end });
    }
    Ok(Some(Pfn::new(address.raw().wrapping_sub(base) >> PAGE_SHIFT)))
}

/// The largest guest that [`with_least_memory`] plans: 16 GiB. A kernel's header can ask for terabytes in a few bytes, and the
/// tables of the plan for those would take more memory than a builder has.
const MOST_TRIED: PageCount = PageCount::new(1 << 22);

/// Replaces the first thing that did not fit by what makes everything fit: with more memory the p2m list is larger, so
/// that the answer is looked for, each time from what was missing last. Above [`MOST_TRIED`] it stays a lower bound.
fn with_least_memory(error: PlanError, kernel: &PvKernel<'_>, request: &GuestRequest<'_>) -> PlanError {
    let PlanError::Memory { area, wanted, free, memory, least_mib } = error else { return error };
    let mut least_mib = least_mib;
    loop {
        let pages = PageCount::for_bytes(least_mib.saturating_mul(1 << 20));
        if pages > MOST_TRIED {
            break;
        }
        match place(kernel, &GuestRequest { memory: pages, ..*request }) {
            Err(PlanError::Memory { least_mib: more, .. }) if more > least_mib => least_mib = more,
            _ => break,
        }
    }
    PlanError::Memory { area, wanted, free, memory, least_mib }
}

/// Places all areas, in the order that public/xen.h lays down.
fn place(kernel: &PvKernel<'_>, request: &GuestRequest<'_>) -> Result<(Vec<Area>, PageTables), PlanError> {
    let mut memory = Allocator::new(request.memory, kernel.base.raw());
    let mut tables = PageTables::new(kernel.address_size);
    let (start, end) = kernel.extent()?;
    memory.pad_to(Pfn::new(start >> PAGE_SHIFT))?;
    memory.take(AreaKind::Kernel, PageCount::for_bytes(end.saturating_sub(start)))?;

    let ramdisk = PageCount::for_bytes(request.ramdisk.unwrap_or(0));
    if !kernel.unmapped_ramdisk {
        memory.take(AreaKind::Ramdisk, ramdisk)?;
    }
    let p2m = PageCount::for_bytes(request.memory.raw().saturating_mul(kernel.address_size.word()));
    let init_p2m = kernel.usable_init_p2m();
    if init_p2m.is_none() {
        memory.take(AreaKind::P2m, p2m)?;
    }
    memory.take(AreaKind::StartInfo, PageCount::new(1))?;
    memory.take(AreaKind::XenStore, PageCount::new(1))?;
    memory.take(AreaKind::Console, PageCount::new(1))?;
    place_tables(kernel.base, &mut memory, &mut tables)?;

    if kernel.unmapped_ramdisk {
        memory.take(AreaKind::Ramdisk, ramdisk)?;
    }
    if let Some(virt) = init_p2m {
        place_p2m(virt, p2m, &mut memory, &mut tables)?;
    }
    Ok((memory.finish(), tables))
}

/// Places the page tables of the initial mapping, the boot stack behind them, and the rest of the mapping.
///
/// The tables map themselves, so that their number depends on itself: it is raised until it is enough.
fn place_tables(base: GuestVirt, memory: &mut Allocator, tables: &mut PageTables) -> Result<(), PlanError> {
    const STACK: PageCount = PageCount::new(1);
    const WHAT: &str = "the initial mapping";
    let overflow = PlanError::Overflow { what: WHAT };
    let mut count = PageCount::ZERO;
    let range = loop {
        let pages = count
            .checked_add(STACK)
            .and_then(|pages| pages.checked_add(MAPPING_SLACK))
            .and_then(|pages| memory.next().checked_add(pages))
            .ok_or(overflow.clone())?;
        let bytes = PageCount::new(pages.raw()).bytes().ok_or(overflow.clone())?;
        // The end of the last page of the address space would not fit 64 bits: compare its last byte instead.
        let last =
            base.raw().checked_add(bytes).and_then(|end| end.checked_sub(1)).ok_or(overflow.clone())?;
        let last = last | MAPPING_ALIGNMENT.wrapping_sub(1);
        let pages = last.wrapping_sub(base.raw()) >> PAGE_SHIFT;
        let range =
            MappedRange { virt: base, first: Pfn::new(0), pages: PageCount::new(pages.saturating_add(1)) };
        // Too little memory is said before tables for an absurd mapping are counted.
        memory.check(AreaKind::Padding, range.pages)?;
        let needed = tables.count_missing(&range);
        if needed <= count {
            break range;
        }
        count = needed;
    };
    let area = memory.take(AreaKind::PageTables, count)?;
    memory.take(AreaKind::BootStack, STACK)?;
    memory.pad_to(Pfn::new(range.pages.raw()))?;
    memory.end_mapping();
    tables.map(range, WHAT, area.first)
}

/// Places the p2m list and the tables that map it at the address the kernel asked for.
fn place_p2m(
    virt: GuestVirt,
    pages: PageCount,
    memory: &mut Allocator,
    tables: &mut PageTables,
) -> Result<(), PlanError> {
    let range = MappedRange { virt, first: memory.next(), pages };
    if let Some(other) = tables.overlap(&range) {
        let end =
            |range: &MappedRange| range.virt.raw().wrapping_add(range.pages.bytes().unwrap_or(u64::MAX));
        return Err(PlanError::P2mOverlap {
            p2m_start: virt.raw(),
            p2m_end: end(&range),
            start: other.virt.raw(),
            end: end(&other),
        });
    }
    memory.take(AreaKind::P2m, pages)?;
    let area = memory.take(AreaKind::P2mTables, tables.count_missing(&range))?;
    tables.map(range, "the p2m list (INIT_P2M)", area.first)
}
