//! The ELF file: its segments and where its notes are.
use crate::{
    ImageError, MAX_PROGRAM_HEADERS, MAX_SECTION_HEADERS, NoteSource, Symbols, XenNotes,
    bytes::{len, part},
    format::ELF_MAGIC,
    guest_section, notes,
};
use alloc::{format, vec::Vec};
use core::ops::Range;
use goblin::{
    container::{Container, Ctx, Endian},
    elf::{
        Elf, Header, ProgramHeader, SectionHeader,
        header::{
            EI_CLASS, EI_DATA, ELFCLASS32, ELFCLASS64, ELFDATA2LSB, EM_386, EM_X86_64, ET_CORE, ET_DYN,
            ET_EXEC, ET_REL,
        },
        program_header::{PF_R, PF_W, PF_X, PT_LOAD, PT_NOTE},
        section_header::{SHN_XINDEX, SHT_NOBITS, SHT_NOTE},
    },
};

/// A kernel's ELF file, read and checked. Borrows the file's bytes.
#[derive(Clone, Debug)]
pub struct KernelImage<'a> {
    segments: Vec<Segment<'a>>,
    notes: XenNotes<'a>,
    symbols: Option<Symbols<'a>>,
    entry: u64,
    machine: u16,
    class: Class,
}

/// One segment to load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Index of its program header in the file.
    pub index: usize,
    /// Physical address in bytes (`p_paddr`). What it means for a PV guest is up to [`crate::PvLayout::virt_offset`].
    pub physical: u64,
    /// Virtual address in bytes (`p_vaddr`). Xen's tools load by physical addresses and never look at it.
    pub virt: u64,
    /// The content. The rest of the segment, up to `memory_size`, is zero.
    pub file: &'a [u8],
    /// Size in memory in bytes (`p_memsz`): not zero, not less than the content's.
    pub memory_size: u64,
    /// Whether the flags ask for reading.
    pub readable: bool,
    /// Whether the flags ask for writing.
    pub writable: bool,
    /// Whether the flags ask for execution.
    pub executable: bool,
}

impl Segment<'_> {
    /// Its physical addresses. [`KernelImage::parse`] has checked that they do not wrap.
    pub fn physical_range(&self) -> Range<u64> {
        self.physical..self.physical.saturating_add(self.memory_size)
    }
}

/// The two kinds of ELF files, and the sizes of the headers in each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Class {
    container: Container,
    /// The processor that files of this kind are for, besides x86-64, which both kinds may be for.
    machine: u16,
    pub(crate) elf_header: usize,
    program_header: usize,
    pub(crate) section_header: usize,
}

impl Class {
    const BITS_32: Self = Self {
        container: Container::Little,
        machine: EM_386,
        elf_header: 52,
        program_header: 32,
        section_header: 40,
    };
    const BITS_64: Self = Self {
        container: Container::Big,
        machine: EM_X86_64,
        elf_header: 64,
        program_header: 56,
        section_header: 64,
    };

    pub(crate) fn is_32_bit(self) -> bool {
        matches!(self.container, Container::Little)
    }

    /// How goblin is to read the headers: little-endian, which is all that gets past [`class_of`].
    fn context(self) -> Ctx {
        Ctx { container: self.container, le: Endian::Little }
    }
}

impl<'a> KernelImage<'a> {
    /// Reads an ELF file: an executable for x86, of 64 bits or of 32. What is in it is checked; whether it can run as a guest is not
    /// ([`KernelImage::layout`] does that).
    pub fn parse(elf: &'a [u8]) -> Result<Self, ImageError> {
        let (header, class) = parse_header(elf)?;
        let programs = program_headers(elf, &header, class)?;
        let segments = segments(elf, &programs)?;
        let notes = find_notes(elf, &header, class, &programs)?;
        let mut image =
            Self { segments, notes, symbols: None, entry: header.e_entry, machine: header.e_machine, class };
        if image.notes.bsd_symtab == Some("yes") {
            let sections = section_headers(elf, &header, class)?;
            let kernel_end = image.physical_range().end;
            image.symbols = Symbols::find(elf, class, &sections, header.e_shoff, kernel_end)?;
        }
        Ok(image)
    }

    /// Whether the file has 32 bits. A PVH kernel may, whatever it is for, as it starts in 32-bit code anyway.
    pub fn is_32_bit(&self) -> bool {
        self.class.is_32_bit()
    }

    /// Whether it is a program for 32-bit processors (i386).
    pub fn is_for_i386(&self) -> bool {
        self.machine == EM_386
    }

    /// The segments to load, by rising physical address; they do not overlap, and there is at least one.
    pub fn segments(&self) -> &[Segment<'a>] {
        &self.segments
    }

    /// The Xen notes.
    pub fn notes(&self) -> &XenNotes<'a> {
        &self.notes
    }

    /// The symbols that are to be loaded behind the segments, if the kernel asks for them (BSD_SYMTAB) and has any.
    pub fn symbols(&self) -> Option<&Symbols<'a>> {
        self.symbols.as_ref()
    }

    /// The entry point in the ELF header (`e_entry`), for kernels without an ENTRY note. Virtual.
    pub fn elf_entry(&self) -> u64 {
        self.entry
    }

    /// The physical addresses from the lowest segment's start to the highest one's end.
    pub fn physical_range(&self) -> Range<u64> {
        let start = self.segments.first().map_or(0, |segment| segment.physical);
        let end = self.segments.last().map_or(0, |segment| segment.physical_range().end);
        start..end
    }

    /// The same up to the end of the symbols, if they are loaded.
    pub fn loaded_range(&self) -> Range<u64> {
        let Range { start, end } = self.physical_range();
        start..self.symbols().map_or(end, |symbols| symbols.physical_range().end)
    }
}

fn parse_header(elf: &[u8]) -> Result<(Header, Class), ImageError> {
    if !elf.starts_with(ELF_MAGIC) {
        return Err(ImageError::NotElf { start: elf.iter().take(4).copied().collect() });
    }
    let class = class_of(elf)?;
    if elf.len() < class.elf_header {
        return Err(ImageError::ElfCutOff { len: elf.len(), header: class.elf_header });
    }
    let header =
        Elf::parse_header(elf).map_err(|error| ImageError::BadElfHeader { detail: format!("{error}") })?;
    // A 64-bit program in a 32-bit file is what loaders are given that know no others.
    if header.e_machine != class.machine && header.e_machine != EM_X86_64 {
        return Err(ImageError::WrongMachine { machine: header.e_machine });
    }
    match header.e_type {
        ET_EXEC | ET_DYN => Ok((header, class)),
        ET_REL => Err(ImageError::NotExecutable { kind: header.e_type, what: "an object file" }),
        ET_CORE => Err(ImageError::NotExecutable { kind: header.e_type, what: "a core dump" }),
        kind => Err(ImageError::NotExecutable { kind, what: "of no known type" }),
    }
}

/// Class and encoding, the two bytes on which the reading of all others depends.
fn class_of(elf: &[u8]) -> Result<Class, ImageError> {
    let (Some(class), Some(encoding)) = (elf.get(EI_CLASS), elf.get(EI_DATA)) else {
        return Err(ImageError::ElfCutOff { len: elf.len(), header: Class::BITS_64.elf_header });
    };
    let class = match *class {
        ELFCLASS64 => Class::BITS_64,
        ELFCLASS32 => Class::BITS_32,
        class => return Err(ImageError::BadClass { class }),
    };
    match *encoding {
        ELFDATA2LSB => Ok(class),
        encoding => Err(ImageError::BadEncoding { encoding }),
    }
}

/// A table of headers as the ELF header describes it.
struct Table {
    name: &'static str,
    offset: u64,
    entry_size: u16,
    count: usize,
    /// Size of an entry in the format.
    expected_size: usize,
    /// Most entries looked at.
    max: usize,
}

impl Table {
    /// Checks that the table can be read; its offset.
    fn check(&self, elf: &[u8]) -> Result<usize, ImageError> {
        let Self { name: table, count, .. } = *self;
        if usize::from(self.entry_size) != self.expected_size {
            return Err(ImageError::BadEntrySize {
                table,
                found: self.entry_size,
                expected: self.expected_size,
            });
        }
        if count > self.max {
            return Err(ImageError::TooManyHeaders { table, count });
        }
        let size = u64::try_from(count.saturating_mul(self.expected_size)).unwrap_or(u64::MAX);
        match (part(elf, self.offset, size), usize::try_from(self.offset)) {
            (Some(_), Ok(offset)) => Ok(offset),
            _ => Err(ImageError::TableOutside {
                table,
                count,
                start: self.offset,
                end: self.offset.saturating_add(size),
                len: elf.len(),
            }),
        }
    }
}

fn program_headers(elf: &[u8], header: &Header, class: Class) -> Result<Vec<ProgramHeader>, ImageError> {
    if header.e_phnum == 0 {
        return Err(ImageError::NoSegments);
    }
    let table = Table {
        name: "program",
        offset: header.e_phoff,
        entry_size: header.e_phentsize,
        count: usize::from(header.e_phnum),
        expected_size: class.program_header,
        max: MAX_PROGRAM_HEADERS,
    };
    let offset = table.check(elf)?;
    ProgramHeader::parse(elf, offset, table.count, class.context())
        .map_err(|error| ImageError::BadElfHeader { detail: format!("{error}") })
}

fn section_headers(elf: &[u8], header: &Header, class: Class) -> Result<Vec<SectionHeader>, ImageError> {
    if header.e_shoff == 0 || header.e_shnum == 0 {
        return Ok(Vec::new());
    }
    let table = Table {
        name: "section",
        offset: header.e_shoff,
        entry_size: header.e_shentsize,
        count: usize::from(header.e_shnum),
        expected_size: class.section_header,
        max: MAX_SECTION_HEADERS,
    };
    let offset = table.check(elf)?;
    SectionHeader::parse(elf, offset, table.count, class.context())
        .map_err(|error| ImageError::BadElfHeader { detail: format!("{error}") })
}

/// The segments that libelf would load: those with memory and at least one permission.
fn segments<'a>(elf: &'a [u8], programs: &[ProgramHeader]) -> Result<Vec<Segment<'a>>, ImageError> {
    let mut segments = Vec::new();
    for (index, program) in programs.iter().enumerate() {
        let permissions = program.p_flags & (PF_R | PF_W | PF_X);
        if program.p_type == PT_LOAD && program.p_memsz != 0 && permissions != 0 {
            segments.push(segment(elf, index, program)?);
        }
    }
    segments.sort_by_key(|segment| segment.physical);
    for (lower, higher) in segments.iter().zip(segments.iter().skip(1)) {
        let (first_range, second_range) = (lower.physical_range(), higher.physical_range());
        if second_range.start < first_range.end {
            return Err(ImageError::SegmentsOverlap {
                first: lower.index,
                first_range,
                second: higher.index,
                second_range,
            });
        }
    }
    if segments.is_empty() { Err(ImageError::NoSegments) } else { Ok(segments) }
}

fn segment<'a>(elf: &'a [u8], index: usize, program: &ProgramHeader) -> Result<Segment<'a>, ImageError> {
    let (file_size, memory_size) = (program.p_filesz, program.p_memsz);
    if file_size > memory_size {
        return Err(ImageError::SegmentTooSmall { index, file_size, memory_size });
    }
    for (kind, start) in [("physical", program.p_paddr), ("virtual", program.p_vaddr)] {
        if start.checked_add(memory_size).is_none() {
            return Err(ImageError::SegmentWraps { index, kind, start, size: memory_size });
        }
    }
    let file = part(elf, program.p_offset, file_size).ok_or_else(|| ImageError::SegmentOutside {
        index,
        start: program.p_offset,
        end: program.p_offset.saturating_add(file_size),
        len: elf.len(),
    })?;
    Ok(Segment {
        index,
        physical: program.p_paddr,
        virt: program.p_vaddr,
        file,
        memory_size,
        readable: program.p_flags & PF_R != 0,
        writable: program.p_flags & PF_W != 0,
        executable: program.p_flags & PF_X != 0,
    })
}

/// Looks for Xen notes where libelf does: in note segments, failing that in note sections, failing that in the old
/// section of texts. The first place that has any decides.
fn find_notes<'a>(
    elf: &'a [u8],
    header: &Header,
    class: Class,
    programs: &[ProgramHeader],
) -> Result<XenNotes<'a>, ImageError> {
    let mut walk = notes::Walk::new(elf, NoteSource::Segments);
    // Old linkers left the offset of a note segment 0.
    for program in programs.iter().filter(|program| program.p_type == PT_NOTE && program.p_offset != 0) {
        walk.read(program.p_offset, program.p_filesz)?;
    }
    if let Some(notes) = walk.found() {
        return Ok(notes);
    }
    let sections = section_headers(elf, header, class)?;
    let mut walk = notes::Walk::new(elf, NoteSource::Sections);
    for section in sections.iter().skip(1).filter(|section| section.sh_type == SHT_NOTE) {
        walk.read(section.sh_offset, section.sh_size)?;
    }
    if let Some(notes) = walk.found() {
        return Ok(notes);
    }
    match section_named(elf, header, &sections, b"__xen_guest") {
        Some(text) => guest_section::parse(text),
        None => Ok(XenNotes::default()),
    }
}

/// The content of the section of this name.
fn section_named<'a>(
    elf: &'a [u8],
    header: &Header,
    sections: &[SectionHeader],
    name: &[u8],
) -> Option<&'a [u8]> {
    if u32::from(header.e_shstrndx) == SHN_XINDEX {
        return None;
    }
    let names = sections.get(usize::from(header.e_shstrndx))?;
    let names = part(elf, names.sh_offset, names.sh_size)?;
    let section = sections.iter().skip(1).find(|section| {
        let rest = names.get(section.sh_name..).unwrap_or_default();
        rest.strip_prefix(name).is_some_and(|behind| behind.first() == Some(&0))
    })?;
    if section.sh_type == SHT_NOBITS {
        return None;
    }
    part(elf, section.sh_offset, section.sh_size.min(len(elf)))
}
