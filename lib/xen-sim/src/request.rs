//! Hypercalls as values: reading a call's arguments from the caller's memory, and writing its answers back.
//!
//! Everything that touches the caller's memory is here, in [`Request::decode`] and [`Request::encode`]; what happens in
//! between works on copies.

use hypercall::call_name;
use xen_abi::cpu_policy::{CpuidLeaf, DomainPolicy, SystemPolicy, XEN_SYSCTL_GET_CPU_POLICY};
use xen_abi::domctl::{
    Command, CreateDomain, Domctl, DomctlVersion, HvmContextArgument, MaxMem, MaxVcpus, VcpuContextArgument,
};
use xen_abi::event_channel::{
    AllocUnbound, BindInterdomain, BindIpi, BindVirq, EVTCHNOP_ALLOC_UNBOUND, EVTCHNOP_BIND_INTERDOMAIN,
    EVTCHNOP_BIND_IPI, EVTCHNOP_BIND_VIRQ, EVTCHNOP_CLOSE, EVTCHNOP_SEND, EVTCHNOP_STATUS, EVTCHNOP_UNMASK,
    OnePort, Status,
};
use xen_abi::flask::{FLASK_CONTEXT_TO_SID, FLASK_RELABEL_DOMAIN, FlaskOp, Relabel, SidContext};
use xen_abi::grant_table::{
    GNTTABOP_MAP_GRANT_REF, GNTTABOP_QUERY_SIZE, GNTTABOP_SETUP_TABLE, GNTTABOP_UNMAP_GRANT_REF, MapGrantRef,
    QuerySize, SetupTable, UnmapGrantRef,
};
use xen_abi::hvm::{HVMOP_SET_PARAM, Param};
use xen_abi::memory::{
    AcquireResource, ForeignMemoryMap, MAX_MAP_ENTRIES, MEMOP_CMD_MASK, MachphysMapping, MapEntry,
    Reservation, XENMEM_ACQUIRE_RESOURCE, XENMEM_CLAIM_PAGES, XENMEM_CURRENT_RESERVATION,
    XENMEM_DECREASE_RESERVATION, XENMEM_MACHPHYS_MAPPING, XENMEM_MAXIMUM_RAM_PAGE, XENMEM_POPULATE_PHYSMAP,
    XENMEM_SET_MEMORY_MAP,
};
use xen_abi::mmu::{MmuUpdate, MmuextOp, MulticallEntry};
use xen_abi::number::HypercallNumber;
use xen_abi::physdev::{MapPirq, PHYSDEVOP_MAP_PIRQ, PHYSDEVOP_UNMAP_PIRQ, UnmapPirq};
use xen_abi::sched::{Poll, SCHEDOP_BLOCK, SCHEDOP_POLL, SCHEDOP_SHUTDOWN, SCHEDOP_YIELD, Shutdown};
use xen_abi::scheduling::{
    AFFINITY_HARD, CPUPOOL_MOVE_DOMAIN, CpupoolOp, VcpuAffinity, XEN_SYSCTL_CPUPOOL_OP,
};
use xen_abi::sysctl::{
    DomainInfoList, ReadConsole, Sysctl, XEN_SYSCTL_GETDOMAININFOLIST, XEN_SYSCTL_READCONSOLE,
};
use xen_abi::vcpu::VcpuGuestContext;
use xen_abi::{DomId, Errno, console};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// What OUT fields are full of after [`Effect::FailAndScribble`](crate::Effect::FailAndScribble).
const RUBBISH: u8 = 0xdb;

/// A copy of a buffer of the caller's.
#[derive(Default)]
pub(crate) struct Buffer {
    /// Where it is; 0 without one.
    address: u64,
    pub(crate) bytes: Vec<u8>,
}

/// A hypercall with copies of its arguments, and room for its answers.
pub(crate) enum Request {
    Domctl { call: Domctl, context: Option<Box<VcpuGuestContext>>, buffer: Buffer },
    SetParam(Param),
    Sysctl { call: Sysctl, buffer: Buffer },
    Flask { op: FlaskOp, text: Vec<u8> },
    MapPirq(MapPirq),
    UnmapPirq(UnmapPirq),
    Populate { reservation: Reservation, extents: Vec<u64> },
    Decrease { reservation: Reservation, extents: Vec<u64> },
    Claim(Reservation),
    Acquire { resource: AcquireResource, frames: Vec<u64> },
    CurrentReservation(DomId),
    SetMemoryMap { domain: DomId, entries: Vec<MapEntry> },
    MaximumRamPage,
    MachphysMapping(MachphysMapping),
    MmuUpdate { updates: Vec<MmuUpdate>, done: u32, foreign: u64 },
    MmuExt { ops: Vec<MmuextOp>, done: u32, foreign: DomId },
    AllocUnbound(AllocUnbound),
    BindInterdomain(BindInterdomain),
    BindVirq(BindVirq),
    BindIpi(BindIpi),
    Close(OnePort),
    Send(OnePort),
    Unmask(OnePort),
    PortStatus(Status),
    MapGrants(Vec<MapGrantRef>),
    UnmapGrants(Vec<UnmapGrantRef>),
    SetUpTable { table: SetupTable, frames: Vec<u64> },
    QuerySize(QuerySize),
    Poll { ports: Vec<u32>, timeout: u64 },
    Shutdown(u32),
    Yield,
    ConsoleWrite(Vec<u8>),
    ConsoleRead { wanted: usize, bytes: Vec<u8> },
    Version { command: u32, text: Vec<u8> },
    Multicall(Vec<MulticallEntry>),
    SetTimer,
    Unknown,
}

/// Reads a value from the caller's memory.
///
/// # Safety
///
/// `address` is 0, or that of a `T` that is valid for reads.
unsafe fn read<T: FromBytes>(address: u64) -> Result<T, Errno> {
    if address == 0 {
        return Err(Errno::EFAULT);
    }
    let address = usize::try_from(address).map_err(|_| Errno::EFAULT)?;
    let pointer = core::ptr::with_exposed_provenance::<T>(address);
    // SAFETY: the caller says that it is valid; every type with `FromBytes` is initialised by any bytes.
    Ok(unsafe { pointer.read_unaligned() })
}

/// Reads `count` values from the caller's memory.
///
/// # Safety
///
/// `address` is 0, or that of `count` values that are valid for reads.
unsafe fn read_list<T: FromBytes>(address: u64, count: u64) -> Result<Vec<T>, Errno> {
    (0..count)
        .map(|index| {
            // SAFETY: as for the whole list; the sum does not overflow as long as the list is in memory.
            unsafe { read(list_entry::<T>(address, index)) }
        })
        .collect()
}

/// Reads a reservation with its list of extents.
///
/// # Safety
///
/// As [`read`], and the list has as many entries as the reservation says.
unsafe fn read_reservation(address: u64) -> Result<(Reservation, Vec<u64>), Errno> {
    // SAFETY: the caller says so.
    let reservation: Reservation = unsafe { read(address) }?;
    // SAFETY: the caller says so.
    let extents = unsafe { read_list(reservation.extent_start, reservation.nr_extents) }?;
    Ok((reservation, extents))
}

/// Address of an entry in a list; 0 if the list has none.
fn list_entry<T>(address: u64, index: u64) -> u64 {
    if address == 0 { 0 } else { address.wrapping_add(index.wrapping_mul(size_of::<T>() as u64)) }
}

/// Writes a value to the caller's memory; a null address is passed over.
///
/// # Safety
///
/// `address` is 0, or that of as many bytes as `value` has, valid for writes.
unsafe fn write<T: IntoBytes + Immutable + ?Sized>(address: u64, value: &T) {
    let Some(address) = usize::try_from(address).ok().filter(|address| *address != 0) else { return };
    let bytes = value.as_bytes();
    let to = core::ptr::with_exposed_provenance_mut::<u8>(address);
    // SAFETY: the caller says that the bytes are valid for writes; `value` is borrowed here, so it is elsewhere.
    unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
}

impl Request {
    /// Reads the arguments of hypercall `number`.
    ///
    /// # Safety
    ///
    /// `number` and `args` keep the contract of [`RawHypercall::hypercall`](hypercall::RawHypercall::hypercall).
    pub(crate) unsafe fn decode(number: HypercallNumber, args: [u64; 5]) -> Result<Self, Errno> {
        let [first, second, third, fourth, _] = args;
        // SAFETY: for every arm: by the contract, the arguments that the interface defines as addresses are those of structures
        // of the types that it defines, and so are the addresses within those structures.
        unsafe {
            Ok(match number {
                HypercallNumber::DOMCTL => Self::decode_domctl(first)?,
                HypercallNumber::SYSCTL => Self::decode_sysctl(first)?,
                HypercallNumber::MEMORY_OP => Self::decode_memory_op(low_half(first), second)?,
                HypercallNumber::MMU_UPDATE => {
                    Self::MmuUpdate { updates: read_list(first, second)?, done: 0, foreign: fourth }
                }
                HypercallNumber::MMUEXT_OP => {
                    Self::MmuExt { ops: read_list(first, second)?, done: 0, foreign: domid(fourth) }
                }
                HypercallNumber::EVENT_CHANNEL_OP => Self::decode_event_op(low_half(first), second)?,
                HypercallNumber::GRANT_TABLE_OP => Self::decode_grant_op(low_half(first), second, third)?,
                HypercallNumber::SCHED_OP => Self::decode_sched_op(low_half(first), second)?,
                HypercallNumber::CONSOLE_IO => Self::decode_console_io(low_half(first), second, third)?,
                HypercallNumber::XEN_VERSION => Self::Version { command: low_half(first), text: Vec::new() },
                HypercallNumber::MULTICALL => Self::Multicall(read_list(first, second)?),
                HypercallNumber::XSM_OP => Self::decode_flask(first)?,
                HypercallNumber::SET_TIMER_OP => Self::SetTimer,
                HypercallNumber::HVM_OP if low_half(first) == HVMOP_SET_PARAM => {
                    Self::SetParam(read(second)?)
                }
                HypercallNumber::PHYSDEV_OP if low_half(first) == PHYSDEVOP_MAP_PIRQ => {
                    Self::MapPirq(read(second)?)
                }
                HypercallNumber::PHYSDEV_OP if low_half(first) == PHYSDEVOP_UNMAP_PIRQ => {
                    Self::UnmapPirq(read(second)?)
                }
                _ => Self::Unknown,
            })
        }
    }

    /// # Safety
    ///
    /// As [`decode`](Self::decode).
    unsafe fn decode_domctl(address: u64) -> Result<Self, Errno> {
        // SAFETY: the argument of a domctl is a `Domctl`.
        let call: Domctl = unsafe { read(address) }?;
        let mut context = None;
        let mut buffer = Buffer::default();
        if Command::from_raw(call.cmd) == Command::SETVCPUCONTEXT
            && let Ok((argument, _)) = VcpuContextArgument::read_from_prefix(&call.payload)
            && argument.ctxt != 0
        {
            // SAFETY: the address in this call's payload is that of a vCPU's state. A 32-bit domain's is smaller, but nobody who does not
            // know what Xen makes of the domain has less than this there.
            context = Some(Box::new(unsafe { read(argument.ctxt) }?));
        }
        let command = Command::from_raw(call.cmd);
        if [Command::GETHVMCONTEXT, Command::SETHVMCONTEXT].contains(&command)
            && let Ok((argument, _)) = HvmContextArgument::read_from_prefix(&call.payload)
            && argument.buffer != 0
        {
            buffer.address = argument.buffer;
            buffer.bytes = vec![0; argument.size as usize];
            if command == Command::SETHVMCONTEXT {
                // SAFETY: the buffer has as many bytes as this call's payload says.
                buffer.bytes = unsafe { read_list(argument.buffer, u64::from(argument.size)) }?;
            }
        }
        if [Command::GET_CPU_POLICY, Command::SET_CPU_POLICY].contains(&command)
            && let Ok((argument, _)) = DomainPolicy::read_from_prefix(&call.payload)
        {
            let size = u64::from(argument.nr_leaves) * size_of::<CpuidLeaf>() as u64;
            buffer.address = argument.leaves;
            // SAFETY: there are as many leaves, or room for them, as this call's payload says.
            buffer.bytes = unsafe { read_list(argument.leaves, size) }?;
        }
        if command == Command::SETVCPUAFFINITY
            && let Ok((argument, _)) = VcpuAffinity::read_from_prefix(&call.payload)
        {
            let map =
                if argument.flags == AFFINITY_HARD { argument.cpumap_hard } else { argument.cpumap_soft };
            // SAFETY: the list has as many bits as this call's payload says.
            buffer.bytes = unsafe { read_list(map.bitmap, u64::from(map.nr_bits.div_ceil(8))) }?;
            buffer.address = map.bitmap;
        }
        Ok(Self::Domctl { call, context, buffer })
    }

    /// # Safety
    ///
    /// As [`decode`](Self::decode).
    unsafe fn decode_sysctl(address: u64) -> Result<Self, Errno> {
        // SAFETY: the argument of a sysctl is a `Sysctl`.
        let call: Sysctl = unsafe { read(address) }?;
        let mut buffer = Buffer::default();
        if call.cmd == XEN_SYSCTL_READCONSOLE
            && let Ok((request, _)) = ReadConsole::read_from_prefix(&call.payload)
        {
            buffer.address = request.buffer;
            buffer.bytes = vec![0; request.count as usize];
        }
        if call.cmd == XEN_SYSCTL_GETDOMAININFOLIST
            && let Ok((request, _)) = DomainInfoList::read_from_prefix(&call.payload)
        {
            // What is written back is what was filled: entries have another size in other versions.
            buffer.address = request.buffer;
        }
        if call.cmd == XEN_SYSCTL_GET_CPU_POLICY
            && let Ok((argument, _)) = SystemPolicy::read_from_prefix(&call.payload)
        {
            buffer.address = argument.leaves;
            buffer.bytes = vec![0; argument.nr_leaves as usize * size_of::<CpuidLeaf>()];
        }
        Ok(Self::Sysctl { call, buffer })
    }

    /// # Safety
    ///
    /// As [`decode`](Self::decode).
    unsafe fn decode_flask(address: u64) -> Result<Self, Errno> {
        // SAFETY: the argument of an operation on labels is a `FlaskOp`.
        let op: FlaskOp = unsafe { read(address) }?;
        let mut text = Vec::new();
        if op.cmd == FLASK_CONTEXT_TO_SID
            && let Ok((argument, _)) = SidContext::read_from_prefix(&op.payload)
        {
            // SAFETY: the text has as many bytes as the argument says.
            text = unsafe { read_list(argument.context, u64::from(argument.size)) }?;
        }
        Ok(Self::Flask { op, text })
    }

    /// # Safety
    ///
    /// As [`decode`](Self::decode).
    unsafe fn decode_memory_op(op: u32, argument: u64) -> Result<Self, Errno> {
        // SAFETY: for every arm: the argument is the structure that the operation takes, and its list has as many entries as it
        // says.
        unsafe {
            Ok(match op & MEMOP_CMD_MASK {
                XENMEM_POPULATE_PHYSMAP => {
                    let (reservation, extents) = read_reservation(argument)?;
                    Self::Populate { reservation, extents }
                }
                XENMEM_DECREASE_RESERVATION => {
                    let (reservation, extents) = read_reservation(argument)?;
                    Self::Decrease { reservation, extents }
                }
                XENMEM_CLAIM_PAGES => Self::Claim(read(argument)?),
                XENMEM_ACQUIRE_RESOURCE => {
                    let resource: AcquireResource = read(argument)?;
                    let listed = if resource.frame_list == 0 { 0 } else { resource.nr_frames as usize };
                    Self::Acquire { resource, frames: vec![0; listed] }
                }
                XENMEM_SET_MEMORY_MAP => {
                    let argument: ForeignMemoryMap = read(argument)?;
                    if argument.nr_entries > MAX_MAP_ENTRIES {
                        return Err(Errno::EINVAL);
                    }
                    let entries = read_list(argument.buffer, u64::from(argument.nr_entries))?;
                    Self::SetMemoryMap { domain: DomId::new(argument.domid), entries }
                }
                XENMEM_CURRENT_RESERVATION => Self::CurrentReservation(DomId::new(read(argument)?)),
                XENMEM_MAXIMUM_RAM_PAGE => Self::MaximumRamPage,
                XENMEM_MACHPHYS_MAPPING => Self::MachphysMapping(MachphysMapping::default()),
                _ => Self::Unknown,
            })
        }
    }

    /// # Safety
    ///
    /// As [`decode`](Self::decode).
    unsafe fn decode_event_op(op: u32, argument: u64) -> Result<Self, Errno> {
        // SAFETY: for every arm: the argument is the structure that the operation takes.
        unsafe {
            Ok(match op {
                EVTCHNOP_ALLOC_UNBOUND => Self::AllocUnbound(read(argument)?),
                EVTCHNOP_BIND_INTERDOMAIN => Self::BindInterdomain(read(argument)?),
                EVTCHNOP_BIND_VIRQ => Self::BindVirq(read(argument)?),
                EVTCHNOP_BIND_IPI => Self::BindIpi(read(argument)?),
                EVTCHNOP_CLOSE => Self::Close(read(argument)?),
                EVTCHNOP_SEND => Self::Send(read(argument)?),
                EVTCHNOP_UNMASK => Self::Unmask(read(argument)?),
                EVTCHNOP_STATUS => Self::PortStatus(read(argument)?),
                _ => Self::Unknown,
            })
        }
    }

    /// # Safety
    ///
    /// As [`decode`](Self::decode).
    unsafe fn decode_grant_op(op: u32, argument: u64, count: u64) -> Result<Self, Errno> {
        // SAFETY: for every arm: the argument is a list of `count` of the structures that the operation takes.
        unsafe {
            Ok(match op {
                GNTTABOP_MAP_GRANT_REF => Self::MapGrants(read_list(argument, count)?),
                GNTTABOP_UNMAP_GRANT_REF => Self::UnmapGrants(read_list(argument, count)?),
                GNTTABOP_SETUP_TABLE => Self::SetUpTable { table: read(argument)?, frames: Vec::new() },
                GNTTABOP_QUERY_SIZE => Self::QuerySize(read(argument)?),
                _ => Self::Unknown,
            })
        }
    }

    /// # Safety
    ///
    /// As [`decode`](Self::decode).
    unsafe fn decode_sched_op(op: u32, argument: u64) -> Result<Self, Errno> {
        Ok(match op {
            SCHEDOP_POLL => {
                // SAFETY: the argument of this operation is a `Poll`.
                let poll: Poll = unsafe { read(argument) }?;
                // SAFETY: its list has as many ports as it says.
                let ports = unsafe { read_list(poll.ports, u64::from(poll.nr_ports)) }?;
                Self::Poll { ports, timeout: poll.timeout }
            }
            SCHEDOP_SHUTDOWN => {
                // SAFETY: the argument of this operation is a `Shutdown`.
                let shutdown: Shutdown = unsafe { read(argument) }?;
                Self::Shutdown(shutdown.reason)
            }
            SCHEDOP_YIELD => Self::Yield,
            // Waiting for an upcall: no domain here has a handler.
            SCHEDOP_BLOCK => Self::Poll { ports: Vec::new(), timeout: 0 },
            _ => Self::Unknown,
        })
    }

    /// # Safety
    ///
    /// As [`decode`](Self::decode).
    unsafe fn decode_console_io(op: u32, count: u64, buffer: u64) -> Result<Self, Errno> {
        Ok(match op {
            // SAFETY: the buffer has as many bytes as the call says.
            console::CONSOLEIO_WRITE => Self::ConsoleWrite(unsafe { read_list(buffer, count) }?),
            console::CONSOLEIO_READ => {
                let wanted = usize::try_from(count).map_err(|_| Errno::EINVAL)?;
                Self::ConsoleRead { wanted, bytes: Vec::new() }
            }
            _ => Self::Unknown,
        })
    }

    /// Writes the answers to where the arguments of hypercall `number` say.
    ///
    /// # Safety
    ///
    /// As [`decode`](Self::decode), with the same arguments.
    pub(crate) unsafe fn encode(&self, args: [u64; 5]) {
        let [first, second, third, ..] = args;
        // SAFETY: for every arm: OUT fields of the interface are valid for writes by the contract of the call, and lists are
        // not longer than they were when they were read.
        unsafe {
            match self {
                Self::Domctl { call, buffer, .. } => {
                    write(first, call);
                    let filled = [Command::GETHVMCONTEXT, Command::SETVCPUAFFINITY, Command::GET_CPU_POLICY];
                    if filled.contains(&Command::from_raw(call.cmd)) {
                        write(buffer.address, buffer.bytes.as_slice());
                    }
                }
                Self::Sysctl { call, buffer } => {
                    write(buffer.address, buffer.bytes.as_slice());
                    write(first, call);
                }
                Self::Flask { op, .. } => write(first, op),
                Self::Populate { reservation, extents } => {
                    write(reservation.extent_start, extents.as_slice());
                }
                Self::Acquire { resource, frames } => {
                    write(resource.frame_list, frames.as_slice());
                    write(second, resource);
                }
                Self::MachphysMapping(mapping) => write(second, mapping),
                Self::MmuUpdate { done, .. } | Self::MmuExt { done, .. } => write(third, done),
                Self::AllocUnbound(argument) => write(second, argument),
                Self::BindInterdomain(argument) => write(second, argument),
                Self::BindVirq(argument) => write(second, argument),
                Self::BindIpi(argument) => write(second, argument),
                Self::PortStatus(argument) => write(second, argument),
                Self::MapPirq(argument) => write(second, argument),
                Self::MapGrants(requests) => write(second, requests.as_slice()),
                Self::UnmapGrants(requests) => write(second, requests.as_slice()),
                Self::SetUpTable { table, frames } => {
                    write(table.frame_list, frames.as_slice());
                    write(second, table);
                }
                Self::QuerySize(argument) => write(second, argument),
                Self::ConsoleRead { bytes, .. } => write(third, bytes.as_slice()),
                Self::Version { text, .. } if !text.is_empty() => write(second, text.as_slice()),
                Self::Multicall(entries) => write(first, entries.as_slice()),
                _ => {}
            }
        }
    }

    /// Fills everything that the call could have answered with rubbish.
    pub(crate) fn scribble(&mut self) {
        match self {
            Self::Domctl { call, buffer, .. } => {
                buffer.bytes.fill(RUBBISH);
                if Command::from_raw(call.cmd) == Command::CREATEDOMAIN {
                    call.domain = u16::from_le_bytes([RUBBISH; 2]);
                }
                call.payload.fill(RUBBISH);
            }
            Self::Sysctl { call, buffer } => {
                buffer.bytes.fill(RUBBISH);
                call.payload.fill(RUBBISH);
            }
            Self::Flask { op, .. } => op.payload.fill(RUBBISH),
            Self::Populate { extents, .. } => extents.as_mut_bytes().fill(RUBBISH),
            Self::Acquire { frames, .. } => frames.as_mut_bytes().fill(RUBBISH),
            Self::MmuUpdate { done, .. } | Self::MmuExt { done, .. } => fill(done),
            Self::AllocUnbound(argument) => fill(&mut argument.port),
            Self::BindInterdomain(argument) => fill(&mut argument.local_port),
            Self::BindVirq(argument) => fill(&mut argument.port),
            Self::BindIpi(argument) => fill(&mut argument.port),
            Self::PortStatus(argument) => {
                fill(&mut argument.status);
                fill(&mut argument.detail);
            }
            Self::MapPirq(argument) => fill(&mut argument.pirq),
            Self::MapGrants(requests) => {
                for request in requests {
                    fill(&mut request.handle);
                    fill(&mut request.dev_bus_addr);
                    fill(&mut request.status);
                }
            }
            Self::UnmapGrants(requests) => requests.iter_mut().for_each(|request| fill(&mut request.status)),
            _ => {}
        }
    }

    /// The operation's name, and the domain it is about as far as the arguments say.
    pub(crate) fn subject(
        &self,
        number: HypercallNumber,
        args: [u64; 5],
        caller: DomId,
    ) -> (&'static str, DomId) {
        let (word, domain) = match self {
            Self::Domctl { call, .. } => (call.cmd, DomId::new(call.domain)),
            Self::Sysctl { call, .. } => (call.cmd, pool_member(call).unwrap_or(caller)),
            Self::Flask { op, .. } => (op.cmd, relabelled(op).unwrap_or(caller)),
            Self::Populate { reservation, .. }
            | Self::Decrease { reservation, .. }
            | Self::Claim(reservation) => (low_half(args[0]), DomId::new(reservation.domid)),
            Self::Acquire { resource, .. } => (low_half(args[0]), DomId::new(resource.domid)),
            Self::MmuUpdate { foreign, .. } => (0, domid(*foreign)),
            Self::MmuExt { ops, foreign, .. } => match ops.as_slice() {
                [op] => return (mmuext_name(op.cmd), crate::events::resolve(*foreign, caller)),
                _ => (0, *foreign),
            },
            Self::AllocUnbound(argument) => (low_half(args[0]), DomId::new(argument.dom)),
            Self::SetParam(param) => (low_half(args[0]), DomId::new(param.domid)),
            Self::MapPirq(argument) => (low_half(args[0]), DomId::new(argument.domid)),
            Self::UnmapPirq(argument) => (low_half(args[0]), DomId::new(argument.domid)),
            Self::BindInterdomain(argument) => (low_half(args[0]), DomId::new(argument.remote_dom)),
            Self::MapGrants(requests) => {
                (low_half(args[0]), requests.first().map_or(caller, |request| DomId::new(request.dom)))
            }
            Self::Poll { .. } => return ("SCHEDOP_poll", caller),
            Self::Shutdown(_) => return ("SCHEDOP_shutdown", caller),
            Self::Yield => return ("SCHEDOP_yield", caller),
            Self::ConsoleWrite(_) => return ("CONSOLEIO_write", caller),
            Self::ConsoleRead { .. } => return ("CONSOLEIO_read", caller),
            _ => (low_half(args[0]), caller),
        };
        (call_name(number, word), crate::events::resolve(domain, caller))
    }

    /// The numbers worth a place in the trace.
    pub(crate) fn numbers(&self, version: Option<DomctlVersion>) -> Vec<(&'static str, u64)> {
        match self {
            Self::Domctl { call, .. } => domctl_numbers(call, version),
            Self::Populate { reservation, .. } | Self::Decrease { reservation, .. } => {
                vec![("extents", reservation.nr_extents), ("order", u64::from(reservation.extent_order))]
            }
            Self::Claim(reservation) => vec![("pages", reservation.nr_extents)],
            Self::Acquire { resource, .. } => {
                vec![("type", u64::from(resource.resource_type)), ("frames", u64::from(resource.nr_frames))]
            }
            Self::MmuUpdate { updates, .. } => vec![("updates", updates.len() as u64)],
            Self::MmuExt { ops, .. } => match ops.as_slice() {
                [op] => vec![("mfn", op.arg1)],
                _ => vec![("ops", ops.len() as u64)],
            },
            Self::AllocUnbound(argument) => vec![("remote", u64::from(argument.remote_dom))],
            Self::MapPirq(argument) => vec![("index", u64::from(argument.index.unsigned_abs()))],
            Self::SetParam(param) => vec![("index", u64::from(param.index)), ("value", param.value)],
            Self::BindInterdomain(argument) => vec![("remote_port", u64::from(argument.remote_port))],
            Self::BindVirq(argument) => vec![("virq", u64::from(argument.virq))],
            Self::Close(argument) | Self::Send(argument) | Self::Unmask(argument) => {
                vec![("port", u64::from(argument.port))]
            }
            Self::PortStatus(argument) => vec![("port", u64::from(argument.port))],
            Self::Poll { ports, timeout } => vec![("ports", ports.len() as u64), ("timeout", *timeout)],
            Self::Shutdown(reason) => vec![("reason", u64::from(*reason))],
            Self::ConsoleWrite(bytes) => vec![("bytes", bytes.len() as u64)],
            _ => Vec::new(),
        }
    }
}

/// The numbers worth a place in the trace of a domctl.
fn domctl_numbers(call: &Domctl, version: Option<DomctlVersion>) -> Vec<(&'static str, u64)> {
    let known = DomctlVersion::from_raw(call.interface_version);
    if known.is_none() || known != version {
        return vec![("version", u64::from(call.interface_version))];
    }
    match Command::from_raw(call.cmd) {
        Command::CREATEDOMAIN => known
            .and_then(|version| CreateDomain::decode(&call.payload, version))
            .map(|request| {
                vec![("vcpus", u64::from(request.max_vcpus)), ("flags", u64::from(request.flags.bits()))]
            })
            .unwrap_or_default(),
        Command::MAX_MEM => MaxMem::read_from_prefix(&call.payload)
            .map_or_else(|_| Vec::new(), |(it, _)| vec![("kib", it.max_memkb)]),
        Command::MAX_VCPUS => MaxVcpus::read_from_prefix(&call.payload)
            .map_or_else(|_| Vec::new(), |(it, _)| vec![("vcpus", u64::from(it.max))]),
        Command::SETVCPUCONTEXT => VcpuContextArgument::read_from_prefix(&call.payload)
            .map_or_else(|_| Vec::new(), |(it, _)| vec![("vcpu", u64::from(it.vcpu))]),
        _ => Vec::new(),
    }
}

/// The header's name of an extended page-table operation.
fn mmuext_name(command: u32) -> &'static str {
    match command {
        0 => "MMUEXT_PIN_L1_TABLE",
        1 => "MMUEXT_PIN_L2_TABLE",
        2 => "MMUEXT_PIN_L3_TABLE",
        3 => "MMUEXT_PIN_L4_TABLE",
        4 => "MMUEXT_UNPIN_TABLE",
        _ => "mmuext_op",
    }
}

/// The domain that a sysctl moves to another pool.
fn pool_member(call: &Sysctl) -> Option<DomId> {
    let (argument, _) = CpupoolOp::read_from_prefix(&call.payload).ok()?;
    let moves = call.cmd == XEN_SYSCTL_CPUPOOL_OP && argument.op == CPUPOOL_MOVE_DOMAIN;
    u16::try_from(argument.domid).ok().filter(|_| moves).map(DomId::new)
}

/// The domain that an operation on labels gives another one.
fn relabelled(op: &FlaskOp) -> Option<DomId> {
    let (argument, _) = Relabel::read_from_prefix(&op.payload).ok()?;
    u16::try_from(argument.domid).ok().filter(|_| op.cmd == FLASK_RELABEL_DOMAIN).map(DomId::new)
}

/// Fills one field with rubbish.
fn fill<T: FromBytes + IntoBytes + Immutable + KnownLayout + FromZeros>(field: &mut T) {
    field.as_mut_bytes().fill(RUBBISH);
}

/// An argument that the interface has as 32 bits.
#[expect(clippy::cast_possible_truncation, reason = "Xen uses the low half of such an argument")]
pub(crate) fn low_half(argument: u64) -> u32 {
    argument as u32
}

/// An argument that is a domain identifier.
#[expect(clippy::cast_possible_truncation, reason = "Xen uses the low 16 bits of such an argument")]
pub(crate) fn domid(argument: u64) -> DomId {
    DomId::new(argument as u16)
}
