//! What is different for a 32-bit PV guest (public/arch-x86/xen-x86_32.h; Xen's own name for it is compat).
//!
//! Words have 32 bits, and with them most fields of what the guest is told and of what a vCPU starts with. The structures here are made
//! from their 64-bit counterparts, of which a 32-bit guest gets the low halves.

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use crate::assert_layout;
use crate::start_info::{MAX_COMMAND_LINE, StartInfo};
use crate::vcpu::{TRAP_VECTORS, UserRegs, VcpuGuestContext};

/// What the magic of a 32-bit PV guest's start info holds, followed by NULs.
pub const MAGIC: &[u8] = b"xen-3.0-x86_32p";

/// `FLAT_KERNEL_CS`: Xen's flat 32-bit code segment for PV kernels, ring 1.
pub const FLAT_KERNEL_CS: u16 = 0xe019;
/// `FLAT_KERNEL_DS`, and the stack's too: Xen's flat 32-bit data segment for PV kernels, ring 1.
pub const FLAT_KERNEL_DS: u16 = 0xe021;

/// `HYPERVISOR_VIRT_START_PAE`: the first address that is Xen's; the machine-to-physical table begins here.
pub const HYPERVISOR_VIRT_START: u64 = 0xf580_0000;

/// `VMASST_TYPE_pae_extended_cr3`: the top page table may lie above 4 GiB.
pub const VM_ASSIST_PAE_EXTENDED_CR3: u64 = 1 << 3;

/// `struct xen_domctl_address_size`: how wide a domain's words are.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct AddressSizeArgument {
    /// IN: bits, 32 or 64.
    pub size: u32,
}

/// The low half of a word.
#[expect(clippy::cast_possible_truncation, reason = "a 32-bit guest has nothing above, or is refused before")]
const fn low(word: u64) -> u32 {
    word as u32
}

/// Folds the number of a top page table's frame into a CR3, whose low bits hold what does not fit the high ones
/// (`xen_pfn_to_cr3`).
pub const fn cr3_of_frame(frame: u64) -> u64 {
    let frame = low(frame);
    frame.rotate_left(12) as u64
}

/// The reverse (`xen_cr3_to_pfn`).
pub const fn frame_of_cr3(cr3: u64) -> u64 {
    let cr3 = low(cr3);
    cr3.rotate_right(12) as u64
}

/// `struct start_info` of a 32-bit guest; the fields mean what those of [`StartInfo`] do.
#[derive(Clone, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[expect(missing_docs, reason = "documented in StartInfo")]
pub struct StartInfo32 {
    pub magic: [u8; 32],
    pub nr_pages: u32,
    pub shared_info: u32,
    pub flags: u32,
    pub store_mfn: u32,
    pub store_evtchn: u32,
    pub console_mfn: u32,
    pub console_evtchn: u32,
    pub pt_base: u32,
    pub nr_pt_frames: u32,
    pub mfn_list: u32,
    pub mod_start: u32,
    pub mod_len: u32,
    pub cmd_line: [u8; MAX_COMMAND_LINE],
    pub first_p2m_pfn: u32,
    pub nr_p2m_frames: u32,
}

impl StartInfo32 {
    /// The same for a 32-bit guest; what does not fit 32 bits is cut off.
    pub fn narrow(wide: &StartInfo) -> Self {
        Self {
            magic: wide.magic,
            nr_pages: low(wide.nr_pages),
            shared_info: low(wide.shared_info),
            flags: wide.flags,
            store_mfn: low(wide.store_mfn),
            store_evtchn: wide.store_evtchn,
            console_mfn: low(wide.console_mfn),
            console_evtchn: wide.console_evtchn,
            pt_base: low(wide.pt_base),
            nr_pt_frames: low(wide.nr_pt_frames),
            mfn_list: low(wide.mfn_list),
            mod_start: low(wide.mod_start),
            mod_len: low(wide.mod_len),
            cmd_line: wide.cmd_line,
            first_p2m_pfn: low(wide.first_p2m_pfn),
            nr_p2m_frames: low(wide.nr_p2m_frames),
        }
    }

    /// The same with the fields of a 64-bit guest's.
    pub fn widen(&self) -> StartInfo {
        StartInfo {
            magic: self.magic,
            nr_pages: self.nr_pages.into(),
            shared_info: self.shared_info.into(),
            flags: self.flags,
            store_mfn: self.store_mfn.into(),
            store_evtchn: self.store_evtchn,
            console_mfn: self.console_mfn.into(),
            console_evtchn: self.console_evtchn,
            pt_base: self.pt_base.into(),
            nr_pt_frames: self.nr_pt_frames.into(),
            mfn_list: self.mfn_list.into(),
            mod_start: self.mod_start.into(),
            mod_len: self.mod_len.into(),
            cmd_line: self.cmd_line,
            first_p2m_pfn: self.first_p2m_pfn.into(),
            nr_p2m_frames: self.nr_p2m_frames.into(),
            ..StartInfo::zeroed()
        }
    }
}

/// `struct cpu_user_regs` of a 32-bit guest.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[expect(missing_docs, reason = "the registers' own names")]
pub struct UserRegs32 {
    pub ebx: u32,
    pub ecx: u32,
    pub edx: u32,
    pub esi: u32,
    pub edi: u32,
    pub ebp: u32,
    pub eax: u32,
    pub error_code: u16,
    pub entry_vector: u16,
    pub eip: u32,
    pub cs: u16,
    pub saved_upcall_mask: u8,
    pub pad0: u8,
    pub eflags: u32,
    pub esp: u32,
    pub ss: u16,
    pub pad1: u16,
    pub es: u16,
    pub pad2: u16,
    pub ds: u16,
    pub pad3: u16,
    pub fs: u16,
    pub pad4: u16,
    pub gs: u16,
    pub pad5: u16,
}

/// `struct trap_info` of a 32-bit guest.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TrapInfo32 {
    /// Exception vector.
    pub vector: u8,
    /// As in [`crate::vcpu::TrapInfo`].
    pub flags: u8,
    /// Code selector of the handler.
    pub cs: u16,
    /// Address of the handler; 0 ends a table.
    pub address: u32,
}

/// `struct vcpu_guest_context` of a 32-bit guest; fields mean what those of [`VcpuGuestContext`] do.
#[derive(Clone, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[expect(missing_docs, reason = "documented in VcpuGuestContext")]
pub struct VcpuGuestContext32 {
    pub fpu_ctxt: [u8; 512],
    pub flags: u32,
    pub user_regs: UserRegs32,
    pub trap_ctxt: [TrapInfo32; TRAP_VECTORS],
    pub ldt_base: u32,
    pub ldt_ents: u32,
    pub gdt_frames: [u32; 16],
    pub gdt_ents: u32,
    pub kernel_ss: u32,
    pub kernel_sp: u32,
    /// CR3 is folded: [`cr3_of_frame`].
    pub ctrlreg: [u32; 8],
    pub debugreg: [u32; 8],
    pub event_callback_cs: u32,
    pub event_callback_eip: u32,
    pub failsafe_callback_cs: u32,
    pub failsafe_callback_eip: u32,
    pub vm_assist: u32,
}

impl UserRegs32 {
    fn narrow(wide: &UserRegs) -> Self {
        Self {
            ebx: low(wide.rbx),
            ecx: low(wide.rcx),
            edx: low(wide.rdx),
            esi: low(wide.rsi),
            edi: low(wide.rdi),
            ebp: low(wide.rbp),
            eax: low(wide.rax),
            eip: low(wide.rip),
            cs: wide.cs,
            eflags: low(wide.rflags),
            esp: low(wide.rsp),
            ss: wide.ss,
            es: wide.es,
            ds: wide.ds,
            fs: wide.fs,
            gs: wide.gs,
            ..Self::default()
        }
    }

    fn widen(&self) -> UserRegs {
        UserRegs {
            rbx: self.ebx.into(),
            rcx: self.ecx.into(),
            rdx: self.edx.into(),
            rsi: self.esi.into(),
            rdi: self.edi.into(),
            rbp: self.ebp.into(),
            rax: self.eax.into(),
            rip: self.eip.into(),
            cs: self.cs,
            rflags: self.eflags.into(),
            rsp: self.esp.into(),
            ss: self.ss,
            es: self.es,
            ds: self.ds,
            fs: self.fs,
            gs: self.gs,
            ..UserRegs::default()
        }
    }
}

impl VcpuGuestContext32 {
    /// The same for a 32-bit guest that has no handlers, descriptor tables or floating point state yet: what does not fit 32 bits is cut
    /// off.
    pub fn narrow(wide: &VcpuGuestContext) -> Self {
        Self {
            flags: low(wide.flags),
            user_regs: UserRegs32::narrow(&wide.user_regs),
            kernel_ss: low(wide.kernel_ss),
            kernel_sp: low(wide.kernel_sp),
            ctrlreg: wide.ctrlreg.map(low),
            debugreg: wide.debugreg.map(low),
            vm_assist: low(wide.vm_assist),
            ..Self::new_zeroed()
        }
    }

    /// The same with the fields of a 64-bit guest's, without handlers and floating point state.
    pub fn widen(&self) -> VcpuGuestContext {
        VcpuGuestContext {
            flags: self.flags.into(),
            user_regs: self.user_regs.widen(),
            ldt_base: self.ldt_base.into(),
            ldt_ents: self.ldt_ents.into(),
            gdt_frames: self.gdt_frames.map(u64::from),
            gdt_ents: self.gdt_ents.into(),
            kernel_ss: self.kernel_ss.into(),
            kernel_sp: self.kernel_sp.into(),
            ctrlreg: self.ctrlreg.map(u64::from),
            debugreg: self.debugreg.map(u64::from),
            vm_assist: self.vm_assist.into(),
            ..VcpuGuestContext::zeroed()
        }
    }
}

assert_layout!(StartInfo32, size = 1112, nr_pages @ 32, flags @ 40, console_mfn @ 52, pt_base @ 60, mod_len @ 76, cmd_line @ 80, first_p2m_pfn @ 1104);
assert_layout!(UserRegs32, size = 68, error_code @ 28, eip @ 32, cs @ 36, eflags @ 40, esp @ 44, ss @ 48, gs @ 64);
assert_layout!(TrapInfo32, size = 8, cs @ 2, address @ 4);
assert_layout!(
    VcpuGuestContext32,
    size = 2800,
    flags @ 512,
    user_regs @ 516,
    trap_ctxt @ 584,
    ldt_base @ 2632,
    gdt_frames @ 2640,
    kernel_ss @ 2708,
    ctrlreg @ 2716,
    debugreg @ 2748,
    event_callback_cs @ 2780,
    vm_assist @ 2796,
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_above_4_gib_fits_a_folded_cr3() {
        for frame in [0, 1, 0xf_ffff, 0x10_0000, 0x12_3456, 0xffff_ffff] {
            assert_eq!(frame_of_cr3(cr3_of_frame(frame)), frame, "{frame:#x}");
        }
        assert_eq!(cr3_of_frame(0x123), 0x12_3000);
        assert_eq!(cr3_of_frame(0x12_3456), 0x2345_6001);
    }

    #[test]
    fn what_fits_survives_both_ways() {
        let mut context = VcpuGuestContext::zeroed();
        context.flags = 0x24;
        context.user_regs.rip = 0xc010_0000;
        context.user_regs.rsi = 0xc030_0000;
        context.ctrlreg[3] = cr3_of_frame(0x12_3456);
        context.vm_assist = VM_ASSIST_PAE_EXTENDED_CR3;
        let narrow = VcpuGuestContext32::narrow(&context);
        assert_eq!((narrow.user_regs.eip, narrow.user_regs.esi), (0xc010_0000, 0xc030_0000));
        assert_eq!(narrow.widen().as_bytes(), context.as_bytes());
        let mut info = StartInfo::zeroed();
        info.nr_pages = 7;
        info.mod_len = 9;
        info.console_mfn = 0xffff_fff0;
        assert_eq!(StartInfo32::narrow(&info).widen().as_bytes(), info.as_bytes());
    }
}
