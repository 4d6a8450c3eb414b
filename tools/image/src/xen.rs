//! The hypervisor's binary: unpacked if it comes as `.gz`, and recognised by its Multiboot headers.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use thiserror::Error;

use crate::files::{self, FileError};

/// The largest Xen binary that is unpacked: real ones have 3 to 15 MiB.
const MAX_LEN: u64 = 128 << 20;

/// A Xen that Multiboot loaders can start.
#[derive(Clone)]
pub struct Xen {
    /// Where it was read from.
    pub path: PathBuf,
    /// The ELF file, unpacked.
    pub elf: Vec<u8>,
    /// Whether it has a Multiboot 2 header; without it GRUB on EFI cannot start it.
    pub multiboot2: bool,
}

/// Why a file is not a Xen that we can start.
#[derive(Debug, Error)]
pub enum XenError {
    /// It could not be read.
    #[error("the Xen binary: {0}")]
    File(#[from] FileError),
    /// It starts as a gzip file, but does not unpack.
    #[error("the Xen binary {} does not unpack ({cause}): it is cut short or corrupt; fetch it again", .path.display())]
    Gzip {
        /// The file.
        path: PathBuf,
        /// What the decompressor says.
        cause: std::io::Error,
    },
    /// It unpacks to more than any Xen has.
    #[error("the Xen binary {} unpacks to more than {MAX_LEN} bytes: this is not Xen", .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// It is Xen's EFI application.
    #[error(
        "the Xen binary {} is an EFI application (xen.efi); take the ELF file beside it, which distributions \
         call xen-VERSION-amd64.gz or xen.gz: it boots under BIOS and EFI alike",
        .path.display()
    )]
    EfiApplication {
        /// The file.
        path: PathBuf,
    },
    /// It is something else.
    #[error("{} is not a Xen binary: {reason}", .path.display())]
    NotXen {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: &'static str,
    },
}

impl Xen {
    /// Reads and, if need be, unpacks the Xen binary at `path`.
    pub fn read(path: &Path) -> Result<Self, XenError> {
        let bytes = files::read_bounded(path, MAX_LEN)?;
        let elf = if bytes.starts_with(&[0x1f, 0x8b]) { unpack(path, &bytes)? } else { bytes };
        if elf.starts_with(b"MZ") {
            return Err(XenError::EfiApplication { path: path.to_owned() });
        }
        let not_xen = |reason| XenError::NotXen { path: path.to_owned(), reason };
        if !elf.starts_with(b"\x7fELF") {
            return Err(not_xen("it is neither an ELF file nor a gzip-compressed one"));
        }
        if !has_multiboot1(&elf) {
            return Err(not_xen("it has no Multiboot header; is it a kernel for a VM?"));
        }
        if segments_end(&elf) > elf.len() {
            return Err(not_xen("it was cut off: segments lie behind its end; fetch it again"));
        }
        let multiboot2 = has_multiboot2(&elf);
        Ok(Self { path: path.to_owned(), elf, multiboot2 })
    }
}

fn unpack(path: &Path, bytes: &[u8]) -> Result<Vec<u8>, XenError> {
    let mut elf = Vec::new();
    GzDecoder::new(bytes)
        .take(MAX_LEN + 1)
        .read_to_end(&mut elf)
        .map_err(|cause| XenError::Gzip { path: path.to_owned(), cause })?;
    if elf.len() > usize::try_from(MAX_LEN).unwrap_or(usize::MAX) {
        return Err(XenError::TooLarge { path: path.to_owned() });
    }
    Ok(elf)
}

/// Where the last of the program headers, and of what they load, ends in an ELF file of 32 bits, which Xen's are for Multiboot
/// loaders; 0 for another.
fn segments_end(elf: &[u8]) -> usize {
    const CLASS_32: u8 = 1;
    const PT_LOAD: usize = 1;
    let word = |at: usize, len: usize| {
        let bytes = elf.get(at..at.saturating_add(len))?;
        Some(bytes.iter().rev().fold(0, |word, byte| word << 8 | usize::from(*byte)))
    };
    let headers = || Some((word(28, 4)?, word(42, 2)?, word(44, 2)?));
    let (Some((first, size, count)), Some(&CLASS_32)) = (headers(), elf.get(4)) else { return 0 };
    let header = |index: usize| first.saturating_add(size.saturating_mul(index));
    let segment = |at: usize| match word(at, 4)? {
        PT_LOAD => Some(word(at + 4, 4)?.saturating_add(word(at + 16, 4)?)),
        _ => Some(0),
    };
    (0..count).map(|index| segment(header(index)).unwrap_or(header(index + 1))).max().unwrap_or(0)
}

/// Whether the first 8 KiB hold a Multiboot 1 header: magic, flags and a checksum that makes the sum 0.
pub(crate) fn has_multiboot1(file: &[u8]) -> bool {
    let words: Vec<u32> = words(file, 8192).collect();
    words.windows(3).any(|w| w[0] == 0x1bad_b002 && w[0].wrapping_add(w[1]).wrapping_add(w[2]) == 0)
}

/// Whether the first 32 KiB hold a Multiboot 2 header: magic, architecture 0 (i386), length and checksum.
pub(crate) fn has_multiboot2(file: &[u8]) -> bool {
    let words: Vec<u32> = words(file, 32768).collect();
    let sum = |w: &[u32]| w[0].wrapping_add(w[1]).wrapping_add(w[2]).wrapping_add(w[3]);
    words.windows(4).any(|w| w[0] == 0xe852_50d6 && w[1] == 0 && sum(w) == 0)
}

fn words(file: &[u8], limit: usize) -> impl Iterator<Item = u32> {
    file.chunks_exact(4)
        .take(limit / 4)
        .map(|bytes| bytes.iter().rev().fold(0, |word, b| word << 8 | u32::from(*b)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write as _;

    fn read(contents: &[u8]) -> Result<Xen, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("xen");
        fs::write(&path, contents).unwrap();
        Xen::read(&path).map_err(|error| error.to_string().replace(&path.display().to_string(), "XEN"))
    }

    fn elf(multiboot2: bool) -> Vec<u8> {
        let mut file = b"\x7fELF".to_vec();
        let headers: &[u32] = if multiboot2 { &[0xe852_50d6, 0, 24, 0x17ad_af12] } else { &[] };
        for word in [0x1bad_b002, 3, 0xe452_4ffb].iter().chain(headers) {
            file.extend_from_slice(&word.to_le_bytes());
        }
        file
    }

    #[test]
    fn xen_is_recognised_packed_and_unpacked() {
        assert!(!read(&elf(false)).unwrap().multiboot2);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(&elf(true)).unwrap();
        let packed = gzip.finish().unwrap();
        assert!(read(&packed).unwrap().multiboot2);
        assert!(read(&packed[..packed.len() - 1]).err().unwrap().contains("cut short or corrupt"));
    }

    #[test]
    fn a_xen_that_was_cut_off_is_refused_whether_its_headers_or_its_segments_are_missing() {
        let mut whole = vec![0; 52 + 32];
        whole[..6].copy_from_slice(b"\x7fELF\x01\x01");
        whole[28..32].copy_from_slice(&52_u32.to_le_bytes());
        whole[42..46].copy_from_slice(&[32, 0, 1, 0]);
        for (field, value) in [(0, 1_u32), (4, 84), (16, 12)] {
            whole[52 + field..][..4].copy_from_slice(&value.to_le_bytes());
        }
        for word in [0x1bad_b002_u32, 3, 0xe452_4ffb] {
            whole.extend_from_slice(&word.to_le_bytes());
        }
        assert!(read(&whole).is_ok());
        assert!(read(&whole[..whole.len() - 4]).is_err());
        whole[52 + 16] += 1;
        assert!(read(&whole).err().unwrap().contains("it was cut off"));
        whole[44] = 3;
        assert!(read(&whole).err().unwrap().contains("it was cut off"));
    }

    #[test]
    fn other_files_are_refused_with_what_they_are() {
        for (contents, words) in [
            (&b"MZ\x90"[..], "EFI application"),
            (b"hello", "neither an ELF file"),
            (b"", "neither an ELF file"),
            (b"\x7fELF\x02\x01", "no Multiboot header"),
        ] {
            let error = read(contents).err().unwrap();
            assert!(error.contains(words), "{error}");
        }
    }
}
