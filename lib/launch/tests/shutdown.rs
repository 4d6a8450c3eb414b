//! VMs with XenStores of their own: asked to power off at the prompt and when the platform ends; those that obey, those that do not,
//! and those that break the rules.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise, in its helpers too"
)]

mod support;

use hypercall::{SharedMemory, Xen};
use launch::Options;
use protocols::platform::Ends;
use protocols::{BootSpec, ExitAction, Life, MachineStatus, PlatformSpec, StoreRole};
use support::{logged, platform_archive, run_with, spec, then, then_end};
use xen_abi::sched::{SHUTDOWN_CRASH, SHUTDOWN_POWEROFF};
use xen_abi::{Mfn, Port};
use xen_sim::{Guest, Machine, SimOwnPage};
use xenstore::{Kind, Message, Reader, Ring, Side};

/// Where a guest says in the page how much it has asked.
const REQUESTS_PRODUCER: usize = 2052;
/// What a VM gets to power off, in milliseconds and nanoseconds.
const TIME_MS: u32 = 500;
const TIME: u64 = 500_000_000;

fn with_store(name: &str) -> BootSpec {
    BootSpec { store: StoreRole::Own, ..spec(name) }
}

fn after(name: &str, after: &str) -> BootSpec {
    BootSpec { life: Life { after: vec![after.into()], ..Life::default() }, ..with_store(name) }
}

/// The page of a guest's XenStore, as its start info says.
fn page(guest: &Guest) -> (SimOwnPage, Port) {
    let info = guest.view().unwrap().start_info().unwrap();
    (guest.own_page(Mfn::new(info.store_mfn)), Port::new(info.store_evtchn))
}

/// The guest's next request, whose answer is taken by [`hears`].
fn asks(machine: &Machine, domain: u16, kind: Kind, strings: &'static [&'static str]) {
    then(machine, domain, move |guest| {
        let (page, port) = page(guest);
        let bytes = Message::new(kind, 1, 0, strings.join("\0").into_bytes()).encode();
        assert_eq!(Ring::new(page, Side::Client).write(&bytes), Ok(bytes.len()));
        Xen::unprivileged(guest.hypervisor()).unwrap().send(port).unwrap();
    });
}

/// What has come is this; the guest has let go of its page afterwards.
fn hears(machine: &Machine, domain: u16, expected: &'static [(Kind, &'static str)]) {
    then(machine, domain, move |guest| {
        let (mut buffer, mut reader) = ([0; 1024], Reader::default());
        let count = Ring::new(page(guest).0, Side::Client).read(&mut buffer).unwrap();
        reader.push(&buffer[..count]);
        let messages: Vec<_> = std::iter::from_fn(|| reader.take_message().unwrap()).collect();
        let text = |message: &Message| String::from_utf8_lossy(&message.payload).replace('\0', " ");
        let got: Vec<_> = messages.iter().map(|message| (message.header.kind, text(message))).collect();
        let expected: Vec<_> = expected.iter().map(|(kind, text)| (*kind, (*text).to_owned())).collect();
        assert_eq!(got, expected, "domain {}", guest.domain());
    });
}

fn listens(machine: &Machine, domain: u16) {
    asks(machine, domain, Kind::Watch, &["control/shutdown", "down", ""]);
    hears(machine, domain, &[(Kind::Watch, "OK "), (Kind::WatchEvent, "control/shutdown down ")]);
}

fn obeys(machine: &Machine, domain: u16) {
    hears(machine, domain, &[(Kind::WatchEvent, "control/shutdown down ")]);
    then_end(machine, domain, SHUTDOWN_POWEROFF);
}

fn types(machine: &Machine, text: &'static str) {
    machine.when_idle(move |machine| assert_eq!(machine.type_at_console(text.as_bytes()), text.len()));
}

fn time_passes(machine: &Machine, nanos: u64) {
    machine.when_idle(move |machine| machine.advance(nanos));
}

fn run(machine: &Machine, specs: &[BootSpec]) -> (MachineStatus, String) {
    let settings = PlatformSpec { shutdown_ms: Some(TIME_MS), ..PlatformSpec::default() };
    run_platform(machine, &settings, specs)
}

fn run_platform(machine: &Machine, settings: &PlatformSpec, specs: &[BootSpec]) -> (MachineStatus, String) {
    let archive = platform_archive(Some(settings), specs);
    let status = run_with(machine, &archive, &Options::parse("interactive"));
    machine.assert_clean();
    (status, logged())
}

/// Where each of these is in the log, one after the other.
fn in_order(log: &str, wanted: &[&str]) {
    let mut rest = log;
    for text in wanted {
        let found = rest.split_once(text);
        rest = found.unwrap_or_else(|| panic!("{text:?} is not where it should be: {log}")).1;
    }
}

#[test]
fn a_vm_that_listens_is_asked_at_the_prompt_and_does_not_come_back() {
    let machine = Machine::builder().build();
    listens(&machine, 1);
    types(&machine, "\x1dshutdown a\r");
    obeys(&machine, 1);
    let a = BootSpec { on_poweroff: ExitAction::Restart, ..with_store("a") };
    let (status, log) = run(&machine, &[a]);
    assert_eq!(status, MachineStatus::Success, "{log}");
    in_order(&log, &["vm=a domid=1 event=asked-to-power-off", "vm=a domid=1 event=ended reason=poweroff"]);
    assert!(!log.contains("event=restarting") && !log.contains("event=late"), "{log}");
    assert!(machine.console().contains("a is asked to power off, and has 500 ms\n"), "{}", machine.console());
}

#[test]
fn a_vm_that_never_answers_is_said_to_be_late_once_and_runs_on() {
    let machine = Machine::builder().build();
    types(&machine, "\x1dshutdown\r");
    time_passes(&machine, TIME + 1);
    time_passes(&machine, TIME + 1);
    types(&machine, "destroy a\r");
    then_end(&machine, 2, SHUTDOWN_POWEROFF);
    let (status, log) = run(&machine, &[with_store("a"), spec("b")]);
    assert_eq!(status, MachineStatus::Success, "{log}");
    let late = "vm=a domid=1 event=late: it was asked to power off 500 ms ago and still runs";
    in_order(
        &log,
        &["vm=a domid=1 event=asked-to-power-off", late, "vm=a domid=1 event=ended reason=destroyed"],
    );
    assert_eq!(log.matches("event=late").count(), 1, "{log}");
    assert!(machine.console().contains("asked to power off, with 500 ms each: a\n"), "{}", machine.console());
}

#[test]
fn who_cannot_be_asked_is_said_with_the_reason() {
    let machine = Machine::builder().build();
    then(&machine, 2, |guest| {
        let (page, port) = page(guest);
        page.store_u32(REQUESTS_PRODUCER, 5000);
        Xen::unprivileged(guest.hypervisor()).unwrap().send(port).unwrap();
    });
    types(
        &machine,
        "\x1dshutdown plain\rshutdown liar\rpause idle\rshutdown idle\rshutdown nobody\rshutdown\r",
    );
    types(&machine, "poweroff\r");
    let (status, log) = run(&machine, &[spec("plain"), with_store("liar"), with_store("idle")]);
    assert_eq!(status, MachineStatus::Success, "{log}");
    assert!(log.contains("vm=liar domid=2 event=store-dropped"), "{log}");
    assert!(!log.contains("event=asked-to-power-off") && !log.contains("platform=stopping"), "{log}");
    let screen = machine.console();
    for said in [
        "plain has no XenStore to be asked by: `xenstore = 1` in its VM file gives it one",
        "liar cannot be asked: it broke the rules of its XenStore",
        "idle is paused and hears nothing; `unpause idle` first",
        "there is no VM \"nobody\"",
        "no VM that runs can be asked",
    ] {
        assert!(screen.contains(said), "{said}: {screen}");
    }
}

/// `web` starts after `db`, which is asked when that is gone; `plain` cannot be asked, and `db` takes too long.
#[test]
fn the_end_of_the_platform_asks_in_order_and_destroys_who_is_late() {
    let machine = Machine::builder().build();
    listens(&machine, 3);
    types(&machine, "\x1dpoweroff\r");
    obeys(&machine, 3);
    time_passes(&machine, TIME - 1_000_000);
    time_passes(&machine, 2_000_000);
    let (status, log) = run(&machine, &[with_store("db"), spec("plain"), after("web", "db")]);
    assert_eq!(status, MachineStatus::Success, "{log}");
    in_order(
        &log,
        &[
            "platform=stopping time=500ms",
            "vm=web domid=3 event=asked-to-power-off",
            "vm=plain domid=2 event=destroyed",
            "vm=web domid=3 event=ended reason=poweroff",
            "vm=db domid=1 event=asked-to-power-off",
            "vm=db domid=1 event=late",
            "vm=db domid=1 event=destroyed",
        ],
    );
}

#[test]
fn a_second_poweroff_waits_for_nobody() {
    let machine = Machine::builder().build();
    types(&machine, "\x1dpoweroff\r");
    types(&machine, "poweroff\r");
    let (status, log) = run(&machine, &[with_store("a"), after("b", "a")]);
    assert_eq!(status, MachineStatus::Success, "{log}");
    assert!(
        log.contains("vm=b domid=2 event=asked-to-power-off") && !log.contains("vm=a domid=1 event=asked")
    );
    assert!(!log.contains("event=late"), "{log}");
}

#[test]
fn the_loss_of_a_critical_vm_and_its_like_end_the_others_in_order_and_restart_none() {
    let critical = Life { critical: true, ..Life::default() };
    let ends = [
        (Ends::Last, SHUTDOWN_CRASH, MachineStatus::VmFailed),
        (Ends::Critical, SHUTDOWN_POWEROFF, MachineStatus::Success),
    ];
    for (ends, reason, expected) in ends {
        let machine = Machine::builder().build();
        listens(&machine, 2);
        then_end(&machine, 1, reason);
        obeys(&machine, 2);
        let settings = PlatformSpec { ends, shutdown_ms: Some(TIME_MS), ..PlatformSpec::default() };
        let lead = BootSpec { life: critical.clone(), ..spec("lead") };
        let other = BootSpec { on_poweroff: ExitAction::Restart, ..with_store("other") };
        let (status, log) = run_platform(&machine, &settings, &[lead, other]);
        assert_eq!(status, expected, "{log}");
        in_order(
            &log,
            &["platform=stopping", "vm=other domid=2 event=ended reason=poweroff", "platform=ended"],
        );
        assert!(!log.contains("event=restarting"), "{log}");
    }
}

/// A guest that keeps the builder busy gets its time, and no more.
#[test]
fn a_guest_that_talks_instead_of_obeying_is_destroyed_in_time() {
    let machine = Machine::builder().build();
    types(&machine, "\x1dpoweroff\r");
    for _ in 0..20 {
        asks(&machine, 1, Kind::Read, &["domid", ""]);
        hears(&machine, 1, &[(Kind::Read, "1")]);
        time_passes(&machine, TIME / 10);
    }
    let (status, log) = run(&machine, &[with_store("a")]);
    assert_eq!(status, MachineStatus::Success, "{log}");
    in_order(&log, &["event=asked-to-power-off", "vm=a domid=1 event=late", "vm=a domid=1 event=destroyed"]);
}
