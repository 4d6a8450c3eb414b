//! gzip (RFC 1952) around deflate.
use super::{Job, zeros};
use crate::{
    ImageError,
    bytes::{array, u16_at, u32_at},
};
use alloc::vec::Vec;
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

/// Unpacks one gzip member into a buffer of the size that its trailer declares, and checks its checksum.
pub(super) fn unpack(job: Job<'_>) -> Result<Vec<u8>, ImageError> {
    let body_start = header_size(&job)?;
    let job = Job { input: without_padding(&job, body_start)?, ..job };
    let body_end = job.input.len().saturating_sub(TRAILER_SIZE);
    let (Some(body), Some(stored_crc), Some(size)) = (
        job.input.get(body_start..body_end),
        u32_at(job.input, body_end),
        u32_at(job.input, body_end.saturating_add(4)),
    ) else {
        return Err(job.cut_off());
    };
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    let mut output = job.buffer(size)?;
    inflate(&job, body, &mut output)?;
    let computed = crc32fast::hash(&output);
    if computed != stored_crc {
        return Err(ImageError::BadChecksum {
            compression: job.compression,
            stored: u64::from(stored_crc),
            computed: u64::from(computed),
        });
    }
    Ok(output)
}

/// The member without the zeros behind it. Its trailer may end with zeros too, so that only inflating it shows where it
/// ends; what comes out is counted and forgotten. So it is where the trailer says that too much would come out, as it may be
/// something else that was taken for it.
fn without_padding<'a>(job: &Job<'a>, body_start: usize) -> Result<&'a [u8], ImageError> {
    let last_word = u32_at(job.input, job.input.len().saturating_sub(4));
    let fits = last_word.is_some_and(|size| usize::try_from(size).is_ok_and(|size| size <= job.limit));
    if job.padding == 0 || fits && job.input.last() != Some(&0) {
        return Ok(job.input);
    }
    let body = job.input.get(body_start..).unwrap_or_default();
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
    let (member, rest) = job.input.split_at_checked(end).ok_or_else(|| job.cut_off())?;
    job.end(rest)?;
    Ok(member)
}

/// Size of the member's header with its optional parts.
fn header_size(job: &Job<'_>) -> Result<usize, ImageError> {
    let [_, _, method, flags]: [u8; 4] = array(job.input, 0).ok_or_else(|| job.cut_off())?;
    if method != METHOD_DEFLATE {
        return Err(job.corrupt("its header names a method other than deflate"));
    }
    if flags & FLAGS_RESERVED != 0 {
        return Err(job.corrupt("reserved flags are set in its header"));
    }
    let mut size = HEADER_SIZE;
    if flags & FLAG_EXTRA != 0 {
        let extra = u16_at(job.input, size).ok_or_else(|| job.cut_off())?;
        size = size.saturating_add(2).saturating_add(usize::from(extra));
    }
    for flag in [FLAG_NAME, FLAG_COMMENT] {
        if flags & flag != 0 {
            let rest = job.input.get(size..).unwrap_or_default();
            let text = rest.iter().position(|byte| *byte == 0).ok_or_else(|| job.cut_off())?;
            size = size.saturating_add(text).saturating_add(1);
        }
    }
    if flags & FLAG_HEADER_CRC != 0 {
        size = size.saturating_add(2);
    }
    Ok(size)
}

/// Inflates `body`, which must fill `output` exactly and leave nothing over.
fn inflate(job: &Job<'_>, body: &[u8], output: &mut [u8]) -> Result<(), ImageError> {
    let mut state = DecompressorOxide::new();
    let flags = TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF | TINFL_FLAG_IGNORE_ADLER32;
    let (status, read, written) = decompress(&mut state, body, output, 0, flags);
    let (compression, declared) = (job.compression, output.len());
    match status {
        TINFLStatus::Done if written != declared => {
            Err(ImageError::LessThanDeclared { compression, declared, unpacked: written })
        }
        TINFLStatus::Done if read != body.len() => {
            Err(ImageError::TrailingBytes { compression, count: body.len().saturating_sub(read) })
        }
        TINFLStatus::Done => Ok(()),
        TINFLStatus::HasMoreOutput => Err(ImageError::MoreThanDeclared { compression, declared }),
        TINFLStatus::FailedCannotMakeProgress | TINFLStatus::NeedsMoreInput => Err(job.cut_off()),
        _ => Err(job.corrupt("its deflate stream is damaged")),
    }
}
