//! Maps own frames a second time, in the area for frames that stay; and makes the heap grow.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![expect(clippy::cast_possible_truncation, reason = "small numbers, and addresses on a 64-bit machine")]

extern crate alloc;

use alloc::vec;
use alloc::vec::Vec;

use hypercall::{FrameWindow, OwnFrameWindow, SharedMemory, WindowError};
use pv_runtime::{Boot, KEPT_FRAMES, SharedFrames, WINDOW_FRAMES, Window, pages};
use verdict::{Outcome, Verdict, require, success};
use xen_abi::{DomId, Mfn, PAGE_SIZE, Pfn};

verdict::test!(run);

/// Any domain but this one.
const ANOTHER: DomId = DomId::new(0x7fe0);

fn run(boot: &mut Boot) -> Outcome {
    heap_grows(boot.start_info().nr_pages)?;
    let mut window = boot.window().ok_or_else(|| Verdict::error("no window"))?.map_err(Verdict::failure)?;
    require!(boot.window().is_none(), "the window can be taken twice");
    maps_in_order(&mut window)?;
    refuses(&mut window)?;
    keeps(&mut window)?;
    success!("windows of up to {WINDOW_FRAMES} frames, up to {KEPT_FRAMES} that stay, a heap that grows")
}

/// Memory of this kernel, and the frames it is in.
struct Own {
    bytes: Vec<u8>,
    first: Pfn,
}

impl Own {
    fn new(pages: usize) -> Self {
        // One page more than asked for, to find a page boundary in it.
        let bytes = vec![0; (pages + 1) * PAGE_SIZE];
        let address = bytes.as_ptr().addr().next_multiple_of(PAGE_SIZE);
        Self { first: Pfn::new((address / PAGE_SIZE) as u64), bytes }
    }

    fn frames(&self) -> Vec<Mfn> {
        let pages = self.bytes.len() / PAGE_SIZE - 1;
        (0..pages as u64).map(|page| pages::frame_of(Pfn::new(self.first.raw() + page))).collect()
    }

    /// The first byte of a page.
    fn byte(&self, page: usize) -> Option<u8> {
        let offset = self.first.raw() as usize * PAGE_SIZE - self.bytes.as_ptr().addr();
        self.bytes.get(offset + page * PAGE_SIZE).copied()
    }
}

/// Bytes of page `n`, when frames are mapped one after the other.
fn pattern(page: usize) -> u8 {
    (page % 251) as u8 + 1
}

/// Frames that fit the area beside what the runtime keeps there.
const MANY: usize = KEPT_FRAMES - 8;

fn maps_in_order(window: &mut Window) -> Result<(), Verdict> {
    for count in [1, 2, 511, 513, MANY] {
        let own = Own::new(count);
        let mut frames = own.frames();
        // Not in order, so that a mapping by accident is noticed.
        frames.reverse();
        // SAFETY: the memory is a vector's that nobody reads or writes while it is mapped.
        let mapped = unsafe { window.map_own(&frames) }.map_err(Verdict::failure)?;
        if mapped.size() != count * PAGE_SIZE {
            return Err(Verdict::failure("another size is mapped than was asked for"));
        }
        (0..count).for_each(|page| mapped.write(page * PAGE_SIZE, &[pattern(page); PAGE_SIZE]));
        drop(mapped);
        // The heap's memory changed behind the compiler's back.
        let own = core::hint::black_box(own);
        if let Some(page) = (0..count).find(|page| own.byte(count - 1 - page) != Some(pattern(*page))) {
            return Err(Verdict::Failure(alloc::format!("page {page} of {count} went elsewhere")));
        }
    }
    Ok(())
}

fn refuses(window: &mut Window) -> Result<(), Verdict> {
    let own = Own::new(3);
    let mut frames = own.frames();
    let table = pages::frame_of(pages::root());
    frames.push(table);
    // SAFETY: as above; a page table is not mapped writable.
    match unsafe { window.map_own(&frames) } {
        Err(WindowError::Refused { frame, done: 3, wanted: 4, .. }) if frame == table => {}
        other => return Err(Verdict::Failure(alloc::format!("a page table mapped writable: {other:?}"))),
    }
    match (window.with_frames(DomId::SELF, &frames, |_| ()), window.map_shared(DomId::SELF, &frames)) {
        (Err(WindowError::Own), Err(WindowError::Own)) => {}
        other => return Err(Verdict::Failure(alloc::format!("own memory got a second address: {other:?}"))),
    }
    let many = vec![table; WINDOW_FRAMES + 1];
    match window.with_frames(ANOTHER, &many, |_| ()) {
        Err(WindowError::TooMany { .. }) => Ok(()),
        other => Err(Verdict::Failure(alloc::format!("more frames than the window has: {other:?}"))),
    }
}

fn keeps(window: &mut Window) -> Result<(), Verdict> {
    let own = Own::new(2);
    let frames = own.frames();
    // SAFETY: the memory is a vector's that nobody reads or writes until the end of this function.
    let mut map = || unsafe { window.map_own(&frames) };
    // More often than there is room for at once: what is dropped is free again.
    for round in 0..2 * KEPT_FRAMES as u32 {
        let shared = map().map_err(Verdict::failure)?;
        shared.store_u32(PAGE_SIZE, round);
        shared.write(PAGE_SIZE - 1, &[0xa5]);
        let again = map().map_err(Verdict::failure)?;
        if again.load_u32(PAGE_SIZE) != round {
            return Err(Verdict::failure("two mappings of one frame differ"));
        }
    }
    let mut kept: Vec<SharedFrames> = Vec::new();
    let full = loop {
        match map() {
            Ok(shared) => kept.push(shared),
            Err(error) => break error,
        }
    };
    match full {
        // Some of the area is the runtime's.
        WindowError::Exhausted { wanted: 2, .. } if kept.len() * 2 > KEPT_FRAMES - 8 => Ok(()),
        other => Err(Verdict::Failure(alloc::format!("after {} pairs of frames: {other}", kept.len()))),
    }
}

fn heap_grows(pages: u64) -> Result<(), Verdict> {
    let before = pv_runtime::heap_use();
    // Half of the domain: more than the builder mapped.
    let half = vec![0x5a_u8; pages as usize / 2 * PAGE_SIZE];
    let during = pv_runtime::heap_use();
    if core::hint::black_box(&half).iter().any(|byte| *byte != 0x5a) {
        return Err(Verdict::failure("the heap does not hold what was written"));
    }
    drop(half);
    let after = pv_runtime::heap_use();
    // Page tables for what was mapped are the heap's pages too, and stay.
    let tables = during.size / 512 + 64 * PAGE_SIZE;
    if during.size <= before.size || after.used > before.used + tables {
        return Err(Verdict::Failure(alloc::format!(
            "before {before:?}, during {during:?}, after {after:?}"
        )));
    }
    let mut too_much: Vec<u8> = Vec::new();
    match too_much.try_reserve_exact(pages as usize * PAGE_SIZE) {
        Ok(()) => Err(Verdict::failure("the heap gave away more memory than the domain has")),
        Err(_) => Ok(()),
    }
}
