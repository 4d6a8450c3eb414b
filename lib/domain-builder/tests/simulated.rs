//! Building PV domains on a simulated Xen: what the guest finds, what is asked of Xen, and that whatever fails leaves nothing.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise, in its helpers too"
)]

use domain_builder::{BuildError, DomainSpec, Servers, Step, build_pv};
use domain_plan::{AddressSize, AreaKind, GuestRequest, Load, PvKernel, PvPlan};
use hypercall::Xen;
use protocols::Settings;
use xen_abi::start_info::StartFlags;
use xen_abi::{DomId, Errno, GuestVirt, PAGE_SIZE, PageCount};
use xen_sim::{Effect, Fault, GuestView, Machine, Release};

/// Where a Linux kernel of today wants to be, and its p2m list.
const LINUX_BASE: u64 = 0xffff_ffff_8000_0000;
const LINUX_P2M: u64 = 0x80_0000_0000;
const TEXT: u64 = 1 << 20;

/// The kernel's bytes: three pages that can be told apart.
fn image() -> Vec<u8> {
    (0..3 * PAGE_SIZE).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

fn ramdisk() -> Vec<u8> {
    (0..5 * PAGE_SIZE + 100).map(|at| u8::try_from(at % 241).unwrap()).collect()
}

/// A kernel that asks for everything that Linux asks for.
fn linux(bytes: &[u8]) -> PvKernel<'_> {
    PvKernel {
        address_size: AddressSize::Bits64,
        base: GuestVirt::new(LINUX_BASE),
        entry: GuestVirt::new(LINUX_BASE + TEXT),
        loads: vec![Load { address: TEXT, bytes: bytes.into(), memory_size: 5 << 20 }],
        init_p2m: Some(GuestVirt::new(LINUX_P2M)),
        unmapped_ramdisk: true,
        hypercall_page: Some(GuestVirt::new(LINUX_BASE + TEXT + PAGE_SIZE as u64)),
    }
}

/// A kernel that asks for nothing.
fn plain(bytes: &[u8]) -> PvKernel<'_> {
    PvKernel {
        address_size: AddressSize::Bits64,
        base: GuestVirt::new(0),
        entry: GuestVirt::new(TEXT),
        loads: vec![Load { address: TEXT, bytes: bytes.into(), memory_size: 16 << 10 }],
        init_p2m: None,
        unmapped_ramdisk: false,
        hypercall_page: None,
    }
}

fn plan<'k>(kernel: PvKernel<'k>, mib: u64, ramdisk: &[u8]) -> PvPlan<'k> {
    let request = GuestRequest {
        ramdisk: Some(ramdisk.len() as u64).filter(|length| *length > 0),
        ..GuestRequest::new(PageCount::new(mib << 8), "console=hvc0 quiet")
    };
    PvPlan::new(kernel, &request).unwrap()
}

fn spec(plan: &PvPlan<'_>) -> DomainSpec {
    DomainSpec {
        domid: None,
        uuid: *b"sixteen bytes id",
        vcpus: 2,
        max_memory: plan.memory(),
        settings: Settings::default(),
        servers: Servers::default(),
        serves_store: false,
    }
}

/// Builds and starts a domain.
fn build(machine: &Machine, plan: &PvPlan<'_>, ramdisk: &[u8]) -> Result<DomId, BuildError> {
    let xen = Xen::probe(machine.dom0()).unwrap();
    let sealed = build_pv(&xen, &mut machine.window(), &spec(plan), plan, ramdisk, |_, _| ())?;
    Ok(sealed.start()?.domid)
}

/// Takes a domain back, and everything has to be as it was.
fn destroy(machine: &Machine, domain: DomId) {
    Xen::probe(machine.dom0()).unwrap().destroy_domain(domain).unwrap();
    machine.assert_clean();
}

fn view(machine: &Machine, domain: DomId) -> GuestView {
    let guest = machine.guest(domain);
    assert!(guest.runs(), "domain {domain} does not run");
    let view = guest.view().unwrap();
    view.assert_sane();
    view
}

#[test]
fn a_guest_finds_what_the_plan_promises_on_every_release() {
    let (image, ramdisk) = (image(), ramdisk());
    for kernel in [linux(&image), plain(&image)] {
        for release in Release::ALL {
            let plan = plan(kernel.clone(), 32, &ramdisk);
            let machine = Machine::builder().release(release).stale_memory().build();
            let domain = build(&machine, &plan, &ramdisk).unwrap();
            check_guest(&view(&machine, domain), &plan, &image, &ramdisk);
            destroy(&machine, domain);
        }
    }
}

/// Compares what the guest sees with what it was to get.
fn check_guest(view: &GuestView, plan: &PvPlan<'_>, image: &[u8], ramdisk: &[u8]) {
    let kernel = plan.kernel();
    assert_eq!(view.registers().rip, kernel.entry.raw());
    let loaded = view.read(kernel.entry, image.len()).unwrap();
    // The hypercall page stands in the image, and Xen has filled it.
    let filled = plan.hypercall_page().map(|_| PAGE_SIZE..2 * PAGE_SIZE);
    for (at, (found, wanted)) in loaded.iter().zip(image).enumerate() {
        if !filled.as_ref().is_some_and(|range| range.contains(&at)) {
            assert_eq!(found, wanted, "byte {at:#x} of the kernel");
        }
    }
    if filled.is_some() {
        assert_eq!(loaded[PAGE_SIZE + 32..PAGE_SIZE + 37], [0xb8, 1, 0, 0, 0], "the second hypercall stub");
    }
    let bss = kernel.entry.checked_add(image.len() as u64).unwrap();
    assert_eq!(view.read(bss, PAGE_SIZE), Some(vec![0; PAGE_SIZE]), "memory behind the file is zero");

    let info = view.start_info().unwrap();
    assert_eq!(info.nr_pages, plan.memory().raw());
    assert_eq!(info.command_line(), b"console=hvc0 quiet");
    assert_eq!(info.mod_len, ramdisk.len() as u64);
    let p2m = view.p2m().unwrap();
    let first = if kernel.unmapped_ramdisk {
        assert_ne!(info.flags & StartFlags::MOD_START_PFN.bits(), 0);
        usize::try_from(info.mod_start).unwrap()
    } else {
        usize::try_from(plan.area(AreaKind::Ramdisk).unwrap().first.raw()).unwrap()
    };
    let pages = p2m[first..].iter().flat_map(|frame| view.read_frame(*frame));
    assert_eq!(pages.take(ramdisk.len()).collect::<Vec<_>>(), ramdisk);
    let console = view.read_frame(xen_abi::Mfn::new(info.console_mfn));
    assert!(console.iter().all(|byte| *byte == 0), "the console ring is empty");
}

#[test]
fn the_calls_of_a_build_are_these() {
    let image = image();
    let plan = plan(plain(&image), 32, &[]);
    let machine = Machine::builder().build();
    let xen = Xen::probe(machine.dom0()).unwrap();
    machine.clear_trace();
    let sealed = build_pv(&xen, &mut machine.window(), &spec(&plan), &plan, &[], |_, _| ()).unwrap();
    let _started = sealed.start().unwrap();
    let calls: Vec<_> = machine.trace().calls().iter().map(|call| call.name).collect();
    assert_eq!(
        calls,
        [
            "XEN_DOMCTL_createdomain",
            "XEN_DOMCTL_max_vcpus",
            "XEN_DOMCTL_max_mem",
            "XENMEM_populate_physmap",
            "EVTCHNOP_alloc_unbound",
            "XEN_DOMCTL_getdomaininfo",
            "map frames",
            "MMUEXT_PIN_L4_TABLE",
            "XEN_DOMCTL_setvcpucontext",
            "XEN_DOMCTL_unpausedomain",
        ]
    );
}

#[test]
fn a_guest_that_may_grow_finds_room_in_the_memory_map_that_xen_has_for_it() {
    let image = image();
    let plan = plan(plain(&image), 32, &[]);
    let machine = Machine::builder().build();
    let xen = Xen::probe(machine.dom0()).unwrap();
    for (max_memory, expected) in [(plan.memory(), vec![]), (PageCount::new(64 << 8), vec![(0, 64 << 20, 1)])]
    {
        let spec = DomainSpec { max_memory, ..spec(&plan) };
        let sealed = build_pv(&xen, &mut machine.window(), &spec, &plan, &[], |_, _| ()).unwrap();
        let domain = sealed.start().unwrap().domid;
        let map = machine.guest(domain).memory_map();
        let map: Vec<_> =
            map.iter().map(|entry| (entry.addr.get(), entry.size.get(), entry.kind.get())).collect();
        assert_eq!(map, expected);
        destroy(&machine, domain);
    }
}

/// Builds once to see which calls are made, then once for each of them with `effect` at it.
fn sweep(release: Release, effect: impl Fn(Errno) -> Effect) {
    let (image, ramdisk) = (image(), ramdisk());
    let plan = plan(linux(&image), 16, &ramdisk);
    // A small window, so that there are several mappings to fail at.
    let machine = Machine::builder().release(release).window(64).build();
    let probes = {
        let before = machine.calls();
        let _xen = Xen::probe(machine.dom0()).unwrap();
        machine.calls() - before
    };
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
    for release in [Release::V4_14, Release::V4_17, Release::V4_23] {
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
    let plan = plan(plain(&image), 4, &[]);
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
        allowed += if allowed < 16 { 1 } else { 97 };
    }
    assert!(allowed >= plan.memory().raw());
}

#[test]
fn memory_in_small_pieces_is_put_together() {
    let image = image();
    let plan = plan(plain(&image), 32, &[]);
    let machine = Machine::builder().build();
    let short = |site: &xen_sim::CallSite| site.name == "XENMEM_populate_physmap";
    // One extent of 2 MiB, one of 64 KiB, and then all the rest in single pages.
    machine.inject(Fault::when(short, Effect::Short(1)).times(2));
    let domain = build(&machine, &plan, &[]).unwrap();
    assert_eq!(machine.guest(domain).pages(), plan.memory().raw());
    view(&machine, domain);
    destroy(&machine, domain);
}

#[test]
fn a_machine_that_is_too_small_says_by_how_much() {
    let image = image();
    let plan = plan(plain(&image), 64, &[]);
    let machine = Machine::builder().memory(PageCount::new(0x2000)).build();
    let error = build(&machine, &plan, &[]).unwrap_err();
    assert!(matches!(error, BuildError::OutOfMemory { wanted, .. } if wanted == plan.memory()), "{error}");
    assert_eq!(error.step(), Step::Populate);
    machine.assert_clean();
}

#[test]
fn a_domid_that_is_taken_is_an_error_that_says_so() {
    let image = image();
    let plan = plan(plain(&image), 4, &[]);
    let machine = Machine::builder().build();
    let xen = Xen::probe(machine.dom0()).unwrap();
    let wanted = DomainSpec { domid: Some(DomId::new(7)), ..spec(&plan) };
    let mut window = machine.window();
    let first = build_pv(&xen, &mut window, &wanted, &plan, &[], |_, _| ()).unwrap();
    assert_eq!(first.domid(), DomId::new(7));
    let second = build_pv(&xen, &mut window, &wanted, &plan, &[], |_, _| ()).unwrap_err();
    assert!(second.to_string().contains("`domid`"), "{second}");
    drop(first);
    machine.assert_clean();
}

#[test]
fn a_stage_that_is_dropped_takes_the_domain_with_it() {
    let image = image();
    let plan = plan(plain(&image), 4, &[]);
    let machine = Machine::builder().build();
    let xen = Xen::probe(machine.dom0()).unwrap();
    drop(domain_builder::Created::new(&xen, &spec(&plan), &plan).unwrap());
    machine.assert_clean();
    let mut populating =
        domain_builder::Created::new(&xen, &spec(&plan), &plan).unwrap().populate(plan.memory());
    while !populating.step().unwrap() {}
    drop(populating.finish().unwrap());
    machine.assert_clean();
    drop(build_pv(&xen, &mut machine.window(), &spec(&plan), &plan, &[], |_, _| ()).unwrap());
    machine.assert_clean();
}

#[test]
fn the_number_of_calls_does_not_grow_with_the_memory() {
    let image = image();
    let calls = |mib| {
        let plan = plan(plain(&image), mib, &[]);
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
