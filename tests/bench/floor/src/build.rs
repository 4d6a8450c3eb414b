//! One VM, built call by call.

use alloc::vec::Vec;
use core::fmt;

use domain_plan::{AreaKind, GuestRequest, P2m, PvKernel, PvPlan, StartOfDay};
use hypercall::{FrameWindow, Xen};
use kernel_image::KernelImage;
use protocols::Settings;
use pv_runtime::Hypervisor;
use pv_runtime::clock::{self, SystemTime};
use xen_abi::domctl::{CreateDomain, CreateFlags};
use xen_abi::{DomId, Mfn, PAGE_SIZE, PageCount, VcpuId};

use crate::FloorError;

/// The sum, by call.
#[derive(Debug, Default)]
pub(crate) struct Floor {
    parts: Vec<(&'static str, u64)>,
}

impl Floor {
    /// Does something that is part of the floor.
    fn time<R>(&mut self, name: &'static str, act: impl FnOnce() -> R) -> R {
        let begin = clock::now();
        let result = act();
        self.enter(name, begin, clock::now());
        result
    }

    /// Adds a span of time; what has that name already becomes longer.
    fn enter(&mut self, name: &'static str, begin: SystemTime, end: SystemTime) {
        let took = end.since(begin);
        match self.parts.iter_mut().find(|(part, _)| *part == name) {
            Some((_, sum)) => *sum += took,
            None => self.parts.push((name, took)),
        }
    }
}

impl fmt::Display for Floor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "took={}", self.parts.iter().map(|(_, took)| took).sum::<u64>())?;
        self.parts.iter().try_for_each(|(name, took)| write!(f, " {name}={took}"))
    }
}

/// Builds a VM of `mib` MiB, paused. It stays: memory that a domain has given back is cleared by Xen when the next one gets it.
pub(crate) fn floor(
    xen: &Xen<Hypervisor>,
    window: &mut impl FrameWindow,
    image: &KernelImage<'_>,
    mib: u64,
) -> Result<Floor, FloorError> {
    let memory = PageCount::new(mib << 8);
    let request = GuestRequest::new(memory, "");
    let plan = PvPlan::new(PvKernel::from_image(image)?, &request)?;
    let mut floor = Floor::default();
    let limits = Settings::default().limits;
    let frames = |count: u32| i32::try_from(count).unwrap_or(i32::MAX);
    let domain = CreateDomain {
        ssidref: 0,
        handle: [0; 16],
        flags: CreateFlags::empty(),
        max_vcpus: 1,
        max_evtchn_port: limits.event_channels,
        max_grant_frames: frames(limits.grant_frames),
        max_maptrack_frames: frames(limits.maptrack_frames),
        max_grant_version: 2,
        emulation_flags: 0,
        misc_flags: 0,
    };
    let domid = floor.time("createdomain", || xen.create_domain(None, &domain))?;
    complete(xen, window, &plan, domid, &mut floor)?;
    Ok(floor)
}

/// Everything after the domain's creation.
fn complete(
    xen: &Xen<Hypervisor>,
    window: &mut impl FrameWindow,
    plan: &PvPlan<'_>,
    domid: DomId,
    floor: &mut Floor,
) -> Result<(), FloorError> {
    floor.time("max_vcpus", || xen.set_max_vcpus(domid, 1))?;
    floor.time("max_mem", || xen.set_max_memory(domid, plan.memory()))?;
    let p2m = populate(xen, domid, plan.memory(), floor)?;
    let console = floor.time("alloc_unbound", || xen.alloc_unbound(domid, DomId::SELF))?;
    let info = floor.time("getdomaininfo", || xen.domain_info(domid))?;
    let shared_info = Mfn::new(info.shared_info_frame);
    let address = shared_info.address().ok_or(FloorError::Other("no shared info page"))?;
    let start = StartOfDay { p2m: &p2m, ramdisk: &[], shared_info: address, console, store: None };
    write(window, plan, &start, domid, shared_info, floor)?;
    let top = plan.top_table(&p2m).ok_or(FloorError::Other("no top page table"))?;
    floor.time("pin", || xen.pin_l4(domid, top))?;
    let context = plan.vcpu_context(&p2m);
    floor.time("setvcpucontext", || xen.set_vcpu_context(domid, VcpuId::BOOT, &context))?;
    Ok(())
}

/// All memory in extents of 2 MiB, the size of which Xen always has some: a larger one is a matter of luck.
fn populate(
    xen: &Xen<Hypervisor>,
    domid: DomId,
    memory: PageCount,
    floor: &mut Floor,
) -> Result<P2m, FloorError> {
    const ORDER: u32 = 9;
    const BATCH: u64 = 512;
    let mut p2m = P2m::new();
    let count = memory.raw() >> ORDER;
    for first in (0..count).step_by(512) {
        let mut extents: Vec<u64> = (first..count.min(first + BATCH)).map(|number| number << ORDER).collect();
        let done = floor.time("populate_physmap", || xen.populate(domid, ORDER, &mut extents))?;
        if done.extents < extents.len() {
            return Err(FloorError::Other("Xen has too little memory in pieces of 2 MiB"));
        }
        for mfn in extents {
            p2m.push(Mfn::new(mfn), PageCount::new(1 << ORDER));
        }
    }
    Ok(p2m)
}

/// Writes every page that must have contents: mapped, copied from a finished image, unmapped. Making the image is not part of the
/// floor, copying it is.
fn write(
    window: &mut impl FrameWindow,
    plan: &PvPlan<'_>,
    start: &StartOfDay<'_>,
    domid: DomId,
    shared_info: Mfn,
    floor: &mut Floor,
) -> Result<(), FloorError> {
    let (mut frames, mut contents) = (Vec::new(), Vec::new());
    for area in plan.areas().iter().filter(|area| area.kind != AreaKind::Padding) {
        frames.extend(start.p2m.mfns(area.first, area.pages.raw()));
        let from = contents.len();
        contents.resize(frames.len() * PAGE_SIZE, 0);
        plan.fill(area, 0, contents.get_mut(from..).unwrap_or_default(), start);
    }
    let capacity = window.capacity();
    for (frames, contents) in frames.chunks(capacity).zip(contents.chunks(capacity * PAGE_SIZE)) {
        let begin = clock::now();
        let (copied_from, copied_to) = window.with_frames(domid, frames, |bytes| {
            let from = clock::now();
            bytes.copy_from_slice(contents);
            (from, clock::now())
        })?;
        floor.enter("map", begin, copied_from);
        floor.enter("copy", copied_from, copied_to);
        floor.enter("unmap", copied_to, clock::now());
    }
    // Not part of the floor: a builder may map it with the others. The guest would die of its first event without it.
    window.with_frames(domid, &[shared_info], domain_plan::mask_upcalls)?;
    Ok(())
}
