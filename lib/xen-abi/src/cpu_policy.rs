//! What a guest sees of the processor (`xen_cpuid_leaf_t` of public/arch-x86/xen.h, and the calls that carry such leaves).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::assert_layout;

/// `XEN_CPUID_NO_SUBLEAF`: in place of the number of a subleaf of a leaf that has none.
pub const NO_SUBLEAF: u32 = 0xffff_ffff;
/// `XEN_X86_MSR_RELAXED`: reads of unknown model-specific registers give 0 instead of a fault (Xen 4.15).
pub const MSR_RELAXED: u32 = 1;

/// `XEN_SYSCTL_get_cpu_policy`, argument [`SystemPolicy`].
pub const XEN_SYSCTL_GET_CPU_POLICY: u32 = 29;
/// `XEN_SYSCTL_cpu_policy_host`: what Xen itself uses of the machine's processor.
pub const POLICY_HOST: u32 = 1;

/// `TSC_MODE_DEFAULT`: the processor's time-stamp counter where it can be relied on, else Xen's emulation of one.
pub const TSC_DEFAULT: u32 = 0;
/// `TSC_MODE_ALWAYS_EMULATE`: always the emulation.
pub const TSC_ALWAYS_EMULATE: u32 = 1;
/// `TSC_MODE_NEVER_EMULATE`: always the processor's.
pub const TSC_NEVER_EMULATE: u32 = 2;

/// `xen_cpuid_leaf_t`: what CPUID answers for one leaf and subleaf.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CpuidLeaf {
    /// EAX of the question.
    pub leaf: u32,
    /// ECX of the question, or [`NO_SUBLEAF`].
    pub subleaf: u32,
    /// EAX, EBX, ECX and EDX of the answer.
    pub registers: [u32; 4],
}

assert_layout!(CpuidLeaf, size = 24, subleaf @ 4, registers @ 8);

/// `struct xen_domctl_cpu_policy`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DomainPolicy {
    /// How many leaves there are, or there is room for; OUT of a question: how many there are.
    pub nr_leaves: u32,
    /// The same of model-specific registers.
    pub nr_msrs: u32,
    /// Address of [`CpuidLeaf`]s, or 0 for none.
    pub leaves: u64,
    /// Address of registers, or 0 for none.
    pub msrs: u64,
    /// OUT of an order that Xen refuses: the leaf that it objects to; all ones if none in particular.
    pub err_leaf: u32,
    /// The same: its subleaf.
    pub err_subleaf: u32,
    /// The same of a register.
    pub err_msr: u32,
    /// Padding.
    pub pad: u32,
}

assert_layout!(DomainPolicy, size = 40, leaves @ 8, msrs @ 16, err_leaf @ 24, err_msr @ 32);

/// `struct xen_sysctl_cpu_policy`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SystemPolicy {
    /// IN: which, `POLICY_*`.
    pub index: u32,
    /// As in [`DomainPolicy`].
    pub nr_leaves: u32,
    /// As in [`DomainPolicy`].
    pub nr_msrs: u32,
    /// Zero.
    pub reserved: u32,
    /// As in [`DomainPolicy`].
    pub leaves: u64,
    /// As in [`DomainPolicy`].
    pub msrs: u64,
}

assert_layout!(SystemPolicy, size = 32, nr_leaves @ 4, leaves @ 16, msrs @ 24);

/// `struct xen_domctl_tsc_info`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TscInfo {
    /// IN: `TSC_*`.
    pub tsc_mode: u32,
    /// IN: its frequency in kHz; 0 for the processor's.
    pub gtsc_khz: u32,
    /// IN: how often the domain has been moved.
    pub incarnation: u32,
    /// Padding.
    pub pad: u32,
    /// IN: nanoseconds for which it has run.
    pub elapsed_nsec: u64,
}

assert_layout!(TscInfo, size = 24, gtsc_khz @ 4, elapsed_nsec @ 16);

/// `struct xen_domctl_disable_migrate`, of Xen 4.14.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DisableMigrate {
    /// IN: 1 if the domain is never moved to another machine.
    pub disable: u32,
}
