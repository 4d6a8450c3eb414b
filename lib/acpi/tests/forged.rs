//! Forged machines: whole ones are understood, and every damage has its message.
#![allow(clippy::unwrap_used, reason = "a mistake here is a failed test")]

mod support;

use acpi::{RootPointer, SleepTypes, SoftOff, find_in_bios_area, find_in_efi_table, soft_off};
use support::{
    DSDT, EFI, FADT, Machine, RSDP, RSDT, S5, SSDT, XSDT, efi_table, fadt, root_table, rsdp, seal, table,
};

/// What the builder does, for a machine with a BIOS or with EFI; an error is its text.
fn read(machine: &Machine) -> Result<SoftOff, String> {
    let mut machine = machine.clone();
    let root = if machine.0.contains_key(&EFI) {
        find_in_efi_table(&mut machine, EFI, 3)
    } else {
        find_in_bios_area(&mut machine)
    };
    root.and_then(|root| soft_off(&mut machine, &root)).map_err(|error| error.to_string())
}

#[track_caller]
fn refused(machine: &Machine, text: &str) {
    let error = read(machine).unwrap_err();
    assert!(error.contains(text), "expected `{text}` in `{error}`");
}

/// A table with a byte changed and its checksum put right.
fn patched(mut table: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    table[at..at + bytes.len()].copy_from_slice(bytes);
    seal(&mut table, 9);
    table
}

#[test]
fn a_machine_of_acpi_1_is_understood() {
    let off = read(&Machine::old()).unwrap();
    assert_eq!(off.types, SleepTypes { a: 5, b: 6 });
    assert!(!off.hardware_reduced);
    assert_eq!(off.table.to_string(), "DSDT");
}

#[test]
fn a_machine_of_acpi_2_is_understood() {
    let mut machine = Machine::new();
    let root = find_in_efi_table(&mut machine, EFI, 3).unwrap();
    assert_eq!(root, RootPointer { address: RSDT + 0x10_0000, revision: 2, rsdt: 0, xsdt: XSDT });
    assert_eq!(read(&machine).unwrap().types, SleepTypes { a: 5, b: 6 });
}

#[test]
fn the_root_pointer_may_be_in_the_extended_bios_data_area() {
    let mut machine = Machine::old();
    machine.put(RSDP, &[0; 20]);
    machine.put(0x9_fc30, &rsdp(0));
    refused(&machine, "no root pointer in the BIOS area [0xe0000..0x100000) or the EBDA (0 damaged ones)");
    machine.put(0x40e, &0x9fc0_u16.to_le_bytes());
    assert_eq!(find_in_bios_area(&mut machine).unwrap().address, 0x9_fc30);
}

#[test]
fn a_damaged_root_pointer_is_passed_over() {
    let mut machine = Machine::old();
    machine.put(0xe_0000, b"RSD PTR and nothing more");
    assert!(read(&machine).is_ok());
    machine.put(RSDP + 4, b"!");
    refused(&machine, "(1 damaged ones)");
}

#[test]
fn the_package_may_be_in_an_ssdt() {
    let mut machine = Machine::old();
    machine.put(DSDT, &table(*b"DSDT", b"nothing"));
    machine.put(SSDT, &table(*b"SSDT", S5));
    assert_eq!(read(&machine).unwrap().table.to_string(), "SSDT");
    machine.put(DSDT, b"DSDT");
    assert!(read(&machine).is_ok(), "a damaged DSDT does not hide a good SSDT");
}

#[test]
fn a_hardware_reduced_machine_needs_no_pm1() {
    let mut machine = Machine::new();
    machine.put(FADT, &patched(fadt(276, 1 << 20), 176, &[0; 8]));
    assert!(read(&machine).unwrap().hardware_reduced);
    machine.put(FADT, &patched(fadt(276, 0), 176, &[0; 8]));
    refused(&machine, "table FACP at 0x7fe1000 names no PM1a control register");
}

#[test]
fn every_mistake_has_its_message() {
    let mistakes: [(u64, Vec<u8>, &str); 10] = [
        (RSDT, table(*b"XSDT", b""), "at 0x7fe2000 table RSDT is expected, and XSDT is there"),
        (RSDT, root_table(*b"RSDT", &[SSDT]), "table RSDT at 0x7fe2000 does not name a table FACP"),
        (RSDT, root_table(*b"RSDT", &[FADT; 300]), "names 300 tables; more than 256 are not believed"),
        (
            RSDT,
            root_table(*b"RSDT", &[0x1234_5678]),
            "reading RSDT at [0x12345678..0x1234567c): nothing there",
        ),
        (FADT, table(*b"FACP", &[0; 60]), "is said to have 96 bytes; it needs at least 116"),
        (FADT, patched(fadt(116, 0), 40, &[0; 4]), "table FACP at 0x7fe1000 points to no DSDT"),
        (DSDT, table(*b"DSDT", b"none"), "`_S5_` is not in the DSDT nor in any of 1 SSDTs"),
        (
            DSDT,
            table(*b"DSDT", b"\x14\x0c_S5_\x00"),
            "`_S5_` in table DSDT: at offset 0x26 the name is not that",
        ),
        (DSDT, patched(table(*b"DSDT", S5), 4, &[0xff; 4]), "said to have 4294967295 bytes"),
        (DSDT, [table(*b"DSDT", S5), vec![0]].concat(), ""),
    ];
    for (address, bytes, text) in mistakes {
        let mut machine = Machine::old();
        machine.put(address, &bytes);
        if text.is_empty() {
            assert!(read(&machine).is_ok(), "bytes behind a table are nobody's");
        } else {
            refused(&machine, text);
        }
    }
}

#[test]
fn pointers_beyond_a_machine_are_refused() {
    let mut machine = Machine::new();
    machine.put(FADT, &patched(fadt(244, 0), 140, &u64::MAX.to_le_bytes()));
    refused(&machine, "DSDT is said to be at 0xffffffffffffffff, beyond the 52 address bits");
    machine.put(FADT, &patched(fadt(244, 0), 140, &(1_u64 << 52).to_le_bytes()));
    refused(&machine, "beyond the 52 address bits");
}

#[test]
fn efi_tables_without_acpi_are_refused() {
    let mut machine = Machine::new();
    let error = find_in_efi_table(&mut machine, EFI, 1).unwrap_err().to_string();
    assert_eq!(error, "ACPI: none of the 1 entries of EFI's configuration table at 0x7fbf018 is ACPI's");
    let error = find_in_efi_table(&mut machine, EFI, u32::MAX).unwrap_err().to_string();
    assert!(error.contains("more than 1024 are not believed"), "{error}");
    machine.put(RSDT + 0x10_0000, &[0; 36]);
    refused(&machine, "table RSDP is expected");
}

#[test]
fn efi_falls_back_to_acpi_1() {
    let mut machine = Machine::old();
    machine.put(EFI, &efi_table(RSDP)[..48]);
    machine.put(0x2000, &rsdp(0));
    assert_eq!(find_in_efi_table(&mut machine, EFI, 2).unwrap().revision, 0);
}
