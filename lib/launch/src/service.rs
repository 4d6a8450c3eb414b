//! A service that takes part in a platform's life: it has ports of its own, and has VMs built, started and destroyed while the
//! platform runs.

use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;

use event_channel::EventWords;
use hypercall::{CallError, FrameWindow, RawHypercall, Xen};
use platform::{Ending, Row};
use protocols::{BootSpec, ExitAction, PlatformSpec};
use xen_abi::{DomId, Port};

use crate::build::BuiltVm;
use crate::running::{Owner, Running};
use crate::shutdown::Stopping;
use crate::store::Store;
use crate::supervisor::{AttachError, Begin, Supervisor};
use crate::{Building, PlannedVm, VmError};

/// What takes part in a platform's life besides its VMs.
pub trait Service<'x, H: RawHypercall, W: FrameWindow> {
    /// Prepares for the VMs in `specs`, which are not planned yet, and may enter in them what they are to be told. An error, a
    /// sentence for people, ends the platform before anything is built.
    fn open(
        &mut self,
        xen: &'x Xen<H>,
        settings: &PlatformSpec,
        specs: &mut [BootSpec],
    ) -> Result<(), String>;

    /// Whether the entry `name` of the RAM disk is to stay in memory, to be had by [`Host::image`].
    fn keeps(&self, name: &str) -> bool;

    /// Adds the ports whose events it waits for to `ports`.
    fn ports(&self, ports: &mut Vec<Port>);

    /// The system time in nanoseconds at which it has something to do although no event comes.
    fn deadline(&self) -> Option<u64>;

    /// Does a part of what there is to do, which takes a bounded time; says whether there is more.
    fn turn(&mut self, host: &mut Host<'_, '_, 'x, H, W>) -> bool;

    /// Hears that a VM has ended that it had started.
    fn ended(&mut self, host: &mut Host<'_, '_, 'x, H, W>, end: &End);

    /// Hears that the platform's VM called `name` has ended, or was not started, and does not come back.
    fn lost(&mut self, host: &mut Host<'_, '_, 'x, H, W>, name: &str);

    /// Ends its work: the platform is over. VMs that it started and that run still are asked to power off afterwards, if they listen
    /// for that, and destroyed.
    fn close(&mut self, host: &mut Host<'_, '_, 'x, H, W>);
}

/// A VM's end, as a service hears of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// The VM's name.
    pub name: String,
    /// The domain that it was.
    pub domid: DomId,
    /// How it ended.
    pub ending: Ending,
    /// What became of the domain.
    pub fate: Fate,
}

/// What a service is to hear of.
#[derive(Debug)]
pub(crate) enum News {
    /// A VM of its own has ended.
    Served(End),
    /// The platform's VM of this name does not come back.
    Final(String),
}

/// What becomes of a domain that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was destroyed, or is gone by itself; what it held may take a moment to be free.
    Destroyed,
    /// It is kept as it is.
    Preserved,
    /// Xen does not destroy it.
    Leaked,
}

/// Nobody's service: VMs only.
pub(crate) struct NoService;

impl<'x, H: RawHypercall, W: FrameWindow> Service<'x, H, W> for NoService {
    fn open(&mut self, _: &'x Xen<H>, _: &PlatformSpec, _: &mut [BootSpec]) -> Result<(), String> {
        Ok(())
    }

    fn keeps(&self, _: &str) -> bool {
        false
    }

    fn ports(&self, _: &mut Vec<Port>) {}

    fn deadline(&self) -> Option<u64> {
        None
    }

    fn turn(&mut self, _: &mut Host<'_, '_, 'x, H, W>) -> bool {
        false
    }

    fn ended(&mut self, _: &mut Host<'_, '_, 'x, H, W>, _: &End) {}

    fn lost(&mut self, _: &mut Host<'_, '_, 'x, H, W>, _: &str) {}

    fn close(&mut self, _: &mut Host<'_, '_, 'x, H, W>) {}
}

/// Where an image is that a service has a VM built of.
#[derive(Clone, Copy, Debug)]
pub enum Image<'i> {
    /// An entry of the RAM disk that it [keeps](Service::keeps).
    Entry(&'i str),
    /// Its own.
    Bytes(&'i [u8]),
}

impl<'i> Image<'i> {
    fn bytes(self, store: &'i Store) -> Result<&'i [u8], VmError> {
        match self {
            Self::Entry(name) => store.kept(name).ok_or(VmError::NotKept),
            Self::Bytes(bytes) => Ok(bytes),
        }
    }
}

/// The platform, as its service sees it.
pub struct Host<'s, 'e, 'x, H: RawHypercall, W: FrameWindow> {
    pub(crate) supervisor: &'s mut Supervisor<'e, 'x, H, W>,
}

impl<'x, H: RawHypercall, W: FrameWindow> Host<'_, '_, 'x, H, W> {
    /// The Xen underneath.
    pub fn xen(&self) -> &'x Xen<H> {
        self.supervisor.xen()
    }

    /// System time, in nanoseconds since Xen started.
    pub fn time(&self) -> u64 {
        self.supervisor.time()
    }

    /// The builder's own event bitmaps.
    pub fn events(&self) -> EventWords<'x> {
        self.supervisor.environment.events
    }

    /// Bytes that the builder can still allocate.
    pub fn spare_memory(&self) -> usize {
        (self.supervisor.environment.spare_memory)()
    }

    /// An entry of the RAM disk that the service [keeps](Service::keeps).
    pub fn image(&self, name: &str) -> Option<&[u8]> {
        self.supervisor.store.kept(name)
    }

    /// Whether a VM of this name runs, or is to run.
    pub fn has_vm(&self, name: &str) -> bool {
        self.supervisor.is_known(name)
    }

    /// Whether the domain id `domid` is a VM's, also while that does not run.
    pub fn is_reserved(&self, domid: u16) -> bool {
        let supervisor = &self.supervisor;
        let running = supervisor.running.iter().map(|vm| &*vm.vm);
        let coming = supervisor.waiting.iter().map(|vm| &*vm.vm).chain(supervisor.held.vms());
        let is_current = supervisor.running.iter().any(|vm| vm.domid.raw() == domid);
        is_current || running.chain(coming).any(|vm| vm.spec.domid == Some(domid))
    }

    /// The domain that the platform's VM called `name` is at the moment.
    pub fn domain_of(&self, name: &str) -> Option<DomId> {
        self.supervisor.running.iter().find(|vm| vm.name() == name).map(|vm| vm.domid)
    }

    /// Goes on with a VM that is being built: a step, and more until system time `until` in nanoseconds; gives it when it is complete.
    /// After an error it is gone.
    ///
    /// The images have to be the same each time.
    pub fn build(
        &mut self,
        building: &mut Building<'x, H>,
        kernel: Image<'_>,
        ramdisk: Option<Image<'_>>,
        until: u64,
    ) -> Result<Option<BuiltVm<'x, H>>, AttachError> {
        let Supervisor { environment, store, .. } = &mut *self.supervisor;
        let kernel = kernel.bytes(store)?;
        let ramdisk = ramdisk.map(|image| image.bytes(store)).transpose()?;
        let vm = Rc::clone(building.vm());
        let recipe = vm.recipe(kernel, ramdisk)?;
        loop {
            let built = building.step(environment, &recipe)?;
            if built.is_some() || (environment.now)() >= until {
                return Ok(built);
            }
        }
    }

    /// Takes a VM that was built among those that are looked after, and starts it unless it is to stay paused.
    ///
    /// Its end is told by [`Service::ended`]. It is destroyed then, unless its spec says that it is to be preserved: starting it
    /// again is not the platform's affair.
    pub fn adopt(&mut self, built: BuiltVm<'x, H>, paused: bool) -> Result<DomId, AttachError> {
        self.supervisor.attach(built, Begin { row: Row::default(), owner: Owner::Service, is_paused: paused })
    }

    /// Stops a VM of the service's, or lets it go on.
    pub fn pause(&mut self, domid: DomId, pause: bool) -> Result<(), CallError> {
        let xen = self.xen();
        if pause { xen.pause_domain(domid) } else { xen.unpause_domain(domid) }?;
        if let Some(vm) = self.supervisor.running.iter_mut().find(|vm| vm.domid == domid) {
            vm.is_paused = pause;
        }
        Ok(())
    }

    /// Whether a VM is paused, by whomever.
    pub fn is_paused(&self, domid: DomId) -> bool {
        self.supervisor.running.iter().any(|vm| vm.domid == domid && vm.is_paused)
    }

    /// Asks a VM to power off by the XenStore that the builder serves it, at once or as soon as it listens; says whether it has one.
    pub fn ask_to_power_off(&mut self, domid: DomId) -> bool {
        self.supervisor.ask_to_power_off(domid)
    }

    /// Asks a VM to power off that listens for that, as at the end of the platform; gives the system time in nanoseconds until which it is
    /// to be left alone. `None` if it does not listen, or is paused.
    pub fn ask_in_time(&mut self, domid: DomId) -> Option<u64> {
        self.supervisor.ask_served(domid)
    }

    /// Destroys a VM of the service's called `name`, or one that it had preserved; says whether Xen agreed. What it held may take a moment to be
    /// free.
    pub fn destroy(&mut self, name: &str, domid: DomId) -> Fate {
        self.supervisor.destroy_served(name, domid)
    }

    /// Whether nothing is left of a domain that was destroyed.
    pub fn is_gone(&self, domid: DomId) -> bool {
        self.xen().is_gone(domid)
    }

    /// Logs why a VM is not there, with what Xen most likely found.
    pub fn log_failure(&self, vm: &PlannedVm, error: &AttachError) {
        crate::refused::log_failure(self.xen(), &vm.spec.name, error);
    }
}

impl<'x, H: RawHypercall, W: FrameWindow> Supervisor<'_, 'x, H, W> {
    /// Tells the service of VMs that have ended, and lets it work; says whether it has more to do.
    pub(crate) fn serve(&mut self, service: &mut dyn Service<'x, H, W>) -> bool {
        self.tell_news(service);
        service.turn(&mut Host { supervisor: self })
    }

    /// Has the service end its work.
    pub(crate) fn end_service(&mut self, service: &mut dyn Service<'x, H, W>) {
        self.tell_news(service);
        service.close(&mut Host { supervisor: self });
    }

    fn tell_news(&mut self, service: &mut dyn Service<'x, H, W>) {
        while let Some(news) = self.news.pop_front() {
            let host = &mut Host { supervisor: self };
            match news {
                News::Served(end) => service.ended(host, &end),
                News::Final(name) => service.lost(host, &name),
            }
        }
    }

    /// Deals with a VM of the service's that has ended. Whether it comes back is for those to say who asked for it.
    pub(crate) fn end_served(&mut self, vm: Running<'x, H, W::Shared>, ending: Ending) {
        let (planned, domid) = (Rc::clone(&vm.vm), vm.domid);
        let name = planned.spec.name.clone();
        let fate = if ending.action(&planned.spec) == ExitAction::Preserve && self.stopping == Stopping::No {
            log::info!("vm={name} domid={domid} event=preserved");
            Fate::Preserved
        } else {
            self.destroy(vm)
        };
        self.news.push_back(News::Served(End { name, domid, ending, fate }));
    }

    /// Destroys a VM of the service's.
    fn destroy_served(&mut self, name: &str, domid: DomId) -> Fate {
        let running = self.running.iter().position(|vm| vm.domid == domid && vm.is_served());
        let Some(index) = running else { return self.destroy_domain(name, domid) };
        let vm = self.running.remove(index);
        self.destroy_running(vm)
    }

    /// Destroys a VM that runs, and says that this is its end.
    pub(crate) fn destroy_running(&mut self, mut vm: Running<'x, H, W::Shared>) -> Fate {
        self.hear_out(&mut vm);
        log::info!("vm={} domid={} event=ended reason=destroyed", vm.name(), vm.domid);
        self.destroy(vm)
    }
}
