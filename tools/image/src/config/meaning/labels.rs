//! What a security policy is to know a VM by: the keys `seclabel`, `init_seclabel` and `access_control`.

use protocols::settings::{Labels, check_label};

use super::Reader;
use crate::config::keys::Key;
use crate::source::Spanned;

impl Reader<'_> {
    /// The labels that these keys say.
    pub(super) fn labels(&mut self) -> Labels {
        let [running, building, older] =
            [Key::Label, Key::BuildLabel, Key::AccessControl].map(|key| self.label(key));
        if let (Some(running), Some(older)) = (&running, &older)
            && running.value != older.value
        {
            let error = self.error(older.span, "\"access_control\" and \"seclabel\" say different labels");
            error.related = Some((running.span, "\"seclabel\" is here".into()));
            error.help.push("they mean the same: keep one of them".into());
        }
        let running = running.or(older);
        if let (Some(building), None) = (&building, &running) {
            self.error(building.span, "there is no \"seclabel\" for the VM to run with").help.push(
                "\"init_seclabel\" is the label that the VM is built with: add the one that it runs with"
                    .into(),
            );
            return Labels::default();
        }
        Labels { running: running.map(|label| label.value), building: building.map(|label| label.value) }
    }

    fn label(&mut self, key: Key) -> Option<Spanned<String>> {
        let label = self.string(key)?;
        match check_label(&label.value) {
            Ok(()) => Some(label),
            Err(error) => {
                self.error(label.span, error.to_string());
                None
            }
        }
    }
}
