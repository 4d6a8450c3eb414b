//! The archive as a whole.
use crate::{
    Kind, Lookalike, MAX_ENTRIES, NameFault, RamdiskError, TRAILER,
    frame::{Format, Frame, peek},
    kind::{PERMISSION_MASK, TYPE_MASK},
    name, near,
};
use alloc::{collections::BTreeMap, string::String, vec::Vec};

/// A RAM disk that was understood to its last byte.
#[derive(Clone, Debug)]
pub struct Archive<'a> {
    entries: Vec<Entry<'a>>,
    /// Index into `entries` of each name. Of a directory that is there twice, the first.
    by_name: BTreeMap<&'a str, usize>,
    archives: usize,
}

/// One entry of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    name: &'a str,
    kind: Kind,
    permissions: u16,
    content: &'a [u8],
    offset: usize,
    data_offset: usize,
    format: Format,
}

impl<'a> Entry<'a> {
    /// The name, without a leading `./`.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// What the entry is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The lower twelve bits of its mode.
    pub fn permissions(&self) -> u16 {
        self.permissions
    }

    /// A regular file's content; empty for every other kind.
    pub fn data(&self) -> &'a [u8] {
        if self.kind == Kind::File { self.content } else { &[] }
    }

    /// A symbolic link's target, as stored and unchecked; nothing for every other kind.
    pub fn link_target(&self) -> Option<&'a [u8]> {
        (self.kind == Kind::Symlink).then_some(self.content)
    }

    /// Offset of the entry's header from the archive's start, in bytes.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Offset of the entry's data from the archive's start, in bytes. For a hard link whose data is stored with
    /// another name: there.
    pub fn data_offset(&self) -> usize {
        self.data_offset
    }

    /// The format this entry is stored in; concatenated archives may differ.
    pub fn format(&self) -> Format {
        self.format
    }
}

impl<'a> Archive<'a> {
    /// Reads a whole RAM disk: one archive, or several with zeros between them.
    ///
    /// Everything is checked: each header's digits, sizes, padding and name, each checksum of a `crc` archive, that
    /// a trailer closes each archive and that nothing but zeros follows it, that no name is there twice.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, RamdiskError> {
        if bytes.is_empty() {
            return Err(RamdiskError::Empty);
        }
        let Some(mut format) = Format::detect(bytes) else { return Err(not_cpio(bytes)) };
        let mut reader = Reader::new(bytes);
        loop {
            reader.read_one_archive(format)?;
            match reader.next_archive()? {
                Some(next) => format = next,
                None => return Ok(reader.archive),
            }
        }
    }

    /// All entries in the order of the archive, trailers left out.
    pub fn entries(&self) -> &[Entry<'a>] {
        &self.entries
    }

    /// How many archives were concatenated.
    pub fn archives(&self) -> usize {
        self.archives
    }

    /// The entry of this name; a leading `./` does not matter.
    pub fn entry(&self, name: &str) -> Option<&Entry<'a>> {
        self.entries.get(*self.by_name.get(name::normalise(name))?)
    }

    /// The content of the regular file of this name.
    ///
    /// The error lists names that may be meant, or says what the entry is if it is not a regular file.
    pub fn file(&self, name: &str) -> Result<&'a [u8], RamdiskError> {
        let Some(entry) = self.entry(name) else {
            let files = self.entries.iter().filter(|entry| entry.kind == Kind::File).map(|entry| entry.name);
            return Err(RamdiskError::NotFound { name: name.into(), near: near::near(name, files) });
        };
        match entry.kind {
            Kind::File => Ok(entry.content),
            kind => Err(RamdiskError::NotAFile { name: name.into(), offset: entry.offset, kind }),
        }
    }
}

/// What to say about bytes that do not start with a CPIO header.
fn not_cpio(bytes: &[u8]) -> RamdiskError {
    if bytes.iter().all(|byte| *byte == 0) {
        RamdiskError::AllZero { len: bytes.len() }
    } else if bytes.len() < 6
        && ["070701", "070702", "070707"].iter().any(|m| m.as_bytes().starts_with(bytes))
    {
        RamdiskError::NoTrailer { len: bytes.len(), after: String::new() }
    } else {
        RamdiskError::NotCpio { found: Lookalike::of(bytes) }
    }
}

/// The identity of a file with several names: archive, device (major, minor) and inode.
type LinkId = (usize, u32, u32, u32);

/// An archive while it is being read.
struct Reader<'a> {
    bytes: &'a [u8],
    /// Offset of the next unread byte.
    position: usize,
    /// Name of the entry before `position`.
    last: &'a str,
    archive: Archive<'a>,
    /// Files with several names in the archive being read. `newc` stores the content with one name only.
    links: Vec<(LinkId, usize)>,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        let archive = Archive { entries: Vec::new(), by_name: BTreeMap::new(), archives: 0 };
        Self { bytes, position: 0, last: "", archive, links: Vec::new() }
    }

    /// Reads entries, the first of which has format `format`, up to a trailer.
    fn read_one_archive(&mut self, format: Format) -> Result<(), RamdiskError> {
        let mut format = format;
        loop {
            let frame = Frame::read(self.bytes, self.position, format)?;
            self.position = frame.end;
            self.last = frame.name;
            if frame.name == TRAILER {
                return self.close(&frame);
            }
            self.add(&frame)?;
            if self.position >= self.bytes.len() {
                return Err(RamdiskError::NoTrailer { len: self.bytes.len(), after: self.last.into() });
            }
            format = self.expect_header()?;
        }
    }

    /// Looks behind a trailer: the format of a further archive, or nothing if only zeros are left.
    fn next_archive(&mut self) -> Result<Option<Format>, RamdiskError> {
        let rest = self.bytes.get(self.position..).unwrap_or_default();
        let Some(zeros) = rest.iter().position(|byte| *byte != 0) else { return Ok(None) };
        self.position = self.position.saturating_add(zeros);
        let aligned = self.position.is_multiple_of(4);
        let format = self.expect_header()?;
        // Linux asks for the alignment of every header; odc, which Linux does not read, has none.
        if aligned || format == Format::Odc { Ok(Some(format)) } else { Err(self.lost_track()) }
    }

    fn expect_header(&self) -> Result<Format, RamdiskError> {
        let rest = self.bytes.get(self.position..).unwrap_or_default();
        Format::detect(rest).ok_or_else(|| self.lost_track())
    }

    fn lost_track(&self) -> RamdiskError {
        let found = peek(self.bytes, self.position);
        RamdiskError::LostTrack { offset: self.position, after: self.last.into(), found }
    }

    /// Ends the archive at its trailer.
    fn close(&mut self, trailer: &Frame<'a>) -> Result<(), RamdiskError> {
        if !trailer.data.is_empty() {
            return Err(RamdiskError::UnexpectedData {
                entry: TRAILER.into(),
                offset: trailer.offset,
                kind: "trailer".into(),
                size: trailer.data.len(),
            });
        }
        self.archive.archives = self.archive.archives.saturating_add(1);
        self.resolve_links();
        Ok(())
    }

    fn add(&mut self, frame: &Frame<'a>) -> Result<(), RamdiskError> {
        let index = self.archive.entries.len();
        if index >= MAX_ENTRIES {
            return Err(RamdiskError::TooManyEntries { offset: frame.offset });
        }
        let (entry, link) = decode(frame)?;
        match self.archive.by_name.get(entry.name).and_then(|index| self.archive.entries.get(*index)) {
            Some(first) if (first.kind, entry.kind) != (Kind::Directory, Kind::Directory) => {
                return Err(RamdiskError::Duplicate {
                    entry: entry.name.into(),
                    first: first.offset,
                    second: entry.offset,
                });
            }
            Some(_) => {}
            None => {
                self.archive.by_name.insert(entry.name, index);
            }
        }
        if let Some((major, minor, ino)) = link {
            self.links.push(((self.archive.archives, major, minor, ino), index));
        }
        self.archive.entries.push(entry);
        Ok(())
    }

    /// Gives the content of a file with several names to each of them.
    fn resolve_links(&mut self) {
        let mut links = core::mem::take(&mut self.links);
        links.sort_unstable();
        for group in links.chunk_by(|a, b| a.0 == b.0) {
            let stored = group.iter().filter_map(|(_, index)| self.archive.entries.get(*index));
            let Some(stored) = stored.copied().find(|entry| !entry.content.is_empty()) else { continue };
            for (_, index) in group {
                if let Some(entry) = self.archive.entries.get_mut(*index).filter(|e| e.content.is_empty()) {
                    entry.content = stored.content;
                    entry.data_offset = stored.data_offset;
                }
            }
        }
    }
}

/// Device and inode of a file that has several names.
type Link = Option<(u32, u32, u32)>;

/// Decodes one framed entry and checks what it says.
fn decode<'a>(frame: &Frame<'a>) -> Result<(Entry<'a>, Link), RamdiskError> {
    let head = frame.head();
    let Some(decoded) = cpio_reader::iter_files(&head).next() else { return Err(undecodable(frame)) };
    let name = name::normalise(frame.name);
    name::check(name).map_err(|fault| bad_name(frame, fault))?;

    let mode = decoded.mode().bits();
    let Some(kind) = Kind::from_mode(mode, device(&decoded)) else { return Err(bad_mode(frame)) };
    let content = frame.data;
    // The decoder and the frame are two readings of the same header.
    if !decoded.file().is_empty() || decoded.name().trim_end_matches('\0') != frame.name {
        return Err(undecodable(frame));
    }
    if frame.format == Format::Crc && kind != Kind::Symlink {
        check_sum(frame)?;
    }
    if !content.is_empty() && !kind.has_content() {
        return Err(RamdiskError::UnexpectedData {
            entry: frame.name.into(),
            offset: frame.offset,
            kind: alloc::format!("{kind}"),
            size: content.len(),
        });
    }
    let link = match (decoded.devmajor(), decoded.devminor()) {
        (Some(major), Some(minor)) if kind == Kind::File && decoded.nlink() > 1 => {
            Some((major, minor, decoded.ino()))
        }
        _ => None,
    };
    let permissions = u16::try_from(mode & PERMISSION_MASK).unwrap_or(0);
    let Frame { offset, data_offset, format, .. } = *frame;
    Ok((Entry { name, kind, permissions, content, offset, data_offset, format }, link))
}

/// The device numbers of a node; `odc` packs both into one number as old Unix did.
fn device(decoded: &cpio_reader::Entry<'_>) -> (u32, u32) {
    match (decoded.rdevmajor(), decoded.rdevminor(), decoded.rdev()) {
        (Some(major), Some(minor), _) => (major, minor),
        (_, _, Some(both)) => (both >> 8, both & 0xff),
        _ => (0, 0),
    }
}

fn bad_name(frame: &Frame<'_>, fault: NameFault) -> RamdiskError {
    RamdiskError::BadName { entry: frame.name.into(), offset: frame.offset, fault }
}

fn bad_mode(frame: &Frame<'_>) -> RamdiskError {
    RamdiskError::BadMode { entry: frame.name.into(), offset: frame.offset, mode: frame.mode }
}

/// Finds out why the decoder had nothing to say about an entry whose frame is sound.
fn undecodable(frame: &Frame<'_>) -> RamdiskError {
    let (entry, offset) = (String::from(frame.name), frame.offset);
    if frame.mode & !(TYPE_MASK | PERMISSION_MASK) != 0 {
        return bad_mode(frame);
    }
    RamdiskError::Undecodable { entry, offset }
}

/// Compares the sum of an entry's bytes with the one that it is stored with.
fn check_sum(frame: &Frame<'_>) -> Result<(), RamdiskError> {
    let computed = frame.data.iter().fold(0u32, |sum, byte| sum.wrapping_add(u32::from(*byte)));
    if computed == frame.check {
        return Ok(());
    }
    let (entry, offset) = (frame.name.into(), frame.offset);
    Err(RamdiskError::BadChecksum { entry, offset, stored: frame.check, computed })
}
