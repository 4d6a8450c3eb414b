//! RAM disks that are compressed as a whole: unpacked into the heap, before anything else is done with them.

use alloc::vec::Vec;
use core::convert::Infallible;
use core::ops::Range;

use hypercall::{KeptRamdisk, Ramdisk};
use kernel_image::{Compression, ImageError, PackedArchive};
use thiserror::Error;
use xen_abi::Mfn;

/// What is left for the index, the plans and a decompressor's tables when a RAM disk takes all that it may, in bytes.
const RESERVE: usize = 2 << 20;

/// Why a compressed RAM disk cannot be used.
#[derive(Debug, Error)]
pub(crate) enum PackedError {
    /// The builder's memory is too small.
    #[error(
        "the RAM disk unpacks ({compression}) to at least {} KiB, which takes {} KiB of memory, and the builder has {} KiB left: \
         raise dom0_mem by at least {} MiB{}",
        size.div_ceil(1024), needed(*size, *factor).div_ceil(1024), spare / 1024,
        needed(*size, *factor).saturating_sub(*spare).div_ceil(1 << 20),
        if *.factor > 1 { ", or compress it with gzip, which takes less" } else { "" }
    )]
    NoRoom {
        /// How it is compressed.
        compression: Compression,
        /// Its unpacked size in bytes; what had come out by then, if nothing tells the whole.
        size: usize,
        /// How often that unpacking takes.
        factor: usize,
        /// Bytes that the builder can still allocate.
        spare: usize,
    },
    /// It is damaged.
    #[error("the RAM disk cannot be unpacked: {0}")]
    Unusable(#[from] ImageError),
}

/// The memory that unpacking to `size` bytes takes.
fn needed(size: usize, factor: usize) -> usize {
    size.saturating_mul(factor).saturating_add(RESERVE)
}

/// Unpacks the RAM disk in `bytes` and says how it was compressed; `None` if it was not.
///
/// `spare` is the number of bytes that can still be allocated.
pub(crate) fn unpack(bytes: &[u8], spare: usize) -> Result<Option<(Compression, Unpacked)>, PackedError> {
    let Some(packed) = PackedArchive::detect(bytes)? else { return Ok(None) };
    let (compression, factor) = (packed.compression(), packed.memory_factor());
    let limit = spare.saturating_sub(RESERVE).checked_div(factor).unwrap_or(0);
    let unpacked = packed.unpack(limit).map_err(|error| match error {
        ImageError::TooLarge { size, .. } | ImageError::OutOfMemory { size } => {
            PackedError::NoRoom { compression, size, factor, spare }
        }
        error => PackedError::Unusable(error),
    })?;
    Ok(Some((compression, Unpacked(unpacked))))
}

/// A RAM disk in the heap. Its memory does not go to Xen: the heap uses it again.
pub(crate) struct Unpacked(Vec<u8>);

/// The RAM disk, if anything of it was to be kept.
pub(crate) struct Kept(Vec<u8>);

impl Ramdisk for Unpacked {
    type Kept = Kept;
    type Error = Infallible;

    fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn release(self, keep: &[Range<usize>], _: impl FnMut(&[Mfn])) -> (Kept, Result<(), Infallible>) {
        let nothing = keep.iter().all(Range::is_empty);
        (Kept(if nothing { Vec::new() } else { self.0 }), Ok(()))
    }
}

impl KeptRamdisk for Kept {
    fn bytes(&self, range: Range<usize>) -> Option<&[u8]> {
        self.0.get(range)
    }
}
