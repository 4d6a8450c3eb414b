//! One VM, from its blueprint to its end.

use alloc::format;
use alloc::string::String;

use log::Level;
use platform::{Ending, Row};
use protocols::ExitAction;
use protocols::message::{Built, EndReason, Failure, Measurement, Reason, ServerReply, VmEntry, VmState};
use server_client::RequestId;

use crate::journal::Journal;
use crate::source::Blueprint;

/// How long a build that failed for a reason that passes is tried again: 2 s, in nanoseconds. A domain that was destroyed has its
/// identifier, and the last of its memory, until Xen is done with it.
const PATIENCE: u64 = 2_000_000_000;
/// Between two such tries: 20 ms, in nanoseconds.
const LOOK_AGAIN: u64 = 20_000_000;
/// Between two tries to destroy a VM: 1 s, in nanoseconds.
const DESTROY_AGAIN: u64 = 1_000_000_000;
/// How often that is tried.
const DESTROY_TRIES: u32 = 5;
/// How often images are sent again that db-server has forgotten before a build could use them.
const SEND_AGAIN: u32 = 3;

/// What a VM is doing. It has a domain from `Paused` on, but for `Gone`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It is to be built, not before this time.
    Due(u64),
    /// It is being built.
    Building,
    /// It is complete and waits for its turn.
    Paused,
    /// It is being started.
    Starting,
    Running,
    /// db-server is to ask it to power off.
    Asking,
    /// It was asked, and has until this time.
    Stopping(u64),
    /// It is to be destroyed, not before this time.
    Destroying(u64),
    /// It has ended and stays.
    Preserved,
    /// It does not exist, and does not come back.
    Gone,
}

/// What db-server is to be asked for a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    Build,
    Unpause,
    Shutdown,
    Destroy,
}

/// What has become of a platform's VMs together.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    /// VMs that ended other than they should.
    pub(crate) bad: u32,
    /// VMs that could not be built or started.
    pub(crate) missing: u32,
    /// A critical VM is lost.
    pub(crate) lost: bool,
}

/// An end that is told to who created the platform.
#[derive(Clone, Debug)]
pub(crate) struct End {
    pub(crate) vm: String,
    pub(crate) reason: EndReason,
    pub(crate) restarts: bool,
}

/// What a VM's life takes place in.
pub(crate) struct Scene<'s> {
    pub(crate) now: u64,
    pub(crate) journal: &'s mut Journal,
    pub(crate) tally: &'s mut Tally,
    pub(crate) ends: &'s mut alloc::vec::Vec<End>,
    /// Nanoseconds that a VM gets to power off.
    pub(crate) shutdown_time: u64,
    /// Whether the platform is a client's.
    pub(crate) is_clients: bool,
}

/// What db-server knows a VM by. The domain id alone may be another VM's by the time that a request for it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) domid: u16,
    pub(crate) serial: u64,
}

impl From<&VmEntry> for Identity {
    fn from(entry: &VmEntry) -> Self {
        Self { domid: entry.domid, serial: entry.serial }
    }
}

/// A VM of a platform.
#[derive(Debug)]
pub(crate) struct Vm {
    pub(crate) blueprint: Blueprint,
    pub(crate) state: State,
    /// What it is known by, if it exists.
    pub(crate) identity: Option<Identity>,
    /// What is being asked for it.
    pub(crate) busy: Option<(RequestId, Want)>,
    /// It was put in the order of starts.
    pub(crate) ordered: bool,
    /// Its turn to start has come.
    pub(crate) released: bool,
    /// It is not wanted any more.
    pub(crate) stop: bool,
    /// How often it was restarted.
    pub(crate) restarts: u32,
    /// Why it could not be built or started.
    pub(crate) failure: Option<Failure>,
    /// What it was last built of.
    pub(crate) measurement: Option<Measurement>,
    row: Row,
    /// When it was started last, if it ever was.
    since: Option<u64>,
    /// When it is to be built again, once its domain is gone.
    again: Option<u64>,
    /// When the build that is tried now was tried first.
    trying_since: Option<u64>,
    /// How often its images were sent again, or its destruction tried.
    tries: u32,
}

impl Vm {
    pub(crate) fn new(blueprint: Blueprint, now: u64) -> Self {
        Self {
            blueprint,
            state: State::Due(now),
            identity: None,
            busy: None,
            ordered: false,
            released: false,
            stop: false,
            restarts: 0,
            failure: None,
            measurement: None,
            row: Row::default(),
            since: None,
            again: None,
            trying_since: None,
            tries: 0,
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.blueprint.spec.name
    }

    /// Its domain id, if it exists.
    pub(crate) fn domid(&self) -> Option<u16> {
        self.identity.map(|identity| identity.domid)
    }

    /// Whether it is the VM that db-server has given this serial number.
    pub(crate) fn has_serial(&self, serial: u64) -> bool {
        self.identity.is_some_and(|identity| identity.serial == serial)
    }

    /// Whether it exists or is to exist.
    pub(crate) fn is_left(&self) -> bool {
        !matches!(self.state, State::Gone | State::Preserved)
    }

    /// Whether something is left of it, or is to be: also of one that was preserved and is to go.
    pub(crate) fn remains(&self) -> bool {
        self.is_left() || self.stop && self.state != State::Gone
    }

    /// Lets it power off without being asked, as it has asked for that itself.
    pub(crate) fn leave_to_itself(&mut self, scene: &mut Scene<'_>) {
        if self.state == State::Running && self.stop {
            self.note(scene, Level::Info, format_args!("event=last: it is to power off by itself"));
            self.state = State::Stopping(scene.now.saturating_add(scene.shutdown_time));
        }
    }

    /// What is to be asked for it now. `may_stop` says that nobody is left who started after it.
    pub(crate) fn want(&self, now: u64, may_stop: bool) -> Option<Want> {
        if self.busy.is_some() {
            return None;
        }
        match self.state {
            State::Due(at) if !self.stop && at <= now => Some(Want::Build),
            State::Paused | State::Preserved if self.stop && may_stop => Some(Want::Destroy),
            State::Paused if self.released && !self.stop => Some(Want::Unpause),
            State::Running if self.stop && may_stop => Some(Want::Shutdown),
            State::Stopping(at) | State::Destroying(at) if at <= now => Some(Want::Destroy),
            _ => None,
        }
    }

    /// When something is to be asked for it that is not to be asked yet.
    pub(crate) fn deadline(&self) -> Option<u64> {
        match self.state {
            State::Due(at) | State::Stopping(at) | State::Destroying(at) if self.busy.is_none() => Some(at),
            _ => None,
        }
    }

    /// Notes what was asked for it.
    pub(crate) fn asked(&mut self, id: RequestId, want: Want, scene: &mut Scene<'_>) {
        self.busy = Some((id, want));
        match want {
            Want::Build => {
                self.state = State::Building;
                self.trying_since.get_or_insert(scene.now);
            }
            Want::Unpause => self.state = State::Starting,
            Want::Shutdown => {
                self.note(scene, Level::Info, format_args!("event=asked-to-power-off"));
                self.state = State::Asking;
            }
            Want::Destroy => {
                if matches!(self.state, State::Stopping(_)) {
                    self.note(
                        scene,
                        Level::Warn,
                        format_args!("event=late: it did not power off in its time"),
                    );
                }
                self.state = State::Destroying(scene.now);
            }
        }
    }

    /// Takes db-server's answer to what was asked.
    pub(crate) fn answered(&mut self, answer: Result<ServerReply, Failure>, scene: &mut Scene<'_>) {
        let Some((_, want)) = self.busy.take() else { return };
        match (want, answer) {
            (Want::Build, Ok(ServerReply::Built(built))) => self.built(&built, scene),
            (Want::Build, Err(failure)) => self.not_built(failure, scene),
            (Want::Unpause, Ok(_)) => self.started(scene),
            (Want::Unpause, Err(failure)) => self.not_started(failure, scene),
            (Want::Shutdown, Ok(_)) if self.state == State::Asking => {
                self.state = State::Stopping(scene.now.saturating_add(scene.shutdown_time));
            }
            (Want::Shutdown, Err(failure)) if self.state == State::Asking => {
                self.note(scene, Level::Warn, format_args!("event=not-asked: {failure}"));
                self.state = State::Destroying(scene.now);
            }
            (Want::Destroy, Ok(_)) => self.gone(scene),
            (Want::Destroy, Err(failure)) => self.not_destroyed(&failure, scene),
            _ => {}
        }
    }

    fn built(&mut self, built: &Built, scene: &mut Scene<'_>) {
        self.state = State::Paused;
        self.identity = Some(Identity { domid: built.domid, serial: built.serial });
        self.trying_since = None;
        self.tries = 0;
        let spec = self.blueprint.digest;
        let vm = self.name().into();
        self.measurement = Some(Measurement { vm, spec, kernel: built.kernel, ramdisk: built.ramdisk });
        self.note(scene, Level::Info, format_args!("event=built kernel={}", built.kernel));
    }

    /// Decides what follows a build that failed.
    pub(crate) fn not_built(&mut self, failure: Failure, scene: &mut Scene<'_>) {
        let since = *self.trying_since.get_or_insert(scene.now);
        let passes =
            matches!(failure.reason, Reason::Taken | Reason::Busy | Reason::OutOfMemory | Reason::Xen);
        let in_time = scene.now < since.saturating_add(PATIENCE);
        let lacks_images = failure.reason == Reason::NoSuchImage
            && self.blueprint.own_images().next().is_some()
            && self.tries < SEND_AGAIN;
        if self.stop {
            self.state = State::Gone;
        } else if passes && in_time {
            self.state = State::Due(scene.now.saturating_add(LOOK_AGAIN));
        } else if lacks_images {
            self.tries += 1;
            self.state = State::Due(scene.now);
        } else if self.released {
            // It has run before: a restart that was of no use.
            self.note(scene, Level::Error, format_args!("event=not-built: {failure}"));
            self.trying_since = None;
            self.state = match self.restart(0, scene) {
                Some(due) => State::Due(due),
                None => State::Gone,
            };
        } else {
            self.give_up(failure, scene);
        }
    }

    /// Gives it up before it has ever run.
    pub(crate) fn give_up(&mut self, failure: Failure, scene: &mut Scene<'_>) {
        self.note(scene, Level::Error, format_args!("event=not-started: {failure}"));
        self.failure = Some(failure);
        scene.tally.missing += 1;
        scene.tally.lost |= self.blueprint.spec.life.critical;
        self.stop = true;
        if matches!(self.state, State::Due(_) | State::Building) {
            self.state = State::Gone;
        }
    }

    fn started(&mut self, scene: &mut Scene<'_>) {
        if self.state == State::Starting {
            (self.state, self.since) = (State::Running, Some(scene.now));
            self.note(scene, Level::Info, format_args!("event=started"));
        }
    }

    fn not_started(&mut self, failure: Failure, scene: &mut Scene<'_>) {
        if self.state == State::Starting {
            self.state = State::Destroying(scene.now);
            self.give_up(failure, scene);
        }
    }

    fn not_destroyed(&mut self, failure: &Failure, scene: &mut Scene<'_>) {
        if failure.reason == Reason::NoSuchVm {
            return self.gone(scene);
        }
        self.tries += 1;
        if self.tries < DESTROY_TRIES {
            self.note(scene, Level::Warn, format_args!("event=not-destroyed: {failure}"));
            self.state = State::Destroying(scene.now.saturating_add(DESTROY_AGAIN));
        } else {
            self.note(scene, Level::Error, format_args!("event=leaked: {failure}"));
            scene.tally.bad += 1;
            self.again = None;
            self.gone(scene);
        }
    }

    /// Its domain is no more.
    fn gone(&mut self, scene: &mut Scene<'_>) {
        self.note(scene, Level::Info, format_args!("event=destroyed"));
        self.identity = None;
        self.tries = 0;
        self.state = match self.again.take() {
            Some(due) if !self.stop => State::Due(due),
            _ => State::Gone,
        };
    }

    /// db-server says that it has ended.
    pub(crate) fn ended(&mut self, reason: EndReason, scene: &mut Scene<'_>) {
        self.ended_by(Ending::from(reason), reason, scene);
    }

    fn ended_by(&mut self, ending: Ending, reason: EndReason, scene: &mut Scene<'_>) {
        let has_run = matches!(
            self.state,
            State::Paused | State::Starting | State::Running | State::Asking | State::Stopping(_)
        );
        if !has_run {
            return;
        }
        self.note(scene, Level::Info, format_args!("event=ended reason={ending}"));
        let was_wanted = !self.stop;
        self.state = State::Destroying(scene.now);
        if was_wanted {
            self.follow(ending, scene);
        }
        let restarts = self.again.is_some();
        scene.ends.push(End { vm: self.name().into(), reason, restarts });
    }

    /// Does what its spec says about such an end. One that nobody saw is taken like a crash.
    fn follow(&mut self, ending: Ending, scene: &mut Scene<'_>) {
        let spec = &self.blueprint.spec;
        let action = if ending == Ending::Gone { spec.on_crash } else { ending.action(spec) };
        match action {
            ExitAction::Restart => {
                let ran = scene.now.saturating_sub(self.since.unwrap_or_default());
                self.again = self.restart(ran, scene);
            }
            ExitAction::Destroy => self.count(ending, scene),
            ExitAction::Preserve => {
                // What is gone cannot be kept.
                if ending != Ending::Gone {
                    self.state = State::Preserved;
                    self.note(scene, Level::Info, format_args!("event=preserved"));
                }
                self.count(ending, scene);
            }
        }
    }

    fn count(&mut self, ending: Ending, scene: &mut Scene<'_>) {
        let critical = self.blueprint.spec.life.critical;
        // What somebody had destroyed is nobody's failure, unless the platform cannot do without it.
        if !ending.is_good() && (ending != Ending::Destroyed || critical) {
            scene.tally.bad += 1;
            scene.tally.lost |= critical;
        }
    }

    /// When it is to be built again after it ran for `ran` nanoseconds; `None` when it had all its restarts.
    fn restart(&mut self, ran: u64, scene: &mut Scene<'_>) -> Option<u64> {
        let life = &self.blueprint.spec.life;
        let limit = life.restart_limit;
        if let Some(delay) = self.row.count(life, ran) {
            self.restarts = self.restarts.saturating_add(1);
            let (row, delay_ms) = (self.row.restarts(), delay / 1_000_000);
            self.note(
                scene,
                Level::Info,
                format_args!("event=restarting restart={row}/{limit} in={delay_ms}ms"),
            );
            return Some(scene.now.saturating_add(delay));
        }
        let row = self.row.restarts();
        self.note(
            scene,
            Level::Error,
            format_args!("event=given-up restarts={row}: its restart_limit is reached"),
        );
        scene.tally.bad += 1;
        scene.tally.lost |= self.blueprint.spec.life.critical;
        None
    }

    /// Whether it was started once: those that start after it may, whatever became of it.
    pub(crate) fn was_started(&self) -> bool {
        self.since.is_some()
    }

    /// It is not wanted any more.
    pub(crate) fn stop(&mut self) {
        self.stop = true;
        if matches!(self.state, State::Due(_)) {
            self.state = State::Gone;
        }
    }

    /// The conversation with db-server is lost: nothing that was asked will be answered.
    pub(crate) fn disconnected(&mut self) {
        self.busy = None;
    }

    /// Puts right what was not heard while there was no conversation, by what db-server has listed.
    pub(crate) fn reconcile<'e>(
        &mut self,
        by_serial: impl Fn(u64) -> Option<&'e VmEntry>,
        by_name: impl Fn(&str) -> Option<&'e VmEntry>,
        scene: &mut Scene<'_>,
    ) {
        if self.state == State::Building {
            match by_name(self.name()) {
                // It was built, and nobody heard what of: once more.
                Some(entry) => {
                    self.identity = Some(Identity::from(entry));
                    self.again = Some(scene.now);
                    self.state = State::Destroying(scene.now);
                }
                None => self.state = if self.stop { State::Gone } else { State::Due(scene.now) },
            }
            return;
        }
        let Some(identity) = self.identity else { return };
        match (self.state, by_serial(identity.serial).map(|entry| entry.state)) {
            (State::Destroying(_) | State::Preserved, None) => self.gone(scene),
            (State::Destroying(_), Some(_)) => self.state = State::Destroying(scene.now),
            (State::Preserved, Some(_)) => {}
            (_, None | Some(VmState::Ended | VmState::Dying)) => {
                self.ended_by(Ending::Gone, EndReason::Destroyed, scene);
            }
            (State::Starting, Some(VmState::Paused)) => self.state = State::Paused,
            (State::Starting, Some(VmState::Running)) => self.started(scene),
            (State::Asking, Some(_)) => self.state = State::Running,
            _ => {}
        }
    }

    /// Enters something about it.
    fn note(&self, scene: &mut Scene<'_>, level: Level, what: core::fmt::Arguments<'_>) {
        let domid = self.domid().map_or(String::new(), |domid| format!(" domid={domid}"));
        scene.journal.enter_of(
            scene.is_clients,
            scene.now,
            level,
            format_args!("vm={}{domid} {what}", self.name()),
        );
    }
}
