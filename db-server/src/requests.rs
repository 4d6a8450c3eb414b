//! Answering requests.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;

use hypercall::{FrameWindow, RawHypercall};
use launch::{Fate, Host, PlannedVm};
use protocols::message::{
    BuildRequest, EndReason, Facts, Failure, ImageSource, MAX_ENTRIES, Reason, ServerReply, ServerRequest,
    VERSION, VmEntry, VmState,
};
use protocols::server::{Controller, NAME};
use protocols::settings::check_label;
use protocols::{BootSpec, Digest, StoreRole};
use xen_abi::DomId;

use crate::build::{Bench, Input, Job, no_image};
use crate::failure::failure;
use crate::permits::{admit, choose_domid};
use crate::store::{Received, Store};
use crate::vms::{Going, State, Vm, Vms};

/// What all controllers share.
pub(crate) struct Shared {
    pub(crate) controllers: Vec<Controller>,
    /// Their domain ids, in the same order.
    pub(crate) domids: Vec<u16>,
    pub(crate) store: Store,
    pub(crate) vms: Vms,
    /// Digests of entries of the RAM disk, as far as they are known.
    pub(crate) known: BTreeMap<String, Digest>,
    /// Where kernels are unpacked.
    pub(crate) bench: Bench,
}

/// What a controller has under way, and how it is known.
pub(crate) struct Desk<'x, H: RawHypercall> {
    /// Its index.
    pub(crate) owner: usize,
    /// Whether it has said hello.
    pub(crate) is_greeted: bool,
    /// Whether its VM has ended for good.
    pub(crate) is_lost: bool,
    /// Whether it is told of the ends of its VMs.
    pub(crate) watches: bool,
    /// VMs that it waits for, the first of which is being built.
    pub(crate) jobs: VecDeque<Job<'x, H>>,
    /// The domain id behind the one that was given last.
    pub(crate) rover: u16,
    /// Domain ids that it has asked for by themselves: others of its VMs get them when nothing else is left.
    pub(crate) fixed: BTreeSet<u16>,
    /// Requests that were answered, and how many of them with a failure.
    pub(crate) answered: u64,
    pub(crate) refused: u64,
    /// VMs that were built.
    pub(crate) built: u64,
}

impl<'x, H: RawHypercall> Desk<'x, H> {
    /// Nobody has asked for anything.
    pub(crate) fn new(owner: usize) -> Self {
        let (jobs, is_greeted, is_lost, watches) = (VecDeque::new(), false, false, false);
        let fixed = BTreeSet::new();
        Self { owner, is_greeted, is_lost, watches, jobs, rover: 0, fixed, answered: 0, refused: 0, built: 0 }
    }

    /// Answers a request; `None` when the answer has to wait.
    pub(crate) fn answer<W: FrameWindow>(
        &mut self,
        shared: &mut Shared,
        host: &mut Host<'_, '_, 'x, H, W>,
        id: u32,
        request: ServerRequest,
    ) -> Option<ServerReply> {
        let answer = self.try_answer(shared, host, id, request);
        answer.map_err(ServerReply::Failed).unwrap_or_else(Some)
    }

    fn try_answer<W: FrameWindow>(
        &mut self,
        shared: &mut Shared,
        host: &mut Host<'_, '_, 'x, H, W>,
        id: u32,
        request: ServerRequest,
    ) -> Result<Option<ServerReply>, Failure> {
        let Some(controller) = shared.controllers.get(self.owner) else { return Ok(None) };
        let quota = controller.quota;
        if let ServerRequest::Hello { lowest, highest, name } = &request {
            return self.greet(controller, *lowest, *highest, name).map(Some);
        }
        if !self.is_greeted {
            return Err(failure(Reason::NoHello, "the first request on a channel is Hello"));
        }
        let under_way = self.jobs.len() + shared.vms.waiters_of(self.owner);
        if under_way as u64 >= u64::from(quota.requests) {
            let detail = format!("{under_way} requests are under way, as many as may be: wait for an answer");
            return Err(failure(Reason::Busy, detail));
        }
        let (owner, store) = (self.owner, &mut shared.store);
        let image = |digest, Received { bytes: received, complete }| {
            Some(ServerReply::Image { digest, received, complete })
        };
        match request {
            ServerRequest::Hello { .. } => Ok(None),
            ServerRequest::PutImageBegin { digest, size } => {
                // What a kernel that is being unpacked may still want is not there to be stored in.
                let spare = host.spare_memory().saturating_sub(shared.bench.reserved());
                store.begin(owner, digest, size, quota.store_bytes, spare).map(|at| image(digest, at))
            }
            ServerRequest::PutImageChunk { digest, offset, bytes } => {
                store.add(owner, digest, offset, &bytes).map(|at| image(digest, at))
            }
            ServerRequest::PutImageEnd { digest } => store.end(owner, digest).map(|at| image(digest, at)),
            ServerRequest::Build(request) => self.begin(shared, host, id, request).map(|()| None),
            ServerRequest::List { after } => Ok(Some(list(&shared.vms, host, owner, after))),
            ServerRequest::Pause { domid } => pause(&mut shared.vms, host, owner, domid, true).map(Some),
            ServerRequest::Unpause { domid } => pause(&mut shared.vms, host, owner, domid, false).map(Some),
            ServerRequest::Shutdown { domid } => shutdown(&mut shared.vms, host, owner, domid).map(Some),
            ServerRequest::Destroy { domid } => {
                destroy(&mut shared.vms, host, owner, domid, id).map(|()| None)
            }
            ServerRequest::WatchExits { watch } => {
                self.watches = watch;
                Ok(Some(ServerReply::Done))
            }
            ServerRequest::Facts => facts(shared, host, owner).map(Some),
        }
    }

    fn greet(
        &mut self,
        controller: &Controller,
        lowest: u16,
        highest: u16,
        name: &str,
    ) -> Result<ServerReply, Failure> {
        if !(lowest..=highest).contains(&VERSION) {
            let detail =
                format!("versions {lowest} to {highest} of the protocol: db-server speaks {VERSION}");
            return Err(failure(Reason::Version, detail));
        }
        self.is_greeted = true;
        log::info!("vm={} event=controller-greeted name={name} version={VERSION}", controller.vm);
        Ok(ServerReply::Hello { version: VERSION, name: NAME.into(), quota: controller.quota })
    }

    /// The domain id of a new VM: the one that is `wanted`, or one that was never wanted by itself as long as there are such.
    fn choose(
        &mut self,
        controllers: &[Controller],
        wanted: Option<u16>,
        is_taken: impl Fn(u16) -> bool,
    ) -> Result<u16, Failure> {
        let choose = |is_taken: &dyn Fn(u16) -> bool| {
            choose_domid(controllers, self.owner, wanted, self.rover, is_taken)
        };
        let is_kept = |domid| is_taken(domid) || self.fixed.contains(&domid);
        let domid = match wanted {
            Some(_) => choose(&is_taken),
            None => choose(&is_kept).or_else(|_| choose(&is_taken)),
        }?;
        self.fixed.extend(wanted);
        Ok(domid)
    }

    /// Begins to build a VM.
    fn begin<W: FrameWindow>(
        &mut self,
        shared: &mut Shared,
        host: &mut Host<'_, '_, 'x, H, W>,
        id: u32,
        request: BuildRequest,
    ) -> Result<(), Failure> {
        let Shared { controllers, domids, store, vms, .. } = shared;
        let spec = BootSpec::decode(&request.spec);
        let mut spec = spec.map_err(|error| failure(Reason::BadSpec, format!("the boot spec: {error}")))?;
        if let Some(server) = request.xenstore {
            spec.store = StoreRole::Client { server };
        }
        if let Some(label) = &request.label {
            give_label(&mut spec, label)?;
        }
        let Some(controller) = controllers.get(self.owner) else { return Ok(()) };
        let own_domid = domids.get(self.owner).copied().unwrap_or_default();
        admit(controller, (self.owner, own_domid), vms, &request, &spec)?;
        if vms.has_name(&spec.name) || host.has_vm(&spec.name) || spec.name == NAME {
            return Err(failure(Reason::Taken, format!("vm {}: a VM has this name", spec.name)));
        }
        // A controller's own id stays its own when its VM is gone: its channel goes by it.
        let is_taken =
            |domid| vms.0.contains_key(&domid) || domids.contains(&domid) || host.is_reserved(domid);
        let domid = self.choose(controllers, spec.domid, is_taken)?;
        let kernel = input(store, host, request.kernel)?;
        let ramdisk = request.ramdisk.map(|source| input(store, host, source)).transpose()?;
        (self.rover, spec.domid) = (domid.saturating_add(1), Some(domid));
        let (owner, name) = (self.owner, spec.name.clone());
        let (memory_kib, vcpus, state) = (spec.max_memory_kib, spec.vcpus, State::Building);
        vms.0.insert(domid, Vm { owner, name, memory_kib, vcpus, state });
        let console = request.console.map(DomId::new);
        // The ports of channels are known to both ends already, and begin where that of a XenStore would be.
        let may_have = spec.store == StoreRole::None && spec.channel_ports().next().is_none();
        let own_store = may_have || spec.store == StoreRole::Own;
        let vm = Rc::new(PlannedVm { console, own_store, ..PlannedVm::from(spec) });
        let (paused, measured) = (request.paused, request.measured);
        let (unpacking, elf, building) = (None, None, None);
        self.jobs.push_back(Job {
            id,
            domid,
            paused,
            measured,
            vm,
            kernel,
            ramdisk,
            unpacking,
            elf,
            building,
        });
        Ok(())
    }
}

/// Has a VM run with a label that its request names beside the spec.
fn give_label(spec: &mut BootSpec, label: &str) -> Result<(), Failure> {
    let wrong = |detail: String| failure(Reason::BadSpec, format!("vm {}: {detail}", spec.name));
    check_label(label).map_err(|error| wrong(format!("{error}")))?;
    match &spec.settings.labels.running {
        Some(other) if other != label => Err(wrong(format!(
            "the request has the label {label:?}, the boot spec {other:?}: give one of them"
        ))),
        _ => {
            spec.settings.labels.running = Some(label.into());
            Ok(())
        }
    }
}

/// An image that a request names.
fn input<H: RawHypercall, W: FrameWindow>(
    store: &mut Store,
    host: &Host<'_, '_, '_, H, W>,
    source: ImageSource,
) -> Result<Input, Failure> {
    match source {
        ImageSource::Ramdisk(name) if host.image(&name).is_none() => Err(no_image(&name)),
        ImageSource::Ramdisk(name) => Ok(Input::entry(name)),
        ImageSource::Store(digest) => {
            let bytes = store.get(digest).ok_or_else(|| no_image(&format!("{digest}")))?;
            Ok(Input::stored(digest, bytes))
        }
    }
}

/// A controller's VMs behind `after`.
fn list<H: RawHypercall, W: FrameWindow>(
    vms: &Vms,
    host: &Host<'_, '_, '_, H, W>,
    owner: usize,
    after: u16,
) -> ServerReply {
    let state = |domid, vm: &Vm| match vm.state {
        State::Building | State::Going(_) => None,
        State::Preserved => Some(VmState::Ended),
        State::Live if host.is_paused(DomId::new(domid)) => Some(VmState::Paused),
        State::Live => Some(VmState::Running),
    };
    let known = vms.of(owner).filter(|(domid, _)| *domid > after);
    let mut entries = known.filter_map(|(domid, vm)| {
        let state = state(domid, vm)?;
        Some(VmEntry { domid, name: vm.name.clone(), state, memory_kib: vm.memory_kib, vcpus: vm.vcpus })
    });
    let vms = entries.by_ref().take(MAX_ENTRIES).collect();
    ServerReply::Vms { vms, more: entries.next().is_some() }
}

/// A controller's VM that there is.
fn find(vms: &mut Vms, owner: usize, domid: u16) -> Result<&mut Vm, Failure> {
    let detail = || failure(Reason::NoSuchVm, format!("domain {domid}: it is none of the controller's VMs"));
    vms.get(owner, domid).ok_or_else(detail)
}

fn pause<H: RawHypercall, W: FrameWindow>(
    vms: &mut Vms,
    host: &mut Host<'_, '_, '_, H, W>,
    owner: usize,
    domid: u16,
    pause: bool,
) -> Result<ServerReply, Failure> {
    let vm = find(vms, owner, domid)?;
    let wrong = |what| failure(Reason::WrongState, format!("vm {}: it {what}", vm.name));
    if matches!(vm.state, State::Preserved) {
        return Err(wrong("has ended"));
    }
    let id = DomId::new(domid);
    if host.is_paused(id) == pause {
        return Err(wrong(if pause { "is paused already" } else { "is not paused" }));
    }
    host.pause(id, pause).map_err(|error| failure(Reason::Xen, format!("vm {}: {error}", vm.name)))?;
    log::info!("vm={} domid={domid} event={}", vm.name, if pause { "paused" } else { "unpaused" });
    Ok(ServerReply::Done)
}

/// Asks a VM to power off, by the XenStore that is served to it: what comes of that is for the VM, and told by its end.
fn shutdown<H: RawHypercall, W: FrameWindow>(
    vms: &mut Vms,
    host: &mut Host<'_, '_, '_, H, W>,
    owner: usize,
    domid: u16,
) -> Result<ServerReply, Failure> {
    let vm = find(vms, owner, domid)?;
    let wrong = |what| failure(Reason::WrongState, format!("vm {}: {what}", vm.name));
    if matches!(vm.state, State::Preserved) {
        return Err(wrong("it has ended"));
    }
    if host.ask_to_power_off(DomId::new(domid)) {
        return Ok(ServerReply::Done);
    }
    Err(wrong(
        "it has no XenStore of db-server's to be asked by, as another domain serves it one, it has channels, or it broke the rules of \
         its store; ask it over a channel of its own, or destroy it",
    ))
}

/// Destroys a VM; the request is answered when nothing is left of it.
fn destroy<H: RawHypercall, W: FrameWindow>(
    vms: &mut Vms,
    host: &mut Host<'_, '_, '_, H, W>,
    owner: usize,
    domid: u16,
    id: u32,
) -> Result<(), Failure> {
    if let Some(vm) = vms.0.get_mut(&domid).filter(|vm| vm.owner == owner)
        && let State::Going(going) = &mut vm.state
        && !going.is_late
    {
        going.waiters.push(id);
        return Ok(());
    }
    let vm = find(vms, owner, domid)?;
    let was_live = matches!(vm.state, State::Live);
    match host.destroy(&vm.name, DomId::new(domid)) {
        Fate::Destroyed | Fate::Preserved => {
            let reason = was_live.then_some(EndReason::Destroyed);
            let mut going = Going::new(host.time(), reason);
            going.waiters.push(id);
            vm.state = State::Going(going);
            Ok(())
        }
        Fate::Leaked => Err(failure(Reason::Xen, format!("vm {}: Xen does not destroy it", vm.name))),
    }
}

fn facts<H: RawHypercall, W: FrameWindow>(
    shared: &Shared,
    host: &Host<'_, '_, '_, H, W>,
    owner: usize,
) -> Result<ServerReply, Failure> {
    let interface = host.xen().interface();
    let memory = host.xen().machine_memory();
    let memory = memory.map_err(|error| failure(Reason::Xen, error))?;
    let (memory_kib, free_kib) = memory.map_or((0, 0), |memory| (memory.total.kib(), memory.free.kib()));
    let quota = shared.controllers.get(owner).map(|controller| controller.quota);
    let Some(quota) = quota else { return Ok(ServerReply::Done) };
    Ok(ServerReply::Facts(Facts {
        xen_major: interface.xen.major,
        xen_minor: interface.xen.minor,
        domctl: interface.domctl.raw(),
        memory_kib,
        free_kib,
        stored_bytes: shared.store.stored(),
        quota,
    }))
}
