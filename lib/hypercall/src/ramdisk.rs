//! The memory of a RAM disk, which goes back to Xen when it is needed no more.

use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use xen_abi::{Mfn, PAGE_SIZE};

/// The memory that a RAM disk lies in, owned: while a slice of it is about, it cannot be released.
pub trait Ramdisk {
    /// What is left after a release.
    type Kept: KeptRamdisk;
    /// Why pages could not be unmapped.
    type Error: fmt::Display;

    /// The RAM disk.
    fn bytes(&self) -> &[u8];

    /// Unmaps all pages that hold none of the bytes in `keep`, and hands their frames to `give_back`, some hundreds at a time.
    ///
    /// Nothing maps a frame any more when it is handed over. If unmapping fails, the pages that are still mapped stay as they
    /// are; what was to be kept is kept.
    fn release(
        self,
        keep: &[Range<usize>],
        give_back: impl FnMut(&[Mfn]),
    ) -> (Self::Kept, Result<(), Self::Error>);
}

/// What is left of a RAM disk.
pub trait KeptRamdisk {
    /// The bytes that were in `range`; `None` unless all of them were kept.
    fn bytes(&self, range: Range<usize>) -> Option<&[u8]>;
}

/// The parts of a RAM disk that stay, in whole pages, and those between them that go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    kept: Vec<Range<usize>>,
    pages: usize,
}

impl Parts {
    /// Parts of a RAM disk of `len` bytes that begins `offset` bytes into its first page.
    ///
    /// Of `keep`, what lies outside of the RAM disk does not count.
    pub fn new(offset: usize, len: usize, keep: &[Range<usize>]) -> Self {
        let pages = offset.saturating_add(len).div_ceil(PAGE_SIZE);
        let page_range = |bytes: &Range<usize>| {
            let end = bytes.end.min(len);
            let first = bytes.start.saturating_add(offset) / PAGE_SIZE;
            (bytes.start < end).then(|| first..end.saturating_add(offset).div_ceil(PAGE_SIZE))
        };
        let mut ranges: Vec<_> = keep.iter().filter_map(page_range).collect();
        ranges.sort_by_key(|range| range.start);
        let mut kept: Vec<Range<usize>> = Vec::new();
        for range in ranges {
            match kept.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => kept.push(range),
            }
        }
        Self { kept, pages }
    }

    /// The pages that go, counted from the RAM disk's first.
    pub fn released(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        let starts = core::iter::once(0).chain(self.kept.iter().map(|range| range.end));
        let ends = self.kept.iter().map(|range| range.start).chain(core::iter::once(self.pages));
        starts.zip(ends).map(|(start, end)| start..end).filter(|range| !range.is_empty())
    }

    /// Whether all pages stay that hold the bytes in `range` of a RAM disk that begins `offset` bytes into its first page. An empty
    /// file's range is in no page.
    pub fn keeps(&self, offset: usize, range: &Range<usize>) -> bool {
        if range.is_empty() {
            return true;
        }
        let Some(end) = range.end.checked_add(offset) else { return false };
        let pages = range.start.saturating_add(offset) / PAGE_SIZE..end.div_ceil(PAGE_SIZE);
        self.kept.iter().any(|kept| kept.start <= pages.start && pages.end <= kept.end)
    }
}

/// A RAM disk in memory that is nobody's to give back: it is kept whole.
impl Ramdisk for &[u8] {
    type Kept = Self;
    type Error = core::convert::Infallible;

    fn bytes(&self) -> &[u8] {
        self
    }

    fn release(self, _: &[Range<usize>], _: impl FnMut(&[Mfn])) -> (Self, Result<(), Self::Error>) {
        (self, Ok(()))
    }
}

impl KeptRamdisk for &[u8] {
    fn bytes(&self, range: Range<usize>) -> Option<&[u8]> {
        self.get(range)
    }
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "lists of ranges are what is tested, of one too")]
mod tests {
    extern crate std;

    use std::vec;

    use super::*;

    fn released(offset: usize, len: usize, keep: &[Range<usize>]) -> Vec<Range<usize>> {
        Parts::new(offset, len, keep).released().collect()
    }

    #[test]
    fn all_goes_when_nothing_is_kept() {
        assert_eq!(released(0, 0, &[]), []);
        assert_eq!(released(0, 1, &[]), vec![0..1]);
        assert_eq!(released(0, 4096, &[]), vec![0..1]);
        assert_eq!(released(4095, 2, &[]), vec![0..2]);
    }

    #[test]
    fn a_page_with_one_kept_byte_stays() {
        assert_eq!(released(0, 5 * 4096, &[4096..4097, 3 * 4096 - 1..3 * 4096]), vec![0..1, 3..5]);
        assert_eq!(released(16, 5 * 4096, &[4080..4081]), vec![0..1, 2..6]);
        assert_eq!(released(0, 4096, &[0..1]), []);
        assert_eq!(released(0, 3 * 4096, &[2 * 4096..9 * 4096, 0..1, 5..5]), vec![1..2]);
        assert_eq!(released(0, 4096, &[usize::MAX - 1..usize::MAX]), vec![0..1]);
    }

    #[test]
    fn what_is_kept_can_be_had_again() {
        let parts = Parts::new(16, 5 * 4096, &[4080..4081, 8176..9000]);
        assert!(parts.keeps(16, &(4080..4081)));
        assert!(parts.keeps(16, &(8176..9000)));
        assert!(parts.keeps(16, &(0..0)));
        assert!(!parts.keeps(16, &(0..4081)));
        assert!(!parts.keeps(16, &(4080..usize::MAX)));
    }
}
