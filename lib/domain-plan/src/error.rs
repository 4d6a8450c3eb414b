//! Why a guest cannot be planned.

use thiserror::Error;
use xen_abi::{GuestVirt, PageCount};

use crate::AreaKind;

/// Why a guest cannot be planned. Every variant names what would have worked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PlanError {
    /// The guest's memory does not hold what has to be in it at the start.
    #[error(
        "{} of memory do not hold the start-of-day image: placing the {area} takes {} pages, {} are left of {}; \
         give the VM at least {} MiB (`memory = {}`), plus what the kernel needs to run",
        Mib(*memory), wanted, free, memory, least_mib, least_mib
    )]
    Memory {
        /// What did not fit.
        area: AreaKind,
        /// Its size.
        wanted: PageCount,
        /// Pages that were left.
        free: PageCount,
        /// Pages the guest has.
        memory: PageCount,
        /// The least memory that holds everything, in MiB.
        least_mib: u64,
    },
    /// The guest has no memory at all, or more than page numbers can count.
    #[error("a guest of {0} pages cannot be planned; give it between 1 page and 16 TiB")]
    MemorySize(PageCount),
    /// A 32-bit guest has more memory than it can count.
    #[error(
        "a 32-bit guest of {0} pages cannot be planned: PAE reaches 64 GiB; give it less, or use a 64-bit kernel"
    )]
    MemorySize32(PageCount),
    /// The kernel's addresses do not lie at or above the base that its notes give.
    #[error(
        "the kernel occupies [{start:#x}..{end:#x}) but says that its address space starts at {base:#x} (VIRT_BASE, PADDR_OFFSET): \
         the notes and the program headers have to agree"
    )]
    BelowBase {
        /// First byte of the kernel.
        start: u64,
        /// Byte behind the kernel.
        end: u64,
        /// The base in its notes.
        base: u64,
    },
    /// A base address is not page aligned.
    #[error("{what} is {address}, which is not a multiple of 4096")]
    Misaligned {
        /// What it is the address of.
        what: &'static str,
        /// The address.
        address: GuestVirt,
    },
    /// An address cannot be used by a 64-bit PV guest.
    #[error(
        "{what} [{start:#x}..{end:#x}) lies outside of what a 64-bit PV guest may map: Xen keeps \
         [0xffff800000000000..0xffff880000000000) for itself, and addresses have to be canonical"
    )]
    Unmappable {
        /// What was to be mapped.
        what: &'static str,
        /// First byte.
        start: u64,
        /// Byte behind it.
        end: u64,
    },
    /// An address cannot be used by a 32-bit PV guest.
    #[error(
        "{what} [{start:#x}..{end:#x}) lies outside of what a 32-bit PV guest may map: addresses from 0xf5800000 on are Xen's; \
         make the RAM disk or the memory smaller, or link the kernel to a lower VIRT_BASE"
    )]
    Unmappable32 {
        /// What was to be mapped.
        what: &'static str,
        /// First byte.
        start: u64,
        /// Byte behind it.
        end: u64,
    },
    /// Two things are to be mapped at the same place.
    #[error(
        "the kernel wants its p2m list at [{p2m_start:#x}..{p2m_end:#x}) (INIT_P2M), where its initial mapping \
         [{start:#x}..{end:#x}) is; it needs an INIT_P2M address below VIRT_BASE that leaves room for the list"
    )]
    P2mOverlap {
        /// First byte of the p2m list.
        p2m_start: u64,
        /// Byte behind it.
        p2m_end: u64,
        /// First byte of the initial mapping.
        start: u64,
        /// Byte behind it.
        end: u64,
    },
    /// An address that the kernel names is not inside it.
    #[error(
        "{what} {address} lies outside of the kernel [{start:#x}..{end:#x}); the image's {what} note is wrong"
    )]
    OutsideKernel {
        /// Which address.
        what: &'static str,
        /// The address.
        address: GuestVirt,
        /// First byte of the kernel.
        start: u64,
        /// Byte behind it.
        end: u64,
    },
    /// The command line does not fit the start info.
    #[error("the command line has {length} bytes; Xen's start info holds at most 1023")]
    CommandLine {
        /// Its length.
        length: usize,
    },
    /// Arithmetic on the kernel's numbers overflows.
    #[error("{what} overflows 64 bits; the image's program headers or notes are corrupt")]
    Overflow {
        /// What was computed.
        what: &'static str,
    },
    /// The kernel has no PVH entry point.
    #[error(
        "the kernel cannot start as a PVH guest: {}",
        if *any_notes { "it has Xen notes but no PHYS32_ENTRY; for Linux, build it with CONFIG_PVH (CONFIG_XEN_PVH), or use \
         type = \"pv\"" } else { "it has no Xen notes; for Linux, build it with CONFIG_PVH (CONFIG_XEN_PVH)" }
    )]
    NotPvh {
        /// Whether it has any Xen notes.
        any_notes: bool,
    },
    /// The PVH entry point is not in the kernel, or above 4 GiB.
    #[error(
        "PHYS32_ENTRY {address:#x} lies outside of the kernel's segments [{start:#x}..{end:#x}) below 4 GiB; \
         the image's PHYS32_ENTRY note is wrong"
    )]
    PvhEntry {
        /// The address.
        address: u64,
        /// First byte of the kernel.
        start: u64,
        /// Byte behind it.
        end: u64,
    },
    /// The kernel wants to be where a PVH guest's ACPI tables are.
    #[error(
        "the kernel occupies [{start:#x}..{end:#x}), where a PVH guest has its ACPI tables [{area_start:#x}..{area_end:#x}); \
         link it to physical addresses from 1 MiB on"
    )]
    AcpiOverlap {
        /// First byte of the kernel.
        start: u64,
        /// Byte behind it.
        end: u64,
        /// First byte of the tables.
        area_start: u64,
        /// Byte behind them.
        area_end: u64,
    },
    /// What a PVH guest starts with reaches into the hole below 4 GiB.
    #[error(
        "the {area} of a PVH guest ends at {end:#x}, and everything it starts with has to lie below 0xfc000000: \
         make the RAM disk smaller"
    )]
    BeyondHole {
        /// What does not fit.
        area: AreaKind,
        /// Where it ends.
        end: u64,
    },
    /// A device is to be where the guest has something else.
    #[error(
        "a device is to be at the guest's pages [{start:#x}..{end:#x}), where [{taken_start:#x}..{taken_end:#x}) is its own memory or local \
         APIC: say in `iomem` where else, such as \"FIRST,COUNT@fd000\""
    )]
    DeviceOverlap {
        /// The device's first guest frame.
        start: u64,
        /// Behind its last.
        end: u64,
        /// The first guest frame of what is there.
        taken_start: u64,
        /// Behind its last.
        taken_end: u64,
    },
    /// The modules are not those of the RAM disk.
    #[error(
        "the RAM disk has {ramdisk} bytes, and the VM's modules take {modules} of them: its boot spec is for another file; compile \
         it again (a VM with `modules` does not get the event log)"
    )]
    Modules {
        /// Bytes of the RAM disk.
        ramdisk: u64,
        /// Where the last module ends.
        modules: u64,
    },
    /// More vCPUs than a PVH guest can have, or none.
    #[error("a PVH guest with {vcpus} vCPUs cannot be planned: Xen gives it 1 to {most}; lower `vcpus`")]
    PvhVcpus {
        /// vCPUs asked for.
        vcpus: u32,
        /// The most there can be.
        most: u32,
    },
    /// The kernel image cannot be a PV guest's.
    #[error(transparent)]
    Image(#[from] kernel_image::ImageError),
}

/// Shows pages as MiB, with a fraction where there is one.
struct Mib(PageCount);

impl core::fmt::Display for Mib {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let kib = self.0.kib();
        if kib.is_multiple_of(1024) { write!(f, "{} MiB", kib >> 10) } else { write!(f, "{kib} KiB") }
    }
}
