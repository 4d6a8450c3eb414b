//! Modules of a PVH guest: the key `modules`.

use protocols::module::{MAX_MODULE_LINE_LEN, MAX_MODULES};
use protocols::spec::GuestKind;

use super::Reader;
use crate::config::ModuleFile;
use crate::config::keys::Key;
use crate::config::syntax::Value;
use crate::source::Spanned;

/// What a list of modules looks like.
const FORMS: &str = "write a list of texts, each a file and its command line: modules = [\"policy.bin\", \"kernel root=/dev/ram0\"]";

impl Reader<'_> {
    /// The modules that come behind the RAM disk.
    pub(super) fn modules(&mut self, kind: GuestKind) -> Vec<ModuleFile> {
        let Some(assignment) = self.values.get(&Key::Modules) else { return Vec::new() };
        let (key, value) = (assignment.key.span, assignment.value.clone());
        if kind != GuestKind::Pvh {
            self.error(key, "\"modules\" is for PVH guests: a PV guest is told of one RAM disk")
                .help
                .push("write type = \"pvh\", or name all files in `ramdisk`, which joins them".into());
        }
        if let Some(hash) = self.values.get(&Key::RamdiskHash) {
            let span = hash.key.span;
            self.error(
                span,
                "\"ramdisk_hash\" and \"modules\" cannot be combined: they are one file for db-boot",
            )
            .help
            .push("a signed platform has the digest of the whole".into());
        }
        let items = match value.value {
            Value::List(items) => items,
            _ => vec![value.clone()],
        };
        // The RAM disk is a module too.
        if items.len() >= MAX_MODULES {
            let message = format!("\"modules\" has {} entries, at most {}", items.len(), MAX_MODULES - 1);
            self.error(value.span, message);
        }
        items.iter().filter_map(|item| self.module(item)).collect()
    }

    /// `FILE COMMAND LINE`.
    fn module(&mut self, item: &Spanned<Value>) -> Option<ModuleFile> {
        let text = match &item.value {
            Value::String(text) if !text.trim().is_empty() => text.trim(),
            _ => {
                self.error(item.span, "a module is a file and its command line").help.push(FORMS.into());
                return None;
            }
        };
        let (path, command_line) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let command_line = command_line.trim_start().to_owned();
        if command_line.len() > MAX_MODULE_LINE_LEN || command_line.contains('\0') {
            let length = command_line.len();
            let message = format!(
                "a module's command line of {length} bytes: must be at most {MAX_MODULE_LINE_LEN}, without NUL"
            );
            self.error(item.span, message);
            return None;
        }
        Some(ModuleFile { path: Spanned::new(self.folder.join(path), item.span), command_line })
    }
}
