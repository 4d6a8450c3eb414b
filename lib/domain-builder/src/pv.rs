//! The stages of a PV domain.

use alloc::vec::Vec;

use domain_plan::{Area, AreaKind, FrameRange, P2m, PvPlan, StartOfDay, mask_upcalls};
use hypercall::{FrameWindow, RawHypercall, Xen};
use xen_abi::hvm::start_info::MEMORY_RAM;
use xen_abi::memory::MapEntry;
use xen_abi::pv32::VcpuGuestContext32;
use xen_abi::{DomId, MachineAddr, Mfn, PAGE_SHIFT, PAGE_SIZE, PageCount, Pfn, Port, VcpuId};

use crate::labels::find_labels;
use crate::populate::Supply;
use crate::processor::Topology;
use crate::rings::{Ring, RingPorts};
use crate::settings::{self, Translated, check_release};
use crate::{BuildError, DomainSpec, Guarded, Servers, Step};

/// The domain exists: paused, with vCPUs and limits, without memory.
#[derive(Debug)]
pub struct Created<'x, H: RawHypercall> {
    domain: Guarded<'x, H>,
    servers: Servers,
}

/// The domain is being given its memory.
#[derive(Debug)]
pub struct Populating<'x, H: RawHypercall> {
    domain: Guarded<'x, H>,
    servers: Servers,
    supply: Supply,
    p2m: P2m,
}

/// The domain has its memory and the ports of its rings.
#[derive(Debug)]
pub struct Populated<'x, H: RawHypercall> {
    pub(crate) domain: Guarded<'x, H>,
    p2m: P2m,
    shared_info: MachineAddr,
    ports: RingPorts,
}

/// The domain's memory is being filled.
#[derive(Debug)]
pub struct Loading<'x, H: RawHypercall> {
    populated: Populated<'x, H>,
    /// What is filled next: an area by its index, and a page of it.
    next: (usize, u64),
}

/// The domain's memory holds what the plan says.
#[derive(Debug)]
pub struct Loaded<'x, H: RawHypercall> {
    pub(crate) domain: Guarded<'x, H>,
    p2m: P2m,
    ports: RingPorts,
}

/// The domain is complete and paused; it is still destroyed when this value is dropped.
#[derive(Debug)]
pub struct Sealed<'x, H: RawHypercall> {
    pub(crate) domain: Guarded<'x, H>,
    pub(crate) start_info: Mfn,
    pub(crate) console_frame: Mfn,
    pub(crate) console: Port,
    pub(crate) store: Option<Ring>,
    pub(crate) runs: usize,
}

/// A complete domain that is no longer guarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Started {
    /// Its identifier.
    pub domid: DomId,
    /// The frame of its console ring, as the window takes it: of a PVH domain, the guest frame.
    pub console_frame: Mfn,
    /// Its own port of the console ring, which the builder's domain may bind to.
    pub console: Port,
}

impl<'x, H: RawHypercall> Created<'x, H> {
    /// Creates the domain, sets its limits, and gives it what its settings say.
    pub fn new(xen: &'x Xen<H>, spec: &DomainSpec, plan: &PvPlan<'_>) -> Result<Self, BuildError> {
        check_release(xen, &spec.settings)?;
        if plan.address_size().is_32_bit() {
            let offered = xen.guest_kinds().map_err(BuildError::call(Step::Create))?;
            if !offered.pv32 {
                return Err(BuildError::NoPv32 { offered });
            }
        }
        let labels = find_labels(xen, &spec.settings.labels)?;
        let request = spec.pv_request(labels.creation);
        let domid = xen.create_domain(spec.domid, &request).map_err(BuildError::call(Step::Create))?;
        let domain = Guarded::new(xen, domid, labels);
        xen.set_max_vcpus(domid, spec.vcpus).map_err(BuildError::call(Step::Limits))?;
        xen.set_max_memory(domid, spec.max_memory).map_err(BuildError::call(Step::Limits))?;
        if plan.address_size().is_32_bit() {
            // While the domain has no memory; and before its CPUID is set, which Xen works out anew here.
            xen.make_32_bit(domid).map_err(BuildError::call(Step::Limits))?;
        }
        if spec.max_memory > plan.memory() {
            // A guest that asks Xen for its memory map, as Linux does, keeps room for what it may grow to.
            let size = (spec.max_memory.raw() << PAGE_SHIFT).into();
            let map = [MapEntry { size, kind: MEMORY_RAM.into(), ..MapEntry::default() }];
            xen.set_memory_map(domid, &map).map_err(BuildError::call(Step::Limits))?;
        }
        settings::apply(xen, domid, spec, Topology::Machine, Translated::No)?;
        Ok(Self { domain, servers: spec.servers })
    }

    /// Its identifier.
    pub fn domid(&self) -> DomId {
        self.domain.domid()
    }

    /// Begins to give the domain `memory` pages from PFN 0 on.
    pub fn populate(self, memory: PageCount) -> Populating<'x, H> {
        let range = FrameRange { first: Pfn::new(0), pages: memory };
        let Self { domain, servers } = self;
        Populating { domain, servers, supply: Supply::new(alloc::vec![range]), p2m: P2m::new() }
    }
}

impl<'x, H: RawHypercall> Populating<'x, H> {
    /// Asks Xen once for memory; says whether the domain has all of it.
    pub fn step(&mut self) -> Result<bool, BuildError> {
        let Self { domain, supply, p2m, .. } = self;
        supply.step(domain.xen, domain.domid(), |mfn, size| p2m.push(Mfn::new(mfn), size))
    }

    /// Gives the domain, which has its memory, ports that those may bind to who serve its rings.
    pub fn finish(self) -> Result<Populated<'x, H>, BuildError> {
        let Self { domain, servers, p2m, .. } = self;
        let (xen, domid) = (domain.xen, domain.domid());
        let ports = RingPorts::open(xen, domid, servers)?;
        let info = xen.domain_info(domid).map_err(BuildError::call(Step::Load))?;
        let shared_info = Mfn::new(info.shared_info_frame).address();
        let shared_info = shared_info.ok_or(BuildError::NoFrame {
            step: Step::Load,
            domain: domid,
            what: "the shared info",
        })?;
        Ok(Populated { domain, p2m, shared_info, ports })
    }
}

impl<'x, H: RawHypercall> Populated<'x, H> {
    /// Begins to fill the domain's memory.
    pub fn load(self) -> Loading<'x, H> {
        Loading { populated: self, next: (0, 0) }
    }
}

impl<'x, H: RawHypercall> Loading<'x, H> {
    /// Fills as many frames as the window takes with what the plan says, which is the same in each step; says whether there are no
    /// more.
    pub fn step(
        &mut self,
        window: &mut impl FrameWindow,
        plan: &PvPlan<'_>,
        ramdisk: &[u8],
    ) -> Result<bool, BuildError> {
        let Populated { domain, p2m, shared_info, ports } = &self.populated;
        let (shared_info, RingPorts { console, store, .. }) = (*shared_info, *ports);
        let start = StartOfDay { p2m, ramdisk, shared_info, console, store };
        let mut batch = Batch::new(domain, plan, &start, window.capacity());
        let is_last = batch.collect(&mut self.next);
        if is_last {
            batch.add_shared_info();
        }
        batch.fill(window)?;
        Ok(is_last)
    }

    /// Ends the loading of the domain, all of whose memory is filled.
    pub fn finish(
        self,
        window: &mut impl FrameWindow,
        plan: &PvPlan<'_>,
    ) -> Result<Loaded<'x, H>, BuildError> {
        let Populated { domain, p2m, ports, shared_info } = self.populated;
        if let Some(what) = plan.out_of_reach(&p2m, shared_info) {
            return Err(BuildError::OutOfReach { domain: domain.domid(), what });
        }
        if let Some(frame) = plan.hypercall_page() {
            let domid = domain.domid();
            let what = "the hypercall page";
            let mfn = p2m.mfn(frame).ok_or(BuildError::NoFrame { step: Step::Load, domain: domid, what })?;
            domain.xen.init_hypercall_page(domid, mfn).map_err(BuildError::call(Step::Load))?;
        }
        let frame = |kind| plan.area(kind).and_then(|area| p2m.mfn(area.first));
        let rings = [frame(AreaKind::Console), frame(AreaKind::XenStore)];
        ports.grant(domain.xen, window, domain.domid(), rings)?;
        Ok(Loaded { domain, p2m, ports })
    }
}

/// Pages that are to be filled together: areas are small next to a window, and a mapping costs a hypercall.
struct Batch<'b, 'x, H: RawHypercall> {
    domain: &'b Guarded<'x, H>,
    plan: &'b PvPlan<'b>,
    start: &'b StartOfDay<'b>,
    /// Frames that the window takes.
    capacity: usize,
    /// What to fill, in the order of `frames`.
    parts: Vec<Part<'b>>,
    frames: Vec<Mfn>,
}

/// Frames of a batch that are filled with one thing.
enum Part<'b> {
    /// `pages` pages of an area from its page `first` on.
    Area { area: &'b Area, first: u64, pages: usize },
    /// The page that Xen shares with the domain.
    SharedInfo,
}

impl Part<'_> {
    fn bytes(&self) -> usize {
        match self {
            Self::Area { pages, .. } => pages * PAGE_SIZE,
            Self::SharedInfo => PAGE_SIZE,
        }
    }
}

impl<'b, 'x, H: RawHypercall> Batch<'b, 'x, H> {
    fn new(
        domain: &'b Guarded<'x, H>,
        plan: &'b PvPlan<'b>,
        start: &'b StartOfDay<'b>,
        capacity: usize,
    ) -> Self {
        Self { domain, plan, start, capacity, parts: Vec::new(), frames: Vec::new() }
    }

    /// Adds the pages of the plan from `next` on, an area by its index and a page of it, until the window is full or there are no
    /// more; says whether there is room left, hence no page.
    fn collect(&mut self, next: &mut (usize, u64)) -> bool {
        while let Some(area) = self.plan.areas().get(next.0) {
            if area.kind == AreaKind::Padding || next.1 >= area.pages.raw() {
                *next = (next.0 + 1, 0);
                continue;
            }
            let room = self.capacity.saturating_sub(self.frames.len());
            if room == 0 {
                return false;
            }
            let pages = (area.pages.raw() - next.1).min(room as u64);
            if let Some(first) = area.first.checked_add(PageCount::new(next.1)) {
                self.frames.extend(self.start.p2m.mfns(first, pages));
            }
            let pages_here = usize::try_from(pages).unwrap_or(room);
            self.parts.push(Part::Area { area, first: next.1, pages: pages_here });
            next.1 += pages;
        }
        self.frames.len() < self.capacity
    }

    /// Adds the page that Xen shares with the domain; there has to be room.
    fn add_shared_info(&mut self) {
        self.frames.push(Mfn::new(self.start.shared_info.raw() >> PAGE_SHIFT));
        self.parts.push(Part::SharedInfo);
    }

    /// Maps what was collected and fills it.
    fn fill(&self, window: &mut impl FrameWindow) -> Result<(), BuildError> {
        let Self { plan, start, parts, frames, .. } = self;
        window
            .with_frames(self.domain.domid(), frames, |mut bytes| {
                for part in parts {
                    let (page_bytes, rest) = bytes.split_at_mut(part.bytes());
                    match part {
                        Part::Area { area, first, .. } => plan.fill(area, *first, page_bytes, start),
                        Part::SharedInfo => mask_upcalls(page_bytes),
                    }
                    bytes = rest;
                }
            })
            .map_err(BuildError::window(Step::Load))
    }
}

impl<'x, H: RawHypercall> Loaded<'x, H> {
    /// Hands the page tables to Xen, which from here on guards them, and sets the first vCPU's registers.
    pub fn seal(self, plan: &PvPlan<'_>) -> Result<Sealed<'x, H>, BuildError> {
        let Self { domain, p2m, ports } = self;
        let (xen, domid) = (domain.xen, domain.domid());
        let no_frame = |what| BuildError::NoFrame { step: Step::Seal, domain: domid, what };
        let top = plan.top_table(&p2m).ok_or(no_frame("the top page table"))?;
        let frame = |kind| plan.area(kind).and_then(|area| p2m.mfn(area.first));
        let console_frame = frame(AreaKind::Console).ok_or(no_frame("the console ring"))?;
        let start_info = frame(AreaKind::StartInfo).ok_or(no_frame("the start info"))?;
        let store = frame(AreaKind::XenStore).zip(ports.store).map(|(frame, port)| Ring { frame, port });
        let context = plan.vcpu_context(&p2m);
        let (sealed, started) = (BuildError::call(Step::Seal), BuildError::call(Step::Vcpu));
        if plan.address_size().is_32_bit() {
            xen.pin_l3(domid, top).map_err(sealed)?;
            let context = VcpuGuestContext32::narrow(&context);
            xen.set_vcpu_context_32(domid, VcpuId::BOOT, &context).map_err(started)?;
        } else {
            xen.pin_l4(domid, top).map_err(sealed)?;
            xen.set_vcpu_context(domid, VcpuId::BOOT, &context).map_err(started)?;
        }
        Ok(Sealed { domain, start_info, console_frame, console: ports.console, store, runs: p2m.runs() })
    }
}

impl<H: RawHypercall> Sealed<'_, H> {
    /// Its identifier.
    pub fn domid(&self) -> DomId {
        self.domain.domid()
    }

    /// The frame of its console ring, as the window takes it: of a PVH domain, the guest frame.
    pub fn console_frame(&self) -> Mfn {
        self.console_frame
    }

    /// Its own port of the console ring.
    pub fn console(&self) -> Port {
        self.console
    }

    /// The frame of its start info, in the numbers of [`console_frame`](Self::console_frame).
    pub fn start_info(&self) -> Mfn {
        self.start_info
    }

    /// Its XenStore ring, if that is served.
    pub fn store(&self) -> Option<Ring> {
        self.store
    }

    /// In how many runs of frames its memory came: 1 is the best.
    pub fn memory_runs(&self) -> usize {
        self.runs
    }

    /// Changes the label that the domain was built with to the one that it runs with, if that is another.
    ///
    /// A policy may let the builder map the domain's memory before, and use its event channels after: who needs both calls this in
    /// between. Whoever starts the domain without having called it gets it done then.
    pub fn give_label(&mut self) -> Result<(), BuildError> {
        let Some(label) = self.domain.final_label else { return Ok(()) };
        self.domain.xen.relabel(self.domain.domid(), label).map_err(BuildError::call(Step::Label))?;
        self.domain.final_label = None;
        Ok(())
    }

    /// Gives the domain the label that it runs with, ends the guard over it, and leaves it paused.
    pub fn stay_paused(mut self) -> Result<Started, BuildError> {
        self.give_label()?;
        let Self { domain, console_frame, console, .. } = self;
        Ok(Started { domid: domain.release(), console_frame, console })
    }

    /// Gives the domain the label that it runs with, starts it, and ends the guard over it.
    pub fn start(mut self) -> Result<Started, BuildError> {
        self.give_label()?;
        self.domain.xen.unpause_domain(self.domain.domid()).map_err(BuildError::call(Step::Start))?;
        let Self { domain, console_frame, console, .. } = self;
        Ok(Started { domid: domain.release(), console_frame, console })
    }
}
