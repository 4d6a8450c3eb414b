//! Plans of PV guests, looked at as the guest will find them: by walking its page tables from its registers.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may stop at the first surprise")]

use std::collections::HashMap;

use domain_plan::{
    AddressSize, AreaKind, GuestRequest, Load, P2m, PvKernel, PvPlan, StartOfDay, mask_upcalls,
};
use proptest::prelude::*;
use xen_abi::mmu::{Pte, PteFlags};
use xen_abi::shared_info::SharedInfo;
use xen_abi::start_info::{StartFlags, StartInfo};
use xen_abi::{GuestVirt, MachineAddr, Mfn, PAGE_SIZE, PageCount, Pfn, Port};
use zerocopy::FromBytes;

const PAGE: u64 = PAGE_SIZE as u64;

/// Where a Linux kernel of today wants to be.
const LINUX_BASE: u64 = 0xffff_ffff_8000_0000;
const LINUX_P2M: u64 = 0x80_0000_0000;

fn kernel(base: u64, start: u64, bytes: &[u8], memory_size: u64) -> PvKernel<'_> {
    PvKernel {
        address_size: AddressSize::Bits64,
        base: GuestVirt::new(base),
        entry: GuestVirt::new(base + start),
        loads: vec![Load { address: start, bytes: bytes.into(), memory_size }],
        init_p2m: None,
        unmapped_ramdisk: false,
        hypercall_page: None,
    }
}

fn linux(bytes: &[u8]) -> PvKernel<'_> {
    PvKernel {
        init_p2m: Some(GuestVirt::new(LINUX_P2M)),
        unmapped_ramdisk: true,
        hypercall_page: Some(GuestVirt::new(LINUX_BASE + (1 << 20) + PAGE)),
        ..kernel(LINUX_BASE, 1 << 20, bytes, 5 << 20)
    }
}

fn request(mib: u64) -> GuestRequest<'static> {
    GuestRequest::new(PageCount::new(mib << 8), "console=hvc0")
}

/// A guest's memory as a builder would leave it.
struct Guest {
    p2m: P2m,
    frames: HashMap<u64, Vec<u8>>,
    plan: String,
    info: StartInfo,
    cr3: u64,
    registers: xen_abi::vcpu::UserRegs,
}

impl Guest {
    /// Carries `plan` out into memory whose frames are `runs` long each and far apart, and full of rubbish.
    fn build(plan: &PvPlan<'_>, ramdisk: &[u8], run: u64) -> Self {
        let mut p2m = P2m::new();
        let mut number = 0;
        while p2m.pages() < plan.memory() {
            let pages = run.min(plan.memory().raw() - p2m.pages().raw());
            p2m.push(Mfn::new(0x10_0000 - number * (run + 3)), PageCount::new(pages));
            number += 1;
        }
        let start = StartOfDay {
            p2m: &p2m,
            ramdisk,
            shared_info: MachineAddr::new(0x1234_5000),
            console: Port::new(7),
            store: None,
        };
        let mut frames = HashMap::new();
        for area in plan.areas().iter().filter(|area| area.kind != AreaKind::Padding) {
            // Three pages at a time, so that every kind of content is cut somewhere.
            for first in (0..area.pages.raw()).step_by(3) {
                let pages = 3.min(area.pages.raw() - first);
                let mut bytes = vec![0xc2; usize::try_from(pages * PAGE).unwrap()];
                plan.fill(area, first, &mut bytes, &start);
                for (page, number) in bytes.chunks(PAGE_SIZE).zip(first..) {
                    let pfn = area.first.checked_add(PageCount::new(number)).unwrap();
                    frames.insert(p2m.mfn(pfn).unwrap().raw(), page.to_vec());
                }
            }
        }
        let context = plan.vcpu_context(&p2m);
        Self {
            info: plan.start_info(&start),
            cr3: context.ctrlreg[3],
            registers: context.user_regs,
            plan: plan.to_string(),
            p2m,
            frames,
        }
    }

    /// The machine frame at a virtual address and whether it may be written, by walking the page tables.
    fn walk(&self, address: u64) -> Option<(u64, bool)> {
        let mut frame = self.cr3 / PAGE;
        let mut writable = true;
        for shift in [39, 30, 21, 12] {
            let index = usize::try_from(address >> shift).unwrap() & 511;
            let table = self.frames.get(&frame)?;
            let entry = Pte::read_from_bytes(&table[index * 8..index * 8 + 8]).unwrap();
            if !entry.is_present() {
                return None;
            }
            writable &= entry.flags().contains(PteFlags::RW);
            frame = entry.frame().raw();
        }
        Some((frame, writable))
    }

    /// Reads memory through the page tables.
    fn read(&self, address: u64, length: usize) -> Vec<u8> {
        (address..address + length as u64)
            .map(|address| {
                let (frame, _) =
                    self.walk(address).unwrap_or_else(|| panic!("{address:#x} is mapped\n{}", self.plan));
                self.frames.get(&frame).map_or(0, |page| page[usize::try_from(address % PAGE).unwrap()])
            })
            .collect()
    }

    fn read_u64(&self, address: u64) -> u64 {
        u64::from_le_bytes(self.read(address, 8).try_into().unwrap())
    }
}

#[test]
fn a_kernel_finds_what_the_interface_promises() {
    let plan = PvPlan::new(kernel(0, 1 << 20, b"kernel", 3 * PAGE), &request(8)).unwrap();
    let guest = Guest::build(&plan, &[], 7);
    assert_eq!(guest.registers.rip, 1 << 20);
    assert_eq!(guest.read(guest.registers.rip, 7), b"kernel\0");

    let told = guest.read(guest.registers.rsi, size_of::<StartInfo>());
    let told = StartInfo::read_from_bytes(&told).unwrap();
    assert_eq!(&told.magic[..15], b"xen-3.0-x86_64\0");
    assert_eq!(told.nr_pages, 8 << 8);
    assert_eq!(told.shared_info, 0x1234_5000);
    assert_eq!(told.command_line(), b"console=hvc0");
    assert_eq!(told.console_evtchn, 7);
    assert_eq!(told.store_evtchn, 0);
    assert_eq!((told.mod_start, told.mod_len), (0, 0));
    assert_eq!((told.first_p2m_pfn, told.nr_p2m_frames), (0, 0));

    // The p2m list, through its address.
    for pfn in [0, 1, 6, 7, (8 << 8) - 1] {
        assert_eq!(guest.read_u64(told.mfn_list + pfn * 8), guest.p2m.mfn(Pfn::new(pfn)).unwrap().raw());
    }
    // The console ring is mapped, and empty.
    let console = plan.area(AreaKind::Console).unwrap().virt.unwrap().raw();
    assert_eq!(guest.walk(console).unwrap().0, told.console_mfn);
    assert!(guest.read(console, PAGE_SIZE).iter().all(|byte| *byte == 0));
    // The page tables are mapped where it says, the top one first, and cannot be written.
    assert_eq!(guest.walk(told.pt_base), Some((guest.cr3 / PAGE, false)));
    for number in 0..told.nr_pt_frames {
        assert!(!guest.walk(told.pt_base + number * PAGE).unwrap().1, "table {number}");
    }
    // The stack can, and behind it at least 512 KiB are mapped, up to a multiple of 4 MiB.
    assert!(guest.walk(guest.registers.rsp - 8).unwrap().1);
    let end = guest.registers.rsp + (512 << 10);
    let end = end.next_multiple_of(4 << 20);
    assert!(guest.walk(end - PAGE).unwrap().1);
    assert_eq!(guest.walk(end), None);
}

#[test]
fn linux_gets_its_p2m_list_and_its_ram_disk_outside_of_the_kernel_mapping() {
    let ramdisk: Vec<u8> = (0..10_000_u32).map(|index| u8::try_from(index % 253).unwrap()).collect();
    let request = GuestRequest { ramdisk: Some(ramdisk.len() as u64), ..request(64) };
    let plan = PvPlan::new(linux(b"linux"), &request).unwrap();
    let guest = Guest::build(&plan, &ramdisk, 1 << 9);
    let info = &guest.info;

    assert_eq!(info.mfn_list, LINUX_P2M);
    for pfn in [0, 511, 512, (64 << 8) - 1] {
        assert_eq!(guest.read_u64(LINUX_P2M + pfn * 8), guest.p2m.mfn(Pfn::new(pfn)).unwrap().raw());
    }
    let list = plan.area(AreaKind::P2m).unwrap();
    let tables = plan.area(AreaKind::P2mTables).unwrap();
    assert_eq!(info.first_p2m_pfn, list.first.raw());
    assert_eq!(info.nr_p2m_frames, list.pages.raw() + tables.pages.raw());
    assert_eq!(list.end(), tables.first, "the list and its tables are one run");
    assert_eq!(tables.pages.raw(), 3, "one table for each level below the top");

    let flags = StartFlags::from_bits_retain(info.flags);
    assert_eq!(flags, StartFlags::MOD_START_PFN | StartFlags::VIRT_P2M_4TOOLS);
    let area = plan.area(AreaKind::Ramdisk).unwrap();
    assert_eq!((info.mod_start, info.mod_len), (area.first.raw(), 10_000));
    let first = guest.p2m.mfn(area.first).unwrap().raw();
    assert_eq!(guest.frames[&first][..], ramdisk[..PAGE_SIZE]);
    assert_eq!(plan.hypercall_page(), Some(Pfn::new(257)));
}

/// A guest that takes itself for the initial domain reads where its screen is, where others read where their console is.
#[test]
fn what_is_claimed_of_a_guest_is_in_its_start_info() {
    for (claims, has_console) in [
        (StartFlags::PRIVILEGED | StartFlags::MULTIBOOT_MOD, true),
        (StartFlags::PRIVILEGED | StartFlags::INITDOMAIN, false),
    ] {
        let request = GuestRequest { claims, ramdisk: Some(5000), ..request(64) };
        let plan = PvPlan::new(linux(b"linux"), &request).unwrap();
        let info = Guest::build(&plan, &[9; 5000], 100).info;
        let own = StartFlags::MOD_START_PFN | StartFlags::VIRT_P2M_4TOOLS;
        assert_eq!(StartFlags::from_bits_retain(info.flags), own | claims);
        assert_eq!((info.console_mfn != 0, info.console_evtchn != 0), (has_console, has_console));
    }
}

/// Every page of the RAM disk begins with its own number, so that none can be missing or stand in another's place.
#[test]
fn a_guest_of_16_gib_finds_every_page_of_a_ram_disk_of_300_mib() {
    const PAGES: u64 = 300 << 8;
    let mut ramdisk = vec![0x5a; usize::try_from(PAGES * PAGE - 100).unwrap()];
    for (page, number) in ramdisk.chunks_mut(PAGE_SIZE).zip(0_u64..) {
        page[..8].copy_from_slice(&number.to_le_bytes());
    }
    for is_mapped in [false, true] {
        let request = GuestRequest { ramdisk: Some(ramdisk.len() as u64), ..request(16 << 10) };
        let plan =
            PvPlan::new(PvKernel { unmapped_ramdisk: !is_mapped, ..linux(b"linux") }, &request).unwrap();
        let guest = Guest::build(&plan, &ramdisk, 1 << 23);
        assert_eq!((guest.info.nr_pages, guest.info.mod_len), (16 << 18, ramdisk.len() as u64));
        let area = plan.area(AreaKind::Ramdisk).unwrap();
        assert_eq!((area.pages.raw(), area.virt.is_some()), (PAGES, is_mapped));
        let start = if is_mapped { area.virt.unwrap().raw() } else { area.first.raw() };
        assert_eq!(guest.info.mod_start, start);
        for (number, page) in (0..PAGES).zip(ramdisk.chunks(PAGE_SIZE)) {
            let pfn = area.first.checked_add(PageCount::new(number)).unwrap();
            let frame = guest.p2m.mfn(pfn).unwrap().raw();
            assert_eq!(&guest.frames[&frame][..page.len()], page, "page {number}");
            if is_mapped && number % 1000 == 0 {
                assert_eq!(guest.walk(start + number * PAGE), Some((frame, true)));
            }
        }
        // The list of 4 million frames, through its address: the first, one in the middle, the last.
        for pfn in [0, 1 << 21, (16 << 18) - 1] {
            assert_eq!(guest.read_u64(LINUX_P2M + pfn * 8), guest.p2m.mfn(Pfn::new(pfn)).unwrap().raw());
        }
    }
}

#[test]
fn a_mapped_ram_disk_is_told_by_its_address() {
    let plan =
        PvPlan::new(kernel(0, 1 << 20, b"k", PAGE), &GuestRequest { ramdisk: Some(5000), ..request(8) })
            .unwrap();
    let guest = Guest::build(&plan, &[9; 5000], 100);
    assert_eq!(guest.read(guest.info.mod_start, 5000), [9; 5000]);
    assert_eq!(guest.read(guest.info.mod_start + 5000, 3192), [0; 3192], "the rest of the last page is zero");
    assert!(!StartFlags::from_bits_retain(guest.info.flags).contains(StartFlags::MOD_START_PFN));
}

#[test]
fn an_unusable_init_p2m_is_ignored() {
    for address in [LINUX_P2M + 8, LINUX_BASE + (1 << 30)] {
        let kernel = PvKernel { init_p2m: Some(GuestVirt::new(address)), ..linux(b"linux") };
        let plan = PvPlan::new(kernel, &request(64)).unwrap();
        assert!(plan.area(AreaKind::P2m).unwrap().virt.is_some());
        assert!(plan.area(AreaKind::P2mTables).is_none());
    }
}

#[test]
fn every_vcpu_starts_with_its_upcalls_masked() {
    let mut page = vec![0; PAGE_SIZE];
    mask_upcalls(&mut page);
    let info = SharedInfo::read_from_prefix(&page).unwrap().0;
    assert!(info.vcpu_info.iter().all(|vcpu| vcpu.evtchn_upcall_mask == 1));
    assert_eq!(
        page.iter().filter(|byte| **byte != 0).count(),
        info.vcpu_info.len(),
        "nothing else is written"
    );
}

fn error(kernel: PvKernel<'_>, request: &GuestRequest<'_>) -> String {
    PvPlan::new(kernel, request).unwrap_err().to_string()
}

#[test]
fn too_little_memory_is_told_with_what_would_do() {
    let text = error(linux(b"linux"), &request(4));
    assert!(
        text.starts_with(
            "4 MiB of memory do not hold the start-of-day image: placing the kernel takes 1280 pages"
        ),
        "{text}"
    );
    let large = GuestRequest { ramdisk: Some(100 << 20), ..request(64) };
    let text = error(linux(b"linux"), &large);
    assert!(text.contains("placing the RAM disk takes 25600 pages"), "{text}");
    // What it says would do, does.
    let mib: u64 = text.split("at least ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    let with =
        |mib: u64| PvPlan::new(linux(b"linux"), &GuestRequest { memory: PageCount::new(mib << 8), ..large });
    assert!(with(mib).is_ok());
    assert!(with(mib - 1).is_err());
}

#[test]
fn impossible_kernels_are_refused_by_what_is_wrong_with_them() {
    let cases: [(PvKernel<'_>, &str); 7] = [
        (kernel(0x8000_0000_0000, 0, b"k", PAGE), "outside of what a 64-bit PV guest may map"),
        (kernel(0xffff_8000_0000_0000, 0, b"k", PAGE), "Xen keeps"),
        (kernel(0x800, 0, b"k", PAGE), "not a multiple of 4096"),
        (kernel(0, 0, b"k", u64::MAX - 100), "overflows 64 bits"),
        (
            PvKernel { entry: GuestVirt::new(PAGE), ..kernel(0, 0, b"k", PAGE) },
            "ENTRY 0x1000 lies outside of the kernel [0x0..0x1000)",
        ),
        (
            PvKernel { hypercall_page: Some(GuestVirt::new(5)), ..kernel(0, 0, b"k", PAGE) },
            "HYPERCALL_PAGE is 0x5",
        ),
        (
            PvKernel { init_p2m: Some(GuestVirt::new(0)), ..kernel(1 << 12, 0, b"k", PAGE) },
            "wants its p2m list at",
        ),
    ];
    for (kernel, expected) in cases {
        let text = error(kernel, &request(16));
        assert!(text.contains(expected), "{text}\nis to say {expected}");
    }
    let long = "x".repeat(1024);
    assert!(error(linux(b"k"), &GuestRequest { command_line: &long, ..request(64) }).contains("1024 bytes"));
    assert!(error(linux(b"k"), &request(0)).contains("0 pages"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whatever the kernel's size and place, its memory and its RAM disk: every mapped page is the one the plan says, and is
    /// writable exactly if it is not a page table.
    #[test]
    fn the_page_tables_agree_with_the_plan(
        high in any::<bool>(), own_p2m in any::<bool>(), unmapped in any::<bool>(),
        start in 0_u64..600, pages in 1_u64..1500, mib in 16_u64..80, ramdisk in 0_usize..30_000, run in 1_u64..1000,
    ) {
        let base = if high { LINUX_BASE } else { 0 };
        let kernel = PvKernel {
            init_p2m: (own_p2m && high).then_some(GuestVirt::new(LINUX_P2M)),
            unmapped_ramdisk: unmapped,
            ..kernel(base, start * PAGE, b"image", pages * PAGE)
        };
        let ramdisk = vec![0xab; ramdisk];
        let request = GuestRequest { ramdisk: Some(ramdisk.len() as u64), ..request(mib) };
        let plan = PvPlan::new(kernel, &request).unwrap();
        let guest = Guest::build(&plan, &ramdisk, run);
        for range in plan.tables().ranges() {
            for number in 0..range.pages.raw() {
                let pfn = range.first.checked_add(PageCount::new(number)).unwrap();
                let expected = Some((guest.p2m.mfn(pfn).unwrap().raw(), !plan.is_table(pfn)));
                prop_assert_eq!(guest.walk(range.virt.raw() + number * PAGE), expected);
            }
        }
        // Areas lie one behind the other and within memory.
        let mut next = Pfn::new(0);
        for area in plan.areas() {
            prop_assert_eq!(area.first, next);
            next = area.end();
        }
        prop_assert!(next.raw() <= plan.memory().raw());
        prop_assert_eq!(guest.read(guest.registers.rip, 6), b"image\0");
    }

    /// No kernel, however absurd its numbers, makes planning panic or take long.
    #[test]
    fn planning_is_total(
        base in any::<u64>(), entry in any::<u64>(), address in any::<u64>(), size in any::<u64>(),
        p2m in any::<Option<u64>>(), page in any::<Option<u64>>(), memory in any::<u64>(), ramdisk in any::<Option<u64>>(),
    ) {
        let kernel = PvKernel {
            address_size: AddressSize::Bits64,
            base: GuestVirt::new(base & !0xfff),
            entry: GuestVirt::new(entry),
            loads: vec![Load { address, bytes: b"x"[..].into(), memory_size: size }],
            init_p2m: p2m.map(GuestVirt::new),
            unmapped_ramdisk: true,
            hypercall_page: page.map(GuestVirt::new),
        };
        let _ = PvPlan::new(kernel, &GuestRequest { ramdisk, ..GuestRequest::new(PageCount::new(memory >> 30), "") });
    }
}
