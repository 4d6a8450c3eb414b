//! lz4's legacy frame: a magic number, then blocks of at most 8 MiB, each behind its packed size.
use super::Job;
use crate::{ImageError, bytes::u32_at};
use alloc::vec::Vec;

/// Size of the magic number and of each block's size field.
const WORD: usize = 4;
/// The frame's magic number, which may come again where frames were joined.
const MAGIC: u32 = 0x184c_2102;
/// Most unpacked bytes of one block.
const MAX_BLOCK: usize = 8 << 20;

/// Unpacks all blocks into one buffer.
pub(super) fn unpack(job: Job<'_>) -> Result<Vec<u8>, ImageError> {
    let size = match job.declared {
        Some(size) => size,
        None => upper_bound(&job)?,
    };
    let mut output = job.buffer(size)?;
    let mut filled = 0usize;
    let mut blocks = Blocks { job: &job, position: WORD };
    while let Some(block) = blocks.next()? {
        let room = output.get_mut(filled..).unwrap_or_default();
        let room_size = room.len().min(MAX_BLOCK);
        let room = room.get_mut(..room_size).unwrap_or_default();
        let written = lz4_flex::block::decompress_into(block, room).map_err(|error| match error {
            lz4_flex::block::DecompressError::OutputTooSmall { .. } if room_size < MAX_BLOCK => {
                match job.declared {
                    Some(declared) => ImageError::MoreThanDeclared { compression: job.compression, declared },
                    None => job.too_large(size.saturating_add(1)),
                }
            }
            lz4_flex::block::DecompressError::OutputTooSmall { .. } => {
                job.corrupt("a block unpacks to more than 8 MiB")
            }
            _ => job.corrupt("a block is damaged"),
        })?;
        filled = filled.saturating_add(written);
    }
    job.finish(output, filled)
}

/// Most bytes that the stream can unpack to, for a file that does not say: its blocks' number times their bound.
fn upper_bound(job: &Job<'_>) -> Result<usize, ImageError> {
    let mut blocks = Blocks { job, position: WORD };
    let mut size = 0usize;
    while blocks.next()?.is_some() {
        size = size.saturating_add(MAX_BLOCK);
    }
    Ok(size.min(job.limit))
}

/// The blocks of a frame.
struct Blocks<'j, 'a> {
    job: &'j Job<'a>,
    position: usize,
}

impl<'a> Blocks<'_, 'a> {
    /// The next block's packed bytes; nothing at the end.
    fn next(&mut self) -> Result<Option<&'a [u8]>, ImageError> {
        loop {
            // No block is empty, so that a size of zero is padding, or damage.
            if self.job.is_padding(self.job.input.get(self.position..).unwrap_or_default()) {
                return Ok(None);
            }
            let size = u32_at(self.job.input, self.position).ok_or_else(|| self.job.cut_off())?;
            self.position = self.position.saturating_add(WORD);
            if size == MAGIC {
                continue;
            }
            let end = self.position.saturating_add(usize::try_from(size).unwrap_or(usize::MAX));
            let block = self.job.input.get(self.position..end).ok_or_else(|| self.job.cut_off())?;
            self.position = end;
            return Ok(Some(block));
        }
    }
}
