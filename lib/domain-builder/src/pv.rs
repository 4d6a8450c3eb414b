//! The stages of a PV domain.

use alloc::vec::Vec;

use domain_plan::{Area, AreaKind, P2m, PvPlan, StartOfDay, mask_upcalls};
use hypercall::{FrameWindow, RawHypercall, Xen};
use xen_abi::{DomId, MachineAddr, Mfn, PAGE_SHIFT, PAGE_SIZE, PageCount, Port, VcpuId};

use crate::populate::populate;
use crate::rings::{Ring, RingPorts};
use crate::settings::{self, check_limits};
use crate::{BuildError, DomainSpec, Guarded, Servers, Step};

/// The domain exists: paused, with vCPUs and limits, without memory.
#[derive(Debug)]
pub struct Created<'x, H: RawHypercall> {
    domain: Guarded<'x, H>,
    servers: Servers,
}

/// The domain has its memory and the ports of its rings.
#[derive(Debug)]
pub struct Populated<'x, H: RawHypercall> {
    domain: Guarded<'x, H>,
    p2m: P2m,
    shared_info: MachineAddr,
    ports: RingPorts,
}

/// The domain's memory holds what the plan says.
#[derive(Debug)]
pub struct Loaded<'x, H: RawHypercall> {
    domain: Guarded<'x, H>,
    p2m: P2m,
    ports: RingPorts,
}

/// The domain is complete and paused; it is still destroyed when this value is dropped.
#[derive(Debug)]
pub struct Sealed<'x, H: RawHypercall> {
    pub(crate) domain: Guarded<'x, H>,
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

/// Builds a PV domain through all stages, up to complete and paused.
///
/// `observe` is told of each step when it is done, so that the caller can log it with a time.
pub fn build_pv<'x, H: RawHypercall>(
    xen: &'x Xen<H>,
    window: &mut impl FrameWindow,
    spec: &DomainSpec,
    plan: &PvPlan<'_>,
    ramdisk: &[u8],
    mut observe: impl FnMut(Step, DomId),
) -> Result<Sealed<'x, H>, BuildError> {
    let created = Created::new(xen, spec)?;
    let domid = created.domid();
    observe(Step::Create, domid);
    let populated = created.populate(plan.memory())?;
    observe(Step::Populate, domid);
    let loaded = populated.load(window, plan, ramdisk)?;
    observe(Step::Load, domid);
    let sealed = loaded.seal(plan)?;
    observe(Step::Seal, domid);
    Ok(sealed)
}

impl<'x, H: RawHypercall> Created<'x, H> {
    /// Creates the domain, sets its limits, and gives it what its settings say.
    pub fn new(xen: &'x Xen<H>, spec: &DomainSpec) -> Result<Self, BuildError> {
        check_limits(xen, &spec.settings.limits)?;
        let domid =
            xen.create_domain(spec.domid, &spec.pv_request()).map_err(BuildError::call(Step::Create))?;
        let domain = Guarded::new(xen, domid);
        xen.set_max_vcpus(domid, spec.vcpus).map_err(BuildError::call(Step::Limits))?;
        xen.set_max_memory(domid, spec.max_memory).map_err(BuildError::call(Step::Limits))?;
        settings::apply(xen, domid, spec)?;
        Ok(Self { domain, servers: spec.servers })
    }

    /// Its identifier.
    pub fn domid(&self) -> DomId {
        self.domain.domid()
    }

    /// Gives the domain `memory` pages, and ports that those may bind to who serve its rings.
    pub fn populate(self, memory: PageCount) -> Result<Populated<'x, H>, BuildError> {
        let Self { domain, servers } = self;
        let (xen, domid) = (domain.xen, domain.domid());
        let p2m = populate(xen, domid, memory)?;
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
    /// Fills the domain's memory: every area of the plan, a window's worth of frames at a time.
    pub fn load(
        self,
        window: &mut impl FrameWindow,
        plan: &PvPlan<'_>,
        ramdisk: &[u8],
    ) -> Result<Loaded<'x, H>, BuildError> {
        let Self { domain, p2m, shared_info, ports } = self;
        let RingPorts { console, store, .. } = ports;
        let start = StartOfDay { p2m: &p2m, ramdisk, shared_info, console, store };
        let mut batch = Batch::new(&domain, plan, &start);
        for area in plan.areas().iter().filter(|area| area.kind != AreaKind::Padding) {
            batch.add(window, area)?;
        }
        batch.add_shared_info(window)?;
        batch.flush(window)?;
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
    fn new(domain: &'b Guarded<'x, H>, plan: &'b PvPlan<'b>, start: &'b StartOfDay<'b>) -> Self {
        Self { domain, plan, start, parts: Vec::new(), frames: Vec::new() }
    }

    /// Adds all pages of `area`, filling what fills the window.
    fn add(&mut self, window: &mut impl FrameWindow, area: &'b Area) -> Result<(), BuildError> {
        let capacity = window.capacity();
        let mut done = 0;
        while done < area.pages.raw() {
            let room = (capacity - self.frames.len()) as u64;
            let pages = (area.pages.raw() - done).min(room);
            if let Some(first) = area.first.checked_add(PageCount::new(done)) {
                self.frames.extend(self.start.p2m.mfns(first, pages));
            }
            let pages_here = usize::try_from(pages).unwrap_or(capacity);
            self.parts.push(Part::Area { area, first: done, pages: pages_here });
            done += pages;
            if self.frames.len() == capacity {
                self.flush(window)?;
            }
        }
        Ok(())
    }

    /// Adds the page that Xen shares with the domain.
    fn add_shared_info(&mut self, window: &mut impl FrameWindow) -> Result<(), BuildError> {
        if self.frames.len() == window.capacity() {
            self.flush(window)?;
        }
        self.frames.push(Mfn::new(self.start.shared_info.raw() >> PAGE_SHIFT));
        self.parts.push(Part::SharedInfo);
        Ok(())
    }

    /// Maps what was collected and fills it.
    fn flush(&mut self, window: &mut impl FrameWindow) -> Result<(), BuildError> {
        if self.frames.is_empty() {
            return Ok(());
        }
        let (plan, start, parts) = (self.plan, self.start, &self.parts);
        window
            .with_frames(self.domain.domid(), &self.frames, |mut bytes| {
                for part in parts {
                    let (page_bytes, rest) = bytes.split_at_mut(part.bytes());
                    match part {
                        Part::Area { area, first, .. } => plan.fill(area, *first, page_bytes, start),
                        Part::SharedInfo => mask_upcalls(page_bytes),
                    }
                    bytes = rest;
                }
            })
            .map_err(BuildError::window(Step::Load))?;
        self.parts.clear();
        self.frames.clear();
        Ok(())
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
        let store = frame(AreaKind::XenStore).zip(ports.store).map(|(frame, port)| Ring { frame, port });
        xen.pin_l4(domid, top).map_err(BuildError::call(Step::Seal))?;
        let context = plan.vcpu_context(&p2m);
        xen.set_vcpu_context(domid, VcpuId::BOOT, &context).map_err(BuildError::call(Step::Vcpu))?;
        Ok(Sealed { domain, console_frame, console: ports.console, store, runs: p2m.runs() })
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

    /// Its XenStore ring, if that is served.
    pub fn store(&self) -> Option<Ring> {
        self.store
    }

    /// In how many runs of frames its memory came: 1 is the best.
    pub fn memory_runs(&self) -> usize {
        self.runs
    }

    /// Starts the domain and ends the guard over it.
    pub fn start(self) -> Result<Started, BuildError> {
        self.domain.xen.unpause_domain(self.domain.domid()).map_err(BuildError::call(Step::Start))?;
        let Self { domain, console_frame, console, .. } = self;
        Ok(Started { domid: domain.release(), console_frame, console })
    }
}
