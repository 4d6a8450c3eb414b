//! Plans of PVH guests, looked at as the guest will find them: memory by guest-physical address, from its registers on.

#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use domain_plan::{AreaKind, GuestRequest, Load, PlanError, PvhKernel, PvhPlan, Vcpus};
use xen_abi::hvm::start_info::{HvmStartInfo, MAGIC, MemoryRange, Module, VERSION};
use xen_abi::start_info::StartFlags;

use xen_abi::{PAGE_SIZE, PageCount, Pfn};
use zerocopy::FromBytes;

const PAGE: u64 = PAGE_SIZE as u64;
const ENTRY: u64 = 0x100_0000;

fn kernel(address: u64, bytes: &[u8], memory_size: u64) -> PvhKernel<'_> {
    PvhKernel {
        entry: u32::try_from(address).unwrap(),
        loads: vec![Load { address, bytes: bytes.into(), memory_size }],
    }
}

fn request(mib: u64, ramdisk: Option<u64>) -> GuestRequest<'static> {
    GuestRequest { ramdisk, ..GuestRequest::new(PageCount::new(mib << 8), "console=hvc0") }
}

/// The error of planning.
fn refusal(kernel: PvhKernel<'_>, request: &GuestRequest<'_>, vcpus: u32) -> PlanError {
    PvhPlan::new(kernel, request, vcpus).unwrap_err()
}

/// Reads a guest's memory as a builder would leave it, over memory full of rubbish.
struct Memory<'p> {
    plan: &'p PvhPlan<'p>,
    ramdisk: &'p [u8],
}

impl Memory<'_> {
    fn page(&self, frame: u64) -> [u8; PAGE_SIZE] {
        let mut bytes = [0xc2; PAGE_SIZE];
        let holds = |area: &&domain_plan::Area| area.first.raw() <= frame && frame < area.end().raw();
        if let Some(area) = self.plan.areas().iter().find(holds) {
            self.plan.fill(area, frame - area.first.raw(), &mut bytes, self.ramdisk);
        }
        bytes
    }

    fn read(&self, address: u64, length: usize) -> Vec<u8> {
        let end = address + length as u64;
        let pages = (address / PAGE..end.div_ceil(PAGE)).flat_map(|frame| self.page(frame));
        pages.skip(usize::try_from(address % PAGE).unwrap()).take(length).collect()
    }

    fn read_as<T: FromBytes>(&self, address: u64) -> T {
        T::read_from_bytes(&self.read(address, size_of::<T>())).unwrap()
    }

    fn start_info(&self) -> HvmStartInfo {
        self.read_as(self.plan.boot_cpu().rbx)
    }

    /// An ACPI table, its checksum verified.
    fn table(&self, address: u64) -> Vec<u8> {
        let length: u32 = self.read_as(address + 4);
        let table = self.read(address, usize::try_from(length).unwrap());
        assert_eq!(
            table.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)),
            0,
            "checksum at {address:#x}"
        );
        table
    }
}

impl acpi::MachineMemory for Memory<'_> {
    type Error = &'static str;

    fn read(&mut self, address: u64, into: &mut [u8]) -> Result<(), Self::Error> {
        into.copy_from_slice(&Memory::read(self, address, into.len()));
        Ok(())
    }
}

#[test]
fn the_start_info_leads_to_everything() {
    let (image, ramdisk) = ([0x90; 5000], [0x42; 10_000]);
    let plan = PvhPlan::new(kernel(ENTRY, &image, 3 << 20), &request(64, Some(10_000)), 1).unwrap();
    let memory = Memory { plan: &plan, ramdisk: &ramdisk };
    let info = memory.start_info();
    assert_eq!((info.magic, info.version, info.flags), (MAGIC, VERSION, 0));
    assert_eq!(memory.read(info.cmdline_paddr, 13), b"console=hvc0\0");
    assert_eq!(info.nr_modules, 1);
    let module: Module = memory.read_as(info.modlist_paddr);
    assert_eq!(memory.read(module.paddr, 10_000), ramdisk);
    assert_eq!((module.size, module.paddr % PAGE), (10_000, 0));
    assert_eq!(memory.read(ENTRY, 5000), image);
    assert!(memory.read(ENTRY + 5000, (3 << 20) - 5000).iter().all(|byte| *byte == 0));

    let ranges = (0..u64::from(info.memmap_entries))
        .map(|index| memory.read_as::<MemoryRange>(info.memmap_paddr + index * 24));
    assert!(ranges.eq(plan.memory_map()));
}

#[test]
fn without_a_ramdisk_there_is_no_module() {
    let plan = PvhPlan::new(kernel(ENTRY, &[0x90], PAGE), &request(32, None), 1).unwrap();
    let info = Memory { plan: &plan, ramdisk: &[] }.start_info();
    assert_eq!((info.nr_modules, info.modlist_paddr), (0, 0));
}

#[test]
fn tables_of_paging_are_for_what_the_guest_may_grow_to_unless_it_says_how_much() {
    let pool = |request: &GuestRequest<'_>| {
        PvhPlan::new(kernel(ENTRY, &[0x90], PAGE), request, 2).unwrap().paging_pool().raw()
    };
    let small = request(32, None);
    assert_eq!(pool(&small), 32 * 2 + 2 * 256);
    let growing = GuestRequest { max_memory: PageCount::new(1024 << 8), ..small };
    assert_eq!(pool(&growing), 1024 * 2 + 2 * 256);
    assert_eq!(pool(&GuestRequest { paging_pool: Some(PageCount::new(768)), ..growing }), 768);
}

#[test]
fn what_is_claimed_of_a_guest_is_in_its_start_info() {
    let claims = StartFlags::PRIVILEGED | StartFlags::INITDOMAIN;
    let request = GuestRequest { claims, ..request(32, None) };
    let plan = PvhPlan::new(kernel(ENTRY, &[0x90], PAGE), &request, 1).unwrap();
    assert_eq!(Memory { plan: &plan, ramdisk: &[] }.start_info().flags, 3);
}

#[test]
fn modules_are_listed_one_by_one_with_their_command_lines() {
    let part = |bytes, command_line| domain_plan::Module { bytes, command_line };
    let modules = [part(5000, ""), part(3, "second module"), part(4096, "third")];
    let mut ramdisk = vec![b'1'; 8192 + 4096 + 4096];
    ramdisk[8192..8195].copy_from_slice(b"two");
    ramdisk[12288..].fill(b'3');
    let request = GuestRequest { modules: &modules, ..request(32, Some(ramdisk.len() as u64)) };
    let plan = PvhPlan::new(kernel(ENTRY, &[0x90], PAGE), &request, 1).unwrap();
    let memory = Memory { plan: &plan, ramdisk: &ramdisk };
    let info = memory.start_info();
    let entry = |index: u64| memory.read_as::<Module>(info.modlist_paddr + index * 32);
    assert_eq!((info.nr_modules, memory.read(info.cmdline_paddr, 13)), (3, b"console=hvc0\0".to_vec()));
    assert_eq!((entry(0).size, entry(0).cmdline_paddr), (5000, 0));
    for (index, contents, line) in [(1, &b"two"[..], "second module\0"), (2, &[b'3'; 4096], "third\0")] {
        let entry = entry(index);
        assert!(entry.paddr.is_multiple_of(4096));
        assert_eq!(memory.read(entry.paddr, contents.len()), contents);
        assert_eq!(entry.size, contents.len() as u64);
        assert_eq!(memory.read(entry.cmdline_paddr, line.len()), line.as_bytes());
    }
    let start = plan.area(AreaKind::StartInfo).unwrap();
    assert!(info.cmdline_paddr >> 12 < start.end().raw());
}

#[test]
fn devices_lie_beside_memory() {
    let plan = |mib| PvhPlan::new(kernel(ENTRY, &[0x90], PAGE), &request(mib, None), 1).unwrap();
    let check = |mib, first, pages| plan(mib).check_device(Pfn::new(first), PageCount::new(pages)).is_ok();
    assert!(
        check(32, 32 << 8, 1) && check(32, 0xfd000, 16) && check(32, 0xfee01, 1) && check(32, 1 << 20, 9)
    );
    // Memory, the local APIC, special pages; memory above 4 GiB.
    assert!(!check(32, 0xa0, 32) && !check(32, (32 << 8) - 1, 2) && !check(32, 0xfedff, 2));
    assert!(!check(32, 0xfeffd, 1) && !check(8192, 1 << 20, 1));
    let error = plan(32).check_device(Pfn::new(0xff), PageCount::new(1)).unwrap_err().to_string();
    assert!(error.contains("[0xff..0x100)") && error.contains("[0x0..0x2000)"), "{error}");
}

#[test]
fn modules_of_another_ramdisk_are_refused() {
    let modules = [5000, 1].map(|bytes| domain_plan::Module { bytes, command_line: "" });
    for length in [8191, 8192, 8194] {
        let request = GuestRequest { modules: &modules, ..request(32, Some(length)) };
        let error = refusal(kernel(ENTRY, &[0x90], PAGE), &request, 1);
        assert_eq!(error, PlanError::Modules { ramdisk: length, modules: 8193 });
    }
}

#[test]
fn acpi_tables_tell_of_every_vcpu() {
    for vcpus in [1, 2, 16, 128] {
        let plan = PvhPlan::new(kernel(ENTRY, &[0x90], PAGE), &request(32, None), vcpus).unwrap();
        let mut memory = Memory { plan: &plan, ramdisk: &[] };
        // Another reader finds the root pointer too, in the area where firmware has it, and gets through to the bytecode.
        let root = acpi::find_in_bios_area(&mut memory).unwrap();
        let error = acpi::soft_off(&mut memory, &root).unwrap_err();
        assert!(matches!(error, acpi::AcpiError::NoPackage { .. }), "{error}");

        let xsdt: u64 = memory.read_as(memory.start_info().rsdp_paddr + 24);
        let pointers = memory.table(xsdt)[36..].to_vec();
        let tables: Vec<_> =
            pointers.chunks(8).map(|at| memory.table(u64::from_le_bytes(at.try_into().unwrap()))).collect();
        let [fadt, madt] = &tables[..] else { unreachable!("{} tables", tables.len()) };
        assert_eq!((&fadt[..4], &madt[..4]), (&b"FACP"[..], &b"APIC"[..]));
        assert_ne!(fadt[114] & 1 << 4, 0, "hardware-reduced");
        let dsdt = memory.table(u64::from_le_bytes(fadt[140..148].try_into().unwrap()));
        let devices = dsdt.windows(9).filter(|bytes| *bytes == b"ACPI0007\0").count();
        assert_eq!(devices, usize::try_from(vcpus).unwrap());
        let local: Vec<_> = madt[44..].chunks(8).map(|entry| (entry[2], entry[3], entry[4])).collect();
        let wanted: Vec<_> =
            (0..vcpus).map(|vcpu| [vcpu, vcpu * 2].map(|it| u8::try_from(it).unwrap())).collect();
        assert_eq!(local, wanted.iter().map(|[number, id]| (*number, *id, 1)).collect::<Vec<_>>());
    }
}

#[test]
fn vcpus_that_are_off_at_the_start_are_listed_and_not_enabled() {
    let vcpus = Vcpus { all: 4, online: 3 };
    let plan = PvhPlan::new(kernel(ENTRY, &[0x90], PAGE), &request(32, None), vcpus).unwrap();
    assert_eq!(plan.vcpus(), 4);
    let memory = Memory { plan: &plan, ramdisk: &[] };
    let xsdt: u64 = memory.read_as(memory.start_info().rsdp_paddr + 24);
    let madt: u64 = memory.read_as(xsdt + 36 + 8);
    let madt = memory.table(madt);
    let flags: Vec<_> = madt[44..].chunks(8).map(|entry| (entry[2], entry[4..8].to_vec())).collect();
    let wanted = [(0, 1), (1, 1), (2, 1), (3, 0)];
    assert_eq!(flags, wanted.map(|(number, flag)| (number, vec![flag, 0, 0, 0])));
    assert_eq!(madt.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)), 0, "checksum");
}

#[test]
fn areas_do_not_overlap_and_lie_in_memory() {
    for (mib, ramdisk) in [(32, None), (64, Some(20 << 20)), (8192, Some(1 << 30))] {
        let plan = PvhPlan::new(kernel(ENTRY, &[0x90], 5 << 20), &request(mib, ramdisk), 4).unwrap();
        for pair in plan.areas().windows(2) {
            assert!(pair[0].end() <= pair[1].first, "{plan}");
        }
        let frames = plan.frames();
        for area in plan.areas() {
            let within = |range: &&domain_plan::FrameRange| {
                range.first <= area.first && area.end().raw() <= range.first.raw() + range.pages.raw()
            };
            assert!(frames.iter().any(|range| within(&range)), "{} is not in memory\n{plan}", area.kind);
        }
        let pages: u64 = frames.iter().map(|range| range.pages.raw()).sum();
        assert_eq!(pages, plan.memory().raw() + plan.special_pages().raw());
    }
}

#[test]
fn too_little_memory_says_how_much_is_enough() {
    let large = kernel(ENTRY, &[0x90], 5 << 20);
    let error = refusal(large.clone(), &request(18, Some(4 << 20)), 1);
    let PlanError::Memory { area: AreaKind::Kernel, least_mib, .. } = error else { unreachable!("{error}") };
    let enough = PvhPlan::new(large.clone(), &request(least_mib, Some(4 << 20)), 1);
    assert!(enough.is_ok());
    assert!(PvhPlan::new(large, &request(least_mib - 1, Some(4 << 20)), 1).is_err());
}

#[test]
fn what_cannot_be_is_refused_with_a_reason() {
    let small = || kernel(ENTRY, &[0x90], PAGE);
    let low = refusal(kernel(0x8_0000, &[0x90], 1 << 20), &request(32, None), 1).to_string();
    assert!(low.contains("ACPI tables [0xf8000..0x100000)") && low.contains("1 MiB"), "{low}");
    let many = refusal(small(), &request(32, None), 129).to_string();
    assert!(many.contains("129 vCPUs") && many.contains("1 to 128"), "{many}");
    let huge = refusal(small(), &request(16384, Some(0xfc00_0000)), 1).to_string();
    assert!(huge.contains("RAM disk") && huge.contains("0xfc000000"), "{huge}");
    assert_eq!(refusal(small(), &request(0, None), 1), PlanError::MemorySize(PageCount::ZERO));
}
