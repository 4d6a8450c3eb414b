//! A PVH guest's ACPI tables (ACPI 6.2): what Linux needs to find its processors, and to look for no hardware that a PVH guest
//! does not have.
//!
//! RSDP, XSDT, FADT ("hardware-reduced", no VGA, no CMOS clock), MADT (a local APIC for each vCPU, enabled for those that are on at the start), DSDT (a processor device
//! for each vCPU).

use alloc::vec;
use alloc::vec::Vec;

use super::Vcpus;

/// Bytes of the header that every table begins with.
const HEADER: usize = 36;
/// Bytes of the root pointer, and where it stands: so far before the end, aligned to 16.
const ROOT: usize = 36;
const ROOT_BEFORE_END: u64 = 64;
/// Bytes of the FADT of ACPI 5.0.
const FADT: usize = 268;

/// Guest-physical address of every vCPU's local APIC.
const LOCAL_APIC: u32 = 0xfee0_0000;

/// `IAPC_BOOT_ARCH`: there is no VGA, and no CMOS clock.
const NO_VGA_NO_CMOS: u16 = 1 << 2 | 1 << 5;
/// Flags of the FADT: WBINVD works, C1 works, no power and no sleep button, hardware-reduced.
const FADT_FLAGS: u32 = 1 << 0 | 1 << 2 | 1 << 4 | 1 << 5 | 1 << 20;

/// Local APIC identifiers step by two: Xen numbers them so.
const APIC_ID_STEP: u32 = 2;

/// Where the root pointer is in tables that end at `end`.
pub(super) const fn root_address(end: u64) -> u64 {
    end.saturating_sub(ROOT_BEFORE_END)
}

/// The tables for `vcpus` vCPUs as they stand at guest-physical `start`, up to `end`.
pub(super) fn tables(vcpus: Vcpus, start: u64, end: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut place = |table: &[u8]| {
        let address = start.saturating_add(bytes.len() as u64);
        bytes.extend_from_slice(table);
        bytes.resize(bytes.len().next_multiple_of(16), 0);
        address
    };
    let dsdt = place(&dsdt(vcpus.all));
    let fadt = place(&fadt(dsdt));
    let madt = place(&madt(vcpus));
    let xsdt = place(&xsdt(&[fadt, madt]));
    let root_at = usize::try_from(root_address(end).saturating_sub(start)).unwrap_or(0);
    bytes.resize(root_at, 0);
    bytes.extend_from_slice(&root(xsdt));
    bytes.resize(usize::try_from(end.saturating_sub(start)).unwrap_or(root_at), 0);
    bytes
}

/// The byte that makes all bytes add up to 0.
fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)).wrapping_neg()
}

/// Writes `value` at `offset`.
fn put(bytes: &mut [u8], offset: usize, value: &[u8]) {
    for (to, from) in bytes.iter_mut().skip(offset).zip(value) {
        *to = *from;
    }
}

/// A table: header, then `body`.
fn table(signature: [u8; 4], revision: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER.saturating_add(body.len())).unwrap_or(u32::MAX);
    let mut bytes = vec![0; HEADER];
    put(&mut bytes, 0, &signature);
    put(&mut bytes, 4, &length.to_le_bytes());
    put(&mut bytes, 8, &[revision]);
    put(&mut bytes, 10, b"DOMBLD");
    put(&mut bytes, 16, b"PVHGUEST");
    put(&mut bytes, 24, &1_u32.to_le_bytes());
    put(&mut bytes, 28, b"DOMB");
    put(&mut bytes, 32, &1_u32.to_le_bytes());
    bytes.extend_from_slice(body);
    let sum = checksum(&bytes);
    put(&mut bytes, 9, &[sum]);
    bytes
}

/// The root pointer, revision 2: without an RSDT.
fn root(xsdt: u64) -> [u8; ROOT] {
    const FIRST_PART: usize = 20;
    let mut bytes = [0; ROOT];
    put(&mut bytes, 0, b"RSD PTR ");
    put(&mut bytes, 9, b"DOMBLD");
    put(&mut bytes, 15, &[2]);
    put(&mut bytes, 20, &u32::try_from(ROOT).unwrap_or(0).to_le_bytes());
    put(&mut bytes, 24, &xsdt.to_le_bytes());
    let sum = checksum(bytes.get(..FIRST_PART).unwrap_or_default());
    put(&mut bytes, 8, &[sum]);
    let sum = checksum(&bytes);
    put(&mut bytes, 32, &[sum]);
    bytes
}

fn xsdt(tables: &[u64]) -> Vec<u8> {
    let body: Vec<u8> = tables.iter().flat_map(|address| address.to_le_bytes()).collect();
    table(*b"XSDT", 1, &body)
}

fn fadt(dsdt: u64) -> Vec<u8> {
    const REVISION: u8 = 5;
    let mut body = vec![0; FADT.saturating_sub(HEADER)];
    // Offsets are those of the whole table.
    let mut field = |offset: usize, value: &[u8]| put(&mut body, offset.saturating_sub(HEADER), value);
    field(40, &u32::try_from(dsdt).unwrap_or(0).to_le_bytes());
    field(109, &NO_VGA_NO_CMOS.to_le_bytes());
    field(112, &FADT_FLAGS.to_le_bytes());
    field(140, &dsdt.to_le_bytes());
    table(*b"FACP", REVISION, &body)
}

fn madt(vcpus: Vcpus) -> Vec<u8> {
    const LOCAL_APIC_ENTRY: [u8; 2] = [0, 8];
    const ENABLED: u32 = 1;
    let mut body = LOCAL_APIC.to_le_bytes().to_vec();
    // No flags: there are no PICs beside the APICs.
    body.extend_from_slice(&0_u32.to_le_bytes());
    for vcpu in 0..vcpus.all {
        // Before ACPI 6.3 there is no flag for "can be enabled later": a processor that is only listed can be.
        let flags = if vcpu < vcpus.online { ENABLED } else { 0 };
        let [id, ..] = vcpu.saturating_mul(APIC_ID_STEP).to_le_bytes();
        let [number, ..] = vcpu.to_le_bytes();
        body.extend_from_slice(&LOCAL_APIC_ENTRY);
        body.extend_from_slice(&[number, id]);
        body.extend_from_slice(&flags.to_le_bytes());
    }
    table(*b"APIC", 4, &body)
}

/// `Scope (\_SB) { Device (Cnnn) { Name (_HID, "ACPI0007") Name (_UID, nnn) } ... }`.
fn dsdt(vcpus: u32) -> Vec<u8> {
    const SCOPE: u8 = 0x10;
    const DEVICE: [u8; 2] = [0x5b, 0x82];
    const NAME: u8 = 0x08;
    const STRING: u8 = 0x0d;
    const BYTE: u8 = 0x0a;
    const REVISION: u8 = 5;
    let mut devices = b"\\_SB_".to_vec();
    for vcpu in 0..vcpus {
        let [number, ..] = vcpu.to_le_bytes();
        let digit = |value: u8| value.wrapping_add(if value < 10 { b'0' } else { b'A'.wrapping_sub(10) });
        let mut device = vec![b'C', b'0', digit(number >> 4), digit(number & 0xf)];
        device.push(NAME);
        device.extend_from_slice(b"_HID");
        device.push(STRING);
        device.extend_from_slice(b"ACPI0007\0");
        device.push(NAME);
        device.extend_from_slice(b"_UID");
        device.extend_from_slice(&[BYTE, number]);
        devices.extend_from_slice(&DEVICE);
        devices.extend_from_slice(&with_length(&device));
    }
    let mut body = vec![SCOPE];
    body.extend_from_slice(&with_length(&devices));
    table(*b"DSDT", REVISION, &body)
}

/// `body` with its length before it, as AML writes lengths: in as many bytes as it takes, which count too.
fn with_length(body: &[u8]) -> Vec<u8> {
    let with = |extra: usize| body.len().saturating_add(extra);
    let byte = |length: usize, shift: u32| length.checked_shr(shift).unwrap_or(0).to_le_bytes();
    let [short, ..] = byte(with(1), 0);
    let mut bytes = if with(1) < 1 << 6 {
        vec![short]
    } else {
        // The lead byte says how many bytes follow, and holds the lowest four bits.
        let extra = if with(2) < 1 << 12 { 1 } else { 2 };
        let length = with(extra).saturating_add(1);
        let ([low, ..], [next, last, ..]) = (byte(length, 0), byte(length, 4));
        let count = if extra == 1 { 0x40 } else { 0x80 };
        let mut bytes = vec![count | low & 0xf, next];
        if extra == 2 {
            bytes.push(last);
        }
        bytes
    };
    bytes.extend_from_slice(body);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_count_themselves() {
        assert_eq!(with_length(&[0; 62])[..1], [63]);
        assert_eq!(with_length(&[0; 63])[..2], [0x41, 4]);
        assert_eq!(with_length(&[0; 4093])[..2], [0x4f, 0xff]);
        assert_eq!(with_length(&[0; 4094])[..3], [0x81, 0x00, 0x01]);
    }

    #[test]
    fn the_most_vcpus_fit() {
        let (start, end) = (0xf_8000, 0x10_0000);
        let bytes = tables(xen_abi::hvm::MAX_VCPUS.into(), start, end);
        assert_eq!(bytes.len() as u64, end - start);
        assert_eq!(&bytes[bytes.len() - 64..][..8], b"RSD PTR ");
    }
}
