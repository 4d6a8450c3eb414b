//! A service that has VMs built while the platform runs, on a simulated Xen.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise, in its helpers too")]

mod support;

use std::rc::Rc;

use hypercall::{FrameWindow, RawHypercall, Xen};
use launch::{Building, End, Fate, Host, Image, Options, PlannedVm, Service};
use platform::Ending;
use protocols::{BootSpec, ExitAction, MachineStatus, PlatformSpec};
use support::{archive, end_when_running, launch_with, logged, spec, then_end, when_running};
use xen_abi::sched::{SHUTDOWN_CRASH, SHUTDOWN_POWEROFF};
use xen_abi::{DomId, Errno, Port};
use xen_sim::{Effect, Fault, Machine};

/// Builds the VMs that it was given, all at once and a step of each at a time.
struct Builder<'x, H: RawHypercall> {
    orders: Vec<BootSpec>,
    building: Vec<Option<Building<'x, H>>>,
    failed: usize,
    ends: Vec<End>,
    lost: Vec<String>,
    is_closed: bool,
    /// Whether VMs stay paused.
    paused: bool,
}

impl<H: RawHypercall> Builder<'_, H> {
    fn new(orders: &[BootSpec]) -> Self {
        Self {
            orders: orders.to_vec(),
            building: Vec::new(),
            failed: 0,
            ends: Vec::new(),
            lost: Vec::new(),
            is_closed: false,
            paused: false,
        }
    }
}

impl<'x, H: RawHypercall, W: FrameWindow> Service<'x, H, W> for Builder<'x, H> {
    fn open(&mut self, _: &'x Xen<H>, _: &PlatformSpec, specs: &mut [BootSpec]) -> Result<(), String> {
        specs[0].command_line.push_str(" told");
        if self.orders.is_empty() { Err("nothing to do".into()) } else { Ok(()) }
    }

    fn keeps(&self, name: &str) -> bool {
        name == "images/kernel"
    }

    fn ports(&self, _: &mut Vec<Port>) {}

    fn deadline(&self) -> Option<u64> {
        None
    }

    fn turn(&mut self, host: &mut Host<'_, '_, 'x, H, W>) -> bool {
        for spec in self.orders.drain(..) {
            assert!(!host.has_vm(&spec.name));
            self.building.push(Some(Building::new(Rc::new(PlannedVm::from(spec)), host.time())));
        }
        assert!(host.image("images/kernel").is_some() && host.image("vms/first.spec").is_none());
        for slot in &mut self.building {
            let Some(building) = slot else { continue };
            let built = host.build(building, Image::Entry("images/kernel"), None, 0);
            let paused = self.paused;
            match built.and_then(|built| built.map(|built| host.adopt(built, paused)).transpose()) {
                Ok(None) => {}
                Ok(Some(_)) => *slot = None,
                Err(error) => {
                    host.log_failure(building.vm(), &error);
                    *slot = None;
                    self.failed += 1;
                }
            }
        }
        self.building.iter().any(Option::is_some)
    }

    fn ended(&mut self, host: &mut Host<'_, '_, 'x, H, W>, end: &End) {
        // The first question may be the call that fails.
        assert!(end.fate != Fate::Destroyed || host.is_gone(end.domid) || host.is_gone(end.domid));
        self.ends.push(end.clone());
    }

    fn lost(&mut self, _: &mut Host<'_, '_, 'x, H, W>, name: &str) {
        self.lost.push(name.into());
    }

    fn close(&mut self, host: &mut Host<'_, '_, 'x, H, W>) {
        for end in self.ends.iter().filter(|end| end.fate == Fate::Preserved) {
            assert_eq!(host.destroy(&end.name, end.domid), Fate::Destroyed);
        }
        self.is_closed = true;
    }
}

#[test]
fn vms_are_built_side_by_side_and_their_ends_are_told() {
    let machine = Machine::builder().build();
    let dom0 = machine.dom0();
    let xen = Xen::probe(dom0).unwrap();
    let served = [
        BootSpec { domid: Some(10), memory_kib: 16 << 10, max_memory_kib: 16 << 10, ..spec("big") },
        BootSpec { domid: Some(11), on_crash: ExitAction::Preserve, ..spec("small") },
        BootSpec { domid: Some(12), on_poweroff: ExitAction::Restart, ..spec("again") },
    ];
    let mut service = Builder::new(&served);
    when_running(&machine, 12, |guest| guest.shut_down(SHUTDOWN_POWEROFF));
    end_when_running(&machine, 11, SHUTDOWN_CRASH);
    end_when_running(&machine, 10, SHUTDOWN_POWEROFF);
    then_end(&machine, 1, SHUTDOWN_POWEROFF);
    let status = launch_with(&machine, &xen, &archive(&[spec("first")]), &Options::default(), &mut service);
    assert_eq!(status, MachineStatus::Success, "{}", logged());
    // All exist before the first is complete: each was created before the first got its memory.
    let log = logged();
    let created = log.rfind("step=create").unwrap();
    assert!(created < log.find("vm=small domid=11 step=load").unwrap(), "{log}");
    let told: Vec<_> = service.ends.iter().map(|end| (end.name.as_str(), end.ending, end.fate)).collect();
    assert_eq!(
        told,
        [
            ("again", Ending::Poweroff, Fate::Destroyed),
            ("small", Ending::Crash, Fate::Preserved),
            ("big", Ending::Poweroff, Fate::Destroyed)
        ]
    );
    assert_eq!((service.lost, service.is_closed), (vec!["first".to_owned()], true));
    assert!(machine.trace().named("XEN_DOMCTL_createdomain").count() == 4, "nothing came back by itself");
    machine.assert_clean();
}

#[test]
fn a_platform_lives_as_long_as_a_served_vm_and_takes_it_back_at_its_end() {
    let machine = Machine::builder().build();
    let xen = Xen::probe(machine.dom0()).unwrap();
    let mut service = Builder::new(&[BootSpec { domid: Some(10), ..spec("served") }]);
    service.paused = true;
    then_end(&machine, 1, SHUTDOWN_POWEROFF);
    machine.when_idle(|machine| {
        assert!(machine.has_domain(DomId::new(10)) && !machine.guest(DomId::new(10)).runs());
        assert!(!machine.has_domain(DomId::new(1)));
        machine.type_at_console(b"\x1dpoweroff\r");
    });
    let options = Options::parse("interactive");
    let status = launch_with(&machine, &xen, &archive(&[spec("first")]), &options, &mut service);
    assert_eq!(status, MachineStatus::Success, "{}", logged());
    assert!(logged().contains("vm=served domid=10 event=destroyed"), "{}", logged());
    assert_eq!((service.lost, service.is_closed), (vec!["first".to_owned()], true));
    machine.assert_clean();
}

#[test]
fn each_call_for_a_served_vm_may_fail_and_nothing_stays() {
    let run = |index: Option<usize>| {
        let machine = Machine::builder().build();
        let xen = Xen::probe(machine.dom0()).unwrap();
        let mut service = Builder::new(&[BootSpec { domid: Some(10), ..spec("served") }]);
        if let Some(index) = index {
            let served = Fault::when(|call| call.domain == DomId::new(10), Effect::Fail(Errno::ENOMEM));
            machine.inject(served.after(index).times(1));
        }
        then_end(&machine, 1, SHUTDOWN_POWEROFF);
        then_end(&machine, 10, SHUTDOWN_POWEROFF);
        // What could not start, or could not be destroyed, does not end by itself.
        machine.when_idle(|machine| {
            machine.type_at_console(b"\x1dpoweroff\r");
        });
        let options = Options::parse("interactive");
        launch_with(&machine, &xen, &archive(&[spec("first")]), &options, &mut service);
        let calls = machine.trace().calls().iter().filter(|call| call.domain == DomId::new(10)).count();
        (service.failed, calls, machine.has_domain(DomId::new(10)))
    };
    let (failed, calls, _) = run(None);
    assert!(failed == 0 && calls > 10);
    let mut failures = 0;
    for index in 0..calls {
        let (failed, _, stays) = run(Some(index));
        failures += failed;
        assert!(!stays || logged().contains("event=leaked"), "call {index}: {}", logged());
    }
    assert!(failures > 5, "most calls are needed: {failures} of {calls}");
}

#[test]
fn a_service_that_cannot_be_ends_the_platform_before_anything_is_built() {
    let machine = Machine::builder().build();
    let xen = Xen::probe(machine.dom0()).unwrap();
    let status =
        launch_with(&machine, &xen, &archive(&[spec("first")]), &Options::default(), &mut Builder::new(&[]));
    assert_eq!(status, MachineStatus::BuildFailed);
    assert!(logged().contains("step=service nothing to do"), "{}", logged());
    assert_eq!(machine.trace().named("XEN_DOMCTL_createdomain").count(), 0);
    machine.assert_clean();
}
