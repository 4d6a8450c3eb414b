//! Domains that run: ports, grants, the console, their end, and Dom0 that waits for all that.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise, in its helpers too")]

mod support;

use event_channel::{EventWords, LocalPort, Offer, wait};
use hypercall::{FrameWindow, SharedMemory, Xen};
use support::{ByHand, CONSOLE};
use xen_abi::event_channel::VIRQ_DOM_EXC;
use xen_abi::{DomId, Errno, Port, VcpuId};
use xen_sim::{Effect, Fault, Machine, SimHypervisor};

const DOM0: DomId = DomId::new(0);

fn machine() -> Machine {
    Machine::builder().build()
}

fn words(of: &SimHypervisor) -> EventWords<'_> {
    EventWords::new(of.pending_words(), of.mask_words())
}

#[test]
fn dom0_sleeps_until_a_domain_writes_and_until_it_ends() {
    let built = ByHand::running(machine());
    let dom0 = built.machine.dom0();
    let guest = built.machine.guest(built.domain);
    let info = guest.view().unwrap().start_info().unwrap();
    let exits = LocalPort::bind_virq(&built.xen, VIRQ_DOM_EXC, VcpuId::BOOT).unwrap();
    let console = LocalPort::connect(&built.xen, built.domain, Port::new(info.console_evtchn)).unwrap();
    let ports = [exits.port(), console.port()];
    words(&dom0).take(console.port());

    let (writer, ender) = (guest.clone(), guest.clone());
    built.machine.when_idle(move |_| assert_eq!(writer.write_console(b"hello\n"), 6));
    built.machine.when_idle(move |_| ender.shut_down(0));
    let now = || built.machine.now();
    assert_eq!(wait(&built.xen, words(&dom0), &ports, None, now), Ok(true));
    assert!(words(&dom0).take(console.port()) && !words(&dom0).is_pending(exits.port()));
    let ring = built.machine.window().map_shared(built.domain, &[built.frames[CONSOLE]]).unwrap();
    let mut text = [0; 6];
    ring.read(1024, &mut text);
    assert_eq!((&text, ring.load_u32(3084)), (b"hello\n", 6));

    assert_eq!(wait(&built.xen, words(&dom0), &ports, None, now), Ok(true));
    assert!(words(&dom0).take(exits.port()));
    assert_eq!(built.xen.domain_info(built.domain).unwrap().shutdown_reason(), Some(0));
}

#[test]
#[should_panic(expected = "nothing is left that could happen")]
fn a_wait_for_nothing_fails_the_test() {
    let machine = machine();
    let xen = Xen::probe(machine.dom0()).unwrap();
    let port = LocalPort::bind_ipi(&xen, VcpuId::BOOT).unwrap();
    let _never = xen.poll(&[port.port()], None);
}

#[test]
fn a_domain_that_ends_closes_its_ports() {
    let built = ByHand::running(machine());
    let offer = Offer::make(&built.xen, built.domain, DOM0).unwrap();
    let local = offer.connect(&built.xen).unwrap();
    built.xen.destroy_domain(built.domain).unwrap();
    assert_eq!(local.notify(), Ok(()), "an event to nobody is dropped silently");
    drop(local);
    built.machine.assert_clean();
}

#[test]
fn faults_strike_the_call_they_wait_for_and_leave_no_trace_of_it() {
    let machine = machine();
    let xen = Xen::probe(machine.dom0()).unwrap();
    machine.inject(
        Fault::named("XEN_DOMCTL_createdomain", Effect::FailAndScribble(Errno::ENOMEM)).after(1).times(1),
    );
    let first = xen.create_domain(None, &support::request()).unwrap();
    assert_eq!(xen.create_domain(None, &support::request()).unwrap_err().errno, Errno::ENOMEM);
    assert_eq!(machine.domains(), [first]);
    let second = xen.create_domain(None, &support::request()).unwrap();
    assert_eq!(second, DomId::new(2));
}

#[test]
fn a_short_populate_says_how_far_it_came() {
    let built = ByHand::populated(machine());
    built.xen.set_max_memory(built.domain, xen_abi::PageCount::new(100)).unwrap();
    built.machine.inject(Fault::named("XENMEM_populate_physmap", Effect::Short(3)));
    let mut extents = [0; 8];
    assert_eq!(built.xen.populate(built.domain, 0, &mut extents).unwrap().extents, 3);
    assert_eq!(built.machine.guest(built.domain).pages(), 32 + 3);
}

#[test]
fn the_trace_reads_like_a_story() {
    let machine = machine();
    let xen = Xen::probe(machine.dom0()).unwrap();
    machine.clear_trace();
    let domain = xen.create_domain(None, &support::request()).unwrap();
    let _refused = xen.set_max_vcpus(domain, 2);
    xen.console_write(b"so far\n").unwrap();
    xen.destroy_domain(domain).unwrap();
    assert_eq!(
        machine.trace().to_string(),
        "XEN_DOMCTL_createdomain domain=1 vcpus=0x1 flags=0x0\n\
         XEN_DOMCTL_max_vcpus domain=1 vcpus=0x2 -> EINVAL\n\
         CONSOLEIO_write bytes=0x7\n\
         XEN_DOMCTL_destroydomain domain=1\n"
    );
    assert_eq!(machine.console(), "so far\n");
}
