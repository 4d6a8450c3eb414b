//! State of a hardware-assisted domain as a stream of records (public/hvm/save.h, public/arch-x86/hvm/save.h).
//!
//! A stream is a run of [`Descriptor`]s, each followed by as many bytes as it says: first the record of type [`HEADER`], last
//! the empty one of type [`END`].

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::assert_layout;

/// `HVM_SAVE_CODE(END)`: the empty record that ends a stream.
pub const END: u16 = 0;
/// `HVM_SAVE_CODE(HEADER)`: about the stream and the machine, [`Header`].
pub const HEADER: u16 = 1;
/// `HVM_SAVE_CODE(CPU)`: registers of a vCPU, [`Cpu`].
pub const CPU: u16 = 2;
/// `HVM_SAVE_CODE(MTRR)`: memory types of a vCPU, [`Mtrr`].
pub const MTRR: u16 = 14;

/// `HVM_FILE_MAGIC`.
pub const FILE_MAGIC: u32 = 0x5438_1286;
/// `HVM_FILE_VERSION`.
pub const FILE_VERSION: u32 = 1;

/// `struct hvm_save_descriptor`: what stands before each record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Descriptor {
    /// Type of the record.
    pub typecode: u16,
    /// vCPU that it is about, or 0.
    pub instance: u16,
    /// Bytes of the record, without this.
    pub length: u32,
}

/// `struct hvm_save_header`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Header {
    /// [`FILE_MAGIC`].
    pub magic: u32,
    /// [`FILE_VERSION`].
    pub version: u32,
    /// Which Xen wrote it.
    pub changeset: u64,
    /// CPUID leaf 1, EAX, of the machine.
    pub cpuid: u32,
    /// Frequency of the guest's TSC; 0 leaves it as it is.
    pub gtsc_khz: u32,
}

/// `struct hvm_hw_mtrr`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Mtrr {
    /// PAT.
    pub msr_pat_cr: u64,
    /// Base and mask of each variable range.
    pub msr_mtrr_var: [u64; 16],
    /// Fixed ranges.
    pub msr_mtrr_fixed: [u64; 11],
    /// Capabilities.
    pub msr_mtrr_cap: u64,
    /// Default type in the low byte, and the bits that enable it.
    pub msr_mtrr_def_type: u64,
}

/// Memory type "write back" in [`Mtrr::msr_mtrr_def_type`].
pub const MTRR_WRITE_BACK: u64 = 6;
/// Enables MTRRs, in [`Mtrr::msr_mtrr_def_type`].
pub const MTRR_ENABLE: u64 = 1 << 11;

/// A segment register's access rights in a [`Cpu`]: a flat 32-bit code segment of ring 0.
pub const ACCESS_CODE: u32 = 0xc9b;
/// A flat data segment of ring 0.
pub const ACCESS_DATA: u32 = 0xc93;
/// A busy 32-bit task state segment.
pub const ACCESS_TASK: u32 = 0x8b;

/// `struct hvm_hw_cpu`.
#[derive(Clone, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[expect(missing_docs, reason = "the registers' own names")]
pub struct Cpu {
    pub fpu_regs: [u8; 512],
    pub rax: u64,
    pub rbx: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rbp: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rsp: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub rip: u64,
    pub rflags: u64,
    pub cr0: u64,
    pub cr2: u64,
    pub cr3: u64,
    pub cr4: u64,
    pub dr0: u64,
    pub dr1: u64,
    pub dr2: u64,
    pub dr3: u64,
    pub dr6: u64,
    pub dr7: u64,
    pub cs_sel: u32,
    pub ds_sel: u32,
    pub es_sel: u32,
    pub fs_sel: u32,
    pub gs_sel: u32,
    pub ss_sel: u32,
    pub tr_sel: u32,
    pub ldtr_sel: u32,
    pub cs_limit: u32,
    pub ds_limit: u32,
    pub es_limit: u32,
    pub fs_limit: u32,
    pub gs_limit: u32,
    pub ss_limit: u32,
    pub tr_limit: u32,
    pub ldtr_limit: u32,
    pub idtr_limit: u32,
    pub gdtr_limit: u32,
    pub cs_base: u64,
    pub ds_base: u64,
    pub es_base: u64,
    pub fs_base: u64,
    pub gs_base: u64,
    pub ss_base: u64,
    pub tr_base: u64,
    pub ldtr_base: u64,
    pub idtr_base: u64,
    pub gdtr_base: u64,
    pub cs_arbytes: u32,
    pub ds_arbytes: u32,
    pub es_arbytes: u32,
    pub fs_arbytes: u32,
    pub gs_arbytes: u32,
    pub ss_arbytes: u32,
    pub tr_arbytes: u32,
    pub ldtr_arbytes: u32,
    pub sysenter_cs: u64,
    pub sysenter_esp: u64,
    pub sysenter_eip: u64,
    pub shadow_gs: u64,
    pub msr_flags: u64,
    pub msr_lstar: u64,
    pub msr_star: u64,
    pub msr_cstar: u64,
    pub msr_syscall_mask: u64,
    pub msr_efer: u64,
    pub msr_tsc_aux: u64,
    pub tsc: u64,
    pub pending_event: u32,
    pub error_code: u32,
    pub flags: u32,
    pub pad0: u32,
}

assert_layout!(Descriptor, size = 8, instance @ 2, length @ 4);
assert_layout!(Header, size = 24, cpuid @ 16);
assert_layout!(Mtrr, size = 240, msr_mtrr_var @ 8, msr_mtrr_fixed @ 136, msr_mtrr_def_type @ 232);
assert_layout!(Cpu, size = 1032, rbx @ 520, rip @ 640, cr0 @ 656, cs_sel @ 736, cs_limit @ 768, cs_base @ 808, cs_arbytes @ 888, tsc @ 1008);

/// The records of a stream, in order: descriptor and bytes. Ends at a record that is cut short, and before [`END`].
pub fn records(mut stream: &[u8]) -> impl Iterator<Item = (Descriptor, &[u8])> {
    core::iter::from_fn(move || {
        let (descriptor, rest) = Descriptor::read_from_prefix(stream).ok()?;
        let (bytes, rest) = rest.split_at_checked(usize::try_from(descriptor.length).ok()?)?;
        stream = rest;
        (descriptor.typecode != END).then_some((descriptor, bytes))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_read_up_to_its_end() {
        let mut stream = [0; 29];
        stream[..12].copy_from_slice(&[1, 0, 0, 0, 4, 0, 0, 0, 9, 8, 7, 6]);
        stream[12..20].copy_from_slice(&[14, 0, 3, 0, 1, 0, 0, 0]);
        stream[20] = 5;
        let found = records(&stream).map(|(it, bytes)| (it.typecode, it.instance, bytes));
        assert!(found.eq([(HEADER, 0, &[9, 8, 7, 6][..]), (MTRR, 3, &[5][..])]));
    }

    #[test]
    fn a_record_that_is_cut_short_ends_the_stream() {
        assert_eq!(records(&[1, 0, 0, 0, 5, 0, 0, 0, 1, 2, 3, 4]).count(), 0);
        assert_eq!(records(&[1, 0, 0]).count(), 0);
    }
}
