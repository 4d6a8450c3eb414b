//! The one-shot builder: Xen starts it as Dom0; it builds and starts the VMs in its RAM disk and looks after them.
//!
//! All that happens is in the crate `launch`.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

use builder_entry::{Builder, run};
use launch::{Environment, Options, launch};
use protocols::MachineStatus;
use pv_runtime::{Boot, Ending, Hypervisor, Module, Window};

pv_runtime::entry!(kernel);

fn kernel(boot: &mut Boot) -> Ending {
    run(boot, DbBoot)
}

/// The VMs of the RAM disk, and no more.
struct DbBoot;

impl Builder for DbBoot {
    fn launch(
        self,
        environment: &mut Environment<'_, Hypervisor, Window>,
        options: &Options,
        ramdisk: Module,
    ) -> MachineStatus {
        launch(environment, options, ramdisk)
    }
}
