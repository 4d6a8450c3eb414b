//! Typed calls about where a domain's vCPUs run, and what share of the CPUs it gets.

use alloc::vec;
use alloc::vec::Vec;

use xen_abi::domctl::{Command, Domctl};
use xen_abi::number::HypercallNumber;
use xen_abi::scheduling::{
    AFFINITY_HARD, AFFINITY_SOFT, Bitmap, CPUPOOL_INFO, CPUPOOL_MOVE_DOMAIN, CpupoolOp, SCHEDOP_GETINFO,
    SCHEDOP_PUTINFO, SCHEDULER_CREDIT, SCHEDULER_CREDIT2, SchedulerOp, VcpuAffinity, XEN_SYSCTL_CPUPOOL_OP,
};
use xen_abi::sysctl::{Sysctl, name};
use xen_abi::{DomId, Errno, VcpuId};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::calls::address_mut;
use crate::{CallError, RawHypercall, Xen};

/// CPUs that a list of them can name: as many as Xen supports at most.
const MAX_CPUS: u32 = 16384;
/// Bytes of such a list.
const LIST: usize = 2048;
const _: () = assert!(LIST * 8 == MAX_CPUS as usize);

/// Which of a vCPU's two lists of CPUs to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AffinityKind {
    /// It runs on these and on no others.
    Hard,
    /// It runs on these rather than on others.
    Soft,
}

/// A CPU pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuPool {
    /// Its scheduler, `xen_abi::scheduling::SCHEDULER_*` or another of Xen's.
    pub scheduler: u32,
}

impl CpuPool {
    /// Whether its scheduler has weights and caps.
    pub fn has_shares(self) -> bool {
        [SCHEDULER_CREDIT, SCHEDULER_CREDIT2].contains(&self.scheduler)
    }
}

impl<H: RawHypercall> Xen<H> {
    /// Sets the CPUs of a vCPU; gives back those of them that it can run on, in ascending order.
    ///
    /// EINVAL when it could run on none.
    pub fn set_affinity(
        &self,
        domain: DomId,
        vcpu: VcpuId,
        kind: AffinityKind,
        cpus: impl Iterator<Item = u32>,
    ) -> Result<Vec<u32>, CallError> {
        let mut bits = vec![0_u8; LIST];
        for cpu in cpus {
            if let Some(byte) = bits.get_mut(cpu as usize / 8) {
                *byte |= 1 << (cpu % 8);
            }
        }
        let map = Bitmap { bitmap: address_mut(bits.as_mut_slice()), nr_bits: MAX_CPUS, pad: 0 };
        let mut argument = VcpuAffinity { vcpu: vcpu.raw(), ..VcpuAffinity::default() };
        match kind {
            AffinityKind::Hard => (argument.flags, argument.cpumap_hard) = (AFFINITY_HARD, map),
            AffinityKind::Soft => (argument.flags, argument.cpumap_soft) = (AFFINITY_SOFT, map),
        }
        let command = Command::SETVCPUAFFINITY;
        let mut call = Domctl::new(command, self.interface().domctl, domain).with(&argument);
        // SAFETY: the one list that the flags name has as many bits as it says, and Xen writes only those.
        unsafe { self.domctl(&mut call) }?;
        let set = |cpu: &u32| bits.get(*cpu as usize / 8).is_some_and(|byte| byte >> (cpu % 8) & 1 != 0);
        Ok((0..MAX_CPUS).filter(set).collect())
    }

    /// A CPU pool; ENOENT when there is none of that number.
    pub fn cpu_pool(&self, pool: u32) -> Result<CpuPool, CallError> {
        let mut bits = [0_u8; LIST];
        let cpumap = Bitmap { bitmap: address_mut(&mut bits), nr_bits: MAX_CPUS, pad: 0 };
        let op = CpupoolOp { op: CPUPOOL_INFO, cpupool_id: pool, cpumap, ..CpupoolOp::default() };
        // SAFETY: the list has as many bits as it says, and Xen writes only those.
        let answer = unsafe { self.cpupool_op(op, DomId::SELF) }?;
        if answer.cpupool_id == pool {
            return Ok(CpuPool { scheduler: answer.sched_id });
        }
        // Xen tells of the next pool that there is.
        Err(CallError { call: name(XEN_SYSCTL_CPUPOOL_OP), domain: DomId::SELF, errno: Errno::ENOENT })
    }

    /// Moves a domain to a CPU pool; ENOENT when there is none of that number.
    pub fn move_to_pool(&self, domain: DomId, pool: u32) -> Result<(), CallError> {
        let op = CpupoolOp {
            op: CPUPOOL_MOVE_DOMAIN,
            cpupool_id: pool,
            domid: u32::from(domain.raw()),
            ..CpupoolOp::default()
        };
        // SAFETY: the list is empty, and its address null.
        unsafe { self.cpupool_op(op, domain) }.map(|_| ())
    }

    /// Sets a domain's weight and cap, what is `None` staying as it is, under `scheduler`, that of its pool.
    pub fn set_share(
        &self,
        domain: DomId,
        scheduler: u32,
        weight: Option<u16>,
        cap: Option<u16>,
    ) -> Result<(), CallError> {
        let mut share = SchedulerOp { sched_id: scheduler, cmd: SCHEDOP_GETINFO, weight: 0, cap: 0 };
        let version = self.interface().domctl;
        let mut call = Domctl::new(Command::SCHEDULER_OP, version, domain).with(&share);
        // SAFETY: the parameters of these schedulers hold no address.
        unsafe { self.domctl(&mut call) }?;
        if let Ok((now, _)) = SchedulerOp::read_from_prefix(&call.payload) {
            share = now;
        }
        share.cmd = SCHEDOP_PUTINFO;
        share.weight = weight.unwrap_or(share.weight);
        share.cap = cap.unwrap_or(share.cap);
        self.set(Command::SCHEDULER_OP, domain, &share)
    }

    /// Makes an operation on a CPU pool.
    ///
    /// # Safety
    ///
    /// The list in `op` has as many bits as it says.
    unsafe fn cpupool_op(&self, op: CpupoolOp, domain: DomId) -> Result<CpupoolOp, CallError> {
        let call_name = name(XEN_SYSCTL_CPUPOOL_OP);
        let unknown = CallError { call: call_name, domain, errno: Errno::EACCES };
        let version = self.interface().sysctl.ok_or(unknown)?;
        let mut call = Sysctl::new_zeroed();
        call.cmd = XEN_SYSCTL_CPUPOOL_OP;
        call.interface_version = version.raw();
        for (to, from) in call.payload.iter_mut().zip(op.as_bytes()) {
            *to = *from;
        }
        let args = [address_mut(&mut call), 0, 0, 0, 0];
        // SAFETY: a sysctl takes the address of one `Sysctl`; the caller answers for the list in its payload.
        unsafe { self.call(HypercallNumber::SYSCTL, args, call_name, domain) }?;
        Ok(CpupoolOp::read_from_prefix(&call.payload).map_or(op, |(answer, _)| answer))
    }
}
