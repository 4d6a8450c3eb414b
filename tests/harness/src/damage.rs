//! Damage to a RAM disk after domb has checked and packed it: how tests show db-boot what domb would never pack.

use ramdisk::{Archive, Item, RamdiskError, Writer, WriterError};
use serde::Deserialize;
use thiserror::Error;

/// One `[[damage]]` of a test.toml: cut an entry (or the whole archive), or write over a part of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Damage {
    /// The archive's entry; without it the archive itself.
    entry: Option<String>,
    /// Keep only so many bytes.
    keep: Option<usize>,
    /// Write over the bytes from this offset on ...
    #[serde(default)]
    at: usize,
    /// ... with these.
    #[serde(default)]
    bytes: Vec<u8>,
}

/// A damage that cannot be done.
#[derive(Debug, Error)]
pub(crate) enum DamageError {
    /// The archive is damaged already, or has no such entry.
    #[error(transparent)]
    Archive(#[from] RamdiskError),
    /// It cannot be put together again.
    #[error(transparent)]
    Write(#[from] WriterError),
    /// The place to damage lies outside.
    #[error("[{at:#x}..{end:#x}) is not in the {size:#x} bytes that are to be damaged")]
    Outside {
        /// Where the damage begins.
        at: usize,
        /// Where it ends.
        end: usize,
        /// How many bytes there are.
        size: usize,
    },
}

impl Damage {
    /// The archive with this damage. Damages of entries come before damages of the whole.
    pub(crate) fn apply(&self, archive: &[u8]) -> Result<Vec<u8>, DamageError> {
        let Some(name) = &self.entry else { return self.apply_to(archive) };
        let old = Archive::parse(archive)?;
        let damaged = self.apply_to(old.file(name)?)?;
        let mut new = Writer::new();
        for entry in old.entries() {
            let data = if entry.name() == name { damaged.as_slice() } else { entry.data() };
            new.add(&Item {
                name: entry.name(),
                kind: entry.kind(),
                permissions: entry.permissions(),
                data,
            })?;
        }
        Ok(new.finish())
    }

    fn apply_to(&self, bytes: &[u8]) -> Result<Vec<u8>, DamageError> {
        let size = bytes.len();
        let outside = |at: usize, end: usize| DamageError::Outside { at, end, size };
        let keep = self.keep.unwrap_or(size);
        let mut damaged = bytes.get(..keep).ok_or_else(|| outside(0, keep))?.to_vec();
        let end = self.at.saturating_add(self.bytes.len());
        let place = damaged.get_mut(self.at..end).ok_or_else(|| outside(self.at, end))?;
        place.copy_from_slice(&self.bytes);
        Ok(damaged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive() -> Vec<u8> {
        let mut writer = Writer::new();
        writer.file("a", b"first").unwrap();
        writer.file("b", b"second").unwrap();
        writer.finish()
    }

    fn damage(toml: &str) -> Result<Vec<u8>, DamageError> {
        toml::from_str::<Damage>(toml).unwrap().apply(&archive())
    }

    #[test]
    fn an_entry_is_cut_or_written_over_and_the_others_stay() {
        for (toml, expected) in [
            ("entry = \"b\"\nkeep = 2", &b"se"[..]),
            ("entry = \"b\"\nat = 1\nbytes = [0x45]", b"sEcond"),
            ("entry = \"b\"\nkeep = 3\nat = 2\nbytes = [0]", b"se\0"),
        ] {
            let damaged = damage(toml).unwrap();
            let damaged = Archive::parse(&damaged).unwrap();
            assert_eq!((damaged.file("a").unwrap(), damaged.file("b").unwrap()), (&b"first"[..], expected));
        }
    }

    #[test]
    fn the_archive_itself_can_be_damaged() {
        assert_eq!(damage("keep = 50").unwrap(), archive()[..50]);
        assert!(damage("keep = 0").unwrap().is_empty());
        assert!(damage("bytes = [0]").unwrap().starts_with(b"\x0070701"));
    }

    #[test]
    fn damage_outside_is_an_error() {
        for toml in ["entry = \"c\"", "keep = 100000", "entry = \"a\"\nat = 4\nbytes = [1, 2]"] {
            assert!(damage(toml).is_err(), "{toml}");
        }
    }
}
