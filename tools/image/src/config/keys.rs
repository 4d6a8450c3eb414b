//! Every key that a VM file may hold: those we read, and those we know but do not support yet, with the reason.
//!
//! The known keys are those of xl.cfg(5) and of the predecessor's files, so that a file which works elsewhere is
//! told what we cannot do with it, instead of silently losing a device.

use std::fmt;

/// A key that we read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// `name = "NAME"`
    Name,
    /// `type = "pv"`
    Type,
    /// `uuid = "UUID"`
    Uuid,
    /// `domid = NUMBER` (the predecessor's)
    Domid,
    /// `vcpus = NUMBER`
    Vcpus,
    /// `maxvcpus = NUMBER`
    MaxVcpus,
    /// `memory = MEBIBYTES`
    Memory,
    /// `maxmem = MEBIBYTES`
    MaxMemory,
    /// `kernel = "PATH"`
    Kernel,
    /// `ramdisk = "PATH"`
    Ramdisk,
    /// `cmdline = "TEXT"`
    CommandLine,
    /// `root = "DEVICE"`
    Root,
    /// `extra = "TEXT"`
    Extra,
    /// `on_poweroff = "ACTION"`
    OnPoweroff,
    /// `on_reboot = "ACTION"`
    OnReboot,
    /// `on_crash = "ACTION"`
    OnCrash,
    /// `on_watchdog = "ACTION"`
    OnWatchdog,
    /// `restart_limit = NUMBER` (ours)
    RestartLimit,
    /// `restart_delay = MILLISECONDS` (ours)
    RestartDelay,
    /// `critical = 0 or 1` (ours)
    Critical,
    /// `after = ["NAME", ...]` (ours)
    After,
    /// `ready = "TEXT"` (ours)
    Ready,
    /// `channels = ["NAME", ...]` (ours)
    Channels,
    /// `kernel_hash = "SHA-256"` (the predecessor's)
    KernelHash,
    /// `ramdisk_hash = "SHA-256"` (the predecessor's)
    RamdiskHash,
    /// `iomem = ["START,NUM", ...]`
    IoMemory,
    /// `ioports = ["FIRST-LAST", ...]`
    IoPorts,
    /// `irqs = [NUMBER, ...]`
    Interrupts,
    /// `passthrough = "disabled"`
    Passthrough,
    /// `max_grant_frames = NUMBER`
    MaxGrantFrames,
    /// `max_maptrack_frames = NUMBER`
    MaxMaptrackFrames,
    /// `max_grant_version = 1 or 2`
    MaxGrantVersion,
    /// `max_event_channels = NUMBER`
    MaxEventChannels,
    /// `cpus = "CPUS"` or a list of them
    Cpus,
    /// `cpus_soft = "CPUS"` or a list of them
    CpusSoft,
    /// `cpu_weight = NUMBER`
    CpuWeight,
    /// `cap = PERCENT`
    Cap,
    /// `pool = NUMBER`
    Pool,
    /// `seclabel = "USER:ROLE:TYPE"`
    Label,
    /// `init_seclabel = "USER:ROLE:TYPE"`
    BuildLabel,
    /// `access_control = "USER:ROLE:TYPE"` (the predecessor's)
    AccessControl,
}

/// The keys that we read, by the name they have in a file.
pub const SUPPORTED: &[(&str, Key)] = &[
    ("name", Key::Name),
    ("type", Key::Type),
    ("uuid", Key::Uuid),
    ("domid", Key::Domid),
    ("vcpus", Key::Vcpus),
    ("maxvcpus", Key::MaxVcpus),
    ("memory", Key::Memory),
    ("maxmem", Key::MaxMemory),
    ("kernel", Key::Kernel),
    ("ramdisk", Key::Ramdisk),
    ("cmdline", Key::CommandLine),
    ("root", Key::Root),
    ("extra", Key::Extra),
    ("on_poweroff", Key::OnPoweroff),
    ("on_reboot", Key::OnReboot),
    ("on_crash", Key::OnCrash),
    ("on_watchdog", Key::OnWatchdog),
    ("restart_limit", Key::RestartLimit),
    ("restart_delay", Key::RestartDelay),
    ("critical", Key::Critical),
    ("after", Key::After),
    ("ready", Key::Ready),
    ("channels", Key::Channels),
    ("kernel_hash", Key::KernelHash),
    ("ramdisk_hash", Key::RamdiskHash),
    ("iomem", Key::IoMemory),
    ("ioports", Key::IoPorts),
    ("irqs", Key::Interrupts),
    ("passthrough", Key::Passthrough),
    ("max_grant_frames", Key::MaxGrantFrames),
    ("max_maptrack_frames", Key::MaxMaptrackFrames),
    ("max_grant_version", Key::MaxGrantVersion),
    ("max_event_channels", Key::MaxEventChannels),
    ("cpus", Key::Cpus),
    ("cpus_soft", Key::CpusSoft),
    ("cpu_weight", Key::CpuWeight),
    ("cap", Key::Cap),
    ("pool", Key::Pool),
    ("seclabel", Key::Label),
    ("init_seclabel", Key::BuildLabel),
    ("access_control", Key::AccessControl),
];

impl Key {
    /// The key that has this name in a file.
    pub fn of_name(name: &str) -> Option<Self> {
        SUPPORTED.iter().find(|(known, _)| *known == name).map(|(_, key)| *key)
    }

    /// The name of the key in a file.
    pub fn name(self) -> &'static str {
        SUPPORTED.iter().find(|(_, key)| *key == self).map_or("", |(name, _)| name)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why we do not support a key that we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It describes a device whose backend would run in another domain, or the program that emulates it.
    Devices,
    /// It gives a VM a PCI device, or privileges.
    Passthrough,
    /// It only means something for HVM guests.
    HvmOnly,
    /// It only means something on Arm.
    ArmOnly,
    /// It chooses the program that finds the kernel inside the guest's disk.
    Bootloader,
    /// It places a VM on NUMA nodes.
    Placement,
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
            Self::Passthrough => "VMs get no PCI devices and no privileges yet",
            Self::HvmOnly => "it is for HVM guests, and only PV guests are built",
            Self::ArmOnly => "it is for Arm machines",
            Self::Bootloader => "there is no guest disk to boot from: name the kernel with `kernel`",
            Self::Placement => "Xen places the VM's memory where it likes",
            Self::CpuAndTime => "Xen's defaults for CPU features and time apply",
            Self::XenStore => "VMs have no XenStore yet",
            Self::Toolstack => "it is for the toolstack of a Linux Dom0, which is not there",
            Self::Events => "a VM that ends so is treated as if it had crashed (`on_crash`)",
            Self::Replaced(by) => return write!(f, "it has been replaced by `{by}`"),
        })
    }
}

/// The reason why the known key `name` is not supported; `None` if it is supported or unknown.
pub fn unsupported(name: &str) -> Option<Reason> {
    UNSUPPORTED.iter().find(|(_, names)| names.contains(&name)).map(|(reason, _)| *reason)
}

/// All names we know, supported or not.
pub fn all_names() -> impl Iterator<Item = &'static str> {
    let supported = SUPPORTED.iter().map(|(name, _)| *name);
    supported.chain(UNSUPPORTED.iter().flat_map(|(_, names)| names.iter().copied()))
}

/// The keys of xl.cfg(5), and those of the predecessor, that we do not support.
#[rustfmt::skip]
const UNSUPPORTED: &[(Reason, &[&str])] = &[
    (Reason::Devices, &[
        "disk", "vif", "vtpm", "p9", "pvcalls", "vfb", "channel", "usbctrl", "usbdev", "vdispl", "vsnd", "vkb",
        "virtio", "device_model_version", "device_model_override", "device_model_args", "device_model_args_pv",
        "device_model_args_hvm", "device_model_stubdomain_override", "device_model_stubdomain_seclabel",
        "device_model_user", "dm_restrict", "stubdomain_kernel", "stubdomain_cmdline", "stubdomain_ramdisk",
        "stubdomain_memory", "device_model", "tpm", "tpmmgr", "backend",
    ]),
    (Reason::Passthrough, &[
        "pci", "pci_permissive", "pci_msitranslate", "pci_seize", "pci_power_mgmt", "gfx_passthru", "rdm",
        "rdm_mem_boundary", "dtdev", "e820_host", "dom_flags",
    ]),
    (Reason::HvmOnly, &[
        "boot", "hdtype", "hap", "oos", "shadow_memory", "bios", "bios_path_override", "firmware", "pae", "acpi",
        "acpi_s3", "acpi_s4", "acpi_laptop_slate", "apic", "nx", "hpet", "altp2m", "altp2mhvm", "altp2m_count",
        "nestedhvm", "acpi_firmware", "smbios_firmware", "smbios", "ms_vm_genid", "mmio_hole", "xen_platform_pci",
        "xen_platform_pci_bar_uc", "viridian", "hvm_pirq", "videoram", "stdvga", "vga", "vnc", "vnclisten",
        "vncdisplay", "vncunused", "vncpasswd", "vncconsole", "vncviewer", "keymap", "sdl", "opengl", "display",
        "xauthority", "nographic", "spice", "spicehost", "spiceport", "spicetls_port", "spicedisable_ticketing",
        "spicepasswd", "spiceagent_mouse", "spicevdagent", "spice_clipboard_sharing", "spiceusbredirection",
        "spice_image_compression", "spice_streaming_video", "serial", "soundhw", "vkb_device", "usb",
        "usbversion", "usbdevice", "vendor_device", "pvshim", "pvshim_path", "pvshim_cmdline", "pvshim_extra",
        "timer_mode", "vpt_align",
    ]),
    (Reason::ArmOnly, &[
        "gic_version", "vuart", "sve", "llc_colors", "nr_spis", "trap_unmapped_accesses", "arm_sci", "tee",
        "device_tree", "force_assign_without_iommu",
    ]),
    (Reason::Bootloader, &["bootloader", "bootloader_args", "bootloader_restrict", "bootloader_user"]),
    (Reason::Placement, &[
        "vnuma", "nodes",
    ]),
    (Reason::CpuAndTime, &[
        "cpuid", "tsc_mode", "localtime", "rtc_timeoffset", "mca_caps", "msr_relaxed", "vpmu", "vmtrace_buf_kb",
    ]),
    (Reason::XenStore, &["xenstore_feature_mask", "xenstore_quota"]),
    (Reason::Toolstack, &[
        "nomigrate", "driver_domain", "xend_suspend_evtchn_compat", "claim_mode", "suppress_spurious_page_faults",
        "disable_migrate",
    ]),
    (Reason::Events, &["on_soft_reset"]),
    (Reason::Replaced("type"), &["builder", "hvm"]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_is_listed_twice() {
        let mut names: Vec<_> = all_names().collect();
        names.sort_unstable();
        let twice: Vec<_> = names.windows(2).filter(|pair| pair[0] == pair[1]).collect();
        assert!(twice.is_empty(), "{twice:?}");
    }

    #[test]
    fn the_keys_of_the_predecessor_are_known() {
        for name in ["dom_flags", "kernel_hash", "ramdisk_hash", "access_control", "irqs", "iomem", "ioports"]
        {
            assert!(all_names().any(|known| known == name), "{name}");
        }
    }
}
