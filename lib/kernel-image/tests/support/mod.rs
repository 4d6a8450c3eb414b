//! Builds kernels byte by byte, right or wrong in any field.
#![allow(dead_code, reason = "each test file uses its own part of this")]
#![allow(clippy::cast_possible_truncation, reason = "everything built here is small")]
#![allow(clippy::unwrap_used, reason = "a test's own helpers may stop the test")]

/// Where Linux maps pseudo-physical address 0; the kernels here do too.
pub(crate) const BASE: u64 = 0xffff_ffff_8000_0000;
/// The physical address of the kernels here.
pub(crate) const START: u64 = 0x10_0000;

pub(crate) const PT_LOAD: u32 = 1;
pub(crate) const PT_NOTE: u32 = 4;
pub(crate) const SHT_PROGBITS: u32 = 1;
pub(crate) const SHT_SYMTAB: u32 = 2;
pub(crate) const SHT_STRTAB: u32 = 3;
pub(crate) const SHT_NOTE: u32 = 7;

/// One program header and its content. Sizes and places follow from the content unless they are set.
#[derive(Clone)]
pub(crate) struct Program {
    pub(crate) kind: u32,
    pub(crate) flags: u32,
    pub(crate) offset: Option<u64>,
    pub(crate) virt: u64,
    pub(crate) physical: u64,
    pub(crate) file_size: Option<u64>,
    pub(crate) memory_size: u64,
    pub(crate) data: Vec<u8>,
}

impl Program {
    /// A segment to load, all permissions.
    pub(crate) fn load(physical: u64, data: &[u8], memory_size: u64) -> Self {
        let virt = BASE.wrapping_add(physical);
        let data = data.to_vec();
        Self { kind: PT_LOAD, flags: 7, offset: None, virt, physical, file_size: None, memory_size, data }
    }

    pub(crate) fn notes(data: &[u8]) -> Self {
        Self { kind: PT_NOTE, flags: 4, ..Self::load(0, data, data.len() as u64) }
    }
}

/// One section header and its content.
#[derive(Clone)]
pub(crate) struct Section {
    pub(crate) name: &'static str,
    pub(crate) kind: u32,
    pub(crate) data: Vec<u8>,
    pub(crate) size: Option<u64>,
    pub(crate) link: u32,
}

impl Section {
    /// A section that refers to no other.
    pub(crate) fn new(name: &'static str, kind: u32, data: &[u8]) -> Self {
        Self { name, kind, data: data.to_vec(), size: None, link: 0 }
    }
}

/// An ELF file, every field of which can be set to something wrong.
#[derive(Clone)]
pub(crate) struct Elf {
    pub(crate) class: u8,
    pub(crate) encoding: u8,
    pub(crate) kind: u16,
    pub(crate) machine: u16,
    pub(crate) entry: u64,
    pub(crate) program_offset: u64,
    pub(crate) program_size: u16,
    pub(crate) program_count: Option<u16>,
    pub(crate) section_size: u16,
    pub(crate) section_offset: Option<u64>,
    pub(crate) programs: Vec<Program>,
    pub(crate) sections: Vec<Section>,
}

impl Elf {
    /// An x86-64 executable with one segment, mapped like Linux, and no notes.
    pub(crate) fn plain() -> Self {
        Self {
            class: 2,
            encoding: 1,
            kind: 2,
            machine: 62,
            entry: BASE + START,
            program_offset: 64,
            program_size: 56,
            program_count: None,
            section_size: 64,
            section_offset: None,
            programs: vec![Program::load(START, &code(), 0x3_0000)],
            sections: Vec::new(),
        }
    }

    /// A PV kernel with these notes.
    pub(crate) fn with_notes(notes: &[Vec<u8>]) -> Self {
        let mut elf = Self::plain();
        elf.programs.push(Program::notes(&notes.concat()));
        elf
    }

    /// A kernel that is right in everything.
    pub(crate) fn kernel() -> Self {
        Self::with_notes(&good_notes())
    }

    /// Lets a closure spoil the file.
    pub(crate) fn with(mut self, spoil: impl FnOnce(&mut Self)) -> Self {
        spoil(&mut self);
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let headers = 64 + 56 * self.programs.len();
        let mut body: Vec<u8> = Vec::new();
        let mut table: Vec<u8> = Vec::new();
        for program in &self.programs {
            table.extend(program_header(program, (headers + body.len()) as u64));
            body.extend(&program.data);
            body.resize(body.len().next_multiple_of(8), 0);
        }
        let section_table = self.sections(headers, &mut body, section_header);
        let section_offset = self.section_offset.unwrap_or((headers + body.len()) as u64);
        body.extend(section_table);
        [self.header(section_offset), table, body].concat()
    }

    /// The same as a 32-bit file for i386: addresses are cut to 32 bits.
    pub(crate) fn bytes_of_32_bits(&self) -> Vec<u8> {
        let words =
            |words: &[u64]| words.iter().flat_map(|word| (*word as u32).to_le_bytes()).collect::<Vec<_>>();
        let headers = 52 + 32 * self.programs.len();
        let mut bytes = vec![0x7f, b'E', b'L', b'F', 1, self.encoding, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        bytes.extend([self.kind, 3].into_iter().flat_map(u16::to_le_bytes));
        let mut body: Vec<u8> = Vec::new();
        let mut table: Vec<u8> = Vec::new();
        for program in &self.programs {
            let (offset, size) = ((headers + body.len()) as u64, program.data.len() as u64);
            let Program { kind, virt, physical, memory_size, flags, .. } = program;
            let (kind, flags) = (u64::from(*kind), u64::from(*flags));
            table.extend(words(&[kind, offset, *virt, *physical, size, *memory_size, flags, 4]));
            body.extend(&program.data);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        let sections = self.sections(headers, &mut body, section_header_of_32_bits);
        let (section_offset, count) = match sections.len() / 40 {
            0 => (0, 0),
            count => ((headers + body.len()) as u64, count as u16),
        };
        body.extend(sections);
        bytes.extend(words(&[1, self.entry, 52, section_offset, 0]));
        let halves = [52, 32, self.programs.len() as u16, 40, count, count.saturating_sub(1)];
        bytes.extend(halves.into_iter().flat_map(u16::to_le_bytes));
        [bytes, table, body].concat()
    }

    fn header(&self, section_offset: u64) -> Vec<u8> {
        let section_count = if self.sections.is_empty() { 0 } else { self.sections.len() as u16 + 2 };
        let mut bytes = vec![0x7f, b'E', b'L', b'F', self.class, self.encoding, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        bytes.extend(self.kind.to_le_bytes());
        bytes.extend(self.machine.to_le_bytes());
        bytes.extend(1u32.to_le_bytes());
        bytes.extend(self.entry.to_le_bytes());
        bytes.extend(self.program_offset.to_le_bytes());
        bytes.extend(if section_count == 0 { 0 } else { section_offset }.to_le_bytes());
        bytes.extend(0u32.to_le_bytes());
        for half in [64, self.program_size, self.program_count.unwrap_or(self.programs.len() as u16)] {
            bytes.extend(half.to_le_bytes());
        }
        // The names' section is the last one.
        for half in [self.section_size, section_count, section_count.saturating_sub(1)] {
            bytes.extend(half.to_le_bytes());
        }
        bytes
    }

    /// Appends the sections' content to `body`; the table with the null section first and the names last.
    fn sections(&self, start: usize, body: &mut Vec<u8>, header: fn([u64; 5]) -> Vec<u8>) -> Vec<u8> {
        if self.sections.is_empty() {
            return Vec::new();
        }
        let mut table = header([0; 5]);
        let mut names = vec![0];
        for section in &self.sections {
            let offset = (start + body.len()) as u64;
            let size = section.size.unwrap_or(section.data.len() as u64);
            let (kind, link) = (u64::from(section.kind), u64::from(section.link));
            table.extend(header([names.len() as u64, kind, offset, size, link]));
            names.extend(section.name.as_bytes());
            names.push(0);
            body.extend(&section.data);
            body.resize(body.len().next_multiple_of(8), 0);
        }
        let offset = (start + body.len()) as u64;
        table.extend(header([names.len() as u64, 3, offset, names.len() as u64, 0]));
        body.extend(names);
        body.resize(body.len().next_multiple_of(8), 0);
        table
    }
}

fn program_header(program: &Program, offset: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(program.kind.to_le_bytes());
    bytes.extend(program.flags.to_le_bytes());
    for word in [
        program.offset.unwrap_or(offset),
        program.virt,
        program.physical,
        program.file_size.unwrap_or(program.data.len() as u64),
        program.memory_size,
        0x1000,
    ] {
        bytes.extend(word.to_le_bytes());
    }
    bytes
}

/// A section header: the place of its name, its kind, the place and size of its content, and the section it refers to.
fn section_header([name, kind, offset, size, link]: [u64; 5]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend((name as u32).to_le_bytes());
    bytes.extend((kind as u32).to_le_bytes());
    let entry_size = if kind == u64::from(SHT_SYMTAB) { 24 } else { 0 };
    bytes.extend([0, 0, offset, size, link, 0, entry_size].into_iter().flat_map(u64::to_le_bytes));
    bytes
}

/// The same in a file of 32 bits.
fn section_header_of_32_bits([name, kind, offset, size, link]: [u64; 5]) -> Vec<u8> {
    let entry_size = if kind == u64::from(SHT_SYMTAB) { 16 } else { 0 };
    let words = [name, kind, 0, 0, offset, size, link, 0, 0, entry_size];
    words.into_iter().flat_map(|word| (word as u32).to_le_bytes()).collect()
}

/// Something to load that compresses neither too well nor not at all; with relative calls, for the x86 filter.
pub(crate) fn code() -> Vec<u8> {
    let mut state = 1u32;
    let mut bytes = Vec::new();
    while bytes.len() < 0x1_8000 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        bytes.extend([0xe8, (state >> 24) as u8, (state >> 30) as u8, 0, 0, 0x90, 0x48, (state >> 29) as u8]);
    }
    bytes
}

/// The bytes of one note of any owner.
pub(crate) fn note_of(owner: &[u8], kind: u32, content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend((owner.len() as u32).to_le_bytes());
    bytes.extend((content.len() as u32).to_le_bytes());
    bytes.extend(kind.to_le_bytes());
    bytes.extend(owner);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// The bytes of one Xen note.
pub(crate) fn note(kind: u32, content: &[u8]) -> Vec<u8> {
    note_of(b"Xen\0", kind, content)
}

/// A Xen note with a 64-bit number.
pub(crate) fn number(kind: u32, value: u64) -> Vec<u8> {
    note(kind, &value.to_le_bytes())
}

/// A Xen note with a text.
pub(crate) fn text(kind: u32, text: &str) -> Vec<u8> {
    note(kind, format!("{text}\0").as_bytes())
}

pub(crate) const ENTRY: u32 = 1;
pub(crate) const HYPERCALL_PAGE: u32 = 2;
pub(crate) const VIRT_BASE: u32 = 3;
pub(crate) const PADDR_OFFSET: u32 = 4;
pub(crate) const XEN_VERSION: u32 = 5;
pub(crate) const GUEST_OS: u32 = 6;
pub(crate) const LOADER: u32 = 8;
pub(crate) const PAE_MODE: u32 = 9;
pub(crate) const FEATURES: u32 = 10;
pub(crate) const BSD_SYMTAB: u32 = 11;
pub(crate) const INIT_P2M: u32 = 15;
pub(crate) const PHYS32_ENTRY: u32 = 18;

/// The notes of a kernel that is right in everything.
pub(crate) fn good_notes() -> Vec<Vec<u8>> {
    vec![
        number(ENTRY, BASE + START + 0x10),
        number(VIRT_BASE, BASE),
        text(XEN_VERSION, "xen-3.0"),
        text(LOADER, "generic"),
    ]
}

/// [`good_notes`] and one more.
pub(crate) fn notes_and(note: Vec<u8>) -> Vec<Vec<u8>> {
    let mut notes = good_notes();
    notes.push(note);
    notes
}

/// A kernel for i386 that is mapped from `base` on; to be written by [`Elf::bytes_of_32_bits`].
pub(crate) fn pae_kernel(base: u32, pae_mode: &str) -> Elf {
    let address = |kind: u32, value: u32| note(kind, &value.to_le_bytes());
    let notes = [
        address(ENTRY, base + START as u32 + 0x10),
        address(VIRT_BASE, base),
        address(HYPERCALL_PAGE, base + START as u32 + 0x1000),
        text(XEN_VERSION, "xen-3.0"),
        text(LOADER, "generic"),
        text(PAE_MODE, pae_mode),
    ];
    Elf::with_notes(&notes).with(|elf| elf.programs[0].memory_size = 0x20_0000)
}

/// A bzImage with one sector of real-mode code around `payload`.
pub(crate) fn bzimage(payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 1024];
    bytes[0x1f1] = 1;
    bytes[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    bytes[0x202..0x206].copy_from_slice(b"HdrS");
    bytes[0x206..0x208].copy_from_slice(&0x020fu16.to_le_bytes());
    bytes[0x248..0x24c].copy_from_slice(&16u32.to_le_bytes());
    bytes[0x24c..0x250].copy_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
    bytes.extend([0; 16]);
    bytes.extend(payload);
    bytes
}

/// A payload as Linux's build makes it: the stream and its unpacked size.
pub(crate) fn with_size(stream: &[u8], size: usize) -> Vec<u8> {
    [stream, &u32::try_from(size).unwrap().to_le_bytes()].concat()
}
