//! What kind of guest a VM is: `type`, and the keys that said so before there was one.

use protocols::GuestKind;

use super::Reader;
use crate::config::keys::Key;
use crate::source::{Diagnostic, Spanned};

const NO_HVM: &str = "HVM guests need a device model, which does not exist here; for a kernel that can run as PVH or PV \
                      write type = \"pvh\" or type = \"pv\"";

impl Reader<'_> {
    /// The kind that the file asks for; PV unless it says.
    pub(super) fn kind(&mut self) -> GuestKind {
        self.loader();
        let (chosen, of_builder) = (self.chosen_type(), self.builder());
        let Some(builder) = of_builder else { return chosen.map_or(GuestKind::Pv, |kind| kind.value) };
        match chosen {
            Some(kind) if kind.value != builder.value => {
                let error = self.error(builder.span, "\"builder\" and \"type\" contradict each other");
                error.related = Some((kind.span, "\"type\" is here".into()));
                error.help.push("keep \"type\"".into());
                kind.value
            }
            _ => builder.value,
        }
    }

    fn chosen_type(&mut self) -> Option<Spanned<GuestKind>> {
        let kind = self.string(Key::Type)?;
        match kind.value.as_str() {
            "pv" => return Some(Spanned::new(GuestKind::Pv, kind.span)),
            "pvh" => return Some(Spanned::new(GuestKind::Pvh, kind.span)),
            "hvm" => {
                self.error(kind.span, "type \"hvm\" is not supported").help.push(NO_HVM.into());
            }
            other => {
                let help = "the types are \"pv\" and \"pvh\"";
                self.error(kind.span, format!("unknown type {other:?}")).help.push(help.into());
            }
        }
        None
    }

    /// The kind that `builder` asks for, by its words in xl ("generic") and before xl ("linux").
    fn builder(&mut self) -> Option<Spanned<GuestKind>> {
        let builder = self.string(Key::Builder)?;
        let (kind, now) = match builder.value.as_str() {
            "generic" | "linux" => (GuestKind::Pv, "pv"),
            // Between 4.10's experiments and today's `type`.
            "pvh" => (GuestKind::Pvh, "pvh"),
            "hvm" => {
                self.error(builder.span, "builder \"hvm\" is not supported").help.push(NO_HVM.into());
                return None;
            }
            other => {
                let help = "remove the line; the types are \"pv\" and \"pvh\"";
                self.error(builder.span, format!("unknown builder {other:?}")).help.push(help.into());
                return None;
            }
        };
        self.diagnostics.push(
            Diagnostic::warning(builder.span, "\"builder\" has been replaced by \"type\"")
                .with_help(format!("write type = {now:?}")),
        );
        Some(Spanned::new(kind, builder.span))
    }

    /// `loader`, which xl reads no more. The only loader for PV guests was "generic".
    fn loader(&mut self) {
        let Some(loader) = self.string(Key::Loader) else { return };
        match loader.value.as_str() {
            "generic" => self.diagnostics.push(
                Diagnostic::warning(loader.span, "\"loader\" has no effect: xl does not read it either")
                    .with_help("remove the line"),
            ),
            other => {
                let help = "remove the line: kernels are loaded as ELF files or bzImages";
                self.error(loader.span, format!("loader {other:?} is not supported")).help.push(help.into());
            }
        }
    }
}
