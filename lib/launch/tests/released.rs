//! The RAM disk's memory goes back to Xen, but for what VMs may be restarted from.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise, in its helpers too"
)]

mod support;

use protocols::archive::spec_entry;
use protocols::{BootSpec, ExitAction, Life, MachineStatus};
use ramdisk::Writer;
use support::{end_when_running, kernel, logged, run_archive, spec, then_end};
use xen_abi::number::HypercallNumber;
use xen_abi::sched::{SHUTDOWN_CRASH, SHUTDOWN_POWEROFF};
use xen_abi::{Errno, PageCount};
use xen_sim::{Effect, Fault, Machine, Release};

/// A RAM disk of 256 KiB and a bit: two VMs with a RAM disk each.
fn archive(specs: &[BootSpec]) -> Vec<u8> {
    let mut writer = Writer::new();
    for spec in specs {
        writer.file(&spec_entry(&spec.name), &spec.encode().unwrap()).unwrap();
    }
    writer.file("images/kernel", &kernel()).unwrap();
    writer.file("images/first", &vec![b'1'; 128 << 10]).unwrap();
    writer.file("images/second", &vec![b'2'; 128 << 10]).unwrap();
    writer.finish()
}

fn with_ramdisk(name: &str, ramdisk: &str) -> BootSpec {
    BootSpec { ramdisk: Some(format!("images/{ramdisk}")), ..spec(name) }
}

/// Frames that Dom0 gave back.
fn given_back(machine: &Machine) -> u64 {
    let trace = machine.trace();
    let calls = trace.calls().iter().filter(|call| call.name == "XENMEM_decrease_reservation");
    calls.map(|call| call.result.unwrap().unsigned_abs()).sum()
}

#[test]
fn all_of_it_goes_back_when_no_vm_may_be_restarted() {
    for release in Release::ALL {
        let machine = Machine::with_release(release);
        let free = machine.free_memory();
        let archive = archive(&[with_ramdisk("a", "first"), with_ramdisk("b", "second")]);
        then_end(&machine, 1, SHUTDOWN_POWEROFF);
        then_end(&machine, 2, SHUTDOWN_POWEROFF);
        assert_eq!(run_archive(&machine, &archive, ""), MachineStatus::Success, "{}", logged());
        let pages = PageCount::for_bytes(archive.len() as u64);
        assert_eq!(given_back(&machine), pages.raw());
        assert_eq!(machine.free_memory(), PageCount::new(free.raw() + pages.raw()));
        let line = format!("event=ramdisk-released memory={}KiB kept=0KiB", pages.kib());
        assert!(logged().contains(&line), "{}", logged());
        assert!(logged().contains(&format!("released={}KiB", pages.kib())), "{}", logged());
        machine.assert_clean();
    }
}

#[test]
fn what_a_vm_may_be_restarted_from_is_kept_and_used() {
    let machine = Machine::builder().build();
    let life = Life { restart_delay_ms: 0, restart_limit: 1, ..Life::default() };
    let again = BootSpec { on_crash: ExitAction::Restart, life, ..with_ramdisk("again", "second") };
    let archive = archive(&[with_ramdisk("once", "first"), again]);
    then_end(&machine, 1, SHUTDOWN_POWEROFF);
    then_end(&machine, 2, SHUTDOWN_CRASH);
    machine.when_idle(|machine| machine.advance(1_000_000));
    end_when_running(&machine, 3, SHUTDOWN_POWEROFF);
    assert_eq!(run_archive(&machine, &archive, ""), MachineStatus::Success, "{}", logged());
    // The second image and the kernel stay, in whole pages; the first image goes.
    let pages = PageCount::for_bytes(archive.len() as u64).raw();
    assert!((31..=32).contains(&given_back(&machine)), "{} of {pages}", given_back(&machine));
    assert!(logged().contains("vm=again domid=3 event=ended reason=poweroff"), "{}", logged());
    machine.assert_clean();
}

#[test]
fn whatever_fails_the_vms_go_on_and_the_figures_are_right() {
    let fail = |name: &'static str, effect| {
        let machine = Machine::builder().build();
        machine.inject(Fault::named(name, effect));
        then_end(&machine, 1, SHUTDOWN_POWEROFF);
        let status = run_archive(&machine, &archive(&[with_ramdisk("a", "first")]), "");
        assert_eq!(status, MachineStatus::Success, "{}", logged());
        assert!(logged().contains("vm=a domid=1 event=ended reason=poweroff"), "{}", logged());
        machine
    };
    let machine = fail("unmap RAM disk", Effect::Fail(Errno::EINVAL));
    assert!(logged().contains("the rest of the RAM disk stays mapped: EINVAL"), "{}", logged());
    assert_eq!(given_back(&machine), 0);
    machine.assert_clean();
    let machine = fail("XENMEM_decrease_reservation", Effect::Short(5));
    assert!(logged().contains("released=20KiB"), "{}", logged());
    assert!(logged().contains("Xen does not take frame"), "{}", logged());
    machine.assert_clean();
    let machine = fail("XENMEM_decrease_reservation", Effect::Fail(Errno::EFAULT));
    assert!(logged().contains("pages stay unused"), "{}", logged());
    assert_eq!(
        machine
            .trace()
            .calls()
            .iter()
            .filter(|call| call.number == HypercallNumber::MEMORY_OP && call.result == Err(Errno::EFAULT))
            .count(),
        1
    );
    machine.assert_clean();
}
