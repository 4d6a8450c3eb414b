//! A kernel that asks for its symbols has them in its memory, whichever way it starts.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise, in its helpers too")]

use domain_plan::{Area, AreaKind, GuestPlan, GuestRequest, P2m, StartOfDay};
use faults::kernel::{kernel, kernel_with_symbols};
use kernel_image::KernelImage;
use xen_abi::{MachineAddr, Mfn, PAGE_SIZE, PageCount, Port};

/// The kernel's area of a plan, and what it holds.
fn kernel_memory(plan: &GuestPlan<'_>) -> (Area, Vec<u8>) {
    let area = *plan.areas().iter().find(|area| area.kind == AreaKind::Kernel).unwrap();
    let mut bytes = vec![0xaa; usize::try_from(area.bytes()).unwrap()];
    let mut p2m = P2m::new();
    p2m.push(Mfn::new(7), plan.memory());
    let (shared_info, console) = (MachineAddr::new(0), Port::new(1));
    let start = StartOfDay { p2m: &p2m, ramdisk: &[], shared_info, console, store: None };
    match plan {
        GuestPlan::Pv(plan) => plan.fill(&area, 0, &mut bytes, &start),
        GuestPlan::Pvh(plan) => plan.fill(&area, 0, &mut bytes, &[]),
    }
    (area, bytes)
}

/// Both plans of a kernel.
fn plans<'k>(image: &KernelImage<'k>) -> [GuestPlan<'k>; 2] {
    let request = GuestRequest::new(PageCount::new(4096), "");
    [GuestPlan::pv(image, &request).unwrap(), GuestPlan::pvh(image, &request, 1).unwrap()]
}

#[test]
fn symbols_are_in_memory_behind_the_kernel() {
    let elf = kernel_with_symbols();
    let image = KernelImage::parse(&elf).unwrap();
    let end = usize::try_from(image.physical_range().end - image.physical_range().start).unwrap();
    for plan in plans(&image) {
        let (area, memory) = kernel_memory(&plan);
        assert_eq!(area.pages, PageCount::new(1));
        let start = end.next_multiple_of(8);
        assert_eq!(memory[..end], elf[..end], "the kernel itself");
        assert_eq!(memory[end..start], vec![0; start - end]);
        assert_eq!(memory[start..start + 4], (260_u32 + 24 + 8).to_le_bytes());
        assert_eq!(memory[start + 4..start + 24], elf[..20], "its ELF header");
        // The symbol is the first thing behind the kernel in the file, its name the second.
        assert_eq!(memory[start + 264..start + 264 + 24 + 8], elf[end..end + 24 + 8]);
        assert!(memory[start + 264 + 24..].starts_with(b"\0start\0\0"));
        assert!(memory[start + 264 + 24 + 8..].iter().all(|byte| *byte == 0), "nothing behind it");
    }
}

#[test]
fn a_kernel_that_does_not_ask_has_none() {
    let elf = kernel();
    let image = KernelImage::parse(&elf).unwrap();
    for plan in plans(&image) {
        let (_, memory) = kernel_memory(&plan);
        let end = usize::try_from(image.physical_range().end - image.physical_range().start).unwrap();
        assert!(memory[end..].iter().all(|byte| *byte == 0));
        assert_eq!(memory.len() % PAGE_SIZE, 0);
    }
}
