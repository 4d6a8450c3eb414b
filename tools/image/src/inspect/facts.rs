//! What is in a file, for programs: the fields of `domb inspect --json`.

use kernel_image::{Format, ImageError, KernelImage, NoteSource};
use protocols::archive::{CONTROL_ENTRY, PLATFORM_ENTRY, vm_of_spec_entry};
use protocols::control::ControlSpec;
use protocols::manifest::SIGNATURE_ENTRY;
use protocols::{BootSpec, GuestKind, PlatformSpec};
use ramdisk::Archive;
use serde::Serialize;

use super::kernel::BuiltInFacts;
use super::planned::PlanFacts;
use super::signed::{ManifestFacts, SignatureFacts, Signed};
use super::spec::SpecFacts;
use super::{ControlFacts, FileKind, InspectError, PlatformFacts, kernel};
use crate::disk;
use crate::kernel::MAX_UNPACKED;
use crate::packed;
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
    BootSpec(Box<SpecFacts>),
    /// A platform spec.
    PlatformSpec(PlatformFacts),
    /// A control spec.
    ControlSpec(ControlFacts),
    /// A RAM disk of db-boot, or any other CPIO archive.
    Archive {
        /// How it is compressed as a whole, if it is.
        compression: Option<String>,
        /// Whether it holds a signature. Looking does not verify it.
        signed: bool,
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
    /// What it says, if it is the control spec.
    pub control: Option<ControlFacts>,
    /// What it says, if it is the manifest.
    pub manifest: Option<ManifestFacts>,
    /// What it says, if it is the manifest's signature.
    pub signature: Option<SignatureFacts>,
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
    /// The key that is built into it, if it is a db-boot with one.
    pub built_in: Option<BuiltInFacts>,
    /// What it loads.
    pub segments: Vec<SegmentReport>,
    /// Its Xen notes, by their names in elfnote.h.
    pub notes: Vec<NoteFacts>,
    /// The least memory that it starts with as a PV guest without a RAM disk, in MiB.
    pub pv_least_mib: Option<u64>,
    /// Why it cannot start as a PV guest, if it cannot.
    pub pv_problem: Option<String>,
    /// How it starts as a PV guest with that memory.
    pub pv_plan: Option<PlanFacts>,
    /// Why it cannot start as a PVH guest, if it cannot.
    pub pvh_problem: Option<String>,
    /// How it starts as a PVH guest with one vCPU and the least memory.
    pub pvh_plan: Option<PlanFacts>,
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
    /// Whether db-boot's RAM disk holds a signature. Looking does not verify it.
    pub signed: bool,
    /// db-boot's RAM disk.
    pub archive: Vec<EntryFacts>,
    /// How that is compressed, if it is.
    pub archive_compression: Option<String>,
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

/// What [`super::describe`] says, for programs.
pub fn facts(bytes: &[u8]) -> Result<Facts, InspectError> {
    let kind = match FileKind::of(bytes) {
        FileKind::Spec => KindFacts::BootSpec(Box::new((&BootSpec::decode(bytes)?).into())),
        FileKind::Platform => KindFacts::PlatformSpec((&PlatformSpec::decode(bytes)?).into()),
        FileKind::Control => KindFacts::ControlSpec((&ControlSpec::decode(bytes)?).into()),
        FileKind::Disk => KindFacts::DiskImage(disk_facts(bytes)?),
        FileKind::Archive => {
            let (compression, entries) = archive(bytes)?;
            KindFacts::Archive { compression, signed: is_signed(&entries), entries }
        }
        FileKind::Xen => KindFacts::Xen,
        FileKind::Text => return Err(InspectError::Text),
        FileKind::Other => KindFacts::Kernel(kernel_facts(bytes)?),
    };
    Ok(Facts { contents: Contents::of(bytes), kind })
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn is_signed(entries: &[EntryFacts]) -> bool {
    entries.iter().any(|entry| entry.path == SIGNATURE_ENTRY)
}

/// How an archive is compressed, if it is, and what is in it.
fn archive(bytes: &[u8]) -> Result<(Option<String>, Vec<EntryFacts>), InspectError> {
    let opened = packed::open(bytes)?;
    let archive = Archive::parse(&opened.archive)?;
    let entries = archive.entries().iter().map(|entry| {
        let mut facts = EntryFacts {
            path: entry.name().to_owned(),
            entry_kind: entry.kind().to_string(),
            contents: Contents::of(entry.data()),
            spec: None,
            platform: None,
            control: None,
            manifest: None,
            signature: None,
            problem: None,
            format: Format::detect(entry.data()).ok().map(|format| format.to_string()),
        };
        if vm_of_spec_entry(entry.name()).is_some() {
            match BootSpec::decode(entry.data()) {
                Ok(spec) => facts.spec = Some((&spec).into()),
                Err(error) => facts.problem = Some(error.to_string()),
            }
        }
        if entry.name() == PLATFORM_ENTRY {
            match PlatformSpec::decode(entry.data()) {
                Ok(platform) => facts.platform = Some((&platform).into()),
                Err(error) => facts.problem = Some(error.to_string()),
            }
        }
        if entry.name() == CONTROL_ENTRY {
            match ControlSpec::decode(entry.data()) {
                Ok(control) => facts.control = Some((&control).into()),
                Err(error) => facts.problem = Some(error.to_string()),
            }
        }
        match Signed::read(entry.name(), entry.data()) {
            None => {}
            Some(Ok(Signed::Manifest(manifest))) => facts.manifest = Some((&manifest).into()),
            Some(Ok(Signed::Signature(signature))) => facts.signature = Some((&signature).into()),
            Some(Err(error)) => facts.problem = Some(error.to_string()),
        }
        facts
    });
    Ok((opened.compression.map(|compression| compression.to_string()), entries.collect()))
}

fn kernel_facts(bytes: &[u8]) -> Result<KernelFacts, ImageError> {
    let unwrapped = kernel_image::unwrap(bytes, MAX_UNPACKED)?;
    let image = KernelImage::parse(&unwrapped.elf)?;
    let notes = match image.notes().source {
        NoteSource::None => Vec::new(),
        _ => kernel::values(image.notes()),
    };
    let planned = |kind| match kernel::smallest_plan(&image, kind) {
        Ok((plan, mib)) => (Some(PlanFacts::of(&plan, mib)), None),
        Err(error) => (None, Some(error.to_string())),
    };
    let [as_pv, as_pvh] = [GuestKind::Pv, GuestKind::Pvh].map(planned);
    Ok(KernelFacts {
        format: unwrapped.format.to_string(),
        unpacked_bytes: count(unwrapped.elf.len()),
        built_in: BuiltInFacts::of(&image),
        segments: image.segments().iter().map(SegmentReport::from).collect(),
        notes: notes.into_iter().map(|(name, value)| NoteFacts { name: name.to_owned(), value }).collect(),
        pv_least_mib: as_pv.0.as_ref().map(|plan| plan.least_mib),
        pv_problem: as_pv.1,
        pv_plan: as_pv.0,
        pvh_problem: as_pvh.1,
        pvh_plan: as_pvh.0,
    })
}

fn disk_facts(bytes: &[u8]) -> Result<DiskFacts, InspectError> {
    let contents = disk::read(bytes)?;
    let (archive_compression, archive) = archive(&contents.archive)?;
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
        signed: is_signed(&archive),
        guid: contents.guid.clone(),
        partitions: partitions.collect(),
        files: files.collect(),
        menu: contents.menu.clone(),
        archive,
        archive_compression,
    })
}
