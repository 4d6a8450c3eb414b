//! A disk image that boots Xen, db-boot and a RAM disk on BIOS and UEFI machines.
//!
//! | where | what |
//! |---|---|
//! | block 0 | GRUB's boot sector, with the protective partition entry that GPT asks for |
//! | blocks 1..34 | partition table (GPT) |
//! | partition 1, `BIOS boot` | GRUB's core for BIOS machines: the boot sector knows its place |
//! | partition 2, `EFI system` | FAT: GRUB for UEFI machines, GRUB's menu, Xen, db-boot, the RAM disk |
//! | last 33 blocks | the table's copy |
//!
//! Both GRUBs read the same menu, which has one entry and no delay. Everything is put together in memory, without
//! root and without a loop device; equal inputs give equal bytes, because every identifier that is random
//! elsewhere is derived from the contents here.

mod change;
mod esp;
mod grub;
mod read;
mod table;

use std::borrow::Cow;
use std::io;
use std::path::PathBuf;

use sha2::{Digest as _, Sha256};
use thiserror::Error;

pub use change::with_archive;
pub use grub::Grub;
pub use read::{DiskContents, Partition, is_disk_image, read};

/// Bytes of a block.
const BLOCK: usize = 512;

/// Boot modules are filled up with zeros to this size: the whole of a PC's low memory. On UEFI machines GRUB puts a
/// module into the lowest gap that holds it. A module that fits below 640 KiB would take the place of the trampoline
/// that Xen wakes processors with, and Xen would give up.
const LOW_MEMORY: usize = 640 << 10;

/// Where the files are in the EFI system partition.
mod paths {
    pub(super) const EFI_LOADER: &str = "EFI/BOOT/BOOTX64.EFI";
    pub(super) const MENU: &str = "boot/grub/grub.cfg";
    pub(super) const XEN: &str = "boot/xen";
    pub(super) const DB_BOOT: &str = "boot/db-boot";
    pub(super) const ARCHIVE: &str = "boot/ramdisk.cpio";
}

/// What a disk boots.
#[derive(Clone, Copy, Debug)]
pub struct Contents<'a> {
    /// Xen as an ELF file (not compressed), with a Multiboot 2 header.
    pub xen: &'a [u8],
    /// Xen's command line.
    pub xen_args: &'a str,
    /// db-boot.
    pub db_boot: &'a [u8],
    /// db-boot's command line.
    pub db_boot_args: &'a str,
    /// The RAM disk.
    pub archive: &'a [u8],
}

/// Why there is no disk image.
#[derive(Debug, Error)]
pub enum DiskError {
    /// GRUB's tool or modules are not there.
    #[error(
        "GRUB is not there: looked for grub-mkimage and the folders i386-pc and x86_64-efi in {}; `make build/grub` \
         fetches them, --grub or DOMB_GRUB names another folder",
        shown(.searched)
    )]
    NoGrub {
        /// The folders that were searched.
        searched: Vec<PathBuf>,
    },
    /// `grub-mkimage` failed.
    #[error("{} failed for {format}: {reason}", .program.display())]
    MakeImage {
        /// The program.
        program: PathBuf,
        /// GRUB's name for the platform.
        format: &'static str,
        /// What it said.
        reason: String,
    },
    /// A file of GRUB's could not be read.
    #[error(transparent)]
    File(#[from] crate::files::FileError),
    /// A file of GRUB's is not what its name says.
    #[error("{file} of GRUB is not as expected: {reason}; supported are GRUB 2.06 and its relatives")]
    UnknownGrub {
        /// Which file.
        file: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// An argument cannot be written into GRUB's menu.
    #[error(
        "{whose} command line: GRUB would change {character:?}; leave it out, or start without a disk image"
    )]
    Argument {
        /// Whose command line it is.
        whose: &'static str,
        /// The first offending character.
        character: char,
    },
    /// Xen lacks what GRUB needs to start it.
    #[error(
        "this Xen has no Multiboot 2 header, so GRUB cannot start it on UEFI machines; take Xen 4.9 or newer"
    )]
    NoMultiboot2,
    /// Something does not fit a FAT file system.
    #[error("{what} has {bytes} bytes; a disk image holds files of less than 4 GiB")]
    TooLarge {
        /// Which file.
        what: &'static str,
        /// Its size.
        bytes: usize,
    },
    /// A disk image has more than ours have, and would lose it.
    #[error(
        "the disk has {} besides what `domb pack` puts there, which would be lost: sign the RAM disk alone \
         (/boot/ramdisk.cpio on the EFI system partition) and put it back, or pack the disk with --sign",
        .what.join(", ")
    )]
    Added {
        /// What else there is.
        what: Vec<String>,
    },
    /// The end of a disk image is missing.
    #[error("the disk image ends after {length} of its {size} bytes: it was cut off; copy it again")]
    CutOff {
        /// How many bytes are there.
        length: usize,
        /// How many its partition table says.
        size: usize,
    },
    /// A disk image could not be read back.
    #[error("the {what} cannot be read: {cause}; is this a disk image of `domb pack`?")]
    Unreadable {
        /// Which part of it.
        what: &'static str,
        /// The reason.
        cause: io::Error,
    },
    /// The file system or the partition table could not be made.
    #[error("cannot make the {what}: {cause}")]
    Structure {
        /// Which of them.
        what: &'static str,
        /// The reason.
        cause: io::Error,
    },
}

fn shown(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// Puts a disk image together.
pub fn build(grub: &Grub, contents: &Contents<'_>) -> Result<Vec<u8>, DiskError> {
    if !crate::xen::has_multiboot2(contents.xen) {
        return Err(DiskError::NoMultiboot2);
    }
    let menu = grub::menu(contents.xen_args, contents.db_boot_args)?;
    let bios = grub.bios()?;
    let efi_loader = grub.efi()?;
    let (db_boot, archive) = (above_low_memory(contents.db_boot), above_low_memory(contents.archive));
    let files = [
        (paths::EFI_LOADER, efi_loader.as_slice()),
        (paths::MENU, menu.as_bytes()),
        (paths::XEN, contents.xen),
        (paths::DB_BOOT, &db_boot),
        (paths::ARCHIVE, &archive),
    ];
    let identity = Identity::of(&files);
    let system = esp::build(&files, &identity)?;
    table::assemble(bios, &system, &identity)
}

/// A boot module that is too large for low memory. Neither an ELF file nor an archive minds zeros behind its end.
fn above_low_memory(module: &[u8]) -> Cow<'_, [u8]> {
    if module.len() > LOW_MEMORY {
        return module.into();
    }
    let mut padded = module.to_vec();
    padded.resize(LOW_MEMORY + 1, 0);
    padded.into()
}

/// Identifiers that differ between disks of different contents, and only then.
struct Identity([u8; 32]);

impl Identity {
    fn of(files: &[(&str, &[u8])]) -> Self {
        let mut digest = Sha256::new();
        for (path, bytes) in files {
            digest.update(Sha256::digest(path));
            digest.update(Sha256::digest(bytes));
        }
        Self(digest.finalize().into())
    }

    /// A GUID for `purpose`, of version 8 (RFC 9562: contents chosen by the vendor).
    fn guid(&self, purpose: &str) -> uuid::Uuid {
        let digest: [u8; 32] = Sha256::new().chain_update(self.0).chain_update(purpose).finalize().into();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        uuid::Builder::from_custom_bytes(bytes).into_uuid()
    }

    /// The serial number of the file system.
    fn volume_id(&self) -> u32 {
        u32::from_le_bytes([self.0[0], self.0[1], self.0[2], self.0[3]])
    }
}
