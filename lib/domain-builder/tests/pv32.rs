//! 32-bit PV domains: built on every release that runs them, refused on the others, and what they find when they start.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise, in its helpers too")]

use std::collections::BTreeMap;

use domain_builder::{BuildError, DomainSpec, Servers, Step, build_pv};
use domain_plan::{AddressSize, GuestRequest, Load, PvKernel, PvPlan};
use hypercall::{GuestKinds, Xen};
use protocols::Settings;
use xen_abi::{DomId, Errno, GuestVirt, Mfn, PageCount, pv32};
use xen_sim::{CallSite, Effect, Fault, GuestView, Machine, Release};

const TEXT: u64 = 1 << 20;
const CODE: &[u8] = &[0x90; 5000];

/// A kernel at an address, with a hypercall page.
fn kernel(base: u64, extended_cr3: bool) -> PvKernel<'static> {
    PvKernel {
        address_size: AddressSize::Bits32 { extended_cr3 },
        base: GuestVirt::new(base),
        entry: GuestVirt::new(base + TEXT + 5),
        loads: vec![Load { address: TEXT, bytes: CODE.into(), memory_size: 16 << 10 }],
        init_p2m: None,
        unmapped_ramdisk: false,
        hypercall_page: Some(GuestVirt::new(base + TEXT + 0x2000)),
    }
}

fn plan(base: u64, ramdisk: &[u8]) -> PvPlan<'static> {
    let request = GuestRequest {
        ramdisk: (!ramdisk.is_empty()).then_some(ramdisk.len() as u64),
        ..GuestRequest::new(PageCount::new(16 << 8), "console=hvc0")
    };
    PvPlan::new(kernel(base, true), &request).unwrap()
}

fn spec() -> DomainSpec {
    DomainSpec {
        domid: Some(DomId::new(5)),
        uuid: [5; 16],
        vcpus: 2,
        max_memory: PageCount::new(16 << 8),
        settings: Settings::default(),
        servers: Servers::default(),
        serves_store: false,
    }
}

fn machine(release: Release) -> Machine {
    Machine::builder().release(release).pv32().stale_memory().build()
}

/// Builds and starts the domain.
fn build(machine: &Machine, plan: &PvPlan<'_>, ramdisk: &[u8]) -> Result<DomId, BuildError> {
    let xen = Xen::probe(machine.dom0()).unwrap();
    let sealed = build_pv(&xen, &mut machine.window(), &spec(), plan, ramdisk, |_, _| ())?;
    Ok(sealed.start()?.domid)
}

/// What the domain finds.
fn view(machine: &Machine, base: u64, ramdisk: &[u8]) -> GuestView {
    let domain = build(machine, &plan(base, ramdisk), ramdisk).unwrap();
    machine.guest(domain).view().unwrap()
}

#[test]
fn a_domain_finds_all_it_needs_on_every_release() {
    let ramdisk = vec![0x5a; 3 * 4096 + 100];
    for release in Release::ALL {
        let machine = machine(release);
        let view = view(&machine, 0xc000_0000, &ramdisk);
        view.assert_sane();
        assert!(view.is_32_bit());
        let info = view.start_info().unwrap();
        assert!(info.magic.starts_with(b"xen-3.0-x86_32p\0"));
        assert_eq!((info.nr_pages, info.command_line()), (16 << 8, &b"console=hvc0"[..]));
        let module = usize::try_from(info.mod_len).unwrap();
        assert_eq!(view.read(GuestVirt::new(info.mod_start), module).unwrap(), ramdisk);
        assert_eq!(view.read(GuestVirt::new(0xc000_0000 + TEXT), CODE.len()).unwrap(), CODE);
        let registers = view.registers();
        assert_eq!(registers.rip, 0xc000_0000 + TEXT + 5);
        assert_eq!(
            (registers.cs, registers.ss, registers.ds, registers.gs),
            (0xe019, 0xe021, 0xe021, 0xe021)
        );
        assert_eq!(view.context().vm_assist, pv32::VM_ASSIST_PAE_EXTENDED_CR3);
        assert_eq!(view.p2m().unwrap().len(), 16 << 8);
        // Level 3, one of level 2, and of level 1 as many as 16 MiB at most take.
        let mut levels = BTreeMap::new();
        view.page_tables().into_values().for_each(|level| *levels.entry(level).or_insert(0) += 1);
        assert_eq!((levels.get(&3), levels.get(&2)), (Some(&1), Some(&1)));
        assert!(!levels.contains_key(&4));
    }
}

#[test]
fn the_last_gib_has_a_table_wherever_the_kernel_is() {
    for base in [0, 0x4000_0000, 0x7fe0_0000, 0xbfc0_0000] {
        let machine = machine(Release::V4_20);
        let view = view(&machine, base, &[]);
        view.assert_sane();
        let top = view.read_frame(view.root());
        let present: Vec<_> = top.chunks(8).map(|entry| entry[0] & 1).collect();
        assert_eq!(present.len(), 512);
        assert_eq!(present[3], 1, "base {base:#x}");
        assert!(present[4..].iter().all(|bit| *bit == 0));
        assert!(view.translate(GuestVirt::new(base)).is_some());
        assert!(view.translate(GuestVirt::new(base + (16 << 20))).is_none());
    }
}

#[test]
fn a_xen_without_pv32_is_asked_first_and_nothing_is_created() {
    for release in Release::ALL {
        let machine = Machine::with_release(release);
        let error = build(&machine, &plan(0xc000_0000, &[]), &[]).unwrap_err();
        let offered = GuestKinds { pv64: true, pv32: false, hvm: true };
        assert_eq!(error, BuildError::NoPv32 { offered });
        assert_eq!(error.step(), Step::Create);
        assert_eq!(
            error.to_string(),
            "step=create: the kernel is a 32-bit PV kernel, and this Xen runs no such guests: it offers 64-bit PV, PVH; use a 64-bit \
             kernel, or type = \"pvh\" if the kernel has the note PHYS32_ENTRY, or a Xen that is built with CONFIG_PV32 and not started \
             with pv=no-32"
        );
        machine.assert_clean();
    }
}

#[test]
fn each_call_that_fails_is_named_and_leaves_nothing() {
    let (plan, mut failed) = (plan(0xc000_0000, &[]), 0);
    for number in 0..100 {
        let machine = machine(Release::V4_17);
        let xen = Xen::probe(machine.dom0()).unwrap();
        let index = machine.calls() + number;
        let at = move |site: &CallSite| site.index == index && site.name != "XEN_DOMCTL_destroydomain";
        machine.inject(Fault::when(at, Effect::Fail(Errno::ENOMEM)));
        let built = build_pv(&xen, &mut machine.window(), &spec(), &plan, &[], |_, _| ()).map(drop);
        if let Err(error) = built {
            assert!(error.to_string().contains("ENOMEM"), "call {number}: {error}");
            failed += 1;
        }
        machine.assert_clean();
    }
    // Among them: capabilities, create, limits, address size, memory, pin, registers.
    assert!(failed > 8, "{failed}");
}

#[test]
fn a_domain_with_memory_stays_what_it_is() {
    let machine = machine(Release::V4_20);
    let domain = machine.spawn(PageCount::new(4)).domain();
    let xen = Xen::probe(machine.dom0()).unwrap();
    assert_eq!(xen.make_32_bit(domain).map_err(|error| error.errno), Err(Errno::EACCES));
    assert!(xen.guest_kinds().unwrap().pv32);
}

#[test]
fn what_words_of_32_bits_cannot_name_is_found_out() {
    let request = GuestRequest::new(PageCount::new(16 << 8), "");
    let mut high = domain_plan::P2m::new();
    high.push(Mfn::new(0x10_0000), PageCount::new(16 << 8));
    let near = xen_abi::MachineAddr::new(0xffff_f000);
    let plain = PvPlan::new(kernel(0xc000_0000, false), &request).unwrap();
    assert!(plain.out_of_reach(&high, near).is_some_and(|what| what.contains("extended CR3")));
    let extended = PvPlan::new(kernel(0xc000_0000, true), &request).unwrap();
    assert_eq!(extended.out_of_reach(&high, near), None);
    assert!(extended.out_of_reach(&high, xen_abi::MachineAddr::new(1 << 32)).is_some());
    assert_eq!(
        pv32::frame_of_cr3(extended.vcpu_context(&high).ctrlreg[3]),
        extended.top_table(&high).unwrap().raw()
    );
}
