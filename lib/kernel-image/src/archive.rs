//! Archives that are compressed as a whole, in the formats that kernels are compressed in.

use alloc::vec::Vec;

use crate::decompress::Stream;
use crate::{Compression, ImageError};

/// Most zeros behind a compressed archive: boot loaders and disks round sizes up.
pub const MAX_PADDING: usize = 1 << 20;

/// What lz4 writes unless told otherwise.
const LZ4_FRAME: &[u8] = &[0x04, 0x22, 0x4d, 0x18];

/// An archive that is compressed as a whole, maybe with zeros behind it.
#[derive(Clone, Copy, Debug)]
pub struct PackedArchive<'a> {
    compression: Compression,
    bytes: &'a [u8],
}

impl<'a> PackedArchive<'a> {
    /// What `bytes` are if they start like something compressed; `None` if not.
    pub fn detect(bytes: &'a [u8]) -> Result<Option<Self>, ImageError> {
        if bytes.starts_with(LZ4_FRAME) {
            return Err(ImageError::Lz4Frame);
        }
        Ok(Compression::detect(bytes).map(|compression| Self { compression, bytes }))
    }

    /// How it is compressed.
    pub fn compression(&self) -> Compression {
        self.compression
    }

    /// How often its unpacked size unpacking may take in memory, at most: once where the size is known beforehand; else also
    /// for a window that may be as large, and for pieces that are moved while they grow.
    pub fn memory_factor(&self) -> usize {
        match self.compression {
            Compression::Gzip | Compression::Lzo => 1,
            _ => 4,
        }
    }

    /// Unpacks it. `limit` bounds what comes out, in bytes.
    ///
    /// Behind the compressed data up to [`MAX_PADDING`] zeros may follow, and nothing else; behind lzma's, which does not say
    /// where it ends, nothing is looked at.
    pub fn unpack(&self, limit: usize) -> Result<Vec<u8>, ImageError> {
        Stream::file(self.compression, self.bytes.into(), limit, MAX_PADDING)?.run()
    }
}
