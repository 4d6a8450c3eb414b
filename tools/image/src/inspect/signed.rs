//! What a signed RAM disk says about itself.

use std::fmt::{self, Write as _};

use kernel_image::KernelImage;
use protocols::manifest::{FileRecord, MANIFEST_ENTRY, ManifestError, SIGNATURE_ENTRY};
use protocols::{Manifest, ManifestSignature};
use serde::Serialize;

use super::BuiltInFacts;
use crate::disk::DiskContents;
use crate::report::Contents;

/// What a manifest says, for programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ManifestFacts {
    /// What the signer calls the platform; empty: nothing.
    pub platform: String,
    /// The signer's number of this version of it.
    pub version: u64,
    /// The files of the RAM disk.
    pub files: Vec<SignedFile>,
}

/// A file that a manifest names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SignedFile {
    /// Its path in the archive.
    pub path: String,
    /// What it must contain.
    #[serde(flatten)]
    pub contents: Contents,
}

/// Who has signed, for programs. Nothing is verified by looking.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SignatureFacts {
    /// `Ed25519`.
    pub algorithm: String,
    /// The SHA-256 of the public key.
    pub key_id: String,
}

impl From<&Manifest> for ManifestFacts {
    fn from(manifest: &Manifest) -> Self {
        let file = |file: &FileRecord| SignedFile {
            path: file.name.clone(),
            contents: Contents { bytes: file.length, sha256: file.sha256.to_string() },
        };
        Self {
            platform: manifest.platform.clone(),
            version: manifest.version,
            files: manifest.files.iter().map(file).collect(),
        }
    }
}

impl From<&ManifestSignature> for SignatureFacts {
    fn from(signature: &ManifestSignature) -> Self {
        Self { algorithm: "Ed25519".into(), key_id: signature.key_id.to_string() }
    }
}

/// What a disk image boots that is not signed: for programs, and in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UnsignedFacts {
    /// `/boot/xen`.
    pub xen: Contents,
    /// `/boot/db-boot`, with the zeros behind it.
    pub db_boot: Contents,
    /// The key that is built into that.
    pub built_in: Option<BuiltInFacts>,
    /// GRUB's menu, with both command lines.
    pub menu: String,
}

impl From<&DiskContents> for UnsignedFacts {
    fn from(disk: &DiskContents) -> Self {
        let built_in = KernelImage::parse(&disk.db_boot).ok().as_ref().and_then(BuiltInFacts::of);
        Self {
            xen: Contents::of(&disk.xen),
            db_boot: Contents::of(&disk.db_boot),
            built_in,
            menu: disk.menu.clone(),
        }
    }
}

impl fmt::Display for UnsignedFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "not signed, and to be protected by whatever starts it:")?;
        writeln!(f, "  {} /boot/xen ({} bytes)", self.xen.sha256, self.xen.bytes)?;
        writeln!(f, "  {} /boot/db-boot ({} bytes)", self.db_boot.sha256, self.db_boot.bytes)?;
        match &self.built_in {
            Some(BuiltInFacts { key_id, least_version, .. }) => {
                writeln!(f, "    requires key {key_id}, version {least_version} or later")?;
            }
            None => {
                writeln!(f, "    no key is built in: what it requires is said on its command line alone")?;
            }
        }
        let boots = |line: &&str| line.starts_with("multiboot2 ") || line.starts_with("module2 ");
        self.menu.lines().map(str::trim).filter(boots).try_for_each(|line| writeln!(f, "  {line}"))
    }
}

/// An entry that is about the RAM disk itself.
pub(super) enum Signed {
    Manifest(Manifest),
    Signature(ManifestSignature),
}

impl Signed {
    /// Reads an entry called `name`, if it is a manifest or a signature.
    pub(super) fn read(name: &str, data: &[u8]) -> Option<Result<Self, ManifestError>> {
        match name {
            MANIFEST_ENTRY => Some(Manifest::decode(data).map(Self::Manifest)),
            SIGNATURE_ENTRY => Some(ManifestSignature::decode(data).map(Self::Signature)),
            _ => None,
        }
    }
}

/// A manifest: one line, then one for each file.
pub fn manifest(manifest: &Manifest) -> String {
    let name = if manifest.platform.is_empty() { "without a name" } else { &manifest.platform };
    let mut out = format!("platform {name}, version {}, {} files\n", manifest.version, manifest.files.len());
    for file in &manifest.files {
        let _ = writeln!(out, "  {} {} ({} bytes)", file.sha256, file.name, file.length);
    }
    out
}

/// What an entry called `name` is, if it is a manifest or a signature.
pub(super) fn entry(name: &str, data: &[u8]) -> Option<String> {
    Some(match Signed::read(name, data)? {
        Ok(Signed::Manifest(decoded)) => manifest(&decoded),
        Ok(Signed::Signature(signature)) => {
            format!("Ed25519, by key {} (domb verify checks it)\n", signature.key_id)
        }
        Err(error) => format!("{error}\n"),
    })
}
