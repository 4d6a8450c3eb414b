//! Virtual CPUs and what they start with.

use xen_abi::vcpu::{FLAT_KERNEL_CS, FLAT_KERNEL_SS, VGCF_IN_KERNEL, VGCF_ONLINE, VcpuGuestContext};
use xen_abi::{DomId, Errno, Mfn, pv32};

use crate::frames::Use;
use crate::pagetables::{ROOT_32, frame_of_cr3, is_canonical};
use crate::release::Release;
use crate::state::State;

/// GDT entries below those that Xen keeps for itself (`FIRST_RESERVED_GDT_ENTRY`).
const GUEST_GDT_ENTRIES: u64 = 14 * 512;
/// `VMASST_TYPE_*` bits that a 64-bit PV guest may set: the first six, and m2p_strict.
const VM_ASSIST: u64 = 0b11_1111 | 1 << 32;
/// Where Xen itself lives in every address space: not for a guest's LDT.
const XEN_ADDRESSES: core::ops::Range<u64> = 0xffff_8000_0000_0000..0xffff_8800_0000_0000;

/// A virtual CPU.
#[derive(Clone, Debug)]
pub(crate) struct Vcpu {
    /// What it was started with; `None` until then.
    pub(crate) context: Option<Box<VcpuGuestContext>>,
    /// Whether it runs when its domain does.
    pub(crate) online: bool,
    /// The CPUs that it may run on; `None` for all.
    pub(crate) hard: Option<Vec<u32>>,
    /// The CPUs that it runs on rather than on others; `None` for all.
    pub(crate) soft: Option<Vec<u32>>,
}

impl State {
    /// `XEN_DOMCTL_setvcpucontext`.
    pub(crate) fn set_context(
        &mut self,
        caller: DomId,
        domid: DomId,
        vcpu: u32,
        context: &VcpuGuestContext,
    ) -> Result<(), Errno> {
        let domain = self.domain(domid)?;
        let is_32_bit = domain.is_32_bit;
        let old = domain.vcpus.get(vcpu as usize).ok_or(Errno::EINVAL)?.context.clone();
        if caller == domid {
            return Err(Errno::EINVAL);
        }
        check_context(vcpu, context, self.release, is_32_bit)?;
        if let Some(old) = old {
            // A vCPU that has state cannot be given another address space.
            if !same_tables(&old, context) {
                return Err(Errno::EOPNOTSUPP);
            }
        } else {
            self.enter_address_space(domid, context, is_32_bit)?;
        }
        let vcpu = self.domain(domid)?.vcpus.get_mut(vcpu as usize).ok_or(Errno::EINVAL)?;
        vcpu.online = context.flags & VGCF_ONLINE != 0;
        let mut context = context.clone();
        fix_up(&mut context, is_32_bit);
        vcpu.context = Some(Box::new(context));
        Ok(())
    }

    /// Uses the frames that a vCPU's state names: GDT, then the top page tables.
    fn enter_address_space(
        &mut self,
        domid: DomId,
        context: &VcpuGuestContext,
        is_32_bit: bool,
    ) -> Result<(), Errno> {
        let mut used = Vec::new();
        let outcome = address_space(context, is_32_bit).try_for_each(|(mfn, usage)| {
            self.frames.use_as(mfn, domid, usage)?;
            used.push(mfn);
            Ok(())
        });
        if outcome.is_err() {
            for mfn in used {
                self.frames.end_use(mfn);
            }
        }
        outcome
    }
}

/// What Xen checks of a PV vCPU's state before it uses any frame.
fn check_context(
    vcpu: u32,
    context: &VcpuGuestContext,
    release: Release,
    is_32_bit: bool,
) -> Result<(), Errno> {
    let regs = &context.user_regs;
    let addresses = [
        regs.rip,
        regs.rsp,
        context.kernel_sp,
        context.fs_base,
        context.gs_base_kernel,
        context.gs_base_user,
        context.event_callback_eip,
        context.syscall_callback_eip,
        context.failsafe_callback_eip,
    ];
    let traps = context.trap_ctxt.iter().map(|trap| trap.address);
    let invalid = !addresses.into_iter().chain(traps).all(is_canonical)
        || context.ldt_ents > 0 && !is_canonical(context.ldt_base)
        || !context.ldt_base.is_multiple_of(4096)
        || XEN_ADDRESSES.contains(&context.ldt_base)
        || context.ldt_ents > 8192
        || context.gdt_ents > GUEST_GDT_ENTRIES
        || release.checks_debug_registers() && context.debugreg[6..].iter().any(|it| *it >> 32 != 0)
        || context.debugreg[..4].iter().any(|address| XEN_ADDRESSES.contains(address))
        || vcpu == 0 && context.vm_assist & !VM_ASSIST != 0
        || !is_32_bit && context.flags & VGCF_IN_KERNEL == 0 && context.ctrlreg[1] == 0;
    if invalid { Err(Errno::EINVAL) } else { Ok(()) }
}

/// Frames that a vCPU's state names, and as what it uses them.
pub(crate) fn address_space(context: &VcpuGuestContext, is_32_bit: bool) -> impl Iterator<Item = (Mfn, Use)> {
    let gdt_frames = usize::try_from(context.gdt_ents.div_ceil(512)).unwrap_or(usize::MAX);
    let gdt =
        context.gdt_frames.into_iter().take(gdt_frames).map(|frame| (Mfn::new(frame), Use::Descriptors));
    // A 32-bit kernel and its programs have one address space.
    let user = Some(context.ctrlreg[1]).filter(|cr3| *cr3 != 0 && !is_32_bit);
    let table = move |cr3| {
        if is_32_bit {
            (Mfn::new(pv32::frame_of_cr3(cr3)), Use::Table(ROOT_32))
        } else {
            (frame_of_cr3(cr3), Use::Table(4))
        }
    };
    gdt.chain([context.ctrlreg[3]].into_iter().chain(user).map(table))
}

/// Whether two states have the same page tables, GDT and LDT.
fn same_tables(old: &VcpuGuestContext, new: &VcpuGuestContext) -> bool {
    old.ctrlreg[3] == new.ctrlreg[3]
        && old.ctrlreg[1] == new.ctrlreg[1]
        && (old.gdt_ents, old.gdt_frames) == (new.gdt_ents, new.gdt_frames)
        && (old.ldt_ents, old.ldt_base) == (new.ldt_ents, new.ldt_base)
}

/// What Xen corrects in a PV vCPU's state instead of refusing it: privilege of selectors, interrupt flag.
fn fix_up(context: &mut VcpuGuestContext, is_32_bit: bool) {
    const IF: u64 = 1 << 9;
    const ALWAYS_SET: u64 = 1 << 1;
    const IOPL: u64 = 3 << 12;
    const PRIVILEGE: u16 = 3;
    let regs = &mut context.user_regs;
    regs.rflags = regs.rflags & !IOPL | IF | ALWAYS_SET;
    let with_privilege = |selector, flat| if selector & PRIVILEGE == 0 { flat } else { selector };
    let (cs, ss) = if is_32_bit {
        (pv32::FLAT_KERNEL_CS, pv32::FLAT_KERNEL_DS)
    } else {
        (FLAT_KERNEL_CS, FLAT_KERNEL_SS)
    };
    regs.cs = with_privilege(regs.cs, cs);
    regs.ss = with_privilege(regs.ss, ss);
}
