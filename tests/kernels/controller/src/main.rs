//! A controller of db-server: the channel is on the command line (`vchan=client:db-server:...`). What it does there is `role=`:
//!
//! | role | does | what counts |
//! |---|---|---|
//! | `tour` | asks for everything once: sends an image (its RAM disk), builds, lists, pauses, destroys, and asks for what it may not | each answer is the one of docs/protocols.md |
//! | `storm` | builds and destroys a VM `cycles=` times, `chains=` at a time; each sixteenth may run to its end | every request is answered well; prints rates and latencies |
//! | `sizes` | has a VM built of each size in `memory=` | nothing: `make bench` reads the times that it prints |
//! | `attack` | breaks the rule that `by=` names (see `attacks`) | db-server ends the conversation, or holds it up |
//! | `deserter` | leaves VMs and half of everything behind, by a crash | nothing: db-server's log and its free memory tell |
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

mod attacks;
mod link;
mod session;
mod sizes;
mod storm;
mod tour;
mod vm;

use hypercall::Ramdisk as _;
use pv_runtime::Boot;
use verdict::{Outcome, Verdict};

use link::Machine;
use session::Session;

verdict::test!(run);

fn run(boot: &mut Boot) -> Outcome {
    let machine = Machine::new()?;
    let Some(word) = link::word(boot) else {
        return Err(Verdict::Skip("there is no vchan=client:db-server:... on the command line".into()));
    };
    match boot.argument("role") {
        Some("tour") => {
            let image = boot.module().ok_or_else(|| Verdict::error("there is no RAM disk to send"))?;
            let image = image.map_err(Verdict::error)?;
            tour::run(Session::open(&machine, &word)?, image.bytes())
        }
        Some("storm") => storm::run(Session::open(&machine, &word)?, &storm::Plan::of(boot)?),
        Some("sizes") => sizes::run(Session::open(&machine, &word)?, boot.argument("memory").unwrap_or("8")),
        Some("attack") => attacks::run(&machine, &word, boot.argument("by").unwrap_or("-")),
        Some("deserter") => attacks::desert(Session::open(&machine, &word)?),
        other => Err(Verdict::Error(alloc::format!(
            "role={}: tour, storm, sizes, attack or deserter",
            other.unwrap_or("-")
        ))),
    }
}
