//! Every key that a VM file may hold: those we read, and those we know but do not support yet, with the reason.
//!
//! The known keys are those of xl.cfg(5) and of the predecessor's files, so that a file which works elsewhere is
//! told what we cannot do with it, instead of silently losing a device.

mod unread;

use std::fmt;

pub use unread::{Reason, Unread, asks_for_nothing, unread};

/// A key that we read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// `name = "NAME"`
    Name,
    /// `type = "pv"`
    Type,
    /// `builder = "generic"` (an older `type`)
    Builder,
    /// `loader = "generic"` (older still)
    Loader,
    /// `uuid = "UUID"`
    Uuid,
    /// `domid = NUMBER` (the predecessor's)
    Domid,
    /// `vcpus = NUMBER`
    Vcpus,
    /// `modules = ["FILE COMMAND LINE", ...]`
    Modules,
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
    /// `xenstore = 0 or 1` (ours)
    XenStore,
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
    /// `tsc_mode = "MODE"`
    TscMode,
    /// `nomigrate = 0 or 1`
    NoMigrate,
    /// `msr_relaxed = 0 or 1`
    MsrRelaxed,
    /// `cpuid = "host,..."` or a list
    Cpuid,
    /// `hap = 0 or 1`
    NestedPaging,
    /// `oos = 0 or 1`
    OutOfSync,
    /// `shadow_memory = MEBIBYTES`
    PagingPool,
    /// `dom_flags = ["FLAG", ...]` (the predecessor's)
    Claims,
}

/// The keys that we read, by the name they have in a file.
pub const SUPPORTED: &[(&str, Key)] = &[
    ("name", Key::Name),
    ("type", Key::Type),
    ("builder", Key::Builder),
    ("loader", Key::Loader),
    ("uuid", Key::Uuid),
    ("domid", Key::Domid),
    ("vcpus", Key::Vcpus),
    ("modules", Key::Modules),
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
    ("xenstore", Key::XenStore),
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
    ("tsc_mode", Key::TscMode),
    ("nomigrate", Key::NoMigrate),
    ("msr_relaxed", Key::MsrRelaxed),
    ("cpuid", Key::Cpuid),
    ("hap", Key::NestedPaging),
    ("oos", Key::OutOfSync),
    ("shadow_memory", Key::PagingPool),
    ("dom_flags", Key::Claims),
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

/// All names we know, supported or not.
pub fn all_names() -> impl Iterator<Item = &'static str> {
    SUPPORTED.iter().map(|(name, _)| *name).chain(unread::names())
}

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
