//! What a VM sees of the processor: the keys `tsc_mode`, `nomigrate`, `msr_relaxed`, `cpuid`, `hap`, `oos` and
//! `shadow_memory`.

use protocols::settings::{CpuidChange, MAX_PAGING_POOL_MIB, Paging, Processor, TscMode};
use protocols::spec::GuestKind;

use super::Reader;
use crate::config::cpuid::Changes;
use crate::config::keys::Key;
use crate::config::syntax::Value;
use crate::source::Spanned;

/// What the modes are called, and what xl took them for when they were numbers.
const TSC_MODES: [(&str, u64, TscMode); 3] = [
    ("default", 0, TscMode::Default),
    ("always_emulate", 1, TscMode::AlwaysEmulate),
    ("native", 2, TscMode::Native),
];
/// What changes of CPUID look like.
const CPUID_FORMS: &str = "write \"host,FEATURE=0,...\" with the names of xl.cfg(5), or a list of \"LEAF:ecx=BITS\" with 32 of 0, 1, x and k";

impl Reader<'_> {
    /// Everything that these keys say.
    pub(super) fn processor(&mut self, kind: GuestKind) -> Processor {
        let [stays, relaxed_msrs] = [Key::NoMigrate, Key::MsrRelaxed]
            .map(|key| self.number_in(key, 0..=1, "").is_some_and(|number| number.value == 1));
        let (tsc, cpuid) = (self.tsc_mode(), self.cpuid());
        let (paging, shadows_in_sync, paging_pool_mib) = self.paging(kind);
        Processor { tsc, stays, relaxed_msrs, cpuid, online: None, paging, shadows_in_sync, paging_pool_mib }
    }

    /// Who translates the memory of a PVH guest, whether shadows are never behind, and the MiB that it takes. To a PV guest none of it means
    /// anything, as with xl.
    fn paging(&mut self, kind: GuestKind) -> (Paging, bool, Option<u32>) {
        let [nested, out_of_sync] = [Key::NestedPaging, Key::OutOfSync]
            .map(|key| self.number_in(key, 0..=1, "").map(|number| number.value == 1));
        let pool = self.number_in(Key::PagingPool, 1..=u64::from(MAX_PAGING_POOL_MIB), " MiB");
        if kind != GuestKind::Pvh {
            return (Paging::Any, false, None);
        }
        let paging = match nested {
            None => Paging::Any,
            Some(true) => Paging::Nested,
            Some(false) => Paging::Shadow,
        };
        (paging, out_of_sync == Some(false), pool.and_then(|pool| u32::try_from(pool.value).ok()))
    }

    fn tsc_mode(&mut self) -> TscMode {
        let Some(assignment) = self.values.get(&Key::TscMode) else { return TscMode::Default };
        let value = assignment.value.clone();
        let mode = match &value.value {
            Value::String(text) => TSC_MODES.iter().find(|(name, ..)| name == text),
            Value::Number(wanted) => TSC_MODES.iter().find(|(_, number, _)| number == wanted),
            Value::List(_) => None,
        };
        if let Some((_, _, mode)) = mode {
            return *mode;
        }
        let removed = matches!(&value.value, Value::String(text) if text == "native_paravirt")
            || matches!(&value.value, Value::Number(3));
        let error =
            self.error(value.span, "\"tsc_mode\" must be \"default\", \"always_emulate\" or \"native\"");
        if removed {
            error.help.push("\"native_paravirt\" was removed from Xen".into());
        }
        TscMode::Default
    }

    fn cpuid(&mut self) -> Vec<CpuidChange> {
        let Some(assignment) = self.values.get(&Key::Cpuid) else { return Vec::new() };
        let value = assignment.value.clone();
        let mut changes = Changes::default();
        match &value.value {
            Value::String(text) => {
                let result = changes.read_names(text);
                self.check_cpuid(&value, result);
            }
            Value::List(items) => {
                for item in items {
                    let result = match &item.value {
                        Value::String(text) => changes.read_registers(text),
                        other => Err(format!("it is {}", other.kind())),
                    };
                    self.check_cpuid(item, result);
                }
            }
            Value::Number(_) => self.wrong_type(Key::Cpuid, "a text or a list of texts", &value),
        }
        let list = changes.into_list();
        match list {
            Ok(list) => list,
            Err(reason) => {
                self.check_cpuid(&value, Err(reason));
                Vec::new()
            }
        }
    }

    fn check_cpuid(&mut self, value: &Spanned<Value>, result: Result<(), String>) {
        if let Err(reason) = result {
            self.error(value.span, format!("\"cpuid\" cannot be read: {reason}"))
                .help
                .push(CPUID_FORMS.into());
        }
    }
}
