//! Channels that VMs are born with, on a simulated Xen.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise, in its helpers too")]

mod support;

use event_channel::LocalPort;
use grant_table::GrantTable;
use hypercall::Xen;
use protocols::channel::{ChannelWord, Channels, End};
use protocols::{BootSpec, ExitAction, Life, MachineStatus};
use support::{logged, run, spec, when_running};
use vchan::{Client, Order, Server, Sizes, Terms};
use xen_abi::sched::{SHUTDOWN_CRASH, SHUTDOWN_POWEROFF};
use xen_abi::{DomId, Errno, GrantRef, Port};
use xen_sim::{Effect, Fault, Guest, Machine};

/// A server, domain 7, and its clients, domains 8 and 9, with the command lines that domb gives them.
fn platform() -> [BootSpec; 3] {
    let clients = [("first", 8), ("second", 9)];
    let words = |index: usize| ChannelWord::pair(index, 2, ("server", 7), clients[index]).unwrap();
    let ((server_1, client_1), (server_2, client_2)) = (words(0), words(1));
    let with = |name: &str, domid, command_line| BootSpec { domid: Some(domid), command_line, ..spec(name) };
    let server = with("server", 7, format!("{server_1} {server_2}"));
    [
        BootSpec { channels: Channels { clients: vec![8, 9] }, ..server },
        with("first", 8, client_1.to_string()),
        with("second", 9, client_2.to_string()),
    ]
}

/// The channels on a guest's own command line.
fn words(guest: &Guest) -> Vec<ChannelWord> {
    let info = guest.view().unwrap().start_info().unwrap();
    ChannelWord::on(core::str::from_utf8(info.command_line()).unwrap()).collect()
}

/// What a server's kernel does with each of its words, and a client's with its one; bytes go to and fro.
fn talk(machine: &Machine) {
    let sizes = Sizes::new(Order::SMALLEST, Order::new(12).unwrap()).unwrap();
    let guest = machine.guest(DomId::new(7));
    let xen = Xen::unprivileged(guest.hypervisor()).unwrap();
    let mut table = GrantTable::open(&xen, &mut guest.window(), 1).unwrap();
    let mut frames = guest.frames().into_iter().rev();
    for word in words(&guest) {
        assert_eq!(word.end, End::Server);
        let terms =
            Terms { client: DomId::new(word.domid), sizes, reference: Some(GrantRef::new(word.reference)) };
        let port = LocalPort::adopt(&xen, Port::new(word.port));
        let pages = frames.by_ref().take(2).map(|frame| guest.own_page(frame)).collect();
        let mut server = Server::offer(&xen, &mut table, port, &terms, pages).unwrap();
        let peer = machine.guest(DomId::new(word.domid));
        let [told] = <[ChannelWord; 1]>::try_from(words(&peer)).unwrap();
        assert_eq!((told.end, told.name.as_str(), told.domid), (End::Client, "server", 7));
        let peer_xen = Xen::unprivileged(peer.hypervisor()).unwrap();
        let (reference, port) = (GrantRef::new(told.reference), Port::new(told.port));
        let slot = || Some(peer.grant_slot());
        let mut client = Client::connect(&peer_xen, DomId::new(7), reference, port, slot).unwrap();
        client.write(word.name.as_bytes()).unwrap();
        let mut buffer = [0; 16];
        let count = server.read(&mut buffer).unwrap();
        assert_eq!(&buffer[..count], word.name.as_bytes());
        client.close().unwrap();
        server.close(&mut table).unwrap();
    }
}

#[test]
fn both_ends_find_each_other_by_their_command_lines() {
    let machine = Machine::builder().build();
    when_running(&machine, 9, |guest| {
        let _ = guest;
    });
    machine.when_idle(|machine| {
        talk(machine);
        for domain in [7, 8, 9] {
            machine.guest(DomId::new(domain)).shut_down(SHUTDOWN_POWEROFF);
        }
    });
    assert_eq!(run(&machine, &platform(), ""), MachineStatus::Success, "{}", logged());
    machine.assert_clean();
}

#[test]
fn a_server_that_comes_back_has_its_ports_again() {
    let machine = Machine::builder().build();
    let mut specs = platform();
    specs[0].on_crash = ExitAction::Restart;
    specs[0].life = Life { restart_delay_ms: 0, ..Life::default() };
    when_running(&machine, 7, |guest| guest.shut_down(SHUTDOWN_CRASH));
    when_running(&machine, 7, |_| {});
    machine.when_idle(|machine| {
        talk(machine);
        for domain in [7, 8, 9] {
            machine.guest(DomId::new(domain)).shut_down(SHUTDOWN_POWEROFF);
        }
    });
    assert_eq!(run(&machine, &specs, ""), MachineStatus::Success, "{}", logged());
    machine.assert_clean();
}

#[test]
fn whichever_port_cannot_be_opened_nothing_stays() {
    // Of the server's three ports the first is its console's.
    for index in 0..3 {
        let machine = Machine::builder().build();
        let fault = Fault::named("EVTCHNOP_alloc_unbound", Effect::Fail(Errno::ENOSPC));
        machine.inject(fault.after(index).times(1));
        assert_eq!(run(&machine, &platform(), ""), MachineStatus::BuildFailed, "{}", logged());
        assert!(logged().contains("vm=server step=ports: EVTCHNOP_alloc_unbound"), "{}", logged());
        machine.assert_clean();
    }
}
