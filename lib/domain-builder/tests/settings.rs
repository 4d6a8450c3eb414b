//! What a VM may do and get besides memory: that Xen is asked for it, that it is there afterwards, and that a refusal says what
//! to change and leaves nothing.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise, in its helpers too")]

use domain_builder::{BuildError, DomainSpec, Servers, Step, build_pv};
use domain_plan::{AddressSize, GuestRequest, Load, PvKernel, PvPlan};
use hypercall::Xen;
use protocols::Settings;
use protocols::settings::{
    Access, Affinity, Claims, CpuSet, IoMemory, IoPorts, Labels, Limits, Placement, Processor,
};
use xen_abi::{DomId, Errno, GuestVirt, Mfn, PAGE_SIZE, PageCount, VcpuId};
use xen_sim::{Effect, Fault, Guest, Machine, Release};

const TEXT: u64 = 1 << 20;

fn plan(image: &[u8]) -> PvPlan<'_> {
    let kernel = PvKernel {
        address_size: AddressSize::Bits64,
        base: GuestVirt::new(0),
        entry: GuestVirt::new(TEXT),
        loads: vec![Load { address: TEXT, bytes: image.into(), memory_size: 16 << 10 }],
        init_p2m: None,
        unmapped_ramdisk: false,
        hypercall_page: None,
    };
    let request = GuestRequest::new(PageCount::new(4 << 8), "");
    PvPlan::new(kernel, &request).unwrap()
}

fn cpus(list: &[u32]) -> CpuSet {
    CpuSet::new(list.iter().copied()).unwrap()
}

/// A bit of everything.
fn everything() -> Settings {
    Settings {
        access: Access {
            io_memory: vec![
                IoMemory { first: 0xff, pages: 1, guest: None },
                IoMemory { first: 0xa0, pages: 0x20, guest: None },
            ],
            io_ports: vec![IoPorts { first: 0x70, last: 0x71 }],
            interrupts: vec![8],
        },
        limits: Limits { event_channels: 7, grant_frames: 2, maptrack_frames: 3, grant_version: None },
        placement: Placement {
            hard: Affinity::All(cpus(&[1, 2, 3, 90])),
            soft: Affinity::Each(vec![cpus(&[2])]),
            weight: Some(512),
            cap: Some(50),
            pool: 0,
        },
        labels: Labels::default(),
        processor: Processor::default(),
        claims: Claims::default(),
    }
}

fn build(machine: &Machine, settings: Settings) -> Result<Guest, BuildError> {
    let image = vec![0x90; PAGE_SIZE];
    let plan = plan(&image);
    let spec = DomainSpec {
        domid: None,
        uuid: [7; 16],
        vcpus: 2,
        max_memory: plan.memory(),
        settings,
        servers: Servers::default(),
        serves_store: false,
    };
    let xen = Xen::probe(machine.dom0()).unwrap();
    let sealed = build_pv(&xen, &mut machine.window(), &spec, &plan, &[], |_, _| ())?;
    Ok(machine.guest(sealed.start()?.domid))
}

fn destroy(machine: &Machine, domain: DomId) {
    Xen::probe(machine.dom0()).unwrap().destroy_domain(domain).unwrap();
    machine.assert_clean();
}

#[test]
fn a_domain_gets_what_its_settings_say_on_every_release() {
    for release in Release::ALL {
        let machine = Machine::with_release(release);
        let guest = build(&machine, everything()).unwrap();
        assert!([0xa0, 0xbf, 0xff].into_iter().all(|frame| guest.may_map(Mfn::new(frame))));
        assert!(![0x9f, 0xc0].into_iter().any(|frame| guest.may_map(Mfn::new(frame))));
        assert!(guest.may_use_port(0x70) && guest.may_use_port(0x71) && !guest.may_use_port(0x72));
        assert!(guest.may_use_interrupt(8) && !guest.may_use_interrupt(9));
        // The machine has CPUs 0 to 3.
        for vcpu in [0, 1] {
            assert_eq!(guest.cpus(VcpuId::new(vcpu)), Some(vec![1, 2, 3]));
        }
        assert_eq!(guest.preferred_cpus(VcpuId::new(0)), Some(vec![2]));
        assert_eq!(guest.preferred_cpus(VcpuId::new(1)), None);
        assert_eq!(guest.share(), Some((512, 50)));
        let created = guest.creation().unwrap();
        assert_eq!(created.max_maptrack_frames, 3);
        assert_eq!(created.max_grant_version, 2);
        destroy(&machine, guest.domain());
    }
}

#[test]
fn limits_hold() {
    let machine = Machine::builder().build();
    let guest = build(&machine, everything()).unwrap();
    let xen = Xen::unprivileged(guest.hypervisor()).unwrap();
    // One of its ports is that of its console.
    let ports = (0..20).take_while(|_| xen.bind_ipi(VcpuId::BOOT).is_ok()).count();
    assert_eq!(ports, 6);
    assert!(xen.set_up_grant_table(2).is_ok());
    assert_eq!(xen.set_up_grant_table(3).unwrap_err().errno, Errno::ENOSPC);
    destroy(&machine, guest.domain());
}

#[test]
fn nothing_more_is_asked_of_xen_for_a_domain_without_settings() {
    let calls = |settings| {
        let machine = Machine::builder().build();
        let before = machine.calls();
        let guest = build(&machine, settings).unwrap();
        let calls = machine.calls() - before;
        destroy(&machine, guest.domain());
        calls
    };
    // Two of I/O memory, one of ports, four of the interrupt, three of the share, two and one of affinity.
    assert_eq!(calls(everything()), calls(Settings::default()) + 13);
}

#[test]
fn another_pool_has_other_cpus() {
    let machine = Machine::builder().cpus(2, 1).build();
    let placed = |pool, cpu| Settings {
        placement: Placement {
            pool,
            hard: Affinity::All(cpus(&[cpu])),
            weight: Some(100),
            ..Placement::default()
        },
        ..Settings::default()
    };
    let guest = build(&machine, placed(1, 2)).unwrap();
    assert_eq!(guest.pool(), Some(1));
    assert_eq!(guest.cpus(VcpuId::BOOT), Some(vec![2]));
    assert_eq!(guest.share(), Some((100, 0)));
    destroy(&machine, guest.domain());
    let error = build(&machine, placed(1, 0)).unwrap_err();
    assert!(error.to_string().contains("check `cpus`"), "{error}");
    machine.assert_clean();
}

/// A setting that Xen refuses, on which release, in which step, and what the message says to change.
type Refused = (Release, fn(&mut Settings), Step, &'static [&'static str]);

const REFUSED: &[Refused] = &[
    (
        Release::V4_17,
        |s| s.access.io_memory.push(IoMemory { first: 0xfee00, pages: 1, guest: None }),
        Step::Access,
        &["XEN_DOMCTL_iomem_permission", "EPERM", "`iomem`"],
    ),
    (
        Release::V4_20,
        |s| s.access.io_ports.push(IoPorts { first: 0x3f, last: 0x45 }),
        Step::Access,
        &["XEN_DOMCTL_ioport_permission", "EPERM", "`ioports`"],
    ),
    (
        Release::V4_14,
        |s| s.access.interrupts.push(4),
        Step::Access,
        &["PHYSDEVOP_map_pirq", "EPERM", "`irqs`"],
    ),
    (
        Release::V4_17,
        |s| s.placement.hard = Affinity::All(CpuSet::new([7]).unwrap()),
        Step::Place,
        &["XEN_DOMCTL_setvcpuaffinity", "EINVAL", "`cpus`"],
    ),
    (
        Release::V4_17,
        |s| s.placement.cap = Some(10_000),
        Step::Place,
        &["XEN_DOMCTL_scheduler_op", "EINVAL", "`cap` (at most 100 for each vCPU)"],
    ),
    (Release::V4_17, |s| s.placement.pool = 5, Step::Place, &["XEN_SYSCTL_cpupool_op", "ENOENT", "`pool`"]),
    (
        Release::V4_17,
        |s| s.limits.grant_frames = 65,
        Step::Create,
        &["XEN_DOMCTL_createdomain", "EINVAL", "`max_grant_frames`"],
    ),
    (
        Release::V4_15,
        |s| s.limits.grant_version = Some(1),
        Step::Create,
        &["Xen 4.15", "`max_grant_version`", "4.16"],
    ),
    (
        Release::V4_14,
        |s| s.processor.relaxed_msrs = true,
        Step::Create,
        &["Xen 4.14", "`msr_relaxed`", "4.15"],
    ),
];

#[test]
fn a_refusal_says_what_to_change_and_leaves_nothing() {
    for (release, change, step, texts) in REFUSED {
        let machine = Machine::with_release(*release);
        let mut settings = everything();
        change(&mut settings);
        let error = build(&machine, settings).unwrap_err();
        let message = error.to_string();
        assert_eq!(error.step(), *step, "{message}");
        assert!(texts.iter().all(|text| message.contains(text)), "{message}");
        machine.assert_clean();
    }
}

#[test]
fn from_4_16_on_a_domain_can_be_held_to_version_1_of_the_grant_table() {
    let limits = Limits { grant_version: Some(1), ..Limits::default() };
    for release in Release::ALL.into_iter().filter(|release| *release >= Release::V4_16) {
        let machine = Machine::with_release(release);
        let guest = build(&machine, Settings { limits, ..Settings::default() }).unwrap();
        assert_eq!(guest.creation().unwrap().max_grant_version, 1);
        destroy(&machine, guest.domain());
    }
}

/// Builds once to count the calls, then fails each in turn.
fn sweep(release: Release, effect: impl Fn(Errno) -> Effect) {
    let machine = Machine::with_release(release);
    let probes = {
        let before = machine.calls();
        let _xen = Xen::probe(machine.dom0()).unwrap();
        machine.calls() - before
    };
    machine.clear_trace();
    let guest = build(&machine, everything()).unwrap();
    let calls = machine.trace().calls()[probes..].to_vec();
    destroy(&machine, guest.domain());
    for (number, call) in calls.iter().enumerate() {
        let machine = Machine::with_release(release);
        machine.inject(Fault::at(machine.calls() + probes + number, effect(Errno::EIO)));
        let text = build(&machine, everything()).unwrap_err().to_string();
        assert!(text.contains("EIO"), "call {number}, {}: {text}", call.name);
        assert!(
            text.contains(call.name) || call.name == "map frames",
            "call {number}, {}: {text}",
            call.name
        );
        // A cleaning up that Xen refuses is told; nothing more can be done about it.
        let left = usize::from(call.name == "PHYSDEVOP_unmap_pirq");
        assert_eq!(
            machine.leftovers().len(),
            left,
            "call {number}, {}: {:?}",
            call.name,
            machine.leftovers()
        );
    }
}

#[test]
fn a_failure_of_any_call_names_it_and_leaves_nothing() {
    for release in [Release::V4_14, Release::V4_17, Release::V4_23] {
        sweep(release, Effect::Fail);
    }
    sweep(Release::V4_17, Effect::FailAndScribble);
}
