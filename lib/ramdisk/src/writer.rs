//! Writing a RAM disk.
use crate::{Kind, MAX_ENTRIES, MAX_NAME_SIZE, NameFault, TRAILER, kind::PERMISSION_MASK, name};
use alloc::{collections::BTreeSet, format, string::String, vec::Vec};
use thiserror::Error;

/// Where the writer's bytes go: a `Vec<u8>`, or a closure that writes them on at once.
///
/// A sink cannot refuse; one that can fail keeps its first error and hands it out after [`Writer::finish`].
pub trait Sink {
    /// Takes the archive's next bytes.
    fn put(&mut self, bytes: &[u8]);
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

impl<F: FnMut(&[u8])> Sink for F {
    fn put(&mut self, bytes: &[u8]) {
        self(bytes);
    }
}

/// One entry to be written.
#[derive(Clone, Copy, Debug)]
pub struct Item<'a> {
    /// The name, relative to the archive's root.
    pub name: &'a str,
    /// What it is.
    pub kind: Kind,
    /// The lower twelve bits of the mode; higher bits are refused.
    pub permissions: u16,
    /// A file's data or a symbolic link's target; empty for every other kind.
    pub data: &'a [u8],
}

/// Writes a `newc` archive whose bytes depend on names, kinds, permissions, data and their order alone.
///
/// Time and owner are 0, inode numbers count from 1 in the order of writing, devices are 0. Entries stay in the order
/// in which they are given. Nothing is ever written that [`crate::Archive`] would refuse.
#[derive(Debug)]
pub struct Writer<S = Vec<u8>> {
    sink: S,
    names: BTreeSet<String>,
    /// Inode number of the last entry.
    last_inode: u32,
}

/// Why an entry cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum WriterError {
    /// The name cannot be used.
    #[error("cannot pack \"{}\": its name {fault}", .name.escape_debug())]
    BadName {
        /// The name.
        name: String,
        /// What is wrong with it.
        fault: NameFault,
    },
    /// The name is taken, or it is the one that ends an archive.
    #[error("cannot pack \"{}\": the name is already taken; give each file its own", .name.escape_debug())]
    NameTaken {
        /// The name.
        name: String,
    },
    /// The data is larger than the format's 32-bit size field can say.
    #[error("cannot pack \"{}\": its {size} bytes are more than the {} that CPIO can hold", .name.escape_debug(),
        u32::MAX)]
    TooLarge {
        /// The name.
        name: String,
        /// Size of the data in bytes.
        size: usize,
    },
    /// Data for something that has none.
    #[error("cannot pack \"{}\": a {kind} has no data, but {size} bytes were given", .name.escape_debug())]
    UnexpectedData {
        /// The name.
        name: String,
        /// What it is to be.
        kind: Kind,
        /// Size of the data in bytes.
        size: usize,
    },
    /// Permission bits that do not exist.
    #[error("cannot pack \"{}\": its permissions {permissions:#o} have bits above 0o7777", .name.escape_debug())]
    BadPermissions {
        /// The name.
        name: String,
        /// The permissions.
        permissions: u16,
    },
    /// The archive is full.
    #[error("cannot pack \"{}\": the archive already has {MAX_ENTRIES} entries, the most its reader takes",
        .name.escape_debug())]
    TooManyEntries {
        /// The name.
        name: String,
    },
}

/// The format's alignment of header, name and data in bytes.
const ALIGNMENT: usize = 4;
/// Size of a `newc` header in bytes.
const HEADER_SIZE: usize = 110;

impl Writer<Vec<u8>> {
    /// A writer into memory.
    pub fn new() -> Self {
        Self::into_sink(Vec::new())
    }
}

impl Default for Writer<Vec<u8>> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S: Sink> Writer<S> {
    /// A writer into `sink`.
    pub fn into_sink(sink: S) -> Self {
        Self { sink, names: BTreeSet::new(), last_inode: 0 }
    }

    /// Adds a regular file that everybody may read (mode 0644).
    pub fn file(&mut self, name: &str, data: &[u8]) -> Result<(), WriterError> {
        self.add(&Item { name, kind: Kind::File, permissions: 0o644, data })
    }

    /// Adds a directory (mode 0755). This crate's reader needs none; Linux does.
    pub fn directory(&mut self, name: &str) -> Result<(), WriterError> {
        self.add(&Item { name, kind: Kind::Directory, permissions: 0o755, data: &[] })
    }

    /// Adds any entry. When this fails nothing was written, and the writer goes on as if it had not been asked.
    pub fn add(&mut self, item: &Item<'_>) -> Result<(), WriterError> {
        let data_size = self.check(item)?;
        self.names.insert(item.name.into());
        self.last_inode = self.last_inode.saturating_add(1);
        let (major, minor) = item.kind.device_numbers();
        let header = Header {
            inode: self.last_inode,
            mode: item.kind.type_bits() | u32::from(item.permissions),
            links: if item.kind == Kind::Directory { 2 } else { 1 },
            data_size,
            major,
            minor,
        };
        self.put(&header, item.name, item.data);
        Ok(())
    }

    /// Ends the archive and gives the sink back.
    pub fn finish(mut self) -> S {
        self.put(&Header { links: 1, ..Header::default() }, TRAILER, &[]);
        self.sink
    }

    /// Refuses what the reader would refuse; the data's size as the header has it.
    fn check(&self, item: &Item<'_>) -> Result<u32, WriterError> {
        let name = || String::from(item.name);
        name::check(item.name).map_err(|fault| WriterError::BadName { name: name(), fault })?;
        if item.name == TRAILER || self.names.contains(item.name) {
            return Err(WriterError::NameTaken { name: name() });
        }
        if self.names.len() >= MAX_ENTRIES {
            return Err(WriterError::TooManyEntries { name: name() });
        }
        if u32::from(item.permissions) & !PERMISSION_MASK != 0 {
            return Err(WriterError::BadPermissions { name: name(), permissions: item.permissions });
        }
        let size = item.data.len();
        if size != 0 && !item.kind.has_content() {
            return Err(WriterError::UnexpectedData { name: name(), kind: item.kind, size });
        }
        u32::try_from(size).map_err(|_| WriterError::TooLarge { name: name(), size })
    }

    fn put(&mut self, header: &Header, name: &str, data: &[u8]) {
        // The name was checked to be shorter than MAX_NAME_SIZE.
        let name_size = name.len().saturating_add(1);
        self.sink.put(header.text(name_size.min(MAX_NAME_SIZE)).as_bytes());
        self.sink.put(name.as_bytes());
        self.sink.put(&[0]);
        self.pad(HEADER_SIZE.saturating_add(name_size));
        self.sink.put(data);
        self.pad(data.len());
    }

    /// Fills up with zeros what `size` bytes lack to a multiple of the alignment.
    fn pad(&mut self, size: usize) {
        let over = size.checked_rem(ALIGNMENT).unwrap_or(0);
        let missing = ALIGNMENT.saturating_sub(over).checked_rem(ALIGNMENT).unwrap_or(0);
        self.sink.put([0u8; ALIGNMENT].get(..missing).unwrap_or_default());
    }
}

/// The fields of a header that are not always the same.
#[derive(Default)]
struct Header {
    inode: u32,
    mode: u32,
    links: u32,
    data_size: u32,
    major: u32,
    minor: u32,
}

impl Header {
    /// The header's bytes; owner, time, device and checksum are 0.
    fn text(&self, name_size: usize) -> String {
        let Self { inode, mode, links, data_size, major, minor } = self;
        let zero = 0;
        format!(
            "070701{inode:08x}{mode:08x}{zero:08x}{zero:08x}{links:08x}{zero:08x}{data_size:08x}{zero:08x}{zero:08x}\
             {major:08x}{minor:08x}{name_size:08x}{zero:08x}"
        )
    }
}
