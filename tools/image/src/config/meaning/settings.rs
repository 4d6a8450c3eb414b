//! What a VM may do and get: the keys `iomem`, `ioports`, `irqs`, `passthrough`, `max_*`, `cpus`, `cpus_soft`, `cpu_weight`,
//! `cap` and `pool`.

use protocols::settings::{
    Access, Affinity, CpuSet, DEFAULT_EVENT_CHANNELS, DEFAULT_GRANT_FRAMES, DEFAULT_MAPTRACK_FRAMES,
    IoMemory, IoPorts, Limits, MAX_CAP, MAX_CPU, MAX_CPU_RANGES, MAX_EVENT_CHANNELS, MAX_RANGES,
    MAX_TABLE_FRAMES, MAX_WEIGHT, Placement, Settings, check_interrupt,
};
use protocols::spec::GuestKind;

use super::Reader;
use crate::config::keys::Key;
use crate::config::syntax::{Value, read_number};
use crate::source::{Span, Spanned};

/// What a range of I/O memory looks like.
const IO_MEMORY_FORMS: &str =
    "write pages of 4 KiB in hexadecimal: \"a0,20\" for 0x20 pages from page 0xa0 on, or \"a0-bf\"";
/// What a range of I/O ports looks like.
const IO_PORT_FORMS: &str = "write ports in hexadecimal: \"2f8-2ff\", or \"70\" for one port";
/// What a set of CPUs looks like.
const CPU_FORMS: &str = "write CPUs and ranges, what to leave out with ^: \"0-3,^1\"; or \"all\"";
/// The name that Xen's own tools give a pool that nobody named, before its number.
const POOL_PREFIX: &str = "Pool-";

impl Reader<'_> {
    /// Everything that these keys say.
    pub(super) fn settings(&mut self, kind: GuestKind, vcpus: u32) -> Settings {
        self.check_passthrough();
        Settings {
            access: self.access(kind),
            limits: self.limits(),
            placement: self.placement(vcpus),
            labels: self.labels(),
            processor: self.processor(kind),
            claims: self.claims(kind),
        }
    }

    /// `passthrough`: there is none, and a file may say so.
    fn check_passthrough(&mut self) {
        let Some(text) = self.string(Key::Passthrough) else { return };
        if text.value != "disabled" {
            self.error(text.span, format!("passthrough {:?} is not supported", text.value)).help.push(
                "PCI devices cannot be given to a VM; write \"disabled\" or remove the line. A device whose memory, ports and \
                 interrupt are known can be given with `iomem`, `ioports` and `irqs`"
                    .into(),
            );
        }
    }

    pub(super) fn access(&mut self, kind: GuestKind) -> Access {
        let access = Access {
            io_memory: self.ranges(Key::IoMemory, |reader, item| reader.io_memory(kind, item)),
            io_ports: self.ranges(Key::IoPorts, Self::io_ports),
            interrupts: self.ranges(Key::Interrupts, Self::interrupt),
        };
        if kind != GuestKind::Pv
            && let Some(assignment) = self.values.get(&Key::Interrupts)
        {
            let span = assignment.key.span;
            self.error(span, "\"irqs\" is for PV guests").help.push(
                "no Xen delivers an interrupt line to a PVH guest, which has no interrupt controller and may not bind lines to event \
                 channels: have the driver poll, or write type = \"pv\""
                    .into(),
            );
        }
        access
    }

    /// The items of `key`: a list, or one item alone.
    fn items(&self, key: Key) -> Vec<Spanned<Value>> {
        let Some(assignment) = self.values.get(&key) else { return Vec::new() };
        match &assignment.value.value {
            Value::List(items) => items.clone(),
            _ => vec![assignment.value.clone()],
        }
    }

    /// The items of `key` as `read` reads them; what it cannot read it has reported.
    fn ranges<T>(&mut self, key: Key, read: impl Fn(&mut Self, &Spanned<Value>) -> Option<T>) -> Vec<T> {
        let items = self.items(key);
        if let Some(item) = items.get(MAX_RANGES) {
            let message = format!("{:?} has {} entries, at most {MAX_RANGES}", key.name(), items.len());
            self.error(item.span, message).help.push("join ranges that are next to each other".into());
            return Vec::new();
        }
        items.iter().filter_map(|item| read(self, item)).collect()
    }

    /// The text of an item, or a message that it is none.
    fn text_of(&mut self, key: Key, forms: &str, item: &Spanned<Value>) -> Option<String> {
        let Value::String(text) = &item.value else {
            self.wrong_type(key, "a list of texts in quotes", item);
            if let Some(diagnostic) = self.diagnostics.last_mut() {
                diagnostic.help.push(forms.into());
            }
            return None;
        };
        Some(text.trim().to_owned())
    }

    /// A range of the predecessor's: `enable` says what is meant anyway, `disable` and `all` cannot be had.
    fn without_word<'t>(&mut self, span: Span, text: &'t str) -> Option<&'t str> {
        let (word, rest) = text.split_once(char::is_whitespace).unwrap_or(("", text));
        match (word, rest.trim()) {
            ("disable", _) => {
                let help = "a VM has access to nothing but what is named: remove the entry";
                self.error(span, "there is nothing to disable").help.push(help.into());
                None
            }
            (_, "all") => {
                let help = "Xen gives away only what it has left to the builder's domain: name the ranges that the VM's devices use";
                self.error(span, "access to all of it cannot be given").help.push(help.into());
                None
            }
            ("" | "enable", rest) => Some(rest),
            _ => Some(text),
        }
    }

    /// `START,NUM`, `START-END` or `START`, in pages; for a PVH guest `@PAGE` behind it.
    fn io_memory(&mut self, kind: GuestKind, item: &Spanned<Value>) -> Option<IoMemory> {
        let text = self.text_of(Key::IoMemory, IO_MEMORY_FORMS, item)?;
        let text = self.without_word(item.span, &text)?;
        let (text, frame) = text.split_once('@').map_or((text, None), |(text, frame)| (text, Some(frame)));
        if let Some(frame) = frame.filter(|_| kind == GuestKind::Pv) {
            let message = format!("a page of the guest's own (\"@{frame}\") means nothing to a PV guest");
            self.error(item.span, message).help.push(
                "it maps the machine's pages by their own numbers: leave out what follows the @".into(),
            );
            return None;
        }
        let range = match (text.split_once(','), text.split_once('-')) {
            (Some((first, pages)), _) => hexadecimal(first).zip(hexadecimal(pages)),
            (None, Some((first, last))) => hexadecimal(first).zip(hexadecimal(last)).and_then(pages_between),
            (None, None) => hexadecimal(text).map(|first| (first, 1)),
        };
        let guest = frame.map(hexadecimal);
        let Some((first, pages)) = range.filter(|_| guest != Some(None)) else {
            let text = frame.map_or_else(|| text.to_owned(), |frame| format!("{text}@{frame}"));
            self.error(item.span, format!("{text:?} is no range of I/O memory"))
                .help
                .push(IO_MEMORY_FORMS.into());
            return None;
        };
        let range = IoMemory { first, pages, guest: guest.flatten() };
        match range.validate() {
            Ok(()) => Some(range),
            Err(error) => {
                self.error(item.span, error.to_string());
                None
            }
        }
    }

    /// `FIRST-LAST` or `PORT`.
    fn io_ports(&mut self, item: &Spanned<Value>) -> Option<IoPorts> {
        let text = self.text_of(Key::IoPorts, IO_PORT_FORMS, item)?;
        let text = self.without_word(item.span, &text)?;
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let port = |text| hexadecimal(text).and_then(|port| u16::try_from(port).ok());
        let Some((first, last)) = port(first).zip(port(last)) else {
            self.error(item.span, format!("{text:?} is no range of I/O ports"))
                .help
                .push(IO_PORT_FORMS.into());
            return None;
        };
        let range = IoPorts { first, last };
        match range.validate() {
            Ok(()) => Some(range),
            Err(error) => {
                self.error(item.span, error.to_string());
                None
            }
        }
    }

    fn interrupt(&mut self, item: &Spanned<Value>) -> Option<u32> {
        let number = self.item_number(Key::Interrupts, item)?;
        let interrupt = u32::try_from(number).unwrap_or(u32::MAX);
        match check_interrupt(interrupt) {
            Ok(()) => Some(interrupt),
            Err(error) => {
                self.error(item.span, error.to_string());
                None
            }
        }
    }

    /// A number in a list, in quotes or not.
    fn item_number(&mut self, key: Key, item: &Spanned<Value>) -> Option<u64> {
        match &item.value {
            Value::Number(number) => Some(*number),
            Value::String(text) => match read_number(text) {
                Ok(number) => Some(number),
                Err(reason) => {
                    self.error(item.span, format!("{:?} holds numbers: {reason}", key.name()));
                    None
                }
            },
            Value::List(_) => {
                self.wrong_type(key, "a list of numbers", item);
                None
            }
        }
    }

    fn limits(&mut self) -> Limits {
        let frames = |least: u64| least..=u64::from(MAX_TABLE_FRAMES);
        let event_channels = self.number_in(Key::MaxEventChannels, 1..=u64::from(MAX_EVENT_CHANNELS), "");
        let grant_frames = self.number_in(Key::MaxGrantFrames, frames(1), "");
        let maptrack_frames = self.number_in(Key::MaxMaptrackFrames, frames(0), "");
        let version = self.number_in(Key::MaxGrantVersion, 1..=2, "");
        let or = |number: Option<Spanned<u64>>, default| {
            number.and_then(|number| u32::try_from(number.value).ok()).unwrap_or(default)
        };
        Limits {
            event_channels: or(event_channels, DEFAULT_EVENT_CHANNELS),
            grant_frames: or(grant_frames, DEFAULT_GRANT_FRAMES),
            maptrack_frames: or(maptrack_frames, DEFAULT_MAPTRACK_FRAMES),
            grant_version: version.and_then(|number| u8::try_from(number.value).ok()),
        }
    }

    fn placement(&mut self, vcpus: u32) -> Placement {
        let weight = self.number_in(Key::CpuWeight, 1..=u64::from(MAX_WEIGHT), "");
        let cap = self.number_in(Key::Cap, 0..=u64::from(MAX_CAP), " percent of one CPU (0: no limit)");
        let word = |number: Option<Spanned<u64>>| number.and_then(|number| u16::try_from(number.value).ok());
        Placement {
            hard: self.affinity(Key::Cpus, vcpus),
            soft: self.affinity(Key::CpusSoft, vcpus),
            weight: word(weight),
            cap: word(cap),
            pool: self.pool(),
        }
    }

    /// One set for all vCPUs, or a list with a set for each.
    fn affinity(&mut self, key: Key, vcpus: u32) -> Affinity {
        let Some(assignment) = self.values.get(&key) else { return Affinity::Any };
        let value = assignment.value.clone();
        let Value::List(items) = &value.value else {
            let set = self.cpus(key, &value).filter(|set| Some(set) != every_cpu().as_ref());
            return set.map_or(Affinity::Any, Affinity::All);
        };
        if items.len() > vcpus as usize {
            let message = format!("{:?} has {} entries, the VM has {vcpus} vCPUs", key.name(), items.len());
            self.error(value.span, message)
                .help
                .push("a list has one entry for each vCPU; for one set for all of them, write a text".into());
            return Affinity::Any;
        }
        let sets: Vec<_> = items.iter().filter_map(|item| self.cpus(key, item)).collect();
        let ranges: usize = sets.iter().map(|set| set.ranges().len()).sum();
        if ranges > MAX_CPU_RANGES {
            let message = format!("{:?} has {ranges} ranges, at most {MAX_CPU_RANGES}", key.name());
            self.error(value.span, message);
            return Affinity::Any;
        }
        if sets.is_empty() { Affinity::Any } else { Affinity::Each(sets) }
    }

    /// A set of CPUs; `None` if it cannot be read.
    fn cpus(&mut self, key: Key, item: &Spanned<Value>) -> Option<CpuSet> {
        let text = match &item.value {
            Value::Number(number) => number.to_string(),
            Value::String(text) => text.clone(),
            Value::List(_) => {
                self.wrong_type(key, "a text, a number, or a list of those", item);
                return None;
            }
        };
        match read_cpus(&text) {
            Ok(set) => Some(set),
            Err(reason) => {
                self.error(item.span, format!("{text:?} is no set of CPUs: {reason}"))
                    .help
                    .push(CPU_FORMS.into());
                None
            }
        }
    }

    /// A pool by its number, or by the name that a pool has that nobody named.
    fn pool(&mut self) -> u32 {
        let Some(assignment) = self.values.get(&Key::Pool) else { return 0 };
        let value = assignment.value.clone();
        let number = match &value.value {
            Value::Number(number) => Some(*number),
            Value::String(text) => read_number(text.strip_prefix(POOL_PREFIX).unwrap_or(text)).ok(),
            Value::List(_) => None,
        };
        let Some(pool) = number.and_then(|number| u32::try_from(number).ok()) else {
            self.error(value.span, "\"pool\" must be the number of a CPU pool").help.push(
                "names of pools are kept in XenStore, which is not there; \"Pool-1\" is taken as 1".into(),
            );
            return 0;
        };
        pool
    }
}

/// A hexadecimal number, with 0x before it or not.
fn hexadecimal(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
    // `from_str_radix` would take a sign.
    let plain = digits.chars().all(|digit| digit.is_ascii_hexdigit());
    u64::from_str_radix(digits, 16).ok().filter(|_| plain)
}

/// The first of two pages, and how many there are from it to the last.
fn pages_between((first, last): (u64, u64)) -> Option<(u64, u64)> {
    Some((first, last.checked_sub(first)?.checked_add(1)?))
}

/// All CPUs that there can be.
fn every_cpu() -> Option<CpuSet> {
    CpuSet::new(0..=MAX_CPU)
}

/// CPUs and ranges, separated by commas; those behind `^` are left out, in the order in which they stand.
fn read_cpus(text: &str) -> Result<CpuSet, String> {
    let mut chosen = vec![false; MAX_CPU as usize + 1];
    for part in text.split(',').map(str::trim) {
        let (part, wanted) = part.strip_prefix('^').map_or((part, true), |part| (part, false));
        if part.starts_with("node") {
            return Err("NUMA nodes are not known on the host: name CPUs".into());
        }
        if part == "all" {
            chosen.fill(wanted);
            continue;
        }
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let cpu = |text: &str| match text.trim().parse::<u32>() {
            Ok(cpu) if cpu <= MAX_CPU && !text.trim().starts_with('+') => Ok(cpu as usize),
            _ => Err(format!("{:?} is no CPU, 0 to {MAX_CPU}", text.trim())),
        };
        let (first, last) = (cpu(first)?, cpu(last)?);
        if first > last {
            return Err(format!("{first}-{last} is the wrong way round"));
        }
        chosen[first..=last].fill(wanted);
    }
    let cpus = (0..=MAX_CPU).filter(|cpu| chosen[*cpu as usize]);
    CpuSet::new(cpus).ok_or_else(|| "no CPU is left".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_read_as_xl_reads_them() {
        let read = |text| read_cpus(text).map(|set| set.to_string());
        assert_eq!(read("0-3,^1"), Ok("0,2-3".into()));
        assert_eq!(read(" 5 , 1 - 2 "), Ok("1-2,5".into()));
        assert_eq!(read("all,^0"), Ok("1-16383".into()));
        assert_eq!(read("^1,0-2"), Ok("0-2".into()));
        for (text, reason) in [
            ("^1", "no CPU is left"),
            ("", "\"\" is no CPU"),
            ("0-3,^0-3", "no CPU is left"),
            ("3-1", "3-1 is the wrong way round"),
            ("16384", "\"16384\" is no CPU"),
            ("-1", "\"\" is no CPU"),
            ("+1", "\"+1\" is no CPU"),
            ("nodes:0", "NUMA nodes"),
        ] {
            assert!(read(text).unwrap_err().starts_with(reason), "{text}: {:?}", read(text));
        }
    }

    #[test]
    fn hexadecimal_numbers_have_no_sign() {
        assert_eq!(hexadecimal(" 0x2F8 "), Some(0x2f8));
        assert_eq!(hexadecimal("70"), Some(0x70));
        for text in ["", "0x", "+1", "-1", "g", "10000000000000000"] {
            assert_eq!(hexadecimal(text), None, "{text}");
        }
    }
}
