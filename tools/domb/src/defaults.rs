//! Where Xen, db-boot and GRUB are when the user does not say.

use std::env;
use std::path::{Path, PathBuf};

use crate::messages::Failure;

/// A file that a `make` target puts below `build/`.
struct Made {
    what: &'static str,
    option: &'static str,
    variable: &'static str,
    below_checkout: &'static str,
    target: &'static str,
}

const XEN: Made = Made {
    what: "the Xen binary",
    option: "--xen",
    variable: "DOMB_XEN",
    below_checkout: "build/xen/4.17/xen.gz",
    target: "build/xen/4.17/xen.gz",
};

const DB_BOOT: Made = Made {
    what: "db-boot",
    option: "--db-boot",
    variable: "DOMB_DB_BOOT",
    below_checkout: "build/kernels/db-boot",
    target: "db-boot",
};

const DB_SERVER: Made = Made {
    what: "db-server",
    option: "--db-server",
    variable: "DOMB_DB_SERVER",
    below_checkout: "build/kernels/db-server",
    target: "db-server",
};

const HELLO: Made = Made {
    what: "the kernel of the first VMs",
    option: "--kernel",
    variable: "DOMB_HELLO",
    below_checkout: "build/kernels/hello",
    target: "-C tests hello.run",
};

const CONTROL_DOMAIN: Made = Made {
    what: "the control domain",
    option: "--control-domain",
    variable: "DOMB_CONTROL_DOMAIN",
    below_checkout: "build/kernels/control-domain",
    target: "control-domain",
};

const LINUX: Made = Made {
    what: "Linux",
    option: "--kernel",
    variable: "DOMB_LINUX",
    below_checkout: "build/linux/debian12/vmlinuz",
    target: "build/linux/debian12/vmlinuz",
};

const INITRAMFS: Made = Made {
    what: "Linux's RAM disk",
    option: "--ramdisk",
    variable: "DOMB_INITRAMFS",
    below_checkout: "build/linux/initramfs.cpio.gz",
    target: "build/linux/initramfs.cpio.gz",
};

/// The kernel for `domb new`: the user's choice, `DOMB_HELLO`, or the checkout's.
pub(crate) fn hello(chosen: Option<&Path>) -> Result<PathBuf, Failure> {
    HELLO.find(chosen)
}

/// The control domain for `domb new --control`: the user's choice, `DOMB_CONTROL_DOMAIN`, or the checkout's.
pub(crate) fn control_domain(chosen: Option<&Path>) -> Result<PathBuf, Failure> {
    CONTROL_DOMAIN.find(chosen)
}

/// The kernel for `domb new --linux`: the user's choice, `DOMB_LINUX`, or the checkout's.
pub(crate) fn linux(chosen: Option<&Path>) -> Result<PathBuf, Failure> {
    LINUX.find(chosen)
}

/// The RAM disk for `domb new --linux`: the user's choice, `DOMB_INITRAMFS`, or the checkout's.
pub(crate) fn initramfs(chosen: Option<&Path>) -> Result<PathBuf, Failure> {
    INITRAMFS.find(chosen)
}

/// The Xen to start: the user's choice, `DOMB_XEN`, or the checkout's.
pub(crate) fn xen(chosen: Option<&Path>) -> Result<PathBuf, Failure> {
    XEN.find(chosen)
}

/// The db-boot to start: the user's choice, `DOMB_DB_BOOT`, or the checkout's.
pub(crate) fn db_boot(chosen: Option<&Path>) -> Result<PathBuf, Failure> {
    DB_BOOT.find(chosen)
}

/// The db-server to start: the user's choice, `DOMB_DB_SERVER`, or the checkout's.
pub(crate) fn db_server(chosen: Option<&Path>) -> Result<PathBuf, Failure> {
    DB_SERVER.find(chosen)
}

/// The folders to look for GRUB in: the user's choice alone, or `DOMB_GRUB` alone, or the checkout's.
pub(crate) fn grub_folders(chosen: Option<&Path>) -> Vec<PathBuf> {
    let named = chosen.map(Path::to_owned).or_else(|| env::var_os("DOMB_GRUB").map(PathBuf::from));
    named.map_or_else(|| checkouts().map(|folder| folder.join("build/grub")).collect(), |folder| vec![folder])
}

impl Made {
    fn find(&self, chosen: Option<&Path>) -> Result<PathBuf, Failure> {
        if let Some(path) = chosen {
            return Ok(path.to_owned());
        }
        if let Some(path) = env::var_os(self.variable).filter(|path| !path.is_empty()) {
            return Ok(path.into());
        }
        let Self { what, option, variable, below_checkout, target } = self;
        checkouts().map(|folder| folder.join(below_checkout)).find(|path| path.is_file()).ok_or_else(|| {
            Failure::new(format!(
                "{what} is not there: neither {option} nor {variable} names it, and neither the checkout nor \
                 the current folder has {below_checkout}; `make {target}` makes it"
            ))
        })
    }
}

/// The folders that `build/` may be in: the checkout that this program was built in (it is somewhere below
/// `target/` or `build/`), then the current folder and those around it.
fn checkouts() -> impl Iterator<Item = PathBuf> {
    let around = |path: PathBuf| path.ancestors().map(Path::to_owned).collect::<Vec<_>>();
    let program = env::current_exe().ok().map(around).unwrap_or_default();
    let here = env::current_dir().ok().map(around).unwrap_or_default();
    program.into_iter().chain(here).filter(|folder| folder.join("Cargo.toml").is_file())
}
