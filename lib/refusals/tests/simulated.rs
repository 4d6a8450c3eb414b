//! Each way in which the simulated Xen refuses one of the builder's calls has an explanation of its own.
#![allow(clippy::unwrap_used, reason = "a helper of a test may stop it at the first surprise")]

use hypercall::{AffinityKind, CallError, Xen};
use refusals::{Release as Version, calls, explain};
use xen_abi::cpu_policy::{CpuidLeaf, NO_SUBLEAF};
use xen_abi::domctl::{CreateDomain, CreateFlags};
use xen_abi::{DomId, Errno, Mfn, PageCount, VcpuId};
use xen_sim::{Machine, Release, SimHypervisor};

fn request() -> CreateDomain {
    CreateDomain {
        ssidref: 0,
        handle: [3; 16],
        flags: CreateFlags::empty(),
        max_vcpus: 1,
        max_evtchn_port: 2,
        max_grant_frames: 4,
        max_maptrack_frames: -1,
        max_grant_version: 1,
        emulation_flags: 0,
        misc_flags: 0,
    }
}

fn leaf(leaf: u32, eax: u32) -> CpuidLeaf {
    CpuidLeaf { leaf, subleaf: NO_SUBLEAF, registers: [eax, 0, 0, 0] }
}

/// Calls on a new domain that Xen refuses, whatever its release.
fn refused(xen: &Xen<SimHypervisor>, domain: DomId) -> Vec<CallError> {
    let create = |change: fn(&mut CreateDomain)| {
        let mut request = request();
        change(&mut request);
        xen.create_domain(None, &request).unwrap_err()
    };
    let (one, vcpu) = (PageCount::new(1), VcpuId::BOOT);
    while xen.alloc_unbound(domain, DomId::SELF).is_ok() {}
    vec![
        xen.create_domain(Some(domain), &request()).unwrap_err(),
        create(|request| request.max_vcpus = 100_000),
        create(|request| request.flags = CreateFlags::HVM),
        xen.set_max_vcpus(domain, 7).unwrap_err(),
        xen.alloc_unbound(domain, DomId::SELF).unwrap_err(),
        xen.allow_io_memory(domain, Mfn::new(0xfee00), one).unwrap_err(),
        xen.allow_io_memory(domain, Mfn::new(0), PageCount::new(0)).unwrap_err(),
        xen.allow_io_ports(domain, 0x40, 1).unwrap_err(),
        xen.allow_io_ports(domain, 0xffff, 2).unwrap_err(),
        xen.allow_interrupt(domain, 4).unwrap_err(),
        xen.allow_interrupt(domain, 200).unwrap_err(),
        xen.set_affinity(domain, vcpu, AffinityKind::Hard, [99].into_iter()).unwrap_err(),
        xen.move_to_pool(domain, 9).unwrap_err(),
        xen.cpu_pool(9).unwrap_err(),
        xen.set_share(domain, 1, Some(1), None).unwrap_err(),
        xen.init_hypercall_page(domain, Mfn::new(1)).unwrap_err(),
        xen.set_tsc_mode(domain, 9).unwrap_err(),
        xen.set_cpu_policy(domain, &[leaf(0, 0x20)]).unwrap_err().0,
        xen.set_cpu_policy(domain, &[leaf(0x30, 0)]).unwrap_err().0,
    ]
}

fn version(release: Release) -> Version {
    (release.version().major, release.version().minor)
}

#[test]
fn every_refusal_of_the_simulation_is_explained() {
    for release in Release::ALL {
        let machine = Machine::with_release(release);
        let xen = Xen::probe(machine.dom0()).unwrap();
        let domain = xen.create_domain(None, &request()).unwrap();
        xen.set_max_vcpus(domain, 1).unwrap();
        for error in refused(&xen, domain) {
            let explanation = explain(error.call, error.errno, Some(version(release)));
            assert!(explanation.specific, "Xen {release}: {error} has no explanation of its own");
        }
        xen.unpause_domain(domain).unwrap();
        let error = xen.unpause_domain(domain).unwrap_err();
        assert!(explain(error.call, error.errno, None).specific, "{error}");
    }
}

#[test]
fn refusals_of_a_security_policy_are_explained() {
    let label = |text: &str| format!("system_u:system_r:{text}");
    for release in Release::ALL {
        let machine = Machine::builder().release(release).flask(true).build();
        let xen = Xen::probe(machine.dom0()).unwrap();
        let number = |text| xen.label_number(&label(text)).unwrap();
        let create = |text| xen.create_domain(None, &CreateDomain { ssidref: number(text), ..request() });
        let domain = create("domU_t").unwrap();
        let errors = [
            xen.label_number("nobody").unwrap_err(),
            create("xen_t").unwrap_err(),
            xen.relabel(domain, number("nomigrate_t")).unwrap_err(),
            Xen::probe(Machine::with_release(release).dom0()).unwrap().label_number("a:b:c").unwrap_err(),
        ];
        for error in errors {
            let explanation = explain(error.call, error.errno, Some(version(release)));
            assert!(explanation.specific, "Xen {release}: {error} has no explanation of its own");
        }
    }
}

#[test]
fn releases_are_told_apart() {
    let grants = |release| {
        let checks = explain("XEN_DOMCTL_createdomain", Errno::EINVAL, release).checks;
        checks.iter().any(|check| check.remedy.contains("gnttab_max_frames"))
    };
    assert!(grants(Some((4, 17))) && grants(None) && !grants(Some((4, 20))));
}

#[test]
fn a_number_that_a_refusal_has_cost_is_explained_where_that_happens() {
    for release in Release::ALL {
        let machine = Machine::with_release(release);
        let xen = Xen::probe(machine.dom0()).unwrap();
        let number = DomId::new(5);
        let bad = CreateDomain { max_vcpus: 100_000, ..request() };
        assert_eq!(xen.create_domain(Some(number), &bad).unwrap_err().errno, Errno::EINVAL);
        let again = xen.create_domain(Some(number), &request());
        let checks = explain("XEN_DOMCTL_createdomain", Errno::EEXIST, Some(version(release))).checks;
        let told = checks.iter().any(|check| check.found.contains("number is lost"));
        assert_eq!(again.is_err(), told, "Xen {release}: {again:?}");
    }
}

#[test]
fn what_is_not_known_of_a_call_is_told_of_the_number() {
    let explanation = explain("XEN_DOMCTL_max_mem", Errno::ESRCH, None);
    assert!(!explanation.specific && !explanation.checks.is_empty());
    for call in calls() {
        for errno in [Errno::EPERM, Errno::EACCES, Errno::ESRCH, Errno::ENOMEM, Errno::EINVAL, Errno::ENOSYS]
        {
            assert!(!explain(call, errno, None).checks.is_empty(), "{call} {errno:?}");
        }
    }
}
