//! Platform files: TOML in, a set of VMs with what holds for all of them out, or everything that is wrong.
//!
//! ```toml
//! ends = ["shop"]
//!
//! [limits]
//! memory = 512
//!
//! [[vm]]
//! file = "database.cfg"
//! ready = "accepting connections"
//!
//! [[vm]]
//! file = "shop.cfg"
//! after = ["database"]
//! ```
//!
//! What a VM is stays in its VM file; the platform file says what it is in this platform. A module reads one table each: who adds
//! a table adds a module, and a line in [`read`].

mod control;
mod fields;
mod handoff;
mod members;
pub(crate) mod server;
mod settings;
mod trust;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use protocols::control::ControlSpec;
use protocols::platform::{Disagreement, Limited, PlatformSpecError};
use protocols::{BootSpec, PlatformSpec, StoreRole};
use toml::de::DeTable;

use self::fields::Fields;
pub use self::server::NamedImage;
pub use self::trust::TrustTable;
use crate::config::{ConfigError, VmFile};
use crate::files;
use crate::source::{Diagnostic, Severity, SourceFile, Span, Spanned};

/// The largest platform file that is read: a thousand VMs with all their settings take half of it.
const MAX_FILE_LEN: u64 = 1 << 20;

/// The extension by which a platform file is told from a VM file.
const EXTENSION: &str = "toml";

/// A platform file that was read without error, with the VM files that it names.
#[derive(Clone, Debug)]
pub struct PlatformFile {
    /// Its text, for messages about it.
    pub source: Arc<SourceFile>,
    /// What holds for all VMs.
    pub spec: PlatformSpec,
    /// What it is signed with, and what is measured.
    pub trust: TrustTable,
    /// What the control domain is told, if the file says that.
    pub control: Option<ControlSpec>,
    /// The VMs in their order, as their files and this one describe them.
    pub vms: Vec<VmFile>,
    /// The images that controllers build VMs of.
    pub images: Vec<NamedImage>,
    places: Places,
    /// What its author should know, although it stops nothing.
    warnings: Vec<Diagnostic>,
}

/// Where settings stand that VMs may not agree with.
#[derive(Clone, Debug, Default)]
struct Places {
    limits: Vec<(Limited, Span)>,
    ends: Vec<Spanned<String>>,
    /// The value of `ends`, or the start of the file.
    ends_value: Option<Span>,
    /// The names of the controllers, where they are written.
    controllers: Vec<Spanned<String>>,
    /// The table `[control]`.
    control: Option<Span>,
    /// The names of the control domain's clients, where they are written.
    clients: Vec<Spanned<String>>,
    /// The key `shutdown`.
    shutdown: Option<Span>,
}

/// Everything that is wrong with a platform file and the VM files that it names.
#[derive(Debug)]
pub struct PlatformFileError {
    /// The messages, each with its place; at least one is an error.
    pub messages: Vec<(Severity, String)>,
}

/// Whether a path is that of a platform file, by its name.
pub fn is_platform_file(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(EXTENSION))
}

impl PlatformFile {
    /// Reads and checks a platform file and the VM files that it names.
    pub fn read(path: &Path) -> Result<Self, PlatformFileError> {
        let bytes = files::read_bounded(path, MAX_FILE_LEN).map_err(ConfigError::File)?;
        let name = path.display().to_string();
        let text =
            crate::config::text_of(&name, &bytes, "a platform file has lines like `policy = \"all\"`")?;
        read(SourceFile::new(name, text), path.parent().unwrap_or(Path::new("")))
    }

    /// Checks a text; relative paths in it are relative to `folder`.
    pub fn parse(source: SourceFile, folder: &Path) -> Result<Self, PlatformFileError> {
        read(source, folder)
    }

    /// The warnings about it, then those about the VM files that it names, each once; ready to show.
    pub fn warning_texts(&self) -> impl Iterator<Item = String> {
        let own = self.warnings.iter().map(|warning| warning.render(&self.source));
        let mut seen = BTreeSet::new();
        let all = own.chain(self.vms.iter().flat_map(VmFile::warning_texts));
        all.filter(move |text| seen.insert(text.clone()))
    }

    /// What its VMs and the platform do not agree on, each with its place.
    pub(crate) fn disagreements(&self, vms: &[&BootSpec]) -> Vec<String> {
        let render = |disagreement: &Disagreement| {
            let span = self.place(disagreement);
            let mut diagnostic = Diagnostic::error(span, disagreement.to_string());
            diagnostic.help.extend(help(disagreement, vms));
            diagnostic.render(&self.source)
        };
        let mut found: Vec<_> = self.spec.disagreements(vms).iter().map(render).collect();
        let names: Vec<_> = vms.iter().map(|vm| vm.name.as_str()).collect();
        found.extend(trust::unknown_vms(&self.trust, &names, &self.source));
        found.extend(trust::with_modules(&self.trust, vms, &self.source));
        for disagreement in self.control.iter().flat_map(|control| control.disagreements(vms.iter().copied()))
        {
            let span = control::place(&self.places, &disagreement).unwrap_or(Span::new(0..0));
            let mut diagnostic = Diagnostic::error(span, disagreement.to_string());
            diagnostic.help.extend(control::help(&disagreement, names.iter().copied()));
            found.push(diagnostic.render(&self.source));
        }
        found
    }

    /// Where a setting is written that VMs do not agree with.
    fn place(&self, disagreement: &Disagreement) -> Span {
        let places = &self.places;
        let found = match disagreement {
            Disagreement::OverLimit { what, .. } => {
                places.limits.iter().find(|(limited, _)| limited == what).map(|(_, span)| *span)
            }
            Disagreement::EndsWithNobody { name } => {
                places.ends.iter().find(|place| place.value == *name).map(|place| place.span)
            }
            Disagreement::NothingCritical => places.ends_value,
            Disagreement::ControllerIsNobody { name }
            | Disagreement::ControllerWithoutDomid { name }
            | Disagreement::NoRoomForChannel { name, .. }
            | Disagreement::DomidIsControllers { controller: name, .. } => {
                places.controllers.iter().find(|place| place.value == *name).map(|place| place.span)
            }
            // `[handoff]` was checked where it is written: these are defects of that check.
            Disagreement::TwoStores { .. }
            | Disagreement::StoreIsNobody { .. }
            | Disagreement::NamedLikeServer => None,
        };
        found.unwrap_or(Span::new(0..0))
    }
}

/// What to do about a disagreement.
fn help(disagreement: &Disagreement, vms: &[&BootSpec]) -> Option<String> {
    match disagreement {
        Disagreement::OverLimit { .. }
        | Disagreement::TwoStores { .. }
        | Disagreement::StoreIsNobody { .. } => None,
        Disagreement::EndsWithNobody { name } | Disagreement::ControllerIsNobody { name } => {
            let near = crate::source::nearest(name, vms.iter().map(|vm| vm.name.as_str()))?;
            Some(format!("did you mean {near:?}?"))
        }
        Disagreement::NothingCritical => {
            Some("give a VM `critical = true`, or name the VMs: ends = [\"NAME\"]".into())
        }
        Disagreement::ControllerWithoutDomid { .. } => {
            Some("give it one, outside of the controllers' domids: domid = 1".into())
        }
        Disagreement::NoRoomForChannel { .. } => Some("make its command line shorter".into()),
        Disagreement::DomidIsControllers { .. } => {
            Some("give the VM another domid, or the controller other domids".into())
        }
        Disagreement::NamedLikeServer => Some("give that VM another name".into()),
    }
}

impl From<ConfigError> for PlatformFileError {
    fn from(error: ConfigError) -> Self {
        Self { messages: error.messages() }
    }
}

/// Reads the tables of a platform file, then the VM files.
fn read(source: SourceFile, folder: &Path) -> Result<PlatformFile, PlatformFileError> {
    let source = Arc::new(source);
    let mut diagnostics = Vec::new();
    let (table, errors) = DeTable::parse_recoverable(source.text());
    diagnostics.extend(errors.iter().map(syntax_error));
    let end = source.text().len();
    let mut fields = Fields::new(table.get_ref(), Span::new(end..end), &mut diagnostics);
    let mut places = Places::default();
    let mut spec = settings::read(&mut fields, &mut places);
    let server = server::read(&mut fields, &mut places, folder);
    spec.server = server.spec;
    let trust = trust::read(&mut fields, folder);
    let handoff = handoff::read(&mut fields);
    let control = control::read(&mut fields, &mut places);
    let members = members::read(&mut fields, errors.is_empty());
    fields.finish("a platform file");
    if let Err(error) = spec.validate() {
        // Each value was checked where it is written; what is left would be a defect of those checks.
        diagnostics.push(unplaced(&error));
    }
    let mut messages: Vec<(Severity, String)> = Vec::new();
    let mut vms = Vec::new();
    for member in &members {
        match member.load(&source, folder, &mut diagnostics) {
            Ok(files) => vms.extend(files),
            Err(error) => messages.extend(error.messages()),
        }
    }
    let is_error = |diagnostic: &Diagnostic| diagnostic.severity == Severity::Error;
    if let Some(handoff) = handoff
        && messages.is_empty()
        && !diagnostics.iter().any(is_error)
    {
        handoff.apply(&mut vms, &mut diagnostics);
    }
    if let Some(span) = places.shutdown.filter(|_| !vms.iter().any(|vm| vm.config.store == StoreRole::Own)) {
        let warning = Diagnostic::warning(span, "this has no effect: no VM can be asked to power off");
        diagnostics.push(warning.with_help("write xenstore = 1 in the files of VMs that can"));
    }
    diagnostics.sort_by_key(|diagnostic| diagnostic.span);
    let own = diagnostics.iter().map(|diagnostic| (diagnostic.severity, diagnostic.render(&source)));
    let messages: Vec<_> = own.chain(messages).collect();
    if messages.iter().any(|(severity, _)| *severity == Severity::Error) {
        return Err(PlatformFileError { messages });
    }
    let images = server.images;
    Ok(PlatformFile { source, spec, trust, control, vms, images, places, warnings: diagnostics })
}

fn syntax_error(error: &toml::de::Error) -> Diagnostic {
    let span = error.span().map_or(Span::new(0..0), Span::new);
    Diagnostic::error(span, format!("not TOML: {}", error.message().replace('\n', ", ")))
}

fn unplaced(error: &PlatformSpecError) -> Diagnostic {
    Diagnostic::error(Span::new(0..0), error.to_string())
}
