//! Where a channel's bytes are.

use hypercall::SharedMemory;

/// The pages of a channel: the shared page, then those of the left ring, then those of the right.
pub trait Memory {
    /// A page.
    type Page: SharedMemory;

    /// Page `index`; `None` beyond the last.
    fn page(&self, index: usize) -> Option<&Self::Page>;
}
