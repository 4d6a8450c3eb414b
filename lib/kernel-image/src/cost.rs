//! What unpacking a kernel costs in memory, read from its headers before anything is unpacked.

use crate::decompress::{MAX_WINDOW, bzip2};
use crate::{Compression, Format};

/// What unpacking a kernel costs, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnpackingCost {
    /// What comes out and is kept; 0 if the file is used as it is.
    pub output: usize,
    /// What the decompressor needs beside that, while it runs.
    pub workspace: usize,
}

impl UnpackingCost {
    /// The cost for a kernel file that says itself how large it will be: every bzImage, and what gzip packed.
    ///
    /// `None` for other packed files, whose size shows only when they are unpacked. A file that is no kernel costs nothing:
    /// it is refused before it is unpacked.
    pub fn declared(kernel: &[u8]) -> Option<Self> {
        match Format::detect(kernel) {
            Ok(Format::BzImage { compression, payload, .. }) => {
                let stream = kernel.get(payload).unwrap_or_default();
                // Linux's build appends the size of what it packs; gzip has it there anyway.
                Some(Self::of(compression, stream, last_word(stream)))
            }
            Ok(Format::Compressed(Compression::Gzip)) => {
                Some(Self::of(Compression::Gzip, kernel, last_word(kernel)))
            }
            Ok(Format::Compressed(_)) => None,
            _ => Some(Self::default()),
        }
    }

    /// The cost for a stream that yields `output` bytes.
    pub fn of(compression: Compression, stream: &[u8], output: usize) -> Self {
        Self { output, workspace: workspace(compression, stream, output) }
    }

    /// Both together.
    pub fn total(self) -> usize {
        self.output.saturating_add(self.workspace)
    }
}

/// The working memory of a decompressor.
///
/// Dictionaries and windows grow by doubling as output comes. While the last piece is copied from the one before, both
/// are there, and behind them the hole that all earlier ones have left: together twice the last one's size.
fn workspace(compression: Compression, stream: &[u8], output: usize) -> usize {
    let whole = output.checked_next_power_of_two().unwrap_or(MAX_WINDOW);
    let dictionary = match compression {
        Compression::Xz => xz_dictionary(stream).unwrap_or(whole).min(whole),
        Compression::Lzma | Compression::Zstd => whole,
        Compression::Bzip2 => return bzip2::workspace(stream),
        _ => return 0,
    };
    dictionary.min(MAX_WINDOW).saturating_mul(2)
}

/// The size of the dictionary that the first block of an xz stream asks for.
///
/// The header of a block follows the 12 bytes of the stream's header: its size, flags (number of filters, which
/// optional sizes there are), the sizes, then for each filter its number, the length of its properties, and these.
fn xz_dictionary(stream: &[u8]) -> Option<usize> {
    const LZMA2: u64 = 0x21;
    let mut header = stream.get(13..)?.iter().copied();
    let flags = header.next()?;
    for present in [flags & 0x40, flags & 0x80] {
        if present != 0 {
            xz_number(&mut header)?;
        }
    }
    for _ in 0..=flags & 3 {
        let (filter, length) = (xz_number(&mut header)?, xz_number(&mut header)?);
        if filter == LZMA2 {
            // The size is 2 or 3 times a power of two: bit 0 chooses, the others are the exponent.
            let property = u32::from(header.next()?);
            let shift = (property >> 1).saturating_add(11);
            return (2 | property & 1).checked_shl(shift).and_then(|size| usize::try_from(size).ok());
        }
        for _ in 0..length {
            header.next()?;
        }
    }
    None
}

/// A number of up to nine times seven bits, the lowest first; the top bit says that more follow.
fn xz_number(bytes: &mut impl Iterator<Item = u8>) -> Option<u64> {
    let mut number = 0;
    for shift in (0..63).step_by(7) {
        let byte = bytes.next()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// The last four bytes as a number, little endian.
fn last_word(bytes: &[u8]) -> usize {
    bytes.last_chunk::<4>().and_then(|word| usize::try_from(u32::from_le_bytes(*word)).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The start of the payload of a Linux kernel that Debian ships: filters x86 and LZMA2 with 32 MiB.
    const DEBIAN: [u8; 24] = [
        0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00, 0x00, 0x01, 0x69, 0x22, 0xde, 0x36, 0x02, 0x01, 0x04, 0x00, 0x21,
        0x01, 0x1a, 0x00, 0x01, 0xc9, 0x80, 0xb3,
    ];

    #[test]
    fn an_xz_stream_names_its_dictionary() {
        assert_eq!(xz_dictionary(&DEBIAN), Some(32 << 20));
        let mut sized = DEBIAN.to_vec();
        sized[13] |= 0xc0;
        sized.splice(14..14, [0x80, 0x01, 0x07]);
        assert_eq!(xz_dictionary(&sized), Some(32 << 20));
        for length in 0..19 {
            assert_eq!(xz_dictionary(&DEBIAN[..length]), None, "{length}");
        }
    }

    #[test]
    fn the_workspace_follows_output_and_dictionary() {
        let mib = |count: usize| count << 20;
        assert_eq!(workspace(Compression::Xz, &DEBIAN, mib(63)), mib(64));
        assert_eq!(workspace(Compression::Xz, &DEBIAN, mib(5)), mib(16));
        assert_eq!(workspace(Compression::Xz, b"damaged", mib(200)), mib(256));
        assert_eq!(workspace(Compression::Zstd, &[], mib(57)), mib(128));
        assert_eq!(workspace(Compression::Lz4, &[], mib(57)), 0);
        assert_eq!(workspace(Compression::Bzip2, b"BZh1", mib(57)), 400_000);
        assert_eq!(workspace(Compression::Bzip2, b"BZh", mib(57)), 3_600_000);
    }

    #[test]
    fn what_is_used_as_it_is_costs_nothing() {
        for file in [&b"\x7fELF and so on"[..], b"not a kernel", b""] {
            assert_eq!(UnpackingCost::declared(file), Some(UnpackingCost::default()));
        }
    }

    #[test]
    fn gzip_ends_with_the_size() {
        let cost = UnpackingCost::declared(&[0x1f, 0x8b, 8, 0, 0, 0x10, 0, 0]);
        assert_eq!(cost, Some(UnpackingCost { output: 0x1000, workspace: 0 }));
    }

    #[test]
    fn a_bare_stream_does_not_say() {
        assert_eq!(UnpackingCost::declared(&DEBIAN), None);
    }
}
