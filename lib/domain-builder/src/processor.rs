//! What a new domain sees of the processor.
//!
//! Xen gives a domain that is created the features of its own choice for guests of that kind. What is left to a builder is what
//! libxl does: the topology of a PVH guest with several vCPUs, the invariance of the time-stamp counter, and what the VM's file asks for.

use alloc::vec::Vec;

use hypercall::{RawHypercall, Xen};
use protocols::settings::{CpuidChange, Processor, Register, TscMode};
use xen_abi::DomId;
use xen_abi::cpu_policy::{CpuidLeaf, NO_SUBLEAF, TSC_ALWAYS_EMULATE, TSC_NEVER_EMULATE};

use crate::{BuildError, Step};

const EAX: usize = 0;
const EBX: usize = 1;
const ECX: usize = 2;
const EDX: usize = 3;

/// Hyper-threading, in EDX of leaf 1: the package may have more than one thread.
const HTT: u32 = 1 << 28;
/// In ECX of leaf 0x80000001: these are cores, not threads.
const CMP_LEGACY: u32 = 1 << 1;
/// In EDX of leaf 0x80000007: the time-stamp counter never changes its rate.
const ITSC: u32 = 1 << 8;

/// The most local APICs of a package that all fields reach to.
const MAX_NUMBERS: u32 = 0x80;

/// Where a domain's vCPUs are told how they stand to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topology {
    /// In the machine's processor: a PV guest asks that, and Xen cannot answer for it everywhere.
    Machine,
    /// In Xen, for so many vCPUs: the local APIC of vCPU N has the number 2 N, as if each were a core with one thread.
    Cores(u32),
}

/// Tells Xen what `domain`, which has its vCPUs and has not been started, is to see.
pub(crate) fn apply<H: RawHypercall>(
    xen: &Xen<H>,
    domain: DomId,
    processor: &Processor,
    topology: Topology,
) -> Result<(), BuildError> {
    let refused = BuildError::call(Step::Processor);
    let tsc_mode = match processor.tsc {
        TscMode::Default => None,
        TscMode::AlwaysEmulate => Some(TSC_ALWAYS_EMULATE),
        TscMode::Native => Some(TSC_NEVER_EMULATE),
    };
    if let Some(mode) = tsc_mode {
        xen.set_tsc_mode(domain, mode).map_err(&refused)?;
    }
    if processor.stays {
        xen.disable_migration(domain).map_err(&refused)?;
    }
    // An emulated counter has one rate wherever it goes.
    let invariant = processor.stays || processor.tsc == TscMode::AlwaysEmulate;
    if topology == Topology::Machine && !invariant && processor.cpuid.is_empty() {
        return Ok(());
    }
    let mut leaves = xen.cpu_policy(domain).map_err(&refused)?;
    if let Topology::Cores(vcpus) = topology {
        spread_out(&mut leaves, vcpus);
    }
    if invariant && let Some(power) = find(&mut leaves, 0x8000_0007, NO_SUBLEAF) {
        power.registers[EDX] |= ITSC;
    }
    let takes_host = processor.cpuid.iter().any(|change| change.host != 0);
    let mut host = if takes_host { xen.host_cpu_policy().map_err(&refused)? } else { Vec::new() };
    for change in &processor.cpuid {
        alter(&mut leaves, &mut host, change)?;
    }
    xen.set_cpu_policy(domain, &leaves)
        .map_err(|(error, leaf)| BuildError::Processor { error, leaf: leaf.map(|(leaf, _)| leaf) })?;
    if processor.cpuid.is_empty() {
        return Ok(());
    }
    let mut taken = xen.cpu_policy(domain).map_err(&refused)?;
    report(domain, &mut leaves, &mut taken, &processor.cpuid);
    Ok(())
}

/// The leaf of that number; `None` if Xen has none for the domain.
fn find(leaves: &mut [CpuidLeaf], leaf: u32, subleaf: u32) -> Option<&mut CpuidLeaf> {
    leaves.iter_mut().find(|it| (it.leaf, it.subleaf) == (leaf, subleaf))
}

fn index(register: Register) -> usize {
    match register {
        Register::Eax => EAX,
        Register::Ebx => EBX,
        Register::Ecx => ECX,
        Register::Edx => EDX,
    }
}

/// Makes one change; the bits that are to be as the machine has them come from `host`.
fn alter(leaves: &mut [CpuidLeaf], host: &mut [CpuidLeaf], change: &CpuidChange) -> Result<(), BuildError> {
    let CpuidChange { leaf, subleaf, register, ones, zeros, host: mask } = *change;
    let missing = BuildError::NoLeaf { leaf, subleaf: (subleaf != NO_SUBLEAF).then_some(subleaf) };
    let from_host = match mask {
        0 => 0,
        _ => find(host, leaf, subleaf).ok_or(missing)?.registers[index(register)] & mask,
    };
    let value = &mut find(leaves, leaf, subleaf).ok_or(missing)?.registers[index(register)];
    *value = *value & !(zeros | mask) | ones | from_host;
    Ok(())
}

/// Makes the leaves agree with local APICs whose numbers go up by 2: twice as many for each package, as libxl has them, and room for
/// those of all `vcpus` in one package, as far as the fields reach. The machine may have less processors than the domain has vCPUs.
fn spread_out(leaves: &mut [CpuidLeaf], vcpus: u32) {
    let numbers = vcpus.saturating_mul(2).clamp(2, MAX_NUMBERS).next_power_of_two();
    if let Some(features) = find(leaves, 1, NO_SUBLEAF) {
        features.registers[EDX] |= HTT;
        let count = features.registers[EBX] >> 16 & 0xff;
        let count = match count {
            0 => 2,
            0x80.. => count,
            _ => count * 2,
        }
        .max(numbers);
        features.registers[EBX] = features.registers[EBX] & !0x00ff_0000 | count << 16;
    }
    if let Some(features) = find(leaves, 0x8000_0001, NO_SUBLEAF) {
        features.registers[ECX] &= !CMP_LEGACY;
    }
    match vendor(leaves) {
        Some(Vendor::Intel) => spread_caches(leaves, numbers),
        Some(Vendor::Amd) => spread_cores(leaves, numbers),
        None => {}
    }
}

/// Whose topology leaves a processor has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Vendor {
    Intel,
    /// And Hygon.
    Amd,
}

fn vendor(leaves: &mut [CpuidLeaf]) -> Option<Vendor> {
    let [_, ebx, ecx, edx] = find(leaves, 0, NO_SUBLEAF)?.registers;
    let mut name = [0; 12];
    for (to, from) in name.chunks_exact_mut(4).zip([ebx, edx, ecx]) {
        to.copy_from_slice(&from.to_le_bytes());
    }
    match &name {
        b"GenuineIntel" => Some(Vendor::Intel),
        b"AuthenticAMD" | b"HygonGenuine" => Some(Vendor::Amd),
        _ => None,
    }
}

/// Intel's leaf 4: each cache is one core's own, and a package has twice the cores.
fn spread_caches(leaves: &mut [CpuidLeaf], numbers: u32) {
    for cache in leaves.iter_mut().filter(|it| it.leaf == 4 && it.registers[EAX] & 0x1f != 0) {
        let cores = ((cache.registers[EAX] >> 26) << 1 | 1).max(numbers - 1).min(0x3f);
        cache.registers[EAX] = cache.registers[EAX] & 0x3fff | cores << 26;
    }
}

/// AMD's leaf 0x80000008: twice the cores, and one more bit for them in the number of a local APIC, if such bits are told. Some
/// guests cannot do with more than seven.
fn spread_cores(leaves: &mut [CpuidLeaf], numbers: u32) {
    let Some(sizes) = find(leaves, 0x8000_0008, NO_SUBLEAF) else { return };
    let (cores, bits) = (sizes.registers[ECX] & 0xff, sizes.registers[ECX] >> 12 & 0xf);
    if cores >= 0x7f {
        return;
    }
    let bits = if (1..7).contains(&bits) { (bits + 1).max(numbers.trailing_zeros()) } else { bits };
    let cores = (cores << 1 | 1).max(numbers - 1);
    sizes.registers[ECX] = sizes.registers[ECX] & !0xf0ff | bits << 12 | cores;
}

/// Logs the registers in which Xen has not taken what it was asked for.
fn report(domain: DomId, asked: &mut [CpuidLeaf], taken: &mut [CpuidLeaf], changes: &[CpuidChange]) {
    for change in changes {
        let CpuidChange { leaf, subleaf, register, ones, zeros, host } = *change;
        let value = |leaves: &mut [CpuidLeaf]| {
            find(leaves, leaf, subleaf).map_or(0, |it| it.registers[index(register)])
        };
        let differs = (value(asked) ^ value(taken)) & (ones | zeros | host);
        if differs == 0 {
            continue;
        }
        log::warn!(
            "domid={domain} event=cpuid leaf={leaf:#x} register={register:?} not-taken={differs:#x}: the machine or Xen does not have \
             these bits for guests, or sets them itself"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(leaf: u32, registers: [u32; 4]) -> CpuidLeaf {
        CpuidLeaf { leaf, subleaf: NO_SUBLEAF, registers }
    }

    fn word(text: [u8; 4]) -> u32 {
        u32::from_le_bytes(text)
    }

    #[test]
    fn a_package_of_amds_has_twice_the_cores() {
        let name = [0, word(*b"Auth"), word(*b"cAMD"), word(*b"enti")];
        let mut leaves = [
            leaf(0, name),
            leaf(1, [0, 0x1234_5678, 0, 0]),
            leaf(0x8000_0001, [0, 0, 0xff, 0]),
            leaf(0x8000_0008, [0, 0, 0x3003, 0]),
        ];
        spread_out(&mut leaves, 1);
        assert_eq!(leaves[1].registers, [0, 0x1268_5678, 0, HTT]);
        assert_eq!(leaves[2].registers[ECX], 0xfd);
        assert_eq!(leaves[3].registers[ECX], 0x4007);
        // A count of bits of 0 means something else, and stays; seven is enough; too many cores are left alone.
        for (before, after) in [(0x0001, 0x0003), (0x7001, 0x7003), (0x507f, 0x507f)] {
            leaves[3].registers[ECX] = before;
            spread_cores(&mut leaves, 2);
            assert_eq!(leaves[3].registers[ECX], after);
        }
    }

    #[test]
    fn there_is_room_for_all_vcpus_in_one_package() {
        let name = [0, word(*b"Auth"), word(*b"cAMD"), word(*b"enti")];
        for (vcpus, count, cores) in [(2, 4, 0x2003), (3, 8, 0x3007), (64, 0x80, 0x707f), (128, 0x80, 0x707f)]
        {
            let mut leaves = [leaf(0, name), leaf(1, [0; 4]), leaf(0x8000_0008, [0, 0, 0x1000, 0])];
            spread_out(&mut leaves, vcpus);
            assert_eq!((leaves[1].registers[EBX] >> 16, leaves[2].registers[ECX]), (count, cores));
        }
    }

    #[test]
    fn caches_of_intels_are_each_cores_own() {
        let name = [0, word(*b"Genu"), word(*b"ntel"), word(*b"ineI")];
        let cache = |subleaf, eax| CpuidLeaf { leaf: 4, subleaf, registers: [eax, 1, 2, 3] };
        let mut leaves = [leaf(0, name), cache(0, 3 << 26 | 1 << 14 | 0x121), cache(1, 3 << 26)];
        spread_out(&mut leaves, 1);
        assert_eq!(leaves[1].registers, [7 << 26 | 0x121, 1, 2, 3]);
        assert_eq!(leaves[2].registers[EAX], 3 << 26, "not a cache");
    }

    #[test]
    fn the_count_of_a_package_stays_in_its_byte() {
        for (before, after) in [(0, 2), (1, 2), (0x7f, 0xfe), (0x80, 0x80), (0xff, 0xff)] {
            let mut leaves = [leaf(1, [0, before << 16, 0, 0])];
            spread_out(&mut leaves, 1);
            assert_eq!(leaves[0].registers[EBX] >> 16, after);
        }
    }

    #[test]
    fn bits_are_set_cleared_taken_from_the_machine_or_left() {
        let mut leaves = [leaf(7, [0, 0b1100, 0, 0])];
        let mut host = [leaf(7, [0, 0b10_0000, 0, 0])];
        let change = CpuidChange {
            leaf: 7,
            subleaf: NO_SUBLEAF,
            register: Register::Ebx,
            ones: 1,
            zeros: 0b100,
            host: 0b11_0000,
        };
        assert!(alter(&mut leaves, &mut host, &change).is_ok());
        assert_eq!(leaves[0].registers[EBX], 0b10_1001);
        let other = CpuidChange { leaf: 8, host: 0, ..change };
        assert_eq!(alter(&mut leaves, &mut host, &other), Err(BuildError::NoLeaf { leaf: 8, subleaf: None }));
    }
}
