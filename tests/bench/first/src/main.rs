//! The guest of the measurements: says at what time of Xen's it began, stays for a while, and ends well.
//!
//! The time is Xen's system time, the same for all domains and that of db-boot's log. `stay=MILLISECONDS` on the command line
//! has the guest wait so long before it ends: a guest that ends at once makes work while others are built.
#![cfg_attr(target_os = "none", no_std, no_main)]

use hypercall::Xen;
use pv_runtime::{Boot, Ending, Hypervisor, clock, println};

pv_runtime::entry!(kernel);

fn kernel(boot: &mut Boot) -> Ending {
    let began = clock::now();
    println!("BENCH name=first at={}", began.nanos());
    let stay = boot.argument("stay").and_then(|stay| stay.parse::<u64>().ok()).unwrap_or(0);
    let until = began.nanos().saturating_add(stay.saturating_mul(1_000_000));
    match Xen::unprivileged(Hypervisor) {
        Ok(xen) => {
            while clock::now().nanos() < until {
                if let Err(error) = xen.poll(&[], Some(until)) {
                    println!("BENCH error: {error}");
                    return Ending::Status(1);
                }
            }
            Ending::Poweroff
        }
        Err(error) => {
            println!("BENCH error: {error}");
            Ending::Status(1)
        }
    }
}
