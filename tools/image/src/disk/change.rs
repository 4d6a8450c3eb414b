//! A disk image with another RAM disk.

use std::io::{self, Read as _};

use super::read::{open_system, read_table};
use super::{BLOCK, DiskError, Identity, above_low_memory, esp, paths, table};

/// The disk image again with `archive` as its RAM disk, everything else as it is; what [`build`](super::build) would have made
/// of it.
pub fn with_archive(image: &[u8], archive: &[u8]) -> Result<Vec<u8>, DiskError> {
    let fail = |what| move |cause| DiskError::Unreadable { what, cause };
    let table_fail = fail("partition table");
    let (_, partitions) = read_table(image).map_err(table_fail)?;
    let core = partitions.first().filter(|core| core.bytes.start == table::CORE_START * BLOCK);
    let core = core.and_then(|core| image.get(core.bytes.clone()));
    let boot_code = image.first_chunk::<440>();
    let (Some(core), Some(boot_code)) = (core, boot_code) else {
        return Err(table_fail(io::Error::other("the first partition is not GRUB's")));
    };
    let fail = fail("EFI system partition");
    let system = open_system(image, &partitions)?;
    let read = |path: &'static str| -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        system.root_dir().open_file(path)?.read_to_end(&mut bytes).map(|_| bytes)
    };
    let archive = above_low_memory(archive);
    let mut kept = Vec::new();
    for path in [paths::EFI_LOADER, paths::MENU, paths::XEN, paths::DB_BOOT] {
        kept.push((path, read(path).map_err(fail)?));
    }
    let mut files: Vec<_> = kept.iter().map(|(path, bytes)| (*path, bytes.as_slice())).collect();
    files.push((paths::ARCHIVE, &archive));
    let identity = Identity::of(&files);
    let system = esp::build(&files, &identity)?;
    table::arrange(boot_code, core, &system, &identity)
}
