//! What clients ask for, and when it is answered.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use log::Level;
use protocols::message::{
    ControlReply, ControlRequest, ControlVm, Failure, MAX_ENTRIES, MAX_JOURNAL_ENTRIES, Reason, VERSION,
    VmState,
};
use protocols::order::disorders;
use protocols::{BootSpec, PlatformSpec, control};

use crate::Control;
use crate::clients::{MAX_JOBS, failure};
use crate::platform_state::{Phase, PlatformState};
use crate::source::Blueprint;
use crate::total;
use crate::vm::{State, Vm};

/// The most VMs of all platforms together.
const MAX_VMS: usize = 512;
/// The most bytes that boot specs may have with those of clients. Each is kept three times in some form: a control domain of the usual size
/// has room for that beside its RAM disk.
const MAX_SPEC_BYTES: usize = 1 << 20;

/// What a client waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Awaited {
    PlatformCreated(String),
    VmCreated(String, usize),
    VmGone(String, usize),
    PlatformGone(String),
}

/// A request that is answered later.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) client: usize,
    pub(crate) life: u32,
    id: u32,
    awaited: Awaited,
}

/// What follows a request.
enum Reaction {
    Now(ControlReply),
    Later(Awaited),
}

impl Control<'_> {
    /// Deals with a request of a client.
    pub(crate) fn request(&mut self, client: usize, id: u32, request: ControlRequest, now: u64) {
        let reaction = self.react(client, request, now);
        let Some(session) = self.sessions.get_mut(client) else { return };
        match reaction {
            Ok(Reaction::Now(reply)) => session.answer(id, &reply),
            Ok(Reaction::Later(awaited)) => {
                self.jobs.push(Job { client, life: session.life, id, awaited });
            }
            Err(failure) => session.answer(id, &ControlReply::Failed(failure)),
        }
    }

    fn react(&mut self, client: usize, request: ControlRequest, now: u64) -> Result<Reaction, Failure> {
        self.check_right(client, &request)?;
        match request {
            ControlRequest::Hello { lowest, highest, name } => {
                self.hello(client, lowest..=highest, &name, now)
            }
            ControlRequest::CreatePlatform { name, specs } => self.create_platform(client, name, &specs, now),
            ControlRequest::CreateVm { platform, spec } => self.create_vm(client, &platform, &spec, now),
            ControlRequest::List { platform, skip } => {
                let vms = &self.visible(client, &platform)?.vms;
                let (vms, more) = page(vms.iter().map(member), skip, MAX_ENTRIES);
                Ok(Reaction::Now(ControlReply::Vms { vms, more }))
            }
            ControlRequest::MeasurePlatform { platform, skip } => {
                let measured = || {
                    self.visible(client, &platform)
                        .map(|platform| platform.vms.iter().filter_map(|vm| vm.measurement.as_ref()))
                };
                let total = total(measured()?);
                let (measurements, more) = page(measured()?.cloned(), skip, MAX_ENTRIES);
                Ok(Reaction::Now(ControlReply::Measured { measurements, more, total }))
            }
            ControlRequest::ReadJournal { first } => {
                let (entries, more) = page(self.journal.since(first), 0, MAX_JOURNAL_ENTRIES);
                Ok(Reaction::Now(ControlReply::Journal { entries, more }))
            }
            ControlRequest::ShutdownVm { platform, vm } => {
                let found = self.visible(client, &platform)?.find(&vm);
                let index = found.ok_or_else(|| {
                    failure(Reason::NoSuchVm, format_args!("platform {platform} has no VM {vm}"))
                })?;
                self.note(now, client, format_args!("shuts down vm={vm} of platform={platform}"));
                if let Some(vm) = self.platforms.get_mut(&platform).and_then(|found| found.vms.get_mut(index))
                {
                    vm.stop();
                }
                Ok(Reaction::Later(Awaited::VmGone(platform, index)))
            }
            ControlRequest::TerminatePlatform { platform } => {
                self.visible(client, &platform)?;
                self.note(now, client, format_args!("terminates platform={platform}"));
                if let Some(found) = self.platforms.get_mut(&platform) {
                    found.end(now, &mut self.journal, true, "a client wants it");
                    found.is_ended_by(self.sessions.get(client).map_or("", |session| &session.vm));
                }
                Ok(Reaction::Later(Awaited::PlatformGone(platform)))
            }
        }
    }

    /// Whether a client may ask this: who has said hello, has the right, and does not wait for too much already.
    fn check_right(&self, client: usize, request: &ControlRequest) -> Result<(), Failure> {
        let session = self.sessions.get(client);
        let session = session.ok_or_else(|| failure(Reason::NotPermitted, format_args!("no such client")))?;
        let (right, has_it) = match request {
            ControlRequest::Hello { .. } => return Ok(()),
            ControlRequest::CreatePlatform { .. } | ControlRequest::CreateVm { .. } => {
                ("create", session.may.create)
            }
            ControlRequest::List { .. } => ("list", session.may.list),
            ControlRequest::ShutdownVm { .. } => ("shutdown", session.may.shutdown),
            ControlRequest::TerminatePlatform { .. } => ("terminate", session.may.terminate),
            ControlRequest::MeasurePlatform { .. } => ("measure", session.may.measure),
            ControlRequest::ReadJournal { .. } => ("journal", session.may.journal),
        };
        if !session.is_greeted {
            return Err(failure(Reason::NoHello, format_args!("the first request has to be a hello")));
        }
        if !has_it {
            let detail = format_args!("VM {} lacks {right:?} in its `may` in the platform file", session.vm);
            return Err(failure(Reason::NotPermitted, detail));
        }
        let jobs = self.jobs.iter().filter(|job| job.client == client && job.life == session.life).count();
        if jobs >= MAX_JOBS {
            let detail =
                format_args!("{jobs} requests of this client are under way, at most {MAX_JOBS} may be");
            return Err(failure(Reason::Busy, detail));
        }
        Ok(())
    }

    fn hello(
        &mut self,
        client: usize,
        versions: core::ops::RangeInclusive<u16>,
        name: &str,
        now: u64,
    ) -> Result<Reaction, Failure> {
        if !versions.contains(&VERSION) {
            return Err(failure(
                Reason::Version,
                format_args!("this control domain speaks version {VERSION}"),
            ));
        }
        if let Some(session) = self.sessions.get_mut(client) {
            session.is_greeted = true;
            session.attempts.began(now);
        }
        self.note(now, client, format_args!("says hello as {name}"));
        Ok(Reaction::Now(ControlReply::Hello { version: VERSION, name: control::NAME.into() }))
    }

    /// A platform that a client may know of: the RAM disk's, or one that it has created.
    fn visible(&self, client: usize, platform: &str) -> Result<&PlatformState, Failure> {
        let found = self.platforms.get(platform);
        let found = found.filter(|found| found.owner.is_none_or(|owner| owner == client));
        found.ok_or_else(|| failure(Reason::NoSuchVm, format_args!("there is no platform {platform}")))
    }

    fn create_platform(
        &mut self,
        client: usize,
        name: String,
        specs: &[Vec<u8>],
        now: u64,
    ) -> Result<Reaction, Failure> {
        if self.platforms.contains_key(&name) {
            return Err(failure(Reason::Taken, format_args!("there is a platform {name} already")));
        }
        self.check_room(specs.iter().map(Vec::as_slice))?;
        let mut blueprints: Vec<Blueprint> = Vec::new();
        for bytes in specs {
            let blueprint = self.draw(bytes)?;
            if blueprints.iter().any(|other| other.spec.name == blueprint.spec.name) {
                let twice = format_args!("two VMs are called {}", blueprint.spec.name);
                return Err(failure(Reason::Taken, twice));
            }
            blueprints.push(blueprint);
        }
        let nodes: Vec<_> = blueprints
            .iter()
            .map(|blueprint| (blueprint.spec.name.as_str(), blueprint.spec.life.after.as_slice()))
            .collect();
        if let Some((index, error)) = disorders(&nodes).first() {
            let vm = nodes.get(*index).map_or("", |(name, _)| *name);
            return Err(failure(Reason::BadSpec, format_args!("VM {vm}: {error}")));
        }
        self.note(now, client, format_args!("creates platform={name} vms={}", blueprints.len()));
        let (settings, owner) = (PlatformSpec::default(), Some(client));
        let platform = PlatformState::new(name.clone(), owner, settings, blueprints, now, self.shutdown_time);
        self.platforms.insert(name.clone(), platform);
        Ok(Reaction::Later(Awaited::PlatformCreated(name)))
    }

    fn create_vm(&mut self, client: usize, name: &str, bytes: &[u8], now: u64) -> Result<Reaction, Failure> {
        let platform = self.visible(client, name)?;
        if !matches!(platform.phase, Phase::Building | Phase::Running) {
            return Err(failure(Reason::WrongState, format_args!("platform {name} is ending")));
        }
        self.check_room([bytes].into_iter())?;
        let blueprint = self.draw(bytes)?;
        let Some(platform) = self.platforms.get_mut(name) else {
            return Err(failure(Reason::NoSuchVm, format_args!("there is no platform {name}")));
        };
        let spec = &blueprint.spec;
        if platform.find(&spec.name).is_some() {
            let taken = format_args!("platform {name} has a VM {} already", spec.name);
            return Err(failure(Reason::Taken, taken));
        }
        if let Some(after) = spec.life.after.iter().find(|after| platform.find(after).is_none()) {
            let unknown = format_args!("VM {} starts after {after}, which platform {name} lacks", spec.name);
            return Err(failure(Reason::BadSpec, unknown));
        }
        let index = platform.vms.len();
        let vm = Vm::new(blueprint, now);
        let created = vm.name().to_string();
        platform.vms.push(vm);
        self.note(now, client, format_args!("creates vm={created} in platform={name}"));
        Ok(Reaction::Later(Awaited::VmCreated(name.into(), index)))
    }

    /// Whether there may be VMs of these specs besides.
    fn check_room<'s>(&self, specs: impl Iterator<Item = &'s [u8]>) -> Result<(), Failure> {
        if self.own_phase() != Some(Phase::Running) {
            let detail = format_args!("the control domain's own platform does not run yet, or is ending");
            return Err(failure(Reason::WrongState, detail));
        }
        let vms: usize = self.platforms.values().map(|platform| platform.vms.len()).sum();
        let all = self.platforms.values().flat_map(|platform| &platform.vms);
        let used: usize = all.map(|vm| vm.blueprint.wire.len()).sum();
        let (more, bytes) = specs.fold((0, 0), |(count, bytes), spec| (count + 1, bytes + spec.len()));
        if vms.saturating_add(more) > MAX_VMS {
            let detail = format_args!("{vms} VMs and {more} more: the control domain has room for {MAX_VMS}");
            return Err(failure(Reason::OverQuota, detail));
        }
        if used.saturating_add(bytes) > MAX_SPEC_BYTES {
            let detail = format_args!(
                "the boot specs of all VMs have {used} bytes, and {bytes} more are too many: the control domain keeps {MAX_SPEC_BYTES}; \
                 terminate a platform"
            );
            return Err(failure(Reason::OverQuota, detail));
        }
        Ok(())
    }

    /// What a VM is built of that a client sent the spec of.
    fn draw(&mut self, bytes: &[u8]) -> Result<Blueprint, Failure> {
        let spec = BootSpec::decode(bytes)
            .map_err(|error| failure(Reason::BadSpec, format_args!("{error}; compile it with domb")))?;
        if spec.life.ready.is_some() {
            let detail =
                format_args!("VM {}: the control domain does not see consoles: no `ready`", spec.name);
            return Err(failure(Reason::BadSpec, detail));
        }
        self.drawing.draw(spec, bytes, false)
    }

    /// Answers what can be answered by now.
    pub(crate) fn resolve(&mut self) {
        let jobs = core::mem::take(&mut self.jobs);
        for job in jobs {
            let platform = match &job.awaited {
                Awaited::PlatformCreated(name)
                | Awaited::VmCreated(name, _)
                | Awaited::VmGone(name, _)
                | Awaited::PlatformGone(name) => self.platforms.get(name),
            };
            match (answer(&job.awaited, platform), self.sessions.get_mut(job.client)) {
                (None, _) => self.jobs.push(job),
                (Some(reply), Some(session)) if session.life == job.life && !session.is_dropped => {
                    session.answer(job.id, &reply);
                }
                _ => {}
            }
        }
    }

    /// Enters what a client does.
    pub(crate) fn note(&mut self, now: u64, client: usize, what: core::fmt::Arguments<'_>) {
        let vm = self.sessions.get(client).map_or("", |session| session.vm.as_str());
        self.journal.enter_of(true, now, Level::Info, format_args!("client={vm} {what}"));
    }
}

/// The answer to what is awaited of a platform, if it can be given.
fn answer(awaited: &Awaited, platform: Option<&PlatformState>) -> Option<ControlReply> {
    let Some(platform) = platform else {
        // It has ended, and was forgotten.
        return Some(match awaited {
            Awaited::VmGone(..) | Awaited::PlatformGone(_) => ControlReply::Done,
            Awaited::PlatformCreated(name) | Awaited::VmCreated(name, _) => {
                ControlReply::Failed(failure(Reason::WrongState, format_args!("platform {name} has ended")))
            }
        });
    };
    match awaited {
        Awaited::PlatformCreated(_) => platform_created(platform),
        Awaited::VmCreated(_, index) => vm_created(platform.vms.get(*index)?),
        Awaited::VmGone(_, index) => {
            (platform.vms.get(*index)?.state == State::Gone).then_some(ControlReply::Done)
        }
        Awaited::PlatformGone(_) => platform.is_over_for_asker().then_some(ControlReply::Done),
    }
}

fn platform_created(platform: &PlatformState) -> Option<ControlReply> {
    let is_coming = |vm: &Vm| {
        vm.restarts == 0
            && matches!(vm.state, State::Due(_) | State::Building | State::Paused | State::Starting)
    };
    match platform.phase {
        Phase::Building => None,
        Phase::Running if platform.vms.iter().any(is_coming) => None,
        Phase::Running => {
            Some(ControlReply::PlatformCreated { vms: u32::try_from(platform.vms.len()).unwrap_or(u32::MAX) })
        }
        Phase::Ending | Phase::Ended => {
            let ended = || failure(Reason::WrongState, format_args!("platform {} has ended", platform.name));
            Some(ControlReply::Failed(platform.failure.clone().unwrap_or_else(ended)))
        }
    }
}

fn vm_created(vm: &Vm) -> Option<ControlReply> {
    if let Some(failure) = &vm.failure {
        return Some(ControlReply::Failed(failure.clone()));
    }
    match (vm.state, vm.domid()) {
        (State::Running | State::Preserved, Some(domid)) => Some(ControlReply::VmCreated { domid }),
        (State::Gone, _) => {
            let ended = failure(Reason::WrongState, format_args!("VM {} has ended already", vm.name()));
            Some(ControlReply::Failed(ended))
        }
        _ => None,
    }
}

/// A VM as clients see it.
fn member(vm: &Vm) -> ControlVm {
    let state = match vm.state {
        State::Due(_) | State::Building | State::Gone => None,
        State::Paused | State::Starting => Some(VmState::Paused),
        State::Running | State::Asking | State::Stopping(_) => Some(VmState::Running),
        State::Destroying(_) => Some(VmState::Dying),
        State::Preserved => Some(VmState::Ended),
    };
    ControlVm { name: vm.name().into(), domid: vm.domid(), state, restarts: vm.restarts }
}

/// At most `most` entries behind the first `skip`, and whether more follow.
fn page<T>(entries: impl Iterator<Item = T>, skip: u32, most: usize) -> (Vec<T>, bool) {
    let mut entries = entries.skip(usize::try_from(skip).unwrap_or(usize::MAX));
    let page: Vec<T> = entries.by_ref().take(most).collect();
    (page, entries.next().is_some())
}
