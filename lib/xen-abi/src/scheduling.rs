//! Where vCPUs run, and what share of the CPUs a domain gets: payloads of domctls and of a sysctl.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::assert_layout;

/// `XEN_VCPUAFFINITY_HARD`: CPUs that the vCPU runs on, and no others.
pub const AFFINITY_HARD: u32 = 1;
/// `XEN_VCPUAFFINITY_SOFT`: CPUs that it runs on rather than on others.
pub const AFFINITY_SOFT: u32 = 2;

/// `XEN_DOMCTL_SCHEDOP_putinfo`: change a domain's share.
pub const SCHEDOP_PUTINFO: u32 = 0;
/// `XEN_DOMCTL_SCHEDOP_getinfo`: tell it.
pub const SCHEDOP_GETINFO: u32 = 1;
/// `XEN_SCHEDULER_CREDIT`.
pub const SCHEDULER_CREDIT: u32 = 5;
/// `XEN_SCHEDULER_CREDIT2`.
pub const SCHEDULER_CREDIT2: u32 = 6;

/// `XEN_SYSCTL_cpupool_op`, payload [`CpupoolOp`].
pub const XEN_SYSCTL_CPUPOOL_OP: u32 = 18;
/// `XEN_SYSCTL_CPUPOOL_OP_INFO`.
pub const CPUPOOL_INFO: u32 = 3;
/// `XEN_SYSCTL_CPUPOOL_OP_MOVEDOMAIN`.
pub const CPUPOOL_MOVE_DOMAIN: u32 = 6;

/// `struct xenctl_bitmap`: a list of bits in the caller's memory.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Bitmap {
    /// IN: address of the bytes; bit 0 is the lowest of the first byte.
    pub bitmap: u64,
    /// IN: how many bits; the rest counts as 0.
    pub nr_bits: u32,
    /// Padding.
    pub pad: u32,
}

assert_layout!(Bitmap, size = 16, nr_bits @ 8);

/// `struct xen_domctl_vcpuaffinity`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VcpuAffinity {
    /// IN: which vCPU.
    pub vcpu: u32,
    /// IN: which of the two to set, [`AFFINITY_HARD`] and [`AFFINITY_SOFT`].
    pub flags: u32,
    /// IN: the CPUs. OUT: those of them that the vCPU can run on.
    pub cpumap_hard: Bitmap,
    /// IN: the CPUs. OUT: those of them that the vCPU can run on.
    pub cpumap_soft: Bitmap,
}

assert_layout!(VcpuAffinity, size = 40, cpumap_hard @ 8, cpumap_soft @ 24);

/// `struct xen_domctl_scheduler_op` with the parameters of the credit schedulers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SchedulerOp {
    /// IN: the scheduler of the domain's pool, `SCHEDULER_*`.
    pub sched_id: u32,
    /// IN: `SCHEDOP_*`.
    pub cmd: u32,
    /// The domain's weight.
    pub weight: u16,
    /// The most it gets, in percent of one CPU; 0 for no limit.
    pub cap: u16,
}

assert_layout!(SchedulerOp, size = 12, cmd @ 4, weight @ 8, cap @ 10);

/// `struct xen_sysctl_cpupool_op`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CpupoolOp {
    /// IN: `CPUPOOL_*`.
    pub op: u32,
    /// IN: the pool; for [`CPUPOOL_INFO`] the first from that number on. OUT: which pool it is.
    pub cpupool_id: u32,
    /// OUT of [`CPUPOOL_INFO`]: its scheduler.
    pub sched_id: u32,
    /// IN of [`CPUPOOL_MOVE_DOMAIN`]: the domain.
    pub domid: u32,
    /// IN of operations on single CPUs.
    pub cpu: u32,
    /// OUT of [`CPUPOOL_INFO`]: how many domains it has.
    pub n_dom: u32,
    /// OUT of [`CPUPOOL_INFO`]: its CPUs.
    pub cpumap: Bitmap,
}

assert_layout!(CpupoolOp, size = 40, sched_id @ 8, domid @ 12, n_dom @ 20, cpumap @ 24);
