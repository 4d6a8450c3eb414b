//! `domb run`: boot a machine and say how it ended.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use image::builder::{self, Builder};
use image::files::{self, FileError};
use image::memory::{self, BuilderNeed};
use image::platform::Platform;
use image::qemu::{self, Boot, Machine, Outcome, QemuCommand};
use image::xen::Xen;
use protocols::MachineStatus;
use tempfile::TempDir;

use super::load_platform;
use crate::arguments::Run;
use crate::defaults;
use crate::messages::{self, Failure, Progress};

pub(crate) fn run(arguments: &Run) -> Result<ExitCode, Failure> {
    let work = WorkFolder::new(arguments)?;
    let command = {
        let _progress = Progress::start("preparing the machine");
        prepare_direct(arguments, &work)?.command()
    };
    if arguments.print_command {
        println!("{command}");
        return Ok(ExitCode::SUCCESS);
    }
    let limit = Duration::from_secs(arguments.timeout);
    let outcome = qemu::run(&command, limit, console(arguments.log.as_deref())?)?;
    Ok(conclude(&command, outcome))
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
        let folder = builder
            .tempdir()
            .map_err(|cause| FileError::new("make a folder in", &std::env::temp_dir(), cause))?;
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

/// A machine that QEMU's own loader starts.
fn prepare_direct(arguments: &Run, work: &WorkFolder) -> Result<Machine, Failure> {
    let platform = load_platform(&arguments.inputs)?;
    let xen = Xen::read(&defaults::xen(arguments.stack.xen.as_deref())?)?;
    let builder = Builder::read(&defaults::db_boot(arguments.stack.db_boot.as_deref())?)?;
    let archive = platform.archive()?;
    let dom0_mib = dom0_mem_mib(&platform, &builder, &archive);
    let boot = Boot::Direct {
        xen: work.put("xen", &xen.elf)?,
        xen_args: builder::xen_args(dom0_mib, &arguments.stack.xen_args),
        db_boot: work.put("db-boot", &builder.elf)?,
        db_boot_args: builder::builder_args(true, &arguments.stack.dom0_args),
        archive: work.put("ramdisk.cpio", &archive)?,
    };
    Ok(machine(arguments, boot, memory::machine_mib(&platform, dom0_mib)))
}

fn dom0_mem_mib(platform: &Platform, builder: &Builder, archive: &[u8]) -> u64 {
    let archive = u64::try_from(archive.len()).unwrap_or(u64::MAX);
    let largest_unpacked_kernel = platform.largest_unpacked_kernel();
    BuilderNeed { image: builder.memory, archive, largest_unpacked_kernel }.dom0_mem_mib()
}

fn machine(arguments: &Run, boot: Boot, memory_mib: u64) -> Machine {
    Machine {
        accelerator: arguments.accel.clone(),
        cpu: arguments.cpu.clone(),
        cpus: arguments.cpus,
        more_args: arguments.qemu_arg.clone(),
        ..Machine::new(boot, arguments.machine_memory.unwrap_or(memory_mib))
    }
}

/// Where the console goes: standard output, and the log if there is one.
fn console(log: Option<&Path>) -> Result<Box<dyn Write + Send>, Failure> {
    let Some(path) = log else { return Ok(Box::new(io::stdout())) };
    let log = File::create(path).map_err(|cause| FileError::new("write", path, cause))?;
    Ok(Box::new(Both { terminal: Some(io::stdout()), log }))
}

/// Writes to standard output as long as somebody reads it, and to a log.
struct Both {
    terminal: Option<io::Stdout>,
    log: File,
}

impl Write for Both {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(terminal) = &mut self.terminal
            && terminal.write_all(bytes).and_then(|()| terminal.flush()).is_err()
        {
            self.terminal = None;
        }
        self.log.write_all(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.log.flush()
    }
}

/// Says how the machine ended, and the exit status for it.
fn conclude(command: &QemuCommand, outcome: Outcome) -> ExitCode {
    let code = match outcome {
        Outcome::Status(MachineStatus::Success) => {
            messages::note(&outcome.to_string());
            return ExitCode::SUCCESS;
        }
        Outcome::Status(MachineStatus::VmFailed) => 2,
        Outcome::Status(MachineStatus::BuildFailed) => 3,
        Outcome::Status(MachineStatus::BuilderFailed) | Outcome::NoStatus(_) => 4,
        Outcome::Timeout(_) => 5,
        Outcome::Interrupted => 130,
    };
    Failure::new(outcome).show();
    if matches!(outcome, Outcome::NoStatus(_)) {
        messages::note(&format!("the command was: {command}"));
    }
    ExitCode::from(code)
}
