//! What kind of file a kernel is, and how to get at the ELF inside.
use crate::decompress::{Source, Stream};
use crate::{ImageError, bzimage};
use alloc::borrow::Cow;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::{fmt, ops::Range};

/// A compression that Linux kernels or kernel files come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compression {
    /// RFC 1952.
    Gzip,
    /// bzip2.
    Bzip2,
    /// The .lzma format.
    Lzma,
    /// The .xz format.
    Xz,
    /// The lzop format.
    Lzo,
    /// lz4's legacy frame, the one Linux uses.
    Lz4,
    /// A Zstandard frame.
    Zstd,
}

/// Magic numbers of compressed streams.
const MAGICS: [(&[u8], Compression); 7] = [
    (&[0x1f, 0x8b], Compression::Gzip),
    (b"BZh", Compression::Bzip2),
    (&[0x5d, 0, 0], Compression::Lzma),
    (&[0xfd, b'7', b'z', b'X', b'Z', 0], Compression::Xz),
    (&[0x89, b'L', b'Z', b'O', 0], Compression::Lzo),
    (&[0x02, 0x21, 0x4c, 0x18], Compression::Lz4),
    (&[0x28, 0xb5, 0x2f, 0xfd], Compression::Zstd),
];

/// What every ELF file starts with.
pub(crate) const ELF_MAGIC: &[u8] = b"\x7fELF";

impl Compression {
    /// The compression whose magic number `bytes` start with.
    pub fn detect(bytes: &[u8]) -> Option<Self> {
        MAGICS.iter().find(|(magic, _)| bytes.starts_with(magic)).map(|(_, compression)| *compression)
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gzip => "gzip",
            Self::Bzip2 => "bzip2",
            Self::Lzma => "lzma",
            Self::Xz => "xz",
            Self::Lzo => "lzo",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        })
    }
}

/// The kind of file a kernel is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// An ELF file as it is.
    Elf,
    /// A compressed ELF file.
    Compressed(Compression),
    /// Linux's boot image for x86, with the ELF file compressed inside.
    BzImage {
        /// Version of the boot protocol, major in the high byte.
        protocol: u16,
        /// How the payload is compressed.
        compression: Compression,
        /// Where the payload lies in the file, in bytes, its appended size included.
        payload: Range<usize>,
    },
}

impl Format {
    /// Finds out what `bytes` are. Reads headers only; the answer says nothing about what is behind them.
    pub fn detect(bytes: &[u8]) -> Result<Self, ImageError> {
        if bytes.is_empty() {
            return Err(ImageError::Empty);
        }
        if bytes.starts_with(ELF_MAGIC) {
            return Ok(Self::Elf);
        }
        if let Some(compression) = Compression::detect(bytes) {
            return Ok(Self::Compressed(compression));
        }
        bzimage::detect(bytes)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Elf => f.write_str("ELF"),
            Self::Compressed(compression) => write!(f, "ELF compressed with {compression}"),
            Self::BzImage { protocol, compression, .. } => {
                write!(f, "Linux bzImage (boot protocol {}.{:02}), ", protocol >> 8, protocol & 0xff)?;
                write!(f, "payload compressed with {compression}")
            }
        }
    }
}

/// A kernel's ELF bytes and where they came from.
#[derive(Clone, Debug)]
pub struct Unwrapped<'a> {
    /// The ELF file: borrowed when the input was one, else freshly unpacked.
    pub elf: Cow<'a, [u8]>,
    /// What the input was.
    pub format: Format,
    /// Size of the input in bytes.
    pub packed_size: usize,
}

/// Yields the ELF file in `bytes`, unpacking it if need be.
///
/// `limit` bounds the unpacked size in bytes. It is compared with the size that the image declares before anything is
/// allocated, and again with what really comes out. Memory used on the way: the output, and for xz and lzma the
/// dictionary, for zstd the window that the stream asks for, each bounded too (docs/design/0009-decompressors.md has figures).
pub fn unwrap(bytes: &[u8], limit: usize) -> Result<Unwrapped<'_>, ImageError> {
    let format = Format::detect(bytes)?;
    let packed_size = bytes.len();
    let elf = match stream(&format, bytes.into(), limit)? {
        None => Cow::Borrowed(bytes),
        Some(stream) => Cow::Owned(unpacked(&format, stream.run()?)?),
    };
    Ok(Unwrapped { elf, format, packed_size })
}

/// The compressed stream in a kernel file of this format, if there is one.
fn stream<'a>(format: &Format, bytes: Source<'a>, limit: usize) -> Result<Option<Stream<'a>>, ImageError> {
    match format {
        Format::Elf => Ok(None),
        Format::Compressed(compression) => Stream::file(*compression, bytes, limit, 0).map(Some),
        Format::BzImage { compression, payload, .. } => {
            Stream::linux_payload(*compression, bytes.part(payload.clone()), limit).map(Some)
        }
    }
}

/// What has come out, which has to be an ELF file.
fn unpacked(format: &Format, elf: Vec<u8>) -> Result<Vec<u8>, ImageError> {
    if elf.starts_with(ELF_MAGIC) {
        return Ok(elf);
    }
    let start = elf.iter().take(4).copied().collect();
    Err(ImageError::NotElfInside { format: format.clone(), start })
}

/// A packed kernel that is unpacked in steps, with other work in between. It keeps what it unpacks.
pub struct Unpacking {
    format: Format,
    stream: Stream<'static>,
}

impl Unpacking {
    /// Begins to unpack a kernel; `None` if it is an ELF file as it is. `limit` is that of [`unwrap`].
    pub fn new(bytes: Rc<Vec<u8>>, limit: usize) -> Result<Option<Self>, ImageError> {
        let format = Format::detect(&bytes)?;
        Ok(stream(&format, bytes.into(), limit)?.map(|stream| Self { format, stream }))
    }

    /// Unpacks about `budget` bytes more, in the units that the format has (8 MiB for lz4, less for all others), and a byte at least. Says
    /// whether that was all.
    ///
    /// After an error there is nothing to go on with.
    pub fn step(&mut self, budget: usize) -> Result<bool, ImageError> {
        self.stream.step(budget)
    }

    /// The ELF file, once all of it is there.
    pub fn into_elf(self) -> Result<Vec<u8>, ImageError> {
        unpacked(&self.format, self.stream.into_output())
    }
}

impl fmt::Debug for Unpacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Unpacking({})", self.format)
    }
}
