//! Where an entry starts, where its parts lie, where the next one starts.
//!
//! The decoder finds this out too, but keeps it to itself and answers every doubt with silence. So the layout is read
//! here first, with every number and every byte of padding checked, and the decoder then gets exactly one entry, without its data:
//! it would add up the bytes of every file, whether the format has a sum or not, and that would be most of what reading a RAM disk takes.
//!
//! Layouts (cpio(5)): `newc` and `crc` have a magic of 6 bytes and 13 fields of 8 hexadecimal digits; name and data
//! are each padded with zeros to a multiple of 4 bytes. `odc` has the magic and octal fields of 6 or 11 digits, and no
//! padding.
use crate::{MAX_NAME_SIZE, NameFault, RamdiskError};
use alloc::{string::String, vec::Vec};
use core::fmt;

/// The format of one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// "New ASCII", magic 070701.
    Newc,
    /// "New CRC", magic 070702: `newc` with the sum of the data's bytes.
    Crc,
    /// "Portable ASCII", magic 070707.
    Odc,
}

/// Name and width of each field behind the magic.
const NEW_FIELDS: [(&str, usize); 13] = [
    ("ino", 8),
    ("mode", 8),
    ("uid", 8),
    ("gid", 8),
    ("nlink", 8),
    ("mtime", 8),
    ("filesize", 8),
    ("devmajor", 8),
    ("devminor", 8),
    ("rdevmajor", 8),
    ("rdevminor", 8),
    ("namesize", 8),
    ("check", 8),
];
const ODC_FIELDS: [(&str, usize); 10] = [
    ("dev", 6),
    ("ino", 6),
    ("mode", 6),
    ("uid", 6),
    ("gid", 6),
    ("nlink", 6),
    ("rdev", 6),
    ("mtime", 11),
    ("namesize", 6),
    ("filesize", 11),
];
/// Size of every format's magic in bytes.
const MAGIC_SIZE: usize = 6;

impl Format {
    /// The format whose magic `bytes` start with.
    pub(crate) fn detect(bytes: &[u8]) -> Option<Self> {
        match bytes.get(..MAGIC_SIZE)? {
            b"070701" => Some(Self::Newc),
            b"070702" => Some(Self::Crc),
            b"070707" => Some(Self::Odc),
            _ => None,
        }
    }

    fn fields(self) -> &'static [(&'static str, usize)] {
        match self {
            Self::Newc | Self::Crc => &NEW_FIELDS,
            Self::Odc => &ODC_FIELDS,
        }
    }

    fn header_size(self) -> usize {
        match self {
            Self::Newc | Self::Crc => 110,
            Self::Odc => 76,
        }
    }

    fn radix(self) -> u32 {
        match self {
            Self::Newc | Self::Crc => 16,
            Self::Odc => 8,
        }
    }

    /// The name of the base in which this format writes numbers.
    pub(crate) fn radix_name(self) -> &'static str {
        match self {
            Self::Newc | Self::Crc => "hexadecimal",
            Self::Odc => "octal",
        }
    }

    /// Name and data start at a multiple of this many bytes from the header.
    fn alignment(self) -> usize {
        match self {
            Self::Newc | Self::Crc => 4,
            Self::Odc => 1,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Newc => "newc",
            Self::Crc => "crc",
            Self::Odc => "odc",
        })
    }
}

/// One entry's place in the archive.
#[derive(Clone, Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) format: Format,
    /// Offset of the header.
    pub(crate) offset: usize,
    /// The name as stored, without the NULs at its end.
    pub(crate) name: &'a str,
    /// The mode as stored.
    pub(crate) mode: u32,
    /// The checksum as stored; 0 where the format has none.
    pub(crate) check: u32,
    pub(crate) data: &'a [u8],
    /// Offset of the data.
    pub(crate) data_offset: usize,
    /// Everything from the header to the last byte of padding behind the data.
    pub(crate) bytes: &'a [u8],
    /// Offset of the first byte behind `bytes`.
    pub(crate) end: usize,
}

impl Frame<'_> {
    /// The entry without its data, and with a header that says so: no size, no checksum.
    pub(crate) fn head(&self) -> Vec<u8> {
        let length = self.data_offset.saturating_sub(self.offset);
        let mut head = self.bytes.get(..length).unwrap_or_default().to_vec();
        let mut start = MAGIC_SIZE;
        for (name, width) in self.format.fields() {
            let end = start.saturating_add(*width);
            if ["filesize", "check"].contains(name)
                && let Some(digits) = head.get_mut(start..end)
            {
                digits.fill(b'0');
            }
            start = end;
        }
        head
    }
}

/// The numbers of a header that framing needs.
#[derive(Default)]
struct Numbers {
    mode: u32,
    check: u32,
    name_size: usize,
    data_size: usize,
}

impl<'a> Frame<'a> {
    /// Reads the entry whose header, of format `format`, is at `offset`.
    pub(crate) fn read(archive: &'a [u8], offset: usize, format: Format) -> Result<Self, RamdiskError> {
        let cutter = Cutter { archive, offset };
        let header = cutter.part("header", "", offset, format.header_size())?;
        let numbers = Numbers::read(header, offset, format)?;

        if numbers.name_size > MAX_NAME_SIZE {
            let fault = NameFault::TooLong { size: numbers.name_size };
            return Err(RamdiskError::BadName { entry: String::new(), offset, fault });
        }
        let name_start = offset.saturating_add(format.header_size());
        let name = cutter.part("name", "", name_start, numbers.name_size)?;
        let name = read_name(name).map_err(|fault| RamdiskError::BadName {
            entry: String::from_utf8_lossy(name).trim_end_matches('\0').into(),
            offset,
            fault,
        })?;

        let data_offset = cutter.padding(name, name_start.saturating_add(numbers.name_size), format)?;
        let data = cutter.part("data", name, data_offset, numbers.data_size)?;
        let end = cutter.padding(name, data_offset.saturating_add(data.len()), format)?;
        let bytes = archive.get(offset..end).unwrap_or_default();
        let Numbers { mode, check, .. } = numbers;
        Ok(Self { format, offset, name, mode, check, data, data_offset, bytes, end })
    }
}

impl Numbers {
    fn read(header: &[u8], offset: usize, format: Format) -> Result<Self, RamdiskError> {
        let mut numbers = Self::default();
        let mut rest = header.get(MAGIC_SIZE..).unwrap_or_default();
        for (field, width) in format.fields() {
            let (digits, behind) = rest.split_at_checked(*width).unwrap_or((rest, &[]));
            rest = behind;
            let value = parse(digits, format.radix()).ok_or_else(|| RamdiskError::BadNumber {
                offset,
                format,
                field,
                found: digits.into(),
            })?;
            // A number that the machine's words cannot hold is larger than any archive, as is the largest word.
            let word = usize::try_from(value).unwrap_or(usize::MAX);
            let half = u32::try_from(value).unwrap_or(u32::MAX);
            match *field {
                "mode" => numbers.mode = half,
                "check" => numbers.check = half,
                "namesize" => numbers.name_size = word,
                "filesize" => numbers.data_size = word,
                _ => {}
            }
        }
        Ok(numbers)
    }
}

/// A number of nothing but digits: no sign, no blanks, both of which the standard library's or C's parsers let pass.
fn parse(digits: &[u8], radix: u32) -> Option<u64> {
    digits.iter().try_fold(0u64, |value, digit| {
        let digit = char::from(*digit).to_digit(radix)?;
        value.checked_mul(u64::from(radix))?.checked_add(u64::from(digit))
    })
}

/// The name in its stored form: NUL-terminated, perhaps with more NULs, which Linux's gen_init_cpio adds to align the
/// data behind it.
fn read_name(stored: &[u8]) -> Result<&str, NameFault> {
    let Some((last, _)) = stored.split_last() else { return Err(NameFault::Empty) };
    if *last != 0 {
        return Err(NameFault::Unterminated);
    }
    let nul = stored.iter().position(|byte| *byte == 0).unwrap_or(stored.len());
    let (name, nuls) = stored.split_at_checked(nul).unwrap_or((stored, &[]));
    if nuls.iter().any(|byte| *byte != 0) {
        return Err(NameFault::NulInside);
    }
    if name.is_empty() {
        return Err(NameFault::Empty);
    }
    core::str::from_utf8(name).map_err(|_| NameFault::NotUtf8)
}

/// How many bytes are missing from `size` to a multiple of `alignment`, which is not zero.
fn padding_of(size: usize, alignment: usize) -> usize {
    let over = size.checked_rem(alignment).unwrap_or(0);
    if over == 0 { 0 } else { alignment.saturating_sub(over) }
}

/// Cuts parts of one entry out of the archive.
struct Cutter<'a> {
    archive: &'a [u8],
    /// Offset of the entry's header.
    offset: usize,
}

impl<'a> Cutter<'a> {
    /// The `size` bytes at `start`.
    fn part(
        &self,
        part: &'static str,
        entry: &str,
        start: usize,
        size: usize,
    ) -> Result<&'a [u8], RamdiskError> {
        start.checked_add(size).and_then(|end| self.archive.get(start..end)).ok_or_else(|| {
            RamdiskError::Truncated {
                part,
                entry: entry.into(),
                offset: self.offset,
                start,
                end: start.saturating_add(size),
                len: self.archive.len(),
            }
        })
    }

    /// Checks the padding of the part that ends at `start`; the offset behind it.
    fn padding(&self, entry: &str, start: usize, format: Format) -> Result<usize, RamdiskError> {
        let size = padding_of(start.saturating_sub(self.offset), format.alignment());
        let bytes = self.part("padding", entry, start, size)?;
        let end = start.saturating_add(size);
        if bytes.iter().any(|byte| *byte != 0) {
            return Err(RamdiskError::BadPadding { entry: entry.into(), offset: self.offset, start, end });
        }
        Ok(end)
    }
}

/// The at most six bytes of `archive` at `offset`, for an error.
pub(crate) fn peek(archive: &[u8], offset: usize) -> Vec<u8> {
    archive.get(offset..).unwrap_or_default().iter().take(MAGIC_SIZE).copied().collect()
}
