//! UUIDs as a VM file writes them, and the one a VM gets when its file has none.

use sha2::{Digest, Sha256};

/// Reads `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`; `None` if `text` is anything else.
pub(super) fn parse(text: &str) -> Option<[u8; 16]> {
    let groups: Vec<&str> = text.split('-').collect();
    if groups.iter().map(|group| group.len()).ne([8, 4, 4, 4, 12]) {
        return None;
    }
    let digits: Vec<u8> = groups
        .concat()
        .chars()
        .map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok()))
        .collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    bytes.try_into().ok()
}

/// A UUID that depends on the VM's name alone, so that the same file always gives the same VM.
///
/// It is of version 8 (RFC 9562: contents chosen by the vendor), made from a SHA-256 of the name.
pub(super) fn from_name(name: &str) -> [u8; 16] {
    let digest = Sha256::new().chain_update(b"domb: uuid of the VM named ").chain_update(name).finalize();
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&digest[..16]);
    uuid[6] = uuid[6] & 0x0f | 0x80;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    uuid
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_form_is_read_and_nothing_else() {
        let expected =
            [0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff];
        assert_eq!(parse("00112233-4455-6677-8899-AABBccddeeff"), Some(expected));
        for wrong in [
            "",
            "00112233445566778899aabbccddeeff",
            "00112233-4455-6677-8899-aabbccddeefg",
            "00112233-4455-6677-8899-aabbccddeef",
            "00112233-4455-6677-8899-aabbccddeeff-",
            "0011223é-455-6677-8899-aabbccddeeff",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_derived_uuid_is_stable_and_of_version_8() {
        let uuid = from_name("web");
        assert_eq!(uuid, from_name("web"));
        assert_ne!(uuid, from_name("db"));
        assert_eq!((uuid[6] >> 4, uuid[8] >> 6), (8, 2));
    }
}
