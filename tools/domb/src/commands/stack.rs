//! Xen, db-boot and a RAM disk: read, packed, and told about each other.

use std::path::{Path, PathBuf};

use image::builder::{self, Builder};
use image::disk::{self, Contents, Grub};
use image::memory::{self, BuilderNeed};
use image::packed;
use image::platform::Platform;
use image::signing;
use image::xen::Xen;

use super::load_platform;
use super::trusted::Trusted;
use crate::arguments;
use crate::defaults;
use crate::messages::{self, Failure};

/// Everything that boots.
pub(crate) struct Stack {
    pub(crate) xen: Xen,
    pub(crate) xen_args: String,
    pub(crate) builder: Builder,
    pub(crate) builder_args: String,
    pub(crate) archive: Vec<u8>,
    /// Memory of a machine that has room for all of it, in MiB.
    pub(crate) machine_mib: u64,
    /// What Xen gives to db-boot of that.
    dom0_mib: u64,
    platform: Platform,
}

impl Stack {
    /// Reads Xen, db-boot and the VM files with their images, and works out Dom0's memory.
    pub(crate) fn load(
        files: &[PathBuf],
        chosen: &arguments::Stack,
        exit_port: bool,
        interactive: bool,
    ) -> Result<Self, Failure> {
        let platform = load_platform(files, chosen.keep_packed)?;
        if !chosen.no_check {
            let reports = image::check::check(&platform)?;
            reports.iter().flat_map(|report| &report.warnings).for_each(|text| messages::warn(text));
        }
        let xen = Xen::read(&defaults::xen(chosen.xen.as_deref())?)?;
        let server = platform.settings().and_then(|settings| settings.server.as_ref());
        let builder = Builder::read(&builder_file(chosen, server.is_some())?)?;
        let trusted = Trusted::read(&platform, chosen)?;
        trusted.check(&builder)?;
        let unpacked = plain_archive(&platform, &trusted)?;
        let event_log = event_log(&platform, &trusted.event_log)?;
        let mut contents = unpacked.len().saturating_add(event_log.copies);
        let archive = if chosen.compress { packed::gzip(&unpacked) } else { unpacked };
        if chosen.compress {
            // While db-boot unpacks it, it has both.
            contents = contents.saturating_add(archive.len());
        }
        let dom0_mib = dom0_mem_mib(&platform, &builder, contents);
        Ok(Self {
            xen,
            xen_args: builder::xen_args(dom0_mib, &chosen.xen_args),
            builder,
            builder_args: builder::builder_args(
                exit_port,
                interactive,
                &(trusted.args() + &event_log.args + &chosen.dom0_args),
            ),
            archive,
            machine_mib: memory::machine_mib(platform.specs(), dom0_mib, server),
            dom0_mib,
            platform,
        })
    }

    /// Whether the VMs fit a machine of so many MiB; a warning if they only just do.
    pub(crate) fn fits(&self, machine_mib: u64) -> Result<(), Failure> {
        super::fits(&self.platform, self.dom0_mib, machine_mib, &mut |text| messages::warn(&text))
    }

    /// A disk image that boots it.
    pub(crate) fn disk(&self, grub: Option<&Path>) -> Result<Vec<u8>, Failure> {
        let grub = Grub::find(defaults::grub_folders(grub))?;
        let contents = Contents {
            xen: &self.xen.elf,
            xen_args: &self.xen_args,
            db_boot: &self.builder.elf,
            db_boot_args: &self.builder_args,
            archive: &self.archive,
        };
        Ok(disk::build(&grub, &contents)?)
    }
}

/// The builder: db-server for a platform with controllers, db-boot for others.
fn builder_file(chosen: &arguments::Stack, serves: bool) -> Result<PathBuf, Failure> {
    match (serves, &chosen.db_boot, &chosen.db_server) {
        (true, Some(_), None) => Err(Failure::new(
            "--db-boot: the platform file has controllers, and db-boot serves nobody; give --db-server FILE, or \
             neither",
        )),
        (true, _, chosen) => defaults::db_server(chosen.as_deref()),
        (false, None, Some(_)) => Err(Failure::new(
            "--db-server: nobody would be served; the platform file names who may ask below lines [[controller]]",
        )),
        (false, boot, _) => defaults::db_boot(boot.as_deref()),
    }
}

/// The RAM disk of a platform, signed and compressed if that is asked for.
pub(super) fn archive(platform: &Platform, chosen: &arguments::Stack) -> Result<Vec<u8>, Failure> {
    let archive = plain_archive(platform, &Trusted::read(platform, chosen)?)?;
    Ok(if chosen.compress { packed::gzip(&archive) } else { archive })
}

/// The RAM disk, not compressed.
fn plain_archive(platform: &Platform, trusted: &Trusted) -> Result<Vec<u8>, Failure> {
    let archive = platform.archive()?;
    let Some(key) = &trusted.sign else { return Ok(archive) };
    Ok(signing::sign_archive(&archive, &trusted.release, key)?)
}

/// The event log for VMs.
struct EventLogs {
    /// The words that have db-boot give it to them, with a blank behind them.
    args: String,
    /// Bytes of the RAM disks that db-boot has to copy for that.
    copies: usize,
}

fn event_log(platform: &Platform, names: &[String]) -> Result<EventLogs, Failure> {
    let mut copies = 0_usize;
    for name in names {
        let vm = platform.vms().iter().find(|vm| vm.spec.name == *name);
        let vm =
            vm.ok_or_else(|| Failure::new(format!("--event-log {name}: there is no VM of that name")))?;
        let own = platform.ramdisk(vm).map_or(0, |image| image.bytes.len());
        copies = copies.saturating_add(own).saturating_add(EVENT_LOG_ROOM);
    }
    let args = if names.is_empty() { String::new() } else { format!("event-log={} ", names.join(",")) };
    Ok(EventLogs { args, copies })
}

/// Room for an event log: more than a thousand events with names of usual lengths.
const EVENT_LOG_ROOM: usize = 128 << 10;

fn dom0_mem_mib(platform: &Platform, builder: &Builder, contents: usize) -> u64 {
    let archive = u64::try_from(contents).unwrap_or(u64::MAX);
    let unpacking = platform.unpacking_cost();
    BuilderNeed { image: builder.memory, archive, unpacking, serving: platform.serving_need() }.dom0_mem_mib()
}
