//! What domains see of the processor: the answers of CPUID, and the time-stamp counter.
//!
//! The machine has one processor of AMD's with a few features. Which of Xen's rules are modelled: what a domain gets by default,
//! what it may not be given, and what Xen takes away without a word.

use xen_abi::cpu_policy::{
    CpuidLeaf, DisableMigrate, DomainPolicy, NO_SUBLEAF, POLICY_HOST, SystemPolicy, TSC_ALWAYS_EMULATE,
    TSC_NEVER_EMULATE, TscInfo,
};
use xen_abi::{DomId, Errno};
use zerocopy::{FromBytes, IntoBytes};

use crate::release::Release;
use crate::state::State;

const EDX: usize = 3;
/// The highest leaf that Xen stores in a policy.
const HIGHEST_BASIC: u32 = 0xd;
/// The invariant time-stamp counter, in EDX of leaf 0x80000007.
const ITSC: (u32, u32) = (0x8000_0007, 1 << 8);
/// Features that no guest has by default, and which a builder may give: `(leaf, register, bits)`.
const NOT_BY_DEFAULT: [(u32, usize, u32); 2] = [(1, EDX, 1 << 28), (ITSC.0, EDX, ITSC.1)];

/// The processor: leaf, subleaf, EAX to EDX.
const PROCESSOR: [(u32, u32, [u32; 4]); 7] = [
    (
        0,
        NO_SUBLEAF,
        [
            HIGHEST_BASIC,
            u32::from_le_bytes(*b"Auth"),
            u32::from_le_bytes(*b"cAMD"),
            u32::from_le_bytes(*b"enti"),
        ],
    ),
    (1, NO_SUBLEAF, [0x0080_0f12, 0x0002_0800, 0x0080_2001, 0x1789_fbff]),
    (7, 0, [0, 0x0000_0108, 0, 0]),
    (0x8000_0000, NO_SUBLEAF, [0x8000_0008, 0, 0, 0]),
    (0x8000_0001, NO_SUBLEAF, [0, 0, 0x0000_0003, 0x2010_0800]),
    (ITSC.0, NO_SUBLEAF, [0, 0, 0, ITSC.1]),
    (0x8000_0008, NO_SUBLEAF, [0x3028, 0, 0x1001, 0]),
];

/// Registers of feature bits: of these a guest can only have what the machine has.
const FEATURES: [(u32, usize); 7] =
    [(1, 2), (1, EDX), (7, 1), (7, 2), (0x8000_0001, 2), (0x8000_0001, EDX), (ITSC.0, EDX)];

/// What a domain sees.
#[derive(Clone, Debug)]
pub(crate) struct CpuView {
    pub(crate) leaves: Vec<CpuidLeaf>,
    pub(crate) tsc_mode: u32,
    /// Only Xen 4.14 is told.
    pub(crate) stays: bool,
}

impl Default for CpuView {
    fn default() -> Self {
        let mut leaves = processor();
        for leaf in &mut leaves {
            for (_, register, bits) in NOT_BY_DEFAULT.iter().filter(|(number, ..)| *number == leaf.leaf) {
                leaf.registers[*register] &= !bits;
            }
        }
        Self { leaves, tsc_mode: 0, stays: false }
    }
}

/// What the machine has.
fn processor() -> Vec<CpuidLeaf> {
    PROCESSOR
        .iter()
        .map(|(leaf, subleaf, registers)| CpuidLeaf { leaf: *leaf, subleaf: *subleaf, registers: *registers })
        .collect()
}

impl State {
    /// `XEN_DOMCTL_get_cpu_policy`; `buffer` has as many bytes as the caller has room for.
    pub(crate) fn get_cpu_policy(
        &mut self,
        domid: DomId,
        argument: &mut DomainPolicy,
        buffer: &mut Vec<u8>,
    ) -> Result<(), Errno> {
        argument.nr_leaves = fill(&self.domain(domid)?.cpu.leaves, buffer)?;
        Ok(())
    }

    /// `XEN_SYSCTL_get_cpu_policy`, of the machine only.
    pub(crate) fn system_cpu_policy(argument: &mut SystemPolicy, buffer: &mut Vec<u8>) -> Result<(), Errno> {
        if argument.index != POLICY_HOST || argument.reserved != 0 {
            return Err(Errno::EINVAL);
        }
        argument.nr_leaves = fill(&processor(), buffer)?;
        Ok(())
    }

    /// `XEN_DOMCTL_set_cpu_policy`.
    pub(crate) fn set_cpu_policy(
        &mut self,
        domid: DomId,
        argument: &mut DomainPolicy,
        buffer: &[u8],
    ) -> Result<(), Errno> {
        let leaves = <[CpuidLeaf]>::ref_from_bytes(buffer).map_err(|_| Errno::EFAULT)?.to_vec();
        let release = self.release;
        let domain = self.domain(domid)?;
        if domain.started {
            return Err(Errno::EEXIST);
        }
        let mut view = domain.cpu.clone();
        for leaf in &leaves {
            let refused = match (view.place(leaf), leaf.leaf) {
                (None, _) => Errno::ERANGE,
                (Some(_), 0) if leaf.registers[0] > HIGHEST_BASIC => Errno::EINVAL,
                (Some(place), _) => {
                    view.leaves[place] = *leaf;
                    continue;
                }
            };
            (argument.err_leaf, argument.err_subleaf) = (leaf.leaf, leaf.subleaf);
            return Err(refused);
        }
        view.take_away(release);
        domain.cpu = view;
        Ok(())
    }

    /// `XEN_DOMCTL_settscinfo`.
    pub(crate) fn set_tsc_info(&mut self, domid: DomId, info: TscInfo) -> Result<(), Errno> {
        let domain = self.domain(domid)?;
        if info.tsc_mode > TSC_NEVER_EMULATE {
            return Err(Errno::EINVAL);
        }
        domain.cpu.tsc_mode = info.tsc_mode;
        Ok(())
    }

    /// `XEN_DOMCTL_disable_migrate`, which only Xen 4.14 has.
    pub(crate) fn disable_migrate(&mut self, domid: DomId, request: DisableMigrate) -> Result<(), Errno> {
        if self.release > Release::V4_14 {
            return Err(Errno::ENOSYS);
        }
        self.domain(domid)?.cpu.stays = request.disable != 0;
        Ok(())
    }
}

impl CpuView {
    /// Where a leaf of that number stands.
    fn place(&self, leaf: &CpuidLeaf) -> Option<usize> {
        self.leaves.iter().position(|it| (it.leaf, it.subleaf) == (leaf.leaf, leaf.subleaf))
    }

    /// Takes away the features that the machine does not have, and those that Xen does not let this domain have.
    fn take_away(&mut self, release: Release) {
        let invariant = release > Release::V4_14 || self.stays || self.tsc_mode == TSC_ALWAYS_EMULATE;
        for (leaf, has) in self.leaves.iter_mut().zip(processor()) {
            for (_, register) in FEATURES.iter().filter(|(number, _)| *number == leaf.leaf) {
                leaf.registers[*register] &= has.registers[*register];
            }
            if leaf.leaf == ITSC.0 && !invariant {
                leaf.registers[EDX] &= !ITSC.1;
            }
        }
    }
}

/// Puts leaves into the caller's room; ENOBUFS when there is too little.
fn fill(leaves: &[CpuidLeaf], buffer: &mut Vec<u8>) -> Result<u32, Errno> {
    let bytes = leaves.as_bytes();
    if bytes.len() > buffer.len() {
        return Err(Errno::ENOBUFS);
    }
    buffer.clear();
    buffer.extend_from_slice(bytes);
    u32::try_from(leaves.len()).map_err(|_| Errno::EINVAL)
}
