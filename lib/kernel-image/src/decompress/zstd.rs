//! One Zstandard frame.
use super::{Job, MAX_WINDOW};
use crate::ImageError;
use alloc::{format, vec::Vec};
use ruzstd::{
    decoding::{BlockDecodingStrategy, FrameDecoder, errors::FrameDecoderError},
    io::Read,
};

/// How many bytes to decode between two looks at how many there are.
const STEP: usize = 1 << 20;

/// Unpacks the frame and compares its checksum, which the decoder computes but leaves to its user.
///
/// The decoder keeps the window to itself and hands out only what lies before it. Linux's frames want a window larger
/// than the kernel, so all of it is unpacked there first, and the output is allocated only then: at its worst moment
/// this takes twice the kernel's size, not three times.
pub(super) fn unpack(job: Job<'_>) -> Result<Vec<u8>, ImageError> {
    if let Some(declared) = job.declared.filter(|declared| *declared > job.limit) {
        return Err(job.too_large(declared));
    }
    let mut stream = Stream::new(job)?;
    stream.decode_until_readable()?;
    let output = Job { declared: job.declared.or_else(|| stream.whole_size()), ..job }.collect(|room| {
        stream.decode_until_readable()?;
        stream.decoder.read(room).map_err(|_| job.corrupt("the decoder's buffer cannot be read"))
    })?;
    stream.check()?;
    Ok(output)
}

/// A frame being decoded.
struct Stream<'a> {
    job: Job<'a>,
    decoder: FrameDecoder,
    /// What is not decoded yet.
    rest: &'a [u8],
    /// How many bytes were decoded at least.
    decoded: usize,
}

impl<'a> Stream<'a> {
    fn new(job: Job<'a>) -> Result<Self, ImageError> {
        let mut rest = job.input;
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(u64::try_from(MAX_WINDOW).unwrap_or(u64::MAX));
        decoder.init(&mut rest).map_err(|error| explain(&job, &error))?;
        Ok(Self { job, decoder, rest, decoded: 0 })
    }

    /// Decodes until there is something to read or the frame ends.
    ///
    /// What the decoder keeps in its window counts too, so that a small limit also bounds the window's memory.
    fn decode_until_readable(&mut self) -> Result<(), ImageError> {
        while !self.decoder.is_finished() && self.decoder.can_collect() == 0 {
            let bound = self.job.declared.unwrap_or(self.job.limit);
            if self.decoded > bound {
                return Err(self.too_much());
            }
            self.decoder
                .decode_blocks(&mut self.rest, BlockDecodingStrategy::UptoBytes(STEP))
                .map_err(|error| explain(&self.job, &error))?;
            self.decoded = self.decoded.saturating_add(STEP);
        }
        Ok(())
    }

    /// The output's size if all of it is decoded.
    fn whole_size(&self) -> Option<usize> {
        self.decoder.is_finished().then(|| self.decoder.can_collect())
    }

    fn too_much(&self) -> ImageError {
        match self.job.declared {
            Some(declared) => ImageError::MoreThanDeclared { compression: self.job.compression, declared },
            None => self.job.too_large(self.decoded),
        }
    }

    /// Compares the frame's checksum, if it has one, and refuses bytes behind the frame.
    fn check(&self) -> Result<(), ImageError> {
        let compression = self.job.compression;
        match (self.decoder.get_checksum_from_data(), self.decoder.get_calculated_checksum()) {
            (Some(stored), Some(computed)) if stored != computed => Err(ImageError::BadChecksum {
                compression,
                stored: u64::from(stored),
                computed: u64::from(computed),
            }),
            _ => self.job.end(self.rest),
        }
    }
}

fn explain(job: &Job<'_>, error: &FrameDecoderError) -> ImageError {
    ImageError::Corrupt { compression: job.compression, detail: format!("{error}") }
}
