//! gzip (RFC 1952) around deflate.
use super::{Decode, Job, Output, zeros};
use crate::{
    ImageError,
    bytes::{array, u16_at, u32_at},
};
use core::ops::Range;
use miniz_oxide::inflate::{
    TINFLStatus,
    core::{
        DecompressorOxide, decompress,
        inflate_flags::{TINFL_FLAG_IGNORE_ADLER32, TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF},
    },
};

/// Fixed part of the header: magic, method, flags, time, extra flags, system.
const HEADER_SIZE: usize = 10;
/// CRC-32 and size of the unpacked data.
const TRAILER_SIZE: usize = 8;
const METHOD_DEFLATE: u8 = 8;
/// How far back deflate refers, in bytes.
const WINDOW: usize = 32 << 10;
/// What is counted beyond the limit, so that a refusal can name the whole size.
const COUNTED: usize = 256 << 20;

const FLAG_HEADER_CRC: u8 = 1 << 1;
const FLAG_EXTRA: u8 = 1 << 2;
const FLAG_NAME: u8 = 1 << 3;
const FLAG_COMMENT: u8 = 1 << 4;
const FLAGS_RESERVED: u8 = 0b1110_0000;

/// One gzip member, which is unpacked into a buffer of the size that its trailer declares, and whose checksum is compared.
pub(super) struct Decoder {
    state: DecompressorOxide,
    /// Where the deflate stream is, and how much of it was read.
    body: Range<usize>,
    read: usize,
    /// The checksum: of what has come out, and as it should be.
    computed: crc32fast::Hasher,
    stored: u32,
}

impl Decoder {
    /// Takes the zeros behind the member off the job's input.
    pub(super) fn new(job: &mut Job<'_>, output: &mut Output) -> Result<Self, ImageError> {
        let body_start = header_size(job)?;
        let end = end_without_padding(job, body_start)?;
        job.input = job.input.clone().part(0..end);
        let input = job.input.bytes();
        let body_end = input.len().saturating_sub(TRAILER_SIZE);
        let (Some(_), Some(stored), Some(size)) = (
            input.get(body_start..body_end),
            u32_at(input, body_end),
            u32_at(input, body_end.saturating_add(4)),
        ) else {
            return Err(job.cut_off());
        };
        output.reserve(job, usize::try_from(size).unwrap_or(usize::MAX))?;
        let computed = crc32fast::Hasher::new();
        Ok(Self { state: DecompressorOxide::new(), body: body_start..body_end, read: 0, computed, stored })
    }

    fn compare(&self, job: &Job<'_>) -> Result<(), ImageError> {
        let computed = self.computed.clone().finalize();
        if computed == self.stored {
            return Ok(());
        }
        let (stored, computed) = (u64::from(self.stored), u64::from(computed));
        Err(ImageError::BadChecksum { compression: job.compression, stored, computed })
    }
}

impl Decode for Decoder {
    /// Goes on with the body, which must fill the output exactly and leave nothing over.
    fn step(&mut self, job: &Job<'_>, output: &mut Output, budget: usize) -> Result<bool, ImageError> {
        let (compression, declared) = (job.compression, output.size);
        let body = job.input.bytes().get(self.body.clone()).unwrap_or_default();
        let rest = body.get(self.read..).unwrap_or_default();
        let from = output.filled;
        let so_far = output.with_room(budget);
        let end = so_far.len();
        let flags = TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF | TINFL_FLAG_IGNORE_ADLER32;
        let (status, read, written) = decompress(&mut self.state, rest, so_far, from, flags);
        self.read = self.read.saturating_add(read);
        let filled = from.saturating_add(written);
        self.computed.update(so_far.get(from..filled).unwrap_or_default());
        output.filled = filled;
        match status {
            TINFLStatus::Done if output.filled != declared => {
                Err(ImageError::LessThanDeclared { compression, declared, unpacked: output.filled })
            }
            TINFLStatus::Done if self.read != body.len() => {
                let count = body.len().saturating_sub(self.read);
                Err(ImageError::TrailingBytes { compression, count })
            }
            TINFLStatus::Done => self.compare(job).map(|()| true),
            TINFLStatus::HasMoreOutput if end < declared => Ok(false),
            TINFLStatus::HasMoreOutput => Err(ImageError::MoreThanDeclared { compression, declared }),
            TINFLStatus::FailedCannotMakeProgress | TINFLStatus::NeedsMoreInput => Err(job.cut_off()),
            _ => Err(job.corrupt("its deflate stream is damaged")),
        }
    }
}

/// Where the member ends that may have zeros behind it. Its trailer may end with zeros too, so that only inflating it shows where it
/// ends; what comes out is counted and forgotten. So it is where the trailer says that too much would come out, as it may be
/// something else that was taken for it.
fn end_without_padding(job: &Job<'_>, body_start: usize) -> Result<usize, ImageError> {
    let input = job.input.bytes();
    let last_word = u32_at(input, input.len().saturating_sub(4));
    let fits = last_word.is_some_and(|size| usize::try_from(size).is_ok_and(|size| size <= job.limit));
    if job.padding == 0 || fits && input.last() != Some(&0) {
        return Ok(input.len());
    }
    let body = input.get(body_start..).unwrap_or_default();
    let mut window = zeros(WINDOW)?;
    let mut state = DecompressorOxide::new();
    let (mut read, mut unpacked) = (0usize, 0usize);
    loop {
        let rest = body.get(read..).unwrap_or_default();
        let position = unpacked % WINDOW;
        let (status, taken, written) =
            decompress(&mut state, rest, &mut window, position, TINFL_FLAG_IGNORE_ADLER32);
        read = read.saturating_add(taken);
        unpacked = unpacked.saturating_add(written);
        match status {
            TINFLStatus::Done => break,
            TINFLStatus::HasMoreOutput if unpacked > job.limit.max(COUNTED) => {
                return Err(job.too_large(unpacked));
            }
            TINFLStatus::HasMoreOutput => {}
            TINFLStatus::FailedCannotMakeProgress | TINFLStatus::NeedsMoreInput => return Err(job.cut_off()),
            _ => return Err(job.corrupt("its deflate stream is damaged")),
        }
    }
    let end = body_start.saturating_add(read).saturating_add(TRAILER_SIZE);
    let (_, rest) = input.split_at_checked(end).ok_or_else(|| job.cut_off())?;
    job.end(rest)?;
    Ok(end)
}

/// Size of the member's header with its optional parts.
fn header_size(job: &Job<'_>) -> Result<usize, ImageError> {
    let [_, _, method, flags]: [u8; 4] = array(job.input.bytes(), 0).ok_or_else(|| job.cut_off())?;
    if method != METHOD_DEFLATE {
        return Err(job.corrupt("its header names a method other than deflate"));
    }
    if flags & FLAGS_RESERVED != 0 {
        return Err(job.corrupt("reserved flags are set in its header"));
    }
    let mut size = HEADER_SIZE;
    if flags & FLAG_EXTRA != 0 {
        let extra = u16_at(job.input.bytes(), size).ok_or_else(|| job.cut_off())?;
        size = size.saturating_add(2).saturating_add(usize::from(extra));
    }
    for flag in [FLAG_NAME, FLAG_COMMENT] {
        if flags & flag != 0 {
            let rest = job.input.rest(size);
            let text = rest.iter().position(|byte| *byte == 0).ok_or_else(|| job.cut_off())?;
            size = size.saturating_add(text).saturating_add(1);
        }
    }
    if flags & FLAG_HEADER_CRC != 0 {
        size = size.saturating_add(2);
    }
    Ok(size)
}
