//! What a domain sees of the processor: by default, by its file, and where Xen has another opinion.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise, in its helpers too")]

use domain_builder::{BuildError, DomainSpec, Servers, Step, build_pv, build_pvh};
use domain_plan::{AddressSize, GuestRequest, Load, PvKernel, PvPlan, PvhKernel, PvhPlan};
use hypercall::Xen;
use protocols::Settings;
use protocols::settings::{CpuidChange, NO_SUBLEAF, Processor, Register, TscMode};
use xen_abi::cpu_policy::{TSC_ALWAYS_EMULATE, TSC_NEVER_EMULATE};
use xen_abi::{Errno, GuestVirt, PAGE_SIZE, PageCount};
use xen_sim::{Effect, Fault, Guest, Machine, Release};

const CODE: [u8; PAGE_SIZE] = [0x90; PAGE_SIZE];
const TEXT: u64 = 1 << 20;
const HTT: u32 = 1 << 28;
const ITSC: u32 = 1 << 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Pv,
    Pvh,
}

fn build(machine: &Machine, kind: Kind, vcpus: u32, processor: Processor) -> Result<Guest, BuildError> {
    let load = Load { address: TEXT, bytes: CODE[..].into(), memory_size: 16 << 10 };
    let request = GuestRequest::new(PageCount::new(4 << 8), "");
    let max_memory = request.memory;
    let settings = Settings { processor, ..Settings::default() };
    let servers = Servers::default();
    let spec =
        DomainSpec { domid: None, uuid: [7; 16], vcpus, max_memory, settings, servers, serves_store: false };
    let xen = Xen::probe(machine.dom0()).unwrap();
    let mut window = machine.window();
    let sealed = match kind {
        Kind::Pv => {
            let kernel = PvKernel {
                address_size: AddressSize::Bits64,
                base: GuestVirt::new(0),
                entry: GuestVirt::new(TEXT),
                loads: vec![load],
                init_p2m: None,
                unmapped_ramdisk: false,
                hypercall_page: None,
            };
            build_pv(&xen, &mut window, &spec, &PvPlan::new(kernel, &request).unwrap(), &[], |_, _| ())?
        }
        Kind::Pvh => {
            let kernel = PvhKernel { entry: u32::try_from(TEXT).unwrap(), loads: vec![load] };
            let plan = PvhPlan::new(kernel, &request, vcpus).unwrap();
            build_pvh(&xen, &mut window, &spec, &plan, &[], |_, _| ())?
        }
    };
    Ok(machine.guest(sealed.start()?.domid))
}

fn destroy(machine: &Machine, guest: &Guest) {
    Xen::probe(machine.dom0()).unwrap().destroy_domain(guest.domain()).unwrap();
    machine.assert_clean();
}

fn ecx(ones: u32, zeros: u32, host: u32) -> CpuidChange {
    CpuidChange { leaf: 1, subleaf: NO_SUBLEAF, register: Register::Ecx, ones, zeros, host }
}

fn calls_of(machine: &Machine, name: &'static str) -> usize {
    machine.trace().named(name).count()
}

#[test]
fn only_several_vcpus_of_a_pvh_guest_take_more_than_xens_own_choice() {
    for release in Release::ALL {
        for (kind, vcpus, calls) in [(Kind::Pv, 1, 0), (Kind::Pv, 4, 0), (Kind::Pvh, 1, 0), (Kind::Pvh, 4, 1)]
        {
            let machine = Machine::with_release(release);
            let guest = build(&machine, kind, vcpus, Processor::default()).unwrap();
            assert_eq!(calls_of(&machine, "XEN_DOMCTL_set_cpu_policy"), calls, "{release} {kind:?} {vcpus}");
            let features = guest.cpuid(1).unwrap();
            // The simulated processor has two threads in a package, and Xen's choice tells no guest of them.
            let (threads, count) = if calls == 1 { (HTT, 8) } else { (0, 2) };
            assert_eq!((features[3] & HTT, features[1] >> 16 & 0xff), (threads, count));
            let cores = guest.cpuid(0x8000_0008).unwrap()[2];
            assert_eq!(cores, if calls == 1 { 0x3007 } else { 0x1001 });
            destroy(&machine, &guest);
        }
    }
}

#[test]
fn a_vm_that_stays_or_has_an_emulated_counter_knows_that_its_rate_is_fixed() {
    for release in Release::ALL {
        for (processor, mode, invariant) in [
            (Processor::default(), 0, 0),
            (Processor { stays: true, ..Processor::default() }, 0, ITSC),
            (Processor { tsc: TscMode::AlwaysEmulate, ..Processor::default() }, TSC_ALWAYS_EMULATE, ITSC),
            (Processor { tsc: TscMode::Native, ..Processor::default() }, TSC_NEVER_EMULATE, 0),
        ] {
            let machine = Machine::with_release(release);
            let guest = build(&machine, Kind::Pv, 1, processor).unwrap();
            assert_eq!(guest.tsc_mode(), Some(mode), "{release}");
            assert_eq!(guest.cpuid(0x8000_0007).unwrap()[3], invariant, "{release} {mode}");
            let told = usize::from(release == Release::V4_14 && invariant != 0 && mode == 0);
            assert_eq!(calls_of(&machine, "XEN_DOMCTL_disable_migrate"), told, "{release}");
            destroy(&machine, &guest);
        }
    }
}

#[test]
fn features_are_what_the_file_says_as_far_as_the_machine_has_them() {
    for kind in [Kind::Pv, Kind::Pvh] {
        let machine = Machine::builder().build();
        let default = build(&machine, kind, 1, Processor::default()).unwrap();
        let before = default.cpuid(1).unwrap()[2];
        destroy(&machine, &default);
        // Bit 0 is there and goes, bit 1 is not there and cannot come, bit 13 is the machine's.
        let processor = Processor { cpuid: vec![ecx(2, 1, 1 << 13)], ..Processor::default() };
        let guest = build(&machine, kind, 1, processor).unwrap();
        let after = guest.cpuid(1).unwrap()[2];
        assert_eq!((before & 1, before & 2), (1, 0));
        assert_eq!(after, before & !1);
        destroy(&machine, &guest);
    }
}

#[test]
fn what_cannot_be_changed_names_the_leaf_and_leaves_nothing() {
    let with = |change| Processor { cpuid: vec![change], ..Processor::default() };
    let absent = CpuidChange { leaf: 0x1234, subleaf: 3, ..ecx(1, 0, 0) };
    let too_high = CpuidChange { leaf: 0, register: Register::Eax, ..ecx(0x10, 0, 0) };
    for (processor, texts) in [
        (with(absent), ["leaf 0x1234, subleaf 3", "remove it from `cpuid`"]),
        (with(too_high), ["XEN_DOMCTL_set_cpu_policy", "it objects to leaf 0x0"]),
    ] {
        let machine = Machine::builder().build();
        let error = build(&machine, Kind::Pv, 1, processor).unwrap_err();
        let text = error.to_string();
        assert_eq!(error.step(), Step::Processor);
        assert!(texts.iter().all(|part| text.contains(part)), "{text}");
        machine.assert_clean();
    }
}

#[test]
fn a_failure_of_any_call_names_it_and_leaves_nothing() {
    let asked = || Processor {
        tsc: TscMode::Native,
        stays: true,
        relaxed_msrs: false,
        cpuid: vec![ecx(0, 1, 1 << 13)],
        ..Processor::default()
    };
    for release in [Release::V4_14, Release::V4_20] {
        let machine = Machine::with_release(release);
        let _xen = Xen::probe(machine.dom0()).unwrap();
        let probes = machine.calls();
        machine.clear_trace();
        let guest = build(&machine, Kind::Pvh, 2, asked()).unwrap();
        let calls = machine.trace().calls()[probes..].to_vec();
        let policy = calls.iter().filter(|call| call.name.contains("cpu_policy")).count();
        assert_eq!(policy, 4, "the domain's, the machine's, the change, a look at what became of it");
        destroy(&machine, &guest);
        for (number, call) in calls.iter().enumerate() {
            let machine = Machine::with_release(release);
            machine.inject(Fault::at(probes + number, Effect::FailAndScribble(Errno::EIO)));
            let text = build(&machine, Kind::Pvh, 2, asked()).unwrap_err().to_string();
            let named = text.contains(call.name) || call.name == "map frames";
            assert!(text.contains("EIO") && named, "call {number}, {}: {text}", call.name);
            machine.assert_clean();
        }
    }
}
