//! Sends events to this domain itself, and to and fro between two domains: the one with `role=listen` holds a port open for
//! the domain that `peer=` names, the one with `role=connect` finds it.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

mod alone;
mod pair;

use alloc::format;

use event_channel::{EventWords, LocalPort};
use hypercall::{CallError, Xen};
use pv_runtime::{Boot, Hypervisor, clock, events};
use verdict::{Outcome, Verdict, success};
use xen_abi::DomId;

verdict::test!(run);

/// How long to wait for an event or for the other domain: 20 s, in nanoseconds.
const PATIENCE: u64 = 20_000_000_000;

/// What every test here needs.
struct Machine {
    xen: Xen<Hypervisor>,
    words: EventWords<'static>,
}

type Local<'x> = LocalPort<'x, Hypervisor>;

fn run(boot: &mut Boot) -> Outcome {
    let machine = Machine {
        xen: Xen::unprivileged(Hypervisor).map_err(Verdict::error)?,
        words: events::words().ok_or_else(|| Verdict::error("no event bitmaps"))?,
    };
    alone::notifies_itself(&machine)?;
    alone::loops_back(&machine)?;
    alone::blocks(&machine)?;
    alone::refuses_nonsense(&machine)?;
    let Some(peer) = boot.argument("peer") else { return success!("events to itself") };
    let peer = DomId::new(peer.parse().map_err(Verdict::error)?);
    let rounds = match boot.argument("role") {
        Some("listen") => pair::listen(&machine, peer)?,
        Some("connect") => pair::connect(&machine, peer)?,
        other => {
            return Err(Verdict::Error(format!("role={}: listen or connect", other.unwrap_or_default())));
        }
    };
    success!("events to itself; {rounds} to domain {peer} and as many back")
}

/// Turns a call's error into a failure of the test.
fn works<T>(result: Result<T, CallError>) -> Result<T, Verdict> {
    result.map_err(Verdict::failure)
}

impl Machine {
    /// Waits for an event on a port and takes it.
    fn expect(&self, port: &Local<'_>, what: &str) -> Result<(), Verdict> {
        let deadline = clock::now().nanos() + PATIENCE;
        while clock::now().nanos() < deadline {
            let now = || clock::now().nanos();
            works(event_channel::wait(&self.xen, self.words, &[port.port()], Some(deadline), now))?;
            if self.words.take(port.port()) {
                return Ok(());
            }
        }
        Err(Verdict::Failure(format!("{what}: no event came")))
    }

    /// Makes sure that no event is pending on a port.
    fn expect_none(&self, port: &Local<'_>, what: &str) -> Result<(), Verdict> {
        if self.words.take(port.port()) {
            Err(Verdict::Failure(format!("{what}: an event came")))
        } else {
            Ok(())
        }
    }
}
