//! The service: all controllers in turn.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use event_channel::LocalPort;
use grant_table::{GrantTable, Shareable};
use hypercall::{FrameWindow, RawHypercall, SharedMemory, Xen};
use launch::{End, Fate, Host, Service};
use protocols::message::{EndReason, Reason, ServerNotice, ServerReply, ServerRequest};
use protocols::server::{Orphans, channel_word};
use protocols::{BootSpec, PlatformSpec, ServerSpec};
use vchan::{Order, Server, Sizes, Terms};
use xen_abi::{DomId, Port};

use crate::build::Bench;
use crate::failure::failure;
use crate::going::Going;
use crate::requests::{Desk, Shared};
use crate::session::{Fault, Session};
use crate::store::Store;
use crate::vms::{State, Vm, Vms, end_reason};

/// How long db-server works for one controller before it turns to the next, and to the VMs' consoles: 1 ms, in nanoseconds. What
/// cannot be divided may take longer: a call to Xen, a window's worth of memory, a block of a packed kernel.
const SLICE: u64 = 1_000_000;

/// The sizes of a channel's rings: 64 KiB from the controller, which sends images, and 16 KiB to it.
const LEFT: u16 = 16;
const RIGHT: u16 = 14;

/// Own pages to share with others.
pub trait Pages {
    /// A page.
    type Page: SharedMemory + Shareable;

    /// One more page; `None` when there is no memory left.
    fn page(&mut self) -> Option<Self::Page>;
}

/// A controller's channel, and what it has under way.
struct Client<'x, H: RawHypercall, P> {
    session: Session<'x, H, P>,
    desk: Desk<'x, H>,
}

/// The builder as a service.
pub struct DbServer<'x, H: RawHypercall, P: Pages, S> {
    pages: P,
    table: GrantTable<S>,
    clients: Vec<Client<'x, H, P::Page>>,
    shared: Shared,
    /// Whose turn is first.
    first: usize,
    /// When to look at VMs again that are going.
    look: Option<u64>,
}

impl<'x, H: RawHypercall, P: Pages, S: SharedMemory> DbServer<'x, H, P, S> {
    /// A server that has no controllers yet: [`open`](Service::open) finds them. `table` is the calling domain's grant table.
    pub fn new(table: GrantTable<S>, pages: P) -> Self {
        let (controllers, domids, known) = (Vec::new(), Vec::new(), BTreeMap::new());
        let (store, vms, bench) = (Store::new(0), Vms::default(), Bench::default());
        let shared = Shared { controllers, domids, store, vms, known, bench };
        Self { pages, table, clients: Vec::new(), shared, first: 0, look: None }
    }

    /// Opens the channel of the controller with this domain id.
    fn offer(&mut self, xen: &'x Xen<H>, client: DomId) -> Result<Server<'x, H, P::Page>, String> {
        let sizes =
            Order::new(LEFT).zip(Order::new(RIGHT)).and_then(|(left, right)| Sizes::new(left, right).ok());
        let sizes = sizes.ok_or("the rings have impossible sizes")?;
        let wanted = sizes.pages() + 1;
        let pages: Vec<_> = core::iter::from_fn(|| self.pages.page()).take(wanted).collect();
        let port = LocalPort::listen(xen, client).map_err(|error| format!("{error}"))?;
        let terms = Terms { client, sizes, reference: None };
        Server::offer(xen, &mut self.table, port, &terms, pages).map_err(|error| format!("{error}"))
    }

    /// Opens the channels of all controllers, and tells them on their command lines.
    fn serve(&mut self, xen: &'x Xen<H>, spec: &ServerSpec, specs: &mut [BootSpec]) -> Result<(), String> {
        for (owner, controller) in spec.controllers.iter().enumerate() {
            let name = &controller.vm;
            let vm = specs.iter_mut().find(|spec| spec.name == *name);
            let vm =
                vm.ok_or_else(|| format!("controller {name}: there is no such VM, or its boot spec is bad"))?;
            let domid = vm.domid.ok_or_else(|| format!("controller {name}: its VM needs a fixed `domid`"))?;
            let channel = self.offer(xen, DomId::new(domid));
            let channel = channel.map_err(|error| format!("controller {name}: no channel: {error}"))?;
            let word = channel_word(channel.reference().raw(), channel.port().raw());
            vm.command_line = format!("{} {word}", vm.command_line);
            self.shared.domids.push(domid);
            self.clients.push(Client { session: Session::new(channel), desk: Desk::new(owner) });
        }
        self.shared.controllers.clone_from(&spec.controllers);
        self.shared.store = Store::new(spec.store_kib.saturating_mul(1024));
        log::info!("event=serving controllers={} store={}KiB", spec.controllers.len(), spec.store_kib);
        Ok(())
    }

    /// Works for one controller; says whether there is more to do.
    fn attend<W: FrameWindow>(&mut self, index: usize, host: &mut Host<'_, '_, 'x, H, W>) -> bool {
        let (Some(client), Some(controller)) =
            (self.clients.get_mut(index), self.shared.controllers.get(index))
        else {
            return false;
        };
        host.events().take(client.session.port());
        if !client.desk.is_lost && client.session.renew(&mut self.table, host.time()) {
            log::info!("vm={} event=channel-renewed", controller.vm);
        }
        if !client.session.is_open() {
            return false;
        }
        match client.talk(&mut self.shared, host) {
            Ok(more) => more,
            Err(fault) => {
                self.part(index, &fault, host);
                false
            }
        }
    }

    /// Ends the conversation with a controller. What it has half done is undone; its VMs stay.
    fn part<W: FrameWindow>(&mut self, index: usize, fault: &Fault, host: &mut Host<'_, '_, 'x, H, W>) {
        let (Some(client), Some(controller)) =
            (self.clients.get_mut(index), self.shared.controllers.get(index))
        else {
            return;
        };
        let (name, now, jobs) = (&controller.vm, host.time(), client.desk.jobs.len());
        if fault.is_farewell() {
            log::info!("vm={name} event=controller-left unfinished={jobs}");
        } else {
            log::warn!(
                "vm={name} event=controller-dropped reason={} unfinished={jobs}: {fault}",
                fault.word()
            );
            let notice = ServerNotice::Dropped(failure(Reason::WrongState, fault));
            client.session.send(0, &notice, now);
        }
        client.session.hang_up(now);
        let Desk { jobs, is_greeted, watches, .. } = &mut client.desk;
        (*is_greeted, *watches) = (false, false);
        for job in jobs.drain(..) {
            if let Some(vm) = self.shared.vms.all.get_mut(&job.domid) {
                vm.state = State::Going(Going::new(now, None));
            }
        }
        for vm in self.shared.vms.all.values_mut().filter(|vm| vm.owner == index) {
            if let State::Going(going) = &mut vm.state {
                going.forget_waiters();
            }
        }
        self.shared.store.forget_partial(index);
        if client.desk.is_lost {
            self.bereave(index, host);
        }
    }

    /// Deals with the VMs of a controller that has ended for good.
    fn bereave<W: FrameWindow>(&mut self, owner: usize, host: &mut Host<'_, '_, 'x, H, W>) {
        let orphans = self.shared.controllers.get(owner).map(|controller| controller.orphans);
        if orphans != Some(Orphans::Destroy) {
            return;
        }
        for (domid, vm) in self.shared.vms.all.iter_mut().filter(|(_, vm)| vm.owner == owner) {
            vm.dismiss(host, *domid);
        }
    }

    /// Looks at the VMs that were destroyed, and answers those who wait for them to be gone; says whether there was something to tell.
    fn see_off<W: FrameWindow>(&mut self, host: &mut Host<'_, '_, 'x, H, W>) -> bool {
        let (now, mut look, mut tells) = (host.time(), None, false);
        let Self { clients, shared, .. } = self;
        shared.vms.all.retain(|domid, vm| {
            if let Some(until) = vm.leave.filter(|_| matches!(vm.state, State::Live)) {
                vm.dismiss(host, *domid);
                look = look.into_iter().chain([until.max(now)]).min();
            }
            let State::Going(going) = &mut vm.state else { return true };
            if !going.is_due(now) {
                look = look.into_iter().chain([going.deadline()]).min();
                return true;
            }
            let is_gone = host.is_gone(DomId::new(*domid));
            if let Some(client) = clients.get_mut(vm.owner) {
                tells |= client.tell_end(host.xen(), *domid, vm, is_gone, now);
            }
            if let State::Going(going) = &mut vm.state
                && !is_gone
            {
                going.note_look(now);
                look = look.into_iter().chain([going.deadline()]).min();
            }
            !is_gone
        });
        self.look = look;
        tells
    }
}

impl<'x, H: RawHypercall, P: SharedMemory + Shareable> Client<'x, H, P> {
    /// Takes a request, works on what is to be built, and sends what there is to say; says whether there is more to do.
    fn talk<W: FrameWindow>(
        &mut self,
        shared: &mut Shared,
        host: &mut Host<'_, '_, 'x, H, W>,
    ) -> Result<bool, Fault> {
        let now = host.time();
        self.session.flush(now)?;
        self.session.check(now)?;
        let frame = self.session.receive(now)?;
        let has_heard = frame.is_some();
        if let Some(frame) = frame {
            let request = frame.decode::<ServerRequest>()?;
            let answer = self.desk.answer(shared, host, frame.id, request);
            if let Some(answer) = answer {
                self.reply(frame.id, &answer, now);
            }
        }
        self.work(shared, host, now.saturating_add(SLICE));
        self.session.flush(host.time())?;
        Ok(has_heard || self.session.has_more() || !self.desk.jobs.is_empty())
    }

    fn reply(&mut self, id: u32, answer: &ServerReply, now: u64) {
        self.desk.answered += 1;
        if matches!(answer, ServerReply::Failed(_)) {
            self.desk.refused += 1;
        }
        self.session.send(id, answer, now);
    }

    /// Goes on with the VM that is being built.
    fn work<W: FrameWindow>(&mut self, shared: &mut Shared, host: &mut Host<'_, '_, 'x, H, W>, until: u64) {
        let Some(job) = self.desk.jobs.front_mut() else { return };
        let (id, domid) = (job.id, job.domid);
        let Shared { store, vms, known, bench, .. } = shared;
        let answer = match job.step(host, store, known, bench, until) {
            Ok(None) => return,
            Ok(Some(built)) => {
                if let Some(vm) = vms.all.get_mut(&domid) {
                    vm.state = State::Live;
                }
                self.desk.built += 1;
                ServerReply::Built(built)
            }
            Err(failure) => {
                if let Some(vm) = vms.all.get_mut(&domid) {
                    vm.state = State::Going(Going::new(host.time(), None));
                }
                ServerReply::Failed(failure)
            }
        };
        self.desk.jobs.pop_front();
        self.reply(id, &answer, host.time());
    }

    /// Tells of a VM that is gone, or that is not gone in time, whom that concerns; says whether that was anybody.
    fn tell_end(&mut self, xen: &Xen<H>, domid: u16, vm: &mut Vm, is_gone: bool, now: u64) -> bool {
        let State::Going(going) = &mut vm.state else { return false };
        let waiters = going.take_waiters(is_gone, now);
        let answer = match waiters.first() {
            Some(_) if !is_gone => {
                ServerReply::Failed(failure(Reason::Xen, going.describe(xen, domid, &vm.name, now)))
            }
            _ => ServerReply::Done,
        };
        for id in &waiters {
            self.reply(*id, &answer, now);
        }
        let is_refused = xen.leak_of(DomId::new(domid)).is_some();
        let reason = going.take_reason(is_gone, is_refused, now);
        if let Some(reason) = reason {
            self.tell(domid, vm, reason, now);
        }
        reason.is_some() || !waiters.is_empty()
    }

    /// Tells of a VM's end, if the controller wants to know.
    fn tell(&mut self, domid: u16, vm: &Vm, reason: EndReason, now: u64) {
        if self.desk.watches {
            let (name, serial) = (vm.name.clone(), vm.serial);
            self.session.send(0, &ServerNotice::Ended { domid, name, reason, serial }, now);
        }
    }
}

impl<'x, H, W, P, S> Service<'x, H, W> for DbServer<'x, H, P, S>
where
    H: RawHypercall,
    W: FrameWindow,
    P: Pages,
    S: SharedMemory,
{
    fn open(
        &mut self,
        xen: &'x Xen<H>,
        settings: &PlatformSpec,
        specs: &mut [BootSpec],
    ) -> Result<(), String> {
        let Some(spec) = &settings.server else {
            return Err("the platform names no controllers, so that nobody could ask db-server for anything: add a [server] \
                        table to the platform file, or start db-boot"
                .into());
        };
        self.serve(xen, spec, specs)
    }

    fn keeps(&self, name: &str) -> bool {
        self.shared.controllers.iter().any(|controller| controller.images.allows(name))
    }

    fn ports(&self, ports: &mut Vec<Port>) {
        ports.extend(self.clients.iter().map(|client| client.session.port()));
    }

    fn deadline(&self) -> Option<u64> {
        // Nobody comes back to the channel of a controller that is gone for good.
        let clients = self.clients.iter().filter(|client| !client.desk.is_lost || client.session.is_open());
        clients.filter_map(|client| client.session.deadline()).chain(self.look).min()
    }

    fn turn(&mut self, host: &mut Host<'_, '_, 'x, H, W>) -> bool {
        let count = self.clients.len();
        let mut has_more = false;
        for offset in 0..count {
            has_more |= self.attend((self.first + offset) % count, host);
        }
        self.first = (self.first + 1) % count.max(1);
        // What is answered here is sent in the next turn.
        self.see_off(host) || has_more
    }

    fn ended(&mut self, host: &mut Host<'_, '_, 'x, H, W>, end: &End) {
        let Some(vm) = self.shared.vms.all.get_mut(&end.domid.raw()) else { return };
        let (now, reason) = (host.time(), end_reason(end.ending));
        if end.fate == Fate::Preserved {
            vm.state = State::Preserved;
            if vm.leave.is_some() {
                // Nobody is left to want it kept.
                vm.destroy(host, end.domid.raw(), None);
            }
            if let Some(client) = self.clients.get_mut(vm.owner) {
                client.tell(end.domid.raw(), vm, reason, now);
            }
        } else {
            // It is told when what the VM held is free.
            vm.state = State::Going(Going::new(now, Some(reason)));
        }
    }

    fn lost(&mut self, host: &mut Host<'_, '_, 'x, H, W>, name: &str) {
        let owner = self.shared.controllers.iter().position(|controller| controller.vm == name);
        let Some((owner, controller)) =
            owner.and_then(|owner| Some((owner, self.shared.controllers.get(owner)?)))
        else {
            return;
        };
        let (count, orphans) = (self.shared.vms.of(owner).count(), controller.orphans);
        let fate = if orphans == Orphans::Destroy { "destroyed" } else { "kept" };
        log::info!("vm={name} event=controller-ended vms={count} orphans={fate}");
        if let Some(client) = self.clients.get_mut(owner) {
            // What it asked for before it ended is still heard; the VMs that come of it are orphans as well.
            client.desk.is_lost = true;
            client.session.suspect();
        }
        self.bereave(owner, host);
    }

    fn close(&mut self, host: &mut Host<'_, '_, 'x, H, W>) {
        // Those that run are asked to power off after this, or destroyed.
        for (domid, vm) in &mut self.shared.vms.all {
            if !matches!(vm.state, State::Live) {
                vm.destroy(host, *domid, None);
            }
        }
        for index in 0..self.clients.len() {
            let (Some(client), Some(controller)) =
                (self.clients.get_mut(index), self.shared.controllers.get(index))
            else {
                continue;
            };
            client.session.hang_up(host.time());
            client.desk.jobs.clear();
            let Desk { answered, refused, built, .. } = &client.desk;
            log::info!(
                "vm={} event=served requests={answered} refused={refused} built={built}",
                controller.vm
            );
        }
    }
}
