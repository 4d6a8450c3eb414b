//! VM files: xl.cfg syntax in, a [`VmConfig`] or everything that is wrong with the file out.

mod cpuid;
pub mod keys;
mod meaning;
pub mod overrides;
pub mod syntax;
mod uuid;

use std::fmt;
use std::path::{Path, PathBuf};

use kernel_image::Format;
use protocols::settings::Access;
use protocols::spec::{self, ExitAction, GuestKind};
use protocols::{Digest, Life, Settings, StoreRole};

use crate::files::{self, FileError};
use crate::packed::ARCHIVE_MAGIC;
use crate::source::{Diagnostic, Severity, SourceFile, Span, Spanned};

/// The largest VM file that is read. The largest that means anything has a few kilobytes.
const MAX_FILE_LEN: u64 = 1 << 20;

/// Reads the devices (`iomem`, `ioports`, `irqs`) that somebody may give to VMs, by the rules for those of a VM.
pub(crate) fn read_devices(assignments: &[syntax::Assignment], diagnostics: &mut Vec<Diagnostic>) -> Access {
    meaning::read_devices(assignments, diagnostics)
}

/// A file that a VM gets as a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleFile {
    /// The file; a relative path is already joined to the folder of the VM file.
    pub path: Spanned<PathBuf>,
    /// Its command line; empty for none.
    pub command_line: String,
}

/// A VM as its file describes it, every value checked on its own. Images are named, not yet looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmConfig {
    /// Its name.
    pub name: Spanned<String>,
    /// Its domain id, if the file fixes it.
    pub domid: Option<Spanned<u16>>,
    /// Its UUID: the file's, or one that is derived from the name.
    pub uuid: [u8; 16],
    /// Where that is written: its own line, or the name.
    pub uuid_span: Span,
    /// What kind of guest it is; PV unless the file says.
    pub kind: GuestKind,
    /// Its vCPUs.
    pub vcpus: u32,
    /// Memory it starts with, in KiB.
    pub memory_kib: Spanned<u64>,
    /// Memory it may grow to, in KiB.
    pub max_memory_kib: u64,
    /// The file of its kernel; relative paths are already joined to the folder of the VM file.
    pub kernel: Spanned<PathBuf>,
    /// The SHA-256 that this file must have.
    pub kernel_hash: Option<Spanned<Digest>>,
    /// The files of its RAM disk, likewise: none, or those that are joined, in this order.
    pub ramdisks: Vec<Spanned<PathBuf>>,
    /// The modules that a PVH guest gets behind its RAM disk.
    pub modules: Vec<ModuleFile>,
    /// The SHA-256 that this must have, joined if it is several files.
    pub ramdisk_hash: Option<Spanned<Digest>>,
    /// Its kernel's command line.
    pub command_line: String,
    /// What happens when it powers off.
    pub on_poweroff: ExitAction,
    /// What happens when it asks for a reboot.
    pub on_reboot: ExitAction,
    /// What happens when it crashes.
    pub on_crash: ExitAction,
    /// The names of the VMs that it starts after, each where it is written.
    pub after: Vec<Spanned<String>>,
    /// What else follows its end, and those names again.
    pub life: Life,
    /// The names of the VMs that it serves a channel for, each where it is written.
    pub channels: Vec<Spanned<String>>,
    /// What it may do and get.
    pub settings: Settings,
    /// What it has to do with a XenStore, which a platform file says.
    pub store: StoreRole,
}

impl VmConfig {
    /// The files that its RAM disk is made of, modules included.
    pub fn ramdisk_files(&self) -> impl Iterator<Item = &Spanned<PathBuf>> {
        self.ramdisks.iter().chain(self.modules.iter().map(|module| &module.path))
    }

    /// Whether its UUID is the one that is derived from its name.
    pub fn has_derived_uuid(&self) -> bool {
        self.uuid == uuid::from_name(&self.name.value)
    }
}

/// A VM file that was read without error.
#[derive(Clone, Debug)]
pub struct VmFile {
    /// Its text, for messages about it.
    pub source: SourceFile,
    /// What it says.
    pub config: VmConfig,
    /// What its author should know, although it stops nothing.
    pub warnings: Vec<Diagnostic>,
    /// What a platform file says otherwise; `config` has it already.
    overridden: Option<overrides::Overridden>,
}

impl VmFile {
    /// Reads and checks a file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let bytes = files::read_bounded(path, MAX_FILE_LEN).map_err(ConfigError::File)?;
        let name = path.display().to_string();
        let text = text_of(&name, &bytes, "a VM file has lines like `name = \"web\"`")?;
        let folder = path.parent().unwrap_or(Path::new(""));
        Self::parse(SourceFile::new(name, text), folder)
    }

    /// Checks a text; relative paths in it are relative to `folder`.
    pub fn parse(source: SourceFile, folder: &Path) -> Result<Self, ConfigError> {
        let (assignments, mut diagnostics) = syntax::parse(&source);
        let config = meaning::read(&assignments, folder, source.text().len(), &mut diagnostics);
        diagnostics.sort_by_key(|diagnostic| diagnostic.span);
        match config {
            Some(config) if diagnostics.iter().all(|d| d.severity == Severity::Warning) => {
                Ok(Self { source, config, warnings: diagnostics, overridden: None })
            }
            _ => Err(ConfigError::Wrong(Report { source, diagnostics })),
        }
    }

    /// The warnings, ready to show.
    pub fn warning_texts(&self) -> impl Iterator<Item = String> {
        self.warnings.iter().map(|warning| warning.render(&self.source))
    }
}

/// The bytes as text, unless there is one that no text has: then where the first such byte is. `expected` says what such a
/// file looks like.
pub(crate) fn text_of(name: &str, bytes: &[u8], expected: &'static str) -> Result<String, ConfigError> {
    let valid = str::from_utf8(bytes).map_or_else(|error| error.valid_up_to(), str::len);
    let control = |byte: &u8| byte.is_ascii_control() && !byte.is_ascii_whitespace();
    let first = bytes.iter().position(control).map_or(valid, |control| control.min(valid));
    let Some(byte) = bytes.get(first).copied() else {
        // Some editors begin a text with a byte order mark, which is no part of what it says.
        return Ok(String::from_utf8_lossy(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)).into_owned());
    };
    if let Some(what) = mistaken(bytes) {
        return Err(ConfigError::Mistaken { name: name.to_owned(), what });
    }
    let source = SourceFile::new(name, String::from_utf8_lossy(&bytes[..first]));
    let (line, column) = source.position(first);
    Err(ConfigError::NotText { name: name.to_owned(), line, column, byte, expected })
}

/// What a file is that was given where a text is expected, and where it belongs.
fn mistaken(bytes: &[u8]) -> Option<&'static str> {
    if bytes.starts_with(ARCHIVE_MAGIC) {
        return Some("a RAM disk: `domb inspect` shows it, and `domb verify` verifies it");
    }
    if bytes.starts_with(&spec::MAGIC) {
        return Some("a boot spec, made of one: `domb inspect` shows it");
    }
    match Format::detect(bytes) {
        Ok(Format::Elf | Format::BzImage { .. }) => Some(
            "a kernel, which a text names in a line like: kernel = \"vmlinuz\"; `domb new --kernel` writes one",
        ),
        _ => None,
    }
}

/// Everything that is wrong with one file.
#[derive(Clone, Debug)]
pub struct Report {
    /// The file.
    pub source: SourceFile,
    /// Errors and warnings in the order of the file; at least one error.
    pub diagnostics: Vec<Diagnostic>,
}

/// Why there is no [`VmFile`].
#[derive(Debug)]
pub enum ConfigError {
    /// The file could not be read.
    File(FileError),
    /// It is not text.
    NotText {
        /// The file.
        name: String,
        /// Line of the first byte that is not UTF-8 text, from 1.
        line: usize,
        /// Its column, from 1.
        column: usize,
        /// The byte.
        byte: u8,
        /// What such a file looks like.
        expected: &'static str,
    },
    /// It is something else that is known.
    Mistaken {
        /// The file.
        name: String,
        /// What it is, and where it belongs.
        what: &'static str,
    },
    /// It is text, but wrong.
    Wrong(Report),
}

impl ConfigError {
    /// The single messages, each with its severity.
    pub fn messages(&self) -> Vec<(Severity, String)> {
        match self {
            Self::Wrong(report) => report
                .diagnostics
                .iter()
                .map(|diagnostic| (diagnostic.severity, diagnostic.render(&report.source)))
                .collect(),
            other => vec![(Severity::Error, other.to_string())],
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => error.fmt(f),
            Self::NotText { name, line, column, byte, expected } => {
                write!(f, "{name}:{line}:{column}: byte {byte:#04x} is not UTF-8 text; {expected}")
            }
            Self::Mistaken { name, what } => {
                write!(f, "{name} is not a text that describes VMs but {what}")
            }
            Self::Wrong(_) => {
                let texts: Vec<_> = self
                    .messages()
                    .into_iter()
                    .map(|(severity, text)| format!("{severity}: {text}"))
                    .collect();
                f.write_str(&texts.join("\n"))
            }
        }
    }
}

impl std::error::Error for ConfigError {}
