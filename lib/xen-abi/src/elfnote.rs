//! Types of Xen's ELF notes (public/elfnote.h), owner name `Xen`, taken from the `xen-sys` package.

/// The owner name in a note that is Xen's.
pub const OWNER: &[u8] = b"Xen";

macro_rules! notes {
    ($($constant:ident = $sys:ident, $text:literal;)*) => {
        $(#[doc = concat!("`", stringify!($sys), "`: ", $text, ".")] pub const $constant: u32 = xen_sys::$sys;)*

        /// The header's name of a note type, without the `XEN_ELFNOTE_` prefix.
        pub const fn name(note: u32) -> Option<&'static str> {
            match note {
                $(xen_sys::$sys => Some(stringify!($constant)),)*
                _ => None,
            }
        }
    };
}

notes! {
    INFO = XEN_ELFNOTE_INFO, "free text";
    ENTRY = XEN_ELFNOTE_ENTRY, "virtual address of the PV entry point";
    HYPERCALL_PAGE = XEN_ELFNOTE_HYPERCALL_PAGE, "virtual address of a page for Xen to fill";
    VIRT_BASE = XEN_ELFNOTE_VIRT_BASE, "virtual address that pseudo-physical 0 is mapped at";
    PADDR_OFFSET = XEN_ELFNOTE_PADDR_OFFSET, "offset of ELF physical addresses from real ones";
    XEN_VERSION = XEN_ELFNOTE_XEN_VERSION, "interface the kernel is written for, xen-3.0";
    GUEST_OS = XEN_ELFNOTE_GUEST_OS, "name of the operating system";
    GUEST_VERSION = XEN_ELFNOTE_GUEST_VERSION, "version of the operating system";
    LOADER = XEN_ELFNOTE_LOADER, "loader type";
    PAE_MODE = XEN_ELFNOTE_PAE_MODE, "PAE mode of a 32-bit kernel";
    FEATURES = XEN_ELFNOTE_FEATURES, "features the kernel uses or needs, as text";
    BSD_SYMTAB = XEN_ELFNOTE_BSD_SYMTAB, "whether symbols are to be loaded behind the kernel";
    HV_START_LOW = XEN_ELFNOTE_HV_START_LOW, "lowest address Xen may use";
    L1_MFN_VALID = XEN_ELFNOTE_L1_MFN_VALID, "mask and value of a valid frame in an L1 entry";
    SUSPEND_CANCEL = XEN_ELFNOTE_SUSPEND_CANCEL, "whether a suspend can be cancelled";
    INIT_P2M = XEN_ELFNOTE_INIT_P2M, "virtual address to map the initial p2m list at";
    MOD_START_PFN = XEN_ELFNOTE_MOD_START_PFN, "whether mod_start may be a frame number";
    SUPPORTED_FEATURES = XEN_ELFNOTE_SUPPORTED_FEATURES, "features the kernel supports, as bits";
    PHYS32_ENTRY = XEN_ELFNOTE_PHYS32_ENTRY, "physical address of the PVH entry point";
}
