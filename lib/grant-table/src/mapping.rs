//! The side that maps.

use core::fmt;
use core::mem::ManuallyDrop;

use hypercall::{RawHypercall, SharedMemory, Xen};
use xen_abi::grant_table::{MapFlags, MapGrantRef, UnmapGrantRef};
use xen_abi::{DomId, GrantRef};

use crate::{Access, GrantError};

/// Where Xen is to map a granted frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantAddress {
    /// At this virtual address, whose page table exists.
    Virtual(u64),
    /// In the page-table entry at this machine address.
    Entry(u64),
}

/// A page of address space set aside for a granted frame.
///
/// # Safety
///
/// 1. The page at [`address`](Self::address) belongs to this value alone, and nothing is mapped there when it is made.
/// 2. [`memory`](Self::memory) is that page.
pub unsafe trait GrantSlot {
    /// Access to what is mapped.
    type Memory: SharedMemory;

    /// The page, or its page-table entry.
    fn address(&self) -> GrantAddress;

    /// The bytes of the page.
    ///
    /// # Safety
    ///
    /// A frame is mapped there for as long as the reference lives; it is not written if it was mapped for reading only.
    unsafe fn memory(&self) -> &Self::Memory;
}

/// A frame that another domain granted; unmapped when dropped.
///
/// Writing to one that was mapped [`Access::ReadOnly`] panics.
pub struct Mapping<'x, H: RawHypercall, P: GrantSlot> {
    xen: &'x Xen<H>,
    /// Freed only after the frame is unmapped; never, if that fails.
    slot: ManuallyDrop<P>,
    handle: u32,
    domain: DomId,
    reference: GrantRef,
    access: Access,
}

impl<'x, H: RawHypercall, P: GrantSlot> Mapping<'x, H, P> {
    /// Maps what `domain` granted as `reference` into `slot`.
    pub fn new(
        xen: &'x Xen<H>,
        slot: P,
        domain: DomId,
        reference: GrantRef,
        access: Access,
    ) -> Result<Self, GrantError> {
        let (host_addr, mut flags) = match slot.address() {
            GrantAddress::Virtual(address) => (address, MapFlags::HOST_MAP),
            GrantAddress::Entry(address) => (address, MapFlags::HOST_MAP | MapFlags::CONTAINS_PTE),
        };
        flags.set(MapFlags::READONLY, access == Access::ReadOnly);
        let mut request = [MapGrantRef {
            host_addr,
            flags: flags.bits(),
            grant_ref: reference.raw(),
            dom: domain.raw(),
            ..MapGrantRef::default()
        }];
        // SAFETY: by the contract of `GrantSlot` the page belongs to `slot` alone, and nothing is mapped there.
        unsafe { xen.map_grants(&mut request) }?;
        let [MapGrantRef { status, handle, .. }] = request;
        if status != 0 {
            let call = "GNTTABOP_map_grant_ref";
            return Err(GrantError::Refused { call, domain, reference, status });
        }
        Ok(Self { xen, slot: ManuallyDrop::new(slot), handle, domain, reference, access })
    }

    /// Where the frame is mapped.
    pub fn address(&self) -> GrantAddress {
        self.slot.address()
    }

    /// The bytes, to read.
    fn readable(&self) -> &P::Memory {
        // SAFETY: the frame is mapped until `self` is given up, and whoever writes comes by `writable`.
        unsafe { self.slot.memory() }
    }

    /// The bytes, to write; panics if the frame was mapped for reading.
    fn writable(&self) -> &P::Memory {
        assert!(
            self.access == Access::ReadWrite,
            "write to reference {} of domain {}, which is mapped for reading",
            self.reference,
            self.domain
        );
        self.readable()
    }

    /// Unmaps the frame and gives the slot back; on an error the slot is lost, for the frame may still be mapped there.
    pub fn unmap(self) -> Result<P, GrantError> {
        let mut this = ManuallyDrop::new(self);
        this.release()?;
        // SAFETY: `this` is never dropped or used again, so the slot is taken once.
        Ok(unsafe { ManuallyDrop::take(&mut this.slot) })
    }

    fn release(&mut self) -> Result<(), GrantError> {
        let (GrantAddress::Virtual(host_addr) | GrantAddress::Entry(host_addr)) = self.slot.address();
        let mut request = [UnmapGrantRef { host_addr, handle: self.handle, ..UnmapGrantRef::default() }];
        // SAFETY: `self` is being given up, so nothing accesses the page through it any more.
        unsafe { self.xen.unmap_grants(&mut request) }?;
        let [UnmapGrantRef { status, .. }] = request;
        if status == 0 {
            return Ok(());
        }
        let call = "GNTTABOP_unmap_grant_ref";
        Err(GrantError::Refused { call, domain: self.domain, reference: self.reference, status })
    }
}

impl<H: RawHypercall, P: GrantSlot> SharedMemory for Mapping<'_, H, P> {
    fn size(&self) -> usize {
        self.readable().size()
    }

    fn read(&self, offset: usize, buffer: &mut [u8]) {
        self.readable().read(offset, buffer);
    }

    fn write(&self, offset: usize, bytes: &[u8]) {
        self.writable().write(offset, bytes);
    }

    fn load_u32(&self, offset: usize) -> u32 {
        self.readable().load_u32(offset)
    }

    fn store_u32(&self, offset: usize, value: u32) {
        self.writable().store_u32(offset, value);
    }

    fn compare_exchange_u32(&self, offset: usize, current: u32, new: u32) -> Result<u32, u32> {
        self.writable().compare_exchange_u32(offset, current, new)
    }
}

impl<H: RawHypercall, P: GrantSlot> Drop for Mapping<'_, H, P> {
    fn drop(&mut self) {
        match self.release() {
            // SAFETY: the value is being dropped, so the slot is dropped once.
            Ok(()) => unsafe { ManuallyDrop::drop(&mut self.slot) },
            Err(error) => log::error!("a granted frame stays mapped, and its address space is lost: {error}"),
        }
    }
}

impl<H: RawHypercall, P: GrantSlot> fmt::Debug for Mapping<'_, H, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mapping")
            .field("domain", &self.domain)
            .field("reference", &self.reference)
            .field("handle", &self.handle)
            .finish_non_exhaustive()
    }
}
