//! Domains whose console and XenStore are served by other domains, on a simulated Xen.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise, in its helpers too")]

use domain_builder::{BuildError, DomainSpec, Ring, Sealed, Servers, build_pv, build_pvh};
use domain_plan::{AddressSize, GuestRequest, Load, PvKernel, PvPlan, PvhKernel, PvhPlan};
use event_channel::LocalPort;
use grant_table::{Access, GrantError, Mapping};
use hypercall::{SharedMemory, Xen};
use protocols::Settings;
use xen_abi::grant_table::{RESERVED_CONSOLE, RESERVED_XENSTORE};
use xen_abi::hvm::{PARAM_CONSOLE_PFN, PARAM_STORE_EVTCHN, PARAM_STORE_PFN};
use xen_abi::{DomId, Errno, GrantRef, GuestVirt, PAGE_SHIFT, PAGE_SIZE, PageCount, Port};
use xen_sim::{Effect, Fault, Guest, Machine, Release, SimHypervisor};

const KERNEL: [u8; 64] = [0x90; 64];
const ENTRY: u64 = 1 << 20;

fn request() -> GuestRequest<'static> {
    GuestRequest::new(PageCount::new(8 << 8), "")
}

fn loads() -> Vec<Load<'static>> {
    vec![Load { address: ENTRY, bytes: KERNEL[..].into(), memory_size: 4096 }]
}

fn spec(servers: Servers) -> DomainSpec {
    let max_memory = request().memory;
    DomainSpec {
        domid: None,
        uuid: [0; 16],
        vcpus: 1,
        max_memory,
        settings: Settings::default(),
        servers,
        serves_store: false,
    }
}

/// Builds a PV or a PVH domain, which is paused.
fn build<'x>(
    machine: &Machine,
    xen: &'x Xen<SimHypervisor>,
    is_pvh: bool,
    servers: Servers,
) -> Result<Sealed<'x, SimHypervisor>, BuildError> {
    let (mut window, spec) = (machine.window(), spec(servers));
    if is_pvh {
        let kernel = PvhKernel { entry: u32::try_from(ENTRY).unwrap(), loads: loads() };
        let plan = PvhPlan::new(kernel, &request(), 1).unwrap();
        return build_pvh(xen, &mut window, &spec, &plan, &[], |_, _| ());
    }
    let kernel = PvKernel {
        address_size: AddressSize::Bits64,
        base: GuestVirt::new(0),
        entry: GuestVirt::new(ENTRY),
        loads: loads(),
        init_p2m: None,
        unmapped_ramdisk: false,
        hypercall_page: None,
    };
    build_pv(xen, &mut window, &spec, &PvPlan::new(kernel, &request()).unwrap(), &[], |_, _| ())
}

/// What the domain itself knows of its XenStore: the ring's frame, and its port.
fn told(guest: &Guest) -> (u64, u64) {
    if let Some(view) = guest.pvh_view() {
        return (view.param(PARAM_STORE_PFN), view.param(PARAM_STORE_EVTCHN));
    }
    let info = guest.view().unwrap().start_info().unwrap();
    (info.store_mfn, u64::from(info.store_evtchn))
}

/// Has `server` map what `domain` granted it as `reference`, and write to it; the guest has to read that in `frame`.
fn write_through(
    server: &Guest,
    domain: &Guest,
    reference: GrantRef,
    read: impl Fn() -> u8,
) -> Result<(), GrantError> {
    let xen = Xen::unprivileged(server.hypervisor()).unwrap();
    let mapping = Mapping::new(&xen, server.grant_slot(), domain.domain(), reference, Access::ReadWrite)?;
    let mut bytes = [1; PAGE_SIZE];
    mapping.read(0, &mut bytes);
    assert_eq!(bytes, [0; PAGE_SIZE], "a ring begins empty");
    mapping.write(7, &[42]);
    assert_eq!(read(), 42);
    Ok(())
}

#[test]
fn those_that_serve_the_rings_reach_them_and_nobody_else() {
    for (release, is_pvh) in Release::ALL.into_iter().flat_map(|release| [(release, false), (release, true)])
    {
        let machine = Machine::builder().release(release).stale_memory().build();
        let [store, console, other] = [0; 3].map(|_| machine.spawn(PageCount::new(4)));
        let xen = Xen::probe(machine.dom0()).unwrap();
        let servers = Servers { console: Some(console.domain()), store: Some(store.domain()) };
        let built = build(&machine, &xen, is_pvh, servers).unwrap();
        let Ring { frame, port } = built.store().unwrap();
        let started = built.start().unwrap();
        let guest = machine.guest(started.domid);
        assert_eq!(told(&guest), (frame.raw(), u64::from(port.raw())), "Xen {release}");
        assert_eq!((started.console, port), (Port::new(1), Port::new(2)));

        let byte = |frame: u64| match guest.pvh_view() {
            Some(view) => view.read((frame << PAGE_SHIFT) + 7, 1).unwrap()[0],
            None => guest.byte(xen_abi::Mfn::new(frame), 7),
        };
        if let Some(view) = guest.pvh_view() {
            assert_eq!(view.param(PARAM_CONSOLE_PFN), started.console_frame.raw());
        }
        for (server, reference, port, frame) in [
            (&store, RESERVED_XENSTORE, port, frame),
            (&console, RESERVED_CONSOLE, started.console, started.console_frame),
        ] {
            write_through(&other, &guest, reference, || 0).unwrap_err();
            write_through(server, &guest, reference, || byte(frame.raw())).unwrap();
            let own = Xen::unprivileged(other.hypervisor()).unwrap();
            LocalPort::connect(&own, guest.domain(), port).unwrap_err();
            let own = Xen::unprivileged(server.hypervisor()).unwrap();
            LocalPort::connect(&own, guest.domain(), port).unwrap().notify().unwrap();
        }
        for guest in [guest, store, console, other] {
            xen.destroy_domain(guest.domain()).unwrap();
        }
        machine.assert_clean();
    }
}

#[test]
fn a_domain_without_a_store_is_told_of_none_and_grants_nothing() {
    for is_pvh in [false, true] {
        let machine = Machine::builder().stale_memory().build();
        let xen = Xen::probe(machine.dom0()).unwrap();
        let built = build(&machine, &xen, is_pvh, Servers::default()).unwrap();
        assert_eq!(built.store(), None);
        let guest = machine.guest(built.domid());
        assert_eq!(told(&guest).1, 0, "event channel 0 is none");
        assert!(!machine.trace().calls().iter().any(|call| call.name == "XENMEM_acquire_resource"));
        drop(built);
        machine.assert_clean();
    }
}

#[test]
fn whichever_call_fails_nothing_stays() {
    let servers = Servers { console: Some(DomId::new(5)), store: Some(DomId::new(6)) };
    for is_pvh in [false, true] {
        let machine = Machine::builder().build();
        let xen = Xen::probe(machine.dom0()).unwrap();
        machine.clear_trace();
        drop(build(&machine, &xen, is_pvh, servers).unwrap());
        let calls = machine.trace().calls().to_vec();
        // The last is the one that destroys it.
        for (number, call) in calls.iter().enumerate().take(calls.len() - 1) {
            machine.inject(Fault::at(machine.calls() + number, Effect::Fail(Errno::EIO)));
            let text = build(&machine, &xen, is_pvh, servers).unwrap_err().to_string();
            let named = text.contains(call.name) || call.name == "map frames";
            assert!(named && text.contains("EIO"), "call {number}, {}: {text}", call.name);
            machine.assert_clean();
        }
    }
}
