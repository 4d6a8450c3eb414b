//! Where a builder meets the machine: what db-boot and db-server do the same.
//!
//! All that happens to a platform is in the crate `launch`.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod trust_key;

use hypercall::{Enforcement, Xen};
use launch::{Cursor, Environment, Options, power_off};
use protocols::MachineStatus;
use pv_runtime::{
    Boot, Ending, Hypervisor, Module, Window, before_each_line, clock, console, events, heap_use,
};

/// Where Xen's console stands: what is logged begins lines of its own.
static CURSOR: Cursor = Cursor::new();

/// Ends the line that a guest or the prompt has begun.
fn begin_line() {
    CURSOR.begin_line(console::write);
}

/// What a builder does with its machine and its RAM disk.
pub trait Builder {
    /// Launches the platform in the RAM disk, and says how it ended.
    fn launch(
        self,
        environment: &mut Environment<'_, Hypervisor, Window>,
        options: &Options,
        ramdisk: Module,
    ) -> MachineStatus;
}

/// Reads the command line, finds Xen and the RAM disk, and has `builder` launch the platform that is in it.
pub fn run(boot: &mut Boot, builder: impl Builder) -> Ending {
    let mut options = Options::from_bytes(boot.start_info().command_line());
    if let Some(built_in) = trust_key::BUILT_IN {
        options.trust.build_in(built_in.key, built_in.least_version);
    }
    log::set_max_level(options.level(None));
    before_each_line(begin_line);
    let status = run_with(boot, &options, builder).unwrap_or_else(|| {
        log::error!("platform=ended status=builder-failed vms=0 preserved=0");
        MachineStatus::BuilderFailed
    });
    Ending::Machine(status)
}

/// `None` when this domain cannot launch anything, after saying why.
fn run_with(boot: &mut Boot, options: &Options, builder: impl Builder) -> Option<MachineStatus> {
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
    let window = boot.window()?.map_err(|error| log::error!("step=window {error}")).ok()?;
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
    let status = builder.launch(&mut environment, options, ramdisk);
    if options.exit_port.is_none() {
        power_off(&mut environment);
    }
    Some(status)
}
