//! What guests find at their start, for kernels of any shape: held against the public description of it (xen.h, "Start-of-day memory
//! layout", and arch-x86/hvm/start_info.h), not against what the builder planned. Page tables are walked here by hand, through the
//! frames that they are in.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test may stop at the first surprise, in its helpers too; addresses here fit"
)]

use std::collections::{BTreeMap, BTreeSet};

use domain_builder::{DomainSpec, Servers, build_pv, build_pvh};
use domain_plan::{GuestRequest, Load, PvKernel, PvPlan, PvhKernel, PvhPlan};
use hypercall::Xen;
use proptest::prelude::*;
use protocols::Settings;
use xen_abi::{DomId, GuestVirt, Mfn, PageCount};
use xen_sim::{GuestView, Machine, Release};

const PAGE: u64 = 4096;

/// A part of a kernel: bytes from behind the part before it to its begin, its bytes in the file, and how many more are zero.
type Part = (u64, Vec<u8>, u64);

/// A kernel, as its headers and notes may have it.
#[derive(Clone, Debug)]
struct Shape {
    base: u64,
    start: u64,
    parts: Vec<Part>,
    /// Pages below the base that the p2m list is to be; or, where there is no room below it, above, which means nothing.
    init_p2m: Option<u64>,
    unmapped_ramdisk: bool,
}

/// A guest besides its kernel.
#[derive(Clone, Debug)]
struct Wishes {
    pages: u64,
    vcpus: u32,
    command_line: String,
    ramdisk: Vec<u8>,
    release: Release,
}

impl Shape {
    /// The parts with their pseudo-physical addresses.
    fn loads(&self) -> Vec<Load<'_>> {
        let mut at = self.start;
        let mut loads = Vec::new();
        for (gap, bytes, zero) in &self.parts {
            let memory_size = bytes.len() as u64 + zero;
            loads.push(Load { address: at + gap, bytes: bytes.into(), memory_size });
            at += gap + memory_size;
        }
        loads
    }

    /// What the loaded kernel is, from its first page on: zero wherever no part has bytes.
    fn image(&self) -> (u64, Vec<u8>) {
        let loads = self.loads();
        let first = loads[0].address / PAGE * PAGE;
        let end = loads.last().unwrap().end().next_multiple_of(PAGE);
        let mut image = vec![0; (end - first) as usize];
        for load in &loads {
            image[(load.address - first) as usize..][..load.bytes.len()].copy_from_slice(&load.bytes);
        }
        (first, image)
    }

    fn p2m_address(&self) -> Option<u64> {
        let pages = self.init_p2m?;
        Some(if self.base == 0 { pages << 22 } else { self.base - (pages << 30) })
    }

    fn pv(&self) -> PvKernel<'_> {
        PvKernel {
            address_size: domain_plan::AddressSize::Bits64,
            base: GuestVirt::new(self.base),
            entry: GuestVirt::new(self.base + self.loads()[0].address),
            loads: self.loads(),
            init_p2m: self.p2m_address().map(GuestVirt::new),
            unmapped_ramdisk: self.unmapped_ramdisk,
            hypercall_page: None,
        }
    }
}

fn shapes() -> impl Strategy<Value = Shape> {
    let base = prop_oneof![
        Just(0),
        Just(0xffff_ffff_8000_0000),
        (0_u64..1000).prop_map(|number| 0xffff_8880_0000_0000 + (number << 22)),
    ];
    let part = (0..3 * PAGE, prop::collection::vec(1_u8.., 1..9000), 0..3 * PAGE);
    (base, 0_u64..64, prop::collection::vec(part, 1..5), prop::option::of(1_u64..500), any::<bool>())
        .prop_map(|(base, start, parts, init_p2m, unmapped_ramdisk)| Shape {
            base,
            start: start * PAGE,
            parts,
            init_p2m,
            unmapped_ramdisk,
        })
}

fn wishes() -> impl Strategy<Value = Wishes> {
    let ramdisk = prop_oneof![Just(Vec::new()), prop::collection::vec(1_u8.., 1..30_000)];
    let release = prop::sample::select(Release::ALL.to_vec());
    (1536_u64..6000, 1_u32..5, "[a-z =,]{0,1023}", ramdisk, release).prop_map(
        |(pages, vcpus, command_line, ramdisk, release)| Wishes {
            pages,
            vcpus,
            command_line,
            ramdisk,
            release,
        },
    )
}

impl Wishes {
    fn request(&self) -> GuestRequest<'_> {
        GuestRequest {
            ramdisk: Some(self.ramdisk.len() as u64).filter(|length| *length > 0),
            ..GuestRequest::new(PageCount::new(self.pages), &self.command_line)
        }
    }

    fn spec(&self) -> DomainSpec {
        DomainSpec {
            domid: None,
            uuid: [5; 16],
            vcpus: self.vcpus,
            max_memory: PageCount::new(self.pages),
            settings: Settings::default(),
            servers: Servers::default(),
            serves_store: false,
        }
    }

    fn machine(&self) -> Machine {
        Machine::builder().release(self.release).stale_memory().build()
    }
}

/// A page in the guest's address space: its frame, and whether it can be written.
type Pages = BTreeMap<u64, (u64, bool)>;

/// All pages that are mapped, and all frames that are page tables: from the root, through the frames.
fn walk(view: &GuestView) -> (Pages, BTreeSet<u64>) {
    let (mut pages, mut tables) = (Pages::new(), BTreeSet::new());
    let root = view.context().ctrlreg[3] >> 12;
    let mut left = vec![(root, 0_u64, 39_u32, true)];
    while let Some((table, address, shift, writable)) = left.pop() {
        tables.insert(table);
        for (number, entry) in view.read_frame(Mfn::new(table)).chunks_exact(8).enumerate() {
            let entry = u64::from_le_bytes(entry.try_into().unwrap());
            // Slots 256 to 271 of the root are Xen's.
            if shift == 39 && (256..272).contains(&number) {
                continue;
            }
            if entry & 1 == 0 {
                assert_eq!(entry, 0, "an entry that is not present is zero");
                continue;
            }
            let at = address | (number as u64) << shift;
            let (frame, writable) = ((entry & 0x000f_ffff_ffff_f000) >> 12, writable && entry & 2 != 0);
            if shift == 12 {
                // Bit 47 fills the bits above it.
                let address = if at >> 47 & 1 == 1 { at | 0xffff << 48 } else { at };
                pages.insert(address, (frame, writable));
            } else {
                left.push((frame, at, shift - 9, writable));
            }
        }
    }
    (pages, tables)
}

/// `length` bytes of the guest's address space.
fn read(view: &GuestView, pages: &Pages, address: u64, length: u64) -> Vec<u8> {
    let first = address / PAGE * PAGE;
    let bytes: Vec<u8> = (first..address + length)
        .step_by(PAGE as usize)
        .flat_map(|page| view.read_frame(Mfn::new(pages.get(&page).unwrap_or_else(|| panic!("{page:#x}")).0)))
        .collect();
    bytes[(address - first) as usize..][..length as usize].to_vec()
}

/// A field of the start info, of 8 bytes.
fn field(info: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(info[offset..offset + 8].try_into().unwrap())
}

/// The same, of 4 bytes.
fn half(info: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(info[offset..offset + 4].try_into().unwrap())
}

/// Holds what a PV guest sees against xen.h.
fn check_pv(view: &GuestView, shape: &Shape, wishes: &Wishes, own: &[Mfn]) {
    let (pages, tables) = walk(view);
    let registers = view.registers();
    let info = read(view, &pages, registers.rsi, PAGE);
    // The offsets are those of `struct start_info`.
    assert_eq!(&info[..16], b"xen-3.0-x86_64\0\0");
    assert_eq!(field(&info, 32), wishes.pages);
    let (pt_base, pt_frames, list) = (field(&info, 88), field(&info, 96), field(&info, 104));
    let line = &info[128..128 + 1024];
    assert_eq!(&line[..wishes.command_line.len()], wishes.command_line.as_bytes());
    assert!(line[wishes.command_line.len()..].iter().all(|byte| *byte == 0), "a NUL ends the command line");
    assert!(info[1168..].iter().all(|byte| *byte == 0), "nothing is behind the start info");

    // The list of frames: one frame of the domain for each page, each once.
    let p2m: Vec<u64> =
        read(view, &pages, list, wishes.pages * 8).chunks_exact(8).map(|entry| field(entry, 0)).collect();
    let frames: BTreeSet<u64> = p2m.iter().copied().collect();
    assert_eq!(frames.len() as u64, wishes.pages);
    assert!(frames.iter().all(|frame| own.contains(&Mfn::new(*frame))));
    for (pfn, frame) in p2m.iter().enumerate() {
        assert_eq!(view.m2p(Mfn::new(*frame)).map(xen_abi::Pfn::raw), Some(pfn as u64));
    }

    // 1, 2, 5: one region from the base to a multiple of 4 MiB, page for page the first part of the list.
    let end = (shape.base..).step_by(PAGE as usize).find(|page| !pages.contains_key(page)).unwrap();
    assert_eq!(end % (4 << 20), 0, "the region ends at {end:#x}");
    for (page, frame) in (shape.base..end).step_by(PAGE as usize).zip(&p2m) {
        assert_eq!(pages[&page].0, *frame, "{page:#x}");
    }
    let elsewhere: Vec<u64> =
        pages.keys().copied().filter(|page| !(shape.base..end).contains(page)).collect();
    // INIT_P2M counts below the base only; the list is all that is outside of the region then.
    let own_place = shape.p2m_address().filter(|address| *address < shape.base);
    assert_eq!(own_place.unwrap_or(list), list);
    let list_end = list + (wishes.pages * 8).next_multiple_of(PAGE);
    match own_place {
        Some(_) => assert_eq!(elsewhere, (list..list_end).step_by(PAGE as usize).collect::<Vec<_>>()),
        None => assert_eq!(elsewhere, Vec::<u64>::new()),
    }
    // 6: all can be written but page tables.
    for (page, (frame, writable)) in &pages {
        assert_eq!(*writable, !tables.contains(frame), "{page:#x}");
    }
    check_elements(view, shape, wishes, &pages, &info, &p2m, (list, end));
    // The tables are where the start info says; those of a list in a place of its own are counted with the list.
    let with_list = field(&info, 1152)..field(&info, 1152) + field(&info, 1160);
    let expected: BTreeSet<u64> = (0..pt_frames).map(|number| pages[&(pt_base + number * PAGE)].0).collect();
    let others = tables.difference(&expected).copied();
    for frame in others {
        assert!(with_list.contains(&view.m2p(Mfn::new(frame)).unwrap().raw()), "table {frame:#x} is nowhere");
    }
    assert_eq!(pages[&pt_base].0, view.context().ctrlreg[3] >> 12);
}

/// 3, 4, 7: the bootstrap elements, their order and what is in them.
fn check_elements(
    view: &GuestView,
    shape: &Shape,
    wishes: &Wishes,
    pages: &Pages,
    info: &[u8],
    p2m: &[u64],
    (list, end): (u64, u64),
) {
    let registers = view.registers();
    let (first, image) = shape.image();
    let kernel = shape.base + first;
    assert_eq!(registers.rip, shape.base + shape.loads()[0].address);
    assert_eq!(
        read(view, pages, kernel, image.len() as u64),
        image,
        "the kernel, zero where it has no bytes"
    );
    let mut at = kernel + image.len() as u64;
    let (module, length, by_number) = (field(info, 112), field(info, 120), half(info, 48) & 8 != 0);
    assert_eq!(length, wishes.ramdisk.len() as u64);
    let whole = (length.next_multiple_of(PAGE)) as usize;
    let mut padded = wishes.ramdisk.clone();
    padded.resize(whole, 0);
    if length > 0 && by_number {
        assert!(shape.unmapped_ramdisk);
        let found = p2m[module as usize..].iter().flat_map(|frame| view.read_frame(Mfn::new(*frame)));
        assert!(found.take(whole).eq(padded), "the RAM disk, and zeros behind it");
    } else if length > 0 {
        assert_eq!(module, at, "the RAM disk is behind the kernel");
        assert_eq!(read(view, pages, module, whole as u64), padded);
        at += whole as u64;
    }
    if list >= shape.base {
        assert_eq!(list, at, "the list is next");
        let size = wishes.pages * 8;
        at += size.next_multiple_of(PAGE);
        let behind = read(view, pages, list + size, at - list - size);
        assert!(behind.iter().all(|byte| *byte == 0xff), "behind the last page the list has no frames");
    }
    assert_eq!(registers.rsi, at, "the start info is next");
    // XenStore's page and the console's, both empty; then the tables, then a page of stack.
    let (pt_base, pt_frames) = (field(info, 88), field(info, 96));
    assert_eq!(pt_base, at + 3 * PAGE);
    assert!(read(view, pages, at + PAGE, 2 * PAGE).iter().all(|byte| *byte == 0), "both rings are empty");
    assert_eq!(pages[&(at + PAGE)].0, field(info, 56));
    assert_eq!(pages[&(at + 2 * PAGE)].0, field(info, 72));
    let stack = pt_base + pt_frames * PAGE;
    assert_eq!(registers.rsp, stack + PAGE);
    assert!(read(view, pages, stack, PAGE).iter().all(|byte| *byte == 0), "the stack is empty");
    assert!(end - registers.rsp >= 512 << 10, "512 KiB are left");
}

/// Holds what a PVH guest sees against start_info.h.
fn check_pvh(view: &xen_sim::PvhView, shape: &Shape, wishes: &Wishes) {
    let cpu = view.registers();
    assert_eq!(cpu.rip, shape.loads()[0].address);
    // Protected mode, no paging, interrupts off.
    assert_eq!((cpu.cr0 & 0x8000_0001, cpu.cr4, cpu.rflags & 0x300), (1, 0, 0));
    let (first, image) = shape.image();
    assert_eq!(view.read(first, image.len()), Some(image.clone()), "the kernel, zero where it has no bytes");
    let info = view.read(cpu.rbx, 56).unwrap();
    assert_eq!((half(&info, 0), half(&info, 4), half(&info, 8)), (0x336e_c578, 1, 0));
    assert_eq!(half(&info, 12), u32::from(!wishes.ramdisk.is_empty()));
    let line = view.read(field(&info, 24), wishes.command_line.len() + 1).unwrap();
    assert_eq!(line, [wishes.command_line.as_bytes(), b"\0"].concat());

    // The memory map: by address, without overlaps, and as much usable memory as there is.
    let (map, entries) = (field(&info, 40), half(&info, 48));
    let ranges: Vec<(u64, u64, u32)> = (0..u64::from(entries))
        .map(|number| view.read(map + number * 24, 24).unwrap())
        .map(|entry| (field(&entry, 0), field(&entry, 8), half(&entry, 16)))
        .collect();
    assert!(ranges.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0), "{ranges:x?}");
    let ram = |at: u64, length: u64| {
        ranges.iter().any(|(from, size, kind)| *kind == 1 && *from <= at && at + length <= from + size)
    };
    let mut used = vec![(first, image.len() as u64), (cpu.rbx, 56), (field(&info, 24), line.len() as u64)];
    if !wishes.ramdisk.is_empty() {
        let module = view.read(field(&info, 16), 32).unwrap();
        let (at, length) = (field(&module, 0), field(&module, 8));
        assert_eq!(view.read(at, length as usize).as_ref(), Some(&wishes.ramdisk));
        used.push((at, length));
    }
    used.sort_unstable();
    assert!(used.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0), "{used:x?}");
    assert!(used.iter().all(|(at, length)| ram(*at, *length)), "{used:x?} in {ranges:x?}");
    let root = view.read(field(&info, 32), 8).unwrap();
    assert_eq!(root, b"RSD PTR ");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_pv_guest_finds_what_the_interface_describes(shape in shapes(), wishes in wishes()) {
        let plan = PvPlan::new(shape.pv(), &wishes.request()).unwrap();
        let machine = wishes.machine();
        let xen = Xen::probe(machine.dom0()).unwrap();
        let built = build_pv(&xen, &mut machine.window(), &wishes.spec(), &plan, &wishes.ramdisk, |_, _| ());
        let domain: DomId = built.unwrap().start().unwrap().domid;
        let guest = machine.guest(domain);
        check_pv(&guest.view().unwrap(), &shape, &wishes, &guest.frames());
        xen.destroy_domain(domain).unwrap();
        machine.assert_clean();
    }

    #[test]
    fn a_pvh_guest_finds_what_the_interface_describes(shape in shapes(), wishes in wishes()) {
        let shape = Shape { start: shape.start + (1 << 20), ..shape };
        let kernel = PvhKernel { entry: u32::try_from(shape.loads()[0].address).unwrap(), loads: shape.loads() };
        let plan = PvhPlan::new(kernel, &wishes.request(), wishes.vcpus).unwrap();
        let machine = wishes.machine();
        let xen = Xen::probe(machine.dom0()).unwrap();
        let built = build_pvh(&xen, &mut machine.window(), &wishes.spec(), &plan, &wishes.ramdisk, |_, _| ());
        let domain: DomId = built.unwrap().start().unwrap().domid;
        check_pvh(&machine.guest(domain).pvh_view().unwrap(), &shape, &wishes);
        xen.destroy_domain(domain).unwrap();
        machine.assert_clean();
    }
}
