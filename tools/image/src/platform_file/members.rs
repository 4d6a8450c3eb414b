//! The VMs of a platform: the tables `[[vm]]`.

use std::path::Path;
use std::sync::Arc;

use protocols::platform::MAX_VMS;
use toml::de::{DeTable, DeValue};

use super::fields::{Fields, number_of, span_of};
use crate::config::keys::{self, Key};
use crate::config::overrides::Overrides;
use crate::config::syntax::{Assignment, Value};
use crate::config::{ConfigError, VmFile};
use crate::source::{Diagnostic, SourceFile, Span, Spanned};

/// What a VM is in a platform, rather than what it is: the keys of a VM file that a `[[vm]]` may give anew.
const KEYS: [Key; 11] = [
    Key::Name,
    Key::Domid,
    Key::After,
    Key::Ready,
    Key::Critical,
    Key::OnPoweroff,
    Key::OnReboot,
    Key::OnCrash,
    Key::OnWatchdog,
    Key::RestartLimit,
    Key::RestartDelay,
];

/// One `[[vm]]`.
pub(super) struct Member {
    file: Spanned<String>,
    count: Option<Spanned<u64>>,
    overrides: Overrides,
}

/// Reads all of them. `whole` says that the file could be read whole, so that what is not there is missing.
pub(super) fn read(fields: &mut Fields<'_, '_>, whole: bool) -> Vec<Member> {
    const WANTED: &str = "a list of tables: a line [[vm]] for each VM, and its settings below";
    let place = fields.place;
    let Some((_, value)) = fields.take("vm") else {
        if whole {
            let help = "add a line [[vm]], and below it a line like: file = \"web.cfg\"";
            fields.error(place, "there is no VM").help.push(help.into());
        }
        return Vec::new();
    };
    let DeValue::Array(tables) = value.get_ref() else {
        fields.wrong_type("vm", WANTED, value);
        return Vec::new();
    };
    let mut members = Vec::new();
    for item in tables {
        match item.get_ref() {
            DeValue::Table(table) => members.extend(member(table, span_of(item), fields.diagnostics)),
            _ => fields.wrong_type("vm", WANTED, item),
        }
    }
    members
}

/// Reads one of them.
fn member<'t>(table: &'t DeTable<'t>, place: Span, diagnostics: &mut Vec<Diagnostic>) -> Option<Member> {
    let mut fields = Fields::new(table, place, diagnostics);
    let has_file = fields.place_of("file").is_some();
    let file = fields.text("file").map(|file| Spanned::new(file.value.to_owned(), file.span));
    if !has_file {
        fields.error(place, "this VM has no file").help.push("add a line like: file = \"web.cfg\"".into());
    }
    if let Some(empty) = file.as_ref().filter(|file| file.value.is_empty()) {
        fields.error(empty.span, "\"file\" is empty").help.push("name a VM file: file = \"web.cfg\"".into());
    }
    let file = file.filter(|file| !file.value.is_empty());
    let count = fields.number("count", 1..=u64::try_from(MAX_VMS).unwrap_or(u64::MAX), "");
    let mut assignments = Vec::new();
    for (key, span, value) in fields.take_known(KEYS.map(Key::name)) {
        if key == Key::Critical.name() && !matches!(value.get_ref(), DeValue::Boolean(_)) {
            fields.wrong_type(key, "true or false", value);
            continue;
        }
        match value_of(value) {
            Some(value) => assignments.push(Assignment { key: Spanned::new(key.to_owned(), span), value }),
            None => fields.wrong_type(key, "a text, a number or a list of them", value),
        }
    }
    let elsewhere: Vec<_> = keys::SUPPORTED.iter().map(|(name, _)| *name).collect();
    for (key, span) in fields.take_known_silently(&elsewhere) {
        let help = "it says what the VM is, in whatever platform: write it there";
        fields.error(span, format!("{key:?} belongs in the VM file")).help.push(help.into());
    }
    fields.finish("[[vm]]");
    let overrides = Overrides::read(&assignments, diagnostics);
    Some(Member { file: file?, count, overrides })
}

/// A TOML value as one of a VM file.
pub(super) fn value_of(value: &toml::Spanned<DeValue<'_>>) -> Option<Spanned<Value>> {
    let converted = match value.get_ref() {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(number) => Value::Number(number_of(number)?),
        DeValue::Boolean(truth) => Value::Number(u64::from(*truth)),
        DeValue::Array(items) => Value::List(items.iter().map(value_of).collect::<Option<_>>()?),
        DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Table(_) => return None,
    };
    Some(Spanned::new(converted, span_of(value)))
}

impl Member {
    /// The VMs that this is: their file, with what this platform says otherwise.
    pub(super) fn load(
        &self,
        source: &Arc<SourceFile>,
        folder: &Path,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Result<Vec<VmFile>, ConfigError> {
        let path = folder.join(&self.file.value);
        let file = match VmFile::read(&path) {
            Ok(file) => file,
            Err(ConfigError::File(error)) => {
                diagnostics.push(Diagnostic::error(self.file.span, error.to_string()));
                return Ok(Vec::new());
            }
            Err(error) => return Err(error),
        };
        let file = file.overridden(&self.overrides, source);
        let Some(count) = &self.count else { return Ok(vec![file]) };
        let unique = [(file.config.domid.is_some(), "domain id"), (!file.config.has_derived_uuid(), "UUID")];
        if count.value > 1
            && let Some((_, what)) = unique.into_iter().find(|(is_fixed, _)| *is_fixed)
        {
            let message = format!("{} VMs cannot have the same {what}", count.value);
            let help = format!("leave the {what} out, or write a [[vm]] for each");
            diagnostics.push(Diagnostic::error(count.span, message).with_help(help));
            return Ok(Vec::new());
        }
        let numbered = (1..=count.value).map(|number| file.numbered(number));
        let numbered: Vec<_> = numbered.collect();
        let too_long = numbered.iter().find_map(|file| {
            protocols::spec::check_name(&file.config.name.value).err().map(|error| error.to_string())
        });
        if let Some(error) = too_long {
            diagnostics.push(Diagnostic::error(count.span, error));
            return Ok(Vec::new());
        }
        Ok(numbered)
    }
}
