//! A kernel: its file format, what it loads, its Xen notes, and how it would start.

use std::fmt::Write as _;

use domain_plan::{GuestPlan, GuestRequest, PlanError};
use kernel_image::{ImageError, KernelImage, NoteSource, XenNotes};
use protocols::trust_note::BuiltIn;
use protocols::{Digest, GuestKind};
use serde::Serialize;
use xen_abi::PageCount;

use super::indent;
use crate::kernel::MAX_UNPACKED;

/// Describes a kernel file. What keeps it from being a PV guest is part of the description.
pub(super) fn describe(bytes: &[u8]) -> Result<String, ImageError> {
    let unwrapped = kernel_image::unwrap(bytes, MAX_UNPACKED)?;
    let mut out = format!("kernel, {}, {} bytes", unwrapped.format, bytes.len());
    if unwrapped.elf.len() != bytes.len() {
        let _ = write!(out, ", {} unpacked", unwrapped.elf.len());
    }
    out.push('\n');
    let image = KernelImage::parse(&unwrapped.elf)?;
    if let Some(text) = built_in(&image) {
        let _ = writeln!(out, "  db-boot: {text}");
    }
    segments(&mut out, &image);
    notes(&mut out, image.notes());
    for (kind, name) in [(GuestKind::Pv, "PV"), (GuestKind::Pvh, "PVH")] {
        match smallest_plan(&image, kind) {
            Ok((plan, mib)) => {
                let _ = writeln!(
                    out,
                    "  starts as a {name} guest with {mib} MiB or more, plus its RAM disk; with {mib} MiB:"
                );
                out += &indent(&indent(&plan.to_string()));
            }
            Err(error) => {
                let _ = writeln!(out, "  cannot start as a {name} guest: {error}");
            }
        }
    }
    Ok(out)
}

/// What a db-boot says about the key that it requires; `None` for other kernels.
pub(crate) fn built_in(image: &KernelImage<'_>) -> Option<String> {
    image.notes().db_boot?;
    Some(match BuiltInFacts::of(image) {
        None => "no key is built in; its command line may ask for one".into(),
        Some(BuiltInFacts { key, key_id, least_version }) => {
            format!("requires key {key_id} (digits {key}), version {least_version} or later")
        }
    })
}

/// The key that is built into a db-boot, for programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BuiltInFacts {
    /// The public key in hexadecimal digits.
    pub key: String,
    /// Its name in signatures: the SHA-256 of its bytes.
    pub key_id: String,
    /// The least version of a platform that is accepted.
    pub least_version: u64,
}

impl BuiltInFacts {
    pub(super) fn of(image: &KernelImage<'_>) -> Option<Self> {
        let BuiltIn { key, least_version } = crate::builder::built_in(image)?;
        let key_id = trust::sha256(&key).to_string();
        Some(Self { key: Digest(key).to_string(), key_id, least_version })
    }
}

fn segments(out: &mut String, image: &KernelImage<'_>) {
    let _ = writeln!(
        out,
        "  {:<7} {:>18} {:>18} {:>11} {:>11}  flags",
        "segment", "physical", "virtual", "in the file", "in memory"
    );
    for segment in image.segments() {
        let flag = |set: bool, letter: char| if set { letter } else { '-' };
        let _ = writeln!(
            out,
            "  {:<7} {:>#18x} {:>#18x} {:>11} {:>11}  {}{}{}",
            segment.index,
            segment.physical,
            segment.virt,
            segment.file.len(),
            segment.memory_size,
            flag(segment.readable, 'r'),
            flag(segment.writable, 'w'),
            flag(segment.executable, 'x'),
        );
    }
}

fn notes(out: &mut String, notes: &XenNotes<'_>) {
    let place = match notes.source {
        NoteSource::None => "none: the kernel was built without support for Xen",
        NoteSource::Segments => "from note segments",
        NoteSource::Sections => "from note sections",
        NoteSource::GuestSection => "from the old section __xen_guest",
    };
    let _ = writeln!(out, "  Xen notes: {place}");
    if notes.source == NoteSource::None {
        return;
    }
    for (name, value) in values(notes) {
        let _ = writeln!(out, "    {name:<18} {value}");
    }
}

/// The notes that are there, by their names in elfnote.h, and what they say.
pub(super) fn values(notes: &XenNotes<'_>) -> Vec<(&'static str, String)> {
    let texts = [
        ("GUEST_OS", notes.guest_os),
        ("GUEST_VERSION", notes.guest_version),
        ("XEN_VERSION", notes.xen_version),
        ("LOADER", notes.loader),
        ("PAE_MODE", notes.pae_mode),
        ("FEATURES", notes.features),
        ("BSD_SYMTAB", notes.bsd_symtab),
    ];
    let numbers = [
        ("ENTRY", notes.entry),
        ("HYPERCALL_PAGE", notes.hypercall_page),
        ("VIRT_BASE", notes.virt_base),
        ("PADDR_OFFSET", notes.paddr_offset),
        ("HV_START_LOW", notes.hv_start_low),
        ("INIT_P2M", notes.init_p2m),
        ("MOD_START_PFN", notes.mod_start_pfn),
        ("SUSPEND_CANCEL", notes.suspend_cancel),
        ("PHYS32_ENTRY", notes.phys32_entry),
    ];
    let texts = texts.into_iter().filter_map(|(name, text)| Some((name, format!("{:?}", text?))));
    let numbers = numbers.into_iter().filter_map(|(name, number)| Some((name, format!("{:#x}", number?))));
    let mut values: Vec<_> = texts.chain(numbers).collect();
    for pair in &notes.l1_mfn_valid {
        values.push(("L1_MFN_VALID", format!("mask {:#x}, value {:#x}", pair.mask, pair.value)));
    }
    if let Some(reloc) = notes.phys32_reloc {
        let limit = |value: Option<u32>| value.map_or("any".into(), |value| format!("{value:#x}"));
        let [align, min, max] = [reloc.align, reloc.min, reloc.max].map(limit);
        values.push(("PHYS32_RELOC", format!("align {align}, min {min}, max {max}")));
    }
    values.push(("supports", names(notes.supported)));
    values.push(("requires", names(notes.required)));
    values.extend(notes.unknown.iter().map(|kind| ("unknown type", kind.to_string())));
    values
}

fn names(features: kernel_image::Features) -> String {
    let names: Vec<_> = features.iter_names().map(|(name, _)| name.to_lowercase()).collect();
    if names.is_empty() { "nothing".into() } else { names.join(" ") }
}

/// The plan for the least memory that this kernel starts with as a guest of this kind, and that memory in MiB.
pub(super) fn smallest_plan<'a>(
    image: &KernelImage<'a>,
    kind: GuestKind,
) -> Result<(GuestPlan<'a>, u64), PlanError> {
    /// Page tables grow with the memory, so the first answer may be a little too small.
    const TRIES: usize = 8;
    let mut mib = 1;
    let mut result = plan(image, kind, mib);
    for _ in 0..TRIES {
        match result {
            Err(PlanError::Memory { least_mib, .. }) => mib = least_mib.max(mib + 1),
            other => return other.map(|plan| (plan, mib)),
        }
        result = plan(image, kind, mib);
    }
    result.map(|plan| (plan, mib))
}

fn plan<'a>(image: &KernelImage<'a>, kind: GuestKind, mib: u64) -> Result<GuestPlan<'a>, PlanError> {
    let memory = PageCount::new(mib.saturating_mul(256));
    let request = GuestRequest::new(memory, "");
    match kind {
        GuestKind::Pv => GuestPlan::pv(image, &request),
        GuestKind::Pvh => GuestPlan::pvh(image, &request, 1),
    }
}
