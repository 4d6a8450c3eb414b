//! Every field of a boot spec, for programs.

use protocols::settings::{
    Affinity, CpuSet, CpuidChange, IoMemory, IoPorts, NO_SUBLEAF, Paging, Register, TscMode,
};
use protocols::{BootSpec, ExitAction, Life, Settings, StoreRole};
use serde::Serialize;

/// What a boot spec says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SpecFacts {
    /// The VM's name.
    pub name: String,
    /// How it starts: `pv`, `pvh`.
    pub guest_kind: String,
    /// Its domain id, if it is fixed.
    pub domid: Option<u16>,
    /// Its UUID.
    pub uuid: String,
    /// Its vCPUs, those that are off when it starts included.
    pub vcpus: u32,
    /// Its vCPUs that are on when it starts.
    pub online_vcpus: u32,
    /// Memory it starts with, in KiB.
    pub memory_kib: u64,
    /// Memory it may grow to, in KiB.
    pub max_memory_kib: u64,
    /// The name of its kernel in the archive.
    pub kernel: String,
    /// The name of its RAM disk in the archive, if it has one.
    pub ramdisk: Option<String>,
    /// Its kernel's command line.
    pub command_line: String,
    /// What happens when it powers off: `destroy`, `preserve`, ...
    pub on_poweroff: String,
    /// What happens when it asks for a reboot.
    pub on_reboot: String,
    /// What happens when it crashes.
    pub on_crash: String,
    /// What happens when its watchdog goes off.
    pub on_watchdog: String,
    /// How often in a row it is restarted, where it is.
    pub restart_limit: u32,
    /// How long before the first restart, in milliseconds.
    pub restart_delay_ms: u32,
    /// Whether the platform ends when it ends badly.
    pub critical: bool,
    /// The VMs that it starts after.
    pub after: Vec<String>,
    /// The text on its console that shows that it is ready; none: it is when it has started.
    pub ready: Option<String>,
    /// The channels that it serves.
    pub channels: Vec<ChannelFacts>,
    /// Whether it serves the XenStore of others.
    pub serves_xenstore: bool,
    /// The domain id of the VM that serves its XenStore, if it has one.
    pub xenstore: Option<u16>,
    /// Whether the builder serves it a XenStore of its own.
    pub own_xenstore: bool,
    /// What it may do and get besides.
    pub settings: SettingsFacts,
    /// The modules that its RAM disk consists of; none: it is one.
    pub modules: Vec<ModuleFacts>,
}

/// A module of a PVH guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ModuleFacts {
    /// Its bytes.
    pub bytes: u64,
    /// Its command line.
    pub command_line: String,
}

/// A channel that a VM serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ChannelFacts {
    /// The domain id of its client.
    pub client: u16,
    /// The server's port.
    pub port: u32,
}

/// Devices, limits and places of a VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SettingsFacts {
    /// Pages of the machine's I/O memory that it may map.
    pub io_memory: Vec<IoMemoryFacts>,
    /// I/O ports that it may use.
    pub io_ports: Vec<IoPortsFacts>,
    /// Interrupts that it may bind.
    pub interrupts: Vec<u32>,
    /// The highest event channel it may have.
    pub max_event_channels: u32,
    /// Frames of its grant table.
    pub max_grant_frames: u32,
    /// Frames of its table of mapped grants.
    pub max_maptrack_frames: u32,
    /// The highest version of its grant table; none: what Xen has.
    pub max_grant_version: Option<u8>,
    /// The CPUs that its vCPUs run on.
    pub cpus: CpusFacts,
    /// The CPUs that its vCPUs prefer.
    pub cpus_soft: CpusFacts,
    /// Its share of the CPUs beside others; none: the scheduler's default.
    pub cpu_weight: Option<u16>,
    /// The most CPU time it gets, in percent of one CPU; none: the scheduler's default.
    pub cap: Option<u16>,
    /// Its CPU pool.
    pub pool: u32,
    /// Its security label; none: that of Xen's own tools.
    pub label: Option<String>,
    /// The label that it is built with; none: the one that it runs with.
    pub build_label: Option<String>,
    /// How it reads the time-stamp counter: `default`, `always_emulate`, `native`.
    pub tsc_mode: &'static str,
    /// Whether it stays on the machine for ever.
    pub nomigrate: bool,
    /// Whether unknown model-specific registers read as 0.
    pub msr_relaxed: bool,
    /// What CPUID answers otherwise than by default.
    pub cpuid: Vec<CpuidFacts>,
    /// Who translates a PVH guest's memory: the processor (true), or Xen; none: the processor where it can.
    pub hap: Option<bool>,
    /// Whether shadows of its page tables may be behind them.
    pub oos: bool,
    /// What Xen keeps for tables of its paging, in MiB; none: what Xen's own tools give.
    pub shadow_memory: Option<u32>,
    /// What it is told that it is.
    pub dom_flags: Vec<&'static str>,
}

/// A register of CPUID that is changed; bits that are in no mask are as by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct CpuidFacts {
    /// The leaf.
    pub leaf: u32,
    /// The subleaf; none: the leaf has none.
    pub subleaf: Option<u32>,
    /// `eax` to `edx`.
    pub register: &'static str,
    /// Bits that are 1.
    pub ones: u32,
    /// Bits that are 0.
    pub zeros: u32,
    /// Bits that are the machine's.
    pub host: u32,
}

impl From<&CpuidChange> for CpuidFacts {
    fn from(change: &CpuidChange) -> Self {
        let CpuidChange { leaf, subleaf, register, ones, zeros, host } = *change;
        let register = match register {
            Register::Eax => "eax",
            Register::Ebx => "ebx",
            Register::Ecx => "ecx",
            Register::Edx => "edx",
        };
        Self { leaf, subleaf: (subleaf != NO_SUBLEAF).then_some(subleaf), register, ones, zeros, host }
    }
}

/// Consecutive pages of I/O memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct IoMemoryFacts {
    /// The number of the first page.
    pub first_page: u64,
    /// How many.
    pub pages: u64,
    /// Where a PVH guest finds the first; none: by the machine's number.
    pub guest_page: Option<u64>,
}

/// Consecutive I/O ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct IoPortsFacts {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
}

/// CPUs of the machine, as a VM file writes them: null for any, a text for all vCPUs, a list with a text for each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum CpusFacts {
    /// Any.
    Any(()),
    /// The same for all vCPUs.
    All(String),
    /// Those of each vCPU.
    Each(Vec<String>),
}

impl From<&BootSpec> for SpecFacts {
    fn from(spec: &BootSpec) -> Self {
        // Without `..`, so that a new field cannot be forgotten here.
        let BootSpec {
            name,
            kind,
            domid,
            uuid,
            vcpus,
            memory_kib,
            max_memory_kib,
            kernel,
            ramdisk,
            command_line,
            on_poweroff,
            on_reboot,
            on_crash,
            life: Life { on_watchdog, restart_limit, restart_delay_ms, critical, after, ready },
            channels: _,
            settings,
            store,
            modules,
        } = spec;
        let word = |action: &ExitAction| format!("{action:?}").to_lowercase();
        Self {
            name: name.clone(),
            guest_kind: format!("{kind:?}").to_lowercase(),
            domid: *domid,
            uuid: ::uuid::Uuid::from_bytes(*uuid).to_string(),
            vcpus: *vcpus,
            online_vcpus: spec.online_vcpus(),
            memory_kib: *memory_kib,
            max_memory_kib: *max_memory_kib,
            kernel: kernel.clone(),
            ramdisk: ramdisk.clone(),
            command_line: command_line.clone(),
            on_poweroff: word(on_poweroff),
            on_reboot: word(on_reboot),
            on_crash: word(on_crash),
            on_watchdog: word(on_watchdog),
            restart_limit: *restart_limit,
            restart_delay_ms: *restart_delay_ms,
            critical: *critical,
            after: after.clone(),
            ready: ready.clone(),
            channels: spec.channel_ports().map(|(client, port)| ChannelFacts { client, port }).collect(),
            serves_xenstore: *store == StoreRole::Server,
            xenstore: match store {
                StoreRole::Client { server } => Some(*server),
                StoreRole::None | StoreRole::Server | StoreRole::Own => None,
            },
            own_xenstore: *store == StoreRole::Own,
            settings: settings.into(),
            modules: modules
                .iter()
                .map(|module| ModuleFacts { bytes: module.bytes, command_line: module.command_line.clone() })
                .collect(),
        }
    }
}

impl From<&Settings> for SettingsFacts {
    fn from(settings: &Settings) -> Self {
        let Settings { access, limits, placement, labels, processor, claims } = settings;
        Self {
            io_memory: access.io_memory.iter().map(IoMemoryFacts::from).collect(),
            io_ports: access.io_ports.iter().map(IoPortsFacts::from).collect(),
            interrupts: access.interrupts.clone(),
            max_event_channels: limits.event_channels,
            max_grant_frames: limits.grant_frames,
            max_maptrack_frames: limits.maptrack_frames,
            max_grant_version: limits.grant_version,
            cpus: (&placement.hard).into(),
            cpus_soft: (&placement.soft).into(),
            cpu_weight: placement.weight,
            cap: placement.cap,
            pool: placement.pool,
            label: labels.running.clone(),
            build_label: labels.building.clone(),
            tsc_mode: match processor.tsc {
                TscMode::Default => "default",
                TscMode::AlwaysEmulate => "always_emulate",
                TscMode::Native => "native",
            },
            nomigrate: processor.stays,
            msr_relaxed: processor.relaxed_msrs,
            cpuid: processor.cpuid.iter().map(CpuidFacts::from).collect(),
            hap: match processor.paging {
                Paging::Any => None,
                Paging::Nested => Some(true),
                Paging::Shadow => Some(false),
            },
            oos: !processor.shadows_in_sync,
            shadow_memory: processor.paging_pool_mib,
            dom_flags: claims.names().collect(),
        }
    }
}

impl From<&IoMemory> for IoMemoryFacts {
    fn from(range: &IoMemory) -> Self {
        Self { first_page: range.first, pages: range.pages, guest_page: range.guest }
    }
}

impl From<&IoPorts> for IoPortsFacts {
    fn from(range: &IoPorts) -> Self {
        Self { first: range.first, last: range.last }
    }
}

impl From<&Affinity> for CpusFacts {
    fn from(affinity: &Affinity) -> Self {
        match affinity {
            Affinity::Any => Self::Any(()),
            Affinity::All(set) => Self::All(set.to_string()),
            Affinity::Each(sets) => Self::Each(sets.iter().map(CpuSet::to_string).collect()),
        }
    }
}
