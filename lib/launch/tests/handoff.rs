//! Platforms in which one VM serves a XenStore to the others, on a simulated Xen.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise, in its helpers too")]

mod support;

use event_channel::LocalPort;
use grant_table::{Access, Mapping};
use hypercall::{SharedMemory, Xen};
use protocols::channel::Channels;
use protocols::store::{STORE_PORT, StoreRole};
use protocols::{BootSpec, ExitAction, GuestKind, Life, MachineStatus};
use support::{logged, run, spec, when_running};
use xen_abi::event_channel::VIRQ_DOM_EXC;
use xen_abi::grant_table::RESERVED_XENSTORE;
use xen_abi::sched::{SHUTDOWN_CRASH, SHUTDOWN_POWEROFF};
use xen_abi::{DomId, Errno, Port, VcpuId};
use xen_sim::{Effect, Fault, Machine, Release};

const STORE: u16 = 5;
const CLIENTS: [u16; 2] = [6, 7];

/// A XenStore, domain 5, and two clients, domains 6 (PV) and 7 (PVH), of which the first serves a channel for the second.
fn platform() -> [BootSpec; 3] {
    let client = |name: &str, domid| BootSpec {
        domid: Some(domid),
        store: StoreRole::Client { server: STORE },
        ..spec(name)
    };
    [
        BootSpec { domid: Some(STORE), store: StoreRole::Server, ..spec("store") },
        BootSpec { channels: Channels { clients: vec![7] }, ..client("control", 6) },
        BootSpec { kind: GuestKind::Pvh, ..client("guest", 7) },
    ]
}

/// Ends whatever runs when the builder next sleeps.
fn end_all(machine: &Machine) {
    machine.when_idle(|machine| {
        for domain in [7, 6, 5].map(DomId::new) {
            if machine.has_domain(domain) && machine.guest(domain).runs() {
                machine.guest(domain).shut_down(SHUTDOWN_POWEROFF);
            }
        }
    });
}

/// The port by which the store hears of domains that end.
fn listen(machine: &Machine) -> Port {
    let store = machine.guest(DomId::new(STORE));
    let xen = Xen::unprivileged(store.hypervisor()).unwrap();
    LocalPort::bind_virq(&xen, VIRQ_DOM_EXC, VcpuId::BOOT).unwrap().leak()
}

fn has_heard(machine: &Machine, port: Port) -> bool {
    let words = machine.guest(DomId::new(STORE)).hypervisor();
    let (word, bit) = ((port.raw() / 64) as usize, port.raw() % 64);
    words.pending_words()[word].load(core::sync::atomic::Ordering::SeqCst) >> bit & 1 == 1
}

#[test]
fn the_store_reaches_its_clients_and_hears_of_their_ends_and_so_does_the_builder() {
    for release in Release::ALL {
        let machine = Machine::with_release(release);
        let whole = machine.clone();
        when_running(&machine, CLIENTS[1], move |guest| {
            let machine = whole;
            let heard_by = listen(&machine);
            let store = machine.guest(DomId::new(STORE));
            // What Xen lets the XenStore's domain ask, and only that one.
            let asks =
                |domain: u16| Xen::probe_to_ask(machine.guest(DomId::new(domain)).hypervisor()).is_ok();
            assert_eq!([STORE, CLIENTS[0]].map(asks), [true, false], "Xen {release}");
            for client in CLIENTS.map(DomId::new) {
                let xen = Xen::unprivileged(store.hypervisor()).unwrap();
                let slot = store.grant_slot();
                let ring = Mapping::new(&xen, slot, client, RESERVED_XENSTORE, Access::ReadWrite).unwrap();
                ring.write(0, b"ring");
                LocalPort::connect(&xen, client, Port::new(STORE_PORT)).unwrap().leak();
            }
            guest.shut_down(SHUTDOWN_POWEROFF);
            assert!(has_heard(&machine, heard_by), "Xen {release} tells the store");
            // The builder, which is not told, looks by itself.
            end_all(&machine);
        });
        assert_eq!(run(&machine, &platform(), ""), MachineStatus::Success, "Xen {release}: {}", logged());
        machine.assert_clean();
    }
    assert!(logged().contains("vm=guest domid=7 event=ended reason=poweroff"), "{}", logged());
}

#[test]
fn a_client_that_comes_back_has_its_ring_again() {
    let machine = Machine::builder().build();
    let mut specs = platform();
    specs[1].on_crash = ExitAction::Restart;
    specs[1].life = Life { restart_delay_ms: 0, ..Life::default() };
    when_running(&machine, 6, |guest| guest.shut_down(SHUTDOWN_CRASH));
    let whole = machine.clone();
    when_running(&machine, 6, move |guest| {
        let info = guest.view().unwrap().start_info().unwrap();
        assert_eq!(info.store_evtchn, STORE_PORT);
        let machine = whole;
        let store = machine.guest(DomId::new(STORE));
        let xen = Xen::unprivileged(store.hypervisor()).unwrap();
        let (slot, client) = (store.grant_slot(), DomId::new(6));
        Mapping::new(&xen, slot, client, RESERVED_XENSTORE, Access::ReadWrite).unwrap();
        end_all(&machine);
    });
    assert_eq!(run(&machine, &specs, ""), MachineStatus::Success, "{}", logged());
    machine.assert_clean();
}

#[test]
fn stores_that_the_vms_do_not_agree_on_are_refused_before_anything_is_built() {
    let mut nobody = platform();
    nobody[2].store = StoreRole::Client { server: 9 };
    let mut two = platform();
    two[2].store = StoreRole::Server;
    for (specs, text) in [
        (
            nobody,
            "VM \"guest\" is a client of a XenStore of domain 9, and no VM with that domain id serves one",
        ),
        (two, "VMs \"store\" and \"guest\" both serve a XenStore: there can be one"),
    ] {
        let machine = Machine::builder().build();
        assert_eq!(run(&machine, &specs, ""), MachineStatus::BuildFailed, "{}", logged());
        assert!(logged().contains(text), "{}", logged());
    }
    assert!(!logged().contains("event=built"), "{}", logged());
}

#[test]
fn a_client_needs_a_port_for_its_store() {
    let machine = Machine::builder().build();
    let mut specs = platform();
    // Console and store: there is none left for its channel.
    specs[1].settings.limits.event_channels = 2;
    assert_eq!(run(&machine, &specs, ""), MachineStatus::BuildFailed, "{}", logged());
    assert!(logged().contains("vm=control step=ports"), "{}", logged());
    machine.assert_clean();
}

#[test]
fn whichever_call_fails_nothing_stays() {
    let machine = Machine::builder().build();
    end_all(&machine);
    assert_eq!(run(&machine, &platform(), ""), MachineStatus::Success, "{}", logged());
    let calls = machine.trace().calls().to_vec();
    let built = calls.iter().rposition(|call| call.name == "XEN_DOMCTL_unpausedomain").unwrap();
    let create = calls.iter().position(|call| call.name == "XEN_DOMCTL_createdomain").unwrap();
    assert!(calls.iter().any(|call| call.name == "XEN_DOMCTL_set_virq_handler"));
    for (number, call) in calls.iter().enumerate().take(built + 1).skip(create) {
        let machine = Machine::builder().build();
        machine.inject(Fault::at(number, Effect::Fail(Errno::EIO)));
        end_all(&machine);
        let status = run(&machine, &platform(), "");
        assert_ne!(status, MachineStatus::Success, "{}: {}", call.name, logged());
        machine.assert_clean();
    }
}
