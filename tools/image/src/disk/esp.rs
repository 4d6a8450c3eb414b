//! The EFI system partition: a FAT file system in memory.

use std::io::{self, Cursor, Write as _};

use fatfs::{FileSystem, FormatVolumeOptions, FsOptions, format_volume};

use super::{BLOCK, DiskError, Identity};

/// Room for the tables and folders of the file system, beside one in 64 of the contents.
const OVERHEAD: usize = 2 << 20;
/// The file system's size is a multiple of this.
const STEP: usize = 1 << 20;
/// FAT's name of the volume, filled up with blanks.
const LABEL: [u8; 11] = *b"DOMB       ";

/// A file system with these files (path and bytes), just large enough. Its times are all zero.
pub(super) fn build(files: &[(&'static str, &[u8])], identity: &Identity) -> Result<Vec<u8>, DiskError> {
    for (path, bytes) in files {
        if u32::try_from(bytes.len()).is_err() {
            return Err(DiskError::TooLarge { what: path, bytes: bytes.len() });
        }
    }
    let fail = |cause| DiskError::Structure { what: "EFI system partition", cause };
    let contents: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
    let size = (contents + contents / 64 + OVERHEAD).next_multiple_of(STEP);
    let mut volume = vec![0; size];
    fill(&mut volume, files, identity).map_err(fail)?;
    Ok(volume)
}

fn fill(volume: &mut [u8], files: &[(&str, &[u8])], identity: &Identity) -> io::Result<()> {
    let blocks = u32::try_from(volume.len() / BLOCK).map_err(|_| io::Error::other("more than 2 TiB"))?;
    let options =
        FormatVolumeOptions::new().volume_id(identity.volume_id()).volume_label(LABEL).total_sectors(blocks);
    let mut device = Cursor::new(volume);
    format_volume(&mut device, options)?;
    let system = FileSystem::new(device, FsOptions::new().update_accessed_date(false))?;
    for (path, bytes) in files {
        let mut folder = system.root_dir();
        let mut parts = path.split('/').peekable();
        while let Some(part) = parts.next() {
            if parts.peek().is_some() {
                folder = folder.create_dir(part)?;
            } else {
                let mut file = folder.create_file(part)?;
                file.write_all(bytes)?;
                file.flush()?;
            }
        }
    }
    system.unmount()
}
