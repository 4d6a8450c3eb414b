//! Why a domain could not be built.

use core::fmt;

use hypercall::{CallError, GuestKinds, WindowError, XenVersion};
use thiserror::Error;
use xen_abi::{DomId, Errno, PageCount, Port};

/// A step of building.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Its security labels are looked up.
    Label,
    /// The domain comes into being.
    Create,
    /// Its limits are set.
    Limits,
    /// It is allowed the use of devices.
    Access,
    /// What it sees of the processor is set.
    Processor,
    /// Its vCPUs get their CPUs, and their share of them.
    Place,
    /// It gets its memory.
    Populate,
    /// It gets the port of its console.
    Ports,
    /// Its memory is filled.
    Load,
    /// What Xen and the guest tell each other by is set: the page tables of a PV guest, the parameters of a PVH guest.
    Seal,
    /// Its first vCPU gets registers.
    Vcpu,
    /// It is started.
    Start,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Label => "label",
            Self::Create => "create",
            Self::Limits => "limits",
            Self::Access => "access",
            Self::Processor => "processor",
            Self::Place => "place",
            Self::Populate => "populate",
            Self::Ports => "ports",
            Self::Load => "load",
            Self::Seal => "seal",
            Self::Vcpu => "vcpu",
            Self::Start => "start",
        })
    }
}

/// Why a domain could not be built. The domain is gone again when this is returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BuildError {
    /// Xen refused a call.
    #[error("step={step}: {error}: {}", advice(*step, error))]
    Call {
        /// The step that made the call.
        step: Step,
        /// The call and Xen's answer.
        error: CallError,
    },
    /// Frames of the new domain could not be mapped.
    #[error("step={step}: {error}: {}", window_advice(error))]
    Window {
        /// The step that needed them.
        step: Step,
        /// What went wrong.
        error: WindowError,
    },
    /// Xen has not enough memory.
    #[error(
        "step=populate: Xen gave domain {domain} {got} of {wanted} pages ({} of {} KiB) and has no more; \
         lower the VM's `memory`, start fewer VMs, lower dom0_mem, or give the machine more memory",
        got.kib(), wanted.kib()
    )]
    OutOfMemory {
        /// The domain.
        domain: DomId,
        /// Pages it got.
        got: PageCount,
        /// Pages it was to get.
        wanted: PageCount,
    },
    /// The machine, or its Xen, cannot run PVH guests at all.
    #[error(
        "step=create: this Xen cannot run PVH guests here, it has no {missing}: start QEMU with -cpu qemu64,+svm,+npt, or on \
         hardware enable VT-x or AMD-V in the firmware; a kernel that can run as PV starts with type = \"pv\""
    )]
    NoPvh {
        /// What is missing.
        missing: &'static str,
    },
    /// This Xen has no shadow paging.
    #[error(
        "step=create: this Xen has no shadow paging, it was built without CONFIG_SHADOW_PAGING: remove `hap = 0`, or use a Xen that has it"
    )]
    NoShadow,
    /// This Xen runs no 32-bit PV guests.
    #[error(
        "step=create: the kernel is a 32-bit PV kernel, and this Xen runs no such guests: it offers {offered}; use a 64-bit kernel, or \
         type = \"pvh\" if the kernel has the note PHYS32_ENTRY, or a Xen that is built with CONFIG_PV32 and not started with pv=no-32"
    )]
    NoPv32 {
        /// What it runs.
        offered: GuestKinds,
    },
    /// A 32-bit guest got memory whose address it cannot be told.
    #[error(
        "step=load: Xen has put {what} of the 32-bit domain {domain} above 4 GiB, which it cannot be told: restart the machine, or use \
         a 64-bit kernel"
    )]
    OutOfReach {
        /// The domain.
        domain: DomId,
        /// What is out of its reach.
        what: &'static str,
    },
    /// This Xen is older than what a VM's file asks for.
    #[error("step=create: Xen {xen} has no `{setting}`: use Xen {since} or newer, or remove the line")]
    TooOld {
        /// The key in the VM file.
        setting: &'static str,
        /// The Xen underneath.
        xen: XenVersion,
        /// The first release that has it.
        since: &'static str,
    },
    /// A step was asked for of a domain that is complete, or failed before, or was begun with a plan of another kind; this is a defect of
    /// the caller.
    #[error(
        "step=load: the domain is not under construction; this is a defect in the builder, please report it"
    )]
    Over,
    /// Xen does not accept what a domain is to see of the processor.
    #[error(
        "step=processor: {error}: it objects to {}; check `cpuid` against the machine",
        LeafText(*leaf)
    )]
    Processor {
        /// The call and Xen's answer.
        error: CallError,
        /// The leaf of CPUID that Xen objects to, if it says which.
        leaf: Option<u32>,
    },
    /// A leaf of CPUID is to be changed that a domain of this kind does not have.
    #[error(
        "step=processor: CPUID has no {}{} for this VM on this machine: remove it from `cpuid`",
        LeafText(Some(*leaf)),
        SubleafText(*subleaf)
    )]
    NoLeaf {
        /// The leaf.
        leaf: u32,
        /// Its subleaf, if one was named.
        subleaf: Option<u32>,
    },
    /// A VM has a label, and this Xen has none.
    #[error(
        "step=label: this Xen has no security labels: start one that is built with FLASK (CONFIG_XSM_FLASK) with flask=enforcing, \
         or remove `seclabel`"
    )]
    NoLabels,
    /// The scheduler of a CPU pool does not deal in shares.
    #[error(
        "step=place: the scheduler of CPU pool {pool} (number {scheduler}) has no weights and caps: start Xen with sched=credit2 \
         or sched=credit, or remove `cpu_weight` and `cap`"
    )]
    NoShares {
        /// The scheduler's number in Xen's headers.
        scheduler: u32,
        /// The pool.
        pool: u32,
    },
    /// Xen's account of a new domain's state lacks something.
    #[error(
        "step vcpu: the state that Xen tells of domain {domain} has no {what}: this Xen is newer than the ones this builder \
         knows (4.14 to 4.23)"
    )]
    NoState {
        /// The domain.
        domain: DomId,
        /// What is not there.
        what: &'static str,
    },
    /// A port that the domain's command line names is not the one that Xen opened.
    #[error(
        "step=ports: Xen opened port {got} of domain {domain} for domain {client}, and its command line says {promised}: this Xen \
         numbers ports differently from those this builder knows; start the VMs without channels and without [handoff]"
    )]
    Port {
        /// The domain.
        domain: DomId,
        /// Whom the port is for.
        client: DomId,
        /// What the command line says.
        promised: Port,
        /// What Xen opened.
        got: Port,
    },
    /// The plan and the domain do not agree: a defect of the builder, reported rather than hidden.
    #[error(
        "step={step}: domain {domain} has no frame for {what}; this is a defect in the builder, please report it"
    )]
    NoFrame {
        /// The step that looked for it.
        step: Step,
        /// The domain.
        domain: DomId,
        /// What the frame was for.
        what: &'static str,
    },
}

impl BuildError {
    /// For `map_err`: a refused call in `step`.
    pub(crate) fn call(step: Step) -> impl Fn(CallError) -> Self {
        move |error| Self::Call { step, error }
    }

    /// For `map_err`: a refused mapping in `step`.
    pub(crate) fn window(step: Step) -> impl Fn(WindowError) -> Self {
        move |error| Self::Window { step, error }
    }

    /// The step that failed.
    pub fn step(&self) -> Step {
        match self {
            Self::Call { step, .. } | Self::Window { step, .. } | Self::NoFrame { step, .. } => *step,
            Self::OutOfMemory { .. } => Step::Populate,
            Self::Port { .. } => Step::Ports,
            Self::NoLabels => Step::Label,
            Self::Processor { .. } | Self::NoLeaf { .. } => Step::Processor,
            Self::NoPvh { .. } | Self::NoShadow | Self::NoPv32 { .. } | Self::TooOld { .. } => Step::Create,
            Self::NoShares { .. } => Step::Place,
            Self::Over | Self::OutOfReach { .. } => Step::Load,
            Self::NoState { .. } => Step::Vcpu,
        }
    }
}

/// A leaf of CPUID in words.
struct LeafText(Option<u32>);

impl fmt::Display for LeafText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(leaf) => write!(f, "leaf {leaf:#x}"),
            None => f.write_str("the whole of it"),
        }
    }
}

/// A subleaf in words, behind its leaf.
struct SubleafText(Option<u32>);

impl fmt::Display for SubleafText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |subleaf| write!(f, ", subleaf {subleaf}"))
    }
}

/// What to do about frames that could not be mapped.
fn window_advice(error: &WindowError) -> &'static str {
    match error {
        WindowError::Refused { errno: Errno::ESRCH, .. } => "the domain is gone: something else destroyed it",
        WindowError::Refused { errno: Errno::EPERM | Errno::EACCES, .. } => {
            "this domain may not map others' memory: the builder has to be Dom0, or be labelled as a domain builder by Xen's \
             security policy"
        }
        WindowError::Refused { .. } => "with guest_loglvl=all Xen logs why it refused",
        WindowError::Own | WindowError::TooMany { .. } => "this is a defect in the builder, please report it",
        WindowError::Exhausted { .. } => "start fewer VMs in one platform",
    }
}

/// What an error number means for a step, and what to do about it.
fn advice(step: Step, error: &CallError) -> &'static str {
    match (step, error.errno) {
        (Step::Label, Errno::EINVAL) => {
            "the security policy has no such label: check `seclabel` and `init_seclabel` against the policy that Xen was started with"
        }
        (Step::Label, Errno::EACCES) => {
            "the security policy does not let this domain ask about labels, or change the VM's from `init_seclabel` to `seclabel`"
        }
        (Step::Create, Errno::EACCES) => {
            "the security policy (FLASK) does not let this domain create one with that label: check `seclabel` against what the policy \
             allows, or allow it; \"avc: denied\" in Xen's log says what was asked for"
        }
        (Step::Processor, Errno::EINVAL | Errno::ERANGE) => {
            "Xen does not take it: check `cpuid` and `tsc_mode` against what this Xen and the machine support"
        }
        (Step::Access, Errno::EPERM) => {
            "Xen keeps this device to itself, or does not know the interrupt: check `iomem`, `ioports` and `irqs` against what \
             the machine has"
        }
        (Step::Access, Errno::EINVAL) => {
            "the machine has no such device: check `iomem`, `ioports` and `irqs`"
        }
        (Step::Place, Errno::EINVAL) if error.call == "XEN_DOMCTL_scheduler_op" => {
            "the pool's scheduler does not take the VM's share: correct `cpu_weight` and `cap` (at most 100 for each vCPU)"
        }
        (Step::Place, Errno::EINVAL) => {
            "the VM's CPU pool has none of the CPUs it may run on: check `cpus` against the machine"
        }
        (Step::Place, Errno::ENOENT) => {
            "there is no such CPU pool: check `pool`; without pools made by others, all CPUs are in 0"
        }
        (_, Errno::EPERM | Errno::EACCES) => {
            "this domain may not do that: the builder has to be Dom0, or be labelled as a domain builder by Xen's security policy"
        }
        (_, Errno::ENOMEM) => {
            "Xen is out of memory: lower the VM's `memory` or `vcpus`, start fewer VMs, lower dom0_mem, or give the machine more memory"
        }
        (Step::Create, Errno::EEXIST) => {
            "a domain with this number exists already: change or remove the VM's `domid`"
        }
        (Step::Create, Errno::EINVAL) => {
            "Xen does not take this combination of settings: check `vcpus`, `max_grant_frames` and `max_maptrack_frames` against what \
             this Xen supports"
        }
        (Step::Create, Errno::EOPNOTSUPP | Errno::ENOSYS) => {
            "this Xen was built without what the VM needs (PV guests need CONFIG_PV, PVH guests CONFIG_HVM)"
        }
        (Step::Limits, Errno::EINVAL | Errno::E2BIG) => {
            "check `vcpus` and `maxmem` against what this Xen supports"
        }
        (Step::Ports, Errno::ENOSPC) => "the domain has no event-channel port left",
        (_, Errno::ESRCH) => "the domain is gone: something else destroyed it",
        (Step::Seal, _) => {
            "Xen does not accept the page tables (PV) or parameters (PVH) that were made; with guest_loglvl=all Xen logs the reason"
        }
        (Step::Vcpu, Errno::EINVAL) => {
            "Xen does not accept the registers: check the kernel's ENTRY and VIRT_BASE (PV) or PHYS32_ENTRY (PVH) notes"
        }
        _ => "Xen's own log (loglvl=all guest_loglvl=all) may say more",
    }
}
