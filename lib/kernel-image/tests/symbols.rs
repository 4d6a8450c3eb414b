//! The symbol table behind the kernel (BSD_SYMTAB): where it lies, what it looks like, and what it must not do.
#![allow(clippy::cast_possible_truncation, reason = "everything built here is small")]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test's own helpers may stop the test")]
mod support;

use goblin::elf::Elf as File;
use kernel_image::{ImageError, KernelImage};
use proptest::prelude::*;
use support::*;

/// Names of the two symbols below, and 3 bytes that make what is behind them odd.
const NAMES: &[u8] = b"\0start\0end\0!!!";
/// Where the test kernel ends: neither aligned to pages nor to words.
const END: u64 = START + 0x2_fff1;

/// Two symbols with these names: `start` and `end`.
fn table(is_64_bit: bool) -> Vec<u8> {
    let symbols = [(1_u32, START), (7, END)];
    let entry = |(name, value): (u32, u64)| {
        if is_64_bit {
            // st_name, st_info (a global function), st_other, st_shndx, st_value, st_size
            let head = [&name.to_le_bytes()[..], &[0x12, 0, 1, 0]].concat();
            [&head[..], &value.to_le_bytes(), &8_u64.to_le_bytes()].concat()
        } else {
            let value = value as u32;
            [&name.to_le_bytes()[..], &value.to_le_bytes(), &8_u32.to_le_bytes(), &[0x12, 0, 1, 0]].concat()
        }
    };
    symbols.into_iter().flat_map(entry).collect()
}

/// A kernel that asks for its symbols and has them.
fn kernel(is_64_bit: bool) -> Elf {
    Elf::with_notes(&notes_and(text(BSD_SYMTAB, "yes"))).with(|elf| {
        elf.programs[0].memory_size = END - START;
        elf.sections = vec![
            Section::new(".strtab", SHT_STRTAB, NAMES),
            Section { link: 1, ..Section::new(".symtab", SHT_SYMTAB, &table(is_64_bit)) },
        ];
    })
}

/// What is in memory from the symbols' start on.
fn loaded(image: &KernelImage<'_>) -> Vec<u8> {
    let symbols = image.symbols().expect("this kernel has symbols");
    let mut memory = Vec::new();
    for (address, bytes) in symbols.pieces() {
        memory.resize((address - symbols.physical_range().start) as usize, 0);
        memory.extend_from_slice(&bytes);
    }
    memory
}

fn halves(halves: &[u16]) -> Vec<u8> {
    halves.iter().flat_map(|half| half.to_le_bytes()).collect()
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn longs(longs: &[u64]) -> Vec<u8> {
    longs.iter().flat_map(|long| long.to_le_bytes()).collect()
}

#[test]
fn in_a_64_bit_kernel_every_byte_is_where_libelf_puts_it() {
    let bytes = kernel(true).bytes();
    let image = KernelImage::parse(&bytes).unwrap();
    let start = START + 0x2_fff8;
    assert_eq!(image.symbols().unwrap().physical_range(), start..start + 264 + 48 + 14);
    let (table_in_file, names_in_file) = (find(&bytes, &table(true)), find(&bytes, NAMES));
    assert!(table_in_file > 0 && names_in_file > 0);
    let expected = [
        words(&[264 + 48 + 14 - 4]),
        // The ELF header: ELF64, little-endian, an executable for x86-64.
        b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec(),
        halves(&[2, 62]),
        words(&[1]),
        // Entry, program headers, section headers.
        longs(&[BASE + START, 0, 64]),
        words(&[0]),
        halves(&[64, 0, 0, 64, 3, 0]),
        // Section 0.
        vec![0; 64],
        // The symbols: name, kind, flags, address, place, size, names' section, info, alignment, entry size.
        words(&[9, 2]),
        longs(&[0, 0, 260, 48]),
        words(&[2, 0]),
        longs(&[0, 24]),
        // Their names.
        words(&[1, 3]),
        longs(&[0, 0, 308, 14]),
        words(&[0, 0]),
        longs(&[0, 0]),
        // Up to a multiple of eight.
        vec![0; 4],
        table(true),
        NAMES.to_vec(),
    ]
    .concat();
    assert_eq!(loaded(&image), expected);
}

#[test]
fn in_a_32_bit_kernel_headers_are_short_and_lie_where_those_of_64_bits_do() {
    let bytes = kernel(false).bytes_of_32_bits();
    let image = KernelImage::parse(&bytes).unwrap();
    let start = START + 0x2_fff4;
    assert_eq!(image.symbols().unwrap().physical_range(), start..start + 260 + 32 + 14);
    let expected = [
        words(&[260 + 32 + 14 - 4]),
        b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec(),
        halves(&[2, 3]),
        words(&[1, (BASE + START) as u32, 0, 64, 0]),
        halves(&[52, 0, 0, 40, 3, 0]),
        // Up to the end of a header of 64 bits.
        vec![0; 12],
        vec![0; 40],
        words(&[9, 2, 0, 0, 256, 32, 2, 0, 0, 16]),
        words(&[1, 3, 0, 0, 288, 14, 0, 0, 0, 0]),
        // Up to the end of headers of 64 bits.
        vec![0; 72],
        table(false),
        NAMES.to_vec(),
    ]
    .concat();
    assert_eq!(loaded(&image), expected);
}

#[test]
fn a_reader_of_files_reads_the_symbols() {
    for (bytes, word) in [(kernel(true).bytes(), 8), (kernel(false).bytes_of_32_bits(), 4)] {
        let image = KernelImage::parse(&bytes).unwrap();
        assert_eq!(image.symbols().unwrap().physical_range().start, END.next_multiple_of(word));
        let memory = loaded(&image);
        let size = u32::from_le_bytes(memory[..4].try_into().unwrap());
        assert_eq!(size as usize, memory.len() - 4);
        let file = File::parse(&memory[4..]).unwrap();
        let named = |name| {
            let mut symbols = file.syms.iter().filter(|it| file.strtab.get_at(it.st_name) == Some(name));
            symbols.next().map(|symbol| symbol.st_value)
        };
        assert_eq!((named("start"), named("end"), named("middle")), (Some(START), Some(END), None));
    }
}

#[test]
fn the_kernel_ends_behind_its_symbols() {
    let bytes = kernel(true).bytes();
    let layout = KernelImage::parse(&bytes).unwrap().layout().unwrap();
    assert_eq!(layout.kernel, BASE + START..BASE + START + 0x2_fff8 + 264 + 48 + 14);
    // Where the symbols are, nothing else can be.
    let in_symbols = number(INIT_P2M, BASE + START + 0x3_0000);
    let notes = [notes_and(text(BSD_SYMTAB, "yes")), vec![in_symbols]].concat();
    let kernel = kernel(true).with(|elf| elf.programs[1].data = notes.concat());
    let bytes = kernel.bytes();
    let refused = KernelImage::parse(&bytes).unwrap().layout();
    assert!(matches!(refused, Err(ImageError::P2mInsideKernel { .. })), "{refused:?}");
}

/// Whether a kernel is loaded with symbols.
fn has_symbols(elf: &Elf) -> bool {
    KernelImage::parse(&elf.bytes()).unwrap().symbols().is_some()
}

#[test]
fn symbols_are_loaded_for_those_who_ask_and_have_them() {
    assert!(has_symbols(&kernel(true)));
    assert!(!has_symbols(&kernel(true).with(|elf| elf.sections.clear())));
    assert!(!has_symbols(&kernel(true).with(|elf| {
        elf.sections.pop();
    })));
    // Names that are not there, are none, or are the symbols themselves.
    for link in [0, 2, 4, 17, u32::MAX] {
        assert!(!has_symbols(&kernel(true).with(|elf| elf.sections[1].link = link)), "link {link}");
    }
    for answer in ["no", "", "YES", "yes "] {
        let notes = notes_and(text(BSD_SYMTAB, answer)).concat();
        assert!(!has_symbols(&kernel(true).with(|elf| elf.programs[1].data = notes)), "{answer:?}");
    }
}

fn refusal(elf: &Elf) -> String {
    KernelImage::parse(&elf.bytes()).expect_err("this kernel has a mistake").to_string()
}

#[test]
fn symbols_outside_of_the_file_are_refused() {
    for (section, what, message) in
        [(1, "symbol table", "symbol table"), (0, "names of symbols", "names of symbols")]
    {
        let elf = kernel(true).with(|elf| elf.sections[section].size = Some(0x10_0000));
        let bytes = elf.bytes();
        let refused = KernelImage::parse(&bytes);
        assert!(
            matches!(refused, Err(ImageError::SymbolsOutside { what: it, end, .. }) if it == what && end > bytes.len() as u64),
            "{refused:?}"
        );
        assert!(refusal(&elf).contains(message));
    }
}

#[test]
fn symbols_that_fit_nowhere_are_refused() {
    for (section, size) in [(1, u64::MAX), (1, u64::MAX - END), (0, 1 << 32), (0, u64::MAX - 8)] {
        let elf = kernel(true).with(|elf| elf.sections[section].size = Some(size));
        assert!(matches!(KernelImage::parse(&elf.bytes()), Err(ImageError::SymbolsTooLarge { .. })));
    }
    let at_the_end = kernel(true).with(|elf| {
        elf.programs[0].physical = u64::MAX - elf.programs[0].memory_size;
        elf.programs[0].virt = 0;
    });
    assert_eq!(
        refusal(&at_the_end),
        "the kernel asks for its symbols (note BSD_SYMTAB), and 0x30 bytes of them with 0xe bytes of names do not fit behind its end \
         0xffffffffffffffff and into 4 GiB; its section headers are damaged"
    );
}

/// Where `part` is in `whole`; 0 when it is not.
fn find(whole: &[u8], part: &[u8]) -> usize {
    whole.windows(part.len()).position(|window| window == part).unwrap_or(0)
}

proptest! {
    /// Whatever the symbols are and wherever the kernel ends, they are all there, in order, and the headers tell where.
    #[test]
    fn any_symbols_are_found_again(
        table in prop::collection::vec(any::<u8>(), 0..200),
        names in prop::collection::vec(any::<u8>(), 0..100),
        more in 0_u64..5000,
        is_64_bit in any::<bool>(),
    ) {
        let elf = kernel(is_64_bit).with(|elf| {
            elf.programs[0].memory_size += more;
            elf.sections[0].data.clone_from(&names);
            elf.sections[1].data.clone_from(&table);
        });
        let bytes = if is_64_bit { elf.bytes() } else { elf.bytes_of_32_bits() };
        let image = KernelImage::parse(&bytes).unwrap();
        let range = image.symbols().unwrap().physical_range();
        let memory = loaded(&image);
        prop_assert!(range.start >= image.physical_range().end && range.start < image.physical_range().end + 8);
        prop_assert_eq!(image.loaded_range().end, range.end);
        prop_assert_eq!(memory.len() as u64, range.end - range.start);
        let file = &memory[4..];
        let (header, place, size, wide) = if is_64_bit { (64, 24, 32, 8) } else { (40, 16, 20, 4) };
        for (index, content) in [(1, &table), (2, &names)] {
            let field = |offset: usize| {
                let at = 64 + index * header + offset;
                file[at..at + wide].iter().rev().fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte))
            };
            prop_assert_eq!(field(size), content.len());
            prop_assert_eq!(&file[field(place)..field(place) + content.len()], &content[..]);
        }
    }
}
