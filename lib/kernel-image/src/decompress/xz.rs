//! xz (with the filter for x86 code that Linux uses) and its forerunner lzma.
use super::{Job, MAX_WINDOW};
use crate::ImageError;
use alloc::{format, vec::Vec};
use lzma_rust2::{LzmaReader, Read, XzReader};

/// What the decoder may use on top of its dictionary, in KiB: probability tables and buffers.
const OVERHEAD_KIB: usize = 1024;

/// The decoder's memory limit in KiB.
fn memory_limit_kib() -> u32 {
    u32::try_from((MAX_WINDOW / 1024).saturating_add(OVERHEAD_KIB)).unwrap_or(u32::MAX)
}

/// Unpacks one xz stream; its block checks (CRC-32, CRC-64 or SHA-256) are compared by the decoder.
pub(super) fn unpack_xz(job: Job<'_>) -> Result<Vec<u8>, ImageError> {
    let mut reader = XzReader::new_mem_limit(job.input, false, memory_limit_kib());
    let output = job.collect(|room| reader.read(room).map_err(|error| explain(&job, &error)))?;
    job.end(reader.inner())?;
    Ok(output)
}

/// Unpacks one .lzma stream, which has no checksum. What follows it is not looked at: the decoder reads ahead.
pub(super) fn unpack_lzma(job: Job<'_>) -> Result<Vec<u8>, ImageError> {
    let mut reader = LzmaReader::new_mem_limit(job.input, memory_limit_kib(), None)
        .map_err(|error| explain(&job, &error))?;
    let output = job.collect(|room| reader.read(room).map_err(|error| explain(&job, &error)))?;
    Ok(output)
}

fn explain(job: &Job<'_>, error: &lzma_rust2::Error) -> ImageError {
    let detail = format!("{error:?}");
    ImageError::Corrupt { compression: job.compression, detail }
}
