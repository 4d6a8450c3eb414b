//! CPUs, pools of them, and what share of them domains get.

use xen_abi::scheduling::{
    AFFINITY_HARD, AFFINITY_SOFT, CPUPOOL_INFO, CPUPOOL_MOVE_DOMAIN, CpupoolOp, SCHEDOP_GETINFO,
    SCHEDOP_PUTINFO, SCHEDULER_CREDIT2, SchedulerOp, VcpuAffinity,
};
use xen_abi::{DomId, Errno};

use crate::state::State;

/// The scheduler of every pool.
const SCHEDULER: u32 = SCHEDULER_CREDIT2;
/// A domain's weight unless it is changed.
const DEFAULT_WEIGHT: u16 = 256;

/// A domain's share of the CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) weight: u16,
    pub(crate) cap: u16,
}

impl Default for Share {
    fn default() -> Self {
        Self { weight: DEFAULT_WEIGHT, cap: 0 }
    }
}

/// CPUs of a machine: those of pool 0, then one pool with one CPU for each further one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cpus {
    /// CPUs of pool 0.
    pub(crate) first_pool: u32,
    /// Further pools.
    pub(crate) more_pools: u32,
}

impl Cpus {
    /// The CPUs of a pool, if there is one of that number.
    fn of_pool(self, pool: u32) -> Option<Vec<u32>> {
        match pool {
            0 => Some((0..self.first_pool).collect()),
            _ if pool <= self.more_pools => Some(vec![self.first_pool + pool - 1]),
            _ => None,
        }
    }
}

/// Whether bit `cpu` of a list is set.
fn has(bits: &[u8], cpu: u32) -> bool {
    bits.get(cpu as usize / 8).is_some_and(|byte| byte >> (cpu % 8) & 1 != 0)
}

impl State {
    /// `XEN_DOMCTL_setvcpuaffinity`; `bits` is the one list that the flags name.
    pub(crate) fn set_affinity(
        &mut self,
        domid: DomId,
        request: &VcpuAffinity,
        bits: &mut [u8],
    ) -> Result<(), Errno> {
        let cpus = self.cpus;
        let domain = self.domain(domid)?;
        if request.vcpu >= domain.max_vcpus {
            return Err(Errno::EINVAL);
        }
        let online = cpus.of_pool(domain.pool).unwrap_or_default();
        let vcpu = domain.vcpus.get_mut(request.vcpu as usize).ok_or(Errno::ESRCH)?;
        let chosen: Vec<u32> = online.into_iter().filter(|cpu| has(bits, *cpu)).collect();
        match request.flags {
            AFFINITY_HARD if chosen.is_empty() => return Err(Errno::EINVAL),
            AFFINITY_HARD => vcpu.hard = Some(chosen.clone()),
            AFFINITY_SOFT => vcpu.soft = Some(chosen.clone()),
            // Both at once are possible with a real Xen, and nobody does it here.
            _ => return Err(Errno::EINVAL),
        }
        bits.fill(0);
        for cpu in chosen {
            if let Some(byte) = bits.get_mut(cpu as usize / 8) {
                *byte |= 1 << (cpu % 8);
            }
        }
        Ok(())
    }

    /// `XEN_DOMCTL_scheduler_op`.
    pub(crate) fn scheduler_op(&mut self, domid: DomId, request: &mut SchedulerOp) -> Result<(), Errno> {
        let domain = self.domain(domid)?;
        if request.sched_id != SCHEDULER {
            return Err(Errno::EINVAL);
        }
        match request.cmd {
            SCHEDOP_GETINFO => (request.weight, request.cap) = (domain.share.weight, domain.share.cap),
            SCHEDOP_PUTINFO => {
                // One CPU's worth for each vCPU is the most that the default scheduler, credit2, takes.
                if usize::from(request.cap) > 100 * domain.vcpus.len() {
                    return Err(Errno::EINVAL);
                }
                domain.share.cap = request.cap;
                // A weight of 0 leaves it as it is.
                if request.weight != 0 {
                    domain.share.weight = request.weight;
                }
            }
            _ => return Err(Errno::EINVAL),
        }
        Ok(())
    }

    /// `XEN_SYSCTL_cpupool_op`, but for the list of CPUs, which nobody asks for.
    pub(crate) fn cpupool_op(&mut self, request: &mut CpupoolOp) -> Result<(), Errno> {
        let cpus = self.cpus;
        match request.op {
            CPUPOOL_INFO => {
                cpus.of_pool(request.cpupool_id).ok_or(Errno::ENOENT)?;
                request.sched_id = SCHEDULER;
                let members = self.domains.values().filter(|domain| domain.pool == request.cpupool_id);
                request.n_dom = u32::try_from(members.count()).unwrap_or(u32::MAX);
            }
            CPUPOOL_MOVE_DOMAIN => {
                let domid = u16::try_from(request.domid).map_err(|_| Errno::EINVAL)?;
                let domain = self.domain(DomId::new(domid)).map_err(|_| Errno::EINVAL)?;
                cpus.of_pool(request.cpupool_id).ok_or(Errno::ENOENT)?;
                domain.pool = request.cpupool_id;
            }
            _ => return Err(Errno::ENOSYS),
        }
        Ok(())
    }
}
