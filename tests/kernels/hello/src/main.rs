//! Prints what this domain was told at its start, field by field.
#![cfg_attr(target_os = "none", no_std, no_main)]

use pv_runtime::{Boot, Ending, println};

pv_runtime::entry!(run);

fn run(boot: &mut Boot) -> Ending {
    println!("{boot}");
    Ending::Poweroff
}
