//! The checks, by call and error number: learnt from reading Xen's own code, told in our words.

use xen_abi::Errno;

use crate::{Check, Release};

/// A call that the builder makes.
pub(crate) struct Call {
    /// Its name in Xen's headers.
    pub(crate) name: &'static str,
    /// What it is for.
    pub(crate) purpose: &'static str,
    /// How Xen may refuse it.
    pub(crate) refusals: &'static [(Errno, Check)],
}

/// The names of all calls that have an entry.
pub fn calls() -> impl Iterator<Item = &'static str> {
    CALLS.iter().map(|call| call.name)
}

/// A check of every release.
const fn check(found: &'static str, remedy: &'static str) -> Check {
    Check { found, remedy, since: None, until: None }
}

/// A check of the releases from `since` on.
const fn since(since: Release, found: &'static str, remedy: &'static str) -> Check {
    Check { found, remedy, since: Some(since), until: None }
}

/// A check of the releases up to `until`.
const fn until(until: Release, found: &'static str, remedy: &'static str) -> Check {
    Check { found, remedy, since: None, until: Some(until) }
}

/// What the error number means wherever Xen gives it.
pub(crate) fn anywhere(errno: Errno) -> impl Iterator<Item = Check> {
    ANYWHERE.iter().filter(move |(number, _)| *number == errno).map(|(_, check)| *check)
}

const ANYWHERE: &[(Errno, Check)] = &[
    (
        Errno::EPERM,
        check(
            "The calling domain is not one that may control others.",
            "The builder has to be started as Dom0, or be labelled as a domain builder by Xen's security policy.",
        ),
    ),
    (
        Errno::EACCES,
        check(
            "The call was made in another version of the control interface than this Xen speaks, or the security policy (FLASK) denies it.",
            "Use a builder that knows this release, or change the policy.",
        ),
    ),
    (
        Errno::ESRCH,
        check(
            "There is no domain of that number any more.",
            "Find out what destroyed it: it was there when it was built.",
        ),
    ),
    (
        Errno::ENOMEM,
        check(
            "Xen has no memory left for what it keeps about domains.",
            "Lower dom0_mem, start fewer VMs, lower their `memory` or `vcpus`, or give the machine more memory.",
        ),
    ),
    (
        Errno::ENOSYS,
        check(
            "This Xen does not have the call.",
            "Use a Xen that is built with it, or a release that has it.",
        ),
    ),
    (
        Errno::EOPNOTSUPP,
        check(
            "This Xen, or a domain of this kind, does not have what the call is for.",
            "Use another `type`, or another build of Xen.",
        ),
    ),
    (
        Errno::EFAULT,
        check(
            "An address in the call is not one of the caller's.",
            "This is a defect of the builder; please report it.",
        ),
    ),
    (
        Errno::EINVAL,
        check(
            "Xen holds an argument for wrong.",
            "Start Xen with loglvl=all guest_loglvl=all: its log may name it.",
        ),
    ),
];

pub(crate) const CALLS: &[Call] = &[
    Call {
        name: "XEN_DOMCTL_createdomain",
        purpose: "It makes a domain, without vCPUs or memory.",
        refusals: &[
            (Errno::EEXIST, check("A domain has this number already.", "Change or remove the VM's `domid`.")),
            (
                Errno::EEXIST,
                since(
                    (4, 21),
                    "The number is lost: an earlier domain that was to have it was refused, and this Xen does not give such a number back \
                     before the machine starts anew.",
                    "Look for the earlier refusal in the log and correct its cause; for now use another `domid`, or none.",
                ),
            ),
            (
                Errno::EACCES,
                check(
                    "The security policy (FLASK) does not let the caller create a domain with this label.",
                    "Write a `seclabel` that it may create, or change the policy; \"avc: denied\" in Xen's log says what was asked for.",
                ),
            ),
            (
                Errno::EINVAL,
                check(
                    "This Xen cannot run guests of the type: it is built without PV (CONFIG_PV) or without HVM (CONFIG_HVM), or the machine \
                     has no VT-x or AMD-V, or no nested paging.",
                    "Use the other `type`; enable virtualisation in the firmware; in QEMU, -cpu qemu64,+svm,+npt.",
                ),
            ),
            (
                Errno::EOPNOTSUPP,
                until(
                    (4, 21),
                    "The domain is to have shadow paging (`hap = 0`, or a machine without nested paging), which this Xen is built without.",
                    "Remove `hap = 0`, or use a Xen with CONFIG_SHADOW_PAGING.",
                ),
            ),
            (
                Errno::EINVAL,
                since(
                    (4, 22),
                    "The domain is to have shadow paging (`hap = 0`, or a machine without nested paging), which this Xen is built without.",
                    "Remove `hap = 0`, or use a Xen with CONFIG_SHADOW_PAGING.",
                ),
            ),
            (
                Errno::EINVAL,
                check(
                    "There are more vCPUs than a guest of the type may have: 128 for PVH, 8192 for PV.",
                    "Lower `vcpus`.",
                ),
            ),
            (
                Errno::EINVAL,
                until(
                    (4, 19),
                    "The grant table, or the table of mapped grants, may grow further than Xen's own limits allow.",
                    "Lower `max_grant_frames` or `max_maptrack_frames`, or raise gnttab_max_frames or gnttab_max_maptrack_frames of Xen.",
                ),
            ),
            (
                Errno::EINVAL,
                since(
                    (4, 16),
                    "The domain may choose a newer grant table than Xen is started with (gnttab=max-ver:1).",
                    "Write max_grant_version = 1.",
                ),
            ),
            (
                Errno::ENOMEM,
                check(
                    "Xen has no memory for the domain's own structures.",
                    "Lower dom0_mem, or start fewer VMs.",
                ),
            ),
        ],
    },
    Call {
        name: "XEN_DOMCTL_max_vcpus",
        purpose: "It makes the vCPUs of a new domain.",
        refusals: &[
            (
                Errno::ENOMEM,
                check(
                    "Xen has no memory for so many vCPUs.",
                    "Lower `vcpus` or dom0_mem, or start fewer VMs.",
                ),
            ),
            (
                Errno::EINVAL,
                check(
                    "The number is another than the domain was created with.",
                    "This is a defect of the builder; please report it.",
                ),
            ),
        ],
    },
    Call {
        name: "XEN_DOMCTL_set_cpu_policy",
        purpose: "It says what a domain sees of the processor (`cpuid`, `nomigrate`, several vCPUs of a PVH guest).",
        refusals: &[
            (
                Errno::EINVAL,
                check(
                    "The highest leaf of CPUID is above the machine's, or a subleaf is not one that Xen keeps.",
                    "Lower maxleaf in `cpuid`, or remove the subleaf.",
                ),
            ),
            (
                Errno::ERANGE,
                check(
                    "There is a leaf of CPUID that Xen does not keep for domains.",
                    "Remove it from `cpuid`.",
                ),
            ),
            (Errno::EEXIST, check("The domain has been started already.", "Something else has started it.")),
        ],
    },
    Call {
        name: "XEN_DOMCTL_settscinfo",
        purpose: "It says how a domain reads the time-stamp counter (`tsc_mode`).",
        refusals: &[(
            Errno::EINVAL,
            check("This Xen does not have the mode.", "Use another `tsc_mode`, or remove it."),
        )],
    },
    Call {
        name: "FLASK_CONTEXT_TO_SID",
        purpose: "It asks for the number of a security label (`seclabel`, `init_seclabel`).",
        refusals: &[
            (
                Errno::EINVAL,
                check(
                    "The policy that Xen was started with has no such label.",
                    "Correct `seclabel`; `seinfo`, or the policy's sources, list its users, roles and types.",
                ),
            ),
            (
                Errno::EACCES,
                check(
                    "The policy does not let the caller ask about labels.",
                    "The builder's label needs the right check_context of the class security.",
                ),
            ),
            (
                Errno::ENOSYS,
                check(
                    "This Xen has no labels: it is built without FLASK, or started with flask=disabled.",
                    "Use a Xen with CONFIG_XSM_FLASK, or remove `seclabel`.",
                ),
            ),
        ],
    },
    Call {
        name: "FLASK_RELABEL_DOMAIN",
        purpose: "It changes a domain's label from `init_seclabel` to `seclabel` before it starts.",
        refusals: &[(
            Errno::EACCES,
            check(
                "The policy does not let the caller change this label to that one.",
                "Allow the builder's label relabelfrom and relabelto, and the first label the transition to the second.",
            ),
        )],
    },
    Call {
        name: "XENMEM_populate_physmap",
        purpose: "It gives a domain memory. Xen reports how many pieces it could give; an error comes only when it does not begin.",
        refusals: &[
            (
                Errno::EPERM,
                check(
                    "The caller does not control the domain.",
                    "The builder has to be Dom0, or labelled as a domain builder.",
                ),
            ),
            (
                Errno::ENOMEM,
                check(
                    "Xen has no memory left.",
                    "Lower `memory` or dom0_mem, or give the machine more memory.",
                ),
            ),
        ],
    },
    Call {
        name: "XEN_DOMCTL_set_virq_handler",
        purpose: "It has the VM that serves a XenStore told of the ends of others, in place of Dom0.",
        refusals: &[
            (
                Errno::EACCES,
                check(
                    "The security policy (FLASK) does not let a VM with this label be told.",
                    "Give the VM that serves the XenStore the label that the policy has for it: `seclabel`, in Xen's example policy \
                     \"system_u:system_r:xenstore_t\".",
                ),
            ),
            (
                Errno::EBUSY,
                since(
                    (4, 21),
                    "The domain that is told so far has bound the interrupt.",
                    "End whatever has bound VIRQ_DOM_EXC; db-boot itself does not when a VM serves a XenStore.",
                ),
            ),
            (
                Errno::EINVAL,
                check("The domain is on its way out.", "See why it ended: something else destroyed it."),
            ),
        ],
    },
    Call {
        name: "XENMEM_acquire_resource",
        purpose: "It finds the grant table of a new domain, to grant its rings to those that serve them.",
        refusals: &[(
            Errno::EINVAL,
            check("The domain may have no frame of a grant table.", "Set `max_grant_frames` to 1 at least."),
        )],
    },
    Call {
        name: "EVTCHNOP_alloc_unbound",
        purpose: "It makes an event channel of a domain that another may connect to, as for the console.",
        refusals: &[(
            Errno::ENOSPC,
            check(
                "The domain has as many ports as it may have.",
                "Raise `max_event_channels`: the console takes one, a XenStore one, each channel one.",
            ),
        )],
    },
    Call {
        name: "EVTCHNOP_bind_interdomain",
        purpose: "It connects the builder to an event channel of a domain, as for the console.",
        refusals: &[
            (
                Errno::EINVAL,
                check(
                    "The other port is closed, or waits for another domain.",
                    "The domain has closed its console's port.",
                ),
            ),
            (Errno::ENOSPC, check("The caller has no port left.", "Start fewer VMs in one platform.")),
        ],
    },
    Call {
        name: "XEN_DOMCTL_iomem_permission",
        purpose: "It lets a domain map memory of a device (`iomem`).",
        refusals: &[
            (
                Errno::EPERM,
                check(
                    "Dom0 itself may not map a page of the range: Xen keeps it, as it keeps the interrupt controllers and whatever its security \
                     policy says.",
                    "Leave these pages out of `iomem`.",
                ),
            ),
            (Errno::EINVAL, check("The range is empty, or wraps around.", "Correct `iomem`.")),
        ],
    },
    Call {
        name: "XEN_DOMCTL_ioport_permission",
        purpose: "It lets a domain use I/O ports (`ioports`).",
        refusals: &[
            (
                Errno::EPERM,
                check(
                    "Dom0 itself may not use a port of the range: Xen keeps the interrupt controllers (20-21, a0-a1), the timer (40-43, 61), \
                     its console and the ports of PCI configuration.",
                    "Leave these ports out of `ioports`.",
                ),
            ),
            (Errno::EINVAL, check("The range is empty, or goes beyond port ffff.", "Correct `ioports`.")),
        ],
    },
    Call {
        name: "XEN_DOMCTL_memory_mapping",
        purpose: "It maps memory of a device into a PVH guest (`iomem`).",
        refusals: &[
            (
                Errno::EPERM,
                check(
                    "Dom0 itself or the guest may not map a page of the range, or the guest has a page there that cannot be replaced.",
                    "Leave these pages out of `iomem`, or put them elsewhere (`@PAGE`).",
                ),
            ),
            (
                Errno::EINVAL,
                check(
                    "The range is empty, or goes beyond the addresses that the processor or the guest has.",
                    "Correct `iomem`; give the pages a lower number of the guest's (`@PAGE`).",
                ),
            ),
        ],
    },
    Call {
        name: "XEN_DOMCTL_ioport_mapping",
        purpose: "It gives a PVH guest I/O ports of the machine (`ioports`).",
        refusals: &[
            (
                Errno::EPERM,
                check("Dom0 itself may not use a port of the range.", "Leave these ports out of `ioports`."),
            ),
            (Errno::EINVAL, check("The range is empty, or goes beyond port ffff.", "Correct `ioports`.")),
        ],
    },
    Call {
        name: "XEN_DOMCTL_irq_permission",
        purpose: "It lets a domain use an interrupt (`irqs`).",
        refusals: &[
            (
                Errno::EPERM,
                check(
                    "Dom0 itself may not use the interrupt, or has no name for it.",
                    "Leave interrupts out of `irqs` that Xen keeps, as its console's.",
                ),
            ),
            (Errno::EINVAL, check("There is no interrupt of that number.", "Correct `irqs`.")),
        ],
    },
    Call {
        name: "PHYSDEVOP_map_pirq",
        purpose: "It makes an interrupt of the machine known to a domain (`irqs`).",
        refusals: &[
            (
                Errno::EPERM,
                check(
                    "Xen keeps the interrupt, as it does its console's (4 for com1).",
                    "Remove it from `irqs`.",
                ),
            ),
            (Errno::EINVAL, check("The machine has no interrupt line of that number.", "Correct `irqs`.")),
        ],
    },
    Call {
        name: "XEN_DOMCTL_setvcpuaffinity",
        purpose: "It binds a vCPU to CPUs (`cpus`, `cpus_soft`).",
        refusals: &[(
            Errno::EINVAL,
            check(
                "None of the CPUs exists, or none is in the VM's CPU pool.",
                "Name a CPU that the machine has in `cpus`, or another `pool`.",
            ),
        )],
    },
    Call {
        name: "XEN_SYSCTL_cpupool_op",
        purpose: "It moves a domain to a CPU pool (`pool`), or asks for a pool's scheduler (`cpu_weight`, `cap`).",
        refusals: &[
            (
                Errno::ENOENT,
                check(
                    "There is no pool of that number.",
                    "Write another `pool`; without pools made by others there is only pool 0.",
                ),
            ),
            (
                Errno::EACCES,
                check(
                    "This Xen speaks no version of the machine's interface (sysctl) that the builder knows.",
                    "Remove `pool`, `cpu_weight` and `cap`.",
                ),
            ),
        ],
    },
    Call {
        name: "XEN_DOMCTL_scheduler_op",
        purpose: "It sets a domain's share of the CPUs (`cpu_weight`, `cap`).",
        refusals: &[(
            Errno::EINVAL,
            check("The value is not one that the pool's scheduler takes.", "Correct `cpu_weight` and `cap`."),
        )],
    },
    Call {
        name: "XEN_DOMCTL_hypercall_init",
        purpose: "It fills the kernel's hypercall page.",
        refusals: &[
            (
                Errno::EINVAL,
                check("The page is not the domain's.", "This is a defect of the builder; please report it."),
            ),
            (
                Errno::EPERM,
                check(
                    "The page cannot be written, because it is a page table.",
                    "Check the kernel's note HYPERCALL_PAGE: it must lie within its own segments.",
                ),
            ),
        ],
    },
    Call {
        name: "MMUEXT_PIN_L4_TABLE",
        purpose: "It hands the page tables of a PV guest to Xen, which checks every entry.",
        refusals: &[(
            Errno::EINVAL,
            check(
                "An entry maps a page table writable, a frame that is not the domain's, or has a bit that it must not have.",
                "Start Xen with guest_loglvl=all: its log names the entry. This is a defect of the builder; please report it.",
            ),
        )],
    },
    Call {
        name: "XEN_DOMCTL_setvcpucontext",
        purpose: "It gives a PV guest's first vCPU its registers.",
        refusals: &[
            (
                Errno::EINVAL,
                check(
                    "An address among the registers is not canonical, or the page tables are not pinned.",
                    "Check the kernel's notes ENTRY and VIRT_BASE (`domb inspect KERNEL`).",
                ),
            ),
            (
                Errno::EOPNOTSUPP,
                check(
                    "The vCPU has registers already, with other page tables.",
                    "This is a defect of the builder; please report it.",
                ),
            ),
        ],
    },
    Call {
        name: "XEN_DOMCTL_set_paging_mempool_size",
        purpose: "It gives Xen memory for the paging structures of a PVH guest.",
        refusals: &[(
            Errno::ENOMEM,
            check("Xen has no memory left for them.", "Lower `memory` or dom0_mem, or start fewer VMs."),
        )],
    },
    Call {
        name: "XEN_DOMCTL_unpausedomain",
        purpose: "It starts a domain.",
        refusals: &[(Errno::EINVAL, check("The domain is not paused.", "Something else has started it."))],
    },
    Call {
        name: "GNTTABOP_setup_table",
        purpose: "It lets a domain's own grant table grow.",
        refusals: &[(
            Errno::ENOSPC,
            check("The table may not have so many frames.", "Raise `max_grant_frames`."),
        )],
    },
];
