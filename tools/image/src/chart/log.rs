//! The builder's lines in a console log, and what they say.
//!
//! A line is `[SECONDS.MICROS] db-boot: LEVEL: WORD...`, or with `db-server`; a word `key=value` is a field. Everything else in a log (Xen's
//! lines, the guests', the firmware's) is passed over. Guests' lines start with `[NAME] `, and no VM is named like a time, so that a
//! guest cannot write a line that is taken for db-boot's.

use protocols::spec::is_time_stamp;

/// Who writes such lines.
const BUILDERS: [&str; 2] = ["db-boot", "db-server"];

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Error,
    Warning,
    Other,
}

/// A line of db-boot or db-server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// Microseconds since Xen's clock started.
    pub(super) time: u64,
    pub(super) level: Level,
    /// Which builder wrote it.
    pub(super) builder: &'static str,
    /// What follows the level.
    pub(super) text: &'a str,
}

impl<'a> Line<'a> {
    /// Reads a line, if it is one of db-boot.
    pub(super) fn parse(line: &'a str) -> Option<Self> {
        let line = without_escapes(line.trim_end()).strip_prefix('[')?;
        // The first of either, as what follows may quote the other.
        let written_by = |builder: &'static str| {
            let (time, rest) = line.split_once(&format!("] {builder}: "))?;
            Some((time, rest, builder))
        };
        let (time, rest, builder) =
            BUILDERS.into_iter().filter_map(written_by).min_by_key(|(time, ..)| time.len())?;
        let time = micros(time)?;
        let (level, text) = rest.split_once(": ")?;
        let level = match level {
            "error" => Level::Error,
            "warn" => Level::Warning,
            _ => Level::Other,
        };
        Some(Self { time, level, builder, text })
    }

    /// The value of the first field `key`.
    pub(super) fn field(&self, key: &str) -> Option<&'a str> {
        self.text.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }

    /// The duration that the line gives, in microseconds.
    pub(super) fn took(&self) -> Option<u64> {
        self.field("took")?.strip_suffix("us")?.parse().ok()
    }
}

/// `    1.019113` in microseconds.
fn micros(text: &str) -> Option<u64> {
    let text = text.trim_start();
    if !is_time_stamp(text) {
        return None;
    }
    let (seconds, fraction) = text.split_once('.')?;
    seconds.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(fraction.parse().ok()?)
}

/// The line without the terminal's control sequences at its start, which firmware and GRUB leave behind.
fn without_escapes(mut line: &str) -> &str {
    while let Some(rest) = line.strip_prefix("\x1b[") {
        let Some(end) = rest.find(|c: char| ('@'..='~').contains(&c)) else { break };
        line = rest.get(end + 1..).unwrap_or_default();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_a_time_a_level_and_fields() {
        let line =
            Line::parse("\x1b[0m\x1b[2;1H[   12.000345] db-boot: info: vm=web step=load took=42us\r\n")
                .unwrap();
        assert_eq!((line.time, line.level), (12_000_345, Level::Other));
        assert_eq!(
            (line.field("vm"), line.field("step"), line.took()),
            (Some("web"), Some("load"), Some(42))
        );
        assert_eq!(line.field("ste"), None);
        let served = Line::parse("[    0.000002] db-server: info: vm=x ] db-boot: y").unwrap();
        assert_eq!((served.time, served.builder, served.text), (2, "db-server", "vm=x ] db-boot: y"));
        let error = Line::parse("[    0.000001] db-boot: error: vm=db no: memory").unwrap();
        assert_eq!((error.level, error.text), (Level::Error, "vm=db no: memory"));
    }

    #[test]
    fn other_lines_are_passed_over() {
        for line in [
            "",
            "[",
            "(XEN) [    1.000000] db-boot: info: vm=web",
            "[web] [    1.000000] db-boot: info: vm=web event=ended reason=crash",
            "[    1.00000] db-boot: info: vm=web",
            "[    x.000000] db-boot: info: vm=web",
            "[    1.000000] other: info: vm=web",
            "[99999999999999999999.000000] db-boot: info: vm=web",
            "\x1b[",
        ] {
            assert_eq!(Line::parse(line), None, "{line:?}");
        }
    }
}
