//! Everything that can be wrong on the way to the sleep types.

use core::fmt;

use thiserror::Error;

use crate::{AmlError, MAX_TABLE_SIZE, MAX_TABLES, Signature};

/// Why the tables do not tell how to switch the machine off.
///
/// Addresses are machine addresses in bytes; ranges are half-open. `E` is the error of the memory that was read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AcpiError<E: fmt::Debug + fmt::Display> {
    /// Memory could not be read.
    #[error("ACPI: reading {what} at [{address:#x}..{:#x}): {error}", .address.saturating_add(*.length))]
    Read {
        /// What was to be read.
        what: Signature,
        /// Its first byte.
        address: u64,
        /// How many bytes.
        length: u64,
        /// What the memory answered.
        error: E,
    },
    /// An address that no x86 machine has.
    #[error(
        "ACPI: {what} is said to be at {address:#x}, beyond the 52 address bits of a machine; the pointer to it is damaged"
    )]
    Address {
        /// What was to be read.
        what: Signature,
        /// Where it is said to be.
        address: u64,
    },
    /// No root pointer in the places where a BIOS leaves it.
    #[error(
        "ACPI: no root pointer in the BIOS area [0xe0000..0x100000) or the EBDA ({damaged} damaged ones); \
         the machine has no ACPI, or was started by EFI in a way that did not tell Xen so"
    )]
    NoRootPointer {
        /// Places that have the signature but not the checksum.
        damaged: usize,
    },
    /// EFI names no root pointer.
    #[error("ACPI: none of the {entries} entries of EFI's configuration table at {address:#x} is ACPI's")]
    NotInEfi {
        /// The table.
        address: u64,
        /// Its entries.
        entries: u32,
    },
    /// More entries than the table can sensibly have.
    #[error(
        "ACPI: EFI's configuration table is said to have {entries} entries; more than {limit} are not believed"
    )]
    EfiEntries {
        /// Its entries.
        entries: u32,
        /// How many are believed.
        limit: u32,
    },
    /// Something else is where a table should be.
    #[error(
        "ACPI: at {address:#x} table {expected} is expected, and {found} is there; the pointer to it is damaged"
    )]
    WrongTable {
        /// Where.
        address: u64,
        /// What was expected.
        expected: Signature,
        /// What is there.
        found: Signature,
    },
    /// A table says it has a length that it cannot have.
    #[error(
        "ACPI: table {table} at {address:#x} is said to have {length} bytes; it needs at least {least}, \
         and more than {MAX_TABLE_SIZE} are not believed"
    )]
    Length {
        /// The table.
        table: Signature,
        /// Where.
        address: u64,
        /// What it says.
        length: u64,
        /// What it needs for what is read of it.
        least: u64,
    },
    /// A table's bytes do not add up to zero.
    #[error(
        "ACPI: the bytes of table {table} at {address:#x} add up to {sum:#04x} instead of 0; it is damaged"
    )]
    Checksum {
        /// The table.
        table: Signature,
        /// Where.
        address: u64,
        /// What they add up to.
        sum: u8,
    },
    /// The caller's memory does not suffice to copy a table.
    #[error("ACPI: no memory left to copy the {length} bytes of table {table}")]
    OutOfMemory {
        /// The table.
        table: Signature,
        /// Its size.
        length: u64,
    },
    /// The root table names more tables than there can sensibly be.
    #[error("ACPI: table {root} names {count} tables; more than {MAX_TABLES} are not believed")]
    TooManyTables {
        /// The root table, RSDT or XSDT.
        root: Signature,
        /// How many it names.
        count: usize,
    },
    /// The root table does not name the table that describes the machine's fixed hardware.
    #[error(
        "ACPI: table {root} at {address:#x} does not name a table FACP; this firmware does not describe its hardware"
    )]
    NoFadt {
        /// The root table, RSDT or XSDT.
        root: Signature,
        /// Where.
        address: u64,
    },
    /// The FADT does not point to a DSDT.
    #[error("ACPI: table FACP at {address:#x} points to no DSDT")]
    NoDsdt {
        /// Where the FADT is.
        address: u64,
    },
    /// The machine has no register for it.
    #[error(
        "ACPI: table FACP at {address:#x} names no PM1a control register; the machine cannot be switched off by ACPI"
    )]
    NoRegister {
        /// Where the FADT is.
        address: u64,
    },
    /// The package was found, and is of no use.
    #[error("ACPI: `_S5_` in table {table}: {error}")]
    Package {
        /// The table, DSDT or SSDT.
        table: Signature,
        /// What is wrong.
        error: AmlError,
    },
    /// There is no such package.
    #[error(
        "ACPI: `_S5_` is not in the DSDT nor in any of {ssdts} SSDTs; the firmware does not offer soft off"
    )]
    NoPackage {
        /// SSDTs that were searched.
        ssdts: usize,
    },
}
