//! A db-server that keeps VMs as values, streams in memory to it, and a control domain between them and its clients.
#![allow(dead_code, reason = "each test file uses a part")]
#![allow(unreachable_pub, reason = "a module of a test")]

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use control_domain::{Config, Control, Options, Source, Status, Terms};
use protocols::archive::{CONTROL_ENTRY, PLATFORM_ENTRY, spec_entry};
use protocols::control::ControlSpec;
use protocols::message::{
    self, BuildRequest, Built, ControlNotice, ControlReply, ControlRequest, EndReason, Failure, Frame,
    ImageSource, Kind, Message, Quota, Reason, RingPlace, ServerNotice, ServerReply, ServerRequest, Stream,
    VmEntry, VmState,
};
use protocols::{BootSpec, Digest, ExitAction, Life, PlatformSpec};
use ramdisk::Writer;
use server_client::Transport;
use trust::sha256;

pub const SECOND: u64 = 1_000_000_000;

/// The kernel's bytes: several parts long, and no multiple of a part.
pub fn kernel() -> Vec<u8> {
    (0..100_001_u32).map(|index| index.to_le_bytes()[0] ^ index.to_le_bytes()[1]).collect()
}

pub fn spec(name: &str) -> BootSpec {
    BootSpec { uuid: [7; 16], ..BootSpec::new(name, "images/kernel", 8 << 10) }
}

pub fn after(name: &str, after: &[&str]) -> BootSpec {
    let after = after.iter().map(|name| (*name).to_owned()).collect();
    BootSpec { life: Life { after, ..Life::default() }, ..spec(name) }
}

pub fn ramdisk(
    settings: Option<&PlatformSpec>,
    control: Option<&ControlSpec>,
    specs: &[BootSpec],
) -> Vec<u8> {
    let mut writer = Writer::new();
    if let Some(settings) = settings {
        writer.file(PLATFORM_ENTRY, &settings.encode().unwrap()).unwrap();
    }
    if let Some(control) = control {
        writer.file(CONTROL_ENTRY, &control.encode().unwrap()).unwrap();
    }
    for spec in specs {
        writer.file(&spec_entry(&spec.name), &spec.encode().unwrap()).unwrap();
    }
    writer.file("images/kernel", &kernel()).unwrap();
    writer.finish()
}

/// One direction of a stream.
type Bytes = Rc<RefCell<VecDeque<u8>>>;

/// An end of a stream in memory that carries some bytes at a time.
#[derive(Clone)]
pub struct Wire {
    reads: Bytes,
    writes: Bytes,
    room: usize,
    broken: Rc<Cell<bool>>,
}

impl Wire {
    pub fn pair(room: usize) -> (Self, Self) {
        let [a, b] = [Bytes::default(), Bytes::default()];
        let broken = Rc::new(Cell::new(false));
        let one = Self { reads: a.clone(), writes: b.clone(), room, broken: broken.clone() };
        (one, Self { reads: b, writes: a, room: 1 << 20, broken })
    }

    pub fn cut(&self) {
        self.broken.set(true);
    }

    pub fn push(&self, bytes: &[u8]) {
        self.writes.borrow_mut().extend(bytes);
    }

    /// The messages that have come whole.
    pub fn frames(&self, stream: &mut Stream) -> Vec<Frame> {
        let bytes: Vec<u8> = self.reads.borrow_mut().drain(..).collect();
        let (mut rest, mut frames) = (bytes.as_slice(), Vec::new());
        while !rest.is_empty() {
            frames.extend(stream.take(&mut rest).unwrap());
        }
        frames
    }
}

impl Transport for Wire {
    type Error = &'static str;

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, &'static str> {
        let mut from = self.reads.borrow_mut();
        let count = buffer.len().min(from.len());
        for (to, byte) in buffer.iter_mut().zip(from.drain(..count)) {
            *to = byte;
        }
        if count == 0 && self.broken.get() { Err("cut") } else { Ok(count) }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<usize, &'static str> {
        if self.broken.get() {
            return Err("cut");
        }
        let mut to = self.writes.borrow_mut();
        let count = bytes.len().min(self.room.saturating_sub(to.len()));
        to.extend(&bytes[..count]);
        Ok(count)
    }
}

/// What happens when a VM is asked to power off.
#[derive(Clone, Copy, PartialEq)]
pub enum Manners {
    Obeys,
    Ignores,
    CannotBeAsked,
}

pub struct FakeVm {
    pub name: String,
    pub state: VmState,
    pub spec: BootSpec,
    pub serial: u64,
}

/// Whether the request of a number fails, and why.
pub type Fail = dyn Fn(usize, &ServerRequest) -> Option<Reason>;

/// A db-server without a machine.
pub struct FakeServer {
    wire: Wire,
    stream: Stream,
    pub vms: BTreeMap<u16, FakeVm>,
    pub store: BTreeMap<Digest, Vec<u8>>,
    coming: BTreeMap<Digest, Vec<u8>>,
    next_domid: u16,
    /// How many VMs were built.
    serial: u64,
    watched: bool,
    pub manners: Manners,
    pub requests: u32,
    /// What it was asked for, in words.
    pub asked: Vec<String>,
    /// Requests that came, but for hellos.
    pub count: usize,
    /// The request of this number fails, and those of these numbers, with a reason.
    pub fail: Box<Fail>,
    /// The stream is cut at the request of this number, before or after it is done.
    pub cut: Option<(usize, bool)>,
    /// Nothing is read or answered, and the stream stays open.
    pub mute: bool,
}

impl FakeServer {
    fn new(wire: Wire) -> Self {
        Self {
            wire,
            stream: Stream::new(),
            vms: BTreeMap::new(),
            store: BTreeMap::new(),
            coming: BTreeMap::new(),
            next_domid: 100,
            serial: 0,
            watched: false,
            manners: Manners::Obeys,
            requests: 8,
            asked: Vec::new(),
            count: 0,
            fail: Box::new(|_, _| None),
            cut: None,
            mute: false,
        }
    }

    fn quota(&self) -> Quota {
        let (memory_kib, vms, store_bytes) = (1 << 20, 99, 1 << 20);
        Quota { memory_kib, vms, first_domid: 1, last_domid: 999, store_bytes, requests: self.requests }
    }

    fn say<M: Message>(&self, id: u32, message: &M) {
        self.wire.push(&message::encode(id, message).unwrap());
    }

    /// Answers everything that came; says whether that was anything.
    fn serve(&mut self) -> bool {
        if self.mute {
            return false;
        }
        let mut stream = std::mem::take(&mut self.stream);
        let frames = self.wire.frames(&mut stream);
        self.stream = stream;
        let any = !frames.is_empty();
        for frame in frames {
            let request: ServerRequest = frame.decode().unwrap();
            let number = self.count;
            self.count += usize::from(!matches!(request, ServerRequest::Hello { .. }));
            let cut = self.cut.filter(|(at, _)| *at == number).map(|(_, done)| done);
            if cut == Some(false) {
                self.wire.cut();
                return any;
            }
            let is_hello = matches!(request, ServerRequest::Hello { .. });
            let reply =
                match Some(&request).filter(|_| !is_hello).and_then(|request| (self.fail)(number, request)) {
                    Some(reason) => Err(reason),
                    None => self.answer(request),
                };
            if cut == Some(true) {
                self.wire.cut();
                return any;
            }
            let detail = || "the test wants it".to_owned();
            let reply =
                reply.unwrap_or_else(|reason| ServerReply::Failed(Failure { reason, detail: detail() }));
            self.say(frame.id, &reply);
        }
        any
    }

    fn answer(&mut self, request: ServerRequest) -> Result<ServerReply, Reason> {
        match request {
            ServerRequest::Hello { .. } => {
                self.watched = false;
                Ok(ServerReply::Hello { version: 1, name: "db-server".into(), quota: self.quota() })
            }
            ServerRequest::PutImageBegin { digest, .. } => {
                if self.store.contains_key(&digest) {
                    return Ok(image(digest, 0, true));
                }
                let received = self.coming.entry(digest).or_default().len() as u64;
                Ok(image(digest, received, false))
            }
            ServerRequest::PutImageChunk { digest, offset, bytes } => {
                let coming = self.coming.get_mut(&digest).ok_or(Reason::NoSuchImage)?;
                if coming.len() as u64 != offset {
                    return Err(Reason::WrongOffset);
                }
                coming.extend(bytes);
                Ok(image(digest, coming.len() as u64, false))
            }
            ServerRequest::PutImageEnd { digest } => {
                let bytes = self.coming.remove(&digest).ok_or(Reason::NoSuchImage)?;
                if sha256(&bytes) != digest {
                    return Err(Reason::WrongDigest);
                }
                self.store.insert(digest, bytes);
                Ok(image(digest, 0, true))
            }
            ServerRequest::Build(build) => self.build(&build),
            ServerRequest::List { after } => {
                let above = self.vms.range(after + 1..);
                let mut vms: Vec<VmEntry> = above.map(|(domid, vm)| entry(*domid, vm)).collect();
                let more = vms.len() > 2;
                vms.truncate(2);
                Ok(ServerReply::Vms { vms, more })
            }
            ServerRequest::Unpause { domid, serial } => {
                self.check(domid, serial)?;
                let vm = self.vms.get_mut(&domid).ok_or(Reason::NoSuchVm)?;
                self.asked.push(format!("start {}", vm.name));
                vm.state = VmState::Running;
                Ok(ServerReply::Done)
            }
            ServerRequest::Shutdown { domid, serial } => {
                self.check(domid, serial)?;
                let vm = self.vms.get(&domid).ok_or(Reason::NoSuchVm)?;
                self.asked.push(format!("stop {}", vm.name));
                match self.manners {
                    Manners::CannotBeAsked => return Err(Reason::WrongState),
                    Manners::Obeys => self.end(domid, EndReason::Poweroff),
                    Manners::Ignores => {}
                }
                Ok(ServerReply::Done)
            }
            ServerRequest::Destroy { domid, serial } => {
                self.check(domid, serial)?;
                let vm = self.vms.remove(&domid).ok_or(Reason::NoSuchVm)?;
                self.asked.push(format!("destroy {}", vm.name));
                Ok(ServerReply::Done)
            }
            ServerRequest::WatchExits { watch } => {
                self.watched = watch;
                Ok(ServerReply::Done)
            }
            ServerRequest::Pause { .. } | ServerRequest::Facts | ServerRequest::PutImageCancel { .. } => {
                Err(Reason::NotPermitted)
            }
        }
    }

    /// Whether the VM is the one that is meant, which is always said.
    fn check(&self, domid: u16, serial: Option<u64>) -> Result<(), Reason> {
        let Some(serial) = serial else { panic!("a request about {domid} without a serial number") };
        let found = self.vms.get(&domid).filter(|vm| vm.serial == serial);
        found.map(|_| ()).ok_or(Reason::NoSuchVm)
    }

    fn build(&mut self, request: &BuildRequest) -> Result<ServerReply, Reason> {
        let spec = BootSpec::decode(&request.spec).unwrap();
        let kernel = match &request.kernel {
            ImageSource::Store(digest) if self.store.contains_key(digest) => *digest,
            ImageSource::Ramdisk(name) if name == "images/servers" => sha256(b"servers"),
            _ => return Err(Reason::NoSuchImage),
        };
        while self.vms.contains_key(&self.next_domid) {
            self.next_domid += 1;
        }
        let domid = spec.domid.unwrap_or(self.next_domid);
        if self.vms.contains_key(&domid) || self.vms.values().any(|vm| vm.name == spec.name) {
            return Err(Reason::Taken);
        }
        self.next_domid += u16::from(spec.domid.is_none());
        self.asked.push(format!("build {}", spec.name));
        assert!(request.paused);
        self.serial += 1;
        let serial = self.serial;
        self.vms.insert(domid, FakeVm { name: spec.name.clone(), state: VmState::Paused, spec, serial });
        let console = RingPlace { frame: 1, port: 1 };
        let (start_info, ramdisk, xenstore) = (1, None, None);
        Ok(ServerReply::Built(Built { domid, start_info, kernel, ramdisk, console, xenstore, serial }))
    }

    /// A VM ends; db-server does what the spec that it got says.
    pub fn end(&mut self, domid: u16, reason: EndReason) {
        let Some(vm) = self.vms.get_mut(&domid) else { return };
        vm.state = VmState::Ended;
        let (name, serial) = (vm.name.clone(), vm.serial);
        if vm.spec.on_crash != ExitAction::Preserve {
            self.vms.remove(&domid);
        }
        if self.watched {
            self.tell_end(domid, &name, reason, serial);
        }
    }

    pub fn tell_end(&self, domid: u16, name: &str, reason: EndReason, serial: u64) {
        self.say(0, &ServerNotice::Ended { domid, name: name.into(), reason, serial });
    }

    pub fn domid(&self, name: &str) -> Option<u16> {
        self.vms.iter().find(|(_, vm)| vm.name == name).map(|(domid, _)| *domid)
    }

    pub fn end_vm(&mut self, name: &str, reason: EndReason) {
        let domid = self.domid(name).unwrap();
        self.end(domid, reason);
    }

    pub fn runs(&self, name: &str) -> bool {
        self.vms.values().any(|vm| vm.name == name && vm.state == VmState::Running)
    }
}

fn image(digest: Digest, received: u64, complete: bool) -> ServerReply {
    ServerReply::Image { digest, received, complete }
}

fn entry(domid: u16, vm: &FakeVm) -> VmEntry {
    let (name, state, serial) = (vm.name.clone(), vm.state, vm.serial);
    VmEntry { domid, name, state, memory_kib: 1, vcpus: 1, serial }
}

/// A client of the control domain.
pub struct FakeClient {
    near: Wire,
    pub far: Wire,
    stream: Stream,
    pub heard: Vec<(u32, Result<ControlReply, ControlNotice>)>,
}

impl FakeClient {
    pub fn say(&self, id: u32, request: &ControlRequest) {
        self.far.push(&message::encode(id, request).unwrap());
    }

    pub fn hello(&self) {
        self.say(1, &ControlRequest::Hello { lowest: 1, highest: 1, name: "c".into() });
    }

    fn listen(&mut self) {
        let mut stream = std::mem::take(&mut self.stream);
        for frame in self.far.frames(&mut stream) {
            let said = match frame.kind {
                Kind::ControlReply => Ok(frame.decode().unwrap()),
                _ => Err(frame.decode().unwrap()),
            };
            self.heard.push((frame.id, said));
        }
        self.stream = stream;
    }

    /// The answer to request `id`.
    pub fn answer(&self, id: u32) -> Option<&ControlReply> {
        self.heard.iter().find(|(heard, _)| *heard == id).and_then(|(_, said)| said.as_ref().ok())
    }

    pub fn reason(&self, id: u32) -> Option<Reason> {
        match self.answer(id)? {
            ControlReply::Failed(failure) => Some(failure.reason),
            _ => None,
        }
    }
}

/// Everything together, with a clock.
pub struct World<'a> {
    pub control: Control<'a>,
    pub server: FakeServer,
    wire: Wire,
    pub clients: Vec<FakeClient>,
    pub now: u64,
    linked: bool,
    /// Whether a new stream can be had.
    pub reachable: bool,
    room: usize,
}

impl<'a> World<'a> {
    pub fn new(ramdisk: &'a [u8]) -> Self {
        Self::with_room(ramdisk, 3000)
    }

    /// A stream carries so many bytes at a time.
    pub fn with_room(ramdisk: &'a [u8], room: usize) -> Self {
        let source = Source::read(ramdisk, &Options::default()).unwrap();
        let terms = |(index, (vm, _)): (usize, (&str, u16))| Terms {
            vm: vm.into(),
            reference: 8 + u32::try_from(index).unwrap(),
            port: 3 + u32::try_from(index).unwrap(),
        };
        let terms: Vec<Terms> = source.clients().enumerate().map(terms).collect();
        let clients = terms.iter().map(|_| {
            let (near, far) = Wire::pair(1000);
            FakeClient { near, far, stream: Stream::new(), heard: Vec::new() }
        });
        let clients = clients.collect();
        let config = Config { name: "control".into(), domid: 5, clients: terms };
        let control = Control::new(source, config, SECOND).unwrap();
        let (wire, far) = Wire::pair(room);
        let server = FakeServer::new(far);
        Self { control, server, wire, clients, now: SECOND, linked: false, reachable: true, room }
    }

    /// Lets everybody do what can be done now; says whether anything moved.
    pub fn step(&mut self) -> bool {
        let mut moved = false;
        let is_due = !self.linked && self.control.is_to_connect(self.now);
        if is_due && !self.reachable {
            self.control.not_connected(&"nobody is there", self.now);
            moved = true;
        } else if is_due {
            if self.wire.broken.get() {
                let (near, far) = Wire::pair(self.room);
                self.wire = near;
                self.server.wire = far;
                self.server.stream = Stream::new();
                self.server.cut = None;
            }
            self.control.connected(self.now);
            self.linked = true;
            moved = true;
        }
        if self.linked {
            if let Ok(some) = self.control.turn(&mut self.wire, self.now) {
                moved |= some;
            } else {
                self.wire.cut();
                self.linked = false;
                moved = true;
            }
        }
        moved |= self.server.serve();
        for (index, client) in self.clients.iter_mut().enumerate() {
            if let Ok(some) = self.control.turn_client(index, &mut client.near, self.now) {
                moved |= some;
            } else {
                self.control.client_gone(index, self.now);
                let (near, far) = Wire::pair(1000);
                (client.near, client.far, client.stream) = (near, far, Stream::new());
            }
            client.listen();
        }
        self.control.tick(self.now);
        moved
    }

    /// The stream to db-server is lost.
    pub fn cut(&mut self) {
        self.wire.cut();
    }

    /// Until nothing moves at this moment.
    pub fn settle(&mut self) {
        for _ in 0..100_000 {
            if !self.step() {
                return;
            }
        }
        panic!("it never comes to rest: {:#?}", self.journal());
    }

    /// Until `is_met`, letting time pass from one thing that is due to the next.
    pub fn until(&mut self, what: &str, is_met: impl Fn(&Self) -> bool) {
        for _ in 0..10_000 {
            self.settle();
            if is_met(self) {
                return;
            }
            match self.control.deadline(self.now) {
                Some(time) if self.control.status().is_none() => self.now = time,
                _ => break,
            }
        }
        panic!("never {what}: {:#?}\n{:#?}", self.journal(), self.server.asked);
    }

    pub fn until_end(&mut self) -> Status {
        self.until("an end", |world| world.control.status().is_some());
        self.control.status().unwrap()
    }

    pub fn until_running(&mut self, name: &str) {
        self.until(name, |world| world.server.runs(name));
        self.settle();
    }

    pub fn journal(&self) -> Vec<String> {
        self.control.journal().entries().map(ToString::to_string).collect()
    }

    pub fn has(&self, text: &str) -> bool {
        self.journal().iter().any(|entry| entry.contains(text))
    }
}
