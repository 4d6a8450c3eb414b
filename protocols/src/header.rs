//! The header that stands before the body of a format: sixteen bytes, little endian.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 8 | magic |
//! | 8 | 2 | format version |
//! | 10 | 2 | reserved, 0 |
//! | 12 | 4 | length of the body in bytes |

use alloc::vec::Vec;

use thiserror::Error;

/// Bytes of a header.
pub const HEADER_LEN: usize = 16;

/// What the header of one format says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The first eight bytes.
    pub magic: [u8; 8],
    /// The only version that is written and read.
    pub version: u16,
    /// The longest body in bytes.
    pub max_body_len: usize,
}

/// Why bytes do not begin with the header that was looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HeaderError {
    /// Fewer bytes than a header, or fewer than the header promises.
    #[error("{have} bytes, {need} needed: it is cut short")]
    Truncated {
        /// Bytes that are there.
        have: usize,
        /// Bytes that the header or the format asks for.
        need: usize,
    },
    /// Another magic.
    #[error("it starts with {found:02x?}: it is something else")]
    BadMagic {
        /// The bytes found.
        found: [u8; 8],
    },
    /// A version that this program does not read.
    #[error(
        "format version {found}, this program reads version {known}: make it with the domb of the same release"
    )]
    UnknownVersion {
        /// The version in the header.
        found: u16,
        /// The version that is read.
        known: u16,
    },
    /// The reserved field is set.
    #[error("the header's reserved field is {found:#06x}, must be 0: it is corrupt")]
    ReservedNotZero {
        /// The value found.
        found: u16,
    },
    /// The header promises a longer body than there is any.
    #[error("a body of {length} bytes, at most {most} are allowed: it is corrupt")]
    BodyTooLong {
        /// The length in the header, or that encoding would need.
        length: usize,
        /// The longest.
        most: usize,
    },
    /// Bytes follow the body.
    #[error("{count} bytes follow its end: it is corrupt, or two were joined")]
    TrailingBytes {
        /// How many.
        count: usize,
    },
}

impl Header {
    /// `body` behind its header.
    pub fn wrap(self, body: &[u8]) -> Result<Vec<u8>, HeaderError> {
        let too_long = HeaderError::BodyTooLong { length: body.len(), most: self.max_body_len };
        let length = u32::try_from(body.len()).ok().filter(|_| body.len() <= self.max_body_len);
        let length = length.ok_or(too_long)?;
        let mut bytes = Vec::with_capacity(HEADER_LEN.saturating_add(body.len()));
        bytes.extend_from_slice(&self.magic);
        bytes.extend_from_slice(&self.version.to_le_bytes());
        bytes.extend_from_slice(&0_u16.to_le_bytes());
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(body);
        Ok(bytes)
    }

    /// The body behind the header, which is all that follows it.
    pub fn unwrap(self, bytes: &[u8]) -> Result<&[u8], HeaderError> {
        let truncated = |need| HeaderError::Truncated { have: bytes.len(), need };
        let (magic, rest) = bytes.split_first_chunk::<8>().ok_or(truncated(HEADER_LEN))?;
        if *magic != self.magic {
            return Err(HeaderError::BadMagic { found: *magic });
        }
        let (version, rest) = rest.split_first_chunk::<2>().ok_or(truncated(HEADER_LEN))?;
        let (reserved, rest) = rest.split_first_chunk::<2>().ok_or(truncated(HEADER_LEN))?;
        let (length, body) = rest.split_first_chunk::<4>().ok_or(truncated(HEADER_LEN))?;
        let version = u16::from_le_bytes(*version);
        if version != self.version {
            return Err(HeaderError::UnknownVersion { found: version, known: self.version });
        }
        let reserved = u16::from_le_bytes(*reserved);
        if reserved != 0 {
            return Err(HeaderError::ReservedNotZero { found: reserved });
        }
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        if length > self.max_body_len {
            return Err(HeaderError::BodyTooLong { length, most: self.max_body_len });
        }
        match body.len().checked_sub(length) {
            None => Err(truncated(HEADER_LEN.saturating_add(length))),
            Some(0) => Ok(body),
            Some(count) => Err(HeaderError::TrailingBytes { count }),
        }
    }
}
