//! Making a signed RAM disk.

use alloc::string::String;
use alloc::vec::Vec;

use protocols::manifest::{MANIFEST_ENTRY, SIGNATURE_CONTEXT, SIGNATURE_ENTRY};
use protocols::{Manifest, ManifestError, ManifestSignature};
use ramdisk::{Archive, Entry, Kind, Writer, WriterError};
use thiserror::Error;

use crate::key::{KeyError, SigningKey};
use crate::measure::measure;

/// Why a RAM disk cannot be signed.
#[derive(Debug, Error)]
pub enum SignError {
    /// It holds something that is neither a file nor a folder.
    #[error("cannot sign: entry {entry:?} is a {kind}; a signed RAM disk holds regular files alone")]
    NotAFile {
        /// The entry.
        entry: String,
        /// What it is.
        kind: Kind,
    },
    /// What is to be signed cannot be said in a manifest.
    #[error("cannot sign: {0}")]
    Manifest(#[from] ManifestError),
    /// The archive cannot be written.
    #[error("cannot sign: {0}")]
    Write(#[from] WriterError),
    /// The key's public half is of no use.
    #[error("cannot sign: {0}")]
    Key(#[from] KeyError),
}

/// The RAM disk `archive` again, signed: its files in their order behind a manifest and its signature. An older manifest is
/// replaced; folders, which the builder has no use for, are left out.
///
/// Equal inputs give equal bytes.
pub fn sign(
    archive: &Archive<'_>,
    platform: &str,
    version: u64,
    key: &SigningKey,
) -> Result<Vec<u8>, SignError> {
    let strange = |entry: &&Entry<'_>| !matches!(entry.kind(), Kind::File | Kind::Directory);
    if let Some(entry) = archive.entries().iter().find(strange) {
        return Err(SignError::NotAFile { entry: entry.name().into(), kind: entry.kind() });
    }
    let of_signature = |name: &str| [MANIFEST_ENTRY, SIGNATURE_ENTRY].contains(&name);
    let mut files = measure(archive);
    files.retain(|file| !of_signature(&file.name));
    let manifest = Manifest { platform: platform.into(), version, files }.encode()?;
    let message = [SIGNATURE_CONTEXT, &manifest].concat();
    let signature = ManifestSignature { key_id: key.public()?.id(), signature: key.sign(&message) };
    let mut writer = Writer::new();
    writer.file(MANIFEST_ENTRY, &manifest)?;
    writer.file(SIGNATURE_ENTRY, &signature.encode())?;
    for entry in archive.entries() {
        if entry.kind() == Kind::File && !of_signature(entry.name()) {
            writer.file(entry.name(), entry.data())?;
        }
    }
    Ok(writer.finish())
}
