//! The one-shot builder: Xen starts it as Dom0; it builds and starts the VMs in its RAM disk and looks after them.
//!
//! All that happens is in the crate `launch`; here it meets the machine.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

use hypercall::Xen;
use launch::{Environment, Options, launch, power_off};
use protocols::MachineStatus;
use pv_runtime::{Boot, Ending, Hypervisor, clock, events, heap_use};

pv_runtime::entry!(kernel);

fn kernel(boot: &mut Boot) -> Ending {
    let options = Options::parse(boot.command_line());
    log::set_max_level(options.level);
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
        "xen={}{} domctl={} memory={}KiB",
        interface.xen,
        xen.extra_version().unwrap_or_default(),
        interface.domctl,
        boot.start_info().nr_pages * 4
    );
    let ramdisk = boot.ramdisk().map_err(|error| log::error!("step=ramdisk {error}")).ok()?;
    let window = match boot.window()? {
        Ok(window) => window,
        Err(error) => {
            log::error!("step=window {error}");
            return None;
        }
    };
    let now = || clock::now().nanos();
    let spare_memory = || heap_use().spare();
    let mut environment =
        Environment { xen: &xen, window, events: events::words()?, now: &now, spare_memory: &spare_memory };
    let status = launch(&mut environment, options, ramdisk);
    if options.exit_port.is_none() {
        power_off(&mut environment);
    }
    Some(status)
}
