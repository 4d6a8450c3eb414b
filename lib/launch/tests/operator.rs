//! Somebody who types at Xen's console, on a simulated Xen: the keyboard, the screen, the prompt and its commands.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise, in its helpers too"
)]

mod support;

use std::cell::RefCell;
use std::rc::Rc;

use launch::Typed;
use proptest::prelude::*;
use protocols::{BootSpec, ExitAction, Life, MachineStatus};
use support::{end_when_running, logged, run, spec, then, then_end, when_running};
use xen_abi::sched::{SHUTDOWN_CRASH, SHUTDOWN_POWEROFF};
use xen_abi::{DomId, Errno};
use xen_sim::{Effect, Fault, Guest, Machine, Release};

/// What the keyboard's first line says for a VM.
fn given(name: &str) -> String {
    format!("db-boot: keyboard={name}: what you type goes there; Ctrl-] opens the prompt\n")
}

/// Types when the builder next sleeps.
fn then_type(machine: &Machine, text: &'static str) {
    machine.when_idle(move |machine| assert_eq!(machine.type_at_console(text.as_bytes()), text.len()));
}

/// Lets a guest take what was typed for it, and expects this.
fn then_read(machine: &Machine, domain: u16, text: &'static str) {
    then(machine, domain, move |guest| {
        assert_eq!(String::from_utf8_lossy(&guest.read_console()), text, "domain {}", guest.domain());
    });
}

/// Lets a guest write when the builder next sleeps.
fn then_write(machine: &Machine, domain: u16, text: &'static str) {
    then(machine, domain, move |guest| assert_eq!(guest.write_console(text.as_bytes()), text.len()));
}

fn interactive(machine: &Machine, specs: &[BootSpec]) -> MachineStatus {
    run(machine, specs, "interactive")
}

#[test]
fn without_the_word_nothing_that_is_typed_is_read() {
    let machine = Machine::builder().build();
    then_type(&machine, "hello");
    then_read(&machine, 1, "");
    then_end(&machine, 1, SHUTDOWN_POWEROFF);
    assert_eq!(run(&machine, &[spec("a")], ""), MachineStatus::Success);
    assert_eq!(machine.console(), "");
    assert!(!machine.trace().calls().iter().any(|call| call.name.contains("console_io")));
}

#[test]
fn one_guest_has_keyboard_and_screen_on_every_release() {
    for release in Release::ALL {
        let machine = Machine::builder().release(release).build();
        then_write(&machine, 1, "\x1b[1m~ # ");
        then_type(&machine, "ls\r");
        then_read(&machine, 1, "ls\r");
        then_read(&machine, 2, "");
        // Echo byte by byte, while the other speaks.
        then_write(&machine, 1, "l");
        then_write(&machine, 2, "hello\n");
        then_write(&machine, 1, "s\r\nbin\r\n~ # ");
        then_end(&machine, 2, SHUTDOWN_POWEROFF);
        then_end(&machine, 1, SHUTDOWN_POWEROFF);
        assert_eq!(interactive(&machine, &[spec("a"), spec("b")]), MachineStatus::Success, "{}", logged());
        let screen = "\x1b[1m~ # l\n[b] hello\n\x1b[1m~ # ls\r\nbin\r\n~ # \x1b[0m\x1b(B\x0f";
        assert_eq!(machine.console(), given("a") + screen, "{release}");
        machine.assert_clean();
    }
}

#[test]
fn what_a_guest_does_to_the_terminal_ends_with_its_turn() {
    let machine = Machine::builder().build();
    then_write(&machine, 1, "\x1b[?1049h\x1b[?25l\x1b[6nedit\r\n");
    then_type(&machine, "\x1d");
    then_type(&machine, "quit\r");
    then_end(&machine, 1, SHUTDOWN_POWEROFF);
    assert_eq!(interactive(&machine, &[spec("a")]), MachineStatus::Success, "{}", logged());
    let (undo, redo) = ("\x1b[?25h\x1b[?1049l\x1b[0m\x1b(B\x0f", "\x1b[?1049h\x1b[?25l");
    let expected = given("a")
        + "\x1b[?1049h\x1b[?25l\x1b[6nedit\r\n"
        + undo
        + "\ndb-boot> quit\r\n"
        + &given("a")
        + redo
        + undo;
    assert_eq!(machine.console().replace("quit\n", "quit\r\n"), expected);
    machine.assert_clean();
}

#[test]
fn a_vm_that_is_preserved_is_listed_and_not_to_be_had() {
    let machine = Machine::builder().build();
    then_end(&machine, 1, SHUTDOWN_CRASH);
    then_type(&machine, "\x1dlist\rconsole a\rquit\r");
    then_end(&machine, 2, SHUTDOWN_POWEROFF);
    let kept = BootSpec { on_crash: ExitAction::Preserve, ..spec("a") };
    assert_eq!(interactive(&machine, &[kept, spec("b")]), MachineStatus::VmFailed, "{}", logged());
    let screen = machine.console();
    assert!(screen.contains("  a        1 preserved: it has ended, and stays as it is\n"), "{screen}");
    assert!(screen.contains("a has ended; it is preserved as it was then\n"), "{screen}");
}

#[test]
fn an_open_line_is_shown_again_when_nobody_has_written_for_a_while() {
    let machine = Machine::builder().build();
    then_write(&machine, 1, "login: ");
    then_write(&machine, 2, "one\n");
    then_write(&machine, 2, "two\n");
    machine.when_idle(|machine| {
        assert_eq!(machine.console(), given("a") + "login: \n[b] one\n[b] two\n");
        machine.advance(60_000_000);
    });
    then(&machine, 2, |_| ());
    then_end(&machine, 2, SHUTDOWN_POWEROFF);
    then_end(&machine, 1, SHUTDOWN_POWEROFF);
    assert_eq!(interactive(&machine, &[spec("a"), spec("b")]), MachineStatus::Success, "{}", logged());
    assert_eq!(machine.console(), given("a") + "login: \n[b] one\n[b] two\nlogin: ");
}

#[test]
fn the_keyboard_is_given_to_whom_the_command_line_says() {
    for (line, owner, reader) in [("interactive keyboard=b", "b", 2), ("interactive keyboard=nobody", "a", 1)]
    {
        let machine = Machine::builder().build();
        then_type(&machine, "x");
        then_read(&machine, reader, "x");
        then_end(&machine, 1, SHUTDOWN_POWEROFF);
        then_end(&machine, 2, SHUTDOWN_POWEROFF);
        assert_eq!(run(&machine, &[spec("a"), spec("b")], line), MachineStatus::Success);
        assert!(machine.console().starts_with(&given(owner)), "{}", machine.console());
    }
    assert!(logged().contains("keyboard=nobody: there is no such VM"), "{}", logged());
}

#[test]
fn the_prompt_takes_the_keyboard_and_gives_it_to_another() {
    let machine = Machine::builder().build();
    then_write(&machine, 1, "a$ ");
    then_write(&machine, 2, "b$ ");
    then_type(&machine, "\x1d");
    // While the prompt is open, everybody's lines have names.
    then_write(&machine, 1, "from a\n");
    then_type(&machine, "consle b\rconsole c\rconsole b\r");
    then_type(&machine, "y");
    then_read(&machine, 2, "y");
    then_read(&machine, 1, "");
    then_write(&machine, 2, "y\n");
    then_type(&machine, "\x1d\x1d\x1d\x0ez");
    then_read(&machine, 2, "\x1d");
    then_read(&machine, 1, "z");
    then_end(&machine, 1, SHUTDOWN_POWEROFF);
    then_end(&machine, 2, SHUTDOWN_POWEROFF);
    assert_eq!(interactive(&machine, &[spec("a"), spec("b")]), MachineStatus::Success, "{}", logged());
    let (given_a, given_b) = (given("a"), given("b"));
    let expected = [
        given_a.as_str(),
        "a$ \n",
        "db-boot> \n",
        "[a] a$ from a\n",
        "db-boot> consle b\n",
        "there is no command \"consle\" (did you mean \"console\"?); `help` shows all\n",
        "db-boot> console c\n",
        "there is no VM \"c\" (did you mean \"a\"?); `list` shows all\n",
        "db-boot> console b\n",
        given_b.as_str(),
        "b$ y\n",
        "db-boot> \n",
    ];
    let console = machine.console();
    for line in expected {
        assert!(console.contains(line), "{line:?} is not in {console:?}");
    }
    machine.assert_clean();
}

#[test]
fn the_vms_are_listed() {
    let machine = Machine::builder().build();
    let later = BootSpec { life: Life { after: vec!["back".into()], ..Life::default() }, ..spec("later") };
    let life = Life { restart_delay_ms: 5000, ready: Some("never".into()), ..Life::default() };
    let back = BootSpec { on_crash: ExitAction::Restart, life, ..spec("back") };
    then_end(&machine, 2, SHUTDOWN_CRASH);
    machine.when_idle(|machine| machine.advance(1_000_000));
    then_type(&machine, "\x1dpause shell\rlist\runpause shell\rquit\r");
    then_type(&machine, "\x1dpoweroff\r");
    assert_eq!(interactive(&machine, &[spec("shell"), back, later]), MachineStatus::Success, "{}", logged());
    let console = machine.console();
    for line in [
        "  NAME  DOMID STATE    VCPUS    MEMORY   CPU TIME\n",
        "* shell     1 paused       1      8MiB       0.0s\n",
        "  back      - restarts in 49",
        "  later     - starts after back\n",
    ] {
        assert!(console.contains(line), "{line:?} is not in\n{console}");
    }
    for event in ["vm=shell domid=1 event=paused", "vm=shell domid=1 event=unpaused"] {
        assert!(logged().contains(event), "{event}: {}", logged());
    }
    machine.assert_clean();
}

#[test]
fn help_and_what_xen_said_are_shown() {
    let machine = Machine::builder().build();
    machine.xen_says("(XEN) Xen version 4.17\n(XEN) \x1b[2Jno tricks");
    then_type(&machine, "\x1dhelp\rdmesg\r\x04");
    then_end(&machine, 1, SHUTDOWN_POWEROFF);
    assert_eq!(interactive(&machine, &[spec("a")]), MachineStatus::Success);
    let console = machine.console();
    assert!(console.contains("destroy NAME    destroy a VM at once"), "{console}");
    assert!(console.contains("db-boot> dmesg\n(XEN) Xen version 4.17\n(XEN) no tricks\n"), "{console:?}");
}

#[test]
fn a_destroyed_vm_does_not_come_back_and_the_keyboard_goes_on() {
    let machine = Machine::builder().build();
    let endless =
        BootSpec { on_poweroff: ExitAction::Restart, on_crash: ExitAction::Restart, ..spec("endless") };
    then_type(&machine, "\x1ddestroy endless\r\x04");
    then_type(&machine, "x");
    then_read(&machine, 2, "x");
    then_end(&machine, 2, SHUTDOWN_POWEROFF);
    assert_eq!(interactive(&machine, &[endless, spec("b")]), MachineStatus::Success, "{}", logged());
    assert!(logged().contains("vm=endless domid=1 event=ended reason=destroyed"), "{}", logged());
    assert!(!logged().contains("event=restarting"), "{}", logged());
    machine.assert_clean();
}

#[test]
fn a_restart_can_be_called_off() {
    let machine = Machine::builder().build();
    let life = Life { restart_delay_ms: 60_000, ..Life::default() };
    let back = BootSpec { on_crash: ExitAction::Restart, life, ..spec("back") };
    then_end(&machine, 1, SHUTDOWN_CRASH);
    then_type(&machine, "\x1ddestroy back\r");
    assert_eq!(interactive(&machine, &[back]), MachineStatus::Success, "{}", logged());
    assert!(logged().contains("vm=back event=restart-cancelled"), "{}", logged());
    machine.assert_clean();
}

#[test]
fn the_platform_ends_with_a_critical_vm_that_is_destroyed_and_by_poweroff() {
    let machine = Machine::builder().build();
    let heart = BootSpec { life: Life { critical: true, ..Life::default() }, ..spec("heart") };
    then_type(&machine, "\x1ddestroy heart\r");
    assert_eq!(interactive(&machine, &[heart, spec("b")]), MachineStatus::VmFailed, "{}", logged());
    machine.assert_clean();

    let machine = Machine::builder().build();
    then_type(&machine, "\x1dpoweroff\r");
    assert_eq!(interactive(&machine, &[spec("a"), spec("b")]), MachineStatus::Success, "{}", logged());
    machine.assert_clean();
}

#[test]
fn the_keyboard_follows_a_vm_through_its_restart() {
    let machine = Machine::builder().build();
    let life = Life { restart_delay_ms: 100, ..Life::default() };
    let back = BootSpec { on_crash: ExitAction::Restart, life, ..spec("back") };
    then_end(&machine, 1, SHUTDOWN_CRASH);
    then_type(&machine, "too early");
    let next = machine.clone();
    when_running(&machine, 3, move |_| {
        then_type(&next, "again");
        then_read(&next, 3, "again");
        then_end(&next, 3, SHUTDOWN_POWEROFF);
        then_end(&next, 2, SHUTDOWN_POWEROFF);
    });
    assert_eq!(interactive(&machine, &[back, spec("b")]), MachineStatus::Success, "{}", logged());
    assert!(logged().contains("vm=back event=input-lost: it does not run"), "{}", logged());
    machine.assert_clean();
}

#[test]
fn the_keyboard_goes_to_the_next_vm_when_its_own_has_ended() {
    let machine = Machine::builder().build();
    then_end(&machine, 1, SHUTDOWN_POWEROFF);
    then_type(&machine, "x");
    then_read(&machine, 2, "x");
    then_end(&machine, 2, SHUTDOWN_POWEROFF);
    assert_eq!(interactive(&machine, &[spec("a"), spec("b")]), MachineStatus::Success, "{}", logged());
    assert_eq!(machine.console(), given("a") + &given("b"));
}

#[test]
fn readiness_is_seen_on_the_raw_screen_too() {
    let machine = Machine::builder().build();
    let life = Life { ready: Some("login:".into()), ..Life::default() };
    let later = BootSpec { life: Life { after: vec!["a".into()], ..Life::default() }, ..spec("later") };
    then_write(&machine, 1, "login: ");
    machine.when_idle(|machine| machine.advance(1_000_000_000));
    end_when_running(&machine, 2, SHUTDOWN_POWEROFF);
    then_end(&machine, 1, SHUTDOWN_POWEROFF);
    let specs = [BootSpec { life, ..spec("a") }, later];
    assert_eq!(interactive(&machine, &specs), MachineStatus::Success, "{}", logged());
    assert_eq!(machine.console(), given("a") + "login: ");
}

/// Types `text` in pieces that Xen's buffer takes.
fn type_all(machine: &Machine, text: &[u8]) {
    for piece in text.chunks(100) {
        let piece = piece.to_vec();
        machine.when_idle(move |machine| assert_eq!(machine.type_at_console(&piece), piece.len()));
    }
}

#[test]
fn a_guest_that_reads_late_gets_everything_up_to_a_bound() {
    const RING: usize = 1024;
    for (typed, kept) in [(3000, 3000), (RING + Typed::MAX, RING + Typed::MAX), (6000, RING + Typed::MAX)] {
        let machine = Machine::builder().build();
        let text: Vec<u8> = (b'a'..=b'z').cycle().take(typed).collect();
        type_all(&machine, &text);
        let read = Rc::new(RefCell::new(Vec::new()));
        for _ in 0..10 {
            let read = read.clone();
            then(&machine, 1, move |guest: &Guest| {
                read.borrow_mut().extend(guest.read_console());
                // Says that there is room again.
                guest.write_console(b"");
            });
        }
        then_end(&machine, 1, SHUTDOWN_POWEROFF);
        assert_eq!(interactive(&machine, &[spec("a")]), MachineStatus::Success, "{}", logged());
        assert!(read.borrow().as_slice() == &text[..kept], "{typed} typed, {} read", read.borrow().len());
        let told = logged().contains(&format!("vm=a event=input-lost bytes={}:", typed - kept));
        assert_eq!(told, typed > kept, "{}", logged());
    }
}

#[test]
fn a_full_buffer_of_xens_is_told() {
    let machine = Machine::builder().build();
    machine.when_idle(|machine| assert_eq!(machine.type_at_console(&[b'x'; 300]), 128));
    then(&machine, 1, |guest| assert_eq!(guest.read_console().len(), 128));
    then_end(&machine, 1, SHUTDOWN_POWEROFF);
    assert_eq!(interactive(&machine, &[spec("a")]), MachineStatus::Success);
    assert!(logged().contains("event=input-overrun: Xen keeps 128 typed bytes"), "{}", logged());
}

/// A session of all commands.
fn session(machine: &Machine) {
    then_write(machine, 1, "$ ");
    then_type(machine, "ls\r\x1dlist\rdmesg\rconsole b\ry\x1dpause a\runpause a\rdestroy b\r\x04");
    then_write(machine, 1, "bye\n");
    then_end(machine, 1, SHUTDOWN_POWEROFF);
    // Where a call of the above failed.
    for _ in 0..4 {
        machine.when_idle(|machine| {
            for domid in machine.domains() {
                if machine.guest(domid).runs() {
                    machine.guest(domid).shut_down(SHUTDOWN_POWEROFF);
                }
            }
            let paused = machine.domains().contains(&DomId::new(1)) && !machine.guest(DomId::new(1)).runs();
            if paused {
                _ = machine.type_at_console(b"\x1d\x15poweroff\r");
            }
        });
    }
}

#[test]
fn a_failure_of_any_call_of_a_session_leaves_nothing_behind() {
    let specs = [spec("a"), spec("b")];
    let whole = Machine::builder().build();
    session(&whole);
    assert_eq!(interactive(&whole, &specs), MachineStatus::Success, "{}", logged());
    let trace = whole.trace();
    let calls = trace.calls();
    let begin = calls
        .iter()
        .rposition(|call| call.name == "XEN_DOMCTL_unpausedomain" && call.domain == DomId::new(2));
    for call in &calls[begin.unwrap() + 1..] {
        let machine = Machine::builder().build();
        session(&machine);
        machine.inject(Fault::at(call.index, Effect::Fail(Errno::EIO)));
        let status = interactive(&machine, &specs);
        let (what, left) = (format!("call {}, {call}", call.index), machine.leftovers());
        match call.name {
            "EVTCHNOP_close" => assert_eq!(left.len(), 1, "{what}: {left:?}"),
            "XEN_DOMCTL_destroydomain" => assert_eq!(status, MachineStatus::BuilderFailed, "{what}"),
            "SCHEDOP_poll" if status == MachineStatus::BuilderFailed => {}
            _ => assert!(left.is_empty(), "{what}: {left:?}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_is_typed_and_written_the_platform_ends(
        events in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..40)), 0..20)
    ) {
        let machine = Machine::builder().build();
        for (typed, bytes) in events {
            if typed {
                machine.when_idle(move |machine| _ = machine.type_at_console(&bytes));
            } else {
                then(&machine, 1, move |guest| _ = guest.write_console(&bytes));
            }
        }
        // To the prompt from wherever this led, past whatever line or key is begun there.
        then_type(&machine, "\x07\x1b\\\r\x1d");
        then_type(&machine, "\x07\x1b\\\r\x15poweroff\r");
        then_type(&machine, "\x1d\x15poweroff\r");
        interactive(&machine, &[spec("a"), spec("b")]);
        machine.assert_clean();
    }
}
