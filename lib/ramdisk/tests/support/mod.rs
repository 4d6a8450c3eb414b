//! Builds archives byte by byte, right or wrong in any field.
#![allow(dead_code, reason = "each test file uses its own part of this")]
#![allow(clippy::unwrap_used, reason = "a test's own helpers may stop the test")]

/// One entry, every field of which can be set to something wrong.
#[derive(Clone)]
pub(crate) struct Raw {
    pub(crate) magic: &'static str,
    pub(crate) ino: u32,
    pub(crate) mode: u32,
    pub(crate) nlink: u32,
    pub(crate) file_size: u64,
    pub(crate) name_size: u32,
    pub(crate) check: u32,
    pub(crate) name: Vec<u8>,
    pub(crate) data: Vec<u8>,
    /// The byte that fills gaps.
    pub(crate) padding: u8,
}

impl Raw {
    /// A correct regular file.
    pub(crate) fn new(magic: &'static str, name: &str, data: &[u8]) -> Self {
        Self {
            magic,
            ino: 1,
            mode: 0o100_644,
            nlink: 1,
            file_size: data.len() as u64,
            name_size: u32::try_from(name.len()).unwrap() + 1,
            check: if magic == "070702" { data.iter().map(|byte| u32::from(*byte)).sum() } else { 0 },
            name: [name.as_bytes(), b"\0"].concat(),
            data: data.to_vec(),
            padding: 0,
        }
    }

    pub(crate) fn newc(name: &str, data: &[u8]) -> Self {
        Self::new("070701", name, data)
    }

    pub(crate) fn crc(name: &str, data: &[u8]) -> Self {
        Self::new("070702", name, data)
    }

    pub(crate) fn odc(name: &str, data: &[u8]) -> Self {
        Self::new("070707", name, data)
    }

    pub(crate) fn trailer(magic: &'static str) -> Self {
        Self { mode: 0, ..Self::new(magic, "TRAILER!!!", b"") }
    }

    /// Lets a closure spoil the entry.
    pub(crate) fn with(mut self, spoil: impl FnOnce(&mut Self)) -> Self {
        spoil(&mut self);
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let Self { magic, ino, mode, nlink, file_size, name_size, check, .. } = self;
        let odc = *magic == "070707";
        let header = if odc {
            format!(
                "{magic}{:06o}{ino:06o}{mode:06o}{:06o}{:06o}{nlink:06o}{:06o}{:011o}{name_size:06o}{file_size:011o}",
                0, 0, 0, 0, 0
            )
        } else {
            format!(
                "{magic}{ino:08x}{mode:08x}{:08x}{:08x}{nlink:08x}{:08x}{file_size:08x}{:08x}{:08x}{:08x}{:08x}\
                 {name_size:08x}{check:08x}",
                0, 0, 0, 0, 0, 0, 0
            )
        };
        let mut bytes = header.into_bytes();
        bytes.extend(&self.name);
        self.pad(odc, &mut bytes);
        bytes.extend(&self.data);
        self.pad(odc, &mut bytes);
        bytes
    }

    fn pad(&self, odc: bool, bytes: &mut Vec<u8>) {
        while !odc && !bytes.len().is_multiple_of(4) {
            bytes.push(self.padding);
        }
    }
}

/// The entries and the trailer that fits the first one.
pub(crate) fn archive(entries: &[Raw]) -> Vec<u8> {
    let magic = entries.first().map_or("070701", |entry| entry.magic);
    let mut bytes: Vec<u8> = entries.iter().flat_map(Raw::bytes).collect();
    bytes.extend(Raw::trailer(magic).bytes());
    bytes
}

/// A small archive in the format of `magic`: a directory and two files.
pub(crate) fn small(magic: &'static str) -> Vec<u8> {
    archive(&[
        Raw::new(magic, "vms", b"").with(|entry| entry.mode = 0o040_755),
        Raw::new(magic, "vms/a.spec", b"spec of a"),
        Raw::new(magic, "images/kernel", b"\x7fELF and so on"),
    ])
}

/// The magic number of each format.
pub(crate) const MAGICS: [&str; 3] = ["070701", "070702", "070707"];
