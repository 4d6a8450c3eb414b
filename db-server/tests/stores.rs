//! XenStores that db-server serves to the VMs that it builds: asked by them, and by controllers who want a VM to power off.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise, in its helpers too"
)]

mod support;

use std::cell::RefCell;
use std::rc::Rc;

use hypercall::{SharedMemory, Xen};
use protocols::message::{Built, EndReason, Reason, ServerNotice, ServerReply, ServerRequest};
use protocols::platform::Ends;
use protocols::{BootSpec, Channels, ExitAction, MachineStatus, StoreRole};
use support::{Script, build, controller, logged, platform, serve, spec};
use xen_abi::sched::SHUTDOWN_POWEROFF;
use xen_abi::{DomId, Mfn, Port};
use xen_sim::{Guest, Machine, SimOwnPage};
use xenstore::{Kind, Message, Reader, Ring, Side};

/// Where a guest says in the page how much it has asked.
const REQUESTS_PRODUCER: usize = 2052;

/// A guest's end of its XenStore.
struct Asker {
    guest: Guest,
    page: SimOwnPage,
    ring: Ring<SimOwnPage>,
    port: Port,
    reader: Reader,
}

impl Asker {
    fn of(machine: &Machine, built: &Built) -> Self {
        let guest = machine.guest(DomId::new(built.domid));
        let info = guest.view().unwrap().start_info().unwrap();
        let place = built.xenstore.unwrap();
        assert_eq!((place.frame, place.port), (info.store_mfn, info.store_evtchn), "as its start info says");
        let page = || guest.own_page(Mfn::new(place.frame));
        let (ring, page) = (Ring::new(page(), Side::Client), page());
        Self { guest: guest.clone(), page, ring, port: Port::new(place.port), reader: Reader::default() }
    }

    fn notify(&self) {
        Xen::unprivileged(self.guest.hypervisor()).unwrap().send(self.port).unwrap();
    }

    fn ask(&self, kind: Kind, strings: &[&str]) {
        let bytes = Message::new(kind, 1, 0, strings.join("\0").into_bytes()).encode();
        assert_eq!(self.ring.write(&bytes), Ok(bytes.len()));
        self.notify();
    }

    /// What has come: kinds and payloads, with the NULs as spaces.
    fn take(&mut self) -> Vec<(Kind, String)> {
        let mut buffer = [0; 1024];
        let count = self.ring.read(&mut buffer).unwrap();
        self.reader.push(&buffer[..count]);
        let messages = std::iter::from_fn(|| self.reader.take_message().unwrap());
        let text = |message: &Message| String::from_utf8_lossy(&message.payload).replace('\0', " ");
        messages.map(|message| (message.header.kind, text(&message))).collect()
    }
}

/// A worker that a controller has had built, with its end of the XenStore.
fn worker(machine: &Machine, change: impl FnOnce(&mut BootSpec)) -> (Script, Rc<RefCell<Option<Asker>>>) {
    let script = Script::greeted(machine, 1);
    script.ask(ServerRequest::WatchExits { watch: true });
    let mut spec = BootSpec { kernel: "images/kernel".into(), ..spec("worker") };
    change(&mut spec);
    script.ask(ServerRequest::Build(build(&spec)));
    let asker = Rc::new(RefCell::new(None));
    let slot = Rc::clone(&asker);
    script.act(move |ctl| {
        let built = ctl.built();
        *slot.borrow_mut() = built.xenstore.map(|_| Asker::of(ctl.guest.machine(), &built));
    });
    (script, asker)
}

/// The guest lets go of its page, as a kernel that is gone does: what it holds would keep the domain from going.
fn leave(script: &Script, asker: &Rc<RefCell<Option<Asker>>>) {
    let asker = Rc::clone(asker);
    script.act(move |_| drop(asker.borrow_mut().take()));
}

/// The guest's next act.
fn act(script: &Script, asker: &Rc<RefCell<Option<Asker>>>, act: impl FnOnce(&mut Asker) + 'static) {
    let asker = Rc::clone(asker);
    script.act(move |_| act(asker.borrow_mut().as_mut().unwrap()));
}

fn run(machine: &Machine) -> String {
    let (settings, specs) = platform(&[controller("control", 100, 110)]);
    let status = serve(machine, &settings, &specs, "");
    machine.assert_clean();
    assert_eq!(status, MachineStatus::Success, "{}", logged());
    logged()
}

#[test]
fn a_vm_that_listens_is_asked_to_power_off_and_does() {
    let machine = Machine::builder().build();
    let (script, asker) = worker(&machine, |_| ());
    act(&script, &asker, |asker| asker.ask(Kind::Read, &["domid", ""]));
    act(&script, &asker, |asker| {
        assert_eq!(asker.take(), [(Kind::Read, "100".into())]);
        asker.ask(Kind::Watch, &["control/shutdown", "down", ""]);
    });
    act(&script, &asker, |asker| {
        let first = (Kind::WatchEvent, "control/shutdown down ".into());
        assert_eq!(asker.take(), [(Kind::Watch, "OK ".into()), first]);
    });
    script.ask(ServerRequest::Shutdown { domid: 100, serial: None });
    script.act(|ctl| assert_eq!(ctl.last(), ServerReply::Done));
    act(&script, &asker, |asker| {
        assert_eq!(asker.take(), [(Kind::WatchEvent, "control/shutdown down ".into())]);
        asker.ask(Kind::Read, &["control/shutdown", ""]);
    });
    act(&script, &asker, |asker| {
        assert_eq!(asker.take(), [(Kind::Read, "poweroff".into())]);
    });
    leave(&script, &asker);
    script.act(|ctl| ctl.guest.machine().guest(DomId::new(100)).shut_down(SHUTDOWN_POWEROFF));
    script.act(|ctl| {
        ctl.hear();
        let ended =
            ServerNotice::Ended { domid: 100, name: "worker".into(), reason: EndReason::Poweroff, serial: 1 };
        assert_eq!(ctl.notices, [ended]);
    });
    script.refuse(ServerRequest::Shutdown { domid: 100, serial: None }, Reason::NoSuchVm);
    script.end();
    let log = run(&machine);
    assert!(log.contains("vm=worker domid=100 event=asked-to-power-off"), "{log}");
}

#[test]
fn who_asks_before_the_vm_listens_is_heard_when_it_does() {
    let machine = Machine::builder().build();
    let (script, asker) = worker(&machine, |_| ());
    script.ask(ServerRequest::Shutdown { domid: 100, serial: None });
    script.act(|ctl| assert_eq!(ctl.last(), ServerReply::Done));
    act(&script, &asker, |asker| asker.ask(Kind::Read, &["control/shutdown", ""]));
    act(&script, &asker, |asker| assert_eq!(asker.take(), [(Kind::Read, "poweroff".into())]));
    leave(&script, &asker);
    script.ask(ServerRequest::Destroy { domid: 100, serial: None });
    script.act(|ctl| assert_eq!(ctl.last(), ServerReply::Done));
    script.end();
    run(&machine);
}

#[test]
fn a_guest_that_breaks_the_rules_of_its_store_loses_it_and_nothing_else() {
    let false_index: fn(&Asker) = |asker| asker.page.store_u32(REQUESTS_PRODUCER, 5000);
    // A header whose payload would be 4 GiB.
    let too_long: fn(&Asker) = |asker| assert_eq!(asker.ring.write(&[0xff; 16]), Ok(16));
    for breach in [false_index, too_long] {
        let machine = Machine::builder().build();
        let (script, asker) = worker(&machine, |_| ());
        act(&script, &asker, move |asker| {
            breach(asker);
            asker.notify();
        });
        leave(&script, &asker);
        script.refuse(ServerRequest::Shutdown { domid: 100, serial: None }, Reason::WrongState);
        script.ask(ServerRequest::Pause { domid: 100, serial: None });
        script.act(|ctl| assert_eq!(ctl.last(), ServerReply::Done));
        script.ask(ServerRequest::Destroy { domid: 100, serial: None });
        script.act(|ctl| assert_eq!(ctl.last(), ServerReply::Done));
        script.end();
        let log = run(&machine);
        assert!(log.contains("vm=worker domid=100 event=store-dropped"), "{log}");
    }
}

/// It fills the ring with requests and reads nothing: no answer is kept beyond the bound, and everybody else is served.
#[test]
fn a_guest_that_does_not_read_is_not_heard_any_more() {
    let machine = Machine::builder().build();
    let (script, asker) = worker(&machine, |_| ());
    let value = "x".repeat(500);
    act(&script, &asker, move |asker| asker.ask(Kind::Write, &["data/a", &value]));
    act(&script, &asker, |asker| _ = asker.take());
    for _ in 0..200 {
        act(&script, &asker, |asker| {
            let bytes = Message::new(Kind::Read, 1, 0, b"data/a\0".to_vec()).encode();
            asker.ring.write(&bytes).unwrap();
            asker.notify();
        });
    }
    act(&script, &asker, |asker| {
        let held = (0..100).take_while(|_| asker.ring.write(&[0; 100]).unwrap() == 100).count();
        assert!(held < 11, "its ring is full: nobody takes what it asks");
    });
    leave(&script, &asker);
    script.ask(ServerRequest::Facts);
    script.act(|ctl| assert!(matches!(ctl.last(), ServerReply::Facts(_))));
    script.end();
    run(&machine);
}

#[test]
fn a_vm_with_channels_has_a_store_if_its_ports_are_counted_with_it() {
    let machine = Machine::builder().build();
    let (script, asker) = worker(&machine, |spec| {
        (spec.domid, spec.channels) = (Some(100), Channels { clients: vec![1] });
        spec.store = StoreRole::Own;
    });
    act(&script, &asker, |asker| asker.ask(Kind::Read, &["domid", ""]));
    act(&script, &asker, |asker| assert_eq!(asker.take(), [(Kind::Read, "100".into())]));
    script.ask(ServerRequest::Shutdown { domid: 100, serial: None });
    script.act(|ctl| assert_eq!(ctl.last(), ServerReply::Done));
    leave(&script, &asker);
    script.end();
    run(&machine);
}

#[test]
fn a_vm_with_channels_has_no_store_and_says_so() {
    let machine = Machine::builder().build();
    let (script, asker) = worker(&machine, |spec| {
        (spec.domid, spec.channels) = (Some(100), Channels { clients: vec![1] });
    });
    script.act(move |_| assert!(asker.borrow().is_none()));
    script.ask(ServerRequest::Shutdown { domid: 100, serial: None });
    script.act(|ctl| {
        let refused = ctl.refused();
        assert_eq!(refused.reason, Reason::WrongState);
        assert!(
            refused.detail.contains("it has channels") && refused.detail.contains("`xenstore = 1`"),
            "{refused}"
        );
    });
    script.end();
    run(&machine);
}

#[test]
fn who_serves_a_vms_store_is_named_to_who_would_have_it_asked() {
    let machine = Machine::builder().build();
    let script = Script::greeted(&machine, 1);
    let mut request = build(&BootSpec { kernel: "images/kernel".into(), ..spec("worker") });
    request.xenstore = Some(1);
    script.ask(ServerRequest::Build(request));
    script.ask(ServerRequest::Shutdown { domid: 100, serial: None });
    script.act(|ctl| {
        let refused = ctl.refused();
        assert_eq!(refused.reason, Reason::WrongState);
        assert!(refused.detail.contains("domain 1 serves its XenStore"), "{refused}");
    });
    script.end();
    run(&machine);
}

/// The guest waits to be asked to power off.
fn listens(script: &Script, asker: &Rc<RefCell<Option<Asker>>>) {
    act(script, asker, |asker| asker.ask(Kind::Watch, &["control/shutdown", "down", ""]));
    act(script, asker, |asker| assert_eq!(asker.take().len(), 2));
}

/// It is asked, and powers off.
fn obeys(script: &Script, asker: &Rc<RefCell<Option<Asker>>>) {
    act(script, asker, |asker| {
        assert_eq!(asker.take(), [(Kind::WatchEvent, "control/shutdown down ".into())]);
    });
    leave(script, asker);
    script.act(|ctl| ctl.guest.machine().guest(DomId::new(100)).shut_down(SHUTDOWN_POWEROFF));
}

/// Each of these is in the log, one after the other.
fn in_order(log: &str, wanted: &[&str]) {
    let mut rest = log;
    for text in wanted {
        let found = rest.split_once(text);
        rest = found.unwrap_or_else(|| panic!("{text:?} is not where it should be: {log}")).1;
    }
}

#[test]
fn an_orphan_that_listens_is_asked_to_power_off_and_not_kept_whatever_its_file_says() {
    for on_poweroff in [ExitAction::Destroy, ExitAction::Preserve] {
        let machine = Machine::builder().build();
        let (script, asker) = worker(&machine, |spec| spec.on_poweroff = on_poweroff);
        listens(&script, &asker);
        script.end();
        obeys(&script, &asker);
        let log = run(&machine);
        let (first, then) = ("event=asked-to-power-off", "event=ended reason=poweroff");
        in_order(
            &log,
            &[
                "event=controller-ended",
                &format!("vm=worker domid=100 {first}"),
                &format!("vm=worker domid=100 {then}"),
            ],
        );
    }
}

#[test]
fn an_orphan_has_the_time_of_the_platform_file_to_power_off() {
    let machine = Machine::builder().build();
    let (script, asker) = worker(&machine, |_| ());
    listens(&script, &asker);
    leave(&script, &asker);
    script.end();
    let begin = machine.now();
    let log = run(&machine);
    let late = "vm=worker domid=100 event=ended reason=destroyed";
    in_order(&log, &["event=controller-ended", "event=asked-to-power-off", late]);
    let took = machine.now() - begin;
    assert!((10_000_000_000..13_000_000_000).contains(&took), "{took} ns");
}

#[test]
fn an_orphan_that_does_not_listen_is_not_waited_for() {
    let machine = Machine::builder().build();
    let (script, asker) = worker(&machine, |_| ());
    leave(&script, &asker);
    script.end();
    let log = run(&machine);
    assert!(!log.contains("event=asked-to-power-off"), "{log}");
    assert!(machine.now() < 5_000_000_000, "{} ns", machine.now());
}

/// Serves a platform that ends with a VM of its own, `last`, while the controller and its workers run. The controller has a XenStore, and does
/// not power off when it is asked.
fn finish(machine: &Machine) -> String {
    let (mut settings, mut specs) = platform(&[controller("control", 100, 110), controller("last", 0, 0)]);
    settings.ends = Ends::With(vec!["last".into()]);
    specs[0].store = StoreRole::Own;
    let status = serve(machine, &settings, &specs, "");
    machine.assert_clean();
    assert_eq!(status, MachineStatus::Success, "{}", logged());
    logged()
}

#[test]
fn at_the_end_of_a_platform_served_vms_are_asked_before_its_own() {
    let machine = Machine::builder().build();
    let (script, asker) = worker(&machine, |spec| spec.on_poweroff = ExitAction::Preserve);
    listens(&script, &asker);
    Script::new(&machine, 2).end();
    obeys(&script, &asker);
    let log = finish(&machine);
    let (worker, own) = ("vm=worker domid=100 event=", "vm=control domid=1 event=");
    in_order(
        &log,
        &[
            "platform=stopping",
            &format!("{worker}asked-to-power-off"),
            &format!("{worker}ended reason=poweroff"),
            &format!("{worker}destroyed"),
            &format!("{own}asked-to-power-off"),
            &format!("{own}late"),
            &format!("{own}destroyed"),
        ],
    );
}

/// What a controller says about the order of its VMs keeps nobody else from being asked, and nobody from going.
#[test]
fn served_vms_that_start_after_themselves_or_the_platforms_hold_up_nothing() {
    for after in ["worker", "control", "last"] {
        let machine = Machine::builder().build();
        let (script, asker) = worker(&machine, |spec| spec.life.after = vec![after.into()]);
        listens(&script, &asker);
        leave(&script, &asker);
        Script::new(&machine, 2).end();
        let begin = machine.now();
        let log = finish(&machine);
        in_order(
            &log,
            &["vm=worker domid=100 event=destroyed", "vm=control domid=1 event=asked-to-power-off"],
        );
        assert!(machine.now() - begin < 25_000_000_000, "{after}: {} ns", machine.now() - begin);
    }
}

/// All together have the time of one, however long a row they make.
#[test]
fn served_vms_in_a_row_have_the_time_of_one() {
    let machine = Machine::builder().build();
    let script = Script::greeted(&machine, 1);
    for (name, after) in
        [("worker", vec![]), ("second", vec!["worker".to_owned()]), ("third", vec!["second".into()])]
    {
        let mut spec = BootSpec { kernel: "images/kernel".into(), ..spec(name) };
        spec.life.after = after;
        script.ask(ServerRequest::Build(build(&spec)));
        let asker = Rc::new(RefCell::new(None));
        let slot = Rc::clone(&asker);
        script.act(move |ctl| {
            let built = ctl.built();
            *slot.borrow_mut() = Some(Asker::of(ctl.guest.machine(), &built));
        });
        listens(&script, &asker);
        leave(&script, &asker);
    }
    Script::new(&machine, 2).end();
    let begin = machine.now();
    let log = finish(&machine);
    in_order(
        &log,
        &[
            "vm=third domid=102 event=asked-to-power-off",
            "vm=third domid=102 event=late",
            "vm=third domid=102 event=destroyed",
            "vm=second domid=101 event=destroyed",
            "vm=worker domid=100 event=destroyed",
            "vm=control domid=1 event=asked-to-power-off",
        ],
    );
    assert_eq!(log.matches("event=asked-to-power-off").count(), 2, "{log}");
    assert!(machine.now() - begin < 25_000_000_000, "{} ns", machine.now() - begin);
}
