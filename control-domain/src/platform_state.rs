//! One platform: which of its VMs are built, started and stopped, and when it is over.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use log::Level;
use platform::{StartOrder, is_over};
use protocols::PlatformSpec;
use protocols::message::{Failure, Reason};
use protocols::platform::{Ends, Policy};

use crate::journal::Journal;
use crate::source::Blueprint;
use crate::vm::{End, Scene, State, Tally, Vm, Want};

/// How far a platform is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Its VMs are being built; none runs.
    Building,
    Running,
    /// All are being stopped.
    Ending,
    Ended,
}

/// How a platform ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Well,
    /// A VM ended badly.
    Badly,
    /// A VM could not be built or started.
    Incomplete,
}

/// A platform.
#[derive(Debug)]
pub(crate) struct PlatformState {
    pub(crate) name: String,
    /// The client that created it; none for the platform in the RAM disk.
    pub(crate) owner: Option<usize>,
    pub(crate) vms: Vec<Vm>,
    pub(crate) phase: Phase,
    /// Why it was not started.
    pub(crate) failure: Option<Failure>,
    settings: PlatformSpec,
    order: StartOrder<String>,
    tally: Tally,
    /// Ends that nobody was told of yet.
    ends: Vec<End>,
    shutdown_time: u64,
    /// A VM of it that has asked for its end, and is to be told of it: the last one to go.
    asker: Option<String>,
}

impl PlatformState {
    /// A platform whose VMs get `shutdown_time` nanoseconds to power off.
    pub(crate) fn new(
        name: String,
        owner: Option<usize>,
        settings: PlatformSpec,
        blueprints: Vec<Blueprint>,
        now: u64,
        shutdown_time: u64,
    ) -> Self {
        Self {
            name,
            owner,
            vms: blueprints.into_iter().map(|blueprint| Vm::new(blueprint, now)).collect(),
            phase: Phase::Building,
            failure: None,
            settings,
            order: StartOrder::default(),
            tally: Tally::default(),
            ends: Vec::new(),
            shutdown_time,
            asker: None,
        }
    }

    /// A VM of it, with what its life takes place in.
    pub(crate) fn scene<'s>(
        &'s mut self,
        index: usize,
        now: u64,
        journal: &'s mut Journal,
    ) -> Option<(&'s mut Vm, Scene<'s>)> {
        let Self { vms, tally, ends, shutdown_time, owner, .. } = self;
        let is_clients = owner.is_some();
        let scene = Scene { now, journal, tally, ends, shutdown_time: *shutdown_time, is_clients };
        Some((vms.get_mut(index)?, scene))
    }

    /// The VM called `name`.
    pub(crate) fn find(&self, name: &str) -> Option<usize> {
        self.vms.iter().position(|vm| vm.name() == name)
    }

    /// The ends since this was asked before.
    pub(crate) fn take_ends(&mut self) -> Vec<End> {
        core::mem::take(&mut self.ends)
    }

    /// How it ended, or would.
    pub(crate) fn outcome(&self) -> Outcome {
        match self.tally {
            Tally { missing: 1.., .. } => Outcome::Incomplete,
            Tally { bad: 1.., .. } => Outcome::Badly,
            _ => Outcome::Well,
        }
    }

    /// What is to be asked for its VMs now, in the order in which it is: the last started first when they are stopped.
    pub(crate) fn wants(&self, now: u64) -> Vec<(usize, Want)> {
        // A VM is stopped when nobody is left who started after it.
        let needed: BTreeSet<&str> = if self.phase == Phase::Ending {
            let left = self.vms.iter().filter(|vm| vm.is_left() && !self.is_asker(vm));
            left.flat_map(|vm| &vm.blueprint.spec.life.after).map(String::as_str).collect()
        } else {
            BTreeSet::new()
        };
        // db-server gives ids to VMs that ask for none: those that do have theirs first.
        let is_unbuilt = |vm: &Vm| matches!(vm.state, State::Due(_) | State::Building) && !vm.stop;
        let fixes = |vm: &Vm| vm.blueprint.spec.domid.is_some();
        let fixed_first =
            self.phase == Phase::Building && self.vms.iter().any(|vm| fixes(vm) && is_unbuilt(vm));
        let is_early = |vm: &Vm, want| want == Want::Build && fixed_first && !fixes(vm);
        let may_stop = |vm: &Vm| !(needed.contains(vm.name()) || self.is_asker(vm) && self.others_remain());
        let want = |(index, vm): (usize, &Vm)| {
            let want = vm.want(now, may_stop(vm)).filter(|want| !is_early(vm, *want))?;
            Some((index, want))
        };
        let mut wants: Vec<_> = self.vms.iter().enumerate().filter_map(want).collect();
        if self.phase == Phase::Ending {
            wants.reverse();
        }
        wants
    }

    /// When something is to be asked that is not to be asked yet.
    pub(crate) fn deadlines(&self) -> impl Iterator<Item = u64> {
        self.vms.iter().filter_map(Vm::deadline)
    }

    /// Moves on as far as its VMs allow.
    pub(crate) fn settle(&mut self, now: u64, journal: &mut Journal) {
        if self.phase == Phase::Building {
            self.leave_building(now, journal);
        }
        if self.phase == Phase::Running {
            self.release(now, journal);
            self.end_if_over(now, journal);
        }
        if self.phase == Phase::Ending {
            self.leave_to_asker(now, journal);
        }
        if self.phase == Phase::Ending && !self.vms.iter().any(Vm::remains) {
            self.phase = Phase::Ended;
            let (level, word) = match self.outcome() {
                Outcome::Well => (Level::Info, "success"),
                Outcome::Badly => (Level::Error, "vm-failed"),
                Outcome::Incomplete => (Level::Error, "not-built"),
            };
            let preserved = self.vms.iter().filter(|vm| vm.state == State::Preserved).count();
            let (name, vms) = (&self.name, self.vms.len());
            journal.enter_of(
                self.owner.is_some(),
                now,
                level,
                format_args!("platform={name} event=ended status={word} vms={vms} preserved={preserved}"),
            );
        }
    }

    /// All VMs are built before any is started; what follows when one cannot be is the platform's policy.
    fn leave_building(&mut self, now: u64, journal: &mut Journal) {
        let refused = self.tally.lost || self.settings.policy == Policy::All && self.tally.missing > 0;
        if refused {
            self.failure = self.vms.iter().find_map(|vm| vm.failure.clone());
            self.end(now, journal, true, "a VM could not be built");
        } else if !self.vms.iter().any(|vm| matches!(vm.state, State::Due(_) | State::Building)) {
            self.phase = Phase::Running;
            let (name, vms) = (&self.name, self.vms.len());
            let missing = self.tally.missing;
            journal.enter_of(
                self.owner.is_some(),
                now,
                Level::Info,
                format_args!("platform={name} event=built vms={vms} missing={missing}"),
            );
        }
    }

    /// Starts those whose turn has come, and gives up those that wait for one which never will start.
    fn release(&mut self, now: u64, journal: &mut Journal) {
        for vm in &mut self.vms {
            if vm.state == State::Paused && !vm.ordered && !vm.stop {
                vm.ordered = true;
                self.order.hold(vm.name().into(), &vm.blueprint.spec.life.after);
            }
            if vm.was_started() {
                self.order.note(vm.name());
            }
        }
        while let Some(name) = self.order.next_ready() {
            if let Some(vm) = self.vms.iter_mut().find(|vm| vm.name() == name) {
                vm.released = true;
            }
        }
        if self.order.count() == 0 {
            return;
        }
        let coming: BTreeSet<&str> =
            self.vms.iter().filter(|vm| vm.is_left() && !vm.stop).map(Vm::name).collect();
        let mut lost = self.order.hopes_lost(&coming);
        while let Some(after) = lost.pop() {
            for name in self.order.waiting_for(&after) {
                let Some(index) = self.find(&name) else { continue };
                let Some((vm, mut scene)) = self.scene(index, now, journal) else { continue };
                let detail = format!("VM {name} starts after {after}, which did not start");
                vm.give_up(Failure { reason: Reason::WrongState, detail }, &mut scene);
                lost.push(name);
            }
        }
    }

    /// Enters that the VM `vm`, if it is one of this platform, has asked for its end. Who asks while the first that has asked is still
    /// there is stopped like the others.
    pub(crate) fn is_ended_by(&mut self, vm: &str) {
        let has_asker = self.vms.iter().any(|vm| vm.remains() && self.is_asker(vm));
        if self.phase == Phase::Ending && !has_asker && self.find(vm).is_some() {
            self.asker = Some(vm.into());
        }
    }

    /// Whether nothing is left of it but perhaps the VM that has asked for its end.
    pub(crate) fn is_over_for_asker(&self) -> bool {
        self.phase == Phase::Ended || self.phase == Phase::Ending && !self.others_remain()
    }

    fn is_asker(&self, vm: &Vm) -> bool {
        self.asker.as_deref() == Some(vm.name())
    }

    fn others_remain(&self) -> bool {
        self.vms.iter().any(|vm| vm.remains() && !self.is_asker(vm))
    }

    /// The VM that has asked for the end has its answer when it is the last: it knows what follows, and has its time to power off.
    fn leave_to_asker(&mut self, now: u64, journal: &mut Journal) {
        if self.others_remain() {
            return;
        }
        let Some(index) = self.asker.as_deref().and_then(|asker| self.find(asker)) else { return };
        if let Some((vm, mut scene)) = self.scene(index, now, journal) {
            vm.leave_to_itself(&mut scene);
        }
    }

    fn end_if_over(&mut self, now: u64, journal: &mut Journal) {
        let is_held = |vm: &&Vm| vm.ordered && !vm.released;
        let left = self.vms.iter().filter(|vm| vm.is_left());
        let life = |vm: &'_ Vm| vm.blueprint.spec.life.clone();
        let (held, running): (Vec<&Vm>, Vec<&Vm>) = left.partition(is_held);
        let (held, running): (Vec<_>, Vec<_>) =
            (held.into_iter().map(life).collect(), running.into_iter().map(life).collect());
        let named = match &self.settings.ends {
            Ends::With(names) => {
                self.vms.iter().find(|vm| !vm.is_left() && names.iter().any(|name| name == vm.name()))
            }
            _ => None,
        };
        let why = if self.tally.lost {
            "a critical VM is lost"
        } else if named.is_some() {
            "a VM has ended whose end ends it"
        } else if is_over(&self.settings.ends, running.iter(), held.iter()) {
            "nothing is left to look after"
        } else {
            return;
        };
        self.end(now, journal, false, why);
    }

    /// Begins to stop it. VMs that are preserved stay, unless they are to go too.
    pub(crate) fn end(&mut self, now: u64, journal: &mut Journal, with_preserved: bool, why: &str) {
        if matches!(self.phase, Phase::Ended) {
            return;
        }
        if self.phase != Phase::Ending {
            let what = format_args!("platform={} event=ending: {why}", self.name);
            journal.enter_of(self.owner.is_some(), now, Level::Info, what);
            self.phase = Phase::Ending;
        }
        for vm in &mut self.vms {
            if with_preserved || vm.state != State::Preserved {
                vm.stop();
            }
        }
    }
}
