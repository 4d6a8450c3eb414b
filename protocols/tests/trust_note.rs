//! The note about the key that is built into a db-boot.
#![allow(missing_docs, reason = "a test's name says what it checks")]
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use protocols::trust_note::{BuiltIn, TrustNote};

#[test]
fn the_bytes_are_these() {
    const NOTE: TrustNote = TrustNote::new(Some(BuiltIn { key: [7; 32], least_version: 0x0102 }));
    let expected =
        [&[8, 0, 0, 0, 40, 0, 0, 0, 1, 0, 0, 0][..], b"db-boot\0", &[7; 32], &[2, 1, 0, 0, 0, 0, 0, 0]]
            .concat();
    assert_eq!(&NOTE.bytes()[..], expected);
    assert_eq!(align_of::<TrustNote>(), 4);
}

#[test]
fn what_was_built_in_is_read_back() {
    let built_in = BuiltIn { key: [7; 32], least_version: u64::MAX };
    let note = TrustNote::new(Some(built_in));
    assert_eq!(BuiltIn::decode(&note.bytes()[20..]), Some(built_in));
    assert_eq!(BuiltIn::decode(&TrustNote::new(None).bytes()[20..]), None);
    for length in 0..40 {
        assert_eq!(BuiltIn::decode(&note.bytes()[20..20 + length]), None);
    }
    assert_eq!(BuiltIn::decode(note.bytes()), None);
}
