//! lzop's container (magic, header, blocks with their sizes and checksums, all big-endian) around LZO1X.
use super::Job;
use crate::{ImageError, bytes::array};
use alloc::vec::Vec;

/// Size of the magic number.
const MAGIC_SIZE: usize = 9;
/// The first version whose header has a level and a second word of time.
const FIRST_WITH_LEVEL: u16 = 0x0940;

/// Header flags: which checksums each block has, of its unpacked and of its packed bytes.
const UNPACKED_ADLER: u32 = 1 << 0;
const PACKED_ADLER: u32 = 1 << 1;
const UNPACKED_CRC: u32 = 1 << 8;
const PACKED_CRC: u32 = 1 << 9;
/// Header flags: optional parts that no kernel has.
const EXTRA_FIELD: u32 = 1 << 6;
const FILTER: u32 = 1 << 11;

/// Unpacks all blocks into one buffer, and compares the checksum of each block's unpacked bytes.
pub(super) fn unpack(job: Job<'_>) -> Result<Vec<u8>, ImageError> {
    let start = Reader::start(job)?;
    let size = match job.declared {
        Some(size) => size,
        None => start.unpacked_size()?,
    };
    let mut output = job.buffer(size)?;
    let mut filled = 0usize;
    let mut reader = start;
    while let Some(block) = reader.next()? {
        let end = filled.saturating_add(block.unpacked_size);
        let Some(room) = output.get_mut(filled..end) else {
            return Err(ImageError::MoreThanDeclared { compression: job.compression, declared: size });
        };
        unpack_block(&job, &block, room)?;
        filled = end;
    }
    job.end(job.input.get(reader.position..).unwrap_or_default())?;
    job.finish(output, filled)
}

/// Unpacks one block, which must fill `room`.
fn unpack_block(job: &Job<'_>, block: &Block<'_>, room: &mut [u8]) -> Result<(), ImageError> {
    if block.packed.len() == room.len() {
        room.copy_from_slice(block.packed);
    } else if lzokay::decompress::decompress(block.packed, room) != Ok(room.len()) {
        return Err(job.corrupt("a block is damaged"));
    }
    let computed = match block.checksum {
        Some((Checksum::Adler, _)) => adler2::adler32_slice(room),
        Some((Checksum::Crc, _)) => crc32fast::hash(room),
        None => return Ok(()),
    };
    match block.checksum {
        Some((_, stored)) if stored != computed => Err(ImageError::BadChecksum {
            compression: job.compression,
            stored: u64::from(stored),
            computed: u64::from(computed),
        }),
        _ => Ok(()),
    }
}

/// The kind of a checksum.
#[derive(Clone, Copy)]
enum Checksum {
    Adler,
    Crc,
}

/// One block.
struct Block<'a> {
    unpacked_size: usize,
    packed: &'a [u8],
    /// The checksum of the unpacked bytes.
    checksum: Option<(Checksum, u32)>,
}

/// Reads the container from front to back.
#[derive(Clone)]
struct Reader<'a> {
    job: Job<'a>,
    position: usize,
    flags: u32,
}

impl<'a> Reader<'a> {
    /// Reads the header; what follows are blocks.
    fn start(job: Job<'a>) -> Result<Self, ImageError> {
        let mut reader = Self { job, position: MAGIC_SIZE, flags: 0 };
        let version = reader.half()?;
        let has_level = version >= FIRST_WITH_LEVEL;
        // Version of the library, version needed, method, level.
        reader.skip(2)?;
        reader.skip(if has_level { 4 } else { 1 })?;
        reader.flags = reader.word()?;
        if reader.flags & (EXTRA_FIELD | FILTER) != 0 {
            return Err(job.corrupt("its header asks for a filter or has an extra field"));
        }
        // Mode and time.
        reader.skip(if has_level { 12 } else { 8 })?;
        let [name_size] = reader.array()?;
        // The name, and the header's checksum, which guards nothing that is used here but the flags.
        reader.skip(usize::from(name_size).saturating_add(4))?;
        Ok(reader)
    }

    /// The sum of all blocks' unpacked sizes.
    fn unpacked_size(&self) -> Result<usize, ImageError> {
        let mut reader = self.clone();
        let mut size = 0usize;
        while let Some(block) = reader.next()? {
            size = size.saturating_add(block.unpacked_size);
        }
        Ok(size)
    }

    /// The next block; nothing at the end mark.
    fn next(&mut self) -> Result<Option<Block<'a>>, ImageError> {
        let unpacked_size = to_usize(self.word()?);
        if unpacked_size == 0 {
            return Ok(None);
        }
        let packed_size = to_usize(self.word()?);
        if packed_size > unpacked_size {
            return Err(self.job.corrupt("a block is larger packed than unpacked"));
        }
        let mut checksum = None;
        for (flag, kind) in [(UNPACKED_ADLER, Checksum::Adler), (UNPACKED_CRC, Checksum::Crc)] {
            if self.flags & flag != 0 {
                checksum = Some((kind, self.word()?));
            }
        }
        for flag in [PACKED_ADLER, PACKED_CRC] {
            if self.flags & flag != 0 && packed_size < unpacked_size {
                self.skip(4)?;
            }
        }
        let start = self.position;
        self.skip(packed_size)?;
        let packed = self.job.input.get(start..self.position).unwrap_or_default();
        Ok(Some(Block { unpacked_size, packed, checksum }))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ImageError> {
        let bytes = array(self.job.input, self.position).ok_or_else(|| self.job.cut_off())?;
        self.position = self.position.saturating_add(N);
        Ok(bytes)
    }

    fn half(&mut self) -> Result<u16, ImageError> {
        self.array().map(u16::from_be_bytes)
    }

    fn word(&mut self) -> Result<u32, ImageError> {
        self.array().map(u32::from_be_bytes)
    }

    /// Passes over `count` bytes, which must be there.
    fn skip(&mut self, count: usize) -> Result<(), ImageError> {
        let end = self.position.saturating_add(count);
        if end > self.job.input.len() {
            return Err(self.job.cut_off());
        }
        self.position = end;
        Ok(())
    }
}

fn to_usize(size: u32) -> usize {
    usize::try_from(size).unwrap_or(usize::MAX)
}
