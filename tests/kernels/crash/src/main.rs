//! Takes the fault that the command line names (`fault=...`). There is no verdict: that it is reported on the console, and ends
//! the VM as a crash, is what the test's file expects.
#![cfg_attr(target_os = "none", no_std, no_main)]

use pv_runtime::traps::{Provocation, provoke};
use pv_runtime::{Boot, Ending};

pv_runtime::entry!(run);

fn run(boot: &mut Boot) -> Ending {
    match boot.argument("fault") {
        Some("page-fault") => provoke(Provocation::WriteToNothing),
        Some("null") => provoke(Provocation::WriteToNull),
        Some("constant") => provoke(Provocation::WriteToConstant),
        Some("execute-data") => provoke(Provocation::ExecuteData),
        Some("invalid-opcode") => provoke(Provocation::InvalidOpcode),
        Some("general-protection") => provoke(Provocation::GeneralProtection),
        Some("divide") => provoke(Provocation::Divide),
        Some("panic") => assert_eq!(boot.argument("fault"), None, "on purpose"),
        Some("stack") => log::info!("{}", overflow(0)),
        other => log::error!("fault={}: no such fault", other.unwrap_or_default()),
    }
    Ending::Poweroff
}

/// Calls itself until the stack is full.
fn overflow(depth: u64) -> u64 {
    let frame = core::hint::black_box([depth; 64]);
    if depth == u64::MAX {
        return 0;
    }
    overflow(depth + 1).wrapping_add(frame.iter().sum())
}
