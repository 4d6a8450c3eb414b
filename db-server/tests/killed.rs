//! Everything that can be killed is killed at every step of a conversation: between any two of db-server's calls, on a simulated Xen.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise, in its helpers too"
)]

mod support;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::rc::Rc;

use flate2::Compression;
use flate2::write::GzEncoder;
use hypercall::Xen;
use protocols::message::{self, BuildRequest, EndReason, ImageSource, Reason, ServerNotice, ServerReply, ServerRequest};
use protocols::server::Controller;
use protocols::{BootSpec, ExitAction, Life, MachineStatus};
use support::{Ctl, Script, build, controller, digest, hello, kernel, logged, platform, put, spec};
use xen_abi::sched::SHUTDOWN_POWEROFF;
use xen_abi::{DomId, PageCount};
use xen_sim::Machine;

const SECOND: u64 = 1_000_000_000;
/// The controller that everything happens to, and the one beside it.
const BAD: u16 = 1;
const HONEST: u16 = 2;
/// What the first has built: a VM from the RAM disk, and one from the store whose console and XenStore the former is to serve.
const SERVANT: u16 = 100;
const WORKER: u16 = 101;
/// KiB of each.
const SMALL: u64 = 4 << 10;
/// What each controller may have, in KiB and in bytes.
const QUOTA: u64 = 16 << 10;
const STORE: u64 = 2 << 20;

/// What is killed, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    /// The controller's domain crashes, and does not come back.
    Crash,
    /// It crashes, and is started again.
    Restart,
    /// It is destroyed behind db-server's back.
    Destroyed,
    /// It closes its end of the channel, lives on, and connects again.
    Closed,
    /// It stops in the middle of a message, and lives on.
    Silent,
    /// A served VM crashes.
    Dies(u16),
    /// A served VM is destroyed behind db-server's back.
    Vanishes(u16),
}

impl Victim {
    /// The domain that it is.
    fn domid(self) -> u16 {
        match self {
            Self::Dies(domid) | Self::Vanishes(domid) => domid,
            _ => BAD,
        }
    }

    /// Whether the controller is gone for good.
    fn is_final(self) -> bool {
        matches!(self, Self::Crash | Self::Destroyed)
    }

    /// Whether the conversation goes on.
    fn is_vm(self) -> bool {
        matches!(self, Self::Dies(_) | Self::Vanishes(_))
    }

    /// Whether a domain that exists, or runs, is what it takes.
    fn is_there(self, machine: &Machine) -> bool {
        let domid = DomId::new(self.domid());
        match self {
            Self::Vanishes(_) => machine.has_domain(domid),
            _ => machine.has_domain(domid) && machine.guest(domid).runs(),
        }
    }
}

fn small(name: &str) -> BootSpec {
    BootSpec { memory_kib: SMALL, max_memory_kib: SMALL, ..spec(name) }
}

/// A packed kernel, and an image of two parts.
fn images() -> [Vec<u8>; 2] {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(&kernel()).unwrap();
    [packed.finish().unwrap(), b"an image of two parts".to_vec()]
}

/// What the first controller says, one after the other.
fn conversation() -> Vec<ServerRequest> {
    let [packed, ramdisk] = images();
    let (servant, worker) = (build(&small("servant")), build(&small("worker")));
    let worker = BuildRequest {
        kernel: ImageSource::Store(digest(&packed)),
        ramdisk: Some(ImageSource::Store(digest(&ramdisk))),
        paused: true,
        console: Some(SERVANT),
        xenstore: Some(SERVANT),
        ..worker
    };
    let (serial, domid) = (None, WORKER);
    let mut all = vec![hello(), ServerRequest::WatchExits { watch: true }];
    all.extend(put(&packed, packed.len().div_ceil(2)));
    all.extend(put(&ramdisk, 16));
    all.extend([
        ServerRequest::Build(servant),
        ServerRequest::Build(worker),
        ServerRequest::Unpause { domid, serial },
        ServerRequest::Pause { domid, serial },
        ServerRequest::Unpause { domid, serial },
        ServerRequest::List { after: 0 },
        ServerRequest::Shutdown { domid: SERVANT, serial },
        ServerRequest::Destroy { domid, serial },
        ServerRequest::Destroy { domid: SERVANT, serial },
        ServerRequest::List { after: 0 },
    ]);
    all
}

/// What the other says meanwhile, over and over.
fn errand(turn: usize) -> ServerRequest {
    let (domid, serial) = (120, None);
    match turn % 4 {
        0 => {
            let fixed = BootSpec { domid: Some(domid), ..small("errand") };
            ServerRequest::Build(build(&fixed))
        }
        1 => ServerRequest::List { after: 0 },
        2 => ServerRequest::Destroy { domid, serial },
        _ => ServerRequest::Facts,
    }
}

/// What was said to a controller in one conversation.
#[derive(Clone, Debug, Default)]
struct Heard {
    sent: u32,
    replies: Vec<(u32, ServerReply)>,
    notices: Vec<ServerNotice>,
}

impl Heard {
    fn take(ctl: &mut Ctl) -> Self {
        ctl.hear();
        let (replies, notices) = (std::mem::take(&mut ctl.replies), std::mem::take(&mut ctl.notices));
        Self { sent: ctl.sent(), replies, notices }
    }

    fn add(&mut self, more: Self) {
        self.sent = self.sent.max(more.sent);
        self.replies.extend(more.replies);
        self.notices.extend(more.notices);
    }

    /// No request was answered twice, and nothing that was none.
    fn is_answered_once(&self) {
        let ids: BTreeSet<u32> = self.replies.iter().map(|(id, _)| *id).collect();
        assert_eq!(ids.len(), self.replies.len(), "{:?}", self.replies);
        assert!(ids.iter().all(|id| (1..=self.sent).contains(id)), "{ids:?} of {}", self.sent);
    }

    /// Every request was answered.
    fn is_answered(&self) {
        self.is_answered_once();
        assert_eq!(self.replies.len(), self.sent as usize, "{:?}\n{}", self.replies, logged());
    }

    /// Serial numbers of VMs that were built.
    fn built(&self) -> Vec<u64> {
        let built = self.replies.iter().filter_map(|(_, reply)| match reply {
            ServerReply::Built(built) => Some(built.serial),
            _ => None,
        });
        built.collect()
    }

    /// Serial numbers and reasons of ends that were told, each once.
    fn ended(&self) -> BTreeMap<u64, EndReason> {
        let ends = self.notices.iter().filter_map(|notice| match notice {
            ServerNotice::Ended { serial, reason, .. } => Some((*serial, *reason)),
            ServerNotice::Dropped(_) => None,
        });
        let ends: Vec<_> = ends.collect();
        let by_serial: BTreeMap<_, _> = ends.iter().copied().collect();
        assert_eq!(by_serial.len(), ends.len(), "told twice: {ends:?}");
        by_serial
    }
}

/// A machine on which two controllers talk.
struct Stage {
    machine: Machine,
    bad: Script,
    honest: Script,
    /// db-server's calls since the conversation began.
    calls: Rc<Cell<usize>>,
    /// Whether it has begun.
    is_on: Rc<Cell<bool>>,
    /// Whether the first is to stop in the middle of its next message; whether it says nothing more.
    is_tired: Rc<Cell<bool>>,
    is_done: Rc<Cell<bool>>,
    /// What the other has been to do.
    errands: Cell<usize>,
    /// What the first has heard until it was killed.
    heard: Rc<RefCell<Heard>>,
}

impl Stage {
    fn new() -> Self {
        let machine = Machine::builder().memory(PageCount::new(0x3000)).build();
        let (bad, honest) = (Script::new(&machine, BAD), Script::new(&machine, HONEST));
        honest.ask(hello());
        let (calls, is_on, is_tired, is_done) = Default::default();
        Self { machine, bad, honest, calls, is_on, is_tired, is_done, errands: Cell::new(0), heard: Rc::default() }
    }

    /// The conversation, with the other controller's errands between.
    fn talk(&self) {
        let is_on = Rc::clone(&self.is_on);
        self.machine.when_idle(move |_| is_on.set(true));
        for request in conversation() {
            self.bad_says(request);
            self.run_errand();
        }
        let (is_on, is_done) = (Rc::clone(&self.is_on), Rc::clone(&self.is_done));
        self.machine.when_idle(move |_| {
            is_on.set(false);
            is_done.set(true);
        });
    }

    fn bad_says(&self, request: ServerRequest) {
        let (script, is_tired, is_done) =
            (self.bad.clone(), Rc::clone(&self.is_tired), Rc::clone(&self.is_done));
        self.machine.when_idle(move |_| {
            let said = script.look(|ctl| {
                if is_done.get() {
                    return;
                }
                ctl.hear();
                if is_tired.get() {
                    let bytes = message::encode(99, &request).unwrap();
                    ctl.send_bytes(&bytes[..bytes.len() / 2]);
                    is_done.set(true);
                } else {
                    ctl.send(&request);
                }
            });
            // Who is gone, or stopped, says nothing.
            let _ = said;
        });
    }

    fn run_errand(&self) {
        let turn = self.errands.get();
        self.errands.set(turn + 1);
        self.honest.act(move |ctl| {
            ctl.hear();
            ctl.send(&errand(turn));
        });
    }

    /// Time for whatever db-server waits for, while the other works.
    fn pass(&self, seconds: usize) {
        for _ in 0..seconds * 2 {
            self.machine.when_idle(|machine| machine.advance(SECOND / 2));
            self.run_errand();
        }
    }

    /// Kills `victim` before call `step` of the conversation.
    fn kill_at(&self, step: usize, victim: Victim) {
        let (calls, is_on) = (Rc::clone(&self.calls), Rc::clone(&self.is_on));
        let (bad, heard) = (self.bad.clone(), Rc::clone(&self.heard));
        let (is_tired, is_done) = (Rc::clone(&self.is_tired), Rc::clone(&self.is_done));
        self.machine.before_calls(move |machine| {
            if !is_on.get() {
                return;
            }
            if calls.get() == step {
                assert!(victim.is_there(machine), "{victim:?} is not there at {step}");
                if !victim.is_vm() {
                    bad.look(|ctl| heard.borrow_mut().add(Heard::take(ctl)));
                }
                kill(machine, victim, &bad);
                is_tired.set(victim == Victim::Silent);
                is_done.set(!victim.is_vm() && victim != Victim::Silent);
            }
            calls.set(calls.get() + 1);
        });
    }

    fn serve(&self, victim: Option<Victim>) -> MachineStatus {
        let limit = |vm, first, last| {
            let mut found = controller(vm, first, last);
            (found.quota.memory_kib, found.quota.store_bytes) = (QUOTA, STORE);
            found
        };
        let controllers: [Controller; 2] = [limit("bad", 100, 110), limit("honest", 120, 130)];
        let (settings, mut specs) = platform(&controllers);
        for spec in &mut specs {
            (spec.memory_kib, spec.max_memory_kib) = (SMALL, SMALL);
        }
        if victim == Some(Victim::Restart) {
            specs[0].on_crash = ExitAction::Restart;
            specs[0].life = Life { restart_delay_ms: 10, ..Life::default() };
        }
        support::serve(&self.machine, &settings, &specs, "")
    }
}

fn kill(machine: &Machine, victim: Victim, bad: &Script) {
    let domid = DomId::new(victim.domid());
    match victim {
        Victim::Crash | Victim::Restart => {
            machine.guest(domid).crash();
            bad.vanish();
        }
        Victim::Destroyed => {
            destroy(machine, domid);
            bad.vanish();
        }
        Victim::Closed => {
            let ctl = bad.leave();
            ctl.map(|ctl| ctl.channel.close().unwrap());
        }
        Victim::Silent => {}
        Victim::Dies(_) => machine.guest(domid).crash(),
        Victim::Vanishes(_) => destroy(machine, domid),
    }
}

/// As somebody does it who has the rights and does not tell db-server.
fn destroy(machine: &Machine, domid: DomId) {
    let xen = Xen::probe(machine.dom0()).unwrap();
    xen.destroy_domain(domid).unwrap();
}

impl Stage {
    /// A controller that is there puts its books in order, and finds that nothing counts that is not there: VMs called `names` can
    /// be built, `first` with all its memory, and the whole store is to be had.
    fn survey(script: &Script, (name, first): (&'static str, u16), heard: &Rc<RefCell<Heard>>) {
        let step = |act: Box<dyn Fn(&mut Ctl)>| {
            let script = script.clone();
            script.machine().when_idle(move |_| _ = script.look(|ctl| act(ctl)));
        };
        let whole = digest(b"all of it");
        let spec = BootSpec { domid: Some(first), max_memory_kib: QUOTA, ..small(name) };
        let more = ServerRequest::Build(build(&small("more")));
        let says = |request: ServerRequest| Box::new(move |ctl: &mut Ctl| _ = ctl.send(&request));
        let is_done = || Box::new(|ctl: &mut Ctl| assert_eq!(ctl.last(), ServerReply::Done, "{}", logged()));
        let heard = Rc::clone(heard);
        step(Box::new(move |ctl| {
            heard.borrow_mut().add(Heard::take(ctl));
        }));
        step(says(hello()));
        step(says(ServerRequest::WatchExits { watch: true }));
        step(is_done());
        step(says(ServerRequest::List { after: 0 }));
        step(Box::new(|ctl| {
            let ServerReply::Vms { vms, .. } = ctl.last() else { panic!("{}", logged()) };
            for vm in vms {
                ctl.send(&ServerRequest::Destroy { domid: vm.domid, serial: Some(vm.serial) });
            }
        }));
        step(Box::new(|ctl| {
            ctl.hear();
            ctl.replies.retain(|(_, reply)| *reply != ServerReply::Done);
        }));
        step(says(ServerRequest::List { after: 0 }));
        step(Box::new(|ctl| assert_eq!(ctl.last(), none(), "{}", logged())));
        step(says(ServerRequest::Build(build(&spec))));
        step(Box::new(move |ctl| assert_eq!(ctl.built().domid, first)));
        step(says(more));
        step(Box::new(|ctl| ctl.refused_for(Reason::OverQuota)));
        step(says(ServerRequest::PutImageBegin { digest: whole, size: STORE }));
        step(Box::new(|ctl| assert!(matches!(ctl.last(), ServerReply::Image { received: 0, .. }))));
        step(says(ServerRequest::PutImageCancel { digest: whole }));
        step(is_done());
        step(says(ServerRequest::Destroy { domid: first, serial: None }));
        step(is_done());
        step(says(ServerRequest::List { after: 0 }));
        step(Box::new(|ctl| assert_eq!(ctl.last(), none(), "{}", logged())));
    }

    /// Who lost its channel connects again, if it lives.
    fn come_back(&self) {
        let (script, heard) = (self.bad.clone(), Rc::clone(&self.heard));
        self.machine.when_idle(move |_| {
            let is_over = script.look(|ctl| ctl.hear().is_some());
            if is_over == Some(true) {
                heard.borrow_mut().add(script.look(Heard::take).unwrap());
                drop(script.leave());
            }
        });
        self.pass(1);
        let script = self.bad.clone();
        self.machine.when_idle(move |machine| {
            let is_there = machine.has_domain(DomId::new(BAD)) && machine.guest(DomId::new(BAD)).runs();
            if is_there && !script.is_connected() {
                script.reconnect();
            }
        });
    }

    /// Both controllers end, as far as they are there.
    fn end(&self) {
        for domid in [BAD, HONEST] {
            support::launching::then_end(&self.machine, domid, SHUTDOWN_POWEROFF);
        }
    }
}

fn none() -> ServerReply {
    ServerReply::Vms { vms: Vec::new(), more: false }
}

/// What came of a whole run.
struct Outcome {
    /// What the first controller heard before it was killed, or all of it.
    heard: Heard,
    honest: Heard,
    /// What the first heard later, when it was there again.
    later: Vec<ServerNotice>,
    status: MachineStatus,
    log: String,
}

/// Runs the conversation, and kills `victim` before call `step` of it.
fn play(kill: Option<(usize, Victim)>, watch: impl FnMut(&Machine, usize) + 'static) -> Outcome {
    support::launching::forget_log();
    let stage = Stage::new();
    match kill {
        Some((step, victim)) => stage.kill_at(step, victim),
        None => stage.watch(watch),
    }
    stage.talk();
    let is_silent = kill.is_some_and(|(_, victim)| victim == Victim::Silent);
    stage.pass(if is_silent { 12 } else { 3 });
    stage.come_back();
    Stage::survey(&stage.bad, ("worker", 100), &stage.heard);
    let honest = Rc::new(RefCell::new(Heard::default()));
    Stage::survey(&stage.honest, ("servant", 125), &honest);
    let later = Rc::new(RefCell::new(Vec::new()));
    let (script, notices) = (stage.bad.clone(), Rc::clone(&later));
    stage.machine.when_idle(move |_| _ = script.look(|ctl| *notices.borrow_mut() = Heard::take(ctl).notices));
    stage.end();
    let status = stage.serve(kill.map(|(_, victim)| victim));
    stage.machine.assert_clean();
    let log = logged();
    stage.bad.vanish();
    stage.honest.vanish();
    let (heard, honest, later) = (stage.heard.take(), honest.take(), later.take());
    Outcome { heard, honest, later, status, log }
}

impl Stage {
    /// Looks at every call of the conversation.
    fn watch(&self, mut look: impl FnMut(&Machine, usize) + 'static) {
        let (calls, is_on) = (Rc::clone(&self.calls), Rc::clone(&self.is_on));
        self.machine.before_calls(move |machine| {
            if is_on.get() {
                look(machine, calls.get());
                calls.set(calls.get() + 1);
            }
        });
    }
}

/// The steps at which each of these is there to be killed, and what comes of the conversation when none is.
fn rehearse(victim: Victim) -> (Vec<usize>, Outcome) {
    let steps = Rc::new(RefCell::new(Vec::new()));
    let found = Rc::clone(&steps);
    let outcome = play(None, move |machine, step| {
        if victim.is_there(machine) {
            found.borrow_mut().push(step);
        }
    });
    (steps.take(), outcome)
}

/// The other controller got every answer, to what it had asked, and nothing else.
fn is_unharmed(honest: &Heard) {
    honest.is_answered();
    let mut answers: Vec<_> = honest.replies.clone();
    answers.sort_by_key(|(id, _)| *id);
    assert!(matches!(answers.remove(0), (1, ServerReply::Hello { .. })));
    for (turn, (_, reply)) in answers.iter().enumerate() {
        let is_right = match turn % 4 {
            0 => matches!(reply, ServerReply::Built(_)),
            1 => matches!(reply, ServerReply::Vms { vms, .. } if vms.len() == 1),
            2 => *reply == ServerReply::Done,
            _ => matches!(reply, ServerReply::Facts(_)),
        };
        assert!(is_right, "{turn}: {reply:?}\n{}", logged());
    }
    assert_eq!(honest.notices, []);
}

/// Kills `victim` at every step at which it is there.
fn sweep(victim: Victim) {
    let (steps, clean) = rehearse(victim);
    clean.heard.is_answered();
    check_beside(None, &clean, &clean.log);
    assert!(!steps.is_empty(), "{victim:?} is never there");
    for step in steps {
        let found = play(Some((step, victim)), |_, _| ());
        let text = format!("{victim:?} before call {step}: {}", found.log);
        check_beside(Some(victim), &found, &text);
        if victim.is_vm() {
            check_vm(victim, &found, &text);
        } else {
            check_controller(victim, &clean, &found, &text);
        }
    }
}

/// What holds whoever is killed.
fn check_beside(victim: Option<Victim>, found: &Outcome, text: &str) {
    is_unharmed(&found.honest);
    let is_lost = victim.is_some_and(Victim::is_final);
    let expected = if is_lost { MachineStatus::VmFailed } else { MachineStatus::Success };
    assert_eq!(found.status, expected, "{text}");
    for word in ["leaked", "lingering", "channel-lost", "unsaid", "address space is lost", "stays open"] {
        assert!(!found.log.contains(word), "{word}: {text}");
    }
    // Each life of each VM has one beginning and one end, and each domain is taken down once.
    for vm in ["bad domid=1", "honest domid=2", "servant domid=100", "worker domid=101", "worker domid=100"] {
        let count = |event: &str| found.log.matches(&format!("vm={vm} {event}")).count();
        let begun = count("event=started") + count("event=paused") - count("event=paused").min(1);
        let is_worker = vm == "worker domid=101";
        let begun = if is_worker { count("event=built") } else { begun };
        assert_eq!(begun, count("event=ended "), "{vm}: {text}");
        assert!(count("event=destroyed") <= count("step=create"), "{vm}: {text}");
    }
}

/// What a controller that is killed was told is what it would have been told; its end is in the log.
fn check_controller(victim: Victim, clean: &Outcome, found: &Outcome, text: &str) {
    let heard = &found.heard;
    heard.is_answered_once();
    let same = heard.replies.iter().zip(&clean.heard.replies).all(|(one, other)| one == other);
    let all: Vec<_> = heard.notices.iter().chain(&found.later).cloned().collect();
    let told = Heard { notices: all, ..heard.clone() }.ended();
    assert!(same && told.values().all(|reason| *reason == EndReason::Destroyed), "{text}");
    let says = |words: &str| found.log.contains(words);
    let is_told = match victim {
        Victim::Crash => {
            says("vm=bad domid=1 event=ended reason=crash") && says("vm=bad event=controller-ended vms=")
        }
        Victim::Restart => says("vm=bad domid=1 event=ended reason=crash") && says("vm=bad event=restarting"),
        Victim::Destroyed => {
            says("vm=bad domid=1 event=ended reason=gone") && says("vm=bad event=controller-ended vms=")
        }
        Victim::Closed => says("vm=bad event=controller-left unfinished="),
        // At the last message there is nothing to stop in.
        Victim::Silent => {
            says("vm=bad event=controller-dropped reason=stalled unfinished=0: a message was begun")
                || heard.replies.len() == conversation().len()
        }
        Victim::Dies(_) | Victim::Vanishes(_) => true,
    };
    assert!(is_told, "{text}");
    let parts = says("vm=bad event=controller-left") || says("vm=bad event=controller-dropped");
    assert!(parts, "{text}");
}

/// The controller of a VM that is killed gets every answer, and is told of each end once, with the reason that is in the log.
fn check_vm(victim: Victim, found: &Outcome, text: &str) {
    let heard = &found.heard;
    heard.is_answered();
    let told = Heard { notices: [&heard.notices[..], &found.later[..]].concat(), ..heard.clone() }.ended();
    let built = heard.built();
    assert!(built.iter().all(|serial| told.contains_key(serial)), "{told:?} of {built:?}: {text}");
    for (_, reply) in &heard.replies {
        let ServerReply::Built(built) = reply else { continue };
        let word = match told.get(&built.serial) {
            Some(EndReason::Crash) => "crash",
            _ => "",
        };
        let end = format!("domid={} event=ended reason={word}", built.domid);
        assert!(found.log.contains(&end), "{end}: {text}");
    }
    let domid = victim.domid();
    let reasons: &[&str] = match victim {
        Victim::Dies(_) => &["crash", "destroyed"],
        _ => &["gone", "destroyed"],
    };
    let is_told = |reason: &&str| found.log.contains(&format!("domid={domid} event=ended reason={reason}"));
    // One that is destroyed while it is built was never there.
    let is_refused = found.log.lines().any(|line| {
        line.contains(&format!("domain {domid}")) && line.contains("the domain is gone: something else destroyed it")
    });
    assert!(reasons.iter().any(is_told) || is_refused, "{text}");
}

#[test]
fn a_controller_may_crash_at_every_call() {
    sweep(Victim::Crash);
}

#[test]
fn a_controller_that_crashes_at_any_call_is_started_again_and_finds_its_books_in_order() {
    sweep(Victim::Restart);
}

#[test]
fn a_controller_may_be_destroyed_by_somebody_else_at_every_call() {
    sweep(Victim::Destroyed);
}

#[test]
fn a_controller_may_close_its_channel_at_every_call() {
    sweep(Victim::Closed);
}

#[test]
fn a_controller_may_stop_in_the_middle_of_every_message() {
    sweep(Victim::Silent);
}

#[test]
fn a_served_vm_may_crash_at_every_call() {
    sweep(Victim::Dies(WORKER));
}

#[test]
fn a_served_vm_may_be_destroyed_by_somebody_else_at_every_call() {
    sweep(Victim::Vanishes(WORKER));
}

#[test]
fn who_serves_a_vms_console_may_crash_at_every_call() {
    sweep(Victim::Dies(SERVANT));
}

#[test]
fn who_serves_a_vms_console_may_be_destroyed_by_somebody_else_at_every_call() {
    sweep(Victim::Vanishes(SERVANT));
}
