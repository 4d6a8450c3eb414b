//! Fields that are bytes, copied as a whole.
//!
//! serde takes a `Vec<u8>` for a list of numbers, each of which is encoded and decoded by itself. Its form on the wire is that of bytes:
//! the length, and then what it counts. Parts of images are large enough for the difference to be most of the time that they take.

use alloc::vec::Vec;
use core::fmt;

use serde::de::{Error, SeqAccess, Visitor};
use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The bytes of a field, on their way out.
struct Borrowed<'b>(&'b [u8]);

impl Serialize for Borrowed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

/// The bytes of a field, on their way in.
struct Owned(Vec<u8>);

impl<'de> Deserialize<'de> for Owned {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_byte_buf(BytesVisitor).map(Self)
    }
}

struct BytesVisitor;

impl Visitor<'_> for BytesVisitor {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        Ok(bytes.to_vec())
    }

    fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
        Ok(bytes)
    }
}

/// For `#[serde(with = "bytes")]` on a `Vec<u8>`.
pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    Borrowed(bytes).serialize(serializer)
}

/// The counterpart of [`serialize`].
pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    Owned::deserialize(deserializer).map(|Owned(bytes)| bytes)
}

/// For `#[serde(with = "bytes::list")]` on a `Vec<Vec<u8>>`.
pub(super) mod list {
    use super::{Borrowed, Deserializer, Owned, SeqAccess, SerializeSeq, Serializer, Vec, Visitor, fmt};

    pub(in super::super) fn serialize<S: Serializer>(
        list: &[Vec<u8>],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let mut sequence = serializer.serialize_seq(Some(list.len()))?;
        list.iter().try_for_each(|bytes| sequence.serialize_element(&Borrowed(bytes)))?;
        sequence.end()
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<Vec<u8>>, D::Error> {
        deserializer.deserialize_seq(ListVisitor)
    }

    struct ListVisitor;

    impl<'de> Visitor<'de> for ListVisitor {
        type Value = Vec<Vec<u8>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of bytes")
        }

        /// Nothing is set aside for the length that the sender promises: it may lie.
        fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
            let mut list = Vec::new();
            while let Some(Owned(bytes)) = sequence.next_element()? {
                list.push(bytes);
            }
            Ok(list)
        }
    }
}
