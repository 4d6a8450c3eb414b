//! Platforms to be launched, and what their guests do.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use event_channel::EventWords;
use hypercall::Xen;
use launch::{Cursor, Environment, Options, launch};
use protocols::archive::spec_entry;
use protocols::settings::{Access, Affinity, CpuSet, IoMemory, IoPorts, Limits, Placement};
use protocols::{BootSpec, Channels, ExitAction, GuestKind, Life, MachineStatus, Settings};
use ramdisk::Writer;
use xen_abi::PageCount;
use xen_abi::sched::{SHUTDOWN_CRASH, SHUTDOWN_POWEROFF};
use xen_sim::{Machine, Release, Trace};

use crate::kernel::{kernel, kernel_of_32_bits};
use crate::logged::{self, Line};

/// How often Dom0 can wait for something before nothing happens any more.
const PATIENCE: usize = 400;
/// Nanoseconds that pass whenever Dom0 waits.
const WAIT: u64 = 20_000_000;
/// Bytes that the builder can allocate.
const SPARE: usize = 64 << 20;

/// A platform, and what its guests do.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its name, for whoever reads the outcome.
    pub name: &'static str,
    /// Its VMs.
    pub specs: Vec<BootSpec>,
    /// How many guests crash before the others power off.
    pub crashes: usize,
    /// Whether it runs on a Xen with 32-bit PV guests.
    pub pv32: bool,
    archive: Vec<u8>,
}

/// How a launch ended.
#[derive(Clone, Debug)]
pub struct Run {
    /// The platform's status; without one, the builder did not find a Xen that it can use, and why.
    pub status: Result<MachineStatus, String>,
    /// What was logged.
    pub log: Vec<Line>,
    /// Pages of memory of all VMs.
    pub pages: u64,
    /// The calls that were made.
    pub trace: Trace,
    /// What is left of it on the machine.
    pub left: Vec<String>,
}

/// Every scenario.
pub fn scenarios() -> Vec<Scenario> {
    let pvh = |name: &str| BootSpec { kind: GuestKind::Pvh, ..spec(name) };
    let at = |domid: u16, spec: BootSpec| BootSpec { domid: Some(domid), ..spec };
    let after = |others: &[&str], spec: BootSpec| BootSpec {
        life: Life { after: others.iter().map(|&other| other.into()).collect(), ..Life::default() },
        ..spec
    };
    let back = |spec: BootSpec| BootSpec {
        on_crash: ExitAction::Restart,
        life: Life { restart_limit: 3, restart_delay_ms: 10, ..Life::default() },
        ..spec
    };
    let server = BootSpec { channels: Channels { clients: vec![8, 9] }, ..at(7, spec("server")) };
    vec![
        Scenario::new("pv", vec![spec("plain")]),
        Scenario::new("pvh", vec![pvh("plain")]),
        Scenario { pv32: true, ..Scenario::with_kernel("pv32", vec![spec("narrow")], &kernel_of_32_bits()) },
        Scenario::new("smp", vec![BootSpec { vcpus: 4, ..spec("pv") }, BootSpec { vcpus: 3, ..pvh("pvh") }]),
        Scenario::new("several", vec![spec("first"), pvh("second"), after(&["first"], spec("third"))]),
        Scenario::new("settings", vec![BootSpec { settings: settings(), vcpus: 2, ..spec("placed") }]),
        Scenario::new("channels", vec![server, at(8, spec("one")), at(9, pvh("two"))]),
        Scenario { crashes: 1, ..Scenario::new("restart", vec![back(spec("pv")), back(pvh("pvh"))]) },
    ]
}

/// The smallest VM that everything fits in.
fn spec(name: &str) -> BootSpec {
    BootSpec {
        uuid: [7; 16],
        ramdisk: Some("images/ramdisk".to_owned()),
        command_line: "console=hvc0".to_owned(),
        ..BootSpec::new(name, "images/kernel", 4 << 10)
    }
}

/// Some of everything that a VM can be given besides memory.
fn settings() -> Settings {
    let cpus = |list: &[u32]| CpuSet::new(list.iter().copied());
    let (hard, soft) = (cpus(&[1, 2, 3]).map(Affinity::All), cpus(&[2]).map(|set| Affinity::Each(vec![set])));
    Settings {
        access: Access {
            io_memory: vec![
                IoMemory { first: 0xff, pages: 1, guest: None },
                IoMemory { first: 0xa0, pages: 0x20, guest: None },
            ],
            io_ports: vec![IoPorts { first: 0x70, last: 0x71 }],
            interrupts: vec![8],
        },
        limits: Limits { event_channels: 7, grant_frames: 2, maptrack_frames: 3, grant_version: None },
        placement: Placement {
            hard: hard.unwrap_or_default(),
            soft: soft.unwrap_or_default(),
            weight: Some(512),
            cap: Some(50),
            pool: 0,
        },
        ..Settings::default()
    }
}

/// The RAM disk of the VMs `specs`.
fn archive(specs: &[BootSpec], kernel: &[u8]) -> Option<Vec<u8>> {
    let mut writer = Writer::new();
    for spec in specs {
        writer.file(&spec_entry(&spec.name), &spec.encode().ok()?).ok()?;
    }
    writer.file("images/kernel", kernel).ok()?;
    writer.file("images/ramdisk", &[0x5a; 3 * 4096 + 100]).ok()?;
    Some(writer.finish())
}

impl Scenario {
    /// Panics when the specs cannot be packed.
    fn new(name: &'static str, specs: Vec<BootSpec>) -> Self {
        Self::with_kernel(name, specs, &kernel())
    }

    /// The same with a kernel of its own.
    fn with_kernel(name: &'static str, specs: Vec<BootSpec>, kernel: &[u8]) -> Self {
        let archive = archive(&specs, kernel);
        assert!(archive.is_some(), "{name}: the VMs cannot be packed");
        Self { name, specs, crashes: 0, pv32: false, archive: archive.unwrap_or_default() }
    }

    /// A platform whose RAM disk is `archive`, whatever that holds.
    pub fn of_archive(name: &'static str, archive: Vec<u8>) -> Self {
        Self { name, specs: Vec::new(), crashes: 0, pv32: false, archive }
    }

    /// The RAM disk.
    pub fn archive(&self) -> &[u8] {
        &self.archive
    }

    /// A machine with just enough memory, and a window that takes several mappings to fill a VM.
    pub fn machine(&self, release: Release) -> Machine {
        let vms = self.specs.len().max(1) as u64;
        let builder = Machine::builder();
        let builder = if self.pv32 { builder.pv32() } else { builder };
        builder
            .release(release)
            .memory(PageCount::new(0x400 + vms * 0x800))
            .dom0_memory(PageCount::new(0x40))
            .window(64)
            .lingering()
            .build()
    }

    /// Launches the platform on `machine` to its end; the words of a panic, if it ends in one.
    pub fn launch(&self, machine: &Machine) -> Result<Run, String> {
        logged::keep();
        let _before = logged::take();
        self.guests(machine);
        let launched = catch_unwind(AssertUnwindSafe(|| self.launched(machine)));
        let log = logged::take();
        match launched {
            Ok(status) => {
                machine.settle();
                let pages = self.specs.iter().map(|spec| spec.memory_kib / 4).sum();
                Ok(Run { status, log, pages, trace: machine.trace(), left: machine.leftovers() })
            }
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
                Err(text.unwrap_or("a panic without words").to_owned())
            }
        }
    }

    /// As db-boot does it.
    fn launched(&self, machine: &Machine) -> Result<MachineStatus, String> {
        let dom0 = machine.dom0();
        let xen = Xen::probe(machine.dom0()).map_err(|error| error.to_string())?;
        let now = || machine.now();
        let mut environment = Environment {
            xen: &xen,
            window: machine.window(),
            events: EventWords::new(dom0.pending_words(), dom0.mask_words()),
            now: &now,
            spare_memory: &|| SPARE,
            cursor: &Cursor::new(),
        };
        Ok(launch(&mut environment, &Options::parse(""), machine.ramdisk(&self.archive)))
    }

    /// Lets every guest that runs say something and end, whenever Dom0 waits.
    fn guests(&self, machine: &Machine) {
        let crashes = std::rc::Rc::new(Cell::new(self.crashes));
        for _ in 0..PATIENCE {
            let crashes = crashes.clone();
            machine.when_idle(move |machine| {
                for domain in machine.domains() {
                    let guest = machine.guest(domain);
                    if guest.runs() {
                        // What starts is whole, whatever went wrong on the way.
                        match guest.pvh_view() {
                            Some(view) => view.assert_sane(),
                            None => guest.view().into_iter().for_each(|view| view.assert_sane()),
                        }
                        guest.write_console(b"up\n");
                        let crash = crashes.get() > 0;
                        crashes.set(crashes.get().saturating_sub(1));
                        guest.shut_down(if crash { SHUTDOWN_CRASH } else { SHUTDOWN_POWEROFF });
                    }
                }
                machine.advance(WAIT);
            });
        }
    }
}
