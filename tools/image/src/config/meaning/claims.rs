//! What a VM is told that it is: the key `dom_flags`.

use protocols::settings::Claims;
use protocols::spec::GuestKind;

use super::Reader;
use crate::config::keys::Key;
use crate::config::syntax::Value;
use crate::source::{Diagnostic, Spanned, nearest};

impl Reader<'_> {
    /// The flags of a list, whatever their case.
    pub(super) fn claims(&mut self, kind: GuestKind) -> Claims {
        let mut claims = Claims::default();
        let Some(assignment) = self.values.get(&Key::Claims) else { return claims };
        let value = assignment.value.clone();
        let Value::List(items) = &value.value else {
            self.wrong_type(Key::Claims, "a list of texts in quotes", &value);
            return claims;
        };
        for item in items {
            self.claim(&mut claims, item);
        }
        if claims.module_list {
            self.check_module_list(kind, &value);
        }
        if claims.initial_domain {
            let message = "\"initdomain\" tells the kernel that the machine's console is its own";
            self.diagnostics.push(Diagnostic::warning(value.span, message).with_help(
                "Xen does not give it that console, and what the VM prints is not seen; it may do no more than other VMs either, unless \
                 Xen's security policy lets its `seclabel`",
            ));
        }
        claims
    }

    fn claim(&mut self, claims: &mut Claims, item: &Spanned<Value>) {
        let Value::String(text) = &item.value else {
            return self.wrong_type(Key::Claims, "a list of texts in quotes", item);
        };
        let mut known = claims.by_name();
        if let Some((_, claimed)) = known.iter_mut().find(|(name, _)| name.eq_ignore_ascii_case(text)) {
            **claimed = true;
            return;
        }
        let names = known.map(|(name, _)| name);
        let near = nearest(text, names);
        let error = self.error(item.span, format!("\"dom_flags\" has no flag {text:?}"));
        error.help.push(match near {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("the flags are {}", names.map(|name| format!("{name:?}")).join(", ")),
        });
    }

    /// A list of modules is what the RAM disk of a PV guest can be.
    fn check_module_list(&mut self, kind: GuestKind, value: &Spanned<Value>) {
        if kind != GuestKind::Pv {
            self.error(value.span, "\"multiboot_mod\" is for PV guests")
                .help
                .push("list the parts of a PVH guest's RAM disk with `modules`".into());
        } else if !self.values.contains_key(&Key::Ramdisk) {
            self.error(
                value.span,
                "\"multiboot_mod\" says that the RAM disk is a list of modules, and there is none",
            )
            .help
            .push("name the list with `ramdisk`, or remove the flag".into());
        }
    }
}
