//! What the control domain is told: the table `[control]` and the tables `[[client]]`.

use protocols::control::{
    ClientRights, ControlClient, ControlDisagreement, ControlSpec, DEFAULT_SHUTDOWN_MS, MAX_SHUTDOWN_MS,
};
use protocols::spec::check_name;
use toml::de::{DeTable, DeValue};

use super::Places;
use super::fields::{Fields, span_of};
use crate::source::{Span, Spanned, nearest};

/// What a client may do, by the words for it.
const RIGHTS: [&str; 6] = ["list", "create", "shutdown", "terminate", "measure", "journal"];

/// Reads all of them; none, if there is none.
pub(super) fn read(fields: &mut Fields<'_, '_>, places: &mut Places) -> Option<ControlSpec> {
    let control = fields.table("control");
    let clients = clients(fields, places);
    if control.is_none() && clients.is_empty() {
        return None;
    }
    let mut spec = ControlSpec { clients, ..ControlSpec::default() };
    if let Some((place, table)) = control {
        places.control = Some(place);
        let mut fields = Fields::new(table, place, fields.diagnostics);
        if let Some(name) = fields.text("platform") {
            match check_name(name.value) {
                Ok(()) => name.value.clone_into(&mut spec.platform),
                Err(error) => _ = fields.error(name.span, error.to_string()),
            }
        }
        let shutdown = fields.number("shutdown", 0..=u64::from(MAX_SHUTDOWN_MS), " milliseconds");
        let shutdown = shutdown.and_then(|shutdown| u32::try_from(shutdown.value).ok());
        spec.shutdown_ms = shutdown.unwrap_or(DEFAULT_SHUTDOWN_MS);
        fields.finish("[control]");
    }
    Some(spec)
}

/// The tables `[[client]]`.
fn clients(fields: &mut Fields<'_, '_>, places: &mut Places) -> Vec<ControlClient> {
    const WANTED: &str = "a list of tables: a line [[client]] for each, and its settings below";
    let Some((_, value)) = fields.take("client") else { return Vec::new() };
    let DeValue::Array(items) = value.get_ref() else {
        fields.wrong_type("client", WANTED, value);
        return Vec::new();
    };
    let mut spec = ControlSpec::default();
    for item in items {
        let DeValue::Table(table) = item.get_ref() else {
            fields.wrong_type("client", WANTED, item);
            continue;
        };
        let Some((client, span)) = client(fields, span_of(item), table) else { continue };
        places.clients.push(Spanned::new(client.vm.clone(), span));
        spec.clients.push(client);
        if let Err(error) = spec.validate() {
            fields.error(span, error.to_string());
            spec.clients.pop();
        }
    }
    spec.clients
}

/// One of them, with the place of its name.
fn client(fields: &mut Fields<'_, '_>, place: Span, table: &DeTable<'_>) -> Option<(ControlClient, Span)> {
    let mut fields = Fields::new(table, place, fields.diagnostics);
    let is_named = fields.place_of("vm").is_some();
    let vm = fields.text("vm").map(|vm| Spanned::new(vm.value.to_owned(), vm.span));
    if !is_named {
        fields.error(place, "this client is no VM").help.push("add a line like: vm = \"web\"".into());
    }
    let may = rights(&mut fields, place);
    fields.finish("[[client]]");
    let vm = vm?;
    Some((ControlClient { vm: vm.value, may }, vm.span))
}

/// `may`: what it may do. A client that may do nothing has no use.
fn rights(fields: &mut Fields<'_, '_>, place: Span) -> ClientRights {
    const WANTED: &str = "a list of words, like: may = [\"list\", \"shutdown\"]";
    let mut may = ClientRights::default();
    let Some((_, value)) = fields.take("may") else {
        fields.error(place, "this client may do nothing").help.push(format!("add {WANTED}"));
        return may;
    };
    let DeValue::Array(words) = value.get_ref() else {
        fields.wrong_type("may", WANTED, value);
        return may;
    };
    for item in words {
        let DeValue::String(word) = item.get_ref() else {
            fields.wrong_type("may", WANTED, item);
            continue;
        };
        let right = match word.as_ref() {
            "list" => &mut may.list,
            "create" => &mut may.create,
            "shutdown" => &mut may.shutdown,
            "terminate" => &mut may.terminate,
            "measure" => &mut may.measure,
            "journal" => &mut may.journal,
            other => {
                let help = match nearest(other, RIGHTS) {
                    Some(near) => format!("did you mean {near:?}?"),
                    None => format!("there are: {}", RIGHTS.join(", ")),
                };
                fields.error(span_of(item), format!("no client may {other:?}")).help.push(help);
                continue;
            }
        };
        *right = true;
    }
    if words.is_empty() {
        fields.error(span_of(value), "this client may do nothing").help.push(format!("write {WANTED}"));
    }
    may
}

/// Where a setting is written that VMs do not agree with.
pub(super) fn place(places: &Places, disagreement: &ControlDisagreement) -> Option<Span> {
    match disagreement {
        ControlDisagreement::Ready { .. } => places.control,
        _ => places.clients.iter().find(|client| client.value == disagreement.vm()).map(|client| client.span),
    }
}

/// What to do about a disagreement.
pub(super) fn help<'n>(
    disagreement: &ControlDisagreement,
    names: impl IntoIterator<Item = &'n str>,
) -> Option<String> {
    match disagreement {
        ControlDisagreement::Nobody { vm } => Some(format!("did you mean {:?}?", nearest(vm, names)?)),
        ControlDisagreement::NoDomid { .. } => Some("give it one: domid = 100".into()),
        ControlDisagreement::NoRoom { .. } => Some("make its command line shorter".into()),
        ControlDisagreement::Ready { .. } => None,
    }
}
