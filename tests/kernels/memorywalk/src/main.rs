//! Verifies every page that this domain owns: how many there are, what Xen and the page tables say about each, what they hold
//! at the start, and that each keeps what is written to it.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

mod contents;
mod tables;

use alloc::format;

use hypercall::Xen;
use pv_runtime::{Boot, Hypervisor, SparePages, clock, pages, println};
use verdict::{Outcome, Verdict, require, success};
use xen_abi::{DomId, Mfn, Pfn};

verdict::test!(run);

fn run(boot: &mut Boot) -> Outcome {
    let total = boot.start_info().nr_pages;
    counts_agree(total)?;
    println!("flags of the start info: {:?}", boot.flags());
    let SparePages { start, end } = boot.spare_pages().map_err(Verdict::error)?;
    println!("{total} pages, of which {start}..{end} are in no use");
    require!(end.raw() - start.raw() > total / 2, "only pages {start}..{end} of {total} are free");
    contents::are_empty(Pfn::new(1), pages::memory_map().constants.start)?;
    contents::are_empty(start, end)?;
    frames_agree(total)?;
    let tables = tables::collect(total)?;
    tables::mappings_are_right(total, &tables)?;
    tables::are_protected(&tables)?;
    let before = clock::now();
    contents::hold_what_is_written(start, end)?;
    let micros = clock::now().since(before) / 1000;
    let walked = end.raw() - start.raw();
    let rate = walked * 1_000_000 / micros.max(1);
    let tables = tables.len();
    success!("{total} pages, {tables} of them page tables; {walked} written and read back, {rate} pages/s")
}

/// The start info says as many pages as Xen does.
fn counts_agree(total: u64) -> Result<(), Verdict> {
    let xen = Xen::unprivileged(Hypervisor).map_err(Verdict::error)?;
    let owned = xen.current_pages(DomId::SELF).map_err(Verdict::error)?.raw();
    if owned == total {
        return Ok(());
    }
    Err(Verdict::Failure(format!("the start info says {total} pages, Xen says {owned}")))
}

/// Each page has a frame, and Xen's table says of that frame that it is this page. So no frame is there twice.
fn frames_agree(total: u64) -> Result<(), Verdict> {
    for page in (0..total).map(Pfn::new) {
        let frame = pages::frame_of(page);
        if frame == Mfn::INVALID {
            return Err(Verdict::Failure(format!("page {page} of {total} has no frame in the p2m list")));
        }
        let back = pages::page_by_xen(page);
        if back != Some(page) {
            return Err(Verdict::Failure(format!(
                "the p2m list has frame {frame} for page {page}; Xen's table says that this frame is page {back:?}"
            )));
        }
    }
    Ok(())
}
