//! Waiting for events without upcalls.

use hypercall::{CallError, RawHypercall, Xen};
use xen_abi::Port;
use xen_abi::sched::POLL_MAX_PORTS;

use crate::EventWords;

/// How long [`wait`] sleeps on one group of ports when there are more than one call takes: 10 ms, in nanoseconds.
pub const SLICE: u64 = 10_000_000;

/// Sleeps until one of `ports` is pending or system time reaches `deadline` (nanoseconds; `None` waits for ever), and says
/// whether a port is pending. It may also return without either, as Xen's poll may.
///
/// One `SCHEDOP_poll` takes at most 128 ports. Up to that many cost one call and no CPU time. With more, the groups of 128 are
/// polled in turn for [`SLICE`] each. Xen ends a poll of several ports at an event of any port of the domain, also of one that
/// was not named (`evtchn_check_pollers`), so that the slices are not what an event waits for: they are for the one that came
/// between the look at the bitmaps and the call, which is then seen up to one slice per group later. The other way to wait for
/// any number of ports, `SCHEDOP_block`, needs upcalls and an upcall handler, which the domains here do without.
/// `now` tells system time, and is only asked with more than 128 ports.
pub fn wait<H: RawHypercall>(
    xen: &Xen<H>,
    words: EventWords<'_>,
    ports: &[Port],
    deadline: Option<u64>,
    now: impl Fn() -> u64,
) -> Result<bool, CallError> {
    let any_pending = || ports.iter().any(|port| words.is_pending(*port));
    if ports.len() <= POLL_MAX_PORTS {
        if !any_pending() {
            xen.poll(ports, deadline)?;
        }
        return Ok(any_pending());
    }
    for group in ports.chunks(POLL_MAX_PORTS).cycle() {
        let time = now();
        if any_pending() || deadline.is_some_and(|deadline| time >= deadline) {
            break;
        }
        let slice = time.saturating_add(SLICE);
        xen.poll(group, Some(deadline.map_or(slice, |deadline| deadline.min(slice))))?;
    }
    Ok(any_pending())
}
