//! What was signed is accepted, and nothing else.
#![allow(missing_docs, reason = "a test's name says what it checks")]
#![allow(clippy::unwrap_used, reason = "a test's own helpers may stop the test")]

mod support;

use proptest::prelude::*;
use protocols::{Digest, ManifestError};
use ramdisk::{Archive, Item, Kind, Writer};
use support::{check, check_archive, files, key, pack, plain, public, refusal, sign_bytes, signed};
use trust::{PublicKey, SignError, SigningKey, TrustError, sha256, sign};

#[test]
fn what_was_signed_is_accepted() {
    let manifest = check(&signed()).unwrap();
    assert_eq!((manifest.platform.as_str(), manifest.version), ("shop", 5));
    let names: Vec<_> = manifest.files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["vms/a.spec", "vms/b.spec", "images/kernel", "images/empty"]);
    assert_eq!(manifest.files[2].sha256, sha256(&[7; 100]));
    assert_eq!(signed(), signed(), "equal inputs give equal bytes");
}

#[test]
fn zeros_behind_the_archive_change_nothing() {
    let mut bytes = signed();
    bytes.resize(bytes.len() + 5000, 0);
    assert!(check(&bytes).is_ok());
}

/// Every byte, every bit of it: a header's field that nobody reads counts as much as a kernel.
#[test]
fn any_changed_byte_is_refused() {
    let original = signed();
    let mut bytes = original.clone();
    bytes.resize(bytes.len() + 8, 0);
    for position in 0..bytes.len() {
        for flip in [0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xff] {
            bytes[position] ^= flip;
            assert!(check(&bytes).is_err(), "byte {position:#x} ^ {flip:#x} changes nothing");
            bytes[position] ^= flip;
        }
    }
    assert!(check(&bytes).is_ok());
}

#[test]
fn a_cut_archive_is_refused() {
    let bytes = signed();
    for length in 0..bytes.len() {
        assert!(check(&bytes[..length]).is_err(), "{length} bytes");
    }
}

proptest! {
    #[test]
    fn what_is_written_over_anything_is_refused(
        at in 0_usize..2000,
        new in prop::collection::vec(any::<u8>(), 1..200),
    ) {
        let original = signed();
        let mut bytes = original.clone();
        let at = at % bytes.len();
        let end = (at + new.len()).min(bytes.len());
        bytes[at..end].copy_from_slice(&new[..end - at]);
        prop_assert_eq!(check(&bytes).is_ok(), bytes == original);
    }

    #[test]
    fn anything_that_is_signed_is_accepted(
        contents in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..12),
        version: u64,
    ) {
        let names: Vec<_> = (0..contents.len()).map(|index| format!("f/{index}")).collect();
        let files: Vec<_> = names.iter().map(String::as_str).zip(contents.iter().map(Vec::as_slice)).collect();
        let bytes = sign_bytes(&pack(&files), version, 1);
        let archive = Archive::parse(&bytes).unwrap();
        prop_assert_eq!(check_archive(&bytes, &archive, 1, version).unwrap().files.len(), files.len());
        prop_assert_eq!(sign_bytes(&bytes, version, 1), bytes);
    }
}

/// The signed archive packed again from its files as `change` leaves them.
fn repacked(change: impl FnOnce(&mut Vec<(&str, &[u8])>)) -> Vec<u8> {
    let bytes = signed();
    let archive = Archive::parse(&bytes).unwrap();
    let mut files = files(&archive);
    change(&mut files);
    pack(&files)
}

#[test]
fn entries_that_are_added_removed_renamed_moved_or_changed_are_named() {
    assert!(check(&repacked(|_| ())).is_ok());
    let added = refusal(&repacked(|files| files.push(("vms/evil.spec", b"x"))));
    assert_eq!(added, TrustError::Added { entry: "vms/evil.spec".into() });
    let inserted = refusal(&repacked(|files| files.insert(3, ("vms/evil.spec", b"x"))));
    assert_eq!(inserted, TrustError::Added { entry: "vms/evil.spec".into() });
    let removed = refusal(&repacked(|files| _ = files.remove(3)));
    assert_eq!(removed, TrustError::Removed { entry: "vms/b.spec".into() });
    let removed = refusal(&repacked(|files| _ = files.pop()));
    assert_eq!(removed, TrustError::Removed { entry: "images/empty".into() });
    let renamed = refusal(&repacked(|files| files[3].0 = "vms/c.spec"));
    assert_eq!(renamed, TrustError::Added { entry: "vms/c.spec".into() });
    let moved = refusal(&repacked(|files| files.swap(2, 3)));
    assert_eq!(moved, TrustError::Moved { found: "vms/b.spec".into(), listed: "vms/a.spec".into() });
    let changed = refusal(&repacked(|files| files[4].1 = b"other"));
    let expected = TrustError::Changed {
        entry: "images/kernel".into(),
        found_length: 5,
        found: sha256(b"other"),
        listed_length: 100,
        listed: sha256(&[7; 100]),
    };
    assert_eq!(changed, expected);
    let text = changed.to_string();
    for part in ["images/kernel", &sha256(b"other").to_string(), &sha256(&[7; 100]).to_string()] {
        assert!(text.contains(part), "{text}");
    }
    let swapped = refusal(&repacked(|files| {
        (files[2].1, files[3].1) = (files[3].1, files[2].1);
    }));
    assert!(matches!(swapped, TrustError::Changed { entry, .. } if entry == "vms/a.spec"));
}

#[test]
fn the_manifest_must_stand_first() {
    for change in [
        |files: &mut Vec<(&str, &[u8])>| files.swap(0, 1),
        |files: &mut Vec<(&str, &[u8])>| drop(files.drain(..2)),
        |files: &mut Vec<(&str, &[u8])>| _ = files.remove(1),
        |files: &mut Vec<(&str, &[u8])>| files.rotate_left(2),
        |files: &mut Vec<(&str, &[u8])>| files.truncate(1),
    ] {
        let refused = refusal(&repacked(change));
        assert!(matches!(refused, TrustError::Unsigned { .. }), "{refused}");
    }
    let text = refusal(&plain()).to_string();
    assert!(
        text.contains("not signed") && text.contains("vms/a.spec") && text.contains("domb sign"),
        "{text}"
    );
}

#[test]
fn two_signed_archives_do_not_make_one() {
    let twice = [signed(), signed()].concat();
    assert!(check(&twice).unwrap_err().contains("manifest"), "a name that is there twice");
    let more = [signed(), pack(&[("vms/more.spec", b"x")])].concat();
    assert_eq!(refusal(&more), TrustError::Added { entry: "vms/more.spec".into() });
    let folder = {
        let mut writer = Writer::new();
        writer.directory("vms").unwrap();
        writer.finish()
    };
    assert!(matches!(refusal(&[signed(), folder].concat()), TrustError::Rewritten { .. }));
}

#[test]
fn only_the_required_key_counts() {
    let bytes = sign_bytes(&plain(), 5, 2);
    let expected = TrustError::WrongKey { signed_by: public(2).id(), required: public(1).id() };
    assert_eq!(refusal(&bytes), expected);
    // The right key's name on another key's signature.
    let archive = Archive::parse(&bytes).unwrap();
    let mut files = files(&archive);
    let mut signature = files[1].1.to_vec();
    signature[16..48].copy_from_slice(&public(1).id().0);
    files[1].1 = &signature;
    assert_eq!(refusal(&pack(&files)), TrustError::BadSignature { key: public(1).id() });
    // The signature of another manifest.
    let other = sign_bytes(&plain(), 6, 1);
    let other = Archive::parse(&other).unwrap();
    let right = signed();
    let mut files = support::files(&Archive::parse(&right).unwrap());
    files[1].1 = other.entries()[1].data();
    assert_eq!(refusal(&pack(&files)), TrustError::BadSignature { key: public(1).id() });
}

#[test]
fn a_manifest_is_not_looked_at_before_its_signature() {
    let garbage = repacked(|files| files[0].1 = b"DBMANIF\0 whatever");
    assert_eq!(refusal(&garbage), TrustError::BadSignature { key: public(1).id() });
    let garbage = repacked(|files| files[1].1 = b"DBSIGN");
    assert!(matches!(refusal(&garbage), TrustError::Format(ManifestError::Length { .. })));
}

#[test]
fn a_version_that_is_too_old_is_refused() {
    let bytes = signed();
    let archive = Archive::parse(&bytes).unwrap();
    assert!(check_archive(&bytes, &archive, 1, 5).is_ok());
    assert_eq!(check_archive(&bytes, &archive, 1, 6), Err(TrustError::Old { version: 5, least: 6 }));
}

#[test]
fn what_no_signed_archive_may_hold_is_refused_when_signing() {
    let mut writer = Writer::new();
    writer.directory("images").unwrap();
    writer.file("images/k", b"k").unwrap();
    let with_folder = writer.finish();
    let archive = Archive::parse(&with_folder).unwrap();
    let bytes = sign(&archive, "", 0, &key(1)).unwrap();
    assert_eq!(check(&bytes).unwrap().files.len(), 1, "folders are left out");

    let mut writer = Writer::new();
    writer.add(&Item { name: "link", kind: Kind::Symlink, permissions: 0o777, data: b"images/k" }).unwrap();
    let bytes = writer.finish();
    let error = sign(&Archive::parse(&bytes).unwrap(), "", 0, &key(1)).unwrap_err();
    assert!(matches!(error, SignError::NotAFile { .. }), "{error}");
    let error = sign(&archive, "no blanks", 0, &key(1)).unwrap_err();
    assert!(error.to_string().starts_with("cannot sign: platform name \"no blanks\""), "{error}");
}

/// RFC 8032, 7.1, TEST 1: the key pair.
#[test]
fn keys_are_those_of_the_standard() {
    let seed: Digest = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60".parse().unwrap();
    let public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    assert_eq!(SigningKey::from_seed(seed.0).unwrap().public().unwrap().to_string(), public);
    assert_eq!(public.parse::<PublicKey>().unwrap().to_string(), public);
    assert!(!format!("{:?}", key(1)).contains("01"), "a private key is not shown");
}

#[test]
fn keys_for_which_anything_would_verify_are_none() {
    let identity = format!("01{}", "00".repeat(31));
    for text in [&identity, &"00".repeat(32), &"ff".repeat(32)] {
        let error = text.parse::<PublicKey>().unwrap_err();
        assert!(error.to_string().contains("domb keygen"), "{text}: {error}");
    }
    assert!("12".parse::<PublicKey>().unwrap_err().to_string().contains("2 characters"));
}
