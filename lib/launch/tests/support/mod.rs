//! What the tests of whole platforms share: a kernel, RAM disks, launching on a simulated Xen, guests that act.
#![allow(dead_code, reason = "each test file uses a part")]
#![allow(unreachable_pub, reason = "a module of a test")]

use std::cell::RefCell;

use event_channel::EventWords;
use hypercall::Xen;
use launch::{Cursor, Environment, Options, Service, launch, launch_serving};
use log::{Log, Metadata, Record};
use protocols::archive::{PLATFORM_ENTRY, spec_entry};
use protocols::{BootSpec, MachineStatus, PlatformSpec};
use ramdisk::Writer;
pub(crate) use sample_kernel::inert as kernel;
use xen_abi::DomId;
use xen_sim::{Guest, Machine, SimHypervisor, SimWindow};

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
pub(crate) fn logged() -> String {
    LINES.with_borrow(|lines| lines.join("\n"))
}

/// Forgets the lines, for a test that runs more than one machine.
pub(crate) fn forget_log() {
    LINES.with_borrow_mut(Vec::clear);
}

pub(crate) fn spec(name: &str) -> BootSpec {
    BootSpec { uuid: [7; 16], ..BootSpec::new(name, "images/kernel", 8 << 10) }
}

/// The RAM disk of VMs without a platform spec.
pub(crate) fn archive(specs: &[BootSpec]) -> Vec<u8> {
    platform_archive(None, specs)
}

/// The RAM disk of a platform of `specs`, with a platform spec if there is one.
pub(crate) fn platform_archive(settings: Option<&PlatformSpec>, specs: &[BootSpec]) -> Vec<u8> {
    let mut writer = Writer::new();
    if let Some(settings) = settings {
        writer.file(PLATFORM_ENTRY, &settings.encode().unwrap()).unwrap();
    }
    for spec in specs {
        writer.file(&spec_entry(&spec.name), &spec.encode().unwrap()).unwrap();
    }
    writer.file("images/kernel", &kernel()).unwrap();
    writer.finish()
}

/// Launches VMs without a platform spec to their end.
pub(crate) fn run(machine: &Machine, specs: &[BootSpec], command_line: &str) -> MachineStatus {
    run_archive(machine, &archive(specs), command_line)
}

/// Launches a platform to its end.
pub(crate) fn run_platform(machine: &Machine, settings: &PlatformSpec, specs: &[BootSpec]) -> MachineStatus {
    run_archive(machine, &platform_archive(Some(settings), specs), "")
}

/// Launches what is in a RAM disk to its end.
pub(crate) fn run_archive(machine: &Machine, archive: &[u8], command_line: &str) -> MachineStatus {
    run_with(machine, archive, &Options::parse(command_line))
}

/// The same with options that no command line gives.
pub(crate) fn run_with(machine: &Machine, archive: &[u8], options: &Options) -> MachineStatus {
    run_within(machine, archive, options, 64 << 20)
}

/// The same with so many bytes that the builder can allocate.
pub(crate) fn run_within(
    machine: &Machine,
    archive: &[u8],
    options: &Options,
    spare: usize,
) -> MachineStatus {
    let xen = Xen::probe(machine.dom0()).unwrap();
    in_environment(machine, &xen, spare, |environment| launch(environment, options, machine.ramdisk(archive)))
}

/// Launches what is in a RAM disk to its end, with a service.
pub(crate) fn launch_with<'x>(
    machine: &Machine,
    xen: &'x Xen<SimHypervisor>,
    archive: &[u8],
    options: &Options,
    service: &mut dyn Service<'x, SimHypervisor, SimWindow>,
) -> MachineStatus {
    in_environment(machine, xen, 64 << 20, |environment| {
        launch_serving(environment, options, machine.ramdisk(archive), service)
    })
}

/// Calls `act` with the environment of Dom0.
fn in_environment<'x, R>(
    machine: &Machine,
    xen: &'x Xen<SimHypervisor>,
    spare: usize,
    act: impl FnOnce(&mut Environment<'x, SimHypervisor, SimWindow>) -> R,
) -> R {
    keep_log();
    // Borrowed for as long as Xen is, which no test cares about.
    let now: &'static dyn Fn() -> u64 = Box::leak(Box::new({
        let machine = machine.clone();
        move || machine.now()
    }));
    let dom0: &'static SimHypervisor = Box::leak(Box::new(machine.dom0()));
    act(&mut Environment {
        xen,
        window: machine.window(),
        events: EventWords::new(dom0.pending_words(), dom0.mask_words()),
        now,
        spare_memory: Box::leak(Box::new(move || spare)),
        cursor: Box::leak(Box::new(Cursor::new())),
    })
}

/// Has what is logged kept for [`logged`].
fn keep_log() {
    static KEEPER: Keeper = Keeper;
    // Fails in every test of the process but the first, which is as well.
    if log::set_logger(&KEEPER).is_ok() {
        log::set_max_level(log::LevelFilter::Debug);
    }
}

/// Lets a guest act when the builder next sleeps, if it runs.
pub(crate) fn then(machine: &Machine, domain: u16, act: impl FnOnce(&Guest) + 'static) {
    machine.when_idle(move |machine| {
        let domain = DomId::new(domain);
        if machine.has_domain(domain) && machine.guest(domain).runs() {
            act(&machine.guest(domain));
        }
    });
}

pub(crate) fn then_end(machine: &Machine, domain: u16, reason: u8) {
    then(machine, domain, move |guest| guest.shut_down(reason));
}

/// Lets a guest act as soon as it runs, which may take several sleeps of the builder; time passes meanwhile.
pub(crate) fn when_running(machine: &Machine, domain: u16, act: impl FnOnce(&Guest) + 'static) {
    try_running(machine, domain, 10_000, act);
}

fn try_running(machine: &Machine, domain: u16, tries: u32, act: impl FnOnce(&Guest) + 'static) {
    machine.when_idle(move |machine| {
        let id = DomId::new(domain);
        if machine.has_domain(id) && machine.guest(id).runs() {
            act(&machine.guest(id));
        } else {
            assert!(tries > 0, "domain {domain} never runs: {}", logged());
            machine.advance(1_000_000);
            try_running(machine, domain, tries - 1, act);
        }
    });
}

/// Lets a guest end as soon as it runs.
pub(crate) fn end_when_running(machine: &Machine, domain: u16, reason: u8) {
    when_running(machine, domain, move |guest| guest.shut_down(reason));
}
