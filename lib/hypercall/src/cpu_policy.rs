//! Typed calls about what a domain sees of the processor.

use alloc::vec;
use alloc::vec::Vec;

use xen_abi::cpu_policy::{
    CpuidLeaf, DisableMigrate, DomainPolicy, NO_SUBLEAF, POLICY_HOST, SystemPolicy, TscInfo,
    XEN_SYSCTL_GET_CPU_POLICY,
};
use xen_abi::domctl::{Command, Domctl, DomctlVersion};
use xen_abi::number::HypercallNumber;
use xen_abi::sysctl::{Sysctl, name};
use xen_abi::{DomId, Errno};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::calls::{address, address_mut};
use crate::{CallError, RawHypercall, Xen};

/// Room for leaves in a question. No Xen has more than 170; more than this is not read.
const MAX_LEAVES: usize = 512;

/// A leaf of CPUID and its subleaf, or [`NO_SUBLEAF`].
pub type LeafNumber = (u32, u32);

impl<H: RawHypercall> Xen<H> {
    /// What CPUID answers in `domain`, as far as Xen keeps it: what depends on the moment and on the vCPU is not in it.
    pub fn cpu_policy(&self, domain: DomId) -> Result<Vec<CpuidLeaf>, CallError> {
        let mut leaves = vec![CpuidLeaf::default(); MAX_LEAVES];
        let argument = DomainPolicy {
            nr_leaves: u32::try_from(MAX_LEAVES).unwrap_or(0),
            leaves: address_mut(leaves.as_mut_slice()),
            ..DomainPolicy::default()
        };
        let mut call = Domctl::new(Command::GET_CPU_POLICY, self.interface().domctl, domain).with(&argument);
        // SAFETY: the one address in the payload is that of as many leaves as it says.
        unsafe { self.domctl(&mut call) }?;
        let filled = DomainPolicy::read_from_prefix(&call.payload).map_or(0, |(answer, _)| answer.nr_leaves);
        leaves.truncate(filled as usize);
        Ok(leaves)
    }

    /// What CPUID answers to Xen itself, as far as Xen uses it.
    pub fn host_cpu_policy(&self) -> Result<Vec<CpuidLeaf>, CallError> {
        let refused = |errno| CallError { call: name(XEN_SYSCTL_GET_CPU_POLICY), domain: DomId::SELF, errno };
        let version = self.interface().sysctl.ok_or(refused(Errno::EACCES))?;
        let mut leaves = vec![CpuidLeaf::default(); MAX_LEAVES];
        let argument = SystemPolicy {
            index: POLICY_HOST,
            nr_leaves: u32::try_from(MAX_LEAVES).unwrap_or(0),
            leaves: address_mut(leaves.as_mut_slice()),
            ..SystemPolicy::default()
        };
        let mut call = Sysctl::new_zeroed();
        call.cmd = XEN_SYSCTL_GET_CPU_POLICY;
        call.interface_version = version.raw();
        let bytes = argument.as_bytes();
        call.payload.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        let args = [address_mut(&mut call), 0, 0, 0, 0];
        // SAFETY: a sysctl takes the address of one `Sysctl`; the one address in its payload is that of as many leaves as it says.
        unsafe { self.call(HypercallNumber::SYSCTL, args, name(call.cmd), DomId::SELF) }?;
        let filled = SystemPolicy::read_from_prefix(&call.payload).map_or(0, |(answer, _)| answer.nr_leaves);
        leaves.truncate(filled as usize);
        Ok(leaves)
    }

    /// Sets what CPUID answers in `domain`, which has not been started yet. Xen takes away what it or the machine does not have,
    /// without a word. The error has the leaf that Xen objects to, if it says which.
    pub fn set_cpu_policy(
        &self,
        domain: DomId,
        leaves: &[CpuidLeaf],
    ) -> Result<(), (CallError, Option<LeafNumber>)> {
        let argument = DomainPolicy {
            nr_leaves: u32::try_from(leaves.len()).unwrap_or(u32::MAX),
            leaves: address(leaves),
            err_leaf: NO_SUBLEAF,
            err_subleaf: NO_SUBLEAF,
            err_msr: NO_SUBLEAF,
            ..DomainPolicy::default()
        };
        let mut call = Domctl::new(Command::SET_CPU_POLICY, self.interface().domctl, domain).with(&argument);
        // SAFETY: the one address in the payload is that of as many leaves as it says, which Xen only reads.
        unsafe { self.domctl(&mut call) }.map_err(|error| {
            let answer = DomainPolicy::read_from_prefix(&call.payload).map(|(answer, _)| answer).ok();
            let leaf = answer.filter(|it| it.err_leaf != NO_SUBLEAF).map(|it| (it.err_leaf, it.err_subleaf));
            (error, leaf)
        })
    }

    /// Says how `domain`, which has not been started yet, reads the time-stamp counter: `mode` is one of `xen_abi::cpu_policy::TSC_*`.
    pub fn set_tsc_mode(&self, domain: DomId, mode: u32) -> Result<(), CallError> {
        self.set(Command::SETTSCINFO, domain, &TscInfo { tsc_mode: mode, ..TscInfo::default() })
    }

    /// Tells Xen that `domain` is never moved to another machine. Only Xen 4.14 wants to know that from a builder.
    pub fn disable_migration(&self, domain: DomId) -> Result<(), CallError> {
        if self.interface().domctl > DomctlVersion::OLDEST {
            return Ok(());
        }
        self.set(Command::DISABLE_MIGRATE, domain, &DisableMigrate { disable: 1 })
    }
}
