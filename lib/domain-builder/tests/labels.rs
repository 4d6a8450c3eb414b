//! Security labels: with them, without them, and on a Xen that has none.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise, in its helpers too")]

use domain_builder::{BuildError, DomainSpec, Sealed, Servers, Step, build_pv};
use domain_plan::{AddressSize, GuestRequest, Load, PvKernel, PvPlan};
use hypercall::{Enforcement, Xen};
use protocols::Settings;
use protocols::settings::Labels;
use xen_abi::{Errno, GuestVirt, PAGE_SIZE, PageCount};
use xen_sim::{Effect, Fault, Machine, Release, SimHypervisor};

const CODE: [u8; PAGE_SIZE] = [0x90; PAGE_SIZE];
const DOMU: &str = "system_u:system_r:domU_t";
const ISOLATED: &str = "system_u:system_r:isolated_domU_t";
const BUILDING: &str = "system_u:system_r:nomigrate_t_building";
const BUILT: &str = "system_u:system_r:nomigrate_t";

fn plan() -> PvPlan<'static> {
    let load = Load { address: 1 << 20, bytes: CODE[..].into(), memory_size: 16 << 10 };
    let kernel = PvKernel {
        address_size: AddressSize::Bits64,
        base: GuestVirt::new(0),
        entry: GuestVirt::new(1 << 20),
        loads: vec![load],
        init_p2m: None,
        unmapped_ramdisk: false,
        hypercall_page: None,
    };
    let request = GuestRequest::new(PageCount::new(4 << 8), "");
    PvPlan::new(kernel, &request).unwrap()
}

fn labels(running: Option<&str>, building: Option<&str>) -> Labels {
    Labels { running: running.map(str::to_owned), building: building.map(str::to_owned) }
}

/// Builds a domain, up to complete and paused.
fn build<'x>(
    machine: &Machine,
    xen: &'x Xen<SimHypervisor>,
    labels: Labels,
) -> Result<Sealed<'x, SimHypervisor>, BuildError> {
    let plan = plan();
    let settings = Settings { labels, ..Settings::default() };
    let spec = DomainSpec {
        domid: None,
        uuid: [7; 16],
        vcpus: 1,
        max_memory: plan.memory(),
        settings,
        servers: Servers::default(),
        serves_store: false,
    };
    build_pv(xen, &mut machine.window(), &spec, &plan, &[], |_, _| ())
}

fn with_flask(release: Release, enforced: bool) -> Machine {
    Machine::builder().release(release).flask(enforced).build()
}

#[test]
fn on_every_release_a_domain_has_the_label_of_its_file_or_that_of_xens_tools() {
    for release in Release::ALL {
        let machine = with_flask(release, true);
        let xen = Xen::probe(machine.dom0()).unwrap();
        assert_eq!(xen.interface().labels, Some(Enforcement::Enforced));
        for (asked, got) in [(None, DOMU), (Some(DOMU), DOMU), (Some(ISOLATED), ISOLATED)] {
            let started = build(&machine, &xen, labels(asked, None)).unwrap().start().unwrap();
            assert_eq!(machine.guest(started.domid).label(), Some(got), "{release}");
            xen.destroy_domain(started.domid).unwrap();
        }
        machine.assert_clean();
    }
}

#[test]
fn a_domain_with_a_label_to_build_with_gets_its_own_when_it_starts() {
    let machine = with_flask(Release::V4_20, true);
    let xen = Xen::probe(machine.dom0()).unwrap();
    let sealed = build(&machine, &xen, labels(Some(BUILT), Some(BUILDING))).unwrap();
    assert_eq!(machine.guest(sealed.domid()).label(), Some(BUILDING));
    let started = sealed.start().unwrap();
    assert_eq!(machine.guest(started.domid).label(), Some(BUILT));
    xen.destroy_domain(started.domid).unwrap();
    machine.assert_clean();
}

#[test]
fn what_the_policy_refuses_names_step_and_remedy_and_leaves_nothing() {
    let machine = with_flask(Release::V4_17, true);
    let xen = Xen::probe(machine.dom0()).unwrap();
    let refused = [
        (labels(Some("a:b:c"), None), Step::Label, "FLASK_CONTEXT_TO_SID", "no such label"),
        (labels(Some(BUILT), Some("a:b:c")), Step::Label, "EINVAL", "`init_seclabel`"),
        (labels(Some(BUILT), None), Step::Create, "EACCES", "\"avc: denied\""),
    ];
    for (labels, step, cause, remedy) in refused {
        let error = build(&machine, &xen, labels).unwrap_err();
        let text = error.to_string();
        assert_eq!(error.step(), step, "{text}");
        assert!(text.contains(cause) && text.contains(remedy), "{text}");
        machine.assert_clean();
    }
    // The change that the policy does not allow comes last, when the domain is complete.
    let sealed = build(&machine, &xen, labels(Some(ISOLATED), Some(BUILDING))).unwrap();
    let error = sealed.start().unwrap_err().to_string();
    assert!(
        error.contains("FLASK_RELABEL_DOMAIN") && error.contains("`init_seclabel` to `seclabel`"),
        "{error}"
    );
    machine.assert_clean();
}

#[test]
fn a_policy_that_is_not_enforced_refuses_no_label_that_it_has() {
    let machine = with_flask(Release::V4_14, false);
    let xen = Xen::probe(machine.dom0()).unwrap();
    assert_eq!(xen.interface().labels, Some(Enforcement::Permissive));
    drop(build(&machine, &xen, labels(Some(BUILT), None)).unwrap());
    assert_eq!(build(&machine, &xen, labels(Some("a:b:c"), None)).unwrap_err().step(), Step::Label);
    machine.assert_clean();
}

#[test]
fn without_flask_a_label_is_refused_before_anything_is_made() {
    for release in Release::ALL {
        let machine = Machine::with_release(release);
        let xen = Xen::probe(machine.dom0()).unwrap();
        let calls = machine.calls();
        let error = build(&machine, &xen, labels(Some(DOMU), None)).unwrap_err();
        assert_eq!((error.step(), machine.calls()), (Step::Label, calls));
        assert!(error.to_string().contains("CONFIG_XSM_FLASK"), "{error}");
    }
}

#[test]
fn a_failure_of_any_call_names_it_and_leaves_nothing() {
    let asked = || labels(Some(BUILT), Some(BUILDING));
    let attempt = |machine: &Machine| {
        let xen = Xen::probe(machine.dom0()).unwrap();
        build(machine, &xen, asked()).and_then(Sealed::start)
    };
    let machine = with_flask(Release::V4_17, true);
    let _xen = Xen::probe(machine.dom0()).unwrap();
    let probes = machine.calls();
    machine.clear_trace();
    attempt(&machine).unwrap();
    let calls = machine.trace().calls()[probes..].to_vec();
    assert_eq!(calls.iter().filter(|call| call.name.starts_with("FLASK_")).count(), 3);
    for (number, call) in calls.iter().enumerate() {
        let machine = with_flask(Release::V4_17, true);
        machine.inject(Fault::at(probes + number, Effect::FailAndScribble(Errno::EIO)));
        let text = attempt(&machine).unwrap_err().to_string();
        let named = text.contains(call.name) || call.name == "map frames";
        assert!(text.contains("EIO") && named, "call {number}, {}: {text}", call.name);
        machine.assert_clean();
    }
}
