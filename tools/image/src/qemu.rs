//! The machine that tries things out: which QEMU command, and running it.

use std::fmt;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use protocols::MachineStatus;
use thiserror::Error;

use crate::interrupt;
use crate::typing::{Ear, Keyboard};

/// The I/O port to which db-boot writes the machine's exit status.
pub const EXIT_PORT: u16 = 0xf4;

/// The QEMU that runs x86-64 machines.
pub const PROGRAM: &str = "qemu-system-x86_64";

/// What starts the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Boot {
    /// QEMU's own Multiboot loader: no firmware to speak of, no disk.
    Direct {
        /// Xen as an ELF file (not compressed).
        xen: PathBuf,
        /// Xen's command line.
        xen_args: String,
        /// db-boot.
        db_boot: PathBuf,
        /// db-boot's command line.
        db_boot_args: String,
        /// The RAM disk.
        archive: PathBuf,
    },
    /// A disk image and a firmware that looks for it.
    Disk {
        /// The raw image. It is not written to.
        image: PathBuf,
        /// The firmware.
        firmware: Firmware,
    },
}

/// What the machine runs first when it boots from a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// SeaBIOS, which comes with QEMU.
    SeaBios,
    /// OVMF: UEFI.
    Ovmf {
        /// The file with the firmware's code, or code and variables in one.
        code: PathBuf,
    },
}

/// Where Debian, Fedora and Arch keep OVMF.
const OVMF_FILES: &[&str] = &[
    "/usr/share/OVMF/OVMF_CODE.fd",
    "/usr/share/OVMF/OVMF_CODE_4M.fd",
    "/usr/share/ovmf/OVMF.fd",
    "/usr/share/edk2/ovmf/OVMF_CODE.fd",
    "/usr/share/edk2/x64/OVMF_CODE.4m.fd",
];

/// The first OVMF found on this machine, `DOMB_OVMF` first.
pub fn find_ovmf() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("DOMB_OVMF") {
        return Some(path.into());
    }
    OVMF_FILES.iter().map(PathBuf::from).find(|path| path.is_file())
}

/// A machine for QEMU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// What starts it.
    pub boot: Boot,
    /// Its memory in MiB.
    pub memory_mib: u64,
    /// How instructions are executed (`-accel`). Xen runs under `tcg` everywhere.
    pub accelerator: String,
    /// The CPU model (`-cpu`).
    pub cpu: String,
    /// Its CPUs (`-smp`).
    pub cpus: u32,
    /// Whether it has the device at [`EXIT_PORT`]. Without it QEMU ends when the machine switches itself off, and then only: a
    /// machine that resets itself starts again.
    pub exit_port: bool,
    /// More arguments for QEMU, last.
    pub more_args: Vec<String>,
}

impl Machine {
    /// The CPU model by default: plain and fast to emulate, with what Xen needs to run HVM and PVH guests.
    pub const DEFAULT_CPU: &str = "qemu64,+svm,+npt";

    /// A machine that emulates one CPU.
    pub fn new(boot: Boot, memory_mib: u64) -> Self {
        Self {
            boot,
            memory_mib,
            accelerator: "tcg".into(),
            cpu: Self::DEFAULT_CPU.into(),
            cpus: 1,
            exit_port: true,
            more_args: Vec::new(),
        }
    }

    /// The command that runs it, its console on standard output.
    pub fn command(&self) -> QemuCommand {
        let mut args: Vec<String> = Vec::new();
        let mut option = |name: &str, value: String| args.extend([name.to_owned(), value]);
        option("-accel", self.accelerator.clone());
        option("-cpu", self.cpu.clone());
        option("-smp", self.cpus.to_string());
        option("-m", format!("{}M", self.memory_mib));
        option("-display", "none".into());
        option("-serial", "stdio".into());
        option("-monitor", "none".into());
        if self.exit_port {
            option("-device", format!("isa-debug-exit,iobase={EXIT_PORT:#x},iosize=0x04"));
        }
        match &self.boot {
            Boot::Direct { xen, xen_args, db_boot, db_boot_args, archive } => {
                option("-kernel", xen.display().to_string());
                option("-append", xen_args.clone());
                let builder = format!("{} {db_boot_args}", db_boot.display());
                let modules = [builder.trim_end().to_owned(), archive.display().to_string()];
                option("-initrd", modules.map(|module| double_commas(&module)).join(","));
            }
            Boot::Disk { image, firmware } => {
                match firmware {
                    Firmware::SeaBios => option("-machine", self.split_memory()),
                    Firmware::Ovmf { code } => {
                        let code = double_commas(&code.display().to_string());
                        option("-drive", format!("if=pflash,format=raw,unit=0,readonly=on,file={code}"));
                    }
                }
                let image = double_commas(&image.display().to_string());
                option("-drive", format!("if=none,id=disk,format=raw,readonly=on,file={image}"));
                option("-device", "virtio-blk-pci,drive=disk,bootindex=0".into());
            }
        }
        // No video, network, CD-ROM or floppy: nothing here uses them, and firmware looks at each.
        args.push("-nodefaults".to_owned());
        if self.exit_port {
            args.push("-no-reboot".to_owned());
        }
        args.extend(self.more_args.iter().cloned());
        QemuCommand { program: PROGRAM.into(), args }
    }
}

impl Machine {
    /// A PC that has a part of its memory above 4 GiB, where Xen takes its own from first.
    ///
    /// SeaBIOS and GRUB run at the top of the memory below 4 GiB. Where Xen's stack comes to lie in a page that still
    /// holds code of theirs, QEMU treats every write to it as a change of that code, and guests run ten times slower.
    fn split_memory(&self) -> String {
        /// Enough for what Xen allocates before it clears all free memory.
        const ABOVE_MIB: u64 = 64;
        /// The most that a PC of QEMU's has below 4 GiB without being asked.
        const BELOW_MIB: u64 = 3072;
        let below = self.memory_mib.saturating_sub(ABOVE_MIB).clamp(ABOVE_MIB, BELOW_MIB);
        format!("pc,max-ram-below-4g={below}M")
    }
}

/// QEMU splits its option values at commas; two commas stand for one.
fn double_commas(text: &str) -> String {
    text.replace(',', ",,")
}

/// A QEMU command line. Shown, it can be pasted into a shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QemuCommand {
    program: PathBuf,
    args: Vec<String>,
}

impl QemuCommand {
    /// The arguments, without the program.
    pub fn args(&self) -> &[String] {
        &self.args
    }
}

impl fmt::Display for QemuCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shell_word(&self.program.display().to_string()))?;
        self.args.iter().try_for_each(|arg| write!(f, " {}", shell_word(arg)))
    }
}

/// `word` so that a POSIX shell reads it as one word.
pub fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+,./:@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// How a machine ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// db-boot ended it with a status.
    Status(MachineStatus),
    /// QEMU ended without a status of db-boot: Xen gave up, the machine reset itself, or QEMU failed.
    NoStatus(ExitStatus),
    /// It was still running when the time was over; it runs no longer.
    Timeout(Duration),
    /// The user asked to stop; it runs no longer.
    Interrupted,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(MachineStatus::Success) => f.write_str("every VM ended well"),
            Self::Status(MachineStatus::VmFailed) => {
                f.write_str("a VM ended badly: look for `event=ended` in the console output")
            }
            Self::Status(MachineStatus::BuildFailed) => {
                f.write_str("a VM could not be built: look for `error:` in the console output")
            }
            Self::Status(MachineStatus::BuilderFailed) => {
                f.write_str("db-boot itself failed: the end of the console output says why")
            }
            Self::NoStatus(status) => write!(
                f,
                "QEMU ended ({status}) without a status of db-boot: the end of the console output says why"
            ),
            Self::Timeout(limit) => write!(
                f,
                "the machine was still running after {} s and was stopped; --timeout gives it more",
                limit.as_secs()
            ),
            Self::Interrupted => f.write_str("interrupted: the machine was stopped"),
        }
    }
}

/// Why QEMU did not run.
#[derive(Debug, Error)]
pub enum RunError {
    /// QEMU is not installed.
    #[error("{PROGRAM} is not installed or not in PATH; on Debian: apt-get install qemu-system-x86")]
    NotInstalled,
    /// It could not be started or waited for.
    #[error("cannot {operation} {PROGRAM}: {cause}")]
    Process {
        /// What was tried.
        operation: &'static str,
        /// What the system says.
        cause: io::Error,
    },
}

/// Runs a machine until it ends, for at most `limit` if there is one, and gives its console to `console` as it comes.
///
/// Without a `keyboard` the machine's input is empty. Whatever happens, QEMU has ended when this returns. Output that `console`
/// refuses is lost, but does not stop the machine.
pub fn run(
    command: &QemuCommand,
    limit: Option<Duration>,
    console: Box<dyn Write + Send>,
    keyboard: Option<Keyboard>,
) -> Result<Outcome, RunError> {
    let input = if keyboard.is_some() { Stdio::piped() } else { Stdio::null() };
    let child = Command::new(&command.program)
        .args(&command.args)
        .stdin(input)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(|cause| match cause.kind() {
            io::ErrorKind::NotFound => RunError::NotInstalled,
            _ => RunError::Process { operation: "start", cause },
        })?;
    let mut child = KillOnDrop(child);
    let output = child.0.stdout.take();
    let ear = keyboard.zip(child.0.stdin.take()).map(|(keyboard, input)| keyboard.connect(input));
    let copier = thread::spawn(move || output.map(|output| copy(output, console, ear)));
    let outcome = wait(&mut child, limit)?;
    drop(child);
    // QEMU has ended, so its end of the pipe is closed and the copier comes to an end too.
    let _ = copier.join();
    Ok(outcome)
}

/// A child process that does not outlive its owner.
struct KillOnDrop(Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        // Both fail only if the process has been waited for already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait(child: &mut KillOnDrop, limit: Option<Duration>) -> Result<Outcome, RunError> {
    // Short at first, so that a machine that ends after a second is not waited for longer than it takes.
    const PAUSE: Duration = Duration::from_millis(5);
    let start = Instant::now();
    loop {
        let ended = child.0.try_wait().map_err(|cause| RunError::Process { operation: "wait for", cause })?;
        // A terminal sends Ctrl-C to QEMU as well, so the wish comes before the end it caused.
        if interrupt::requested() {
            return Ok(Outcome::Interrupted);
        }
        if let Some(status) = ended {
            let ours = status.code().and_then(MachineStatus::from_qemu_status);
            return Ok(ours.map_or(Outcome::NoStatus(status), Outcome::Status));
        }
        if let Some(limit) = limit.filter(|limit| start.elapsed() >= *limit) {
            return Ok(Outcome::Timeout(limit));
        }
        thread::sleep(PAUSE);
    }
}

/// Copies everything, at once as it comes; goes on reading when nobody listens any more.
fn copy(mut from: impl Read, mut to: Box<dyn Write + Send>, mut ear: Option<Ear>) {
    let mut buffer = [0; 4096];
    let mut listening = true;
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if let Some(ear) = &mut ear {
            ear.hear(&buffer[..count]);
        }
        listening = listening && to.write_all(&buffer[..count]).and_then(|()| to.flush()).is_ok();
    }
}

/// Whether QEMU can be given `path` as a Multiboot module: it splits at the first blank.
pub fn can_be_module(path: &Path) -> bool {
    path.to_str().is_some_and(|path| !path.contains(char::is_whitespace))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn direct() -> Machine {
        let boot = Boot::Direct {
            xen: "/t/xen".into(),
            xen_args: "console=com1 dom0_mem=20M,max:20M".into(),
            db_boot: "/t/db-boot".into(),
            db_boot_args: "policy=all a=b,c".into(),
            archive: "/t/ram,disk.cpio".into(),
        };
        Machine::new(boot, 512)
    }

    #[test]
    fn a_direct_start_names_xen_and_two_modules() {
        let shown = direct().command().to_string();
        assert_eq!(
            shown,
            "qemu-system-x86_64 -accel tcg -cpu qemu64,+svm,+npt -smp 1 -m 512M -display none -serial stdio \
             -monitor none -device isa-debug-exit,iobase=0xf4,iosize=0x04 -kernel /t/xen \
             -append 'console=com1 dom0_mem=20M,max:20M' \
             -initrd '/t/db-boot policy=all a=b,,c,/t/ram,,disk.cpio' -nodefaults -no-reboot"
        );
    }

    #[test]
    fn without_the_exit_port_only_switching_off_ends_the_machine() {
        let shown = Machine { exit_port: false, ..direct() }.command().to_string();
        assert!(!shown.contains("isa-debug-exit") && !shown.contains("-no-reboot"), "{shown}");
    }

    #[test]
    fn a_disk_is_never_written_to() {
        for firmware in [Firmware::SeaBios, Firmware::Ovmf { code: "/ovmf.fd".into() }] {
            let machine = Machine { boot: Boot::Disk { image: "d,1.img".into(), firmware }, ..direct() };
            let shown = machine.command().to_string();
            assert!(shown.contains("format=raw,readonly=on,file=d,,1.img"), "{shown}");
            assert_eq!(
                shown.contains("-machine pc,max-ram-below-4g=448M"),
                !shown.contains("ovmf"),
                "{shown}"
            );
        }
    }

    #[test]
    fn shell_words_are_quoted_when_they_must_be() {
        assert_eq!(shell_word("a=b,c"), "a=b,c");
        assert_eq!(shell_word("it's $HOME"), r"'it'\''s $HOME'");
        assert_eq!(shell_word(""), "''");
    }

    fn shell(script: &str) -> QemuCommand {
        QemuCommand { program: "/bin/sh".into(), args: vec!["-c".into(), script.into()] }
    }

    fn run_shell(script: &str, limit: Duration) -> Outcome {
        run(&shell(script), Some(limit), Box::new(io::sink()), None).unwrap()
    }

    #[test]
    fn the_status_of_the_process_tells_how_the_machine_ended() {
        let limit = Duration::from_secs(20);
        assert_eq!(run_shell("exit 33", limit), Outcome::Status(MachineStatus::Success));
        assert_eq!(run_shell("exit 39", limit), Outcome::Status(MachineStatus::BuilderFailed));
        assert!(matches!(run_shell("exit 0", limit), Outcome::NoStatus(_)));
        assert!(matches!(run_shell("kill -9 $$", limit), Outcome::NoStatus(_)));
    }

    #[test]
    fn a_machine_that_does_not_end_is_ended() {
        let limit = Duration::from_millis(100);
        assert_eq!(run_shell("exec sleep 60", limit), Outcome::Timeout(limit));
    }

    #[test]
    fn a_missing_program_is_named() {
        let command = QemuCommand { program: "/nonexistent/qemu".into(), args: Vec::new() };
        let error = run(&command, Some(Duration::ZERO), Box::new(io::sink()), None).unwrap_err();
        assert!(error.to_string().contains("apt-get install qemu-system-x86"), "{error}");
    }
}
