//! What holds for all VMs: the keys at the top of the file, and the table `[limits]`.

use protocols::PlatformSpec;
use protocols::control::MAX_SHUTDOWN_MS;
use protocols::platform::{
    Ends, LateAction, Limited, Limits, LogLevel, MAX_READY_TIMEOUT_MS, MAX_VMS, Policy, Readiness, check_ends,
};
use protocols::spec::MAX_MEMORY_KIB;
use toml::de::{DeArray, DeValue};

use super::Places;
use super::fields::{Fields, span_of};
use crate::source::{Diagnostic, Span, Spanned, nearest};

const POLICIES: [(&str, Policy); 2] = [("all", Policy::All), ("each", Policy::Each)];

const LEVELS: [(&str, LogLevel); 4] = [
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
];

const LATE_ACTIONS: [(&str, LateAction); 3] =
    [("give-up", LateAction::GiveUp), ("start", LateAction::Start), ("end", LateAction::End)];

const ENDS: [(&str, Ends); 3] = [("last", Ends::Last), ("critical", Ends::Critical), ("never", Ends::Never)];

/// Reads all of it. Where a value is wrong, the usual takes its place, so that the rest is still checked.
pub(super) fn read(fields: &mut Fields<'_, '_>, places: &mut Places) -> PlatformSpec {
    PlatformSpec {
        policy: fields.word("policy", &POLICIES).unwrap_or_default(),
        ends: ends(fields, places),
        limits: limits(fields, places),
        readiness: readiness(fields),
        log_level: fields.word("loglevel", &LEVELS),
        server: None,
        shutdown_ms: shutdown(fields, places),
    }
}

/// `ends`: one of three words, or a list of VMs.
fn ends(fields: &mut Fields<'_, '_>, places: &mut Places) -> Ends {
    const WANTED: &str = "\"last\", \"critical\", \"never\", or a list of VMs";
    let Some((_, value)) = fields.take("ends") else { return Ends::Last };
    places.ends_value = Some(span_of(value));
    match value.get_ref() {
        DeValue::String(word) => {
            if let Some((_, ends)) = ENDS.iter().find(|(known, _)| known == word) {
                return ends.clone();
            }
            let help = match nearest(word, ENDS.iter().map(|(known, _)| *known)) {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!("to end with the VM {word:?} write ends = [{word:?}]"),
            };
            let message = format!("\"ends\" must be {WANTED}, this is {word:?}");
            fields.error(span_of(value), message).help.push(help);
        }
        DeValue::Array(items) => return ends_with(fields, places, span_of(value), items),
        _ => fields.wrong_type("ends", WANTED, value),
    }
    Ends::Last
}

/// The VMs whose end ends the platform.
fn ends_with<'t>(
    fields: &mut Fields<'t, '_>,
    places: &mut Places,
    span: Span,
    items: &'t DeArray<'t>,
) -> Ends {
    let mut names: Vec<String> = Vec::new();
    for item in items {
        let DeValue::String(name) = item.get_ref() else {
            fields.wrong_type("ends", "a list of names in quotes", item);
            return Ends::Last;
        };
        names.push(name.to_string());
        if let Err(error) = check_ends(&names) {
            fields.error(span_of(item), error.to_string());
            return Ends::Last;
        }
        places.ends.push(Spanned::new(name.to_string(), span_of(item)));
    }
    if names.is_empty() {
        let help = "write ends = \"last\" to end with the last VM, or ends = \"never\"";
        fields.error(span, "\"ends\" names no VM").help.push(help.into());
        return Ends::Last;
    }
    Ends::With(names)
}

/// `[limits]`
fn limits(fields: &mut Fields<'_, '_>, places: &mut Places) -> Limits {
    let Some((place, table)) = fields.table("limits") else { return Limits::default() };
    let mut fields = Fields::new(table, place, fields.diagnostics);
    let memory = fields.number("memory", 1..=MAX_MEMORY_KIB / 1024, " MiB");
    let vcpus = fields.number("vcpus", 1..=u64::from(u32::MAX), "");
    let most_vms = u64::try_from(MAX_VMS).unwrap_or(u64::MAX);
    let vms = fields.number("vms", 1..=most_vms, ", what db-boot has room for");
    fields.finish("[limits]");
    for (what, limit) in [(Limited::Memory, &memory), (Limited::Vcpus, &vcpus), (Limited::Vms, &vms)] {
        places.limits.extend(limit.as_ref().map(|limit| (what, limit.span)));
    }
    let small = |limit: Option<Spanned<u64>>| limit.and_then(|limit| u32::try_from(limit.value).ok());
    Limits { memory_kib: memory.map(|memory| memory.value * 1024), vcpus: small(vcpus), vms: small(vms) }
}

/// `shutdown`: how long a VM gets to power itself off.
fn shutdown(fields: &mut Fields<'_, '_>, places: &mut Places) -> Option<u32> {
    let time = fields.number("shutdown", 0..=u64::from(MAX_SHUTDOWN_MS), " milliseconds")?;
    places.shutdown = Some(time.span);
    u32::try_from(time.value).ok()
}

/// `ready_timeout` and `on_late`.
fn readiness(fields: &mut Fields<'_, '_>) -> Option<Readiness> {
    let timeout = fields.number("ready_timeout", 1..=u64::from(MAX_READY_TIMEOUT_MS), " milliseconds");
    let late_place = fields.place_of("on_late");
    let late = fields.word("on_late", &LATE_ACTIONS);
    let Some(timeout) = timeout else {
        if let Some(span) = late_place {
            let warning =
                Diagnostic::warning(span, "this has no effect: VMs may take for ever to become ready");
            fields.diagnostics.push(warning.with_help("set ready_timeout, in milliseconds"));
        }
        return None;
    };
    Some(Readiness {
        timeout_ms: u32::try_from(timeout.value).unwrap_or(MAX_READY_TIMEOUT_MS),
        late: late.unwrap_or_default(),
    })
}
