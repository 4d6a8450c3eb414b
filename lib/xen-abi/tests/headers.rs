//! Compares every mirrored structure and number with the C headers of real releases of Xen.
//!
//! For each set of headers a small C program is generated that prints sizes, offsets and constants; it is compiled with `cc`
//! and its output compared with what this crate has. Headers are looked for in the directories of the environment variable
//! `XEN_HEADERS` (separated by colons, each holding `xen/xen.h`), else in `build/xen/*/include`, where `make` puts them. Without
//! headers the test says so and passes, unless `REQUIRE_XEN_HEADERS` or `CI` is set.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise, in its helpers too"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::mem::offset_of;
use std::path::{Path, PathBuf};
use std::process::Command as Process;
use std::{env, fs};

use xen_abi::domctl::{self, Command, CreateDomain, CreateFlags, DomainState, DomctlVersion};
use xen_abi::hvm::start_info::{self as start_info_hvm, HvmStartInfo, MemoryRange, Module};
use xen_abi::hvm::{self, save};
use xen_abi::number::HypercallNumber;
use xen_abi::start_info::StartFlags;
use xen_abi::sysctl::{self, SysctlVersion};
use xen_abi::{
    DomId, Errno, console, cpu_policy, device_access, elfnote, event_channel, flask, grant_table, memory,
    mmu, physdev, platform, pv32, sched, scheduling, shared_info, start_info, vcpu, version,
};

/// What one set of headers has to say.
struct Check {
    /// What is compared, for messages.
    what: String,
    /// The C expression.
    c: String,
    /// Our value.
    ours: u64,
    /// A macro that older or newer headers may lack.
    only_if_defined: Option<String>,
}

/// All comparisons that do not depend on an interface version.
#[derive(Default)]
struct Checks(Vec<Check>);

impl Checks {
    fn value(&mut self, what: impl Into<String>, c: impl Into<String>, ours: u64) {
        self.0.push(Check { what: what.into(), c: c.into(), ours, only_if_defined: None });
    }

    fn constant(&mut self, name: &str, ours: impl Into<u64>) {
        self.value(name, name, ours.into());
    }

    fn constant_if_defined(&mut self, name: &str, ours: impl Into<u64>) {
        self.constant(name, ours);
        if let Some(check) = self.0.last_mut() {
            check.only_if_defined = Some(name.to_owned());
        }
    }
}

/// Compares the offsets of fields, `ours = "theirs"`.
macro_rules! offsets {
    ($checks:ident, $ours:ty, $theirs:literal, { $($field:ident = $c:literal),* $(,)? }) => {
        $($checks.value(
            format!("offset of {} in {}", $c, $theirs),
            format!("offsetof({}, {})", $theirs, $c),
            offset_of!($ours, $field) as u64,
        );)*
    };
}

/// Compares size and offsets of fields.
macro_rules! structure {
    ($checks:ident, $ours:ty, $theirs:literal, { $($fields:tt)* }) => {
        $checks.value(format!("size of {}", $theirs), format!("sizeof({})", $theirs), size_of::<$ours>() as u64);
        offsets!($checks, $ours, $theirs, { $($fields)* });
    };
}

/// Compares constants, `theirs = ours`.
macro_rules! constants {
    ($checks:ident, $($theirs:ident = $ours:expr;)*) => {
        $($checks.constant(stringify!($theirs), $ours);)*
    };
}

fn structures(checks: &mut Checks) {
    offsets!(checks, console::ConsoleInterface, "struct xencons_interface", {
        input = "in", output = "out", in_cons = "in_cons", in_prod = "in_prod", out_cons = "out_cons",
        out_prod = "out_prod",
    });
    structure!(checks, domctl::Domctl, "struct xen_domctl", {
        cmd = "cmd", interface_version = "interface_version", domain = "domain", payload = "u",
    });
    offsets!(checks, domctl::DomainInfo, "struct xen_domctl_getdomaininfo", {
        domain = "domain", flags = "flags", tot_pages = "tot_pages", max_pages = "max_pages",
        outstanding_pages = "outstanding_pages", shr_pages = "shr_pages", paged_pages = "paged_pages",
        shared_info_frame = "shared_info_frame", cpu_time = "cpu_time", nr_online_vcpus = "nr_online_vcpus",
        max_vcpu_id = "max_vcpu_id", ssidref = "ssidref", handle = "handle", cpupool = "cpupool",
    });
    structure!(checks, domctl::MaxMem, "struct xen_domctl_max_mem", { max_memkb = "max_memkb" });
    structure!(checks, domctl::SetVirqHandler, "struct xen_domctl_set_virq_handler", { virq = "virq" });
    structure!(checks, domctl::MaxVcpus, "struct xen_domctl_max_vcpus", { max = "max" });
    structure!(checks, pv32::AddressSizeArgument, "struct xen_domctl_address_size", { size = "size" });
    structure!(checks, domctl::VcpuContextArgument, "struct xen_domctl_vcpucontext", { vcpu = "vcpu", ctxt = "ctxt" });
    structure!(checks, domctl::HypercallInit, "struct xen_domctl_hypercall_init", { gmfn = "gmfn" });
    structure!(checks, domctl::HvmContextArgument, "struct xen_domctl_hvmcontext", { size = "size", buffer = "buffer" });
    offsets!(checks, domctl::ShadowOp, "struct xen_domctl_shadow_op", { op = "op", mode = "mode", mb = "mb" });
    structure!(checks, sysctl::Sysctl, "struct xen_sysctl", {
        cmd = "cmd", interface_version = "interface_version", payload = "u",
    });
    offsets!(checks, sysctl::ReadConsole, "struct xen_sysctl_readconsole", {
        clear = "clear", incremental = "incremental", index = "index", buffer = "buffer", count = "count",
    });
    offsets!(checks, sysctl::DomainInfoList, "struct xen_sysctl_getdomaininfolist", {
        first_domain = "first_domain", max_domains = "max_domains", buffer = "buffer", num_domains = "num_domains",
    });
    event_structures(checks);
    grant_structures(checks);
    memory_structures(checks);
    vcpu_structures(checks);
    shared_structures(checks);
    machine_structures(checks);
    hvm_structures(checks);
    label_structures(checks);
    policy_structures(checks);
}

fn policy_structures(checks: &mut Checks) {
    structure!(checks, cpu_policy::CpuidLeaf, "xen_cpuid_leaf_t", {
        leaf = "leaf", subleaf = "subleaf", registers = "a",
    });
    structure!(checks, cpu_policy::DomainPolicy, "struct xen_domctl_cpu_policy", {
        nr_leaves = "nr_leaves", nr_msrs = "nr_msrs", err_leaf = "err_leaf", err_subleaf = "err_subleaf",
        err_msr = "err_msr",
    });
    structure!(checks, cpu_policy::SystemPolicy, "struct xen_sysctl_cpu_policy", {
        index = "index", nr_leaves = "nr_leaves", nr_msrs = "nr_msrs", reserved = "_rsvd",
    });
    structure!(checks, cpu_policy::TscInfo, "struct xen_domctl_tsc_info", {
        tsc_mode = "tsc_mode", gtsc_khz = "gtsc_khz", incarnation = "incarnation", elapsed_nsec = "elapsed_nsec",
    });
    constants! { checks,
        XEN_CPUID_NO_SUBLEAF = cpu_policy::NO_SUBLEAF;
        XEN_SYSCTL_get_cpu_policy = cpu_policy::XEN_SYSCTL_GET_CPU_POLICY;
        XEN_SYSCTL_cpu_policy_host = cpu_policy::POLICY_HOST;
        XEN_DOMCTL_get_cpu_policy = Command::GET_CPU_POLICY.raw();
        XEN_DOMCTL_set_cpu_policy = Command::SET_CPU_POLICY.raw();
        XEN_DOMCTL_settscinfo = Command::SETTSCINFO.raw();
    }
    checks.constant_if_defined("XEN_DOMCTL_disable_migrate", Command::DISABLE_MIGRATE.raw());
    checks.constant_if_defined("XEN_X86_MSR_RELAXED", cpu_policy::MSR_RELAXED);
}

fn label_structures(checks: &mut Checks) {
    structure!(checks, flask::FlaskOp, "struct xen_flask_op", {
        cmd = "cmd", interface_version = "interface_version", payload = "u",
    });
    structure!(checks, flask::SidContext, "struct xen_flask_sid_context", {
        sid = "sid", size = "size", context = "context",
    });
    structure!(checks, flask::Relabel, "struct xen_flask_relabel", { domid = "domid", sid = "sid" });
    constants! { checks,
        XEN_FLASK_INTERFACE_VERSION = flask::FLASK_INTERFACE_VERSION;
        FLASK_GETENFORCE = flask::FLASK_GETENFORCE;
        FLASK_CONTEXT_TO_SID = flask::FLASK_CONTEXT_TO_SID;
        FLASK_SID_TO_CONTEXT = flask::FLASK_SID_TO_CONTEXT;
        FLASK_RELABEL_DOMAIN = flask::FLASK_RELABEL_DOMAIN;
    }
}

fn hvm_structures(checks: &mut Checks) {
    structure!(checks, hvm::Param, "struct xen_hvm_param", { domid = "domid", index = "index", value = "value" });
    structure!(checks, HvmStartInfo, "struct hvm_start_info", {
        magic = "magic", version = "version", flags = "flags", nr_modules = "nr_modules",
        modlist_paddr = "modlist_paddr", cmdline_paddr = "cmdline_paddr", rsdp_paddr = "rsdp_paddr",
        memmap_paddr = "memmap_paddr", memmap_entries = "memmap_entries", reserved = "reserved",
    });
    structure!(checks, Module, "struct hvm_modlist_entry", {
        paddr = "paddr", size = "size", cmdline_paddr = "cmdline_paddr", reserved = "reserved",
    });
    structure!(checks, MemoryRange, "struct hvm_memmap_table_entry", {
        addr = "addr", size = "size", kind = "type", reserved = "reserved",
    });
    structure!(checks, save::Descriptor, "struct hvm_save_descriptor", {
        typecode = "typecode", instance = "instance", length = "length",
    });
    structure!(checks, save::Header, "struct hvm_save_header", {
        magic = "magic", version = "version", changeset = "changeset", cpuid = "cpuid", gtsc_khz = "gtsc_khz",
    });
    structure!(checks, save::Mtrr, "struct hvm_hw_mtrr", {
        msr_pat_cr = "msr_pat_cr", msr_mtrr_var = "msr_mtrr_var", msr_mtrr_fixed = "msr_mtrr_fixed",
        msr_mtrr_cap = "msr_mtrr_cap", msr_mtrr_def_type = "msr_mtrr_def_type",
    });
    structure!(checks, save::Cpu, "struct hvm_hw_cpu", {
        rax = "rax", rbx = "rbx", rsp = "rsp", r8 = "r8", rip = "rip", rflags = "rflags", cr0 = "cr0", cr4 = "cr4",
        dr0 = "dr0", dr6 = "dr6", dr7 = "dr7", cs_sel = "cs_sel", ds_sel = "ds_sel", es_sel = "es_sel", ss_sel = "ss_sel",
        tr_sel = "tr_sel", cs_limit = "cs_limit", ds_limit = "ds_limit", es_limit = "es_limit", ss_limit = "ss_limit",
        tr_limit = "tr_limit", idtr_limit = "idtr_limit", cs_base = "cs_base", gdtr_base = "gdtr_base",
        cs_arbytes = "cs_arbytes", ds_arbytes = "ds_arbytes", es_arbytes = "es_arbytes", ss_arbytes = "ss_arbytes",
        tr_arbytes = "tr_arbytes", sysenter_cs = "sysenter_cs", msr_efer = "msr_efer", tsc = "tsc",
        pending_event = "pending_event", flags = "flags",
    });
    checks.value("type of a CPU record", "HVM_SAVE_CODE(CPU)", save::CPU.into());
    checks.value("type of an MTRR record", "HVM_SAVE_CODE(MTRR)", save::MTRR.into());
    checks.value("type of a header record", "HVM_SAVE_CODE(HEADER)", save::HEADER.into());
    checks.value("type of the end record", "sizeof(((struct __HVM_SAVE_TYPE_END *)0)->c)", save::END.into());
    constants! { checks,
        HVM_FILE_MAGIC = save::FILE_MAGIC;
        HVM_FILE_VERSION = save::FILE_VERSION;
        XEN_HVM_START_MAGIC_VALUE = start_info_hvm::MAGIC;
        XEN_HVM_MEMMAP_TYPE_RAM = start_info_hvm::MEMORY_RAM;
        XEN_HVM_MEMMAP_TYPE_RESERVED = start_info_hvm::MEMORY_RESERVED;
        XEN_HVM_MEMMAP_TYPE_ACPI = start_info_hvm::MEMORY_ACPI;
        HVMOP_set_param = hvm::HVMOP_SET_PARAM;
        HVMOP_get_param = hvm::HVMOP_GET_PARAM;
        HVM_MAX_VCPUS = hvm::MAX_VCPUS;
        HVM_PARAM_STORE_PFN = hvm::PARAM_STORE_PFN;
        HVM_PARAM_STORE_EVTCHN = hvm::PARAM_STORE_EVTCHN;
        HVM_PARAM_TIMER_MODE = hvm::PARAM_TIMER_MODE;
        HVMPTM_no_delay_for_missed_ticks = hvm::TIMER_NO_DELAY_FOR_MISSED_TICKS;
        HVM_PARAM_IDENT_PT = hvm::PARAM_IDENT_PT;
        HVM_PARAM_CONSOLE_PFN = hvm::PARAM_CONSOLE_PFN;
        HVM_PARAM_CONSOLE_EVTCHN = hvm::PARAM_CONSOLE_EVTCHN;
        XEN_X86_EMU_LAPIC = hvm::EMULATE_LAPIC;
        XEN_DOMCTL_SHADOW_OP_SET_ALLOCATION = domctl::SHADOW_OP_SET_ALLOCATION;
        XEN_SYSCTL_PHYSCAP_hvm = sysctl::Capabilities::HVM.bits();
        XEN_SYSCTL_PHYSCAP_pv = sysctl::Capabilities::PV.bits();
        XEN_SYSCTL_PHYSCAP_hap = sysctl::Capabilities::HAP.bits();
        XEN_SYSCTL_PHYSCAP_shadow = sysctl::Capabilities::SHADOW.bits();
    }
    checks.constant_if_defined("XEN_DOMCTL_set_paging_mempool_size", Command::SET_PAGING_MEMPOOL_SIZE.raw());
    checks.value(
        "offset of capabilities in struct xen_sysctl_physinfo",
        "offsetof(struct xen_sysctl_physinfo, capabilities)",
        sysctl::PHYSINFO_CAPABILITIES_OFFSET as u64,
    );
}

fn event_structures(checks: &mut Checks) {
    structure!(checks, event_channel::AllocUnbound, "struct evtchn_alloc_unbound", {
        dom = "dom", remote_dom = "remote_dom", port = "port",
    });
    structure!(checks, event_channel::BindInterdomain, "struct evtchn_bind_interdomain", {
        remote_dom = "remote_dom", remote_port = "remote_port", local_port = "local_port",
    });
    structure!(checks, event_channel::BindVirq, "struct evtchn_bind_virq", {
        virq = "virq", vcpu = "vcpu", port = "port",
    });
    structure!(checks, event_channel::BindPirq, "struct evtchn_bind_pirq", {
        pirq = "pirq", flags = "flags", port = "port",
    });
    structure!(checks, event_channel::BindIpi, "struct evtchn_bind_ipi", { vcpu = "vcpu", port = "port" });
    structure!(checks, event_channel::OnePort, "struct evtchn_close", { port = "port" });
    structure!(checks, event_channel::OnePort, "struct evtchn_send", { port = "port" });
    structure!(checks, event_channel::OnePort, "struct evtchn_unmask", { port = "port" });
    structure!(checks, event_channel::Status, "struct evtchn_status", {
        dom = "dom", port = "port", status = "status", vcpu = "vcpu", detail = "u",
    });
    structure!(checks, sched::Shutdown, "struct sched_shutdown", { reason = "reason" });
    structure!(checks, sched::Poll, "struct sched_poll", { ports = "ports", nr_ports = "nr_ports", timeout = "timeout" });
}

fn grant_structures(checks: &mut Checks) {
    structure!(checks, grant_table::GrantEntryV1, "struct grant_entry_v1", {
        flags = "flags", domid = "domid", frame = "frame",
    });
    structure!(checks, grant_table::MapGrantRef, "struct gnttab_map_grant_ref", {
        host_addr = "host_addr", flags = "flags", grant_ref = "ref", dom = "dom", status = "status", handle = "handle",
        dev_bus_addr = "dev_bus_addr",
    });
    structure!(checks, grant_table::UnmapGrantRef, "struct gnttab_unmap_grant_ref", {
        host_addr = "host_addr", dev_bus_addr = "dev_bus_addr", handle = "handle", status = "status",
    });
    structure!(checks, grant_table::SetupTable, "struct gnttab_setup_table", {
        dom = "dom", nr_frames = "nr_frames", status = "status", frame_list = "frame_list",
    });
    structure!(checks, grant_table::SetVersion, "struct gnttab_set_version", { version = "version" });
    structure!(checks, grant_table::QuerySize, "struct gnttab_query_size", {
        dom = "dom", nr_frames = "nr_frames", max_nr_frames = "max_nr_frames", status = "status",
    });
}

fn memory_structures(checks: &mut Checks) {
    structure!(checks, memory::Reservation, "struct xen_memory_reservation", {
        extent_start = "extent_start", nr_extents = "nr_extents", extent_order = "extent_order",
        mem_flags = "mem_flags", domid = "domid",
    });
    structure!(checks, memory::ForeignMemoryMap, "struct xen_foreign_memory_map", {
        domid = "domid", nr_entries = "map.nr_entries", buffer = "map.buffer",
    });
    structure!(checks, memory::MachphysMapping, "struct xen_machphys_mapping", {
        v_start = "v_start", v_end = "v_end", max_mfn = "max_mfn",
    });
    structure!(checks, memory::AcquireResource, "struct xen_mem_acquire_resource", {
        domid = "domid", resource_type = "type", id = "id", nr_frames = "nr_frames", pad = "pad", frame = "frame",
        frame_list = "frame_list",
    });
    structure!(checks, mmu::MmuUpdate, "struct mmu_update", { ptr = "ptr", val = "val" });
    structure!(checks, mmu::MmuextOp, "struct mmuext_op", { cmd = "cmd", arg1 = "arg1", arg2 = "arg2" });
    structure!(checks, mmu::MulticallEntry, "struct multicall_entry", { op = "op", result = "result", args = "args" });
}

fn vcpu_structures(checks: &mut Checks) {
    structure!(checks, vcpu::UserRegs, "struct cpu_user_regs", {
        r15 = "r15", r14 = "r14", r13 = "r13", r12 = "r12", rbp = "rbp", rbx = "rbx", r11 = "r11", r10 = "r10",
        r9 = "r9", r8 = "r8", rax = "rax", rcx = "rcx", rdx = "rdx", rsi = "rsi", rdi = "rdi",
        error_code = "error_code", entry_vector = "entry_vector", rip = "rip", cs = "cs",
        saved_upcall_mask = "saved_upcall_mask", rflags = "rflags", rsp = "rsp", ss = "ss", es = "es", ds = "ds",
        fs = "fs", gs = "gs",
    });
    structure!(checks, vcpu::TrapInfo, "struct trap_info", {
        vector = "vector", flags = "flags", cs = "cs", address = "address",
    });
    structure!(checks, vcpu::VcpuGuestContext, "struct vcpu_guest_context", {
        fpu_ctxt = "fpu_ctxt", flags = "flags", user_regs = "user_regs", trap_ctxt = "trap_ctxt", ldt_base = "ldt_base",
        ldt_ents = "ldt_ents", gdt_frames = "gdt_frames", gdt_ents = "gdt_ents", kernel_ss = "kernel_ss",
        kernel_sp = "kernel_sp", ctrlreg = "ctrlreg", debugreg = "debugreg", event_callback_eip = "event_callback_eip",
        failsafe_callback_eip = "failsafe_callback_eip", syscall_callback_eip = "syscall_callback_eip",
        vm_assist = "vm_assist", fs_base = "fs_base", gs_base_kernel = "gs_base_kernel", gs_base_user = "gs_base_user",
    });
}

fn shared_structures(checks: &mut Checks) {
    structure!(checks, shared_info::VcpuTimeInfo, "struct vcpu_time_info", {
        version = "version", tsc_timestamp = "tsc_timestamp", system_time = "system_time",
        tsc_to_system_mul = "tsc_to_system_mul", tsc_shift = "tsc_shift", flags = "flags",
    });
    structure!(checks, shared_info::VcpuInfo, "struct vcpu_info", {
        evtchn_upcall_pending = "evtchn_upcall_pending", evtchn_upcall_mask = "evtchn_upcall_mask",
        evtchn_pending_sel = "evtchn_pending_sel", cr2 = "arch.cr2", time = "time",
    });
    structure!(checks, shared_info::ArchSharedInfo, "struct arch_shared_info", {
        max_pfn = "max_pfn", pfn_to_mfn_frame_list_list = "pfn_to_mfn_frame_list_list", nmi_reason = "nmi_reason",
        p2m_cr3 = "p2m_cr3", p2m_vaddr = "p2m_vaddr", p2m_generation = "p2m_generation",
    });
    structure!(checks, shared_info::SharedInfo, "struct shared_info", {
        vcpu_info = "vcpu_info", evtchn_pending = "evtchn_pending", evtchn_mask = "evtchn_mask",
        wc_version = "wc_version", wc_sec = "wc_sec", wc_nsec = "wc_nsec", wc_sec_hi = "wc_sec_hi", arch = "arch",
    });
    structure!(checks, start_info::StartInfo, "struct start_info", {
        magic = "magic", nr_pages = "nr_pages", shared_info = "shared_info", flags = "flags", store_mfn = "store_mfn",
        store_evtchn = "store_evtchn", console_mfn = "console.domU.mfn", console_evtchn = "console.domU.evtchn",
        pt_base = "pt_base", nr_pt_frames = "nr_pt_frames", mfn_list = "mfn_list", mod_start = "mod_start",
        mod_len = "mod_len", cmd_line = "cmd_line", first_p2m_pfn = "first_p2m_pfn", nr_p2m_frames = "nr_p2m_frames",
    });
}

fn machine_structures(checks: &mut Checks) {
    structure!(checks, scheduling::Bitmap, "struct xenctl_bitmap", { bitmap = "bitmap", nr_bits = "nr_bits" });
    structure!(checks, scheduling::VcpuAffinity, "struct xen_domctl_vcpuaffinity", {
        vcpu = "vcpu", flags = "flags", cpumap_hard = "cpumap_hard", cpumap_soft = "cpumap_soft",
    });
    for scheduler in ["credit", "credit2"] {
        let parameter = |field| format!("offsetof(struct xen_domctl_scheduler_op, u.{scheduler}.{field})");
        let ours = [
            ("weight", offset_of!(scheduling::SchedulerOp, weight)),
            ("cap", offset_of!(scheduling::SchedulerOp, cap)),
        ];
        for (field, offset) in ours {
            checks.value(format!("{field} of {scheduler}"), parameter(field), offset as u64);
        }
    }
    offsets!(checks, scheduling::SchedulerOp, "struct xen_domctl_scheduler_op", { sched_id = "sched_id", cmd = "cmd" });
    structure!(checks, scheduling::CpupoolOp, "struct xen_sysctl_cpupool_op", {
        op = "op", cpupool_id = "cpupool_id", sched_id = "sched_id", domid = "domid", cpu = "cpu", n_dom = "n_dom",
        cpumap = "cpumap",
    });
    constants! { checks,
        XEN_DOMCTL_setvcpuaffinity = Command::SETVCPUAFFINITY.raw();
        XEN_DOMCTL_scheduler_op = Command::SCHEDULER_OP.raw();
        XEN_VCPUAFFINITY_HARD = scheduling::AFFINITY_HARD;
        XEN_VCPUAFFINITY_SOFT = scheduling::AFFINITY_SOFT;
        XEN_DOMCTL_SCHEDOP_putinfo = scheduling::SCHEDOP_PUTINFO;
        XEN_DOMCTL_SCHEDOP_getinfo = scheduling::SCHEDOP_GETINFO;
        XEN_SCHEDULER_CREDIT = scheduling::SCHEDULER_CREDIT;
        XEN_SCHEDULER_CREDIT2 = scheduling::SCHEDULER_CREDIT2;
        XEN_SYSCTL_cpupool_op = scheduling::XEN_SYSCTL_CPUPOOL_OP;
        XEN_SYSCTL_CPUPOOL_OP_INFO = scheduling::CPUPOOL_INFO;
        XEN_SYSCTL_CPUPOOL_OP_MOVEDOMAIN = scheduling::CPUPOOL_MOVE_DOMAIN;
    }
    structure!(checks, device_access::IomemPermission, "struct xen_domctl_iomem_permission", {
        first_mfn = "first_mfn", nr_mfns = "nr_mfns", allow_access = "allow_access",
    });
    structure!(checks, device_access::IoportPermission, "struct xen_domctl_ioport_permission", {
        first_port = "first_port", nr_ports = "nr_ports", allow_access = "allow_access",
    });
    structure!(checks, device_access::MemoryMapping, "struct xen_domctl_memory_mapping", {
        first_gfn = "first_gfn", first_mfn = "first_mfn", nr_mfns = "nr_mfns", add_mapping = "add_mapping",
    });
    structure!(checks, device_access::IoportMapping, "struct xen_domctl_ioport_mapping", {
        first_gport = "first_gport", first_mport = "first_mport", nr_ports = "nr_ports", add_mapping = "add_mapping",
    });
    structure!(checks, physdev::MapPirq, "struct physdev_map_pirq", {
        domid = "domid", kind = "type", index = "index", pirq = "pirq", bus = "bus", devfn = "devfn",
        entry_nr = "entry_nr", table_base = "table_base",
    });
    structure!(checks, physdev::UnmapPirq, "struct physdev_unmap_pirq", { domid = "domid", pirq = "pirq" });
    structure!(checks, physdev::SetIopl, "struct physdev_set_iopl", { iopl = "iopl" });
    structure!(checks, platform::PlatformOp, "struct xen_platform_op", {
        cmd = "cmd", interface_version = "interface_version", payload = "u",
    });
    offsets!(checks, platform::EfiConfigTable, "struct xenpf_firmware_info", {
        kind = "type", index = "index", address = "u.efi_info.cfg.addr", entries = "u.efi_info.cfg.nent",
    });
    structure!(checks, platform::EnterAcpiSleep, "struct xenpf_enter_acpi_sleep", {
        val_a = "val_a", val_b = "val_b", sleep_state = "sleep_state", flags = "flags",
    });
}

fn numbers(checks: &mut Checks) {
    constants! { checks,
        XEN_DOMCTL_createdomain = Command::CREATEDOMAIN.raw();
        XEN_DOMCTL_destroydomain = Command::DESTROYDOMAIN.raw();
        XEN_DOMCTL_pausedomain = Command::PAUSEDOMAIN.raw();
        XEN_DOMCTL_unpausedomain = Command::UNPAUSEDOMAIN.raw();
        XEN_DOMCTL_getdomaininfo = Command::GETDOMAININFO.raw();
        XEN_DOMCTL_max_mem = Command::MAX_MEM.raw();
        XEN_DOMCTL_setvcpucontext = Command::SETVCPUCONTEXT.raw();
        XEN_DOMCTL_set_address_size = Command::SET_ADDRESS_SIZE.raw();
        XEN_DOMCTL_max_vcpus = Command::MAX_VCPUS.raw();
        XEN_DOMCTL_hypercall_init = Command::HYPERCALL_INIT.raw();
        XEN_DOMCTL_shadow_op = Command::SHADOW_OP.raw();
        XEN_DOMCTL_irq_permission = Command::IRQ_PERMISSION.raw();
        XEN_DOMCTL_iomem_permission = Command::IOMEM_PERMISSION.raw();
        XEN_DOMCTL_ioport_permission = Command::IOPORT_PERMISSION.raw();
        XEN_DOMCTL_memory_mapping = Command::MEMORY_MAPPING.raw();
        XEN_DOMCTL_ioport_mapping = Command::IOPORT_MAPPING.raw();
        XEN_DOMCTL_gethvmcontext = Command::GETHVMCONTEXT.raw();
        XEN_DOMCTL_set_virq_handler = Command::SET_VIRQ_HANDLER.raw();
        XEN_DOMCTL_sethvmcontext = Command::SETHVMCONTEXT.raw();
        XEN_DOMCTL_CDF_hvm = CreateFlags::HVM.bits();
        XEN_DOMCTL_CDF_hap = CreateFlags::HAP.bits();
        XEN_DOMCTL_CDF_s3_integrity = CreateFlags::S3_INTEGRITY.bits();
        XEN_DOMCTL_CDF_oos_off = CreateFlags::OOS_OFF.bits();
        XEN_DOMCTL_CDF_xs_domain = CreateFlags::XS_DOMAIN.bits();
        XEN_DOMCTL_CDF_iommu = CreateFlags::IOMMU.bits();
        XEN_DOMINF_dying = DomainState::DYING.bits();
        XEN_DOMINF_hvm_guest = DomainState::HVM_GUEST.bits();
        XEN_DOMINF_shutdown = DomainState::SHUTDOWN.bits();
        XEN_DOMINF_paused = DomainState::PAUSED.bits();
        XEN_DOMINF_blocked = DomainState::BLOCKED.bits();
        XEN_DOMINF_running = DomainState::RUNNING.bits();
        XEN_DOMINF_debugged = DomainState::DEBUGGED.bits();
        XEN_DOMINF_xs_domain = DomainState::XS_DOMAIN.bits();
        XEN_DOMINF_hap = DomainState::HAP.bits();
        XEN_DOMINF_shutdownmask = 0xff_u32;
        XEN_DOMINF_shutdownshift = 16_u32;
        XEN_SYSCTL_physinfo = sysctl::XEN_SYSCTL_PHYSINFO;
        XEN_SYSCTL_readconsole = sysctl::XEN_SYSCTL_READCONSOLE;
        XEN_SYSCTL_getdomaininfolist = sysctl::XEN_SYSCTL_GETDOMAININFOLIST;
    }
    checks.constant_if_defined("XEN_DOMCTL_CDF_nested_virt", CreateFlags::NESTED_VIRT.bits());
    checks.constant_if_defined("XEN_DOMCTL_CDF_vpmu", CreateFlags::VPMU.bits());
    checks.constant_if_defined("XEN_DOMCTL_CDF_trap_unmapped_accesses", CreateFlags::TRAP_UNMAPPED.bits());
    checks.constant_if_defined("DOMID_ANY", DomId::ANY.raw());
    basic_numbers(checks);
    event_numbers(checks);
    memory_numbers(checks);
    note_numbers(checks);
}

fn basic_numbers(checks: &mut Checks) {
    constants! { checks,
        __HYPERVISOR_set_trap_table = HypercallNumber::SET_TRAP_TABLE.raw();
        __HYPERVISOR_mmu_update = HypercallNumber::MMU_UPDATE.raw();
        __HYPERVISOR_set_gdt = HypercallNumber::SET_GDT.raw();
        __HYPERVISOR_stack_switch = HypercallNumber::STACK_SWITCH.raw();
        __HYPERVISOR_set_callbacks = HypercallNumber::SET_CALLBACKS.raw();
        __HYPERVISOR_platform_op = HypercallNumber::PLATFORM_OP.raw();
        __HYPERVISOR_memory_op = HypercallNumber::MEMORY_OP.raw();
        __HYPERVISOR_multicall = HypercallNumber::MULTICALL.raw();
        __HYPERVISOR_update_va_mapping = HypercallNumber::UPDATE_VA_MAPPING.raw();
        __HYPERVISOR_set_timer_op = HypercallNumber::SET_TIMER_OP.raw();
        __HYPERVISOR_xen_version = HypercallNumber::XEN_VERSION.raw();
        __HYPERVISOR_console_io = HypercallNumber::CONSOLE_IO.raw();
        __HYPERVISOR_grant_table_op = HypercallNumber::GRANT_TABLE_OP.raw();
        __HYPERVISOR_vm_assist = HypercallNumber::VM_ASSIST.raw();
        __HYPERVISOR_iret = HypercallNumber::IRET.raw();
        __HYPERVISOR_vcpu_op = HypercallNumber::VCPU_OP.raw();
        __HYPERVISOR_mmuext_op = HypercallNumber::MMUEXT_OP.raw();
        __HYPERVISOR_xsm_op = HypercallNumber::XSM_OP.raw();
        __HYPERVISOR_sched_op = HypercallNumber::SCHED_OP.raw();
        __HYPERVISOR_event_channel_op = HypercallNumber::EVENT_CHANNEL_OP.raw();
        __HYPERVISOR_physdev_op = HypercallNumber::PHYSDEV_OP.raw();
        __HYPERVISOR_hvm_op = HypercallNumber::HVM_OP.raw();
        __HYPERVISOR_sysctl = HypercallNumber::SYSCTL.raw();
        __HYPERVISOR_domctl = HypercallNumber::DOMCTL.raw();
        DOMID_FIRST_RESERVED = DomId::FIRST_RESERVED.raw();
        DOMID_SELF = DomId::SELF.raw();
        DOMID_IO = DomId::IO.raw();
        DOMID_XEN = DomId::XEN.raw();
        DOMID_INVALID = DomId::INVALID.raw();
        CONSOLEIO_write = console::CONSOLEIO_WRITE;
        CONSOLEIO_read = console::CONSOLEIO_READ;
        XENVER_version = version::XENVER_VERSION;
        XENVER_extraversion = version::XENVER_EXTRAVERSION;
        XENVER_capabilities = version::XENVER_CAPABILITIES;
        XEN_LEGACY_MAX_VCPUS = shared_info::LEGACY_MAX_VCPUS as u64;
        MAX_GUEST_CMDLINE = start_info::MAX_COMMAND_LINE as u64;
        SIF_PRIVILEGED = StartFlags::PRIVILEGED.bits();
        SIF_INITDOMAIN = StartFlags::INITDOMAIN.bits();
        SIF_MULTIBOOT_MOD = StartFlags::MULTIBOOT_MOD.bits();
        SIF_MOD_START_PFN = StartFlags::MOD_START_PFN.bits();
        SIF_VIRT_P2M_4TOOLS = StartFlags::VIRT_P2M_4TOOLS.bits();
        FLAT_KERNEL_CS = vcpu::FLAT_KERNEL_CS;
        FLAT_KERNEL_DS = vcpu::FLAT_KERNEL_DS;
        FLAT_KERNEL_SS = vcpu::FLAT_KERNEL_SS;
        VGCF_in_kernel = vcpu::VGCF_IN_KERNEL;
        VGCF_online = vcpu::VGCF_ONLINE;
        PHYSDEVOP_set_iopl = physdev::PHYSDEVOP_SET_IOPL;
        PHYSDEVOP_map_pirq = physdev::PHYSDEVOP_MAP_PIRQ;
        PHYSDEVOP_unmap_pirq = physdev::PHYSDEVOP_UNMAP_PIRQ;
        MAP_PIRQ_TYPE_GSI = physdev::MAP_PIRQ_TYPE_GSI.unsigned_abs();
        XENPF_INTERFACE_VERSION = platform::INTERFACE_VERSION;
        XENPF_firmware_info = platform::XENPF_FIRMWARE_INFO;
        XENPF_enter_acpi_sleep = platform::XENPF_ENTER_ACPI_SLEEP;
        XEN_FW_EFI_INFO = platform::XEN_FW_EFI_INFO;
        XEN_FW_EFI_CONFIG_TABLE = platform::XEN_FW_EFI_CONFIG_TABLE;
        XENPF_ACPI_SLEEP_EXTENDED = platform::XENPF_ACPI_SLEEP_EXTENDED;
    }
    checks.value(
        "size of xen_extraversion_t",
        "sizeof(xen_extraversion_t)",
        version::EXTRAVERSION_LEN as u64,
    );
    checks.value(
        "size of xen_capabilities_info_t",
        "sizeof(xen_capabilities_info_t)",
        version::CAPABILITIES_LEN as u64,
    );
}

fn event_numbers(checks: &mut Checks) {
    constants! { checks,
        EVTCHNOP_bind_interdomain = event_channel::EVTCHNOP_BIND_INTERDOMAIN;
        EVTCHNOP_bind_virq = event_channel::EVTCHNOP_BIND_VIRQ;
        EVTCHNOP_bind_pirq = event_channel::EVTCHNOP_BIND_PIRQ;
        EVTCHNOP_close = event_channel::EVTCHNOP_CLOSE;
        EVTCHNOP_send = event_channel::EVTCHNOP_SEND;
        EVTCHNOP_status = event_channel::EVTCHNOP_STATUS;
        EVTCHNOP_alloc_unbound = event_channel::EVTCHNOP_ALLOC_UNBOUND;
        EVTCHNOP_bind_ipi = event_channel::EVTCHNOP_BIND_IPI;
        EVTCHNOP_unmask = event_channel::EVTCHNOP_UNMASK;
        EVTCHNSTAT_closed = event_channel::EVTCHNSTAT_CLOSED;
        EVTCHNSTAT_unbound = event_channel::EVTCHNSTAT_UNBOUND;
        EVTCHNSTAT_interdomain = event_channel::EVTCHNSTAT_INTERDOMAIN;
        EVTCHNSTAT_virq = event_channel::EVTCHNSTAT_VIRQ;
        EVTCHNSTAT_ipi = event_channel::EVTCHNSTAT_IPI;
        VIRQ_TIMER = event_channel::VIRQ_TIMER;
        VIRQ_CONSOLE = event_channel::VIRQ_CONSOLE;
        VIRQ_DOM_EXC = event_channel::VIRQ_DOM_EXC;
        SCHEDOP_yield = sched::SCHEDOP_YIELD;
        SCHEDOP_block = sched::SCHEDOP_BLOCK;
        SCHEDOP_shutdown = sched::SCHEDOP_SHUTDOWN;
        SCHEDOP_poll = sched::SCHEDOP_POLL;
        SHUTDOWN_poweroff = sched::SHUTDOWN_POWEROFF;
        SHUTDOWN_reboot = sched::SHUTDOWN_REBOOT;
        SHUTDOWN_suspend = sched::SHUTDOWN_SUSPEND;
        SHUTDOWN_crash = sched::SHUTDOWN_CRASH;
        SHUTDOWN_watchdog = sched::SHUTDOWN_WATCHDOG;
        SHUTDOWN_soft_reset = sched::SHUTDOWN_SOFT_RESET;
        GNTTABOP_map_grant_ref = grant_table::GNTTABOP_MAP_GRANT_REF;
        GNTTABOP_unmap_grant_ref = grant_table::GNTTABOP_UNMAP_GRANT_REF;
        GNTTABOP_setup_table = grant_table::GNTTABOP_SETUP_TABLE;
        GNTTABOP_query_size = grant_table::GNTTABOP_QUERY_SIZE;
        GNTTABOP_set_version = grant_table::GNTTABOP_SET_VERSION;
        GNTTAB_RESERVED_CONSOLE = grant_table::RESERVED_CONSOLE.raw();
        GNTTAB_RESERVED_XENSTORE = grant_table::RESERVED_XENSTORE.raw();
        GNTTAB_NR_RESERVED_ENTRIES = grant_table::RESERVED_ENTRIES;
        GTF_permit_access = grant_table::GrantFlags::PERMIT_ACCESS.bits();
        GTF_readonly = grant_table::GrantFlags::READONLY.bits();
        GTF_reading = grant_table::GrantFlags::READING.bits();
        GTF_writing = grant_table::GrantFlags::WRITING.bits();
        GNTMAP_device_map = grant_table::MapFlags::DEVICE_MAP.bits();
        GNTMAP_host_map = grant_table::MapFlags::HOST_MAP.bits();
        GNTMAP_readonly = grant_table::MapFlags::READONLY.bits();
        GNTMAP_contains_pte = grant_table::MapFlags::CONTAINS_PTE.bits();
    }
}

fn memory_numbers(checks: &mut Checks) {
    constants! { checks,
        XENMEM_maximum_ram_page = memory::XENMEM_MAXIMUM_RAM_PAGE;
        XENMEM_decrease_reservation = memory::XENMEM_DECREASE_RESERVATION;
        XENMEM_current_reservation = memory::XENMEM_CURRENT_RESERVATION;
        XENMEM_populate_physmap = memory::XENMEM_POPULATE_PHYSMAP;
        XENMEM_machphys_mapping = memory::XENMEM_MACHPHYS_MAPPING;
        XENMEM_set_memory_map = memory::XENMEM_SET_MEMORY_MAP;
        XENMEM_claim_pages = memory::XENMEM_CLAIM_PAGES;
        XENMEM_acquire_resource = memory::XENMEM_ACQUIRE_RESOURCE;
        XENMEM_resource_grant_table = memory::RESOURCE_GRANT_TABLE;
        MMU_NORMAL_PT_UPDATE = mmu::MMU_NORMAL_PT_UPDATE;
        MMU_MACHPHYS_UPDATE = mmu::MMU_MACHPHYS_UPDATE;
        MMU_PT_UPDATE_NO_TRANSLATE = mmu::MMU_PT_UPDATE_NO_TRANSLATE;
        MMUEXT_PIN_L1_TABLE = mmu::MMUEXT_PIN_L1_TABLE;
        MMUEXT_PIN_L4_TABLE = mmu::MMUEXT_PIN_L4_TABLE;
        MMUEXT_UNPIN_TABLE = mmu::MMUEXT_UNPIN_TABLE;
        MMUEXT_TLB_FLUSH_LOCAL = mmu::MMUEXT_TLB_FLUSH_LOCAL;
        UVMF_INVLPG = mmu::UVMF_INVLPG;
    }
    // MMU_UPDATE_PREEMPTED and the bits of a memory operation's number are known to Xen alone; no public header has them.
}

fn note_numbers(checks: &mut Checks) {
    for note in 0..=64 {
        if let Some(name) = elfnote::name(note) {
            checks.constant(&format!("XEN_ELFNOTE_{name}"), note);
        }
    }
}

/// What the headers say of the layouts that differ between versions, and of the versions themselves.
const VERSIONED: [(&str, &str); 17] = [
    ("domctl version", "XEN_DOMCTL_INTERFACE_VERSION"),
    ("sysctl version", "XEN_SYSCTL_INTERFACE_VERSION"),
    ("createdomain size", "sizeof(struct xen_domctl_createdomain)"),
    ("getdomaininfo size", "sizeof(struct xen_domctl_getdomaininfo)"),
    ("createdomain ssidref", "offsetof(struct xen_domctl_createdomain, ssidref)"),
    ("createdomain handle", "offsetof(struct xen_domctl_createdomain, handle)"),
    ("createdomain flags", "offsetof(struct xen_domctl_createdomain, flags)"),
    ("createdomain max_vcpus", "offsetof(struct xen_domctl_createdomain, max_vcpus)"),
    ("createdomain max_evtchn_port", "offsetof(struct xen_domctl_createdomain, max_evtchn_port)"),
    ("createdomain max_grant_frames", "offsetof(struct xen_domctl_createdomain, max_grant_frames)"),
    ("createdomain max_maptrack_frames", "offsetof(struct xen_domctl_createdomain, max_maptrack_frames)"),
    ("createdomain arch", "offsetof(struct xen_domctl_createdomain, arch)"),
    ("createdomain emulation_flags", "offsetof(struct xen_domctl_createdomain, arch.emulation_flags)"),
    ("irq_permission size", "sizeof(struct xen_domctl_irq_permission)"),
    ("irq_permission allow_access", "offsetof(struct xen_domctl_irq_permission, allow_access)"),
    ("physinfo total_pages", "offsetof(struct xen_sysctl_physinfo, total_pages)"),
    ("physinfo outstanding_pages", "offsetof(struct xen_sysctl_physinfo, outstanding_pages)"),
];

/// Where our encoder puts each field of a create request, found by giving it bytes that occur nowhere else.
fn encoded_offsets(version: DomctlVersion) -> BTreeMap<&'static str, u64> {
    let request = CreateDomain {
        ssidref: 0xa9a9_a9a9,
        handle: [0xa1; 16],
        flags: CreateFlags::from_bits_retain(0xa2a2_a2a2),
        max_vcpus: 0xa3a3_a3a3,
        max_evtchn_port: 0xa4a4_a4a4,
        max_grant_frames: i32::from_le_bytes([0xa5; 4]),
        max_maptrack_frames: i32::from_le_bytes([0xa6; 4]),
        max_grant_version: 0xa7a7_a7a7,
        emulation_flags: 0xa8a8_a8a8,
        misc_flags: 0xaaaa_aaaa,
    };
    let payload = request.encode(version);
    let fields = [
        (0xa9, "createdomain ssidref"),
        (0xa1, "createdomain handle"),
        (0xa2, "createdomain flags"),
        (0xa3, "createdomain max_vcpus"),
        (0xa4, "createdomain max_evtchn_port"),
        (0xa5, "createdomain max_grant_frames"),
        (0xa6, "createdomain max_maptrack_frames"),
        (0xa7, "createdomain grant_opts"),
        (0xa8, "createdomain emulation_flags"),
        (0xaa, "createdomain misc_flags"),
    ];
    let position = |wanted: u8| payload.iter().position(|byte| *byte == wanted);
    fields.into_iter().filter_map(|(byte, name)| Some((name, position(byte)? as u64))).collect()
}

/// The C program: one line of output for each expression, and one for each error number.
fn program(checks: &Checks) -> String {
    let mut text = String::from(
        "#define __XEN_TOOLS__ 1\n#include <stddef.h>\n#include <stdint.h>\n#include <stdio.h>\n\
         #include <xen/xen.h>\n#include <xen/domctl.h>\n#include <xen/hvm/hvm_op.h>\n#include <xen/hvm/params.h>\n\
         #include <xen/hvm/hvm_info_table.h>\n#include <xen/hvm/save.h>\n#include <xen/arch-x86/hvm/start_info.h>\n#include <xen/elfnote.h>\n#include <xen/event_channel.h>\n\
         #include <xen/grant_table.h>\n#include <xen/memory.h>\n#include <xen/physdev.h>\n#include <xen/platform.h>\n\
         #include <xen/sched.h>\n#include <xen/sysctl.h>\n#include <xen/version.h>\n#include <xen/xsm/flask_op.h>\n#include <xen/io/console.h>\n\
         #define SAY(what, value) printf(\"%s\\t%llu\\n\", what, (unsigned long long)(value))\n\
         int main(void) {\n",
    );
    for (what, c) in VERSIONED {
        writeln!(text, "SAY({what:?}, {c});").unwrap();
    }
    text += "#ifdef XEN_DOMCTL_GRANT_version_mask\n\
             SAY(\"createdomain grant_opts\", offsetof(struct xen_domctl_createdomain, grant_opts));\n#endif\n\
             #ifdef XEN_X86_MSR_RELAXED\n\
             SAY(\"createdomain misc_flags\", offsetof(struct xen_domctl_createdomain, arch.misc_flags));\n#endif\n";
    for Check { what, c, only_if_defined, .. } in &checks.0 {
        match only_if_defined {
            Some(name) => writeln!(text, "#ifdef {name}\nSAY({what:?}, {c});\n#endif").unwrap(),
            None => writeln!(text, "SAY({what:?}, {c});").unwrap(),
        }
    }
    text += "#define XEN_ERRNO(name, value) SAY(\"errno \" #name, value);\n#include <xen/errno.h>\nreturn 0;\n}\n";
    text
}

/// Compiles and runs the program against the headers below `include`.
fn ask(checks: &Checks, include: &Path, number: usize) -> BTreeMap<String, u64> {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let (source, binary) =
        (folder.join(format!("headers-{number}.c")), folder.join(format!("headers-{number}")));
    fs::write(&source, program(checks)).unwrap();
    let compiled = Process::new("cc")
        .args(["-std=gnu99", "-w", "-I"])
        .arg(include)
        .arg("-o")
        .arg(&binary)
        .arg(&source)
        .output();
    let compiled = compiled.unwrap_or_else(|error| panic!("cc cannot be run: {error}; install a C compiler"));
    assert!(
        compiled.status.success(),
        "the headers in {} do not compile with {}:\n{}",
        include.display(),
        source.display(),
        String::from_utf8_lossy(&compiled.stderr)
    );
    let output = Process::new(&binary).output().unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    let parse =
        |line: &str| line.split_once('\t').map(|(what, value)| (what.to_owned(), value.parse().unwrap()));
    lines.lines().filter_map(parse).collect()
}

/// Where headers are.
fn header_folders() -> Vec<PathBuf> {
    if let Some(list) = env::var_os("XEN_HEADERS") {
        return env::split_paths(&list).collect();
    }
    let xens = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../build/xen");
    let versions = fs::read_dir(xens).into_iter().flatten().flatten();
    let mut folders: Vec<_> = versions.map(|version| version.path().join("include")).collect();
    folders.retain(|folder| folder.join("xen/xen.h").exists());
    folders.sort();
    folders
}

/// Differences between ours and theirs, in words.
fn differences(checks: &Checks, theirs: &BTreeMap<String, u64>) -> Vec<String> {
    let mut found = Vec::new();
    let mut compare = |what: &str, ours: u64, optional: bool| match theirs.get(what) {
        Some(value) if *value != ours => found.push(format!("{what}: ours is {ours:#x}, theirs {value:#x}")),
        None if !optional => found.push(format!("{what}: ours is {ours:#x}, and the headers do not have it")),
        _ => {}
    };
    for check in &checks.0 {
        compare(&check.what, check.ours, check.only_if_defined.is_some());
    }
    for errno in Errno::ALL {
        let name = errno.name().unwrap_or("unnamed");
        // Xen keeps the first two to itself, and they reach a caller only by mistake; the third came after 4.14.
        let optional = [Errno::EINTR, Errno::ERESTART, Errno::ENOTDIR].contains(errno);
        compare(&format!("errno {name}"), u64::from(errno.number()), optional);
    }
    let raw = |what: &str| u32::try_from(theirs.get(what).copied().unwrap_or(0)).unwrap();
    match DomctlVersion::from_raw(raw("domctl version")) {
        Some(version) => {
            for (what, offset) in encoded_offsets(version) {
                compare(what, offset, false);
            }
            compare("createdomain size", CreateDomain::size(version) as u64, false);
            compare("getdomaininfo size", version.domain_info_size() as u64, false);
            compare("irq_permission size", device_access::IrqPermission::size(version) as u64, false);
            let allow = device_access::IrqPermission::allow_offset(version) as u64;
            compare("irq_permission allow_access", allow, false);
            compare("createdomain arch", CreateDomain::arch_offset(version) as u64, false);
        }
        None => found.push(format!("there are no layouts for domctl version {:#x}", raw("domctl version"))),
    }
    let offset = SysctlVersion::from_raw(raw("sysctl version")).map(SysctlVersion::physinfo_pages_offset);
    match (offset, theirs.get("physinfo total_pages"), theirs.get("physinfo outstanding_pages")) {
        (Some(ours), Some(first), Some(last)) if (ours as u64, ours as u64 + 24) == (*first, *last) => {}
        other => found.push(format!("page counts of physinfo: ours and theirs are {other:?}")),
    }
    found
}

#[test]
fn layouts_and_numbers_are_those_of_the_c_headers() {
    let folders = header_folders();
    if folders.is_empty() {
        let required = ["REQUIRE_XEN_HEADERS", "CI"].into_iter().find(|name| env::var_os(name).is_some());
        assert!(
            required.is_none(),
            "no headers of Xen below build/xen, and {required:?} is set: make them with `make test-host`, or name their \
             folders in XEN_HEADERS"
        );
        println!(
            "SKIPPED: no headers of Xen below build/xen; `make test-host` fetches them, or name folders in XEN_HEADERS"
        );
        return;
    }
    let mut checks = Checks::default();
    structures(&mut checks);
    numbers(&mut checks);
    let mut report = String::new();
    for (number, folder) in folders.iter().enumerate() {
        let theirs = ask(&checks, folder, number);
        println!("{}: {} values compared", folder.display(), theirs.len());
        assert!(theirs.len() > checks.0.len(), "the program said too little");
        for difference in differences(&checks, &theirs) {
            writeln!(report, "{}: {difference}", folder.display()).unwrap();
        }
    }
    assert!(report.is_empty(), "{report}");
}

/// The structures of a 32-bit guest, as a C compiler for that processor lays them out.
fn structures_of_32_bits(checks: &mut Checks) {
    structure!(checks, pv32::StartInfo32, "struct start_info", {
        magic = "magic", nr_pages = "nr_pages", shared_info = "shared_info", flags = "flags", store_mfn = "store_mfn",
        store_evtchn = "store_evtchn", console_mfn = "console.domU.mfn", console_evtchn = "console.domU.evtchn",
        pt_base = "pt_base", nr_pt_frames = "nr_pt_frames", mfn_list = "mfn_list", mod_start = "mod_start",
        mod_len = "mod_len", cmd_line = "cmd_line", first_p2m_pfn = "first_p2m_pfn", nr_p2m_frames = "nr_p2m_frames",
    });
    structure!(checks, pv32::UserRegs32, "struct cpu_user_regs", {
        ebx = "ebx", ecx = "ecx", edx = "edx", esi = "esi", edi = "edi", ebp = "ebp", eax = "eax",
        error_code = "error_code", entry_vector = "entry_vector", eip = "eip", cs = "cs",
        saved_upcall_mask = "saved_upcall_mask", eflags = "eflags", esp = "esp", ss = "ss", es = "es", ds = "ds",
        fs = "fs", gs = "gs",
    });
    structure!(checks, pv32::TrapInfo32, "struct trap_info", {
        vector = "vector", flags = "flags", cs = "cs", address = "address",
    });
    structure!(checks, pv32::VcpuGuestContext32, "struct vcpu_guest_context", {
        fpu_ctxt = "fpu_ctxt", flags = "flags", user_regs = "user_regs", trap_ctxt = "trap_ctxt", ldt_base = "ldt_base",
        ldt_ents = "ldt_ents", gdt_frames = "gdt_frames", gdt_ents = "gdt_ents", kernel_ss = "kernel_ss",
        kernel_sp = "kernel_sp", ctrlreg = "ctrlreg", debugreg = "debugreg", event_callback_cs = "event_callback_cs",
        event_callback_eip = "event_callback_eip", failsafe_callback_cs = "failsafe_callback_cs",
        failsafe_callback_eip = "failsafe_callback_eip", vm_assist = "vm_assist",
    });
    checks.constant("FLAT_KERNEL_CS", pv32::FLAT_KERNEL_CS);
    checks.constant("FLAT_KERNEL_DS", pv32::FLAT_KERNEL_DS);
    checks.constant("FLAT_KERNEL_SS", pv32::FLAT_KERNEL_DS);
    checks.constant("HYPERVISOR_VIRT_START_PAE", pv32::HYPERVISOR_VIRT_START);
    checks.value(
        "VMASST_TYPE_pae_extended_cr3",
        "1u << VMASST_TYPE_pae_extended_cr3",
        pv32::VM_ASSIST_PAE_EXTENDED_CR3,
    );
    checks.value("a folded CR3", "xen_pfn_to_cr3(0x123456)", pv32::cr3_of_frame(0x12_3456));
}

/// A C file that does not compile when anything is different: nothing built for this processor need run here.
fn assertions(checks: &Checks) -> String {
    let mut text = String::from("#include <stddef.h>\n#include <stdint.h>\n#include <xen/xen.h>\n");
    for Check { what, c, ours, .. } in &checks.0 {
        writeln!(text, "_Static_assert(({c}) == {ours:#x}u, {what:?});").unwrap();
    }
    text
}

#[test]
fn layouts_of_32_bit_guests_are_those_of_the_c_headers() {
    let mut checks = Checks::default();
    structures_of_32_bits(&mut checks);
    for (number, folder) in header_folders().iter().enumerate() {
        let source =
            PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("headers-of-32-bits-{number}.c"));
        fs::write(&source, assertions(&checks)).unwrap();
        let compiled = Process::new("cc")
            .args(["-m32", "-ffreestanding", "-std=gnu11", "-fsyntax-only", "-w", "-I"])
            .arg(folder)
            .arg(&source)
            .output();
        let compiled =
            compiled.unwrap_or_else(|error| panic!("cc cannot be run: {error}; install a C compiler"));
        let errors = String::from_utf8_lossy(&compiled.stderr);
        assert!(compiled.status.success(), "{}:\n{errors}", folder.display());
        println!("{}: {} values compared", folder.display(), checks.0.len());
    }
}
