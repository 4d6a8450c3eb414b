//! The machines that are measured, and the files they start from.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use image::builder;
use image::qemu::{self, Boot, Machine};
use image::xen::{Xen as XenFile, XenError};
use ramdisk::{Writer, WriterError};
use thiserror::Error;

use super::Choice;
use crate::machine::{HostError, command_text, fetch, folder_of_tools};
use crate::process::{self, End};
use crate::suite::InputSpec;

/// QEMU counts instructions: one is one nanosecond, nothing else makes time pass, and the time of day begins with it.
pub(crate) const ICOUNT: [&str; 4] =
    ["-icount", "shift=0,sleep=off", "-rtc", "base=2026-01-01T00:00:00,clock=vm"];

/// Wall-clock limit of one boot: far more than one takes, on a host that has other things to do as well.
const LIMIT: Duration = Duration::from_secs(3600);

/// Memory of the Linux Dom0 when it builds small VMs, in MiB: below 136 it does not start.
pub(super) const SMALL_DOM0: u64 = 136;

/// The release of Xen whose xl mk/fetch-debs unpacks.
pub(super) const XL_RELEASE: &str = "4.17";

/// Why a measurement could not be made.
#[derive(Debug, Error)]
pub(super) enum BenchError {
    /// Something on the host.
    #[error(transparent)]
    Host(#[from] HostError),
    /// Xen's file.
    #[error(transparent)]
    Xen(#[from] XenError),
    /// What the Linux Dom0 is given cannot be packed.
    #[error(transparent)]
    Pack(#[from] WriterError),
    /// A machine did not do what it was to do.
    #[error("the boot {name} {what}; its console is in {}", .log.display())]
    Boot {
        /// Which.
        name: String,
        /// What happened.
        what: String,
        /// The console.
        log: PathBuf,
    },
}

/// Everything that the boots have in common.
pub(super) struct Bench {
    pub(super) top: PathBuf,
    /// Where generated files are.
    pub(super) folder: PathBuf,
    /// Xen, unpacked.
    xen: PathBuf,
    /// Xen as the user named it, for domb.
    xen_file: PathBuf,
    /// What a log's name ends with.
    label: String,
}

impl Bench {
    /// Builds and fetches what is not there, and says so.
    pub(super) fn prepare(top: &Path, choice: &Choice) -> Result<Self, BenchError> {
        let xen_file = choice.xen.file(top)?;
        let mut files = Vec::new();
        if choice.has_xl() {
            files.push("build/dom0/initramfs.cpio.gz");
        } else {
            say!("bench: Debian 12's xl is for Xen {XL_RELEASE} only: it is left out");
        }
        if !choice.quick {
            files.extend(["build/linux/debian12/vmlinuz", "build/linux/initramfs.cpio.gz"]);
        }
        fetch(
            top,
            ["db-boot", "db-server", "control-domain", "controller", "first", "floor"],
            files.into_iter().map(PathBuf::from).chain([xen_file.clone()]),
        )?;
        let folder = top.join("build/bench");
        fs::create_dir_all(&folder).map_err(at(&folder))?;
        let xen = folder.join(format!("xen-{}", choice.xen.label));
        fs::write(&xen, XenFile::read(&top.join(&xen_file))?.elf).map_err(at(&xen))?;
        Ok(Self { top: top.to_owned(), folder, xen, xen_file, label: choice.xen.label.clone() })
    }

    /// Writes a file below the folder of generated ones.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, BenchError> {
        let path = self.folder.join(name);
        fs::write(&path, bytes).map_err(at(&path))?;
        Ok(path)
    }

    /// Reads a file by its path in the checkout.
    pub(super) fn read(&self, path: &str) -> Result<Vec<u8>, BenchError> {
        let path = self.top.join(path);
        fs::read(&path).map_err(at(&path)).map_err(Into::into)
    }

    /// The console of db-boot with the VM files `configs`, from the start to the end of the machine.
    pub(super) fn db_boot(
        &self,
        name: &str,
        configs: &[PathBuf],
        more: &[&str],
        inputs: &[InputSpec],
    ) -> Result<String, BenchError> {
        let mut command = self.domb_run();
        command.args(["--db-boot", "build/kernels/db-boot"]).args(more).args(configs);
        if !inputs.is_empty() {
            command.arg("--interactive");
        }
        self.capture(name, &mut command, &[0], inputs)
    }

    /// The console of db-server with a platform file, in a machine of `machine_mib` MiB.
    pub(super) fn db_server(
        &self,
        name: &str,
        platform: &Path,
        machine_mib: u64,
    ) -> Result<String, BenchError> {
        let mut command = self.domb_run();
        command.args([
            "--db-server",
            "build/kernels/db-server",
            "--machine-memory",
            &machine_mib.to_string(),
        ]);
        command.arg(platform);
        self.capture(name, &mut command, &[0], &[])
    }

    /// `domb run` in the machine that is measured.
    fn domb_run(&self) -> Command {
        let mut command = Command::new(folder_of_tools().join("domb"));
        command.current_dir(&self.top).arg("run").arg("--xen").arg(&self.xen_file);
        command.args(["--timeout", &LIMIT.as_secs().to_string()]);
        command.args(ICOUNT.map(|argument| format!("--qemu-arg={argument}")));
        command
    }

    /// The console of a machine whose Dom0 is `kernel`, with its command line, and `module` as its module.
    pub(super) fn kernel(
        &self,
        name: &str,
        kernel: &Path,
        words: &str,
        module: &Path,
        dom0_mib: u64,
        machine_mib: u64,
    ) -> Result<String, BenchError> {
        let xen_args = builder::xen_args_in_fresh_memory(&builder::xen_args(dom0_mib, ""));
        let boot = Boot::Direct {
            xen: self.xen.clone(),
            xen_args,
            db_boot: kernel.to_owned(),
            db_boot_args: words.to_owned(),
            archive: module.to_owned(),
        };
        let more_args = ICOUNT.map(str::to_owned).to_vec();
        let machine = Machine { more_args, ..Machine::new(boot, machine_mib) };
        let mut command = Command::new(qemu::PROGRAM);
        command.current_dir(&self.top).args(machine.command().args());
        // QEMU's own end, and the exit port's for success.
        self.capture(name, &mut command, &[0, 33], &[])
    }

    /// The console of a Linux Dom0 with a toolstack that runs the shell script `job` with `files` beside it, in /job.
    pub(super) fn linux(
        &self,
        name: &str,
        job: &str,
        files: &[(&str, &[u8])],
        dom0_mib: u64,
        machine_mib: u64,
    ) -> Result<String, BenchError> {
        let mut module = self.read("build/dom0/initramfs.cpio.gz")?;
        // A second archive has to begin at a multiple of four.
        module.resize(module.len().next_multiple_of(4), 0);
        let mut writer = Writer::new();
        writer.directory("job")?;
        writer.file("job/run", job.as_bytes())?;
        for (name, bytes) in files {
            writer.file(&format!("job/{name}"), bytes)?;
        }
        module.extend(writer.finish());
        let module = self.write(&format!("{name}.cpio"), &module)?;
        let kernel = self.top.join("build/dom0/vmlinuz");
        let console = self.kernel(name, &kernel, "console=hvc0 quiet", &module, dom0_mib, machine_mib)?;
        if console.lines().any(|line| line.trim_end() == "BENCH done") {
            return Ok(console);
        }
        Err(self.failed(name, "did not come to its end".into()))
    }

    fn capture(
        &self,
        name: &str,
        command: &mut Command,
        good: &[i32],
        inputs: &[InputSpec],
    ) -> Result<String, BenchError> {
        let log = self.log(name);
        say!("bench: {name}: {}", command_text(&self.top, command));
        let captured = process::capture(command, &log, false, LIMIT, inputs)
            .map_err(|source| HostError::Program { log: log.clone(), source })?;
        if let Some(error) = captured.output.lines().find_map(|line| line.split_once("BENCH error: ")) {
            return Err(self.failed(name, format!("says: {}", error.1)));
        }
        match captured.end {
            End::Code(code) if good.contains(&code) => Ok(captured.output),
            end => Err(self.failed(name, format!("ended otherwise than expected ({end:?})"))),
        }
    }

    /// The error for a boot that was no good.
    pub(super) fn failed(&self, name: &str, what: String) -> BenchError {
        BenchError::Boot { name: name.to_owned(), what, log: self.log(name) }
    }

    fn log(&self, name: &str) -> PathBuf {
        self.top.join(format!("build/logs/bench-{name}-{}.log", self.label))
    }
}

/// An error about a file.
fn at(path: &Path) -> impl Fn(std::io::Error) -> HostError {
    move |source| HostError::File { path: path.to_owned(), source }
}
