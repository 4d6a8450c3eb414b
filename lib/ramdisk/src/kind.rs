//! What an entry is.
use core::fmt;

/// The type of an entry, from the type bits of its mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file; the only kind with data.
    File,
    /// A directory.
    Directory,
    /// A symbolic link; this crate never follows it.
    Symlink,
    /// A character device node.
    CharDevice {
        /// Major device number.
        major: u32,
        /// Minor device number.
        minor: u32,
    },
    /// A block device node.
    BlockDevice {
        /// Major device number.
        major: u32,
        /// Minor device number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
    /// A Unix socket.
    Socket,
}

/// The bits of `mode` that hold the type.
pub(crate) const TYPE_MASK: u32 = 0o170_000;
/// The bits of `mode` that hold permissions, set-id and sticky bits.
pub(crate) const PERMISSION_MASK: u32 = 0o7777;

impl Kind {
    /// The kind that `mode` and the device numbers `(major, minor)` describe, if it is one.
    pub(crate) fn from_mode(mode: u32, (major, minor): (u32, u32)) -> Option<Self> {
        Some(match mode & TYPE_MASK {
            0o100_000 => Self::File,
            0o040_000 => Self::Directory,
            0o120_000 => Self::Symlink,
            0o020_000 => Self::CharDevice { major, minor },
            0o060_000 => Self::BlockDevice { major, minor },
            0o010_000 => Self::Fifo,
            0o140_000 => Self::Socket,
            _ => return None,
        })
    }

    /// The type bits of a mode of this kind.
    pub(crate) fn type_bits(self) -> u32 {
        match self {
            Self::File => 0o100_000,
            Self::Directory => 0o040_000,
            Self::Symlink => 0o120_000,
            Self::CharDevice { .. } => 0o020_000,
            Self::BlockDevice { .. } => 0o060_000,
            Self::Fifo => 0o010_000,
            Self::Socket => 0o140_000,
        }
    }

    /// The device numbers `(major, minor)`; zero for everything that is not a device.
    pub(crate) fn device_numbers(self) -> (u32, u32) {
        match self {
            Self::CharDevice { major, minor } | Self::BlockDevice { major, minor } => (major, minor),
            _ => (0, 0),
        }
    }

    /// Whether the format stores bytes with this kind: a file's content, a link's target.
    pub(crate) fn has_content(self) -> bool {
        matches!(self, Self::File | Self::Symlink)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File => f.write_str("regular file"),
            Self::Directory => f.write_str("directory"),
            Self::Symlink => f.write_str("symbolic link"),
            Self::CharDevice { major, minor } => write!(f, "character device {major}:{minor}"),
            Self::BlockDevice { major, minor } => write!(f, "block device {major}:{minor}"),
            Self::Fifo => f.write_str("named pipe"),
            Self::Socket => f.write_str("socket"),
        }
    }
}
