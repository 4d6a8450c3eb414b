//! Hardware-assisted guests, PVH among them (public/hvm/, public/arch-x86/hvm/): parameters, saved state, start info.

pub mod save;
pub mod start_info;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{DomId, assert_layout};

/// `HVMOP_set_param`, argument [`Param`].
pub const HVMOP_SET_PARAM: u32 = 0;
/// `HVMOP_get_param`, argument [`Param`].
pub const HVMOP_GET_PARAM: u32 = 1;

/// `XEN_X86_EMU_LAPIC` (arch-x86/xen.h): the emulation that a PVH guest has to have, and the only one it may have.
pub const EMULATE_LAPIC: u32 = 1;

/// The most vCPUs of a hardware-assisted domain (`HVM_MAX_VCPUS`, hvm_info_table.h).
pub const MAX_VCPUS: u32 = 128;

/// `HVMPTM_no_delay_for_missed_ticks` of `HVM_PARAM_TIMER_MODE`, as Xen's own tools choose it: the guest's clock goes on while
/// it does not run.
pub const TIMER_NO_DELAY_FOR_MISSED_TICKS: u64 = 1;

/// Declares the parameters with their numbers.
macro_rules! params {
    ($($constant:ident = $number:literal, $name:literal, $text:literal;)*) => {
        $(#[doc = concat!("`", $name, "`: ", $text, ".")] pub const $constant: u32 = $number;)*

        /// Name of a parameter in the header, for messages.
        pub const fn param_name(index: u32) -> &'static str {
            match index {
                $($number => $name,)*
                _ => "unknown HVM_PARAM",
            }
        }
    };
}

params! {
    PARAM_STORE_PFN = 1, "HVM_PARAM_STORE_PFN", "GFN of the XenStore ring";
    PARAM_STORE_EVTCHN = 2, "HVM_PARAM_STORE_EVTCHN", "the guest's port of the XenStore ring";
    PARAM_TIMER_MODE = 10, "HVM_PARAM_TIMER_MODE", "what becomes of ticks missed while the guest did not run";
    PARAM_IDENT_PT = 12, "HVM_PARAM_IDENT_PT", "guest-physical address of a page table for paging switched off";
    PARAM_CONSOLE_PFN = 17, "HVM_PARAM_CONSOLE_PFN", "GFN of the console ring";
    PARAM_CONSOLE_EVTCHN = 18, "HVM_PARAM_CONSOLE_EVTCHN", "the guest's port of the console ring";
}

/// Name of an operation in the header, for messages.
pub const fn name(op: u32) -> &'static str {
    match op {
        HVMOP_SET_PARAM => "HVMOP_set_param",
        HVMOP_GET_PARAM => "HVMOP_get_param",
        _ => "unknown HVMOP",
    }
}

/// `struct xen_hvm_param`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Param {
    /// IN: the domain.
    pub domid: u16,
    /// Padding.
    pub pad: u16,
    /// IN: which parameter, `PARAM_*`.
    pub index: u32,
    /// IN to set, OUT to get.
    pub value: u64,
}

assert_layout!(Param, size = 16, index @ 4, value @ 8);

impl Param {
    /// Parameter `index` of `domain` with `value`.
    pub const fn new(domain: DomId, index: u32, value: u64) -> Self {
        Self { domid: domain.raw(), pad: 0, index, value }
    }
}
