//! Giving a domain its memory, in the largest pieces that Xen has.

use alloc::vec::Vec;

use domain_plan::P2m;
use hypercall::{CallError, RawHypercall, Xen};
use xen_abi::{DomId, Mfn, PageCount};

use crate::{BuildError, Step};

/// Orders to ask for, from 1 GiB down: the sizes in which Xen and the processor deal, and one between.
const ORDERS: [u32; 4] = [18, 9, 4, 0];

/// The most extents in one call: bounds the list to 4 KiB and the time until Xen answers.
const BATCH: u64 = 512;

/// Populates `domain` with `memory` pages from PFN 0 on; gives back where they are.
pub(crate) fn populate<H: RawHypercall>(
    xen: &Xen<H>,
    domain: DomId,
    memory: PageCount,
) -> Result<P2m, BuildError> {
    let mut p2m = P2m::new();
    let mut extents = Vec::new();
    for order in ORDERS {
        populate_order(xen, domain, memory, order, &mut p2m, &mut extents)
            .map_err(BuildError::call(Step::Populate))?;
    }
    if p2m.pages() == memory {
        return Ok(p2m);
    }
    Err(BuildError::OutOfMemory { domain, got: p2m.pages(), wanted: memory })
}

/// Adds extents of 2^`order` pages until what is left is smaller, or Xen has none of that size.
fn populate_order<H: RawHypercall>(
    xen: &Xen<H>,
    domain: DomId,
    memory: PageCount,
    order: u32,
    p2m: &mut P2m,
    extents: &mut Vec<u64>,
) -> Result<(), CallError> {
    let size = PageCount::new(1 << order);
    loop {
        let missing = memory.raw().saturating_sub(p2m.pages().raw());
        let count = (missing >> order).min(BATCH);
        if count == 0 {
            return Ok(());
        }
        extents.clear();
        extents.extend((0..count).map(|number| p2m.pages().raw() + (number << order)));
        let done = xen.populate(domain, order, extents)?.extents;
        for mfn in extents.iter().take(done) {
            p2m.push(Mfn::new(*mfn), size);
        }
        if (done as u64) < count {
            // None of this size is left; smaller ones may be.
            return Ok(());
        }
    }
}
