//! The stages of a PVH domain.
//!
//! Its frames are named by guest frame number everywhere: to populate, in parameters, and to map them through the window, for
//! Xen translates the numbers of a domain that has a translation of its own.

use alloc::vec::Vec;

use domain_plan::{Area, AreaKind, PvhPlan};
use hypercall::{FrameWindow, RawHypercall, Xen};
use xen_abi::hvm::save::{self, Cpu, Descriptor, MTRR_ENABLE, MTRR_WRITE_BACK, Mtrr};
use xen_abi::hvm::start_info::MemoryRange;
use xen_abi::hvm::{
    PARAM_CONSOLE_EVTCHN, PARAM_CONSOLE_PFN, PARAM_IDENT_PT, PARAM_STORE_EVTCHN, PARAM_STORE_PFN,
    PARAM_TIMER_MODE, TIMER_NO_DELAY_FOR_MISSED_TICKS,
};
use xen_abi::memory::MapEntry;
use xen_abi::{DomId, Mfn, PAGE_SHIFT, PAGE_SIZE};
use zerocopy::IntoBytes;

use crate::labels::find_labels;
use crate::paging::choose_paging;
use crate::populate::Supply;
use crate::processor::Topology;
use crate::rings::{Ring, RingPorts};
use crate::settings::{self, Translated, check_release};
use crate::{BuildError, DomainSpec, Guarded, Sealed, Servers, Step};

/// The domain exists: paused, with vCPUs, limits and a paging pool, without memory.
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
    extents: usize,
}

/// The domain has its memory and the ports of its rings.
#[derive(Debug)]
pub struct Populated<'x, H: RawHypercall> {
    pub(crate) domain: Guarded<'x, H>,
    ports: RingPorts,
    extents: usize,
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
    ports: RingPorts,
    extents: usize,
}

impl<'x, H: RawHypercall> Created<'x, H> {
    /// Creates the domain, sets its limits, and gives Xen memory for its paging structures.
    pub fn new(xen: &'x Xen<H>, spec: &DomainSpec, plan: &PvhPlan<'_>) -> Result<Self, BuildError> {
        let paging = choose_paging(xen, spec.settings.processor.paging)?;
        check_release(xen, &spec.settings)?;
        let labels = find_labels(xen, &spec.settings.labels)?;
        let request = spec.pvh_request(labels.creation, paging);
        let domid = xen.create_domain(spec.domid, &request).map_err(BuildError::call(Step::Create))?;
        let domain = Guarded::new(xen, domid, labels);
        let limit = spec.max_memory.checked_add(plan.special_pages()).unwrap_or(spec.max_memory);
        xen.set_max_vcpus(domid, spec.vcpus).map_err(BuildError::call(Step::Limits))?;
        xen.set_max_memory(domid, limit).map_err(BuildError::call(Step::Limits))?;
        xen.set_paging_pool(domid, plan.paging_pool()).map_err(BuildError::call(Step::Limits))?;
        // A vCPU alone stands in no relation to others.
        let topology = if spec.vcpus > 1 { Topology::Cores(spec.vcpus) } else { Topology::Machine };
        settings::apply(xen, domid, spec, topology, Translated::Yes)?;
        Ok(Self { domain, servers: spec.servers })
    }

    /// Its identifier.
    pub fn domid(&self) -> DomId {
        self.domain.domid()
    }

    /// Begins to give the domain its memory.
    pub fn populate(self, plan: &PvhPlan<'_>) -> Populating<'x, H> {
        let Self { domain, servers } = self;
        Populating { domain, servers, supply: Supply::new(plan.frames()), extents: 0 }
    }
}

impl<'x, H: RawHypercall> Populating<'x, H> {
    /// Asks Xen once for memory; says whether the domain has all of it.
    pub fn step(&mut self) -> Result<bool, BuildError> {
        let Self { domain, supply, extents, .. } = self;
        supply.step(domain.xen, domain.domid(), |_, _| *extents += 1)
    }

    /// Gives the domain, which has its memory, ports that those may bind to who serve its rings.
    pub fn finish(self) -> Result<Populated<'x, H>, BuildError> {
        let Self { domain, servers, extents, .. } = self;
        let (xen, domid) = (domain.xen, domain.domid());
        let ports = RingPorts::open(xen, domid, servers)?;
        Ok(Populated { domain, ports, extents })
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
        plan: &PvhPlan<'_>,
        ramdisk: &[u8],
    ) -> Result<bool, BuildError> {
        let capacity = window.capacity();
        // Areas as (area, its first page, pages), as many as fit the window together.
        let (mut parts, mut frames): (Vec<(&Area, u64, usize)>, Vec<Mfn>) = (Vec::new(), Vec::new());
        let next = &mut self.next;
        while let Some(area) = plan.areas().get(next.0) {
            let room = capacity.saturating_sub(frames.len());
            let pages = area.pages.raw().saturating_sub(next.1).min(room as u64);
            if pages == 0 && room > 0 {
                *next = (next.0 + 1, 0);
                continue;
            }
            if room == 0 {
                break;
            }
            let first = area.first.raw() + next.1;
            frames.extend((first..first + pages).map(Mfn::new));
            parts.push((area, next.1, usize::try_from(pages).unwrap_or(room)));
            next.1 += pages;
        }
        fill(window, self.populated.domain.domid(), plan, ramdisk, &parts, &frames)?;
        Ok(next.0 >= plan.areas().len())
    }

    /// Ends the loading of the domain, all of whose memory is filled.
    pub fn finish(
        self,
        window: &mut impl FrameWindow,
        plan: &PvhPlan<'_>,
    ) -> Result<Loaded<'x, H>, BuildError> {
        let Populated { domain, ports, extents } = self.populated;
        let frame = |kind| plan.area(kind).map(|area| Mfn::new(area.first.raw()));
        let rings = [frame(AreaKind::Console), frame(AreaKind::XenStore)];
        ports.grant(domain.xen, window, domain.domid(), rings)?;
        Ok(Loaded { domain, ports, extents })
    }
}

/// Maps `frames` together and fills them with `parts`.
fn fill(
    window: &mut impl FrameWindow,
    domain: DomId,
    plan: &PvhPlan<'_>,
    ramdisk: &[u8],
    parts: &[(&Area, u64, usize)],
    frames: &[Mfn],
) -> Result<(), BuildError> {
    if frames.is_empty() {
        return Ok(());
    }
    let fill_all = |mut bytes: &mut [u8]| {
        for (area, first, pages) in parts {
            let (part, rest) = bytes.split_at_mut(pages * PAGE_SIZE);
            plan.fill(area, *first, part, ramdisk);
            bytes = rest;
        }
    };
    window.with_frames(domain, frames, fill_all).map_err(BuildError::window(Step::Load))
}

impl<'x, H: RawHypercall> Loaded<'x, H> {
    /// Tells Xen and the guest where the special pages are, and sets the first vCPU's registers.
    pub fn seal(self, plan: &PvhPlan<'_>) -> Result<Sealed<'x, H>, BuildError> {
        let Self { domain, ports, extents } = self;
        let (xen, domid) = (domain.xen, domain.domid());
        let frame = |kind, what| {
            let error = BuildError::NoFrame { step: Step::Seal, domain: domid, what };
            plan.area(kind).map(|area| area.first).ok_or(error)
        };
        let ring = frame(AreaKind::Console, "the console ring")?;
        let identity = frame(AreaKind::IdentityTable, "the identity table")?;
        let start_info = frame(AreaKind::StartInfo, "the start info")?;
        let store_frame = frame(AreaKind::XenStore, "the XenStore ring")?;
        let store = ports.store.map(|port| Ring { frame: Mfn::new(store_frame.raw()), port });
        let map: Vec<MapEntry> = plan.memory_map().iter().map(map_entry).collect();
        xen.set_memory_map(domid, &map).map_err(BuildError::call(Step::Seal))?;
        let params = [
            (PARAM_TIMER_MODE, TIMER_NO_DELAY_FOR_MISSED_TICKS),
            (PARAM_IDENT_PT, identity.raw() << PAGE_SHIFT),
            (PARAM_CONSOLE_PFN, ring.raw()),
            (PARAM_CONSOLE_EVTCHN, u64::from(ports.console.raw())),
        ];
        let store_params = store.map(|Ring { frame, port }| {
            [(PARAM_STORE_PFN, frame.raw()), (PARAM_STORE_EVTCHN, u64::from(port.raw()))]
        });
        for (index, value) in params.into_iter().chain(store_params.into_iter().flatten()) {
            xen.set_hvm_param(domid, index, value).map_err(BuildError::call(Step::Seal))?;
        }
        let saved = xen.hvm_context(domid).map_err(BuildError::call(Step::Vcpu))?;
        let state = first_state(&saved, plan.vcpus(), &plan.boot_cpu())
            .map_err(|what| BuildError::NoState { domain: domid, what })?;
        xen.set_hvm_context(domid, &state).map_err(BuildError::call(Step::Vcpu))?;
        Ok(Sealed {
            domain,
            start_info: Mfn::new(start_info.raw()),
            console_frame: Mfn::new(ring.raw()),
            console: ports.console,
            store,
            runs: extents,
        })
    }
}

/// A range of the map in the start info as Xen hands it out: some kernels (GRUB) ask Xen and do not look into the start info.
fn map_entry(range: &MemoryRange) -> MapEntry {
    MapEntry { addr: range.addr.into(), size: range.size.into(), kind: range.kind.into() }
}

/// The state that a domain starts with, from the one that Xen created it with: memory is cached by default on every vCPU, and the
/// first one has the registers in `cpu`. The error says what `saved` lacks.
///
/// It is one stream for one call, because each call takes all vCPUs offline that it has no registers for.
fn first_state(saved: &[u8], vcpus: u32, cpu: &Cpu) -> Result<Vec<u8>, &'static str> {
    let find = |typecode, instance: u32| {
        let mut records = save::records(saved);
        records.find(|(it, _)| it.typecode == typecode && u32::from(it.instance) == instance)
    };
    let mut stream = Vec::new();
    let mut push = |descriptor: Descriptor, bytes: &[u8]| {
        stream.extend_from_slice(descriptor.as_bytes());
        stream.extend_from_slice(bytes);
    };
    let (header, bytes) = find(save::HEADER, 0).ok_or("header")?;
    push(header, bytes);
    for vcpu in 0..vcpus {
        let (descriptor, bytes) = find(save::MTRR, vcpu).ok_or("memory types (MTRR) of a vCPU")?;
        let mut mtrr = bytes.to_vec();
        let default = (MTRR_ENABLE | MTRR_WRITE_BACK).to_le_bytes();
        let field = mtrr.get_mut(core::mem::offset_of!(Mtrr, msr_mtrr_def_type)..);
        let field = field.and_then(<[u8]>::first_chunk_mut::<8>).ok_or("default memory type of a vCPU")?;
        *field = default;
        push(descriptor, &mtrr);
    }
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let record = |typecode, bytes: &[u8]| Descriptor { typecode, instance: 0, length: length(bytes) };
    push(record(save::CPU, cpu.as_bytes()), cpu.as_bytes());
    push(record(save::END, &[]), &[]);
    Ok(stream)
}
