//! A kernel, as far as a builder can tell.

use sample_kernel::note;
use xen_abi::elfnote;

/// An ELF file that a builder takes for a kernel, PV or PVH: its headers, its notes, and that is all.
pub fn kernel() -> Vec<u8> {
    build(&[], |_| Vec::new())
}

/// The same with a symbol, which it asks for (BSD_SYMTAB).
pub fn kernel_with_symbols() -> Vec<u8> {
    const NAMES: &[u8] = b"\0start\0\0";
    let asks = note(elfnote::BSD_SYMTAB, b"yes\0");
    build(&asks, |offset| {
        // st_name, st_info, st_other, st_shndx, st_value, st_size
        let mut sections =
            [&1_u32.to_le_bytes()[..], &[0x12, 0, 1, 0], &BASE.to_le_bytes(), &[0; 8], NAMES].concat();
        let names = offset + 24;
        for (kind, place, size, link) in
            [(0_u32, 0, 0, 0_u32), (2, offset, 24, 2), (3, names, NAMES.len() as u64, 0)]
        {
            sections.extend([0, kind].into_iter().flat_map(u32::to_le_bytes));
            sections.extend([0, 0, place, size].into_iter().flat_map(u64::to_le_bytes));
            sections.extend([link, 0].into_iter().flat_map(u32::to_le_bytes));
            sections.extend([0_u64, 24].into_iter().flat_map(u64::to_le_bytes));
        }
        sections
    })
}

/// The same for i386, as a 32-bit file, to be mapped from 3 GiB on.
pub fn kernel_of_32_bits() -> Vec<u8> {
    const VIRT_BASE: u32 = 0xc000_0000;
    const PHYSICAL: u32 = 0x10_0000;
    const HEADERS: u32 = 52 + 2 * 32;
    let number = |kind: u32, number: u32| note(kind, &number.to_le_bytes());
    let notes = [
        note(elfnote::XEN_VERSION, b"xen-3.0\0"),
        note(elfnote::LOADER, b"generic\0"),
        note(elfnote::PAE_MODE, b"yes\0"),
        number(elfnote::VIRT_BASE, VIRT_BASE),
        number(elfnote::ENTRY, VIRT_BASE + PHYSICAL),
    ]
    .concat();
    let length = u32::try_from(notes.len()).unwrap_or(u32::MAX);
    let mut elf = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    elf.extend([2_u16, 3].into_iter().flat_map(u16::to_le_bytes));
    elf.extend([1, VIRT_BASE + PHYSICAL, 52, 0, 0].into_iter().flat_map(u32::to_le_bytes));
    elf.extend([52_u16, 32, 2, 40, 0, 0].into_iter().flat_map(u16::to_le_bytes));
    for (kind, flags, offset, size) in [(1_u32, 7, 0, HEADERS + length), (4, 4, HEADERS, length)] {
        let (physical, virt) = (PHYSICAL + offset, VIRT_BASE + PHYSICAL + offset);
        elf.extend(
            [kind, offset, virt, physical, size, size, flags, 4].into_iter().flat_map(u32::to_le_bytes),
        );
    }
    elf.extend(notes);
    elf
}

/// Where the kernel is linked to.
const BASE: u64 = 0x10_0000;
/// Size of a section header.
const SECTION_HEADER: usize = 64;

/// A kernel with more notes, and with what `sections` makes of its offset in the file: three section headers at the end of it.
fn build(more_notes: &[u8], sections: impl FnOnce(u64) -> Vec<u8>) -> Vec<u8> {
    const HEADERS: u64 = 64 + 2 * 56;
    let text = |kind: u32, text: &str| note(kind, &[text.as_bytes(), b"\0"].concat());
    let number = |kind: u32, number: u64| note(kind, &number.to_le_bytes());
    let notes = [
        text(elfnote::GUEST_OS, "test"),
        text(elfnote::XEN_VERSION, "xen-3.0"),
        text(elfnote::LOADER, "generic"),
        number(elfnote::VIRT_BASE, 0),
        number(elfnote::ENTRY, BASE),
        number(elfnote::PHYS32_ENTRY, BASE),
        more_notes.to_vec(),
    ]
    .concat();
    let size = HEADERS + notes.len() as u64;
    let sections = sections(size);
    let (count, headers) = match sections.len().checked_sub(3 * SECTION_HEADER) {
        Some(before) => (3_u16, size + before as u64),
        None => (0, 0),
    };
    let mut elf = Vec::new();
    elf.extend(*b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    elf.extend([2_u16, 62].into_iter().flat_map(u16::to_le_bytes));
    elf.extend(1_u32.to_le_bytes());
    elf.extend([BASE, 64, headers].into_iter().flat_map(u64::to_le_bytes));
    elf.extend(0_u32.to_le_bytes());
    elf.extend([64_u16, 56, 2, 64, count, 0].into_iter().flat_map(u16::to_le_bytes));
    for (kind, flags, offset, size) in [(1_u32, 7_u32, 0, size), (4, 4, HEADERS, notes.len() as u64)] {
        elf.extend([kind, flags].into_iter().flat_map(u32::to_le_bytes));
        let fields = [offset, BASE + offset, BASE + offset, size, size, 4];
        elf.extend(fields.into_iter().flat_map(u64::to_le_bytes));
    }
    elf.extend(notes);
    elf.extend(sections);
    elf
}
