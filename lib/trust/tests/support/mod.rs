//! A signed RAM disk to work on.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of it")]

use protocols::Manifest;
use ramdisk::{Archive, Writer};
use trust::{PublicKey, SigningKey, TrustError, measure, sign, verify};

pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed([seed; 32]).unwrap()
}

pub(crate) fn public(seed: u8) -> PublicKey {
    key(seed).public().unwrap()
}

pub(crate) fn pack(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = Writer::new();
    for (name, data) in files {
        writer.file(name, data).unwrap();
    }
    writer.finish()
}

/// Two VMs' specs and images, not signed.
pub(crate) fn plain() -> Vec<u8> {
    pack(&[
        ("vms/a.spec", b"spec of a"),
        ("vms/b.spec", b"spec of b"),
        ("images/kernel", &[7; 100]),
        ("images/empty", b""),
    ])
}

pub(crate) fn sign_bytes(bytes: &[u8], version: u64, seed: u8) -> Vec<u8> {
    sign(&Archive::parse(bytes).unwrap(), "shop", version, &key(seed)).unwrap()
}

/// Signed with key 1 as version 5 of `shop`.
pub(crate) fn signed() -> Vec<u8> {
    sign_bytes(&plain(), 5, 1)
}

/// Verifies with key 1; an archive that cannot be read is as good as refused.
pub(crate) fn check(bytes: &[u8]) -> Result<Manifest, String> {
    let archive = Archive::parse(bytes).map_err(|error| error.to_string())?;
    check_archive(bytes, &archive, 1, 0).map_err(|error| error.to_string())
}

pub(crate) fn check_archive(
    bytes: &[u8],
    archive: &Archive<'_>,
    seed: u8,
    least: u64,
) -> Result<Manifest, TrustError> {
    verify(bytes, archive, &measure(archive), &public(seed), least)
}

/// Why an archive that can be read is refused with key 1.
pub(crate) fn refusal(bytes: &[u8]) -> TrustError {
    let archive = Archive::parse(bytes).unwrap();
    check_archive(bytes, &archive, 1, 0).unwrap_err()
}

/// The files of an archive, to be packed otherwise.
pub(crate) fn files<'a>(archive: &Archive<'a>) -> Vec<(&'a str, &'a [u8])> {
    archive.entries().iter().map(|entry| (entry.name(), entry.data())).collect()
}
