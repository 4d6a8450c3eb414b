//! Input that somebody made up to do harm. The only promise is an answer: no panic, and no allocation without a bound.
mod support;

use kernel_image::{KernelImage, unwrap};
use proptest::prelude::*;
use support::*;

/// Reads a kernel and uses whatever comes out.
fn try_all(bytes: &[u8]) {
    let Ok(unwrapped) = unwrap(bytes, 1 << 20) else { return };
    match KernelImage::parse(&unwrapped.elf) {
        Ok(image) => {
            for segment in image.segments() {
                assert!(segment.file.len() as u64 <= segment.memory_size);
                assert!(segment.physical_range().end > segment.physical);
            }
            check_symbols(&image);
            if let Ok(layout) = image.layout() {
                assert!(layout.kernel.contains(&layout.entry));
                assert!(layout.kernel.start >= layout.virt_base);
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Symbols lie behind the kernel and are what the file has; their pieces do not overlap.
fn check_symbols(image: &KernelImage<'_>) {
    let Some(symbols) = image.symbols() else { return };
    let mut end = image.physical_range().end;
    for (address, bytes) in symbols.pieces() {
        assert!(address >= end);
        end = address.saturating_add(bytes.len() as u64);
    }
    assert_eq!(symbols.physical_range().end, end);
}

/// A small kernel with everything that is read: notes, sections, several segments.
fn kernel() -> Elf {
    let names = Section::new(".strtab", SHT_STRTAB, b"\0start\0");
    let sections = [
        Section::new("__xen_guest", SHT_PROGBITS, b"VIRT_BASE=0,"),
        names,
        Section { link: 2, ..Section::new(".symtab", SHT_SYMTAB, &[7; 48]) },
    ];
    let features = notes_and(text(FEATURES, "!dom0|writable_page_tables"));
    Elf::with_notes(&[features, vec![text(BSD_SYMTAB, "yes")]].concat()).with(|elf| {
        elf.programs[0].data.truncate(64);
        elf.programs.push(Program::load(START + 0x10_0000, b"data", 0x2000));
        elf.sections.extend(sections);
    })
}

#[test]
fn every_single_byte_flip_is_survived() {
    let mut with_notes = kernel().bytes();
    let mut without = kernel()
        .with(|elf| {
            elf.programs.remove(1);
        })
        .bytes();
    let mut with_32_bits = kernel().bytes_of_32_bits();
    for bytes in [&mut with_notes, &mut without, &mut with_32_bits] {
        for position in 0..bytes.len() {
            for flip in [0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xff] {
                bytes[position] ^= flip;
                try_all(bytes);
                bytes[position] ^= flip;
            }
        }
    }
}

#[test]
fn every_truncation_is_survived() {
    let bytes = kernel().bytes();
    for end in 0..bytes.len() {
        try_all(&bytes[..end]);
    }
}

/// Numbers at which arithmetic goes wrong.
const EDGES: [u64; 9] = [0, 1, 0xfff, 1 << 31, 1 << 32, 1 << 47, 1 << 63, u64::MAX - 1, u64::MAX];

/// How streams of each compression start.
const STREAM_STARTS: [&[u8]; 8] = [
    b"BZh1",
    b"BZh91AY&SY",
    &[0x1f, 0x8b, 8, 0],
    &[0xfd, b'7', b'z', b'X', b'Z', 0, 0, 1],
    &[0x5d, 0, 0, 0x80, 0],
    &[0x02, 0x21, 0x4c, 0x18],
    b"\x89LZO\0\r\n\x1a\n\x10\x40\x20\xa0\x09\x40\x03\x09\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
    &[0x28, 0xb5, 0x2f, 0xfd],
];

/// Bytes that mean something in an xz block header: flags, filters, their sizes, continued numbers.
const XZ_BYTES: [u8; 16] = [0, 1, 2, 3, 4, 5, 0x14, 0x21, 0x28, 0x40, 0x41, 0x7f, 0x80, 0xc0, 0xc1, 0xff];

/// The checksum of an xz block header, without which nothing behind it is looked at.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(
            crc ^ u32::from(*byte),
            |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 },
        )
    })
}

proptest! {
    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        try_all(&bytes);
    }

    #[test]
    fn any_words_in_the_headers(words in prop::collection::vec((0usize..40, prop::sample::select(&EDGES[..])), 1..6)) {
        let mut bytes = kernel().bytes();
        for (word, value) in words {
            bytes[24 + word * 8..32 + word * 8].copy_from_slice(&value.to_le_bytes());
        }
        try_all(&bytes);
    }

    #[test]
    fn any_notes(notes in prop::collection::vec((0u32..24, prop::collection::vec(any::<u8>(), 0..24)), 0..8), tail in prop::collection::vec(any::<u8>(), 0..16)) {
        let mut notes: Vec<Vec<u8>> = notes.into_iter().map(|(kind, content)| note(kind, &content)).collect();
        notes.push(tail);
        try_all(&Elf::with_notes(&notes).bytes());
    }

    #[test]
    fn any_guest_section(text in "([A-Z_]{0,14}=?[0-9a-fx,=!|]{0,20},?){0,6}") {
        let section = Section::new("__xen_guest", SHT_PROGBITS, text.as_bytes());
        try_all(&Elf::plain().with(|elf| elf.sections.push(section)).bytes());
    }

    #[test]
    fn any_setup_header(fields in prop::collection::vec((0x1f1usize..0x250, any::<u8>()), 0..8), payload in prop::collection::vec(any::<u8>(), 0..64)) {
        let mut bytes = bzimage(&[&[0x02, 0x21, 0x4c, 0x18][..], &payload].concat());
        for (offset, value) in fields {
            bytes[offset] = value;
        }
        try_all(&bytes);
    }

    #[test]
    fn any_stream_behind_any_magic(magic in prop::sample::select(&STREAM_STARTS[..]), rest in prop::collection::vec(any::<u8>(), 0..200)) {
        let stream = [magic, &rest].concat();
        try_all(&stream);
        try_all(&bzimage(&with_size(&stream, 1000)));
    }

    #[test]
    fn any_xz_block_header(size in 1u8..40, header in prop::collection::vec(prop::sample::select(&XZ_BYTES[..]), 160)) {
        let real = include_bytes!("data/kernel.xz");
        let mut block = vec![size];
        block.extend(&header[..usize::from(size) * 4 + 3 - 4]);
        block.extend(crc32(&block).to_le_bytes());
        try_all(&[&real[..12], &block, &real[24..]].concat());
    }

    #[test]
    fn any_damage_to_a_stream(which in 0usize..8, damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let streams = [
            &include_bytes!("data/kernel.gz")[..],
            include_bytes!("data/kernel.bz2"),
            include_bytes!("data/kernel-streams.bz2"),
            include_bytes!("data/kernel.xz"),
            include_bytes!("data/kernel.lzma"),
            include_bytes!("data/kernel.lz4"),
            include_bytes!("data/kernel.lzo"),
            include_bytes!("data/kernel.zst"),
        ];
        let mut stream = streams[which].to_vec();
        for (position, value) in damage {
            let position = position.index(stream.len());
            stream[position] = value;
        }
        try_all(&stream);
    }
}
