//! Settings of a VM in words: what differs from the defaults.

use protocols::Settings;
use protocols::settings::{
    Access, Affinity, CpuidChange, Limits, NO_SUBLEAF, Paging, Placement, Processor, TscMode,
};

/// A line for each setting that is not the default: its name and its value.
pub(super) fn lines(settings: &Settings) -> Vec<(&'static str, String)> {
    let Settings { access, limits, placement, labels, processor, claims } = settings;
    let labels = [("label", labels.running.clone()), ("label, built", labels.building.clone())];
    let told = Some(claims.names().collect::<Vec<_>>().join(", ")).filter(|names| !names.is_empty());
    let rest = of_limits(limits)
        .into_iter()
        .chain(of_placement(placement))
        .chain(labels)
        .chain(of_processor(processor))
        .chain([("told", told)]);
    devices(access).into_iter().chain(rest.filter_map(|(name, value)| Some((name, value?)))).collect()
}

/// A line for each kind of device: its name and what of it.
pub(super) fn devices(access: &Access) -> Vec<(&'static str, String)> {
    let joined = |items: Vec<String>| Some(items.join(", ")).filter(|text| !text.is_empty());
    let memory = access.io_memory.iter().map(|range| {
        let last = range.first + (range.pages - 1);
        let place = range.guest.map_or(String::new(), |guest| format!(" at the guest's {guest:#x}"));
        format!("pages {:#x} to {last:#x}{place}", range.first)
    });
    let ports = access.io_ports.iter().map(|range| format!("{:#x} to {:#x}", range.first, range.last));
    let interrupts = access.interrupts.iter().map(u32::to_string);
    let lines = [
        ("I/O memory", joined(memory.collect())),
        ("I/O ports", joined(ports.collect())),
        ("interrupts", joined(interrupts.collect())),
    ];
    lines.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

fn of_processor(processor: &Processor) -> [(&'static str, Option<String>); 8] {
    let changes = processor.cpuid.iter().map(|change| {
        let CpuidChange { leaf, subleaf, register, ones, zeros, host } = *change;
        let subleaf = if subleaf == NO_SUBLEAF { String::new() } else { format!(",{subleaf}") };
        let parts = [("set", ones), ("clear", zeros), ("the machine's", host)];
        let parts = parts.into_iter().filter(|(_, mask)| *mask != 0);
        let parts = parts.map(|(what, mask)| format!("{what} {mask:#x}")).collect::<Vec<_>>().join(", ");
        format!("{leaf:#x}{subleaf} {register:?}: {parts}")
    });
    let changes = changes.collect::<Vec<_>>().join("; ");
    let mode = match processor.tsc {
        TscMode::Default => None,
        TscMode::AlwaysEmulate => Some("always emulated".to_owned()),
        TscMode::Native => Some("never emulated".to_owned()),
    };
    let paging = match processor.paging {
        Paging::Any => None,
        Paging::Nested => Some("nested".to_owned()),
        Paging::Shadow => Some("shadow".to_owned()),
    };
    [
        ("paging", paging),
        ("paging pool", processor.paging_pool_mib.map(|mib| format!("{mib} MiB"))),
        ("shadows", processor.shadows_in_sync.then(|| "never behind".to_owned())),
        ("vCPUs on", processor.online.map(|online| online.to_string())),
        ("TSC", mode),
        ("migration", processor.stays.then(|| "never".to_owned())),
        ("MSRs", processor.relaxed_msrs.then(|| "unknown ones read as 0".to_owned())),
        ("CPUID", Some(changes).filter(|text| !text.is_empty())),
    ]
}

fn of_limits(limits: &Limits) -> [(&'static str, Option<String>); 4] {
    let default = Limits::default();
    let changed = |value: u32, default: u32| (value != default).then(|| value.to_string());
    [
        ("ports", changed(limits.event_channels, default.event_channels)),
        ("grants", changed(limits.grant_frames, default.grant_frames).map(|text| text + " frames")),
        ("maptrack", changed(limits.maptrack_frames, default.maptrack_frames).map(|text| text + " frames")),
        ("grant version", limits.grant_version.map(|version| version.to_string())),
    ]
}

fn of_placement(placement: &Placement) -> [(&'static str, Option<String>); 5] {
    let affinity = |affinity: &Affinity| match affinity {
        Affinity::Any => None,
        Affinity::All(set) => Some(set.to_string()),
        Affinity::Each(sets) => {
            let sets = sets.iter().enumerate().map(|(vcpu, set)| format!("vCPU {vcpu}: {set}"));
            Some(sets.collect::<Vec<_>>().join("; "))
        }
    };
    [
        ("CPUs", affinity(&placement.hard)),
        ("CPUs, soft", affinity(&placement.soft)),
        ("weight", placement.weight.map(|weight| weight.to_string())),
        ("cap", placement.cap.map(|cap| format!("{cap} % of one CPU"))),
        ("pool", Some(placement.pool).filter(|pool| *pool != 0).map(|pool| pool.to_string())),
    ]
}
