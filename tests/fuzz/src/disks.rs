//! Disk images that somebody has tampered with. The input is what was written over a sound one; the checksums of its partition table
//! are right again afterwards, so that what they protect is looked at.

use std::collections::BTreeMap;
use std::io::{Cursor, Write as _};
use std::sync::OnceLock;

use fatfs::{FileSystem, FormatVolumeOptions, FsOptions, format_volume};
use gpt::GptConfig;
use gpt::disk::LogicalBlockSize;
use gpt::partition::Partition;
use gpt::partition_types;
use uuid::Uuid;

/// Bytes of a block.
const BLOCK: usize = 512;
/// Blocks of the disk, and where its two partitions are.
const BLOCKS: usize = 2340;
const CORE: std::ops::Range<usize> = 2048..2056;
const SYSTEM: std::ops::Range<usize> = 2056..2290;
/// The blocks of the partition table.
const TABLE: std::ops::Range<usize> = 0..34;
/// Bytes of an input for each thing that was written: a place (3), how many bytes (1), and those.
const WRITE: usize = 8;
/// Added to the number of bytes: the place is one in the file system, not one in the partition table.
const IN_SYSTEM: u8 = 0x80;
/// What an input begins with that leaves the checksums wrong.
const UNSEALED: u8 = 0xff;

/// What is where `domb pack` puts it.
const FILES: [(&str, &[u8]); 5] = [
    ("EFI/BOOT/BOOTX64.EFI", b"MZ"),
    ("boot/grub/grub.cfg", b"multiboot2 /boot/xen dom0_mem=16M\n"),
    ("boot/xen", b"\x7fELF"),
    ("boot/db-boot", b"\x7fELF"),
    ("boot/ramdisk.cpio", b"070701"),
];

/// A disk as `domb pack` lays it out, but small; nothing if the crates that make it refuse.
fn sound() -> &'static [u8] {
    static DISK: OnceLock<Vec<u8>> = OnceLock::new();
    DISK.get_or_init(|| make().unwrap_or_default())
}

fn make() -> Option<Vec<u8>> {
    let mut disk = vec![0; BLOCKS * BLOCK];
    let system = file_system()?;
    disk.get_mut(SYSTEM.start * BLOCK..SYSTEM.end * BLOCK)?.copy_from_slice(&system);
    let guid = |number| Uuid::from_bytes([number; 16]);
    let partition = |name: &str, kind, blocks: std::ops::Range<usize>, number| {
        let (first, last) = (u64::try_from(blocks.start).ok()?, u64::try_from(blocks.end - 1).ok()?);
        let name = name.to_owned();
        let part_guid = guid(number);
        Some(Partition { part_type_guid: kind, part_guid, first_lba: first, last_lba: last, flags: 0, name })
    };
    let partitions = BTreeMap::from([
        (1, partition("BIOS boot", partition_types::BIOS, CORE, 1)?),
        (2, partition("EFI system", partition_types::EFI, SYSTEM, 2)?),
    ]);
    let config = GptConfig::new().writable(true).logical_block_size(LogicalBlockSize::Lb512);
    let mut table = config.create_from_device(Cursor::new(disk), Some(guid(3))).ok()?;
    table.update_partitions(partitions).ok()?;
    table.write().ok().map(Cursor::into_inner)
}

fn file_system() -> Option<Vec<u8>> {
    let mut volume = vec![0; SYSTEM.len() * BLOCK];
    let sectors = u32::try_from(SYSTEM.len()).ok()?;
    format_volume(Cursor::new(&mut volume), FormatVolumeOptions::new().total_sectors(sectors)).ok()?;
    let options = FsOptions::new().update_accessed_date(false);
    let system = FileSystem::new(Cursor::new(&mut volume), options).ok()?;
    for (path, bytes) in FILES {
        let mut folder = system.root_dir();
        let (folders, name) = path.rsplit_once('/')?;
        for part in folders.split('/') {
            folder = folder.create_dir(part).ok()?;
        }
        let mut file = folder.create_file(name).ok()?;
        // Several clusters, so that there are chains.
        file.write_all(&bytes.repeat(1500 / bytes.len())).ok()?;
    }
    system.unmount().ok()?;
    Some(volume)
}

/// The disk after what the input writes.
fn written(input: &[u8]) -> Vec<u8> {
    let mut disk = sound().to_vec();
    for chunk in input.chunks_exact(WRITE) {
        let &[low, middle, high, count, ref bytes @ ..] = chunk else { continue };
        let place = u32::from_le_bytes([low, middle, high, 0]);
        let blocks = if count & IN_SYSTEM == 0 { TABLE } else { SYSTEM };
        let place = blocks.start * BLOCK + usize::try_from(place).unwrap_or(0) % (blocks.len() * BLOCK);
        let bytes = &bytes[..usize::from(count & !IN_SYSTEM).min(bytes.len())];
        if let Some(there) = disk.get_mut(place..place + bytes.len()) {
            there.copy_from_slice(bytes);
        }
    }
    if input.first() != Some(&UNSEALED) {
        seal(&mut disk);
    }
    disk
}

/// Makes the checksums of the partition table right.
fn seal(disk: &mut [u8]) -> Option<()> {
    let word = |disk: &[u8], at: usize| disk.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
    let place = |disk: &[u8], at: usize| usize::try_from(word(disk, at)?).ok();
    let header = BLOCK;
    let start = place(disk, header + 72)?.checked_mul(BLOCK)?;
    let length = place(disk, header + 80)?.checked_mul(place(disk, header + 84)?)?;
    let entries = crc32fast::hash(disk.get(start..start.checked_add(length)?)?);
    disk.get_mut(header + 88..header + 92)?.copy_from_slice(&entries.to_le_bytes());
    let size = place(disk, header + 12)?.min(BLOCK);
    disk.get_mut(header + 16..header + 20)?.fill(0);
    let sum = crc32fast::hash(disk.get(header..header + size)?);
    disk.get_mut(header + 16..header + 20)?.copy_from_slice(&sum.to_le_bytes());
    Some(())
}

/// What `domb inspect` and `domb sign` read of a disk.
pub(crate) fn disk(input: &[u8]) {
    let disk = written(input);
    match image::disk::read(&disk) {
        Ok(contents) => {
            assert!(contents.xen.len() <= disk.len() && contents.archive.len() <= disk.len());
            assert!(image::inspect::describe(&disk).unwrap_or_else(|error| error.to_string()).len() > 8);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    if let Err(error) = image::disk::with_archive(&disk, b"070701") {
        assert!(!error.to_string().is_empty());
    }
}

/// Writes to the places that count: the header and the entries of the partition table, the parameters of the file system, its chains, its
/// folders.
pub(crate) fn writes() -> Vec<Vec<u8>> {
    let system = SYSTEM.start * BLOCK;
    let fields =
        [BLOCK + 12, BLOCK + 32, BLOCK + 40, BLOCK + 72, BLOCK + 80, BLOCK + 84, 2 * BLOCK, 2 * BLOCK + 32];
    let more = [2 * BLOCK + 40, 2 * BLOCK + 128 + 32, 2 * BLOCK + 128 + 40];
    let parameters = [11, 13, 14, 16, 17, 19, 21, 22, 32, 36, 44, 48].map(|field| system + field);
    // The first chains, and the root folder of so small a volume.
    let chains = (0..24).step_by(3).map(|at| system + BLOCK + at);
    let folders = find(b"BOOT       ").into_iter().chain(find(b"GRUB       ")).chain(find(b"XEN        "));
    let folders = folders.flat_map(|entry| [entry + 11, entry + 26, entry + 28]);
    let places = fields.into_iter().chain(more).chain(parameters).chain(chains).chain(folders);
    let one = |place: usize| {
        let there = sound().get(place..place + 4).unwrap_or(&[0; 4]);
        let (place, count) = place.checked_sub(system).map_or((place, 4), |place| (place, IN_SYSTEM | 4));
        let [low, middle, high, ..] = place.to_le_bytes();
        [&[low, middle, high, count], there].concat()
    };
    let each: Vec<Vec<u8>> = places.map(one).collect();
    let all = each.concat();
    let sealed = vec![vec![], vec![UNSEALED; WRITE], all];
    [sealed, each].concat()
}

/// Where a name of a file stands in the file system.
fn find(name: &[u8; 11]) -> Option<usize> {
    sound().windows(name.len()).position(|window| window == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_that_is_tampered_with_is_sound() {
        let contents = image::disk::read(&written(&[])).unwrap();
        assert_eq!(contents.files.len(), FILES.len());
        assert_eq!(contents.dom0_mib(), Some(16));
        let signed = image::disk::with_archive(&written(&[]), b"070701").unwrap();
        assert!(image::disk::read(&signed).unwrap().archive.starts_with(b"070701"));
    }
}
