//! What db-boot logs below an error when Xen has refused a call.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise, in its helpers too")]

mod support;

use hypercall::Xen;
use protocols::{BootSpec, MachineStatus};
use support::{logged, run, spec};
use xen_abi::domctl::{CreateDomain, CreateFlags};
use xen_abi::{DomId, Errno};
use xen_sim::{CallSite, Effect, Fault, Machine, Release};

/// The hints in the log, in order.
fn hints() -> Vec<String> {
    logged().lines().filter_map(|line| Some(line.split_once("vm=a hint=")?.1.to_owned())).collect()
}

/// Starts a platform on a Xen that answers `call` with `errno`.
fn refuse(release: Release, call: &'static str, errno: Errno) {
    let machine = Machine::with_release(release);
    machine.inject(Fault::when(move |site: &CallSite| site.name == call, Effect::Fail(errno)));
    assert_eq!(run(&machine, &[spec("a")], ""), MachineStatus::BuildFailed);
    machine.assert_clean();
}

#[test]
fn the_likeliest_causes_stand_below_the_error_and_no_more_than_two() {
    refuse(Release::V4_17, "XEN_DOMCTL_createdomain", Errno::EINVAL);
    let log = logged();
    let lines: Vec<_> = log.lines().skip_while(|line| !line.contains("vm=a step=create: ")).collect();
    assert!(lines[0].contains("EINVAL"), "{log}");
    assert!(lines[1].starts_with("vm=a hint=This Xen cannot run guests of the type"), "{log}");
    assert!(lines[2].starts_with("vm=a hint=There are more vCPUs"), "{log}");
    assert_eq!(hints().len(), 2, "{log}");
}

#[test]
fn a_refused_start_has_its_hint_too() {
    refuse(Release::V4_20, "XEN_DOMCTL_unpausedomain", Errno::EINVAL);
    assert_eq!(hints(), ["The domain is not paused. Something else has started it."]);
}

#[test]
fn what_a_number_means_anywhere_is_no_hint() {
    refuse(Release::V4_17, "XEN_DOMCTL_max_mem", Errno::ENOMEM);
    assert!(logged().contains("XEN_DOMCTL_max_mem"), "{}", logged());
    assert!(hints().is_empty(), "{}", logged());
}

#[test]
fn a_number_that_an_earlier_refusal_has_cost_is_told_on_the_releases_that_lose_it() {
    for (release, lost) in [(Release::V4_20, false), (Release::V4_21, true), (Release::V4_23, true)] {
        let machine = Machine::with_release(release);
        let xen = Xen::probe(machine.dom0()).unwrap();
        let bad = CreateDomain {
            ssidref: 0,
            handle: [0; 16],
            flags: CreateFlags::empty(),
            max_vcpus: 100_000,
            max_evtchn_port: 2,
            max_grant_frames: 4,
            max_maptrack_frames: -1,
            max_grant_version: 1,
            emulation_flags: 0,
            misc_flags: 0,
        };
        assert!(xen.create_domain(Some(DomId::new(5)), &bad).is_err());
        let domid = Some(5);
        // A Xen that does not lose the number gives it to somebody else here.
        if !lost {
            assert!(xen.create_domain(domid.map(DomId::new), &CreateDomain { max_vcpus: 1, ..bad }).is_ok());
        }
        let before = hints().len();
        let status = run(&machine, &[BootSpec { domid, ..spec("a") }], "");
        assert_eq!(status, MachineStatus::BuildFailed, "Xen {release}");
        let new = hints().split_off(before);
        assert!(new[0].starts_with("A domain has this number already."), "{new:?}");
        assert_eq!(
            new.iter().any(|hint| hint.starts_with("The number is lost")),
            lost,
            "Xen {release}: {new:?}"
        );
    }
}
