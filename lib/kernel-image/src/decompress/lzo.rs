//! lzop's container (magic, header, blocks with their sizes and checksums, all big-endian) around LZO1X.
use super::{Decode, Job, Output};
use crate::{ImageError, bytes::array};

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
pub(super) struct Decoder {
    reader: Reader,
}

impl Decoder {
    pub(super) fn new(job: &Job<'_>, output: &mut Output) -> Result<Self, ImageError> {
        let reader = Reader::start(job)?;
        let size = match job.declared {
            Some(size) => size,
            None => reader.unpacked_size(job)?,
        };
        output.reserve(job, size)?;
        Ok(Self { reader })
    }
}

impl Decode for Decoder {
    fn step(&mut self, job: &Job<'_>, output: &mut Output, budget: usize) -> Result<bool, ImageError> {
        let target = output.filled.saturating_add(budget);
        while output.filled < target {
            let Some(block) = self.reader.next(job)? else {
                job.end(job.input.rest(self.reader.position))?;
                return job.finish(output.filled);
            };
            let declared = output.size;
            let room = output.room(block.unpacked_size);
            if room.len() != block.unpacked_size {
                return Err(ImageError::MoreThanDeclared { compression: job.compression, declared });
            }
            unpack_block(job, &block, room)?;
            output.filled = output.filled.saturating_add(block.unpacked_size);
        }
        Ok(false)
    }
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
struct Reader {
    position: usize,
    flags: u32,
}

impl Reader {
    /// Reads the header; what follows are blocks.
    fn start(job: &Job<'_>) -> Result<Self, ImageError> {
        let mut reader = Self { position: MAGIC_SIZE, flags: 0 };
        let version = reader.half(job)?;
        let has_level = version >= FIRST_WITH_LEVEL;
        // Version of the library, version needed, method, level.
        reader.skip(job, 2)?;
        reader.skip(job, if has_level { 4 } else { 1 })?;
        reader.flags = reader.word(job)?;
        if reader.flags & (EXTRA_FIELD | FILTER) != 0 {
            return Err(job.corrupt("its header asks for a filter or has an extra field"));
        }
        // Mode and time.
        reader.skip(job, if has_level { 12 } else { 8 })?;
        let [name_size] = reader.array(job)?;
        // The name, and the header's checksum, which guards nothing that is used here but the flags.
        reader.skip(job, usize::from(name_size).saturating_add(4))?;
        Ok(reader)
    }

    /// The sum of all blocks' unpacked sizes.
    fn unpacked_size(&self, job: &Job<'_>) -> Result<usize, ImageError> {
        let mut reader = self.clone();
        let mut size = 0usize;
        while let Some(block) = reader.next(job)? {
            size = size.saturating_add(block.unpacked_size);
        }
        Ok(size)
    }

    /// The next block; nothing at the end mark.
    fn next<'j>(&mut self, job: &'j Job<'_>) -> Result<Option<Block<'j>>, ImageError> {
        let unpacked_size = to_usize(self.word(job)?);
        if unpacked_size == 0 {
            return Ok(None);
        }
        let packed_size = to_usize(self.word(job)?);
        if packed_size > unpacked_size {
            return Err(job.corrupt("a block is larger packed than unpacked"));
        }
        let mut checksum = None;
        for (flag, kind) in [(UNPACKED_ADLER, Checksum::Adler), (UNPACKED_CRC, Checksum::Crc)] {
            if self.flags & flag != 0 {
                checksum = Some((kind, self.word(job)?));
            }
        }
        for flag in [PACKED_ADLER, PACKED_CRC] {
            if self.flags & flag != 0 && packed_size < unpacked_size {
                self.skip(job, 4)?;
            }
        }
        let start = self.position;
        self.skip(job, packed_size)?;
        let packed = job.input.bytes().get(start..self.position).unwrap_or_default();
        Ok(Some(Block { unpacked_size, packed, checksum }))
    }

    fn array<const N: usize>(&mut self, job: &Job<'_>) -> Result<[u8; N], ImageError> {
        let bytes = array(job.input.bytes(), self.position).ok_or_else(|| job.cut_off())?;
        self.position = self.position.saturating_add(N);
        Ok(bytes)
    }

    fn half(&mut self, job: &Job<'_>) -> Result<u16, ImageError> {
        self.array(job).map(u16::from_be_bytes)
    }

    fn word(&mut self, job: &Job<'_>) -> Result<u32, ImageError> {
        self.array(job).map(u32::from_be_bytes)
    }

    /// Passes over `count` bytes, which must be there.
    fn skip(&mut self, job: &Job<'_>, count: usize) -> Result<(), ImageError> {
        let end = self.position.saturating_add(count);
        if end > job.input.bytes().len() {
            return Err(job.cut_off());
        }
        self.position = end;
        Ok(())
    }
}

fn to_usize(size: u32) -> usize {
    usize::try_from(size).unwrap_or(usize::MAX)
}
