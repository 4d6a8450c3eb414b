//! A domain under construction: it is destroyed unless it is released.

use core::fmt;

use crate::labels::LabelNumbers;
use hypercall::{RawHypercall, Xen};
use protocols::Settings;
use xen_abi::cpu_policy::MSR_RELAXED;
use xen_abi::domctl::{CreateDomain, CreateFlags};
use xen_abi::hvm::EMULATE_LAPIC;
use xen_abi::{DomId, PageCount};

use crate::Servers;
use crate::paging::PvhPaging;

/// What a domain is created with, besides its memory contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainSpec {
    /// The identifier it is to have; Xen chooses without.
    pub domid: Option<DomId>,
    /// Its UUID.
    pub uuid: [u8; 16],
    /// Its vCPUs; 1 at least.
    pub vcpus: u32,
    /// The most memory it may have later; its memory at least.
    pub max_memory: PageCount,
    /// What it may do and get besides; valid.
    pub settings: Settings,
    /// Who serves its console and XenStore.
    pub servers: Servers,
    /// Whether it serves the XenStore of others: Xen lets it ask about them, and tells it, not Dom0, when one ends.
    pub serves_store: bool,
}

/// The highest grant table version, unless the settings say. Version 2 is supported by every release and needed by none.
const MAX_GRANT_VERSION: u8 = 2;

impl DomainSpec {
    /// The request for a PV domain.
    pub(crate) fn pv_request(&self, label: u32) -> CreateDomain {
        self.request(label, CreateFlags::empty(), 0)
    }

    /// The request for a PVH domain: no emulation but that of the local APIC.
    pub(crate) fn pvh_request(&self, label: u32, paging: PvhPaging) -> CreateDomain {
        let mut flags = CreateFlags::HVM;
        flags.set(CreateFlags::HAP, paging == PvhPaging::Nested);
        flags.set(CreateFlags::OOS_OFF, self.settings.processor.shadows_in_sync);
        self.request(label, flags, EMULATE_LAPIC)
    }

    fn request(&self, label: u32, flags: CreateFlags, emulation_flags: u32) -> CreateDomain {
        let limits = &self.settings.limits;
        let store = if self.serves_store { CreateFlags::XS_DOMAIN } else { CreateFlags::empty() };
        let frames = |count: u32| i32::try_from(count).unwrap_or(i32::MAX);
        CreateDomain {
            ssidref: label,
            handle: self.uuid,
            flags: flags | store,
            max_vcpus: self.vcpus,
            max_evtchn_port: limits.event_channels,
            max_grant_frames: frames(limits.grant_frames),
            max_maptrack_frames: frames(limits.maptrack_frames),
            max_grant_version: u32::from(limits.grant_version.unwrap_or(MAX_GRANT_VERSION)),
            emulation_flags,
            misc_flags: if self.settings.processor.relaxed_msrs { MSR_RELAXED } else { 0 },
        }
    }
}

/// A domain that is destroyed when this value is dropped.
pub struct Guarded<'x, H: RawHypercall> {
    pub(crate) xen: &'x Xen<H>,
    domid: DomId,
    /// The number of the label that it is to run with, if it was created with another one.
    pub(crate) final_label: Option<u32>,
    released: bool,
}

impl<'x, H: RawHypercall> Guarded<'x, H> {
    /// Guards the domain `domid`, which was just created with the first of `labels`.
    pub(crate) fn new(xen: &'x Xen<H>, domid: DomId, labels: LabelNumbers) -> Self {
        Self { xen, domid, final_label: labels.running, released: false }
    }

    /// Its identifier.
    pub fn domid(&self) -> DomId {
        self.domid
    }

    /// Ends the guard: the domain stays.
    pub(crate) fn release(mut self) -> DomId {
        self.released = true;
        self.domid
    }
}

impl<H: RawHypercall> Drop for Guarded<'_, H> {
    fn drop(&mut self) {
        if self.released {
            return;
        }
        // There is nobody left to give an error to; a domain that cannot be destroyed has to be heard of all the same.
        if let Err(error) = self.xen.clear_away(self.domid) {
            log::error!("domid={} event=leaked {}", self.domid, self.xen.note_leak(error));
        }
    }
}

impl<H: RawHypercall> fmt::Debug for Guarded<'_, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Guarded({})", self.domid)
    }
}
