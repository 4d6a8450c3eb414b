//! What the mutations start from: small, valid, and made by code where that is possible.

use std::path::{Path, PathBuf};

use faults::kernel::{kernel, kernel_of_32_bits, kernel_with_symbols};
use faults::scenarios;
use protocols::manifest::{FileRecord, Manifest};
use protocols::{BootSpec, PlatformSpec};

/// The longest file that is a seed.
const LONGEST: u64 = 48 << 10;

/// A path in this checkout.
fn checkout(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// The files of a folder of this checkout whose names end in `ending`, in the order of their names.
pub(crate) fn files(folder: &str, ending: &str) -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir(checkout(folder)).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    let fits = |path: &PathBuf| {
        path.to_string_lossy().ends_with(ending) && path.metadata().is_ok_and(|data| data.len() <= LONGEST)
    };
    paths.iter().filter(|path| fits(path)).filter_map(|path| std::fs::read(path).ok()).collect()
}

/// The inputs that did harm once, for a target.
pub fn regressions(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions").join(target);
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries
        .filter_map(|entry| Some((entry.file_name().into_string().ok()?, std::fs::read(entry.path()).ok()?)))
        .collect();
    found.sort();
    found
}

/// RAM disks of whole platforms.
pub(crate) fn archives() -> Vec<Vec<u8>> {
    scenarios().iter().map(|scenario| scenario.archive().to_vec()).collect()
}

/// Kernels: the smallest, one with symbols, one of 32 bits, and those that the tests of `kernel-image` unpack.
pub(crate) fn kernels() -> Vec<Vec<u8>> {
    let mut kernels = vec![kernel(), kernel_with_symbols(), kernel_of_32_bits(), bzimage(&kernel())];
    kernels.extend(streams("").iter().map(|stream| bzimage(stream)));
    kernels
}

/// A Linux image with `payload`.
fn bzimage(payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 1024];
    bytes[0x1f1] = 1;
    bytes[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    bytes[0x202..0x206].copy_from_slice(b"HdrS");
    bytes[0x206..0x208].copy_from_slice(&0x020f_u16.to_le_bytes());
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    bytes[0x24c..0x250].copy_from_slice(&length.to_le_bytes());
    bytes.extend(payload);
    bytes
}

/// Compressed files whose names end in `ending`.
pub(crate) fn streams(ending: &str) -> Vec<Vec<u8>> {
    let streams = files("lib/kernel-image/tests/data", ending);
    streams.into_iter().filter(|stream| !stream.starts_with(b"#")).collect()
}

/// Encoded boot specs.
pub(crate) fn specs() -> Vec<Vec<u8>> {
    let scenarios = scenarios();
    let specs = scenarios.iter().flat_map(|scenario| &scenario.specs);
    specs.filter_map(|spec: &BootSpec| spec.encode().ok()).collect()
}

/// Encoded platform specs.
pub(crate) fn platforms() -> Vec<Vec<u8>> {
    PlatformSpec::default().encode().into_iter().collect()
}

/// Encoded manifests.
pub(crate) fn manifests() -> Vec<Vec<u8>> {
    let archive = archives().into_iter().next().unwrap_or_default();
    let files: Vec<FileRecord> =
        ramdisk::Archive::parse(&archive).map(|archive| trust::measure(&archive)).unwrap_or_default();
    let manifest = Manifest { platform: "seed".into(), version: 3, files };
    manifest.encode().into_iter().collect()
}

/// Event logs.
pub(crate) fn event_logs() -> Vec<Vec<u8>> {
    vec![trust::EventLog::new().as_bytes().to_vec()]
}

/// Messages, from the golden files in hexadecimal.
pub(crate) fn messages() -> Vec<Vec<u8>> {
    files("protocols/tests/golden", ".hex").iter().map(|text| from_hex(text)).collect()
}

/// The bytes that a text spells in hexadecimal; what is no digit separates, `#` begins a comment.
fn from_hex(text: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(text);
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or(""));
    let digits: Vec<u8> = lines
        .flat_map(str::chars)
        .filter_map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}
