//! What is built into this db-boot about trust: `make db-boot TRUST_KEY=FILE.pub TRUST_VERSION=NUMBER`.
//!
//! Whoever can change the builder's command line cannot take it back. It is read when this is compiled, so
//! that a key with a mistake makes no builder.

use protocols::trust_note::{BuiltIn, TrustNote};

/// The key and the least version, if there is a key.
pub(crate) const BUILT_IN: Option<BuiltIn> =
    match (given(option_env!("DB_BOOT_TRUST_KEY")), given(option_env!("DB_BOOT_TRUST_VERSION"))) {
        (Some(digits), version) => Some(BuiltIn {
            key: key(digits.as_bytes()),
            least_version: match version {
                Some(number) => version_of(number.as_bytes()),
                None => 0,
            },
        }),
        (None, Some(_)) => {
            panic!("DB_BOOT_TRUST_VERSION without DB_BOOT_TRUST_KEY: versions are what a key signs")
        }
        (None, None) => None,
    };

// For `domb`, which can know so what this builder will require.
pv_runtime::note!(TrustNote, TrustNote::new(BUILT_IN));

/// A setting that says something.
const fn given(setting: Option<&str>) -> Option<&str> {
    match setting {
        Some(text) if !text.is_empty() => Some(text),
        _ => None,
    }
}

const fn version_of(digits: &[u8]) -> u64 {
    let mut number = 0_u64;
    let mut index = 0;
    while index < digits.len() {
        assert!(digits[index].is_ascii_digit(), "DB_BOOT_TRUST_VERSION is not a number");
        // A number that is too large does not compile.
        number = number * 10 + (digits[index] - b'0') as u64;
        index += 1;
    }
    number
}

const fn key(digits: &[u8]) -> [u8; 32] {
    assert!(digits.len() == 64, "DB_BOOT_TRUST_KEY is not the 64 hexadecimal digits of a public key");
    let mut key = [0; 32];
    let mut index = 0;
    while index < 32 {
        key[index] = digit(digits[2 * index]) << 4 | digit(digits[2 * index + 1]);
        index += 1;
    }
    key
}

const fn digit(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        b'A'..=b'F' => digit - b'A' + 10,
        _ => {
            assert!(
                digit.is_ascii_hexdigit(),
                "DB_BOOT_TRUST_KEY has a character that is no hexadecimal digit"
            );
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{key, version_of};

    #[test]
    fn digits_of_either_case_are_read() {
        let key = key(b"00ff10Ab00000000000000000000000000000000000000000000000000000001");
        assert_eq!((&key[..4], key[31]), (&[0x00, 0xff, 0x10, 0xab][..], 1));
    }

    #[test]
    fn versions_are_numbers() {
        assert_eq!((version_of(b"0"), version_of(b"18446744073709551615")), (0, u64::MAX));
    }

    #[test]
    #[should_panic(expected = "is not a number")]
    fn other_versions_are_refused() {
        version_of(b"7x");
    }

    #[test]
    #[should_panic(expected = "no hexadecimal digit")]
    fn other_characters_are_refused() {
        key(&[b'g'; 64]);
    }

    #[test]
    #[should_panic(expected = "not the 64 hexadecimal digits")]
    fn other_lengths_are_refused() {
        key(&[b'0'; 63]);
    }
}
