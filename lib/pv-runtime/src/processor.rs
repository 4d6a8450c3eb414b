//! What Xen says of the processor.

use crate::machine;

/// What CPUID answers for `leaf` and `subleaf`, as Xen has it for this domain: EAX, EBX, ECX and EDX.
///
/// The instruction alone gives a PV guest the machine's own answer, on processors that cannot hand it to Xen.
pub fn cpuid(leaf: u32, subleaf: u32) -> [u32; 4] {
    machine::emulated_cpuid(leaf, subleaf)
}
