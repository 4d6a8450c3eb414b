//! GRUB: where it is, its images for BIOS and UEFI, its menu.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::{BLOCK, DiskError, paths};
use crate::files;

/// What both GRUBs need: the table, the file system, the menu, the serial line, Multiboot 2.
const MODULES: &[&str] =
    &["part_gpt", "fat", "normal", "multiboot2", "serial", "terminal", "terminfo", "boot"];
/// What only the one for BIOS needs: disks through the BIOS.
const BIOS_MODULES: &[&str] = &["biosdisk"];

/// The largest image of GRUB's that is read.
const MAX_IMAGE_LEN: u64 = 16 << 20;

/// `grub-mkimage` and the modules it puts into images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grub {
    program: PathBuf,
    modules: PathBuf,
    libraries: Option<PathBuf>,
}

/// GRUB's two pieces for BIOS machines.
pub(super) struct BiosImages {
    /// The boot sector.
    boot: [u8; BLOCK],
    /// What it loads: a multiple of blocks.
    core: Vec<u8>,
}

impl Grub {
    /// GRUB in the first of `folders` that has it, laid out as `make build/grub` does (`bin`, `lib`) or as packages
    /// of distributions are when unpacked there (`usr/bin`, `usr/lib/grub`). After them the system is searched.
    pub fn find(folders: impl IntoIterator<Item = PathBuf>) -> Result<Self, DiskError> {
        let mut searched = Vec::new();
        for folder in folders.into_iter().chain([PathBuf::from("/")]) {
            for (program, modules) in [("bin", "lib"), ("usr/bin", "usr/lib/grub")] {
                let program = folder.join(program).join("grub-mkimage");
                let modules = folder.join(modules);
                let complete = ["i386-pc/boot.img", "x86_64-efi/kernel.img"];
                if program.is_file() && complete.iter().all(|file| modules.join(file).is_file()) {
                    let libraries = (folder != Path::new("/")).then(|| folder.join("lib"));
                    return Ok(Self { program, modules, libraries });
                }
            }
            searched.push(folder);
        }
        Err(DiskError::NoGrub { searched })
    }

    /// GRUB as a UEFI application. It finds the menu on the partition that it was loaded from.
    pub(super) fn efi(&self) -> Result<Vec<u8>, DiskError> {
        self.make_image("x86_64-efi", "/boot/grub", &[])
    }

    /// GRUB for BIOS machines. It finds the menu on the second partition of the disk that it was loaded from.
    pub(super) fn bios(&self) -> Result<BiosImages, DiskError> {
        let path = self.modules.join("i386-pc/boot.img");
        let boot = files::read_bounded(&path, MAX_IMAGE_LEN)?;
        let unknown = |reason: String| DiskError::UnknownGrub { file: "boot.img", reason };
        let length = boot.len();
        let boot =
            boot.try_into().map_err(|_| unknown(format!("it has {length} bytes instead of {BLOCK}")))?;
        let mut core = self.make_image("i386-pc", "(,gpt2)/boot/grub", BIOS_MODULES)?;
        core.resize(core.len().next_multiple_of(BLOCK), 0);
        Ok(BiosImages { boot, core })
    }

    fn make_image(
        &self,
        format: &'static str,
        prefix: &str,
        more_modules: &[&str],
    ) -> Result<Vec<u8>, DiskError> {
        let fail = |reason: String| DiskError::MakeImage { program: self.program.clone(), format, reason };
        let folder = TempDir::new().map_err(|cause| fail(format!("no temporary folder: {cause}")))?;
        let output = folder.path().join("image");
        let mut command = Command::new(&self.program);
        command.env("LC_ALL", "C");
        if let Some(libraries) = &self.libraries {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        command.arg("--format").arg(format).arg("--directory").arg(self.modules.join(format));
        command.arg("--prefix").arg(prefix).arg("--output").arg(&output);
        let result =
            command.args(MODULES).args(more_modules).output().map_err(|cause| fail(cause.to_string()))?;
        if !result.status.success() {
            let words = String::from_utf8_lossy(&result.stderr);
            return Err(fail(format!("{} ({})", words.trim(), result.status)));
        }
        Ok(files::read_bounded(&output, MAX_IMAGE_LEN)?)
    }
}

impl BiosImages {
    /// Blocks that the core takes.
    pub(super) fn core_blocks(&self) -> usize {
        self.core.len() / BLOCK
    }

    /// Tells both pieces that the core starts at block `start`, and returns the code of the boot sector and the core.
    ///
    /// The boot sector reads the first block of the core, and that one reads the others by a list of extents at its
    /// end, from which `grub-mkimage` has left one for us to place.
    pub(super) fn placed_at(mut self, start: u64) -> Result<([u8; 440], Vec<u8>), DiskError> {
        /// In the boot sector: the core's first block (64 bits).
        const CORE_BLOCK: usize = 0x5c;
        /// In the boot sector: the drive to read from; 0xff is the one that the BIOS booted from.
        const DRIVE: usize = 0x64;
        /// In the boot sector: a jump over a check of the drive number. A hard disk wants the check.
        const DRIVE_CHECK: usize = 0x66;
        const JUMP_SHORT: u8 = 0xeb;
        const NO_OPERATION: u8 = 0x90;
        /// In the core's first block: the list's first extent, which is the last 12 bytes. Start (64 bits), blocks
        /// (16 bits), segment to load to (16 bits).
        const EXTENT: usize = BLOCK - 12;

        let unknown = |file, reason: &str| Err(DiskError::UnknownGrub { file, reason: reason.into() });
        if self.boot[510..] != [0x55, 0xaa] || self.boot[DRIVE_CHECK] != JUMP_SHORT {
            return unknown("boot.img", "the drive check or the signature is not where it should be");
        }
        self.boot[CORE_BLOCK..CORE_BLOCK + 8].copy_from_slice(&start.to_le_bytes());
        self.boot[DRIVE] = 0xff;
        self.boot[DRIVE_CHECK..DRIVE_CHECK + 2].fill(NO_OPERATION);

        let listed = u16::from_le_bytes([self.core[EXTENT + 8], self.core[EXTENT + 9]]);
        if usize::from(listed) + 1 != self.core_blocks() {
            return unknown("core.img", "the list of its blocks does not have its length");
        }
        self.core[EXTENT..EXTENT + 8].copy_from_slice(&(start + 1).to_le_bytes());

        let mut code = [0; 440];
        code.copy_from_slice(&self.boot[..440]);
        Ok((code, self.core))
    }
}

/// GRUB's menu: one entry, no delay, the first serial line as console, and nothing that clears the user's screen.
pub(super) fn menu(xen_args: &str, db_boot_args: &str) -> Result<String, DiskError> {
    Ok(format!(
        "serial --unit=0 --speed=115200\n\
         terminfo serial dumb\n\
         terminal_input serial\n\
         terminal_output serial\n\
         set default=0\n\
         set timeout=0\n\
         menuentry Xen {{\n\
         \tmultiboot2 /{xen}{xen_args}\n\
         \tmodule2 --nounzip /{db_boot}{db_boot_args}\n\
         \tmodule2 --nounzip /{archive}\n\
         }}\n",
        xen = paths::XEN,
        xen_args = quoted("Xen's", xen_args)?,
        db_boot = paths::DB_BOOT,
        db_boot_args = quoted("db-boot's", db_boot_args)?,
        archive = paths::ARCHIVE,
    ))
}

/// Each word in quotes, with a blank before it. Quotes and backslashes would reach the kernel escaped.
fn quoted(whose: &'static str, args: &str) -> Result<String, DiskError> {
    let refused = |c: &char| matches!(c, '\'' | '"' | '\\') || (c.is_control() && !c.is_whitespace());
    if let Some(character) = args.chars().find(refused) {
        return Err(DiskError::Argument { whose, character });
    }
    Ok(args.split_whitespace().fold(String::new(), |words, word| words + " '" + word + "'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_menu_quotes_every_word() {
        let menu = menu("console=com1 dom0_mem=1M,max:1M", "a=$b; c").unwrap();
        assert!(menu.contains("\tmultiboot2 /boot/xen 'console=com1' 'dom0_mem=1M,max:1M'\n"), "{menu}");
        assert!(menu.contains("\tmodule2 --nounzip /boot/db-boot 'a=$b;' 'c'\n"), "{menu}");
    }

    #[test]
    fn what_grub_would_change_is_refused() {
        for args in ["a='b'", "a=\"b\"", "a\\b", "a\u{1}"] {
            assert!(matches!(menu("", args), Err(DiskError::Argument { whose: "db-boot's", .. })), "{args}");
        }
    }

    #[test]
    fn both_pieces_learn_where_the_core_is() {
        let mut boot = [0; BLOCK];
        boot[0x66..0x68].copy_from_slice(&[0xeb, 5]);
        boot[510..].copy_from_slice(&[0x55, 0xaa]);
        let mut core = vec![0; 3 * BLOCK];
        core[0x1f4..0x200].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0x20, 0x08]);
        let (sector, core) = BiosImages { boot, core }.placed_at(2048).unwrap();
        assert_eq!(sector[0x5c..0x68], [0, 8, 0, 0, 0, 0, 0, 0, 0xff, 0, 0x90, 0x90]);
        assert_eq!(core[0x1f4..0x200], [1, 8, 0, 0, 0, 0, 0, 0, 2, 0, 0x20, 0x08]);
        let wrong = BiosImages { boot, core: vec![0; 3 * BLOCK] };
        assert!(matches!(wrong.placed_at(2048), Err(DiskError::UnknownGrub { file: "core.img", .. })));
    }

    #[test]
    fn a_missing_grub_names_the_folders() {
        let folder = tempfile::tempdir().unwrap();
        // A machine may have GRUB installed; then it is found there.
        if let Err(error) = Grub::find([folder.path().to_owned()]) {
            assert!(error.to_string().contains(&folder.path().display().to_string()), "{error}");
        }
    }
}
