//! The manifest of a RAM disk: every other entry with its length and SHA-256, and the signature that stands for all of them.
//!
//! The entries [`MANIFEST_ENTRY`] and [`SIGNATURE_ENTRY`] are the first two of a signed RAM disk. The manifest lists the rest in its order.
//!
//! The manifest on the wire: a header of [`HEADER_LEN`] bytes, little endian, then a body, then nothing.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 8 | magic, [`MAGIC`] |
//! | 8 | 2 | format version, [`VERSION`] |
//! | 10 | 2 | reserved, 0 |
//! | 12 | 4 | length of the body in bytes, at most [`MAX_BODY_LEN`] |
//! | 16 | | body: [`Manifest`] in the postcard encoding, shortest form only, as for boot specs |
//!
//! The signature, [`SIGNATURE_LEN`] bytes:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 8 | magic, [`SIGNATURE_MAGIC`] |
//! | 8 | 2 | format version, [`VERSION`] |
//! | 10 | 2 | algorithm, [`ED25519`] |
//! | 12 | 4 | reserved, 0 |
//! | 16 | 32 | key id: SHA-256 of the 32 bytes of the public key |
//! | 48 | 64 | Ed25519 (RFC 8032) over [`SIGNATURE_CONTEXT`] and the bytes of the manifest |

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::Digest;

/// The entry that holds the manifest: the first.
pub const MANIFEST_ENTRY: &str = "manifest";
/// The entry that holds its signature: the second.
pub const SIGNATURE_ENTRY: &str = "manifest.sig";
/// The first eight bytes of a manifest.
pub const MAGIC: [u8; 8] = *b"DBMANIF\0";
/// The format version that this crate writes, and the only one that it reads; of manifest and signature.
pub const VERSION: u16 = 1;
/// Bytes before the body of a manifest.
pub const HEADER_LEN: usize = 16;
/// The longest body of a manifest: room for as many entries as a RAM disk may have, with names of 200 bytes.
pub const MAX_BODY_LEN: usize = 4 << 20;
/// The longest name of a platform in bytes.
pub const MAX_PLATFORM_LEN: usize = 63;
/// The longest name of an entry in bytes: as long as a boot spec can name.
pub const MAX_ENTRY_NAME_LEN: usize = 255;

/// The first eight bytes of a signature.
pub const SIGNATURE_MAGIC: [u8; 8] = *b"DBSIGN\0\0";
/// Bytes of a signature with its header.
pub const SIGNATURE_LEN: usize = 112;
/// The number of the only algorithm: Ed25519 as in RFC 8032, without prehashing.
pub const ED25519: u16 = 1;
/// What is signed before the manifest's own bytes, so that a signature for another purpose never counts here, nor one of
/// ours elsewhere.
pub const SIGNATURE_CONTEXT: &[u8] = b"domain builder: manifest of a RAM disk, format 1\0";

/// One entry of a RAM disk. The order of the fields is the wire format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// Its name, 1 to [`MAX_ENTRY_NAME_LEN`] bytes.
    pub name: String,
    /// Its length in bytes.
    pub length: u64,
    /// The SHA-256 of its bytes.
    pub sha256: Digest,
}

/// What a RAM disk consists of. The order of the fields is the wire format.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// What the signer calls the platform: up to [`MAX_PLATFORM_LEN`] of `A-Z a-z 0-9 . _ -`; empty if they do not call it
    /// anything. Logged and measured, never interpreted.
    pub platform: String,
    /// The signer's number of this version of the platform. db-boot can be told the least that it accepts.
    pub version: u64,
    /// Every entry but the manifest and its signature, in the order of the archive.
    pub files: Vec<FileRecord>,
}

/// Why bytes are not a manifest or a signature.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ManifestError {
    /// Fewer or more bytes than the format or the header says.
    #[error("{what}: {have} bytes instead of {need}: the entry is corrupt; sign the platform again")]
    Length {
        /// `manifest` or `signature`.
        what: &'static str,
        /// Bytes that are there.
        have: usize,
        /// Bytes that should be.
        need: usize,
    },
    /// The first eight bytes are not the magic.
    #[error("{what}: starts with {found:02x?}: the entry was not written by `domb`")]
    BadMagic {
        /// `manifest` or `signature`.
        what: &'static str,
        /// The bytes found.
        found: [u8; 8],
    },
    /// A format version that this program does not read.
    #[error(
        "{what}: format version {found}, this program reads version {VERSION}; sign with the domb of the same release"
    )]
    UnknownVersion {
        /// `manifest` or `signature`.
        what: &'static str,
        /// The version found.
        found: u16,
    },
    /// A signature of another kind.
    #[error("signature: algorithm {found}, this program knows {ED25519} (Ed25519) alone")]
    UnknownAlgorithm {
        /// The number found.
        found: u16,
    },
    /// A reserved field is set.
    #[error("{what}: a reserved field is {found:#x}, must be 0: the entry is corrupt")]
    ReservedNotZero {
        /// `manifest` or `signature`.
        what: &'static str,
        /// The value found.
        found: u32,
    },
    /// The body is longer than any manifest's.
    #[error("manifest: a body of {length} bytes, at most {MAX_BODY_LEN} are allowed")]
    BodyTooLong {
        /// Its length.
        length: usize,
    },
    /// The body does not decode, or not from its shortest form.
    #[error("manifest: the body of {length} bytes does not decode: the entry is corrupt")]
    BadBody {
        /// Its length.
        length: usize,
    },
    /// The platform's name cannot be shown in a log.
    #[error(
        "platform name {name:?}: must be at most {MAX_PLATFORM_LEN} letters, digits, dots, underscores or dashes"
    )]
    BadPlatform {
        /// The name.
        name: String,
    },
    /// An entry's name is empty or too long for a manifest.
    #[error("manifest: entry {name:?}: its name must have 1 to {MAX_ENTRY_NAME_LEN} bytes")]
    BadName {
        /// The name.
        name: String,
    },
}

impl Manifest {
    /// The bytes of the manifest, header included; one that is not valid is not encoded.
    pub fn encode(&self) -> Result<Vec<u8>, ManifestError> {
        self.validate()?;
        let body = self.body()?;
        let too_long = ManifestError::BodyTooLong { length: body.len() };
        let length = u32::try_from(body.len()).ok().filter(|_| body.len() <= MAX_BODY_LEN).ok_or(too_long)?;
        let header = [&MAGIC[..], &VERSION.to_le_bytes(), &0_u16.to_le_bytes(), &length.to_le_bytes()];
        Ok([header.concat(), body].concat())
    }

    /// Reads a manifest back. Total: any bytes give a valid manifest or an error.
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        let body = body_of(bytes)?;
        let bad_body = ManifestError::BadBody { length: body.len() };
        let manifest: Self = postcard::from_bytes(body).map_err(|_| bad_body.clone())?;
        manifest.validate()?;
        if manifest.body()? == body { Ok(manifest) } else { Err(bad_body) }
    }

    fn validate(&self) -> Result<(), ManifestError> {
        check_platform_name(&self.platform)?;
        match self.files.iter().find(|file| !(1..=MAX_ENTRY_NAME_LEN).contains(&file.name.len())) {
            Some(file) => Err(ManifestError::BadName { name: file.name.clone() }),
            None => Ok(()),
        }
    }

    fn body(&self) -> Result<Vec<u8>, ManifestError> {
        postcard::to_allocvec(self).map_err(|_| ManifestError::BadBody { length: 0 })
    }
}

/// Checks what a manifest calls the platform.
pub fn check_platform_name(name: &str) -> Result<(), ManifestError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.len() > MAX_PLATFORM_LEN || !name.chars().all(allowed) {
        return Err(ManifestError::BadPlatform { name: name.into() });
    }
    Ok(())
}

/// Checks the header and returns the body, which is all that follows it.
fn body_of(bytes: &[u8]) -> Result<&[u8], ManifestError> {
    let what = "manifest";
    let length = |need| ManifestError::Length { what, have: bytes.len(), need };
    let mut reader = Reader { what, rest: bytes, length: length(HEADER_LEN) };
    reader.magic(MAGIC)?;
    reader.version()?;
    let reserved = u16::from_le_bytes(reader.take()?);
    reader.zero(u32::from(reserved))?;
    let body = usize::try_from(u32::from_le_bytes(reader.take()?)).unwrap_or(usize::MAX);
    if body > MAX_BODY_LEN {
        return Err(ManifestError::BodyTooLong { length: body });
    }
    if reader.rest.len() == body { Ok(reader.rest) } else { Err(length(HEADER_LEN.saturating_add(body))) }
}

/// Reads the fields of a header.
struct Reader<'a> {
    what: &'static str,
    rest: &'a [u8],
    /// The error for bytes that end early.
    length: ManifestError,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], ManifestError> {
        let (field, rest) = self.rest.split_first_chunk::<N>().ok_or_else(|| self.length.clone())?;
        self.rest = rest;
        Ok(*field)
    }

    fn magic(&mut self, magic: [u8; 8]) -> Result<(), ManifestError> {
        let found = self.take()?;
        if found == magic { Ok(()) } else { Err(ManifestError::BadMagic { what: self.what, found }) }
    }

    fn version(&mut self) -> Result<(), ManifestError> {
        let found = u16::from_le_bytes(self.take()?);
        if found == VERSION { Ok(()) } else { Err(ManifestError::UnknownVersion { what: self.what, found }) }
    }

    fn zero(&self, found: u32) -> Result<(), ManifestError> {
        if found == 0 { Ok(()) } else { Err(ManifestError::ReservedNotZero { what: self.what, found }) }
    }
}

/// The signature of a manifest: the entry [`SIGNATURE_ENTRY`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ManifestSignature {
    /// The SHA-256 of the public key that verifies it.
    pub key_id: Digest,
    /// The Ed25519 signature over [`SIGNATURE_CONTEXT`] and the manifest.
    pub signature: [u8; 64],
}

impl ManifestSignature {
    /// The bytes of the entry.
    pub fn encode(&self) -> Vec<u8> {
        [
            &SIGNATURE_MAGIC[..],
            &VERSION.to_le_bytes(),
            &ED25519.to_le_bytes(),
            &0_u32.to_le_bytes(),
            &self.key_id.0,
            &self.signature,
        ]
        .concat()
    }

    /// Reads it back. Every byte counts: there is one encoding of each signature.
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        let what = "signature";
        let length = ManifestError::Length { what, have: bytes.len(), need: SIGNATURE_LEN };
        if bytes.len() != SIGNATURE_LEN {
            return Err(length);
        }
        let mut reader = Reader { what, rest: bytes, length };
        reader.magic(SIGNATURE_MAGIC)?;
        reader.version()?;
        let algorithm = u16::from_le_bytes(reader.take()?);
        if algorithm != ED25519 {
            return Err(ManifestError::UnknownAlgorithm { found: algorithm });
        }
        let reserved = u32::from_le_bytes(reader.take()?);
        reader.zero(reserved)?;
        Ok(Self { key_id: Digest(reader.take()?), signature: reader.take()? })
    }
}
