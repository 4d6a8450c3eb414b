//! Domains that run: ports, grants, the console, their end, and Dom0 that waits for all that.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise, in its helpers too")]

mod support;

use event_channel::{EventWords, LocalPort, Offer, wait};
use grant_table::{Access, GrantError, GrantTable, Mapping, Seed, seed};
use hypercall::{FrameWindow, SharedMemory, Xen};
use support::{ByHand, CONSOLE};
use xen_abi::event_channel::VIRQ_DOM_EXC;
use xen_abi::grant_table::RESERVED_CONSOLE;
use xen_abi::{DomId, Errno, GrantRef, Port, VcpuId};
use xen_sim::{Effect, Fault, Machine, SimHypervisor};

const DOM0: DomId = DomId::new(0);

fn machine() -> Machine {
    Machine::builder().build()
}

fn words(of: &SimHypervisor) -> EventWords<'_> {
    EventWords::new(of.pending_words(), of.mask_words())
}

#[test]
fn an_event_arrives_at_the_other_end() {
    let built = ByHand::running(machine());
    let dom0 = built.machine.dom0();
    let offer = Offer::make(&built.xen, built.domain, DOM0).unwrap();
    let local = offer.connect(&built.xen).unwrap();
    assert!(words(&dom0).take(local.port()), "Xen notifies the end that connects");
    local.notify().unwrap();
    let guest = built.machine.guest(built.domain).hypervisor();
    assert!(words(&guest).take(offer.port));
    assert_eq!(offer.connect(&built.xen).unwrap_err().errno, Errno::EINVAL, "connected already");
    local.close().unwrap();
    let again = offer.connect(&built.xen);
    assert!(again.is_ok(), "an end whose peer closed waits for the same domain again");
}

#[test]
fn a_dropped_port_is_closed_and_its_number_is_used_again() {
    let machine = machine();
    let xen = Xen::probe(machine.dom0()).unwrap();
    let port = LocalPort::bind_ipi(&xen, VcpuId::BOOT).unwrap().port();
    machine.assert_clean();
    assert_eq!(LocalPort::bind_ipi(&xen, VcpuId::BOOT).unwrap().leak(), port);
    assert_eq!(machine.leftovers().len(), 1);
}

#[test]
fn a_virtual_interrupt_is_bound_once() {
    let machine = machine();
    let xen = Xen::probe(machine.dom0()).unwrap();
    let _first = LocalPort::bind_virq(&xen, VIRQ_DOM_EXC, VcpuId::BOOT).unwrap();
    let second = LocalPort::bind_virq(&xen, VIRQ_DOM_EXC, VcpuId::BOOT).unwrap_err();
    assert_eq!(second.errno, Errno::EEXIST);
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
fn a_deadline_ends_a_wait() {
    let machine = machine();
    let xen = Xen::probe(machine.dom0()).unwrap();
    let port = LocalPort::bind_ipi(&xen, VcpuId::BOOT).unwrap();
    let deadline = machine.now() + 5_000_000;
    let dom0 = machine.dom0();
    let now = || machine.now();
    assert_eq!(wait(&xen, words(&dom0), &[port.port()], Some(deadline), now), Ok(false));
    assert!(machine.now() >= deadline);
}

#[test]
fn more_ports_than_one_poll_takes_are_watched_in_turn() {
    let machine = machine();
    let xen = Xen::probe(machine.dom0()).unwrap();
    let held: Vec<_> = (0..300).map(|_| LocalPort::bind_ipi(&xen, VcpuId::BOOT).unwrap()).collect();
    let ports: Vec<Port> = held.iter().map(LocalPort::port).collect();
    let (last, sender) = (ports[299], machine.clone());
    let dom0 = machine.dom0();
    machine.when_idle(move |_| {
        let xen = Xen::probe(sender.dom0()).unwrap();
        xen.send(last).unwrap();
    });
    let now = || machine.now();
    assert_eq!(wait(&xen, words(&dom0), &ports, None, now), Ok(true));
    assert_eq!(words(&dom0).pending().collect::<Vec<_>>(), [last]);
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
fn a_seeded_entry_can_be_mapped_by_its_peer() {
    let built = ByHand::running(machine());
    let table = built.xen.grant_table_frame(built.domain).unwrap();
    let console = Seed { reference: RESERVED_CONSOLE, frame: built.frames[CONSOLE], peer: DOM0 };
    seed(&mut built.machine.window(), built.domain, table, &[console]).unwrap();
    let slot = built.machine.grant_slot(DOM0);
    let mapping = Mapping::new(&built.xen, slot, built.domain, RESERVED_CONSOLE, Access::ReadWrite).unwrap();
    mapping.memory().write(0, b"typed");
    let ring = built.machine.guest(built.domain).view().unwrap().read_frame(built.frames[CONSOLE]);
    assert_eq!(&ring[..5], b"typed");
    drop(mapping);
    built.xen.destroy_domain(built.domain).unwrap();
    built.machine.assert_clean();
}

#[test]
fn a_grant_is_mapped_read_and_cannot_be_revoked_meanwhile() {
    let machine = machine();
    let (granter, mapper) = (ByHand::running(machine.clone()), ByHand::running(machine.clone()));
    let granter_xen = machine.guest(granter.domain);
    let mut table = own_table(&machine, granter.domain);
    let frame = granter.frames[1];
    let reference = table.grant(mapper.domain, frame, Access::ReadOnly).unwrap();
    assert_eq!(reference, GrantRef::new(8), "the first eight are reserved");

    let guest = machine.guest(mapper.domain);
    let xen = Xen::unprivileged(guest.hypervisor()).unwrap();
    let refused =
        Mapping::new(&xen, guest.grant_slot(), granter.domain, reference, Access::ReadWrite).unwrap_err();
    assert!(matches!(refused, GrantError::Refused { status: -3, .. }), "{refused}");
    let mapping =
        Mapping::new(&xen, guest.grant_slot(), granter.domain, reference, Access::ReadOnly).unwrap();
    granter_xen.window().with_frames(DomId::SELF, &[frame], |page| page[7] = 42).unwrap();
    let mut byte = [0];
    mapping.memory().read(7, &mut byte);
    assert_eq!(byte, [42]);

    assert!(table.is_mapped(reference));
    assert_eq!(table.revoke(reference), Err(GrantError::InUse { reference }));
    mapping.unmap().unwrap();
    assert_eq!(table.revoke(reference), Ok(()));
    assert_eq!(table.revoke(reference), Err(GrantError::NotGranted { reference }));
    let gone = Mapping::new(&xen, guest.grant_slot(), granter.domain, reference, Access::ReadOnly);
    assert!(gone.is_err());
}

/// The grant table of a domain, as its own kernel would open it.
fn own_table(machine: &Machine, domain: DomId) -> GrantTable<xen_sim::SimShared> {
    let guest = machine.guest(domain);
    let xen = Xen::unprivileged(guest.hypervisor()).unwrap();
    GrantTable::open(&xen, &mut guest.window(), 1).unwrap()
}

#[test]
fn a_full_table_says_so() {
    let built = ByHand::running(machine());
    let mut table = own_table(&built.machine, built.domain);
    let granted = (0..).map_while(|_| table.grant(DOM0, built.frames[1], Access::ReadOnly).ok()).count();
    assert_eq!(granted, 512 - 8);
    assert_eq!(
        table.grant(DOM0, built.frames[1], Access::ReadOnly),
        Err(GrantError::TableFull { entries: 504 })
    );
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
