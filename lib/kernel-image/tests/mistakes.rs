//! One kernel for each mistake, and the message it must get.
#![allow(clippy::expect_used, clippy::panic, reason = "a test's own helpers may stop the test")]
mod support;

use kernel_image::{KernelImage, unwrap};
use support::*;

/// The message with which an ELF file is refused, on reading it or on working out its start.
fn refusal(elf: &Elf) -> String {
    refusal_of_bytes(&elf.bytes())
}

fn refusal_of_bytes(bytes: &[u8]) -> String {
    match KernelImage::parse(bytes) {
        Err(error) => error.to_string(),
        Ok(image) => image.layout().expect_err("this kernel has a mistake").to_string(),
    }
}

/// The message with which a file that is to be unwrapped is refused.
fn unwrap_refusal(bytes: &[u8]) -> String {
    unwrap(bytes, 1 << 20).expect_err("this file has a mistake").to_string()
}

/// One test for each line: name, how to refuse, kernel, message.
macro_rules! mistakes {
    ($($name:ident: $refusal:ident($kernel:expr) => $message:expr;)*) => {
        $(#[test]
        fn $name() {
            assert_eq!($refusal(&$kernel), $message);
        })*
    };
}

// The file.
mistakes! {
    empty_file: unwrap_refusal([]) => "the kernel is an empty file; check its path";
    text_file: unwrap_refusal(*b"#!/bin/sh\n") =>
        "not a kernel: 10 bytes that start with \"#!/bin/s\" are neither an ELF file, nor Linux's bzImage, nor \
         compressed with gzip, bzip2, xz, lzma, lzo, lz4 or zstd; give a vmlinuz, a vmlinux or another ELF kernel";
    bzimage_cut_off_in_header: unwrap_refusal(bzimage(b"")[..0x20a]) =>
        "the bzImage ends at 0x20a, within its setup header; it was cut off: copy it again";
    bzimage_cut_off_in_boot_sector: unwrap_refusal(bzimage(b"")[..0x200]) =>
        "the bzImage ends at 0x200, within its setup header; it was cut off: copy it again";
    bzimage_too_old: unwrap_refusal(patched(bzimage(b"x"), 0x206, &[7, 2])) =>
        "the bzImage has boot protocol 2.07, but only 2.08 (Linux 2.6.24) and later say where the kernel inside is; \
         use a newer kernel or its vmlinux";
    bzimage_without_payload: unwrap_refusal(bzimage(b"")) =>
        "the bzImage's header says that its payload has 0 bytes; the file is damaged or not a full image";
    bzimage_payload_outside: unwrap_refusal(patched(bzimage(b"\x1f\x8b"), 0x24c, &[0, 0, 1, 0])) =>
        "the bzImage's payload lies in [0x410..0x10410) but the file ends at 0x412; it was cut off: copy it again";
    bzimage_payload_wraps: unwrap_refusal(patched(bzimage(b"\x1f\x8b"), 0x248, &[0xff; 8])) =>
        "the bzImage's payload lies in [0x1000003ff..0x2000003fe) but the file ends at 0x412; \
         it was cut off: copy it again";
    bzimage_unknown_compression: unwrap_refusal(bzimage(b"what is this")) =>
        "the bzImage's payload at 0x410 starts with \"what i\", no compression that Linux has; the file is damaged";
    bzip2_without_level: unwrap_refusal(*b"BZh0\0\0\0\0") =>
        "its bzip2 data is damaged: a stream's header names no level from 1 to 9; copy it again";
    bzip2_of_long_ago: unwrap_refusal(*b"BZh91AY&SY\0\0\0\0\x80") =>
        "its bzip2 data is damaged: its blocks are randomised, as those of bzip2 before 0.9.5 are; \
         copy it again";
}

// The ELF header.
mistakes! {
    not_elf: refusal_of_bytes(*b"MZ\0\0") => "not an ELF file: it starts with \"MZ\\x00\\x00\"";
    cut_off_in_identity: refusal_of_bytes(*b"\x7fELF") =>
        "the ELF file ends at 0x4, within its header of 0x40 bytes; it was cut off: copy it again";
    cut_off_in_header: refusal_of_bytes(Elf::kernel().bytes()[..63]) =>
        "the ELF file ends at 0x3f, within its header of 0x40 bytes; it was cut off: copy it again";
    thirty_two_bit_without_pae: refusal_of_bytes(Elf::kernel().bytes_of_32_bits()) =>
        "the kernel is for i386 and its PAE_MODE is \"\", not \"yes\" or \"bimodal\": Xen runs 32-bit PV guests only with PAE; build it \
         with that (for Linux, CONFIG_X86_PAE), use a 64-bit kernel, or type = \"pvh\" if the kernel has the note PHYS32_ENTRY";
    thirty_two_bit_file_of_64_bit_code: refusal_of_bytes(patched(Elf::kernel().bytes_of_32_bits(), 18, &[62])) =>
        "the kernel is for x86-64 in a 32-bit ELF file, which only PVH guests can start from: give its 64-bit ELF file, or use type = \
         \"pvh\" if the kernel has the note PHYS32_ENTRY";
    thirty_two_bit_in_xens_addresses: refusal_of_bytes(pae_kernel(0xf560_0000, "yes").bytes_of_32_bits()) =>
        "with VIRT_BASE 0xf5600000 and PADDR_OFFSET 0x0 the kernel's physical [0x100000..0x300000) would be mapped at \
         [0xf5700000..0xf5900000), which reaches into addresses that no 32-bit guest can use, from 0xf5800000 on; fix the notes or the \
         segments' physical addresses";
    thirty_two_bit_cut_off: refusal_of_bytes(Elf::kernel().bytes_of_32_bits()[..51]) =>
        "the ELF file ends at 0x33, within its header of 0x34 bytes; it was cut off: copy it again";
    class_unknown: refusal(Elf::kernel().with(|elf| elf.class = 3)) =>
        "the ELF header's class is 3, neither 32 nor 64 bits; the file is damaged";
    big_endian: refusal(Elf::kernel().with(|elf| elf.encoding = 2)) =>
        "the ELF header's data encoding is 2, not little-endian (1); use a kernel for x86-64";
    other_machine: refusal(Elf::kernel().with(|elf| elf.machine = 183)) =>
        "the kernel is for another processor (ELF machine 183, not 62); use a kernel for x86-64";
    object_file: refusal(Elf::kernel().with(|elf| elf.kind = 1)) =>
        "the ELF file is an object file (type 1), not an executable; give the linked kernel";
    core_dump: refusal(Elf::kernel().with(|elf| elf.kind = 4)) =>
        "the ELF file is a core dump (type 4), not an executable; give the linked kernel";
    type_unknown: refusal(Elf::kernel().with(|elf| elf.kind = 0)) =>
        "the ELF file is of no known type (type 0), not an executable; give the linked kernel";
    program_table_outside: refusal(Elf::kernel().with(|elf| elf.program_offset = u64::MAX - 7)) =>
        "the ELF file's 2 program headers lie in [0xfffffffffffffff8..0xffffffffffffffff) but the file ends at \
         0x18110; it was cut off: copy it again";
    program_count_too_large: refusal(Elf::kernel().with(|elf| elf.program_count = Some(0xffff))) =>
        "the ELF file has 65535 program headers, more than 256 for which there is room; \
         link the kernel into fewer segments";
    program_count_beyond_file:
        refusal(Elf::plain().with(|elf| { elf.programs.clear(); elf.program_count = Some(3); })) =>
        "the ELF file's 3 program headers lie in [0x40..0xe8) but the file ends at 0x40; \
         it was cut off: copy it again";
    program_header_size_wrong: refusal(Elf::kernel().with(|elf| elf.program_size = 32)) =>
        "the ELF file's program headers have 32 bytes each, not 56; it is damaged";
}

// Segments.
mistakes! {
    no_program_headers: refusal(Elf::plain().with(|elf| elf.programs.clear())) =>
        "the ELF file has no segment to load (PT_LOAD with memory); give the linked kernel, not its symbols";
    nothing_to_load: refusal(Elf::kernel().with(|elf| { elf.programs.remove(0); })) =>
        "the ELF file has no segment to load (PT_LOAD with memory); give the linked kernel, not its symbols";
    segment_outside_file: refusal(Elf::kernel().with(|elf| elf.programs[0].offset = Some(0x1_0000))) =>
        "segment 0 lies in [0x10000..0x28000) of the file, which ends at 0x18110; it was cut off: copy it again";
    segment_offset_wraps: refusal(Elf::kernel().with(|elf| elf.programs[0].offset = Some(u64::MAX))) =>
        "segment 0 lies in [0xffffffffffffffff..0xffffffffffffffff) of the file, which ends at 0x18110; \
         it was cut off: copy it again";
    segment_larger_in_file: refusal(Elf::kernel().with(|elf| elf.programs[0].memory_size = 0x1000)) =>
        "segment 0 has 0x18000 bytes in the file but only 0x1000 in memory; the ELF file is damaged: link it again";
    segment_wraps_physically: refusal(Elf::kernel().with(|elf| elf.programs[0].physical = u64::MAX - 0xfff)) =>
        "segment 0 at physical address 0xfffffffffffff000 with 0x30000 bytes ends beyond 64 bits; \
         the ELF file is damaged: link it again";
    segment_wraps_virtually: refusal(Elf::kernel().with(|elf| elf.programs[0].virt = u64::MAX - 0xfff)) =>
        "segment 0 at virtual address 0xfffffffffffff000 with 0x30000 bytes ends beyond 64 bits; \
         the ELF file is damaged: link it again";
    segments_overlap:
        refusal(Elf::kernel().with(|elf| elf.programs.push(Program::load(START + 0x2_f000, b"x", 0x1000)))) =>
        "segments 0 at physical [0x100000..0x130000) and 2 at [0x12f000..0x130000) overlap; \
         give each its own physical address (AT in the linker script)";
}

// Notes.
mistakes! {
    no_notes: refusal(Elf::plain()) =>
        "the kernel has no Xen notes, so it cannot run as a Xen guest; Linux needs CONFIG_XEN with CONFIG_XEN_PV \
         (for PV) or CONFIG_PVH (for PVH), and CONFIG_HVC_XEN for its console";
    notes_of_others_only: refusal(Elf::with_notes(&[note_of(b"GNU\0", 3, b"build id")])) =>
        "the kernel has no Xen notes, so it cannot run as a Xen guest; Linux needs CONFIG_XEN with CONFIG_XEN_PV \
         (for PV) or CONFIG_PVH (for PVH), and CONFIG_HVC_XEN for its console";
    notes_outside_file: refusal(Elf::kernel().with(|elf| elf.programs[1].file_size = Some(0x100_0000))) =>
        "the notes in [0x180b0..0x10180b0) lie outside the file, which ends at 0x18110; copy it again";
    note_longer_than_segment:
        refusal(Elf::with_notes(&notes_and(patched(number(INIT_P2M, 0), 4, &[0xff; 4])))) =>
        "the note at offset 0x18110 needs 0x10000000f bytes but its segment has 0x18 left; \
         the ELF file is damaged: link it again";
    note_name_longer_than_segment:
        refusal(Elf::with_notes(&notes_and(patched(number(INIT_P2M, 0), 0, &[0xff; 4])))) =>
        "the note at offset 0x18110 needs 0x100000014 bytes but its segment has 0x18 left; \
         the ELF file is damaged: link it again";
    note_header_cut_off: refusal(Elf::with_notes(&notes_and(vec![4, 0, 0, 0, 1]))) =>
        "the note at offset 0x18110 needs 0xc bytes but its segment has 0x5 left; \
         the ELF file is damaged: link it again";
    too_many_notes: refusal(Elf::with_notes(&vec![note_of(b"GNU\0", 1, b""); 1025])) =>
        "the ELF file has more than 1024 notes; it is damaged or no kernel";
    entry_of_three_bytes: refusal(Elf::with_notes(&notes_and(note(ENTRY, &[1, 2, 3])))) =>
        "the Xen note ENTRY at offset 0x18110 has 3 bytes where a number has 1, 2, 4 or 8; \
         fix the kernel's note (.long or .quad)";
    supported_features_empty: refusal(Elf::with_notes(&notes_and(note(17, &[])))) =>
        "the Xen note SUPPORTED_FEATURES at offset 0x18110 has 0 bytes where a number has 1, 2, 4 or 8; \
         fix the kernel's note (.long or .quad)";
    loader_not_text: refusal(Elf::with_notes(&notes_and(note(LOADER, b"\xff\xfe\0")))) =>
        "the Xen note LOADER at offset 0x18110 holds no text of at most 4096 bytes; fix the kernel's note (.asciz)";
    guest_os_too_long: refusal(Elf::with_notes(&notes_and(text(GUEST_OS, &"x".repeat(4097))))) =>
        "the Xen note GUEST_OS at offset 0x18110 holds no text of at most 4096 bytes; \
         fix the kernel's note (.asciz)";
    feature_required_but_unknown: refusal(Elf::with_notes(&notes_and(text(FEATURES, "dom0|!time_travel")))) =>
        "the kernel requires the Xen feature \"time_travel\", which no Xen's tools know; \
         take it out of its note FEATURES or drop the \"!\"";
    section_table_outside:
        refusal(Elf::plain().with(|elf| {
            elf.sections.push(section("__xen_guest", b"LOADER=generic\0"));
            elf.section_offset = Some(0x10_0000);
        })) =>
        "the ELF file's 3 section headers lie in [0x100000..0x1000c0) but the file ends at 0x18158; \
         it was cut off: copy it again";
    section_header_size_wrong:
        refusal(Elf::plain().with(|elf| {
            elf.sections.push(section("__xen_guest", b"LOADER=generic\0"));
            elf.section_size = 40;
        })) =>
        "the ELF file's section headers have 40 bytes each, not 64; it is damaged";
    guest_section_number_wrong:
        refusal(Elf::plain().with(|elf| elf.sections.push(section("__xen_guest", b"VIRT_BASE=high\0")))) =>
        "the section __xen_guest has \"VIRT_BASE=high\" where a number of 64 bits is expected; \
         fix the kernel's section";
    guest_section_hypercall_page_overflows:
        refusal(Elf::plain().with(|elf| {
            elf.sections.push(section("__xen_guest", b"HYPERCALL_PAGE=0xffffffffffffffff\0"));
        })) =>
        "the section __xen_guest has \"HYPERCALL_PAGE=0xffffffffffffffff\" where the number of a page is expected; \
         fix the kernel's section";
}

// The start as a PV guest.
mistakes! {
    pvh_only:
        refusal(Elf::with_notes(&[number(PHYS32_ENTRY, START), text(GUEST_OS, "linux"), text(XEN_VERSION, "xen-3.0")])) =>
        "the kernel has PHYS32_ENTRY (0x100000) but no ENTRY: it can run as a PVH guest only; \
         use type=\"pvh\", or build it with CONFIG_XEN_PV";
    loader_of_another_kind:
        refusal(Elf::with_notes(&notes_and(text(LOADER, "special")))) =>
        "the kernel's notes say LOADER \"special\" and GUEST_OS \"\"; Xen's rule is that LOADER starts with \
         \"generic\" or GUEST_OS with \"linux\": add the note LOADER=generic";
    xen_version_missing:
        refusal(Elf::with_notes(&[number(ENTRY, BASE + START), text(LOADER, "generic")])) =>
        "the kernel's note XEN_VERSION is \"\"; it must start with \"xen-3.0\", the name of this interface";
    xen_version_of_another_interface:
        refusal(Elf::with_notes(&notes_and(text(XEN_VERSION, "xen-4.0")))) =>
        "the kernel's note XEN_VERSION is \"xen-4.0\"; it must start with \"xen-3.0\", the name of this interface";
    dom0_only: refusal(Elf::with_notes(&notes_and(text(FEATURES, "!dom0")))) =>
        "the kernel requires the feature dom0: it cannot run unprivileged; use a kernel that can";
    paddr_offset_without_virt_base:
        refusal(Elf::with_notes(&[
            number(ENTRY, BASE + START), number(PADDR_OFFSET, 0x1000), text(XEN_VERSION, "xen-3.0"), text(LOADER, "generic"),
        ])) =>
        "the kernel has the note PADDR_OFFSET (0x1000) but no VIRT_BASE, without which it means nothing";
    paddr_offset_too_large: refusal(Elf::with_notes(&notes_and(number(PADDR_OFFSET, 0x20_0000)))) =>
        "with VIRT_BASE 0xffffffff80000000 and PADDR_OFFSET 0x200000 the kernel's physical [0x100000..0x130000) \
         would be mapped at [0xffffffff7ff00000..0xffffffff7ff30000), which starts below VIRT_BASE, \
         where there is no memory; fix the notes or the segments' physical addresses";
    virt_base_in_xens_hole: refusal(Elf::with_notes(&notes_and(number(VIRT_BASE, 0xffff_8000_0000_0000)))) =>
        "with VIRT_BASE 0xffff800000000000 and PADDR_OFFSET 0x0 the kernel's physical [0x100000..0x130000) \
         would be mapped at [0xffff800000100000..0xffff800000130000), which reaches into addresses that no guest can \
         use, [0x800000000000..0xffff880000000000); fix the notes or the segments' physical addresses";
    virt_base_at_the_end: refusal(Elf::with_notes(&notes_and(number(VIRT_BASE, u64::MAX - 0x11_ffff)))) =>
        "with VIRT_BASE 0xffffffffffee0000 and PADDR_OFFSET 0x0 the kernel's physical [0x100000..0x130000) \
         would be mapped at [0xfffffffffffe0000..0x10000), which wraps around the end of the address space; \
         fix the notes or the segments' physical addresses";
    entry_outside_kernel: refusal(Elf::with_notes(&notes_and(number(ENTRY, BASE)))) =>
        "the entry point 0xffffffff80000000 is in no segment: the kernel is mapped at \
         [0xffffffff80100000..0xffffffff80130000); fix the note ENTRY or the ELF entry point";
    entry_between_segments:
        refusal(Elf::with_notes(&notes_and(number(ENTRY, BASE + 0x15_0000))).with(|elf| {
            elf.programs.push(Program::load(0x20_0000, b"", 0x1000));
        })) =>
        "the entry point 0xffffffff80150000 is in no segment: the kernel is mapped at \
         [0xffffffff80100000..0xffffffff80201000); fix the note ENTRY or the ELF entry point";
    elf_entry_outside_kernel:
        refusal(Elf::with_notes(&[number(VIRT_BASE, BASE), text(XEN_VERSION, "xen-3.0"), text(LOADER, "generic")])
            .with(|elf| elf.entry = START)) =>
        "the entry point 0x100000 is in no segment: the kernel is mapped at \
         [0xffffffff80100000..0xffffffff80130000); fix the note ENTRY or the ELF entry point";
    hypercall_page_outside: refusal(Elf::with_notes(&notes_and(number(HYPERCALL_PAGE, BASE)))) =>
        "the hypercall page 0xffffffff80000000 is no page of the kernel, which is mapped at \
         [0xffffffff80100000..0xffffffff80130000); reserve one aligned page for it or drop the note HYPERCALL_PAGE";
    hypercall_page_not_aligned:
        refusal(Elf::with_notes(&notes_and(number(HYPERCALL_PAGE, BASE + START + 0x10)))) =>
        "the hypercall page 0xffffffff80100010 is no page of the kernel, which is mapped at \
         [0xffffffff80100000..0xffffffff80130000); reserve one aligned page for it or drop the note HYPERCALL_PAGE";
    p2m_inside_kernel: refusal(Elf::with_notes(&notes_and(number(INIT_P2M, BASE + START + 0x1000)))) =>
        "the note INIT_P2M wants the p2m at 0xffffffff80101000, inside the kernel at \
         [0xffffffff80100000..0xffffffff80130000); choose an address below VIRT_BASE";
}

/// `bytes` with `new` written over them at `offset`.
fn patched(mut bytes: Vec<u8>, offset: usize, new: &[u8]) -> Vec<u8> {
    bytes[offset..offset + new.len()].copy_from_slice(new);
    bytes
}

fn section(name: &'static str, data: &[u8]) -> Section {
    Section::new(name, SHT_PROGBITS, data)
}
