//! A machine's firmware that lies: its ACPI tables. The input is what is in the memory of a PC's BIOS; it is looked at as it is, and
//! again with the checksums right.

use acpi::{MachineMemory, RootPointer, find_in_bios_area, find_in_efi_table, soft_off};

/// Where a BIOS has its read-only data: where the input is.
const BIOS_AREA: u64 = 0xe_0000;
/// Bytes of a table's header.
const HEADER: usize = 36;

/// Memory below 1 MiB that holds the input, and zeros everywhere else.
struct Memory<'a>(&'a [u8]);

impl MachineMemory for Memory<'_> {
    type Error = &'static str;

    fn read(&mut self, address: u64, into: &mut [u8]) -> Result<(), &'static str> {
        let end = address.checked_add(into.len() as u64).filter(|end| *end <= 1 << 20);
        end.ok_or("there is no memory")?;
        into.fill(0);
        for (offset, byte) in into.iter_mut().enumerate() {
            let place = address.wrapping_add(offset as u64).checked_sub(BIOS_AREA);
            let there = place.and_then(|place| self.0.get(usize::try_from(place).ok()?));
            *byte = there.copied().unwrap_or(0);
        }
        Ok(())
    }
}

/// What db-boot looks for when the machine is to be switched off.
pub(crate) fn acpi(input: &[u8]) {
    look(input);
    let mut sealed = input.to_vec();
    seal_all(&mut sealed);
    look(&sealed);
}

fn look(input: &[u8]) {
    let mut memory = Memory(input);
    let entries = u32::from(input.first().copied().unwrap_or(0));
    let roots = [find_in_bios_area(&mut memory), find_in_efi_table(&mut memory, BIOS_AREA, entries)];
    // The tables of a machine whose root pointer was found some other way.
    let root = RootPointer { address: 0, revision: 2, rsdt: BIOS_AREA, xsdt: BIOS_AREA + RSDP_SIZE };
    for root in roots.into_iter().chain([Ok(root), Ok(RootPointer { xsdt: 0, ..root })]) {
        if let Err(error) = root.and_then(|root| soft_off(&mut memory, &root)) {
            assert!(!error.to_string().is_empty());
        }
    }
}

/// Makes the checksums of whatever looks like a table right.
fn seal_all(bytes: &mut [u8]) {
    for at in 0..bytes.len() {
        let Some(rest) = bytes.get_mut(at..) else { return };
        if rest.starts_with(b"RSD PTR ") {
            for (length, place) in [(20, 8), (36, 32)] {
                rest.get_mut(..length).into_iter().for_each(|structure| seal(structure, place));
            }
        }
        let is_table =
            [b"RSDT", b"XSDT", b"FACP", b"DSDT", b"SSDT"].iter().any(|name| rest.starts_with(*name));
        let length = rest.get(4..8).and_then(|length| length.try_into().ok()).map(u32::from_le_bytes);
        if let Some(length) = length.filter(|_| is_table).and_then(|length| usize::try_from(length).ok())
            && let Some(table) = rest.get_mut(..length).filter(|table| table.len() >= HEADER)
        {
            seal(table, 9);
        }
    }
}

/// Makes the byte at `at` such that all add up to 0.
fn seal(bytes: &mut [u8], at: usize) {
    bytes[at] = 0;
    bytes[at] = bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_sub(*byte));
}

/// Bytes of a root pointer.
const RSDP_SIZE: u64 = 36;

/// A table with `body`.
fn table(signature: [u8; 4], body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER + body.len()).unwrap_or(u32::MAX);
    let mut bytes = [&signature[..], &length.to_le_bytes(), &[0; HEADER - 8], body].concat();
    seal(&mut bytes, 9);
    bytes
}

/// Firmware of ACPI 1.0 and of 2.0, and an EFI table before it.
pub(crate) fn tables() -> Vec<Vec<u8>> {
    const S5: &[u8] = b"\x10\x20code\x08_S5_\x12\x08\x04\x0a\x05\x0a\x06\x00\x00more";
    const GUID: [u8; 16] =
        [0x71, 0xe8, 0x68, 0x88, 0xf1, 0xe4, 0xd3, 0x11, 0xbc, 0x22, 0x00, 0x80, 0xc7, 0x3c, 0x88, 0x81];
    let firmware = |revision: u8, before: u64| {
        let (root, width): (&[u8; 4], usize) = if revision == 0 { (b"RSDT", 4) } else { (b"XSDT", 8) };
        let tables = BIOS_AREA + before + RSDP_SIZE;
        let root_size = HEADER + 2 * width;
        let fadt_at = tables + root_size as u64;
        let dsdt_at = fadt_at + 244;
        let ssdt_at = dsdt_at + (HEADER + S5.len()) as u64;
        let entries = [fadt_at, ssdt_at].map(|place| place.to_le_bytes()[..width].to_vec()).concat();
        let mut fadt = table(*b"FACP", &[0; 244 - HEADER]);
        fadt[40..44].copy_from_slice(&dsdt_at.to_le_bytes()[..4]);
        fadt[64..68].copy_from_slice(&0x604_u32.to_le_bytes());
        let mut rsdp =
            [&b"RSD PTR \0FUZZED"[..], &[revision], &tables.to_le_bytes()[..4], &36_u32.to_le_bytes()]
                .concat();
        rsdp.extend(tables.to_le_bytes());
        rsdp.extend([0; 4]);
        let mut all = [rsdp, table(*root, &entries), fadt, table(*b"DSDT", S5), table(*b"SSDT", S5)].concat();
        seal_all(&mut all);
        all
    };
    let mut efi = [&GUID[..], &(BIOS_AREA + 24).to_le_bytes()].concat();
    efi.extend(firmware(2, 24));
    vec![firmware(0, 0), firmware(2, 0), efi]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_firmware_that_is_changed_says_how_to_switch_off() {
        let tables = tables();
        for firmware in &tables[..2] {
            let root = find_in_bios_area(&mut Memory(firmware)).unwrap();
            assert!(soft_off(&mut Memory(firmware), &root).is_ok());
        }
        let root = find_in_efi_table(&mut Memory(&tables[2]), BIOS_AREA, 1).unwrap();
        assert!(soft_off(&mut Memory(&tables[2]), &root).is_ok());
    }
}
