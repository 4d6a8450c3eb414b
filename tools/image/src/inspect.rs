//! What is in a file, as text for people and as facts for programs.

mod control;
mod facts;
mod kernel;
mod planned;
pub(crate) mod platform;
mod server;
mod settings;
mod signed;
mod spec;

use std::fmt::Write as _;

use kernel_image::{Format, ImageError};
use protocols::archive::{CONTROL_ENTRY, PLATFORM_ENTRY, vm_of_spec_entry};
use protocols::control::{self as control_spec, ControlSpec, ControlSpecError};
use protocols::platform::{self as platform_spec, PlatformSpecError};
use protocols::spec::MAGIC;
use protocols::store::STORE_PORT;
use protocols::{BootSpec, ExitAction, PlatformSpec, SpecError, StoreRole};
use ramdisk::{Archive, RamdiskError};
use thiserror::Error;

use crate::check::summary;
use crate::disk::{self, DiskError};
use crate::packed::{self, ARCHIVE_MAGIC, Opened, PackedError};
use crate::report::Contents;
use crate::xen;

pub use control::{ClientFacts, ControlFacts};
pub use kernel::BuiltInFacts;
pub use platform::PlatformFacts;

pub use facts::{
    DiskFacts, EntryFacts, Facts, FileFacts, KernelFacts, KindFacts, NoteFacts, PartitionFacts, facts,
};
pub use planned::{MapFacts, PlanFacts, PvhFacts};
pub use server::{ControllerFacts, ServerFacts};
pub use signed::{ManifestFacts, SignatureFacts, SignedFile, UnsignedFacts, manifest};
pub use spec::{ChannelFacts, CpusFacts, IoMemoryFacts, IoPortsFacts, SettingsFacts, SpecFacts};

/// Why a file cannot be described.
#[derive(Debug, Error)]
pub enum InspectError {
    /// It is a boot spec, but a bad one.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// It is a platform spec, but a bad one.
    #[error(transparent)]
    Platform(#[from] PlatformSpecError),
    /// It is a control spec, but a bad one.
    #[error(transparent)]
    Control(#[from] ControlSpecError),
    /// It is a disk image, but not one of ours.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// It is an archive, but a bad one.
    #[error(transparent)]
    Archive(#[from] RamdiskError),
    /// It is a compressed archive, but a damaged one.
    #[error(transparent)]
    Packed(#[from] PackedError),
    /// People wrote it.
    #[error("a text: `domb check` reads VM files and platform files, `domb chart` and `domb explain` logs")]
    Text,
    /// It is taken for a kernel, but is none.
    #[error("not an archive, boot, platform or control spec or disk image, and as a kernel: {0}")]
    Kernel(#[from] ImageError),
}

/// What a file is, by its first bytes.
enum FileKind {
    Spec,
    Platform,
    Control,
    Disk,
    Archive,
    Xen,
    Text,
    /// A kernel, or nothing known.
    Other,
}

impl FileKind {
    fn of(bytes: &[u8]) -> Self {
        if bytes.starts_with(&MAGIC) {
            Self::Spec
        } else if bytes.starts_with(&platform_spec::MAGIC) {
            Self::Platform
        } else if bytes.starts_with(&control_spec::MAGIC) {
            Self::Control
        } else if disk::is_disk_image(bytes) {
            Self::Disk
        } else if bytes.starts_with(ARCHIVE_MAGIC) || is_packed_archive(bytes) {
            Self::Archive
        } else if bytes.starts_with(b"\x7fELF") && xen::has_multiboot1(bytes) && xen::has_multiboot2(bytes) {
            Self::Xen
        } else if is_text(bytes) {
            Self::Text
        } else {
            Self::Other
        }
    }
}

/// Whether the start of a file is what people write. Nothing that is known to be binary starts with so much text.
fn is_text(bytes: &[u8]) -> bool {
    const SEEN: usize = 1024;
    let start = bytes.get(..SEEN).unwrap_or(bytes);
    // A character may be cut off at the end of what is seen.
    let is_utf8 = str::from_utf8(start).map_or_else(|error| error.error_len().is_none(), |_| true);
    !start.is_empty()
        && is_utf8
        && start.iter().all(|byte| !byte.is_ascii_control() || byte.is_ascii_whitespace())
}

/// Whether something compressed is an archive. What cannot be unpacked is left for a kernel's refusal.
fn is_packed_archive(bytes: &[u8]) -> bool {
    let opened = packed::open(bytes);
    opened.is_ok_and(|opened| opened.compression.is_some() && opened.archive.starts_with(ARCHIVE_MAGIC))
}

/// Describes a file: one line that goes behind its name, then indented lines.
pub fn describe(bytes: &[u8]) -> Result<String, InspectError> {
    match FileKind::of(bytes) {
        FileKind::Spec => {
            Ok(format!("boot spec, {} bytes\n{}", bytes.len(), indent(&spec(&BootSpec::decode(bytes)?))))
        }
        FileKind::Platform => {
            let text = platform::describe(&PlatformSpec::decode(bytes)?);
            Ok(format!("platform spec, {} bytes\n{}", bytes.len(), indent(&text)))
        }
        FileKind::Control => {
            let text = control::describe(&ControlSpec::decode(bytes)?);
            Ok(format!("control spec, {} bytes\n{}", bytes.len(), indent(&text)))
        }
        FileKind::Disk => describe_disk(bytes),
        FileKind::Archive => archive(bytes),
        FileKind::Xen => Ok(format!("Xen, {} bytes, starts by Multiboot 1 and 2\n", bytes.len())),
        FileKind::Text => Err(InspectError::Text),
        FileKind::Other => Ok(kernel::describe(bytes)?),
    }
}

/// Two blanks before every line.
fn indent(text: &str) -> String {
    text.lines().fold(String::new(), |out, line| out + "  " + line + "\n")
}

fn spec(spec: &BootSpec) -> String {
    let mut out = format!("VM {}: {}\n", spec.name, summary(spec));
    let mut field = |name: &str, value: String| _ = writeln!(out, "  {name:<13} {value}");
    field("domid", spec.domid.map_or("chosen by Xen".into(), |domid| domid.to_string()));
    field("uuid", uuid::Uuid::from_bytes(spec.uuid).to_string());
    if spec.max_memory_kib != spec.memory_kib {
        field("may grow to", format!("{} KiB", spec.max_memory_kib));
    }
    field("kernel", spec.kernel.clone());
    if let Some(ramdisk) = &spec.ramdisk {
        field("ramdisk", ramdisk.clone());
    }
    for (index, module) in spec.modules.iter().enumerate() {
        field(&format!("module {index}"), format!("{} bytes, {:?}", module.bytes, module.command_line));
    }
    field("command line", format!("{:?}", spec.command_line));
    let life = &spec.life;
    let actions = [
        ("on poweroff", spec.on_poweroff),
        ("on reboot", spec.on_reboot),
        ("on crash", spec.on_crash),
        ("on watchdog", life.on_watchdog),
    ];
    for (name, action) in actions {
        field(name, format!("{action:?}").to_lowercase());
    }
    if actions.iter().any(|(_, action)| *action == ExitAction::Restart) {
        let text =
            format!("at most {} in a row, the first after {} ms", life.restart_limit, life.restart_delay_ms);
        field("restarts", text);
    }
    if !spec.channels.clients.is_empty() {
        let clients: Vec<_> =
            spec.channel_ports().map(|(client, port)| format!("domain {client} by port {port}")).collect();
        field("serves channels for", clients.join(", "));
    }
    match spec.store {
        StoreRole::None => {}
        StoreRole::Client { server } => {
            field("XenStore", format!("that of domain {server}, by port {STORE_PORT}"));
        }
        StoreRole::Server => field("XenStore", "serves it to the others".into()),
        StoreRole::Own => field("XenStore", "one of its own, by which it can be asked to power off".into()),
    }
    if !life.after.is_empty() {
        field("starts after", life.after.join(", "));
    }
    if let Some(ready) = &life.ready {
        field("is ready", format!("when its console shows {ready:?}"));
    }
    if life.critical {
        field("critical", "the platform ends when it ends badly".into());
    }
    for (name, value) in settings::lines(&spec.settings) {
        field(name, value);
    }
    out
}

fn archive(bytes: &[u8]) -> Result<String, InspectError> {
    let Opened { compression, archive: unpacked } = packed::open(bytes)?;
    let archive = Archive::parse(&unpacked)?;
    let packed =
        compression.map(|compression| format!(" of {} bytes, compressed with {compression}", unpacked.len()));
    let mut out = format!(
        "RAM disk{}, {} bytes, {} entries\n",
        packed.unwrap_or_default(),
        bytes.len(),
        archive.entries().len()
    );
    for entry in archive.entries() {
        let data = entry.data();
        let _ = writeln!(out, "  {} ({}, {})", entry.name(), entry.kind(), Contents::of(data));
        if vm_of_spec_entry(entry.name()).is_some() {
            let text =
                BootSpec::decode(data).map_or_else(|error| error.to_string(), |decoded| spec(&decoded));
            out += &indent(&indent(&text));
        } else if let Some(text) = signed::entry(entry.name(), data) {
            out += &indent(&indent(&text));
        } else if entry.name() == PLATFORM_ENTRY {
            let decoded = PlatformSpec::decode(data);
            let text = decoded.map_or_else(|error| error.to_string(), |decoded| platform::describe(&decoded));
            out += &indent(&indent(&text));
        } else if entry.name() == CONTROL_ENTRY {
            let decoded = ControlSpec::decode(data);
            let text = decoded.map_or_else(|error| error.to_string(), |decoded| control::describe(&decoded));
            out += &indent(&indent(&text));
        } else if let Ok(format) = Format::detect(data) {
            let _ = writeln!(out, "    {format}");
        }
    }
    Ok(out)
}

fn describe_disk(bytes: &[u8]) -> Result<String, InspectError> {
    let contents = disk::read(bytes)?;
    let mut out = format!("disk image, {} bytes, GUID {}\n", bytes.len(), contents.guid);
    for partition in &contents.partitions {
        let _ = writeln!(
            out,
            "  partition {:<10} [{:#x}..{:#x}), type {}, GUID {}",
            partition.name, partition.bytes.start, partition.bytes.end, partition.kind, partition.guid
        );
    }
    for (path, size) in &contents.files {
        let _ = writeln!(out, "  /{path} ({size} bytes)");
    }
    out += "  GRUB's menu:\n";
    out += &indent(&indent(&contents.menu));
    let described = archive(&contents.archive)?;
    Ok(out + &indent(&format!("/boot/ramdisk.cpio: {described}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocols::{GuestKind, Life};

    fn sample() -> BootSpec {
        BootSpec {
            name: "web".into(),
            kind: GuestKind::Pv,
            domid: None,
            uuid: [0x11; 16],
            vcpus: 2,
            memory_kib: 65536,
            max_memory_kib: 65536,
            kernel: "images/k".into(),
            ramdisk: None,
            command_line: "a \"b\"".into(),
            on_poweroff: ExitAction::Destroy,
            on_reboot: ExitAction::Destroy,
            on_crash: ExitAction::Preserve,
            life: Life::default(),
            channels: protocols::Channels::default(),
            settings: protocols::Settings::default(),
            store: protocols::StoreRole::None,
            modules: Vec::new(),
        }
    }

    #[test]
    fn an_archive_is_shown_with_its_specs_decoded() {
        let mut writer = ramdisk::Writer::new();
        writer.file("platform.spec", &PlatformSpec::default().encode().unwrap()).unwrap();
        writer.file("vms/web.spec", &sample().encode().unwrap()).unwrap();
        writer.file("vms/bad.spec", b"DBSPEC").unwrap();
        writer.file("images/k", b"\x7fELF").unwrap();
        let text = describe(&writer.finish()).unwrap();
        for line in [
            "    ends          with the last VM",
            "  vms/web.spec (",
            "    VM web: PV, 2 vCPUs, 64 MiB",
            "      command line  \"a \\\"b\\\"\"",
            "    boot spec: 6 bytes, 16 needed",
            "    ELF",
        ] {
            assert!(text.lines().any(|shown| shown.starts_with(line)), "{line}\n{text}");
        }
    }

    #[test]
    fn what_is_nothing_known_says_so() {
        let error = describe(b"\x01hello, I am no text file").unwrap_err().to_string();
        assert!(
            error.starts_with(
                "not an archive, boot, platform or control spec or disk image, and as a kernel: "
            ),
            "{error}"
        );
    }

    #[test]
    fn a_text_is_called_one() {
        for text in ["name = \"web\"\n".as_bytes(), "# gr\u{fc}n".as_bytes(), &[b'a'; 2000]] {
            assert!(matches!(describe(text), Err(InspectError::Text)));
        }
        // What is cut off in the middle of a character, where no more is looked at.
        let long = ["a".repeat(1023), "\u{fc}".into()].concat();
        assert!(matches!(describe(long.as_bytes()), Err(InspectError::Text)));
        for other in [&b""[..], b"\x7fELF", b"\xff\xfe"] {
            assert!(!matches!(describe(other), Err(InspectError::Text)), "{other:?}");
        }
    }
}
