//! What pages hold.

use alloc::format;
use core::ptr;

use pv_runtime::pages;
use verdict::Verdict;
use xen_abi::{PAGE_SIZE, Pfn};

/// Words in a page.
const WORDS: usize = PAGE_SIZE / size_of::<u64>();

/// The words of a page, one after the other.
fn words(page: Pfn) -> impl Iterator<Item = (usize, *mut u64)> {
    #[expect(clippy::cast_possible_truncation, reason = "an address of a 64-bit machine")]
    let first = pages::address_of(page).raw() as usize;
    let first = ptr::with_exposed_provenance_mut::<u64>(first);
    (0..WORDS).map(move |index| (index, first.wrapping_add(index)))
}

/// What is written to a word: another value for each word of each page.
fn pattern(page: Pfn, index: usize) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    (page.raw() * WORDS as u64 + index as u64 + 1).wrapping_mul(ODD)
}

/// What a debug build of Xen fills pages with in place of zeros (`SCRUB_PATTERN`), in each word.
const DEBUG_FILL: u64 = 0xc2c2_c2c2_c2c2_c2c2;

fn compare(page: Pfn, expected: impl Fn(usize) -> u64) -> Result<(), Verdict> {
    for (index, word) in words(page) {
        // SAFETY: pages that are passed here are mapped and in no use.
        let found = unsafe { word.read_volatile() };
        let expected = expected(index);
        if found != expected {
            return Err(Verdict::Failure(format!(
                "page {page} holds {found:#x} at offset {:#x} instead of {expected:#x}",
                index * size_of::<u64>()
            )));
        }
    }
    Ok(())
}

/// The pages from `start` up to `end` hold nothing: each is full of zeros, or of what a debug build of Xen has for them. They are mapped and
/// in no use.
pub(crate) fn are_empty(start: Pfn, end: Pfn) -> Result<(), Verdict> {
    (start.raw()..end.raw()).map(Pfn::new).try_for_each(|page| {
        let is_filled = compare(page, |_| DEBUG_FILL).is_ok();
        if is_filled { Ok(()) } else { compare(page, |_| 0) }
    })
}

/// Writes something else to each word from `start` up to `end`, and finds it there when all are written. Twice: the second
/// time the complement, so that every bit is tried both ways. The pages are mapped and in no use.
pub(crate) fn hold_what_is_written(start: Pfn, end: Pfn) -> Result<(), Verdict> {
    for flip in [0, u64::MAX] {
        for page in (start.raw()..end.raw()).map(Pfn::new) {
            for (index, word) in words(page) {
                // SAFETY: the page is mapped and in no use.
                unsafe { word.write_volatile(pattern(page, index) ^ flip) };
            }
        }
        for page in (start.raw()..end.raw()).map(Pfn::new) {
            compare(page, |index| pattern(page, index) ^ flip)?;
        }
    }
    Ok(())
}
