//! Memory operations.

use xen_abi::memory::{
    AcquireResource, CONTROL_DOMAIN_MAX_ORDER, MapEntry, RESOURCE_GRANT_TABLE, Reservation,
};
use xen_abi::{DomId, Errno, Mfn};

use crate::DOM0;
use crate::events::resolve;
use crate::frames::Holder;
use crate::hypervisor::Outcome;
use crate::state::State;

/// Largest extent for a domain that controls no other: 2^9 pages.
const DOMAIN_MAX_ORDER: u32 = 9;
/// The most extents of one call: Xen keeps where to continue in the 26 bits above the command.
const MAX_EXTENTS: u64 = (u32::MAX >> 6) as u64;

impl State {
    /// The domain that a reservation is for, if the caller may change it and the numbers are sane.
    fn reservation_target(&mut self, caller: DomId, reservation: &Reservation) -> Option<DomId> {
        let domid = resolve(DomId::new(reservation.domid), caller);
        let allowed = domid == caller || self.is_privileged(caller);
        let sane = reservation.nr_extents <= MAX_EXTENTS;
        (allowed && sane && self.domains.contains_key(&domid)).then_some(domid)
    }

    /// `XENMEM_populate_physmap`: gives back how many extents were done; wrong arguments count as none done.
    pub(crate) fn populate(
        &mut self,
        caller: DomId,
        reservation: &Reservation,
        extents: &mut [u64],
        most: usize,
    ) -> usize {
        let Some(domid) = self.reservation_target(caller, reservation) else { return 0 };
        let order = reservation.extent_order;
        let max_order = if self.is_privileged(caller) { CONTROL_DOMAIN_MAX_ORDER } else { DOMAIN_MAX_ORDER };
        if order > max_order {
            return 0;
        }
        for (done, extent) in extents.iter_mut().enumerate() {
            if done == most {
                return done;
            }
            match self.populate_extent(domid, order, *extent) {
                // A domain with a translation of its own is not told machine frames, nor is who asks for it.
                Some(mfn) if !self.is_translated(domid) => *extent = mfn.raw(),
                Some(_) => {}
                None => return done,
            }
        }
        extents.len()
    }

    /// Gives a domain one extent, and enters it in the machine-to-physical table.
    pub(crate) fn populate_extent(&mut self, domid: DomId, order: u32, pfn: u64) -> Option<Mfn> {
        let pages = 1_u64 << order;
        let promised: u64 = self.domains.values().map(|domain| domain.claimed).sum();
        let domain = self.living(domid).ok()?;
        let no_pool = domain.hvm.as_ref().is_some_and(|hvm| hvm.pool.is_empty());
        if domain.room().raw() < pages || no_pool {
            return None;
        }
        // Memory that others claimed is not for this domain, unless it has a claim of its own that covers the extent.
        if domain.claimed < pages && promised + pages > self.frames.free_count() {
            return None;
        }
        let first = self.frames.allocate(order, Holder::Domain(domid))?;
        let domain = self.living(domid).ok()?;
        if let Some(hvm) = &mut domain.hvm {
            hvm.frames.extend((0..pages).map(|page| (pfn + page, Mfn::new(first.raw() + page))));
        }
        domain.pages += pages;
        domain.claimed = domain.claimed.saturating_sub(pages);
        for page in 0..pages {
            if let Some(frame) = self.frames.get_mut(Mfn::new(first.raw() + page)) {
                frame.pfn = Some(pfn.wrapping_add(page));
            }
        }
        Some(first)
    }

    /// Whether a domain has a translation of its own.
    fn is_translated(&self, domid: DomId) -> bool {
        self.domains.get(&domid).is_some_and(|domain| domain.hvm.is_some())
    }

    /// `XENMEM_decrease_reservation`: gives back how many extents were done.
    pub(crate) fn decrease(
        &mut self,
        caller: DomId,
        reservation: &Reservation,
        extents: &[u64],
        most: usize,
    ) -> usize {
        let Some(domid) = self.reservation_target(caller, reservation) else { return 0 };
        if reservation.extent_order > DOMAIN_MAX_ORDER && !self.is_privileged(caller) {
            return 0;
        }
        for (done, first) in extents.iter().enumerate() {
            if done == most {
                return done;
            }
            for page in 0..1_u64 << reservation.extent_order {
                let mfn = Mfn::new(first.wrapping_add(page));
                let held = self
                    .frames
                    .get(mfn)
                    .is_some_and(|frame| frame.holder == Holder::Domain(domid) && frame.allocated);
                if !held {
                    return done;
                }
                self.frames.release(mfn);
                if domid == DOM0 {
                    // Free from now on, if nothing maps it; a test that looks for what was left behind expects so.
                    self.free_at_start += 1;
                }
                if let Ok(domain) = self.domain(domid) {
                    domain.pages = domain.pages.saturating_sub(1);
                }
            }
        }
        extents.len()
    }

    /// `XENMEM_claim_pages`.
    pub(crate) fn claim(&mut self, caller: DomId, reservation: &Reservation) -> Result<(), Errno> {
        if reservation.extent_start != 0 || reservation.extent_order != 0 || reservation.mem_flags != 0 {
            return Err(Errno::EINVAL);
        }
        if !self.is_privileged(caller) {
            return Err(Errno::EPERM);
        }
        let pages = reservation.nr_extents;
        let promised: u64 = self.domains.values().map(|domain| domain.claimed).sum();
        let free = self.frames.free_count().saturating_sub(promised);
        let domain = self.living(DomId::new(reservation.domid)).map_err(|_| Errno::EINVAL)?;
        if pages == 0 {
            domain.claimed = 0;
            return Ok(());
        }
        if domain.claimed > 0 || pages <= domain.pages || pages > domain.max_pages {
            return Err(Errno::EINVAL);
        }
        let wanted = pages - domain.pages;
        if wanted > free {
            return Err(Errno::ENOMEM);
        }
        domain.claimed = wanted;
        Ok(())
    }

    /// `XENMEM_set_memory_map`: Xen keeps what it is given, whatever it says.
    pub(crate) fn set_memory_map(&mut self, caller: DomId, domain: DomId, map: &[MapEntry]) -> Outcome {
        let domain = resolve(domain, caller);
        self.living(domain)?;
        self.controlled(caller, domain)?;
        self.living(domain)?.memory_map = map.to_vec();
        Ok(0)
    }

    /// `XENMEM_acquire_resource`.
    pub(crate) fn acquire(
        &mut self,
        caller: DomId,
        resource: &mut AcquireResource,
        frames: &mut [u64],
    ) -> Outcome {
        let domain = DomId::new(resource.domid);
        if resource.pad != 0 || resource.frame >> 32 != 0 {
            return Err(Errno::EINVAL);
        }
        // Nobody acquires what is his own.
        if resolve(domain, caller) == caller {
            return Err(Errno::EPERM);
        }
        self.controlled(caller, domain)?;
        if u32::from(resource.resource_type) != RESOURCE_GRANT_TABLE || resource.id != 0 {
            return Err(Errno::EINVAL);
        }
        if resource.frame_list == 0 {
            if resource.nr_frames != 0 {
                return Err(Errno::EINVAL);
            }
            resource.nr_frames = self.domain(domain)?.grants.max_frames();
            return Ok(0);
        }
        let found = self.grant_frames(domain, resource.frame, u64::from(resource.nr_frames))?;
        for (to, from) in frames.iter_mut().zip(found) {
            *to = from.raw();
        }
        Ok(0)
    }
}
