//! Digests of what a RAM disk holds.

use alloc::vec::Vec;

use protocols::{Digest, FileRecord};
use ramdisk::{Archive, Entry, Kind};
use sha2::{Digest as _, Sha256};

/// The SHA-256 of `bytes`.
pub fn sha256(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

/// Name, length and SHA-256 of every regular file, in the order of the archive. The builder uses nothing else of a RAM disk.
pub fn measure(archive: &Archive<'_>) -> Vec<FileRecord> {
    let files = archive.entries().iter().filter(|entry| entry.kind() == Kind::File);
    files.map(record).collect()
}

fn record(entry: &Entry<'_>) -> FileRecord {
    let data = entry.data();
    FileRecord {
        name: entry.name().into(),
        length: u64::try_from(data.len()).unwrap_or(u64::MAX),
        sha256: sha256(data),
    }
}
