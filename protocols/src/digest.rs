//! SHA-256 digests as they are written: 32 bytes in formats, 64 hexadecimal digits in texts.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A SHA-256 digest, or any other 32 bytes that are written like one (a public key).
///
/// In a format: its bytes, without a length. As text: 64 digits, lower case.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Digest(pub [u8; 32]);

/// A text that is not 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not 64 hexadecimal digits: {}", ReasonText(*.length, *.bad))]
pub struct NotHexadecimal {
    /// How many characters there are.
    pub length: usize,
    /// The first that is no digit, and its index.
    pub bad: Option<(usize, char)>,
}

struct ReasonText(usize, Option<(usize, char)>);

impl fmt::Display for ReasonText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            Some((at, found)) => write!(f, "character {} is {found:?}", at.saturating_add(1)),
            None => write!(f, "there are {} characters", self.0),
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = NotHexadecimal;

    /// Reads 64 hexadecimal digits of either case, and nothing else.
    fn from_str(text: &str) -> Result<Self, NotHexadecimal> {
        let mut digits = text.chars().enumerate().map(|(at, c)| {
            let digit = c.to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            digit.ok_or(NotHexadecimal { length: text.chars().count(), bad: Some((at, c)) })
        });
        let wrong_length = NotHexadecimal { length: text.chars().count(), bad: None };
        let mut bytes = [0; 32];
        for byte in &mut bytes {
            let high = digits.next().ok_or(wrong_length)??;
            let low = digits.next().ok_or(wrong_length)??;
            *byte = (high << 4) | low;
        }
        digits.next().map_or(Ok(Self(bytes)), |_| Err(wrong_length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn a_digest_is_written_and_read() {
        let digest = Digest(core::array::from_fn(|index| u8::try_from(index * 8).unwrap_or(255)));
        let text = digest.to_string();
        assert!(text.starts_with("0008101820") && text.len() == 64, "{text}");
        assert_eq!(text.parse(), Ok(digest));
        assert_eq!(text.to_uppercase().parse(), Ok(digest));
    }

    #[test]
    fn what_is_no_digest_is_refused_with_the_reason() {
        let reason = |text: &str| text.parse::<Digest>().unwrap_err().to_string();
        let digits = "0".repeat(64);
        assert_eq!(reason(""), "not 64 hexadecimal digits: there are 0 characters");
        assert_eq!(reason(&digits[1..]), "not 64 hexadecimal digits: there are 63 characters");
        assert_eq!(reason(&(digits.clone() + "0")), "not 64 hexadecimal digits: there are 65 characters");
        assert_eq!(reason(&digits.replacen('0', "g", 1)), "not 64 hexadecimal digits: character 1 is 'g'");
        assert_eq!(reason(&digits.replacen("00", "0ä", 1)), "not 64 hexadecimal digits: character 2 is 'ä'");
    }
}
