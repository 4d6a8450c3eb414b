//! What Xen says of the processor.

use crate::machine;

/// What CPUID answers for `leaf` and `subleaf`, as Xen has it for this domain: EAX, EBX, ECX and EDX.
///
/// The instruction alone gives a PV guest the machine's own answer, on processors that cannot hand it to Xen.
pub fn cpuid(leaf: u32, subleaf: u32) -> [u32; 4] {
    machine::emulated_cpuid(leaf, subleaf)
}

/// The value of a model-specific register, as Xen has it for this domain. Where Xen has none, reading it is a general protection fault,
/// which ends the kernel, unless the domain was made with `msr_relaxed`: then it is 0.
pub fn model_specific_register(number: u32) -> u64 {
    machine::model_specific_register(number)
}
