//! Hypercall numbers (public/xen.h), taken from the `xen-sys` package.

use core::fmt;

/// Number of a hypercall, its index into the hypercall page.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct HypercallNumber(u32);

macro_rules! numbers {
    ($($constant:ident = $sys:ident, $name:literal;)*) => {
        impl HypercallNumber {
            $(#[doc = concat!("`", stringify!($sys), "`.")] pub const $constant: Self = Self(xen_sys::$sys);)*

            /// The header's name, without the `__HYPERVISOR_` prefix.
            pub const fn name(self) -> &'static str {
                match self.0 {
                    $(xen_sys::$sys => $name,)*
                    _ => "unknown hypercall",
                }
            }
        }
    };
}

numbers! {
    SET_TRAP_TABLE = __HYPERVISOR_set_trap_table, "set_trap_table";
    MMU_UPDATE = __HYPERVISOR_mmu_update, "mmu_update";
    SET_GDT = __HYPERVISOR_set_gdt, "set_gdt";
    STACK_SWITCH = __HYPERVISOR_stack_switch, "stack_switch";
    SET_CALLBACKS = __HYPERVISOR_set_callbacks, "set_callbacks";
    PLATFORM_OP = __HYPERVISOR_platform_op, "platform_op";
    MEMORY_OP = __HYPERVISOR_memory_op, "memory_op";
    MULTICALL = __HYPERVISOR_multicall, "multicall";
    UPDATE_VA_MAPPING = __HYPERVISOR_update_va_mapping, "update_va_mapping";
    SET_TIMER_OP = __HYPERVISOR_set_timer_op, "set_timer_op";
    XEN_VERSION = __HYPERVISOR_xen_version, "xen_version";
    CONSOLE_IO = __HYPERVISOR_console_io, "console_io";
    GRANT_TABLE_OP = __HYPERVISOR_grant_table_op, "grant_table_op";
    VM_ASSIST = __HYPERVISOR_vm_assist, "vm_assist";
    IRET = __HYPERVISOR_iret, "iret";
    VCPU_OP = __HYPERVISOR_vcpu_op, "vcpu_op";
    MMUEXT_OP = __HYPERVISOR_mmuext_op, "mmuext_op";
    XSM_OP = __HYPERVISOR_xsm_op, "xsm_op";
    SCHED_OP = __HYPERVISOR_sched_op, "sched_op";
    EVENT_CHANNEL_OP = __HYPERVISOR_event_channel_op, "event_channel_op";
    PHYSDEV_OP = __HYPERVISOR_physdev_op, "physdev_op";
    HVM_OP = __HYPERVISOR_hvm_op, "hvm_op";
    SYSCTL = __HYPERVISOR_sysctl, "sysctl";
    DOMCTL = __HYPERVISOR_domctl, "domctl";
}

impl HypercallNumber {
    /// How many hypercall numbers there can be: the entries of a hypercall page.
    pub const COUNT: usize = 128;

    /// The number of a hypercall in an interface structure, such as an entry of a multicall.
    pub const fn from_raw(raw: u32) -> Self {
        Self(raw)
    }

    /// The raw number.
    pub const fn raw(self) -> u32 {
        self.0
    }
}

impl fmt::Display for HypercallNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for HypercallNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
