//! Everything that can be killed is killed at every step of a platform's life: the channel to db-server, VMs, clients.
#![allow(missing_docs, reason = "a test's name says what it checks")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise, in its helpers too"
)]

mod support;

use std::collections::BTreeSet;

use control_domain::Status;
use protocols::control::{ClientRights, ControlClient, ControlSpec};
use protocols::message::{ControlNotice, ControlRequest, EndReason};
use protocols::platform::Ends;
use protocols::{BootSpec, ExitAction, Life, PlatformSpec};
use support::{SECOND, World, after, ramdisk, spec};

/// More steps than any of these lives takes.
const BOUND: usize = 3000;

/// What is killed, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    /// The channel to db-server is cut.
    Channel,
    /// db-server says nothing more until the channel is given up.
    Mute,
    /// The client's end of its channel is gone; it comes back.
    Client,
    /// A VM crashes.
    Dies(&'static str),
    /// A VM is destroyed by somebody else.
    Vanishes(&'static str),
}

impl Victim {
    fn is_there(self, world: &World<'_>) -> bool {
        match self {
            Self::Dies(name) => world.server.runs(name),
            Self::Vanishes(name) => world.server.domid(name).is_some(),
            _ => true,
        }
    }

    fn kill(self, world: &mut World<'_>) {
        match self {
            Self::Channel => world.cut(),
            Self::Mute => world.server.mute = true,
            Self::Client => world.clients[0].far.cut(),
            Self::Dies(name) => world.server.end_vm(name, EndReason::Crash),
            Self::Vanishes(name) => world.server.end_vm(name, EndReason::Destroyed),
        }
    }
}

/// A client, VMs that start one after the other, the second of which is started again when it ends badly; and it all ends with the client.
fn disk() -> Vec<u8> {
    let may = ClientRights {
        list: true,
        create: true,
        shutdown: true,
        terminate: true,
        measure: true,
        journal: true,
    };
    let clients = vec![ControlClient { vm: "master".into(), may }];
    let control = ControlSpec { platform: "main".into(), clients, ..ControlSpec::default() };
    let settings = PlatformSpec { ends: Ends::With(vec!["master".into()]), ..PlatformSpec::default() };
    let life = Life { restart_limit: 3, restart_delay_ms: 20, after: vec!["db".into()], ..Life::default() };
    let web = BootSpec { on_crash: ExitAction::Restart, life, ..spec("web") };
    let master = BootSpec { domid: Some(7), ..spec("master") };
    ramdisk(Some(&settings), Some(&control), &[master, spec("db"), web, after("cache", &["db", "web"])])
}

/// What happens when nothing moves any more.
enum Act {
    Asks(ControlRequest),
    /// A VM ends by itself.
    Ends(&'static str, EndReason),
}

fn acts() -> Vec<Act> {
    let (main, other) = (|| "main".to_owned(), || "other".to_owned());
    let bytes = |spec: BootSpec| spec.encode().unwrap();
    let specs = vec![bytes(spec("a")), bytes(after("b", &["a"]))];
    vec![
        Act::Asks(ControlRequest::List { platform: main(), skip: 0 }),
        Act::Asks(ControlRequest::CreatePlatform { name: other(), specs }),
        Act::Ends("web", EndReason::Crash),
        Act::Asks(ControlRequest::CreateVm { platform: main(), spec: bytes(spec("late")) }),
        Act::Asks(ControlRequest::ShutdownVm { platform: other(), vm: "b".into() }),
        Act::Asks(ControlRequest::MeasurePlatform { platform: main(), skip: 0 }),
        Act::Asks(ControlRequest::TerminatePlatform { platform: other() }),
        Act::Asks(ControlRequest::ReadJournal { first: 0 }),
        Act::Asks(ControlRequest::TerminatePlatform { platform: main() }),
        Act::Ends("master", EndReason::Poweroff),
    ]
}

/// A life, step by step.
struct Story<'a> {
    world: World<'a>,
    /// The conversation of the client that it is in: how many things it had heard before, and what it has asked in it.
    heard_before: usize,
    asked: Vec<u32>,
    next: u32,
    is_greeted: bool,
    steps: usize,
}

impl<'a> Story<'a> {
    fn new(disk: &'a [u8]) -> Self {
        let world = World::new(disk);
        Self { world, heard_before: 0, asked: Vec::new(), next: 1, is_greeted: false, steps: 0 }
    }

    /// Lives it to its end; `look` comes before each step.
    fn live(&mut self, mut look: impl FnMut(&mut Self)) -> Status {
        let mut acts = acts().into_iter().peekable();
        let mut has_begun = false;
        while self.steps < BOUND {
            look(self);
            self.steps += 1;
            self.world.server.mute &= !self.world.has("has not answered for 60 s");
            if let Some(status) = self.world.control.status() {
                return status;
            }
            if self.world.step() || self.world.control.status().is_some() {
                continue;
            }
            let now = self.world.now;
            let due = self.world.control.deadline(now);
            has_begun |= self.world.server.runs("cache") || self.world.has("platform=main event=built");
            if let Some(time) = due.filter(|time| *time <= now + 5 * SECOND || !has_begun) {
                self.world.now = time;
            } else if let Some(act) = acts.next_if(|_| !self.world.server.mute || due.is_none()) {
                self.act(act);
            } else {
                // Somebody has time to do something, and does not.
                self.world.now =
                    due.unwrap_or_else(|| panic!("it waits for ever: {:#?}", self.world.journal()));
            }
        }
        panic!("it does not end: {:#?}", self.world.journal())
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Ends(name, reason) if self.world.server.runs(name) => self.world.server.end_vm(name, reason),
            Act::Ends(..) => {}
            // A client whose VM is gone asks for nothing.
            Act::Asks(_) if !self.world.server.runs("master") => {}
            Act::Asks(request) => {
                if !self.is_greeted {
                    self.is_greeted = true;
                    self.say(&ControlRequest::Hello { lowest: 1, highest: 1, name: "c".into() });
                }
                self.say(&request);
            }
        }
    }

    fn say(&mut self, request: &ControlRequest) {
        self.world.clients[0].say(self.next, request);
        self.asked.push(self.next);
        self.next += 1;
    }

    /// The client's conversation is over.
    fn part(&mut self) {
        self.heard_before = self.world.clients[0].heard.len();
        self.asked.clear();
        self.is_greeted = false;
    }

    /// What holds at the end of any life.
    fn check(&self, status: Status, what: &str) {
        let journal = self.world.journal();
        if status == Status::ServerLost {
            // It fell silent before anything was asked.
            assert!(
                !self.world.has("event=built") && self.world.has("event=given-up: db-server: no"),
                "{what} {journal:#?}"
            );
            return;
        }
        let text = format!("{what} {status}: {journal:#?} {:?}", self.world.clients[0].heard);
        assert!(self.world.server.vms.is_empty(), "{text}");
        let end = format!("platform=main event=ended status={status} ");
        assert!(self.world.has(&end), "{text}");
        let is_last = |entry: &&String| !entry.contains("event=disconnected");
        let last = journal.iter().rev().find(is_last);
        assert!(last.is_some_and(|last| last.contains(" event=ended status=")), "{text}");
        let count = |words: &str| journal.iter().filter(|entry| entry.contains(words)).count();
        for vm in ["master", "db", "web", "cache", "late", "a", "b"] {
            let of = |event: &str| {
                let entries = journal.iter().filter(|entry| entry.contains(&format!("vm={vm} domid=")));
                entries.filter(|entry| entry.contains(event)).count()
            };
            let (built, ended, gone) = (of("event=built"), of("event=ended"), of("event=destroyed"));
            assert!(built <= gone && ended <= gone, "{vm}: {built} {ended} {gone}: {text}");
        }
        assert_eq!(count("platform=main event=ended"), 1, "{text}");
        assert!(count("platform=other event=ended") <= 1, "{text}");
        self.check_client(&text);
    }

    /// Who asked is answered once, is told of each end once, and of nothing after the end of the platform.
    fn check_client(&self, text: &str) {
        let heard = &self.world.clients[0].heard;
        let answers: Vec<u32> = heard.iter().filter(|(_, said)| said.is_ok()).map(|(id, _)| *id).collect();
        let once: BTreeSet<u32> = answers.iter().copied().collect();
        assert_eq!(once.len(), answers.len(), "{text}");
        let now: BTreeSet<u32> =
            heard[self.heard_before..].iter().filter(|(_, said)| said.is_ok()).map(|(id, _)| *id).collect();
        assert!(now.iter().all(|id| self.asked.contains(id)), "an answer to another conversation: {text}");
        let notices: Vec<_> = heard.iter().filter_map(|(_, said)| said.as_ref().err()).collect();
        let is_end = |notice: &&&ControlNotice| matches!(notice, ControlNotice::PlatformEnded { .. });
        assert!(notices.iter().filter(is_end).count() <= 1, "{text}");
        let other = notices.iter().position(|notice| is_end(&notice));
        assert!(other.is_none_or(|at| at + 1 == notices.len()), "{text}");
        for vm in ["a", "b"] {
            let told = notices
                .iter()
                .filter(|notice| matches!(notice, ControlNotice::VmEnded { vm: of, .. } if of == vm));
            assert!(told.count() <= 1, "{text}");
        }
    }
}

/// Kills `victim` at each step at which it is there; gives how many there were.
fn sweep(victim: Victim, check: impl Fn(&Story<'_>, Status, &str)) -> usize {
    let disk = disk();
    let mut story = Story::new(&disk);
    let mut there = Vec::new();
    let status = story.live(|story| {
        if victim.is_there(&story.world) {
            there.push(story.steps);
        }
    });
    story.check(status, "unharmed");
    assert_eq!(status, Status::Success, "{:#?}", story.world.journal());
    let answered = story.asked.iter().all(|id| story.world.clients[0].answer(*id).is_some());
    assert!(answered, "{:?}", story.world.clients[0].heard);
    for step in &there {
        let mut story = Story::new(&disk);
        let status = story.live(|story| {
            if story.steps == *step {
                victim.kill(&mut story.world);
                if victim == Victim::Client {
                    story.part();
                }
            }
        });
        let what = format!("{victim:?} at step {step}:");
        story.check(status, &what);
        check(&story, status, &format!("{what} {status} {:#?}", story.world.journal()));
    }
    there.len()
}

/// Everybody is answered who is there at the end.
fn is_answered(story: &Story<'_>, text: &str) {
    let client = &story.world.clients[0];
    for id in &story.asked {
        assert!(client.answer(*id).is_some(), "no answer to {id}: {text}\n{:#?}", client.heard);
    }
}

#[test]
fn the_channel_to_db_server_may_be_lost_at_every_step() {
    let count = sweep(Victim::Channel, |story, status, text| {
        is_answered(story, text);
        // An end that nobody saw may have been a bad one.
        let is_unseen = story.world.has("event=ended reason=gone");
        assert!(status == Status::Success || is_unseen && status == Status::VmFailed, "{text}");
    });
    assert!(count > 80, "{count}");
}

#[test]
fn db_server_may_fall_silent_at_every_step() {
    sweep(Victim::Mute, |story, status, text| {
        if status == Status::ServerLost {
            return;
        }
        is_answered(story, text);
        let is_unseen = story.world.has("event=ended reason=gone");
        assert!(status == Status::Success || is_unseen && status == Status::VmFailed, "{text}");
    });
}

#[test]
fn a_client_may_be_lost_at_every_step() {
    sweep(Victim::Client, |story, status, text| {
        is_answered(story, text);
        assert_eq!(status, Status::Success, "{text}");
    });
}

#[test]
fn every_vm_may_crash_at_every_step() {
    for vm in ["master", "db", "web", "cache", "late", "a", "b"] {
        sweep(Victim::Dies(vm), |story, status, text| lives_without(vm, "crash", story, status, text));
    }
}

#[test]
fn every_vm_may_be_destroyed_by_somebody_else_at_every_step() {
    for vm in ["master", "db", "web", "cache", "late", "a", "b"] {
        sweep(Victim::Vanishes(vm), |story, status, text| {
            lives_without(vm, "destroyed", story, status, text);
        });
    }
}

/// The platform goes on without that VM, or with it again, or ends with it.
fn lives_without(vm: &str, reason: &str, story: &Story<'_>, status: Status, text: &str) {
    if vm != "master" {
        is_answered(story, text);
    }
    let ended = format!("event=ended reason={reason}");
    let is_told = story.world.journal().iter().any(|entry| {
        entry.contains(&format!("vm={vm} domid="))
            && (entry.contains(&ended) || entry.contains("reason=poweroff"))
    });
    assert!(is_told || story.world.has(&format!("vm={vm}")), "{text}");
    match vm {
        // Nobody's but the client's, or back again.
        _ if status == Status::NotBuilt => {
            // One that did not start keeps others from it.
            let late = format!("starts after {vm}, which did not start");
            let started = story
                .world
                .journal()
                .iter()
                .any(|entry| entry.contains(&format!("vm={vm} ")) && entry.ends_with("event=started"));
            assert!(story.world.has(&late) && !started, "{text}");
        }
        "a" | "b" | "web" => assert_eq!(status, Status::Success, "{text}"),
        _ => assert!(matches!(status, Status::Success | Status::VmFailed), "{text}"),
    }
}
