//! Giving a domain its memory, in the largest pieces that Xen has.

use alloc::vec::Vec;

use domain_plan::{FrameRange, P2m};
use hypercall::{CallError, RawHypercall, Xen};
use xen_abi::{DomId, Mfn, PageCount, Pfn};

use crate::{BuildError, Step};

/// Orders to ask for, from 1 GiB down: the sizes in which Xen and the processor deal, and one between.
const ORDERS: [u32; 4] = [18, 9, 4, 0];

/// The most extents in one call: bounds the list to 4 KiB and the time until Xen answers.
const BATCH: u64 = 512;

/// Populates `domain`, a PV domain, with `memory` pages from PFN 0 on; gives back where they are.
pub(crate) fn populate<H: RawHypercall>(
    xen: &Xen<H>,
    domain: DomId,
    memory: PageCount,
) -> Result<P2m, BuildError> {
    let mut p2m = P2m::new();
    let range = FrameRange { first: Pfn::new(0), pages: memory };
    populate_range(xen, domain, range, |mfn, size| p2m.push(Mfn::new(mfn), size))?;
    Ok(p2m)
}

/// Populates `domain`, a PVH domain, with memory at the guest frames of `ranges`; gives back in how many extents.
pub(crate) fn populate_frames<H: RawHypercall>(
    xen: &Xen<H>,
    domain: DomId,
    ranges: &[FrameRange],
) -> Result<usize, BuildError> {
    let mut extents = 0;
    for range in ranges {
        populate_range(xen, domain, *range, |_, _| extents += 1)?;
    }
    Ok(extents)
}

/// Gives `domain` memory at the frames of `range`, in the largest extents first.
///
/// `got` is told of each extent: what Xen wrote in its place, which for a PV domain is its first machine frame, and its size.
/// Extents lie at multiples of their size, which the processor wants for large pages, if the range begins at one.
fn populate_range<H: RawHypercall>(
    xen: &Xen<H>,
    domain: DomId,
    range: FrameRange,
    mut got: impl FnMut(u64, PageCount),
) -> Result<(), BuildError> {
    let mut extents = Vec::new();
    let mut done = 0;
    for order in ORDERS {
        let call = populate_order(xen, domain, range, order, &mut done, &mut extents, &mut got);
        call.map_err(BuildError::call(Step::Populate))?;
    }
    if done == range.pages.raw() {
        return Ok(());
    }
    Err(BuildError::OutOfMemory { domain, got: PageCount::new(done), wanted: range.pages })
}

/// Adds extents of 2^`order` pages until what is left is smaller, or Xen has none of that size.
fn populate_order<H: RawHypercall>(
    xen: &Xen<H>,
    domain: DomId,
    range: FrameRange,
    order: u32,
    done: &mut u64,
    extents: &mut Vec<u64>,
    got: &mut impl FnMut(u64, PageCount),
) -> Result<(), CallError> {
    loop {
        let count = ((range.pages.raw() - *done) >> order).min(BATCH);
        if count == 0 {
            return Ok(());
        }
        extents.clear();
        extents.extend((0..count).map(|number| range.first.raw() + *done + (number << order)));
        let populated = xen.populate(domain, order, extents)?.extents;
        for extent in extents.iter().take(populated) {
            got(*extent, PageCount::new(1 << order));
            *done += 1 << order;
        }
        if (populated as u64) < count {
            // None of this size is left; smaller ones may be.
            return Ok(());
        }
    }
}
