//! Everything that is packed, segment by segment and frame by frame, with digests.
//!
//! The structures here are what programs read too: their fields, by these names, are the JSON of `domb report` and
//! `domb check`. Fields may be added; none is renamed or given another meaning without another `schema`.

use std::fmt;

use domain_plan::GuestPlan;
use kernel_image::{KernelImage, Segment};
use protocols::BootSpec;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::check::{self, VmReport};
use crate::inspect::{self, PlatformFacts};
use crate::kernel::MAX_UNPACKED;
use crate::platform::{ArchiveError, Image, Platform, PlatformError, hexadecimal};

/// Bytes, by their number and digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Contents {
    /// How many.
    pub bytes: u64,
    /// Their SHA-256, 64 hexadecimal digits.
    pub sha256: String,
}

impl Contents {
    /// Counts and digests `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        Self { bytes: length, sha256: hexadecimal(&Sha256::digest(bytes)) }
    }
}

impl fmt::Display for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes, sha256 {}", self.bytes, self.sha256)
    }
}

/// What a VM's file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VmSummary {
    /// Its name.
    pub name: String,
    /// How it starts: `pv`.
    pub kind: String,
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
    /// What its kernel's file is, in words: `ELF`, `Linux bzImage ...`.
    pub kernel_format: String,
    /// The name of its RAM disk in the archive, if it has one.
    pub ramdisk: Option<String>,
    /// Its kernel's command line.
    pub command_line: String,
}

impl From<&VmReport> for VmSummary {
    fn from(report: &VmReport) -> Self {
        let spec: &BootSpec = &report.spec;
        Self {
            name: spec.name.clone(),
            kind: format!("{:?}", spec.kind).to_lowercase(),
            domid: spec.domid,
            uuid: ::uuid::Uuid::from_bytes(spec.uuid).to_string(),
            vcpus: spec.vcpus,
            memory_kib: spec.memory_kib,
            max_memory_kib: spec.max_memory_kib,
            kernel: spec.kernel.clone(),
            kernel_format: report.kernel_format.clone(),
            ramdisk: spec.ramdisk.clone(),
            command_line: spec.command_line.clone(),
        }
    }
}

/// A run of a guest's frames with one purpose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AreaReport {
    /// What it holds: `kernel`, `RAM disk`, `page tables`, ...
    pub area: String,
    /// Its first frame: pseudo-physical of a PV guest, guest frame of a PVH guest.
    pub first_pfn: u64,
    /// Its frames, of 4 KiB.
    pub pages: u64,
    /// Where it is mapped at the start, if it is.
    pub virtual_address: Option<u64>,
}

/// What is where in a guest's memory at its start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Layout {
    /// The guest's frames.
    pub pages: u64,
    /// How many of them the builder writes.
    pub written_pages: u64,
    /// What they hold, in order of frame numbers. The rest is the kernel's.
    pub areas: Vec<AreaReport>,
}

impl From<&GuestPlan<'_>> for Layout {
    fn from(plan: &GuestPlan<'_>) -> Self {
        let areas = plan.areas().iter().map(|area| AreaReport {
            area: area.kind.to_string(),
            first_pfn: area.first.raw(),
            pages: area.pages.raw(),
            virtual_address: area.virt.map(xen_abi::GuestVirt::raw),
        });
        Self { pages: plan.memory().raw(), written_pages: plan.written().raw(), areas: areas.collect() }
    }
}

/// A segment of a kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SegmentReport {
    /// Its number among the program headers.
    pub index: u64,
    /// Where it is loaded.
    pub physical: u64,
    /// Where it is linked to.
    pub virtual_address: u64,
    /// Its bytes in the file.
    pub file_bytes: u64,
    /// Its bytes in memory.
    pub memory_bytes: u64,
    /// `rwx`, a dash for each that it is not.
    pub flags: String,
}

impl From<&Segment<'_>> for SegmentReport {
    fn from(segment: &Segment<'_>) -> Self {
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let flags = [(segment.readable, 'r'), (segment.writable, 'w'), (segment.executable, 'x')];
        Self {
            index: count(segment.index),
            physical: segment.physical,
            virtual_address: segment.virt,
            file_bytes: count(segment.file.len()),
            memory_bytes: segment.memory_size,
            flags: flags.into_iter().map(|(set, letter)| if set { letter } else { '-' }).collect(),
        }
    }
}

/// A file that VMs boot from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ImageReport {
    /// Its name in the archive.
    pub entry: String,
    /// The file on this machine.
    pub file: String,
    /// That file as it is.
    pub original: Contents,
    /// As it is packed: unpacked, if it was a packed kernel.
    pub stored: Contents,
    /// The segments, if some VM has it as its kernel.
    pub segments: Vec<SegmentReport>,
}

/// A VM, and how it is built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VmDetails {
    /// What its file says.
    #[serde(flatten)]
    pub summary: VmSummary,
    /// Its boot spec.
    pub spec: Contents,
    /// Its memory.
    pub layout: Layout,
    #[serde(skip)]
    plan: String,
}

/// Everything about a set of VMs that can be known before it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// db-boot's RAM disk.
    pub archive: Contents,
    /// What a platform file says of all VMs, if there is one.
    pub platform: Option<PlatformFacts>,
    /// The images in it.
    pub images: Vec<ImageReport>,
    /// The VMs, in the order in which they are built.
    pub vms: Vec<VmDetails>,
    #[serde(skip)]
    platform_text: String,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// Some VM cannot be built.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// The RAM disk cannot be put together.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
}

impl Report {
    /// Reports on a platform that was loaded as it is; its kernels are unpacked as `domb pack` does, unless they are to
    /// stay packed.
    pub fn of(mut platform: Platform, keep_packed: bool) -> Result<Self, ReportError> {
        let originals: Vec<_> = platform.images().iter().map(|image| Contents::of(&image.bytes)).collect();
        if !keep_packed {
            platform.unpack_kernels();
        }
        let checked = check::check(&platform)?;
        let kernels: Vec<&str> = platform.vms().iter().map(|vm| vm.spec.kernel.as_str()).collect();
        let images = platform.images().iter().zip(originals);
        let images = images.map(|(image, original)| ImageReport {
            entry: image.entry.clone(),
            file: image.path.display().to_string(),
            stored: if image.unpacked_from.is_some() { Contents::of(&image.bytes) } else { original.clone() },
            original,
            segments: if kernels.contains(&image.entry.as_str()) { segments(image) } else { Vec::new() },
        });
        let vms = checked.iter().map(|report| {
            Ok(VmDetails {
                summary: report.into(),
                spec: Contents::of(&spec_bytes(&report.spec)?),
                layout: report.layout.clone(),
                plan: report.plan.clone(),
            })
        });
        Ok(Self {
            images: images.collect(),
            vms: vms.collect::<Result<_, ArchiveError>>()?,
            archive: Contents::of(&platform.archive()?),
            platform: platform.settings().map(PlatformFacts::from),
            platform_text: platform.settings().map(inspect::platform::describe).unwrap_or_default(),
        })
    }
}

fn spec_bytes(spec: &BootSpec) -> Result<Vec<u8>, ArchiveError> {
    spec.encode().map_err(|cause| ArchiveError::Spec { vm: spec.name.clone(), cause })
}

/// The segments of a kernel that was found to be one.
fn segments(image: &Image) -> Vec<SegmentReport> {
    let unwrapped = kernel_image::unwrap(&image.bytes, MAX_UNPACKED).ok();
    let parsed = unwrapped.as_ref().and_then(|unwrapped| KernelImage::parse(&unwrapped.elf).ok());
    parsed.map(|image| image.segments().iter().map(SegmentReport::from).collect()).unwrap_or_default()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "RAM disk: {}", self.archive)?;
        if self.platform.is_some() {
            writeln!(f, "\nplatform")?;
        }
        for line in self.platform_text.lines() {
            writeln!(f, "  {line}")?;
        }
        for image in &self.images {
            writeln!(f, "\n{} from {}", image.entry, image.file)?;
            if image.stored != image.original {
                writeln!(f, "  as a file: {}", image.original)?;
            }
            writeln!(f, "  as packed: {}", image.stored)?;
            for segment in &image.segments {
                writeln!(
                    f,
                    "  segment {}: physical [{:#x}..{:#x}), virtual {:#x}, {} bytes in the file, {}",
                    segment.index,
                    segment.physical,
                    segment.physical.saturating_add(segment.memory_bytes),
                    segment.virtual_address,
                    segment.file_bytes,
                    segment.flags
                )?;
            }
        }
        for vm in &self.vms {
            writeln!(
                f,
                "\nVM {}: kernel {}, {}",
                vm.summary.name, vm.summary.kernel, vm.summary.kernel_format
            )?;
            writeln!(f, "  spec: {}", vm.spec)?;
            for line in vm.plan.lines() {
                writeln!(f, "  {line}")?;
            }
        }
        Ok(())
    }
}
