//! What a file that is not a CPIO archive seems to be, so that the error can say so.
use core::fmt;

/// What the first bytes of a file look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lookalike {
    /// A gzip stream.
    Gzip,
    /// An xz stream.
    Xz,
    /// A zstd frame.
    Zstd,
    /// An lz4 frame, of the current or the legacy kind.
    Lz4,
    /// A bzip2 stream.
    Bzip2,
    /// An .lzma stream.
    Lzma,
    /// An lzop file.
    Lzop,
    /// A CPIO archive in the old binary format, of either byte order.
    OldBinaryCpio,
    /// A tar archive.
    Tar,
    /// An ELF file: probably a kernel given in the RAM disk's place.
    Elf,
    /// Nothing that this crate knows; the first six bytes (fewer are filled up with zeros).
    Unknown([u8; 6]),
}

/// Magic numbers at offset 0.
const MAGICS: &[(&[u8], Lookalike)] = &[
    (&[0x1f, 0x8b], Lookalike::Gzip),
    (&[0xfd, b'7', b'z', b'X', b'Z', 0], Lookalike::Xz),
    (&[0x28, 0xb5, 0x2f, 0xfd], Lookalike::Zstd),
    (&[0x02, 0x21, 0x4c, 0x18], Lookalike::Lz4),
    (&[0x04, 0x22, 0x4d, 0x18], Lookalike::Lz4),
    (b"BZh", Lookalike::Bzip2),
    (&[0x5d, 0, 0], Lookalike::Lzma),
    (&[0x89, b'L', b'Z', b'O', 0], Lookalike::Lzop),
    (&[0xc7, 0x71], Lookalike::OldBinaryCpio),
    (&[0x71, 0xc7], Lookalike::OldBinaryCpio),
    (b"\x7fELF", Lookalike::Elf),
];

/// Where a tar header says "ustar".
const TAR_MAGIC_OFFSET: usize = 257;

impl Lookalike {
    /// What `bytes` look like, judged from their start.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        if let Some((_, what)) = MAGICS.iter().find(|(magic, _)| bytes.starts_with(magic)) {
            return *what;
        }
        if bytes.get(TAR_MAGIC_OFFSET..).is_some_and(|rest| rest.starts_with(b"ustar")) {
            return Self::Tar;
        }
        let mut start = [0; 6];
        for (to, from) in start.iter_mut().zip(bytes) {
            *to = *from;
        }
        Self::Unknown(start)
    }

    /// The name of the compression, if it is one.
    fn compression(self) -> Option<&'static str> {
        Some(match self {
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
            Self::Lz4 => "lz4",
            Self::Bzip2 => "bzip2",
            Self::Lzma => "lzma",
            Self::Lzop => "lzop",
            _ => return None,
        })
    }
}

impl fmt::Display for Lookalike {
    /// A sentence part that follows "the RAM disk is".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(compression) = self.compression() {
            return write!(f, "compressed with {compression}; pack it uncompressed");
        }
        match self {
            Self::OldBinaryCpio => {
                f.write_str("a CPIO archive in the old binary format; make it with `cpio -o -H newc`")
            }
            Self::Tar => f.write_str("a tar archive; make a CPIO archive with `cpio -o -H newc`"),
            Self::Elf => f.write_str("an ELF file, not an archive; check which module is the RAM disk"),
            Self::Unknown(start) => write!(
                f,
                "not a CPIO archive: it starts with \"{}\" where 070701, 070702 or 070707 is expected; \
                 make it with `domb pack` or `cpio -o -H newc`",
                start.escape_ascii()
            ),
            _ => f.write_str("not a CPIO archive"),
        }
    }
}
