//! Unpacking, bounded.
//!
//! Every decompressor writes straight into one buffer. Its size is known beforehand for gzip (the trailer has it) and
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
mod xz;
mod zstd;

use crate::{Compression, ImageError, bytes::u32_at};
use alloc::vec::Vec;

/// Most bytes of dictionary or window that a stream may ask for.
///
/// Linux's build uses at most 128 MiB (`zstd -22 --ultra`, `xz` with `dict=128MiB`); a decompressor that honours more
/// serves no kernel.
pub(crate) const MAX_WINDOW: usize = 128 << 20;

/// Size of the number that Linux's build appends to a payload.
const APPENDED_SIZE: usize = 4;

/// Unpacks a compressed file.
pub(crate) fn file(compression: Compression, input: &[u8], limit: usize) -> Result<Vec<u8>, ImageError> {
    Job { compression, input, declared: None, limit, padding: 0 }.run()
}

/// Unpacks a compressed file behind which up to `padding` zeros may follow.
pub(crate) fn padded_file(
    compression: Compression,
    input: &[u8],
    limit: usize,
    padding: usize,
) -> Result<Vec<u8>, ImageError> {
    Job { compression, input, declared: None, limit, padding }.run()
}

/// Unpacks the payload of a bzImage: a compressed stream and, for all but gzip, its unpacked size in four bytes.
pub(crate) fn linux_payload(
    compression: Compression,
    payload: &[u8],
    limit: usize,
) -> Result<Vec<u8>, ImageError> {
    if compression == Compression::Gzip {
        return Job { compression, input: payload, declared: None, limit, padding: 0 }.run();
    }
    let split = payload.len().saturating_sub(APPENDED_SIZE);
    let (Some(input), Some(size)) = (payload.get(..split), u32_at(payload, split)) else {
        return Err(ImageError::PackedCutOff { compression, len: payload.len() });
    };
    let declared = Some(usize::try_from(size).unwrap_or(usize::MAX));
    Job { compression, input, declared, limit, padding: 0 }.run()
}

/// One stream to unpack.
#[derive(Clone, Copy)]
struct Job<'a> {
    compression: Compression,
    /// The stream, and nothing else but padding.
    input: &'a [u8],
    /// The unpacked size, as far as something outside the stream says it.
    declared: Option<usize>,
    /// Most bytes that may come out.
    limit: usize,
    /// Most zeros that may follow the stream.
    padding: usize,
}

impl Job<'_> {
    fn run(self) -> Result<Vec<u8>, ImageError> {
        match self.compression {
            Compression::Gzip => gzip::unpack(self),
            Compression::Xz => xz::unpack_xz(self),
            Compression::Lzma => xz::unpack_lzma(self),
            Compression::Lz4 => lz4::unpack(self),
            Compression::Zstd => zstd::unpack(self),
            Compression::Lzo => lzo::unpack(self),
            Compression::Bzip2 => bzip2::unpack(self),
        }
    }

    /// A zeroed buffer of `size` bytes, if the limit allows it.
    fn buffer(&self, size: usize) -> Result<Vec<u8>, ImageError> {
        if size > self.limit {
            return Err(self.too_large(size));
        }
        zeros(size)
    }

    /// Fills a buffer from `read`, which answers how many bytes it wrote, 0 at the end of the stream.
    fn collect(
        &self,
        mut read: impl FnMut(&mut [u8]) -> Result<usize, ImageError>,
    ) -> Result<Vec<u8>, ImageError> {
        let mut output = self.buffer(self.declared.unwrap_or_else(|| self.first_guess()))?;
        let mut filled = 0usize;
        loop {
            while let Some(room) = output.get_mut(filled..).filter(|room| !room.is_empty()) {
                match read(room)? {
                    0 => return self.finish(output, filled),
                    count => filled = filled.saturating_add(count),
                }
            }
            // The end of a stream is reached only by asking for more; that is also when its checksum is compared.
            let mut more = [0u8; 1];
            if read(&mut more)? == 0 {
                return self.finish(output, filled);
            }
            self.grow(&mut output)?;
            if let Some(room) = output.get_mut(filled) {
                *room = more[0];
                filled = filled.saturating_add(1);
            }
        }
    }

    /// How large a buffer to start with when the stream does not say: kernels shrink to about a quarter.
    fn first_guess(&self) -> usize {
        self.input.len().saturating_mul(5).min(self.limit)
    }

    /// Makes a full buffer larger, for a stream whose size nobody declared.
    fn grow(&self, output: &mut Vec<u8>) -> Result<(), ImageError> {
        let size = output.len();
        if let Some(declared) = self.declared {
            return Err(ImageError::MoreThanDeclared { compression: self.compression, declared });
        }
        if size >= self.limit {
            return Err(self.too_large(size.saturating_add(1)));
        }
        let larger = size.saturating_add(size / 2).saturating_add(1).min(self.limit);
        output
            .try_reserve_exact(larger.saturating_sub(size))
            .map_err(|_| ImageError::OutOfMemory { size: larger })?;
        output.resize(larger, 0);
        Ok(())
    }

    /// Ends with `filled` bytes, if that is how many there should be.
    fn finish(&self, mut output: Vec<u8>, filled: usize) -> Result<Vec<u8>, ImageError> {
        match self.declared {
            Some(declared) if declared != filled => Err(ImageError::LessThanDeclared {
                compression: self.compression,
                declared,
                unpacked: filled,
            }),
            _ => {
                output.truncate(filled);
                Ok(output)
            }
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
        ImageError::PackedCutOff { compression: self.compression, len: self.input.len() }
    }
}

/// A zeroed buffer.
fn zeros(size: usize) -> Result<Vec<u8>, ImageError> {
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(size).map_err(|_| ImageError::OutOfMemory { size })?;
    buffer.resize(size, 0);
    Ok(buffer)
}
