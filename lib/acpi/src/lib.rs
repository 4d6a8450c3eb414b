//! What a machine's ACPI tables say about switching it off.
//!
//! ACPI switches a machine off by a write of two small numbers, the sleep types of the state S5, to registers that the
//! hypervisor knows. The numbers are the machine's own and stand in its firmware's bytecode, as the package `\_S5_` of the
//! DSDT. This crate goes the way there and no further: [`find_in_bios_area`] or [`find_in_efi_table`] finds the root pointer,
//! [`soft_off`] follows it through RSDT or XSDT, FADT and DSDT to the package. There is no interpreter: a package of
//! constants is all that is understood, and all that real machines have there.
//!
//! The tables are read through [`MachineMemory`], copied before they are looked at, and taken for hostile: every length is
//! bounded, every checksum verified, and whatever is wrong is an [`AcpiError`].
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

extern crate alloc;

mod aml;
mod bytes;
mod error;
mod root;
mod table;

pub use aml::{AmlError, SleepTypes};
pub use error::AcpiError;
pub use root::{RootPointer, find_in_bios_area, find_in_efi_table};
pub use table::{MAX_TABLE_SIZE, MAX_TABLES, Signature, SoftOff, soft_off};

/// The machine's memory, by machine address.
pub trait MachineMemory {
    /// Why memory could not be read.
    type Error: core::fmt::Debug + core::fmt::Display;

    /// Copies out `into.len()` bytes from machine address `address`; the range lies below 2^52.
    fn read(&mut self, address: u64, into: &mut [u8]) -> Result<(), Self::Error>;
}
