//! What building costs, counted: every call that is made for a VM, and every frame that is mapped, on a simulated Xen.
//!
//! `costs.txt` beside this file is the table; a change of it is to be seen in review, not found with a stopwatch. When one is
//! meant, put what the test prints into the file.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise, in its helpers too"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;

use domain_builder::{DomainSpec, Servers, build_pv, build_pvh};
use domain_plan::{AddressSize, GuestPlan, GuestRequest, Load, PvKernel, PvPlan, PvhKernel, PvhPlan};
use hypercall::Xen;
use protocols::Settings;
use xen_abi::{GuestVirt, PageCount};
use xen_sim::Machine;

/// What is built: a column of the table.
struct Guest {
    name: &'static str,
    mib: u64,
    vcpus: u32,
    /// Whether the kernel is large, asks for what Linux asks for, and has a RAM disk.
    linux: bool,
    pvh: bool,
}

const GUESTS: [Guest; 8] = [
    Guest { name: "pv-8M", mib: 8, vcpus: 1, linux: false, pvh: false },
    Guest { name: "pv-linux", mib: 256, vcpus: 1, linux: true, pvh: false },
    Guest { name: "pv-4-cpus", mib: 256, vcpus: 4, linux: true, pvh: false },
    Guest { name: "pv-4G", mib: 4096, vcpus: 1, linux: false, pvh: false },
    Guest { name: "pvh-8M", mib: 8, vcpus: 1, linux: false, pvh: true },
    Guest { name: "pvh-linux", mib: 256, vcpus: 1, linux: true, pvh: true },
    Guest { name: "pvh-4-cpus", mib: 256, vcpus: 4, linux: true, pvh: true },
    Guest { name: "pvh-4G", mib: 4096, vcpus: 1, linux: false, pvh: true },
];

/// The file, and the memory, of a small kernel, and of one that is large enough for several mappings.
const SMALL: (usize, u64) = (54 << 10, 280 << 10);
const LINUX: (usize, u64) = (6 << 20, 12 << 20);
/// The RAM disk of the latter.
const RAMDISK: usize = 2 << 20;

const FIRST: u64 = 1 << 20;

fn pv_plan<'k>(bytes: &'k [u8], guest: &Guest, request: &GuestRequest<'_>, memory_size: u64) -> PvPlan<'k> {
    let base = if guest.linux { 0xffff_ffff_8000_0000 } else { 0 };
    let kernel = PvKernel {
        address_size: AddressSize::Bits64,
        base: GuestVirt::new(base),
        entry: GuestVirt::new(base + FIRST),
        loads: vec![Load { address: FIRST, bytes: bytes.into(), memory_size }],
        init_p2m: guest.linux.then_some(GuestVirt::new(0x80_0000_0000)),
        unmapped_ramdisk: guest.linux,
        hypercall_page: None,
    };
    PvPlan::new(kernel, request).unwrap()
}

fn pvh_plan<'k>(bytes: &'k [u8], guest: &Guest, request: &GuestRequest<'_>, memory_size: u64) -> PvhPlan<'k> {
    let loads = vec![Load { address: FIRST, bytes: bytes.into(), memory_size }];
    let kernel = PvhKernel { entry: u32::try_from(FIRST).unwrap(), loads };
    PvhPlan::new(kernel, request, guest.vcpus).unwrap()
}

/// What building the guest and starting it took, by name of the call.
fn costs(guest: &Guest) -> BTreeMap<String, u64> {
    let (file, memory_size) = if guest.linux { LINUX } else { SMALL };
    let (bytes, ramdisk) = (vec![1; file], vec![2; if guest.linux { RAMDISK } else { 0 }]);
    let memory = PageCount::new(guest.mib << 8);
    let length = guest.linux.then_some(RAMDISK as u64);
    let request = GuestRequest { ramdisk: length, ..GuestRequest::new(memory, "console=hvc0") };
    let plan = if guest.pvh {
        GuestPlan::Pvh(pvh_plan(&bytes, guest, &request, memory_size))
    } else {
        GuestPlan::Pv(pv_plan(&bytes, guest, &request, memory_size))
    };
    let machine = Machine::builder().memory(PageCount::new(0x18_0000)).build();
    let xen = Xen::probe(machine.dom0()).unwrap();
    let spec = DomainSpec {
        domid: None,
        uuid: [0; 16],
        vcpus: guest.vcpus,
        max_memory: memory,
        settings: Settings::default(),
        servers: Servers::default(),
        serves_store: false,
    };
    machine.clear_trace();
    let mut window = machine.window();
    let sealed = match &plan {
        GuestPlan::Pv(plan) => build_pv(&xen, &mut window, &spec, plan, &ramdisk, |_, _| ()),
        GuestPlan::Pvh(plan) => build_pvh(&xen, &mut window, &spec, plan, &ramdisk, |_, _| ()),
    };
    let _started = sealed.unwrap().start().unwrap();
    let mut costs = BTreeMap::new();
    for call in machine.trace().calls() {
        *costs.entry(call.name.to_owned()).or_default() += 1;
        if call.name == "map frames" {
            let frames = call.numbers.iter().find(|(name, _)| *name == "frames").unwrap().1;
            *costs.entry("(frames mapped)".into()).or_default() += frames;
        } else {
            *costs.entry("(all hypercalls, without mapping)".into()).or_default() += 1;
        }
    }
    costs
}

/// A row for each call, a column for each guest.
fn table() -> String {
    let columns = GUESTS.map(|guest| (guest.name, costs(&guest)));
    let mut rows: Vec<&String> = columns.iter().flat_map(|(_, costs)| costs.keys()).collect();
    rows.sort_unstable();
    rows.dedup();
    let mut text = format!("{:34}", "");
    for (name, _) in &columns {
        let _ = write!(text, "{name:>12}");
    }
    text.push('\n');
    for row in rows {
        let _ = write!(text, "{row:34}");
        for (_, costs) in &columns {
            let count = costs.get(row).map_or_else(|| "-".to_owned(), u64::to_string);
            let _ = write!(text, "{count:>12}");
        }
        text.push('\n');
    }
    text
}

#[test]
fn building_costs_what_the_table_says() {
    let table = table();
    let kept = include_str!("costs.txt");
    assert!(
        table == kept,
        "the costs of building have changed. What costs.txt says:\n{kept}\nWhat it is now:\n{table}"
    );
}
