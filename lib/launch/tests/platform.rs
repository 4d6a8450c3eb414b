//! What holds for all VMs together: the platform spec, on a simulated Xen.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise, in its helpers too"
)]

mod support;

use protocols::archive::{PLATFORM_ENTRY, spec_entry};
use protocols::platform::{Ends, LateAction, Limits, Policy, Readiness};
use protocols::{BootSpec, ExitAction, Life, MachineStatus, PlatformSpec};
use ramdisk::Writer;
use support::{
    end_when_running, kernel, logged, platform_archive, run_archive, run_platform, spec, then, then_end,
    when_running,
};
use xen_abi::sched::{SHUTDOWN_CRASH, SHUTDOWN_POWEROFF};
use xen_abi::{DomId, PageCount};
use xen_sim::Machine;

fn ends(ends: Ends) -> PlatformSpec {
    PlatformSpec { ends, ..PlatformSpec::default() }
}

fn critical(name: &str) -> BootSpec {
    BootSpec { life: Life { critical: true, ..Life::default() }, ..spec(name) }
}

#[test]
fn without_anything_unusual_a_platform_spec_changes_nothing() {
    let machine = Machine::builder().build();
    then_end(&machine, 1, SHUTDOWN_POWEROFF);
    then_end(&machine, 2, SHUTDOWN_POWEROFF);
    let status = run_platform(&machine, &PlatformSpec::default(), &[spec("a"), spec("b")]);
    assert_eq!(status, MachineStatus::Success, "{}", logged());
    machine.assert_clean();
}

#[test]
fn settings_and_costs_are_in_the_log() {
    let machine = Machine::builder().build();
    then_end(&machine, 1, SHUTDOWN_POWEROFF);
    let platform = PlatformSpec { policy: Policy::Each, ..ends(Ends::Critical) };
    run_platform(&machine, &platform, &[critical("a")]);
    assert!(logged().contains("platform=settings policy=each ends=critical"), "{}", logged());
    let built =
        logged().lines().find(|line| line.contains("event=built type=pv vcpus=1 ")).unwrap().to_owned();
    let mapped: u64 = built.split(" mapped=").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    let traced: u64 = machine
        .trace()
        .calls()
        .iter()
        .filter(|call| call.name == "map frames")
        .filter_map(|call| call.numbers.iter().find(|(name, _)| *name == "frames"))
        .map(|(_, frames)| *frames)
        .sum();
    // One more is mapped to start it: its console's page.
    assert_eq!(mapped + 1, traced, "{built}");
}

#[test]
fn the_end_of_a_named_vm_ends_the_platform_well_or_badly() {
    for (reason, expected) in
        [(SHUTDOWN_POWEROFF, MachineStatus::Success), (SHUTDOWN_CRASH, MachineStatus::VmFailed)]
    {
        let machine = Machine::builder().build();
        then_end(&machine, 1, SHUTDOWN_POWEROFF);
        machine.when_idle(|machine| assert!(machine.has_domain(DomId::new(3))));
        then_end(&machine, 2, reason);
        let platform = ends(Ends::With(vec!["main".into()]));
        let status = run_platform(&machine, &platform, &[spec("first"), spec("main"), spec("server")]);
        assert_eq!(status, expected, "{}", logged());
        for text in ["vm=main event=last", "vm=server domid=3 event=destroyed"] {
            assert!(logged().contains(text), "{text}: {}", logged());
        }
        machine.assert_clean();
    }
}

#[test]
fn a_named_vm_that_is_restarted_has_not_ended() {
    let machine = Machine::builder().build();
    then_end(&machine, 1, SHUTDOWN_CRASH);
    end_when_running(&machine, 3, SHUTDOWN_POWEROFF);
    let main = BootSpec { on_crash: ExitAction::Restart, ..spec("main") };
    let platform = ends(Ends::With(vec!["main".into()]));
    let status = run_platform(&machine, &platform, &[main, spec("server")]);
    assert_eq!(status, MachineStatus::Success, "{}", logged());
    assert!(logged().contains("vm=server domid=2 event=destroyed"), "{}", logged());
    machine.assert_clean();
}

#[test]
fn the_end_of_the_last_critical_vm_ends_the_platform() {
    let machine = Machine::builder().build();
    then_end(&machine, 1, SHUTDOWN_POWEROFF);
    machine.when_idle(|machine| assert!(machine.guest(DomId::new(3)).runs(), "one critical VM is left"));
    then_end(&machine, 2, SHUTDOWN_POWEROFF);
    let specs = [critical("a"), critical("b"), spec("server")];
    assert_eq!(run_platform(&machine, &ends(Ends::Critical), &specs), MachineStatus::Success, "{}", logged());
    assert!(logged().contains("vm=server domid=3 event=destroyed"), "{}", logged());
    machine.assert_clean();
}

#[test]
fn a_critical_vm_that_is_still_to_start_keeps_the_platform() {
    let machine = Machine::builder().build();
    then(&machine, 1, |guest| _ = guest.write_console(b"up\n"));
    end_when_running(&machine, 2, SHUTDOWN_POWEROFF);
    let server = BootSpec { life: Life { ready: Some("up".into()), ..Life::default() }, ..spec("server") };
    let mut client = critical("client");
    client.life.after = vec!["server".into()];
    let status = run_platform(&machine, &ends(Ends::Critical), &[server, client]);
    assert_eq!(status, MachineStatus::Success, "{}", logged());
    assert!(logged().contains("vm=client domid=2 event=started"), "{}", logged());
    machine.assert_clean();
}

#[test]
fn a_platform_that_never_ends_outlives_its_vms() {
    let machine = Machine::builder().build();
    then_end(&machine, 1, SHUTDOWN_POWEROFF);
    // Its only other end is a critical VM that ends badly: hours after all others.
    for _ in 0..3 {
        machine.when_idle(|machine| {
            assert!(!machine.has_domain(DomId::new(1)));
            machine.advance(3_600_000_000_000);
        });
    }
    then_end(&machine, 2, SHUTDOWN_CRASH);
    let status = run_platform(&machine, &ends(Ends::Never), &[spec("a"), critical("b")]);
    assert_eq!(status, MachineStatus::VmFailed, "{}", logged());
    assert!(machine.now() > 3 * 3_600_000_000_000);
    machine.assert_clean();
}

#[test]
fn what_the_vms_and_the_platform_do_not_agree_on_is_found_before_anything_is_built() {
    let limits = |memory_kib, vcpus, vms| PlatformSpec {
        limits: Limits { memory_kib, vcpus, vms },
        policy: Policy::Each,
        ..PlatformSpec::default()
    };
    for (platform, text) in [
        (
            limits(Some(16383), None, None),
            "there are 16 MiB of memory together, the platform's limit is 16383 KiB of memory",
        ),
        (limits(None, Some(1), None), "there are 2 vCPUs together, the platform's limit is 1 vCPUs"),
        (limits(None, None, Some(1)), "there are 2 VMs together, the platform's limit is 1 VMs"),
        (ends(Ends::Critical), "no VM is critical"),
        (ends(Ends::With(vec!["b".into(), "c".into()])), "end with \"c\", and there is no VM of that name"),
    ] {
        let machine = Machine::builder().build();
        let status = run_platform(&machine, &platform, &[spec("a"), spec("b")]);
        assert_eq!(status, MachineStatus::BuildFailed, "{}", logged());
        assert!(logged().contains(text), "{text}: {}", logged());
        machine.assert_clean();
    }
    assert!(!logged().contains("event=built"), "{}", logged());
}

#[test]
fn a_platform_spec_that_cannot_be_read_keeps_every_vm_from_starting() {
    let mut bytes = PlatformSpec::default().encode().unwrap();
    bytes[8] = 9;
    let damaged = |add: &dyn Fn(&mut Writer)| {
        let mut writer = Writer::new();
        add(&mut writer);
        writer.file(&spec_entry("a"), &spec("a").encode().unwrap()).unwrap();
        writer.file("images/kernel", &kernel()).unwrap();
        writer.finish()
    };
    let archives = [
        damaged(&|writer| writer.file(PLATFORM_ENTRY, &bytes).unwrap()),
        damaged(&|writer| writer.directory(PLATFORM_ENTRY).unwrap()),
    ];
    for (archive, text) in archives.iter().zip(["format version 9", PLATFORM_ENTRY]) {
        let machine = Machine::builder().build();
        assert_eq!(run_archive(&machine, archive, "policy=each"), MachineStatus::BuildFailed, "{}", logged());
        assert!(logged().contains(text), "{}", logged());
        machine.assert_clean();
    }
}

#[test]
fn the_command_line_has_its_way_over_the_platform() {
    let absent = BootSpec { kernel: "images/absent".into(), ..spec("b") };
    let each = PlatformSpec { policy: Policy::Each, ..PlatformSpec::default() };
    let machine = Machine::builder().build();
    then_end(&machine, 1, SHUTDOWN_POWEROFF);
    assert_eq!(run_platform(&machine, &each, &[spec("a"), absent.clone()]), MachineStatus::BuildFailed);
    assert!(logged().contains("vm=a domid=1 event=started"), "{}", logged());
    let machine = Machine::builder().build();
    let archive = platform_archive(Some(&each), &[spec("c"), absent]);
    assert_eq!(run_archive(&machine, &archive, "policy=all"), MachineStatus::BuildFailed);
    assert!(!logged().contains("vm=c domid=1 event=started"), "{}", logged());
    machine.assert_clean();
}

/// A server that is to show that it is ready within a second, a VM that starts after it, and one after that.
fn late_platform(late: LateAction) -> (PlatformSpec, [BootSpec; 3]) {
    let readiness = Some(Readiness { timeout_ms: 1000, late });
    let after = |name: &str, other: &str| BootSpec {
        life: Life { after: vec![other.into()], ..Life::default() },
        ..spec(name)
    };
    let server = BootSpec { life: Life { ready: Some("up".into()), ..Life::default() }, ..spec("server") };
    let specs = [server, after("client", "server"), after("third", "client")];
    (PlatformSpec { readiness, ..PlatformSpec::default() }, specs)
}

#[test]
fn those_that_start_after_a_vm_that_is_not_ready_in_time_are_given_up() {
    let (platform, specs) = late_platform(LateAction::GiveUp);
    let machine = Machine::builder().build();
    machine.when_idle(|machine| machine.advance(2_000_000_000));
    machine.when_idle(|machine| assert_eq!(machine.domains(), [DomId::new(1)]));
    then(&machine, 1, |guest| _ = guest.write_console(b"up\n"));
    then_end(&machine, 1, SHUTDOWN_POWEROFF);
    assert_eq!(run_platform(&machine, &platform, &specs), MachineStatus::BuildFailed, "{}", logged());
    for text in [
        "vm=server event=late after=1000ms",
        "vm=client event=not-started: it starts after server",
        "vm=third event=not-started: it starts after client",
    ] {
        assert!(logged().contains(text), "{text}: {}", logged());
    }
    assert!(!logged().contains("event=ready"), "too late: {}", logged());
    machine.assert_clean();
}

#[test]
fn those_that_start_after_a_vm_that_is_not_ready_in_time_start_all_the_same() {
    let (platform, specs) = late_platform(LateAction::Start);
    let machine = Machine::builder().build();
    machine.when_idle(|machine| {
        assert!(!machine.guest(DomId::new(2)).runs(), "too early");
        machine.advance(2_000_000_000);
    });
    for domain in [2, 3, 1] {
        when_running(&machine, domain, |guest| guest.shut_down(SHUTDOWN_POWEROFF));
    }
    assert_eq!(run_platform(&machine, &platform, &specs), MachineStatus::Success, "{}", logged());
    machine.assert_clean();
}

#[test]
fn the_platform_ends_with_a_vm_that_is_not_ready_in_time() {
    let (platform, specs) = late_platform(LateAction::End);
    let machine = Machine::builder().build();
    machine.when_idle(|machine| machine.advance(2_000_000_000));
    assert_eq!(run_platform(&machine, &platform, &specs), MachineStatus::VmFailed, "{}", logged());
    assert!(logged().contains("vm=server domid=1 event=destroyed"), "{}", logged());
    machine.assert_clean();
}

#[test]
fn a_vm_that_is_ready_in_time_is_never_late() {
    let (platform, specs) = late_platform(LateAction::End);
    let machine = Machine::builder().build();
    then(&machine, 1, |guest| _ = guest.write_console(b"up\n"));
    machine.when_idle(|machine| machine.advance(5_000_000_000));
    for domain in [2, 3, 1] {
        end_when_running(&machine, domain, SHUTDOWN_POWEROFF);
    }
    assert_eq!(run_platform(&machine, &platform, &specs), MachineStatus::Success, "{}", logged());
    assert!(!logged().contains("event=late"), "{}", logged());
    machine.assert_clean();
}

#[test]
fn a_long_chain_of_vms_starts_in_its_order() {
    let machine = Machine::builder().memory(PageCount::new(0x4_0000)).build();
    let names: Vec<String> = (0..100).map(|number| format!("vm{number}")).collect();
    let specs: Vec<BootSpec> = names
        .iter()
        .enumerate()
        .map(|(index, name)| {
            let after = names.get(index + 1).cloned().into_iter().collect();
            let life = Life { after, ..Life::default() };
            BootSpec { life, memory_kib: 4 << 10, max_memory_kib: 4 << 10, ..spec(name) }
        })
        .collect();
    for domain in 1..=100 {
        end_when_running(&machine, domain, SHUTDOWN_POWEROFF);
    }
    assert_eq!(
        run_platform(&machine, &PlatformSpec::default(), &specs),
        MachineStatus::Success,
        "{}",
        logged()
    );
    let log = logged();
    let starts: Vec<_> = log.lines().filter(|line| line.ends_with("event=started")).collect();
    let expected: Vec<_> = names.iter().rev().map(|name| format!("vm={name} ")).collect();
    assert_eq!(starts.len(), 100);
    for (start, expected) in starts.iter().zip(&expected) {
        assert!(start.starts_with(expected.as_str()), "{start} where {expected} was expected");
    }
    machine.assert_clean();
}
