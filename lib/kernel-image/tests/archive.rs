//! Archives that are compressed as a whole: what may follow them, and what may not.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own helpers may stop the test")]
mod support;

use kernel_image::{Compression, ImageError, MAX_PADDING, PackedArchive};
use support::Elf;

const LIMIT: usize = 1 << 20;

/// Every stream, each with the same bytes in it.
const STREAMS: [(Compression, &[u8]); 10] = [
    (Compression::Gzip, include_bytes!("data/kernel.gz")),
    (Compression::Bzip2, include_bytes!("data/kernel.bz2")),
    (Compression::Bzip2, include_bytes!("data/kernel-streams.bz2")),
    (Compression::Xz, include_bytes!("data/kernel.xz")),
    (Compression::Xz, include_bytes!("data/kernel-crc64.xz")),
    (Compression::Xz, include_bytes!("data/kernel-sha256.xz")),
    (Compression::Lzma, include_bytes!("data/kernel.lzma")),
    (Compression::Lz4, include_bytes!("data/kernel.lz4")),
    (Compression::Lzo, include_bytes!("data/kernel.lzo")),
    (Compression::Zstd, include_bytes!("data/kernel.zst")),
];

fn unpack(bytes: &[u8], limit: usize) -> Result<Vec<u8>, ImageError> {
    PackedArchive::detect(bytes).unwrap().unwrap().unpack(limit)
}

fn padded(stream: &[u8], zeros: usize) -> Vec<u8> {
    [stream, &vec![0; zeros]].concat()
}

#[test]
fn zeros_may_follow() {
    let contents = Elf::kernel().bytes();
    for (compression, stream) in STREAMS {
        for zeros in [0, 1, 2, 3, 4, 5, 8, 640 << 10, MAX_PADDING] {
            let unpacked = unpack(&padded(stream, zeros), contents.len());
            let unpacked = unpacked.unwrap_or_else(|error| panic!("{compression}, {zeros} zeros: {error}"));
            assert!(unpacked == contents, "{compression}, {zeros} zeros: unpacked to something else");
        }
    }
}

fn refused(compression: Compression, bytes: &[u8]) {
    match unpack(bytes, LIMIT).map(|unpacked| unpacked.len()) {
        Err(ImageError::TooLarge { .. }) | Ok(_) => {
            panic!("{compression}: taken for more than it is, {} bytes", bytes.len())
        }
        Err(_) => {}
    }
}

#[test]
fn nothing_else_may_follow() {
    // The decoder for lzma does not tell where the stream ends.
    for (compression, stream) in STREAMS.into_iter().filter(|(of, _)| *of != Compression::Lzma) {
        for rest in [&b"x"[..], b"\0\0\0\0x", b"\0\0\0\0\0\0\0\x01\0\0"] {
            refused(compression, &[stream, rest].concat());
        }
        refused(compression, &padded(stream, MAX_PADDING + 1));
    }
}

#[test]
fn what_was_cut_off_is_not_complete_with_zeros() {
    for (compression, stream) in STREAMS {
        for missing in [1, 4, 9, 40, stream.len() / 2] {
            // lz4's legacy frame has neither an end nor a checksum; cut off between blocks it is a shorter one.
            let cut = &stream[..stream.len() - missing];
            // The last bytes may be zeros themselves, which padding then stands for.
            if stream[stream.len() - missing..].iter().any(|byte| *byte != 0) {
                assert!(unpack(cut, LIMIT).is_err(), "{compression} without the last {missing}");
                let zeros = unpack(&padded(cut, 64), LIMIT);
                let same = zeros.is_ok_and(|unpacked| unpacked == Elf::kernel().bytes());
                assert!(!same, "{compression}, the last {missing} bytes zeros");
            }
        }
    }
}

#[test]
fn the_limit_holds_and_the_size_is_named() {
    let size = Elf::kernel().bytes().len();
    for (compression, stream) in STREAMS {
        let limit = size - 1;
        let error = unpack(&padded(stream, 100), limit).unwrap_err();
        assert_eq!(error, ImageError::TooLarge { compression, size, limit });
    }
}

#[test]
fn a_bomb_stops_at_the_limit() {
    let bombs: [&[u8]; 3] = [
        include_bytes!("data/zeros-8mib.bz2"),
        include_bytes!("data/zeros-8mib.xz"),
        include_bytes!("data/zeros-8mib.zst"),
    ];
    for stream in bombs {
        let error = unpack(&padded(stream, 10), LIMIT).unwrap_err();
        assert!(matches!(error, ImageError::TooLarge { limit: LIMIT, .. }), "{error}");
    }
    // A size in the trailer that lies: it is compared before anything is allocated.
    let mut stored = b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x01\xff\xff\0\0".to_vec();
    stored.resize(stored.len() + 0xffff, b'x');
    stored.extend([0xff; 4]);
    stored.extend((1_u32 << 31).to_le_bytes());
    let error = unpack(&stored, LIMIT).unwrap_err();
    assert!(matches!(error, ImageError::TooLarge { size, .. } if size == 1 << 31), "{error}");
}

#[test]
fn the_format_that_lz4_writes_by_default_says_what_would_do() {
    let error = PackedArchive::detect(b"\x04\x22\x4d\x18\x64\x40\xa7").unwrap_err();
    assert!(error.to_string().ends_with("compress it with `lz4 -l`"), "{error}");
    assert!(PackedArchive::detect(b"070701").unwrap().is_none());
}
