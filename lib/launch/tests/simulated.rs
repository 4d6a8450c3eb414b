//! Whole platforms on a simulated Xen: built, looked after and ended, with guests that behave and guests that do not.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise, in its helpers too"
)]

use std::cell::RefCell;

use event_channel::EventWords;
use hypercall::Xen;
use launch::{Environment, Options, launch};
use log::{Log, Metadata, Record};
use protocols::archive::spec_entry;
use protocols::{BootSpec, ExitAction, GuestKind, MachineStatus};
use ramdisk::Writer;
use xen_abi::sched::{SHUTDOWN_CRASH, SHUTDOWN_POWEROFF, SHUTDOWN_REBOOT};
use xen_abi::{DomId, Errno, PageCount, elfnote};
use xen_sim::{Effect, Fault, Guest, Machine, Release};

thread_local! {
    /// What the code under test has logged in this test.
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Keeps each line for the test that runs in the same thread.
struct Keeper;

impl Log for Keeper {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        LINES.with_borrow_mut(|lines| lines.push(record.args().to_string()));
    }

    fn flush(&self) {}
}

/// The lines that were logged.
fn logged() -> String {
    LINES.with_borrow(|lines| lines.join("\n"))
}

/// An ELF file that a PV builder takes for a kernel: its headers, its notes, and that is all.
fn kernel() -> Vec<u8> {
    const BASE: u64 = 0x10_0000;
    const HEADERS: u64 = 64 + 2 * 56;
    let text = |kind: u32, text: &str| note(kind, &[text.as_bytes(), b"\0"].concat());
    let number = |kind: u32, number: u64| note(kind, &number.to_le_bytes());
    let notes = [
        text(elfnote::GUEST_OS, "test"),
        text(elfnote::XEN_VERSION, "xen-3.0"),
        text(elfnote::LOADER, "generic"),
        number(elfnote::VIRT_BASE, 0),
        number(elfnote::ENTRY, BASE),
    ]
    .concat();
    let size = HEADERS + notes.len() as u64;
    let mut elf = Vec::new();
    elf.extend(*b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    elf.extend([2_u16, 62].into_iter().flat_map(u16::to_le_bytes));
    elf.extend(1_u32.to_le_bytes());
    elf.extend([BASE, 64, 0].into_iter().flat_map(u64::to_le_bytes));
    elf.extend(0_u32.to_le_bytes());
    elf.extend([64_u16, 56, 2, 64, 0, 0].into_iter().flat_map(u16::to_le_bytes));
    for (kind, flags, offset, size) in [(1_u32, 7_u32, 0, size), (4, 4, HEADERS, notes.len() as u64)] {
        elf.extend([kind, flags].into_iter().flat_map(u32::to_le_bytes));
        let fields = [offset, BASE + offset, BASE + offset, size, size, 4];
        elf.extend(fields.into_iter().flat_map(u64::to_le_bytes));
    }
    elf.extend(notes);
    elf
}

fn note(kind: u32, value: &[u8]) -> Vec<u8> {
    let mut note: Vec<u8> =
        [4, u32::try_from(value.len()).unwrap(), kind].into_iter().flat_map(u32::to_le_bytes).collect();
    note.extend(b"Xen\0");
    note.extend(value);
    note.resize(note.len().next_multiple_of(4), 0);
    note
}

fn spec(name: &str) -> BootSpec {
    BootSpec {
        name: name.to_owned(),
        kind: GuestKind::Pv,
        domid: None,
        uuid: [7; 16],
        vcpus: 1,
        memory_kib: 8 << 10,
        max_memory_kib: 8 << 10,
        kernel: "images/kernel".to_owned(),
        ramdisk: None,
        command_line: String::new(),
        on_poweroff: ExitAction::Destroy,
        on_reboot: ExitAction::Destroy,
        on_crash: ExitAction::Destroy,
    }
}

/// The RAM disk of a platform of `specs`.
fn archive(specs: &[BootSpec]) -> Vec<u8> {
    let mut writer = Writer::new();
    for spec in specs {
        writer.file(&spec_entry(&spec.name), &spec.encode().unwrap()).unwrap();
    }
    writer.file("images/kernel", &kernel()).unwrap();
    writer.finish()
}

/// Launches a platform to its end.
fn run(machine: &Machine, specs: &[BootSpec], command_line: &str) -> MachineStatus {
    static KEEPER: Keeper = Keeper;
    // Fails in every test of the process but the first, which is as well.
    if log::set_logger(&KEEPER).is_ok() {
        log::set_max_level(log::LevelFilter::Debug);
    }
    let dom0 = machine.dom0();
    let xen = Xen::probe(machine.dom0()).unwrap();
    let now = || machine.now();
    let mut environment = Environment {
        xen: &xen,
        window: machine.window(),
        events: EventWords::new(dom0.pending_words(), dom0.mask_words()),
        now: &now,
        spare_memory: &|| 64 << 20,
    };
    launch(&mut environment, &Options::parse(command_line), &archive(specs))
}

/// Lets a guest act when the builder next sleeps, if it runs.
fn then(machine: &Machine, domain: u16, act: impl FnOnce(&Guest) + 'static) {
    machine.when_idle(move |machine| {
        let domain = DomId::new(domain);
        if machine.has_domain(domain) && machine.guest(domain).runs() {
            act(&machine.guest(domain));
        }
    });
}

fn then_end(machine: &Machine, domain: u16, reason: u8) {
    then(machine, domain, move |guest| guest.shut_down(reason));
}

#[test]
fn guests_speak_and_end_and_nothing_is_left_on_every_release() {
    for release in Release::ALL {
        let machine = Machine::builder().release(release).stale_memory().lingering().build();
        then(&machine, 1, |guest| _ = guest.write_console(b"one\n"));
        then(&machine, 2, |guest| _ = guest.write_console(b"two\nthree "));
        then(&machine, 1, |guest| _ = guest.write_console(b"four\n"));
        then(&machine, 2, |guest| _ = guest.write_console(b"and a half\n"));
        then_end(&machine, 1, SHUTDOWN_POWEROFF);
        then_end(&machine, 2, 0x80);
        let status = run(&machine, &[spec("a"), spec("b")], "");
        assert_eq!(status, MachineStatus::Success, "{}", logged());
        assert_eq!(machine.console(), "[a] one\n[b] two\n[a] four\n[b] three and a half\n", "{release}");
        machine.assert_clean();
    }
    assert!(logged().contains("vm=b domid=2 event=ended reason=exit status=0"), "{}", logged());
}

#[test]
fn what_a_guest_writes_last_is_shown_although_it_has_ended() {
    let machine = Machine::builder().build();
    then(&machine, 1, |guest| {
        guest.write_console(b"goodbye, without an end of line");
        guest.shut_down(SHUTDOWN_POWEROFF);
    });
    assert_eq!(run(&machine, &[spec("a")], ""), MachineStatus::Success);
    assert_eq!(machine.console(), "[a] goodbye, without an end of line\n");
}

#[test]
fn a_prompt_is_shown_after_a_while() {
    let machine = Machine::builder().build();
    then(&machine, 1, |guest| _ = guest.write_console(b"login: "));
    machine.when_idle(|machine| machine.advance(1_000_000_000));
    machine.when_idle(|machine| assert_eq!(machine.console(), "[a] login: \n"));
    then_end(&machine, 1, SHUTDOWN_POWEROFF);
    assert_eq!(run(&machine, &[spec("a")], ""), MachineStatus::Success);
    assert_eq!(machine.console(), "[a] login: \n");
}

#[test]
fn more_than_the_ring_holds_arrives_whole() {
    /// Writes what fits, and the rest when it runs again.
    fn write_on(guest: &Guest, machine: &Machine, text: &[u8]) {
        let written = guest.write_console(text);
        let (next, rest) = (machine.clone(), text[written..].to_vec());
        then(machine, 1, move |guest| {
            if rest.is_empty() {
                guest.shut_down(SHUTDOWN_POWEROFF);
            } else {
                write_on(guest, &next, &rest);
            }
        });
    }
    let machine = Machine::builder().build();
    let lines: Vec<String> = (0..1000).map(|number| format!("line {number} of a long story\n")).collect();
    let (text, first) = (lines.concat().into_bytes(), machine.clone());
    then(&machine, 1, move |guest| write_on(guest, &first, &text));
    assert_eq!(run(&machine, &[spec("a")], ""), MachineStatus::Success);
    let expected = lines.iter().fold(String::new(), |all, line| all + "[a] " + line);
    assert!(machine.console() == expected, "the console differs");
    machine.assert_clean();
}

#[test]
fn a_ring_index_from_nowhere_harms_nobody() {
    for forged in [1, 2048, 2049, 0x7fff_ffff, 0x8000_0000, u32::MAX] {
        let machine = Machine::builder().build();
        then(&machine, 1, move |guest| guest.forge_console_producer(forged));
        then(&machine, 2, |guest| _ = guest.write_console(b"still here\n"));
        then_end(&machine, 1, SHUTDOWN_POWEROFF);
        then_end(&machine, 2, SHUTDOWN_POWEROFF);
        assert_eq!(run(&machine, &[spec("bad"), spec("good")], ""), MachineStatus::Success);
        assert!(machine.console().contains("[good] still here\n"), "{forged:#x}: {}", machine.console());
        machine.assert_clean();
    }
}

#[test]
fn a_crash_is_a_failure_of_the_vm_and_a_reboot_is_none() {
    for (reason, expected) in [
        (SHUTDOWN_CRASH, MachineStatus::VmFailed),
        (SHUTDOWN_REBOOT, MachineStatus::Success),
        (0x81, MachineStatus::VmFailed),
    ] {
        let machine = Machine::builder().build();
        then_end(&machine, 1, reason);
        assert_eq!(run(&machine, &[spec("a")], ""), expected, "reason {reason}: {}", logged());
        machine.assert_clean();
    }
}

#[test]
fn a_preserved_vm_stays_for_somebody_to_look_at() {
    let machine = Machine::builder().build();
    then_end(&machine, 1, SHUTDOWN_CRASH);
    let preserved = BootSpec { on_crash: ExitAction::Preserve, ..spec("a") };
    assert_eq!(run(&machine, &[preserved], ""), MachineStatus::VmFailed);
    assert_eq!(machine.domains(), [DomId::new(1)]);
    assert!(logged().contains("event=preserved"), "{}", logged());
}

#[test]
fn a_vm_that_does_not_fit_keeps_all_from_starting_or_only_itself() {
    let specs = [spec("small"), BootSpec { memory_kib: 1 << 20, max_memory_kib: 1 << 20, ..spec("large") }];
    let machine = Machine::builder().lingering().build();
    assert_eq!(run(&machine, &specs, ""), MachineStatus::BuildFailed);
    machine.assert_clean();
    assert!(logged().contains("vm=large step populate: Xen gave domain 2"), "{}", logged());

    let machine = Machine::builder().lingering().build();
    then(&machine, 1, |guest| _ = guest.write_console(b"alone\n"));
    then_end(&machine, 1, SHUTDOWN_POWEROFF);
    assert_eq!(run(&machine, &specs, "policy=each"), MachineStatus::BuildFailed);
    assert_eq!(machine.console(), "[small] alone\n");
    machine.assert_clean();
}

#[test]
fn a_hundred_and_fifty_vms_have_more_ports_than_one_poll_takes() {
    let machine = Machine::builder().memory(PageCount::new(0x8_0000)).build();
    let specs: Vec<_> = (1..=150)
        .map(|number| BootSpec {
            memory_kib: 4 << 10,
            max_memory_kib: 4 << 10,
            ..spec(&format!("vm{number}"))
        })
        .collect();
    for domain in 1..=150 {
        then(&machine, domain, |guest| _ = guest.write_console(b"up\n"));
        then_end(&machine, domain, SHUTDOWN_POWEROFF);
    }
    assert_eq!(run(&machine, &specs, ""), MachineStatus::Success, "{}", logged());
    assert_eq!(machine.console().lines().count(), 150);
    machine.assert_clean();
}

/// A platform of two guests that say something and end.
fn short_story(machine: &Machine) {
    for domain in [1, 2] {
        then(machine, domain, |guest| _ = guest.write_console(b"up\n"));
        then_end(machine, domain, SHUTDOWN_POWEROFF);
    }
}

#[test]
fn a_failure_of_any_call_of_a_launch_ends_in_a_status_and_leaves_nothing_half_built() {
    let specs = [spec("a"), spec("b")];
    let whole = Machine::builder().build();
    short_story(&whole);
    assert_eq!(run(&whole, &specs, ""), MachineStatus::Success);
    let trace = whole.trace();
    let calls = trace.calls();
    let first = calls.iter().position(|call| call.name == "XEN_DOMCTL_createdomain").unwrap();
    let started = calls.iter().rposition(|call| call.name == "XEN_DOMCTL_unpausedomain").unwrap();
    for call in &calls[first..] {
        let machine = Machine::builder().build();
        short_story(&machine);
        machine.inject(Fault::at(call.index, Effect::Fail(Errno::EIO)));
        let status = run(&machine, &specs, "");
        let (what, left) = (format!("call {}, {call}", call.index), machine.leftovers());
        if call.index <= started {
            assert_ne!(status, MachineStatus::Success, "{what}");
        }
        match call.name {
            // What cannot be given back is left, and nothing else.
            "EVTCHNOP_close" => assert_eq!(left.len(), 1, "{what}: {left:?}"),
            "XEN_DOMCTL_destroydomain" => assert!(logged().contains("event=leaked"), "{what}"),
            // Without a way to wait, the VMs are left alone until the machine goes off with them.
            "SCHEDOP_poll" if status == MachineStatus::BuilderFailed => {}
            _ => assert!(left.is_empty(), "{what}: {left:?}"),
        }
    }
}
