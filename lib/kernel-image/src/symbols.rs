//! The kernel's symbol table, which is loaded behind the kernel if a note (BSD_SYMTAB) asks for it.
//!
//! What is loaded looks like an ELF file with nothing in it but the symbols, so that a kernel can read it with the code that it has for
//! files. From the kernel's end, rounded up to a word of its class, there are:
//!
//! | offset | what |
//! |---|---|
//! | 0 | the size of all that follows, 32 bits |
//! | 4 | the kernel's ELF header, without program headers, with section headers at offset 64 |
//! | 68 | three section headers: none, the symbols, their names; offsets in them count from the ELF header |
//! | 260, or 264 in a file of 64 bits | the symbols |
//! | behind them, rounded up | their names |
//!
//! These are the places where Xen's libelf puts them. Bytes between are zero.
use crate::{
    ImageError,
    bytes::{len, part},
    elf::Class,
};
use alloc::{borrow::Cow, vec, vec::Vec};
use core::ops::Range;
use goblin::elf::{
    SectionHeader,
    section_header::{SHT_STRTAB, SHT_SYMTAB},
};

/// Bytes of the size in front of the ELF header.
const SIZE_WORD: usize = 4;
/// Where the section headers are, counted from the ELF header: behind one of 64 bits, whatever the file has.
const SECTION_HEADERS: usize = 64;
/// Bytes up to the symbols before rounding: the size, and four headers as long as those of 64 bits.
const HEADERS: u64 = 260;
/// The sections there are: none, the symbols, their names.
const SECTIONS: u16 = 3;
/// Index of the section of names, and what the symbols' section refers to.
const NAMES: u32 = 2;

/// The symbols of a kernel that asked for them, and where they go. Borrows the file's bytes.
#[derive(Clone, Debug)]
pub struct Symbols<'a> {
    /// Physical address of the size word.
    start: u64,
    /// Size word and headers, with zeros up to the symbols.
    headers: Vec<u8>,
    /// The symbols, with their physical address.
    table: (u64, &'a [u8]),
    /// Their names, with their physical address.
    names: (u64, &'a [u8]),
}

impl<'a> Symbols<'a> {
    /// Looks for the symbols of the file `elf` and places them behind a kernel that ends at the physical address `kernel_end`.
    ///
    /// `None` for a file without a symbol table that has names: such a kernel is loaded without, as libelf does it.
    pub(crate) fn find(
        elf: &'a [u8],
        class: Class,
        headers: &[SectionHeader],
        headers_offset: u64,
        kernel_end: u64,
    ) -> Result<Option<Self>, ImageError> {
        let is_table = |it: &(usize, &SectionHeader)| it.1.sh_type == SHT_SYMTAB;
        let Some((table_index, table)) = headers.iter().enumerate().skip(1).find(is_table) else {
            return Ok(None);
        };
        let names_index = usize::try_from(table.sh_link).unwrap_or(usize::MAX);
        let Some(names) = headers.get(names_index).filter(|it| names_index > 0 && it.sh_type == SHT_STRTAB)
        else {
            return Ok(None);
        };
        let places = Places::new(class, kernel_end, table.sh_size, names.sh_size)?;
        let header_of = |index: usize| {
            let size = len_of(class.section_header);
            let offset = size.saturating_mul(u64::try_from(index).unwrap_or(u64::MAX));
            part(elf, headers_offset.saturating_add(offset), size).unwrap_or_default()
        };
        let headers = places.headers(class, elf, header_of(table_index), header_of(names_index));
        Ok(Some(Self {
            start: places.start,
            headers,
            table: (places.table, content(elf, "symbol table", table)?),
            names: (places.names, content(elf, "names of symbols", names)?),
        }))
    }

    /// The physical addresses from the size word to behind the last name.
    pub fn physical_range(&self) -> Range<u64> {
        // `find` has checked that the names end below 2^64.
        self.start..self.names.0.saturating_add(len(self.names.1))
    }

    /// What to load: three pieces with their physical addresses, by ascending address, not overlapping.
    pub fn pieces(&self) -> [(u64, Cow<'a, [u8]>); 3] {
        [
            (self.start, Cow::Owned(self.headers.clone())),
            (self.table.0, Cow::Borrowed(self.table.1)),
            (self.names.0, Cow::Borrowed(self.names.1)),
        ]
    }
}

/// Physical addresses.
struct Places {
    start: u64,
    table: u64,
    names: u64,
    /// What the size word says.
    size: u32,
}

impl Places {
    fn new(class: Class, kernel_end: u64, table_size: u64, names_size: u64) -> Result<Self, ImageError> {
        let too_large = ImageError::SymbolsTooLarge { kernel_end, table_size, names_size };
        let place = || {
            let start = kernel_end.checked_next_multiple_of(class.word())?;
            let table = start.checked_add(HEADERS)?.checked_next_multiple_of(class.word())?;
            let names = table.checked_add(table_size)?.checked_next_multiple_of(class.word())?;
            let size = names.checked_add(names_size)?.checked_sub(start)?.checked_sub(len_of(SIZE_WORD))?;
            Some(Self { start, table, names, size: u32::try_from(size).ok()? })
        };
        place().ok_or(too_large)
    }

    /// The size word and the headers, up to the symbols.
    fn headers(&self, class: Class, elf: &[u8], table: &[u8], names: &[u8]) -> Vec<u8> {
        let fields = class.fields();
        // At most 264 bytes: `new` has rounded it.
        let mut bytes = vec![0; usize::try_from(self.table.saturating_sub(self.start)).unwrap_or(0)];
        put(&mut bytes, 0, &self.size.to_le_bytes());
        let Some(file) = bytes.get_mut(SIZE_WORD..) else { return bytes };
        put(file, 0, elf.get(..class.elf_header).unwrap_or_default());
        put(file, fields.version, &1_u32.to_le_bytes());
        class.put_word(file, fields.program_offset, 0);
        class.put_word(file, fields.section_offset, len_of(SECTION_HEADERS));
        let half = |size: usize| u16::try_from(size).unwrap_or(0);
        // e_ehsize, e_phentsize, e_phnum, e_shentsize, e_shnum, e_shstrndx follow one another.
        let halves = [half(class.elf_header), 0, 0, half(class.section_header), SECTIONS, 0];
        for (value, at) in halves.into_iter().zip((fields.header_size..).step_by(2)) {
            put(file, at, &value.to_le_bytes());
        }
        let origin = self.start.saturating_add(len_of(SIZE_WORD));
        let mut at = SECTION_HEADERS;
        for (header, place) in [(table, self.table), (names, self.names)] {
            at = at.saturating_add(class.section_header);
            put(file, at, header);
            let section = file.get_mut(at..).unwrap_or_default();
            class.put_word(section, fields.content_offset, place.saturating_sub(origin));
        }
        // Of the two, only the symbols refer to another section.
        let link = SECTION_HEADERS.saturating_add(class.section_header).saturating_add(fields.link);
        put(file, link, &NAMES.to_le_bytes());
        bytes
    }
}

/// Offsets of fields: in the ELF header, then in a section header.
struct Fields {
    version: usize,
    program_offset: usize,
    section_offset: usize,
    header_size: usize,
    content_offset: usize,
    link: usize,
}

impl Class {
    /// Bytes of a word, to a multiple of which each part is aligned.
    fn word(self) -> u64 {
        if self.is_32_bit() { 4 } else { 8 }
    }

    fn fields(self) -> Fields {
        let (version, words) =
            (20, if self.is_32_bit() { [28, 32, 40, 16, 24] } else { [32, 40, 52, 24, 40] });
        let [program_offset, section_offset, header_size, content_offset, link] = words;
        Fields { version, program_offset, section_offset, header_size, content_offset, link }
    }

    /// Writes a word of this class, which is known to hold `value`.
    fn put_word(self, bytes: &mut [u8], at: usize, value: u64) {
        let all = value.to_le_bytes();
        let size = usize::try_from(self.word()).unwrap_or(all.len());
        put(bytes, at, all.get(..size).unwrap_or_default());
    }
}

/// The content of a section that is to be loaded.
fn content<'a>(elf: &'a [u8], what: &'static str, section: &SectionHeader) -> Result<&'a [u8], ImageError> {
    let (start, size) = (section.sh_offset, section.sh_size);
    part(elf, start, size).ok_or_else(|| ImageError::SymbolsOutside {
        what,
        start,
        end: start.saturating_add(size),
        len: elf.len(),
    })
}

/// Writes `from` at an offset; what does not fit is left out.
fn put(bytes: &mut [u8], at: usize, from: &[u8]) {
    let end = at.saturating_add(from.len());
    if let Some(place) = bytes.get_mut(at..end) {
        place.copy_from_slice(from);
    }
}

/// A constant as the 64-bit number that addresses are.
fn len_of(size: usize) -> u64 {
    u64::try_from(size).unwrap_or(u64::MAX)
}
