//! What no builder can do without: as Dom0, this kernel builds the VM that its module is the kernel of, by the calls that
//! each need something of Xen's and by one copy of the memory image, and adds up the time that just these take.
//!
//! Everything else is outside of the sum: reading the kernel, planning, and computing what is written. So the sum is a floor
//! for any builder on this Xen and this machine, not an estimate of how fast one can be. `memory=8,64` on the command line
//! lists the guest's sizes in MiB.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

mod build;

use domain_plan::PlanError;
use hypercall::{CallError, ProbeError, Ramdisk, WindowError, Xen};
use kernel_image::{ImageError, KernelImage};
use pv_runtime::{Boot, Ending, Hypervisor, MemoryError, clock, println};
use thiserror::Error;

pv_runtime::entry!(kernel);

/// Why there is no measurement.
#[derive(Debug, Error)]
enum FloorError {
    #[error(transparent)]
    Probe(#[from] ProbeError),
    #[error("the module: {0}")]
    Module(#[from] MemoryError),
    #[error("there is no module: the guest's kernel")]
    NoModule,
    #[error("the guest's kernel: {0}")]
    Image(#[from] ImageError),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Window(#[from] WindowError),
    #[error("{0}")]
    Other(&'static str),
}

fn kernel(boot: &mut Boot) -> Ending {
    // The counter of an emulated machine starts at power-on, Xen's time when Xen starts: the difference is the firmware's.
    let (ticks, now) = (clock::ticks(), clock::now().nanos());
    println!("BENCH name=power-on ticks={ticks} at={now}");
    match measure(boot) {
        Ok(()) => {
            println!("BENCH done");
            Ending::Poweroff
        }
        Err(error) => {
            println!("BENCH error: {error}");
            Ending::Status(1)
        }
    }
}

fn measure(boot: &mut Boot) -> Result<(), FloorError> {
    let xen = Xen::probe(Hypervisor)?;
    let module = boot.module().ok_or(FloorError::NoModule)??;
    let image = KernelImage::parse(module.bytes())?;
    let mut window = boot.window().ok_or(FloorError::Other("the window is taken"))??;
    for size in boot.argument("memory").unwrap_or("8").split(',') {
        let mib = size.parse().map_err(|_| FloorError::Other("memory= is no list of numbers"))?;
        let floor = build::floor(&xen, &mut window, &image, mib)?;
        println!("BENCH name=floor memory={mib} {floor}");
    }
    Ok(())
}
