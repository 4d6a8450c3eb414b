//! The note in db-boot's file that says which key is built into it: an ELF note beside Xen's.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 12 | ELF's header: length of the owner (8), length of what follows it (40), type (1) |
//! | 12 | 8 | owner, `db-boot` and a zero byte |
//! | 20 | 32 | the Ed25519 public key; all zero: none is built in |
//! | 52 | 8 | the least version of a platform that is accepted; 0 without a key |
//!
//! Numbers are little-endian. Whoever packs or looks at a db-boot learns from it what that db-boot will require; the builder itself
//! goes by what was compiled into its code, which is the same value.

/// The owner of the note.
pub const OWNER: [u8; 8] = *b"db-boot\0";
/// Its type.
pub const KIND: u32 = 1;

const KEY_LEN: usize = 32;
const DESCRIPTION_LEN: usize = KEY_LEN + 8;
const DESCRIPTION: usize = 12 + OWNER.len();
const LEN: usize = DESCRIPTION + DESCRIPTION_LEN;

/// What is built into a db-boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuiltIn {
    /// The public key that it requires: 32 bytes, which need not be a usable key.
    pub key: [u8; KEY_LEN],
    /// The least version of a platform that it accepts.
    pub least_version: u64,
}

impl BuiltIn {
    /// Reads what stands behind the owner; `None` if no key is built in, or if it is not such a note.
    pub fn decode(description: &[u8]) -> Option<Self> {
        let (key, version) = description.split_first_chunk()?;
        let least_version = u64::from_le_bytes(version.try_into().ok()?);
        (*key != [0; KEY_LEN]).then_some(Self { key: *key, least_version })
    }
}

/// The note as it is in the file, aligned as ELF asks for.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(4))]
pub struct TrustNote([u8; LEN]);

impl TrustNote {
    /// The note about what is built in.
    #[expect(clippy::cast_possible_truncation, reason = "the lengths are 8 and 40")]
    pub const fn new(built_in: Option<BuiltIn>) -> Self {
        let mut note = [0; LEN];
        put(&mut note, 0, &(OWNER.len() as u32).to_le_bytes());
        put(&mut note, 4, &(DESCRIPTION_LEN as u32).to_le_bytes());
        put(&mut note, 8, &KIND.to_le_bytes());
        put(&mut note, 12, &OWNER);
        if let Some(BuiltIn { key, least_version }) = built_in {
            put(&mut note, DESCRIPTION, &key);
            put(&mut note, DESCRIPTION + KEY_LEN, &least_version.to_le_bytes());
        }
        Self(note)
    }

    /// Its bytes, padded to a multiple of four as they are.
    pub const fn bytes(&self) -> &[u8; LEN] {
        &self.0
    }
}

/// Copies `bytes` to `at`; for constants alone, where what does not fit does not compile.
#[expect(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "evaluated by the compiler")]
const fn put(note: &mut [u8; LEN], at: usize, bytes: &[u8]) {
    let mut index = 0;
    while index < bytes.len() {
        note[at + index] = bytes[index];
        index += 1;
    }
}
