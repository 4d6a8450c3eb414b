//! Which machine frame is behind each pseudo-physical frame.

use alloc::vec::Vec;

use xen_abi::{Mfn, PageCount, Pfn};

/// The physical-to-machine translation of a guest, kept as runs: memory comes from Xen in large extents, so that a list
/// of a few entries stands for gigabytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct P2m {
    runs: Vec<Run>,
    pages: u64,
}

/// Frames that are consecutive in both numberings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    pfn: u64,
    mfn: u64,
    pages: u64,
}

impl P2m {
    /// The translation of a guest without memory.
    pub const fn new() -> Self {
        Self { runs: Vec::new(), pages: 0 }
    }

    /// Frames that are translated: PFN 0 up to this.
    pub const fn pages(&self) -> PageCount {
        PageCount::new(self.pages)
    }

    /// The number of runs: how fragmented the guest's memory is.
    pub fn runs(&self) -> usize {
        self.runs.len()
    }

    /// Appends `pages` frames that start at `mfn` behind the last PFN.
    pub fn push(&mut self, mfn: Mfn, pages: PageCount) {
        let pages = pages.raw();
        match self.runs.last_mut() {
            Some(last) if last.mfn.wrapping_add(last.pages) == mfn.raw() => {
                last.pages = last.pages.saturating_add(pages);
            }
            _ => self.runs.push(Run { pfn: self.pages, mfn: mfn.raw(), pages }),
        }
        self.pages = self.pages.saturating_add(pages);
    }

    /// The run that `pfn` is in, if it is translated.
    fn run(&self, pfn: u64) -> Option<&Run> {
        let behind = self.runs.partition_point(|run| run.pfn <= pfn);
        let run = self.runs.get(behind.checked_sub(1)?)?;
        (pfn.wrapping_sub(run.pfn) < run.pages).then_some(run)
    }

    /// The machine frame behind `pfn`.
    pub fn mfn(&self, pfn: Pfn) -> Option<Mfn> {
        let run = self.run(pfn.raw())?;
        Some(Mfn::new(run.mfn.wrapping_add(pfn.raw().wrapping_sub(run.pfn))))
    }

    /// The machine frames behind `pages` frames from `first`; frames without memory are [`Mfn::INVALID`].
    pub fn mfns(&self, first: Pfn, pages: u64) -> impl Iterator<Item = Mfn> {
        let mut run = Run { pfn: 0, mfn: 0, pages: 0 };
        (first.raw()..first.raw().saturating_add(pages)).map(move |pfn| {
            // Most frames are in the run of the one before; only the others search.
            if pfn.wrapping_sub(run.pfn) >= run.pages {
                run = self.run(pfn).copied().unwrap_or(Run { pfn, mfn: u64::MAX, pages: 1 });
            }
            Mfn::new(run.mfn.wrapping_add(pfn.wrapping_sub(run.pfn)))
        })
    }

    /// Fills `bytes` with the guest's p2m list from `first` on: one MFN of `WORD` bytes, 8 or for a 32-bit guest 4, for each PFN, all ones
    /// where there is no memory.
    pub fn fill<const WORD: usize>(&self, first: Pfn, bytes: &mut [u8]) {
        let (mut entries, _) = bytes.as_chunks_mut::<WORD>();
        let mut pfn = first.raw();
        // Run by run, so that an entry costs an addition and a store: the list has one for each page of a guest of many GiB.
        while let Some(run) = self.run(pfn) {
            let skipped = pfn.wrapping_sub(run.pfn);
            let count =
                usize::try_from(run.pages.saturating_sub(skipped)).unwrap_or(usize::MAX).min(entries.len());
            let (now, rest) = entries.split_at_mut(count);
            let start = run.mfn.wrapping_add(skipped);
            for (entry, mfn) in now.iter_mut().zip(start..) {
                *entry = low_bytes(mfn);
            }
            if rest.is_empty() {
                return;
            }
            (entries, pfn) = (rest, pfn.saturating_add(count as u64));
        }
        entries.fill(low_bytes(Mfn::INVALID.raw()));
    }
}

/// The low bytes of a number, of which there are at most eight.
fn low_bytes<const COUNT: usize>(number: u64) -> [u8; COUNT] {
    number.to_le_bytes().first_chunk().copied().unwrap_or([0; COUNT])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adjacent_extents_become_one_run() {
        let mut p2m = P2m::new();
        p2m.push(Mfn::new(100), PageCount::new(10));
        p2m.push(Mfn::new(110), PageCount::new(5));
        p2m.push(Mfn::new(50), PageCount::new(1));
        assert_eq!(p2m.runs(), 2);
        assert_eq!(p2m.pages(), PageCount::new(16));
        assert_eq!(p2m.mfn(Pfn::new(14)), Some(Mfn::new(114)));
        assert_eq!(p2m.mfn(Pfn::new(15)), Some(Mfn::new(50)));
        assert_eq!(p2m.mfn(Pfn::new(16)), None);
    }

    #[test]
    fn the_list_ends_in_invalid_entries() {
        let mut p2m = P2m::new();
        p2m.push(Mfn::new(7), PageCount::new(2));
        let mut bytes = [0; 32];
        p2m.fill::<8>(Pfn::new(1), &mut bytes);
        assert_eq!(bytes[..8], 8_u64.to_le_bytes());
        assert_eq!(bytes[8..], [0xff; 24]);
        p2m.fill::<4>(Pfn::new(0), &mut bytes);
        assert_eq!(bytes[..8], [7, 0, 0, 0, 8, 0, 0, 0]);
        assert_eq!(bytes[8..], [0xff; 24]);
    }

    #[test]
    fn a_guest_without_memory_translates_nothing() {
        assert_eq!(P2m::new().mfn(Pfn::new(0)), None);
        assert_eq!(P2m::new().mfns(Pfn::new(3), 2).collect::<Vec<_>>(), [Mfn::INVALID; 2]);
    }
}
