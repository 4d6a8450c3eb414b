//! The smallest kernel that a builder takes, as bytes: for tests of builders, which care about what is done with a kernel and not about
//! what it does.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::vec::Vec;

use xen_abi::elfnote;

/// Where the file is loaded and mapped.
const BASE: u64 = 0x10_0000;

/// Bytes of the ELF header and of the program headers: one for what is loaded, one for the notes.
const HEADERS: u64 = 64 + 2 * 56;

/// An ELF file that a builder takes for a kernel, PV or PVH: its headers, its notes, and a place to begin.
pub fn inert() -> Vec<u8> {
    // hlt; jmp to it
    with_code(|_| Vec::from([0xf4, 0xeb, 0xfd]))
}

/// An ELF file that does nothing as a PVH guest but power off. It asks Xen by `vmmcall`, which is AMD's instruction, and QEMU's.
pub fn pvh_poweroff() -> Vec<u8> {
    const SCHED_OP: u32 = 29;
    const SCHEDOP_SHUTDOWN: u32 = 2;
    const CODE: u32 = 21;
    with_code(|entry| {
        let mut code = Vec::new();
        // mov eax, sched_op; mov ebx, SCHEDOP_shutdown; mov ecx, reason; vmmcall; hlt; jmp to the hlt
        for (opcode, number) in
            [(0xb8, SCHED_OP), (0xbb, SCHEDOP_SHUTDOWN), (0xb9, entry.saturating_add(CODE))]
        {
            code.push(opcode);
            code.extend(u32::to_le_bytes(number));
        }
        code.extend([0x0f, 0x01, 0xd9, 0xf4, 0xeb, 0xfd]);
        // The reason: SHUTDOWN_poweroff.
        code.extend([0; 4]);
        code
    })
}

/// The file with the code that `code` gives for its address, which is where the guest begins.
fn with_code(code: impl FnOnce(u32) -> Vec<u8>) -> Vec<u8> {
    let size = notes(0).len() as u64;
    let entry = BASE + HEADERS + size;
    let notes = notes(entry);
    let code = code(u32::try_from(entry).unwrap_or(u32::MAX));
    let all = HEADERS + size + code.len() as u64;
    let mut elf = Vec::new();
    elf.extend(*b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    elf.extend([2_u16, 62].into_iter().flat_map(u16::to_le_bytes));
    elf.extend(1_u32.to_le_bytes());
    elf.extend([entry, 64, 0].into_iter().flat_map(u64::to_le_bytes));
    elf.extend(0_u32.to_le_bytes());
    elf.extend([64_u16, 56, 2, 64, 0, 0].into_iter().flat_map(u16::to_le_bytes));
    for (kind, flags, offset, size) in [(1_u32, 7_u32, 0, all), (4, 4, HEADERS, size)] {
        elf.extend([kind, flags].into_iter().flat_map(u32::to_le_bytes));
        let fields = [offset, BASE + offset, BASE + offset, size, size, 4];
        elf.extend(fields.into_iter().flat_map(u64::to_le_bytes));
    }
    elf.extend(notes);
    elf.extend(code);
    elf
}

/// The notes of a kernel that begins at `entry`, PV and PVH.
fn notes(entry: u64) -> Vec<u8> {
    let text = |kind: u32, text: &str| note(kind, &[text.as_bytes(), b"\0"].concat());
    let number = |kind: u32, number: u64| note(kind, &number.to_le_bytes());
    [
        text(elfnote::GUEST_OS, "test"),
        text(elfnote::XEN_VERSION, "xen-3.0"),
        text(elfnote::LOADER, "generic"),
        number(elfnote::VIRT_BASE, 0),
        number(elfnote::ENTRY, entry),
        number(elfnote::PHYS32_ENTRY, entry),
    ]
    .concat()
}

/// One Xen note, padded as notes are (public header `elfnote.h`): of the type `kind`, with `value` as its content.
pub fn note(kind: u32, value: &[u8]) -> Vec<u8> {
    let mut note: Vec<u8> = [4, u32::try_from(value.len()).unwrap_or(u32::MAX), kind]
        .into_iter()
        .flat_map(u32::to_le_bytes)
        .collect();
    note.extend(b"Xen\0");
    note.extend(value);
    note.resize(note.len().next_multiple_of(4), 0);
    note
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_where_the_code_looks_for_it() {
        let elf = pvh_poweroff();
        let (reason, code) = (elf.len() - 4, elf.len() - 25);
        assert_eq!(elf[code], 0xb8);
        let address = u32::from_le_bytes(elf[code + 11..code + 15].try_into().unwrap());
        assert_eq!(u64::from(address) - BASE, reason as u64);
    }

    #[test]
    fn both_are_kernels() {
        for elf in [inert(), pvh_poweroff()] {
            let kernel = kernel_image::KernelImage::parse(&elf).unwrap();
            assert!(
                kernel.notes().phys32_entry.is_some_and(|entry| kernel.physical_range().contains(&entry))
            );
        }
    }
}
