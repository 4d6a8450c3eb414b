//! Forged inputs: kernels, a Xen, a GRUB and a QEMU that need nothing from outside.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// A folder with everything that domb needs, and nothing around it that domb could find instead.
pub(crate) struct Workshop {
    folder: TempDir,
}

impl Workshop {
    /// A folder with `xen`, `db-boot`, `kernel`, `grub/` and `bin/qemu-system-x86_64` (which exits with 33).
    pub(crate) fn new() -> Self {
        let shop = Self { folder: tempfile::tempdir().unwrap() };
        shop.write("xen", &xen());
        shop.write("db-boot", &kernel(b"db-boot"));
        shop.write("kernel", &kernel(b"kernel"));
        shop.write("grub/lib/i386-pc/boot.img", &boot_sector());
        shop.write("grub/lib/x86_64-efi/kernel.img", b"");
        shop.script("grub/bin/grub-mkimage", MKIMAGE);
        shop.qemu("echo the console; exit 33");
        fs::create_dir(shop.path("tmp")).unwrap();
        shop
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    /// A VM file with a name, 16 MiB, and more lines.
    pub(crate) fn vm(&self, name: &str, more: &str) {
        let text = format!("name = '{name}'\nkernel = 'kernel'\nmemory = 16\n{more}");
        self.write(&format!("{name}.cfg"), text.as_bytes());
    }

    /// What takes QEMU's place: a shell script that gets its arguments.
    pub(crate) fn qemu(&self, script: &str) {
        self.script("bin/qemu-system-x86_64", &format!("#!/bin/sh\n{script}\n"));
    }

    fn script(&self, name: &str, text: &str) {
        self.write(name, text.as_bytes());
        fs::set_permissions(self.path(name), Permissions::from_mode(0o755)).unwrap();
    }

    /// A domb command that finds the forged inputs.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_domb"));
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env("PATH", format!("{}:/usr/bin:/bin", self.path("bin").display()))
            .env("TMPDIR", self.path("tmp"))
            .env("DOMB_XEN", "xen")
            .env("DOMB_DB_BOOT", "db-boot")
            .env("DOMB_GRUB", "grub")
            .env_remove("NO_COLOR");
        command
    }

    pub(crate) fn domb(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Files left in the folder for temporary ones.
    pub(crate) fn leftovers(&self) -> Vec<PathBuf> {
        entries(&self.path("tmp"))
    }
}

pub(crate) fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Stands for grub-mkimage: an image of four blocks for BIOS, whose list of blocks says three more, and a few
/// bytes for UEFI. Both hold the options, so that a change of them changes the disk.
const MKIMAGE: &str = r#"#!/bin/sh
options="$*"
while [ $# -gt 0 ]; do
    case $1 in
        --format) format=$2; shift ;;
        --output) output=$2; shift ;;
    esac
    shift
done
case $format in
    i386-pc)
        { head -c 508 /dev/zero; printf '\003\000\040\010'; head -c 1536 /dev/zero; } >"$output" ;;
    x86_64-efi)
        echo "MZ ${options%%--output*}" >"$output" ;;
esac
"#;

fn boot_sector() -> Vec<u8> {
    let mut sector = vec![0; 512];
    sector[0x66..0x68].copy_from_slice(&[0xeb, 0x05]);
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

/// An ELF file with Multiboot headers, as far as domb looks.
fn xen() -> Vec<u8> {
    let mut file = b"\x7fELF\x01\x01\x01\0".to_vec();
    for word in [0x1bad_b002_u32, 3, 0xe452_4ffb, 0xe852_50d6, 0, 24, 0x17ad_af12] {
        file.extend_from_slice(&word.to_le_bytes());
    }
    file
}

/// The smallest ELF file that can start as a PV guest: one segment at 1 MiB that holds everything, with its notes.
pub(crate) fn kernel(contents: &[u8]) -> Vec<u8> {
    kernel_with_notes(contents, &[(5, b"xen-3.0\0"), (8, b"generic\0")], &[])
}

/// The same with a note of its own, as a db-boot has.
pub(crate) fn kernel_with_own_note(contents: &[u8], own_note: &[u8]) -> Vec<u8> {
    kernel_with_notes(contents, &[(5, b"xen-3.0\0"), (8, b"generic\0")], own_note)
}

/// The same, which says that it is a Linux.
pub(crate) fn linux_kernel(contents: &[u8]) -> Vec<u8> {
    kernel_with_notes(contents, &[(5, b"xen-3.0\0"), (6, b"linux\0\0\0"), (8, b"generic\0")], &[])
}

/// The same as the first, which can start as a PVH guest too: at its first byte.
pub(crate) fn pvh_kernel(contents: &[u8]) -> Vec<u8> {
    let start = 0x10_0000_u64.to_le_bytes();
    kernel_with_notes(contents, &[(5, b"xen-3.0\0"), (8, b"generic\0"), (1, &start), (18, &start)], &[])
}

fn kernel_with_notes(contents: &[u8], notes: &[(u32, &[u8; 8])], own_note: &[u8]) -> Vec<u8> {
    const BASE: u64 = 0x10_0000;
    let note = |kind: u32, text: &[u8; 8]| {
        [&4_u32.to_le_bytes()[..], &8_u32.to_le_bytes(), &kind.to_le_bytes(), b"Xen\0", text].concat()
    };
    let mut note: Vec<u8> = notes.iter().flat_map(|(kind, text)| note(*kind, text)).collect();
    note.extend_from_slice(own_note);
    let headers = 64 + 2 * 56;
    let size = u64::try_from(headers + note.len() + contents.len()).unwrap();
    let note_at = u64::try_from(headers).unwrap();
    let note_size = u64::try_from(note.len()).unwrap();

    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    for half in [2_u16, 62] {
        file.extend_from_slice(&half.to_le_bytes());
    }
    file.extend_from_slice(&1_u32.to_le_bytes());
    for word in [BASE, 64, 0] {
        file.extend_from_slice(&word.to_le_bytes());
    }
    file.extend_from_slice(&0_u32.to_le_bytes());
    for half in [64_u16, 56, 2, 64, 0, 0] {
        file.extend_from_slice(&half.to_le_bytes());
    }
    for (kind, flags, offset, length, align) in
        [(1_u32, 7_u32, 0, size, 4096_u64), (4, 4, note_at, note_size, 4)]
    {
        file.extend_from_slice(&kind.to_le_bytes());
        file.extend_from_slice(&flags.to_le_bytes());
        for word in [offset, BASE + offset, BASE + offset, length, length, align] {
            file.extend_from_slice(&word.to_le_bytes());
        }
    }
    [file, note, contents.to_vec()].concat()
}
