//! A forged machine: tables at machine addresses, as a BIOS or EFI leaves them.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a mistake here is a failed test")]

use std::collections::BTreeMap;

use acpi::MachineMemory;

/// Where the forged machine has its things.
pub(crate) const RSDP: u64 = 0xf_5ad0;
pub(crate) const RSDT: u64 = 0x7fe_2000;
pub(crate) const XSDT: u64 = 0x7fe_2800;
pub(crate) const FADT: u64 = 0x7fe_1000;
pub(crate) const SSDT: u64 = 0x7fe_1800;
pub(crate) const DSDT: u64 = 0x7fe_0040;
pub(crate) const EFI: u64 = 0x7fb_f018;

/// Soft off with the types 5 and 6.
pub(crate) const S5: &[u8] = b"\x08_S5_\x12\x08\x04\x0a\x05\x0a\x06\x00\x00";

/// Machine memory of which only some ranges can be read. The low MiB reads as zeros.
#[derive(Clone, Default)]
pub(crate) struct Machine(pub(crate) BTreeMap<u64, Vec<u8>>);

impl Machine {
    /// A machine of ACPI 1.0 with a BIOS.
    pub(crate) fn old() -> Self {
        let mut machine = Self(BTreeMap::from([(0, vec![0; 1 << 20])]));
        machine.put(RSDP, &rsdp(0));
        machine.put(RSDT, &root_table(*b"RSDT", &[FADT, SSDT]));
        machine.put(FADT, &fadt(116, 0));
        machine.put(SSDT, &table(*b"SSDT", b"nothing here"));
        machine.put(DSDT, &table(*b"DSDT", &[b"\x10\x20code", S5, b"more"].concat()));
        machine
    }

    /// A machine of ACPI 2.0 with EFI: nothing in the low MiB, no RSDT, no 32-bit pointers.
    pub(crate) fn new() -> Self {
        let mut machine = Self::old();
        machine.put(RSDP, &[0; 20]);
        machine.put(EFI, &efi_table(RSDT + 0x10_0000));
        machine.put(RSDT + 0x10_0000, &rsdp(2));
        machine.0.remove(&RSDT);
        machine.put(XSDT, &root_table(*b"XSDT", &[SSDT, 0, FADT]));
        machine.put(FADT, &fadt(244, 0));
        machine
    }

    /// Puts bytes at an address: over what is there, or as a range of their own.
    pub(crate) fn put(&mut self, address: u64, bytes: &[u8]) {
        if address < 1 << 20 {
            let low = self.0.entry(0).or_insert_with(|| vec![0; 1 << 20]);
            let (_, place) = low.split_at_mut(usize::try_from(address).unwrap());
            place[..bytes.len()].copy_from_slice(bytes);
        } else {
            self.0.insert(address, bytes.to_vec());
        }
    }
}

impl MachineMemory for Machine {
    type Error = String;

    fn read(&mut self, address: u64, into: &mut [u8]) -> Result<(), String> {
        let (start, bytes) = self.0.range(..=address).next_back().ok_or("nothing there")?;
        let from = usize::try_from(address - start).unwrap();
        let bytes = bytes.get(from..from + into.len()).ok_or("nothing there")?;
        into.copy_from_slice(bytes);
        Ok(())
    }
}

/// Makes the byte at `at` such that all add up to 0.
pub(crate) fn seal(bytes: &mut [u8], at: usize) {
    bytes[at] = 0;
    bytes[at] = bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_sub(*byte));
}

pub(crate) fn table(signature: [u8; 4], body: &[u8]) -> Vec<u8> {
    let mut bytes = signature.to_vec();
    bytes.extend(u32::try_from(36 + body.len()).unwrap().to_le_bytes());
    bytes.extend(b"\x01\x00FORGEDMACHINE \x01\x00\x00\x00TEST\x01\x00\x00\x00");
    assert_eq!(bytes.len(), 36);
    bytes.extend(body);
    seal(&mut bytes, 9);
    bytes
}

pub(crate) fn root_table(signature: [u8; 4], tables: &[u64]) -> Vec<u8> {
    let width = if &signature == b"XSDT" { 8 } else { 4 };
    let body: Vec<u8> = tables.iter().flat_map(|address| address.to_le_bytes()[..width].to_vec()).collect();
    table(signature, &body)
}

/// A FADT of `length` bytes; from 148 bytes on the pointers are the 64-bit ones.
pub(crate) fn fadt(length: usize, flags: u32) -> Vec<u8> {
    let mut bytes = table(*b"FACP", &vec![0; length - 36]);
    if length < 148 {
        bytes[40..44].copy_from_slice(&u32::try_from(DSDT).unwrap().to_le_bytes());
        bytes[64..68].copy_from_slice(&0x604_u32.to_le_bytes());
    } else {
        bytes[140..148].copy_from_slice(&DSDT.to_le_bytes());
        bytes[176..184].copy_from_slice(&0x604_u64.to_le_bytes());
    }
    bytes[112..116].copy_from_slice(&flags.to_le_bytes());
    seal(&mut bytes, 9);
    bytes
}

pub(crate) fn rsdp(revision: u8) -> Vec<u8> {
    let mut bytes = b"RSD PTR \0FORGED".to_vec();
    bytes.push(revision);
    let rsdt = if revision == 0 { RSDT } else { 0 };
    bytes.extend(u32::try_from(rsdt).unwrap().to_le_bytes());
    seal(&mut bytes, 8);
    if revision >= 2 {
        bytes.extend(36_u32.to_le_bytes());
        bytes.extend(XSDT.to_le_bytes());
        bytes.extend([0; 4]);
        seal(&mut bytes, 32);
    }
    bytes
}

/// EFI's configuration table: something else, ACPI 1.0 at a wrong place, ACPI 2.0 at `rsdp`.
pub(crate) fn efi_table(rsdp: u64) -> Vec<u8> {
    let guids: [(&[u8; 16], u64); 3] = [
        (b"some other table", 0x1000),
        (b"\x30\x2d\x9d\xeb\x88\x2d\xd3\x11\x9a\x16\x00\x90\x27\x3f\xc1\x4d", 0x2000),
        (b"\x71\xe8\x68\x88\xf1\xe4\xd3\x11\xbc\x22\x00\x80\xc7\x3c\x88\x81", rsdp),
    ];
    guids.iter().flat_map(|(guid, address)| [guid.as_slice(), &address.to_le_bytes()].concat()).collect()
}
