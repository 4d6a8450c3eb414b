//! Ed25519 keys.

use core::fmt;
use core::str::FromStr;

use ed25519_compact::{KeyPair, Seed, Signature};
use protocols::Digest;
use protocols::digest::NotHexadecimal;
use thiserror::Error;

use crate::measure::sha256;

/// A public key that can verify something: the canonical encoding of a point that does not have a small order.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

/// Why something is not a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum KeyError {
    /// It is not written as 64 hexadecimal digits.
    #[error("the public key is {0}")]
    NotHexadecimal(#[from] NotHexadecimal),
    /// These 32 bytes are not a public key of Ed25519, or one for which anything would verify.
    #[error(
        "these 32 bytes are not an Ed25519 public key that could verify anything; `domb keygen` makes one"
    )]
    Unusable,
}

impl PublicKey {
    /// The key of these bytes (RFC 8032, 5.1.5).
    pub fn new(bytes: [u8; 32]) -> Result<Self, KeyError> {
        ed25519_compact::PublicKey::new(bytes).validate().map_err(|_| KeyError::Unusable)?;
        Ok(Self(bytes))
    }

    /// Its bytes.
    pub fn bytes(&self) -> [u8; 32] {
        self.0
    }

    /// Its name in signatures: the SHA-256 of its bytes.
    pub fn id(&self) -> Digest {
        sha256(&self.0)
    }

    /// Whether `signature` is this key's over the joined `parts`.
    pub(crate) fn verifies(&self, parts: &[&[u8]], signature: [u8; 64]) -> bool {
        let key = ed25519_compact::PublicKey::new(self.0);
        let Ok(mut state) = key.verify_incremental(&Signature::new(signature)) else { return false };
        for part in parts {
            state.absorb(part);
        }
        state.verify().is_ok()
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    /// Reads 64 hexadecimal digits.
    fn from_str(text: &str) -> Result<Self, KeyError> {
        Self::new(text.parse::<Digest>()?.0)
    }
}

/// 64 hexadecimal digits.
impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Digest(self.0).fmt(f)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

/// A private key; for the host alone. It is never shown.
pub struct SigningKey(KeyPair);

impl SigningKey {
    /// The key of a seed (RFC 8032's private key), which must come from a good source of randomness.
    pub fn from_seed(seed: [u8; 32]) -> Result<Self, KeyError> {
        KeyPair::try_from_seed(Seed::new(seed)).map(Self).map_err(|_| KeyError::Unusable)
    }

    /// The key that verifies what this one signs.
    pub fn public(&self) -> Result<PublicKey, KeyError> {
        PublicKey::new(*self.0.pk)
    }

    /// Signs `message`. The same message gives the same signature.
    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        *self.0.sk.sign(message, None)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(not shown)")
    }
}
