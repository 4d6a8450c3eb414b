//! The header, and putting messages together from a stream of bytes.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | magic, [`MAGIC`] |
//! | 4 | 2 | version, [`VERSION`] |
//! | 6 | 2 | kind, [`Kind`] |
//! | 8 | 4 | number of the request, 0 in notices |
//! | 12 | 4 | length of the body in bytes, at most [`MAX_BODY_LEN`] |
//! | 16 | | body |

use alloc::vec;
use alloc::vec::Vec;

use postcard::ser_flavors::Flavor;
use serde::Serialize;

use super::MessageError;

/// The first four bytes of every message.
pub const MAGIC: [u8; 4] = *b"DBMG";
/// The version that this crate speaks.
pub const VERSION: u16 = 1;
/// Bytes before the body.
pub const HEADER_LEN: usize = 16;
/// The longest body: 64 KiB, twice what the longest message of today needs.
pub const MAX_BODY_LEN: usize = 64 << 10;

/// What a message is. The numbers are the wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Kind {
    /// A [`ServerRequest`](super::ServerRequest).
    ServerRequest = 1,
    /// A [`ServerReply`](super::ServerReply).
    ServerReply = 2,
    /// A [`ServerNotice`](super::ServerNotice).
    ServerNotice = 3,
    /// A [`ControlRequest`](super::ControlRequest).
    ControlRequest = 4,
    /// A [`ControlReply`](super::ControlReply).
    ControlReply = 5,
    /// A [`ControlNotice`](super::ControlNotice).
    ControlNotice = 6,
}

impl Kind {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 6] = [
        Self::ServerRequest,
        Self::ServerReply,
        Self::ServerNotice,
        Self::ControlRequest,
        Self::ControlReply,
        Self::ControlNotice,
    ];

    /// Whether it comes without having been asked for, so that it has no number.
    const fn is_notice(self) -> bool {
        matches!(self, Self::ServerNotice | Self::ControlNotice)
    }

    fn from_number(number: u16) -> Result<Self, MessageError> {
        let found = Self::ALL.into_iter().find(|kind| *kind as u16 == number);
        found.ok_or(MessageError::UnknownKind { found: number })
    }
}

/// A message whose body has not been looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub kind: Kind,
    /// The number of the request that it is or answers.
    pub id: u32,
    /// The body.
    pub body: Vec<u8>,
}

/// The bytes of a message, whose body is encoded behind the room for its header.
pub(super) fn encode<T: Serialize>(kind: Kind, id: u32, message: &T) -> Result<Vec<u8>, MessageError> {
    check_number(kind, id)?;
    let encoded = postcard::serialize_with_flavor(message, Behind(vec![0; HEADER_LEN]));
    let mut bytes = encoded.map_err(|cause| MessageError::Encode { cause })?;
    let length = bytes.len().saturating_sub(HEADER_LEN);
    let too_long = MessageError::BodyTooLong { length };
    let length = u32::try_from(length).ok().filter(|_| length <= MAX_BODY_LEN).ok_or(too_long)?;
    if let Some(header) = bytes.first_chunk_mut() {
        *header = encode_header(kind, id, length);
    }
    Ok(bytes)
}

/// The encoding of a message, behind what there is.
struct Behind(Vec<u8>);

impl Flavor for Behind {
    type Output = Vec<u8>;

    fn try_extend(&mut self, data: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(data);
        Ok(())
    }

    fn try_push(&mut self, data: u8) -> postcard::Result<()> {
        self.0.push(data);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<Vec<u8>> {
        Ok(self.0)
    }
}

/// Whether `body` is what `message` is encoded as. Nothing is written for it: the two are compared as the encoding comes about.
pub(super) fn is_encoding<T: Serialize>(message: &T, body: &[u8]) -> bool {
    postcard::serialize_with_flavor(message, Compared(body)).is_ok()
}

/// What is left of a body that an encoding is compared with; the first difference is an error.
struct Compared<'b>(&'b [u8]);

impl Flavor for Compared<'_> {
    type Output = ();

    fn try_extend(&mut self, data: &[u8]) -> postcard::Result<()> {
        self.0 = self.0.strip_prefix(data).ok_or(postcard::Error::SerializeBufferFull)?;
        Ok(())
    }

    fn try_push(&mut self, data: u8) -> postcard::Result<()> {
        self.try_extend(&[data])
    }

    fn finalize(self) -> postcard::Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(postcard::Error::SerializeBufferFull) }
    }
}

/// What of a stream has arrived and is not a whole message yet: never more than one message.
///
/// After an error there is no telling where the next message begins: the channel has to be closed. The error is then given
/// again for ever.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    /// The header as far as it is there, at most [`HEADER_LEN`] bytes.
    header: Vec<u8>,
    /// The body as far as it is there.
    body: Vec<u8>,
    failed: Option<MessageError>,
}

impl Stream {
    /// Nothing has arrived yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes from the front of `bytes`, and a message once it is whole. To be called until `bytes` is empty.
    pub fn take(&mut self, bytes: &mut &[u8]) -> Result<Option<Frame>, MessageError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let result = self.advance(bytes);
        if let Err(error) = &result {
            self.failed = Some(error.clone());
            (self.header, self.body) = (Vec::new(), Vec::new());
        }
        result
    }

    /// Whether the stream stops between two messages: at its end, anything else is a message cut short.
    pub fn is_between_messages(&self) -> bool {
        self.header.is_empty() && self.failed.is_none()
    }

    fn advance(&mut self, bytes: &mut &[u8]) -> Result<Option<Frame>, MessageError> {
        fill(&mut self.header, bytes, HEADER_LEN);
        let Some(header) = self.header.first_chunk::<HEADER_LEN>() else { return Ok(None) };
        let (kind, id, length) = decode_header(header)?;
        if self.body.capacity() < length {
            self.body.reserve_exact(length.saturating_sub(self.body.len()));
        }
        fill(&mut self.body, bytes, length);
        if self.body.len() < length {
            return Ok(None);
        }
        self.header.clear();
        Ok(Some(Frame { kind, id, body: core::mem::take(&mut self.body) }))
    }
}

/// Equal notices have equal bytes, as all other messages have: the number of each is 0.
fn check_number(kind: Kind, id: u32) -> Result<(), MessageError> {
    if kind.is_notice() && id != 0 { Err(MessageError::NumberedNotice { kind, id }) } else { Ok(()) }
}

/// Moves bytes over from the front of `bytes` until `buffer` has `wanted`.
fn fill(buffer: &mut Vec<u8>, bytes: &mut &[u8], wanted: usize) {
    let missing = wanted.saturating_sub(buffer.len());
    let (now, later) = bytes.split_at(missing.min(bytes.len()));
    buffer.extend_from_slice(now);
    *bytes = later;
}

/// A header.
fn encode_header(kind: Kind, id: u32, length: u32) -> [u8; HEADER_LEN] {
    let [m0, m1, m2, m3] = MAGIC;
    let [v0, v1] = VERSION.to_le_bytes();
    let [k0, k1] = (kind as u16).to_le_bytes();
    let [i0, i1, i2, i3] = id.to_le_bytes();
    let [l0, l1, l2, l3] = length.to_le_bytes();
    [m0, m1, m2, m3, v0, v1, k0, k1, i0, i1, i2, i3, l0, l1, l2, l3]
}

/// Kind, number and length of the body.
fn decode_header(header: &[u8; HEADER_LEN]) -> Result<(Kind, u32, usize), MessageError> {
    let [m0, m1, m2, m3, v0, v1, k0, k1, i0, i1, i2, i3, l0, l1, l2, l3] = *header;
    let found = [m0, m1, m2, m3];
    if found != MAGIC {
        return Err(MessageError::BadMagic { found });
    }
    let version = u16::from_le_bytes([v0, v1]);
    if version != VERSION {
        return Err(MessageError::UnknownVersion { found: version });
    }
    let kind = Kind::from_number(u16::from_le_bytes([k0, k1]))?;
    let length = usize::try_from(u32::from_le_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
    if length > MAX_BODY_LEN {
        return Err(MessageError::BodyTooLong { length });
    }
    let id = u32::from_le_bytes([i0, i1, i2, i3]);
    check_number(kind, id)?;
    Ok((kind, id, length))
}
