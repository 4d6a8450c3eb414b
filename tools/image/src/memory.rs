//! How much memory each part of the machine needs.

use domain_plan::usual_paging_pool;
use kernel_image::UnpackingCost;
use protocols::server::Controller;
use protocols::{BootSpec, GuestKind, ServerSpec};
use xen_abi::PageCount;

/// One MiB in bytes.
pub const MIB: u64 = 1 << 20;

/// What db-boot needs beside its image, the RAM disk and unpacked kernels: its heap (parsed specs, plans, the
/// index of the RAM disk, tables of the guests' frames), its stack, its frame windows, its console buffers, and
/// the rounding of Xen's start-of-day area (up to 4 MiB, twice).
const BUILDER_SLACK: u64 = 12 * MIB;

/// What Xen needs for itself beside its tables: its image, its per-CPU areas, its console ring, and the low
/// memory that it keeps for DMA.
const XEN_BASE: u64 = 96 * MIB;
/// What Xen needs for each domain beside the domain's memory and the tables of a PVH guest's paging: its structures, its vCPUs, its grant
/// and event tables.
const XEN_PER_DOMAIN: u64 = 4 * MIB;
/// Xen's frame table and machine-to-physical map take 40 bytes for each 4 KiB page; this is rounded up to one in
/// so many bytes of machine memory.
const XEN_TABLES_SHARE: u64 = 64;
/// The smallest machine that `domb run` starts: firmware and GRUB unpack their images beside Xen's.
const SMALLEST_MACHINE: u64 = 512 * MIB;
/// The machine's memory is a multiple of this, as that of real machines.
const MACHINE_STEP: u64 = 64 * MIB;

/// What db-server needs for each controller: rings, the messages that are on their way, what it knows of its VMs.
const PER_CONTROLLER: u64 = 2 * MIB;
/// What db-server needs for each VM of a controller's: the XenStore that it serves it. A guest can fill twice as much.
const PER_SERVED: u64 = MIB / 16;
/// The most of that: where there are more VMs, those that fill their stores are not heard when memory is short.
const MOST_SERVED: u64 = 16 * MIB;
/// What db-server needs for VMs that are under construction, beside unpacked kernels: their plans and tables.
const CONSTRUCTION: u64 = 8 * MIB;
/// How much larger than its file a kernel is that was sent packed; Debian's grows to less than eight times its size.
const UNPACKED_TO_PACKED: u64 = 8;
/// What db-server gets at most for unpacking kernels that were sent to it.
const MOST_UNPACKED: u64 = 160 * MIB;

/// What db-server needs in order to serve, in bytes; `packed` is the largest cost of unpacking one of the kernels that it has and
/// controllers may name.
pub fn serving(server: &ServerSpec, packed: UnpackingCost) -> u64 {
    let count = u64::try_from(server.controllers.len()).unwrap_or(u64::MAX);
    let sent =
        server.controllers.iter().map(|controller| controller.quota.store_bytes).max().unwrap_or_default();
    let sent = sent.saturating_mul(UNPACKED_TO_PACKED).min(MOST_UNPACKED);
    let vms = server.controllers.iter().map(|controller| u64::from(controller.quota.vms));
    let guests = vms.fold(0, u64::saturating_add).saturating_mul(PER_SERVED).min(MOST_SERVED);
    let stored = u64::try_from(packed.total()).unwrap_or(u64::MAX);
    let store = server.store_kib.saturating_mul(1024);
    [PER_CONTROLLER.saturating_mul(count), CONSTRUCTION, guests, sent.max(stored)]
        .into_iter()
        .fold(store, u64::saturating_add)
}

/// What decides about the memory of db-boot, all in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuilderNeed {
    /// db-boot's image in memory: its segments, zero-filled parts included.
    pub image: u64,
    /// The RAM disk, which Xen puts into the memory of the domain it belongs to.
    pub archive: u64,
    /// What unpacking the kernels takes.
    pub unpacking: UnpackingCost,
    /// What [serving] takes, if it is db-server.
    pub serving: u64,
}

impl BuilderNeed {
    /// The value for Xen's `dom0_mem` in MiB.
    pub fn dom0_mem_mib(self) -> u64 {
        let contents = self
            .image
            .saturating_add(self.archive)
            .saturating_add(u64::try_from(self.unpacking.total()).unwrap_or(u64::MAX))
            .saturating_add(self.serving)
            .saturating_add(BUILDER_SLACK);
        // Two tables grow with the memory they describe: 8 bytes of page table and 8 bytes of
        // physical-to-machine map for each page of 4 KiB; one in 256 covers both, and once more their own need.
        contents.saturating_add(contents.div_ceil(256).saturating_mul(2)).div_ceil(MIB)
    }
}

/// db-boot's image in memory, for estimates without one at hand.
pub const USUAL_BUILDER: u64 = 2 * MIB;

/// What Xen needs for one VM beside the VM's memory, in bytes.
fn xen_for(spec: &BootSpec) -> u64 {
    let pool = match (spec.kind, spec.settings.processor.paging_pool_mib) {
        (GuestKind::Pv, _) => 0,
        (GuestKind::Pvh, Some(mib)) => u64::from(mib).saturating_mul(MIB),
        (GuestKind::Pvh, None) => {
            let memory = PageCount::new(spec.max_memory_kib / 4);
            usual_paging_pool(memory, spec.vcpus).kib().saturating_mul(1024)
        }
    };
    XEN_PER_DOMAIN.saturating_add(pool)
}

/// What Xen may need for itself in a machine of `machine_mib` with the VMs of `specs`, in MiB.
fn xen_mib(specs: &[&BootSpec], machine_mib: u64) -> u64 {
    let bytes = specs.iter().map(|spec| xen_for(spec)).fold(XEN_BASE, u64::saturating_add);
    bytes.div_ceil(MIB).saturating_add(machine_mib / XEN_TABLES_SHARE)
}

/// Whether VMs fit a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fit {
    /// They do, and Xen has what it needs.
    Fine,
    /// Xen may need what is left.
    Close(String),
    /// They have more than the machine.
    TooMuch(String),
}

/// Whether the VMs of `specs` and a Dom0 of `dom0_mib` fit a machine of `machine_mib`.
pub fn fit(specs: &[&BootSpec], dom0_mib: u64, machine_mib: u64) -> Fit {
    let guests_mib = specs.iter().fold(0_u64, |sum, spec| sum.saturating_add(spec.memory_kib)).div_ceil(1024);
    let count =
        if specs.len() == 1 { "the VM starts".into() } else { format!("the {} VMs start", specs.len()) };
    let largest = specs.iter().max_by_key(|spec| spec.memory_kib).filter(|_| specs.len() > 1);
    let largest = largest.map(|spec| format!(", {} MiB of them in {:?}", spec.memory_kib / 1024, spec.name));
    let needed = format!(
        "{count} with {guests_mib} MiB{}, and db-boot with its RAM disk takes {dom0_mib} MiB; the machine has {machine_mib} MiB",
        largest.unwrap_or_default()
    );
    let advice = "give the VMs less `memory` or the machine more";
    let xen = xen_mib(specs, machine_mib);
    let least = guests_mib.saturating_add(dom0_mib);
    if least > machine_mib {
        Fit::TooMuch(format!("{needed}: {advice}"))
    } else if least.saturating_add(xen) > machine_mib {
        Fit::Close(format!("{needed}, of which Xen itself may need up to {xen} MiB: {advice}"))
    } else {
        Fit::Fine
    }
}

/// Whether the quotas of controllers fit what a machine of `machine_mib` has beside the VMs of `specs` and a Dom0 of `dom0_mib`. Quotas that
/// cannot all be used at once may be meant; one that can never be used alone is not.
pub fn quotas_fit(specs: &[&BootSpec], server: &ServerSpec, dom0_mib: u64, machine_mib: u64) -> Fit {
    let guests_mib = specs.iter().fold(0_u64, |sum, spec| sum.saturating_add(spec.memory_kib)).div_ceil(1024);
    let left = machine_mib.saturating_sub(guests_mib.saturating_add(dom0_mib));
    let quota = |controller: &Controller| controller.quota.memory_kib.div_ceil(1024);
    let rest = format!(
        "the machine of {machine_mib} MiB has {left} MiB beside db-server and the platform's own VMs"
    );
    if let Some(controller) = server.controllers.iter().find(|controller| quota(controller) > left) {
        let (vm, memory) = (&controller.vm, quota(controller));
        let advice = format!("lower `memory` of [[controller]] {vm:?}, or give the machine more");
        return Fit::TooMuch(format!("controller {vm:?} may have VMs of {memory} MiB, and {rest}: {advice}"));
    }
    let xen = xen_mib(specs, machine_mib);
    if let Some(controller) = server.controllers.iter().find(|it| quota(it).saturating_add(xen) > left) {
        let (vm, memory) = (&controller.vm, quota(controller));
        let advice = format!("lower `memory` of [[controller]] {vm:?}, or give the machine more");
        return Fit::Close(format!(
            "controller {vm:?} may have VMs of {memory} MiB, and {rest}, of which Xen itself may need up to {xen} MiB: {advice}"
        ));
    }
    let all = server.controllers.iter().map(quota).fold(xen, u64::saturating_add);
    if all > left {
        let all = all.saturating_sub(xen);
        let count = server.controllers.len();
        return Fit::Close(format!(
            "the {count} controllers may have VMs of {all} MiB together, and {rest}, of which Xen itself may need up to {xen} MiB: whoever asks last is refused with OutOfMemory"
        ));
    }
    Fit::Fine
}

/// The memory of a machine that runs the VMs of `specs` beside a Dom0 of `dom0_mib`, and those that `server` may build, in MiB.
pub fn machine_mib<'a>(
    specs: impl IntoIterator<Item = &'a BootSpec>,
    dom0_mib: u64,
    server: Option<&ServerSpec>,
) -> u64 {
    let guests = specs.into_iter().fold(0_u64, |sum, spec| {
        sum.saturating_add(spec.max_memory_kib.saturating_mul(1024)).saturating_add(xen_for(spec))
    });
    let quotas = server.iter().flat_map(|server| &server.controllers).map(|controller| controller.quota);
    let guests = quotas.fold(guests, |sum, quota| {
        sum.saturating_add(quota.memory_kib.saturating_mul(1024))
            .saturating_add(u64::from(quota.vms).saturating_mul(XEN_PER_DOMAIN))
    });
    let used = guests.saturating_add(dom0_mib.saturating_mul(MIB)).saturating_add(XEN_BASE);
    let whole = used.saturating_add(used.div_ceil(XEN_TABLES_SHARE));
    whole.max(SMALLEST_MACHINE).div_ceil(MACHINE_STEP).saturating_mul(MACHINE_STEP / MIB)
}

#[cfg(test)]
mod tests {
    use protocols::message::Quota;
    use protocols::server::{ImageAccess, Orphans, Rights};

    use super::*;

    #[test]
    fn dom0_gets_what_it_holds_and_some_room() {
        let small =
            BuilderNeed { image: MIB, archive: MIB / 2, unpacking: UnpackingCost::default(), serving: 0 };
        assert_eq!(small.dom0_mem_mib(), 14);
        let linux = BuilderNeed {
            archive: 30 * MIB,
            unpacking: UnpackingCost { output: 62 << 20, workspace: 2 << 20 },
            ..small
        };
        assert_eq!(linux.dom0_mem_mib(), 108);
        let absurd = BuilderNeed { archive: u64::MAX, ..small };
        assert_eq!(absurd.dom0_mem_mib(), u64::MAX.div_ceil(MIB));
    }

    #[test]
    fn a_machine_is_never_smaller_than_the_smallest() {
        assert_eq!(machine_mib([], 16, None), 512);
    }

    #[test]
    fn what_is_served_takes_memory_of_the_builder_and_of_the_machine() {
        let quota = |memory_kib, vms, store_bytes| Quota {
            memory_kib,
            vms,
            first_domid: 0,
            last_domid: 0,
            store_bytes,
            requests: 1,
        };
        let controller = |quota| Controller {
            vm: "a".into(),
            quota,
            images: ImageAccess::None,
            may: Rights::default(),
            orphans: Orphans::Keep,
        };
        let mut server = ServerSpec { store_kib: 0, controllers: vec![controller(quota(1 << 20, 10, 0))] };
        assert_eq!(serving(&server, UnpackingCost::default()), 10 * MIB + 10 * PER_SERVED);
        let packed = UnpackingCost { output: 60 << 20, workspace: 1 << 20 };
        assert_eq!(serving(&server, packed), 71 * MIB + 10 * PER_SERVED);
        // 1 GiB in ten VMs, beside Dom0 and Xen.
        assert_eq!(machine_mib([], 16, Some(&server)), 1216);
        assert_eq!(quotas_fit(&[], &server, 16, 1154), Fit::Fine);
        let Fit::Close(text) = quotas_fit(&[], &server, 16, 1153) else { panic!("it fits") };
        assert!(
            text.contains("has 1137 MiB") && text.contains("Xen itself may need up to 114 MiB"),
            "{text}"
        );
        let Fit::TooMuch(text) = quotas_fit(&[], &server, 16, 1039) else { panic!("it fits") };
        assert!(
            text.starts_with(
                "controller \"a\" may have VMs of 1024 MiB, and the machine of 1039 MiB has 1023 MiB"
            ),
            "{text}"
        );
        server.store_kib = 16 << 10;
        server.controllers.push(controller(quota(4, 1, 1 << 20)));
        assert_eq!(serving(&server, UnpackingCost::default()), (16 + 4 + 8 + 8) * MIB + 11 * PER_SERVED);
        // Each alone, but not both.
        let Fit::Close(text) = quotas_fit(&[], &server, 16, 1154) else { panic!("they fit") };
        assert!(text.contains("the 2 controllers may have VMs of 1025 MiB together"), "{text}");
    }

    /// Each vCPU of a PVH guest has a MiB of tables, and its memory has some: twenty VMs with sixteen each need more than their memory.
    #[test]
    fn tables_of_paging_are_memory_too() {
        let mut spec = BootSpec::new("a", "k", 64 << 10);
        spec.vcpus = 16;
        let pv = machine_mib(&[&spec; 20].map(Clone::clone), 16, None);
        spec.kind = GuestKind::Pvh;
        let pvh = machine_mib(&[&spec; 20].map(Clone::clone), 16, None);
        assert!((320..=448).contains(&(pvh - pv)), "{pv} MiB, {pvh} MiB");
        assert_eq!(fit(&[&spec; 20], 16, pvh), Fit::Fine);
        let Fit::Close(text) = fit(&[&spec; 20], 16, pv) else { panic!("{pv} MiB") };
        assert!(text.contains("of which Xen itself may need up to"), "{text}");
        spec.settings.processor.paging_pool_mib = Some(1);
        assert!(machine_mib(&[&spec; 20].map(Clone::clone), 16, None) < pvh);
    }
}
