//! One Zstandard frame.
use super::{Job, MAX_WINDOW};
use crate::ImageError;
use alloc::{format, vec::Vec};
use ruzstd::{
    decoding::{BlockDecodingStrategy, FrameDecoder},
    io::Read,
};

/// How many bytes to decode between two looks at the output.
const STEP: usize = 1 << 20;

/// Unpacks the frame and compares its checksum, which the decoder computes but leaves to its user.
///
/// The decoder keeps the window to itself and hands out only what lies before it, so for Linux's frames, whose window
/// is larger than the kernel, everything is unpacked there first. The output is allocated when it is needed.
pub(super) fn unpack(job: Job<'_>) -> Result<Vec<u8>, ImageError> {
    if let Some(declared) = job.declared.filter(|declared| *declared > job.limit) {
        return Err(job.too_large(declared));
    }
    let mut input = job.input;
    let mut decoder = FrameDecoder::new();
    decoder.set_max_window_size(u64::try_from(MAX_WINDOW).unwrap_or(u64::MAX));
    decoder.init(&mut input).map_err(|error| explain(&job, &error))?;
    while !decoder.is_finished() && decoder.can_collect() == 0 {
        step(&job, &mut decoder, &mut input)?;
    }
    let job = Job { declared: job.declared.or_else(|| remaining_size(&decoder)), ..job };
    let output = job.collect(|room| {
        while !decoder.is_finished() && decoder.can_collect() == 0 {
            step(&job, &mut decoder, &mut input)?;
        }
        decoder.read(room).map_err(|_| job.corrupt("the decoder's buffer cannot be read"))
    })?;
    check(&job, &decoder)?;
    match input.len() {
        0 => Ok(output),
        count => Err(ImageError::TrailingBytes { compression: job.compression, count }),
    }
}

/// Decodes some more blocks.
fn step(job: &Job<'_>, decoder: &mut FrameDecoder, input: &mut &[u8]) -> Result<(), ImageError> {
    decoder
        .decode_blocks(input, BlockDecodingStrategy::UptoBytes(STEP))
        .map(|_| ())
        .map_err(|error| explain(job, &error))
}

/// The size of the output if the decoder has all of it.
fn remaining_size(decoder: &FrameDecoder) -> Option<usize> {
    decoder.is_finished().then(|| decoder.can_collect())
}

/// Compares the frame's checksum, if it has one.
fn check(job: &Job<'_>, decoder: &FrameDecoder) -> Result<(), ImageError> {
    match (decoder.get_checksum_from_data(), decoder.get_calculated_checksum()) {
        (Some(stored), Some(computed)) if stored != computed => Err(ImageError::BadChecksum {
            compression: job.compression,
            stored: u64::from(stored),
            computed: u64::from(computed),
        }),
        _ => Ok(()),
    }
}

fn explain(job: &Job<'_>, error: &ruzstd::decoding::errors::FrameDecoderError) -> ImageError {
    ImageError::Corrupt { compression: job.compression, detail: format!("{error}") }
}
