//! Reading a disk image back: its partitions, and what it boots.

use std::io::{self, Cursor, Read as _};

use fatfs::{FileSystem, FsOptions};
use gpt::GptConfig;
use gpt::disk::LogicalBlockSize;

use super::{BLOCK, DiskError, paths};

/// A partition of a disk image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its name.
    pub name: String,
    /// Its type's GUID.
    pub kind: String,
    /// Its own GUID.
    pub guid: String,
    /// Its place in the image, in bytes.
    pub bytes: std::ops::Range<usize>,
}

/// What a disk image of ours holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskContents {
    /// The GUID of the disk.
    pub guid: String,
    /// The partitions, in the order of the table.
    pub partitions: Vec<Partition>,
    /// The files of the EFI system partition with their sizes, sorted by path.
    pub files: Vec<(String, usize)>,
    /// GRUB's menu.
    pub menu: String,
    /// Xen.
    pub xen: Vec<u8>,
    /// db-boot, with zeros behind it if it is small.
    pub db_boot: Vec<u8>,
    /// The RAM disk.
    pub archive: Vec<u8>,
}

impl DiskContents {
    /// The memory that Xen's command line gives to Dom0, in MiB.
    pub fn dom0_mib(&self) -> Option<u64> {
        let (_, rest) = self.menu.split_once("dom0_mem=")?;
        rest.split_once('M')?.0.parse().ok()
    }
}

/// Whether `bytes` start like a partitioned disk.
pub fn is_disk_image(bytes: &[u8]) -> bool {
    bytes.get(BLOCK..).is_some_and(|table| table.starts_with(b"EFI PART"))
}

/// Reads a disk image that [`build`](super::build) made.
pub fn read(image: &[u8]) -> Result<DiskContents, DiskError> {
    let fail = |what| move |cause| DiskError::Unreadable { what, cause };
    let (guid, partitions) = read_table(image)?;
    let fail = fail("EFI system partition");
    let system = open_system(image, &partitions)?;
    let files = files(&system).map_err(fail)?;
    let read_file = |path: &str| read_file(&system, path, image.len());
    let menu = String::from_utf8_lossy(&read_file(paths::MENU).map_err(fail)?).into_owned();
    let xen = read_file(paths::XEN).map_err(fail)?;
    let db_boot = read_file(paths::DB_BOOT).map_err(fail)?;
    let archive = read_file(paths::ARCHIVE).map_err(fail)?;
    Ok(DiskContents { guid, partitions, files, menu, xen, db_boot, archive })
}

/// A file of a file system on a disk of `disk` bytes.
pub(super) fn read_file(
    system: &FileSystem<Cursor<Vec<u8>>>,
    path: &str,
    disk: usize,
) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // A chain of clusters may lead back into itself; no file is larger than the disk it is on.
    let most = u64::try_from(disk).unwrap_or(u64::MAX);
    system.root_dir().open_file(path)?.take(most).read_to_end(&mut bytes).map(|_| bytes)
}

/// The files of a file system with their sizes, sorted by path.
pub(super) fn files(system: &FileSystem<Cursor<Vec<u8>>>) -> io::Result<Vec<(String, usize)>> {
    let (mut files, mut left) = (Vec::new(), MAX_ENTRIES);
    list(&system.root_dir(), "", &mut left, &mut files)?;
    files.sort();
    Ok(files)
}

/// Opens the file system of the EFI system partition.
pub(super) fn open_system(
    image: &[u8],
    partitions: &[Partition],
) -> Result<FileSystem<Cursor<Vec<u8>>>, DiskError> {
    let fail = |what| move |cause| DiskError::Unreadable { what, cause };
    let system = partitions
        .iter()
        .find(|partition| partition.kind == gpt::partition_types::EFI.guid.to_string().to_lowercase())
        .and_then(|partition| image.get(partition.bytes.clone()))
        .ok_or_else(|| fail("partition table")(io::Error::other("there is no EFI system partition")))?;
    FileSystem::new(Cursor::new(system.to_vec()), FsOptions::new()).map_err(fail("EFI system partition"))
}

pub(super) fn read_table(image: &[u8]) -> Result<(String, Vec<Partition>), DiskError> {
    let fail =
        |cause: String| DiskError::Unreadable { what: "partition table", cause: io::Error::other(cause) };
    check_header(image).map_err(|words| fail(words.to_owned()))?;
    // The crate wants a device of its own; the table is at the start, its copy at the end.
    let config = GptConfig::new().writable(false).logical_block_size(LogicalBlockSize::Lb512);
    let table =
        config.open_from_device(Cursor::new(image.to_vec())).map_err(|cause| fail(cause.to_string()))?;
    let place = |block: u64| usize::try_from(block).unwrap_or(usize::MAX).saturating_mul(BLOCK);
    // The table's copy is in the disk's last block.
    let size = table.primary_header().map_or(0, |header| place(header.backup_lba.saturating_add(1)));
    if image.len() < size {
        return Err(DiskError::CutOff { length: image.len(), size });
    }
    let partitions = table
        .partitions()
        .values()
        .filter(|partition| partition.is_used())
        .map(|partition| Partition {
            name: partition.name.clone(),
            kind: partition.part_type_guid.guid.to_string().to_lowercase(),
            guid: partition.part_guid.to_string(),
            bytes: place(partition.first_lba)..place(partition.last_lba.saturating_add(1)),
        })
        .collect();
    Ok((table.guid().to_string(), partitions))
}

/// Looks at what the crate takes for granted of a table, or takes memory for: the size and number of its entries.
fn check_header(image: &[u8]) -> Result<(), &'static str> {
    const COUNT: usize = BLOCK + 80;
    const SIZE: usize = BLOCK + 84;
    let word = |at: usize| image.get(at..)?.first_chunk().copied().map(u32::from_le_bytes);
    if word(SIZE) != Some(ENTRY_SIZE) {
        return Err("its entries are not of 128 bytes");
    }
    if word(COUNT).is_none_or(|count| count > MAX_PARTITIONS) {
        return Err("it has more than 1024 entries");
    }
    Ok(())
}

/// Bytes of an entry of the partition table, ours and everybody's.
const ENTRY_SIZE: u32 = 128;
/// Entries of a partition table: ours have 128.
const MAX_PARTITIONS: u32 = 1024;

type Folder<'a> = fatfs::Dir<'a, Cursor<Vec<u8>>>;

/// Folders within folders that are looked into: ours go three deep. In a damaged image a folder may hold itself.
const MAX_DEPTH: usize = 8;
/// Entries of folders that are looked at, in all.
const MAX_ENTRIES: usize = 10_000;

/// Enters the files of `folder`, whose own path is `path`, and of those in it; `left` entries may still be looked at.
fn list(
    folder: &Folder<'_>,
    path: &str,
    left: &mut usize,
    files: &mut Vec<(String, usize)>,
) -> io::Result<()> {
    if path.matches('/').count() > MAX_DEPTH {
        return Err(io::Error::other("its folders are nested without end"));
    }
    for entry in folder.iter() {
        let entry = entry?;
        *left = left.checked_sub(1).ok_or_else(|| io::Error::other("its folders have no end"))?;
        let name = entry.file_name();
        if name == "." || name == ".." {
            continue;
        }
        let path = format!("{path}{name}");
        if entry.is_dir() {
            list(&entry.to_dir(), &format!("{path}/"), left, files)?;
        } else {
            files.push((path, usize::try_from(entry.len()).unwrap_or(usize::MAX)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use fatfs::FormatVolumeOptions;

    use super::*;

    #[test]
    fn a_folder_that_holds_itself_is_an_error() {
        let mut image = Cursor::new(vec![0; 1 << 20]);
        fatfs::format_volume(&mut image, FormatVolumeOptions::new()).unwrap();
        let system = FileSystem::new(&mut image, FsOptions::new()).unwrap();
        system.root_dir().create_dir("outer").unwrap().create_dir("inner").unwrap();
        drop(system);
        let mut bytes = image.into_inner();
        // The lower half of the first cluster's number, in the entry that begins with the short name.
        let cluster = |bytes: &[u8], name: &[u8; 11]| {
            let entry = bytes.windows(11).position(|window| window == name).unwrap();
            entry + 26..entry + 28
        };
        let outer = bytes[cluster(&bytes, b"OUTER      ")].to_vec();
        let inner = cluster(&bytes, b"INNER      ");
        bytes[inner].copy_from_slice(&outer);
        let system = FileSystem::new(Cursor::new(bytes), FsOptions::new()).unwrap();
        let error = list(&system.root_dir(), "", &mut { MAX_ENTRIES }, &mut Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), "its folders are nested without end");
    }
}
