//! Where packed bytes are.
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::ops::Range;

/// Packed bytes: somebody else's, or shared with others who keep them, so that unpacking can be left alone and gone on with.
#[derive(Clone, Debug)]
pub(crate) struct Source<'a> {
    bytes: Bytes<'a>,
    range: Range<usize>,
}

#[derive(Clone, Debug)]
enum Bytes<'a> {
    Borrowed(&'a [u8]),
    Shared(Rc<Vec<u8>>),
}

impl Source<'_> {
    /// All of it.
    pub(crate) fn bytes(&self) -> &[u8] {
        let all = match &self.bytes {
            Bytes::Borrowed(bytes) => bytes,
            Bytes::Shared(bytes) => bytes.as_slice(),
        };
        all.get(self.range.clone()).unwrap_or_default()
    }

    /// What is there from `position` on; nothing beyond the end.
    pub(crate) fn rest(&self, position: usize) -> &[u8] {
        self.bytes().get(position..).unwrap_or_default()
    }

    /// The same bytes, but for those outside of `range`.
    pub(crate) fn part(mut self, range: Range<usize>) -> Self {
        let start = self.range.start.saturating_add(range.start);
        let end = self.range.start.saturating_add(range.end).min(self.range.end);
        self.range = start.min(end)..end;
        self
    }
}

impl<'a> From<&'a [u8]> for Source<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self { bytes: Bytes::Borrowed(bytes), range: 0..bytes.len() }
    }
}

impl From<Rc<Vec<u8>>> for Source<'_> {
    fn from(bytes: Rc<Vec<u8>>) -> Self {
        let range = 0..bytes.len();
        Self { bytes: Bytes::Shared(bytes), range }
    }
}
