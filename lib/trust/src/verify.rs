//! Holding a RAM disk against its signed manifest.

use alloc::string::String;
use alloc::vec::Vec;
use core::ptr;

use protocols::manifest::{MANIFEST_ENTRY, SIGNATURE_CONTEXT, SIGNATURE_ENTRY};
use protocols::{Digest, FileRecord, Manifest, ManifestError, ManifestSignature};
use ramdisk::{Archive, Writer, WriterError};
use thiserror::Error;

use crate::key::PublicKey;

/// Why a RAM disk is not trusted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TrustError {
    /// It does not begin with a manifest and a signature.
    #[error(
        "the RAM disk is not signed: its first two entries are {first:?}, not {MANIFEST_ENTRY:?} and \
         {SIGNATURE_ENTRY:?}; sign it with `domb sign`"
    )]
    Unsigned {
        /// The names of its first two files.
        first: Vec<String>,
    },
    /// Manifest or signature are not in their formats.
    #[error("{0}")]
    Format(#[from] ManifestError),
    /// It was signed by somebody else.
    #[error(
        "the RAM disk is signed with key {signed_by}, and key {required} is required (each the SHA-256 of the public key)"
    )]
    WrongKey {
        /// The id of the key that it says it is signed with.
        signed_by: Digest,
        /// The id of the key that must have signed it.
        required: Digest,
    },
    /// The signature is not the key's.
    #[error(
        "the signature is not valid for key {key}: manifest or signature are not what was signed; sign the platform again, \
         or find out who changed it"
    )]
    BadSignature {
        /// The id of the key.
        key: Digest,
    },
    /// A version that is no longer accepted.
    #[error("version {version} of the platform is too old: at least {least} is required")]
    Old {
        /// The version in the manifest.
        version: u64,
        /// The least that is accepted.
        least: u64,
    },
    /// A file that the manifest does not have.
    #[error("entry {entry:?} is not in the manifest: it was added after signing")]
    Added {
        /// Its name.
        entry: String,
    },
    /// A file of the manifest that is not there.
    #[error("entry {entry:?} of the manifest is not in the RAM disk: it was removed after signing")]
    Removed {
        /// Its name.
        entry: String,
    },
    /// The files are not in the order of the manifest, which is that of the VMs.
    #[error("entry {found:?} stands where the manifest has {listed:?}: the order was changed after signing")]
    Moved {
        /// The file that stands there.
        found: String,
        /// The file that should.
        listed: String,
    },
    /// A file is not the one that was signed.
    #[error(
        "entry {entry:?} was changed after signing: it has {found_length} bytes with SHA-256 {found}, the manifest says \
         {listed_length} bytes with SHA-256 {listed}"
    )]
    Changed {
        /// Its name.
        entry: String,
        /// Bytes that are there.
        found_length: u64,
        /// Their digest.
        found: Digest,
        /// Bytes that should be there.
        listed_length: u64,
        /// Their digest.
        listed: Digest,
    },
    /// All files are right, but not everything between them.
    #[error(
        "the archive was changed after signing: at offset {offset:#x} it is not what `domb sign` writes, although every file is \
         the one that was signed"
    )]
    Rewritten {
        /// The first byte that differs, or a little before it.
        offset: usize,
    },
    /// The archive cannot be written again to be compared.
    #[error("the archive is not one that `domb sign` could have written: {0}")]
    Unwritable(#[from] WriterError),
}

/// Verifies that the RAM disk is, to the last byte, one that `key` has signed; the manifest says what was signed.
///
/// `archive` was parsed from `bytes`, and `found` is its [`measure`](crate::measure).
pub fn verify(
    bytes: &[u8],
    archive: &Archive<'_>,
    found: &[FileRecord],
    key: &PublicKey,
    least_version: u64,
) -> Result<Manifest, TrustError> {
    let manifest = signed_manifest(archive, key)?;
    if manifest.version < least_version {
        return Err(TrustError::Old { version: manifest.version, least: least_version });
    }
    compare(found.get(2..).unwrap_or_default(), &manifest.files)?;
    check_rest(bytes, archive)?;
    Ok(manifest)
}

/// The manifest, once its signature is known to be `key`'s: nothing of it is looked at before.
fn signed_manifest(archive: &Archive<'_>, key: &PublicKey) -> Result<Manifest, TrustError> {
    let [manifest, signature, ..] = archive.entries() else { return Err(unsigned(archive)) };
    if (manifest.name(), signature.name()) != (MANIFEST_ENTRY, SIGNATURE_ENTRY) {
        return Err(unsigned(archive));
    }
    let ManifestSignature { key_id, signature } = ManifestSignature::decode(signature.data())?;
    if key_id != key.id() {
        return Err(TrustError::WrongKey { signed_by: key_id, required: key.id() });
    }
    if !key.verifies(&[SIGNATURE_CONTEXT, manifest.data()], signature) {
        return Err(TrustError::BadSignature { key: key.id() });
    }
    Ok(Manifest::decode(manifest.data())?)
}

fn unsigned(archive: &Archive<'_>) -> TrustError {
    TrustError::Unsigned {
        first: archive.entries().iter().take(2).map(|entry| entry.name().into()).collect(),
    }
}

/// Finds the first difference between the files and the manifest.
fn compare(found: &[FileRecord], listed: &[FileRecord]) -> Result<(), TrustError> {
    let has = |files: &[FileRecord], name: &str| files.iter().any(|file| file.name == name);
    for (found_file, listed_file) in found.iter().zip(listed) {
        if found_file.name != listed_file.name {
            return Err(if !has(listed, &found_file.name) {
                TrustError::Added { entry: found_file.name.clone() }
            } else if !has(found, &listed_file.name) {
                TrustError::Removed { entry: listed_file.name.clone() }
            } else {
                TrustError::Moved { found: found_file.name.clone(), listed: listed_file.name.clone() }
            });
        }
        if found_file != listed_file {
            return Err(TrustError::Changed {
                entry: found_file.name.clone(),
                found_length: found_file.length,
                found: found_file.sha256,
                listed_length: listed_file.length,
                listed: listed_file.sha256,
            });
        }
    }
    if let Some(added) = found.get(listed.len()) {
        return Err(TrustError::Added { entry: added.name.clone() });
    }
    match listed.get(found.len()) {
        Some(removed) => Err(TrustError::Removed { entry: removed.name.clone() }),
        None => Ok(()),
    }
}

/// Checks what the files' digests do not cover: the archive is what the writer makes of these files, and zeros.
fn check_rest(bytes: &[u8], archive: &Archive<'_>) -> Result<(), TrustError> {
    let (mut position, mut differs) = (0_usize, None);
    let compare = |piece: &[u8]| {
        let end = position.saturating_add(piece.len());
        let there = bytes.get(position..end);
        // A file's data is the very slice of the archive, whose digest was compared.
        let equal = there.is_some_and(|there| ptr::eq(there, piece) || there == piece);
        if !equal && differs.is_none() {
            differs = Some(position);
        }
        position = end;
    };
    let mut writer = Writer::into_sink(compare);
    for entry in archive.entries() {
        writer.file(entry.name(), entry.data())?;
    }
    let _ = writer.finish();
    let zeros = |rest: &[u8]| rest.iter().all(|byte| *byte == 0);
    if differs.is_none() && !bytes.get(position..).is_some_and(zeros) {
        differs = Some(position);
    }
    differs.map_or(Ok(()), |offset| Err(TrustError::Rewritten { offset }))
}
