//! A machine on which two controllers talk to db-server, and on which anything is killed between any two of its calls.
#![allow(unreachable_pub, reason = "a module of a test")]

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::rc::Rc;

use crate::support::{
    self, Ctl, Script, build, controller, digest, hello, kernel, logged, platform, put, spec,
};
use flate2::Compression;
use flate2::write::GzEncoder;
use hypercall::Xen;
use protocols::message::{
    self, BuildRequest, EndReason, ImageSource, Reason, ServerNotice, ServerReply, ServerRequest,
};
use protocols::server::Controller;
use protocols::{BootSpec, ExitAction, Life, MachineStatus};
use xen_abi::sched::SHUTDOWN_POWEROFF;
use xen_abi::{DomId, PageCount};
use xen_sim::Machine;

pub(crate) const SECOND: u64 = 1_000_000_000;
/// The controller that everything happens to, and the one beside it.
pub(crate) const BAD: u16 = 1;
pub(crate) const HONEST: u16 = 2;
/// What the first has built: a VM from the RAM disk, and one from the store whose console and XenStore the former is to serve.
pub(crate) const SERVANT: u16 = 100;
pub(crate) const WORKER: u16 = 101;
/// KiB of each.
pub(crate) const SMALL: u64 = 4 << 10;
/// What each controller may have, in KiB and in bytes.
pub(crate) const QUOTA: u64 = 16 << 10;
pub(crate) const STORE: u64 = 2 << 20;

/// What is killed, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Victim {
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
    pub(crate) fn domid(self) -> u16 {
        match self {
            Self::Dies(domid) | Self::Vanishes(domid) => domid,
            _ => BAD,
        }
    }

    /// Whether the controller is gone for good.
    pub(crate) fn is_final(self) -> bool {
        matches!(self, Self::Crash | Self::Destroyed)
    }

    /// Whether the conversation goes on.
    pub(crate) fn is_vm(self) -> bool {
        matches!(self, Self::Dies(_) | Self::Vanishes(_))
    }

    /// Whether a domain that exists, or runs, is what it takes.
    pub(crate) fn is_there(self, machine: &Machine) -> bool {
        let domid = DomId::new(self.domid());
        match self {
            Self::Vanishes(_) => machine.has_domain(domid),
            _ => machine.has_domain(domid) && machine.guest(domid).runs(),
        }
    }
}

pub(crate) fn small(name: &str) -> BootSpec {
    BootSpec { memory_kib: SMALL, max_memory_kib: SMALL, ..spec(name) }
}

/// A packed kernel, and an image of two parts.
pub(crate) fn images() -> [Vec<u8>; 2] {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(&kernel()).unwrap();
    [packed.finish().unwrap(), b"an image of two parts".to_vec()]
}

/// What the first controller says, one after the other.
pub(crate) fn conversation() -> Vec<ServerRequest> {
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
pub(crate) fn errand(turn: usize) -> ServerRequest {
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
pub(crate) struct Heard {
    pub(crate) sent: u32,
    pub(crate) replies: Vec<(u32, ServerReply)>,
    pub(crate) notices: Vec<ServerNotice>,
}

impl Heard {
    pub(crate) fn take(ctl: &mut Ctl) -> Self {
        ctl.hear();
        let (replies, notices) = (std::mem::take(&mut ctl.replies), std::mem::take(&mut ctl.notices));
        Self { sent: ctl.sent(), replies, notices }
    }

    pub(crate) fn add(&mut self, more: Self) {
        self.sent = self.sent.max(more.sent);
        self.replies.extend(more.replies);
        self.notices.extend(more.notices);
    }

    /// No request was answered twice, and nothing that was none.
    pub(crate) fn is_answered_once(&self) {
        let ids: BTreeSet<u32> = self.replies.iter().map(|(id, _)| *id).collect();
        assert_eq!(ids.len(), self.replies.len(), "{:?}", self.replies);
        assert!(ids.iter().all(|id| (1..=self.sent).contains(id)), "{ids:?} of {}", self.sent);
    }

    /// Every request was answered.
    pub(crate) fn is_answered(&self) {
        self.is_answered_once();
        assert_eq!(self.replies.len(), self.sent as usize, "{:?}\n{}", self.replies, logged());
    }

    /// Serial numbers of VMs that were built.
    pub(crate) fn built(&self) -> Vec<u64> {
        let built = self.replies.iter().filter_map(|(_, reply)| match reply {
            ServerReply::Built(built) => Some(built.serial),
            _ => None,
        });
        built.collect()
    }

    /// Serial numbers and reasons of ends that were told, each once.
    pub(crate) fn ended(&self) -> BTreeMap<u64, EndReason> {
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
pub(crate) struct Stage {
    pub(crate) machine: Machine,
    pub(crate) bad: Script,
    pub(crate) honest: Script,
    /// db-server's calls since the conversation began.
    pub(crate) calls: Rc<Cell<usize>>,
    /// Whether it has begun.
    pub(crate) is_on: Rc<Cell<bool>>,
    /// Whether the first is to stop in the middle of its next message; whether it says nothing more.
    pub(crate) is_tired: Rc<Cell<bool>>,
    pub(crate) is_done: Rc<Cell<bool>>,
    /// What the other has been to do.
    pub(crate) errands: Cell<usize>,
    /// What the first has heard until it was killed.
    pub(crate) heard: Rc<RefCell<Heard>>,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let machine = Machine::builder().memory(PageCount::new(0x3000)).build();
        let (bad, honest) = (Script::new(&machine, BAD), Script::new(&machine, HONEST));
        honest.ask(hello());
        let (calls, is_on, is_tired, is_done) = Default::default();
        Self {
            machine,
            bad,
            honest,
            calls,
            is_on,
            is_tired,
            is_done,
            errands: Cell::new(0),
            heard: Rc::default(),
        }
    }

    /// The conversation, with the other controller's errands between.
    pub(crate) fn talk(&self) {
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

    pub(crate) fn bad_says(&self, request: ServerRequest) {
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

    pub(crate) fn run_errand(&self) {
        let turn = self.errands.get();
        self.errands.set(turn + 1);
        self.honest.act(move |ctl| {
            ctl.hear();
            ctl.send(&errand(turn));
        });
    }

    /// Time for whatever db-server waits for, while the other works.
    pub(crate) fn pass(&self, seconds: usize) {
        for _ in 0..seconds * 2 {
            self.machine.when_idle(|machine| machine.advance(SECOND / 2));
            self.run_errand();
        }
    }

    /// Kills `victim` before call `step` of the conversation.
    pub(crate) fn kill_at(&self, step: usize, victim: Victim) {
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

    pub(crate) fn serve(&self, victim: Option<Victim>) -> MachineStatus {
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

pub(crate) fn kill(machine: &Machine, victim: Victim, bad: &Script) {
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
pub(crate) fn destroy(machine: &Machine, domid: DomId) {
    let xen = Xen::probe(machine.dom0()).unwrap();
    xen.destroy_domain(domid).unwrap();
}

impl Stage {
    /// A controller that is there puts its books in order, and finds that nothing counts that is not there: VMs called `names` can
    /// be built, `first` with all its memory, and the whole store is to be had.
    pub(crate) fn survey(script: &Script, (name, first): (&'static str, u16), heard: &Rc<RefCell<Heard>>) {
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
    pub(crate) fn come_back(&self) {
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
    pub(crate) fn end(&self) {
        for domid in [BAD, HONEST] {
            support::launching::then_end(&self.machine, domid, SHUTDOWN_POWEROFF);
        }
    }
}

pub(crate) fn none() -> ServerReply {
    ServerReply::Vms { vms: Vec::new(), more: false }
}

/// What came of a whole run.
pub(crate) struct Outcome {
    /// What the first controller heard before it was killed, or all of it.
    pub(crate) heard: Heard,
    pub(crate) honest: Heard,
    /// What the first heard later, when it was there again.
    pub(crate) later: Vec<ServerNotice>,
    pub(crate) status: MachineStatus,
    pub(crate) log: String,
}

/// Runs the conversation, and kills `victim` before call `step` of it.
pub(crate) fn play(kill: Option<(usize, Victim)>, watch: impl FnMut(&Machine, usize) + 'static) -> Outcome {
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
    pub(crate) fn watch(&self, mut look: impl FnMut(&Machine, usize) + 'static) {
        let (calls, is_on) = (Rc::clone(&self.calls), Rc::clone(&self.is_on));
        self.machine.before_calls(move |machine| {
            if is_on.get() {
                look(machine, calls.get());
                calls.set(calls.get() + 1);
            }
        });
    }
}
