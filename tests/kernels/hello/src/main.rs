//! Prints what this domain was told at its start, field by field.
#![cfg_attr(target_os = "none", no_std, no_main)]

use pv_runtime::{Boot, println};
use verdict::{Outcome, require, success};

verdict::test!(run);

fn run(boot: &mut Boot) -> Outcome {
    println!("{boot}");
    let start = boot.start_info();
    require!(start.nr_pages > 0, "the start info says that the domain has no memory");
    require!(start.shared_info != 0, "the start info has no shared info page");
    success!("a domain of {} pages", start.nr_pages)
}
