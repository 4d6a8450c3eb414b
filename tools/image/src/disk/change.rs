//! A disk image with another RAM disk.

use std::io;

use super::read::{Partition, files, open_system, read_file, read_table};
use super::{BLOCK, DiskError, Identity, above_low_memory, esp, paths, table};

/// The files of a disk of ours but for the RAM disk, in the order in which they are written.
const KEPT: [&str; 4] = [paths::EFI_LOADER, paths::MENU, paths::XEN, paths::DB_BOOT];

/// The disk image again with `archive` as its RAM disk, everything else as it is; what [`build`](super::build) would have made
/// of it.
pub fn with_archive(image: &[u8], archive: &[u8]) -> Result<Vec<u8>, DiskError> {
    let fail = |what| move |cause| DiskError::Unreadable { what, cause };
    let table_fail = fail("partition table");
    let (_, partitions) = read_table(image)?;
    let core = partitions.first().filter(|core| core.bytes.start == table::CORE_START * BLOCK);
    let core = core.and_then(|core| image.get(core.bytes.clone()));
    let boot_code = image.first_chunk::<440>();
    let (Some(core), Some(boot_code)) = (core, boot_code) else {
        return Err(table_fail(io::Error::other("the first partition is not GRUB's")));
    };
    let fail = fail("EFI system partition");
    let system = open_system(image, &partitions)?;
    nothing_is_lost(&partitions, &files(&system).map_err(fail)?)?;
    let archive = above_low_memory(archive);
    let mut kept = Vec::new();
    for path in KEPT {
        kept.push((path, read_file(&system, path, image.len()).map_err(fail)?));
    }
    let mut files: Vec<_> = kept.iter().map(|(path, bytes)| (*path, bytes.as_slice())).collect();
    files.push((paths::ARCHIVE, &archive));
    let identity = Identity::of(&files);
    let system = esp::build(&files, &identity)?;
    table::arrange(boot_code, core, &system, &identity)
}

/// The disk is put together anew: what somebody has added to it would be gone.
fn nothing_is_lost(partitions: &[Partition], files: &[(String, usize)]) -> Result<(), DiskError> {
    let known = |path: &str| KEPT.contains(&path) || path == paths::ARCHIVE;
    let mut added: Vec<String> =
        files.iter().filter(|(path, _)| !known(path)).map(|(path, _)| format!("/{path}")).collect();
    added.extend(partitions.iter().skip(2).map(|partition| format!("the partition {:?}", partition.name)));
    if added.is_empty() { Ok(()) } else { Err(DiskError::Added { what: added }) }
}
