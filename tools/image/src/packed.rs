//! RAM disks that are compressed as a whole.

use std::borrow::Cow;
use std::io::Write as _;

use flate2::write::GzEncoder;
use kernel_image::{Compression, ImageError, PackedArchive};
use thiserror::Error;

/// The largest RAM disk that is unpacked here, in bytes: more than a machine without a disk starts from.
const MAX_UNPACKED: usize = 4 << 30;

/// What a CPIO archive starts with, in each format that is read.
pub(crate) const ARCHIVE_MAGIC: &[u8] = b"0707";

/// A RAM disk that cannot be unpacked.
#[derive(Debug, Error)]
#[error("the RAM disk cannot be unpacked: {0}")]
pub struct PackedError(#[from] ImageError);

/// A RAM disk, not compressed any more.
#[derive(Debug)]
pub struct Opened<'a> {
    /// How it was compressed, if it was.
    pub compression: Option<Compression>,
    /// The archive.
    pub archive: Cow<'a, [u8]>,
}

/// Unpacks a RAM disk if it is compressed, as db-boot does.
pub fn open(bytes: &[u8]) -> Result<Opened<'_>, PackedError> {
    let Some(packed) = PackedArchive::detect(bytes)? else {
        return Ok(Opened { compression: None, archive: bytes.into() });
    };
    // Of deflate's shortest codes each bit gives at most 129 bytes: a size that is more is a lie and need not be allocated.
    let most = match packed.compression() {
        Compression::Gzip => bytes.len().saturating_mul(8 * 129),
        _ => MAX_UNPACKED,
    };
    let archive = packed.unpack(most.min(MAX_UNPACKED))?;
    Ok(Opened { compression: Some(packed.compression()), archive: archive.into() })
}

/// Compresses a RAM disk with gzip. Equal archives give equal bytes.
pub fn gzip(archive: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
    // Neither fails: a vector takes all that is written to it.
    let written = encoder.write_all(archive);
    debug_assert!(written.is_ok(), "{written:?}");
    encoder.finish().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_compressed_is_opened_again() {
        let archive = b"070701 and so on".repeat(1000);
        let packed = gzip(&archive);
        assert!(packed.len() < 1000);
        assert_eq!(packed, gzip(&archive));
        let opened = open(&packed).unwrap();
        assert_eq!((opened.compression, &*opened.archive), (Some(Compression::Gzip), &*archive));
        let opened = open(&archive).unwrap();
        assert!(opened.compression.is_none() && matches!(opened.archive, Cow::Borrowed(_)));
    }

    #[test]
    fn most_that_deflate_can_do_is_within_the_limit() {
        let zeros = vec![0; 32 << 20];
        assert!(*open(&gzip(&zeros)).unwrap().archive == zeros);
    }
}
