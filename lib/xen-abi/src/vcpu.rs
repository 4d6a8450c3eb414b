//! State of a PV virtual CPU at its start (public/arch-x86/xen.h, xen-x86_64.h).

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use crate::assert_layout;

/// `FLAT_KERNEL_CS`: Xen's flat 64-bit code segment for PV kernels.
pub const FLAT_KERNEL_CS: u16 = 0xe033;
/// `FLAT_KERNEL_DS`: the null selector, data segments of a 64-bit PV kernel.
pub const FLAT_KERNEL_DS: u16 = 0;
/// `FLAT_KERNEL_SS`: Xen's flat 64-bit stack segment for PV kernels.
pub const FLAT_KERNEL_SS: u16 = 0xe02b;

/// `VGCF_in_kernel`: the vCPU starts in kernel mode.
pub const VGCF_IN_KERNEL: u64 = 4;
/// `VGCF_online`: the vCPU runs once its domain is unpaused.
pub const VGCF_ONLINE: u64 = 32;

/// `VCPUOP_stop_periodic_timer` (public/vcpu.h): no more `VIRQ_TIMER` than the kernel asks for.
pub const VCPUOP_STOP_PERIODIC_TIMER: u32 = 7;

/// The most entries a virtual trap table has.
pub const TRAP_VECTORS: usize = 256;

/// `struct cpu_user_regs`: general registers of a PV guest.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[expect(missing_docs, reason = "the registers' own names")]
pub struct UserRegs {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub error_code: u32,
    pub entry_vector: u32,
    pub rip: u64,
    pub cs: u16,
    pub pad0: u16,
    pub saved_upcall_mask: u8,
    pub pad1: [u8; 3],
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u16,
    pub pad2: [u16; 3],
    pub es: u16,
    pub pad3: [u16; 3],
    pub ds: u16,
    pub pad4: [u16; 3],
    pub fs: u16,
    pub pad5: [u16; 3],
    pub gs: u16,
    pub pad6: [u16; 3],
}

/// `struct trap_info`: one entry of a virtual trap table, for `set_trap_table`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TrapInfo {
    /// Exception vector.
    pub vector: u8,
    /// Bits 0 and 1: lowest privilege that may raise it; bit 2: mask upcalls on entry.
    pub flags: u8,
    /// Code selector of the handler.
    pub cs: u16,
    /// Padding.
    pub pad: u32,
    /// Address of the handler; 0 ends a table.
    pub address: u64,
}

/// `struct vcpu_guest_context`: everything a PV vCPU starts with, argument of `XEN_DOMCTL_setvcpucontext`.
#[derive(Clone, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VcpuGuestContext {
    /// FXSAVE image; used only with `VGCF_i387_valid`.
    pub fpu_ctxt: [u8; 512],
    /// `VGCF_*` bits.
    pub flags: u64,
    /// General registers.
    pub user_regs: UserRegs,
    /// Virtual trap table; entries with address 0 are empty.
    pub trap_ctxt: [TrapInfo; TRAP_VECTORS],
    /// Virtual address of the LDT.
    pub ldt_base: u64,
    /// Entries of the LDT.
    pub ldt_ents: u64,
    /// Machine frames of the GDT.
    pub gdt_frames: [u64; 16],
    /// Entries of the GDT.
    pub gdt_ents: u64,
    /// Stack segment for entries from user mode.
    pub kernel_ss: u64,
    /// Stack pointer for entries from user mode.
    pub kernel_sp: u64,
    /// CR0..CR7; CR3 is the machine address of the top page table (folded for 32-bit guests).
    pub ctrlreg: [u64; 8],
    /// DR0..DR7.
    pub debugreg: [u64; 8],
    /// Handler of events.
    pub event_callback_eip: u64,
    /// Handler of failed segment loads.
    pub failsafe_callback_eip: u64,
    /// Handler of system calls.
    pub syscall_callback_eip: u64,
    /// `VMASST_TYPE_*` bits.
    pub vm_assist: u64,
    /// Base of FS.
    pub fs_base: u64,
    /// Base of GS in kernel mode.
    pub gs_base_kernel: u64,
    /// Base of GS in user mode.
    pub gs_base_user: u64,
}

impl VcpuGuestContext {
    /// A context with every field zero.
    pub fn zeroed() -> Self {
        Self::new_zeroed()
    }
}

assert_layout!(UserRegs, size = 200, error_code @ 120, rip @ 128, cs @ 136, saved_upcall_mask @ 140, rflags @ 144, rsp @ 152, ss @ 160, gs @ 192);
assert_layout!(TrapInfo, size = 16, cs @ 2, address @ 8);
assert_layout!(
    VcpuGuestContext,
    size = 5168,
    flags @ 512,
    user_regs @ 520,
    trap_ctxt @ 720,
    ldt_base @ 4816,
    gdt_frames @ 4832,
    kernel_ss @ 4968,
    ctrlreg @ 4984,
    debugreg @ 5048,
    event_callback_eip @ 5112,
    vm_assist @ 5136,
    gs_base_user @ 5160,
);
// The structure of the `xen-sys` package was generated from an older header and has to agree.
const _: () = assert!(size_of::<VcpuGuestContext>() == size_of::<xen_sys::vcpu_guest_context>());
const _: () = assert!(size_of::<UserRegs>() == size_of::<xen_sys::cpu_user_regs>());
const _: () = assert!(size_of::<TrapInfo>() == size_of::<xen_sys::trap_info>());
