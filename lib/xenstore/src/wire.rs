//! Messages: a header of four words, and a payload of at most 4096 bytes.

use alloc::vec::Vec;

/// The longest payload (`XENSTORE_PAYLOAD_MAX`).
pub const MAX_PAYLOAD: usize = 4096;

/// Bytes of a header.
const HEADER: usize = 16;

/// Declares the kinds of messages with their numbers (`enum xsd_sockmsg_type`).
macro_rules! kinds {
    ($($name:ident = $number:literal, $text:literal;)*) => {
        /// What a message asks for or tells. An answer has the kind of its request.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind {
            $(#[doc = $text] $name,)*
            /// One that is not served here.
            Other(u32),
        }

        impl Kind {
            /// The number in the header.
            pub const fn raw(self) -> u32 {
                match self {
                    $(Self::$name => $number,)*
                    Self::Other(raw) => raw,
                }
            }

            /// The kind with a number.
            pub const fn from_raw(raw: u32) -> Self {
                match raw {
                    $($number => Self::$name,)*
                    other => Self::Other(other),
                }
            }
        }
    };
}

kinds! {
    Directory = 1, "The names in a directory.";
    Read = 2, "A value.";
    GetPerms = 3, "Who may do what with a node.";
    Watch = 4, "To be told of changes.";
    Unwatch = 5, "Not any more.";
    TransactionStart = 6, "A transaction: what is done in it is seen by others together, or not at all.";
    TransactionEnd = 7, "Its end.";
    Introduce = 8, "A domain that is to be served.";
    Release = 9, "One that is not any more.";
    GetDomainPath = 10, "Where a domain's own nodes are.";
    Write = 11, "A new value.";
    Mkdir = 12, "A node that is to be there.";
    Remove = 13, "A node that is not, nor any below it.";
    SetPerms = 14, "Who may do what.";
    WatchEvent = 15, "News of a change.";
    Error = 16, "Why a request was refused.";
    IsIntroduced = 17, "Whether a domain is served.";
    ResetWatches = 21, "No watches and transactions any more.";
}

/// The header of a message (`struct xsd_sockmsg`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What it is.
    pub kind: Kind,
    /// The sender's number of a request, repeated in its answer.
    pub request: u32,
    /// The transaction that it belongs to; 0 for none.
    pub transaction: u32,
    /// Bytes of payload.
    pub length: u32,
}

/// A whole message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its header; the length is that of the payload.
    pub header: Header,
    /// Its payload, at most [`MAX_PAYLOAD`] bytes.
    pub payload: Vec<u8>,
}

impl Message {
    /// A message; what a payload has beyond [`MAX_PAYLOAD`] is not in it.
    pub fn new(kind: Kind, request: u32, transaction: u32, mut payload: Vec<u8>) -> Self {
        payload.truncate(MAX_PAYLOAD);
        let length = u32::try_from(payload.len()).unwrap_or(0);
        Self { header: Header { kind, request, transaction, length }, payload }
    }

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let Header { kind, request, transaction, length } = self.header;
        let mut bytes = Vec::with_capacity(HEADER + self.payload.len());
        for word in [kind.raw(), request, transaction, length] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.extend_from_slice(&self.payload);
        bytes
    }
}

/// Puts messages together from bytes as they come.
#[derive(Debug, Default)]
pub struct Reader {
    bytes: Vec<u8>,
}

impl Reader {
    /// How many more bytes it takes now: those of a message, and no more.
    pub fn room(&self) -> usize {
        (HEADER + MAX_PAYLOAD).saturating_sub(self.bytes.len())
    }

    /// Takes bytes, of which there are at most [`room`](Self::room).
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole message; `Ok(None)` until it is there. An error is for a length that no message has: what follows cannot be
    /// read any more.
    pub fn take_message(&mut self) -> Result<Option<Message>, u32> {
        let word = |index: usize| {
            let bytes = self.bytes.get(index * 4..)?.first_chunk()?;
            Some(u32::from_le_bytes(*bytes))
        };
        let (Some(kind), Some(request), Some(transaction), Some(length)) =
            (word(0), word(1), word(2), word(3))
        else {
            return Ok(None);
        };
        let size = usize::try_from(length).ok().filter(|length| *length <= MAX_PAYLOAD).ok_or(length)?;
        if self.bytes.len() < HEADER + size {
            return Ok(None);
        }
        let rest = self.bytes.split_off(HEADER + size);
        let payload = core::mem::replace(&mut self.bytes, rest).split_off(HEADER);
        Ok(Some(Message::new(Kind::from_raw(kind), request, transaction, payload)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_the_bytes_of_the_header_file() {
        let message = Message::new(Kind::Read, 7, 0x102, b"name\0".to_vec());
        let bytes = message.encode();
        assert_eq!(bytes, *b"\x02\0\0\0\x07\0\0\0\x02\x01\0\0\x05\0\0\0name\0");
        let mut reader = Reader::default();
        for byte in &bytes {
            assert_eq!(reader.take_message(), Ok(None));
            reader.push(&[*byte]);
        }
        assert_eq!(reader.take_message(), Ok(Some(message)));
        assert_eq!((reader.take_message(), reader.room()), (Ok(None), HEADER + MAX_PAYLOAD));
    }

    #[test]
    fn a_length_that_no_message_has_is_an_error() {
        let mut reader = Reader::default();
        reader.push(&[[2, 0, 0, 0], [0; 4], [0; 4], [1, 0x10, 0, 0]].concat());
        assert_eq!(reader.take_message(), Err(4097));
    }

    #[test]
    fn kinds_have_their_numbers() {
        for raw in 0..30 {
            assert_eq!(Kind::from_raw(raw).raw(), raw);
        }
        assert_eq!((Kind::Write.raw(), Kind::Error.raw(), Kind::ResetWatches.raw()), (11, 16, 21));
    }
}
