//! The builder's command line.

use alloc::string::String;
use alloc::vec::Vec;
use core::num::NonZeroU32;

use log::LevelFilter;
use protocols::PlatformSpec;
use protocols::platform::{LogLevel, Policy};

use crate::{EscapeKey, Trust};

/// Bytes of the longest command line that a start info holds in front of its NUL. Xen cuts what is longer, and does not say so.
const LONGEST_LINE: usize = 1023;

/// Settings from the builder's command line: words and `key=value`, separated by spaces. What is not given there is the platform
/// spec's to say, or has a default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// `policy=all` or `policy=each`.
    pub policy: Option<Policy>,
    /// `loglevel=error`, `warn`, `info` or `debug`.
    pub level: Option<LevelFilter>,
    /// `exit-port=0xf4`: the I/O port to write the machine's exit status to, where something listens there.
    pub exit_port: Option<u16>,
    /// `interactive`: what is typed at Xen's console goes to a VM.
    pub interactive: bool,
    /// `escape=^]`: the key that opens the builder's prompt.
    pub escape: EscapeKey,
    /// `keyboard=NAME`: the VM that has the keyboard first; the first one unless set.
    pub keyboard: Option<String>,
    /// `usage=1000`: after how many VMs to log what is in use.
    pub usage: Option<NonZeroU32>,
    /// `trust=measure`, `trust=require:PUBLIC-KEY`, `trust-version=NUMBER` and `event-log=VM,...`: what is asked of the RAM disk,
    /// and who is told.
    pub trust: Trust,
    /// The whole line, which is measured.
    pub line: String,
    /// What could not be understood, each with the reason; the builder warns of it and goes on.
    pub complaints: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            policy: None,
            level: None,
            exit_port: None,
            interactive: false,
            escape: EscapeKey::DEFAULT,
            keyboard: None,
            usage: None,
            trust: Trust::default(),
            line: String::new(),
            complaints: Vec::new(),
        }
    }
}

impl Options {
    /// Reads a command line as the start info holds it. Bytes that are not UTF-8 spoil the word that they are in, and none behind it.
    pub fn from_bytes(line: &[u8]) -> Self {
        Self::parse(&String::from_utf8_lossy(line))
    }

    /// Reads a command line.
    pub fn parse(line: &str) -> Self {
        let mut options = Self { line: line.into(), ..Self::default() };
        if line.len() >= LONGEST_LINE {
            options.trust.doubt(alloc::format!(
                "the command line has {} bytes, at which Xen cuts it: `trust=` may have been in what is lost; shorten it",
                line.len()
            ));
        }
        for word in line.split_ascii_whitespace() {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            let understood = match key {
                "policy" => set(&mut options.policy, parse_policy(value).map(Some)),
                "loglevel" => set(&mut options.level, parse_level(value).map(Some)),
                "exit-port" => set(&mut options.exit_port, parse_port(value).map(Some)),
                "interactive" => set(&mut options.interactive, (word == key).then_some(true)),
                "escape" => set(&mut options.escape, EscapeKey::parse(value)),
                "keyboard" => set(&mut options.keyboard, (!value.is_empty()).then(|| Some(value.into()))),
                "usage" => set(&mut options.usage, value.parse().ok().map(Some)),
                // A slip in these is no reason to go on without them: `trust` refuses every RAM disk then.
                "trust" => {
                    options.trust.ask(value);
                    true
                }
                "event-log" => {
                    options.trust.show_to(value);
                    true
                }
                "trust-version" => {
                    options.trust.ask_version(value);
                    true
                }
                _ => options.trust.suspect(key, value),
            };
            if !understood {
                options.complaints.push(complaint(key, word));
            }
        }
        options
    }

    /// How much is logged: before the platform spec is read, without one.
    pub fn level(&self, platform: Option<&PlatformSpec>) -> LevelFilter {
        let from_platform = platform.and_then(|platform| platform.log_level).map(level_filter);
        self.level.or(from_platform).unwrap_or(LevelFilter::Info)
    }

    /// Puts into the platform spec what the command line says otherwise.
    pub(crate) fn override_in(&self, platform: &mut PlatformSpec) {
        platform.policy = self.policy.unwrap_or(platform.policy);
    }
}

fn level_filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::Error,
        LogLevel::Warn => LevelFilter::Warn,
        LogLevel::Info => LevelFilter::Info,
        LogLevel::Debug => LevelFilter::Debug,
    }
}

/// Stores a value that could be read, and says whether it could.
fn set<T>(to: &mut T, value: Option<T>) -> bool {
    let understood = value.is_some();
    if let Some(value) = value {
        *to = value;
    }
    understood
}

fn parse_policy(value: &str) -> Option<Policy> {
    match value {
        "all" => Some(Policy::All),
        "each" => Some(Policy::Each),
        _ => None,
    }
}

fn parse_level(value: &str) -> Option<LevelFilter> {
    match value {
        "error" => Some(LevelFilter::Error),
        "warn" => Some(LevelFilter::Warn),
        "info" => Some(LevelFilter::Info),
        "debug" => Some(LevelFilter::Debug),
        _ => None,
    }
}

fn parse_port(value: &str) -> Option<u16> {
    match value.strip_prefix("0x") {
        Some(hex) => u16::from_str_radix(hex, 16).ok(),
        None => value.parse().ok(),
    }
}

fn complaint(key: &str, word: &str) -> String {
    let expected = match key {
        "policy" => "policy=all or policy=each",
        "loglevel" => "loglevel=error, warn, info or debug",
        "exit-port" => "exit-port= and a port number from 0 to 0xffff",
        "interactive" => "the word alone",
        "escape" => "escape=^] or another control key, ^A to ^_ but for ^H ^I ^J ^M ^[",
        "keyboard" => "keyboard= and a VM's name",
        "usage" => "usage= and a number of VMs from 1 on",
        _ => {
            "one of policy=, loglevel=, exit-port=, interactive, escape=, keyboard=, usage=, trust=, trust-version=, event-log="
        }
    };
    alloc::format!("`{word}` on the command line is ignored: expected {expected}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_line_gives_the_defaults() {
        assert_eq!(Options::parse(""), Options::default());
    }

    #[test]
    fn every_key_is_read() {
        let options = Options::parse(
            "policy=each loglevel=debug exit-port=0xf4 interactive escape=^T keyboard=web usage=7",
        );
        assert_eq!(options.usage.map(NonZeroU32::get), Some(7));
        assert!(options.interactive);
        assert_eq!(Some(options.escape), EscapeKey::parse("^t"));
        assert_eq!(options.keyboard.as_deref(), Some("web"));
        assert_eq!(options.policy, Some(Policy::Each));
        assert_eq!(options.level, Some(LevelFilter::Debug));
        assert_eq!(options.exit_port, Some(0xf4));
        assert!(options.complaints.is_empty());
        assert_eq!(Options::parse("exit-port=244").exit_port, Some(244));
    }

    #[test]
    fn the_command_line_has_its_way_over_the_platform() {
        let mut platform =
            PlatformSpec { policy: Policy::Each, log_level: Some(LogLevel::Warn), ..PlatformSpec::default() };
        let silent = Options::default();
        silent.override_in(&mut platform);
        assert_eq!(platform.policy, Policy::Each);
        assert_eq!(silent.level(Some(&platform)), LevelFilter::Warn);
        assert_eq!(silent.level(None), LevelFilter::Info);
        let options = Options::parse("policy=all loglevel=error");
        options.override_in(&mut platform);
        assert_eq!(platform.policy, Policy::All);
        assert_eq!(options.level(Some(&platform)), LevelFilter::Error);
    }

    #[test]
    fn what_is_not_understood_is_said_and_changes_nothing() {
        let options =
            Options::parse("policy=some verbose exit-port=0x10000 interactive=1 escape=^M keyboard= usage=0");
        assert_eq!(
            Options { complaints: Vec::new(), line: String::new(), ..options.clone() },
            Options::default()
        );
        assert_eq!(options.complaints.len(), 7);
        assert!(
            options.complaints[0].contains("expected policy=all or policy=each"),
            "{}",
            options.complaints[0]
        );
    }
}
