//! Domains and their life.

use xen_abi::cpu_policy::MSR_RELAXED;
use xen_abi::domctl::{CreateDomain, CreateFlags, DomainInfo, DomainState};
use xen_abi::hvm::{EMULATE_LAPIC, MAX_VCPUS};
use xen_abi::memory::MapEntry;
use xen_abi::sysctl::Capabilities;
use xen_abi::{DomId, Errno, Mfn, PageCount};
use zerocopy::FromZeros;

use crate::access::Devices;
use crate::cpu_policy::CpuView;
use crate::events::Ports;
use crate::frames::{Frame, Holder};
use crate::grants::Table;
use crate::hvm::{Hvm, HvmVcpu};
use crate::release::Release;
use crate::scheduling::Share;
use crate::state::State;
use crate::vcpus::{Vcpu, address_space};

/// The most vCPUs of a PV domain (`MAX_VIRT_CPUS`).
const PV_MAX_VCPUS: u32 = 8192;
/// Highest grant table version that Xen supports.
const MAX_GRANT_VERSION: u32 = 2;
/// Frames a grant table may have when a domain asks for the default.
const DEFAULT_GRANT_FRAMES: i32 = 64;
/// `X86_EMU_PIT`: the one emulation that a PV domain may have.
const EMULATE_PIT: u32 = 1 << 8;
/// The most pauses that are counted.
const MAX_PAUSES: u32 = 255;

/// How far a domain is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// Not destroyed.
    Alive,
    /// Destroyed, but others still use frames of it: a zombie.
    Dead,
}

/// A domain.
#[derive(Debug)]
pub(crate) struct Domain {
    pub(crate) handle: [u8; 16],
    pub(crate) flags: CreateFlags,
    pub(crate) max_vcpus: u32,
    /// Empty until `XEN_DOMCTL_max_vcpus`.
    pub(crate) vcpus: Vec<Vcpu>,
    pub(crate) pages: u64,
    pub(crate) max_pages: u64,
    /// Pages claimed and not got yet.
    pub(crate) claimed: u64,
    /// What it is told when it asks for its memory map.
    pub(crate) memory_map: Vec<MapEntry>,
    pub(crate) shared_info: Mfn,
    /// Frames of Xen's bookkeeping.
    pub(crate) private: Vec<Mfn>,
    pub(crate) grants: Table,
    pub(crate) ports: Ports,
    pub(crate) pauses: u32,
    /// Whether it was unpaused once.
    pub(crate) started: bool,
    pub(crate) shutdown: Option<u8>,
    pub(crate) life: Life,
    /// Whether it was made a 32-bit PV domain.
    pub(crate) is_32_bit: bool,
    /// Only of a hardware-assisted domain.
    pub(crate) hvm: Option<Hvm>,
    /// What it may use of the machine.
    pub(crate) devices: Devices,
    pub(crate) share: Share,
    /// Its CPU pool.
    pub(crate) pool: u32,
    /// What it sees of the processor.
    pub(crate) cpu: CpuView,
    /// The number of its security label.
    pub(crate) label: u32,
    /// What it was created with.
    pub(crate) request: CreateDomain,
}

impl State {
    /// `XEN_DOMCTL_createdomain`.
    pub(crate) fn create_domain(&mut self, wanted: DomId, request: &CreateDomain) -> Result<DomId, Errno> {
        let domid = self.choose_domid(wanted)?;
        self.allows_creation(request.ssidref)?;
        if let Err(errno) = check_create(request, self.release, self.capabilities) {
            if self.release.loses_refused_domids() {
                self.lost_domids.insert(domid);
            }
            return Err(errno);
        }
        self.insert_domain(domid, request)?;
        Ok(domid)
    }

    /// Finds the identifier for a new domain: never the one chosen last time.
    fn choose_domid(&mut self, wanted: DomId) -> Result<DomId, Errno> {
        if !self.release.chooses_domid(wanted) {
            let taken = !wanted.is_ordinary() || !self.is_free(wanted);
            return if taken { Err(Errno::EEXIST) } else { Ok(wanted) };
        }
        let end = DomId::FIRST_RESERVED.raw();
        let found = (self.last_domid + 1..end)
            .chain(1..=self.last_domid)
            .find(|domid| self.is_free(DomId::new(*domid)))
            .ok_or(Errno::ENOMEM)?;
        self.last_domid = found;
        Ok(DomId::new(found))
    }

    /// Whether a new domain can have an identifier.
    fn is_free(&self, domid: DomId) -> bool {
        !self.domains.contains_key(&domid) && !self.lost_domids.contains(&domid)
    }

    /// Makes a domain with what Xen itself needs for it.
    pub(crate) fn insert_domain(&mut self, domid: DomId, request: &CreateDomain) -> Result<(), Errno> {
        let mut frames = Vec::new();
        let kinds = [Holder::Private(domid), Holder::Shared(domid), Holder::Shared(domid)];
        for kind in kinds {
            let Some(mfn) = self.allocate_for_xen(kind) else {
                for mfn in frames {
                    self.frames.release(mfn);
                }
                return Err(Errno::ENOMEM);
            };
            frames.push(mfn);
        }
        let wanted = request.max_grant_frames;
        let max_grant_frames = if wanted < 0 { DEFAULT_GRANT_FRAMES } else { wanted }.unsigned_abs();
        let domain = Domain {
            handle: request.handle,
            flags: request.flags,
            max_vcpus: request.max_vcpus,
            vcpus: Vec::new(),
            pages: 0,
            max_pages: 0,
            claimed: 0,
            memory_map: Vec::new(),
            private: vec![frames[0]],
            shared_info: frames[1],
            grants: Table::new(frames[2], max_grant_frames),
            ports: Ports::new(request.max_evtchn_port),
            pauses: 1,
            started: false,
            shutdown: None,
            life: Life::Alive,
            is_32_bit: false,
            hvm: request.flags.contains(CreateFlags::HVM).then(Hvm::default),
            devices: Devices::default(),
            share: Share::default(),
            pool: 0,
            cpu: CpuView::default(),
            label: request.ssidref,
            request: request.clone(),
        };
        self.frames.write_at(frames[1], 0, &[0; xen_abi::PAGE_SIZE]);
        self.frames.write_at(frames[2], 0, &[0; xen_abi::PAGE_SIZE]);
        self.domains.insert(domid, domain);
        Ok(())
    }

    /// Makes a domain that runs, without asking what.
    pub(crate) fn spawn(&mut self, pages: PageCount) -> Result<DomId, Errno> {
        let any = if self.release.chooses_domid(DomId::ANY) { DomId::ANY } else { DomId::new(0) };
        let domid = self.choose_domid(any)?;
        self.start_domain(domid, pages)?;
        Ok(domid)
    }

    /// The same with an identifier.
    pub(crate) fn start_domain(&mut self, domid: DomId, pages: PageCount) -> Result<(), Errno> {
        let request = CreateDomain {
            ssidref: 0,
            handle: [0; 16],
            flags: CreateFlags::empty(),
            max_vcpus: 1,
            max_evtchn_port: u32::MAX,
            max_grant_frames: -1,
            max_maptrack_frames: -1,
            max_grant_version: MAX_GRANT_VERSION,
            emulation_flags: 0,
            misc_flags: 0,
        };
        self.insert_domain(domid, &request)?;
        self.set_max_vcpus(DomId::XEN, domid, 1)?;
        self.set_max_memory(domid, pages.kib())?;
        for pfn in 0..pages.raw() {
            self.populate_extent(domid, 0, pfn).ok_or(Errno::ENOMEM)?;
        }
        for vcpu in &mut self.domain(domid)?.vcpus {
            vcpu.online = true;
        }
        self.unpause(domid)
    }

    /// Takes a frame for Xen: claims do not protect memory from it.
    pub(crate) fn allocate_for_xen(&mut self, holder: Holder) -> Option<Mfn> {
        self.frames.allocate(0, holder)
    }

    /// `XEN_DOMCTL_max_vcpus`.
    pub(crate) fn set_max_vcpus(&mut self, caller: DomId, domid: DomId, max: u32) -> Result<(), Errno> {
        let domain = self.domain(domid)?;
        if caller == domid || max != domain.max_vcpus {
            return Err(Errno::EINVAL);
        }
        while self.domain(domid)?.vcpus.len() < max as usize {
            let frame = self.allocate_for_xen(Holder::Private(domid)).ok_or(Errno::ENOMEM)?;
            let domain = self.domain(domid)?;
            domain.private.push(frame);
            domain.vcpus.push(Vcpu { context: None, online: false, hard: None, soft: None });
            if let Some(hvm) = &mut domain.hvm {
                hvm.vcpus.push(HvmVcpu::new());
            }
        }
        Ok(())
    }

    /// `XEN_DOMCTL_max_mem`.
    pub(crate) fn set_max_memory(&mut self, domid: DomId, kib: u64) -> Result<(), Errno> {
        self.domain(domid)?.max_pages = (kib / 4).min(u64::from(u32::MAX));
        Ok(())
    }

    /// `XEN_DOMCTL_set_address_size`: 32-bit PV domains are made, while they have no memory, out of 64-bit ones.
    pub(crate) fn set_address_size(&mut self, domid: DomId, bits: u32) -> Result<(), Errno> {
        let offered = self.pv32;
        let domain = self.domain(domid)?;
        match bits {
            _ if domain.hvm.is_some() => Err(Errno::EOPNOTSUPP),
            32 if domain.is_32_bit => Ok(()),
            64 if !domain.is_32_bit => Ok(()),
            32 if !offered => Err(Errno::EOPNOTSUPP),
            32 if domain.pages > 0 => Err(Errno::EACCES),
            32 => {
                domain.is_32_bit = true;
                Ok(())
            }
            _ => Err(Errno::EINVAL),
        }
    }

    /// `XEN_DOMCTL_pausedomain`.
    pub(crate) fn pause(&mut self, caller: DomId, domid: DomId) -> Result<(), Errno> {
        let domain = self.domain(domid)?;
        if caller == domid {
            return Err(Errno::EINVAL);
        }
        if domain.pauses >= MAX_PAUSES {
            return Err(Errno::EOVERFLOW);
        }
        domain.pauses += 1;
        Ok(())
    }

    /// `XEN_DOMCTL_unpausedomain`.
    pub(crate) fn unpause(&mut self, domid: DomId) -> Result<(), Errno> {
        let domain = self.domain(domid)?;
        domain.pauses = domain.pauses.checked_sub(1).ok_or(Errno::EINVAL)?;
        domain.started |= domain.pauses == 0;
        Ok(())
    }

    /// Ends a domain for `reason`, by its own wish.
    pub(crate) fn shut_down(&mut self, domid: DomId, reason: u8) -> Result<(), Errno> {
        let domain = self.living(domid)?;
        if domain.shutdown.is_none() {
            domain.shutdown = Some(reason);
            self.raise_domain_event();
        }
        Ok(())
    }

    /// `XEN_DOMCTL_destroydomain`.
    pub(crate) fn destroy(&mut self, caller: DomId, domid: DomId) -> Result<(), Errno> {
        let domain = self.domain(domid)?;
        if caller == domid {
            return Err(Errno::EINVAL);
        }
        if domain.life == Life::Dead {
            return Ok(());
        }
        domain.claimed = 0;
        let is_32_bit = domain.is_32_bit;
        let contexts: Vec<_> = domain.vcpus.iter_mut().filter_map(|vcpu| vcpu.context.take()).collect();
        let hvm = domain.hvm.take();
        for mfn in hvm.into_iter().flat_map(|hvm| hvm.pool) {
            self.frames.release(mfn);
        }
        self.unmap_grants_of(domid);
        self.close_all_ports(domid);
        for context in contexts {
            address_space(&context, is_32_bit).for_each(|(mfn, _)| self.frames.end_use(mfn));
        }
        self.release_memory(domid);
        self.domain(domid)?.life = Life::Dead;
        self.raise_domain_event();
        self.bury(domid);
        Ok(())
    }

    /// The beginning of the same: frees up to `most` pages, and gives the rest of the work back.
    pub(crate) fn destroy_in_part(&mut self, caller: DomId, domid: DomId, most: usize) -> Result<(), Errno> {
        let pages = self.domain(domid)?.pages;
        if caller == domid {
            return Err(Errno::EINVAL);
        }
        let plain = |(mfn, frame): (Mfn, &Frame)| {
            (frame.holder == Holder::Domain(domid) && frame.allocated && frame.references == 0).then_some(mfn)
        };
        let freed: Vec<Mfn> = self.frames.all().filter_map(plain).take(most).collect();
        self.domain(domid)?.pages = pages.saturating_sub(freed.len() as u64);
        for mfn in freed {
            self.frames.release(mfn);
        }
        Err(Errno::ERESTART)
    }

    /// Keeps the last of a domain for ever.
    pub(crate) fn hold(&mut self, domid: DomId) {
        if let Ok(shared_info) = self.domain(domid).map(|domain| domain.shared_info) {
            let _held = self.frames.get_reference(shared_info, domid);
        }
    }

    /// Takes all memory from a domain that is being destroyed.
    fn release_memory(&mut self, domid: DomId) {
        let held: Vec<(Mfn, bool)> = self
            .frames
            .all()
            .filter(|(_, frame)| frame.holder == Holder::Domain(domid) && frame.allocated)
            .map(|(mfn, frame)| (mfn, frame.pinned))
            .collect();
        for (mfn, _) in held.iter().filter(|(_, pinned)| *pinned) {
            // Cannot fail: the frame is pinned, and the domain's.
            let _unpinned = self.frames.unpin(*mfn, domid);
        }
        for (mfn, _) in held {
            self.frames.release(mfn);
        }
    }

    /// Forgets a dead domain once nothing refers to a frame of it any more.
    pub(crate) fn bury(&mut self, domid: DomId) {
        let left = self.frames.memory_of(domid);
        let dead = self.domains.get_mut(&domid).filter(|domain| domain.life == Life::Dead);
        let Some(domain) = dead else { return };
        domain.pages = left;
        let shared: Vec<Mfn> = domain.grants.frames().chain([domain.shared_info]).collect();
        let referenced = |mfn: &Mfn| self.frames.get(*mfn).is_some_and(|frame| frame.references > 0);
        if left > 0 || shared.iter().any(referenced) {
            return;
        }
        let last = shared.into_iter().chain(domain.private.iter().copied()).collect();
        self.domains.remove(&domid);
        self.lingering.push(last);
        if !self.lingers {
            self.free_lingering();
        }
    }

    /// Frees the last of domains that are gone, and tells Dom0; says whether there were any.
    pub(crate) fn free_lingering(&mut self) -> bool {
        let gone = core::mem::take(&mut self.lingering);
        for mfn in gone.iter().flatten() {
            self.frames.release(*mfn);
        }
        if !gone.is_empty() {
            self.raise_domain_event();
        }
        !gone.is_empty()
    }

    /// `XEN_DOMCTL_getdomaininfo`.
    pub(crate) fn domain_info(&mut self, wanted: DomId) -> Result<DomainInfo, Errno> {
        let found = if self.release.finds_exactly() {
            self.domains.get_key_value(&wanted)
        } else if wanted.is_ordinary() {
            self.domains.range(wanted..).next()
        } else {
            return Err(Errno::EINVAL);
        };
        let (domid, domain) = found.ok_or(Errno::ESRCH)?;
        Ok(domain.info(*domid))
    }
}

impl Domain {
    /// What getdomaininfo says of it.
    pub(crate) fn info(&self, domid: DomId) -> DomainInfo {
        let mut info = DomainInfo::new_zeroed();
        info.domain = domid.raw();
        info.flags = self.state().bits();
        info.tot_pages = self.pages;
        info.max_pages = self.max_pages;
        info.outstanding_pages = self.claimed;
        info.shared_info_frame = self.shared_info.raw();
        info.nr_online_vcpus = self.online();
        info.max_vcpu_id = u32::try_from(self.vcpus.len()).unwrap_or(0).wrapping_sub(1);
        info.handle = self.handle;
        info.cpupool = self.pool;
        info.ssidref = self.label;
        info
    }

    /// vCPUs that would run.
    fn online(&self) -> u32 {
        u32::try_from(self.vcpus.iter().filter(|vcpu| vcpu.online).count()).unwrap_or(0)
    }

    /// Whether the domain executes instructions.
    pub(crate) fn runs(&self) -> bool {
        self.pauses == 0 && self.shutdown.is_none() && self.life == Life::Alive && self.online() > 0
    }

    /// The state bits of getdomaininfo.
    fn state(&self) -> DomainState {
        let mut state = DomainState::empty();
        state.set(DomainState::DYING, self.life == Life::Dead);
        state.set(DomainState::HVM_GUEST, self.flags.contains(CreateFlags::HVM));
        state.set(DomainState::SHUTDOWN, self.shutdown.is_some());
        state.set(DomainState::PAUSED, self.pauses > 0);
        state.set(DomainState::RUNNING, self.runs());
        // While a domain lives the reason is all ones.
        let reason = self.shutdown.map_or(0xffff_0000, |reason| u32::from(reason) << 16);
        state | DomainState::from_bits_retain(reason)
    }

    /// The most pages that the domain may still get.
    pub(crate) fn room(&self) -> PageCount {
        PageCount::new(self.max_pages.saturating_sub(self.pages))
    }
}

/// What Xen checks of a create request before it does anything.
fn check_create(request: &CreateDomain, release: Release, capabilities: Capabilities) -> Result<(), Errno> {
    let flags = request.flags;
    let hvm = flags.contains(CreateFlags::HVM);
    let most_vcpus = if hvm { MAX_VCPUS } else { PV_MAX_VCPUS };
    let hap = flags.contains(CreateFlags::HAP);
    let no_shadow = hvm && !hap && !capabilities.contains(Capabilities::SHADOW);
    let unavailable = hvm && !capabilities.contains(Capabilities::HVM)
        || hap && !capabilities.contains(Capabilities::HAP)
        || no_shadow && release.checks_shadow_early();
    let invalid = flags.bits() & !release.create_flags() != 0
        || request.max_vcpus == 0
        || request.max_vcpus > most_vcpus
        || unavailable
        || hap && !hvm
        // The machine has no I/O MMU, no virtual PMU, and no trusted boot.
        || flags.intersects(
            CreateFlags::IOMMU
                | CreateFlags::VPMU
                | CreateFlags::NESTED_VIRT
                | CreateFlags::TRAP_UNMAPPED,
        )
        || !(1..=MAX_GRANT_VERSION).contains(&request.max_grant_version)
        || flags.contains(CreateFlags::S3_INTEGRITY) && !release.ignores_s3_integrity()
        || request.misc_flags & !MSR_RELAXED != 0
        || request.max_grant_frames == 0
        || request.max_grant_frames > DEFAULT_GRANT_FRAMES && !release.allows_large_grant_tables();
    if invalid {
        return Err(Errno::EINVAL);
    }
    let emulation = if hvm {
        request.emulation_flags == EMULATE_LAPIC
    } else {
        request.emulation_flags & !EMULATE_PIT == 0
    };
    if !emulation || no_shadow {
        return Err(Errno::EOPNOTSUPP);
    }
    Ok(())
}
