//! Ends as `end=crash`, `watchdog` or `reboot` says, until the identifier of its domain is `from=N` at least: then it succeeds. Xen
//! gives each domain a higher identifier than the one before, so that a kernel which remembers nothing can tell that it was
//! restarted.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

use alloc::format;

use event_channel::LocalPort;
use hypercall::Xen;
use pv_runtime::{Boot, Ending, Hypervisor, println};
use verdict::Verdict;
use xen_abi::DomId;

pv_runtime::entry!(run);

/// Identifiers that are tried: many more than one boot of a test hands out.
const TRIED: u16 = 1000;

fn run(boot: &mut Boot) -> Ending {
    verdict::prepare(boot);
    match outcome(boot) {
        Ok(Some(ending)) => ending,
        Ok(None) => {
            verdict::report(Ok("it came back".into()));
            Ending::Poweroff
        }
        Err(verdict) => {
            verdict::report(Err(verdict));
            Ending::Status(1)
        }
    }
}

/// How to end this time; `None` when it was restarted often enough.
fn outcome(boot: &Boot) -> Result<Option<Ending>, Verdict> {
    let from: u16 = boot.argument("from").unwrap_or_default().parse().map_err(Verdict::error)?;
    let xen = Xen::unprivileged(Hypervisor).map_err(Verdict::error)?;
    let own =
        own_domid(&xen).ok_or_else(|| Verdict::Error(format!("the identifier is not below {TRIED}")))?;
    println!("domain {own}, to come back as domain {from} or later");
    if own >= from {
        return Ok(None);
    }
    match boot.argument("end") {
        Some("crash") => Ok(Some(Ending::Crash)),
        Some("watchdog") => Ok(Some(Ending::Watchdog)),
        Some("reboot") => Ok(Some(Ending::Reboot)),
        other => Err(Verdict::Error(format!("end={}: no such way to end", other.unwrap_or_default()))),
    }
}

/// The identifier of this domain, which Xen tells no PV guest: only for itself may a domain open ports.
fn own_domid(xen: &Xen<Hypervisor>) -> Option<u16> {
    (1..TRIED).find(|domid| {
        let port = xen.alloc_unbound(DomId::new(*domid), DomId::SELF);
        // The port is closed again when this is dropped.
        port.map(|port| drop(LocalPort::adopt(xen, port))).is_ok()
    })
}
