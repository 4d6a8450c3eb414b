//! What the platform is signed with, and what is measured: the table `[trust]`.

use std::path::{Path, PathBuf};

use protocols::BootSpec;
use protocols::manifest::check_platform_name;
use toml::de::DeValue;

use super::fields::{Fields, span_of};
use crate::source::{Diagnostic, SourceFile, Spanned, nearest};

/// What `[trust]` says. Key files are read when something is packed: who only checks a platform need not have them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustTable {
    /// The private key that signs the RAM disk.
    pub key: Option<PathBuf>,
    /// The public key that db-boot is to require; that of `key` without.
    pub require: Option<PathBuf>,
    /// Whether db-boot must have that key built in.
    pub built_in: bool,
    /// What the manifest calls the platform; empty: nothing.
    pub name: String,
    /// The version of the platform.
    pub version: u64,
    /// Whether files are measured although no key is required.
    pub measure: bool,
    /// The VMs that are given the event log.
    pub event_log: Vec<Spanned<String>>,
}

/// Reads it; relative paths in it are relative to `folder`.
pub(super) fn read(fields: &mut Fields<'_, '_>, folder: &Path) -> TrustTable {
    let Some((place, table)) = fields.table("trust") else { return TrustTable::default() };
    let mut fields = Fields::new(table, place, fields.diagnostics);
    let trust = TrustTable {
        key: path(&mut fields, "key", folder),
        require: path(&mut fields, "require", folder),
        built_in: truth(&mut fields, "built_in"),
        name: name(&mut fields),
        version: fields.number("version", 0..=u64::MAX, "").map_or(0, |version| version.value),
        measure: truth(&mut fields, "measure"),
        event_log: event_log(&mut fields),
    };
    if trust.built_in && trust.key.is_none() && trust.require.is_none() {
        let help = "name it: key = \"FILE.key\" to sign with it, or require = \"FILE.pub\"";
        fields.error(place, "\"built_in\" is true, and there is no key").help.push(help.into());
    }
    fields.finish("[trust]");
    trust
}

fn path(fields: &mut Fields<'_, '_>, key: &'static str, folder: &Path) -> Option<PathBuf> {
    let text = fields.text(key)?;
    if text.value.is_empty() {
        fields.error(text.span, format!("{key:?} names no file"));
        return None;
    }
    Some(folder.join(text.value))
}

fn truth(fields: &mut Fields<'_, '_>, key: &'static str) -> bool {
    match fields.take(key) {
        None => false,
        Some((_, value)) => {
            if let DeValue::Boolean(truth) = value.get_ref() {
                return *truth;
            }
            fields.wrong_type(key, "true or false", value);
            false
        }
    }
}

fn name(fields: &mut Fields<'_, '_>) -> String {
    let Some(name) = fields.text("name") else { return String::new() };
    if let Err(error) = check_platform_name(name.value) {
        fields.error(name.span, error.to_string());
    }
    name.value.to_owned()
}

fn event_log(fields: &mut Fields<'_, '_>) -> Vec<Spanned<String>> {
    let Some((_, value)) = fields.take("event_log") else { return Vec::new() };
    let DeValue::Array(items) = value.get_ref() else {
        fields.wrong_type("event_log", "a list of VMs", value);
        return Vec::new();
    };
    let mut names = Vec::new();
    for item in items {
        match item.get_ref() {
            DeValue::String(name) => names.push(Spanned::new(name.to_string(), span_of(item))),
            _ => fields.wrong_type("event_log", "a list of names in quotes", item),
        }
    }
    names
}

/// The VMs of `event_log` that are none of `known`, each with its place.
pub(super) fn unknown_vms(trust: &TrustTable, known: &[&str], source: &SourceFile) -> Vec<String> {
    let unknown = trust.event_log.iter().filter(|name| !known.contains(&name.value.as_str()));
    let message = |name: &Spanned<String>| {
        let mut error = Diagnostic::error(name.span, format!("there is no VM {:?}", name.value));
        error.help.extend(
            nearest(&name.value, known.iter().copied()).map(|near| format!("did you mean {near:?}?")),
        );
        error.render(source)
    };
    unknown.map(message).collect()
}

/// The VMs of `event_log` that cannot be given it, each with its place: the log stands behind a RAM disk, which a guest with modules finds as
/// several.
pub(super) fn with_modules(trust: &TrustTable, vms: &[&BootSpec], source: &SourceFile) -> Vec<String> {
    let has_modules = |name: &str| vms.iter().any(|vm| vm.name == name && !vm.modules.is_empty());
    let message = |name: &Spanned<String>| {
        let text =
            format!("VM {:?} has `modules`, and the event log is given behind a single RAM disk", name.value);
        Diagnostic::error(name.span, text)
            .with_help("remove `modules` from its VM file, or the VM from event_log")
            .render(source)
    };
    trust.event_log.iter().filter(|name| has_modules(&name.value)).map(message).collect()
}
