//! One Zstandard frame.
use super::{Decode, Job, MAX_WINDOW, Output};
use crate::ImageError;
use alloc::format;
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
pub(super) struct Decoder<'a> {
    frame: Frame<'a>,
    /// The size of the output, as soon as it has been allocated.
    collecting: Option<Job<'a>>,
}

/// A frame being decoded.
struct Frame<'a> {
    job: Job<'a>,
    decoder: FrameDecoder,
    /// What is decoded of the input, in bytes.
    position: usize,
    /// How many bytes were decoded at least.
    decoded: usize,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(job: &Job<'a>) -> Result<Self, ImageError> {
        if let Some(declared) = job.declared.filter(|declared| *declared > job.limit) {
            return Err(job.too_large(declared));
        }
        Ok(Self { frame: Frame::new(job.clone())?, collecting: None })
    }
}

impl Decode for Decoder<'_> {
    fn step(&mut self, job: &Job<'_>, output: &mut Output, budget: usize) -> Result<bool, ImageError> {
        let Self { frame, collecting } = self;
        let mut spent = 0usize;
        while collecting.is_none() && !frame.is_readable() {
            if spent >= budget {
                return Ok(false);
            }
            frame.decode()?;
            spent = spent.saturating_add(STEP);
        }
        if collecting.is_none() {
            let declared = job.declared.or_else(|| frame.whole_size());
            let sized = Job { declared, ..frame.job.clone() };
            sized.guess(output)?;
            *collecting = Some(sized);
        }
        let Some(sized) = collecting else { return Ok(false) };
        let ended = sized.fill(output, budget, |room| {
            while !frame.is_readable() {
                frame.decode()?;
            }
            frame.decoder.read(room).map_err(|_| job.corrupt("the decoder's buffer cannot be read"))
        })?;
        if ended {
            frame.check()?;
        }
        Ok(ended)
    }
}

impl<'a> Frame<'a> {
    fn new(job: Job<'a>) -> Result<Self, ImageError> {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(u64::try_from(MAX_WINDOW).unwrap_or(u64::MAX));
        let mut rest = job.input.bytes();
        decoder.init(&mut rest).map_err(|error| explain(&job, &error))?;
        let position = job.input.bytes().len().saturating_sub(rest.len());
        Ok(Self { job, decoder, position, decoded: 0 })
    }

    /// Whether there is something to read, or never will be.
    fn is_readable(&self) -> bool {
        self.decoder.is_finished() || self.decoder.can_collect() > 0
    }

    /// Decodes a step's worth.
    ///
    /// What the decoder keeps in its window counts too, so that a small limit also bounds the window's memory.
    fn decode(&mut self) -> Result<(), ImageError> {
        let bound = self.job.declared.unwrap_or(self.job.limit);
        if self.decoded > bound {
            return Err(self.too_much());
        }
        let before = self.job.input.rest(self.position);
        let mut rest = before;
        let decoded = self.decoder.decode_blocks(&mut rest, BlockDecodingStrategy::UptoBytes(STEP));
        let taken = before.len().saturating_sub(rest.len());
        decoded.map_err(|error| explain(&self.job, &error))?;
        self.position = self.position.saturating_add(taken);
        self.decoded = self.decoded.saturating_add(STEP);
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
            _ => self.job.end(self.job.input.rest(self.position)),
        }
    }
}

fn explain(job: &Job<'_>, error: &FrameDecoderError) -> ImageError {
    ImageError::Corrupt { compression: job.compression, detail: format!("{error}") }
}
