//! db-server on a simulated Xen, and controllers that talk to it.
#![allow(dead_code, reason = "each test file uses a part")]
#![allow(unreachable_pub, reason = "a module of a test")]

#[path = "../../../lib/launch/tests/support/mod.rs"]
pub mod launching;

use std::cell::RefCell;
use std::rc::Rc;

use db_server::{DbServer, Pages};
use grant_table::{Access, GrantTable, Mapping};
use hypercall::{FrameWindow, RawHypercall, SharedMemory, Xen};
use launch::{End, Host, Options, Service};
use protocols::channel::ChannelWord;
use protocols::message::{
    self, BuildRequest, Built, Failure, ImageSource, Kind, Quota, Reason, ServerNotice, ServerReply,
    ServerRequest, Stream,
};
use protocols::server::{Controller, ImageAccess, Orphans, Rights};
use protocols::{BootSpec, Digest, MachineStatus, PlatformSpec, ServerSpec};
use sha2::Digest as _;
use vchan::Client;
use xen_abi::{DomId, GrantRef, Mfn, Port};
use xen_sim::{Guest, Machine, SimHypervisor, SimOwnPage, SimSlot};

#[allow(unused_imports, reason = "each test file uses a part")]
pub(crate) use launching::{kernel, logged, platform_archive, spec};

/// Own pages of the simulated Dom0.
pub struct SimPages {
    dom0: Guest,
    frames: Vec<Mfn>,
}

impl Pages for SimPages {
    type Page = SimOwnPage;

    fn page(&mut self) -> Option<SimOwnPage> {
        Some(self.dom0.own_page(self.frames.pop()?))
    }
}

/// What a controller may have unless a test says otherwise.
pub fn controller(vm: &str, first_domid: u16, last_domid: u16) -> Controller {
    let quota =
        Quota { memory_kib: 64 << 10, vms: 4, first_domid, last_domid, store_bytes: 1 << 20, requests: 4 };
    let (images, may) = (ImageAccess::Listed(vec!["images/kernel".into()]), Rights::default());
    Controller { vm: vm.into(), quota, images, may, orphans: Orphans::Destroy }
}

/// A platform of controllers with domain ids from 1 on, in their order.
pub fn platform(controllers: &[Controller]) -> (PlatformSpec, Vec<BootSpec>) {
    let server = ServerSpec { store_kib: 2 << 10, controllers: controllers.to_vec() };
    let settings = PlatformSpec { server: Some(server), ..PlatformSpec::default() };
    let specs = controllers.iter().zip(1..);
    let specs = specs.map(|(controller, domid)| BootSpec { domid: Some(domid), ..spec(&controller.vm) });
    (settings, specs.collect())
}

/// A service that somebody looks at after each of its turns.
struct Watched<'a, S> {
    service: S,
    look: &'a mut dyn FnMut(),
}

impl<'x, H: RawHypercall, W: FrameWindow, S: Service<'x, H, W>> Service<'x, H, W> for Watched<'_, S> {
    fn open(
        &mut self,
        xen: &'x Xen<H>,
        settings: &PlatformSpec,
        specs: &mut [BootSpec],
    ) -> Result<(), String> {
        self.service.open(xen, settings, specs)
    }

    fn keeps(&self, name: &str) -> bool {
        self.service.keeps(name)
    }

    fn ports(&self, ports: &mut Vec<Port>) {
        self.service.ports(ports);
    }

    fn deadline(&self) -> Option<u64> {
        self.service.deadline()
    }

    fn turn(&mut self, host: &mut Host<'_, '_, 'x, H, W>) -> bool {
        let has_more = self.service.turn(host);
        (self.look)();
        has_more
    }

    fn ended(&mut self, host: &mut Host<'_, '_, 'x, H, W>, end: &End) {
        self.service.ended(host, end);
    }

    fn lost(&mut self, host: &mut Host<'_, '_, 'x, H, W>, name: &str) {
        self.service.lost(host, name);
    }

    fn close(&mut self, host: &mut Host<'_, '_, 'x, H, W>) {
        self.service.close(host);
    }
}

/// Serves a platform to its end.
pub fn serve(machine: &Machine, settings: &PlatformSpec, specs: &[BootSpec], line: &str) -> MachineStatus {
    serve_watched(machine, settings, specs, line, &mut || ())
}

/// The same, with a look at things after each turn of the service.
pub fn serve_watched(
    machine: &Machine,
    settings: &PlatformSpec,
    specs: &[BootSpec],
    line: &str,
    look: &mut dyn FnMut(),
) -> MachineStatus {
    let xen = Xen::probe(machine.dom0()).unwrap();
    let dom0 = machine.guest(DomId::new(0));
    let table = GrantTable::open(&xen, &mut machine.window(), 1).unwrap();
    // The last frames are the RAM disk's.
    let frames = machine.dom0_frames().into_iter().take(400).collect();
    let mut server = Watched { service: DbServer::new(table, SimPages { dom0, frames }), look };
    let archive = platform_archive(Some(settings), specs);
    launching::launch_with(machine, &xen, &archive, &Options::parse(line), &mut server)
}

type Channel = Client<'static, SimHypervisor, SimSlot>;

/// A controller's end of a conversation.
pub struct Ctl {
    pub guest: Guest,
    pub channel: Channel,
    xen: &'static Xen<SimHypervisor>,
    reference: GrantRef,
    stream: Stream,
    /// Answers that have come, in their order.
    pub replies: Vec<(u32, ServerReply)>,
    pub notices: Vec<ServerNotice>,
    next: u32,
}

impl Ctl {
    /// Connects as the domain's command line says.
    pub fn connect(machine: &Machine, domid: u16) -> Self {
        Self::try_connect(machine, domid).unwrap()
    }

    pub fn try_connect(machine: &Machine, domid: u16) -> Result<Self, vchan::ChannelError> {
        let guest = machine.guest(DomId::new(domid));
        let info = guest.view().unwrap().start_info().unwrap();
        let line = core::str::from_utf8(info.command_line()).unwrap().to_owned();
        let word = ChannelWord::on(&line).next().unwrap();
        assert_eq!((word.name.as_str(), word.domid), ("db-server", 0));
        let xen: &'static Xen<SimHypervisor> =
            Box::leak(Box::new(Xen::unprivileged(guest.hypervisor()).unwrap()));
        let slots = guest.clone();
        let slot = move || Some(slots.grant_slot());
        let (reference, port) = (GrantRef::new(word.reference), Port::new(word.port));
        let channel = Client::connect(xen, DomId::new(0), reference, port, slot)?;
        let (stream, replies, notices) = (Stream::new(), Vec::new(), Vec::new());
        Ok(Self { guest, channel, xen, reference, stream, replies, notices, next: 1 })
    }

    /// Writes a word of the shared page behind the channel's back, and wakes db-server.
    pub fn write_shared(&self, offset: usize, value: u32) {
        let (slot, access) = (self.guest.grant_slot(), Access::ReadWrite);
        let page = Mapping::new(self.xen, slot, DomId::new(0), self.reference, access).unwrap();
        page.store_u32(offset, value);
        self.xen.send(self.channel.port()).unwrap();
    }

    /// Requests that were sent.
    pub fn sent(&self) -> u32 {
        self.next - 1
    }

    /// Sends a request; gives its number.
    pub fn send(&mut self, request: &ServerRequest) -> u32 {
        let id = self.next;
        self.next += 1;
        self.send_bytes(&message::encode(id, request).unwrap());
        id
    }

    pub fn send_bytes(&mut self, bytes: &[u8]) {
        assert_eq!(self.channel.write(bytes).unwrap(), bytes.len(), "the ring has room");
    }

    /// Takes what has come; gives the error that ends the channel.
    pub fn hear(&mut self) -> Option<vchan::ChannelError> {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let count = match self.channel.read(&mut buffer) {
                Ok(0) => return None,
                Ok(count) => count,
                Err(error) => return Some(error),
            };
            let mut bytes = &buffer[..count];
            while !bytes.is_empty() {
                let Some(frame) = self.stream.take(&mut bytes).unwrap() else { continue };
                match frame.kind {
                    Kind::ServerReply => self.replies.push((frame.id, frame.decode().unwrap())),
                    Kind::ServerNotice => self.notices.push(frame.decode().unwrap()),
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    /// The answer to request `id`, if it has come.
    pub fn answer(&mut self, id: u32) -> Option<ServerReply> {
        self.hear();
        let at = self.replies.iter().position(|(of, _)| *of == id)?;
        Some(self.replies.remove(at).1)
    }

    /// The answer to the last request.
    #[track_caller]
    pub fn last(&mut self) -> ServerReply {
        let id = self.next - 1;
        self.answer(id).unwrap_or_else(|| panic!("no answer to {id}: {}", logged()))
    }

    #[track_caller]
    pub fn built(&mut self) -> Built {
        match self.last() {
            ServerReply::Built(built) => built,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    pub fn refused(&mut self) -> Failure {
        match self.last() {
            ServerReply::Failed(failure) => failure,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    pub fn refused_for(&mut self, reason: Reason) {
        let failure = self.refused();
        assert_eq!(failure.reason, reason, "{failure}");
    }
}

/// The greeting.
pub fn hello() -> ServerRequest {
    ServerRequest::Hello { lowest: 1, highest: 1, name: "test".into() }
}

/// A VM from the RAM disk.
pub fn build(spec: &BootSpec) -> BuildRequest {
    BuildRequest {
        spec: spec.encode().unwrap(),
        kernel: ImageSource::Ramdisk("images/kernel".into()),
        ramdisk: None,
        paused: false,
        console: None,
        xenstore: None,
        label: None,
        measured: true,
    }
}

pub fn digest(bytes: &[u8]) -> Digest {
    Digest(sha2::Sha256::digest(bytes).into())
}

/// All requests that send an image, in parts of `part` bytes.
pub fn put(bytes: &[u8], part: usize) -> Vec<ServerRequest> {
    let digest = digest(bytes);
    let mut all = vec![ServerRequest::PutImageBegin { digest, size: bytes.len() as u64 }];
    for (index, bytes) in bytes.chunks(part).enumerate() {
        let offset = (index * part) as u64;
        all.push(ServerRequest::PutImageChunk { digest, offset, bytes: bytes.to_vec() });
    }
    all.push(ServerRequest::PutImageEnd { digest });
    all
}

/// What a controller does, one act each time db-server has nothing to do.
#[derive(Clone)]
pub struct Script {
    machine: Machine,
    domid: u16,
    ctl: Rc<RefCell<Option<Ctl>>>,
}

impl Script {
    /// The script of the controller with this domain id; it begins by connecting, without a word.
    pub fn new(machine: &Machine, domid: u16) -> Self {
        let script = Self { machine: machine.clone(), domid, ctl: Rc::default() };
        let first = script.clone();
        machine.when_idle(move |machine| {
            *first.ctl.borrow_mut() = Some(Ctl::connect(machine, first.domid));
        });
        script
    }

    /// The same, greeted.
    pub fn greeted(machine: &Machine, domid: u16) -> Self {
        let script = Self::new(machine, domid);
        script.ask(hello());
        script.act(|ctl| assert!(matches!(ctl.last(), ServerReply::Hello { .. })));
        script
    }

    /// The next act.
    pub fn act(&self, act: impl FnOnce(&mut Ctl) + 'static) {
        let ctl = Rc::clone(&self.ctl);
        self.machine.when_idle(move |_| act(ctl.borrow_mut().as_mut().unwrap()));
    }

    pub fn ask(&self, request: ServerRequest) {
        self.act(move |ctl| {
            ctl.send(&request);
        });
    }

    /// Asks for something that is refused for `reason`.
    pub fn refuse(&self, request: ServerRequest, reason: Reason) {
        self.ask(request);
        self.act(move |ctl| ctl.refused_for(reason));
    }

    /// What the controller finds now, if it has connected and runs.
    pub fn look<R>(&self, look: impl FnOnce(&mut Ctl) -> R) -> Option<R> {
        self.ctl.borrow_mut().as_mut().filter(|ctl| ctl.guest.runs()).map(look)
    }

    /// The machine that it happens on.
    pub fn machine(&self) -> Machine {
        self.machine.clone()
    }

    /// Whether the controller has this domain id.
    pub fn is_of(&self, domid: u16) -> bool {
        self.domid == domid
    }

    /// Whether it has a connection.
    pub fn is_connected(&self) -> bool {
        self.ctl.borrow().is_some()
    }

    /// Connects at once.
    pub fn reconnect(&self) {
        *self.ctl.borrow_mut() = Some(Ctl::connect(&self.machine, self.domid));
    }

    /// Loses its end of the channel without a call, as a domain that is killed does: Xen lets go of what it had mapped.
    pub fn vanish(&self) {
        std::mem::forget(self.ctl.borrow_mut().take());
    }

    /// Closes its end of the channel at once.
    pub fn leave(&self) -> Option<Ctl> {
        self.ctl.borrow_mut().take()
    }

    /// The controller ends.
    pub fn end(&self) {
        let domid = self.domid;
        self.machine.when_idle(move |machine| {
            machine.guest(DomId::new(domid)).shut_down(xen_abi::sched::SHUTDOWN_POWEROFF);
        });
    }

    /// Gives up the own end of the channel, as a kernel that is gone does.
    pub fn forget(&self) {
        let ctl = Rc::clone(&self.ctl);
        self.machine.when_idle(move |_| drop(ctl.borrow_mut().take()));
    }
}

impl Script {
    /// Closes the channel in order.
    pub fn close(&self) {
        let ctl = Rc::clone(&self.ctl);
        self.machine.when_idle(move |_| {
            if let Some(ctl) = ctl.borrow_mut().take() {
                ctl.channel.close().unwrap();
            }
        });
    }
}
