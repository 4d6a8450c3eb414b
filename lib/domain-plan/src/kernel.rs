//! What planning needs to know of a kernel image.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use kernel_image::{AddressSize, KernelImage, Symbols};
use xen_abi::{GuestVirt, PAGE_SIZE};

use crate::PlanError;

/// Bytes to be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Load<'k> {
    /// Pseudo-physical address of the first byte.
    pub address: u64,
    /// The bytes: those in the image, or the headers that are made for its symbols.
    pub bytes: Cow<'k, [u8]>,
    /// Size in memory; what the image does not fill is zero.
    pub memory_size: u64,
}

impl Load<'_> {
    /// The pseudo-physical address behind the last byte.
    pub fn end(&self) -> u64 {
        self.address.saturating_add(self.memory_size)
    }
}

/// A PV kernel, as its program headers and notes describe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PvKernel<'k> {
    /// How wide its addresses are.
    pub address_size: AddressSize,
    /// Virtual address that pseudo-physical address 0 is mapped at.
    pub base: GuestVirt,
    /// Virtual address of the first instruction.
    pub entry: GuestVirt,
    /// What to load, by ascending address, not overlapping.
    pub loads: Vec<Load<'k>>,
    /// Virtual address at which the kernel wants its p2m list; `None` for the initial mapping.
    pub init_p2m: Option<GuestVirt>,
    /// Whether the RAM disk may stay outside of the initial mapping.
    pub unmapped_ramdisk: bool,
    /// Virtual address of a page that Xen is to fill.
    pub hypercall_page: Option<GuestVirt>,
}

impl<'k> PvKernel<'k> {
    /// Reads the facts from a parsed image.
    pub fn from_image(image: &KernelImage<'k>) -> Result<Self, PlanError> {
        let layout = image.layout()?;
        let mut loads = loads_of(image);
        for load in &mut loads {
            let (start, end, base) = (load.address, load.end(), layout.paddr_offset);
            load.address = start.checked_sub(base).ok_or(PlanError::BelowBase { start, end, base })?;
        }
        Ok(Self {
            address_size: layout.address_size,
            base: GuestVirt::new(layout.virt_base),
            entry: GuestVirt::new(layout.entry),
            loads,
            init_p2m: layout.init_p2m.map(GuestVirt::new),
            unmapped_ramdisk: layout.mod_start_pfn,
            hypercall_page: layout.hypercall_page.map(GuestVirt::new),
        })
    }

    /// Pseudo-physical addresses of the first byte and behind the last, rounded to pages.
    pub(crate) fn extent(&self) -> Result<(u64, u64), PlanError> {
        extent_of(&self.loads)
    }

    /// The INIT_P2M address, if it is one that the interface allows: below the base, page aligned, and of a 64-bit kernel. Others are
    /// ignored, as they are by Xen's own builder.
    pub(crate) fn usable_init_p2m(&self) -> Option<GuestVirt> {
        let wanted = self.init_p2m.filter(|_| !self.address_size.is_32_bit());
        wanted.filter(|address| *address < self.base && address.raw().is_multiple_of(PAGE_SIZE as u64))
    }
}

/// What an image is loaded as, by ascending address: its segments, and its symbols behind them if it asks for them. Addresses are the
/// image's own.
pub(crate) fn loads_of<'k>(image: &KernelImage<'k>) -> Vec<Load<'k>> {
    let segments = image.segments().iter().map(|segment| Load {
        address: segment.physical,
        bytes: Cow::Borrowed(segment.file),
        memory_size: segment.memory_size,
    });
    let symbols = image.symbols().into_iter().flat_map(Symbols::pieces);
    let symbols = symbols.map(|(address, bytes)| Load { address, memory_size: bytes.len() as u64, bytes });
    segments.chain(symbols).collect()
}

/// Addresses of the first byte of all loads and behind the last, rounded to pages.
pub(crate) fn extent_of(loads: &[Load<'_>]) -> Result<(u64, u64), PlanError> {
    const PAGE: u64 = PAGE_SIZE as u64;
    let start = loads.iter().map(|load| load.address).min().unwrap_or(0);
    let end = loads.iter().map(Load::end).max().unwrap_or(0);
    let end =
        end.checked_next_multiple_of(PAGE).ok_or(PlanError::Overflow { what: "the end of the kernel" })?;
    Ok((start & !(PAGE.wrapping_sub(1)), end))
}

/// Fills `bytes` with what a kernel's `loads` have from `address` on, in the guest's own numbering.
pub(crate) fn fill_loads(loads: &[Load<'_>], mut address: u64, mut bytes: &mut [u8]) {
    for load in loads {
        // Up to the load: nothing.
        let gap =
            usize::try_from(load.address.saturating_sub(address)).unwrap_or(usize::MAX).min(bytes.len());
        let (before, rest) = bytes.split_at_mut(gap);
        before.fill(0);
        bytes = rest;
        address = address.saturating_add(gap as u64);
        // The part of the load that the image has; its zero rest is cleared as the gap before the next.
        let skipped = usize::try_from(address.saturating_sub(load.address)).unwrap_or(usize::MAX);
        let source = load.bytes.get(skipped..).unwrap_or_default();
        let length = source.len().min(bytes.len());
        let (to, rest) = bytes.split_at_mut(length);
        copy_and_clear(to, source);
        bytes = rest;
        address = address.saturating_add(length as u64);
    }
    bytes.fill(0);
}

/// Copies as much of `from` as fits, and clears the rest.
pub(crate) fn copy_and_clear(to: &mut [u8], from: &[u8]) {
    let length = to.len().min(from.len());
    let (head, tail) = to.split_at_mut(length);
    if let Some(from) = from.get(..length) {
        head.copy_from_slice(from);
    }
    tail.fill(0);
}
