//! Giving a domain its memory, in the largest pieces that Xen has.

use alloc::vec::Vec;

use domain_plan::FrameRange;
use hypercall::{CallError, RawHypercall, Xen};
use xen_abi::memory::{XENMEM_POPULATE_PHYSMAP, name};
use xen_abi::{DomId, Errno, PageCount};

use crate::{BuildError, Step};

/// Orders to ask for, from 1 GiB down: the sizes in which Xen and the processor deal, and one between.
const ORDERS: [u32; 4] = [18, 9, 4, 0];

/// The most extents in one call: bounds the list to 4 KiB and the time until Xen answers.
const BATCH: u64 = 512;

/// Memory that a domain is given by and by: at the frames of some ranges, in the largest extents first.
///
/// Extents lie at multiples of their size, which the processor wants for large pages, if the range begins at one.
#[derive(Debug)]
pub(crate) struct Supply {
    ranges: Vec<FrameRange>,
    /// The range that is being filled, by its index.
    current: usize,
    /// Pages that it has.
    done: u64,
    /// The order that is asked for, by its index.
    order: usize,
    extents: Vec<u64>,
}

impl Supply {
    /// Nothing of `ranges` yet.
    pub(crate) fn new(ranges: Vec<FrameRange>) -> Self {
        Self { ranges, current: 0, done: 0, order: 0, extents: Vec::new() }
    }

    /// Asks Xen once for memory for `domain`, if some is missing; says whether nothing is missing any more.
    ///
    /// `got` is told of each extent: what Xen wrote in its place, which for a PV domain is its first machine frame, and its size.
    pub(crate) fn step<H: RawHypercall>(
        &mut self,
        xen: &Xen<H>,
        domain: DomId,
        mut got: impl FnMut(u64, PageCount),
    ) -> Result<bool, BuildError> {
        while let Some(range) = self.ranges.get(self.current).copied() {
            let Some(order) = ORDERS.get(self.order).copied() else {
                if self.done < range.pages.raw() {
                    // Of a domain that is no more Xen says the same as of memory that is used up.
                    if matches!(xen.find_domain(domain), Ok(None)) {
                        let error =
                            CallError { call: name(XENMEM_POPULATE_PHYSMAP), domain, errno: Errno::ESRCH };
                        return Err(BuildError::call(Step::Populate)(error));
                    }
                    let got = PageCount::new(self.done);
                    return Err(BuildError::OutOfMemory { domain, got, wanted: range.pages });
                }
                (self.current, self.done, self.order) = (self.current + 1, 0, 0);
                continue;
            };
            let count = ((range.pages.raw() - self.done) >> order).min(BATCH);
            if count == 0 {
                self.order += 1;
                continue;
            }
            self.extents.clear();
            let first = range.first.raw() + self.done;
            self.extents.extend((0..count).map(|number| first + (number << order)));
            let populated = xen.populate(domain, order, &mut self.extents);
            let populated = populated.map_err(BuildError::call(Step::Populate))?.extents;
            for extent in self.extents.iter().take(populated) {
                got(*extent, PageCount::new(1 << order));
                self.done += 1 << order;
            }
            if (populated as u64) < count {
                // None of this size is left; smaller ones may be.
                self.order += 1;
            }
            return Ok(false);
        }
        Ok(true)
    }
}
