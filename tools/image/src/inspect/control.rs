//! A control spec, for people and for programs.

use std::fmt::Write as _;

use protocols::control::{ClientRights, ControlSpec};
use serde::Serialize;

/// What a control spec says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ControlFacts {
    /// What the platform is called.
    pub platform: String,
    /// How long a VM gets to power itself off, in milliseconds.
    pub shutdown_ms: u32,
    /// Who may ask the control domain.
    pub clients: Vec<ClientFacts>,
}

/// A client of the control domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClientFacts {
    /// Its name.
    pub vm: String,
    /// What it may do: `list`, `create`, `shutdown`, `terminate`, `measure`, `journal`.
    pub may: Vec<String>,
}

impl From<&ControlSpec> for ControlFacts {
    fn from(spec: &ControlSpec) -> Self {
        let clients = spec.clients.iter();
        let clients = clients.map(|client| ClientFacts { vm: client.vm.clone(), may: words(client.may) });
        Self { platform: spec.platform.clone(), shutdown_ms: spec.shutdown_ms, clients: clients.collect() }
    }
}

fn words(may: ClientRights) -> Vec<String> {
    let ClientRights { list, create, shutdown, terminate, measure, journal } = may;
    let all = [
        ("list", list),
        ("create", create),
        ("shutdown", shutdown),
        ("terminate", terminate),
        ("measure", measure),
        ("journal", journal),
    ];
    all.into_iter().filter(|(_, may)| *may).map(|(word, _)| word.to_owned()).collect()
}

/// Describes a control spec in a line each for what it says.
pub(crate) fn describe(spec: &ControlSpec) -> String {
    let facts = ControlFacts::from(spec);
    let mut out = String::new();
    let mut field = |name: &str, value: String| _ = writeln!(out, "{name:<13} {value}");
    field("platform", facts.platform);
    field("shutdown", format!("{} ms for a VM to power itself off", facts.shutdown_ms));
    for ClientFacts { vm, may } in facts.clients {
        let may = if may.is_empty() { "nothing".to_owned() } else { may.join(", ") };
        field("client", format!("{vm}: may {may}"));
    }
    out
}
