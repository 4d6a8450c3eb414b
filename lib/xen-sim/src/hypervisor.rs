//! The hypercalls of one simulated domain.

use std::rc::Rc;
use std::sync::atomic::AtomicU64;

use hypercall::RawHypercall;
use xen_abi::domctl::{
    Command, CreateDomain, Domctl, DomctlVersion, HypercallInit, MaxMem, MaxVcpus, VcpuContextArgument,
};
use xen_abi::memory::{AcquireResource, MachphysMapping, RESOURCE_GRANT_TABLE};
use xen_abi::mmu::{
    MMU_MACHPHYS_UPDATE, MMU_NORMAL_PT_UPDATE, MMUEXT_PIN_L1_TABLE, MMUEXT_PIN_L4_TABLE, MMUEXT_UNPIN_TABLE,
    MmuUpdate, MmuextOp,
};
use xen_abi::number::HypercallNumber;
use xen_abi::sched::POLL_MAX_PORTS;
use xen_abi::shared_info::EVENT_WORDS;
use xen_abi::sysctl::{Sysctl, SysctlVersion, XEN_SYSCTL_PHYSINFO};
use xen_abi::vcpu::VcpuGuestContext;
use xen_abi::version::{XENVER_EXTRAVERSION, XENVER_VERSION};
use xen_abi::{DomId, Errno, Mfn, PAGE_SIZE, Port};
use zerocopy::{FromBytes, IntoBytes};

use crate::DOM0;
use crate::events::{EventBits, resolve};
use crate::faults::{CallSite, Effect};
use crate::frames::Holder;
use crate::machine::Machine;
use crate::request::{Request, domid, low_half};
use crate::state::State;
use crate::trace::Call;

/// Nanoseconds that each hypercall takes.
const CALL_TIME: u64 = 1_000;
/// Where every PV guest sees the machine-to-physical table.
const M2P_START: u64 = 0xffff_8000_0000_0000;

/// What a hypercall does to the machine: a result, or the error.
type Outcome = Result<i64, Errno>;

/// The seam of one domain to the simulated Xen.
#[derive(Clone, Debug)]
pub struct SimHypervisor {
    machine: Machine,
    caller: DomId,
    bits: Rc<EventBits>,
}

impl SimHypervisor {
    pub(crate) fn new(machine: Machine, caller: DomId, bits: Rc<EventBits>) -> Self {
        Self { machine, caller, bits }
    }

    /// The domain that makes the calls.
    pub fn domain(&self) -> DomId {
        self.caller
    }

    /// `evtchn_pending` of the domain's shared info page.
    pub fn pending_words(&self) -> &[AtomicU64; EVENT_WORDS] {
        &self.bits.pending
    }

    /// `evtchn_mask` of the domain's shared info page.
    pub fn mask_words(&self) -> &[AtomicU64; EVENT_WORDS] {
        &self.bits.mask
    }

    /// Makes the calls of a multicall one after the other.
    ///
    /// # Safety
    ///
    /// Each entry keeps the contract of [`RawHypercall::hypercall`].
    unsafe fn multicall(&self, request: &mut Request) -> Outcome {
        let Request::Multicall(entries) = request else { return Err(Errno::ENOSYS) };
        for entry in entries {
            let [first, second, third, fourth, fifth, _] = entry.args;
            let number = HypercallNumber::from_raw(low_half(entry.op));
            // SAFETY: the caller answers for each entry.
            let result = unsafe { self.hypercall(number, [first, second, third, fourth, fifth]) };
            entry.result = result.cast_unsigned();
        }
        Ok(0)
    }

    /// Waits for a port. Nothing of the machine is borrowed meanwhile, for the script acts through it.
    fn poll(&self, ports: &[u32], timeout: u64) -> Outcome {
        if ports.len() > POLL_MAX_PORTS {
            return Err(Errno::EINVAL);
        }
        loop {
            {
                let mut state = self.machine.state();
                if state.any_pending(self.caller, ports)? {
                    return Ok(0);
                }
                if self.caller == DOM0 && state.free_lingering() {
                    continue;
                }
                if timeout != 0 && state.now >= timeout {
                    return Ok(0);
                }
            }
            if self.caller == DOM0 && self.machine.run_step() {
                continue;
            }
            if timeout == 0 {
                self.machine.fail_for_ever(self.caller, ports);
            }
            self.machine.state().now = timeout;
        }
    }
}

// SAFETY: `Request` reads and writes the arguments as the public headers define them, and nothing else.
unsafe impl RawHypercall for SimHypervisor {
    unsafe fn hypercall(&self, number: HypercallNumber, args: [u64; 5]) -> i64 {
        // SAFETY: the caller keeps the contract of the call.
        let mut request = match unsafe { Request::decode(number, args) } {
            Ok(request) => request,
            Err(errno) => return errno.to_result(),
        };
        let (name, domain) = request.subject(number, args, self.caller);
        let (mut call, effect) = self.machine.begin(self.caller, number, name, domain);
        let version = DomctlVersion::from_raw(self.machine.state().release.domctl());
        call.numbers = request.numbers(version);
        let (outcome, answers) = match effect {
            Some(Effect::Fail(errno)) => (Err(errno), false),
            Some(Effect::FailAndScribble(errno)) => {
                request.scribble();
                (Err(errno), true)
            }
            effect => {
                let most = match effect {
                    Some(Effect::Short(most)) => most,
                    _ => usize::MAX,
                };
                let outcome = match &mut request {
                    // SAFETY: the caller keeps the contract for the entries too.
                    Request::Multicall(_) => unsafe { self.multicall(&mut request) },
                    Request::Poll { ports, timeout } => self.poll(ports, *timeout),
                    request => self.machine.state().perform(self.caller, request, most),
                };
                (outcome, outcome.is_ok() || request.counts_on_error())
            }
        };
        if answers {
            // SAFETY: as for `decode`, with the same arguments.
            unsafe { request.encode(args) };
        }
        if let (Request::Domctl { call: answer, .. }, Ok(_)) = (&request, outcome) {
            // A create call tells only now which domain it is about.
            call.domain = DomId::new(answer.domain);
        }
        self.machine.end(Call { result: outcome, ..call });
        outcome.unwrap_or_else(Errno::to_result)
    }
}

impl Request {
    /// Whether the call writes how far it got even when it fails.
    fn counts_on_error(&self) -> bool {
        matches!(self, Self::MmuUpdate { .. } | Self::MmuExt { .. })
    }
}

impl State {
    /// Counts a call, and finds the fault that waits for it.
    pub(crate) fn strike(&mut self, site: &CallSite) -> Option<Effect> {
        self.calls += 1;
        self.now += CALL_TIME;
        self.faults.strike(site)
    }

    /// Does what a request asks for; lists only up to `most` entries.
    fn perform(&mut self, caller: DomId, request: &mut Request, most: usize) -> Outcome {
        match request {
            Request::Domctl { call, context } => self.domctl(caller, call, context.as_deref()),
            Request::Sysctl(call) => self.sysctl(caller, call),
            Request::Populate { reservation, extents } => {
                Ok(count(self.populate(caller, reservation, extents, most)))
            }
            Request::Decrease { reservation, extents } => {
                Ok(count(self.decrease(caller, reservation, extents)))
            }
            Request::Claim(reservation) => self.claim(caller, reservation).map(|()| 0),
            Request::Acquire { resource, frames } => self.acquire(caller, resource, frames),
            Request::CurrentReservation(domain) => {
                let domain = self.living(resolve(*domain, caller))?;
                Ok(domain.pages.cast_signed())
            }
            Request::MaximumRamPage => Ok(self.frames.highest().raw().cast_signed()),
            Request::MachphysMapping(mapping) => {
                let max_mfn = self.frames.highest().raw();
                let v_end = M2P_START + (max_mfn + 1) * 8;
                *mapping = MachphysMapping { v_start: M2P_START, v_end, max_mfn };
                Ok(0)
            }
            Request::MmuUpdate { updates, done, foreign } => {
                let outcome = self.mmu_updates(caller, updates.iter().take(most), *foreign, done);
                outcome.and(if updates.len() > most { Err(Errno::EINVAL) } else { Ok(0) })
            }
            Request::MmuExt { ops, done, foreign } => {
                let outcome = self.mmuext_ops(caller, ops.iter().take(most), *foreign, done);
                outcome.and(if ops.len() > most { Err(Errno::EINVAL) } else { Ok(0) })
            }
            Request::MapGrants(requests) => {
                for request in requests {
                    self.map_grant(caller, request);
                }
                Ok(0)
            }
            Request::UnmapGrants(requests) => {
                for request in requests {
                    self.unmap_grant(caller, request);
                }
                Ok(0)
            }
            Request::SetUpTable { .. } | Request::QuerySize(_) => self.grant_table_op(caller, request),
            Request::ConsoleWrite(bytes) => self.console_write(caller, bytes),
            Request::ConsoleRead { wanted, bytes } => self.console_read(caller, *wanted, bytes),
            Request::Version { command, text } => self.xen_version(*command, text),
            Request::Shutdown(reason) => self.shutdown_op(caller, *reason),
            Request::Yield | Request::SetTimer => Ok(0),
            // Handled by the caller, because other calls are made meanwhile.
            Request::Multicall(_) | Request::Poll { .. } | Request::Unknown => Err(Errno::ENOSYS),
            request => self.event_channel_op(caller, request),
        }
    }

    fn domctl(&mut self, caller: DomId, call: &mut Domctl, context: Option<&VcpuGuestContext>) -> Outcome {
        if call.interface_version != self.release.domctl() {
            return Err(Errno::EACCES);
        }
        if !self.is_privileged(caller) {
            return Err(Errno::EPERM);
        }
        let version = DomctlVersion::from_raw(call.interface_version).ok_or(Errno::EACCES)?;
        let domain = DomId::new(call.domain);
        match Command::from_raw(call.cmd) {
            Command::CREATEDOMAIN => {
                let request = CreateDomain::decode(&call.payload, version).ok_or(Errno::EINVAL)?;
                call.domain = self.create_domain(domain, &request)?.raw();
            }
            Command::GETDOMAININFO => {
                let info = self.domain_info(domain)?;
                call.domain = info.domain;
                let bytes = info.as_bytes();
                call.payload[..bytes.len()].copy_from_slice(bytes);
            }
            Command::DESTROYDOMAIN => self.destroy(caller, domain)?,
            Command::PAUSEDOMAIN => self.pause(caller, domain)?,
            Command::UNPAUSEDOMAIN => self.unpause(domain)?,
            Command::MAX_MEM => self.set_max_memory(domain, payload::<MaxMem>(call)?.max_memkb)?,
            Command::MAX_VCPUS => self.set_max_vcpus(caller, domain, payload::<MaxVcpus>(call)?.max)?,
            Command::SETVCPUCONTEXT => {
                let vcpu = payload::<VcpuContextArgument>(call)?.vcpu;
                self.set_context(caller, domain, vcpu, context.ok_or(Errno::EINVAL)?)?;
            }
            Command::HYPERCALL_INIT => {
                let frame = Mfn::new(payload::<HypercallInit>(call)?.gmfn);
                self.fill_hypercall_page(domain, frame)?;
            }
            _ => return Err(Errno::ENOSYS),
        }
        Ok(0)
    }

    /// Fills a frame with hypercall stubs: 32 bytes for each of the 128 numbers.
    fn fill_hypercall_page(&mut self, domain: DomId, frame: Mfn) -> Result<(), Errno> {
        self.domain(domain)?;
        let writable = crate::frames::Use::Writable;
        self.frames.use_as(frame, domain, writable).map_err(|_| Errno::EACCES)?;
        let mut page = [0xcc; PAGE_SIZE];
        for (number, stub) in (0_u32..).zip(page.chunks_exact_mut(32)) {
            // mov eax, number; syscall; ret: enough of the real stub to be told from anything else.
            stub[0] = 0xb8;
            stub[1..5].copy_from_slice(&number.to_le_bytes());
            stub[5..8].copy_from_slice(&[0x0f, 0x05, 0xc3]);
        }
        self.frames.write_at(frame, 0, &page);
        self.frames.end_use(frame);
        Ok(())
    }

    fn sysctl(&mut self, caller: DomId, call: &mut Sysctl) -> Outcome {
        if call.interface_version != self.release.sysctl() {
            return Err(Errno::EACCES);
        }
        if !self.is_privileged(caller) {
            return Err(Errno::EPERM);
        }
        if call.cmd != XEN_SYSCTL_PHYSINFO {
            return Err(Errno::ENOSYS);
        }
        let version = SysctlVersion::from_raw(call.interface_version).ok_or(Errno::EACCES)?;
        let claimed = self.domains.values().map(|domain| domain.claimed).sum();
        let counts: [u64; 4] = [self.frames.total(), self.frames.free_count(), 0, claimed];
        let offset = version.physinfo_pages_offset();
        call.payload[offset..offset + size_of_val(&counts)].copy_from_slice(counts.as_bytes());
        Ok(0)
    }

    fn acquire(&mut self, caller: DomId, resource: &mut AcquireResource, frames: &mut [u64]) -> Outcome {
        let domain = DomId::new(resource.domid);
        if resource.pad != 0 || resource.frame >> 32 != 0 {
            return Err(Errno::EINVAL);
        }
        self.living(domain)?;
        if !self.is_privileged(caller) {
            return Err(Errno::EPERM);
        }
        if u32::from(resource.resource_type) != RESOURCE_GRANT_TABLE || resource.id != 0 {
            return Err(Errno::EINVAL);
        }
        if resource.frame_list == 0 {
            if resource.nr_frames != 0 {
                return Err(Errno::EINVAL);
            }
            resource.nr_frames = self.living(domain)?.grants.max_frames();
            return Ok(0);
        }
        let found = self.grant_frames(domain, resource.frame, u64::from(resource.nr_frames))?;
        for (to, from) in frames.iter_mut().zip(found) {
            *to = from.raw();
        }
        Ok(0)
    }

    /// `mmu_update`: page-table entries of frames of the domain in the upper half of `foreign` (plus one; 0 for the caller),
    /// naming frames of the domain in its lower half.
    fn mmu_updates<'a>(
        &mut self,
        caller: DomId,
        updates: impl Iterator<Item = &'a MmuUpdate>,
        foreign: u64,
        done: &mut u32,
    ) -> Outcome {
        let subject = resolve(domid(foreign), caller);
        let tables = match domid(foreign >> 16).raw() {
            0 => caller,
            number => resolve(DomId::new(number - 1), caller),
        };
        self.controlled(caller, subject)?;
        self.controlled(caller, tables)?;
        for update in updates {
            let (frame, offset) = (Mfn::new(update.ptr >> 12), update.ptr & 0xfff);
            match update.ptr & 3 {
                MMU_NORMAL_PT_UPDATE => {
                    let slot = usize::try_from(offset / 8).map_err(|_| Errno::EINVAL)?;
                    self.frames.update_entry(frame, slot, update.val, tables)?;
                }
                MMU_MACHPHYS_UPDATE => {
                    let held = self.frames.get_mut(frame).filter(|it| it.owner() == Some(subject));
                    held.ok_or(Errno::EINVAL)?.pfn = Some(update.val);
                }
                _ => return Err(Errno::ENOSYS),
            }
            *done += 1;
        }
        Ok(0)
    }

    fn mmuext_ops<'a>(
        &mut self,
        caller: DomId,
        ops: impl Iterator<Item = &'a MmuextOp>,
        foreign: DomId,
        done: &mut u32,
    ) -> Outcome {
        let subject = resolve(foreign, caller);
        self.controlled(caller, subject)?;
        for op in ops {
            let frame = Mfn::new(op.arg1);
            match op.cmd {
                MMUEXT_PIN_L1_TABLE..=MMUEXT_PIN_L4_TABLE => {
                    let level = [1, 2, 3, 4][(op.cmd - MMUEXT_PIN_L1_TABLE) as usize];
                    self.frames.pin(frame, subject, level)?;
                }
                MMUEXT_UNPIN_TABLE => self.frames.unpin(frame, subject)?,
                // Flushes of translations and caches, new base pointers: nothing here caches or runs.
                _ if subject == caller => {}
                _ => return Err(Errno::EPERM),
            }
            *done += 1;
        }
        Ok(0)
    }

    /// Whether `caller` may work on the memory of `domain`: its own, or that of a domain it controls.
    pub(crate) fn controlled(&mut self, caller: DomId, domain: DomId) -> Result<(), Errno> {
        self.domain(domain)?;
        if domain == caller || self.is_privileged(caller) { Ok(()) } else { Err(Errno::EPERM) }
    }

    fn event_channel_op(&mut self, caller: DomId, request: &mut Request) -> Outcome {
        match request {
            Request::AllocUnbound(argument) => {
                let (domain, remote) = (DomId::new(argument.dom), DomId::new(argument.remote_dom));
                argument.port = self.alloc_unbound(caller, domain, remote)?.raw();
            }
            Request::BindInterdomain(argument) => {
                let (remote, port) = (DomId::new(argument.remote_dom), Port::new(argument.remote_port));
                argument.local_port = self.bind_interdomain(caller, remote, port)?.raw();
            }
            Request::BindVirq(argument) => {
                argument.port = self.bind_virq(caller, argument.virq, argument.vcpu)?.raw();
            }
            Request::BindIpi(argument) => argument.port = self.bind_ipi(caller, argument.vcpu)?.raw(),
            Request::Close(argument) => self.close_port(caller, Port::new(argument.port))?,
            Request::Send(argument) => self.send(caller, Port::new(argument.port))?,
            Request::Unmask(_) => {}
            _ => return Err(Errno::ENOSYS),
        }
        Ok(0)
    }

    fn grant_table_op(&mut self, caller: DomId, request: &mut Request) -> Outcome {
        match request {
            Request::SetUpTable { table, frames } => {
                let domain = resolve(DomId::new(table.dom), caller);
                self.controlled(caller, domain)?;
                match self.grant_frames(domain, 0, u64::from(table.nr_frames)) {
                    Ok(found) => frames.extend(found.into_iter().map(Mfn::raw)),
                    Err(_) => table.status = -1,
                }
            }
            Request::QuerySize(size) => {
                let domain = resolve(DomId::new(size.dom), caller);
                self.controlled(caller, domain)?;
                let grants = &self.domain(domain)?.grants;
                size.nr_frames = u32::try_from(grants.frames().count()).unwrap_or(u32::MAX);
                size.max_nr_frames = grants.max_frames();
            }
            _ => return Err(Errno::ENOSYS),
        }
        Ok(0)
    }

    fn console_write(&mut self, caller: DomId, bytes: &[u8]) -> Outcome {
        // A release build takes nothing from domains without privilege.
        if !self.is_privileged(caller) {
            return Err(Errno::EPERM);
        }
        self.console.extend_from_slice(bytes);
        Ok(0)
    }

    fn console_read(&mut self, caller: DomId, wanted: usize, bytes: &mut Vec<u8>) -> Outcome {
        if !self.is_privileged(caller) {
            return Err(Errno::EPERM);
        }
        let take = wanted.min(self.typed.len());
        bytes.extend(self.typed.drain(..take));
        Ok(count(take))
    }

    fn xen_version(&mut self, command: u32, text: &mut [u8; 16]) -> Outcome {
        let version = self.release.version();
        match command {
            XENVER_VERSION => Ok(i64::from(version.major) << 16 | i64::from(version.minor)),
            XENVER_EXTRAVERSION => {
                text[..4].copy_from_slice(b".sim");
                Ok(0)
            }
            _ => Err(Errno::ENOSYS),
        }
    }

    fn shutdown_op(&mut self, caller: DomId, reason: u32) -> Outcome {
        let [reason, ..] = reason.to_le_bytes();
        if caller == DOM0 {
            // Dom0's end is the machine's.
            self.ended.get_or_insert(reason);
            return Ok(0);
        }
        self.shut_down(caller, reason).map(|()| 0)
    }

    /// Frames of a domain's memory and of Xen's that are in use for it.
    pub(crate) fn frames_of(&self, domain: DomId) -> usize {
        let held = |holder: Holder| match holder {
            Holder::Domain(it) | Holder::Shared(it) | Holder::Private(it) => it == domain,
            Holder::Free => false,
        };
        self.frames.all().filter(|(_, frame)| held(frame.holder)).count()
    }
}

/// The payload of a domctl as the structure that its command takes.
fn payload<T: FromBytes>(call: &Domctl) -> Result<T, Errno> {
    T::read_from_prefix(&call.payload).map(|(value, _)| value).map_err(|_| Errno::EINVAL)
}

/// A count as a hypercall's result.
fn count(done: usize) -> i64 {
    i64::try_from(done).unwrap_or(i64::MAX)
}
