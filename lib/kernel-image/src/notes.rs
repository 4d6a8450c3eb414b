//! The Xen notes of a kernel (public header `elfnote.h`).
use crate::{
    Features, ImageError, MAX_NOTE_TEXT, MAX_NOTES,
    bytes::{array, len, part, u16_at, u32_at, u64_at},
};
use alloc::vec::Vec;

/// Where a kernel's notes were found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NoteSource {
    /// Nowhere: the kernel has none.
    #[default]
    None,
    /// In its note segments (PT_NOTE).
    Segments,
    /// In its note sections (SHT_NOTE).
    Sections,
    /// In its section `__xen_guest`, the notes' forerunner.
    GuestSection,
}

/// What a kernel tells Xen. Each field is the note `XEN_ELFNOTE_*` of that name; if a note is there twice the last one
/// counts, as it does for libelf. Addresses are virtual unless something else is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct XenNotes<'a> {
    /// Where the notes were found.
    pub source: NoteSource,
    /// Where a PV guest starts.
    pub entry: Option<u64>,
    /// The page that Xen fills with hypercall stubs. Newer kernels have none and call by themselves.
    pub hypercall_page: Option<u64>,
    /// The address to which pseudo-physical address 0 is mapped.
    pub virt_base: Option<u64>,
    /// What to subtract from the segments' physical addresses.
    pub paddr_offset: Option<u64>,
    /// The version of Xen's interface, "xen-3.0".
    pub xen_version: Option<&'a str>,
    /// The operating system.
    pub guest_os: Option<&'a str>,
    /// Its version.
    pub guest_version: Option<&'a str>,
    /// The loader it is built for, "generic".
    pub loader: Option<&'a str>,
    /// 32-bit only: how it uses PAE.
    pub pae_mode: Option<&'a str>,
    /// The text of FEATURES.
    pub features: Option<&'a str>,
    /// The features it supports: those of FEATURES and SUPPORTED_FEATURES together.
    pub supported: Features,
    /// The features it insists on (`!` in FEATURES).
    pub required: Features,
    /// Whether it wants its symbol table loaded behind itself ("yes").
    pub bsd_symtab: Option<&'a str>,
    /// The lowest address at which Xen's hole in the address space may start.
    pub hv_start_low: Option<u64>,
    /// How to recognise page table entries that hold a frame although they are not present.
    pub l1_mfn_valid: Vec<MfnValid>,
    /// Whether it copes with a cancelled suspend (not 0).
    pub suspend_cancel: Option<u64>,
    /// Where it wants its p2m table mapped.
    pub init_p2m: Option<u64>,
    /// Whether its RAM disk may be handed over by frame number, unmapped (not 0).
    pub mod_start_pfn: Option<u64>,
    /// Where a PVH guest starts. Physical.
    pub phys32_entry: Option<u64>,
    /// Whether and how a PVH kernel may be moved. Physical.
    pub phys32_reloc: Option<Phys32Reloc>,
    /// What a db-boot says of itself: the content of the note of the owner `db-boot`, type 1, which `protocols::trust_note` explains.
    pub db_boot: Option<&'a [u8]>,
    /// Types of notes that this crate does not know.
    pub unknown: Vec<u32>,
}

/// One pair of L1_MFN_VALID: an entry that is `value` under `mask` holds a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MfnValid {
    /// The bits to look at.
    pub mask: u64,
    /// What they must be.
    pub value: u64,
}

/// The limits of PHYS32_RELOC, in bytes of guest-physical address; absent ones are up to the loader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Phys32Reloc {
    /// Alignment of the image's start.
    pub align: Option<u32>,
    /// Lowest address of the image's start.
    pub min: Option<u32>,
    /// Highest address of the image's last byte.
    pub max: Option<u32>,
}

impl XenNotes<'_> {
    /// Whether the kernel has no Xen notes at all.
    pub fn is_empty(&self) -> bool {
        self.source == NoteSource::None
    }
}

/// The note types, named as in `elfnote.h`.
mod kind {
    pub(super) const ENTRY: u32 = 1;
    pub(super) const HYPERCALL_PAGE: u32 = 2;
    pub(super) const VIRT_BASE: u32 = 3;
    pub(super) const PADDR_OFFSET: u32 = 4;
    pub(super) const XEN_VERSION: u32 = 5;
    pub(super) const GUEST_OS: u32 = 6;
    pub(super) const GUEST_VERSION: u32 = 7;
    pub(super) const LOADER: u32 = 8;
    pub(super) const PAE_MODE: u32 = 9;
    pub(super) const FEATURES: u32 = 10;
    pub(super) const BSD_SYMTAB: u32 = 11;
    pub(super) const HV_START_LOW: u32 = 12;
    pub(super) const L1_MFN_VALID: u32 = 13;
    pub(super) const SUSPEND_CANCEL: u32 = 14;
    pub(super) const INIT_P2M: u32 = 15;
    pub(super) const MOD_START_PFN: u32 = 16;
    pub(super) const SUPPORTED_FEATURES: u32 = 17;
    pub(super) const PHYS32_ENTRY: u32 = 18;
    pub(super) const PHYS32_RELOC: u32 = 19;
}

/// Size of a note's header: name size, content size, type.
const NOTE_HEADER_SIZE: usize = 12;
/// The name of Xen's notes, with its NUL.
const XEN: &[u8] = b"Xen\0";

/// The owner of the note of a db-boot about itself, and its type.
const DB_BOOT: (&[u8], u32) = (b"db-boot\0", 1);

/// Reads notes from one kind of place.
pub(crate) struct Walk<'a> {
    elf: &'a [u8],
    notes: XenNotes<'a>,
    source: NoteSource,
    /// Notes seen, of any owner.
    seen: usize,
}

/// One Xen note.
struct Note<'a> {
    kind: u32,
    /// Offset of the note in the file.
    offset: u64,
    content: &'a [u8],
}

impl<'a> Walk<'a> {
    pub(crate) fn new(elf: &'a [u8], source: NoteSource) -> Self {
        Self { elf, notes: XenNotes::default(), source, seen: 0 }
    }

    /// What was found, if anything.
    pub(crate) fn found(self) -> Option<XenNotes<'a>> {
        (!self.notes.is_empty()).then_some(self.notes)
    }

    /// Reads the notes in `size` bytes of the file at `start`.
    pub(crate) fn read(&mut self, start: u64, size: u64) -> Result<(), ImageError> {
        let area = part(self.elf, start, size).ok_or_else(|| ImageError::NotesOutside {
            start,
            end: start.saturating_add(size),
            len: self.elf.len(),
        })?;
        // Behind the last byte that is not zero there is padding at most, perhaps too short for another note. Found once:
        // looking for it again from each note on would let a file of zeros cost the square of its size.
        let padding = area.iter().rev().take_while(|byte| **byte == 0).count();
        let mut rest = area;
        while rest.len() > padding {
            self.seen = self.seen.saturating_add(1);
            if self.seen > MAX_NOTES {
                return Err(ImageError::TooManyNotes);
            }
            let offset = start.saturating_add(len(area).saturating_sub(len(rest)));
            rest = self.note(rest, offset)?;
        }
        Ok(())
    }

    /// Reads the note that `rest` starts with; what is behind it.
    fn note(&mut self, rest: &'a [u8], offset: u64) -> Result<&'a [u8], ImageError> {
        let too_long = |size: usize| ImageError::NoteTooLong {
            offset,
            size: u64::try_from(size).unwrap_or(u64::MAX),
            room: len(rest),
        };
        let (Some(name_size), Some(content_size), Some(kind)) =
            (u32_at(rest, 0), u32_at(rest, 4), u32_at(rest, 8))
        else {
            return Err(too_long(NOTE_HEADER_SIZE));
        };
        let (name_size, content_size) = (to_usize(name_size), to_usize(content_size));
        let content_start = NOTE_HEADER_SIZE.saturating_add(aligned(name_size));
        let content_end = content_start.saturating_add(content_size);
        let (Some(name), Some(content)) = (
            rest.get(NOTE_HEADER_SIZE..NOTE_HEADER_SIZE.saturating_add(name_size)),
            rest.get(content_start..content_end).or_else(|| whole_text(rest.get(content_start..)?, kind)),
        ) else {
            return Err(too_long(content_end));
        };
        if name == XEN {
            self.notes.source = self.source;
            self.notes.set(&Note { kind, offset, content })?;
        } else if (name, kind) == DB_BOOT {
            self.notes.db_boot = Some(content);
        }
        // The last note need not be padded.
        Ok(rest.get(aligned(content_end)..).unwrap_or_default())
    }
}

/// The text in `room`, all that is left of the notes: GRUB's 32-bit PV image says of its last note, PAE_MODE, that it is longer than what is
/// there, and libelf reads such a text up to its NUL.
fn whole_text(room: &[u8], kind: u32) -> Option<&[u8]> {
    (matches!(kind, kind::XEN_VERSION..=kind::FEATURES) && room.contains(&0)).then_some(room)
}

/// Rounds up to the alignment of a note's parts.
fn aligned(size: usize) -> usize {
    size.saturating_add(3) & !3
}

fn to_usize(size: u32) -> usize {
    usize::try_from(size).unwrap_or(usize::MAX)
}

impl<'a> XenNotes<'a> {
    /// Keeps what a note says.
    fn set(&mut self, note: &Note<'a>) -> Result<(), ImageError> {
        match note.kind {
            kind::ENTRY => self.entry = note.number("ENTRY")?,
            kind::HYPERCALL_PAGE => self.hypercall_page = note.number("HYPERCALL_PAGE")?,
            kind::VIRT_BASE => self.virt_base = note.number("VIRT_BASE")?,
            kind::PADDR_OFFSET => self.paddr_offset = note.number("PADDR_OFFSET")?,
            kind::XEN_VERSION => self.xen_version = note.text("XEN_VERSION")?,
            kind::GUEST_OS => self.guest_os = note.text("GUEST_OS")?,
            kind::GUEST_VERSION => self.guest_version = note.text("GUEST_VERSION")?,
            kind::LOADER => self.loader = note.text("LOADER")?,
            kind::PAE_MODE => self.pae_mode = note.text("PAE_MODE")?,
            kind::FEATURES => self.add_features(note.text("FEATURES")?)?,
            kind::BSD_SYMTAB => self.bsd_symtab = note.text("BSD_SYMTAB")?,
            kind::HV_START_LOW => self.hv_start_low = note.number("HV_START_LOW")?,
            kind::L1_MFN_VALID => self.l1_mfn_valid = note.mask_value_pairs(),
            kind::SUSPEND_CANCEL => self.suspend_cancel = note.number("SUSPEND_CANCEL")?,
            kind::INIT_P2M => self.init_p2m = note.number("INIT_P2M")?,
            kind::MOD_START_PFN => self.mod_start_pfn = note.number("MOD_START_PFN")?,
            kind::SUPPORTED_FEATURES => self.supported |= note.first_submap()?,
            kind::PHYS32_ENTRY => self.phys32_entry = note.number("PHYS32_ENTRY")?,
            kind::PHYS32_RELOC => self.phys32_reloc = Some(note.reloc()),
            unknown => self.unknown.push(unknown),
        }
        Ok(())
    }

    /// Keeps the text of FEATURES and what it means.
    pub(crate) fn add_features(&mut self, text: Option<&'a str>) -> Result<(), ImageError> {
        let (supported, required) = Features::parse(text.unwrap_or_default())
            .map_err(|feature| ImageError::UnknownFeature { feature: feature.into() })?;
        self.features = text;
        self.supported |= supported;
        self.required |= required;
        Ok(())
    }
}

impl<'a> Note<'a> {
    /// The content as a number of any size that a C compiler has.
    fn number(&self, note: &'static str) -> Result<Option<u64>, ImageError> {
        let number = match self.content.len() {
            1 => array(self.content, 0).map(u8::from_le_bytes).map(u64::from),
            2 => u16_at(self.content, 0).map(u64::from),
            4 => u32_at(self.content, 0).map(u64::from),
            8 => u64_at(self.content, 0),
            _ => None,
        };
        match number {
            Some(number) => Ok(Some(number)),
            None => Err(ImageError::BadNoteNumber { note, offset: self.offset, size: self.content.len() }),
        }
    }

    /// The content as a text, up to its NUL.
    fn text(&self, note: &'static str) -> Result<Option<&'a str>, ImageError> {
        let bad = || ImageError::BadNoteText { note, offset: self.offset };
        let end = self.content.iter().position(|byte| *byte == 0).unwrap_or(self.content.len());
        if end > MAX_NOTE_TEXT {
            return Err(bad());
        }
        let text = self.content.get(..end).unwrap_or_default();
        core::str::from_utf8(text).map(Some).map_err(|_| bad())
    }

    /// The content as an array of 32-bit feature maps, the first of which is all there is so far.
    fn first_submap(&self) -> Result<Features, ImageError> {
        match u32_at(self.content, 0) {
            Some(bits) if self.content.len().is_multiple_of(4) => Ok(Features::from_bits_retain(bits)),
            _ => Err(ImageError::BadNoteNumber {
                note: "SUPPORTED_FEATURES",
                offset: self.offset,
                size: self.content.len(),
            }),
        }
    }

    fn mask_value_pairs(&self) -> Vec<MfnValid> {
        let pair = |pair: &[u8]| Some(MfnValid { mask: u64_at(pair, 0)?, value: u64_at(pair, 8)? });
        self.content.chunks_exact(16).filter_map(pair).take(MAX_NOTES).collect()
    }

    fn reloc(&self) -> Phys32Reloc {
        Phys32Reloc {
            align: u32_at(self.content, 0),
            min: u32_at(self.content, 4),
            max: u32_at(self.content, 8),
        }
    }
}
