//! Grant tables of version 1, and the mappings made by them.

use std::collections::BTreeMap;

use xen_abi::grant_table::{
    ENTRIES_PER_FRAME, GrantEntryV1, GrantFlags, MapFlags, MapGrantRef, UnmapGrantRef,
};
use xen_abi::{DomId, Errno, GrantRef, Mfn};
use zerocopy::{FromBytes, IntoBytes};

use crate::events::resolve;
use crate::frames::{Holder, Use};
use crate::hypervisor::Outcome;
use crate::request::Request;
use crate::state::State;

/// `GNTST_*` statuses given here.
mod status {
    pub(super) const OKAY: i16 = 0;
    pub(super) const GENERAL_ERROR: i16 = -1;
    pub(super) const BAD_DOMAIN: i16 = -2;
    pub(super) const BAD_REFERENCE: i16 = -3;
    pub(super) const BAD_HANDLE: i16 = -4;
    pub(super) const BAD_ADDRESS: i16 = -5;
}

/// A domain's grant table.
#[derive(Debug)]
pub(crate) struct Table {
    frames: Vec<Mfn>,
    max_frames: u32,
}

impl Table {
    pub(crate) fn new(first: Mfn, max_frames: u32) -> Self {
        Self { frames: vec![first], max_frames }
    }

    pub(crate) fn frames(&self) -> impl Iterator<Item = Mfn> {
        self.frames.iter().copied()
    }

    pub(crate) fn max_frames(&self) -> u32 {
        self.max_frames
    }

    /// Where an entry stands: frame, and offset into it.
    fn place(&self, reference: GrantRef) -> Option<(Mfn, usize)> {
        let number = reference.raw();
        let frame = self.frames.get((number / ENTRIES_PER_FRAME) as usize)?;
        Some((*frame, (number % ENTRIES_PER_FRAME) as usize * size_of::<GrantEntryV1>()))
    }
}

/// A grant that is mapped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mapped {
    /// Who mapped it.
    mapper: DomId,
    /// Where.
    host_address: u64,
    /// Who granted it.
    granter: DomId,
    reference: GrantRef,
    frame: Mfn,
    writable: bool,
}

/// Grants that are mapped, by handle.
#[derive(Debug, Default)]
pub(crate) struct Maptrack {
    mapped: BTreeMap<u32, Mapped>,
    next: u32,
}

impl Maptrack {
    /// How many grants are mapped.
    pub(crate) fn len(&self) -> usize {
        self.mapped.len()
    }
}

impl State {
    /// The frames `first` to `first + count` of a domain's grant table, which grows as needed.
    pub(crate) fn grant_frames(&mut self, domid: DomId, first: u64, count: u64) -> Result<Vec<Mfn>, Errno> {
        let end = first.checked_add(count).ok_or(Errno::EINVAL)?;
        if count == 0 || end > u64::from(self.domain(domid)?.grants.max_frames) {
            return Err(Errno::EINVAL);
        }
        while (self.domain(domid)?.grants.frames.len() as u64) < end {
            let frame = self.allocate_for_xen(Holder::Shared(domid)).ok_or(Errno::ENOMEM)?;
            self.frames.write_at(frame, 0, &[0; xen_abi::PAGE_SIZE]);
            self.domain(domid)?.grants.frames.push(frame);
        }
        let skip = usize::try_from(first).map_err(|_| Errno::EINVAL)?;
        let take = usize::try_from(count).map_err(|_| Errno::EINVAL)?;
        Ok(self.domain(domid)?.grants.frames().skip(skip).take(take).collect())
    }

    /// One element of `GNTTABOP_map_grant_ref`.
    pub(crate) fn map_grant(&mut self, caller: DomId, request: &mut MapGrantRef) {
        request.status = match self.try_map_grant(caller, request) {
            Ok(handle) => {
                request.handle = handle;
                status::OKAY
            }
            Err(status) => status,
        };
    }

    fn try_map_grant(&mut self, caller: DomId, request: &MapGrantRef) -> Result<u32, i16> {
        let flags = MapFlags::from_bits_retain(request.flags);
        if !flags.intersects(MapFlags::HOST_MAP | MapFlags::DEVICE_MAP) {
            return Err(status::BAD_REFERENCE);
        }
        let taken = |mapped: &Mapped| (mapped.mapper, mapped.host_address) == (caller, request.host_addr);
        if request.host_addr == 0 || self.maptrack.mapped.values().any(taken) {
            return Err(status::BAD_ADDRESS);
        }
        let granter = resolve(DomId::new(request.dom), caller);
        let reference = GrantRef::new(request.grant_ref);
        let (place, mut entry) = self.entry(granter, reference)?;
        let allowed = GrantFlags::from_bits_retain(entry.flags);
        let writable = !flags.contains(MapFlags::READONLY);
        if !allowed.contains(GrantFlags::PERMIT_ACCESS)
            || DomId::new(entry.domid) != caller
            || writable && allowed.contains(GrantFlags::READONLY)
        {
            return Err(status::BAD_REFERENCE);
        }
        let named = Mfn::new(u64::from(entry.frame));
        let frame = self.machine_frame(granter, named).ok_or(status::GENERAL_ERROR)?;
        let held = if writable {
            self.frames.use_as(frame, granter, Use::Writable).is_ok()
        } else {
            self.frames.get_reference(frame, granter)
        };
        if !held {
            return Err(status::GENERAL_ERROR);
        }
        let used = if writable { GrantFlags::READING | GrantFlags::WRITING } else { GrantFlags::READING };
        entry.flags |= used.bits();
        self.frames.write_at(place.0, place.1, entry.as_bytes());
        let handle = self.maptrack.next;
        self.maptrack.next += 1;
        let host_address = request.host_addr;
        let mapped = Mapped { mapper: caller, host_address, granter, reference, frame, writable };
        self.maptrack.mapped.insert(handle, mapped);
        Ok(handle)
    }

    /// An entry of a domain's grant table, with its place.
    fn entry(&mut self, granter: DomId, reference: GrantRef) -> Result<((Mfn, usize), GrantEntryV1), i16> {
        let table = &self.living(granter).map_err(|_| status::BAD_DOMAIN)?.grants;
        let place = table.place(reference).ok_or(status::BAD_REFERENCE)?;
        let mut bytes = [0; size_of::<GrantEntryV1>()];
        self.frames.read_at(place.0, place.1, &mut bytes);
        let entry = GrantEntryV1::read_from_bytes(&bytes).map_err(|_| status::GENERAL_ERROR)?;
        Ok((place, entry))
    }

    /// One element of `GNTTABOP_unmap_grant_ref`.
    pub(crate) fn unmap_grant(&mut self, caller: DomId, request: &mut UnmapGrantRef) {
        request.status = match self.maptrack.mapped.get(&request.handle) {
            Some(mapped) if mapped.mapper != caller => status::BAD_HANDLE,
            None => status::BAD_HANDLE,
            Some(mapped) if mapped.host_address != request.host_addr => status::BAD_ADDRESS,
            Some(_) => {
                self.end_mapping(request.handle);
                status::OKAY
            }
        };
    }

    /// Unmaps what a domain that ends has mapped.
    pub(crate) fn unmap_grants_of(&mut self, domid: DomId) {
        let own = |(handle, mapped): (&u32, &Mapped)| (mapped.mapper == domid).then_some(*handle);
        let handles: Vec<u32> = self.maptrack.mapped.iter().filter_map(own).collect();
        for handle in handles {
            self.end_mapping(handle);
        }
    }

    fn end_mapping(&mut self, handle: u32) {
        let Some(ended) = self.maptrack.mapped.remove(&handle) else { return };
        if ended.writable {
            self.frames.end_use(ended.frame);
        } else {
            self.frames.put_reference(ended.frame);
        }
        let same = |other: &&Mapped| (other.granter, other.reference) == (ended.granter, ended.reference);
        let mut left = GrantFlags::empty();
        for other in self.maptrack.mapped.values().filter(same) {
            left |= GrantFlags::READING;
            left.set(GrantFlags::WRITING, left.contains(GrantFlags::WRITING) || other.writable);
        }
        if let Ok((place, mut entry)) = self.entry(ended.granter, ended.reference) {
            entry.flags &= !(GrantFlags::READING | GrantFlags::WRITING).bits();
            entry.flags |= left.bits();
            self.frames.write_at(place.0, place.1, entry.as_bytes());
        }
        self.bury(ended.granter);
    }

    /// The frame that a domain has mapped by a grant at an address, and whether it may write it.
    pub(crate) fn granted_at(&self, mapper: DomId, host_address: u64) -> Option<(Mfn, bool)> {
        let here = |mapped: &&Mapped| (mapped.mapper, mapped.host_address) == (mapper, host_address);
        self.maptrack.mapped.values().find(here).map(|mapped| (mapped.frame, mapped.writable))
    }

    /// `grant_table_op`, but for maps and unmaps.
    pub(crate) fn grant_table_op(&mut self, caller: DomId, request: &mut Request) -> Outcome {
        match request {
            Request::SetUpTable { table, frames } => {
                let domain = resolve(DomId::new(table.dom), caller);
                self.controlled(caller, domain)?;
                match self.grant_frames(domain, 0, u64::from(table.nr_frames)) {
                    Ok(found) => frames.extend(found.into_iter().map(Mfn::raw)),
                    Err(_) => table.status = -1,
                }
            }
            Request::QuerySize(size) => {
                let domain = resolve(DomId::new(size.dom), caller);
                self.controlled(caller, domain)?;
                let grants = &self.domain(domain)?.grants;
                size.nr_frames = u32::try_from(grants.frames().count()).unwrap_or(u32::MAX);
                size.max_nr_frames = grants.max_frames();
            }
            _ => return Err(Errno::ENOSYS),
        }
        Ok(0)
    }
}
