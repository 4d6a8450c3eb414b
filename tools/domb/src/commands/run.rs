//! `domb run`: boot a machine and say how it ended.

mod result;

use std::fs::{self, File};
use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use image::builder::{self, is_interactive};
use image::disk::{self, DiskContents};
use image::files::{self, FileError};
use image::qemu::{self, Boot, Firmware, Machine, Outcome, QemuCommand};
use image::typing::Keyboard;
use image::{memory, packed};
use protocols::archive::PLATFORM_ENTRY;
use protocols::{BootSpec, MachineStatus, PlatformSpec};
use tempfile::TempDir;

use self::result::Ended;
use super::stack::Stack;
use crate::arguments::{FirmwareChoice, Run};
use crate::messages::{self, Failure, Progress};
use crate::terminal::{self, RawTerminal};

pub(crate) fn run(arguments: &Run) -> Result<ExitCode, Failure> {
    let result = boot(arguments);
    if let (true, Err(failure)) = (arguments.json, &result) {
        result::not_run(failure)?;
    }
    result
}

fn boot(arguments: &Run) -> Result<ExitCode, Failure> {
    let work = WorkFolder::new(arguments)?;
    let input = Input::of(arguments);
    let command = {
        let _progress = Progress::start("preparing the machine");
        prepare(arguments, &work, input)?.command()
    };
    if arguments.print_command {
        messages::result(&format!("{command}\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let captured = arguments.json.then(Captured::default);
    let console = console(arguments.log.as_deref(), captured.as_ref())?;
    let outcome = {
        let (keyboard, _raw) = input.take()?;
        qemu::run(&command, input.limit(arguments), console, keyboard)?
    };
    let switched_off =
        arguments.no_exit_port && matches!(outcome, Outcome::NoStatus(status) if status.success());
    if let Some(captured) = captured {
        let ended = if switched_off { Ended::SwitchedOff } else { Ended::As(&outcome) };
        result::show(ended, &command, &captured.text())?;
    }
    if switched_off {
        messages::note("the machine switched itself off; how its VMs ended is in the console output only");
        return Ok(ExitCode::SUCCESS);
    }
    Ok(conclude(&command, outcome))
}

/// What the machine gets as input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    None,
    /// Whatever standard input has.
    Script,
    /// What is typed at the terminal, key by key.
    Terminal,
}

impl Input {
    fn of(arguments: &Run) -> Self {
        let is_quiet = arguments.no_input || arguments.json || arguments.print_command;
        if !arguments.interactive && is_quiet {
            Self::None
        } else if terminal::is_attended() {
            Self::Terminal
        } else if arguments.interactive {
            Self::Script
        } else {
            Self::None
        }
    }

    /// Takes the keyboard from the user; gives it back when the second value is dropped.
    fn take(self) -> Result<(Option<Keyboard>, Option<RawTerminal>), Failure> {
        match self {
            Self::None => Ok((None, None)),
            Self::Script => Ok((Some(Keyboard::script(Box::new(io::stdin()))), None)),
            Self::Terminal => {
                messages::note("the keyboard is the machine's; Ctrl-\\ three times stops it");
                let raw = RawTerminal::enter().map_err(|cause| {
                    Failure::new(format!("cannot set up the terminal: {cause}; try --no-input"))
                })?;
                Ok((Some(Keyboard::terminal(Box::new(io::stdin()))), Some(raw)))
            }
        }
    }

    /// How long the machine may run. Somebody who works at a terminal decides that.
    fn limit(self, arguments: &Run) -> Option<Duration> {
        /// Unless the command line says otherwise, in seconds.
        const DEFAULT: u64 = 60;
        let default = (self != Self::Terminal).then_some(DEFAULT);
        arguments.timeout.or(default).map(Duration::from_secs)
    }
}

/// The folder with the files that QEMU is given: the user's, or one that is gone afterwards.
struct WorkFolder {
    path: PathBuf,
    _temporary: Option<TempDir>,
}

impl WorkFolder {
    fn new(arguments: &Run) -> Result<Self, Failure> {
        let work = match &arguments.keep {
            Some(path) => {
                let fail = |cause| FileError::new("make the folder", path, cause);
                fs::create_dir_all(path).map_err(fail)?;
                Self { path: path.canonicalize().map_err(fail)?, _temporary: None }
            }
            None => Self::temporary(!arguments.print_command)?,
        };
        if qemu::can_be_module(&work.path) {
            return Ok(work);
        }
        Err(Failure::new(format!(
            "QEMU cannot start from the folder {}: it splits the names of boot modules at blanks; choose another \
             with --keep, or with TMPDIR",
            work.path.display()
        )))
    }

    fn temporary(removed_at_the_end: bool) -> Result<Self, Failure> {
        let mut builder = tempfile::Builder::new();
        builder.prefix("domb-run-");
        let folder = builder.tempdir().map_err(|cause| {
            FileError::new("make a folder in", &std::env::temp_dir(), files::plain(cause))
        })?;
        let path = folder.path().to_owned();
        if removed_at_the_end {
            return Ok(Self { path, _temporary: Some(folder) });
        }
        Ok(Self { path: folder.keep(), _temporary: None })
    }

    /// Puts a file into the folder.
    fn put(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, Failure> {
        let path = self.path.join(name);
        files::write_whole(&path, |out| out.write_all(bytes))?;
        Ok(path)
    }
}

/// The machine that the arguments describe; its files are in `work`.
fn prepare(arguments: &Run, work: &WorkFolder, input: Input) -> Result<Machine, Failure> {
    if let Some(image) = disk_image(&arguments.inputs)? {
        let contents = disk::read(&files::read_bounded(&image, MAX_DISK)?)
            .map_err(|error| Failure::new(format!("{}: {error}", image.display())))?;
        if input != Input::None && !is_interactive(&contents.menu) {
            messages::note(
                "this disk image was packed without --interactive: its VMs hear nothing that you type",
            );
        }
        let memory_mib = memory_of(&contents)?;
        let firmware = firmware(arguments.disk.unwrap_or(FirmwareChoice::Seabios))?;
        return Ok(machine(arguments, Boot::Disk { image, firmware }, memory_mib));
    }
    let stack =
        Stack::load(&arguments.inputs, &arguments.stack, !arguments.no_exit_port, input != Input::None)?;
    let boot = match arguments.disk {
        Some(choice) => Boot::Disk {
            image: work.put("disk.img", &stack.disk(arguments.grub.as_deref())?)?,
            firmware: firmware(choice)?,
        },
        None => Boot::Direct {
            xen: work.put("xen", &stack.xen.elf)?,
            xen_args: builder::xen_args_in_fresh_memory(&stack.xen_args),
            db_boot: work.put("db-boot", &stack.builder.elf)?,
            db_boot_args: stack.builder_args,
            archive: work.put("ramdisk.cpio", &stack.archive)?,
        },
    };
    Ok(machine(arguments, boot, stack.machine_mib))
}

/// The input if it is a disk image; several inputs must all be VM files.
fn disk_image(inputs: &[PathBuf]) -> Result<Option<PathBuf>, Failure> {
    let mut images = Vec::new();
    for path in inputs {
        let mut start = Vec::new();
        let read = files::open_regular(path)?.take(1024).read_to_end(&mut start);
        read.map_err(|cause| FileError::new("read", path, cause))?;
        if disk::is_disk_image(&start) {
            images.push(path);
        }
    }
    match (images.as_slice(), inputs) {
        ([], _) => Ok(None),
        ([image], [_]) => Ok(Some((*image).clone())),
        _ => Err(Failure::new("a disk image is run alone: give one disk image, or VM files")),
    }
}

/// The largest disk image that is looked into.
const MAX_DISK: u64 = 8 << 30;

/// The memory of a machine that boots a disk image with these contents, in MiB: what its RAM disk asks for.
fn memory_of(contents: &DiskContents) -> Result<u64, Failure> {
    let opened = packed::open(&contents.archive).map_err(Failure::new)?;
    let archive = ramdisk::Archive::parse(&opened.archive).map_err(Failure::new)?;
    let entries = archive.entries().iter();
    let specs = entries.filter(|entry| protocols::archive::vm_of_spec_entry(entry.name()).is_some());
    let specs: Vec<BootSpec> = specs.filter_map(|entry| BootSpec::decode(entry.data()).ok()).collect();
    let settings = archive.file(PLATFORM_ENTRY).ok().and_then(|spec| PlatformSpec::decode(spec).ok());
    let server = settings.and_then(|settings| settings.server);
    Ok(memory::machine_mib(&specs, contents.dom0_mib().unwrap_or(0), server.as_ref()))
}

fn firmware(choice: FirmwareChoice) -> Result<Firmware, Failure> {
    match choice {
        FirmwareChoice::Seabios => Ok(Firmware::SeaBios),
        FirmwareChoice::Ovmf => qemu::find_ovmf().map(|code| Firmware::Ovmf { code }).ok_or_else(|| {
            Failure::new("OVMF is not installed: DOMB_OVMF names its file; on Debian: apt-get install ovmf")
        }),
    }
}

fn machine(arguments: &Run, boot: Boot, memory_mib: u64) -> Machine {
    Machine {
        accelerator: arguments.accel.clone(),
        cpu: arguments.cpu.clone(),
        cpus: arguments.cpus,
        exit_port: !arguments.no_exit_port,
        more_args: arguments.qemu_arg.clone(),
        ..Machine::new(boot, arguments.machine_memory.unwrap_or(memory_mib))
    }
}

/// Where the console goes: standard output (standard error, if the result goes to standard output), the log if there is
/// one, and into `captured`.
fn console(log: Option<&Path>, captured: Option<&Captured>) -> Result<Box<dyn Write + Send>, Failure> {
    let shown = match captured {
        Some(_) => Copy::new("standard error", Box::new(io::stderr())),
        None => Copy::new("standard output", Box::new(io::stdout())),
    };
    let create = |path: &Path| match File::create(path) {
        Ok(file) => Ok(Copy::new(&path.display().to_string(), Box::new(file))),
        Err(cause) => Err(FileError::new("write", path, cause)),
    };
    log.map(files::not_an_input).transpose()?;
    let copies = std::iter::once(shown).chain(log.map(create).transpose()?).collect();
    Ok(Box::new(Copies { copies, captured: captured.cloned() }))
}

/// What the console has written, for the result to be read from.
#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    /// The most that is kept, in bytes. A VM that writes more hides its own end from the result, nothing else.
    const MAX_LEN: usize = 64 << 20;

    fn write(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = Self::MAX_LEN.saturating_sub(kept.len());
        kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

/// One of the places that the console goes to, until it takes no more.
struct Copy {
    name: String,
    to: Option<Box<dyn Write + Send>>,
}

impl Copy {
    fn new(name: &str, to: Box<dyn Write + Send>) -> Self {
        Self { name: name.to_owned(), to: Some(to) }
    }

    /// Says so when what follows is lost, unless its reader went away on purpose.
    fn write(&mut self, bytes: &[u8]) {
        let Some(to) = &mut self.to else { return };
        let Err(cause) = to.write_all(bytes).and_then(|()| to.flush()) else { return };
        self.to = None;
        if cause.kind() != io::ErrorKind::BrokenPipe {
            let name = &self.name;
            messages::warn(&format!(
                "cannot write the console to {name}: {cause}; the rest of it is missing there"
            ));
        }
    }
}

/// Writes to all places that still take something, and into memory.
struct Copies {
    copies: Vec<Copy>,
    captured: Option<Captured>,
}

impl Write for Copies {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.copies.iter_mut().for_each(|copy| copy.write(bytes));
        if let Some(captured) = &self.captured {
            captured.write(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The exit status for an outcome, which `domb run --help` lists.
fn exit_code(outcome: &Outcome) -> u8 {
    match outcome {
        Outcome::Status(MachineStatus::Success) => 0,
        Outcome::Status(MachineStatus::VmFailed) => 2,
        Outcome::Status(MachineStatus::BuildFailed) => 3,
        Outcome::Status(MachineStatus::BuilderFailed) | Outcome::NoStatus(_) => 4,
        Outcome::Timeout(_) => 5,
        Outcome::Interrupted => crate::INTERRUPTED,
    }
}

/// Says how the machine ended, and the exit status for it.
fn conclude(command: &QemuCommand, outcome: Outcome) -> ExitCode {
    let code = exit_code(&outcome);
    if code == 0 {
        messages::note(&outcome.to_string());
        return ExitCode::SUCCESS;
    }
    Failure::new(outcome).show();
    if matches!(outcome, Outcome::NoStatus(_)) {
        messages::note(&format!("the command was: {command}"));
    }
    ExitCode::from(code)
}
