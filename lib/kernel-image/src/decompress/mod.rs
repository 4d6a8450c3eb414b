//! Unpacking, bounded.
//!
//! Every decompressor goes on in steps ([`Stream::step`]), so that who unpacks can do something else in between, and writes straight into one buffer. Its size is known beforehand for gzip (the trailer has it) and
//! for everything that Linux packs (its build appends the size); it is compared with the caller's limit before the
//! buffer is allocated. Where the size is unknown the buffer grows up to the limit and no further.
//!
//! Working memory on top of the buffer: none for gzip, lz4 and lzo; for xz and lzma the dictionary, which grows with the
//! output up to the size that the stream asks for; for zstd the window, likewise. Neither grows past what the limit
//! lets come out by more than a step. For bzip2 one block, 3.6 MB at most.
pub(crate) mod bzip2;
mod gzip;
mod lz4;
mod lzo;
mod source;
mod xz;
mod zstd;

pub(crate) use source::Source;

use crate::{Compression, ImageError, bytes::u32_at};
use alloc::boxed::Box;
use alloc::vec::Vec;

/// Most bytes of dictionary or window that a stream may ask for.
///
/// Linux's build uses at most 128 MiB (`zstd -22 --ultra`, `xz` with `dict=128MiB`); a decompressor that honours more
/// serves no kernel.
pub(crate) const MAX_WINDOW: usize = 128 << 20;

/// Size of the number that Linux's build appends to a payload.
const APPENDED_SIZE: usize = 4;

/// A compressed stream that is unpacked in steps.
pub(crate) struct Stream<'a> {
    job: Job<'a>,
    output: Output,
    decoder: Box<dyn Decode + 'a>,
}

/// What has come out so far.
#[derive(Default)]
struct Output {
    /// What has come out, and behind it zeros as far as they were needed up to now.
    bytes: Vec<u8>,
    filled: usize,
    /// How large it will be, or may be for now: so much is reserved.
    size: usize,
}

/// What unpacks one format.
trait Decode {
    /// Unpacks about `budget` bytes more, which is 1 at least; says whether that was all, with everything checked.
    fn step(&mut self, job: &Job<'_>, output: &mut Output, budget: usize) -> Result<bool, ImageError>;
}

impl<'a> Stream<'a> {
    /// A compressed file behind which up to `padding` zeros may follow.
    pub(crate) fn file(
        compression: Compression,
        input: Source<'a>,
        limit: usize,
        padding: usize,
    ) -> Result<Self, ImageError> {
        Self::new(Job { compression, input, declared: None, limit, padding })
    }

    /// The payload of a bzImage: a compressed stream and, for all but gzip, its unpacked size in four bytes.
    pub(crate) fn linux_payload(
        compression: Compression,
        payload: Source<'a>,
        limit: usize,
    ) -> Result<Self, ImageError> {
        if compression == Compression::Gzip {
            return Self::file(compression, payload, limit, 0);
        }
        let len = payload.bytes().len();
        let split = len.checked_sub(APPENDED_SIZE);
        let Some((split, size)) = split.and_then(|split| Some((split, u32_at(payload.bytes(), split)?)))
        else {
            return Err(ImageError::PackedCutOff { compression, len });
        };
        let declared = Some(usize::try_from(size).unwrap_or(usize::MAX));
        Self::new(Job { compression, input: payload.part(0..split), declared, limit, padding: 0 })
    }

    fn new(mut job: Job<'a>) -> Result<Self, ImageError> {
        let mut output = Output::default();
        let decoder: Box<dyn Decode + 'a> = match job.compression {
            Compression::Gzip => Box::new(gzip::Decoder::new(&mut job, &mut output)?),
            Compression::Xz => Box::new(xz::Xz::new(&job, &mut output)?),
            Compression::Lzma => Box::new(xz::Lzma::new(&job, &mut output)?),
            Compression::Lz4 => Box::new(lz4::Decoder::new(&job, &mut output)?),
            Compression::Zstd => Box::new(zstd::Decoder::new(&job)?),
            Compression::Lzo => Box::new(lzo::Decoder::new(&job, &mut output)?),
            Compression::Bzip2 => Box::new(bzip2::Decoder::new(&job, &mut output)?),
        };
        Ok(Self { job, output, decoder })
    }

    /// Unpacks about `budget` bytes more: a byte at least, and a block more than asked for at most, which is 8 MiB in lz4's format and less than
    /// one in all others. Says whether that was all, with everything checked.
    pub(crate) fn step(&mut self, budget: usize) -> Result<bool, ImageError> {
        self.decoder.step(&self.job, &mut self.output, budget.max(1))
    }

    /// What has come out.
    pub(crate) fn into_output(self) -> Vec<u8> {
        let Output { mut bytes, filled, .. } = self.output;
        bytes.truncate(filled);
        bytes
    }

    /// All of it at once.
    pub(crate) fn run(mut self) -> Result<Vec<u8>, ImageError> {
        while !self.step(usize::MAX)? {}
        Ok(self.into_output())
    }
}

/// One stream to unpack.
#[derive(Clone)]
struct Job<'a> {
    compression: Compression,
    /// The stream, and nothing else but padding.
    input: Source<'a>,
    /// The unpacked size, as far as something outside the stream says it.
    declared: Option<usize>,
    /// Most bytes that may come out.
    limit: usize,
    /// Most zeros that may follow the stream.
    padding: usize,
}

impl Output {
    /// Room of `size` bytes for a job, if its limit allows that.
    fn reserve(&mut self, job: &Job<'_>, size: usize) -> Result<(), ImageError> {
        if size > job.limit {
            return Err(job.too_large(size));
        }
        let more = size.saturating_sub(self.bytes.len());
        self.bytes.try_reserve_exact(more).map_err(|_| ImageError::OutOfMemory { size })?;
        self.size = size;
        Ok(())
    }

    /// What has come out, and behind it the room for at most `budget` bytes more. Clearing the room is work too, hence only so much of it.
    fn with_room(&mut self, budget: usize) -> &mut [u8] {
        let end = self.filled.saturating_add(budget).min(self.size);
        if end > self.bytes.len() {
            self.bytes.resize(end, 0);
        }
        self.bytes.get_mut(..end).unwrap_or_default()
    }

    /// The room alone.
    fn room(&mut self, budget: usize) -> &mut [u8] {
        let filled = self.filled;
        self.with_room(budget).get_mut(filled..).unwrap_or_default()
    }
}

impl Job<'_> {
    /// Room for what is to come: as much as is declared, or a guess.
    fn guess(&self, output: &mut Output) -> Result<(), ImageError> {
        output.reserve(self, self.declared.unwrap_or_else(|| self.first_guess()))
    }

    /// Goes on to fill the output from `read`, which answers how many bytes it wrote, 0 at the end of the stream: by `budget` bytes. Whether
    /// that was the end.
    fn fill(
        &self,
        output: &mut Output,
        budget: usize,
        mut read: impl FnMut(&mut [u8]) -> Result<usize, ImageError>,
    ) -> Result<bool, ImageError> {
        let target = output.filled.saturating_add(budget);
        loop {
            loop {
                let room = output.room(target.saturating_sub(output.filled));
                if room.is_empty() {
                    break;
                }
                match read(room)? {
                    0 => return self.finish(output.filled),
                    count => output.filled = output.filled.saturating_add(count),
                }
            }
            if output.filled >= target {
                return Ok(false);
            }
            // The end of a stream is reached only by asking for more; that is also when its checksum is compared.
            let mut more = [0u8; 1];
            if read(&mut more)? == 0 {
                return self.finish(output.filled);
            }
            self.grow(output)?;
            if let Some(room) = output.room(1).first_mut() {
                *room = more[0];
                output.filled = output.filled.saturating_add(1);
            }
        }
    }

    /// How large a buffer to start with when the stream does not say: kernels shrink to about a quarter.
    fn first_guess(&self) -> usize {
        self.input.bytes().len().saturating_mul(5).min(self.limit)
    }

    /// Makes a full output larger, for a stream whose size nobody declared.
    fn grow(&self, output: &mut Output) -> Result<(), ImageError> {
        let size = output.size;
        if let Some(declared) = self.declared {
            return Err(ImageError::MoreThanDeclared { compression: self.compression, declared });
        }
        if size >= self.limit {
            return Err(self.too_large(size.saturating_add(1)));
        }
        output.reserve(self, size.saturating_add(size / 2).saturating_add(1).min(self.limit))
    }

    /// Ends with `filled` bytes, if that is how many there should be.
    fn finish(&self, filled: usize) -> Result<bool, ImageError> {
        match self.declared {
            Some(declared) if declared != filled => Err(ImageError::LessThanDeclared {
                compression: self.compression,
                declared,
                unpacked: filled,
            }),
            _ => Ok(true),
        }
    }

    /// Whether `rest`, which follows the stream, is padding or nothing.
    fn is_padding(&self, rest: &[u8]) -> bool {
        rest.len() <= self.padding && rest.iter().all(|byte| *byte == 0)
    }

    /// Refuses what follows the stream, unless it is padding.
    fn end(&self, rest: &[u8]) -> Result<(), ImageError> {
        if self.is_padding(rest) {
            return Ok(());
        }
        Err(ImageError::TrailingBytes { compression: self.compression, count: rest.len() })
    }

    fn too_large(&self, size: usize) -> ImageError {
        ImageError::TooLarge { compression: self.compression, size, limit: self.limit }
    }

    fn corrupt(&self, detail: &'static str) -> ImageError {
        ImageError::Corrupt { compression: self.compression, detail: detail.into() }
    }

    fn cut_off(&self) -> ImageError {
        ImageError::PackedCutOff { compression: self.compression, len: self.input.bytes().len() }
    }
}

/// A zeroed buffer.
fn zeros(size: usize) -> Result<Vec<u8>, ImageError> {
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(size).map_err(|_| ImageError::OutOfMemory { size })?;
    buffer.resize(size, 0);
    Ok(buffer)
}
