//! The builder as a service: Xen starts it as Dom0; it builds and starts the VMs in its RAM disk, and then others that controllers
//! among them ask for.
//!
//! All that happens is in the crate's library and in `launch`.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

use builder_entry::{Builder, run};
use db_server::{DbServer, Pages};
use grant_table::GrantTable;
use launch::{Environment, Options, launch_serving};
use protocols::MachineStatus;
use pv_runtime::{Boot, Ending, Hypervisor, Module, OwnPage, Window};

pv_runtime::entry!(kernel);

/// Frames of the own grant table: room for the pages of as many channels as there can be controllers.
const TABLE_FRAMES: u32 = 1;

fn kernel(boot: &mut Boot) -> Ending {
    run(boot, Serving)
}

/// The VMs of the RAM disk, and those that controllers ask for.
struct Serving;

impl Builder for Serving {
    fn launch(
        self,
        environment: &mut Environment<'_, Hypervisor, Window>,
        options: &Options,
        ramdisk: Module,
    ) -> MachineStatus {
        match GrantTable::open(environment.xen, &mut environment.window, TABLE_FRAMES) {
            Ok(table) => {
                let mut server = DbServer::new(table, HeapPages);
                launch_serving(environment, options, ramdisk, &mut server)
            }
            Err(error) => {
                log::error!("step=service the grant table: {error}: controllers can be given no channels");
                log::error!("platform=ended status=builder-failed vms=0 preserved=0");
                MachineStatus::BuilderFailed
            }
        }
    }
}

/// Pages of the heap.
struct HeapPages;

impl Pages for HeapPages {
    type Page = OwnPage;

    fn page(&mut self) -> Option<OwnPage> {
        OwnPage::new()
    }
}
