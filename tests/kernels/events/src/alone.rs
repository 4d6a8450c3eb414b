//! What one domain can try alone.

use alloc::format;

use event_channel::LocalPort;
use pv_runtime::clock::SystemTime;
use pv_runtime::{Hypervisor, clock, events};
use verdict::Verdict;
use xen_abi::event_channel::VIRQ_TIMER;
use xen_abi::{DomId, Errno, Port, VcpuId};

use crate::{Machine, works};

/// How long to sleep: 5 ms, in nanoseconds.
const PAUSE: u64 = 5_000_000;

/// A port for notifying oneself: one event for any number of notifications, and none afterwards.
pub(crate) fn notifies_itself(machine: &Machine) -> Result<(), Verdict> {
    let port = works(LocalPort::bind_ipi(&machine.xen, VcpuId::BOOT))?;
    machine.expect_none(&port, "new port")?;
    works(port.notify())?;
    works(port.notify())?;
    machine.expect(&port, "notifying oneself")?;
    machine.expect_none(&port, "notified twice, taken once")?;
    machine.words.set_masked(port.port(), true);
    works(port.notify())?;
    machine.expect(&port, "a masked port can still be waited for")?;
    machine.words.set_masked(port.port(), false);
    works(port.close())
}

/// Two ports of one domain, connected.
pub(crate) fn loops_back(machine: &Machine) -> Result<(), Verdict> {
    let near = works(LocalPort::listen(&machine.xen, DomId::SELF))?;
    let far = works(LocalPort::connect(&machine.xen, DomId::SELF, near.port()))?;
    // Xen notifies a new connection once.
    machine.words.take(near.port());
    machine.words.take(far.port());
    for (from, to) in [(&near, &far), (&far, &near)] {
        works(from.notify())?;
        machine.expect(to, "loop back")?;
        machine.expect_none(from, "loop back to the sender")?;
    }
    works(far.close())?;
    works(near.close())
}

/// Blocking ends with an event of any port that is not masked: one that came before, and one that comes.
pub(crate) fn blocks(machine: &Machine) -> Result<(), Verdict> {
    let own = works(LocalPort::bind_ipi(&machine.xen, VcpuId::BOOT))?;
    works(own.notify())?;
    events::block();
    machine.expect(&own, "blocking with an event pending")?;
    let timer = works(LocalPort::bind_virq(&machine.xen, VIRQ_TIMER, VcpuId::BOOT))?;
    for round in 0..3 {
        machine.words.take(timer.port());
        let deadline = clock::now().nanos() + PAUSE;
        Hypervisor.set_timer(SystemTime::from_nanos(deadline)).map_err(Verdict::error)?;
        while !machine.words.is_pending(timer.port()) {
            events::block();
        }
        if clock::now().nanos() < deadline {
            return Err(Verdict::Failure(format!("blocking ended before the timer, in round {round}")));
        }
    }
    works(timer.close())?;
    works(own.close())
}

/// Calls that cannot be right are refused.
pub(crate) fn refuses_nonsense(machine: &Machine) -> Result<(), Verdict> {
    let closed = {
        let port = works(LocalPort::bind_ipi(&machine.xen, VcpuId::BOOT))?;
        port.port()
    };
    let refused = |what: &str, result: Result<(), hypercall::CallError>, expected: Errno| match result {
        Err(error) if error.errno == expected => Ok(()),
        other => Err(Verdict::Failure(format!("{what}: {other:?} instead of {expected:?}"))),
    };
    refused("closing a closed port", machine.xen.close_port(closed), Errno::EINVAL)?;
    refused("notifying by a closed port", machine.xen.send(closed), Errno::EINVAL)?;
    refused("notifying by port 0", machine.xen.send(Port::new(0)), Errno::EINVAL)?;
    let port = works(LocalPort::bind_ipi(&machine.xen, VcpuId::BOOT))?;
    let connected = LocalPort::connect(&machine.xen, DomId::SELF, port.port()).map(|_| ());
    refused("connecting to a port that does not listen", connected, Errno::EINVAL)?;
    let nobody = LocalPort::connect(&machine.xen, DomId::new(0x7fe0), Port::new(1)).map(|_| ());
    refused("connecting to a domain that does not exist", nobody, Errno::ESRCH)
}
