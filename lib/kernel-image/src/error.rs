//! Everything that can be wrong with a kernel.
use crate::{Compression, Format, MAX_NOTE_TEXT, MAX_NOTES, MAX_PROGRAM_HEADERS, MAX_SECTION_HEADERS};
use alloc::{string::String, vec::Vec};
use core::ops::Range;
use thiserror::Error;

/// Why a kernel cannot be used.
///
/// Ranges are half-open. Offsets count bytes from the start of the ELF file (for the `BzImage` variants: of the image).
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ImageError {
    // The file as a whole.
    /// There is nothing.
    #[error("the kernel is an empty file; check its path")]
    Empty,
    /// Nothing this crate knows.
    #[error(
        "not a kernel: {len} bytes that start with \"{}\" are neither an ELF file, nor Linux's bzImage, nor \
         compressed with gzip, bzip2, xz, lzma, lzo, lz4 or zstd; give a vmlinuz, a vmlinux or another ELF kernel",
        .start.escape_ascii()
    )]
    NotAKernel {
        /// The first bytes, at most eight.
        start: Vec<u8>,
        /// Size of the file in bytes.
        len: usize,
    },
    /// Unpacking gave something else.
    #[error(
        "the kernel ({format}) holds no ELF file: what is inside starts with \"{}\"; give a kernel, not an archive \
         or a disk image",
        .start.escape_ascii()
    )]
    NotElfInside {
        /// What the file is.
        format: Format,
        /// The first bytes of what is inside, at most four.
        start: Vec<u8>,
    },

    // Linux's boot image.
    /// The image ends within its header.
    #[error("the bzImage ends at {len:#x}, within its setup header; it was cut off: copy it again")]
    BzImageCutOff {
        /// Size of the file in bytes.
        len: usize,
    },
    /// The header does not tell where the payload is.
    #[error(
        "the bzImage has boot protocol {}.{:02}, but only 2.08 (Linux 2.6.24) and later say where the kernel inside \
         is; use a newer kernel or its vmlinux", .protocol >> 8, .protocol & 0xff
    )]
    BzImageTooOld {
        /// Version of the boot protocol, major in the high byte.
        protocol: u16,
    },
    /// The payload has no bytes.
    #[error(
        "the bzImage's header says that its payload has 0 bytes; the file is damaged or not a full image"
    )]
    BzImageNoPayload,
    /// The payload lies outside the file.
    #[error(
        "the bzImage's payload lies in [{:#x}..{:#x}) but the file ends at {len:#x}; it was cut off: copy it again",
        .payload.start, .payload.end
    )]
    BzImagePayloadOutside {
        /// Where the header says it lies.
        payload: Range<usize>,
        /// Size of the file in bytes.
        len: usize,
    },
    /// The payload is compressed in an unknown way.
    #[error(
        "the bzImage's payload at {offset:#x} starts with \"{}\", no compression that Linux has; the file is damaged",
        .start.escape_ascii()
    )]
    UnknownCompression {
        /// Where the payload starts.
        offset: usize,
        /// Its first bytes, at most six.
        start: Vec<u8>,
    },

    // Unpacking.
    /// More bytes than allowed would come out.
    #[error(
        "it unpacks ({compression}) to {size} bytes or more, above the limit of {limit} bytes; \
         the file was cut off or is no kernel, or db-boot lacks the memory: store it unpacked then, or raise `dom0_mem`"
    )]
    TooLarge {
        /// The compression.
        compression: Compression,
        /// The size it declares, or how many bytes were unpacked when the limit was reached.
        size: usize,
        /// The caller's limit in bytes.
        limit: usize,
    },
    /// The heap is too small.
    #[error("no memory for {size} bytes that it unpacks to; give the builder more memory (dom0_mem)")]
    OutOfMemory {
        /// Size of the buffer in bytes.
        size: usize,
    },
    /// The compressed data ends too early.
    #[error("its {compression} data ends too early, after {len} bytes; it was cut off: copy it again")]
    PackedCutOff {
        /// The compression.
        compression: Compression,
        /// Size of the compressed data in bytes.
        len: usize,
    },
    /// The compressed data is damaged.
    #[error("its {compression} data is damaged: {detail}; copy it again")]
    Corrupt {
        /// The compression.
        compression: Compression,
        /// What the decompressor found.
        detail: String,
    },
    /// A checksum does not match.
    #[error(
        "its {compression} data is damaged: its checksum is {computed:#x}, it should be {stored:#x}; \
         copy it again"
    )]
    BadChecksum {
        /// The compression.
        compression: Compression,
        /// The checksum in the file.
        stored: u64,
        /// The checksum of what came out.
        computed: u64,
    },
    /// More came out than the file declares.
    #[error(
        "its {compression} data unpacks to more than the {declared} bytes that the file declares; \
         it is damaged: copy it again"
    )]
    MoreThanDeclared {
        /// The compression.
        compression: Compression,
        /// The declared size in bytes.
        declared: usize,
    },
    /// Less came out than the file declares.
    #[error(
        "its {compression} data unpacks to {unpacked} bytes but the file declares {declared}; \
         it is damaged: copy it again"
    )]
    LessThanDeclared {
        /// The compression.
        compression: Compression,
        /// The declared size in bytes.
        declared: usize,
        /// How many bytes came out.
        unpacked: usize,
    },
    /// Something follows the compressed data.
    #[error("{count} bytes follow its {compression} data; the file is damaged or was joined with another")]
    TrailingBytes {
        /// The compression.
        compression: Compression,
        /// How many bytes follow.
        count: usize,
    },

    /// It is compressed by lz4 in another format than Linux's.
    #[error(
        "it has lz4's frame format, and only its legacy format is unpacked, as by Linux: compress it with `lz4 -l`"
    )]
    Lz4Frame,

    // The ELF header.
    /// The file has no ELF magic number.
    #[error("not an ELF file: it starts with \"{}\"", .start.escape_ascii())]
    NotElf {
        /// The first bytes, at most four.
        start: Vec<u8>,
    },
    /// The file ends within the ELF header.
    #[error(
        "the ELF file ends at {len:#x}, within its header of {header:#x} bytes; it was cut off: copy it again"
    )]
    ElfCutOff {
        /// Size of the file in bytes.
        len: usize,
        /// Size of its header.
        header: usize,
    },
    /// A 64-bit kernel in a 32-bit file, as PV.
    #[error(
        "the kernel is for x86-64 in a 32-bit ELF file, which only PVH guests can start from: give its 64-bit ELF file, or use \
         type = \"pvh\" if the kernel has the note PHYS32_ENTRY"
    )]
    ThirtyTwoBitFile,
    /// A 32-bit kernel without PAE, as PV.
    #[error(
        "the kernel is for i386 and its PAE_MODE is {found:?}, not \"yes\" or \"bimodal\": Xen runs 32-bit PV guests only with \
         PAE; build it with that (for Linux, CONFIG_X86_PAE), use a 64-bit kernel, or type = \"pvh\" if the kernel has the note \
         PHYS32_ENTRY"
    )]
    NoPae {
        /// What its note PAE_MODE says; empty without one.
        found: String,
    },
    /// Neither 32 nor 64 bits.
    #[error("the ELF header's class is {class}, neither 32 nor 64 bits; the file is damaged")]
    BadClass {
        /// The byte `EI_CLASS`.
        class: u8,
    },
    /// Not little-endian.
    #[error("the ELF header's data encoding is {encoding}, not little-endian (1); use a kernel for x86-64")]
    BadEncoding {
        /// The byte `EI_DATA`.
        encoding: u8,
    },
    /// For another processor.
    #[error("the kernel is for another processor (ELF machine {machine}, not 62); use a kernel for x86-64")]
    WrongMachine {
        /// The field `e_machine`.
        machine: u16,
    },
    /// What the kernel wants loaded behind itself is not in the file.
    #[error(
        "the kernel asks for its symbols (note BSD_SYMTAB), and its {what} [{start:#x}..{end:#x}) lies outside of the file of \
         {len:#x} bytes; it was cut off, or take the note out"
    )]
    SymbolsOutside {
        /// Which section.
        what: &'static str,
        /// Its first byte.
        start: u64,
        /// The byte behind it.
        end: u64,
        /// Size of the file in bytes.
        len: usize,
    },
    /// The symbols do not fit behind the kernel.
    #[error(
        "the kernel asks for its symbols (note BSD_SYMTAB), and {table_size:#x} bytes of them with {names_size:#x} bytes of names do \
         not fit behind its end {kernel_end:#x} and into 4 GiB; its section headers are damaged"
    )]
    SymbolsTooLarge {
        /// Where the kernel ends, physical.
        kernel_end: u64,
        /// Size of the symbols in bytes.
        table_size: u64,
        /// Size of their names in bytes.
        names_size: u64,
    },
    /// Neither an executable nor position-independent.
    #[error("the ELF file is {what} (type {kind}), not an executable; give the linked kernel")]
    NotExecutable {
        /// The field `e_type`.
        kind: u16,
        /// What that is.
        what: &'static str,
    },
    /// The ELF header contradicts itself.
    #[error("the ELF header is damaged: {detail}")]
    BadElfHeader {
        /// What is wrong with it.
        detail: String,
    },
    /// A table of headers lies outside the file.
    #[error(
        "the ELF file's {count} {table} headers lie in [{start:#x}..{end:#x}) but the file ends at {len:#x}; \
         it was cut off: copy it again"
    )]
    TableOutside {
        /// "program" or "section".
        table: &'static str,
        /// How many headers.
        count: usize,
        /// Where they start.
        start: u64,
        /// Where they end; the largest number if that overflows.
        end: u64,
        /// Size of the file in bytes.
        len: usize,
    },
    /// A header's size is not that of the format.
    #[error("the ELF file's {table} headers have {found} bytes each, not {expected}; it is damaged")]
    BadEntrySize {
        /// "program" or "section".
        table: &'static str,
        /// The size in the ELF header.
        found: u16,
        /// The size in the format.
        expected: usize,
    },
    /// More headers than any kernel has.
    #[error(
        "the ELF file has {count} {table} headers, more than {} for which there is room; \
         link the kernel into fewer segments",
        if *.table == "program" { MAX_PROGRAM_HEADERS } else { MAX_SECTION_HEADERS }
    )]
    TooManyHeaders {
        /// "program" or "section".
        table: &'static str,
        /// How many.
        count: usize,
    },

    // Segments.
    /// Nothing to load.
    #[error(
        "the ELF file has no segment to load (PT_LOAD with memory); give the linked kernel, not its symbols"
    )]
    NoSegments,
    /// A segment's content lies outside the file.
    #[error(
        "segment {index} lies in [{start:#x}..{end:#x}) of the file, which ends at {len:#x}; \
         it was cut off: copy it again"
    )]
    SegmentOutside {
        /// Index of the program header.
        index: usize,
        /// Where the content starts in the file.
        start: u64,
        /// Where it ends; the largest number if that overflows.
        end: u64,
        /// Size of the file in bytes.
        len: usize,
    },
    /// More content than memory.
    #[error(
        "segment {index} has {file_size:#x} bytes in the file but only {memory_size:#x} in memory; \
         the ELF file is damaged: link it again"
    )]
    SegmentTooSmall {
        /// Index of the program header.
        index: usize,
        /// `p_filesz`.
        file_size: u64,
        /// `p_memsz`.
        memory_size: u64,
    },
    /// A segment wraps around the end of the address space.
    #[error(
        "segment {index} at {kind} address {start:#x} with {size:#x} bytes ends beyond 64 bits; \
         the ELF file is damaged: link it again"
    )]
    SegmentWraps {
        /// Index of the program header.
        index: usize,
        /// "physical" or "virtual".
        kind: &'static str,
        /// Where it starts.
        start: u64,
        /// `p_memsz`.
        size: u64,
    },
    /// Two segments want the same memory.
    #[error(
        "segments {first} at physical [{:#x}..{:#x}) and {second} at [{:#x}..{:#x}) overlap; \
         give each its own physical address (AT in the linker script)",
        .first_range.start, .first_range.end, .second_range.start, .second_range.end
    )]
    SegmentsOverlap {
        /// Index of the lower one's program header.
        first: usize,
        /// Its physical addresses.
        first_range: Range<u64>,
        /// Index of the higher one's program header.
        second: usize,
        /// Its physical addresses.
        second_range: Range<u64>,
    },

    // Notes.
    /// A note segment or section lies outside the file.
    #[error(
        "the notes in [{start:#x}..{end:#x}) lie outside the file, which ends at {len:#x}; copy it again"
    )]
    NotesOutside {
        /// Where they start.
        start: u64,
        /// Where they end; the largest number if that overflows.
        end: u64,
        /// Size of the file in bytes.
        len: usize,
    },
    /// A note runs past its segment.
    #[error(
        "the note at offset {offset:#x} needs {size:#x} bytes but its segment has {room:#x} left; \
         the ELF file is damaged: link it again"
    )]
    NoteTooLong {
        /// Offset of the note in the file.
        offset: u64,
        /// Bytes it needs.
        size: u64,
        /// Bytes there are.
        room: u64,
    },
    /// More notes than any kernel has.
    #[error("the ELF file has more than {MAX_NOTES} notes; it is damaged or no kernel")]
    TooManyNotes,
    /// A number of a wrong size.
    #[error(
        "the Xen note {note} at offset {offset:#x} has {size} bytes where a number has 1, 2, 4 or 8; \
         fix the kernel's note (.long or .quad)"
    )]
    BadNoteNumber {
        /// Name of the note.
        note: &'static str,
        /// Offset of the note in the file.
        offset: u64,
        /// Size of its content.
        size: usize,
    },
    /// A text that is none, or is too long.
    #[error(
        "the Xen note {note} at offset {offset:#x} holds no text of at most {MAX_NOTE_TEXT} bytes; \
         fix the kernel's note (.asciz)"
    )]
    BadNoteText {
        /// Name of the note.
        note: &'static str,
        /// Offset of the note in the file.
        offset: u64,
    },
    /// A required feature that Xen does not have.
    #[error(
        "the kernel requires the Xen feature \"{feature}\", which no Xen's tools know; \
         take it out of its note FEATURES or drop the \"!\""
    )]
    UnknownFeature {
        /// The feature's name.
        feature: String,
    },
    /// The `__xen_guest` section is damaged.
    #[error("the section __xen_guest has \"{field}\" where {expected} is expected; fix the kernel's section")]
    BadGuestSection {
        /// The field, NAME=VALUE.
        field: String,
        /// What it should be.
        expected: &'static str,
    },

    // Whether it can run as a PV guest.
    /// There are no Xen notes at all.
    #[error(
        "the kernel has no Xen notes, so it cannot run as a Xen guest; Linux needs CONFIG_XEN with CONFIG_XEN_PV \
         (for PV) or CONFIG_PVH (for PVH), and CONFIG_HVC_XEN for its console"
    )]
    NoXenNotes,
    /// The kernel is for PVH only.
    #[error(
        "the kernel has PHYS32_ENTRY ({entry:#x}) but no ENTRY: it can run as a PVH guest only; \
         use type=\"pvh\", or build it with CONFIG_XEN_PV"
    )]
    PvhOnly {
        /// The physical entry point.
        entry: u64,
    },
    /// Neither built for the generic loader nor Linux.
    #[error(
        "the kernel's notes say LOADER \"{loader}\" and GUEST_OS \"{guest_os}\"; \
         Xen's rule is that LOADER starts with \"generic\" or GUEST_OS with \"linux\": add the note LOADER=generic"
    )]
    WrongLoader {
        /// The note LOADER, empty if there is none.
        loader: String,
        /// The note GUEST_OS, empty if there is none.
        guest_os: String,
    },
    /// For another Xen.
    #[error(
        "the kernel's note XEN_VERSION is \"{found}\"; it must start with \"xen-3.0\", the name of this interface"
    )]
    WrongXenVersion {
        /// The note's text, empty if there is none.
        found: String,
    },
    /// A kernel for Dom0 only.
    #[error("the kernel requires the feature dom0: it cannot run unprivileged; use a kernel that can")]
    OnlyDom0,
    /// `PADDR_OFFSET` without `VIRT_BASE`.
    #[error(
        "the kernel has the note PADDR_OFFSET ({paddr_offset:#x}) but no VIRT_BASE, without which it means nothing"
    )]
    OffsetWithoutBase {
        /// The note PADDR_OFFSET.
        paddr_offset: u64,
    },
    /// The kernel's virtual addresses make no sense.
    #[error(
        "with VIRT_BASE {virt_base:#x} and PADDR_OFFSET {paddr_offset:#x} the kernel's physical [{:#x}..{:#x}) \
         would be mapped at [{virt_start:#x}..{virt_end:#x}), which {problem}; fix the notes or the segments' \
         physical addresses", .physical.start, .physical.end
    )]
    BadAddresses {
        /// The note VIRT_BASE or its default.
        virt_base: u64,
        /// The note PADDR_OFFSET or its default.
        paddr_offset: u64,
        /// Physical addresses of all segments together.
        physical: Range<u64>,
        /// Where the kernel's mapping would start.
        virt_start: u64,
        /// Where it would end.
        virt_end: u64,
        /// What is wrong with that.
        problem: &'static str,
    },
    /// The entry point is in no segment.
    #[error(
        "the entry point {entry:#x} is in no segment: the kernel is mapped at [{:#x}..{:#x}); \
         fix the note ENTRY or the ELF entry point", .kernel.start, .kernel.end
    )]
    EntryOutside {
        /// The entry point, virtual.
        entry: u64,
        /// The kernel's virtual addresses.
        kernel: Range<u64>,
    },
    /// The hypercall page is no page of the kernel.
    #[error(
        "the hypercall page {address:#x} is no page of the kernel, which is mapped at [{:#x}..{:#x}); \
         reserve one aligned page for it or drop the note HYPERCALL_PAGE", .kernel.start, .kernel.end
    )]
    HypercallPageOutside {
        /// Its address, virtual.
        address: u64,
        /// The kernel's virtual addresses.
        kernel: Range<u64>,
    },
    /// The p2m would lie on top of the kernel.
    #[error(
        "the note INIT_P2M wants the p2m at {address:#x}, inside the kernel at [{:#x}..{:#x}); \
         choose an address below VIRT_BASE", .kernel.start, .kernel.end
    )]
    P2mInsideKernel {
        /// The note INIT_P2M, virtual.
        address: u64,
        /// The kernel's virtual addresses.
        kernel: Range<u64>,
    },
}
