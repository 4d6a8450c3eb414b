//! The typed calls.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use xen_abi::domctl::{
    Command, CreateDomain, DomainInfo, Domctl, HypercallInit, MaxMem, MaxVcpus, SetVirqHandler,
    VcpuContextArgument,
};
use xen_abi::event_channel::{
    self, AllocUnbound, BindInterdomain, BindIpi, BindVirq, EVTCHNOP_ALLOC_UNBOUND,
    EVTCHNOP_BIND_INTERDOMAIN, EVTCHNOP_BIND_IPI, EVTCHNOP_BIND_VIRQ, EVTCHNOP_CLOSE, EVTCHNOP_SEND,
    EVTCHNOP_STATUS, OnePort, PortState, Status,
};
use xen_abi::grant_table::{self, MapGrantRef, SetupTable, UnmapGrantRef};
use xen_abi::memory::{
    self, AcquireResource, RESOURCE_GRANT_TABLE, Reservation, XENMEM_ACQUIRE_RESOURCE, XENMEM_CLAIM_PAGES,
    XENMEM_CURRENT_RESERVATION, XENMEM_DECREASE_RESERVATION, XENMEM_POPULATE_PHYSMAP,
};
use xen_abi::mmu::{MMU_UPDATE_PREEMPTED, MMUEXT_PIN_L4_TABLE, MmuextOp};
use xen_abi::number::HypercallNumber;
use xen_abi::sched::{Poll, SCHEDOP_POLL, SCHEDOP_SHUTDOWN, Shutdown};
use xen_abi::sysctl::{MachineMemory, Sysctl, SysctlVersion, XEN_SYSCTL_PHYSINFO};
use xen_abi::vcpu::VcpuGuestContext;
use xen_abi::version::{EXTRAVERSION_LEN, XENVER_EXTRAVERSION};
use xen_abi::{DomId, Errno, Mfn, PageCount, Port, VcpuId, console, flask, hvm, physdev, platform, sysctl};
use zerocopy::FromZeros;

use crate::{CallCounts, CallError, Interface, ProbeError, RawHypercall};

/// The Xen underneath: knows which interfaces it speaks, has a method for each call, counts them.
#[derive(Debug)]
pub struct Xen<H> {
    raw: H,
    interface: Interface,
    counts: CallCounts,
}

/// Result of populating memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Populated {
    /// Extents that were done, from the first.
    pub extents: usize,
}

/// Address of a value for a hypercall that writes it.
pub(crate) fn address_mut<T: ?Sized>(value: &mut T) -> u64 {
    core::ptr::from_mut(value).cast::<u8>().expose_provenance() as u64
}

/// Address of a value for a hypercall that only reads it.
pub(crate) fn address<T: ?Sized>(value: &T) -> u64 {
    core::ptr::from_ref(value).cast::<u8>().expose_provenance() as u64
}

/// Name of the operation in a raw hypercall, as the public headers have it, for traces and messages.
///
/// `first_word` is the 32-bit word at the first argument where that is an address (domctl, sysctl, platform_op, xsm_op), else the argument.
pub fn call_name(number: HypercallNumber, first_word: u32) -> &'static str {
    match number {
        HypercallNumber::DOMCTL => Command::from_raw(first_word).name(),
        HypercallNumber::SYSCTL => sysctl::name(first_word),
        HypercallNumber::MEMORY_OP => memory::name(first_word & memory::MEMOP_CMD_MASK),
        HypercallNumber::EVENT_CHANNEL_OP => event_channel::name(first_word),
        HypercallNumber::GRANT_TABLE_OP => grant_table::name(first_word),
        HypercallNumber::PLATFORM_OP => platform::name(first_word),
        HypercallNumber::HVM_OP => hvm::name(first_word),
        HypercallNumber::PHYSDEV_OP => physdev::name(first_word),
        HypercallNumber::XSM_OP => flask::name(first_word),
        other => other.name(),
    }
}

impl<H: RawHypercall> Xen<H> {
    /// Finds out which Xen is behind `raw` and that this domain may build others.
    pub fn probe(raw: H) -> Result<Self, ProbeError> {
        let interface = Interface::probe(&raw)?;
        Ok(Self { raw, interface, counts: CallCounts::new() })
    }

    /// For a domain that controls no other: finds out only the release, and asks for no right.
    ///
    /// Xen refuses this domain's calls about others, whatever version they are made in.
    pub fn unprivileged(raw: H) -> Result<Self, ProbeError> {
        let interface = Interface::unprivileged(&raw)?;
        Ok(Self { raw, interface, counts: CallCounts::new() })
    }

    /// What was found out.
    pub fn interface(&self) -> &Interface {
        &self.interface
    }

    /// How often each hypercall was made through this value.
    pub fn counts(&self) -> &CallCounts {
        &self.counts
    }

    /// The seam, for the few calls that are made below this crate.
    pub fn raw(&self) -> &H {
        &self.raw
    }

    /// Makes a hypercall and turns a negative result into an error that names it.
    ///
    /// # Safety
    ///
    /// As [`RawHypercall::hypercall`].
    pub(crate) unsafe fn call(
        &self,
        number: HypercallNumber,
        args: [u64; 5],
        name: &'static str,
        domain: DomId,
    ) -> Result<i64, CallError> {
        self.counts.record(number);
        // SAFETY: the caller keeps the contract of the seam.
        let result = unsafe { self.raw.hypercall(number, args) };
        Errno::from_result(result).map_or(Ok(result), |errno| Err(CallError { call: name, domain, errno }))
    }

    /// Makes a domctl; OUT fields are in `call` afterwards.
    ///
    /// # Safety
    ///
    /// Addresses in the payload keep the contract of [`RawHypercall::hypercall`].
    pub(crate) unsafe fn domctl(&self, call: &mut Domctl) -> Result<(), CallError> {
        let command = Command::from_raw(call.cmd);
        let domain = DomId::new(call.domain);
        let args = [address_mut(call), 0, 0, 0, 0];
        // SAFETY: a domctl takes the address of one `Domctl`, valid for reads and writes for the length of the call.
        unsafe { self.call(HypercallNumber::DOMCTL, args, command.name(), domain) }.map(|_| ())
    }

    /// A domctl about `domain` without OUT fields that takes `payload`, which holds no address.
    pub(crate) fn set<T>(&self, command: Command, domain: DomId, payload: &T) -> Result<(), CallError>
    where
        T: zerocopy::IntoBytes + zerocopy::Immutable,
    {
        let mut call = Domctl::new(command, self.interface.domctl, domain).with(payload);
        // SAFETY: none of the payloads passed here holds an address.
        unsafe { self.domctl(&mut call) }
    }

    /// Creates a domain, paused and without memory; Xen chooses the identifier unless `domid` names one.
    pub fn create_domain(&self, domid: Option<DomId>, request: &CreateDomain) -> Result<DomId, CallError> {
        let version = self.interface.domctl;
        let mut call =
            Domctl::new(Command::CREATEDOMAIN, version, domid.unwrap_or_else(|| version.automatic_domid()));
        call.payload = request.encode(version);
        // SAFETY: the payload of a create call holds no address.
        unsafe { self.domctl(&mut call) }?;
        Ok(DomId::new(call.domain))
    }

    /// Destroys a domain. Xen works through its memory in this call, however long it takes.
    pub fn destroy_domain(&self, domain: DomId) -> Result<(), CallError> {
        loop {
            // Older releases give the work back in pieces with EAGAIN or ERESTART instead of continuing inside.
            match self.set(Command::DESTROYDOMAIN, domain, &[0_u8; 0]) {
                Err(CallError { errno: Errno::EAGAIN | Errno::ERESTART, .. }) => {}
                result => return result,
            }
        }
    }

    /// Pauses a domain; pauses count.
    pub fn pause_domain(&self, domain: DomId) -> Result<(), CallError> {
        self.set(Command::PAUSEDOMAIN, domain, &[0_u8; 0])
    }

    /// Takes one pause back; the domain runs when none is left.
    pub fn unpause_domain(&self, domain: DomId) -> Result<(), CallError> {
        self.set(Command::UNPAUSEDOMAIN, domain, &[0_u8; 0])
    }

    /// State of a domain; ESRCH when there is none of that identifier.
    pub fn domain_info(&self, domain: DomId) -> Result<DomainInfo, CallError> {
        let mut call = Domctl::new(Command::GETDOMAININFO, self.interface.domctl, domain);
        // SAFETY: the payload is OUT only and holds no address.
        unsafe { self.domctl(&mut call) }?;
        let info = DomainInfo::decode(&call.payload);
        // Some releases answer with the next domain that exists.
        if domain.is_ordinary() && info.domain != domain.raw() {
            return Err(CallError { call: Command::GETDOMAININFO.name(), domain, errno: Errno::ESRCH });
        }
        Ok(info)
    }

    /// Limits the memory a domain may have.
    pub fn set_max_memory(&self, domain: DomId, pages: PageCount) -> Result<(), CallError> {
        self.set(Command::MAX_MEM, domain, &MaxMem::new(pages))
    }

    /// Makes the vCPUs; the number has to repeat the one that the domain was created with.
    pub fn set_max_vcpus(&self, domain: DomId, max: u32) -> Result<(), CallError> {
        self.set(Command::MAX_VCPUS, domain, &MaxVcpus { max })
    }

    /// Has a global virtual interrupt (`VIRQ_*`) raised with `domain` instead of Dom0, until that domain is destroyed.
    pub fn set_virq_handler(&self, domain: DomId, virq: u32) -> Result<(), CallError> {
        self.set(Command::SET_VIRQ_HANDLER, domain, &SetVirqHandler { virq })
    }

    /// Fills a frame of the domain, which is not Dom0, with the hypercall stubs of its kind.
    pub fn init_hypercall_page(&self, domain: DomId, frame: Mfn) -> Result<(), CallError> {
        if domain == DomId::SELF || domain == DomId::DOM0 {
            // Xen would write over whatever the caller's own frame holds.
            return Err(CallError { call: "XEN_DOMCTL_hypercall_init", domain, errno: Errno::EINVAL });
        }
        self.set(Command::HYPERCALL_INIT, domain, &HypercallInit { gmfn: frame.raw() })
    }

    /// Sets what a vCPU starts with.
    pub fn set_vcpu_context(
        &self,
        domain: DomId,
        vcpu: VcpuId,
        context: &VcpuGuestContext,
    ) -> Result<(), CallError> {
        let mut call = Domctl::new(Command::SETVCPUCONTEXT, self.interface.domctl, domain)
            .with(&VcpuContextArgument::new(vcpu, address(context)));
        // SAFETY: the one address in the payload is that of `context`, which Xen only reads.
        unsafe { self.domctl(&mut call) }
    }

    /// Makes a memory operation.
    ///
    /// # Safety
    ///
    /// Addresses in `argument` keep the contract of [`RawHypercall::hypercall`].
    unsafe fn memory_op<T>(&self, op: u32, argument: &mut T, domain: DomId) -> Result<i64, CallError> {
        let args = [u64::from(op), address_mut(argument), 0, 0, 0];
        // SAFETY: the argument's type is the one that `op` takes, as each caller here sees to.
        unsafe { self.call(HypercallNumber::MEMORY_OP, args, memory::name(op), domain) }
    }

    /// Gives `domain` memory: one extent of 2^`order` pages for each entry of `extents`.
    ///
    /// An entry holds the extent's first PFN on the way in and, for a PV domain, its first MFN on the way out. Xen may do
    /// only the first few and says how many; the rest of `extents` is then unchanged. It enters each page in the
    /// machine-to-physical table itself.
    pub fn populate(&self, domain: DomId, order: u32, extents: &mut [u64]) -> Result<Populated, CallError> {
        let wanted = extents.len();
        let mut reservation = Reservation {
            extent_start: address_mut(extents),
            nr_extents: wanted as u64,
            extent_order: order,
            mem_flags: 0,
            domid: domain.raw(),
            pad: [0; 3],
        };
        // SAFETY: the list has the length that the reservation says, and Xen writes only entries of it.
        let result = unsafe { self.memory_op(XENMEM_POPULATE_PHYSMAP, &mut reservation, domain) }?;
        Ok(Populated { extents: usize::try_from(result).map_or(wanted, |done| done.min(wanted)) })
    }

    /// Gives frames of this domain's own memory back, each a page; this domain is a PV domain. Gives back how many Xen took,
    /// from the first: one that is not this domain's ends the call.
    ///
    /// Xen keeps a frame for as long as a PV domain maps it, so that no memory vanishes under whoever refers to it.
    pub fn give_back(&self, frames: &[Mfn]) -> Result<usize, CallError> {
        let wanted = frames.len();
        let list: Vec<u64> = frames.iter().map(|frame| frame.raw()).collect();
        let mut reservation = Reservation {
            extent_start: address(list.as_slice()),
            nr_extents: wanted as u64,
            extent_order: 0,
            mem_flags: 0,
            domid: DomId::SELF.raw(),
            pad: [0; 3],
        };
        // SAFETY: the list has the length that the reservation says, and Xen only reads it. Mapped memory stays, see above.
        let result = unsafe { self.memory_op(XENMEM_DECREASE_RESERVATION, &mut reservation, DomId::SELF) }?;
        Ok(usize::try_from(result).map_or(wanted, |done| done.min(wanted)))
    }

    /// Pages that `domain` has.
    pub fn current_pages(&self, domain: DomId) -> Result<PageCount, CallError> {
        // The call takes the address of a bare domain identifier.
        let mut argument = domain.raw();
        // SAFETY: the argument is one `domid_t`, and holds no address.
        let pages = unsafe { self.memory_op(XENMEM_CURRENT_RESERVATION, &mut argument, domain) }?;
        Ok(PageCount::new(pages.unsigned_abs()))
    }

    /// Sets memory aside for `domain` so that populating it cannot fail half way; 0 takes back what is left of a claim.
    pub fn claim_pages(&self, domain: DomId, pages: PageCount) -> Result<(), CallError> {
        let mut reservation = Reservation {
            extent_start: 0,
            nr_extents: pages.raw(),
            extent_order: 0,
            mem_flags: 0,
            domid: domain.raw(),
            pad: [0; 3],
        };
        // SAFETY: a claim uses only the number of extents; the list's address is null, as it has to be.
        unsafe { self.memory_op(XENMEM_CLAIM_PAGES, &mut reservation, domain) }.map(|_| ())
    }

    /// First frame of a PV domain's grant table.
    pub fn grant_table_frame(&self, domain: DomId) -> Result<Mfn, CallError> {
        let mut frame: u64 = 0;
        let mut acquire = AcquireResource {
            domid: domain.raw(),
            resource_type: u16::try_from(RESOURCE_GRANT_TABLE).unwrap_or_default(),
            nr_frames: 1,
            frame_list: address_mut(&mut frame),
            ..AcquireResource::default()
        };
        // SAFETY: the list has one entry, as the structure says.
        unsafe { self.memory_op(XENMEM_ACQUIRE_RESOURCE, &mut acquire, domain) }?;
        Ok(Mfn::new(frame))
    }

    /// Makes `table` of `domain`, and every table below it, page tables for as long as the domain lives.
    pub fn pin_l4(&self, domain: DomId, table: Mfn) -> Result<(), CallError> {
        const NAME: &str = "MMUEXT_PIN_L4_TABLE";
        let mut op = MmuextOp { cmd: MMUEXT_PIN_L4_TABLE, pad: 0, arg1: table.raw(), arg2: 0 };
        let mut done: u32 = 0;
        let args = [address_mut(&mut op), 1, address_mut(&mut done), u64::from(domain.raw()), 0];
        // SAFETY: one operation, as the count says; the table is another domain's, so the caller's address space stays.
        unsafe { self.call(HypercallNumber::MMUEXT_OP, args, NAME, domain) }?;
        if done & !MMU_UPDATE_PREEMPTED == 1 {
            return Ok(());
        }
        Err(CallError { call: NAME, domain, errno: Errno::EINVAL })
    }

    /// Makes an event-channel operation on an argument without addresses.
    pub(crate) fn event_op<T>(&self, op: u32, argument: &mut T, domain: DomId) -> Result<(), CallError> {
        let args = [u64::from(op), address_mut(argument), 0, 0, 0];
        // SAFETY: the argument's type is the one that `op` takes, as each caller here sees to, and holds no address.
        unsafe { self.call(HypercallNumber::EVENT_CHANNEL_OP, args, event_channel::name(op), domain) }
            .map(|_| ())
    }

    /// Allocates a port of `domain` that `remote` may bind to.
    pub fn alloc_unbound(&self, domain: DomId, remote: DomId) -> Result<Port, CallError> {
        let mut argument = AllocUnbound { dom: domain.raw(), remote_dom: remote.raw(), port: 0 };
        self.event_op(EVTCHNOP_ALLOC_UNBOUND, &mut argument, domain)?;
        Ok(Port::new(argument.port))
    }

    /// Binds a new port of the caller to an unbound port of `remote`.
    pub fn bind_interdomain(&self, remote: DomId, remote_port: Port) -> Result<Port, CallError> {
        let mut argument = BindInterdomain {
            remote_dom: remote.raw(),
            pad: 0,
            remote_port: remote_port.raw(),
            local_port: 0,
        };
        self.event_op(EVTCHNOP_BIND_INTERDOMAIN, &mut argument, remote)?;
        Ok(Port::new(argument.local_port))
    }

    /// Binds a new port of the caller to a virtual interrupt.
    pub fn bind_virq(&self, virq: u32, vcpu: VcpuId) -> Result<Port, CallError> {
        let mut argument = BindVirq { virq, vcpu: vcpu.raw(), port: 0 };
        self.event_op(EVTCHNOP_BIND_VIRQ, &mut argument, DomId::SELF)?;
        Ok(Port::new(argument.port))
    }

    /// Makes a new port of the caller that it notifies itself by.
    pub fn bind_ipi(&self, vcpu: VcpuId) -> Result<Port, CallError> {
        let mut argument = BindIpi { vcpu: vcpu.raw(), port: 0 };
        self.event_op(EVTCHNOP_BIND_IPI, &mut argument, DomId::SELF)?;
        Ok(Port::new(argument.port))
    }

    /// Notifies the other end of a port.
    pub fn send(&self, port: Port) -> Result<(), CallError> {
        self.event_op(EVTCHNOP_SEND, &mut OnePort { port: port.raw() }, DomId::SELF)
    }

    /// What a port of the caller is bound to.
    pub fn port_state(&self, port: Port) -> Result<PortState, CallError> {
        let mut argument = Status { dom: DomId::SELF.raw(), port: port.raw(), ..Status::default() };
        self.event_op(EVTCHNOP_STATUS, &mut argument, DomId::SELF)?;
        Ok(argument.state())
    }

    /// Gives a port of the caller back.
    pub fn close_port(&self, port: Port) -> Result<(), CallError> {
        self.event_op(EVTCHNOP_CLOSE, &mut OnePort { port: port.raw() }, DomId::SELF)
    }

    /// Grows the calling domain's own grant table to `frames` frames, if it has fewer, and gives its first `frames` frames.
    pub fn set_up_grant_table(&self, frames: u32) -> Result<Vec<Mfn>, CallError> {
        const NAME: &str = "GNTTABOP_setup_table";
        let mut list = vec![0_u64; frames as usize];
        let mut argument = SetupTable {
            dom: DomId::SELF.raw(),
            nr_frames: frames,
            frame_list: address_mut(list.as_mut_slice()),
            ..SetupTable::default()
        };
        let args = [u64::from(grant_table::GNTTABOP_SETUP_TABLE), address_mut(&mut argument), 1, 0, 0];
        // SAFETY: one `SetupTable`, as the count says, whose list has as many entries as it says.
        unsafe { self.call(HypercallNumber::GRANT_TABLE_OP, args, NAME, DomId::SELF) }?;
        match argument.status {
            0 => Ok(list.into_iter().map(Mfn::new).collect()),
            // The one reason for which a domain is refused its own table: it may not have so many frames.
            _ => Err(CallError { call: NAME, domain: DomId::SELF, errno: Errno::ENOSPC }),
        }
    }

    /// Maps granted frames.
    ///
    /// # Safety
    ///
    /// Each `host_addr` is an address that the caller keeps for this mapping and that Rust code holds no reference to.
    pub unsafe fn map_grants(&self, requests: &mut [MapGrantRef]) -> Result<(), CallError> {
        let args = [
            u64::from(grant_table::GNTTABOP_MAP_GRANT_REF),
            address_mut(requests),
            requests.len() as u64,
            0,
            0,
        ];
        let domain = requests.first().map_or(DomId::SELF, |first| DomId::new(first.dom));
        // SAFETY: the list has the length that is said; the caller answers for the addresses in it.
        unsafe { self.call(HypercallNumber::GRANT_TABLE_OP, args, "GNTTABOP_map_grant_ref", domain) }
            .map(|_| ())
    }

    /// Unmaps granted frames.
    ///
    /// # Safety
    ///
    /// Nothing refers to the mappings any more.
    pub unsafe fn unmap_grants(&self, requests: &mut [UnmapGrantRef]) -> Result<(), CallError> {
        let args = [
            u64::from(grant_table::GNTTABOP_UNMAP_GRANT_REF),
            address_mut(requests),
            requests.len() as u64,
            0,
            0,
        ];
        // SAFETY: the list has the length that is said; the caller answers for the addresses in it.
        unsafe { self.call(HypercallNumber::GRANT_TABLE_OP, args, "GNTTABOP_unmap_grant_ref", DomId::SELF) }
            .map(|_| ())
    }

    /// Waits until one of `ports` is pending, or until system time `deadline` (nanoseconds; `None` waits for ever).
    ///
    /// Returns at once for a port that is pending already. Ports need not be unmasked.
    pub fn poll(&self, ports: &[Port], deadline: Option<u64>) -> Result<(), CallError> {
        let mut argument = Poll {
            ports: address(ports),
            nr_ports: u32::try_from(ports.len()).unwrap_or(u32::MAX),
            pad: 0,
            timeout: deadline.unwrap_or(0),
        };
        let args = [u64::from(SCHEDOP_POLL), address_mut(&mut argument), 0, 0, 0];
        // SAFETY: `Port` has the layout of the header's evtchn_port_t; the list has the length that is said.
        unsafe { self.call(HypercallNumber::SCHED_OP, args, "SCHEDOP_poll", DomId::SELF) }.map(|_| ())
    }

    /// Ends the calling domain for `reason`; returns only when Xen refuses.
    pub fn shutdown(&self, reason: u8) -> Result<(), CallError> {
        let mut argument = Shutdown { reason: u32::from(reason) };
        let args = [u64::from(SCHEDOP_SHUTDOWN), address_mut(&mut argument), 0, 0, 0];
        // SAFETY: takes one `Shutdown`; afterwards nothing of this domain runs.
        unsafe { self.call(HypercallNumber::SCHED_OP, args, "SCHEDOP_shutdown", DomId::SELF) }.map(|_| ())
    }

    /// Writes `text` to Xen's console.
    pub fn console_write(&self, text: &[u8]) -> Result<(), CallError> {
        let args = [u64::from(console::CONSOLEIO_WRITE), text.len() as u64, address(text), 0, 0];
        // SAFETY: Xen reads as many bytes as the slice has.
        unsafe { self.call(HypercallNumber::CONSOLE_IO, args, "CONSOLEIO_write", DomId::SELF) }.map(|_| ())
    }

    /// Takes what was typed at Xen's console; gives back how many bytes of `buffer` were filled.
    pub fn console_read(&self, buffer: &mut [u8]) -> Result<usize, CallError> {
        let args = [u64::from(console::CONSOLEIO_READ), buffer.len() as u64, address_mut(buffer), 0, 0];
        // SAFETY: Xen writes at most as many bytes as the slice has.
        let read = unsafe { self.call(HypercallNumber::CONSOLE_IO, args, "CONSOLEIO_read", DomId::SELF) }?;
        Ok(usize::try_from(read).unwrap_or(0).min(buffer.len()))
    }

    /// Asks about the machine; `None` when this Xen speaks no sysctl interface that is known here.
    pub(crate) fn physinfo(&self) -> Result<Option<(Sysctl, SysctlVersion)>, CallError> {
        let Some(version) = self.interface.sysctl else { return Ok(None) };
        let mut call = Sysctl::new_zeroed();
        call.cmd = XEN_SYSCTL_PHYSINFO;
        call.interface_version = version.raw();
        let args = [address_mut(&mut call), 0, 0, 0, 0];
        // SAFETY: a sysctl takes the address of one `Sysctl`; physinfo only fills it.
        unsafe { self.call(HypercallNumber::SYSCTL, args, "XEN_SYSCTL_physinfo", DomId::SELF) }?;
        Ok(Some((call, version)))
    }

    /// Memory of the machine; `None` when this Xen speaks no sysctl interface that is known here.
    pub fn machine_memory(&self) -> Result<Option<MachineMemory>, CallError> {
        Ok(self.physinfo()?.and_then(|(call, version)| MachineMemory::decode(&call.payload, version)))
    }

    /// What follows the release number, as the ".5" of 4.17.5.
    pub fn extra_version(&self) -> Result<String, CallError> {
        let mut buffer = Box::new([0_u8; EXTRAVERSION_LEN]);
        let args = [u64::from(XENVER_EXTRAVERSION), address_mut(&mut *buffer), 0, 0, 0];
        // SAFETY: XENVER_extraversion fills 16 bytes, as many as the buffer has.
        unsafe { self.call(HypercallNumber::XEN_VERSION, args, "XENVER_extraversion", DomId::SELF) }?;
        let text = buffer.split(|byte| *byte == 0).next().unwrap_or_default();
        Ok(String::from_utf8_lossy(text).into_owned())
    }
}
