//! The keys that we know and do not read: refused with the reason, or of no effect.
//!
//! They are those of xl.cfg(5), those that xl reads without the manual saying so, and those of the predecessor.

use std::fmt;

use crate::config::syntax::Value;

/// Why we do not support a key that we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It describes a device whose backend would run in another domain, or the program that emulates it.
    Devices,
    /// It gives a VM a PCI device.
    Passthrough,
    /// It changes what the processor's virtualisation gives a PVH guest.
    Virtualisation,
    /// It only means something on Arm.
    ArmOnly,
    /// It chooses the program that finds the kernel inside the guest's disk.
    Bootloader,
    /// It places a VM on NUMA nodes.
    Placement,
    /// It is about a scheduler that we do not set up.
    Scheduler,
    /// It is about what the guest sees of CPU and time.
    CpuAndTime,
    /// It is about XenStore, which VMs do not have yet.
    XenStore,
    /// It belongs to the toolstack of a Linux Dom0.
    Toolstack,
    /// What happens at an event that we do not tell apart yet.
    Events,
    /// It has long been replaced by another key.
    Replaced(&'static str),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Devices => {
                "virtual devices need a backend domain, and there is none yet: a VM has its RAM disk"
            }
            Self::Passthrough => "VMs get no PCI devices",
            Self::Virtualisation => "PVH guests get what Xen gives them by default",
            Self::ArmOnly => "it is for Arm machines",
            Self::Bootloader => "there is no guest disk to boot from: name the kernel with `kernel`",
            Self::Placement => "Xen places the VM's memory where it likes",
            Self::Scheduler => "of Xen's schedulers, credit and credit2 can be told `cpu_weight` and `cap`",
            Self::CpuAndTime => "Xen's own choice applies",
            Self::XenStore => "VMs have no XenStore yet",
            Self::Toolstack => "it is for the toolstack of a Linux Dom0, which is not there",
            Self::Events => "a VM that ends so is treated as if it had crashed (`on_crash`)",
            Self::Replaced(by) => return write!(f, "it has been replaced by `{by}`"),
        })
    }
}

/// What becomes of a key that we know and do not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// It is an error, for this reason, unless its value [asks for nothing](asks_for_nothing).
    Refused(Reason),
    /// It has no effect on PV and PVH guests, whoever builds them; the reason.
    NoEffect(&'static str),
}

/// What becomes of the key `name`; `None` if it is supported or unknown.
pub fn unread(name: &str) -> Option<Unread> {
    let refused = REFUSED.iter().find(|(_, names)| names.contains(&name));
    let refused = refused.map(|(reason, _)| Unread::Refused(*reason));
    let idle = || NO_EFFECT.iter().find(|(_, names)| names.contains(&name));
    refused.or_else(|| idle().map(|(reason, _)| Unread::NoEffect(reason)))
}

/// Whether a refused key has a value by which the VM is as it would be without the line: a list of no devices, a switch in the
/// position that Xen has it in.
pub fn asks_for_nothing(name: &str, value: &Value) -> bool {
    let number = match value {
        Value::List(items) => return items.is_empty(),
        Value::Number(number) => *number,
        Value::String(text) => match text.parse() {
            Ok(number) => number,
            Err(_) => return text.is_empty() || USUAL_WORDS.contains(&(name, text.as_str())),
        },
    };
    let usual = if SWITCHED_ON.contains(&name) { Some(1) } else { SWITCHED_OFF.contains(&name).then_some(0) };
    usual == Some(number)
}

/// All names of keys that we know and do not read.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    let refused = REFUSED.iter().flat_map(|(_, names)| names.iter());
    refused.chain(NO_EFFECT.iter().flat_map(|(_, names)| names.iter())).copied()
}

/// Switches that are on for every PVH guest, and mean nothing to a PV guest.
const SWITCHED_ON: &[&str] = &["acpi", "apic"];

/// Switches that are off for every VM.
const SWITCHED_OFF: &[&str] = &[
    "nestedhvm",
    "pvshim",
    "altp2m",
    "e820_host",
    "gfx_passthru",
    "driver_domain",
    "localtime",
    "rtc_timeoffset",
    "vpmu",
    "vmtrace_buf_kb",
    "dm_restrict",
    "pci_permissive",
    "pci_msitranslate",
    "pci_seize",
    "pci_power_mgmt",
    "bootloader_restrict",
    "trap_unmapped_accesses",
];

/// Words that say what is so without them.
const USUAL_WORDS: &[(&str, &str)] = &[("altp2m", "disabled"), ("tee", "none"), ("gic_version", "default")];

/// Keys that change nothing about a PV or PVH guest.
#[rustfmt::skip]
const NO_EFFECT: &[(&str, &[&str])] = &[
    ("xl, too, reads it for HVM guests alone", &[
        "boot", "hdtype", "bios", "bios_path_override", "firmware_override", "pae", "acpi_s3", "acpi_s4",
        "acpi_laptop_slate", "nx", "hpet", "vpt_align", "timer_mode", "altp2mhvm", "acpi_firmware",
        "smbios_firmware", "smbios", "ms_vm_genid", "mmio_hole", "xen_platform_pci", "xen_platform_pci_bar_uc",
        "viridian", "hvm_pirq", "rdm_mem_boundary", "mca_caps", "videoram", "stdvga", "vga", "vnc", "vnclisten",
        "vncdisplay", "vncunused", "vncpasswd", "vncconsole", "vncviewer", "keymap", "sdl", "opengl", "display",
        "xauthority", "nographic", "spice", "spicehost", "spiceport", "spicetls_port",
        "spicedisable_ticketing", "spicepasswd", "spiceagent_mouse", "spicevdagent", "spice_clipboard_sharing",
        "spiceusbredirection", "spice_image_compression", "spice_streaming_video", "serial", "soundhw",
        "vkb_device", "usb", "usbversion", "usbdevice", "vendor_device",
    ]),
    ("VMs are not migrated", &["disable_migrate"]),
    ("it was for toolstacks that are gone", &["xend_suspend_evtchn_compat", "suppress_spurious_page_faults"]),
];

/// Keys that would change something.
#[rustfmt::skip]
const REFUSED: &[(Reason, &[&str])] = &[
    (Reason::Devices, &[
        "disk", "vif", "vif2", "vtpm", "p9", "pvcalls", "vfb", "channel", "usbctrl", "usbdev", "vdispl", "vsnd",
        "vkb", "virtio", "device_model_version", "device_model_override", "device_model_args",
        "device_model_args_pv", "device_model_args_hvm", "device_model_stubdomain_override",
        "device_model_stubdomain_seclabel", "device_model_user", "dm_restrict", "stubdomain_kernel",
        "stubdomain_cmdline", "stubdomain_ramdisk", "stubdomain_memory", "device_model", "tpm", "tpmmgr",
        "backend",
    ]),
    (Reason::Passthrough, &[
        "pci", "pci_permissive", "pci_msitranslate", "pci_seize", "pci_power_mgmt", "gfx_passthru", "rdm", "dtdev",
        "e820_host",
    ]),
    (Reason::Virtualisation, &[
        "acpi", "apic", "altp2m", "altp2m_count", "nestedhvm", "pvshim",
        "pvshim_path", "pvshim_cmdline", "pvshim_extra",
    ]),
    (Reason::ArmOnly, &[
        "gic_version", "vuart", "sve", "llc_colors", "nr_spis", "trap_unmapped_accesses", "arm_sci", "tee",
        "device_tree", "force_assign_without_iommu",
    ]),
    (Reason::Bootloader, &[
        "bootloader", "bootloader_args", "bootloader_restrict", "bootloader_user", "firmware",
    ]),
    (Reason::Placement, &["vnuma", "nodes"]),
    (Reason::Scheduler, &["period", "budget", "slice", "latency", "extratime"]),
    (Reason::CpuAndTime, &[
        "localtime", "rtc_timeoffset", "vpmu", "vmtrace_buf_kb",
    ]),
    (Reason::XenStore, &["xenstore_feature_mask", "xenstore_quota"]),
    (Reason::Toolstack, &["driver_domain", "claim_mode"]),
    (Reason::Events, &["on_soft_reset"]),
    (Reason::Replaced("type"), &["hvm"]),
];
