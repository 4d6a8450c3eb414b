//! Everything that can be wrong with an archive.
use crate::{Kind, Lookalike, MAX_ENTRIES, MAX_NAME_SIZE, frame::Format};
use alloc::{string::String, vec::Vec};
use core::fmt::Write as _;
use thiserror::Error;

/// Why an archive was refused, or why something was not found in it.
///
/// Offsets are bytes from the archive's start; ranges are half-open. `entry` is the name of the entry concerned, empty
/// while the name itself could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RamdiskError {
    /// There is nothing.
    #[error(
        "the RAM disk is empty (0 bytes); give the builder an archive made by `domb pack` or `cpio -o -H newc`"
    )]
    Empty,
    /// There is something, all of it zero.
    #[error(
        "the RAM disk holds nothing but zeros in [0x0..{len:#x}); the loader reserved it and filled in nothing: \
         check the module's path"
    )]
    AllZero {
        /// Size of the input in bytes.
        len: usize,
    },
    /// The first bytes are no CPIO header.
    #[error("the RAM disk is {found}")]
    NotCpio {
        /// What it seems to be.
        found: Lookalike,
    },
    /// A header is expected behind an entry or an archive and something else is there.
    #[error(
        "RAM disk: at offset {offset:#x}, after \"{}\", a CPIO header is expected but \"{}\" is there; \
         the archive is damaged, or its parts were joined without padding to 4 bytes: make it again",
        shown(.after), .found.escape_ascii()
    )]
    LostTrack {
        /// Where the header should be.
        offset: usize,
        /// Name of the entry before it.
        after: String,
        /// The bytes found there, at most six.
        found: Vec<u8>,
    },
    /// The archive ends before its trailer.
    #[error(
        "RAM disk: the archive ends at {len:#x}, after \"{}\", without the entry TRAILER!!! that closes it; \
         it was cut off: make or copy it again",
        shown(.after)
    )]
    NoTrailer {
        /// Size of the input in bytes.
        len: usize,
        /// Name of the last complete entry; empty if there is none.
        after: String,
    },
    /// A header, name or content runs past the end.
    #[error(
        "RAM disk: the {part} of {} needs [{start:#x}..{end:#x}) but the archive ends at {len:#x}; \
         it was cut off or a size in its header is wrong: make or copy it again",
        entry_at(.entry, *.offset)
    )]
    Truncated {
        /// Which part of the entry: "header", "name", "data" or "padding".
        part: &'static str,
        /// Name of the entry.
        entry: String,
        /// Offset of the entry's header.
        offset: usize,
        /// First byte of the part.
        start: usize,
        /// End of the part; the largest number when the size cannot be represented.
        end: usize,
        /// Size of the input in bytes.
        len: usize,
    },
    /// A number in a header has a digit that its format does not use.
    #[error(
        "RAM disk: field {field} of the header at offset {offset:#x} ({format}) reads \"{}\", which is no \
         {} number; the archive is damaged: make it again",
        .found.escape_ascii(), .format.radix_name()
    )]
    BadNumber {
        /// Offset of the entry's header.
        offset: usize,
        /// The entry's format.
        format: Format,
        /// Name of the field, as in cpio(5).
        field: &'static str,
        /// The field's bytes.
        found: Vec<u8>,
    },
    /// A name is not what a name must be.
    #[error("RAM disk: the name \"{}\" of the entry at offset {offset:#x} {fault}", shown(.entry))]
    BadName {
        /// The name, with what is not UTF-8 replaced.
        entry: String,
        /// Offset of the entry's header.
        offset: usize,
        /// What is wrong with it.
        fault: NameFault,
    },
    /// Two entries have one name, and not both are directories.
    #[error(
        "RAM disk: the name \"{}\" is there twice, at offsets {first:#x} and {second:#x}; \
         keep one of them: which one is meant must not depend on the reader",
        shown(.entry)
    )]
    Duplicate {
        /// The name.
        entry: String,
        /// Header offset of the first.
        first: usize,
        /// Header offset of the second.
        second: usize,
    },
    /// There are more entries than [`MAX_ENTRIES`].
    #[error(
        "RAM disk: more than {MAX_ENTRIES} entries (the next one is at offset {offset:#x}); \
         pack a guest's root file system as one file, not as its files"
    )]
    TooManyEntries {
        /// Offset of the first entry that is one too many.
        offset: usize,
    },
    /// Bytes that the format leaves unused are not zero.
    #[error(
        "RAM disk: the padding in [{start:#x}..{end:#x}) behind {} is not zero; \
         a size in its header is wrong or the archive is damaged: make it again",
        entry_at(.entry, *.offset)
    )]
    BadPadding {
        /// Name of the entry.
        entry: String,
        /// Offset of the entry's header.
        offset: usize,
        /// First byte of the padding.
        start: usize,
        /// End of the padding.
        end: usize,
    },
    /// The checksum of a `crc` entry does not match its data.
    #[error(
        "RAM disk: the data of {} sums up to {computed:#010x} but its header says {stored:#010x}; \
         the archive is damaged: make or copy it again",
        entry_at(.entry, *.offset)
    )]
    BadChecksum {
        /// Name of the entry.
        entry: String,
        /// Offset of the entry's header.
        offset: usize,
        /// The sum in the header.
        stored: u32,
        /// The sum of the data's bytes.
        computed: u32,
    },
    /// The mode is that of no kind of entry.
    #[error(
        "RAM disk: {} has mode {mode:#o}, which is no type of file; the archive is damaged: make it again",
        entry_at(.entry, *.offset)
    )]
    BadMode {
        /// Name of the entry.
        entry: String,
        /// Offset of the entry's header.
        offset: usize,
        /// The mode.
        mode: u32,
    },
    /// Something that cannot have data has some.
    #[error(
        "RAM disk: {} is a {kind} but has {size} bytes of data; the archive is damaged: make it again",
        entry_at(.entry, *.offset)
    )]
    UnexpectedData {
        /// Name of the entry, `TRAILER!!!` for the trailer.
        entry: String,
        /// Offset of the entry's header.
        offset: usize,
        /// What the entry is.
        kind: String,
        /// Size of its data in bytes.
        size: usize,
    },
    /// The decoder refused an entry that this crate's own checks found in order.
    #[error("RAM disk: {} cannot be decoded; make the archive with `domb pack` or `cpio -o -H newc`",
        entry_at(.entry, *.offset))]
    Undecodable {
        /// Name of the entry.
        entry: String,
        /// Offset of the entry's header.
        offset: usize,
    },
    /// No entry has this name.
    #[error("the RAM disk has no file \"{}\"{}", shown(.name), alternatives(.near))]
    NotFound {
        /// The name looked for.
        name: String,
        /// Names of files that may be meant, the nearest first.
        near: Vec<String>,
    },
    /// The entry of this name is not a regular file.
    #[error(
        "\"{}\" in the RAM disk (offset {offset:#x}) is a {kind}, not a regular file; pack the file itself",
        shown(.name)
    )]
    NotAFile {
        /// The name looked for.
        name: String,
        /// Offset of the entry's header.
        offset: usize,
        /// What it is.
        kind: Kind,
    },
}

/// What is wrong with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NameFault {
    /// It has no characters.
    #[error("is empty; every entry needs one")]
    Empty,
    /// It is longer than [`MAX_NAME_SIZE`].
    #[error("has a size of {size} bytes, more than {MAX_NAME_SIZE}; shorten it")]
    TooLong {
        /// Size in bytes with the terminating NUL.
        size: usize,
    },
    /// It goes on behind a NUL.
    #[error("goes on behind a NUL; the archive is damaged: make it again")]
    NulInside,
    /// Its last byte is not NUL.
    #[error("does not end in a NUL; a size in its header is wrong: make the archive again")]
    Unterminated,
    /// It is not UTF-8.
    #[error("is not UTF-8; rename the file")]
    NotUtf8,
    /// It starts with a slash.
    #[error("is absolute; pack it with a name relative to the archive's root")]
    Absolute,
    /// It has `//` inside or a slash at its end.
    #[error("has an empty component (\"//\" or a \"/\" at its end); pack it with a plain name")]
    EmptyComponent,
    /// It has `.` as a component.
    #[error("has \".\" as a component; pack it with a plain name")]
    DotComponent,
    /// It has `..` as a component.
    #[error("has \"..\" as a component, which points out of the archive; pack it with a plain name")]
    ParentComponent,
}

/// Characters of a name shown in an error.
const MAX_SHOWN: usize = 96;

/// A name, printable and not longer than an error text can bear.
fn shown(name: &str) -> String {
    let mut text = String::new();
    for c in name.chars().take(MAX_SHOWN) {
        // Writing to a String cannot fail.
        let _ = if c.is_control() || c == '"' {
            write!(text, "{}", c.escape_default())
        } else {
            text.write_char(c)
        };
    }
    if name.chars().nth(MAX_SHOWN).is_some() {
        text.push_str("...");
    }
    text
}

/// "entry NAME at offset N", or without the name if it is not known.
fn entry_at(entry: &str, offset: usize) -> String {
    let mut text = String::from("the entry");
    // Writing to a String cannot fail.
    let _ = if entry.is_empty() { Ok(()) } else { write!(text, " \"{}\"", shown(entry)) };
    let _ = write!(text, " at offset {offset:#x}");
    text
}

/// The tail of "no such file": what is there instead.
fn alternatives(near: &[String]) -> String {
    if near.is_empty() {
        return String::from("; it has no files at all");
    }
    let mut text = String::from("; did you mean");
    for (i, name) in near.iter().enumerate() {
        // Writing to a String cannot fail.
        let _ = write!(text, "{} \"{}\"", if i == 0 { "" } else { " or" }, shown(name));
    }
    text.push('?');
    text
}
