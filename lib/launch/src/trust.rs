//! Whether the RAM disk is the one that may be built from, and the log of what was in it.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use nearest::nearest;
use protocols::FileRecord;
use ramdisk::Archive;
use thiserror::Error;
use trust::{EventLog, PublicKey, RegisterIndex, TrustError, measure, sha256, verify};

use crate::build::micros;
use crate::event_log::SharedLog;

/// What is asked of the RAM disk before anything is built from it.
///
/// A setting that cannot be followed refuses every RAM disk: nobody is to lose the protection of a key by a slip.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Trust {
    asked: Option<Asked>,
    built_in: Option<PublicKey>,
    least_version: u64,
    shown_to: Vec<String>,
    faults: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Measure,
    Require(PublicKey),
}

/// What is done with the RAM disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    /// It is taken as it is.
    Nothing,
    /// Its files are measured.
    Measure,
    /// Its files are measured, and must be those that this key has signed.
    Require(PublicKey),
}

/// Why the RAM disk is refused.
#[derive(Debug, Error)]
pub(crate) enum Refusal {
    /// The settings cannot be followed.
    #[error("{}; no RAM disk is trusted until this is right", .0.join("; "))]
    Settings(Vec<String>),
    /// It is not the one that was signed.
    #[error(transparent)]
    Untrusted(#[from] TrustError),
}

impl Trust {
    /// Takes the value of `trust=`.
    pub(crate) fn ask(&mut self, value: &str) {
        let asked = match value.split_once(':') {
            None if value == "measure" => Ok(Asked::Measure),
            Some(("require", key)) => {
                key.parse().map(Asked::Require).map_err(|error| format!("`trust={value}`: {error}"))
            }
            _ => Err(format!("`trust={value}`: expected trust=measure or trust=require:PUBLIC-KEY")),
        };
        match (asked, self.asked) {
            (Ok(asked), Some(before)) if asked != before => {
                self.faults.push(format!("`trust={value}` is not what `trust=` said before"));
            }
            (Ok(asked), _) => self.asked = Some(asked),
            (Err(fault), _) => self.faults.push(fault),
        }
    }

    /// Takes the value of `trust-version=`.
    pub(crate) fn ask_version(&mut self, value: &str) {
        match value.parse() {
            Ok(version) => self.least_version = self.least_version.max(version),
            Err(_) => self.faults.push(format!("`trust-version={value}`: expected a number")),
        }
    }

    /// Takes the value of `event-log=`: names of VMs.
    pub(crate) fn show_to(&mut self, value: &str) {
        let names = value.split(',').filter(|name| !name.is_empty());
        self.shown_to.extend(names.map(ToString::to_string));
    }

    /// Refuses every RAM disk: what was asked is not known.
    pub(crate) fn doubt(&mut self, fault: String) {
        self.faults.push(fault);
    }

    /// Refuses every RAM disk if a word that means nothing, `key` and `value` around its `=`, looks like a setting of trust with a
    /// slip; whether it does.
    pub(crate) fn suspect(&mut self, key: &str, value: &str) -> bool {
        let near = nearest(key, ["trust", "trust-version", "event-log"]);
        if near.is_none() && !key.to_ascii_lowercase().contains("trust") && !value.starts_with("require:") {
            return false;
        }
        let meant = near.unwrap_or("trust");
        self.faults.push(format!("`{key}=` is no setting: is `{meant}=` meant?"));
        true
    }

    /// Requires the key of these 32 bytes, and platforms of at least `least_version`. Both are part of the builder itself: the command
    /// line can take neither back, but ask for a later version.
    pub fn build_in(&mut self, key: [u8; 32], least_version: u64) {
        match PublicKey::new(key) {
            Ok(key) => self.built_in = Some(key),
            Err(error) => self.faults.push(format!("the key in this builder: {error}")),
        }
        self.least_version = self.least_version.max(least_version);
    }

    fn policy(&self) -> Policy {
        match (self.built_in, self.asked) {
            (Some(key), _) | (None, Some(Asked::Require(key))) => Policy::Require(key),
            (None, Some(Asked::Measure)) => Policy::Measure,
            (None, None) if !self.shown_to.is_empty() => Policy::Measure,
            (None, None) => Policy::Nothing,
        }
    }

    /// All that keeps the settings from being followed: slips, and what contradicts each other.
    fn all_faults(&self) -> Vec<String> {
        let mut faults = self.faults.clone();
        match (self.built_in, self.asked) {
            (Some(key), Some(Asked::Require(asked))) if asked != key => faults.push(format!(
                "`trust=` asks for key {}, and this builder has key {} built in: leave `trust=` out",
                asked.id(),
                key.id()
            )),
            _ => {}
        }
        if self.least_version > 0 && !matches!(self.policy(), Policy::Require(_)) {
            faults.push(
                "`trust-version=` without a key: versions are what a key signs, add trust=require:PUBLIC-KEY"
                    .into(),
            );
        }
        faults
    }

    /// The policy in words, as the event log has it.
    fn text(&self) -> String {
        match self.policy() {
            Policy::Nothing | Policy::Measure => "trust: no key is required".to_string(),
            Policy::Require(key) => {
                format!("trust: key {} is required, version {}", key.id(), self.least_version)
            }
        }
    }
}

/// Measures the files of the RAM disk `archive`, parsed from `bytes`, and verifies them if that is asked; the log of what
/// was measured, for those VMs that are to get it.
pub(crate) fn examine(
    trust: &Trust,
    command_line: &str,
    bytes: &[u8],
    archive: &Archive<'_>,
    now: &dyn Fn() -> u64,
) -> Result<SharedLog, Refusal> {
    let faults = trust.all_faults();
    if !faults.is_empty() {
        return Err(Refusal::Settings(faults));
    }
    let policy = trust.policy();
    if policy == Policy::Nothing {
        return Ok(SharedLog::default());
    }
    let begin = now();
    let files = measure(archive);
    let hashed = now();
    let log = event_log(trust, command_line, &files);
    show(&log, &files, micros(begin, hashed));
    match policy {
        Policy::Nothing | Policy::Measure => {
            log::info!("trust=measured: no key is required, so nothing is refused");
        }
        Policy::Require(key) => {
            let manifest = verify(bytes, archive, &files, &key, trust.least_version)?;
            let took = micros(hashed, now());
            log::info!(
                "trust=verified key={} platform={:?} version={} files={} took={took}us",
                key.id(),
                manifest.platform,
                manifest.version,
                manifest.files.len()
            );
        }
    }
    Ok(SharedLog::new(&log, &trust.shown_to))
}

/// The log of settings and files. A file's event has the digest of its bytes alone; what is called how is in the list.
fn event_log(trust: &Trust, command_line: &str, files: &[FileRecord]) -> EventLog {
    let mut log = EventLog::new();
    let mut setting =
        |measured: &str, words: &str| log.loaded(RegisterIndex::SETTINGS, sha256(measured.as_bytes()), words);
    setting(command_line, &format!("command line: {command_line}"));
    let policy = trust.text();
    setting(&policy, &policy);
    let line = |list: String, file: &FileRecord| list + &format!("{}  {}\n", file.sha256, file.name);
    let list = files.iter().fold(String::new(), line);
    log.loaded(RegisterIndex::FILES, sha256(list.as_bytes()), "list of the files, as sha256sum writes it");
    for file in files {
        log.loaded(RegisterIndex::FILES, file.sha256, &file.name);
    }
    log.close(RegisterIndex::SETTINGS);
    log.close(RegisterIndex::FILES);
    log
}

fn show(log: &EventLog, files: &[FileRecord], took: u64) {
    for FileRecord { name, length, sha256 } in files {
        log::info!("event=measured pcr=9 entry={} bytes={length} sha256={sha256}", name.escape_debug());
    }
    let bytes: u64 = files.iter().map(|file| file.length).sum();
    log::info!(
        "event=event-log events={} pcr8={} pcr9={} measured={}KiB took={took}us",
        log.events(),
        log.register(RegisterIndex::SETTINGS),
        log.register(RegisterIndex::FILES),
        bytes / 1024
    );
}
