//! Looking after running VMs: relaying consoles, seeing VMs end, taking their memory back, starting them again.

use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;

use domain_builder::BuildError;
use event_channel::{LocalPort, Offer, wait};
use hypercall::{CallError, FrameWindow, RawHypercall, Xen};
use platform::{Ending, Row};
use protocols::PlatformSpec;
use thiserror::Error;
use xen_abi::domctl::DomainState;
use xen_abi::event_channel::VIRQ_DOM_EXC;
use xen_abi::{DomId, Port, VcpuId};

use crate::build::{BuiltVm, build_vm};
use crate::guest_store::GuestStore;
use crate::held::Held;
use crate::keyboard::Typed;
use crate::operator::{Operator, view};
use crate::refused::log_failure;
use crate::restart::Waiting;
use crate::running::{Console, Owner, Running};
use crate::screen::OpenLine;
use crate::service::{Fate, News, Service};
use crate::shutdown::Stopping;
use crate::store::Store;
use crate::usage::Usage;
use crate::{ConsoleRing, Environment, LineBuffer, PlannedVm, VmError};

/// How long to wait before asking again for a VM that Xen gave no answer for, or for all where Xen does not announce ends:
/// 100 ms, in nanoseconds.
const ASK_AGAIN_DELAY: u64 = 100_000_000;

/// How long destroyed domains get to disappear before the free memory is looked at: 2 s, in nanoseconds.
const VANISH_TIME: u64 = 2_000_000_000;

/// How long Xen may take from its last answer for a domain to freeing the last of it: 20 ms, in nanoseconds.
const FREEING_TIME: u64 = 20_000_000;

/// Why a VM cannot be looked after, so that it is not started.
#[derive(Debug, Error)]
pub enum AttachError {
    /// Its console's port or its start was refused.
    #[error("step=start: {0}")]
    Call(#[from] CallError),
    /// Its console's page could not be mapped.
    #[error("step=start: {0}")]
    Window(#[from] hypercall::WindowError),
    /// It could not be started.
    #[error("{0}")]
    Build(#[from] BuildError),
    /// It could not be given its XenStore.
    #[error("step=start: its XenStore: {0}")]
    Store(xenstore::StoreError),
    /// It could not be planned again.
    #[error("{0}")]
    Plan(#[from] VmError),
}

/// How a VM that is built is to begin.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Begin {
    /// The restarts that led to it.
    pub(crate) row: Row,
    /// Whose it is.
    pub(crate) owner: Owner,
    /// Whether it stays paused.
    pub(crate) is_paused: bool,
}

/// The VMs that run, and what happened to those that do not any more.
pub(crate) struct Supervisor<'e, 'x, H: RawHypercall, W: FrameWindow> {
    pub(crate) environment: &'e mut Environment<'x, H, W>,
    pub(crate) settings: Rc<PlatformSpec>,
    /// Where ends of VMs are announced; without, as another VM hears of them, the VMs are looked at every now and then.
    exits: Option<LocalPort<'x, H>>,
    /// Whoever types at Xen's console, if that is listened to.
    pub(crate) operator: Option<Operator<'x, H>>,
    pub(crate) running: Vec<Running<'x, H, W::Shared>>,
    /// VMs that start after others.
    pub(crate) held: Held<'x, H>,
    /// What VMs are built from that are started again.
    pub(crate) store: Store,
    /// VMs that will be started again.
    pub(crate) waiting: Vec<Waiting>,
    /// What the service is to hear of.
    pub(crate) news: VecDeque<News>,
    /// When to say what is in use.
    pub(crate) usage: Usage,
    /// When to look at the VMs again although none is announced to have ended.
    ask_again: Option<u64>,
    pub(crate) bad: usize,
    /// VMs that are kept although they ended.
    pub(crate) preserved: Vec<(String, DomId)>,
    /// A VM could not be started.
    missing: bool,
    /// Domains that Xen agreed to destroy and still holds on to at the end.
    lingering: usize,
    /// A critical VM has ended badly, or could not be started.
    pub(crate) lost: bool,
    /// A VM has ended whose end ends the platform.
    pub(crate) ended: bool,
    /// Whether the platform is over, and its VMs are being stopped.
    pub(crate) stopping: Stopping,
}

impl<'e, 'x, H: RawHypercall, W: FrameWindow> Supervisor<'e, 'x, H, W> {
    /// A supervisor of nothing yet, which hears of domains that end, unless Xen will tell one of the VMs in its place.
    pub(crate) fn new(
        environment: &'e mut Environment<'x, H, W>,
        settings: Rc<PlatformSpec>,
        hears: bool,
    ) -> Result<Self, CallError> {
        let bind = || LocalPort::bind_virq(environment.xen, VIRQ_DOM_EXC, VcpuId::BOOT);
        let exits = hears.then(bind).transpose()?;
        Ok(Self {
            environment,
            settings,
            exits,
            operator: None,
            running: Vec::new(),
            held: Held::default(),
            store: Store::default(),
            waiting: Vec::new(),
            news: VecDeque::new(),
            usage: Usage::default(),
            ask_again: None,
            bad: 0,
            preserved: Vec::new(),
            missing: false,
            lingering: 0,
            lost: false,
            ended: false,
            stopping: Stopping::No,
        })
    }

    pub(crate) fn xen(&self) -> &'x Xen<H> {
        self.environment.xen
    }

    /// Connects to the console of a built VM and starts it.
    pub(crate) fn start(&mut self, built: BuiltVm<'x, H>) -> Result<(), AttachError> {
        self.attach(built, Begin::default()).map(|_| ())
    }

    /// The same, begun as `begin` says; gives back the domain.
    pub(crate) fn attach(&mut self, built: BuiltVm<'x, H>, begin: Begin) -> Result<DomId, AttachError> {
        let BuiltVm { vm, mut domain } = built;
        let offer = Offer { domain: domain.domid(), port: domain.console() };
        let page = match vm.console {
            None => Some(self.environment.window.map_shared(offer.domain, &[domain.console_frame()])?),
            Some(_) => None,
        };
        let store = match domain.store().filter(|_| vm.own_store) {
            Some(place) => Some(GuestStore::new(self.environment, &vm, offer.domain, place)?),
            None => None,
        };
        domain.give_label()?;
        let console = match page {
            Some(page) => Some(Console {
                port: offer.connect(self.xen())?,
                ring: ConsoleRing::new(page),
                has_spoken: false,
            }),
            None => None,
        };
        let Begin { row, owner, is_paused } = begin;
        let domid = if is_paused { domain.stay_paused()? } else { domain.start()? }.domid;
        let event = if is_paused { "paused" } else { "started" };
        log::info!("vm={} domid={domid} event={event}", vm.spec.name);
        self.running.push(Running {
            is_ready: vm.spec.life.ready.is_none(),
            vm,
            domid,
            since: self.time(),
            row,
            console,
            store,
            line: LineBuffer::default(),
            open_since: None,
            open: OpenLine::default(),
            typed: Typed::default(),
            is_paused,
            owner,
            is_late: false,
            asked: None,
        });
        self.usage.count(self.environment);
        Ok(domid)
    }

    /// System time, in nanoseconds.
    pub(crate) fn time(&self) -> u64 {
        (self.environment.now)()
    }

    /// VMs that ended other than they should.
    pub(crate) fn bad_endings(&self) -> usize {
        self.bad
    }

    /// Domains that Xen did not destroy: their memory is lost until the machine ends.
    pub(crate) fn leaked(&self) -> usize {
        self.lingering.saturating_add(self.xen().leaked())
    }

    /// Whether a VM that was built could not be started, as one that it starts after never was ready.
    pub(crate) fn is_missing_one(&self) -> bool {
        self.missing
    }

    /// Enters a VM that could not be started.
    pub(crate) fn count_missing(&mut self, vm: &PlannedVm) {
        self.missing = true;
        if vm.spec.life.critical {
            log::error!("vm={} event=critical: it was not started, and the platform ends", vm.spec.name);
            self.lost = true;
        }
        self.note_end(vm);
    }

    /// Looks after the VMs until the last has ended and none is to be started again, or until a critical one is lost.
    pub(crate) fn run(&mut self, service: &mut dyn Service<'x, H, W>) -> Result<(), CallError> {
        // What happened between a VM's start and now is not announced again.
        self.reap();
        self.release();
        while !self.is_over() {
            self.turn(service)?;
        }
        self.end_service(service);
        self.stop()?;
        self.destroy_all();
        Ok(())
    }

    /// Deals with what has happened, and waits for more unless that ends the platform.
    pub(crate) fn turn(&mut self, service: &mut dyn Service<'x, H, W>) -> Result<(), CallError> {
        self.relay_consoles();
        let stores_wait = self.serve_stores();
        self.hear();
        self.release();
        let is_done = match self.stopping {
            Stopping::No => self.is_over(),
            Stopping::InOrder => false,
            Stopping::AtOnce => true,
        };
        if is_done {
            return Ok(());
        }
        self.settle_keyboard();
        let has_more = self.serve(service);
        let ports = self.ports(service);
        let events = self.environment.events;
        let refresh = self.refresh_due();
        let deadline = self.deadline().into_iter().chain(refresh).chain(service.deadline()).min();
        if !has_more && !stores_wait {
            wait(self.xen(), events, &ports, deadline, self.environment.now)?;
        }
        if refresh.is_some_and(|time| time <= self.time()) {
            self.refresh();
        }
        self.show_prompts();
        if self.stopping == Stopping::No {
            self.note_late();
        }
        self.note_unheard();
        let asked_again = self.ask_again.is_some_and(|time| time <= self.time());
        let announced = self.exits.as_ref().is_some_and(|exits| events.take(exits.port()));
        if announced || asked_again {
            self.reap();
        }
        self.restart_due();
        self.release();
        Ok(())
    }

    /// When to wake up although nothing has happened; never, if there is nothing to do then.
    fn deadline(&self) -> Option<u64> {
        let restarts = self.waiting.iter().map(Waiting::due);
        let times = self.prompt_deadline().into_iter().chain(self.ask_again).chain(self.late_deadline());
        times.chain(restarts).chain(self.power_off_deadline()).min()
    }

    /// Starts none again of those that have ended, and none of those that have not started.
    pub(crate) fn cancel_starts(&mut self) {
        for waiting in self.waiting.drain(..) {
            log::info!("vm={} event=restart-cancelled", waiting.vm.spec.name);
        }
        self.held.take_back();
    }

    /// Destroys every VM that still runs, and starts none again.
    pub(crate) fn destroy_all(&mut self) {
        self.cancel_starts();
        while let Some(vm) = self.running.pop() {
            if vm.is_served() {
                self.destroy_running(vm)
            } else {
                self.destroy(vm)
            };
        }
    }

    /// Waits until the destroyed domains are gone, so that their memory is free; gives up after a while.
    ///
    /// Xen announces each domain twice: when it has ended, and when the last of it was freed, shortly after it has
    /// stopped answering for it.
    pub(crate) fn wait_until_gone(&mut self) {
        let last = self.time().saturating_add(VANISH_TIME);
        let xen = self.xen();
        loop {
            let going = xen.going();
            let gone = going.is_empty();
            let exits = self.exits.as_ref().map(LocalPort::port);
            let soon = self.time().saturating_add(FREEING_TIME);
            let deadline = if gone || exits.is_none() { soon } else { last };
            let events = self.environment.events;
            let waited = wait(xen, events, exits.as_slice(), Some(deadline), self.environment.now);
            let announced = exits.is_some_and(|exits| events.take(exits));
            if gone && !announced {
                return;
            }
            if waited.is_err() || self.time() >= last {
                if !gone {
                    for domid in &going {
                        log_lingering(xen, *domid);
                    }
                    self.lingering += going.len();
                }
                return;
            }
        }
    }

    /// All ports that news come by.
    fn ports(&self, service: &dyn Service<'x, H, W>) -> Vec<Port> {
        let mut ports = Vec::new();
        ports.extend(self.exits.as_ref().map(LocalPort::port));
        ports.extend(self.operator.as_ref().map(|operator| operator.port().port()));
        ports.extend(self.running.iter().filter_map(Running::port));
        ports.extend(self.running.iter().filter_map(|vm| vm.store.as_ref()).map(GuestStore::port));
        service.ports(&mut ports);
        ports
    }

    /// Relays what guests have written.
    fn relay_consoles(&mut self) {
        let (events, now) = (self.environment.events, self.time());
        let (operator, cursor) = (self.operator.as_ref(), self.environment.cursor);
        for vm in &mut self.running {
            if vm.port().is_some_and(|port| events.take(port)) {
                vm.relay(self.environment.xen, now, view(operator, cursor, &vm.vm.spec.name));
                vm.feed();
            }
        }
    }

    /// When to show a line that was begun; never, if none was.
    fn prompt_deadline(&self) -> Option<u64> {
        self.running.iter().filter_map(Running::prompt_deadline).min()
    }

    /// Shows lines that were begun a while ago: their guests are waiting for something.
    fn show_prompts(&mut self) {
        let now = self.time();
        let (operator, cursor) = (self.operator.as_ref(), self.environment.cursor);
        for vm in &mut self.running {
            if vm.prompt_deadline().is_some_and(|deadline| deadline <= now) {
                vm.flush(self.environment.xen, view(operator, cursor, &vm.vm.spec.name));
            }
        }
    }

    /// Looks at every VM and deals with those that have ended. When Xen gives no answer for one it is asked again later:
    /// the end may have been announced already, and is not announced twice.
    fn reap(&mut self) {
        let nobody_tells = self.exits.is_none();
        self.ask_again = nobody_tells.then(|| self.time().saturating_add(ASK_AGAIN_DELAY));
        let mut index = 0;
        while let Some(vm) = self.running.get(index) {
            match ending(self.environment.xen, vm.domid) {
                Ok(None) => index += 1,
                Ok(Some(ending)) => {
                    let vm = self.running.remove(index);
                    self.end(vm, ending);
                }
                Err(error) => {
                    log::warn!("vm={} domid={} {error}", vm.name(), vm.domid);
                    self.ask_again = Some(self.time().saturating_add(ASK_AGAIN_DELAY));
                    index += 1;
                }
            }
        }
    }

    /// Relays the last that a VM has written.
    pub(crate) fn hear_out(&mut self, vm: &mut Running<'x, H, W::Shared>) {
        let view = view(self.operator.as_ref(), self.environment.cursor, vm.name());
        vm.relay(self.xen(), self.time(), view);
        vm.flush(self.xen(), view);
        if view.is_raw {
            vm.release_screen(self.xen(), view.cursor);
        }
        if vm.is_ready && !vm.is_served() {
            self.held.note(&vm.vm, vm.is_late);
        }
        let unread = vm.typed.waiting.len();
        if unread > 0 {
            log::warn!(
                "vm={} event=input-lost bytes={unread}: it did not read them before it ended",
                vm.name()
            );
        }
    }

    /// Makes up a time for the next restart of a VM that is destroyed, or was not completed, after it ran for `ran` nanoseconds.
    pub(crate) fn restart_later(&mut self, vm: Rc<PlannedVm>, mut row: Row, ran: u64, before: Option<DomId>) {
        let (name, life) = (&vm.spec.name, &vm.spec.life);
        let Some(delay) = row.count(life, ran) else {
            log::error!("vm={name} event=given-up restarts={}: its restart_limit is reached", row.restarts());
            return self.count_bad(&vm);
        };
        let (restart, limit) = (row.restarts(), life.restart_limit);
        log::info!("vm={name} event=restarting restart={restart}/{limit} in={}ms", delay / 1_000_000);
        self.waiting.push(Waiting::new(vm, row, before, self.time().saturating_add(delay)));
    }

    /// Builds and starts the VMs again whose time has come.
    fn restart_due(&mut self) {
        let (xen, now) = (self.xen(), self.time());
        let ready = |waiting: &mut Waiting| waiting.is_ready(now, |domid| xen.is_gone(domid));
        let due: Vec<_> = self.waiting.extract_if(.., ready).collect();
        for Waiting { vm, row, .. } in due {
            if let Err(error) = self.restart(&vm, row) {
                log_failure(self.xen(), &vm.spec.name, &error);
                self.restart_later(vm, row, 0, None);
            }
        }
    }

    /// Builds and starts a VM again.
    fn restart(&mut self, vm: &Rc<PlannedVm>, row: Row) -> Result<(), AttachError> {
        let built = build_vm(self.environment, vm, &self.store.recipe(vm)?)?;
        self.attach(built, Begin { row, ..Begin::default() }).map(|_| ())
    }

    /// Lets go of a VM's rings and destroys it: a mapping that is left would keep the domain's memory from Xen. Says whether
    /// Xen agreed.
    pub(crate) fn destroy(&mut self, vm: Running<'x, H, W::Shared>) -> Fate {
        let Running { vm, domid, console, store, .. } = vm;
        drop((console, store));
        self.destroy_domain(&vm.spec.name, domid)
    }

    /// Destroys a domain of which the builder has nothing mapped.
    pub(crate) fn destroy_domain(&mut self, name: &str, domid: DomId) -> Fate {
        let result = self.xen().clear_away(domid);
        self.note_fate(name, domid, result)
    }

    /// Tells what came of destroying a domain.
    fn note_fate(&self, name: &str, domid: DomId, result: Result<(), CallError>) -> Fate {
        match result {
            Ok(()) => {
                log::info!("vm={name} domid={domid} event=destroyed");
                Fate::Destroyed
            }
            Err(error) => {
                log::error!("vm={name} domid={domid} event=leaked {}", self.xen().note_leak(error));
                Fate::Leaked
            }
        }
    }
}

/// Tells of a domain that was destroyed and stays.
fn log_lingering<H: RawHypercall>(xen: &Xen<H>, domid: DomId) {
    let kept = xen.kept_by(domid).unwrap_or_default().raw().saturating_mul(4);
    log::error!(
        "domid={domid} event=lingering memory={kept}KiB: Xen still holds on to it; does another VM use its memory?"
    );
}

/// How a domain ended, if it has. One that is dying was destroyed by somebody else, and goes no further while its console is mapped here;
/// if it had ended before, that is its end.
fn ending<H: RawHypercall>(xen: &Xen<H>, domid: DomId) -> Result<Option<Ending>, CallError> {
    let Some(info) = xen.find_domain(domid)? else { return Ok(Some(Ending::Gone)) };
    let gone = info.state().contains(DomainState::DYING).then_some(Ending::Gone);
    Ok(info.shutdown_reason().map(Ending::from_reason).or(gone))
}
