//! What db-server serves, for people and for programs.

use protocols::ServerSpec;
use protocols::message::Quota;
use protocols::server::{Controller, ImageAccess, Orphans, Rights};
use protocols::settings::Access;
use serde::Serialize;

use super::settings::devices;
use super::{IoMemoryFacts, IoPortsFacts};

/// What db-server serves, and to whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServerFacts {
    /// The most memory of its store of images, in KiB.
    pub store_kib: u64,
    /// Who may ask it for VMs.
    pub controllers: Vec<ControllerFacts>,
}

/// A VM that may ask for VMs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ControllerFacts {
    /// Its name.
    pub vm: String,
    /// Memory that its VMs may have together, in KiB.
    pub memory_kib: u64,
    /// How many VMs it may have.
    pub vms: u32,
    /// The lowest domain id that it may ask for; none: Xen chooses.
    pub first_domid: Option<u16>,
    /// The highest.
    pub last_domid: Option<u16>,
    /// Bytes of its images in the store.
    pub store_bytes: u64,
    /// Requests that it may have under way.
    pub requests: u32,
    /// Whether it may use every entry of the RAM disk.
    pub any_image: bool,
    /// The entries of the RAM disk that it may use, where not every one.
    pub images: Vec<String>,
    /// I/O memory that it may give to its VMs.
    pub io_memory: Vec<IoMemoryFacts>,
    /// I/O ports likewise.
    pub io_ports: Vec<IoPortsFacts>,
    /// Interrupts likewise.
    pub interrupts: Vec<u32>,
    /// Whether it may choose where its VMs run.
    pub placement: bool,
    /// Security labels that it may give them.
    pub labels: Vec<String>,
    /// What becomes of its VMs when it has ended for good: `keep` or `destroy`.
    pub orphans: String,
}

impl From<&ServerSpec> for ServerFacts {
    fn from(spec: &ServerSpec) -> Self {
        Self {
            store_kib: spec.store_kib,
            controllers: spec.controllers.iter().map(ControllerFacts::from).collect(),
        }
    }
}

impl From<&Controller> for ControllerFacts {
    fn from(controller: &Controller) -> Self {
        // Without `..`, so that a new field cannot be forgotten here.
        let Controller { vm, quota, images, may, orphans } = controller;
        let Quota { memory_kib, vms, first_domid, last_domid, store_bytes, requests } = *quota;
        let Rights { devices: Access { io_memory, io_ports, interrupts }, placement, labels } = may;
        let fixed = |domid: u16| Some(domid).filter(|domid| *domid != 0);
        let listed = match images {
            ImageAccess::Listed(names) => names.clone(),
            ImageAccess::None | ImageAccess::Any => Vec::new(),
        };
        Self {
            vm: vm.clone(),
            memory_kib,
            vms,
            first_domid: fixed(first_domid),
            last_domid: fixed(last_domid),
            store_bytes,
            requests,
            any_image: *images == ImageAccess::Any,
            images: listed,
            io_memory: io_memory.iter().map(IoMemoryFacts::from).collect(),
            io_ports: io_ports.iter().map(IoPortsFacts::from).collect(),
            interrupts: interrupts.clone(),
            placement: *placement,
            labels: labels.clone(),
            orphans: match orphans {
                Orphans::Keep => "keep",
                Orphans::Destroy => "destroy",
            }
            .into(),
        }
    }
}

/// A line for each thing that it says: a name and a value.
pub(super) fn lines(spec: &ServerSpec) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    if spec.store_kib > 0 {
        lines.push(("store", amount(spec.store_kib)));
    }
    for controller in &spec.controllers {
        lines.push(("controller", format!("{}: {}", controller.vm, terms(controller).join("; "))));
    }
    lines
}

/// What a controller may have and do.
fn terms(controller: &Controller) -> Vec<String> {
    let Controller { quota, images, may, orphans, .. } = controller;
    let Quota { memory_kib, vms, first_domid, last_domid, store_bytes, requests } = *quota;
    let mut terms = vec![format!("{} in {}", amount(memory_kib), counted(vms, "VM"))];
    match (first_domid, last_domid) {
        (0, _) => {}
        (first, last) if first == last => terms.push(format!("domain id {first}")),
        (first, last) => terms.push(format!("domain ids {first} to {last}")),
    }
    if store_bytes > 0 {
        terms.push(format!("{} of images", amount(store_bytes / 1024)));
    }
    match images {
        ImageAccess::None => {}
        ImageAccess::Listed(names) => terms.push(names.join(", ")),
        ImageAccess::Any => terms.push("any image of the RAM disk".into()),
    }
    terms.extend(devices(&may.devices).into_iter().map(|(name, value)| format!("{name} {value}")));
    if may.placement {
        terms.push("places of its choice".into());
    }
    if !may.labels.is_empty() {
        terms.push(format!("labels {}", may.labels.join(", ")));
    }
    terms.push(format!("{} at a time", counted(requests, "request")));
    if *orphans == Orphans::Destroy {
        terms.push("its VMs end with it".into());
    }
    terms
}

/// So many of something.
fn counted(number: u32, what: &str) -> String {
    if number == 1 { format!("{number} {what}") } else { format!("{number} {what}s") }
}

/// An amount of memory.
fn amount(kib: u64) -> String {
    if kib.is_multiple_of(1024) { format!("{} MiB", kib / 1024) } else { format!("{kib} KiB") }
}
