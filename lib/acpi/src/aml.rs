//! The package `_S5_` in ACPI's bytecode (AML): found by its name, read without an interpreter.

use thiserror::Error;

use crate::bytes::array;

/// The name looked for.
const NAME: &[u8; 4] = b"_S5_";
/// `DefName`: what follows is a name and its value.
const NAME_OP: u8 = 0x08;
/// The prefix of a name that begins at the root.
const ROOT: u8 = b'\\';
/// `DefPackage`.
const PACKAGE_OP: u8 = 0x12;
/// The highest sleep type: three bits of a register.
const MAX_TYPE: u64 = 7;

/// The two sleep types of the state S5, each 0 to 7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SleepTypes {
    /// For the first register, PM1a control.
    pub a: u8,
    /// For the second register, PM1b control.
    pub b: u8,
}

/// What is wrong with a package `_S5_`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AmlError {
    /// The name is there, but not as that of a package.
    #[error(
        "at offset {offset:#x} the name is not that of a package of constants, and there is no interpreter here"
    )]
    NotAPackage {
        /// Where the name is, in bytes from the start of the table.
        offset: usize,
    },
    /// The package, or the table, ends before the types.
    #[error("the package at offset {offset:#x} ends before its two sleep types")]
    Truncated {
        /// Where the name is, in bytes from the start of the table.
        offset: usize,
    },
    /// An element is not a constant.
    #[error(
        "the package at offset {offset:#x} has an element that is no integer constant (opcode {opcode:#04x})"
    )]
    NotAConstant {
        /// Where the name is, in bytes from the start of the table.
        offset: usize,
        /// What stands there.
        opcode: u8,
    },
    /// A type does not fit the register.
    #[error(
        "the package at offset {offset:#x} has the sleep type {value:#x}; a register has room for 0 to 7"
    )]
    TooLarge {
        /// Where the name is, in bytes from the start of the table.
        offset: usize,
        /// The value.
        value: u64,
    },
}

/// Looks for the package in a table's bytes. An error is the first that was met, if no package was good.
pub(crate) fn find_soft_off(table: &[u8]) -> Result<Option<SleepTypes>, AmlError> {
    let mut first_error = None;
    for (offset, _) in table.windows(NAME.len()).enumerate().filter(|(_, window)| window == NAME) {
        match package_at(table, offset) {
            Ok(types) => return Ok(Some(types)),
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    first_error.map_or(Ok(None), Err)
}

/// Reads the package whose name is at `offset`.
fn package_at(table: &[u8], offset: usize) -> Result<SleepTypes, AmlError> {
    let (before, name) = table.split_at_checked(offset).unwrap_or_default();
    let named = matches!(before, [.., NAME_OP] | [.., NAME_OP, ROOT]);
    let truncated = AmlError::Truncated { offset };
    match name.get(NAME.len()..) {
        Some([PACKAGE_OP, rest @ ..]) if named => {
            let elements = package_elements(rest).ok_or(truncated)?;
            sleep_types(elements, offset)
        }
        Some([]) if named => Err(truncated),
        _ => Err(AmlError::NotAPackage { offset }),
    }
}

/// The number of elements and the bytes of a package, from behind its opcode.
///
/// Its length is in one to four bytes: the top two bits of the first say how many follow; it counts those bytes too.
fn package_elements(rest: &[u8]) -> Option<(u8, &[u8])> {
    let (first, _) = rest.split_first()?;
    let following = usize::from(first >> 6);
    let head = following.checked_add(1)?;
    let length = if following == 0 {
        usize::from(first & 0x3f)
    } else {
        let more = rest.get(1..head)?.iter().rev();
        more.fold(0_usize, |length, byte| length << 8 | usize::from(*byte)) << 4 | usize::from(first & 0xf)
    };
    let (count, elements) = rest.get(head..length)?.split_first()?;
    Some((*count, elements))
}

/// The sleep types among a package's elements: the first two, or the two low bytes of a single one.
fn sleep_types((count, elements): (u8, &[u8]), offset: usize) -> Result<SleepTypes, AmlError> {
    let (first, rest) = integer(elements, offset)?;
    let (a, b) = match count {
        0 => return Err(AmlError::Truncated { offset }),
        1 => (first & 0xff, first >> 8),
        _ => (first, integer(rest, offset)?.0),
    };
    let fits = |value: u64| match u8::try_from(value) {
        Ok(small) if value <= MAX_TYPE => Ok(small),
        _ => Err(AmlError::TooLarge { offset, value }),
    };
    Ok(SleepTypes { a: fits(a)?, b: fits(b)? })
}

/// An integer constant at the start of `bytes`, and what is behind it.
fn integer(bytes: &[u8], offset: usize) -> Result<(u64, &[u8]), AmlError> {
    let truncated = AmlError::Truncated { offset };
    let (opcode, rest) = bytes.split_first().ok_or(truncated)?;
    let (value, size) = match opcode {
        0x00 => (Some(0), 0),
        0x01 => (Some(1), 0),
        0xff => (Some(u64::MAX), 0),
        0x0a => (array(rest, 0).map(|[byte]| u64::from(byte)), 1),
        0x0b => (array(rest, 0).map(|bytes| u64::from(u16::from_le_bytes(bytes))), 2),
        0x0c => (array(rest, 0).map(|bytes| u64::from(u32::from_le_bytes(bytes))), 4),
        0x0e => (array(rest, 0).map(u64::from_le_bytes), 8),
        _ => return Err(AmlError::NotAConstant { offset, opcode: *opcode }),
    };
    Ok((value.ok_or(truncated)?, rest.get(size..).ok_or(truncated)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(bytes: &[u8]) -> Result<Option<(u8, u8)>, AmlError> {
        find_soft_off(bytes).map(|types| types.map(|types| (types.a, types.b)))
    }

    #[test]
    fn packages_of_real_machines_are_read() {
        // As SeaBIOS has it: four zeros.
        assert_eq!(find(b"\x08_S5_\x12\x06\x04\x00\x00\x00\x00"), Ok(Some((0, 0))));
        // As many a vendor's BIOS has it: bytes, and a name from the root.
        assert_eq!(find(b"\x08\\_S5_\x12\x08\x04\x0a\x05\x0a\x05\x00\x00"), Ok(Some((5, 5))));
        // Two elements, of different sizes.
        assert_eq!(find(b"\x08_S5_\x12\x06\x02\x0b\x07\x00\x01"), Ok(Some((7, 1))));
        assert_eq!(find(b"\x08_S5_\x12\x08\x02\x0c\x02\x00\x00\x00\x00"), Ok(Some((2, 0))));
        assert_eq!(find(b"\x08_S5_\x12\x0c\x02\x0e\x03\x00\x00\x00\x00\x00\x00\x00\x00"), Ok(Some((3, 0))));
        // One element that holds both.
        assert_eq!(find(b"\x08_S5_\x12\x05\x01\x0b\x05\x06"), Ok(Some((5, 6))));
        // A length in two bytes.
        assert_eq!(find(b"\x08_S5_\x12\x45\x00\x02\x01\x01"), Ok(Some((1, 1))));
    }

    #[test]
    fn names_that_are_not_definitions_are_passed_over() {
        let table = b"\x5b\x15_S5_\x00\x00junk\x08_S5_\x12\x04\x02\x01\x00";
        assert_eq!(find(table), Ok(Some((1, 0))));
        assert_eq!(find(b"nothing of the kind"), Ok(None));
        assert_eq!(find(b""), Ok(None));
    }

    #[test]
    fn what_is_no_package_of_constants_is_said() {
        assert_eq!(find(b"\x14\x0b_S5_\x00\xa4"), Err(AmlError::NotAPackage { offset: 2 }));
        let name = b"\x08_S5_\x12\x0a\x02SS5A\x00";
        let not_constant = AmlError::NotAConstant { offset: 1, opcode: b'S' };
        assert_eq!(find(&[name.as_slice(), &[0; 8]].concat()), Err(not_constant));
        assert_eq!(
            find(b"\x08_S5_\x12\x05\x02\x0a\x08\x00"),
            Err(AmlError::TooLarge { offset: 1, value: 8 })
        );
        assert_eq!(
            find(b"\x08_S5_\x12\x04\x02\xff\x00"),
            Err(AmlError::TooLarge { offset: 1, value: u64::MAX })
        );
    }

    #[test]
    fn a_package_that_ends_early_is_said() {
        let truncated = Err(AmlError::Truncated { offset: 1 });
        let whole = b"\x08_S5_\x12\x06\x04\x00\x00\x00\x00";
        for length in 5..whole.len() {
            assert_eq!(find(&whole[..length]), truncated, "{length} bytes");
        }
        for bytes in [
            b"\x08_S5_\x12\x02\x00".as_slice(),
            b"\x08_S5_\x12\x03\x02\x00\x00",
            b"\x08_S5_\x12\x00\x02\x00\x00",
            b"\x08_S5_\x12\x04\x02\x00\x0a\x01",
            b"\x08_S5_\x12\xff\xff\xff\xff\x02\x00\x00",
        ] {
            assert_eq!(find(bytes), truncated, "{bytes:x?}");
        }
    }
}
