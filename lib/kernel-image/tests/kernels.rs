//! What is read out of kernels that are right.
mod support;

use kernel_image::{
    AddressSize, Features, ImageError, KernelImage, MfnValid, NoteSource, Phys32Reloc, PvLayout,
};
use support::*;

#[test]
fn a_kernel_with_few_notes() {
    let bytes = Elf::kernel().bytes();
    let image = KernelImage::parse(&bytes).unwrap();
    let segment = image.segments()[0];
    assert_eq!((segment.physical, segment.virt, segment.memory_size), (START, BASE + START, 0x3_0000));
    assert_eq!(segment.file, code());
    assert!(segment.readable && segment.writable && segment.executable);
    assert_eq!(
        image.layout().unwrap(),
        PvLayout {
            address_size: AddressSize::Bits64,
            virt_base: BASE,
            paddr_offset: 0,
            virt_offset: BASE,
            kernel: BASE + START..BASE + START + 0x3_0000,
            entry: BASE + START + 0x10,
            init_p2m: None,
            mod_start_pfn: false,
            hypercall_page: None,
        }
    );
}

#[test]
fn a_pvh_kernel_of_32_bits() {
    let elf = Elf::with_notes(&[note(PHYS32_ENTRY, &0x10_0010u32.to_le_bytes())]);
    let mut bytes = elf.bytes_of_32_bits();
    // Either machine: XTF's 64-bit kernels come so.
    bytes[18] = 62;
    assert!(KernelImage::parse(&bytes).is_ok());
    bytes[18] = 3;
    let image = KernelImage::parse(&bytes).unwrap();
    assert!(image.is_32_bit());
    let segment = image.segments()[0];
    assert_eq!((segment.physical, segment.memory_size), (START, 0x3_0000));
    assert_eq!(segment.file, code());
    assert!(segment.readable && segment.writable && segment.executable);
    assert_eq!(image.notes().phys32_entry, Some(0x10_0010));
    assert!(!KernelImage::parse(&Elf::kernel().bytes()).unwrap().is_32_bit());
}

#[test]
fn a_pv_kernel_of_32_bits() {
    for mode in ["yes", "bimodal"] {
        let bytes = pae_kernel(0xc000_0000, mode).bytes_of_32_bits();
        let layout = KernelImage::parse(&bytes).unwrap().layout().unwrap();
        assert_eq!(
            layout,
            PvLayout {
                address_size: AddressSize::Bits32 { extended_cr3: true },
                virt_base: 0xc000_0000,
                paddr_offset: 0,
                virt_offset: 0xc000_0000,
                kernel: 0xc010_0000..0xc030_0000,
                entry: 0xc010_0010,
                init_p2m: None,
                mod_start_pfn: false,
                hypercall_page: Some(0xc010_1000),
            }
        );
    }
}

#[test]
fn addresses_of_32_bits_may_come_with_their_sign() {
    let wide = |address: u64| address | 0xffff_ffff << 32;
    let notes = [
        number(ENTRY, wide(0xc010_0010)),
        number(VIRT_BASE, wide(0xc000_0000)),
        text(XEN_VERSION, "xen-3.0"),
        text(LOADER, "generic"),
        text(PAE_MODE, "yes"),
    ];
    let bytes = Elf::with_notes(&notes).bytes_of_32_bits();
    let layout = KernelImage::parse(&bytes).unwrap().layout().unwrap();
    assert_eq!((layout.virt_base, layout.entry), (0xc000_0000, 0xc010_0010));
    assert_eq!(layout.kernel, 0xc010_0000..0xc013_0000);
}

#[test]
fn the_old_section_says_whether_the_top_table_may_be_high() {
    for (mode, extended_cr3) in [("yes", false), ("yes[extended-cr3]", true), ("bimodal", true)] {
        let text = format!("LOADER=generic,XEN_VER=xen-3.0,VIRT_BASE=0xc0000000,PAE={mode}\0");
        let kernel = Elf::plain().with(|elf| {
            elf.programs[0].physical = 0xc010_0000;
            elf.entry = 0xc010_0000;
            elf.sections.push(Section::new("__xen_guest", SHT_PROGBITS, text.as_bytes()));
        });
        let bytes = kernel.bytes_of_32_bits();
        let layout = KernelImage::parse(&bytes).unwrap().layout().unwrap();
        assert_eq!(layout.address_size, AddressSize::Bits32 { extended_cr3 }, "{mode}");
        assert_eq!(layout.kernel.start, 0xc010_0000);
    }
}

#[test]
fn every_note_is_read() {
    let notes = [
        number(1, BASE + START),
        number(2, BASE + START + 0x1000),
        number(3, BASE),
        number(4, 0),
        text(5, "xen-3.0"),
        text(6, "linux"),
        text(7, "2.6"),
        text(8, "generic"),
        text(9, "bimodal"),
        text(10, "!writable_page_tables|dom0"),
        text(11, "yes"),
        number(12, 0xffff_8000_0000_0000),
        note(13, &[1u64.to_le_bytes(), 3u64.to_le_bytes()].concat()),
        note(14, &1u32.to_le_bytes()),
        number(15, 0x80_0000_0000),
        note(16, &[1]),
        note(17, &0x8800u32.to_le_bytes()),
        note(18, &0x10_0850u32.to_le_bytes()),
        note(19, &[0x20_0000u32.to_le_bytes(), 0x100_0000u32.to_le_bytes()].concat()),
        number(99, 1),
        note_of(b"GNU\0", 1, b"not ours"),
    ];
    let bytes = Elf::with_notes(&notes).bytes();
    let image = KernelImage::parse(&bytes).unwrap();
    let notes = image.notes();
    assert_eq!(notes.source, NoteSource::Segments);
    assert_eq!(notes.entry, Some(BASE + START));
    assert_eq!(notes.hypercall_page, Some(BASE + START + 0x1000));
    assert_eq!((notes.virt_base, notes.paddr_offset), (Some(BASE), Some(0)));
    assert_eq!(
        (notes.xen_version, notes.guest_os, notes.guest_version),
        (Some("xen-3.0"), Some("linux"), Some("2.6"))
    );
    assert_eq!(
        (notes.loader, notes.pae_mode, notes.bsd_symtab),
        (Some("generic"), Some("bimodal"), Some("yes"))
    );
    assert_eq!(notes.features, Some("!writable_page_tables|dom0"));
    assert_eq!(
        notes.supported,
        Features::WRITABLE_PAGE_TABLES | Features::DOM0 | Features::LINUX_RSDP_UNRESTRICTED
    );
    assert_eq!(notes.required, Features::WRITABLE_PAGE_TABLES);
    assert_eq!(notes.hv_start_low, Some(0xffff_8000_0000_0000));
    assert_eq!(notes.l1_mfn_valid, [MfnValid { mask: 1, value: 3 }]);
    assert_eq!(
        (notes.suspend_cancel, notes.init_p2m, notes.mod_start_pfn),
        (Some(1), Some(0x80_0000_0000), Some(1))
    );
    assert_eq!(notes.phys32_entry, Some(0x10_0850));
    assert_eq!(
        notes.phys32_reloc,
        Some(Phys32Reloc { align: Some(0x20_0000), min: Some(0x100_0000), max: None })
    );
    assert_eq!(notes.unknown, [99]);

    let layout = image.layout().unwrap();
    assert_eq!(layout.hypercall_page, Some(BASE + START + 0x1000));
    assert!(layout.mod_start_pfn);
}

#[test]
fn the_last_of_two_equal_notes_counts() {
    let bytes = Elf::with_notes(&notes_and(number(ENTRY, BASE + START + 0x20))).bytes();
    assert_eq!(KernelImage::parse(&bytes).unwrap().layout().unwrap().entry, BASE + START + 0x20);
}

/// Debian's `grub-i386-xen.bin` is made so.
#[test]
fn a_last_note_may_say_that_its_text_is_longer_than_it_is() {
    const PAE_MODE: u32 = 9;
    let with_length = |kind, length: u32| {
        let mut note = text(kind, "yes");
        note[4..8].copy_from_slice(&length.to_le_bytes());
        Elf::with_notes(&notes_and(note)).bytes()
    };
    let bytes = with_length(PAE_MODE, 12);
    assert_eq!(KernelImage::parse(&bytes).unwrap().notes().pae_mode, Some("yes"));
    // A number is not a text, and has to be there whole.
    assert!(matches!(KernelImage::parse(&with_length(ENTRY, 8)), Err(ImageError::NoteTooLong { .. })));
}

#[test]
fn notes_in_sections_are_second_choice() {
    let section = |notes: Vec<u8>| Section::new(".notes", SHT_NOTE, &notes);
    let in_sections = Elf::plain().with(|elf| elf.sections.push(section(good_notes().concat())));
    let bytes = in_sections.bytes();
    let image = KernelImage::parse(&bytes).unwrap();
    assert_eq!(image.notes().source, NoteSource::Sections);
    assert!(image.layout().is_ok());

    let in_both = Elf::kernel().with(|elf| elf.sections.push(section(number(ENTRY, 1))));
    let bytes = in_both.bytes();
    assert_eq!(KernelImage::parse(&bytes).unwrap().notes().source, NoteSource::Segments);
}

#[test]
fn a_note_segment_at_offset_zero_is_an_old_linkers_mistake() {
    let bytes = Elf::kernel().with(|elf| elf.programs[1].offset = Some(0)).bytes();
    assert!(KernelImage::parse(&bytes).unwrap().notes().is_empty());
}

#[test]
fn the_old_section_is_last_choice_and_has_other_defaults() {
    let text = "GUEST_OS=linux,GUEST_VER=2.6,XEN_VER=xen-3.0,VIRT_BASE=0xffffffff80000000,\
                VIRT_ENTRY=0xffffffff80100000,HYPERCALL_PAGE=0x101,PAE=yes,FEATURES=dom0,LOADER=generic,BSD_SYMTAB\0";
    let kernel = Elf::plain().with(|elf| {
        // Kernels of that time had virtual addresses in their physical ones.
        elf.programs[0].physical = BASE + START;
        elf.sections.push(Section::new("__xen_guest", SHT_PROGBITS, text.as_bytes()));
    });
    let bytes = kernel.bytes();
    let image = KernelImage::parse(&bytes).unwrap();
    assert_eq!(image.notes().source, NoteSource::GuestSection);
    assert_eq!(image.notes().supported, Features::DOM0);
    let layout = image.layout().unwrap();
    assert_eq!((layout.paddr_offset, layout.virt_offset), (BASE, 0));
    assert_eq!(layout.kernel, BASE + START..BASE + START + 0x3_0000);
    assert_eq!((layout.entry, layout.hypercall_page), (BASE + START, Some(BASE + 0x10_1000)));
    assert_eq!(image.notes().bsd_symtab, Some("yes"));
}

#[test]
fn without_virt_base_the_kernel_is_mapped_one_to_one() {
    let notes = [text(XEN_VERSION, "xen-3.0"), text(LOADER, "generic")];
    let bytes = Elf::with_notes(&notes).with(|elf| elf.entry = START).bytes();
    let layout = KernelImage::parse(&bytes).unwrap().layout().unwrap();
    assert_eq!((layout.virt_base, layout.virt_offset, layout.entry), (0, 0, START));
    assert_eq!(layout.kernel, START..START + 0x3_0000);
}

#[test]
fn segments_without_memory_or_permissions_are_left_out() {
    let kernel = Elf::kernel().with(|elf| {
        elf.programs.push(Program { flags: 0, ..Program::load(0x50_0000, b"x", 0x1000) });
        elf.programs.push(Program::load(0x60_0000, b"", 0));
        elf.programs.push(Program { flags: 4, ..Program::load(0x8_0000, b"first", 0x1000) });
    });
    let bytes = kernel.bytes();
    let image = KernelImage::parse(&bytes).unwrap();
    let found: Vec<_> = image.segments().iter().map(|segment| (segment.index, segment.physical)).collect();
    assert_eq!(found, [(4, 0x8_0000), (0, START)]);
    assert!(!image.segments()[0].writable && !image.segments()[0].executable);
    assert_eq!(image.physical_range(), 0x8_0000..START + 0x3_0000);
}

#[test]
fn segments_may_touch() {
    let bytes =
        Elf::kernel().with(|elf| elf.programs.push(Program::load(START + 0x3_0000, b"x", 0x1000))).bytes();
    assert_eq!(KernelImage::parse(&bytes).unwrap().segments().len(), 2);
}

#[test]
fn a_position_independent_kernel_is_an_executable_too() {
    let bytes = Elf::kernel().with(|elf| elf.kind = 3).bytes();
    assert!(KernelImage::parse(&bytes).unwrap().layout().is_ok());
}
