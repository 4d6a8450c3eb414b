//! The public key that is part of this db-boot, if it was built with one: `make db-boot TRUST_KEY=FILE.pub`.
//!
//! Whoever can change the builder's command line cannot take such a key back. The digits are read when this is compiled, so
//! that a key with a mistake makes no builder.

/// The 32 bytes of the key.
pub(crate) const BUILT_IN: Option<[u8; 32]> = match option_env!("DB_BOOT_TRUST_KEY") {
    Some(digits) if !digits.is_empty() => Some(key(digits.as_bytes())),
    _ => None,
};

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
    use super::key;

    #[test]
    fn digits_of_either_case_are_read() {
        let key = key(b"00ff10Ab00000000000000000000000000000000000000000000000000000001");
        assert_eq!((&key[..4], key[31]), (&[0x00, 0xff, 0x10, 0xab][..], 1));
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
