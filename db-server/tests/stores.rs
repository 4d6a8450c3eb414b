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
use protocols::{BootSpec, Channels, MachineStatus, StoreRole};
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
    script.ask(ServerRequest::Shutdown { domid: 100 });
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
        let ended = ServerNotice::Ended { domid: 100, name: "worker".into(), reason: EndReason::Poweroff };
        assert_eq!(ctl.notices, [ended]);
    });
    script.refuse(ServerRequest::Shutdown { domid: 100 }, Reason::NoSuchVm);
    script.end();
    let log = run(&machine);
    assert!(log.contains("vm=worker domid=100 event=asked-to-power-off"), "{log}");
}

#[test]
fn who_asks_before_the_vm_listens_is_heard_when_it_does() {
    let machine = Machine::builder().build();
    let (script, asker) = worker(&machine, |_| ());
    script.ask(ServerRequest::Shutdown { domid: 100 });
    script.act(|ctl| assert_eq!(ctl.last(), ServerReply::Done));
    act(&script, &asker, |asker| asker.ask(Kind::Read, &["control/shutdown", ""]));
    act(&script, &asker, |asker| assert_eq!(asker.take(), [(Kind::Read, "poweroff".into())]));
    leave(&script, &asker);
    script.ask(ServerRequest::Destroy { domid: 100 });
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
        script.refuse(ServerRequest::Shutdown { domid: 100 }, Reason::WrongState);
        script.ask(ServerRequest::Pause { domid: 100 });
        script.act(|ctl| assert_eq!(ctl.last(), ServerReply::Done));
        script.ask(ServerRequest::Destroy { domid: 100 });
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
    script.ask(ServerRequest::Shutdown { domid: 100 });
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
    script.refuse(ServerRequest::Shutdown { domid: 100 }, Reason::WrongState);
    script.end();
    run(&machine);
}
