//! The event log as VMs get it: an archive of its own behind their RAM disks, which Linux unpacks over the first one.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

use ramdisk::Writer;
use trust::EventLog;

/// The folder of the event log, and where it is in it.
const FOLDER: &str = "db-boot";
const FILE: &str = "db-boot/event-log";
/// Linux looks for an archive behind another at multiples of this many bytes.
const ALIGNMENT: usize = 4;

/// The event log, and who gets it.
#[derive(Debug, Default)]
pub(crate) struct SharedLog {
    vms: Vec<String>,
    archive: Vec<u8>,
}

impl SharedLog {
    /// Has the VMs of these names get `log`.
    pub(crate) fn new(log: &EventLog, vms: &[String]) -> Self {
        let mut writer = Writer::new();
        // Neither name is taken or too long: what cannot fail needs no error of its own.
        let written = writer.directory(FOLDER).and_then(|()| writer.file(FILE, log.as_bytes()));
        if let Err(error) = written {
            log::error!("event=event-log {error}");
        }
        Self { vms: vms.to_vec(), archive: writer.finish() }
    }

    /// Those of the names that are no VM's.
    pub(crate) fn unknown(&self, known: impl Fn(&str) -> bool) -> impl Iterator<Item = &String> {
        self.vms.iter().filter(move |name| !known(name))
    }

    /// The RAM disk of the VM called `name`, whose own is `own`: with the log behind it, if it gets the log. An error is
    /// the number of bytes for which there is no room.
    pub(crate) fn ramdisk<'a>(
        &self,
        name: &str,
        own: Option<&'a [u8]>,
    ) -> Result<Option<Cow<'a, [u8]>>, usize> {
        if !self.vms.iter().any(|vm| vm == name) {
            return Ok(own.map(Cow::Borrowed));
        }
        let own = own.unwrap_or_default();
        let start = own.len().next_multiple_of(ALIGNMENT);
        let length = start + self.archive.len();
        let mut joined = Vec::new();
        joined.try_reserve_exact(length).map_err(|_| length)?;
        joined.extend_from_slice(own);
        joined.resize(start, 0);
        joined.extend_from_slice(&self.archive);
        Ok(Some(Cow::Owned(joined)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ramdisk::Archive;

    #[test]
    fn the_log_stands_behind_the_vms_own_ramdisk() {
        let log = EventLog::new();
        let shared = SharedLog::new(&log, &["a".into()]);
        assert_eq!(shared.ramdisk("b", None), Ok(None));
        assert_eq!(shared.ramdisk("b", Some(b"own")), Ok(Some(Cow::Borrowed(&b"own"[..]))));
        let joined = shared.ramdisk("a", Some(b"own")).unwrap().unwrap();
        assert_eq!(&joined[..4], b"own\0");
        for disk in [&joined[4..], &shared.ramdisk("a", None).unwrap().unwrap()] {
            assert_eq!(Archive::parse(disk).unwrap().file("db-boot/event-log").unwrap(), log.as_bytes());
        }
        assert_eq!(shared.unknown(|name| name != "a").collect::<Vec<_>>(), ["a"]);
    }
}
