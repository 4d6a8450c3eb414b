//! `domb new`: a folder to start from.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use image::files::{self, FileError};
use image::qemu::shell_word;

use crate::arguments::New;
use crate::defaults;
use crate::messages::{self, Failure};

/// The largest kernel or RAM disk that is copied.
const MAX_LEN: u64 = 1 << 30;

pub(crate) fn run(arguments: &New) -> Result<ExitCode, Failure> {
    let start = if arguments.control { control(arguments)? } else { plain(arguments)? };
    let folder = &arguments.folder;
    let fail = |path: &Path, cause| FileError::new("make the folder", path, cause);
    if fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Failure::new(format!(
            "{}: it exists and is not empty; name a new folder",
            folder.display()
        )));
    }
    let images = folder.join("images");
    fs::create_dir_all(&images).map_err(|cause| fail(&images, cause))?;
    for (name, contents) in &start.images {
        files::write_whole(&images.join(name), |out| out.write_all(contents))?;
    }
    for (name, text) in &start.texts {
        files::write_whole(&folder.join(name), |out| out.write_all(text.as_bytes()))?;
    }
    let word = shell_word(&folder.display().to_string());
    let commands = start.next.iter().map(|command| format!("\n    domb {}", command.replace('@', &word)));
    let next: Vec<String> = commands.collect();
    messages::result(&format!("{} is ready. Next:{}\n", folder.display(), next.concat()))?;
    Ok(ExitCode::SUCCESS)
}

/// The files of a new folder.
struct Start {
    texts: Vec<(&'static str, String)>,
    images: Vec<(&'static str, Vec<u8>)>,
    /// What to call domb with next, `@` standing for the folder.
    next: &'static [&'static str],
}

/// VMs that db-boot starts.
fn plain(arguments: &New) -> Result<Start, Failure> {
    let mut start = if arguments.linux { linux(arguments)? } else { hello(arguments)? };
    if arguments.platform {
        let text = platform(start.texts.iter().map(|(name, _)| *name));
        start.texts.push(("platform.toml", text));
        start.next = &["check @/platform.toml", "run @/platform.toml"];
    }
    Ok(start)
}

/// db-server with the control domain, and a platform of two VMs for that.
fn control(arguments: &New) -> Result<Start, Failure> {
    let control_domain = defaults::control_domain(arguments.control_domain.as_deref())?;
    let control_domain = files::read_bounded(&control_domain, MAX_LEN)?;
    let Start { mut texts, mut images, .. } = hello(arguments)?;
    texts.push(("control.cfg", vm("control", CONTROL)));
    texts.push(("platform.toml", CONTROL_PLATFORM.into()));
    texts.push(("served.toml", SERVED.into()));
    images.push(("control-domain", control_domain));
    let next =
        &["pack @/served.toml --archive-only @/served.cpio", "check @/platform.toml", "run @/platform.toml"];
    Ok(Start { texts, images, next })
}

/// For a folder of VM files.
const VM_FILES: &[&str] = &["check @/*.cfg", "run @/*.cfg"];

/// Two VMs with one small kernel.
fn hello(arguments: &New) -> Result<Start, Failure> {
    let kernel = defaults::hello(arguments.kernel.as_deref())?;
    let kernel = files::read_bounded(&kernel, MAX_LEN)?;
    let texts = vec![("first.cfg", vm("first", FIRST)), ("second.cfg", vm("second", SECOND))];
    Ok(Start { texts, images: vec![("kernel", kernel)], next: VM_FILES })
}

/// One VM with Linux and a RAM disk.
fn linux(arguments: &New) -> Result<Start, Failure> {
    let kernel = files::read_bounded(&defaults::linux(arguments.kernel.as_deref())?, MAX_LEN)?;
    let ramdisk = files::read_bounded(&defaults::initramfs(arguments.ramdisk.as_deref())?, MAX_LEN)?;
    let texts = vec![("linux.cfg", vm("linux", LINUX))];
    Ok(Start { texts, images: vec![("vmlinuz", kernel), ("initramfs", ramdisk)], next: VM_FILES })
}

/// A platform file for the VM files called `files`.
fn platform<'n>(files: impl Iterator<Item = &'n str>) -> String {
    let vms: Vec<_> = files.map(|file| format!("[[vm]]\nfile = \"{file}\"\n")).collect();
    format!("{PLATFORM}{}{PLATFORM_VM}", vms.join("\n"))
}

fn vm(name: &str, rest: &str) -> String {
    format!(
        "# A VM, in the syntax of xl.cfg(5). `domb check` says what is wrong with it, and at which place.\n\n\
         # How messages, consoles and logs call it; no two VMs may have the same name.\nname = \"{name}\"\n{rest}"
    )
}

const FIRST: &str = "
# The kernel: an ELF file with Xen notes, or a Linux bzImage. Relative to this file.
kernel = \"images/kernel\"

# MiB; all of it is the VM's from the start.
memory = 16

# The kernel's command line.
extra = \"greeting=hello\"

# What happens when it ends: \"destroy\" frees it, \"preserve\" keeps it to be looked at.
on_poweroff = \"destroy\"
on_crash = \"preserve\"

# Left to Xen unless they are given:
# domid = 5                # a fixed domain id
# vcpus = 1
";

const SECOND: &str = "
# The same kernel as the first VM's is packed once.
kernel = \"images/kernel\"
memory = 16
extra = \"greeting=hello-from-the-second\"
";

const LINUX: &str = "
# Linux with CONFIG_XEN_PV, as distributions build it, and the RAM disk that it starts from: without a virtual disk, all that
# this Linux has is in there.
kernel = \"images/vmlinuz\"
ramdisk = \"images/initramfs\"

# MiB. `domb check` says when it is too little to start with.
memory = 256

# hvc0 is Xen's console; without it the VM is silent.
extra = \"console=hvc0\"
";

const PLATFORM: &str = "\
# A platform: the VMs that db-boot builds and starts together, and what holds for all of them. In TOML (https://toml.io).
# Everything but [[vm]] and file may be left out; what is commented out shows the usual value.

# When a VM cannot be built: \"all\" starts none, \"each\" starts the others.
# policy = \"all\"

# What ends the platform: the end of the \"last\" VM, of the last \"critical\" VM, of any VM of a list such as [\"first\"],
# or \"never\". It also ends when a critical VM ends badly. VMs that still run then are destroyed.
# ends = \"last\"

# How long a VM that has a `ready` text may take to show it, in milliseconds, and what happens then to those that start
# after it: \"give-up\", \"start\" them all the same, or \"end\" the platform. Without, they wait for ever.
# ready_timeout = 10000
# on_late = \"give-up\"

# How long a VM with `xenstore = 1` in its VM file gets to power off when it is asked to, in milliseconds.
# shutdown = 10000

# How much db-boot says: \"error\", \"warn\", \"info\" or \"debug\".
# loglevel = \"info\"

# What the VMs may have together; without, as much as the machine has.
[limits]
memory = 1024           # MiB
# vcpus = 8
# vms = 16

# The VMs, in the order in which they are built. Paths are relative to this file.
";

const PLATFORM_VM: &str = "
# What a VM file says of the VM among others can be said here instead, which then counts:
# name = \"other\"
# domid = 5
# after = [\"first\"]       # starts once these have started, or shown their `ready` text
# ready = \"listening\"
# critical = true
# on_poweroff, on_reboot, on_crash, on_watchdog, restart_limit, restart_delay
# count = 3               # so many VMs of it, called NAME-1, NAME-2, NAME-3
";

const CONTROL: &str = "
# The control domain: a VM without privilege that asks db-server for other VMs.
kernel = \"images/control-domain\"

# What it brings up: served.toml with all that its VMs are built of, as
#     domb pack served.toml --archive-only served.cpio
# makes it. Make it again when anything of that has changed.
ramdisk = \"served.cpio\"

# MiB: it holds the RAM disk and little more.
memory = 48
";

const CONTROL_PLATFORM: &str = "\
# The platform that Xen starts: db-server, which builds VMs on request, and the control domain, which asks it to. `domb run` and
# `domb pack` take db-server in place of db-boot, because there is a [[controller]].

[server]
store = 64              # MiB that images take which controllers send

# Who may ask db-server for VMs, and what those may have together.
[[controller]]
vm = \"control\"
memory = 256            # MiB
vms = 8
domids = \"10-40\"
store = 32              # MiB of the store
orphans = \"destroy\"   # its VMs, when it has ended

# More VMs can be here beside it; they are db-server's, and the control domain knows nothing of them.
[[vm]]
file = \"control.cfg\"
domid = 1               # a controller's is fixed: its channel is there before it
";

const SERVED: &str = "\
# What the control domain brings up, restarts and stops. It has this in its RAM disk: after a change
#     domb pack served.toml --archive-only served.cpio

# What ends this platform, and with it the control domain: the end of the \"last\" VM, of the last \"critical\" one, of any of a list such as
# [\"first\"], or \"never\".
# ends = \"last\"

[control]
platform = \"served\"     # what it is called in the control domain's log
shutdown = 10000        # milliseconds that a VM gets to power off when it is asked to

# A VM that may ask the control domain for things; it needs a `domid`.
# [[client]]
# vm = \"second\"
# may = [\"list\", \"create\", \"shutdown\", \"terminate\", \"measure\", \"journal\"]

[[vm]]
file = \"first.cfg\"
on_crash = \"restart\"    # in place of what the file says
restart_limit = 3

[[vm]]
file = \"second.cfg\"
after = [\"first\"]       # starts once that has started
";
