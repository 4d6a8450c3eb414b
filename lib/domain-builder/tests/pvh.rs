//! Building PVH domains on a simulated Xen: what the guest finds, what is asked of Xen, and that whatever fails leaves nothing.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise, in its helpers too"
)]

use domain_builder::{BuildError, DomainSpec, Servers, Step, build_pvh};
use domain_plan::{GuestRequest, Load, PvhKernel, PvhPlan};
use hypercall::Xen;
use protocols::Settings;
use protocols::settings::{Access, IoMemory, IoPorts, Paging};
use xen_abi::domctl::CreateFlags;
use xen_abi::hvm::start_info::{MEMORY_ACPI, MEMORY_RAM, MEMORY_RESERVED};
use xen_abi::sysctl::Capabilities;
use xen_abi::{DomId, Errno, Mfn, PAGE_SIZE, PageCount, Pfn};
use xen_sim::{Effect, Fault, Machine, PvhView, Release};

const ENTRY: u64 = 0x100_0000;

/// The kernel's bytes: three pages that can be told apart.
fn image() -> Vec<u8> {
    (0..3 * PAGE_SIZE).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

fn ramdisk() -> Vec<u8> {
    (0..5 * PAGE_SIZE + 100).map(|at| u8::try_from(at % 241).unwrap()).collect()
}

fn plan<'k>(bytes: &'k [u8], mib: u64, vcpus: u32, ramdisk: &[u8]) -> PvhPlan<'k> {
    let loads = vec![Load { address: ENTRY, bytes: bytes.into(), memory_size: 5 << 20 }];
    let kernel = PvhKernel { entry: u32::try_from(ENTRY).unwrap(), loads };
    let request = GuestRequest {
        ramdisk: Some(ramdisk.len() as u64).filter(|length| *length > 0),
        ..GuestRequest::new(PageCount::new(mib << 8), "console=hvc0 quiet")
    };
    PvhPlan::new(kernel, &request, vcpus).unwrap()
}

fn spec(plan: &PvhPlan<'_>) -> DomainSpec {
    let max_memory = plan.memory();
    DomainSpec {
        domid: None,
        uuid: *b"sixteen bytes id",
        vcpus: plan.vcpus(),
        max_memory,
        settings: Settings::default(),
        servers: Servers::default(),
        serves_store: false,
    }
}

/// Builds and starts a domain.
fn build(machine: &Machine, plan: &PvhPlan<'_>, ramdisk: &[u8]) -> Result<DomId, BuildError> {
    let xen = Xen::probe(machine.dom0()).unwrap();
    let sealed = build_pvh(&xen, &mut machine.window(), &spec(plan), plan, ramdisk, |_, _| ())?;
    Ok(sealed.start()?.domid)
}

/// Takes a domain back, and everything has to be as it was.
fn destroy(machine: &Machine, domain: DomId) {
    Xen::probe(machine.dom0()).unwrap().destroy_domain(domain).unwrap();
    machine.assert_clean();
}

fn view(machine: &Machine, domain: DomId) -> PvhView {
    let guest = machine.guest(domain);
    assert!(guest.runs(), "domain {domain} does not run");
    let view = guest.pvh_view().unwrap();
    view.assert_sane();
    view
}

/// Devices are mapped where the guest is told to look for them, in as many calls as Xen takes.
#[test]
fn devices_are_mapped_where_the_guest_finds_them() {
    let device = |first, pages, guest| IoMemory { first, pages, guest };
    for release in Release::ALL {
        let machine = Machine::with_release(release);
        let bytes = [0x90];
        let plan = plan(&bytes, 32, 1, &[]);
        let mut spec = spec(&plan);
        spec.settings.access = Access {
            io_memory: vec![device(0xe0000, 150, None), device(0xff, 1, Some(0xfd000))],
            io_ports: vec![IoPorts { first: 0x70, last: 0x71 }],
            interrupts: Vec::new(),
        };
        let xen = Xen::probe(machine.dom0()).unwrap();
        let sealed = build_pvh(&xen, &mut machine.window(), &spec, &plan, &[], |_, _| ()).unwrap();
        let guest = machine.guest(sealed.start().unwrap().domid);
        let at = |frame| guest.device_at(Pfn::new(frame)).map(Mfn::raw);
        assert!((0xe0000..0xe0000 + 150).all(|frame| at(frame) == Some(frame)));
        assert_eq!((at(0xfd000), at(0xff), at(0xe0000 + 150)), (Some(0xff), None, None));
        assert!(guest.reaches_port(0x71) && !guest.reaches_port(0x72));
        xen.destroy_domain(guest.domain()).unwrap();
        machine.assert_clean();
    }
}

#[test]
fn a_guest_finds_what_the_plan_promises_on_every_release() {
    let (image, ramdisk) = (image(), ramdisk());
    for release in Release::ALL {
        for vcpus in [1, 3] {
            let plan = plan(&image, 32, vcpus, &ramdisk);
            let machine = Machine::builder().release(release).stale_memory().build();
            let domain = build(&machine, &plan, &ramdisk).unwrap();
            let view = view(&machine, domain);
            assert_eq!(view.registers().rip, ENTRY, "Xen {release}");
            assert_eq!(view.read(ENTRY, image.len()), Some(image.clone()));
            let bss = view.read(ENTRY + image.len() as u64, PAGE_SIZE);
            assert_eq!(bss, Some(vec![0; PAGE_SIZE]), "memory behind the file is zero");
            assert_eq!(view.modules(), Some(vec![ramdisk.clone()]));
            assert_eq!(view.command_line(), Some(b"console=hvc0 quiet".to_vec()));
            let root = view.read(view.start_info().unwrap().rsdp_paddr, 8);
            assert_eq!(root, Some(b"RSD PTR ".to_vec()));
            destroy(&machine, domain);
        }
    }
}

#[test]
fn memory_goes_on_above_the_hole() {
    let image = image();
    let plan = plan(&image, 4096 + 512, 1, &[]);
    let machine = Machine::builder().memory(PageCount::new(0x14_0000)).build();
    let domain = build(&machine, &plan, &[]).unwrap();
    let map = view(&machine, domain).memory_map().unwrap();
    let ranges: Vec<_> = map.iter().map(|range| (range.addr, range.addr + range.size, range.kind)).collect();
    assert_eq!(
        ranges,
        [
            (0, 0xf_8000, MEMORY_RAM),
            (0xf_8000, 0x10_0000, MEMORY_ACPI),
            (0x10_0000, 0xfc00_0000, MEMORY_RAM),
            (0xfeff_d000, 0xff00_0000, MEMORY_RESERVED),
            (0x1_0000_0000, 0x1_2400_0000, MEMORY_RAM),
        ]
    );
    let from_xen = machine.guest(domain).memory_map();
    let from_xen: Vec<_> = from_xen
        .iter()
        .map(|entry| (entry.addr.get(), entry.addr.get() + entry.size.get(), entry.kind.get()))
        .collect();
    assert_eq!(from_xen, ranges, "who asks Xen is told the same");
    destroy(&machine, domain);
}

#[test]
fn the_calls_of_a_build_are_these() {
    let image = image();
    let plan = plan(&image, 32, 2, &[]);
    for (release, pool) in [
        (Release::V4_14, "XEN_DOMCTL_shadow_op"),
        (Release::V4_16, "XEN_DOMCTL_shadow_op"),
        (Release::V4_17, "XEN_DOMCTL_set_paging_mempool_size"),
        (Release::V4_23, "XEN_DOMCTL_set_paging_mempool_size"),
    ] {
        let machine = Machine::builder().release(release).window(2048).build();
        let xen = Xen::probe(machine.dom0()).unwrap();
        machine.clear_trace();
        let sealed = build_pvh(&xen, &mut machine.window(), &spec(&plan), &plan, &[], |_, _| ()).unwrap();
        let _started = sealed.start().unwrap();
        let calls: Vec<_> = machine.trace().calls().iter().map(|call| call.name).collect();
        assert_eq!(
            calls,
            [
                "XEN_SYSCTL_physinfo",
                "XEN_DOMCTL_createdomain",
                "XEN_DOMCTL_max_vcpus",
                "XEN_DOMCTL_max_mem",
                pool,
                "XEN_DOMCTL_get_cpu_policy",
                "XEN_DOMCTL_set_cpu_policy",
                "XENMEM_populate_physmap",
                "XENMEM_populate_physmap",
                "EVTCHNOP_alloc_unbound",
                "map frames",
                "XENMEM_set_memory_map",
                "HVMOP_set_param",
                "HVMOP_set_param",
                "HVMOP_set_param",
                "HVMOP_set_param",
                "XEN_DOMCTL_gethvmcontext",
                "XEN_DOMCTL_gethvmcontext",
                "XEN_DOMCTL_sethvmcontext",
                "XEN_DOMCTL_unpausedomain",
            ],
            "Xen {release}"
        );
    }
}

/// Builds once to see which calls are made, then once for each of them with `effect` at it.
fn sweep(release: Release, effect: impl Fn(Errno) -> Effect) {
    let (image, ramdisk) = (image(), ramdisk());
    let plan = plan(&image, 32, 2, &ramdisk);
    // A small window, so that there are several mappings to fail at.
    let machine = Machine::builder().release(release).window(256).build();
    let before = machine.calls();
    let _xen = Xen::probe(machine.dom0()).unwrap();
    let probes = machine.calls() - before;
    machine.clear_trace();
    let domain = build(&machine, &plan, &ramdisk).unwrap();
    let calls = machine.trace().calls()[probes..].to_vec();
    destroy(&machine, domain);
    assert!(calls.len() > 20, "{}", calls.len());

    for (number, call) in calls.iter().enumerate() {
        let begin = machine.calls() + probes;
        machine.inject(Fault::at(begin + number, effect(Errno::EIO)));
        let error = build(&machine, &plan, &ramdisk).unwrap_err();
        let text = error.to_string();
        let named = matches!(error, BuildError::Window { .. }) && call.name == "map frames";
        assert!(
            named || text.contains(call.name),
            "call {number}, {}, failed, and the error is: {text}",
            call.name
        );
        assert!(text.contains("EIO"), "{text}");
        machine.assert_clean();
    }
}

#[test]
fn a_failure_of_any_call_names_it_and_leaves_nothing() {
    for release in Release::ALL {
        sweep(release, Effect::Fail);
    }
}

#[test]
fn rubbish_in_answers_of_calls_that_failed_is_not_used() {
    sweep(Release::V4_17, Effect::FailAndScribble);
}

#[test]
fn wherever_memory_runs_out_nothing_is_left() {
    let image = image();
    let plan = plan(&image, 24, 1, &[]);
    let machine = Machine::builder().build();
    let mut allowed = 0;
    loop {
        machine.run_out_of_memory_after(Some(PageCount::new(allowed)));
        match build(&machine, &plan, &[]) {
            Err(error) => {
                let text = error.to_string();
                assert!(text.contains("memory") && text.contains("domain"), "after {allowed} pages: {text}");
                machine.assert_clean();
            }
            Ok(domain) => {
                destroy(&machine, domain);
                break;
            }
        }
        // Every page at the start, where Xen itself needs them, then in larger steps.
        allowed += if allowed < 16 { 1 } else { 257 };
    }
    assert!(allowed >= plan.memory().raw() + plan.paging_pool().raw());
}

#[test]
fn memory_in_small_pieces_is_put_together() {
    let image = image();
    let plan = plan(&image, 32, 1, &[]);
    let machine = Machine::builder().build();
    let short = |site: &xen_sim::CallSite| site.name == "XENMEM_populate_physmap";
    // One extent of 2 MiB, one of 64 KiB, and then all the rest in single pages.
    machine.inject(Fault::when(short, Effect::Short(1)).times(2));
    let domain = build(&machine, &plan, &[]).unwrap();
    assert_eq!(machine.guest(domain).pages(), plan.memory().raw() + plan.special_pages().raw());
    view(&machine, domain);
    destroy(&machine, domain);
}

#[test]
fn a_machine_without_what_pvh_needs_says_what_is_missing() {
    let image = image();
    let plan = plan(&image, 32, 1, &[]);
    for (capabilities, missing) in
        [(Capabilities::PV, "VT-x or AMD-V"), (Capabilities::PV | Capabilities::HVM, "nested paging")]
    {
        let machine = Machine::builder().capabilities(capabilities).build();
        let error = build(&machine, &plan, &[]).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(missing) && text.contains("-cpu qemu64,+svm,+npt"), "{text}");
        assert_eq!(error.step(), Step::Create);
        machine.assert_clean();
    }
}

/// Nested paging where the machine has it, shadows where only Xen has them, and what the file wants if it says.
#[test]
fn paging_is_what_is_asked_for_and_there() {
    let image = image();
    let plan = plan(&image, 32, 1, &[]);
    let hvm = Capabilities::PV | Capabilities::HVM;
    let both = hvm | Capabilities::HAP | Capabilities::SHADOW;
    for (capabilities, paging, expected) in [
        (both, Paging::Any, Ok(CreateFlags::HAP)),
        (both, Paging::Nested, Ok(CreateFlags::HAP)),
        (both, Paging::Shadow, Ok(CreateFlags::empty())),
        (hvm | Capabilities::SHADOW, Paging::Any, Ok(CreateFlags::empty())),
        (
            hvm | Capabilities::SHADOW,
            Paging::Nested,
            Err("nested paging (EPT or NPT), which `hap = 1` asks for"),
        ),
        (hvm | Capabilities::HAP, Paging::Shadow, Err("CONFIG_SHADOW_PAGING: remove `hap = 0`")),
        (Capabilities::PV | Capabilities::SHADOW, Paging::Shadow, Err("VT-x or AMD-V")),
    ] {
        for in_sync in [false, true] {
            let machine = Machine::builder().capabilities(capabilities).build();
            let xen = Xen::probe(machine.dom0()).unwrap();
            let mut spec = spec(&plan);
            spec.settings.processor.paging = paging;
            spec.settings.processor.shadows_in_sync = in_sync;
            let sealed = build_pvh(&xen, &mut machine.window(), &spec, &plan, &[], |_, _| ());
            match (sealed, expected) {
                (Ok(sealed), Ok(mut flags)) => {
                    let domain = sealed.start().unwrap().domid;
                    flags.set(CreateFlags::OOS_OFF, in_sync);
                    assert_eq!(machine.guest(domain).creation().unwrap().flags, CreateFlags::HVM | flags);
                    destroy(&machine, domain);
                }
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
                (sealed, expected) => panic!("{capabilities:?} {paging:?}: {sealed:?}, not {expected:?}"),
            }
            machine.assert_clean();
        }
    }
}

#[test]
fn the_other_vcpus_wait_for_the_guest() {
    let image = image();
    let plan = plan(&image, 32, 4, &[]);
    let machine = Machine::builder().build();
    let domain = build(&machine, &plan, &[]).unwrap();
    let info = Xen::probe(machine.dom0()).unwrap().domain_info(domain).unwrap();
    assert_eq!((info.nr_online_vcpus, info.max_vcpu_id), (1, 3));
    destroy(&machine, domain);
}

#[test]
fn the_number_of_calls_does_not_grow_with_the_memory() {
    let image = image();
    let calls = |mib| {
        let plan = plan(&image, mib, 1, &[]);
        let machine = Machine::builder().memory(PageCount::new(0x10_0000)).build();
        let before = machine.calls();
        let domain = build(&machine, &plan, &[]).unwrap();
        let calls = machine.calls() - before;
        destroy(&machine, domain);
        calls
    };
    let (small, large) = (calls(64), calls(2048));
    assert!(large <= small + 8, "{small} calls for 64 MiB, {large} for 2 GiB");
}
