//! The root pointer (RSDP): where it is, and what it points to.

use crate::bytes::{array, sum, u8_at, u32_at, u64_at};
use crate::table::{copy, copy_exact};
use crate::{AcpiError, MAX_TABLE_SIZE, MachineMemory, Signature};

/// What the first eight bytes are.
const MAGIC: &[u8; 8] = b"RSD PTR ";
/// Bytes of the structure of ACPI 1.0, which every one begins with.
const SIZE_1: usize = 20;
/// Bytes of the structure since ACPI 2.0.
const SIZE_2: u64 = 36;
/// A BIOS puts the structure at a multiple of this.
const ALIGNMENT: usize = 16;
/// Where a BIOS has its read-only data.
const BIOS_AREA: core::ops::Range<u64> = 0xe_0000..0x10_0000;
/// Where the BIOS data area holds the segment of the extended BIOS data area.
const EBDA_SEGMENT: u64 = 0x40e;
/// Where an extended BIOS data area can be; elsewhere the segment is not believed.
const EBDA_PLACES: core::ops::Range<u64> = 0x8_0000..0xa_0000;
/// How much of the extended BIOS data area is searched.
const EBDA_SEARCHED: u64 = 1024;

/// Bytes of an entry of EFI's configuration table: a GUID and an address.
const EFI_ENTRY: usize = 24;
/// EFI tables are a few dozen at most; the bound keeps a damaged count from costing minutes.
const MAX_EFI_ENTRIES: u32 = 1024;
/// `EFI_ACPI_20_TABLE_GUID`, 8868e871-e4f1-11d3-bc22-0080c73c8881, as it is stored.
const EFI_ACPI_2: [u8; 16] =
    [0x71, 0xe8, 0x68, 0x88, 0xf1, 0xe4, 0xd3, 0x11, 0xbc, 0x22, 0x00, 0x80, 0xc7, 0x3c, 0x88, 0x81];
/// `ACPI_TABLE_GUID`, eb9d2d30-2d88-11d3-9a16-0090273fc14d: the same for ACPI 1.0.
const EFI_ACPI_1: [u8; 16] =
    [0x30, 0x2d, 0x9d, 0xeb, 0x88, 0x2d, 0xd3, 0x11, 0x9a, 0x16, 0x00, 0x90, 0x27, 0x3f, 0xc1, 0x4d];

/// The root pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RootPointer {
    /// Machine address of the structure itself.
    pub address: u64,
    /// 0 for ACPI 1.0, 2 since ACPI 2.0.
    pub revision: u8,
    /// Machine address of the root table with 32-bit addresses; 0 for none.
    pub rsdt: u64,
    /// Machine address of the root table with 64-bit addresses; 0 for none.
    pub xsdt: u64,
}

/// Searches the places where a BIOS leaves the root pointer: its read-only data, then the extended BIOS data area.
pub fn find_in_bios_area<M: MachineMemory>(memory: &mut M) -> Result<RootPointer, AcpiError<M::Error>> {
    let mut damaged = 0;
    let length = BIOS_AREA.end.saturating_sub(BIOS_AREA.start);
    if let Some(root) = search(memory, BIOS_AREA.start, length, &mut damaged)? {
        return Ok(root);
    }
    let segment = copy_exact::<2, _>(memory, Signature::BIOS_DATA, EBDA_SEGMENT)?;
    let area = u64::from(u16::from_le_bytes(segment)) << 4;
    if EBDA_PLACES.contains(&area)
        && let Some(root) = search(memory, area, EBDA_SEARCHED, &mut damaged)?
    {
        return Ok(root);
    }
    Err(AcpiError::NoRootPointer { damaged })
}

/// Takes the root pointer that EFI's configuration table names: `entries` entries at machine address `address`.
pub fn find_in_efi_table<M: MachineMemory>(
    memory: &mut M,
    address: u64,
    entries: u32,
) -> Result<RootPointer, AcpiError<M::Error>> {
    if entries > MAX_EFI_ENTRIES {
        return Err(AcpiError::EfiEntries { entries, limit: MAX_EFI_ENTRIES });
    }
    let length = u64::from(entries).saturating_mul(EFI_ENTRY as u64);
    let table = copy(memory, Signature::EFI_TABLE, address, length)?;
    let place_of = |guid: [u8; 16]| {
        table
            .chunks_exact(EFI_ENTRY)
            .find(|entry| entry.starts_with(&guid))
            .and_then(|entry| u64_at(entry, 16))
    };
    let place = place_of(EFI_ACPI_2).or_else(|| place_of(EFI_ACPI_1));
    read(memory, place.ok_or(AcpiError::NotInEfi { address, entries })?)
}

/// Searches a range; counts in `damaged` what has the magic bytes and not the checksum.
fn search<M: MachineMemory>(
    memory: &mut M,
    start: u64,
    length: u64,
    damaged: &mut usize,
) -> Result<Option<RootPointer>, AcpiError<M::Error>> {
    let area = copy(memory, Signature::RSDP, start, length)?;
    let places = (start..).step_by(ALIGNMENT);
    for (place, _) in places.zip(area.chunks(ALIGNMENT)).filter(|(_, bytes)| bytes.starts_with(MAGIC)) {
        match read(memory, place) {
            Ok(root) => return Ok(Some(root)),
            Err(AcpiError::Checksum { .. } | AcpiError::Length { .. }) => {
                *damaged = damaged.saturating_add(1);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Reads and verifies the structure at `address`.
fn read<M: MachineMemory>(memory: &mut M, address: u64) -> Result<RootPointer, AcpiError<M::Error>> {
    const TABLE: Signature = Signature::RSDP;
    let first = copy_exact::<SIZE_1, _>(memory, TABLE, address)?;
    if !first.starts_with(MAGIC) {
        let found = Signature(array(&first, 0).unwrap_or_default());
        return Err(AcpiError::WrongTable { address, expected: TABLE, found });
    }
    verify(&first, address)?;
    let revision = u8_at(&first, 15).unwrap_or_default();
    let rsdt = u64::from(u32_at(&first, 16).unwrap_or_default());
    if revision < 2 {
        return Ok(RootPointer { address, revision, rsdt, xsdt: 0 });
    }
    let head = copy(memory, TABLE, address, SIZE_2)?;
    let length = u64::from(u32_at(&head, 20).unwrap_or_default());
    if !(SIZE_2..=MAX_TABLE_SIZE).contains(&length) {
        return Err(AcpiError::Length { table: TABLE, address, length, least: SIZE_2 });
    }
    verify(&copy(memory, TABLE, address, length)?, address)?;
    let xsdt = u64_at(&head, 24).unwrap_or_default();
    Ok(RootPointer { address, revision, rsdt, xsdt })
}

/// Checks that the bytes add up to 0.
fn verify<E: core::fmt::Debug + core::fmt::Display>(bytes: &[u8], address: u64) -> Result<(), AcpiError<E>> {
    match sum(bytes) {
        0 => Ok(()),
        sum => Err(AcpiError::Checksum { table: Signature::RSDP, address, sum }),
    }
}
