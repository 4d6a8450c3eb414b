//! Unpacking: every compression, every wrapping, every way in which a stream can lie about its size.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test's own helpers may stop the test")]
mod support;

use kernel_image::{Compression, Format, ImageError, unwrap};
use std::borrow::Cow;
use support::{Elf, bzimage, with_size};

const LIMIT: usize = 1 << 20;

const GZIP: &[u8] = include_bytes!("data/kernel.gz");
const BZIP2: &[u8] = include_bytes!("data/kernel.bz2");
const BZIP2_STREAMS: &[u8] = include_bytes!("data/kernel-streams.bz2");
const XZ: &[u8] = include_bytes!("data/kernel.xz");
const XZ_CRC64: &[u8] = include_bytes!("data/kernel-crc64.xz");
const XZ_SHA256: &[u8] = include_bytes!("data/kernel-sha256.xz");
const LZMA: &[u8] = include_bytes!("data/kernel.lzma");
const LZ4: &[u8] = include_bytes!("data/kernel.lz4");
const LZO: &[u8] = include_bytes!("data/kernel.lzo");
const ZSTD: &[u8] = include_bytes!("data/kernel.zst");
const ZEROS_BZIP2: &[u8] = include_bytes!("data/zeros-8mib.bz2");
const ZEROS_XZ: &[u8] = include_bytes!("data/zeros-8mib.xz");
const ZEROS_ZSTD: &[u8] = include_bytes!("data/zeros-8mib.zst");

/// Every stream with the kernel in it.
const STREAMS: [(Compression, &[u8]); 10] = [
    (Compression::Gzip, GZIP),
    (Compression::Bzip2, BZIP2),
    (Compression::Bzip2, BZIP2_STREAMS),
    (Compression::Xz, XZ),
    (Compression::Xz, XZ_CRC64),
    (Compression::Xz, XZ_SHA256),
    (Compression::Lzma, LZMA),
    (Compression::Lz4, LZ4),
    (Compression::Lzo, LZO),
    (Compression::Zstd, ZSTD),
];

/// Streams with 8 MiB of zeros.
const BOMBS: [(Compression, &[u8]); 3] =
    [(Compression::Bzip2, ZEROS_BZIP2), (Compression::Xz, ZEROS_XZ), (Compression::Zstd, ZEROS_ZSTD)];

/// The bzImage that Linux's build would make of a stream.
fn linux_image(compression: Compression, stream: &[u8], size: usize) -> Vec<u8> {
    if compression == Compression::Gzip { bzimage(stream) } else { bzimage(&with_size(stream, size)) }
}

fn refusal(bytes: &[u8], limit: usize) -> ImageError {
    unwrap(bytes, limit).expect_err("this file has a mistake")
}

#[test]
fn an_elf_file_is_borrowed() {
    let kernel = Elf::kernel().bytes();
    let unwrapped = unwrap(&kernel, 0).unwrap();
    assert!(matches!(unwrapped.elf, Cow::Borrowed(elf) if std::ptr::eq(elf, &raw const *kernel)));
    assert_eq!(unwrapped.format, Format::Elf);
}

#[test]
fn every_compression_of_a_file() {
    let kernel = Elf::kernel().bytes();
    for (compression, stream) in STREAMS {
        let unwrapped = unwrap(stream, LIMIT).unwrap_or_else(|error| panic!("{compression}: {error}"));
        assert!(*unwrapped.elf == kernel, "{compression} unpacked to something else");
        assert_eq!(unwrapped.format, Format::Compressed(compression));
        assert_eq!(unwrapped.packed_size, stream.len());
    }
}

#[test]
fn every_compression_of_a_linux_image() {
    let kernel = Elf::kernel().bytes();
    for (compression, stream) in STREAMS {
        let image = linux_image(compression, stream, kernel.len());
        let unwrapped = unwrap(&image, LIMIT).unwrap_or_else(|error| panic!("{compression}: {error}"));
        assert!(*unwrapped.elf == kernel, "{compression} unpacked to something else");
        assert_eq!(
            unwrapped.format,
            Format::BzImage { protocol: 0x20f, compression, payload: 0x410..image.len() }
        );
    }
}

#[test]
fn the_format_is_told_in_words() {
    let image = bzimage(&with_size(ZSTD, 1));
    assert_eq!(
        Format::detect(&image).unwrap().to_string(),
        "Linux bzImage (boot protocol 2.15), payload compressed with zstd"
    );
    assert_eq!(Format::detect(XZ).unwrap().to_string(), "ELF compressed with xz");
}

#[test]
fn a_limit_of_exactly_the_size_is_enough() {
    let kernel = Elf::kernel().bytes();
    for (compression, stream) in STREAMS {
        let image = linux_image(compression, stream, kernel.len());
        assert!(unwrap(&image, kernel.len()).is_ok(), "{compression} image");
        assert!(unwrap(stream, kernel.len()).is_ok(), "{compression} file");
    }
}

#[test]
fn a_limit_below_the_size_is_named() {
    let kernel = Elf::kernel().bytes();
    let limit = kernel.len() - 1;
    for (compression, stream) in STREAMS {
        let image = linux_image(compression, stream, kernel.len());
        let expected = ImageError::TooLarge { compression, size: kernel.len(), limit };
        assert_eq!(refusal(&image, limit), expected, "image");
        assert_eq!(refusal(stream, limit), expected, "file");
    }
    assert_eq!(
        refusal(GZIP, limit).to_string(),
        "it unpacks (gzip) to 98576 bytes or more, above the limit of 98575 bytes; \
         the file was cut off or is no kernel, or db-boot lacks the memory: store it unpacked then, or raise `dom0_mem`"
    );
}

#[test]
fn a_declared_size_above_the_limit_is_refused_before_anything_is_unpacked() {
    for compression in [
        Compression::Bzip2,
        Compression::Xz,
        Compression::Lzma,
        Compression::Lz4,
        Compression::Lzo,
        Compression::Zstd,
    ] {
        let (_, stream) = STREAMS.into_iter().find(|(of, _)| *of == compression).unwrap();
        // Damage that would be noticed if the stream were looked at.
        let damaged = &stream[..stream.len() / 2];
        let image = linux_image(compression, damaged, 0xffff_fff0);
        let expected = ImageError::TooLarge { compression, size: 0xffff_fff0, limit: LIMIT };
        assert_eq!(refusal(&image, LIMIT), expected);
    }
}

#[test]
fn a_bomb_stops_at_the_limit() {
    for (compression, stream) in BOMBS {
        let error = refusal(stream, LIMIT);
        assert!(
            matches!(error, ImageError::TooLarge { limit: LIMIT, size, .. } if size > LIMIT),
            "{compression}: {error}"
        );
    }
}

#[test]
fn a_bomb_that_declares_little_stops_there() {
    for (compression, stream) in BOMBS {
        let image = linux_image(compression, stream, 1000);
        assert_eq!(refusal(&image, LIMIT), ImageError::MoreThanDeclared { compression, declared: 1000 });
    }
    let mut gzip = GZIP.to_vec();
    let size_at = gzip.len() - 4;
    gzip[size_at..].copy_from_slice(&1000u32.to_le_bytes());
    assert_eq!(
        refusal(&gzip, LIMIT),
        ImageError::MoreThanDeclared { compression: Compression::Gzip, declared: 1000 }
    );
}

#[test]
fn a_declared_size_that_is_wrong_is_an_error() {
    let size = Elf::kernel().bytes().len();
    for (compression, stream) in STREAMS.into_iter().skip(1) {
        let image = linux_image(compression, stream, size + 1);
        let expected = ImageError::LessThanDeclared { compression, declared: size + 1, unpacked: size };
        assert_eq!(refusal(&image, LIMIT), expected);
        let image = linux_image(compression, stream, size - 1);
        assert_eq!(refusal(&image, LIMIT), ImageError::MoreThanDeclared { compression, declared: size - 1 });
    }
}

#[test]
fn what_is_inside_must_be_elf() {
    assert_eq!(
        refusal(ZEROS_XZ, 8 << 20).to_string(),
        "the kernel (ELF compressed with xz) holds no ELF file: what is inside starts with \"\\x00\\x00\\x00\\x00\"; \
         give a kernel, not an archive or a disk image"
    );
}

#[test]
fn a_bzip2_file_of_several_blocks() {
    let zeros = [ZEROS_BZIP2, BZIP2].concat();
    // What is inside begins with zeros, which shows only when the last block's checksum was found right.
    assert!(matches!(refusal(&zeros, 16 << 20), ImageError::NotElfInside { .. }));
    let middle = flipped(&zeros, ZEROS_BZIP2.len() - 8);
    assert!(matches!(
        refusal(&middle, 16 << 20),
        ImageError::BadChecksum { .. } | ImageError::Corrupt { .. }
    ));
}

#[test]
fn bytes_behind_the_stream_are_noticed() {
    for (compression, stream) in [
        (Compression::Bzip2, BZIP2),
        (Compression::Xz, XZ),
        (Compression::Lzo, LZO),
        (Compression::Zstd, ZSTD),
    ] {
        let longer = [stream, b"more"].concat();
        assert_eq!(refusal(&longer, LIMIT), ImageError::TrailingBytes { compression, count: 4 });
    }
}

#[test]
fn a_checksum_is_compared() {
    let gzip = flipped(GZIP, GZIP.len() - 8);
    assert!(matches!(refusal(&gzip, LIMIT), ImageError::BadChecksum { compression: Compression::Gzip, .. }));
    let zstd = flipped(ZSTD, ZSTD.len() - 1);
    assert!(matches!(refusal(&zstd, LIMIT), ImageError::BadChecksum { compression: Compression::Zstd, .. }));
    assert_eq!(refusal(&gzip, LIMIT).to_string().split(':').next(), Some("its gzip data is damaged"));
}

#[test]
fn a_gzip_header_may_have_every_optional_part() {
    // Flags, then extra field (two bytes), name, comment, header checksum.
    let header = [0x1f, 0x8b, 8, 0b1_1110, 0, 0, 0, 0, 0, 3];
    let stream = [&header[..], &[2, 0, 1, 1], b"vmlinux\0", b"a kernel\0", &[0, 0], &GZIP[10..]].concat();
    assert!(*unwrap(&stream, LIMIT).unwrap().elf == Elf::kernel().bytes());
}

#[test]
fn a_gzip_header_with_reserved_flags_or_another_method_is_refused() {
    let mut reserved = GZIP.to_vec();
    reserved[3] = 0x80;
    let mut method = GZIP.to_vec();
    method[2] = 7;
    for (stream, detail) in [
        (reserved, "reserved flags are set in its header"),
        (method, "its header names a method other than deflate"),
    ] {
        let expected = ImageError::Corrupt { compression: Compression::Gzip, detail: detail.into() };
        assert_eq!(refusal(&stream, LIMIT), expected);
    }
}

#[test]
fn every_truncation_is_an_error() {
    let size = Elf::kernel().bytes().len();
    for (compression, stream) in STREAMS {
        // Blocks and headers are at the ends; the middle is sampled.
        let ends = (0..stream.len()).filter(|end| *end < 200 || *end > stream.len() - 200 || end % 977 == 0);
        for end in ends {
            let image = linux_image(compression, &stream[..end], size);
            assert!(unwrap(&image, LIMIT).is_err(), "{compression} image cut off at {end} passed");
        }
    }
}

#[test]
fn no_damage_passes_where_there_is_a_checksum() {
    let kernel = Elf::kernel().bytes();
    for (compression, stream) in STREAMS {
        let checked = !matches!(compression, Compression::Lz4 | Compression::Lzma);
        for position in (0..stream.len()).filter(|position| *position < 64 || position % 97 == 0) {
            let result = unwrap(&flipped(stream, position), LIMIT).map(|unwrapped| *unwrapped.elf == kernel);
            assert!(!checked || result != Ok(false), "{compression}: damage at {position} passed");
        }
    }
}

/// `stream` with one byte changed.
fn flipped(stream: &[u8], position: usize) -> Vec<u8> {
    let mut damaged = stream.to_vec();
    damaged[position] ^= 0x41;
    damaged
}
