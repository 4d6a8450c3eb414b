//! Hardware-assisted domains, as far as building a PVH guest takes: the translation of guest frames, parameters, state, the
//! paging pool.

use std::collections::BTreeMap;

use xen_abi::domctl::{HvmContextArgument, PagingMempool, SHADOW_OP_SET_ALLOCATION, ShadowOp};
use xen_abi::hvm::save::{self, Cpu, Descriptor, FILE_MAGIC, FILE_VERSION, Header, Mtrr};
use xen_abi::hvm::{
    PARAM_CONSOLE_EVTCHN, PARAM_CONSOLE_PFN, PARAM_IDENT_PT, PARAM_STORE_EVTCHN, PARAM_STORE_PFN,
    PARAM_TIMER_MODE, Param,
};
use xen_abi::{DomId, Errno, Mfn};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::domains::Domain;
use crate::frames::Holder;
use crate::hypervisor::Outcome;
use crate::state::State;

/// Parameters that a builder may set here.
const PARAMS: [u32; 6] = [
    PARAM_STORE_PFN,
    PARAM_STORE_EVTCHN,
    PARAM_TIMER_MODE,
    PARAM_IDENT_PT,
    PARAM_CONSOLE_PFN,
    PARAM_CONSOLE_EVTCHN,
];
/// The highest timer mode.
const MAX_TIMER_MODE: u64 = 3;
/// By how much the size that Xen asks for exceeds what it fills: it counts records that it then leaves out.
const SPARE_SIZE: u32 = 64;
/// Memory type "uncacheable", MTRRs off: a vCPU's default before a builder sets it.
const MTRR_RESET: u64 = 0;

/// What a hardware-assisted domain has besides.
#[derive(Debug, Default)]
pub(crate) struct Hvm {
    /// Machine frames by guest frame.
    pub(crate) frames: BTreeMap<u64, Mfn>,
    pub(crate) params: BTreeMap<u32, u64>,
    /// Frames for paging structures. How many of them the translation takes is not modelled, only that it takes some.
    pub(crate) pool: Vec<Mfn>,
    /// State of each vCPU.
    pub(crate) vcpus: Vec<HvmVcpu>,
}

/// State of a vCPU.
#[derive(Clone, Debug)]
pub(crate) struct HvmVcpu {
    pub(crate) cpu: Option<Box<Cpu>>,
    pub(crate) mtrr: Mtrr,
}

impl HvmVcpu {
    pub(crate) fn new() -> Self {
        Self {
            cpu: None,
            mtrr: Mtrr { msr_mtrr_cap: 0x508, msr_mtrr_def_type: MTRR_RESET, ..Mtrr::default() },
        }
    }
}

impl Domain {
    /// The part of a hardware-assisted domain; the error is for a PV domain.
    fn hvm(&mut self, otherwise: Errno) -> Result<&mut Hvm, Errno> {
        self.hvm.as_mut().ok_or(otherwise)
    }
}

impl State {
    /// The machine frame that a window onto `domain` means by `frame`: a guest frame if the domain has a translation of its own.
    pub(crate) fn machine_frame(&self, domain: DomId, frame: Mfn) -> Option<Mfn> {
        match self.domains.get(&domain).and_then(|domain| domain.hvm.as_ref()) {
            Some(hvm) => hvm.frames.get(&frame.raw()).copied(),
            None => Some(frame),
        }
    }

    /// `HVMOP_set_param`.
    pub(crate) fn set_param(&mut self, caller: DomId, param: &Param) -> Outcome {
        if !self.is_privileged(caller) {
            return Err(Errno::EPERM);
        }
        let hvm = self.domain(DomId::new(param.domid))?.hvm(Errno::EINVAL)?;
        if !PARAMS.contains(&param.index) || param.index == PARAM_TIMER_MODE && param.value > MAX_TIMER_MODE {
            return Err(Errno::EINVAL);
        }
        hvm.params.insert(param.index, param.value);
        Ok(0)
    }

    /// `XEN_DOMCTL_shadow_op`: only the size of the pool.
    pub(crate) fn shadow_op(&mut self, domid: DomId, op: &ShadowOp) -> Result<(), Errno> {
        self.domain(domid)?.hvm(Errno::EINVAL)?;
        if op.op != SHADOW_OP_SET_ALLOCATION {
            return Err(Errno::EINVAL);
        }
        self.size_pool(domid, u64::from(op.mb) << 8)
    }

    /// `XEN_DOMCTL_set_paging_mempool_size`.
    pub(crate) fn set_mempool(&mut self, domid: DomId, pool: PagingMempool) -> Result<(), Errno> {
        if !self.release.has_paging_mempool() {
            return Err(Errno::ENOSYS);
        }
        self.domain(domid)?.hvm(Errno::EOPNOTSUPP)?;
        if !pool.size.is_multiple_of(4096) {
            return Err(Errno::EINVAL);
        }
        self.size_pool(domid, pool.size >> 12)
    }

    /// Gives a domain's pool `pages` frames, or as many as there are.
    fn size_pool(&mut self, domid: DomId, pages: u64) -> Result<(), Errno> {
        loop {
            let pool = &mut self.domain(domid)?.hvm(Errno::EINVAL)?.pool;
            if pool.len() as u64 == pages {
                return Ok(());
            }
            if pool.len() as u64 > pages {
                let Some(mfn) = pool.pop() else { return Ok(()) };
                self.frames.release(mfn);
                continue;
            }
            let mfn = self.allocate_for_xen(Holder::Private(domid)).ok_or(Errno::ENOMEM)?;
            self.domain(domid)?.hvm(Errno::EINVAL)?.pool.push(mfn);
        }
    }

    /// `XEN_DOMCTL_gethvmcontext`.
    pub(crate) fn get_hvm_context(
        &mut self,
        domid: DomId,
        argument: &mut HvmContextArgument,
        buffer: &mut [u8],
    ) -> Result<(), Errno> {
        let stream = stream_of(self.living(domid)?.hvm(Errno::EINVAL)?);
        let length = u32::try_from(stream.len()).map_err(|_| Errno::EINVAL)?;
        if argument.buffer == 0 {
            argument.size = length + SPARE_SIZE;
            return Ok(());
        }
        buffer.get_mut(..stream.len()).ok_or(Errno::ENOSPC)?.copy_from_slice(&stream);
        argument.size = length;
        Ok(())
    }

    /// `XEN_DOMCTL_sethvmcontext`: takes every vCPU down, and those with registers in the stream up again.
    pub(crate) fn set_hvm_context(&mut self, domid: DomId, stream: &[u8]) -> Result<(), Errno> {
        let domain = self.living(domid)?;
        let hvm = domain.hvm.as_mut().ok_or(Errno::EINVAL)?;
        let records: Vec<_> = save::records(stream).collect();
        check_header(&records)?;
        let read: usize = records.iter().map(|(_, bytes)| size_of::<Descriptor>() + bytes.len()).sum();
        let end = Descriptor::read_from_prefix(&stream[read..]).map_err(|_| Errno::ENODATA)?.0;
        if end.typecode != save::END {
            return Err(Errno::ENODATA);
        }
        domain.vcpus.iter_mut().for_each(|vcpu| vcpu.online = false);
        for (descriptor, bytes) in &records[1..] {
            let number = usize::from(descriptor.instance);
            let state = hvm.vcpus.get_mut(number).ok_or(Errno::EINVAL)?;
            match descriptor.typecode {
                save::CPU => {
                    let cpu = Cpu::read_from_bytes(bytes).map_err(|_| Errno::EINVAL)?;
                    check_cpu(&cpu)?;
                    state.cpu = Some(Box::new(cpu));
                    domain.vcpus[number].online = true;
                }
                save::MTRR => state.mtrr = Mtrr::read_from_bytes(bytes).map_err(|_| Errno::EINVAL)?,
                _ => return Err(Errno::EINVAL),
            }
        }
        Ok(())
    }
}

/// The state of a domain: of vCPUs that are down, no registers.
fn stream_of(hvm: &Hvm) -> Vec<u8> {
    let mut stream = Vec::new();
    let mut push = |typecode, instance: usize, bytes: &[u8]| {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let instance = u16::try_from(instance).unwrap_or(u16::MAX);
        stream.extend_from_slice(Descriptor { typecode, instance, length }.as_bytes());
        stream.extend_from_slice(bytes);
    };
    let header =
        Header { magic: FILE_MAGIC, version: FILE_VERSION, changeset: 0x5eed, ..Header::new_zeroed() };
    push(save::HEADER, 0, header.as_bytes());
    for (number, vcpu) in hvm.vcpus.iter().enumerate() {
        if let Some(cpu) = &vcpu.cpu {
            push(save::CPU, number, cpu.as_bytes());
        }
        push(save::MTRR, number, vcpu.mtrr.as_bytes());
    }
    push(save::END, 0, &[]);
    stream
}

/// Fails unless the first record is a header of this format.
fn check_header(records: &[(Descriptor, &[u8])]) -> Result<(), Errno> {
    let (descriptor, bytes) = records.first().ok_or(Errno::ENODATA)?;
    let header = Header::read_from_bytes(bytes).map_err(|_| Errno::EINVAL)?;
    let good =
        descriptor.typecode == save::HEADER && (header.magic, header.version) == (FILE_MAGIC, FILE_VERSION);
    if good { Ok(()) } else { Err(Errno::EINVAL) }
}

/// What Xen checks of a vCPU's registers: CR0, and that no long mode is claimed without paging.
fn check_cpu(cpu: &Cpu) -> Result<(), Errno> {
    const EXTENSION_TYPE: u64 = 1 << 4;
    const LONG_MODE_ACTIVE: u64 = 1 << 10;
    const PAGING: u64 = 1 << 31;
    let reserved = cpu.cr0 >> 32 != 0 || cpu.cr0 & EXTENSION_TYPE == 0;
    let mode = cpu.msr_efer & LONG_MODE_ACTIVE != 0 && cpu.cr0 & PAGING == 0;
    if reserved || mode { Err(Errno::EINVAL) } else { Ok(()) }
}
