//! What a PV guest is told at its start (public/xen.h, `struct start_info`).

use bitflags::bitflags;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use crate::assert_layout;

/// Bytes of the command line including its NUL (`MAX_GUEST_CMDLINE`).
pub const MAX_COMMAND_LINE: usize = 1024;

/// What [`StartInfo::magic`] holds for a 64-bit PV guest, followed by NULs.
pub const MAGIC: &[u8] = b"xen-3.0-x86_64";

bitflags! {
    /// `SIF_*` flags of [`StartInfo::flags`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct StartFlags: u32 {
        /// The domain is privileged.
        const PRIVILEGED = xen_sys::SIF_PRIVILEGED;
        /// The domain is the hardware domain.
        const INITDOMAIN = xen_sys::SIF_INITDOMAIN;
        /// `mod_start` is a multiboot module list.
        const MULTIBOOT_MOD = xen_sys::SIF_MULTIBOOT_MOD;
        /// `mod_start` is a PFN, the module is not mapped.
        const MOD_START_PFN = xen_sys::SIF_MOD_START_PFN;
        /// The builder understands a virtual linear p2m list.
        const VIRT_P2M_4TOOLS = xen_sys::SIF_VIRT_P2M_4TOOLS;
    }
}

/// `struct start_info`, with the console fields of a domain that is not the hardware domain.
#[derive(Clone, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct StartInfo {
    /// [`MAGIC`], padded with NUL.
    pub magic: [u8; 32],
    /// Pages the domain has.
    pub nr_pages: u64,
    /// MACHINE address of the shared info page, in bytes.
    pub shared_info: u64,
    /// [`StartFlags`] bits.
    pub flags: u32,
    /// Padding.
    pub pad0: u32,
    /// MFN of the XenStore ring; meaningful with a port.
    pub store_mfn: u64,
    /// Port of the XenStore ring; 0 for none.
    pub store_evtchn: u32,
    /// Padding.
    pub pad1: u32,
    /// MFN of the console ring. For the hardware domain: offset and size of video information instead.
    pub console_mfn: u64,
    /// Port of the console ring.
    pub console_evtchn: u32,
    /// Padding.
    pub pad2: u32,
    /// VIRTUAL address of the top page table.
    pub pt_base: u64,
    /// Frames of the initial page tables.
    pub nr_pt_frames: u64,
    /// VIRTUAL address of the p2m list, one MFN of 8 bytes for each PFN.
    pub mfn_list: u64,
    /// VIRTUAL address of the module, or its PFN with [`StartFlags::MOD_START_PFN`]; 0 for none.
    pub mod_start: u64,
    /// Bytes of the module.
    pub mod_len: u64,
    /// Command line, NUL terminated.
    pub cmd_line: [u8; MAX_COMMAND_LINE],
    /// First PFN of the p2m list and its page tables, when the kernel asked for them with an `INIT_P2M` note.
    pub first_p2m_pfn: u64,
    /// Frames of the p2m list and its page tables; 0 without an `INIT_P2M` note.
    pub nr_p2m_frames: u64,
}

impl StartInfo {
    /// A start info with every field zero.
    pub fn zeroed() -> Self {
        Self::new_zeroed()
    }

    /// The command line up to its NUL.
    pub fn command_line(&self) -> &[u8] {
        let line = &self.cmd_line;
        let end = line.iter().position(|byte| *byte == 0).unwrap_or(line.len());
        line.get(..end).unwrap_or_default()
    }
}

assert_layout!(
    StartInfo,
    size = 1168,
    nr_pages @ 32,
    shared_info @ 40,
    flags @ 48,
    store_mfn @ 56,
    store_evtchn @ 64,
    console_mfn @ 72,
    console_evtchn @ 80,
    pt_base @ 88,
    nr_pt_frames @ 96,
    mfn_list @ 104,
    mod_start @ 112,
    mod_len @ 120,
    cmd_line @ 128,
    first_p2m_pfn @ 1152,
    nr_p2m_frames @ 1160,
);
const _: () = assert!(size_of::<StartInfo>() == size_of::<xen_sys::start_info>());
