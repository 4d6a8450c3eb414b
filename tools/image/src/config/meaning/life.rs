//! What ties a VM to others, and what follows its end: the keys `after`, `ready`, `on_*`, `restart_*` and `critical`.

use protocols::life::{
    self, DEFAULT_RESTART_DELAY_MS, DEFAULT_RESTART_LIMIT, MAX_RESTART_DELAY_MS, MAX_RESTART_LIMIT,
};
use protocols::spec::ExitAction;
use protocols::{Life, SpecError};

use super::Reader;
use crate::config::keys::Key;
use crate::config::syntax::Value;
use crate::source::{Diagnostic, Spanned, nearest};

/// The actions by the names they have in a file.
const ACTIONS: [(&str, ExitAction); 3] =
    [("destroy", ExitAction::Destroy), ("preserve", ExitAction::Preserve), ("restart", ExitAction::Restart)];

/// Actions of xl that we know and do not have.
const OTHER_ACTIONS: [&str; 4] = ["rename-restart", "coredump-destroy", "coredump-restart", "soft-reset"];

/// The keys that name an action.
const ACTION_KEYS: [Key; 4] = [Key::OnPoweroff, Key::OnReboot, Key::OnCrash, Key::OnWatchdog];

impl Reader<'_> {
    /// The action for one way to end.
    pub(super) fn exit_action(&mut self, key: Key) -> ExitAction {
        let Some(text) = self.string(key) else { return ExitAction::Destroy };
        if let Some((_, action)) = ACTIONS.iter().find(|(name, _)| *name == text.value) {
            return *action;
        }
        let names = || ACTIONS.iter().map(|(name, _)| *name);
        if OTHER_ACTIONS.contains(&text.value.as_str()) {
            self.error(text.span, format!("action {:?} is not supported", text.value))
                .help
                .push("write \"destroy\" (the default here), \"preserve\" or \"restart\"".into());
        } else {
            let help = match nearest(&text.value, names().chain(OTHER_ACTIONS)) {
                Some(near) => format!("did you mean {near:?}?"),
                None => "the actions are \"destroy\", \"preserve\" and \"restart\"".into(),
            };
            self.error(text.span, format!("unknown action {:?}", text.value)).help.push(help);
        }
        ExitAction::Destroy
    }

    /// What the spec keeps of all this beside the three oldest actions.
    pub(super) fn life(&mut self, after: &[Spanned<String>]) -> Life {
        let life = self.overriding_life(after);
        self.warn_of_no_restart();
        life
    }

    /// The same of settings that a platform file gives anew: what asks for restarts may be in the VM file.
    pub(super) fn overriding_life(&mut self, after: &[Spanned<String>]) -> Life {
        let limits = 1..=u64::from(MAX_RESTART_LIMIT);
        let delays = 0..=u64::from(MAX_RESTART_DELAY_MS);
        let limit = self.number_in(Key::RestartLimit, limits, "");
        let delay = self.number_in(Key::RestartDelay, delays, " milliseconds");
        let or = |number: Option<u64>, default| number.and_then(|n| u32::try_from(n).ok()).unwrap_or(default);
        Life {
            on_watchdog: self.exit_action(Key::OnWatchdog),
            restart_limit: or(limit.map(|limit| limit.value), DEFAULT_RESTART_LIMIT),
            restart_delay_ms: or(delay.map(|delay| delay.value), DEFAULT_RESTART_DELAY_MS),
            critical: self.boolean(Key::Critical).unwrap_or(false),
            after: after.iter().map(|name| name.value.clone()).collect(),
            ready: self.ready(),
        }
    }

    /// The VMs that it starts after: a name or a list of names.
    pub(super) fn after(&mut self) -> Vec<Spanned<String>> {
        self.names(Key::After, life::check_after)
    }

    /// A name or a list of names; `check` says whether those up to one are right.
    pub(super) fn names(
        &mut self,
        key: Key,
        check: impl Fn(&[String]) -> Result<(), SpecError>,
    ) -> Vec<Spanned<String>> {
        let Some(assignment) = self.values.get(&key) else { return Vec::new() };
        let value = &assignment.value;
        let items = match &value.value {
            Value::List(items) => items.as_slice(),
            _ => std::slice::from_ref(value),
        };
        let mut names: Vec<Spanned<String>> = Vec::new();
        for item in items {
            let Value::String(name) = &item.value else {
                self.wrong_type(key, "a list of names in quotes", item);
                continue;
            };
            names.push(Spanned::new(name.clone(), item.span));
            let so_far: Vec<String> = names.iter().map(|name| name.value.clone()).collect();
            if let Err(error) = check(&so_far) {
                self.spec_error(item.span, &error);
                names.pop();
            }
        }
        names
    }

    /// The text that its console shows when it is ready.
    fn ready(&mut self) -> Option<String> {
        let text = self.string(Key::Ready)?;
        if let Err(error) = life::check_ready(&text.value) {
            self.spec_error(text.span, &error);
        }
        Some(text.value)
    }

    /// Warns of settings for restarts where nothing restarts the VM.
    fn warn_of_no_restart(&mut self) {
        let restarts = |key: &Key| {
            let value = self.values.get(key).map(|assignment| &assignment.value.value);
            matches!(value, Some(Value::String(action)) if action == "restart")
        };
        if ACTION_KEYS.iter().any(restarts) {
            return;
        }
        for key in [Key::RestartLimit, Key::RestartDelay] {
            if let Some(assignment) = self.values.get(&key) {
                self.diagnostics.push(
                    Diagnostic::warning(assignment.key.span, "this has no effect: nothing restarts the VM")
                        .with_help("restarts are asked for with on_crash = \"restart\", or another on_* key"),
                );
            }
        }
    }

    /// A number that is 0 or 1, as xl writes what is true or not.
    pub(super) fn boolean(&mut self, key: Key) -> Option<bool> {
        Some(self.number_in(key, 0..=1, " (1 is yes, 0 is no)")?.value == 1)
    }
}
