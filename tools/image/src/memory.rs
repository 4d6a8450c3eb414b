//! How much memory each part of the machine needs.

use protocols::BootSpec;

use kernel_image::UnpackingCost;

/// One MiB in bytes.
pub const MIB: u64 = 1 << 20;

/// What db-boot needs beside its image, the RAM disk and unpacked kernels: its heap (parsed specs, plans, the
/// index of the RAM disk, tables of the guests' frames), its stack, its frame windows, its console buffers, and
/// the rounding of Xen's start-of-day area (up to 4 MiB, twice).
const BUILDER_SLACK: u64 = 12 * MIB;

/// What Xen needs for itself beside its tables: its image, its per-CPU areas, its console ring, and the low
/// memory that it keeps for DMA.
const XEN_BASE: u64 = 96 * MIB;
/// What Xen needs for each domain beside the domain's memory: its structures, its vCPUs, its grant and event
/// tables, its map of the domain's memory.
const XEN_PER_DOMAIN: u64 = 4 * MIB;
/// Xen's frame table and machine-to-physical map take 40 bytes for each 4 KiB page; this is rounded up to one in
/// so many bytes of machine memory.
const XEN_TABLES_SHARE: u64 = 64;
/// The smallest machine that `domb run` starts: firmware and GRUB unpack their images beside Xen's.
const SMALLEST_MACHINE: u64 = 512 * MIB;
/// The machine's memory is a multiple of this, as that of real machines.
const MACHINE_STEP: u64 = 64 * MIB;

/// What decides about the memory of db-boot, all in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuilderNeed {
    /// db-boot's image in memory: its segments, zero-filled parts included.
    pub image: u64,
    /// The RAM disk, which Xen puts into the memory of the domain it belongs to.
    pub archive: u64,
    /// What unpacking the kernels takes.
    pub unpacking: UnpackingCost,
}

impl BuilderNeed {
    /// The value for Xen's `dom0_mem` in MiB.
    pub fn dom0_mem_mib(self) -> u64 {
        let contents = self
            .image
            .saturating_add(self.archive)
            .saturating_add(u64::try_from(self.unpacking.total()).unwrap_or(u64::MAX))
            .saturating_add(BUILDER_SLACK);
        // Two tables grow with the memory they describe: 8 bytes of page table and 8 bytes of
        // physical-to-machine map for each page of 4 KiB; one in 256 covers both, and once more their own need.
        contents.saturating_add(contents.div_ceil(256).saturating_mul(2)).div_ceil(MIB)
    }
}

/// The memory of a machine that runs the VMs of `specs` beside a Dom0 of `dom0_mib`, in MiB.
pub fn machine_mib<'a>(specs: impl IntoIterator<Item = &'a BootSpec>, dom0_mib: u64) -> u64 {
    let guests = specs.into_iter().fold(0_u64, |sum, spec| {
        sum.saturating_add(spec.max_memory_kib.saturating_mul(1024)).saturating_add(XEN_PER_DOMAIN)
    });
    let used = guests.saturating_add(dom0_mib.saturating_mul(MIB)).saturating_add(XEN_BASE);
    let whole = used.saturating_add(used.div_ceil(XEN_TABLES_SHARE));
    whole.max(SMALLEST_MACHINE).div_ceil(MACHINE_STEP).saturating_mul(MACHINE_STEP / MIB)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dom0_gets_what_it_holds_and_some_room() {
        let small = BuilderNeed { image: MIB, archive: MIB / 2, unpacking: UnpackingCost::default() };
        assert_eq!(small.dom0_mem_mib(), 14);
        let linux = BuilderNeed {
            archive: 30 * MIB,
            unpacking: UnpackingCost { output: 62 << 20, workspace: 2 << 20 },
            ..small
        };
        assert_eq!(linux.dom0_mem_mib(), 108);
        let absurd = BuilderNeed { archive: u64::MAX, ..small };
        assert_eq!(absurd.dom0_mem_mib(), u64::MAX.div_ceil(MIB));
    }

    #[test]
    fn a_machine_is_never_smaller_than_the_smallest() {
        assert_eq!(machine_mib([], 16), 512);
    }
}
