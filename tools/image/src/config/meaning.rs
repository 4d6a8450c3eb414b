//! From assignments to a VM: each key's type, range and default, and what keys mean together.

mod claims;
mod hashes;
mod kind;
mod labels;
mod life;
mod modules;
mod processor;
mod settings;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use protocols::channel::MAX_CHANNELS;
use protocols::settings::Access;
use protocols::spec::{self, GuestKind, MAX_MEMORY_KIB, MAX_VCPUS};
use protocols::{SpecError, StoreRole};

use super::keys::{self, Key, Unread};
use super::overrides::Overrides;
use super::syntax::{Assignment, Value};
use super::{VmConfig, uuid};
use crate::source::{Diagnostic, Span, Spanned, nearest};

/// Reads the assignments of a file. `None` if there is no VM in them; then `diagnostics` says why. Where a
/// value is wrong, a harmless one takes its place, so that the rest is still checked.
pub(super) fn read(
    assignments: &[Assignment],
    folder: &Path,
    end_of_file: usize,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<VmConfig> {
    let broken_elsewhere = !diagnostics.is_empty();
    let values = by_key(assignments, diagnostics);
    let end = Span::new(end_of_file..end_of_file);
    let mut reader = Reader { values, folder, end, broken_elsewhere, diagnostics };
    let kind = reader.kind();
    let name = reader.name();
    let kernel = reader.path(Key::Kernel);
    reader.require(Key::Kernel, "kernel = \"vmlinuz\"");
    let memory = reader.memory();
    let (vcpus, online) = reader.vcpus();
    let domid = reader.domid();
    let uuid = reader.uuid();
    let ramdisks = reader.paths(Key::Ramdisk);
    let modules = reader.modules(kind);
    let command_line = reader.command_line();
    let [on_poweroff, on_reboot, on_crash] =
        [Key::OnPoweroff, Key::OnReboot, Key::OnCrash].map(|key| reader.exit_action(key));
    let after = reader.after();
    let life = reader.life(&after);
    let channels = reader.channels();
    let has_store = reader.boolean(Key::XenStore).unwrap_or(false);
    let kernel_hash = reader.hash(Key::KernelHash, Key::Kernel);
    let ramdisk_hash = reader.hash(Key::RamdiskHash, Key::Ramdisk);
    let mut settings = reader.settings(kind, vcpus);
    settings.processor.online = online;
    if kind == GuestKind::Pv && online.is_some() {
        reader.warn_of_vcpus(&command_line);
    }
    let name = name?;
    let (memory_kib, max_memory_kib) = memory?;
    Some(VmConfig {
        domid,
        uuid_span: uuid.as_ref().map_or(name.span, |uuid| uuid.span),
        uuid: uuid.map_or_else(|| uuid::from_name(&name.value), |uuid| uuid.value),
        name,
        kind,
        vcpus,
        memory_kib,
        max_memory_kib,
        kernel: kernel?,
        kernel_hash,
        ramdisks,
        modules,
        ramdisk_hash,
        command_line,
        on_poweroff,
        on_reboot,
        on_crash,
        after,
        life,
        channels,
        settings,
        store: if has_store { StoreRole::Own } else { StoreRole::None },
    })
}

/// Reads the settings of a VM that a platform file may give anew, by the same rules.
pub(super) fn read_overrides(assignments: &[Assignment], diagnostics: &mut Vec<Diagnostic>) -> Overrides {
    let values = by_key(assignments, diagnostics);
    let place = Span::new(0..0);
    let mut reader =
        Reader { values, folder: Path::new(""), end: place, broken_elsewhere: true, diagnostics };
    let keys: BTreeSet<Key> = reader.values.keys().copied().collect();
    let has = |key| keys.contains(&key);
    let after = has(Key::After).then(|| reader.after());
    let life = reader.overriding_life(after.as_deref().unwrap_or_default());
    let mut action = |key| has(key).then(|| reader.exit_action(key));
    let [on_poweroff, on_reboot, on_crash] = [Key::OnPoweroff, Key::OnReboot, Key::OnCrash].map(&mut action);
    Overrides {
        name: reader.name(),
        domid: reader.domid(),
        after,
        on_poweroff,
        on_reboot,
        on_crash,
        on_watchdog: has(Key::OnWatchdog).then_some(life.on_watchdog),
        restart_limit: has(Key::RestartLimit).then_some(life.restart_limit),
        restart_delay_ms: has(Key::RestartDelay).then_some(life.restart_delay_ms),
        critical: has(Key::Critical).then_some(life.critical),
        ready: life.ready,
        keys,
    }
}

/// Reads devices that somebody may give to VMs, by the rules for those of a VM.
pub(super) fn read_devices(assignments: &[Assignment], diagnostics: &mut Vec<Diagnostic>) -> Access {
    let (values, place) = (by_key(assignments, diagnostics), Span::new(0..0));
    let mut reader =
        Reader { values, folder: Path::new(""), end: place, broken_elsewhere: true, diagnostics };
    reader.access(GuestKind::Pv)
}

/// Sorts the assignments by key; reports keys that are unknown, unsupported or repeated.
fn by_key<'a>(
    assignments: &'a [Assignment],
    diagnostics: &mut Vec<Diagnostic>,
) -> BTreeMap<Key, &'a Assignment> {
    let mut first_uses: BTreeMap<&str, Span> = BTreeMap::new();
    let mut values = BTreeMap::new();
    for assignment in assignments {
        let Assignment { key: Spanned { value: name, span }, .. } = assignment;
        if let Some(first) = first_uses.get(name.as_str()) {
            diagnostics.push(
                Diagnostic::error(*span, format!("{name:?} is given twice"))
                    .with_related(*first, "the first time is here")
                    .with_help("keep one of them"),
            );
            continue;
        }
        first_uses.insert(name, *span);
        match keys::SUPPORTED.iter().find(|(known, _)| known == name) {
            Some((_, key)) => _ = values.insert(*key, assignment),
            None => diagnostics.extend(unread_key(name, *span, &assignment.value.value)),
        }
    }
    values
}

/// What is to be said of a key that we do not read, if anything.
fn unread_key(name: &str, span: Span, value: &Value) -> Option<Diagnostic> {
    match keys::unread(name) {
        Some(_) if keys::asks_for_nothing(name, value) => None,
        Some(Unread::Refused(reason)) => Some(
            Diagnostic::error(span, format!("{name:?} is not supported: {reason}"))
                .with_help("remove the line"),
        ),
        Some(Unread::NoEffect(reason)) => {
            Some(Diagnostic::warning(span, format!("{name:?} has no effect on PV and PVH guests: {reason}")))
        }
        None => Some(unknown_key(name, span)),
    }
}

fn unknown_key(name: &str, span: Span) -> Diagnostic {
    let error = Diagnostic::error(span, format!("unknown key {name:?}"));
    // Nobody is to be led to the keys of old toolstacks.
    let of_today = |key| !matches!(key, Key::Builder | Key::Loader);
    let supported = || keys::SUPPORTED.iter().filter(|(_, key)| of_today(*key)).map(|(known, _)| *known);
    match nearest(name, supported()).or_else(|| nearest(name, keys::all_names())) {
        Some(known) => error.with_help(format!("did you mean {known:?}?")),
        None => error.with_help(format!("the keys are: {}", supported().collect::<Vec<_>>().join(", "))),
    }
}

struct Reader<'a> {
    values: BTreeMap<Key, &'a Assignment>,
    folder: &'a Path,
    /// The end of the file, where what is missing is missing.
    end: Span,
    /// Statements could not be read: then a key that seems to be missing may be in one of them.
    broken_elsewhere: bool,
    diagnostics: &'a mut Vec<Diagnostic>,
}

impl Reader<'_> {
    fn error(&mut self, span: Span, message: impl Into<String>) -> &mut Diagnostic {
        self.diagnostics.push(Diagnostic::error(span, message));
        let last = self.diagnostics.len() - 1;
        &mut self.diagnostics[last]
    }

    /// An error of the spec's own checks, at `span`.
    fn spec_error(&mut self, span: Span, error: &SpecError) {
        self.error(span, error.to_string());
    }

    fn require(&mut self, key: Key, example: &str) {
        if !self.values.contains_key(&key) && !self.broken_elsewhere {
            self.error(self.end, format!("{:?} is missing", key.name()))
                .help
                .push(format!("add a line like: {example}"));
        }
    }

    fn wrong_type(&mut self, key: Key, wanted: &str, value: &Spanned<Value>) {
        self.error(value.span, format!("{:?} must be {wanted}, this is {}", key.name(), value.value.kind()));
    }

    /// A string that is not empty.
    fn string(&mut self, key: Key) -> Option<Spanned<String>> {
        let value = &self.values.get(&key)?.value;
        let Value::String(text) = &value.value else {
            self.wrong_type(key, "a string in quotes", value);
            return None;
        };
        if text.is_empty() {
            self.error(value.span, format!("{:?} is empty", key.name()))
                .help
                .push("give it a value or remove the line".into());
            return None;
        }
        Some(Spanned::new(text.clone(), value.span))
    }

    /// A number; as with xl, a string that holds nothing but a number is one too.
    fn number(&mut self, key: Key) -> Option<Spanned<u64>> {
        let value = &self.values.get(&key)?.value;
        let number = match &value.value {
            Value::Number(number) => Ok(*number),
            Value::String(text) => super::syntax::read_number(text),
            Value::List(_) => {
                self.wrong_type(key, "a number", value);
                return None;
            }
        };
        match number {
            Ok(number) => Some(Spanned::new(number, value.span)),
            Err(reason) => {
                self.error(value.span, format!("{:?} must be a number: {reason}", key.name()));
                None
            }
        }
    }

    /// A number within a range.
    fn number_in(
        &mut self,
        key: Key,
        range: std::ops::RangeInclusive<u64>,
        unit: &str,
    ) -> Option<Spanned<u64>> {
        let number = self.number(key)?;
        if range.contains(&number.value) {
            return Some(number);
        }
        let (low, high) = range.into_inner();
        let message = format!("{:?} is {}, must be {low} to {high}{unit}", key.name(), number.value);
        self.error(number.span, message);
        None
    }

    fn name(&mut self) -> Option<Spanned<String>> {
        self.require(Key::Name, "name = \"web\"");
        let name = self.string(Key::Name)?;
        if let Err(error) = spec::check_name(&name.value) {
            self.spec_error(name.span, &error);
            return None;
        }
        Some(name)
    }

    /// A path; a relative one is relative to the folder of the VM file.
    fn path(&mut self, key: Key) -> Option<Spanned<PathBuf>> {
        let text = self.string(key)?;
        Some(Spanned::new(self.folder.join(text.value), text.span))
    }

    /// One path or a list of paths, relative ones likewise.
    fn paths(&mut self, key: Key) -> Vec<Spanned<PathBuf>> {
        let Some(assignment) = self.values.get(&key) else { return Vec::new() };
        let value = &assignment.value;
        let Value::List(items) = &value.value else { return self.path(key).into_iter().collect() };
        if items.is_empty() {
            self.error(value.span, format!("{:?} is an empty list", key.name()))
                .help
                .push("name a file or remove the line".into());
        }
        let mut paths = Vec::new();
        for item in items {
            match &item.value {
                Value::String(text) if !text.is_empty() => {
                    paths.push(Spanned::new(self.folder.join(text), item.span));
                }
                Value::String(_) => {
                    self.error(item.span, format!("{:?} names an empty path", key.name()));
                }
                _ => self.wrong_type(key, "a path in quotes or a list of such", item),
            }
        }
        paths
    }

    /// Start and maximum memory in KiB.
    fn memory(&mut self) -> Option<(Spanned<u64>, u64)> {
        self.require(Key::Memory, "memory = 64        # MiB");
        let range = 1..=MAX_MEMORY_KIB / 1024;
        let memory = self.number_in(Key::Memory, range.clone(), " MiB");
        let maximum = self.number_in(Key::MaxMemory, range, " MiB");
        let memory = memory?;
        if let Some(maximum) = &maximum
            && maximum.value < memory.value
        {
            let message = format!(
                "\"maxmem\" is {} MiB, less than the {} MiB the VM starts with",
                maximum.value, memory.value
            );
            self.error(maximum.span, message).related = Some((memory.span, "\"memory\" is here".into()));
        }
        let maximum = maximum.map_or(memory.value, |maximum| maximum.value);
        Some((Spanned::new(memory.value * 1024, memory.span), maximum * 1024))
    }

    /// The vCPUs it has, and how many of them are on when it starts, if not all.
    fn vcpus(&mut self) -> (u32, Option<u32>) {
        let range = 1..=u64::from(MAX_VCPUS);
        let vcpus = self.number_in(Key::Vcpus, range.clone(), "");
        let maximum = self.number_in(Key::MaxVcpus, range, "");
        if let (Some(vcpus), Some(maximum)) = (&vcpus, &maximum)
            && vcpus.value > maximum.value
        {
            let message = format!("\"maxvcpus\" is {}, \"vcpus\" is {}", maximum.value, vcpus.value);
            let error = self.error(maximum.span, message);
            error.related = Some((vcpus.span, "\"vcpus\" is here".into()));
            error
                .help
                .push("\"vcpus\" are those that are on when the VM starts: at most \"maxvcpus\"".into());
        }
        let number = |it: Spanned<u64>| u32::try_from(it.value).unwrap_or(MAX_VCPUS);
        match (vcpus.map(number), maximum.map(number)) {
            (Some(online), Some(all)) if online < all => (all, Some(online)),
            (Some(all), _) | (None, Some(all)) => (all, None),
            (None, None) => (1, None),
        }
    }

    /// Says that a PV guest with this command line may turn on all its vCPUs.
    fn warn_of_vcpus(&mut self, command_line: &str) {
        let told = command_line.split_ascii_whitespace().any(|word| word.starts_with("maxcpus="));
        if let Some(assignment) = self.values.get(&Key::MaxVcpus).filter(|_| !told) {
            let text = "\"maxvcpus\" is above \"vcpus\", and nothing tells a PV guest which vCPUs to leave off: it may start all";
            self.diagnostics.push(Diagnostic::warning(assignment.key.span, text).with_help(
                "a PVH guest (type = \"pvh\") reads it in its ACPI tables; maxcpus=N in `extra` has Linux give up the others for good",
            ));
        }
    }

    fn domid(&mut self) -> Option<Spanned<u16>> {
        let number = self.number(Key::Domid)?;
        // The predecessor's files say 0 for "Xen chooses".
        if number.value == 0 {
            return None;
        }
        let domid = u16::try_from(number.value).unwrap_or(u16::MAX);
        if spec::check_domid(Some(domid)).is_err() {
            let message = format!(
                "\"domid\" is {}, must be 1 to {}, or 0 to let Xen choose",
                number.value,
                spec::FIRST_RESERVED_DOMID - 1
            );
            self.error(number.span, message);
            return None;
        }
        Some(Spanned::new(domid, number.span))
    }

    fn uuid(&mut self) -> Option<Spanned<[u8; 16]>> {
        let text = self.string(Key::Uuid)?;
        let uuid = uuid::parse(&text.value).filter(|uuid| *uuid != [0; 16]);
        if uuid.is_none() {
            self.error(text.span, format!("{:?} is not the UUID of a VM", text.value)).help.push(
                "a UUID is 32 hexadecimal digits, not all 0, as 8-4-4-4-12; without the line one is derived \
                 from the name"
                    .into(),
            );
        }
        Some(Spanned::new(uuid?, text.span))
    }

    /// The VMs that it serves channels for: a name or a list of names.
    fn channels(&mut self) -> Vec<Spanned<String>> {
        let names = self.names(Key::Channels, |_| Ok(()));
        let mut channels: Vec<Spanned<String>> = Vec::new();
        for name in names {
            if channels.iter().any(|earlier| earlier.value == name.value) {
                self.error(
                    name.span,
                    format!("{:?} is named twice: a VM has one channel with another", name.value),
                );
            } else if channels.len() == MAX_CHANNELS {
                self.error(name.span, format!("too many channels: a VM serves at most {MAX_CHANNELS}"));
                break;
            } else {
                channels.push(name);
            }
        }
        channels
    }

    /// `cmdline`, or else `root=ROOT EXTRA`, as xl puts it together.
    fn command_line(&mut self) -> String {
        let [whole, root, extra] = [Key::CommandLine, Key::Root, Key::Extra].map(|key| self.text(key));
        if let Some(whole) = &whole {
            for ignored in [&root, &extra].into_iter().flatten() {
                self.diagnostics.push(
                    Diagnostic::warning(ignored.span, "this has no effect")
                        .with_related(whole.span, "\"cmdline\" is the whole command line"),
                );
            }
        }
        let span =
            [&whole, &root, &extra].into_iter().flatten().map(|text| text.span).next().unwrap_or(self.end);
        let [root, extra] = [root, extra].map(|text| text.map(|text| text.value));
        let line = match (whole, root, extra) {
            (Some(whole), _, _) => whole.value,
            (None, Some(root), Some(extra)) => format!("root={root} {extra}"),
            (None, Some(root), None) => format!("root={root}"),
            (None, None, extra) => extra.unwrap_or_default(),
        };
        if let Err(error) = spec::check_command_line(&line) {
            self.spec_error(span, &error);
        }
        line
    }

    /// A string that may be empty; empty is as good as absent.
    fn text(&mut self, key: Key) -> Option<Spanned<String>> {
        let value = &self.values.get(&key)?.value;
        match &value.value {
            Value::String(text) if text.is_empty() => None,
            _ => self.string(key),
        }
    }
}
