//! Typed calls about memory: giving it to domains, taking it back, and what it is used as.

use alloc::vec::Vec;

use xen_abi::memory::{
    self, AcquireResource, ForeignMemoryMap, MapEntry, RESOURCE_GRANT_TABLE, Reservation,
    XENMEM_ACQUIRE_RESOURCE, XENMEM_CLAIM_PAGES, XENMEM_CURRENT_RESERVATION, XENMEM_DECREASE_RESERVATION,
    XENMEM_POPULATE_PHYSMAP, XENMEM_SET_MEMORY_MAP,
};
use xen_abi::mmu::{MMU_UPDATE_PREEMPTED, MMUEXT_PIN_L3_TABLE, MMUEXT_PIN_L4_TABLE, MmuextOp};
use xen_abi::number::HypercallNumber;
use xen_abi::{DomId, Errno, Mfn, PageCount};

use crate::calls::{address, address_mut};
use crate::{CallError, RawHypercall, Xen};

/// Result of populating memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Populated {
    /// Extents that were done, from the first.
    pub extents: usize,
}

impl<H: RawHypercall> Xen<H> {
    /// Makes a memory operation.
    ///
    /// # Safety
    ///
    /// Addresses in `argument` keep the contract of [`RawHypercall::hypercall`].
    unsafe fn memory_op<T>(&self, op: u32, argument: &mut T, domain: DomId) -> Result<i64, CallError> {
        let args = [u64::from(op), address_mut(argument), 0, 0, 0];
        // SAFETY: the argument's type is the one that `op` takes, as each caller here sees to.
        unsafe { self.call(HypercallNumber::MEMORY_OP, args, memory::name(op), domain) }
    }

    /// Gives `domain` memory: one extent of 2^`order` pages for each entry of `extents`.
    ///
    /// An entry holds the extent's first PFN on the way in and, for a PV domain, its first MFN on the way out. Xen may do
    /// only the first few and says how many; the rest of `extents` is then unchanged. It enters each page in the
    /// machine-to-physical table itself.
    pub fn populate(&self, domain: DomId, order: u32, extents: &mut [u64]) -> Result<Populated, CallError> {
        let wanted = extents.len();
        let mut reservation = Reservation {
            extent_start: address_mut(extents),
            nr_extents: wanted as u64,
            extent_order: order,
            mem_flags: 0,
            domid: domain.raw(),
            pad: [0; 3],
        };
        // SAFETY: the list has the length that the reservation says, and Xen writes only entries of it.
        let result = unsafe { self.memory_op(XENMEM_POPULATE_PHYSMAP, &mut reservation, domain) }?;
        Ok(Populated { extents: usize::try_from(result).map_or(wanted, |done| done.min(wanted)) })
    }

    /// Gives frames of this domain's own memory back, each a page; this domain is a PV domain. Gives back how many Xen took,
    /// from the first: one that is not this domain's ends the call.
    ///
    /// Xen keeps a frame for as long as a PV domain maps it, so that no memory vanishes under whoever refers to it.
    pub fn give_back(&self, frames: &[Mfn]) -> Result<usize, CallError> {
        let wanted = frames.len();
        let list: Vec<u64> = frames.iter().map(|frame| frame.raw()).collect();
        let mut reservation = Reservation {
            extent_start: address(list.as_slice()),
            nr_extents: wanted as u64,
            extent_order: 0,
            mem_flags: 0,
            domid: DomId::SELF.raw(),
            pad: [0; 3],
        };
        // SAFETY: the list has the length that the reservation says, and Xen only reads it. Mapped memory stays, see above.
        let result = unsafe { self.memory_op(XENMEM_DECREASE_RESERVATION, &mut reservation, DomId::SELF) }?;
        Ok(usize::try_from(result).map_or(wanted, |done| done.min(wanted)))
    }

    /// Pages that `domain` has.
    pub fn current_pages(&self, domain: DomId) -> Result<PageCount, CallError> {
        // The call takes the address of a bare domain identifier.
        let mut argument = domain.raw();
        // SAFETY: the argument is one `domid_t`, and holds no address.
        let pages = unsafe { self.memory_op(XENMEM_CURRENT_RESERVATION, &mut argument, domain) }?;
        Ok(PageCount::new(pages.unsigned_abs()))
    }

    /// Sets the memory map that `domain` gets when it asks Xen for one (`XENMEM_memory_map`): at most
    /// [`MAX_MAP_ENTRIES`](memory::MAX_MAP_ENTRIES) entries, which Xen hands on without looking at them.
    pub fn set_memory_map(&self, domain: DomId, map: &[MapEntry]) -> Result<(), CallError> {
        let mut argument = ForeignMemoryMap {
            domid: domain.raw(),
            nr_entries: u32::try_from(map.len()).unwrap_or(u32::MAX),
            buffer: address(map),
            ..ForeignMemoryMap::default()
        };
        // SAFETY: the list has the length that the argument says, or the argument says more than Xen takes; Xen only reads it.
        unsafe { self.memory_op(XENMEM_SET_MEMORY_MAP, &mut argument, domain) }.map(|_| ())
    }

    /// Sets memory aside for `domain` so that populating it cannot fail half way; 0 takes back what is left of a claim.
    pub fn claim_pages(&self, domain: DomId, pages: PageCount) -> Result<(), CallError> {
        let mut reservation = Reservation {
            extent_start: 0,
            nr_extents: pages.raw(),
            extent_order: 0,
            mem_flags: 0,
            domid: domain.raw(),
            pad: [0; 3],
        };
        // SAFETY: a claim uses only the number of extents; the list's address is null, as it has to be.
        unsafe { self.memory_op(XENMEM_CLAIM_PAGES, &mut reservation, domain) }.map(|_| ())
    }

    /// First frame of a PV domain's grant table.
    pub fn grant_table_frame(&self, domain: DomId) -> Result<Mfn, CallError> {
        let mut frame: u64 = 0;
        let mut acquire = AcquireResource {
            domid: domain.raw(),
            resource_type: u16::try_from(RESOURCE_GRANT_TABLE).unwrap_or_default(),
            nr_frames: 1,
            frame_list: address_mut(&mut frame),
            ..AcquireResource::default()
        };
        // SAFETY: the list has one entry, as the structure says.
        unsafe { self.memory_op(XENMEM_ACQUIRE_RESOURCE, &mut acquire, domain) }?;
        Ok(Mfn::new(frame))
    }

    /// Makes `table` of `domain`, and every table below it, page tables for as long as the domain lives.
    pub fn pin_l4(&self, domain: DomId, table: Mfn) -> Result<(), CallError> {
        self.pin(domain, table, MMUEXT_PIN_L4_TABLE, "MMUEXT_PIN_L4_TABLE")
    }

    /// The same for the top table of a 32-bit domain.
    pub fn pin_l3(&self, domain: DomId, table: Mfn) -> Result<(), CallError> {
        self.pin(domain, table, MMUEXT_PIN_L3_TABLE, "MMUEXT_PIN_L3_TABLE")
    }

    fn pin(&self, domain: DomId, table: Mfn, cmd: u32, name: &'static str) -> Result<(), CallError> {
        let mut op = MmuextOp { cmd, pad: 0, arg1: table.raw(), arg2: 0 };
        let mut done: u32 = 0;
        let args = [address_mut(&mut op), 1, address_mut(&mut done), u64::from(domain.raw()), 0];
        // SAFETY: one operation, as the count says; the table is another domain's, so the caller's address space stays.
        unsafe { self.call(HypercallNumber::MMUEXT_OP, args, name, domain) }?;
        if done & !MMU_UPDATE_PREEMPTED == 1 {
            return Ok(());
        }
        Err(CallError { call: name, domain, errno: Errno::EINVAL })
    }
}
