//! The table `[handoff]`: one VM serves a XenStore to all others, and one is in control of it.
//!
//! Domain ids are fixed, and each VM has its XenStore's port at a number that is known, so that the two command lines are
//! complete before anything is built.

use std::collections::BTreeSet;

use protocols::ExitAction;
use protocols::life::MAX_AFTER;
use protocols::spec::check_command_line;
use protocols::store::{Introduction, Introductions, Master, STORE_PORT, StoreRole, with_words};
use toml::de::DeValue;

use super::fields::{Fields, span_of};
use crate::config::VmFile;
use crate::source::{Diagnostic, Span, Spanned, nearest};

/// The word of `start` for all VMs.
const ALL: &str = "all";

/// What the table says.
pub(super) struct Handoff {
    place: Span,
    store: Spanned<String>,
    control: Spanned<String>,
    start: Start,
}

/// Who starts at once, beside the two.
enum Start {
    /// Nobody: the others start when the one in control is ready.
    Nobody,
    /// These.
    These(Vec<Spanned<String>>),
    /// All.
    All,
}

/// The places of the two among the VMs.
struct Found {
    store: usize,
    control: usize,
    store_domid: u16,
}

/// Reads the table, if there is one.
pub(super) fn read(fields: &mut Fields<'_, '_>) -> Option<Handoff> {
    let (place, table) = fields.table("handoff")?;
    let mut fields = Fields::new(table, place, fields.diagnostics);
    let mut role = |key: &'static str, example: &str| {
        let is_there = fields.place_of(key).is_some();
        let name = fields.text(key).map(|name| Spanned::new(name.value.to_owned(), name.span));
        if !is_there {
            let help = format!("add a line like: {key} = {example:?}");
            fields.error(place, format!("[handoff] does not say which VM {key:?} is")).help.push(help);
        }
        name
    };
    let (store, control) = (role("xenstore", "store"), role("control", "control"));
    let start = start(&mut fields);
    fields.finish("[handoff]");
    Some(Handoff { place, store: store?, control: control?, start })
}

/// `start`: the word "all", or a list of VMs.
fn start(fields: &mut Fields<'_, '_>) -> Start {
    const WANTED: &str = "\"all\", or a list of VMs in quotes";
    let Some((_, value)) = fields.take("start") else { return Start::Nobody };
    match value.get_ref() {
        DeValue::String(word) if word == ALL => return Start::All,
        DeValue::Array(items) => {
            let name = |item: &toml::Spanned<DeValue<'_>>| match item.get_ref() {
                DeValue::String(name) => Some(Spanned::new(name.to_string(), span_of(item))),
                _ => None,
            };
            if let Some(names) = items.iter().map(name).collect() {
                return Start::These(names);
            }
            fields.wrong_type("start", WANTED, value);
        }
        _ => fields.wrong_type("start", WANTED, value),
    }
    Start::Nobody
}

impl Handoff {
    /// Makes the VMs what the table says, or says why they cannot be. All VMs of the platform were read without error.
    pub(super) fn apply(&self, vms: &mut [VmFile], diagnostics: &mut Vec<Diagnostic>) {
        let before = diagnostics.len();
        let found = self.find(vms, diagnostics);
        self.check_start(vms, diagnostics);
        if let Some(found) = found {
            check_restart(&vms[found.store], &self.store, diagnostics);
            if diagnostics.len() == before
                && let Err(problem) = self.wire(vms, &found)
            {
                diagnostics.push(problem);
            }
        }
    }

    /// Finds the two, and that all VMs have domain ids.
    fn find(&self, vms: &[VmFile], diagnostics: &mut Vec<Diagnostic>) -> Option<Found> {
        let mut one = |name: &Spanned<String>| {
            let index = vms.iter().position(|vm| vm.config.name.value == name.value);
            if index.is_none() {
                diagnostics.push(nobody(name, vms));
            }
            index
        };
        let (store, control) = (one(&self.store), one(&self.control));
        let (store, control) = (store?, control?);
        if store == control {
            let problem =
                Diagnostic::error(self.control.span, "one VM cannot be both \"xenstore\" and \"control\"");
            diagnostics
                .push(problem.with_help("name two VMs: the one in control is the first client of the other"));
            return None;
        }
        let without = vms.iter().filter(|vm| vm.config.domid.is_none());
        let without: Vec<_> = without.map(|vm| vm.config.name.value.as_str()).collect();
        if let Some(first) = without.first() {
            let message =
                format!("[handoff] needs the domain id of every VM; without one: {}", listed(&without));
            let help = format!("give {first:?} one: domid = NUMBER");
            diagnostics.push(Diagnostic::error(self.place, message).with_help(help));
        }
        let store_domid = vms.get(store)?.config.domid.as_ref()?.value;
        Some(Found { store, control, store_domid })
    }

    /// Checks that those start that there are.
    fn check_start(&self, vms: &[VmFile], diagnostics: &mut Vec<Diagnostic>) {
        let Start::These(names) = &self.start else { return };
        let known = |name: &&Spanned<String>| vms.iter().any(|vm| vm.config.name.value == name.value);
        diagnostics.extend(names.iter().filter(|name| !known(name)).map(|name| nobody(name, vms)));
    }

    /// Gives every VM its role, its place in the order of starting, and the two what they have to know.
    fn wire(&self, vms: &mut [VmFile], found: &Found) -> Result<(), Diagnostic> {
        let Found { store, control, store_domid } = *found;
        let at_once: BTreeSet<&str> = match &self.start {
            Start::These(names) => names.iter().map(|name| name.value.as_str()).collect(),
            Start::Nobody | Start::All => BTreeSet::new(),
        };
        let mut clients = Vec::new();
        for (index, vm) in vms.iter_mut().enumerate() {
            let config = &mut vm.config;
            let Some(domid) = config.domid.as_ref().map(|domid| domid.value) else { continue };
            let first = match index {
                _ if index == store => None,
                _ if index == control => Some(&self.store.value),
                _ if matches!(self.start, Start::All) || at_once.contains(config.name.value.as_str()) => None,
                _ => Some(&self.control.value),
            };
            if config.store == StoreRole::Own {
                let name = &config.name.value;
                let message = format!(
                    "VM {name:?} asks for a XenStore of its own, and [handoff] gives all VMs that of one of them"
                );
                return Err(Diagnostic::error(self.place, message)
                    .with_help("take `xenstore = 1` out of its VM file"));
            }
            if index == store {
                config.store = StoreRole::Server;
            } else {
                config.store = StoreRole::Client { server: store_domid };
                clients.push((index, Introduction { domid, port: STORE_PORT }));
            }
            config.life.critical |= [store, control].contains(&index);
            let after = &mut config.life.after;
            after.extend(first.filter(|first| !after.contains(first)).cloned());
            if after.len() > MAX_AFTER {
                let name = &config.name.value;
                let message = format!("VM {name:?} starts after {MAX_AFTER} others, and [handoff] adds one");
                let help = "name fewer in its `after`, or name it in \"start\"";
                return Err(Diagnostic::error(self.place, message).with_help(help));
            }
        }
        let own = clients.iter().find(|(index, _)| *index == control).map(|(_, client)| Master(*client));
        let others = clients.iter().filter(|(index, _)| *index != control).map(|(_, client)| *client);
        let others = Introductions(others.collect());
        let what = format!("the {} other clients of the XenStore (intros=)", others.0.len());
        add_words(&mut vms[control], &self.control, &what, &others)?;
        own.map_or(Ok(()), |own| add_words(&mut vms[store], &self.store, "its first client", &own))
    }
}

/// Adds words to a VM's command line. `what` says what they tell it.
fn add_words(
    vm: &mut VmFile,
    place: &Spanned<String>,
    what: &str,
    words: &impl std::fmt::Display,
) -> Result<(), Diagnostic> {
    let line = with_words(&vm.config.command_line, words);
    check_command_line(&line).map_err(|cause| {
        let message = format!("VM {:?} has no room for {what} on its command line: {cause}", place.value);
        let help = "make its own command line shorter, or the platform smaller";
        Diagnostic::error(place.span, message).with_help(help)
    })?;
    vm.config.command_line = line;
    Ok(())
}

/// A XenStore does not come back: what it held would be gone, and those that it served could not know.
fn check_restart(vm: &VmFile, place: &Spanned<String>, diagnostics: &mut Vec<Diagnostic>) {
    let config = &vm.config;
    let actions = [
        ("on_poweroff", config.on_poweroff),
        ("on_reboot", config.on_reboot),
        ("on_crash", config.on_crash),
        ("on_watchdog", config.life.on_watchdog),
    ];
    let restarts = actions.iter().filter(|(_, action)| *action == ExitAction::Restart);
    diagnostics.extend(restarts.map(|(key, _)| {
        let message = format!("VM {:?} serves the XenStore, and has {key} = \"restart\"", place.value);
        let help = format!(
            "what it holds would be gone, and its clients would not know: {key} = \"destroy\" in its [[vm]] ends the platform"
        );
        Diagnostic::error(place.span, message).with_help(help)
    }));
}

/// The message for a name that no VM has.
fn nobody(name: &Spanned<String>, vms: &[VmFile]) -> Diagnostic {
    let problem = Diagnostic::error(name.span, format!("there is no VM called {:?}", name.value));
    match nearest(&name.value, vms.iter().map(|vm| vm.config.name.value.as_str())) {
        Some(near) => problem.with_help(format!("did you mean {near:?}?")),
        None => problem,
    }
}

/// Names for a message: the first ones.
fn listed(names: &[&str]) -> String {
    const SHOWN: usize = 3;
    let shown: Vec<_> = names.iter().take(SHOWN).map(|name| format!("{name:?}")).collect();
    let more = names.len().saturating_sub(SHOWN);
    if more == 0 { shown.join(", ") } else { format!("{} and {more} more", shown.join(", ")) }
}
