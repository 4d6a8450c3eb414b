//! Mistakes that Xen's own builder once made with kernels, by the advisory that tells of them: none may be made again here.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test's own helpers may stop the test")]
mod support;

use kernel_image::{ImageError, KernelImage, unwrap};
use support::*;

/// Why a kernel is refused.
fn refused(bytes: &[u8]) -> ImageError {
    KernelImage::parse(bytes).and_then(|image| image.layout().map(|_| ())).expect_err("this kernel lies")
}

/// XSA-25 (CVE-2012-4544): the size of a kernel was not looked at before it was unpacked in Dom0.
#[test]
fn xsa_25_a_declared_size_above_the_limit_is_refused_before_anything_is_unpacked() {
    let huge = bzimage(&with_size(include_bytes!("data/kernel.xz"), u32::MAX as usize));
    assert!(
        matches!(unwrap(&huge, 1 << 20), Err(ImageError::TooLarge { .. })),
        "{:?}",
        unwrap(&huge, 1 << 20)
    );
}

/// XSA-25 (CVE-2012-2625): nor while it was: a few bytes that unpack to gigabytes took all of Dom0's memory.
#[test]
fn xsa_25_unpacking_stops_at_the_limit() {
    let bombs: [&[u8]; 3] = [
        include_bytes!("data/zeros-8mib.bz2"),
        include_bytes!("data/zeros-8mib.xz"),
        include_bytes!("data/zeros-8mib.zst"),
    ];
    for bomb in bombs {
        assert!(unwrap(bomb, 1 << 20).is_err());
        assert!(unwrap(&bzimage(&with_size(bomb, 4096)), 1 << 20).is_err());
    }
}

/// XSA-55 (CVE-2013-2194): offsets and sizes of segments were added without a look at the carry.
#[test]
fn xsa_55_a_segment_whose_end_wraps_around_is_refused() {
    for (offset, size) in [(u64::MAX - 8, 16), (8, u64::MAX - 4), (u64::MAX, u64::MAX), (1 << 63, 1 << 63)] {
        let elf = Elf::kernel().with(|elf| {
            elf.programs[0].offset = Some(offset);
            elf.programs[0].file_size = Some(size);
            elf.programs[0].memory_size = u64::MAX;
        });
        refused(&elf.bytes());
    }
}

/// XSA-55 (CVE-2013-2194): the same of the addresses that segments are loaded at.
#[test]
fn xsa_55_a_segment_that_ends_beyond_all_addresses_is_refused() {
    for physical in [u64::MAX, u64::MAX - 0xfff, u64::MAX - 0x2_ffff, 1 << 63] {
        refused(&Elf::kernel().with(|elf| elf.programs[0].physical = physical).bytes());
        refused(&Elf::kernel().with(|elf| elf.programs[0].memory_size = physical).bytes());
    }
}

/// XSA-55 (CVE-2013-2194): the number of headers times their size was not held against the length of the file.
#[test]
fn xsa_55_tables_of_headers_beyond_the_end_are_refused() {
    for (count, size, place) in [(0xffff, 56, 64), (2, 0xffff, 64), (2, 56, u64::MAX - 8), (2, 0, 64)] {
        let elf = Elf::kernel().with(|elf| {
            elf.program_count = Some(count);
            elf.program_size = size;
            elf.program_offset = place;
        });
        refused(&elf.bytes());
    }
}

/// XSA-55 (CVE-2013-2195): what a segment has in the file was copied to where less was set aside for it.
#[test]
fn xsa_55_a_segment_with_more_bytes_than_memory_is_refused() {
    refused(&Elf::kernel().with(|elf| elf.programs[0].memory_size = 1).bytes());
}

/// XSA-55 (CVE-2013-2195): the lengths within a note were believed, and pointers followed to wherever they led.
#[test]
fn xsa_55_notes_whose_lengths_lead_away_are_refused() {
    for at in [0, 4] {
        for length in [u32::MAX, u32::MAX - 3, 0x8000_0000, 0x1_0000] {
            let mut note = number(VIRT_BASE, BASE);
            note[at..at + 4].copy_from_slice(&length.to_le_bytes());
            refused(&Elf::with_notes(&notes_and(note)).bytes());
        }
    }
}

/// XSA-55 (CVE-2013-2196): texts were read up to a NUL that need not be there.
#[test]
fn xsa_55_texts_without_an_end_are_not_read_beyond_the_note() {
    for kind in [XEN_VERSION, GUEST_OS, LOADER, FEATURES] {
        let bytes = Elf::with_notes(&notes_and(note(kind, &[b'x'; 64]))).bytes();
        // Read or refused, but never beyond: the text would go on to the end of the file.
        if let Ok(image) = KernelImage::parse(&bytes) {
            let text = format!("{:?}", image.notes());
            assert!(text.len() < 4096, "{text}");
        }
    }
}

/// XSA-55 (CVE-2013-2196): the section `__xen_guest`, which older kernels have for notes, the same; and one that is said to go on beyond
/// the file is none.
#[test]
fn xsa_55_the_guest_section_without_an_end_is_not_read_beyond_it() {
    let plain = Elf::plain().bytes();
    let nothing = format!("{:?}", KernelImage::parse(&plain).unwrap().notes());
    for data in
        [&b"GUEST_OS=linux,XEN_VER=xen-3.0,VIRT_BASE=0xffffffff80000000"[..], b"=", b",,,,=", b"LOADER="]
    {
        let with = |size| {
            let section = Section { size, ..Section::new("__xen_guest", SHT_PROGBITS, data) };
            Elf::plain().with(|elf| elf.sections.push(section)).bytes()
        };
        let _any_answer = KernelImage::parse(&with(None)).map(|image| image.layout());
        let beyond = with(Some(u64::MAX));
        if let Ok(image) = KernelImage::parse(&beyond) {
            assert_eq!(format!("{:?}", image.notes()), nothing);
        }
    }
}

/// XSA-55 (CVE-2013-2194): places and sizes of sections.
#[test]
fn xsa_55_sections_beyond_the_end_are_refused_or_left_alone() {
    for place in [u64::MAX, u64::MAX - 63, 1 << 63, 1 << 32] {
        let section = Section::new("__xen_guest", SHT_PROGBITS, b"a=b");
        let elf = Elf::plain().with(|elf| {
            elf.sections.push(section);
            elf.section_offset = Some(place);
        });
        assert!(KernelImage::parse(&elf.bytes()).is_err(), "{place:#x}");
    }
}

/// XSA-95 (CVE-2014-3714 to 3717): lengths in the header of a compressed kernel (there: of Arm's) led beyond the file, and sums of them wrapped
/// around.
#[test]
fn xsa_95_lengths_in_the_header_of_a_compressed_kernel_are_held_against_the_file() {
    let image = bzimage(include_bytes!("data/kernel.gz"));
    // setup_sects, payload_offset and payload_length of Linux's boot protocol.
    for (at, width) in [(0x1f1, 1), (0x248, 4), (0x24c, 4)] {
        for value in [u32::MAX, u32::MAX - 0x3ff, 0x8000_0000, 0x00ff_ffff] {
            let mut image = image.clone();
            image[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
            assert!(unwrap(&image, 1 << 20).is_err(), "{value:#x} at {at:#x}");
        }
    }
}
