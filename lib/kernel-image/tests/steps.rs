//! Unpacking in steps comes to what unpacking at once comes to, whatever the steps and whatever the stream.
#![allow(clippy::unwrap_used, reason = "a test's own helpers may stop the test")]
mod support;

use std::rc::Rc;

use kernel_image::{ImageError, Unpacking, unwrap};
use proptest::prelude::*;
use support::{Elf, bzimage, with_size};

const LIMIT: usize = 1 << 20;

/// A kernel in every compression, as Linux's build would pack it and as a file.
const STREAMS: [&[u8]; 10] = [
    include_bytes!("data/kernel.gz"),
    include_bytes!("data/kernel.bz2"),
    include_bytes!("data/kernel-streams.bz2"),
    include_bytes!("data/kernel.xz"),
    include_bytes!("data/kernel-crc64.xz"),
    include_bytes!("data/kernel-sha256.xz"),
    include_bytes!("data/kernel.lzma"),
    include_bytes!("data/kernel.lz4"),
    include_bytes!("data/kernel.lzo"),
    include_bytes!("data/kernel.zst"),
];

/// Unpacks in steps of these sizes, the last of them again and again; the most that one step brought is not looked at.
fn stepwise(bytes: &[u8], limit: usize, budgets: &[usize]) -> Result<Option<Vec<u8>>, ImageError> {
    let Some(mut unpacking) = Unpacking::new(Rc::new(bytes.to_vec()), limit)? else { return Ok(None) };
    let last = budgets.last().copied().unwrap_or(1);
    let mut budgets = budgets.iter().copied().chain(std::iter::repeat(last));
    while !unpacking.step(budgets.next().unwrap())? {}
    unpacking.into_elf().map(Some)
}

#[test]
fn an_elf_file_is_not_unpacked() {
    let kernel = Rc::new(Elf::kernel().bytes());
    assert!(Unpacking::new(kernel, 0).unwrap().is_none());
}

#[test]
fn a_step_brings_about_what_it_is_asked_for() {
    let size = Elf::kernel().bytes().len();
    for stream in STREAMS {
        let mut unpacking = Unpacking::new(Rc::new(stream.to_vec()), LIMIT).unwrap().unwrap();
        let mut steps = 1;
        while !unpacking.step(1000).unwrap() {
            steps += 1;
        }
        // zstd decodes by the megabyte, lz4 and lzo by their blocks; all others by the byte.
        let whole_blocks = stream.starts_with(b"\x28\xb5")
            || stream.starts_with(b"\x02\x21")
            || stream.starts_with(b"\x89LZO");
        assert!(whole_blocks || steps >= size / 1000, "{steps} steps of {:x?}", &stream[..4]);
    }
}

proptest! {
    #[test]
    fn steps_come_to_the_same(
        stream in 0..STREAMS.len(),
        is_linux: bool,
        damage in prop::option::weighted(0.7, (any::<prop::sample::Index>(), any::<u8>())),
        keep in prop::option::weighted(0.2, any::<prop::sample::Index>()),
        limit in prop_oneof![Just(LIMIT), 0..LIMIT],
        budgets in prop::collection::vec(prop_oneof![1..200usize, 1..100_000usize], 1..8),
    ) {
        let kernel = Elf::kernel().bytes();
        let mut bytes = STREAMS[stream].to_vec();
        if is_linux {
            bytes = if stream == 0 { bzimage(&bytes) } else { bzimage(&with_size(&bytes, kernel.len())) };
        }
        if let Some((place, value)) = damage {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        if let Some(keep) = keep {
            bytes.truncate(keep.index(bytes.len()));
        }
        let expected = unwrap(&bytes, limit).map(|unwrapped| unwrapped.elf.into_owned());
        match (stepwise(&bytes, limit, &budgets), expected) {
            (Ok(Some(elf)), expected) => prop_assert!(expected == Ok(elf)),
            (Ok(None), expected) => prop_assert!(expected == Ok(bytes)),
            (Err(error), expected) => prop_assert_eq!(Err(error), expected),
        }
    }
}
