//! Input that somebody made up to do harm. The only promise is an answer: no panic, and nothing but borrowed bytes.
#![allow(clippy::unwrap_used, reason = "a test's own helpers may stop the test")]
mod support;

use proptest::prelude::*;
use ramdisk::Archive;
use support::{MAGICS, small};

/// Parses and uses whatever comes out.
fn try_all(bytes: &[u8]) {
    if let Ok(archive) = Archive::parse(bytes) {
        for entry in archive.entries() {
            assert!(entry.data_offset() + entry.data().len() <= bytes.len());
            let _ = archive.file(entry.name());
        }
        let _ = archive.file("no such file").map_err(|error| error.to_string());
    }
}

#[test]
fn every_single_byte_flip_is_survived() {
    for magic in MAGICS {
        let mut bytes = small(magic);
        for position in 0..bytes.len() {
            for flip in [0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xff] {
                bytes[position] ^= flip;
                try_all(&bytes);
                bytes[position] ^= flip;
            }
        }
    }
}

#[test]
fn no_flip_in_the_data_of_a_crc_archive_passes() {
    let mut bytes = small("070702");
    let range = {
        let archive = Archive::parse(&bytes).unwrap();
        let entry = archive.entry("images/kernel").unwrap();
        entry.data_offset()..entry.data_offset() + entry.data().len()
    };
    for position in range {
        bytes[position] ^= 0x10;
        assert!(Archive::parse(&bytes).is_err());
        bytes[position] ^= 0x10;
    }
}

proptest! {
    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        try_all(&bytes);
    }

    #[test]
    fn any_damage(magic in prop::sample::select(&MAGICS[..]), damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..10)) {
        let mut bytes = small(magic);
        for (position, value) in damage {
            let position = position.index(bytes.len());
            bytes[position] = value;
        }
        try_all(&bytes);
    }

    #[test]
    fn any_digits(digits in "[0-9a-f]{104}", rest in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut bytes = format!("070701{digits}").into_bytes();
        bytes.extend(rest);
        try_all(&bytes);
    }
}
