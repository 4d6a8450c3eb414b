//! How VMs live after their start, on a simulated Xen: restarts, their limits, and VMs that a platform cannot do without.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise, in its helpers too"
)]

mod support;

use hypercall::Xen;
use protocols::{BootSpec, ExitAction, GuestKind, Life, MachineStatus};
use support::{end_when_running, logged, run, spec, then, then_end, when_running};
use xen_abi::sched::{SHUTDOWN_CRASH, SHUTDOWN_POWEROFF, SHUTDOWN_REBOOT, SHUTDOWN_WATCHDOG};
use xen_abi::{DomId, Errno};
use xen_sim::{Effect, Fault, Machine, Release};

/// A VM that is restarted when it crashes, at most `limit` times in a row.
fn restarted(name: &str, limit: u32) -> BootSpec {
    let life = Life { restart_limit: limit, restart_delay_ms: 100, ..Life::default() };
    BootSpec { on_crash: ExitAction::Restart, life, ..spec(name) }
}

fn critical(name: &str) -> BootSpec {
    BootSpec { life: Life { critical: true, ..Life::default() }, ..spec(name) }
}

#[test]
fn a_vm_that_crashes_comes_back_as_another_domain_on_every_release() {
    for release in Release::ALL {
        let machine = Machine::builder().release(release).stale_memory().lingering().build();
        then_end(&machine, 1, SHUTDOWN_CRASH);
        when_running(&machine, 2, |guest| _ = guest.write_console(b"back\n"));
        end_when_running(&machine, 2, SHUTDOWN_POWEROFF);
        assert_eq!(run(&machine, &[restarted("a", 3)], ""), MachineStatus::Success, "{}", logged());
        assert_eq!(machine.console(), "[a] back\n", "{release}");
        machine.assert_clean();
    }
    assert!(logged().contains("vm=a event=restarting restart=1/3 in=100ms"), "{}", logged());
}

#[test]
fn a_vm_whose_domain_stays_is_not_built_a_second_time() {
    let machine = Machine::builder().build();
    then_end(&machine, 1, SHUTDOWN_CRASH);
    machine.inject(Fault::named("XEN_DOMCTL_destroydomain", Effect::Fail(Errno::EIO)));
    assert_eq!(run(&machine, &[restarted("a", 3)], ""), MachineStatus::BuilderFailed, "{}", logged());
    assert!(logged().contains("vm=a event=given-up: the domain it was is still there"), "{}", logged());
    assert_eq!(machine.domains(), [DomId::new(1)], "one domain, and no second");
}

#[test]
fn a_vm_that_xen_does_not_know_for_once_is_looked_after_all_the_same() {
    for release in Release::ALL {
        let machine = Machine::builder().release(release).lingering().build();
        then(&machine, 1, |guest| _ = guest.write_console(b"up\n"));
        then_end(&machine, 1, SHUTDOWN_POWEROFF);
        let about = |site: &xen_sim::CallSite| {
            site.name == "XEN_DOMCTL_getdomaininfo" && site.domain == DomId::new(1)
        };
        // The first is asked by the build.
        machine.inject(Fault::when(about, Effect::Fail(Errno::ESRCH)).after(1).times(1));
        assert_eq!(run(&machine, &[spec("a")], ""), MachineStatus::Success, "{release}: {}", logged());
        assert_eq!(machine.console(), "[a] up\n", "{release}");
        assert!(logged().contains("event=ended reason=poweroff"), "{}", logged());
        machine.assert_clean();
    }
}

#[test]
fn a_vm_that_xen_says_it_does_not_know_is_destroyed_if_it_is_there() {
    for release in Release::ALL {
        let machine = Machine::builder().release(release).build();
        let about = |site: &xen_sim::CallSite| {
            site.name == "XEN_DOMCTL_getdomaininfo" && site.domain == DomId::new(1)
        };
        machine.inject(Fault::when(about, Effect::Fail(Errno::ESRCH)).after(1));
        assert_eq!(run(&machine, &[spec("a")], ""), MachineStatus::VmFailed, "{release}: {}", logged());
        let text = logged();
        assert!(text.contains("event=ended reason=gone") && text.contains("event=destroyed"), "{text}");
        machine.assert_clean();
    }
}

#[test]
fn a_zombie_of_a_vm_that_could_not_be_built_is_told() {
    for release in Release::ALL {
        for policy in ["", "policy=each"] {
            let machine = Machine::builder().release(release).build();
            machine.inject(Fault::named("XEN_DOMCTL_setvcpucontext", Effect::Fail(Errno::ENOMEM)));
            machine.inject(Fault::named("XEN_DOMCTL_destroydomain", Effect::Hold));
            assert_eq!(run(&machine, &[spec("a")], policy), MachineStatus::BuilderFailed, "{}", logged());
            assert!(logged().contains("domid=1 event=lingering memory="), "{}", logged());
        }
    }
}

#[test]
fn a_domain_that_xen_never_finishes_destroying_is_told_with_what_it_keeps() {
    let machine = Machine::builder().build();
    then_end(&machine, 1, SHUTDOWN_CRASH);
    machine.inject(Fault::named("XEN_DOMCTL_destroydomain", Effect::Fail(Errno::ERESTART)));
    assert_eq!(run(&machine, &[restarted("a", 3)], ""), MachineStatus::BuilderFailed, "{}", logged());
    let text = logged();
    let leaked = text.lines().find(|line| line.contains("event=leaked")).unwrap();
    assert!(
        leaked.contains("ERESTART") && leaked.contains("; Xen keeps ") && leaked.contains(" KiB of it"),
        "{leaked}"
    );
}

#[test]
fn nothing_is_built_that_nobody_would_hear_of() {
    let machine = Machine::builder().build();
    machine.inject(Fault::named("EVTCHNOP_bind_virq", Effect::Fail(Errno::EBUSY)));
    assert_eq!(run(&machine, &[spec("a")], ""), MachineStatus::BuilderFailed, "{}", logged());
    assert!(!logged().contains("step=create"), "{}", logged());
    machine.assert_clean();
}

/// Sets the action for one way to end.
type Setting = fn(&mut BootSpec, ExitAction);

#[test]
fn each_ending_has_its_own_action() {
    let restart = ExitAction::Restart;
    let cases: [(u8, Setting); 6] = [
        (SHUTDOWN_POWEROFF, |spec, action| spec.on_poweroff = action),
        (0x80, |spec, action| spec.on_poweroff = action),
        (SHUTDOWN_REBOOT, |spec, action| spec.on_reboot = action),
        (SHUTDOWN_CRASH, |spec, action| spec.on_crash = action),
        (0x81, |spec, action| spec.on_crash = action),
        (SHUTDOWN_WATCHDOG, |spec, action| spec.life.on_watchdog = action),
    ];
    for (reason, set) in cases {
        let mut only = spec("only");
        set(&mut only, restart);
        only.life.restart_limit = 1;
        let machine = Machine::builder().build();
        then_end(&machine, 1, reason);
        end_when_running(&machine, 2, reason);
        // Restarted once, as its limit is, and then counted as lost whatever its endings were.
        assert_eq!(run(&machine, &[only], ""), MachineStatus::VmFailed, "reason {reason}: {}", logged());
        machine.assert_clean();

        let mut others = spec("others");
        for (_, set) in cases {
            set(&mut others, restart);
        }
        set(&mut others, ExitAction::Preserve);
        let machine = Machine::builder().build();
        then_end(&machine, 1, reason);
        run(&machine, &[others], "");
        assert_eq!(machine.domains(), [DomId::new(1)], "reason {reason}: {}", logged());
    }
}

#[test]
fn restarts_end_at_the_limit_and_are_further_and_further_apart() {
    let machine = Machine::builder().build();
    for domain in 1..=4 {
        end_when_running(&machine, domain, SHUTDOWN_CRASH);
    }
    assert_eq!(run(&machine, &[restarted("a", 3)], ""), MachineStatus::VmFailed, "{}", logged());
    for text in
        ["restart=1/3 in=100ms", "restart=2/3 in=200ms", "restart=3/3 in=400ms", "given-up restarts=3"]
    {
        assert!(logged().contains(text), "{text}: {}", logged());
    }
    assert!(machine.now() > 1_000_000_000 + 700_000_000);
    machine.assert_clean();
}

#[test]
fn what_is_in_use_is_logged_and_does_not_grow_from_life_to_life() {
    for release in Release::ALL {
        let machine = Machine::builder().release(release).lingering().build();
        for domain in 1..=6 {
            end_when_running(&machine, domain, SHUTDOWN_CRASH);
        }
        let logged_before = logged().len();
        assert_eq!(run(&machine, &[restarted("a", 5)], "usage=2"), MachineStatus::VmFailed, "{}", logged());
        let log = logged()[logged_before..].to_owned();
        let usage: Vec<_> = log.lines().filter_map(|line| line.strip_prefix("event=usage vms=")).collect();
        let figures: Vec<_> = usage.iter().filter_map(|line| line.split_once(' ')).collect();
        let [before, second, fourth, sixth, after] = figures[..] else { panic!("{log}") };
        assert_eq!([before, second, fourth, sixth, after].map(|(vms, _)| vms), ["0", "2", "4", "6", "6"]);
        assert!(second.1.contains("KiB domains=2 ports=2 spare="), "{log}");
        assert_eq!((second.1, fourth.1), (fourth.1, sixth.1));
        assert!(before.1.contains("KiB domains=1 ports=0 "), "{log}");
        assert_eq!(before.1, after.1);
    }
}

/// The figures that the soak is judged by show a leak: a domain of each life that stays, and what Xen keeps of it.
#[test]
fn what_stays_of_each_life_is_in_the_figures_of_use() {
    let machine = Machine::builder().build();
    for domain in 1..=6 {
        end_when_running(&machine, domain, SHUTDOWN_CRASH);
    }
    machine.inject(Fault::named("XEN_DOMCTL_destroydomain", Effect::Hold));
    assert_eq!(run(&machine, &[restarted("a", 5)], "usage=2"), MachineStatus::BuilderFailed, "{}", logged());
    let figure = |line: &str, key: &str| -> u64 {
        let (_, rest) = line.split_once(key).unwrap();
        rest[..rest.find(|digit: char| !digit.is_ascii_digit()).unwrap_or(rest.len())].parse().unwrap()
    };
    let text = logged();
    let usage: Vec<_> = text.lines().filter(|line| line.contains("event=usage vms=")).collect();
    let domains: Vec<_> = usage.iter().map(|line| figure(line, "domains=")).collect();
    let free: Vec<_> = usage.iter().map(|line| figure(line, "free=")).collect();
    assert_eq!(domains, [1, 3, 5, 7, 7], "{text}");
    assert!(free[1] > free[2] && free[2] > free[3] && free[0] > free[4], "{free:?}");
}

#[test]
fn a_long_run_forgives_earlier_crashes() {
    let machine = Machine::builder().build();
    then_end(&machine, 1, SHUTDOWN_CRASH);
    for domain in 2..=4 {
        let clock = machine.clone();
        when_running(&machine, domain, move |guest| {
            clock.advance(60_000_000_000);
            guest.shut_down(SHUTDOWN_CRASH);
        });
    }
    end_when_running(&machine, 5, SHUTDOWN_POWEROFF);
    assert_eq!(run(&machine, &[restarted("a", 1)], ""), MachineStatus::Success, "{}", logged());
    machine.assert_clean();
}

#[test]
fn a_fixed_identifier_is_waited_for_and_kept() {
    let machine = Machine::builder().lingering().build();
    let fixed = BootSpec { domid: Some(77), ..restarted("a", 1) };
    then_end(&machine, 77, SHUTDOWN_CRASH);
    end_when_running(&machine, 77, SHUTDOWN_POWEROFF);
    assert_eq!(run(&machine, &[fixed], ""), MachineStatus::Success, "{}", logged());
    assert_eq!(logged().matches("vm=a domid=77 event=started").count(), 2, "{}", logged());
    machine.assert_clean();
}

#[test]
fn others_are_looked_after_while_a_vm_waits_for_its_restart() {
    let machine = Machine::builder().build();
    then_end(&machine, 1, SHUTDOWN_CRASH);
    then(&machine, 2, |guest| _ = guest.write_console(b"meanwhile\n"));
    then_end(&machine, 2, SHUTDOWN_POWEROFF);
    machine.when_idle(|machine| assert_eq!(machine.console(), "[b] meanwhile\n"));
    end_when_running(&machine, 3, SHUTDOWN_POWEROFF);
    assert_eq!(run(&machine, &[restarted("a", 1), spec("b")], ""), MachineStatus::Success, "{}", logged());
    machine.assert_clean();
}

#[test]
fn the_platform_ends_with_a_critical_vm_that_ends_badly() {
    let machine = Machine::builder().build();
    then_end(&machine, 3, SHUTDOWN_CRASH);
    machine.when_idle(|machine| machine.advance(1_000_000));
    then_end(&machine, 1, SHUTDOWN_CRASH);
    let waits =
        BootSpec { life: Life { restart_delay_ms: 60_000, ..Life::default() }, ..restarted("waits", 5) };
    let specs = [critical("heart"), spec("other"), waits];
    assert_eq!(run(&machine, &specs, ""), MachineStatus::VmFailed, "{}", logged());
    for text in
        ["vm=heart event=critical", "vm=other domid=2 event=destroyed", "vm=waits event=restart-cancelled"]
    {
        assert!(logged().contains(text), "{text}: {}", logged());
    }
    machine.assert_clean();
}

#[test]
fn the_platform_goes_on_when_a_critical_vm_ends_well_or_comes_back() {
    let machine = Machine::builder().build();
    then_end(&machine, 1, SHUTDOWN_CRASH);
    end_when_running(&machine, 3, SHUTDOWN_POWEROFF);
    then(&machine, 2, |guest| _ = guest.write_console(b"still here\n"));
    then_end(&machine, 2, SHUTDOWN_POWEROFF);
    let mut heart = restarted("heart", 1);
    heart.life.critical = true;
    assert_eq!(run(&machine, &[heart, spec("b")], ""), MachineStatus::Success, "{}", logged());
    assert_eq!(machine.console(), "[b] still here\n");
    machine.assert_clean();
}

#[test]
fn without_a_critical_vm_none_is_started_whatever_the_policy() {
    let too_large = BootSpec { memory_kib: 1 << 20, max_memory_kib: 1 << 20, ..critical("large") };
    let no_kernel = BootSpec { kernel: "images/absent".to_owned(), ..critical("absent") };
    for broken in [too_large, no_kernel] {
        let machine = Machine::builder().build();
        let specs = [spec("a"), broken];
        assert_eq!(run(&machine, &specs, "policy=each"), MachineStatus::BuildFailed, "{}", logged());
        assert!(logged().contains("no VM is started because one cannot be that is critical"), "{}", logged());
        machine.assert_clean();
    }
}

/// A VM that crashes at its start, is restarted, and powers off; another speaks meanwhile.
fn story(machine: &Machine) {
    then_end(machine, 1, SHUTDOWN_CRASH);
    then(machine, 2, |guest| _ = guest.write_console(b"up\n"));
    then_end(machine, 2, SHUTDOWN_POWEROFF);
    // Whichever attempt succeeds.
    for _ in 0..100 {
        machine.when_idle(|machine| match machine.domains().into_iter().find(|domid| domid.raw() > 2) {
            Some(domid) if machine.guest(domid).runs() => machine.guest(domid).shut_down(SHUTDOWN_POWEROFF),
            _ => machine.advance(10_000_000),
        });
    }
}

#[test]
fn a_failure_of_any_call_of_a_restart_is_tried_again_and_leaves_nothing() {
    let specs = [restarted("a", 3), spec("b")];
    let whole = Machine::builder().build();
    story(&whole);
    assert_eq!(run(&whole, &specs, ""), MachineStatus::Success, "{}", logged());
    let trace = whole.trace();
    let calls = trace.calls();
    let begin = calls.iter().rposition(|call| call.name == "XEN_DOMCTL_createdomain").unwrap();
    let end = calls.iter().rposition(|call| call.name == "XEN_DOMCTL_unpausedomain").unwrap();
    assert!(calls[..begin].iter().any(|call| call.name == "XEN_DOMCTL_unpausedomain"), "a restart is there");
    for call in &calls[begin..=end] {
        for times in [1, 2] {
            let machine = Machine::builder().build();
            story(&machine);
            let (index, mut name_seen) = (call.index, false);
            let name = call.name;
            // The same call fails in the next attempt too.
            let fault = Fault::when(
                move |site| {
                    name_seen |= site.index >= index;
                    name_seen && site.name == name && site.domain != DomId::new(2)
                },
                Effect::Fail(Errno::EIO),
            );
            machine.inject(fault.times(times));
            let status = run(&machine, &specs, "");
            let what = format!("call {index}, {call}, {times} times");
            assert_eq!(status, MachineStatus::Success, "{what}: {}", logged());
            assert!(machine.leftovers().is_empty(), "{what}: {:?}", machine.leftovers());
        }
    }
}

#[test]
fn a_vm_that_cannot_be_built_again_is_given_up() {
    let machine = Machine::builder().build();
    then_end(&machine, 1, SHUTDOWN_CRASH);
    machine.inject(Fault::named("XEN_DOMCTL_createdomain", Effect::Fail(Errno::ENOMEM)).after(1));
    assert_eq!(run(&machine, &[restarted("a", 3)], ""), MachineStatus::VmFailed, "{}", logged());
    assert_eq!(logged().matches("step=create:").count(), 3, "{}", logged());
    machine.assert_clean();
}

#[test]
fn a_domain_that_stays_when_a_restart_fails_is_no_success() {
    let machine = Machine::builder().build();
    then_end(&machine, 1, SHUTDOWN_CRASH);
    then_end(&machine, 3, SHUTDOWN_POWEROFF);
    // The second life is not built to its end, and then does not go; the third ends well.
    machine.inject(Fault::named("XEN_DOMCTL_setvcpucontext", Effect::Fail(Errno::ENOMEM)).after(1));
    machine.inject(Fault::named("XEN_DOMCTL_destroydomain", Effect::Fail(Errno::EPERM)).after(1));
    assert_eq!(run(&machine, &[restarted("a", 3)], ""), MachineStatus::BuilderFailed, "{}", logged());
    assert!(logged().contains("domid=2 event=leaked XEN_DOMCTL_destroydomain"), "{}", logged());
}

/// A VM that starts after others.
fn after(name: &str, others: &[&str]) -> BootSpec {
    let after = others.iter().map(|&other| other.to_owned()).collect();
    BootSpec { life: Life { after, ..Life::default() }, ..spec(name) }
}

fn ready(name: &str, text: &str) -> BootSpec {
    BootSpec { life: Life { ready: Some(text.to_owned()), ..Life::default() }, ..spec(name) }
}

/// Where a text first stands in what was logged.
#[track_caller]
fn place(text: &str) -> usize {
    let found = logged().find(text);
    assert!(found.is_some(), "{text} is missing: {}", logged());
    found.unwrap()
}

#[test]
fn vms_start_in_the_order_that_they_ask_for_whatever_that_of_the_archive() {
    let machine = Machine::builder().build();
    for domain in 1..=3 {
        then_end(&machine, domain, SHUTDOWN_POWEROFF);
    }
    let specs = [after("c", &["a", "b"]), after("b", &["a"]), spec("a")];
    assert_eq!(run(&machine, &specs, ""), MachineStatus::Success, "{}", logged());
    let [a, b, c] =
        ["vm=a domid=3 event=started", "vm=b domid=2 event=started", "vm=c domid=1 event=started"].map(place);
    assert!(a < b && b < c, "{}", logged());
    machine.assert_clean();
}

#[test]
fn a_vm_starts_once_the_other_has_shown_its_text_in_parts_or_as_a_prompt() {
    let stories: [&[&'static [u8]]; 3] =
        [&[b"all is we", b"ll now\n"], &[b"\n\nall is well: "], &[b"all is well"]];
    for story in stories {
        let machine = Machine::builder().build();
        then(&machine, 1, |guest| _ = guest.write_console(b"all is not well\n"));
        machine.when_idle(|machine| assert!(!machine.guest(DomId::new(2)).runs()));
        for part in story {
            then(&machine, 1, |guest| _ = guest.write_console(part));
        }
        end_when_running(&machine, 2, SHUTDOWN_POWEROFF);
        end_when_running(&machine, 1, SHUTDOWN_POWEROFF);
        let specs = [ready("a", "all is well"), after("b", &["a"])];
        assert_eq!(run(&machine, &specs, ""), MachineStatus::Success, "{}", logged());
        assert!(place("vm=a event=ready") < place("vm=b domid=2 event=started"));
        machine.assert_clean();
    }
}

#[test]
fn a_text_that_is_shown_at_the_very_end_counts_and_a_restart_gives_another_chance() {
    let machine = Machine::builder().build();
    then_end(&machine, 1, SHUTDOWN_CRASH);
    when_running(&machine, 3, |guest| {
        guest.write_console(b"up");
        guest.shut_down(SHUTDOWN_POWEROFF);
    });
    end_when_running(&machine, 2, SHUTDOWN_POWEROFF);
    let mut first = restarted("a", 1);
    first.life.ready = Some("up".to_owned());
    assert_eq!(run(&machine, &[first, after("b", &["a"])], ""), MachineStatus::Success, "{}", logged());
    machine.assert_clean();
}

#[test]
fn vms_that_wait_for_one_that_ends_too_early_are_not_started() {
    let machine = Machine::builder().build();
    then_end(&machine, 1, SHUTDOWN_POWEROFF);
    let specs = [ready("a", "up"), after("b", &["a"]), after("c", &["b"])];
    assert_eq!(run(&machine, &specs, ""), MachineStatus::BuildFailed, "{}", logged());
    for (vm, other) in [("b", "a"), ("c", "b")] {
        let text = format!("vm={vm} event=not-started: it starts after {other}, which was never ready");
        assert!(logged().contains(&text), "{text}: {}", logged());
    }
    machine.assert_clean();
}

#[test]
fn an_order_that_is_none_is_found_before_anything_is_built() {
    for (specs, text) in [
        (
            [after("a", &["b"]), after("b", &["a"])],
            "vm=a step=spec: it would wait for itself: a starts after b starts after a",
        ),
        (
            [after("a", &["x"]), spec("b")],
            "vm=a step=spec: it is to start after \"x\", and there is no VM of that name",
        ),
    ] {
        let machine = Machine::builder().build();
        assert_eq!(run(&machine, &specs, ""), MachineStatus::BuildFailed, "{}", logged());
        assert!(logged().contains(text), "{text}: {}", logged());
        assert!(!logged().contains("event=built"), "{}", logged());
        machine.assert_clean();
    }
}

#[test]
fn a_failure_of_any_call_while_vms_wait_leaves_nothing() {
    let specs = [ready("a", "up"), after("b", &["a"])];
    let story = |machine: &Machine| {
        then(machine, 1, |guest| _ = guest.write_console(b"up\n"));
        then_end(machine, 2, SHUTDOWN_POWEROFF);
        then_end(machine, 1, SHUTDOWN_POWEROFF);
    };
    let whole = Machine::builder().build();
    story(&whole);
    assert_eq!(run(&whole, &specs, ""), MachineStatus::Success, "{}", logged());
    let trace = whole.trace();
    let starts: Vec<_> = trace
        .calls()
        .iter()
        .filter(|call| call.name == "XEN_DOMCTL_unpausedomain")
        .map(|call| call.index)
        .collect();
    let calls = trace.calls().iter().filter(|call| call.index > starts[0] && call.index <= starts[1]);
    for call in calls {
        let machine = Machine::builder().build();
        story(&machine);
        // Those that the failure leaves behind end some time.
        for domain in [2, 1, 2, 1, 2, 1] {
            then_end(&machine, domain, SHUTDOWN_POWEROFF);
        }
        machine.inject(Fault::at(call.index, Effect::Fail(Errno::EIO)));
        let status = run(&machine, &specs, "");
        let what = format!("call {}, {call}: {}", call.index, logged());
        match call.name {
            // Without a way to wait, the VMs are left alone until the machine goes off with them.
            "SCHEDOP_poll" => assert_eq!(status, MachineStatus::BuilderFailed, "{what}"),
            // Nobody reads the console, or hears of it: that harms nobody.
            "CONSOLEIO_write" | "EVTCHNOP_send" => {
                assert_eq!(status, MachineStatus::Success, "{what}");
                machine.assert_clean();
            }
            _ => assert!(machine.leftovers().is_empty(), "{what}: {:?}", machine.leftovers()),
        }
    }
}

#[test]
fn a_vm_that_ends_without_a_word_is_explained_and_one_that_spoke_is_not() {
    const PVH: &str = "triple fault";
    const PV: &str = "console=hvc0";
    for (kind, reason, speaks, hint) in [
        (GuestKind::Pvh, SHUTDOWN_REBOOT, false, Some(PVH)),
        (GuestKind::Pv, SHUTDOWN_REBOOT, false, Some(PV)),
        (GuestKind::Pv, SHUTDOWN_CRASH, false, Some(PV)),
        (GuestKind::Pvh, SHUTDOWN_REBOOT, true, None),
        (GuestKind::Pv, SHUTDOWN_POWEROFF, false, None),
    ] {
        let machine = Machine::builder().build();
        if speaks {
            then(&machine, 1, |guest| _ = guest.write_console(b"up\n"));
        }
        then_end(&machine, 1, reason);
        let before = logged().len();
        run(&machine, &[BootSpec { kind, ..spec("quiet") }], "");
        let text = logged()[before..].to_owned();
        assert_eq!(text.contains("vm=quiet event=silent"), hint.is_some(), "{text}");
        assert!(hint.is_none_or(|hint| text.contains(hint)), "{text}");
        machine.assert_clean();
    }
}

/// The builder has its console mapped, so that it stays until the builder lets go of that.
#[test]
fn a_vm_that_somebody_else_destroys_has_ended() {
    for release in Release::ALL {
        let machine = Machine::builder().release(release).build();
        machine.when_idle(|machine| {
            Xen::probe(machine.dom0()).unwrap().destroy_domain(DomId::new(1)).unwrap();
        });
        assert_eq!(run(&machine, &[spec("a")], ""), MachineStatus::VmFailed, "{release}: {}", logged());
        assert!(logged().contains("vm=a domid=1 event=ended reason=gone"), "{}", logged());
        machine.assert_clean();
    }
}

/// Whoever clears away what has ended does not change how it did.
#[test]
fn a_vm_that_had_ended_when_somebody_else_destroyed_it_has_ended_as_it_did() {
    let machine = Machine::builder().build();
    machine.when_idle(|machine| {
        machine.guest(DomId::new(1)).shut_down(SHUTDOWN_POWEROFF);
        Xen::probe(machine.dom0()).unwrap().destroy_domain(DomId::new(1)).unwrap();
    });
    assert_eq!(run(&machine, &[spec("a")], ""), MachineStatus::Success, "{}", logged());
    assert!(logged().contains("vm=a domid=1 event=ended reason=poweroff"), "{}", logged());
    machine.assert_clean();
}

/// What somebody else has destroyed while it was built is no leak.
#[test]
fn a_vm_that_somebody_else_destroys_while_it_is_built_is_not_built() {
    for release in Release::ALL {
        let machine = Machine::builder().release(release).build();
        let mut is_done = false;
        machine.before_calls(move |machine| {
            if !is_done && machine.has_domain(DomId::new(1)) {
                is_done = true;
                Xen::probe(machine.dom0()).unwrap().destroy_domain(DomId::new(1)).unwrap();
            }
        });
        assert_eq!(run(&machine, &[spec("a")], ""), MachineStatus::BuildFailed, "{release}: {}", logged());
        assert!(!logged().contains("event=leaked"), "{}", logged());
        machine.assert_clean();
    }
}
