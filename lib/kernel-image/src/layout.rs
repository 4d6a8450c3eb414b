//! The addresses a PV guest starts with, by the rules of Xen's libelf.
use crate::{Features, ImageError, KernelImage, NoteSource};
use core::ops::Range;

/// How wide the addresses of a PV kernel are, and with them the words of what it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressSize {
    /// A kernel for x86-64.
    Bits64,
    /// A kernel for i386 with PAE.
    Bits32 {
        /// Whether its top page table may lie above 4 GiB (PAE_MODE).
        extended_cr3: bool,
    },
}

impl AddressSize {
    /// Bytes of a word.
    pub const fn word(self) -> u64 {
        match self {
            Self::Bits64 => 8,
            Self::Bits32 { .. } => 4,
        }
    }

    /// Whether it has 32 bits.
    pub const fn is_32_bit(self) -> bool {
        matches!(self, Self::Bits32 { .. })
    }
}

/// Where a PV kernel wants to be, and what it wants to find there.
///
/// All addresses are guest-virtual, in bytes. A byte of a segment at physical address `p` goes to virtual address
/// `p + virt_offset` (modulo 2^64), which is pseudo-physical address `p + virt_offset - virt_base`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PvLayout {
    /// How wide its addresses are.
    pub address_size: AddressSize,
    /// The address to which pseudo-physical address 0 is mapped (VIRT_BASE; 0 without it).
    pub virt_base: u64,
    /// What the segments' physical addresses are too high by (PADDR_OFFSET). Without the note it is 0, with the old
    /// `__xen_guest` section `virt_base`.
    pub paddr_offset: u64,
    /// From a segment's physical address to its virtual address: `virt_base - paddr_offset`, modulo 2^64.
    pub virt_offset: u64,
    /// From the first byte of the lowest segment to behind the last byte of the highest, or of the symbols behind it
    /// ([`KernelImage::symbols`]); not rounded to pages.
    pub kernel: Range<u64>,
    /// The first instruction (ENTRY, or the ELF header's entry point), within a segment.
    pub entry: u64,
    /// Where the p2m table is to be mapped (INIT_P2M); never within the kernel.
    pub init_p2m: Option<u64>,
    /// Whether the RAM disk may be handed over by frame number instead of mapped.
    pub mod_start_pfn: bool,
    /// The page to be filled with hypercall stubs: aligned and wholly within the kernel. Absent in newer kernels.
    pub hypercall_page: Option<u64>,
}

/// Size of a page in bytes.
const PAGE_SIZE: u64 = 4096;
/// The hole in every PV guest's address space that belongs to Xen (`HYPERVISOR_VIRT_START` and `_END` in
/// arch-x86/xen-x86_64.h).
const XEN_HOLE: Range<u64> = 0xffff_8000_0000_0000..0xffff_8800_0000_0000;
/// The first address that is Xen's in the address space of a 32-bit guest (`HYPERVISOR_VIRT_START_PAE` in
/// arch-x86/xen-x86_32.h).
const XEN_START_32: u64 = 0xf580_0000;
/// The first address that no pointer can hold (48-bit addresses).
const LOWER_HALF_END: u64 = 0x0000_8000_0000_0000;

impl KernelImage<'_> {
    /// Works out the start of a PV guest, or why this kernel cannot be one.
    pub fn layout(&self) -> Result<PvLayout, ImageError> {
        self.check_notes()?;
        let address_size = self.address_size()?;
        // Some linkers extend the sign of an address that has 32 bits.
        let address = |number: u64| if address_size.is_32_bit() { number & 0xffff_ffff } else { number };
        let notes = self.notes();
        let (virt_base, paddr_offset) = self.base_and_offset()?;
        let (virt_base, paddr_offset) = (address(virt_base), address(paddr_offset));
        let virt_offset = virt_base.wrapping_sub(paddr_offset);
        let kernel = self.kernel_range(address_size, virt_base, paddr_offset)?;
        let entry = address(notes.entry.unwrap_or(self.elf_entry()));
        let in_a_segment = self.segments().iter().any(|segment| {
            entry.wrapping_sub(segment.physical.wrapping_add(virt_offset)) < segment.memory_size
        });
        if !in_a_segment {
            return Err(ImageError::EntryOutside { entry, kernel });
        }
        if let Some(address) = notes.init_p2m.filter(|address| kernel.contains(address)) {
            return Err(ImageError::P2mInsideKernel { address, kernel });
        }
        let hypercall_page = notes.hypercall_page.map(address);
        if let Some(address) = hypercall_page.filter(|address| !is_page_within(*address, &kernel)) {
            return Err(ImageError::HypercallPageOutside { address, kernel });
        }
        Ok(PvLayout {
            address_size,
            virt_base,
            paddr_offset,
            virt_offset,
            kernel,
            entry,
            init_p2m: notes.init_p2m,
            mod_start_pfn: notes.mod_start_pfn.is_some_and(|value| value != 0),
            hypercall_page,
        })
    }

    /// How wide a PV kernel's addresses are: 64-bit kernels are 64-bit files, 32-bit kernels use PAE.
    fn address_size(&self) -> Result<AddressSize, ImageError> {
        match (self.is_for_i386(), self.is_32_bit()) {
            (false, false) => return Ok(AddressSize::Bits64),
            (false, true) => return Err(ImageError::ThirtyTwoBitFile),
            (true, _) => {}
        }
        let notes = self.notes();
        let mode = notes.pae_mode.unwrap_or_default();
        // The section says of itself whether it means the extended form; the note that replaced it always does.
        let plain = notes.source == NoteSource::GuestSection && mode == "yes";
        match mode {
            "yes" | "bimodal" | "yes[extended-cr3]" => Ok(AddressSize::Bits32 { extended_cr3: !plain }),
            _ => Err(ImageError::NoPae { found: mode.into() }),
        }
    }

    /// Whether the notes are those of a kernel that can run as an unprivileged PV guest.
    fn check_notes(&self) -> Result<(), ImageError> {
        let notes = self.notes();
        if notes.is_empty() {
            return Err(ImageError::NoXenNotes);
        }
        if let (Some(entry), None) = (notes.phys32_entry, notes.entry) {
            return Err(ImageError::PvhOnly { entry });
        }
        let (loader, guest_os) = (notes.loader.unwrap_or_default(), notes.guest_os.unwrap_or_default());
        if !loader.starts_with("generic") && !guest_os.starts_with("linux") {
            return Err(ImageError::WrongLoader { loader: loader.into(), guest_os: guest_os.into() });
        }
        let xen_version = notes.xen_version.unwrap_or_default();
        if !xen_version.starts_with("xen-3.0") {
            return Err(ImageError::WrongXenVersion { found: xen_version.into() });
        }
        if notes.required.contains(Features::DOM0) {
            return Err(ImageError::OnlyDom0);
        }
        Ok(())
    }

    /// VIRT_BASE and PADDR_OFFSET or what stands for them.
    fn base_and_offset(&self) -> Result<(u64, u64), ImageError> {
        let notes = self.notes();
        match (notes.virt_base, notes.paddr_offset) {
            (None, Some(paddr_offset)) => Err(ImageError::OffsetWithoutBase { paddr_offset }),
            (Some(virt_base), Some(paddr_offset)) => Ok((virt_base, paddr_offset)),
            (virt_base, None) => {
                let virt_base = virt_base.unwrap_or(0);
                let legacy = notes.source == NoteSource::GuestSection;
                Ok((virt_base, if legacy { virt_base } else { 0 }))
            }
        }
    }

    /// The kernel's virtual addresses.
    fn kernel_range(
        &self,
        address_size: AddressSize,
        virt_base: u64,
        paddr_offset: u64,
    ) -> Result<Range<u64>, ImageError> {
        let physical = self.loaded_range();
        let virt_offset = virt_base.wrapping_sub(paddr_offset);
        let kernel = physical.start.wrapping_add(virt_offset)..physical.end.wrapping_add(virt_offset);
        let problem = if kernel.start >= kernel.end {
            "wraps around the end of the address space"
        } else if kernel.start < virt_base {
            "starts below VIRT_BASE, where there is no memory"
        } else if address_size.is_32_bit() && kernel.end > XEN_START_32 {
            "reaches into addresses that no 32-bit guest can use, from 0xf5800000 on"
        } else if kernel.start < XEN_HOLE.end && kernel.end > LOWER_HALF_END {
            "reaches into addresses that no guest can use, [0x800000000000..0xffff880000000000)"
        } else {
            return Ok(kernel);
        };
        let (virt_start, virt_end) = (kernel.start, kernel.end);
        Err(ImageError::BadAddresses { virt_base, paddr_offset, physical, virt_start, virt_end, problem })
    }
}

/// Whether `address` is that of a page that lies within `kernel`, which ends somewhere in its last page.
fn is_page_within(address: u64, kernel: &Range<u64>) -> bool {
    address.is_multiple_of(PAGE_SIZE) && address >= kernel.start && address < kernel.end
}
