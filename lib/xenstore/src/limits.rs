//! What a store keeps at most for those that it serves.

/// Bounds for each domain without privilege. What goes beyond one is refused ([`StoreError::Full`](crate::StoreError::Full)), but for news that are
/// not read, which end the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Nodes that it owns.
    pub nodes: usize,
    /// Bytes of paths and values of all nodes together, when it adds to them; of its watches; and of the paths that one of its
    /// transactions changes: each of the three for itself.
    pub bytes: usize,
    /// Watches. A Linux with a few devices has about twenty.
    pub watches: usize,
    /// Transactions that it has open at once, each of which has a copy of the nodes.
    pub transactions: usize,
    /// Bytes of news that wait for it, come whether it asks or not.
    pub news: usize,
}

impl Limits {
    /// For a store that all VMs of a platform share, in a VM of its own.
    pub const SHARED: Self =
        Self { nodes: 1000, bytes: 4 << 20, watches: 128, transactions: 5, news: 256 << 10 };

    /// For a store that one VM has for itself: with all that it can be made to keep, an eighth of a megabyte.
    pub const SINGLE: Self =
        Self { nodes: 256, bytes: 16 << 10, watches: 64, transactions: 2, news: 32 << 10 };
}
