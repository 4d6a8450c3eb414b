//! The one-shot builder: Xen starts it as Dom0; it builds and starts the VMs in its RAM disk and looks after them.
//!
//! All that happens is in the crate `launch`; here it meets the machine.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

mod trust_key;

use hypercall::{Enforcement, Xen};
use launch::{Cursor, Environment, Options, launch, power_off};
use protocols::MachineStatus;
use pv_runtime::{Boot, Ending, Hypervisor, before_each_line, clock, console, events, heap_use};

pv_runtime::entry!(kernel);

/// Where Xen's console stands: what is logged begins lines of its own.
static CURSOR: Cursor = Cursor::new();

/// Ends the line that a guest or the prompt has begun.
fn begin_line() {
    CURSOR.begin_line(console::write);
}

fn kernel(boot: &mut Boot) -> Ending {
    let mut options = Options::from_bytes(boot.start_info().command_line());
    if let Some(built_in) = trust_key::BUILT_IN {
        options.trust.build_in(built_in.key, built_in.least_version);
    }
    log::set_max_level(options.level(None));
    before_each_line(begin_line);
    let status = run(boot, &options).unwrap_or_else(|| {
        log::error!("platform=ended status=builder-failed vms=0 preserved=0");
        MachineStatus::BuilderFailed
    });
    Ending::Machine(status)
}

/// Launches the platform; `None` when this domain cannot, after saying why.
fn run(boot: &mut Boot, options: &Options) -> Option<MachineStatus> {
    let xen = Xen::probe(Hypervisor).map_err(|error| log::error!("step=probe {error}")).ok()?;
    let interface = xen.interface();
    log::info!(
        "xen={}{} domctl={} memory={}KiB{}",
        interface.xen,
        xen.extra_version().unwrap_or_default(),
        interface.domctl,
        boot.start_info().nr_pages * 4,
        match interface.labels {
            None => "",
            Some(Enforcement::Enforced) => " labels=enforced",
            Some(Enforcement::Permissive) => " labels=permissive",
        }
    );
    let ramdisk = boot.module()?.map_err(|error| log::error!("step=ramdisk {error}")).ok()?;
    let window = match boot.window()? {
        Ok(window) => window,
        Err(error) => {
            log::error!("step=window {error}");
            return None;
        }
    };
    let now = || clock::now().nanos();
    let spare_memory = || heap_use().spare();
    let mut environment = Environment {
        xen: &xen,
        window,
        events: events::words()?,
        now: &now,
        spare_memory: &spare_memory,
        cursor: &CURSOR,
    };
    let status = launch(&mut environment, options, ramdisk);
    if options.exit_port.is_none() {
        power_off(&mut environment);
    }
    Some(status)
}
