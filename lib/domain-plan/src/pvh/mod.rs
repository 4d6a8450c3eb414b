//! Planning a PVH guest.
//!
//! A PVH guest has a machine of its own to look at: memory numbered by guest frames from 0, with a hole below 4 GiB, a processor
//! in flat 32-bit mode without paging, ACPI tables, and `hvm_start_info` in place of a PV guest's start info. Nothing of it
//! depends on machine frames, so that every byte is known when the plan is made.

mod acpi;
mod kernel;
mod report;
mod start;

use alloc::string::String;
use alloc::vec::Vec;

use xen_abi::hvm::MAX_VCPUS;
use xen_abi::start_info::StartFlags;
use xen_abi::{PAGE_SHIFT, PageCount, Pfn};

use crate::{Area, AreaKind, GuestRequest, PlanError};

pub use kernel::PvhKernel;

/// Where the hole below 4 GiB begins: no memory there, but the local APIC and the special pages.
const HOLE_START: u64 = 0xfc00_0000 >> PAGE_SHIFT;

/// The frame of every vCPU's local APIC.
const LOCAL_APIC: u64 = 0xfee00;

/// Where memory goes on above the hole.
const HIGH_START: u64 = 1 << (32 - PAGE_SHIFT);

/// Where the special pages end. Xen's own tools have theirs there too, in this order.
const SPECIAL_END: u64 = 0xff000;

/// The special pages: XenStore ring, identity page table, console ring. They come on top of the guest's memory. A guest whose
/// XenStore nobody serves is not told of the ring.
const SPECIAL_PAGES: [AreaKind; 3] = [AreaKind::XenStore, AreaKind::IdentityTable, AreaKind::Console];

/// Where the ACPI tables are: they end at 1 MiB, with the root pointer last, where kernels look that do not ask the start info.
const ACPI_START: u64 = ACPI_END - 8;
/// Where the ACPI tables end.
const ACPI_END: u64 = 0x10_0000 >> PAGE_SHIFT;

/// Xen's own tools give a domain this much memory for paging structures for each vCPU ...
const POOL_FOR_VCPU: u64 = 256;
/// ... and so many pages for each MiB of memory.
const POOL_FOR_MIB: u64 = 2;

/// The most memory that can be planned: 16 TiB.
const MAX_MEMORY: PageCount = PageCount::new(1 << 32);

/// Consecutive guest frames that get memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameRange {
    /// The first frame.
    pub first: Pfn,
    /// How many.
    pub pages: PageCount,
}

/// The vCPUs of a PVH guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vcpus {
    /// How many it has.
    pub all: u32,
    /// How many of them its ACPI tables show as enabled, from the first on; the others it may turn on later. 1 at least.
    pub online: u32,
}

impl From<u32> for Vcpus {
    /// So many, all of them on.
    fn from(all: u32) -> Self {
        Self { all, online: all }
    }
}

/// The start-of-day picture of a PVH guest. "Frame" is always a guest frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PvhPlan<'k> {
    kernel: PvhKernel<'k>,
    memory: PageCount,
    vcpus: Vcpus,
    /// The modules: where in the RAM disk each begins, its bytes, its command line.
    modules: Vec<(u64, u64, String)>,
    claims: StartFlags,
    paging_pool: PageCount,
    areas: Vec<Area>,
    start_info: Vec<u8>,
    acpi: Vec<u8>,
}

/// Pages that Xen's own tools have Xen keep for the paging structures of a PVH guest that may have so much memory.
pub fn usual_paging_pool(memory: PageCount, vcpus: u32) -> PageCount {
    let mib = memory.kib().div_ceil(1024);
    let vcpus = u64::from(vcpus).saturating_mul(POOL_FOR_VCPU);
    PageCount::new(mib.saturating_mul(POOL_FOR_MIB).saturating_add(vcpus))
}

impl<'k> PvhPlan<'k> {
    /// Works out where everything goes, or says why it cannot.
    pub fn new(
        kernel: PvhKernel<'k>,
        request: &GuestRequest<'_>,
        vcpus: impl Into<Vcpus>,
    ) -> Result<Self, PlanError> {
        let vcpus = vcpus.into();
        if request.memory == PageCount::ZERO || request.memory > MAX_MEMORY {
            return Err(PlanError::MemorySize(request.memory));
        }
        if !(1..=MAX_VCPUS).contains(&vcpus.all) {
            return Err(PlanError::PvhVcpus { vcpus: vcpus.all, most: MAX_VCPUS });
        }
        let areas = place(&kernel, request)?;
        let mut plan = Self {
            kernel,
            memory: request.memory,
            vcpus,
            modules: modules(request)?,
            claims: request.claims,
            paging_pool: request
                .paging_pool
                .unwrap_or_else(|| usual_paging_pool(request.max_memory.max(request.memory), vcpus.all)),
            areas,
            start_info: Vec::new(),
            acpi: acpi::tables(vcpus, ACPI_START << PAGE_SHIFT, ACPI_END << PAGE_SHIFT),
        };
        plan.start_info = plan.start_info_bytes(request.command_line);
        Ok(plan)
    }

    /// The guest's memory, without the special pages.
    pub fn memory(&self) -> PageCount {
        self.memory
    }

    /// The guest's vCPUs, those that are off at its start included.
    pub fn vcpus(&self) -> u32 {
        self.vcpus.all
    }

    /// Pages on top of the guest's memory that Xen must allow it.
    pub fn special_pages(&self) -> PageCount {
        PageCount::new(SPECIAL_PAGES.len() as u64)
    }

    /// Pages that Xen is to keep for this guest's paging structures.
    pub fn paging_pool(&self) -> PageCount {
        self.paging_pool
    }

    /// Where the guest has memory, special pages included, by ascending frame.
    pub fn frames(&self) -> Vec<FrameRange> {
        let low = low_memory(self.memory);
        let high = self.memory.raw().saturating_sub(low);
        let range = |first, pages| FrameRange { first: Pfn::new(first), pages: PageCount::new(pages) };
        let special = range(special_frame(0), SPECIAL_PAGES.len() as u64);
        let ranges = [range(0, low), special, range(HIGH_START, high)];
        ranges.into_iter().filter(|range| range.pages != PageCount::ZERO).collect()
    }

    /// Fails if the memory of a device cannot be at the guest frames from `first` on.
    pub fn check_device(&self, first: Pfn, pages: PageCount) -> Result<(), PlanError> {
        let (start, end) = (first.raw(), first.raw().saturating_add(pages.raw()));
        let local_apic = FrameRange { first: Pfn::new(LOCAL_APIC), pages: PageCount::new(1) };
        let taken = |range: &FrameRange| {
            range.first.raw() < end && start < range.first.raw().saturating_add(range.pages.raw())
        };
        match self.frames().into_iter().chain([local_apic]).find(taken) {
            Some(range) => Err(PlanError::DeviceOverlap {
                start,
                end,
                taken_start: range.first.raw(),
                taken_end: range.first.raw().saturating_add(range.pages.raw()),
            }),
            None => Ok(()),
        }
    }

    /// All areas with something in them, by ascending frame.
    pub fn areas(&self) -> &[Area] {
        &self.areas
    }

    /// The one area of a kind, if the plan has it.
    pub fn area(&self, kind: AreaKind) -> Option<&Area> {
        self.areas.iter().find(|area| area.kind == kind)
    }

    /// The kernel.
    pub fn kernel(&self) -> &PvhKernel<'k> {
        &self.kernel
    }

    /// Pages that are written before the guest starts.
    pub fn written(&self) -> PageCount {
        PageCount::new(self.areas.iter().map(|area| area.pages.raw()).sum())
    }
}

/// Where in the RAM disk each module begins, its bytes and its command line.
fn modules(request: &GuestRequest<'_>) -> Result<Vec<(u64, u64, String)>, PlanError> {
    let Some(ramdisk) = request.ramdisk else { return Ok(Vec::new()) };
    if request.modules.is_empty() {
        return Ok(Vec::from([(0, ramdisk, String::new())]));
    }
    let (mut modules, mut end) = (Vec::new(), 0_u64);
    for module in request.modules {
        let start = PageCount::for_bytes(end).raw() << PAGE_SHIFT;
        end = start.saturating_add(module.bytes);
        modules.push((start, module.bytes, module.command_line.into()));
    }
    if end == ramdisk { Ok(modules) } else { Err(PlanError::Modules { ramdisk, modules: end }) }
}

/// Pages of memory below the hole.
fn low_memory(memory: PageCount) -> u64 {
    memory.raw().min(HOLE_START)
}

/// The frame of a special page.
const fn special_frame(index: u64) -> u64 {
    SPECIAL_END.saturating_sub(SPECIAL_PAGES.len() as u64).saturating_add(index)
}

/// Places all areas: the kernel where it wants to be, the ACPI tables where they are looked for, and the rest behind them.
fn place(kernel: &PvhKernel<'_>, request: &GuestRequest<'_>) -> Result<Vec<Area>, PlanError> {
    let area = |kind, first, pages| Area { kind, first: Pfn::new(first), pages, virt: None };
    let (start, end) = kernel.extent()?;
    let (first, behind) = (start >> PAGE_SHIFT, end >> PAGE_SHIFT);
    if first < ACPI_END && behind > ACPI_START {
        let (area_start, area_end) = (ACPI_START << PAGE_SHIFT, ACPI_END << PAGE_SHIFT);
        return Err(PlanError::AcpiOverlap { start, end, area_start, area_end });
    }
    let acpi = area(AreaKind::AcpiTables, ACPI_START, PageCount::new(ACPI_END - ACPI_START));
    let kernel = area(AreaKind::Kernel, first, PageCount::new(behind.saturating_sub(first)));
    let ramdisk = PageCount::for_bytes(request.ramdisk.unwrap_or(0));
    let ramdisk = area(AreaKind::Ramdisk, behind.max(ACPI_END), ramdisk);
    let bytes = start::start_info_size(request);
    let info = area(AreaKind::StartInfo, ramdisk.end().raw(), PageCount::for_bytes(bytes));
    let mut areas = Vec::new();
    for area in [acpi, kernel, ramdisk, info] {
        if area.pages != PageCount::ZERO {
            check(&area, request.memory, info.end())?;
            areas.push(area);
        }
    }
    let special = SPECIAL_PAGES.into_iter().zip(0..);
    areas.extend(special.map(|(kind, index)| area(kind, special_frame(index), PageCount::new(1))));
    areas.sort_by_key(|area| area.first);
    Ok(areas)
}

/// Fails unless there is memory for `area` below the hole. `end` is what a guest must have to hold all areas.
fn check(area: &Area, memory: PageCount, end: Pfn) -> Result<(), PlanError> {
    let low = low_memory(memory);
    if area.end().raw() <= low {
        return Ok(());
    }
    if end.raw() > HOLE_START {
        return Err(PlanError::BeyondHole { area: area.kind, end: area.end().raw() << PAGE_SHIFT });
    }
    Err(PlanError::Memory {
        area: area.kind,
        wanted: area.pages,
        free: PageCount::new(low.saturating_sub(area.first.raw())),
        memory,
        least_mib: PageCount::new(end.raw()).kib().div_ceil(1024),
    })
}
