//! The command line: what `--help` shows is the doc comments below.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Checks, packs and runs sets of Xen VMs that db-boot builds.
#[derive(Parser)]
#[command(
    name = "domb",
    version,
    max_term_width = 100,
    after_help = "\
A VM is described by a file in xl.cfg syntax (several VMs, by a platform file: `domb new --platform`):

    name   = \"hello\"
    kernel = \"build/kernels/hello\"      # relative to this file
    memory = 16                         # MiB
    extra  = \"greeting=hi\"              # the kernel's command line

Examples:
    domb check web.cfg db.cfg           what is wrong with these files?
    domb run hello.cfg                  boot Xen in QEMU and run this VM
    domb pack web.cfg db.cfg -o d.img   a disk image that boots under BIOS and UEFI
    domb compile hello.cfg -o h.spec    the binary form that db-boot reads
    domb inspect d.img vmlinuz          what is in these files?
    domb chart boot.log -o boot.svg     what took how long?
    domb new mine                       a folder with VM files to start from
    domb pack web.cfg -o d.img --sign shop.key      a disk that boots what this key signed
    domb run platform.toml              the VMs of a platform file, which says what holds for all

Exit status: 0 done, 1 something was wrong with the input or on this machine, 130 interrupted
(Ctrl-C); `domb run` has more (see `domb run --help`)."
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Check VM files: the files, their images, and whether db-boot could build them
    Check(Check),
    /// Compile a VM file to the boot spec that db-boot reads
    Compile(Compile),
    /// Pack Xen, db-boot and VMs into a bootable disk image
    Pack(Box<Pack>),
    /// Show what is in an archive, a kernel, a boot spec or a disk image
    Inspect(Inspect),
    /// Explain why Xen refused a call of db-boot's
    Explain(Explain),
    /// Run VMs, or a packed disk image, under Xen in QEMU
    Run(Box<Run>),
    /// Draw the timeline of a boot from its log
    Chart(Chart),
    /// Report every segment, frame count and digest of what would be packed
    Report(Report),
    /// Make a folder with VM files to start from
    New(New),
    /// Make a pair of keys to sign platforms with
    Keygen(Keygen),
    /// Sign a RAM disk or a disk image
    Sign(Sign),
    /// Verify a signed RAM disk or disk image, as db-boot does
    Verify(Verify),
    /// Write a shell's completions for domb to standard output
    Completions(Completions),
    /// Write manual pages: domb(1) to standard output, or all into a folder
    Man(ManPages),
}

#[derive(Args)]
#[command(after_help = "\
Example:
    domb check web.cfg db.cfg

All mistakes of all files are reported, each with its place:

    domb: error: web.cfg:3:1: unknown key \"memroy\"
      |
    3 | memroy = 64
      | ^^^^^^
      = help: did you mean \"memory\"?

With --json, standard output has one object: schema \"domb-check-1\", ok, messages (severity, text),
and vms, if they can be built. The manual describes the fields.

Exit status: 0 the VMs can be built, 1 they cannot.")]
pub(crate) struct Check {
    /// The VM files; together they are one platform, so no two may share a name, a domain id or a UUID. Or one platform file
    #[arg(required = true, value_name = "VM.cfg|PLATFORM.toml")]
    pub(crate) files: Vec<PathBuf>,
    /// Show each VM's start-of-day picture: what is where in its memory
    #[arg(long)]
    pub(crate) plan: bool,
    /// Check too whether the VMs fit a machine with so much memory, in MiB
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) machine_memory: Option<u64>,
    /// Write the result as JSON
    #[arg(long, conflicts_with = "plan")]
    pub(crate) json: bool,
}

#[derive(Args)]
#[command(after_help = "\
Example:
    domb compile web.cfg -o web.spec

The kernel and the RAM disk are not read. In the spec they are called images/FILE-NAME, \
which is also what `domb pack` calls them.")]
pub(crate) struct Compile {
    /// The VM file, or the platform file
    #[arg(value_name = "VM.cfg|PLATFORM.toml")]
    pub(crate) file: PathBuf,
    /// Where to write the boot spec [default: VM.spec in the current folder]; of a platform, the folder for platform.spec and
    /// vms/VM.spec [default: the current folder]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
    domb pack web.cfg db.cfg -o platform.img        a disk image for BIOS and UEFI
    domb pack web.cfg db.cfg --archive-only ram.cpio  only db-boot's RAM disk
    domb run platform.img --disk ovmf               try the image under UEFI

Equal inputs give equal bytes. Nothing is installed, mounted or run as root. GRUB comes from \
$DOMB_GRUB, from build/grub (`make build/grub` fetches it), or from the system.")]
pub(crate) struct Pack {
    /// The VM files, in the order in which db-boot builds them; or one platform file
    #[arg(required = true, value_name = "VM.cfg|PLATFORM.toml")]
    pub(crate) files: Vec<PathBuf>,
    /// Where to write the disk image
    #[arg(short, long, value_name = "FILE", required_unless_present = "archive_only")]
    pub(crate) output: Option<PathBuf>,
    /// Write db-boot's RAM disk to this file; without -o, nothing else is made
    #[arg(long, value_name = "FILE")]
    pub(crate) archive_only: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) stack: Stack,
    /// The folder with GRUB [default: $DOMB_GRUB, or build/grub, or the system's]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) grub: Option<PathBuf>,
    /// Refuse to pack VMs that do not fit a machine with so much memory, in MiB
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) machine_memory: Option<u64>,
    /// For real machines: do not have db-boot write the machine's status to QEMU's exit device
    #[arg(long)]
    pub(crate) no_exit_port: bool,
    /// Have what is typed at the machine's console go to a VM, and to db-boot's prompt behind Ctrl-]
    #[arg(long)]
    pub(crate) interactive: bool,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
    domb inspect /boot/vmlinuz              can it run as a PV guest, and what does it need?
    domb inspect platform.img               what does this disk boot?

Known are db-boot's RAM disk (CPIO, compressed or not), kernels (ELF, bzImage, compressed), Xen, boot specs, \
and disk images of `domb pack`. With --json, standard output has one object (schema \"domb-inspect-1\"; \
the manual describes the fields).

Exit status: 0 all files are something known, 1 at least one is not, or cannot be read.")]
pub(crate) struct Inspect {
    /// The files
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Write what is in them as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
    domb explain XEN_DOMCTL_createdomain EINVAL
    domb explain < boot.log                     the first refusal in a log, for the Xen that the log names

Exit status: 0 when there was a call and an error number in the text, 1 otherwise.")]
pub(crate) struct Explain {
    /// A line of db-boot's log, or a call and an error number; standard input without
    #[arg(value_name = "TEXT", trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) words: Vec<String>,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
    domb run web.cfg db.cfg --log boot.log      boot, and keep the console
    domb chart boot.log -o boot.svg             a picture for a browser
    domb chart boot.log -o boot.html            the same with a table of all durations

The picture shows what the builder and each VM did when: create, populate, load and seal are the steps \
of building a VM. Rest the pointer on a bar for its duration. Of a log with several boots, the last is \
drawn. The file needs nothing from outside, and has no scripts.")]
pub(crate) struct Chart {
    /// The console of a boot, as `domb run --log` or a serial line gives it
    #[arg(value_name = "BOOT.log")]
    pub(crate) log: PathBuf,
    /// Where to write it, named .svg, .html or .htm [default: SVG on standard output]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
    domb report web.cfg db.cfg > report.txt     keep it beside the disk image
    domb report web.cfg --json                  for programs: schema \"domb-report-1\"

The digests are SHA-256: of every image as it is on this machine and as it is packed, of every boot
spec, and of the whole RAM disk, which is what `domb pack --archive-only` writes.

Exit status: 0 reported, 1 the VMs cannot be built.")]
pub(crate) struct Report {
    /// The VM files, in the order in which db-boot builds them; or one platform file
    #[arg(required = true, value_name = "VM.cfg|PLATFORM.toml")]
    pub(crate) files: Vec<PathBuf>,
    /// Write the report as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Report packed kernels as `domb pack --keep-packed` stores them
    #[arg(long)]
    pub(crate) keep_packed: bool,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
    domb new mine                               two VMs with a small kernel
    domb new mine --linux                       a Linux with a RAM disk
    domb new mine --kernel my-kernel            two VMs with your kernel
    domb new mine --platform                    two VMs and a platform file that explains itself
    domb new mine --control                     two VMs that a control domain brings up by asking db-server

The folder must be new or empty. The kernel is copied into it, so that it can be moved. Without --kernel \
it comes from $DOMB_HELLO or build/kernels/hello, with --linux from $DOMB_LINUX or \
build/linux/debian12/vmlinuz and $DOMB_INITRAMFS or build/linux/initramfs.cpio.gz. The control domain comes \
from $DOMB_CONTROL_DOMAIN or build/kernels/control-domain.")]
pub(crate) struct New {
    /// The folder to make
    #[arg(value_name = "FOLDER")]
    pub(crate) folder: PathBuf,
    /// Start from Linux
    #[arg(long)]
    pub(crate) linux: bool,
    /// Write a platform file too
    #[arg(long)]
    pub(crate) platform: bool,
    /// Write two platforms: db-server with the control domain, and what that brings up
    #[arg(long, conflicts_with_all = ["linux", "platform"])]
    pub(crate) control: bool,
    /// The kernel to copy
    #[arg(long, value_name = "FILE")]
    pub(crate) kernel: Option<PathBuf>,
    /// The RAM disk to copy
    #[arg(long, value_name = "FILE", requires = "linux")]
    pub(crate) ramdisk: Option<PathBuf>,
    /// The control domain to copy
    #[arg(long, value_name = "FILE", requires = "control")]
    pub(crate) control_domain: Option<PathBuf>,
}

#[derive(Args)]
#[command(after_help = "\
Example:
    domb keygen shop                            shop.key and shop.pub

Ed25519 keys in OpenSSL's formats (PKCS#8 and SubjectPublicKeyInfo, PEM). Only you may read the private \
key; who has it can make platforms that machines with the public key start. Nothing is overwritten. \
On standard output: the public key in hexadecimal digits, as db-boot's option trust=require: takes it.")]
pub(crate) struct Keygen {
    /// The name of the files, without .key and .pub
    #[arg(value_name = "NAME")]
    pub(crate) name: PathBuf,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
    domb sign ram.cpio --key shop.key -o signed.cpio
    domb sign disk.img --key shop.key -o signed.img --platform shop --platform-version 7

The RAM disk gets a manifest (every entry with its length and SHA-256) and its signature as first two \
entries; an older manifest is replaced. db-boot verifies it if the public key is built into it \
(make db-boot TRUST_KEY=shop.pub) or on its command line (trust=require:...), which this command does not \
change: `domb pack --sign` does both.")]
pub(crate) struct Sign {
    /// The RAM disk or disk image
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// The private key
    #[arg(long, visible_alias = "sign", value_name = "KEY")]
    pub(crate) key: PathBuf,
    /// Where to write the signed one
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) release: ReleaseChoice,
}

/// What a signature says besides that it was made.
#[derive(Args)]
pub(crate) struct ReleaseChoice {
    /// What the manifest calls the platform
    #[arg(long, value_name = "NAME")]
    pub(crate) platform: Option<String>,
    /// The platform's version, 0 without: db-boot can be told the least that it accepts (trust-version=)
    #[arg(long, value_name = "NUMBER")]
    pub(crate) platform_version: Option<u64>,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
    domb verify disk.img --key shop.pub
    domb verify disk.img --key shop.pub --xen xen.gz --db-boot db-boot

Shows what was signed: the RAM disk. Xen, db-boot and their command lines, which stand beside it on a disk image, \
are not: they are shown, and compared with your own copies if you name them. With --json, standard output has one object (schema \"domb-verify-1\"; the manual \
describes the fields).

Exit status: 0 the file is what this key signed, 1 it is not, or cannot be read.")]
pub(crate) struct Verify {
    /// The RAM disk or disk image
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// The public key
    #[arg(long, visible_alias = "trust", value_name = "KEY")]
    pub(crate) key: PathBuf,
    /// The least version that is accepted
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub(crate) least_version: u64,
    /// Compare the Xen on a disk image with this one, .gz or unpacked
    #[arg(long, value_name = "FILE")]
    pub(crate) xen: Option<PathBuf>,
    /// Compare the db-boot on a disk image with this one
    #[arg(long, value_name = "FILE")]
    pub(crate) db_boot: Option<PathBuf>,
    /// Write the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
    domb completions bash > ~/.local/share/bash-completion/completions/domb
    domb completions zsh > ~/.zfunc/_domb               with ~/.zfunc in $fpath
    domb completions fish > ~/.config/fish/completions/domb.fish")]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
    domb man | man -l -                         read domb(1)
    domb man ~/.local/share/man/man1            domb.1, domb-check.1, and so on")]
pub(crate) struct ManPages {
    /// The folder for the pages, which is made if need be
    #[arg(value_name = "FOLDER")]
    pub(crate) folder: Option<PathBuf>,
}

/// Xen, db-boot and what they are told.
#[derive(Args)]
pub(crate) struct Stack {
    /// The Xen to start, as .gz or unpacked [default: $DOMB_XEN, or build/xen/4.17/xen.gz]
    #[arg(long, value_name = "FILE")]
    pub(crate) xen: Option<PathBuf>,
    /// The builder to start [default: $DOMB_DB_BOOT, or build/kernels/db-boot]
    #[arg(long, value_name = "FILE")]
    pub(crate) db_boot: Option<PathBuf>,
    /// The builder to start for a platform with controllers [default: $DOMB_DB_SERVER, or build/kernels/db-server]
    #[arg(long, value_name = "FILE")]
    pub(crate) db_server: Option<PathBuf>,
    /// More options for Xen, after those that are always given
    #[arg(
        long,
        value_name = "OPTIONS",
        default_value = "",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    pub(crate) xen_args: String,
    /// More options for db-boot, such as `policy=each loglevel=debug`
    #[arg(
        long,
        value_name = "OPTIONS",
        default_value = "",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    pub(crate) dom0_args: String,
    /// Store packed kernels as they are; db-boot unpacks them then, which takes it time and memory
    #[arg(long)]
    pub(crate) keep_packed: bool,
    /// Compress the RAM disk with gzip: less to load, and db-boot unpacks it
    #[arg(long)]
    pub(crate) compress: bool,
    /// Do not check on the host whether db-boot can build the VMs; it says so itself
    #[arg(long)]
    pub(crate) no_check: bool,
    /// Sign the RAM disk with this private key, and have db-boot require its public half [default: `key` in the platform file]
    #[arg(long, value_name = "KEY")]
    pub(crate) sign: Option<PathBuf>,
    /// Have db-boot require this public key [default: that of --sign, or `require` in the platform file]
    #[arg(long, value_name = "KEY")]
    pub(crate) trust: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) release: ReleaseChoice,
    /// Measure all files, and give this VM the event log behind its RAM disk; may be given several times
    #[arg(long, value_name = "VM")]
    pub(crate) event_log: Vec<String>,
}

/// The firmware that boots a disk image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FirmwareChoice {
    /// A PC BIOS
    Seabios,
    /// UEFI
    Ovmf,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
    domb run hello.cfg                          start Xen directly, the quickest way
    domb run web.cfg db.cfg --disk ovmf         pack a disk image and boot it under UEFI
    domb run hello.cfg --print-command --keep d the QEMU command, to run or debug by hand
    domb run hello.cfg --dom0-args loglevel=debug --xen-args loglvl=all

On a terminal the keyboard goes to the first VM (--dom0-args keyboard=NAME: to that one). Ctrl-] opens \
db-boot's prompt: `help` shows its commands, `poweroff` ends all VMs. Ctrl-\\ three times within a second \
stops the machine at once. Without a terminal, or with --no-input, the machine has no input.

The console goes to standard output, everything else to standard error. With --json, standard output \
has one object instead, when the machine has ended (schema \"domb-run-1\"; the manual describes the \
fields), and the console goes to standard error.

Exit status:
    0  every VM ended well; with --no-exit-port: the machine switched itself off
    1  something on this machine: wrong usage, a missing file, a VM file with mistakes
    2  a VM ended badly (it crashed, or gave a status other than 0)
    3  a VM could not be built
    4  db-boot failed, or the machine ended without a word from it
    5  the machine was still running at the time limit
    130  interrupted (Ctrl-C)")]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own on the command line")]
pub(crate) struct Run {
    /// The VM files, in the order in which db-boot builds them; or one platform file; or one disk image
    #[arg(required = true, value_name = "VM.cfg|PLATFORM.toml|DISK.img")]
    pub(crate) inputs: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) stack: Stack,
    /// Boot from a disk image under this firmware; VM files are packed first [default for an image: seabios]
    #[arg(long, value_name = "FIRMWARE")]
    pub(crate) disk: Option<FirmwareChoice>,
    /// The folder with GRUB, for --disk [default: $DOMB_GRUB, or build/grub, or the system's]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) grub: Option<PathBuf>,
    /// Seconds after which the machine is stopped [default: 60; none when you have its keyboard on a terminal]
    #[arg(long, value_name = "SECONDS")]
    pub(crate) timeout: Option<u64>,
    /// Hand what is typed, or piped in, to a VM [default: only on a terminal]
    #[arg(long, conflicts_with = "no_input")]
    pub(crate) interactive: bool,
    /// Keep the keyboard: nothing that is typed goes to the machine
    #[arg(long)]
    pub(crate) no_input: bool,
    /// Show the QEMU command on standard output instead of running it; its files are kept
    #[arg(long)]
    pub(crate) print_command: bool,
    /// A plain machine, as a real one: no exit device, so that the run ends when the machine switches itself off
    #[arg(long)]
    pub(crate) no_exit_port: bool,
    /// Keep what QEMU is given in this folder, which is made if need be
    #[arg(long, value_name = "FOLDER")]
    pub(crate) keep: Option<PathBuf>,
    /// Write the console to this file too
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,
    /// Write how the machine and each VM ended as JSON
    #[arg(long, conflicts_with = "print_command")]
    pub(crate) json: bool,
    /// Memory of the machine in MiB [default: what Xen, db-boot and the VMs need, at least 512]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) machine_memory: Option<u64>,
    /// CPUs of the machine
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) cpus: u32,
    /// How QEMU executes instructions (-accel)
    #[arg(long, value_name = "NAME", default_value = "tcg")]
    pub(crate) accel: String,
    /// The CPU model of the machine (-cpu)
    #[arg(long, value_name = "MODEL", default_value = image::qemu::Machine::DEFAULT_CPU)]
    pub(crate) cpu: String,
    /// One more argument for QEMU; may be given several times
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    pub(crate) qemu_arg: Vec<String>,
}
