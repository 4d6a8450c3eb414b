//! What is in a file, for programs: the fields of `domb inspect --json`.

use kernel_image::{Format, ImageError, KernelImage, NoteSource};
use protocols::archive::{PLATFORM_ENTRY, vm_of_spec_entry};
use protocols::{BootSpec, ExitAction, PlatformSpec};
use ramdisk::Archive;
use serde::Serialize;

use super::{FileKind, InspectError, PlatformFacts, kernel};
use crate::disk;
use crate::kernel::MAX_UNPACKED;
use crate::report::{Contents, SegmentReport};

/// A file: its size and digest, and what it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// All of its bytes.
    #[serde(flatten)]
    pub contents: Contents,
    /// What it is.
    #[serde(flatten)]
    pub kind: KindFacts,
}

/// What a file is; `kind` says which of these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum KindFacts {
    /// A boot spec.
    BootSpec(SpecFacts),
    /// A platform spec.
    PlatformSpec(PlatformFacts),
    /// A RAM disk of db-boot, or any other CPIO archive.
    Archive {
        /// Its entries, in their order.
        entries: Vec<EntryFacts>,
    },
    /// Xen.
    Xen,
    /// A kernel.
    Kernel(KernelFacts),
    /// A disk image of `domb pack`.
    DiskImage(DiskFacts),
}

/// What a boot spec says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SpecFacts {
    /// The VM's name.
    pub name: String,
    /// Its domain id, if it is fixed.
    pub domid: Option<u16>,
    /// Its UUID.
    pub uuid: String,
    /// Its vCPUs.
    pub vcpus: u32,
    /// Memory it starts with, in KiB.
    pub memory_kib: u64,
    /// Memory it may grow to, in KiB.
    pub max_memory_kib: u64,
    /// The name of its kernel in the archive.
    pub kernel: String,
    /// The name of its RAM disk in the archive, if it has one.
    pub ramdisk: Option<String>,
    /// Its kernel's command line.
    pub command_line: String,
    /// What happens when it powers off: `destroy`, `preserve`, ...
    pub on_poweroff: String,
    /// What happens when it asks for a reboot.
    pub on_reboot: String,
    /// What happens when it crashes.
    pub on_crash: String,
    /// What happens when its watchdog goes off.
    pub on_watchdog: String,
    /// How often in a row it is restarted, where it is.
    pub restart_limit: u32,
    /// How long before the first restart, in milliseconds.
    pub restart_delay_ms: u32,
    /// Whether the platform ends when it ends badly.
    pub critical: bool,
}

/// An entry of an archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EntryFacts {
    /// Its path.
    pub path: String,
    /// `file`, `folder`, ...
    pub entry_kind: String,
    /// Its contents.
    #[serde(flatten)]
    pub contents: Contents,
    /// What it says, if it is the spec of a VM.
    pub spec: Option<SpecFacts>,
    /// What it says, if it is the platform spec.
    pub platform: Option<PlatformFacts>,
    /// Why it says nothing although it is named like one.
    pub problem: Option<String>,
    /// The format of its contents, if it is that of a kernel.
    pub format: Option<String>,
}

/// What a kernel is made of, and whether it starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KernelFacts {
    /// How it is packed.
    pub format: String,
    /// Its bytes when unpacked.
    pub unpacked_bytes: u64,
    /// What it loads.
    pub segments: Vec<SegmentReport>,
    /// Its Xen notes, by their names in elfnote.h.
    pub notes: Vec<NoteFacts>,
    /// The least memory that it starts with as a PV guest without a RAM disk, in MiB.
    pub pv_least_mib: Option<u64>,
    /// Why it cannot start as a PV guest, if it cannot.
    pub pv_problem: Option<String>,
}

/// A Xen note.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NoteFacts {
    /// Its name.
    pub name: String,
    /// What it says: texts in quotes, numbers in hexadecimal.
    pub value: String,
}

/// What is on a disk image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DiskFacts {
    /// Its identifier.
    pub guid: String,
    /// Its partitions.
    pub partitions: Vec<PartitionFacts>,
    /// The files on the partition for files.
    pub files: Vec<FileFacts>,
    /// GRUB's menu.
    pub menu: String,
    /// db-boot's RAM disk.
    pub archive: Vec<EntryFacts>,
}

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PartitionFacts {
    /// Its name.
    pub name: String,
    /// Its type's GUID.
    pub type_guid: String,
    /// Its own GUID.
    pub guid: String,
    /// Its first byte on the disk.
    pub start: u64,
    /// The byte behind its last.
    pub end: u64,
}

/// A file on a disk image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileFacts {
    /// Its path.
    pub path: String,
    /// Its size.
    pub bytes: u64,
}

/// What [`super::describe`] says, for programs. Of a kernel without the picture of its memory at the start, which
/// depends on the memory it is given: that is in a report.
pub fn facts(bytes: &[u8]) -> Result<Facts, InspectError> {
    let kind = match FileKind::of(bytes) {
        FileKind::Spec => KindFacts::BootSpec((&BootSpec::decode(bytes)?).into()),
        FileKind::Platform => KindFacts::PlatformSpec((&PlatformSpec::decode(bytes)?).into()),
        FileKind::Disk => KindFacts::DiskImage(disk_facts(bytes)?),
        FileKind::Archive => KindFacts::Archive { entries: entries(bytes)? },
        FileKind::Xen => KindFacts::Xen,
        FileKind::Other => KindFacts::Kernel(kernel_facts(bytes)?),
    };
    Ok(Facts { contents: Contents::of(bytes), kind })
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

impl From<&BootSpec> for SpecFacts {
    fn from(spec: &BootSpec) -> Self {
        let word = |action: ExitAction| format!("{action:?}").to_lowercase();
        Self {
            on_poweroff: word(spec.on_poweroff),
            on_reboot: word(spec.on_reboot),
            on_crash: word(spec.on_crash),
            on_watchdog: word(spec.life.on_watchdog),
            restart_limit: spec.life.restart_limit,
            restart_delay_ms: spec.life.restart_delay_ms,
            critical: spec.life.critical,
            name: spec.name.clone(),
            domid: spec.domid,
            uuid: ::uuid::Uuid::from_bytes(spec.uuid).to_string(),
            vcpus: spec.vcpus,
            memory_kib: spec.memory_kib,
            max_memory_kib: spec.max_memory_kib,
            kernel: spec.kernel.clone(),
            ramdisk: spec.ramdisk.clone(),
            command_line: spec.command_line.clone(),
        }
    }
}

fn entries(bytes: &[u8]) -> Result<Vec<EntryFacts>, InspectError> {
    let archive = Archive::parse(bytes)?;
    let entries = archive.entries().iter().map(|entry| {
        let spec = vm_of_spec_entry(entry.name()).map(|_| BootSpec::decode(entry.data()));
        let platform = (entry.name() == PLATFORM_ENTRY).then(|| PlatformSpec::decode(entry.data()));
        let spec_problem = spec.as_ref().and_then(|spec| spec.as_ref().err()).map(ToString::to_string);
        let platform_problem = platform.as_ref().and_then(|it| it.as_ref().err()).map(ToString::to_string);
        EntryFacts {
            path: entry.name().to_owned(),
            entry_kind: entry.kind().to_string(),
            contents: Contents::of(entry.data()),
            format: Format::detect(entry.data()).ok().map(|format| format.to_string()),
            problem: spec_problem.or(platform_problem),
            platform: platform.and_then(Result::ok).as_ref().map(PlatformFacts::from),
            spec: spec.and_then(Result::ok).as_ref().map(SpecFacts::from),
        }
    });
    Ok(entries.collect())
}

fn kernel_facts(bytes: &[u8]) -> Result<KernelFacts, ImageError> {
    let unwrapped = kernel_image::unwrap(bytes, MAX_UNPACKED)?;
    let image = KernelImage::parse(&unwrapped.elf)?;
    let notes = match image.notes().source {
        NoteSource::None => Vec::new(),
        _ => kernel::values(image.notes()),
    };
    let smallest = kernel::smallest_plan(&image);
    Ok(KernelFacts {
        format: unwrapped.format.to_string(),
        unpacked_bytes: count(unwrapped.elf.len()),
        segments: image.segments().iter().map(SegmentReport::from).collect(),
        notes: notes.into_iter().map(|(name, value)| NoteFacts { name: name.to_owned(), value }).collect(),
        pv_least_mib: smallest.as_ref().ok().map(|(_, mib)| *mib),
        pv_problem: smallest.err().map(|error| error.to_string()),
    })
}

fn disk_facts(bytes: &[u8]) -> Result<DiskFacts, InspectError> {
    let contents = disk::read(bytes)?;
    let partitions = contents.partitions.iter().map(|partition| PartitionFacts {
        name: partition.name.clone(),
        type_guid: partition.kind.clone(),
        guid: partition.guid.clone(),
        start: count(partition.bytes.start),
        end: count(partition.bytes.end),
    });
    let files =
        contents.files.iter().map(|(path, bytes)| FileFacts { path: path.clone(), bytes: count(*bytes) });
    Ok(DiskFacts {
        guid: contents.guid.clone(),
        partitions: partitions.collect(),
        files: files.collect(),
        menu: contents.menu.clone(),
        archive: entries(&contents.archive)?,
    })
}
