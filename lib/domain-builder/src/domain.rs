//! A domain under construction: it is destroyed unless it is released.

use core::fmt;

use hypercall::{RawHypercall, Xen};
use xen_abi::domctl::{CreateDomain, CreateFlags};
use xen_abi::hvm::EMULATE_LAPIC;
use xen_abi::{DomId, PageCount};

/// What a domain is created with, besides its memory contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DomainSpec {
    /// The identifier it is to have; Xen chooses without.
    pub domid: Option<DomId>,
    /// Its UUID.
    pub uuid: [u8; 16],
    /// Its vCPUs; 1 at least.
    pub vcpus: u32,
    /// The most memory it may have later; its memory at least.
    pub max_memory: PageCount,
}

/// Frames that a grant table may grow to, as Xen's own tools ask for.
const MAX_GRANT_FRAMES: i32 = 64;

/// Frames that a maptrack table may grow to, as Xen's own tools ask for.
const MAX_MAPTRACK_FRAMES: i32 = 1024;

/// The highest event-channel port, as Xen's own tools ask for.
const MAX_EVENT_PORT: u32 = 1023;

/// The highest grant table version that guests may switch to. Version 2 is supported by every release and needed by none.
const MAX_GRANT_VERSION: u32 = 2;

impl DomainSpec {
    /// The request for a PV domain.
    pub(crate) fn pv_request(&self) -> CreateDomain {
        self.request(CreateFlags::empty(), 0)
    }

    /// The request for a PVH domain: nested paging, and no emulation but that of the local APIC.
    pub(crate) fn pvh_request(&self) -> CreateDomain {
        self.request(CreateFlags::HVM | CreateFlags::HAP, EMULATE_LAPIC)
    }

    fn request(&self, flags: CreateFlags, emulation_flags: u32) -> CreateDomain {
        CreateDomain {
            handle: self.uuid,
            flags,
            max_vcpus: self.vcpus,
            max_evtchn_port: MAX_EVENT_PORT,
            max_grant_frames: MAX_GRANT_FRAMES,
            max_maptrack_frames: MAX_MAPTRACK_FRAMES,
            max_grant_version: MAX_GRANT_VERSION,
            emulation_flags,
        }
    }
}

/// A domain that is destroyed when this value is dropped.
pub struct Guarded<'x, H: RawHypercall> {
    pub(crate) xen: &'x Xen<H>,
    domid: DomId,
    released: bool,
}

impl<'x, H: RawHypercall> Guarded<'x, H> {
    /// Guards the domain `domid`, which was just created.
    pub(crate) fn new(xen: &'x Xen<H>, domid: DomId) -> Self {
        Self { xen, domid, released: false }
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
        if let Err(error) = self.xen.destroy_domain(self.domid) {
            log::error!("domid={} event=leaked {error}", self.domid);
        }
    }
}

impl<H: RawHypercall> fmt::Debug for Guarded<'_, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Guarded({})", self.domid)
    }
}
