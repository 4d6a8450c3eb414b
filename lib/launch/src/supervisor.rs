//! Looking after running VMs: relaying consoles, seeing VMs end, taking their memory back.

use alloc::string::String;
use alloc::vec::Vec;

use event_channel::{LocalPort, Offer, wait};
use hypercall::{CallError, FrameWindow, RawHypercall, Xen};
use protocols::{BootSpec, ExitAction};
use thiserror::Error;
use xen_abi::domctl::DomainState;
use xen_abi::event_channel::VIRQ_DOM_EXC;
use xen_abi::{DomId, Errno, Port, VcpuId};

use crate::build::BuiltVm;
use crate::{ConsoleRing, Ending, Environment, LineBuffer};

/// How long a line without an end, such as a prompt, waits for the rest of it: 200 ms, in nanoseconds.
const PROMPT_DELAY: u64 = 200_000_000;

/// How long to wait before asking again for a VM that Xen gave no answer for: 100 ms, in nanoseconds.
const ASK_AGAIN_DELAY: u64 = 100_000_000;

/// How long destroyed domains get to disappear before the free memory is looked at: 2 s, in nanoseconds.
const VANISH_TIME: u64 = 2_000_000_000;

/// How long Xen may take from its last answer for a domain to freeing the last of it: 20 ms, in nanoseconds.
const FREEING_TIME: u64 = 20_000_000;

/// Why a VM cannot be looked after, so that it is not started.
#[derive(Debug, Error)]
pub(crate) enum AttachError {
    /// Its console's port or its start was refused.
    #[error("step=start: {0}")]
    Call(#[from] CallError),
    /// Its console's page could not be mapped.
    #[error("step=start: {0}")]
    Window(#[from] hypercall::WindowError),
    /// It could not be started.
    #[error("{0}")]
    Build(#[from] domain_builder::BuildError),
}

/// A VM that runs.
struct Running<'x, H: RawHypercall, S> {
    name: String,
    domid: DomId,
    actions: [(Ending, ExitAction); 3],
    port: LocalPort<'x, H>,
    ring: ConsoleRing<S>,
    line: LineBuffer,
    /// When the line was begun that is not ended yet.
    open_since: Option<u64>,
}

/// The VMs that run, and what happened to those that do not any more.
pub(crate) struct Supervisor<'e, 'x, H: RawHypercall, W: FrameWindow> {
    environment: &'e mut Environment<'x, H, W>,
    exits: LocalPort<'x, H>,
    running: Vec<Running<'x, H, W::Shared>>,
    destroyed: Vec<DomId>,
    /// When to look at the VMs again although none is announced to have ended.
    ask_again: Option<u64>,
    bad: usize,
    preserved: usize,
}

impl<'e, 'x, H: RawHypercall, W: FrameWindow> Supervisor<'e, 'x, H, W> {
    /// A supervisor of nothing yet, which hears of domains that end.
    pub(crate) fn new(environment: &'e mut Environment<'x, H, W>) -> Result<Self, CallError> {
        let exits = LocalPort::bind_virq(environment.xen, VIRQ_DOM_EXC, VcpuId::BOOT)?;
        Ok(Self {
            environment,
            exits,
            running: Vec::new(),
            destroyed: Vec::new(),
            ask_again: None,
            bad: 0,
            preserved: 0,
        })
    }

    fn xen(&self) -> &'x Xen<H> {
        self.environment.xen
    }

    /// Connects to the console of a built VM and starts it.
    pub(crate) fn start(&mut self, built: BuiltVm<'x, '_, H>) -> Result<(), AttachError> {
        let BuiltVm { vm, domain } = built;
        let offer = Offer { domain: domain.domid(), port: domain.console() };
        let ring = self.environment.window.map_shared(domain.domid(), &[domain.console_frame()])?;
        let port = offer.connect(self.xen())?;
        let started = domain.start()?;
        log::info!("vm={} domid={} event=started", vm.spec.name, started.domid);
        self.running.push(Running {
            name: vm.spec.name.clone(),
            domid: started.domid,
            actions: actions(&vm.spec),
            port,
            ring: ConsoleRing::new(ring),
            line: LineBuffer::default(),
            open_since: None,
        });
        Ok(())
    }

    /// System time, in nanoseconds.
    pub(crate) fn time(&self) -> u64 {
        (self.environment.now)()
    }

    /// VMs that ended other than they should.
    pub(crate) fn bad_endings(&self) -> usize {
        self.bad
    }

    /// VMs that are kept although they ended.
    pub(crate) fn preserved(&self) -> usize {
        self.preserved
    }

    /// Looks after the VMs until the last has ended.
    pub(crate) fn run(&mut self) -> Result<(), CallError> {
        // What happened between a VM's start and now is not announced again.
        self.reap();
        while !self.running.is_empty() {
            self.relay_consoles();
            let ports = self.ports();
            let deadline = self.prompt_deadline().into_iter().chain(self.ask_again).min();
            let events = self.environment.events;
            wait(self.xen(), events, &ports, deadline, self.environment.now)?;
            self.show_prompts();
            let asked_again = self.ask_again.is_some_and(|time| time <= self.time());
            if events.take(self.exits.port()) || asked_again {
                self.reap();
            }
        }
        Ok(())
    }

    /// Destroys every VM that still runs.
    pub(crate) fn destroy_all(&mut self) {
        while let Some(vm) = self.running.pop() {
            self.destroy(vm);
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
            self.destroyed.retain(|domid| !is_gone(xen, *domid));
            let gone = self.destroyed.is_empty();
            let deadline = if gone { self.time().saturating_add(FREEING_TIME) } else { last };
            let events = self.environment.events;
            let exits = self.exits.port();
            let waited = wait(xen, events, &[exits], Some(deadline), self.environment.now);
            let announced = events.take(exits);
            if gone && !announced {
                return;
            }
            if waited.is_err() || self.time() >= last {
                if !gone {
                    log::warn!("event=lingering domids={:?}: Xen still holds on to them", self.destroyed);
                }
                return;
            }
        }
    }

    /// All ports that news come by.
    fn ports(&self) -> Vec<Port> {
        let mut ports = alloc::vec![self.exits.port()];
        ports.extend(self.running.iter().map(|vm| vm.port.port()));
        ports
    }

    /// Relays what guests have written.
    fn relay_consoles(&mut self) {
        let (events, now) = (self.environment.events, self.time());
        for vm in &mut self.running {
            if events.take(vm.port.port()) {
                vm.relay(self.environment.xen, now);
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
        for vm in &mut self.running {
            if vm.prompt_deadline().is_some_and(|deadline| deadline <= now) {
                vm.flush(self.environment.xen);
            }
        }
    }

    /// Looks at every VM and deals with those that have ended. When Xen gives no answer for one it is asked again later:
    /// the end may have been announced already, and is not announced twice.
    fn reap(&mut self) {
        self.ask_again = None;
        let mut index = 0;
        while let Some(vm) = self.running.get(index) {
            match ending(self.environment.xen, vm.domid) {
                Ok(None) => index += 1,
                Ok(Some(ending)) => {
                    let vm = self.running.remove(index);
                    self.end(vm, ending);
                }
                Err(error) => {
                    log::warn!("vm={} domid={} {error}", vm.name, vm.domid);
                    self.ask_again = Some(self.time().saturating_add(ASK_AGAIN_DELAY));
                    index += 1;
                }
            }
        }
    }

    /// Deals with a VM that has ended.
    fn end(&mut self, mut vm: Running<'x, H, W::Shared>, ending: Ending) {
        vm.relay(self.xen(), self.time());
        vm.flush(self.xen());
        log::info!("vm={} domid={} event=ended reason={ending}", vm.name, vm.domid);
        if !ending.is_good() {
            self.bad += 1;
        }
        let preserve = vm.actions.iter().any(|(on, action)| *on == ending && *action == ExitAction::Preserve);
        if preserve {
            self.preserved += 1;
            log::info!("vm={} domid={} event=preserved", vm.name, vm.domid);
        } else if ending != Ending::Gone {
            self.destroy(vm);
        }
    }

    /// Lets go of a VM's console and destroys it: a mapping that is left would keep the domain's memory from Xen.
    fn destroy(&mut self, vm: Running<'x, H, W::Shared>) {
        let Running { name, domid, port, ring, .. } = vm;
        drop((port, ring));
        match self.xen().destroy_domain(domid) {
            Ok(()) => {
                log::info!("vm={name} domid={domid} event=destroyed");
                self.destroyed.push(domid);
            }
            Err(error) => log::error!("vm={name} domid={domid} event=leaked {error}"),
        }
    }
}

impl<H: RawHypercall, S: hypercall::SharedMemory> Running<'_, H, S> {
    /// Relays everything that the guest has written, and tells it that there is room again.
    ///
    /// Once is enough: what the guest writes after the look at its ring, it announces with another event.
    fn relay(&mut self, xen: &Xen<H>, now: u64) {
        let Self { name, ring, line, .. } = self;
        if !ring.take_output(|bytes| line.push(bytes, |line| write_line(xen, name, line))) {
            return;
        }
        self.open_since = self.line.is_open().then_some(now);
        if let Err(error) = self.port.notify() {
            log::warn!("vm={} console: {error}", self.name);
        }
    }

    /// Shows the line that was begun.
    fn flush(&mut self, xen: &Xen<H>) {
        let Self { name, line, .. } = self;
        line.flush(|line| write_line(xen, name, line));
        self.open_since = None;
    }

    /// When to show the line that was begun.
    fn prompt_deadline(&self) -> Option<u64> {
        self.open_since.map(|since| since.saturating_add(PROMPT_DELAY))
    }
}

/// What is to be done for each ending that has a setting.
fn actions(spec: &BootSpec) -> [(Ending, ExitAction); 3] {
    [(Ending::Poweroff, spec.on_poweroff), (Ending::Reboot, spec.on_reboot), (Ending::Crash, spec.on_crash)]
}

/// How a domain ended, if it has.
fn ending<H: RawHypercall>(xen: &Xen<H>, domid: DomId) -> Result<Option<Ending>, CallError> {
    match xen.domain_info(domid) {
        Ok(info) => Ok(info.shutdown_reason().map(Ending::from_reason)),
        Err(CallError { errno: Errno::ESRCH, .. }) => Ok(Some(Ending::Gone)),
        Err(error) => Err(error),
    }
}

/// Whether Xen knows a domain no more.
fn is_gone<H: RawHypercall>(xen: &Xen<H>, domid: DomId) -> bool {
    match xen.domain_info(domid) {
        Err(CallError { errno: Errno::ESRCH, .. }) => true,
        // The identifier may have been given to a new domain.
        Ok(info) => !info.state().contains(DomainState::DYING),
        Err(_) => false,
    }
}

/// Writes a guest's line to Xen's console, in one call so that lines of several guests do not mix.
fn write_line<H: RawHypercall>(xen: &Xen<H>, name: &str, line: &[u8]) {
    let mut text = Vec::with_capacity(name.len() + line.len() + 4);
    text.push(b'[');
    text.extend_from_slice(name.as_bytes());
    text.extend_from_slice(b"] ");
    text.extend_from_slice(line);
    text.push(b'\n');
    // A console that does not take text leaves nothing to report it on.
    let _ = xen.console_write(&text);
}
