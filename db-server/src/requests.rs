//! Answering requests.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;

use hypercall::{FrameWindow, RawHypercall};
use launch::{Host, PlannedVm};
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
use crate::store::{Received, Room, Store};
use crate::vms::{State, StoreServer, Vm, Vms};

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
                let (spare, reserved) = (host.spare_memory(), shared.bench.reserved());
                let room = Room { quota: quota.store_bytes, spare, reserved };
                store.begin(owner, digest, size, &room).map(|at| image(digest, at))
            }
            ServerRequest::PutImageChunk { digest, offset, bytes } => {
                store.add(owner, digest, offset, &bytes).map(|at| image(digest, at))
            }
            ServerRequest::PutImageEnd { digest } => store.end(owner, digest).map(|at| image(digest, at)),
            ServerRequest::Build(request) => self.begin(shared, host, id, request).map(|()| None),
            ServerRequest::List { after } => Ok(Some(list(&shared.vms, host, owner, after))),
            ServerRequest::Pause { domid, serial } => {
                pause(shared.vms.find(owner, domid, serial)?, host, domid, true).map(Some)
            }
            ServerRequest::Unpause { domid, serial } => {
                pause(shared.vms.find(owner, domid, serial)?, host, domid, false).map(Some)
            }
            ServerRequest::Shutdown { domid, serial } => {
                shutdown(shared.vms.find(owner, domid, serial)?, host, domid).map(Some)
            }
            ServerRequest::Destroy { domid, serial } => {
                destroy(shared.vms.find(owner, domid, serial)?, host, domid, id).map(|()| None)
            }
            ServerRequest::WatchExits { watch } => {
                self.watches = watch;
                Ok(Some(ServerReply::Done))
            }
            ServerRequest::Facts => facts(shared, host, owner).map(Some),
            ServerRequest::PutImageCancel { digest } => {
                store.cancel(owner, digest).map(|()| Some(ServerReply::Done))
            }
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
        &self,
        controllers: &[Controller],
        wanted: Option<u16>,
        is_taken: impl Fn(u16) -> bool,
    ) -> Result<u16, Failure> {
        let choose = |is_taken: &dyn Fn(u16) -> bool| {
            choose_domid(controllers, self.owner, wanted, self.rover, is_taken)
        };
        let is_kept = |domid| is_taken(domid) || self.fixed.contains(&domid);
        match wanted {
            Some(_) => choose(&is_taken),
            None => choose(&is_kept).or_else(|_| choose(&is_taken)),
        }
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
        check_name(vms, host, &spec.name)?;
        // A controller's own id stays its own when its VM is gone: its channel goes by it.
        let is_taken =
            |domid| vms.all.contains_key(&domid) || domids.contains(&domid) || host.is_reserved(domid);
        let domid = self.choose(controllers, spec.domid, is_taken)?;
        let kernel = input(store, host, request.kernel)?;
        let ramdisk = request.ramdisk.map(|source| input(store, host, source)).transpose()?;
        // Nothing refuses it from here on.
        self.fixed.extend(spec.domid);
        (self.rover, spec.domid) = (domid.saturating_add(1), Some(domid));
        let store = store_server(&spec);
        let (owner, serial, name) = (self.owner, vms.next_serial(), spec.name.clone());
        let (memory_kib, vcpus, state) = (spec.max_memory_kib, spec.vcpus, State::Building);
        vms.all.insert(domid, Vm { owner, serial, name, memory_kib, vcpus, store, state, leave: None });
        let (console, own_store) = (request.console.map(DomId::new), store == StoreServer::Own);
        let vm = Rc::new(PlannedVm { console, own_store, ..PlannedVm::from(spec) });
        let (paused, measured) = (request.paused, request.measured);
        let (unpacking, elf, building) = (None, None, None);
        self.jobs.push_back(Job {
            id,
            domid,
            serial,
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

/// Whether a new VM may have this name.
fn check_name<H: RawHypercall, W: FrameWindow>(
    vms: &Vms,
    host: &Host<'_, '_, '_, H, W>,
    name: &str,
) -> Result<(), Failure> {
    let why = match vms.by_name(name).map(|vm| &vm.state) {
        Some(State::Going(_)) => "a VM has this name that is destroyed and not gone; wait, or ask for a list",
        None if !host.has_vm(name) && name != NAME => return Ok(()),
        _ => "a VM has this name",
    };
    Err(failure(Reason::Taken, format!("vm {name}: {why}")))
}

/// Who serves a VM that is to be built its XenStore.
fn store_server(spec: &BootSpec) -> StoreServer {
    match spec.store {
        // The ports of channels are known to both ends already, and begin where that of a XenStore would be.
        StoreRole::None if spec.channel_ports().next().is_some() => StoreServer::Nobody,
        StoreRole::None | StoreRole::Own => StoreServer::Own,
        StoreRole::Client { server } => StoreServer::Other(server),
        StoreRole::Server => StoreServer::Nobody,
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
        State::Building => None,
        State::Going(_) => Some(VmState::Dying),
        State::Preserved => Some(VmState::Ended),
        State::Live if host.is_paused(DomId::new(domid)) => Some(VmState::Paused),
        State::Live => Some(VmState::Running),
    };
    let known = vms.of(owner).filter(|(domid, _)| *domid > after);
    let mut entries = known.filter_map(|(domid, vm)| {
        let state = state(domid, vm)?;
        let Vm { memory_kib, vcpus, serial, .. } = *vm;
        Some(VmEntry { domid, name: vm.name.clone(), state, memory_kib, vcpus, serial })
    });
    let vms = entries.by_ref().take(MAX_ENTRIES).collect();
    ServerReply::Vms { vms, more: entries.next().is_some() }
}

/// Refuses what can be done to a VM only that is neither over nor being destroyed.
fn check_live<H: RawHypercall, W: FrameWindow>(
    vm: &Vm,
    host: &Host<'_, '_, '_, H, W>,
    domid: u16,
) -> Result<(), Failure> {
    let detail = match &vm.state {
        State::Going(going) => going.describe(host.xen(), domid, &vm.name, host.time()),
        State::Preserved => format!("vm {}: it has ended", vm.name),
        State::Building | State::Live => return Ok(()),
    };
    Err(failure(Reason::WrongState, detail))
}

fn pause<H: RawHypercall, W: FrameWindow>(
    vm: &Vm,
    host: &mut Host<'_, '_, '_, H, W>,
    domid: u16,
    pause: bool,
) -> Result<ServerReply, Failure> {
    check_live(vm, host, domid)?;
    let id = DomId::new(domid);
    if host.is_paused(id) == pause {
        let what = if pause { "is paused already" } else { "is not paused" };
        return Err(failure(Reason::WrongState, format!("vm {}: it {what}", vm.name)));
    }
    host.pause(id, pause).map_err(|error| failure(Reason::Xen, format!("vm {}: {error}", vm.name)))?;
    log::info!("vm={} domid={domid} event={}", vm.name, if pause { "paused" } else { "unpaused" });
    Ok(ServerReply::Done)
}

/// Asks a VM to power off, by the XenStore that is served to it: what comes of that is for the VM, and told by its end.
fn shutdown<H: RawHypercall, W: FrameWindow>(
    vm: &Vm,
    host: &mut Host<'_, '_, '_, H, W>,
    domid: u16,
) -> Result<ServerReply, Failure> {
    check_live(vm, host, domid)?;
    if host.ask_to_power_off(DomId::new(domid)) {
        return Ok(ServerReply::Done);
    }
    let why = match vm.store {
        StoreServer::Own => {
            "it broke the rules of its XenStore, which is not served any more; destroy it".into()
        }
        StoreServer::Other(server) => {
            format!("domain {server} serves its XenStore: have that ask it, or destroy it")
        }
        StoreServer::Nobody => {
            "it has channels, and no XenStore to be asked by: `xenstore = 1` in its VM file gives it one \
                                beside them; ask it over a channel of its own, or destroy it"
                .into()
        }
    };
    Err(failure(Reason::WrongState, format!("vm {}: {why}", vm.name)))
}

/// Destroys a VM; the request is answered when nothing is left of it. For one that is not gone, this waits, or tries, again.
fn destroy<H: RawHypercall, W: FrameWindow>(
    vm: &mut Vm,
    host: &mut Host<'_, '_, '_, H, W>,
    domid: u16,
    id: u32,
) -> Result<(), Failure> {
    let now = host.time();
    vm.destroy(host, domid, EndReason::Destroyed);
    let State::Going(going) = &mut vm.state else { return Ok(()) };
    if host.xen().leak_of(DomId::new(domid)).is_some() {
        return Err(failure(Reason::Xen, going.describe(host.xen(), domid, &vm.name, now)));
    }
    going.wait(id, now);
    Ok(())
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
