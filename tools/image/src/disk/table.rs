//! The whole disk: boot sector, partition table, partitions.

use std::collections::BTreeMap;
use std::io::{self, Cursor};

use gpt::GptConfig;
use gpt::disk::LogicalBlockSize;
use gpt::mbr::ProtectiveMBR;
use gpt::partition::Partition;
use gpt::partition_types;

use super::grub::BiosImages;
use super::{BLOCK, DiskError, Identity};

/// Partitions start at multiples of this many blocks (1 MiB), as everywhere today.
const ALIGNMENT: usize = 2048;
/// Blocks after the last partition: the copy of the partition table and its header take 33.
const TAIL: usize = ALIGNMENT;

/// The first block of GRUB's core.
pub(super) const CORE_START: usize = ALIGNMENT;

/// Puts the pieces in their places.
pub(super) fn assemble(bios: BiosImages, system: &[u8], identity: &Identity) -> Result<Vec<u8>, DiskError> {
    let (boot_code, core) = bios.placed_at(to_u64(CORE_START))?;
    arrange(&boot_code, &core, system, identity)
}

/// The same with a boot sector and a core that know their places.
pub(super) fn arrange(
    boot_code: &[u8; 440],
    core: &[u8],
    system: &[u8],
    identity: &Identity,
) -> Result<Vec<u8>, DiskError> {
    let core_start = CORE_START;
    let core_blocks = (core.len() / BLOCK).next_multiple_of(ALIGNMENT);
    let system_start = core_start + core_blocks;
    let system_blocks = system.len() / BLOCK;
    let blocks = system_start + system_blocks.next_multiple_of(ALIGNMENT) + TAIL;

    let mut disk = vec![0; blocks * BLOCK];
    put(&mut disk, core_start, core);
    put(&mut disk, system_start, system);
    let partitions = BTreeMap::from([
        (1, partition("BIOS boot", partition_types::BIOS, core_start, core_blocks, identity)),
        (2, partition("EFI system", partition_types::EFI, system_start, system_blocks, identity)),
    ]);
    write_tables(&mut disk, boot_code, partitions, identity)
        .map_err(|cause| DiskError::Structure { what: "partition table", cause })?;
    Ok(disk)
}

fn put(disk: &mut [u8], block: usize, bytes: &[u8]) {
    disk[block * BLOCK..][..bytes.len()].copy_from_slice(bytes);
}

fn to_u64(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn partition(
    name: &str,
    kind: partition_types::Type,
    start: usize,
    blocks: usize,
    identity: &Identity,
) -> Partition {
    Partition {
        part_type_guid: kind,
        part_guid: identity.guid(name),
        first_lba: to_u64(start),
        last_lba: to_u64(start + blocks - 1),
        flags: 0,
        name: name.into(),
    }
}

fn write_tables(
    disk: &mut Vec<u8>,
    boot_code: &[u8; 440],
    partitions: BTreeMap<u32, Partition>,
    identity: &Identity,
) -> io::Result<()> {
    let blocks = disk.len() / BLOCK;
    let mut device = Cursor::new(std::mem::take(disk));
    let mut protective = ProtectiveMBR::with_lb_size(u32::try_from(blocks - 1).unwrap_or(u32::MAX));
    protective.set_bootcode(*boot_code);
    protective.overwrite_lba0(&mut device).map_err(io::Error::other)?;

    let config = GptConfig::new().writable(true).logical_block_size(LogicalBlockSize::Lb512);
    let mut table =
        config.create_from_device(device, Some(identity.guid("disk"))).map_err(io::Error::other)?;
    table.update_partitions(partitions).map_err(io::Error::other)?;
    *disk = table.write().map_err(io::Error::other)?.into_inner();
    Ok(())
}
