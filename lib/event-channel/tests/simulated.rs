//! Ports and waiting on a simulated Xen.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise, in its helpers too")]

use event_channel::{EventWords, LocalPort, Offer, wait};
use hypercall::Xen;
use xen_abi::event_channel::{PortState, VIRQ_DOM_EXC};
use xen_abi::{DomId, Errno, PageCount, Port, VcpuId};
use xen_sim::{Effect, Fault, Machine, SimHypervisor};

const DOM0: DomId = DomId::new(0);

fn machine() -> (Machine, Xen<SimHypervisor>) {
    let machine = Machine::builder().build();
    let xen = Xen::probe(machine.dom0()).unwrap();
    (machine, xen)
}

fn words(of: &SimHypervisor) -> EventWords<'_> {
    EventWords::new(of.pending_words(), of.mask_words())
}

#[test]
fn an_event_arrives_at_the_other_end() {
    let (machine, xen) = machine();
    let (dom0, guest) = (machine.dom0(), machine.spawn(PageCount::new(1)));
    let offer = Offer::make(&xen, guest.domain(), DOM0).unwrap();
    let local = offer.connect(&xen).unwrap();
    assert!(words(&dom0).take(local.port()), "Xen notifies the end that connects");
    local.notify().unwrap();
    assert!(words(&guest.hypervisor()).take(offer.port));
    assert_eq!(offer.connect(&xen).unwrap_err().errno, Errno::EINVAL, "connected already");
    local.close().unwrap();
    assert!(offer.connect(&xen).is_ok(), "an end whose peer closed waits for the same domain again");
}

#[test]
fn only_the_domain_that_an_offer_was_made_for_can_connect() {
    let (machine, xen) = machine();
    let [one, two] = [(); 2].map(|()| machine.spawn(PageCount::new(1)));
    let offer = Offer::make(&xen, one.domain(), two.domain()).unwrap();
    assert_eq!(offer.connect(&xen).unwrap_err().errno, Errno::EINVAL);
    let peer = Xen::unprivileged(two.hypervisor()).unwrap();
    let port = offer.connect(&peer).unwrap();
    port.notify().unwrap();
    assert!(words(&one.hypervisor()).is_pending(offer.port));
}

#[test]
fn a_domain_without_privilege_makes_ports_of_its_own_only() {
    let (machine, _) = machine();
    let [one, two] = [(); 2].map(|()| machine.spawn(PageCount::new(1)));
    let xen = Xen::unprivileged(one.hypervisor()).unwrap();
    assert!(LocalPort::listen(&xen, two.domain()).is_ok());
    assert_eq!(Offer::make(&xen, two.domain(), one.domain()).unwrap_err().errno, Errno::EPERM);
}

#[test]
fn a_dropped_port_is_closed_and_its_number_is_used_again() {
    let (machine, xen) = machine();
    let port = LocalPort::bind_ipi(&xen, VcpuId::BOOT).unwrap().port();
    machine.assert_clean();
    assert_eq!(LocalPort::bind_ipi(&xen, VcpuId::BOOT).unwrap().leak(), port);
    assert_eq!(machine.leftovers().len(), 1);
    drop(LocalPort::adopt(&xen, port));
    machine.assert_clean();
}

#[test]
fn a_port_that_cannot_be_closed_is_said_to_stay() {
    let (machine, xen) = machine();
    machine.inject(Fault::named("EVTCHNOP_close", Effect::Fail(Errno::EIO)).times(1));
    let port = LocalPort::bind_ipi(&xen, VcpuId::BOOT).unwrap();
    assert_eq!(port.close().unwrap_err().errno, Errno::EIO);
    assert_eq!(
        machine.trace().named("EVTCHNOP_close").count(),
        1,
        "close consumes the port: it is not closed again"
    );
}

#[test]
fn a_virtual_interrupt_is_bound_once() {
    let (_, xen) = machine();
    let _first = LocalPort::bind_virq(&xen, VIRQ_DOM_EXC, VcpuId::BOOT).unwrap();
    let second = LocalPort::bind_virq(&xen, VIRQ_DOM_EXC, VcpuId::BOOT).unwrap_err();
    assert_eq!(second.errno, Errno::EEXIST);
}

#[test]
fn a_domain_that_ends_wakes_who_waits_for_that() {
    let (machine, xen) = machine();
    let (dom0, guest) = (machine.dom0(), machine.spawn(PageCount::new(1)));
    let exits = LocalPort::bind_virq(&xen, VIRQ_DOM_EXC, VcpuId::BOOT).unwrap();
    machine.when_idle(move |_| guest.crash());
    assert_eq!(wait(&xen, words(&dom0), &[exits.port()], None, || machine.now()), Ok(true));
    assert!(words(&dom0).take(exits.port()));
}

#[test]
fn what_is_pending_already_needs_no_call() {
    let (machine, xen) = machine();
    let dom0 = machine.dom0();
    let port = LocalPort::bind_ipi(&xen, VcpuId::BOOT).unwrap();
    port.notify().unwrap();
    assert_eq!(wait(&xen, words(&dom0), &[port.port()], None, || machine.now()), Ok(true));
    assert_eq!(machine.trace().named("SCHEDOP_poll").count(), 0);
}

#[test]
fn a_deadline_ends_a_wait() {
    let (machine, xen) = machine();
    let dom0 = machine.dom0();
    let port = LocalPort::bind_ipi(&xen, VcpuId::BOOT).unwrap();
    let deadline = machine.now() + 5_000_000;
    assert_eq!(wait(&xen, words(&dom0), &[port.port()], Some(deadline), || machine.now()), Ok(false));
    assert!(machine.now() >= deadline);
}

#[test]
fn more_ports_than_one_poll_takes_are_watched_in_turn() {
    let (machine, xen) = machine();
    let dom0 = machine.dom0();
    let held: Vec<_> = (0..300).map(|_| LocalPort::bind_ipi(&xen, VcpuId::BOOT).unwrap()).collect();
    let ports: Vec<Port> = held.iter().map(LocalPort::port).collect();
    let (last, now) = (ports[299], || machine.now());
    machine.when_idle(move |machine| Xen::probe(machine.dom0()).unwrap().send(last).unwrap());
    assert_eq!(wait(&xen, words(&dom0), &ports, None, now), Ok(true));
    assert_eq!(words(&dom0).pending().collect::<Vec<_>>(), [last]);
    words(&dom0).take(last);
    let deadline = machine.now() + 10_000_000;
    assert_eq!(wait(&xen, words(&dom0), &ports, Some(deadline), now), Ok(false));
    assert!(
        (deadline..deadline + 1_000_000).contains(&machine.now()),
        "a slice does not outlast the deadline"
    );
}

#[test]
fn a_port_tells_what_it_is_bound_to_and_that_its_peer_is_gone() {
    let (machine, xen) = machine();
    let (one, two) = (machine.spawn(PageCount::new(1)), machine.spawn(PageCount::new(1)));
    let [server, client] = [&one, &two].map(|guest| Xen::unprivileged(guest.hypervisor()).unwrap());
    let listening = LocalPort::listen(&server, two.domain()).unwrap();
    assert_eq!(listening.state(), Ok(PortState::Unbound(two.domain())));
    let connected = LocalPort::connect(&client, one.domain(), listening.port()).unwrap();
    let bound = |domain, port| Ok(PortState::Interdomain { domain, port });
    assert_eq!(listening.state(), bound(two.domain(), connected.port()));
    assert_eq!(connected.state(), bound(one.domain(), listening.port()));
    assert_eq!(LocalPort::bind_ipi(&client, VcpuId::BOOT).unwrap().state(), Ok(PortState::Other));
    assert_eq!(client.port_state(Port::new(999)), Ok(PortState::Closed));
    assert_eq!(client.port_state(Port::new(0)).unwrap_err().errno, Errno::EINVAL);
    core::mem::forget(connected);
    xen.destroy_domain(two.domain()).unwrap();
    assert_eq!(listening.state(), Ok(PortState::Unbound(two.domain())), "gone");
}
