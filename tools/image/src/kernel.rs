//! What the host wants to know about a kernel before anything runs.

use kernel_image::{Compression, Format};

/// The largest kernel that is unpacked, in bytes. Debian's has 60 MiB; one with everything built in and its debug
/// information stripped stays below 200 MiB.
pub const MAX_UNPACKED: usize = 512 << 20;

/// What unpacking a kernel yields, in bytes, as the file itself declares it; 0 if db-boot need not unpack it, or if
/// it is no kernel (the check of the kernel says so).
///
/// Linux's boot image ends its payload with the size, and so does gzip; other compressions are unpacked to see.
pub fn unpacked_size(kernel: &[u8]) -> u64 {
    let size = match Format::detect(kernel) {
        Ok(Format::BzImage { payload, .. }) => kernel.get(payload).and_then(last_word),
        Ok(Format::Compressed(Compression::Gzip)) => last_word(kernel),
        Ok(Format::Compressed(_)) => {
            kernel_image::unwrap(kernel, MAX_UNPACKED).ok().map(|unwrapped| unwrapped.elf.len())
        }
        _ => None,
    };
    u64::try_from(size.unwrap_or(0).min(MAX_UNPACKED)).unwrap_or(u64::MAX)
}

/// The last four bytes as a number, little endian.
fn last_word(bytes: &[u8]) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(*bytes.last_chunk::<4>()?)).ok()
}
