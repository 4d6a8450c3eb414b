//! Keys in files, and RAM disks and disk images that are signed with them.
//!
//! The files are those of OpenSSL: PKCS#8 for a private key, SubjectPublicKeyInfo for a public one, each as PEM.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use ed25519_compact::KeyPair;
use kernel_image::Compression;
use protocols::Manifest;
use ramdisk::{Archive, RamdiskError};
use thiserror::Error;
use trust::{KeyError, PublicKey, SignError, SigningKey, TrustError, measure};

use crate::disk::{self, DiskContents, DiskError};
use crate::files::{self, FileError};
use crate::packed::{self, PackedError};

/// The largest key file that is read; real ones have some hundred bytes.
const MAX_KEY_LEN: u64 = 64 << 10;

/// Why there is no key.
#[derive(Debug, Error)]
pub enum KeyFileError {
    /// The file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A key is there already.
    #[error("{} is there already, and a key that is overwritten is lost: choose another name", .0.display())]
    Exists(PathBuf),
    /// The file is no such key.
    #[error("{} is not {wanted}{}; `domb keygen` makes a pair", .path.display(), hint(*.looks_like))]
    NotAKey {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        wanted: &'static str,
        /// What it seems to be instead.
        looks_like: Option<&'static str>,
    },
    /// It has the form of a key, but is of no use.
    #[error("{}: {cause}", .path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: KeyError,
    },
}

fn hint(looks_like: Option<&'static str>) -> String {
    looks_like.map(|what| format!(", it looks like {what}")).unwrap_or_default()
}

const PRIVATE: &str = "an Ed25519 private key (PKCS#8, PEM, no passphrase)";
const PUBLIC: &str = "an Ed25519 public key (PEM)";

/// A new pair of keys.
#[derive(Debug)]
pub struct NewKeys {
    /// The file of the private key, which only its owner may read.
    pub private_file: PathBuf,
    /// The file of the public key.
    pub public_file: PathBuf,
    /// The public key.
    pub public: PublicKey,
}

/// Makes a pair of keys and writes them to `NAME.key` and `NAME.pub`. Nothing is overwritten.
pub fn generate(name: &Path) -> Result<NewKeys, KeyFileError> {
    let with = |suffix: &str| {
        let mut path = name.as_os_str().to_owned();
        path.push(suffix);
        PathBuf::from(path)
    };
    let (private_file, public_file) = (with(".key"), with(".pub"));
    if let Some(there) =
        [&private_file, &public_file].into_iter().find(|path| path.symlink_metadata().is_ok())
    {
        return Err(KeyFileError::Exists(there.clone()));
    }
    let pair = KeyPair::generate();
    let public = PublicKey::new(*pair.pk)
        .map_err(|cause| KeyFileError::Unusable { path: public_file.clone(), cause })?;
    write_new(&private_file, 0o600, &pair.sk.to_pem())?;
    write_new(&public_file, 0o644, &pair.pk.to_pem()).inspect_err(|_| _ = fs::remove_file(&private_file))?;
    Ok(NewKeys { private_file, public_file, public })
}

/// Writes a file that must not be there yet.
fn write_new(path: &Path, mode: u32, text: &str) -> Result<(), KeyFileError> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let mut file = opened.map_err(|cause| match cause.kind() {
        io::ErrorKind::AlreadyExists => KeyFileError::Exists(path.to_owned()),
        _ => FileError::new("write", path, cause).into(),
    })?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    written.map_err(|cause| {
        let _ = fs::remove_file(path);
        FileError::new("write", path, cause).into()
    })
}

/// Reads a private key.
pub fn read_private(path: &Path) -> Result<SigningKey, KeyFileError> {
    let text = read_text(path)?;
    let pair = KeyPair::from_pem(&text).map_err(|_| not_a_key(path, PRIVATE, &text))?;
    SigningKey::from_seed(*pair.sk.seed()).map_err(|cause| unusable(path, cause))
}

/// Reads a public key.
pub fn read_public(path: &Path) -> Result<PublicKey, KeyFileError> {
    let text = read_text(path)?;
    let key = ed25519_compact::PublicKey::from_pem(&text).map_err(|_| not_a_key(path, PUBLIC, &text))?;
    PublicKey::new(*key).map_err(|cause| unusable(path, cause))
}

fn unusable(path: &Path, cause: KeyError) -> KeyFileError {
    KeyFileError::Unusable { path: path.to_owned(), cause }
}

fn read_text(path: &Path) -> Result<String, FileError> {
    files::read_bounded(path, MAX_KEY_LEN).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn not_a_key(path: &Path, wanted: &'static str, text: &str) -> KeyFileError {
    let known = [
        ("BEGIN ENCRYPTED PRIVATE KEY", "a private key with a passphrase"),
        ("BEGIN OPENSSH PRIVATE KEY", "a key of OpenSSH"),
        ("BEGIN PRIVATE KEY", "a private key"),
        ("BEGIN PUBLIC KEY", "a public key"),
    ];
    let looks_like = known.iter().find(|(mark, _)| text.contains(mark)).map(|(_, what)| *what);
    let another_kind = |what: &'static str| match (wanted, what) {
        (PRIVATE, "a private key") | (PUBLIC, "a public key") => "a key of another kind than Ed25519",
        _ => what,
    };
    KeyFileError::NotAKey { path: path.to_owned(), wanted, looks_like: looks_like.map(another_kind) }
}

/// Why something cannot be signed or is not trusted.
#[derive(Debug, Error)]
pub enum SigningError {
    /// It is no RAM disk.
    #[error(transparent)]
    Archive(#[from] RamdiskError),
    /// It is compressed, and cannot be unpacked.
    #[error(transparent)]
    Packed(#[from] PackedError),
    /// It is compressed, and could not be compressed so again.
    #[error(
        "the RAM disk is compressed with {0}, which is not written here: unpack it, sign it, and compress it again"
    )]
    Recompress(Compression),
    /// It is no disk image of ours, or cannot be put together again.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// It cannot be signed.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// It is not what was signed.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

/// What a signature says besides that it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Release {
    /// The platform's name; may be empty.
    pub platform: String,
    /// Its version.
    pub version: u64,
}

/// Signs a RAM disk, or the RAM disk on a disk image.
pub fn sign(bytes: &[u8], release: &Release, key: &SigningKey) -> Result<Vec<u8>, SigningError> {
    if disk::is_disk_image(bytes) {
        let archive = sign_archive(&disk::read(bytes)?.archive, release, key)?;
        return Ok(disk::with_archive(bytes, &archive)?);
    }
    sign_archive(bytes, release, key)
}

/// Signs a RAM disk. What is compressed with gzip is signed inside, and compressed again.
pub fn sign_archive(bytes: &[u8], release: &Release, key: &SigningKey) -> Result<Vec<u8>, SigningError> {
    let opened = packed::open(bytes)?;
    let sign = || {
        trust::sign(&Archive::parse(&opened.archive)?, &release.platform, release.version, key)
            .map_err(SigningError::from)
    };
    match opened.compression {
        None => sign(),
        Some(Compression::Gzip) => Ok(packed::gzip(&sign()?)),
        Some(other) => Err(SigningError::Recompress(other)),
    }
}

/// What was verified, and what stands beside it.
#[derive(Clone, Debug)]
pub struct Verified {
    /// What was signed.
    pub manifest: Manifest,
    /// The disk image that the RAM disk is on, if it is on one. Nothing but the RAM disk is signed.
    pub disk: Option<DiskContents>,
}

/// Verifies a RAM disk, or the RAM disk on a disk image, as db-boot does.
pub fn verify(bytes: &[u8], key: &PublicKey, least_version: u64) -> Result<Verified, SigningError> {
    let disk = disk::is_disk_image(bytes).then(|| disk::read(bytes)).transpose()?;
    let opened = packed::open(disk.as_ref().map_or(bytes, |disk| &disk.archive))?;
    let archive = Archive::parse(&opened.archive)?;
    let manifest = trust::verify(&opened.archive, &archive, &measure(&archive), key, least_version)?;
    Ok(Verified { manifest, disk })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::Command;

    #[test]
    fn a_pair_is_written_once_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let name = folder.path().join("shop");
        let made = generate(&name).unwrap();
        let metadata = fs::metadata(&made.private_file).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
        let key = read_private(&made.private_file).unwrap();
        assert_eq!(key.public().unwrap(), made.public);
        assert_eq!(read_public(&made.public_file).unwrap(), made.public);
        let before = fs::read(&made.private_file).unwrap();
        assert!(matches!(generate(&name), Err(KeyFileError::Exists(_))));
        fs::remove_file(&made.private_file).unwrap();
        assert!(matches!(generate(&name), Err(KeyFileError::Exists(path)) if path == made.public_file));
        assert!(!made.private_file.exists());
        fs::remove_file(&made.public_file).unwrap();
        generate(&name).unwrap();
        assert_ne!(fs::read(&made.private_file).unwrap(), before);
    }

    #[test]
    fn files_that_are_no_keys_say_what_they_look_like() {
        let folder = tempfile::tempdir().unwrap();
        let made = generate(&folder.path().join("k")).unwrap();
        let other = folder.path().join("other");
        fs::write(&other, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n").unwrap();
        for (result, words) in [
            (read_private(&made.public_file).err(), "it looks like a public key"),
            (read_public(&made.private_file).err(), "it looks like a private key"),
            (read_private(&other).err(), "it looks like a key of another kind than Ed25519"),
            (read_public(&other).err(), "it looks like a private key"),
        ] {
            let text = result.unwrap().to_string();
            assert!(text.contains(words) && text.ends_with("`domb keygen` makes a pair"), "{text}");
        }
    }

    /// The files and the signature are what OpenSSL takes them for. Without the program nothing is compared.
    #[test]
    fn openssl_agrees() {
        use protocols::manifest::{MANIFEST_ENTRY, SIGNATURE_CONTEXT, SIGNATURE_ENTRY};
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let openssl =
            |arguments: &[&str]| Command::new("openssl").args(arguments).current_dir(folder.path()).output();
        if openssl(&["version"]).is_err() {
            println!("openssl is not installed: skipped");
            return;
        }
        let made = openssl(&["genpkey", "-algorithm", "ed25519", "-out", "k.key"]).unwrap();
        assert!(made.status.success(), "{made:?}");
        let public = openssl(&["pkey", "-in", "k.key", "-pubout", "-out", "k.pub"]).unwrap();
        assert!(public.status.success(), "{public:?}");
        let key = read_private(&path("k.key")).unwrap();
        assert_eq!(key.public().unwrap(), read_public(&path("k.pub")).unwrap());

        let mut writer = ramdisk::Writer::new();
        writer.file("vms/a.spec", b"spec").unwrap();
        let signed = sign(&writer.finish(), &Release::default(), &key).unwrap();
        let archive = Archive::parse(&signed).unwrap();
        let message = [SIGNATURE_CONTEXT, archive.file(MANIFEST_ENTRY).unwrap()].concat();
        fs::write(path("message"), message).unwrap();
        fs::write(path("signature"), &archive.file(SIGNATURE_ENTRY).unwrap()[48..]).unwrap();
        let verified = openssl(&[
            "pkeyutl",
            "-verify",
            "-pubin",
            "-inkey",
            "k.pub",
            "-rawin",
            "-in",
            "message",
            "-sigfile",
            "signature",
        ]);
        let verified = verified.unwrap();
        assert!(verified.status.success(), "{verified:?}");
    }
}
