//! xz (with the filter for x86 code that Linux uses) and its forerunner lzma.
use super::{Decode, Job, MAX_WINDOW, Output, Source};
use crate::ImageError;
use alloc::format;
use lzma_rust2::{LzmaReader, Read, XzReader};

/// What the decoder may use on top of its dictionary, in KiB: probability tables and buffers.
const OVERHEAD_KIB: usize = 1024;

/// The decoder's memory limit in KiB.
fn memory_limit_kib() -> u32 {
    u32::try_from((MAX_WINDOW / 1024).saturating_add(OVERHEAD_KIB)).unwrap_or(u32::MAX)
}

/// Packed bytes, read from front to back.
pub(super) struct Feed<'a> {
    source: Source<'a>,
    position: usize,
}

impl<'a> Feed<'a> {
    fn new(job: &Job<'a>) -> Self {
        Self { source: job.input.clone(), position: 0 }
    }
}

impl Read for Feed<'_> {
    fn read(&mut self, room: &mut [u8]) -> lzma_rust2::Result<usize> {
        let count = self.source.rest(self.position).read(room)?;
        self.position = self.position.saturating_add(count);
        Ok(count)
    }
}

/// One xz stream; its block checks (CRC-32, CRC-64 or SHA-256) are compared by the decoder.
pub(super) struct Xz<'a>(XzReader<Feed<'a>>);

impl<'a> Xz<'a> {
    pub(super) fn new(job: &Job<'a>, output: &mut Output) -> Result<Self, ImageError> {
        job.guess(output)?;
        Ok(Self(XzReader::new_mem_limit(Feed::new(job), false, memory_limit_kib())))
    }
}

impl Decode for Xz<'_> {
    fn step(&mut self, job: &Job<'_>, output: &mut Output, budget: usize) -> Result<bool, ImageError> {
        if !job.fill(output, budget, |room| self.0.read(room).map_err(|error| explain(job, &error)))? {
            return Ok(false);
        }
        let Feed { source, position } = self.0.inner();
        job.end(source.rest(*position)).map(|()| true)
    }
}

/// One .lzma stream, which has no checksum. What follows it is not looked at: the decoder reads ahead.
pub(super) struct Lzma<'a>(LzmaReader<Feed<'a>>);

impl<'a> Lzma<'a> {
    pub(super) fn new(job: &Job<'a>, output: &mut Output) -> Result<Self, ImageError> {
        let reader = LzmaReader::new_mem_limit(Feed::new(job), memory_limit_kib(), None);
        let reader = reader.map_err(|error| explain(job, &error))?;
        job.guess(output)?;
        Ok(Self(reader))
    }
}

impl Decode for Lzma<'_> {
    fn step(&mut self, job: &Job<'_>, output: &mut Output, budget: usize) -> Result<bool, ImageError> {
        job.fill(output, budget, |room| self.0.read(room).map_err(|error| explain(job, &error)))
    }
}

fn explain(job: &Job<'_>, error: &lzma_rust2::Error) -> ImageError {
    let detail = format!("{error:?}");
    ImageError::Corrupt { compression: job.compression, detail }
}
