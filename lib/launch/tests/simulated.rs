//! Whole platforms on a simulated Xen: built, looked after and ended, with guests that behave and guests that do not.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise, in its helpers too"
)]

mod support;

use protocols::{BootSpec, ExitAction, GuestKind, MachineStatus};
use support::{logged, run, spec, then, then_end};
use xen_abi::sched::{SHUTDOWN_CRASH, SHUTDOWN_POWEROFF, SHUTDOWN_REBOOT};
use xen_abi::sysctl::Capabilities;
use xen_abi::{DomId, Errno, PageCount};
use xen_sim::{CallSite, Effect, Fault, Guest, Machine, Release};

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
fn a_pvh_vm_is_looked_after_like_a_pv_vm() {
    for release in Release::ALL {
        let machine = Machine::with_release(release);
        then(&machine, 2, |guest| {
            guest.pvh_view().unwrap().assert_sane();
            assert!(guest.write_console(b"from PVH\n") > 0);
            guest.shut_down(SHUTDOWN_POWEROFF);
        });
        then_end(&machine, 1, SHUTDOWN_POWEROFF);
        let pvh = BootSpec { kind: GuestKind::Pvh, vcpus: 2, ..spec("b") };
        assert_eq!(run(&machine, &[spec("a"), pvh], ""), MachineStatus::Success, "{}", logged());
        assert!(machine.console().contains("[b] from PVH\n"), "{}", machine.console());
        machine.assert_clean();
    }
}

#[test]
fn a_pvh_vm_on_a_machine_without_hardware_assistance_is_refused_with_the_remedy() {
    let machine = Machine::builder().capabilities(Capabilities::PV).build();
    let pvh = BootSpec { kind: GuestKind::Pvh, ..spec("a") };
    assert_eq!(run(&machine, &[pvh], ""), MachineStatus::BuildFailed);
    let text = logged();
    assert!(text.contains("vm=a step=create") && text.contains("+svm,+npt"), "{text}");
    machine.assert_clean();
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
    assert!(logged().contains("event=memory wanted=1056768KiB free="), "{}", logged());
    assert!(!logged().contains("step=create"), "{}", logged());

    let machine = Machine::builder().lingering().build();
    then(&machine, 1, |guest| _ = guest.write_console(b"alone\n"));
    then_end(&machine, 1, SHUTDOWN_POWEROFF);
    assert_eq!(run(&machine, &specs, "policy=each"), MachineStatus::BuildFailed);
    assert_eq!(machine.console(), "[small] alone\n");
    assert!(logged().contains("vm=large step=populate: Xen gave domain 2"), "{}", logged());
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

#[test]
fn a_platform_that_does_not_start_whole_is_stopped_and_not_called_started() {
    let machine = Machine::builder().build();
    let mut starts = 0;
    let second = move |site: &CallSite| {
        starts += usize::from(site.name == "XEN_DOMCTL_unpausedomain");
        site.name == "XEN_DOMCTL_unpausedomain" && starts == 2
    };
    machine.inject(Fault::when(second, Effect::Fail(Errno::EINVAL)));
    let status = run(&machine, &[spec("first"), spec("second"), spec("third")], "");
    assert_eq!(status, MachineStatus::BuildFailed);
    let log = logged();
    for line in ["vm=first domid=1 event=destroyed", "vm=third domid=3 event=taken-back", "platform=refused"]
    {
        assert!(log.contains(line), "{line} is not in {log}");
    }
    assert!(!log.contains("platform=started"), "{log}");
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
            "XEN_DOMCTL_destroydomain" => {
                assert!(logged().contains("event=leaked"), "{what}");
                assert_eq!(status, MachineStatus::BuilderFailed, "{what}");
            }
            // Without a way to wait, the VMs are left alone until the machine goes off with them.
            "SCHEDOP_poll" if status == MachineStatus::BuilderFailed => {}
            _ => assert!(left.is_empty(), "{what}: {left:?}"),
        }
    }
}
