//! The three kinds of VMs of a platform with a XenStore. Which one this is, is `role=`:
//!
//! | role | does | ends when |
//! |---|---|---|
//! | `store` | serves the XenStore to the domain that `--event` and `--master-domid` name, and to those that this one introduces | all of them have ended, of which Xen has told |
//! | `control` | introduces the domains of `intros=`, gives each its home, and asks those in `ask=N,N` to power off once they are ready | all of them are gone |
//! | `client` | reads and writes what is its own, tries what is not, says that it is ready | it is asked to power off |
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

mod asking;
mod client;
mod control;
mod serve;

use event_channel::EventWords;
use hypercall::Xen;
use pv_runtime::{Boot, Hypervisor, clock, events};
use verdict::{Outcome, Verdict};

verdict::test!(run);

/// What every role needs.
pub(crate) struct Machine {
    pub(crate) xen: Xen<Hypervisor>,
    pub(crate) words: EventWords<'static>,
}

/// System time in nanoseconds.
pub(crate) fn now() -> u64 {
    clock::now().nanos()
}

fn run(boot: &mut Boot) -> Outcome {
    let words = events::words().ok_or_else(|| Verdict::error("no event bitmaps"))?;
    let machine = |xen| Machine { xen, words };
    let unprivileged = || Xen::unprivileged(Hypervisor).map_err(Verdict::error);
    match boot.argument("role") {
        // To ask Xen about other domains is the right of the XenStore's domain.
        Some("store") => serve::run(&machine(Xen::probe_to_ask(Hypervisor).map_err(Verdict::failure)?), boot),
        Some("control") => control::run(&machine(unprivileged()?), boot),
        Some("client") => client::run(&machine(unprivileged()?), boot),
        other => {
            Err(Verdict::Error(alloc::format!("role={}: store, control or client", other.unwrap_or("-"))))
        }
    }
}
