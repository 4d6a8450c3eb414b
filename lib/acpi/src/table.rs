//! Tables: the root table, the description of the fixed hardware, and where the bytecode is.

use alloc::vec::Vec;
use core::fmt;

use crate::aml::{SleepTypes, find_soft_off};
use crate::bytes::{array, sum, u32_at, u64_at};
use crate::{AcpiError, MachineMemory, RootPointer};

/// The most bytes of a table that are believed. The largest DSDTs of servers have about one MiB.
pub const MAX_TABLE_SIZE: u64 = 4 << 20;
/// The most tables that are believed. Servers have a few dozen.
pub const MAX_TABLES: usize = 256;
/// Bytes of the header that every table begins with.
const HEADER_SIZE: usize = 36;
/// The same, as the length fields of tables have it.
const HEADER: u64 = HEADER_SIZE as u64;
/// Machine addresses have at most this many bits.
const ADDRESS_BITS: u32 = 52;

/// A table's name: four characters.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; 4]);

impl Signature {
    /// The root pointer, which is no table.
    pub(crate) const RSDP: Self = Self(*b"RSDP");
    /// The BIOS data area, which is no table.
    pub(crate) const BIOS_DATA: Self = Self(*b"BDA ");
    /// EFI's configuration table, which is no table of ACPI's.
    pub(crate) const EFI_TABLE: Self = Self(*b"EFI ");
    const RSDT: Self = Self(*b"RSDT");
    const XSDT: Self = Self(*b"XSDT");
    const FADT: Self = Self(*b"FACP");
    const DSDT: Self = Self(*b"DSDT");
    const SSDT: Self = Self(*b"SSDT");
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.trim_ascii_end().escape_ascii())
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({self})")
    }
}

/// What has to be done to switch the machine off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SoftOff {
    /// The sleep types to be written.
    pub types: SleepTypes,
    /// Whether they go to the sleep control register of hardware-reduced ACPI instead of the PM1 control registers.
    pub hardware_reduced: bool,
    /// The table that holds them.
    pub table: Signature,
}

/// What the FADT says.
struct Fadt {
    dsdt: u64,
    hardware_reduced: bool,
}

/// Follows `root` to the sleep types of the state S5.
///
/// The DSDT is searched first, then the SSDTs in their order; a damaged one is an error only if no other has the package.
pub fn soft_off<M: MachineMemory>(
    memory: &mut M,
    root: &RootPointer,
) -> Result<SoftOff, AcpiError<M::Error>> {
    let tables = Tables::read(memory, root)?;
    let fadt = read_fadt(memory, tables.fadt)?;
    let bytecode = core::iter::once((Signature::DSDT, fadt.dsdt))
        .chain(tables.ssdts.iter().map(|address| (Signature::SSDT, *address)));
    let mut first_error = None;
    for (table, address) in bytecode {
        match search(memory, table, address) {
            Ok(Some(types)) => {
                return Ok(SoftOff { types, hardware_reduced: fadt.hardware_reduced, table });
            }
            Ok(None) => {}
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    Err(first_error.unwrap_or(AcpiError::NoPackage { ssdts: tables.ssdts.len() }))
}

/// Looks for the package in one table of bytecode.
fn search<M: MachineMemory>(
    memory: &mut M,
    table: Signature,
    address: u64,
) -> Result<Option<SleepTypes>, AcpiError<M::Error>> {
    let bytes = read_table(memory, table, address, HEADER)?;
    find_soft_off(&bytes).map_err(|error| AcpiError::Package { table, error })
}

/// Machine addresses of the tables that are looked at.
struct Tables {
    fadt: u64,
    ssdts: Vec<u64>,
}

impl Tables {
    /// Reads the root table, the one with 64-bit addresses if there is one, and the header of each table that it names.
    fn read<M: MachineMemory>(memory: &mut M, root: &RootPointer) -> Result<Self, AcpiError<M::Error>> {
        let (signature, address, width) = match root.xsdt {
            0 => (Signature::RSDT, root.rsdt, 4),
            xsdt => (Signature::XSDT, xsdt, 8),
        };
        let table = read_table(memory, signature, address, HEADER)?;
        let entries = table.get(HEADER_SIZE..).unwrap_or_default();
        let entries = entries.chunks_exact(width);
        if entries.len() > MAX_TABLES {
            return Err(AcpiError::TooManyTables { root: signature, count: entries.len() });
        }
        let (mut fadt, mut ssdts) = (None, Vec::new());
        for entry in entries {
            let wide = u64_at(entry, 0).or_else(|| u32_at(entry, 0).map(u64::from)).unwrap_or_default();
            if wide == 0 {
                continue;
            }
            match Signature(copy_exact(memory, signature, wide)?) {
                Signature::FADT if fadt.is_none() => fadt = Some(wide),
                Signature::SSDT => ssdts.push(wide),
                _ => {}
            }
        }
        let fadt = fadt.ok_or(AcpiError::NoFadt { root: signature, address })?;
        Ok(Self { fadt, ssdts })
    }
}

/// Reads what is needed of the FADT. Fields that ACPI 2.0 added are used where the table is long enough and they are set.
fn read_fadt<M: MachineMemory>(memory: &mut M, address: u64) -> Result<Fadt, AcpiError<M::Error>> {
    /// Bytes of the FADT of ACPI 1.0.
    const LEAST: u64 = 116;
    const DSDT: usize = 40;
    const PM1A_CONTROL: usize = 64;
    const FLAGS: usize = 112;
    const X_DSDT: usize = 140;
    /// The address in the generic address structure of the register.
    const X_PM1A_CONTROL: usize = 172 + 4;
    const HW_REDUCED_ACPI: u32 = 1 << 20;

    let table = read_table(memory, Signature::FADT, address, LEAST)?;
    let word = |offset| u32_at(&table, offset).unwrap_or_default();
    let wide = |offset, old| match u64_at(&table, offset).unwrap_or_default() {
        0 => u64::from(word(old)),
        address => address,
    };
    let hardware_reduced = word(FLAGS) & HW_REDUCED_ACPI != 0;
    if !hardware_reduced && wide(X_PM1A_CONTROL, PM1A_CONTROL) == 0 {
        return Err(AcpiError::NoRegister { address });
    }
    match wide(X_DSDT, DSDT) {
        0 => Err(AcpiError::NoDsdt { address }),
        dsdt => Ok(Fadt { dsdt, hardware_reduced }),
    }
}

/// Copies a table of at least `least` bytes and verifies it.
fn read_table<M: MachineMemory>(
    memory: &mut M,
    table: Signature,
    address: u64,
    least: u64,
) -> Result<Vec<u8>, AcpiError<M::Error>> {
    let head = copy_exact::<8, _>(memory, table, address)?;
    let found = Signature(array(&head, 0).unwrap_or_default());
    if found != table {
        return Err(AcpiError::WrongTable { address, expected: table, found });
    }
    let length = u64::from(u32_at(&head, 4).unwrap_or_default());
    if !(least..=MAX_TABLE_SIZE).contains(&length) {
        return Err(AcpiError::Length { table, address, length, least });
    }
    let bytes = copy(memory, table, address, length)?;
    match sum(&bytes) {
        0 => Ok(bytes),
        sum => Err(AcpiError::Checksum { table, address, sum }),
    }
}

/// Copies `N` bytes of `what` at `address`.
pub(crate) fn copy_exact<const N: usize, M: MachineMemory>(
    memory: &mut M,
    what: Signature,
    address: u64,
) -> Result<[u8; N], AcpiError<M::Error>> {
    let mut bytes = [0; N];
    copy_into(memory, what, address, &mut bytes)?;
    Ok(bytes)
}

/// Copies `length` bytes of `what` at `address`; the caller has bounded the length.
pub(crate) fn copy<M: MachineMemory>(
    memory: &mut M,
    what: Signature,
    address: u64,
    length: u64,
) -> Result<Vec<u8>, AcpiError<M::Error>> {
    let out_of_memory = || AcpiError::OutOfMemory { table: what, length };
    let size = usize::try_from(length).map_err(|_| out_of_memory())?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(size).map_err(|_| out_of_memory())?;
    bytes.resize(size, 0);
    copy_into(memory, what, address, &mut bytes)?;
    Ok(bytes)
}

/// Fills `into` from `address`, which lies where a machine can have memory.
fn copy_into<M: MachineMemory>(
    memory: &mut M,
    what: Signature,
    address: u64,
    into: &mut [u8],
) -> Result<(), AcpiError<M::Error>> {
    let length = into.len() as u64;
    match address.checked_add(length) {
        Some(end) if end <= 1 << ADDRESS_BITS => {
            memory.read(address, into).map_err(|error| AcpiError::Read { what, address, length, error })
        }
        _ => Err(AcpiError::Address { what, address }),
    }
}
