//! Two domains. Nobody tells them each other's ports: the one that listens takes its first free port, and the other tries
//! the few ports that this can be.

use alloc::format;

use event_channel::LocalPort;
use pv_runtime::{clock, println};
use verdict::Verdict;
use xen_abi::{DomId, Port};

use crate::{Local, Machine, PATIENCE, works};

/// Events each way.
const ROUNDS: u32 = 1000;

/// Ports that may listen at the other domain.
const CANDIDATES: core::ops::RangeInclusive<u32> = 1..=16;

/// Between two tries to connect: 10 ms, in nanoseconds.
const PAUSE: u64 = 10_000_000;

/// Answers each event with one.
pub(crate) fn listen(machine: &Machine, peer: DomId) -> Result<u32, Verdict> {
    let port = works(LocalPort::listen(&machine.xen, peer))?;
    println!("port {} listens for domain {peer}", port.port());
    for round in 0..ROUNDS {
        machine.expect(&port, &format!("event {round} of domain {peer}"))?;
        works(port.notify())?;
    }
    // Closing the port before the last answer is seen would take it away.
    machine.expect(&port, "the goodbye")?;
    Ok(ROUNDS)
}

/// Sends events and waits for the answer to each.
pub(crate) fn connect(machine: &Machine, peer: DomId) -> Result<u32, Verdict> {
    let port = find(machine, peer)?;
    // A new connection is notified once, at either end or at both: not an answer.
    machine.words.take(port.port());
    let before = clock::now();
    for round in 0..ROUNDS {
        works(port.notify())?;
        machine.expect(&port, &format!("answer {round} of domain {peer}"))?;
    }
    println!("{} ns for an event and its answer", clock::now().since(before) / u64::from(ROUNDS));
    works(port.notify())?;
    Ok(ROUNDS)
}

/// Connects to whichever port of `peer` listens for this domain, once it does.
fn find(machine: &Machine, peer: DomId) -> Result<Local<'_>, Verdict> {
    let deadline = clock::now().nanos() + PATIENCE;
    while clock::now().nanos() < deadline {
        for candidate in CANDIDATES {
            if let Ok(port) = LocalPort::connect(&machine.xen, peer, Port::new(candidate)) {
                println!("port {} is connected to port {candidate} of domain {peer}", port.port());
                return Ok(port);
            }
        }
        works(machine.xen.poll(&[], Some(clock::now().nanos() + PAUSE)))?;
    }
    Err(Verdict::Failure(format!("no port of domain {peer} listens for this domain")))
}
