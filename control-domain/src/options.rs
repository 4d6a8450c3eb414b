//! The control domain's command line.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use log::LevelFilter;
use trust::PublicKey;

/// Settings from the command line: words and `key=value`, separated by spaces. Words that are not known belong to somebody else (such as
/// the channel's) and are left alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// `loglevel=error`, `warn`, `info` or `debug`.
    pub level: LevelFilter,
    /// `trust=require:PUBLIC-KEY`: the RAM disk must be signed with this key.
    pub key: Option<PublicKey>,
    /// `trust-version=NUMBER`: the least version that it must have.
    pub least_version: u64,
    /// What could not be understood of these. With one, no RAM disk is used: nobody is to lose the protection of a key by a slip.
    pub faults: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self { level: LevelFilter::Info, key: None, least_version: 0, faults: Vec::new() }
    }
}

impl Options {
    /// Reads a command line.
    pub fn parse(line: &str) -> Self {
        let mut options = Self::default();
        for word in line.split_ascii_whitespace() {
            let Some((key, value)) = word.split_once('=') else { continue };
            match key {
                "loglevel" => options.level = value.parse().unwrap_or(options.level),
                "trust" => options.require(value),
                "trust-version" => match value.parse() {
                    Ok(version) => options.least_version = version,
                    Err(_) => options.faults.push(format!("`{word}`: expected a number")),
                },
                _ => {}
            }
        }
        if options.key.is_none() && options.least_version > 0 {
            options.faults.push(
                "`trust-version=` without `trust=require:PUBLIC-KEY`: versions are what a key signs".into(),
            );
        }
        options
    }

    fn require(&mut self, value: &str) {
        match value.strip_prefix("require:").map(str::parse::<PublicKey>) {
            Some(Ok(key)) if self.key.is_none_or(|before| before == key) => self.key = Some(key),
            Some(Ok(_)) => self.faults.push(format!("`trust={value}` is not what `trust=` said before")),
            Some(Err(error)) => self.faults.push(format!("`trust={value}`: {error}")),
            None => self.faults.push(format!("`trust={value}`: expected trust=require:PUBLIC-KEY")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_in_what_is_trusted_is_a_fault_and_other_words_are_not_ours() {
        let options = Options::parse("vchan=client:db-server:0:8:5 nonce=7 loglevel=debug");
        assert_eq!(options, Options { level: LevelFilter::Debug, ..Options::default() });
        for line in ["trust=measured", "trust=require:12", "trust-version=2", "trust-version=x"] {
            assert!(!Options::parse(line).faults.is_empty(), "{line}");
        }
    }
}
