//! The formats of manifest and signature, pinned: golden bytes, corrupt input, round trips.
#![allow(missing_docs, reason = "a test's name says what it checks")]

use proptest::prelude::*;
use protocols::manifest::{HEADER_LEN, MAX_BODY_LEN, SIGNATURE_LEN};
use protocols::{Digest, FileRecord, Manifest, ManifestError, ManifestSignature};

fn sample() -> Manifest {
    Manifest {
        platform: "shop".into(),
        version: 300,
        files: vec![
            FileRecord { name: "vms/a.spec".into(), length: 70, sha256: Digest([0xaa; 32]) },
            FileRecord { name: "k".into(), length: 1 << 20, sha256: Digest([0xbb; 32]) },
        ],
    }
}

fn golden() -> Vec<u8> {
    [
        &b"DBMANIF\0\x01\0\0\0\x59\0\0\0"[..],
        b"\x04shop\xac\x02\x02",
        b"\x0avms/a.spec\x46",
        &[0xaa; 32],
        b"\x01k\x80\x80\x40",
        &[0xbb; 32],
    ]
    .concat()
}

fn signature() -> ManifestSignature {
    let mut signature = [0x22; 64];
    signature[63] = 0x0f;
    ManifestSignature { key_id: Digest([0x11; 32]), signature }
}

#[test]
fn the_bytes_of_a_manifest_are_pinned() {
    assert_eq!(sample().encode().unwrap(), golden());
    assert_eq!(Manifest::decode(&golden()).unwrap(), sample());
}

#[test]
fn the_bytes_of_a_signature_are_pinned() {
    let expected = [&b"DBSIGN\0\0\x01\0\x01\0\0\0\0\0"[..], &[0x11; 32], &[0x22; 63], &[0x0f]].concat();
    assert_eq!(signature().encode(), expected);
    assert_eq!(expected.len(), SIGNATURE_LEN);
    assert_eq!(ManifestSignature::decode(&expected).unwrap(), signature());
}

#[test]
fn wrong_headers_are_named() {
    let manifest = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = golden();
        change(&mut bytes);
        Manifest::decode(&bytes).unwrap_err()
    };
    let what = "manifest";
    assert!(matches!(manifest(&|bytes| bytes[0] = b'X'), ManifestError::BadMagic { .. }));
    assert_eq!(manifest(&|bytes| bytes[8] = 2), ManifestError::UnknownVersion { what, found: 2 });
    assert_eq!(manifest(&|bytes| bytes[11] = 1), ManifestError::ReservedNotZero { what, found: 0x100 });
    assert_eq!(manifest(&|bytes| bytes[15] = 1), ManifestError::BodyTooLong { length: 0x100_0059 });
    let (have, need) = (HEADER_LEN + 0x59 + 1, HEADER_LEN + 0x59);
    assert_eq!(manifest(&|bytes| bytes.push(0)), ManifestError::Length { what, have, need });
    assert!(matches!(manifest(&|bytes| bytes.truncate(20)), ManifestError::Length { .. }));
    assert!(matches!(manifest(&|bytes| bytes.truncate(3)), ManifestError::Length { have: 3, .. }));
    assert!(matches!(Manifest::decode(&[]), Err(ManifestError::Length { have: 0, .. })));

    let mut bytes = signature().encode();
    bytes[10] = 2;
    assert_eq!(ManifestSignature::decode(&bytes), Err(ManifestError::UnknownAlgorithm { found: 2 }));
    bytes.push(0);
    let (what, have, need) = ("signature", SIGNATURE_LEN + 1, SIGNATURE_LEN);
    assert_eq!(ManifestSignature::decode(&bytes), Err(ManifestError::Length { what, have, need }));
}

#[test]
fn names_are_bounded() {
    let platform = |name: &str| Manifest { platform: name.into(), ..sample() }.encode();
    assert!(platform("").is_ok() && platform(&"x".repeat(63)).is_ok());
    for name in ["a b", "ä", "a\n", &"x".repeat(64)] {
        assert_eq!(platform(name), Err(ManifestError::BadPlatform { name: name.into() }));
    }
    let file = |name: &str| {
        let files = vec![FileRecord { name: name.into(), length: 0, sha256: Digest([0; 32]) }];
        Manifest { files, ..sample() }.encode()
    };
    assert!(file(&"x".repeat(255)).is_ok());
    assert!(matches!(file(""), Err(ManifestError::BadName { .. })));
    assert!(matches!(file(&"x".repeat(256)), Err(ManifestError::BadName { .. })));
    let many = FileRecord { name: "x".repeat(255), length: 0, sha256: Digest([0; 32]) };
    let files = vec![many; MAX_BODY_LEN / 290 + 1];
    assert!(matches!(Manifest { files, ..sample() }.encode(), Err(ManifestError::BodyTooLong { .. })));
}

/// 0xac 0x82 0x00 is 300 as well, one byte longer.
#[test]
fn only_the_shortest_form_is_accepted() {
    let mut bytes = golden();
    bytes.splice(HEADER_LEN + 5..HEADER_LEN + 7, [0xac, 0x82, 0x00]);
    bytes[12] += 1;
    assert_eq!(Manifest::decode(&bytes), Err(ManifestError::BadBody { length: 0x5a }));
}

#[test]
fn a_count_that_nothing_follows_allocates_nothing() {
    let mut bytes = b"DBMANIF\0\x01\0\0\0\x07\0\0\0\0\0".to_vec();
    bytes.extend([0xff, 0xff, 0xff, 0xff, 0x0f]);
    assert_eq!(Manifest::decode(&bytes), Err(ManifestError::BadBody { length: 7 }));
}

proptest! {
    #[test]
    fn any_bytes_give_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Manifest::decode(&bytes);
        let _ = ManifestSignature::decode(&bytes);
    }

    #[test]
    fn whatever_decodes_encodes_to_the_same_bytes(at in 0_usize..105, value: u8) {
        let mut bytes = golden();
        bytes[at] = value;
        if let Ok(manifest) = Manifest::decode(&bytes) {
            prop_assert_eq!(manifest.encode().unwrap(), bytes);
        }
        let mut bytes = signature().encode();
        bytes[at] = value;
        if let Ok(signature) = ManifestSignature::decode(&bytes) {
            prop_assert_eq!(signature.encode(), bytes);
        }
    }
}
