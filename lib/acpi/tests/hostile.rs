//! Damage of every kind: an answer or an error, never a panic.

mod support;

use acpi::{find_in_bios_area, find_in_efi_table, soft_off};
use proptest::prelude::*;
use support::{DSDT, EFI, FADT, Machine, RSDT, S5, SSDT, XSDT, seal, table};

/// Reads the machine; whether it was understood.
fn read(mut machine: Machine) -> bool {
    let root = if machine.0.contains_key(&EFI) {
        find_in_efi_table(&mut machine, EFI, 3)
    } else {
        find_in_bios_area(&mut machine)
    };
    let off = root.and_then(|root| soft_off(&mut machine, &root));
    off.map_err(|error| assert!(!error.to_string().is_empty())).is_ok()
}

#[test]
fn every_truncation_is_an_error() {
    for whole in [Machine::old(), Machine::new()] {
        assert!(read(whole.clone()));
        for address in whole.0.keys().copied().filter(|address| *address >= 1 << 20 && *address != SSDT) {
            for length in 0..whole.0[&address].len() {
                let mut machine = whole.clone();
                machine.0.get_mut(&address).unwrap().truncate(length);
                assert!(!read(machine), "{address:#x} cut to {length}");
            }
        }
    }
}

#[test]
fn every_flipped_bit_of_a_table_is_an_error() {
    let whole = Machine::new();
    // The EFI table has no checksum, and a damaged SSDT does not matter here.
    for address in whole.0.keys().copied().filter(|address| ![0, EFI, SSDT].contains(address)) {
        for at in 0..whole.0[&address].len() {
            for bit in 0..8 {
                let mut machine = whole.clone();
                machine.0.get_mut(&address).unwrap()[at] ^= 1 << bit;
                assert!(!read(machine), "{address:#x} byte {at} bit {bit}");
            }
        }
    }
}

proptest! {
    #[test]
    fn any_bytecode_gives_an_answer(junk in proptest::collection::vec(any::<u8>(), 0..64), cut in 0_usize..20) {
        let mut machine = Machine::old();
        let start = &S5[..cut.min(S5.len())];
        machine.put(DSDT, &table(*b"DSDT", &[start, &junk].concat()));
        read(machine);
    }

    #[test]
    fn any_tables_give_an_answer(
        which in prop::sample::select(vec![RSDT + 0x10_0000, XSDT, FADT, DSDT, EFI]),
        at in any::<prop::sample::Index>(),
        bytes in proptest::collection::vec(any::<u8>(), 1..9),
    ) {
        let mut machine = Machine::new();
        let table = machine.0.get_mut(&which).unwrap();
        let at = at.index(table.len());
        for (to, from) in table[at..].iter_mut().zip(&bytes) {
            *to = *from;
        }
        match which {
            EFI => {}
            XSDT | FADT | DSDT => seal(table, 9),
            _ => { seal(&mut table[..20], 8); seal(table, 32); }
        }
        read(machine);
    }
}
