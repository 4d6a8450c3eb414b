//! What a platform file says about a VM otherwise than the VM's own file.

use std::collections::BTreeSet;
use std::sync::Arc;

use protocols::Life;
use protocols::spec::ExitAction;

use super::keys::Key;
use super::syntax::Assignment;
use super::{VmFile, meaning, uuid};
use crate::source::{Diagnostic, SourceFile, Spanned};

/// The settings that are given anew; a field that is not is `None`.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    pub(super) name: Option<Spanned<String>>,
    /// `None` also where the platform file lets Xen choose.
    pub(super) domid: Option<Spanned<u16>>,
    pub(super) after: Option<Vec<Spanned<String>>>,
    pub(super) ready: Option<String>,
    pub(super) critical: Option<bool>,
    pub(super) on_poweroff: Option<ExitAction>,
    pub(super) on_reboot: Option<ExitAction>,
    pub(super) on_crash: Option<ExitAction>,
    pub(super) on_watchdog: Option<ExitAction>,
    pub(super) restart_limit: Option<u32>,
    pub(super) restart_delay_ms: Option<u32>,
    /// Which these are.
    pub(super) keys: BTreeSet<Key>,
}

/// Where settings come from that the VM's own file does not have.
#[derive(Clone, Debug)]
pub(super) struct Overridden {
    source: Arc<SourceFile>,
    keys: BTreeSet<Key>,
}

impl Overrides {
    /// Reads the settings by the rules of VM files. What is wrong goes to `diagnostics`.
    pub fn read(assignments: &[Assignment], diagnostics: &mut Vec<Diagnostic>) -> Self {
        meaning::read_overrides(assignments, diagnostics)
    }
}

/// Puts a value in place of another, if there is one.
fn replace<T: Clone>(old: &mut T, new: Option<&T>) {
    if let Some(new) = new {
        *old = new.clone();
    }
}

impl VmFile {
    /// This VM as a platform file has it, whose text is `source`.
    #[must_use]
    pub fn overridden(mut self, overrides: &Overrides, source: &Arc<SourceFile>) -> Self {
        let had_derived_uuid = self.config.has_derived_uuid();
        let config = &mut self.config;
        replace(&mut config.name, overrides.name.as_ref());
        if overrides.keys.contains(&Key::Domid) {
            config.domid.clone_from(&overrides.domid);
        }
        replace(&mut config.on_poweroff, overrides.on_poweroff.as_ref());
        replace(&mut config.on_reboot, overrides.on_reboot.as_ref());
        replace(&mut config.on_crash, overrides.on_crash.as_ref());
        replace(&mut config.after, overrides.after.as_ref());
        let Life { on_watchdog, restart_limit, restart_delay_ms, critical, after, ready, .. } =
            &mut config.life;
        replace(on_watchdog, overrides.on_watchdog.as_ref());
        replace(restart_limit, overrides.restart_limit.as_ref());
        replace(restart_delay_ms, overrides.restart_delay_ms.as_ref());
        replace(critical, overrides.critical.as_ref());
        *ready = overrides.ready.clone().or(ready.take());
        *after = config.after.iter().map(|name| name.value.clone()).collect();
        if had_derived_uuid {
            config.uuid = uuid::from_name(&config.name.value);
        }
        self.overridden = Some(Overridden { source: source.clone(), keys: overrides.keys.clone() });
        self
    }

    /// One of several VMs that are equal but for their names: this one's name with a number behind it.
    #[must_use]
    pub fn numbered(&self, number: u64) -> Self {
        let mut file = self.clone();
        let name = format!("{}-{number}", self.config.name.value);
        if file.config.has_derived_uuid() {
            file.config.uuid = uuid::from_name(&name);
        }
        file.config.name.value = name;
        file
    }

    /// Whether a platform file names it.
    pub fn is_in_platform_file(&self) -> bool {
        self.overridden.is_some()
    }

    /// The text in which the value of `key` stands: this VM's own file, or the platform file.
    pub fn source_of(&self, key: Key) -> &SourceFile {
        match &self.overridden {
            Some(overridden) if overridden.keys.contains(&key) => &overridden.source,
            _ => &self.source,
        }
    }
}
