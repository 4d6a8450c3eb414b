//! The control domain as a state machine.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use log::Level;
use protocols::message::{
    BuildRequest, ControlNotice, ControlRequest, Failure, Reason, ServerReply, ServerRequest, VmEntry,
};
use server_client::{Attempts, Event, MessagesError, Patience, Transport};

use crate::clients::{ENOUGH, Session, TURN, failure};
use crate::jobs::Job;
use crate::platform_state::{Outcome, Phase, PlatformState};
use crate::server::{Listed, Purpose, Server};
use crate::source::{Drawing, Image, Source};
use crate::uploads::{Readiness, Uploads};
use crate::vm::{Identity, Vm, Want};
use crate::{Journal, Terms};

/// How long the control domain goes on without db-server: 60 s, in nanoseconds.
pub const SERVER_PATIENCE: u64 = 60_000_000_000;

/// How db-server is reached again: it renews the channel when it has noticed the end of the conversation before.
const RECONNECT: Patience =
    Patience { pause: 20 * MILLISECOND, longest: 1000 * MILLISECOND, time: SERVER_PATIENCE, losses: 32 };

/// Nanoseconds in a millisecond.
const MILLISECOND: u64 = 1_000_000;

/// What the control domain is told about itself.
#[derive(Clone, Debug)]
pub struct Config {
    /// What it calls itself to db-server; the form of a VM's name.
    pub name: String,
    /// Its own domain id.
    pub domid: u16,
    /// The channels of its clients, one for each of [`Source::clients`], in that order.
    pub clients: Vec<Terms>,
}

/// How it all ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Every VM ended well.
    Success,
    /// A VM ended badly.
    VmFailed,
    /// A VM could not be built or started.
    NotBuilt,
    /// db-server went away and did not come back.
    ServerLost,
}

impl Status {
    /// The exit status of the VM.
    pub fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::VmFailed => 1,
            Self::NotBuilt => 2,
            Self::ServerLost => 3,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Success => "success",
            Self::VmFailed => "vm-failed",
            Self::NotBuilt => "not-built",
            Self::ServerLost => "server-lost",
        })
    }
}

/// The control domain.
#[derive(Debug)]
pub struct Control<'a> {
    name: String,
    /// What the RAM disk's platform is called.
    own: String,
    pub(crate) platforms: BTreeMap<String, PlatformState>,
    pub(crate) drawing: Drawing<'a>,
    pub(crate) sessions: Vec<Session>,
    pub(crate) jobs: Vec<Job>,
    pub(crate) journal: Journal,
    /// Nanoseconds that a VM gets to power off.
    pub(crate) shutdown_time: u64,
    uploads: Uploads,
    server: Option<Server>,
    /// The tries to have a conversation with db-server: one begins when it is known what db-server has.
    attempts: Attempts,
    /// When db-server has said something, or there was nothing that it had to answer.
    heard: u64,
    /// VMs that db-server has of this controller and that belong to nothing, to be destroyed before anything is built; those that are
    /// asked for are counted.
    leftovers: Vec<Identity>,
    leaving: usize,
    /// Why the conversation cannot go on although the stream could.
    fault: Option<Failure>,
    status: Option<Status>,
}

impl<'a> Control<'a> {
    /// A control domain that is to bring up the platform of `source`, at system time `now` (nanoseconds).
    pub fn new(source: Source<'a>, config: Config, now: u64) -> Result<Self, Failure> {
        let (drawing, blueprints, settings, control) = source.draw(config.domid, config.clients)?;
        let shutdown_time = u64::from(control.shutdown_ms) * MILLISECOND;
        let own = control.platform.clone();
        let platform = PlatformState::new(own.clone(), None, settings, blueprints, now, shutdown_time);
        Ok(Self {
            name: config.name,
            platforms: BTreeMap::from([(own.clone(), platform)]),
            own,
            drawing,
            sessions: control.clients.iter().map(|client| Session::new(client, now)).collect(),
            jobs: Vec::new(),
            journal: Journal::default(),
            shutdown_time,
            uploads: Uploads::default(),
            server: None,
            attempts: Attempts::new(RECONNECT, now),
            heard: now,
            leftovers: Vec::new(),
            leaving: 0,
            fault: None,
            status: None,
        })
    }

    /// Whether to try to reach db-server now: what comes of it is told by [`connected`](Self::connected) or
    /// [`not_connected`](Self::not_connected).
    pub fn is_to_connect(&self, now: u64) -> bool {
        self.server.is_none() && self.status.is_none() && now >= self.attempts.due()
    }

    /// db-server could not be reached.
    pub fn not_connected(&mut self, why: &impl fmt::Display, now: u64) {
        log::debug!("event=not-connected: {why}");
        self.attempts.lost(why, now);
    }

    /// There is a new stream to db-server, on which nothing was said yet.
    pub fn connected(&mut self, now: u64) {
        self.journal.enter(now, Level::Info, format_args!("event=connected: to db-server"));
        self.heard = now;
        match Server::new(&self.name) {
            Ok(server) => self.server = Some(server),
            Err(error) => {
                self.journal.enter(now, Level::Error, format_args!("event=mute: {error}"));
                self.attempts.lost(&error, now);
            }
        }
    }

    /// Moves the conversation with db-server on; says whether anything moved. An error means that the stream is to be closed and, when
    /// there is another, [`connected`](Self::connected) to be called.
    pub fn turn<T: Transport>(&mut self, transport: &mut T, now: u64) -> Result<bool, Lost> {
        let Some(server) = &mut self.server else { return Err(Lost) };
        let mut result = server.client.turn(transport);
        while let Some(event) = self.server.as_mut().and_then(|server| server.client.next_event()) {
            self.heard = now;
            self.hear(event, now);
        }
        self.pass(now);
        if let (Ok(moved), Some(server)) = (&mut result, &mut self.server) {
            match server.client.turn(transport) {
                Ok(more) => *moved |= more,
                Err(error) => result = Err(error),
            }
        }
        match (result, self.fault.take()) {
            (Ok(_), None) if self.answer_deadline().is_some_and(|time| time <= now) => {
                let seconds = SERVER_PATIENCE / 1_000_000_000;
                Err(self.lose(format_args!("db-server has not answered for {seconds} s"), now))
            }
            (Ok(moved), None) => Ok(moved),
            (Err(error), _) => Err(self.lose(format_args!("{error}"), now)),
            (Ok(_), Some(fault)) => Err(self.lose(format_args!("{fault}"), now)),
        }
    }

    /// The stream to db-server is no more.
    fn lose(&mut self, why: fmt::Arguments<'_>, now: u64) -> Lost {
        self.journal.enter(now, Level::Warn, format_args!("event=disconnected: {why}"));
        self.server = None;
        self.attempts.lost(&why, now);
        self.uploads.disconnected();
        self.leftovers.clear();
        self.leaving = 0;
        self.platforms.values_mut().flat_map(|platform| &mut platform.vms).for_each(Vm::disconnected);
        Lost
    }

    /// Does what the time has come for.
    pub fn tick(&mut self, now: u64) {
        self.pass(now);
        if self.status.is_none()
            && let Some(given_up) = self.attempts.given_up(now)
        {
            let what = format_args!("event=given-up: db-server: {given_up}");
            self.journal.enter(now, Level::Error, what);
            self.status = Some(Status::ServerLost);
        }
    }

    /// When [`tick`](Self::tick) is to be called although nothing has moved.
    pub fn deadline(&self, now: u64) -> Option<u64> {
        let connect = self.server.is_none().then(|| self.attempts.due());
        let vms = self.platforms.values().flat_map(PlatformState::deadlines);
        vms.chain(connect)
            .chain(self.attempts.deadline())
            .chain(self.answer_deadline())
            .filter(|time| *time > now)
            .min()
    }

    /// When db-server is taken for dead although its stream is open, if it has something to answer.
    fn answer_deadline(&self) -> Option<u64> {
        let server = self.server.as_ref().filter(|server| !server.client.is_idle())?;
        server.is_settled.then(|| self.heard.saturating_add(SERVER_PATIENCE))
    }

    /// How it ended, once nothing is left to do.
    pub fn status(&self) -> Option<Status> {
        self.status
    }

    /// What was done.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// How far the platform of the RAM disk is.
    pub(crate) fn own_phase(&self) -> Option<Phase> {
        self.platforms.get(&self.own).map(|platform| platform.phase)
    }

    /// Moves the conversation with client `index` on; says whether anything moved. An error means that the stream is at its end.
    pub fn turn_client<T: Transport>(
        &mut self,
        index: usize,
        transport: &mut T,
        now: u64,
    ) -> Result<bool, MessagesError<T::Error>> {
        let mut moved = false;
        for _ in 0..TURN {
            let Some(session) = self.sessions.get_mut(index) else { return Ok(false) };
            if session.is_dropped || session.messages.unsent() > ENOUGH {
                break;
            }
            let frame = match session.messages.receive(transport) {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(MessagesError::Message(error)) => {
                    self.drop_client(index, format_args!("{error}"), now);
                    break;
                }
                Err(error) => return Err(error),
            };
            moved = true;
            match frame.decode::<ControlRequest>() {
                Ok(request) => self.request(index, frame.id, request, now),
                Err(error) => self.drop_client(index, format_args!("{error}"), now),
            }
        }
        self.pass(now);
        let Some(session) = self.sessions.get_mut(index) else { return Ok(moved) };
        Ok(session.messages.flush(transport)? || moved)
    }

    /// Whether nothing more is read of client `index` until it comes back.
    pub fn is_dropped(&self, index: usize) -> bool {
        self.sessions.get(index).is_some_and(|session| session.is_dropped)
    }

    /// Client `index` is gone, or has closed its channel; it may come back on a new stream, from [`renewal`](Self::renewal) on.
    pub fn client_gone(&mut self, index: usize, now: u64) {
        if let Some(session) = self.sessions.get_mut(index) {
            session.renew(now);
        }
        // Nobody is left to be answered.
        self.jobs.retain(|job| job.client != index);
    }

    /// From when on client `index` may have a new stream: one that comes and goes without pause has to wait, so that it takes neither
    /// the control domain's time nor its journal from others.
    pub fn renewal(&self, index: usize) -> u64 {
        self.sessions.get(index).map_or(u64::MAX, |session| session.attempts.due())
    }

    /// Stops listening to a client that does not keep to the protocol.
    fn drop_client(&mut self, index: usize, why: fmt::Arguments<'_>, now: u64) {
        let failure = failure(Reason::WrongState, why);
        self.note(now, index, format_args!("event=dropped: {failure}"));
        if let Some(session) = self.sessions.get_mut(index) {
            session.is_greeted = true;
            session.tell(&ControlNotice::Dropped(failure));
            session.is_dropped = true;
        }
    }

    /// Takes what db-server said.
    fn hear(&mut self, event: Event, now: u64) {
        match event {
            Event::Ready { server, quota } => {
                let what = format_args!(
                    "server={server} event=ready memory={}KiB vms={} requests={}",
                    quota.memory_kib, quota.vms, quota.requests
                );
                self.journal.enter(now, Level::Info, what);
                if let Some(server) = &mut self.server {
                    server.greeted();
                }
            }
            Event::Ended { serial, reason, .. } => {
                for platform in self.platforms.values_mut() {
                    let Some(index) = platform.vms.iter().position(|vm| vm.has_serial(serial)) else {
                        continue;
                    };
                    if let Some((vm, mut scene)) = platform.scene(index, now, &mut self.journal) {
                        vm.ended(reason, &mut scene);
                    }
                }
            }
            Event::Answered { id, answer } => {
                let purpose = self.server.as_mut().and_then(|server| server.purpose(id));
                if let Some(purpose) = purpose {
                    self.answered(purpose, answer, now);
                }
            }
        }
    }

    fn answered(&mut self, purpose: Purpose, answer: Result<ServerReply, Failure>, now: u64) {
        match purpose {
            Purpose::Watch => match (answer, &mut self.server) {
                (Ok(_), Some(server)) => server.list(),
                (Err(failure), _) => self.fault = Some(failure),
                _ => {}
            },
            Purpose::List => match self.server.as_mut().map(|server| server.listed(answer)) {
                Some(Listed::Whole(entries)) => self.reconcile(&entries, now),
                Some(Listed::Failed(failure)) => self.fault = Some(failure),
                _ => {}
            },
            Purpose::Image(digest) => {
                if let Err(failure) = &answer {
                    self.journal.enter(now, Level::Warn, format_args!("image={digest} {failure}"));
                }
                self.uploads.answered(&digest, answer);
            }
            Purpose::Vm(platform, index) => {
                let Some(platform) = self.platforms.get_mut(&platform) else { return };
                let Some((vm, mut scene)) = platform.scene(index, now, &mut self.journal) else { return };
                if answer.as_ref().is_err_and(|failure| failure.reason == Reason::NoSuchImage) {
                    vm.blueprint.own_images().for_each(|digest| self.uploads.forget(&digest));
                }
                vm.answered(answer, &mut scene);
            }
            Purpose::Leftover(Identity { domid, .. }) => {
                self.leaving = self.leaving.saturating_sub(1);
                if let Err(failure) = answer.map(|_| ()).or_else(unless_gone) {
                    self.journal.enter(now, Level::Warn, format_args!("domid={domid} event=left: {failure}"));
                }
            }
        }
    }

    /// Puts right what was not heard, and finds out what db-server has that belongs to nothing.
    fn reconcile(&mut self, entries: &[VmEntry], now: u64) {
        self.attempts.began(now);
        // A name alone says little: a client may have asked for a VM that is called like one which runs.
        let vms = self.platforms.values().flat_map(|platform| &platform.vms);
        let known: BTreeSet<u64> = vms.filter_map(|vm| Some(vm.identity?.serial)).collect();
        for platform in self.platforms.values_mut() {
            for index in 0..platform.vms.len() {
                let Some((vm, mut scene)) = platform.scene(index, now, &mut self.journal) else { continue };
                let by_serial = |serial| entries.iter().find(|entry| entry.serial == serial);
                let by_name = |name: &str| {
                    entries.iter().find(|entry| entry.name == name && !known.contains(&entry.serial))
                };
                vm.reconcile(by_serial, by_name, &mut scene);
            }
        }
        for entry in entries {
            let mut vms = self.platforms.values().flat_map(|platform| &platform.vms);
            if !vms.any(|vm| vm.has_serial(entry.serial)) {
                let what = format_args!(
                    "vm={} domid={} event=left-over: of an earlier life",
                    entry.name, entry.domid
                );
                self.journal.enter(now, Level::Warn, what);
                self.leftovers.push(Identity::from(entry));
            }
        }
    }

    /// Moves everything on as far as it can be.
    fn pass(&mut self, now: u64) {
        for platform in self.platforms.values_mut() {
            platform.settle(now, &mut self.journal);
        }
        if matches!(self.own_phase(), Some(Phase::Ending | Phase::Ended)) {
            let Self { platforms, journal, .. } = self;
            for platform in platforms.values_mut().filter(|platform| platform.owner.is_some()) {
                platform.end(now, journal, true, "the control domain's own platform ends");
            }
        }
        self.ask(now);
        self.tell_ends();
        self.resolve();
        self.bury();
    }

    /// Asks db-server for what is wanted, as much as it takes.
    fn ask(&mut self, now: u64) {
        let Some(server) = self.server.as_ref().filter(|server| server.is_settled) else { return };
        if server.client.is_idle() {
            self.heard = now;
        }
        while let Some(server) = self.server.as_mut().filter(|server| server.client.room() > 0) {
            let Some(identity) = self.leftovers.pop() else { break };
            let Identity { domid, serial } = identity;
            let request = ServerRequest::Destroy { domid, serial: Some(serial) };
            server.ask(request, Purpose::Leftover(identity));
            self.leaving += 1;
        }
        if !self.leftovers.is_empty() || self.leaving > 0 {
            return;
        }
        let names: Vec<String> = self.platforms.keys().cloned().collect();
        for name in names {
            let wants = self.platforms.get(&name).map(|platform| platform.wants(now)).unwrap_or_default();
            for (index, want) in wants {
                if !self.has_room() {
                    return;
                }
                self.ask_for(&name, index, want, now);
            }
        }
        while self.has_room() {
            let Some((digest, request)) = self.uploads.next_request(&self.drawing.images) else { break };
            let Some(server) = &mut self.server else { break };
            server.ask(request, Purpose::Image(digest));
        }
    }

    fn has_room(&self) -> bool {
        self.server.as_ref().is_some_and(|server| server.client.room() > 0)
    }

    /// Asks for what is wanted for one VM, unless its images are not there yet.
    fn ask_for(&mut self, name: &str, index: usize, want: Want, now: u64) {
        let Self { platforms, journal, uploads, server: Some(server), .. } = self else { return };
        let Some(platform) = platforms.get_mut(name) else { return };
        let Some((vm, mut scene)) = platform.scene(index, now, journal) else { return };
        let target = vm.identity.map(|Identity { domid, serial }| (domid, Some(serial)));
        let request = match (want, target) {
            (Want::Build, _) => {
                let blueprint = &vm.blueprint;
                let images: Vec<Readiness> =
                    blueprint.own_images().map(|digest| uploads.want(digest)).collect();
                if images.contains(&Readiness::Pending) {
                    return;
                }
                let failed = images.into_iter().find_map(|image| match image {
                    Readiness::Failed(failure) => Some(failure),
                    _ => None,
                });
                if let Some(failure) = failed {
                    return vm.not_built(failure, &mut scene);
                }
                ServerRequest::Build(BuildRequest {
                    spec: blueprint.wire.clone(),
                    kernel: blueprint.kernel.source(),
                    ramdisk: blueprint.ramdisk.as_ref().map(Image::source),
                    paused: true,
                    console: None,
                    xenstore: None,
                    label: None,
                    measured: false,
                })
            }
            (Want::Unpause, Some((domid, serial))) => ServerRequest::Unpause { domid, serial },
            (Want::Shutdown, Some((domid, serial))) => ServerRequest::Shutdown { domid, serial },
            (Want::Destroy, Some((domid, serial))) => ServerRequest::Destroy { domid, serial },
            (_, None) => return,
        };
        let id = server.ask(request, Purpose::Vm(name.into(), index));
        vm.asked(id, want, &mut scene);
    }

    /// Tells clients of the ends in the platforms that they created.
    fn tell_ends(&mut self) {
        for platform in self.platforms.values_mut() {
            let (owner, name) = (platform.owner, platform.name.clone());
            for end in platform.take_ends() {
                let Some(session) = owner.and_then(|owner| self.sessions.get_mut(owner)) else { continue };
                session.tell(&ControlNotice::VmEnded {
                    platform: name.clone(),
                    vm: end.vm,
                    reason: end.reason,
                    restarts: end.restarts,
                });
            }
        }
    }

    /// Forgets platforms of clients that have ended, and ends when the own one has.
    fn bury(&mut self) {
        let is_over = |platform: &PlatformState| platform.owner.is_some() && platform.phase == Phase::Ended;
        let ended = self.platforms.iter().filter(|(_, platform)| is_over(platform));
        let ended: Vec<String> = ended.map(|(name, _)| name.clone()).collect();
        for name in ended {
            let Some(platform) = self.platforms.remove(&name) else { continue };
            let Some(session) = platform.owner.and_then(|owner| self.sessions.get_mut(owner)) else {
                continue;
            };
            let well = platform.outcome() == Outcome::Well;
            session.tell(&ControlNotice::PlatformEnded { platform: name, well });
        }
        let Some(own) = self.platforms.get(&self.own).filter(|own| own.phase == Phase::Ended) else { return };
        if self.platforms.len() == 1 && self.status.is_none() {
            self.status = Some(match own.outcome() {
                Outcome::Well => Status::Success,
                Outcome::Badly => Status::VmFailed,
                Outcome::Incomplete => Status::NotBuilt,
            });
        }
    }
}

/// What is to be destroyed may be gone already.
fn unless_gone(failure: Failure) -> Result<(), Failure> {
    if failure.reason == Reason::NoSuchVm { Ok(()) } else { Err(failure) }
}

/// The stream to db-server cannot be used any more; why is in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost;
