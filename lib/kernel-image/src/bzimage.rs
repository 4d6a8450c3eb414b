//! Linux's boot image for x86: real-mode code with a header, then protected-mode code with the kernel inside.
//!
//! Offsets are those of Linux's `Documentation/arch/x86/boot.rst`.
use crate::{
    Compression, Format, ImageError,
    bytes::{array, u16_at, u32_at},
};

/// Size of the real-mode part in sectors, the first not counted (one byte).
const SETUP_SECTS: usize = 0x1f1;
/// 0xaa55.
const BOOT_FLAG: usize = 0x1fe;
/// "HdrS".
const HEADER_MAGIC: usize = 0x202;
/// Version of the boot protocol.
const VERSION: usize = 0x206;
/// Where the payload starts, counted from the protected-mode part. Since protocol 2.08.
const PAYLOAD_OFFSET: usize = 0x248;
/// Size of the payload in bytes. Since protocol 2.08.
const PAYLOAD_LENGTH: usize = 0x24c;

const SECTOR: usize = 512;
/// The first protocol with a payload's place in its header.
const FIRST_WITH_PAYLOAD: u16 = 0x0208;
/// What the header means by zero `setup_sects`.
const DEFAULT_SETUP_SECTS: u8 = 4;

/// Recognises a bzImage and finds its payload.
pub(crate) fn detect(bytes: &[u8]) -> Result<Format, ImageError> {
    if array(bytes, HEADER_MAGIC) != Some(*b"HdrS") {
        return Err(not_a_kernel(bytes));
    }
    let (Some(protocol), Some(setup_sects)) = (u16_at(bytes, VERSION), bytes.get(SETUP_SECTS)) else {
        return Err(ImageError::BzImageCutOff { len: bytes.len() });
    };
    if protocol < FIRST_WITH_PAYLOAD {
        return Err(ImageError::BzImageTooOld { protocol });
    }
    let (Some(offset), Some(size)) = (u32_at(bytes, PAYLOAD_OFFSET), u32_at(bytes, PAYLOAD_LENGTH)) else {
        return Err(ImageError::BzImageCutOff { len: bytes.len() });
    };
    if size == 0 {
        return Err(ImageError::BzImageNoPayload);
    }
    let sectors = if *setup_sects == 0 { DEFAULT_SETUP_SECTS } else { *setup_sects };
    let setup_size = usize::from(sectors).saturating_add(1).saturating_mul(SECTOR);
    let start = setup_size.saturating_add(usize::try_from(offset).unwrap_or(usize::MAX));
    let end = start.saturating_add(usize::try_from(size).unwrap_or(usize::MAX));
    let Some(payload) = bytes.get(start..end) else {
        return Err(ImageError::BzImagePayloadOutside { payload: start..end, len: bytes.len() });
    };
    match Compression::detect(payload) {
        Some(compression) => Ok(Format::BzImage { protocol, compression, payload: start..end }),
        None => Err(ImageError::UnknownCompression {
            offset: start,
            start: payload.iter().take(6).copied().collect(),
        }),
    }
}

/// What to say about a file that is no kernel.
fn not_a_kernel(bytes: &[u8]) -> ImageError {
    if u16_at(bytes, BOOT_FLAG) == Some(0xaa55) && bytes.len() < HEADER_MAGIC.saturating_add(4) {
        return ImageError::BzImageCutOff { len: bytes.len() };
    }
    ImageError::NotAKernel { start: bytes.iter().take(8).copied().collect(), len: bytes.len() }
}
