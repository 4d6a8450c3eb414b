//! VMs that do not go: what Xen does not destroy, or is not done with, counts until it is gone.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise, in its helpers too"
)]

mod support;

use std::cell::RefCell;
use std::rc::Rc;

use protocols::message::{EndReason, Failure, Reason, ServerNotice, ServerReply, ServerRequest, VmState};
use protocols::server::{Controller, Orphans};
use protocols::{BootSpec, MachineStatus};
use support::{Script, build, controller, logged, platform, serve, spec};
use xen_abi::sched::SHUTDOWN_POWEROFF;
use xen_abi::{DomId, Errno, Mfn};
use xen_sim::{Effect, Fault, Machine, SimOwnPage};

const SECOND: u64 = 1_000_000_000;
const DESTROY: &str = "XEN_DOMCTL_destroydomain";

fn asked(name: &str) -> BootSpec {
    BootSpec { kernel: "images/kernel".into(), ..spec(name) }
}

fn destroy(domid: u16) -> ServerRequest {
    ServerRequest::Destroy { domid, serial: None }
}

/// Xen refuses so many calls to destroy domain 100, each of which is made once.
fn refuse_to_destroy(machine: &Machine, times: usize) {
    let fault = |call: &xen_sim::CallSite| call.domain == DomId::new(100) && call.name == DESTROY;
    machine.inject(Fault::when(fault, Effect::Fail(Errno::EPERM)).times(times));
}

/// The controller's list: names, states and serial numbers.
fn lists(script: &Script, expected: &'static [(&'static str, VmState, u64)]) {
    script.ask(ServerRequest::List { after: 0 });
    script.act(move |ctl| match ctl.last() {
        ServerReply::Vms { vms, more: false } => {
            let found: Vec<_> = vms.iter().map(|vm| (vm.name.as_str(), vm.state, vm.serial)).collect();
            assert_eq!(found, expected, "{}", logged());
        }
        other => panic!("{other:?}"),
    });
}

/// A request that fails for `reason` with all of these words, when `after` nanoseconds have passed.
fn fails(
    script: &Script,
    request: ServerRequest,
    after: u64,
    reason: Reason,
    words: &'static [&'static str],
) {
    script.ask(request);
    for _ in 0..after.div_ceil(SECOND / 10) {
        script.act(|ctl| ctl.guest.machine().advance(SECOND / 10));
    }
    script.act(move |ctl| {
        let failure: Failure = ctl.refused();
        assert_eq!(failure.reason, reason, "{failure}");
        for word in words {
            assert!(failure.detail.contains(word), "{word}: {failure}");
        }
    });
}

/// A VM of that memory that is built, and its page that somebody keeps mapped so that it cannot go.
fn held(script: &Script, name: &'static str) -> Rc<RefCell<Option<SimOwnPage>>> {
    let page = Rc::new(RefCell::new(None));
    script.ask(ServerRequest::Build(build(&asked(name))));
    let slot = Rc::clone(&page);
    script.act(move |ctl| {
        let built = ctl.built();
        let guest = ctl.guest.machine().guest(DomId::new(built.domid));
        *slot.borrow_mut() = Some(guest.own_page(Mfn::new(built.console.frame)));
    });
    page
}

fn let_go(script: &Script, page: &Rc<RefCell<Option<SimOwnPage>>>) {
    let page = Rc::clone(page);
    script.act(move |_| drop(page.borrow_mut().take()));
    pass(script, 3 * SECOND);
}

fn pass(script: &Script, time: u64) {
    for _ in 0..time / (SECOND / 2) {
        script.act(|ctl| ctl.guest.machine().advance(SECOND / 2));
    }
}

fn run(machine: &Machine, change: impl FnOnce(&mut Controller)) {
    let mut controller = controller("control", 100, 110);
    change(&mut controller);
    let (settings, specs) = platform(&[controller]);
    assert_eq!(serve(machine, &settings, &specs, ""), MachineStatus::Success, "{}", logged());
    machine.assert_clean();
}

#[test]
fn what_xen_does_not_destroy_counts_and_can_be_destroyed_again() {
    let machine = Machine::builder().build();
    let script = Script::greeted(&machine, 1);
    script.ask(ServerRequest::WatchExits { watch: true });
    script.ask(ServerRequest::Build(build(&asked("stuck"))));
    script.act(|ctl| {
        ctl.built();
        refuse_to_destroy(ctl.guest.machine(), 2);
    });
    let said: &[&str] = &["vm stuck: Xen does not destroy it", DESTROY, "KiB", "Destroy tries again"];
    fails(&script, destroy(100), 0, Reason::Xen, said);
    lists(&script, &[("stuck", VmState::Dying, 1)]);
    // Its name, its id, its memory and its place among the VMs are taken.
    let another = |change: fn(&mut BootSpec)| {
        let mut spec = asked("another");
        change(&mut spec);
        ServerRequest::Build(build(&spec))
    };
    let taken: &[&str] = &["a VM has this name that is destroyed and not gone"];
    fails(&script, another(|spec| spec.name = "stuck".into()), 0, Reason::Taken, taken);
    fails(&script, another(|spec| spec.domid = Some(100)), 0, Reason::Taken, &["domain id 100"]);
    let large = another(|spec| (spec.memory_kib, spec.max_memory_kib) = (60 << 10, 60 << 10));
    let counted: &[&str] = &["beside its 1 VMs; 1 of them with 8192 KiB are being destroyed"];
    fails(&script, large, 0, Reason::OverQuota, counted);
    script.ask(another(|_| ()));
    script.act(|ctl| assert_eq!(ctl.built().serial, 2));
    fails(&script, another(|spec| spec.name = "third".into()), 0, Reason::OverQuota, &["and may have 2"]);
    for request in [
        ServerRequest::Pause { domid: 100, serial: None },
        ServerRequest::Unpause { domid: 100, serial: Some(1) },
        ServerRequest::Shutdown { domid: 100, serial: Some(1) },
    ] {
        fails(&script, request, 0, Reason::WrongState, said);
    }
    // Once more it refuses, and then it agrees.
    pass(&script, 5 * SECOND);
    fails(&script, destroy(100), 0, Reason::Xen, said);
    script.act(|ctl| assert_eq!(ctl.notices, [], "it may run"));
    script.ask(destroy(100));
    script.act(|ctl| {
        assert_eq!(ctl.last(), ServerReply::Done);
        assert!(!ctl.guest.machine().has_domain(DomId::new(100)));
        let (name, reason) = ("stuck".into(), EndReason::Destroyed);
        assert_eq!(ctl.notices, [ServerNotice::Ended { domid: 100, name, reason, serial: 1 }]);
    });
    script.refuse(destroy(100), Reason::NoSuchVm);
    script.ask(another(|spec| (spec.name, spec.domid) = ("stuck".into(), Some(100))));
    script.act(|ctl| assert_eq!(ctl.built().serial, 3));
    script.end();
    run(&machine, |controller| controller.quota.vms = 2);
}

#[test]
fn a_vm_that_ends_and_that_xen_does_not_destroy_is_told_of_and_counts() {
    let machine = Machine::builder().build();
    let script = Script::greeted(&machine, 1);
    script.ask(ServerRequest::WatchExits { watch: true });
    script.ask(ServerRequest::Build(build(&asked("ended"))));
    script.act(|ctl| {
        ctl.built();
        refuse_to_destroy(ctl.guest.machine(), 1);
        ctl.guest.machine().guest(DomId::new(100)).shut_down(SHUTDOWN_POWEROFF);
    });
    pass(&script, SECOND);
    script.act(|ctl| {
        ctl.hear();
        assert_eq!(ctl.notices, []);
    });
    pass(&script, 2 * SECOND);
    script.act(|ctl| {
        ctl.hear();
        let (name, reason) = ("ended".into(), EndReason::Poweroff);
        assert_eq!(ctl.notices, [ServerNotice::Ended { domid: 100, name, reason, serial: 1 }]);
    });
    lists(&script, &[("ended", VmState::Dying, 1)]);
    script.ask(destroy(100));
    script.act(|ctl| {
        assert_eq!(ctl.last(), ServerReply::Done);
        assert_eq!(ctl.notices.len(), 1, "it is told once");
    });
    lists(&script, &[]);
    script.end();
    run(&machine, |_| ());
}

#[test]
fn what_is_left_of_a_build_that_failed_counts_too() {
    let machine = Machine::builder().build();
    let script = Script::greeted(&machine, 1);
    script.act(|ctl| {
        let seal = |call: &xen_sim::CallSite| {
            call.domain == DomId::new(100) && call.name == "XEN_DOMCTL_setvcpucontext"
        };
        ctl.guest.machine().inject(Fault::when(seal, Effect::Fail(Errno::EINVAL)).times(1));
        refuse_to_destroy(ctl.guest.machine(), 1);
    });
    fails(&script, ServerRequest::Build(build(&asked("half"))), 0, Reason::Xen, &["setvcpucontext"]);
    lists(&script, &[("half", VmState::Dying, 1)]);
    script.refuse(ServerRequest::Build(build(&asked("half"))), Reason::Taken);
    script.ask(destroy(100));
    script.act(|ctl| assert_eq!(ctl.last(), ServerReply::Done));
    lists(&script, &[]);
    script.end();
    run(&machine, |_| ());
}

#[test]
fn orphans_that_xen_does_not_destroy_are_tried_again_at_the_end() {
    let machine = Machine::builder().build();
    let script = Script::greeted(&machine, 1);
    script.ask(ServerRequest::Build(build(&asked("orphan"))));
    script.act(|ctl| {
        ctl.built();
        refuse_to_destroy(ctl.guest.machine(), 1);
    });
    script.end();
    run(&machine, |controller| controller.orphans = Orphans::Destroy);
    assert!(logged().contains("vm=orphan domid=100 event=leaked"), "{}", logged());
}

#[test]
fn a_vm_that_is_late_to_go_is_listed_and_waited_for_again() {
    let machine = Machine::builder().build();
    let script = Script::greeted(&machine, 1);
    script.ask(ServerRequest::WatchExits { watch: true });
    let page = held(&script, "late");
    let left: &[&str] =
        &["vm late: it was destroyed 2", " ms ago, and 4 KiB of it are left", "Destroy waits"];
    fails(&script, destroy(100), 2 * SECOND, Reason::Xen, left);
    lists(&script, &[("late", VmState::Dying, 1)]);
    script.act(|ctl| assert_eq!(ctl.notices.len(), 1, "{:?}", ctl.notices));
    let dying: &[&str] = &["vm late: it was destroyed ", "its memory count"];
    fails(&script, ServerRequest::Pause { domid: 100, serial: Some(1) }, 0, Reason::WrongState, dying);
    fails(&script, ServerRequest::Shutdown { domid: 100, serial: None }, 0, Reason::WrongState, dying);
    script.refuse(ServerRequest::Build(build(&asked("late"))), Reason::Taken);
    // The second waits as long as the first did, and is answered as soon as the VM is gone.
    fails(&script, destroy(100), 2 * SECOND, Reason::Xen, &["ms ago, and 4 KiB"]);
    script.act(|ctl| ctl.replies.clear());
    script.ask(destroy(100));
    script.act(|ctl| {
        ctl.hear();
        assert_eq!(ctl.replies, []);
    });
    let_go(&script, &page);
    script.act(|ctl| {
        ctl.hear();
        assert!(matches!(&ctl.replies[..], [(_, ServerReply::Done)]), "{:?}", ctl.replies);
        ctl.replies.clear();
        assert_eq!(ctl.notices.len(), 1, "it is told once");
    });
    lists(&script, &[]);
    script.end();
    run(&machine, |_| ());
}

#[test]
fn a_vm_that_does_not_go_is_looked_at_less_and_less_often() {
    let machine = Machine::builder().build();
    let script = Script::greeted(&machine, 1);
    let page = held(&script, "late");
    fails(&script, destroy(100), 2 * SECOND, Reason::Xen, &[]);
    script.act(|ctl| ctl.guest.machine().clear_trace());
    for _ in 0..600 {
        script.act(|ctl| ctl.guest.machine().advance(SECOND / 10));
    }
    let looks = Rc::new(RefCell::new(0));
    let seen = Rc::clone(&looks);
    script.act(move |ctl| {
        let trace = ctl.guest.machine().trace();
        *seen.borrow_mut() = trace.calls().iter().filter(|call| call.domain == DomId::new(100)).count();
    });
    let_go(&script, &page);
    lists(&script, &[]);
    script.end();
    run(&machine, |_| ());
    let looks = *looks.borrow();
    assert!((55..80).contains(&looks), "{looks} in a minute");
}

/// A request on its way when its VM is gone is not for the one that has the domain id after it.
#[test]
fn a_serial_number_says_which_vm_is_meant() {
    let machine = Machine::builder().build();
    let script = Script::greeted(&machine, 1);
    script.ask(ServerRequest::Build(build(&asked("first"))));
    script.act(|ctl| {
        let built = ctl.built();
        assert_eq!((built.domid, built.serial), (100, 1));
    });
    script.ask(ServerRequest::Destroy { domid: 100, serial: Some(1) });
    script.act(|ctl| assert_eq!(ctl.last(), ServerReply::Done));
    script.ask(ServerRequest::Build(build(&asked("second"))));
    script.act(|ctl| {
        let built = ctl.built();
        assert_eq!((built.domid, built.serial), (100, 2));
    });
    for request in [
        ServerRequest::Destroy { domid: 100, serial: Some(1) },
        ServerRequest::Pause { domid: 100, serial: Some(1) },
        ServerRequest::Unpause { domid: 100, serial: Some(3) },
        ServerRequest::Shutdown { domid: 100, serial: Some(u64::MAX) },
    ] {
        fails(&script, request, 0, Reason::NoSuchVm, &["is gone; second, which has the id now, has 2"]);
    }
    lists(&script, &[("second", VmState::Running, 2)]);
    script.ask(ServerRequest::Pause { domid: 100, serial: Some(2) });
    script.act(|ctl| assert_eq!(ctl.last(), ServerReply::Done));
    script.ask(destroy(100));
    script.act(|ctl| assert_eq!(ctl.last(), ServerReply::Done));
    script.end();
    run(&machine, |controller| controller.quota.last_domid = 100);
}
