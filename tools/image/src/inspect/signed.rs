//! What a signed RAM disk says about itself.

use std::fmt::Write as _;

use protocols::manifest::{MANIFEST_ENTRY, SIGNATURE_ENTRY};
use protocols::{Manifest, ManifestSignature};

/// A manifest: one line, then one for each file.
pub fn manifest(manifest: &Manifest) -> String {
    let name = if manifest.platform.is_empty() { "without a name" } else { &manifest.platform };
    let mut out = format!("platform {name}, version {}, {} files\n", manifest.version, manifest.files.len());
    for file in &manifest.files {
        let _ = writeln!(out, "  {} {} ({} bytes)", file.sha256, file.name, file.length);
    }
    out
}

/// What an entry called `name` is, if it is a manifest or a signature.
pub(super) fn entry(name: &str, data: &[u8]) -> Option<String> {
    let said = match name {
        MANIFEST_ENTRY => Manifest::decode(data).map(|decoded| manifest(&decoded)),
        SIGNATURE_ENTRY => ManifestSignature::decode(data)
            .map(|signature| format!("Ed25519, by key {} (domb verify checks it)\n", signature.key_id)),
        _ => return None,
    };
    Some(said.unwrap_or_else(|error| format!("{error}\n")))
}
