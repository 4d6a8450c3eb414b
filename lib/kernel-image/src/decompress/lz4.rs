//! lz4's legacy frame: a magic number, then blocks of at most 8 MiB, each behind its packed size.
use super::{Decode, Job, Output};
use crate::{ImageError, bytes::u32_at};

/// Size of the magic number and of each block's size field.
const WORD: usize = 4;
/// The frame's magic number, which may come again where frames were joined.
const MAGIC: u32 = 0x184c_2102;
/// Most unpacked bytes of one block.
const MAX_BLOCK: usize = 8 << 20;

/// Unpacks all blocks into one buffer.
pub(super) struct Decoder {
    blocks: Blocks,
}

impl Decoder {
    pub(super) fn new(job: &Job<'_>, output: &mut Output) -> Result<Self, ImageError> {
        let size = match job.declared {
            Some(size) => size,
            None => upper_bound(job)?,
        };
        output.reserve(job, size)?;
        Ok(Self { blocks: Blocks::new() })
    }
}

impl Decode for Decoder {
    fn step(&mut self, job: &Job<'_>, output: &mut Output, budget: usize) -> Result<bool, ImageError> {
        let target = output.filled.saturating_add(budget);
        while output.filled < target {
            let Some(block) = self.blocks.next(job)? else { return job.finish(output.filled) };
            unpack_block(job, block, output)?;
        }
        Ok(false)
    }
}

/// Unpacks one block into the room behind what has come out.
fn unpack_block(job: &Job<'_>, block: &[u8], output: &mut Output) -> Result<(), ImageError> {
    let size = output.size;
    let room = output.room(MAX_BLOCK);
    let room_size = room.len();
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
    output.filled = output.filled.saturating_add(written);
    Ok(())
}

/// Most bytes that the stream can unpack to, for a file that does not say: its blocks' number times their bound.
fn upper_bound(job: &Job<'_>) -> Result<usize, ImageError> {
    let mut blocks = Blocks::new();
    let mut size = 0usize;
    while blocks.next(job)?.is_some() {
        size = size.saturating_add(MAX_BLOCK);
    }
    Ok(size.min(job.limit))
}

/// The blocks of a frame.
struct Blocks {
    position: usize,
}

impl Blocks {
    fn new() -> Self {
        Self { position: WORD }
    }

    /// The next block's packed bytes; nothing at the end.
    fn next<'j>(&mut self, job: &'j Job<'_>) -> Result<Option<&'j [u8]>, ImageError> {
        let input = job.input.bytes();
        loop {
            // No block is empty, so that a size of zero is padding, or damage.
            if job.is_padding(input.get(self.position..).unwrap_or_default()) {
                return Ok(None);
            }
            let size = u32_at(input, self.position).ok_or_else(|| job.cut_off())?;
            self.position = self.position.saturating_add(WORD);
            if size == MAGIC {
                continue;
            }
            let end = self.position.saturating_add(usize::try_from(size).unwrap_or(usize::MAX));
            let block = input.get(self.position..end).ok_or_else(|| job.cut_off())?;
            self.position = end;
            return Ok(Some(block));
        }
    }
}
