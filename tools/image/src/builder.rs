//! db-boot's own image, and what a machine that runs it is told.

use std::path::{Path, PathBuf};

use kernel_image::{ImageError, KernelImage};
use protocols::trust_note::BuiltIn;
use thiserror::Error;

use crate::files::{self, FileError};
use crate::qemu::EXIT_PORT;

/// The largest db-boot that is read: real ones have a few hundred KiB.
const MAX_LEN: u64 = 64 << 20;

/// Xen's options for every machine. The console is the first serial line; nothing is looked for that a machine
/// of this kind does not have, so that start-up stays about a second; only trouble is reported.
pub const XEN_ARGS: &str = "console=com1 com1=115200,8n1 vga=none no-real-mode edd=off loglvl=error \
                            guest_loglvl=error dom0_max_vcpus=1";

/// db-boot as Xen starts it.
#[derive(Clone)]
pub struct Builder {
    /// Where it was read from.
    pub path: PathBuf,
    /// The ELF file.
    pub elf: Vec<u8>,
    /// What its segments take in memory, in bytes.
    pub memory: u64,
    /// The key that is built into it, if it says so.
    pub built_in: Option<BuiltIn>,
}

/// Why a file is not db-boot.
#[derive(Debug, Error)]
pub enum BuilderError {
    /// It could not be read.
    #[error("db-boot: {0}")]
    File(#[from] FileError),
    /// It is not a kernel that Xen could start.
    #[error("{} is not db-boot: {cause}; `make` makes it", .path.display())]
    NotAKernel {
        /// The file.
        path: PathBuf,
        /// Why not.
        cause: ImageError,
    },
}

impl Builder {
    /// Reads db-boot, an ELF file that can start as a PV guest.
    pub fn read(path: &Path) -> Result<Self, BuilderError> {
        let elf = files::read_bounded(path, MAX_LEN)?;
        let not_a_kernel = |cause| BuilderError::NotAKernel { path: path.to_owned(), cause };
        let image = KernelImage::parse(&elf).map_err(not_a_kernel)?;
        let layout = image.layout().map_err(not_a_kernel)?;
        let memory = layout.kernel.end.saturating_sub(layout.kernel.start);
        let built_in = built_in(&image);
        Ok(Self { path: path.to_owned(), elf, memory, built_in })
    }
}

/// What is built into a db-boot, if there is a key and the file says so.
pub(crate) fn built_in(image: &KernelImage<'_>) -> Option<BuiltIn> {
    image.notes().db_boot.and_then(BuiltIn::decode)
}

/// Xen's command line: ours, Dom0's memory, then `more`, which wins where Xen takes the last of two.
pub fn xen_args(dom0_mem_mib: u64, more: &str) -> String {
    format!("{XEN_ARGS} dom0_mem={dom0_mem_mib}M,max:{dom0_mem_mib}M {more}").trim_end().to_owned()
}

/// The same for a machine that QEMU has just made, directly started: all its memory is zero, and Xen need not write zeros to
/// each page that it hands out first, which in an emulated machine is nearly all the time that building a large VM takes.
pub fn xen_args_in_fresh_memory(xen_args: &str) -> String {
    format!("bootscrub=0 {xen_args}")
}

/// The word on db-boot's command line that has what is typed go to a VM.
const INTERACTIVE: &str = "interactive";

/// db-boot's command line: where to write the machine's status, whether to listen to the keyboard, then `more`.
pub fn builder_args(exit_port: bool, interactive: bool, more: &str) -> String {
    let port = if exit_port { format!("exit-port={EXIT_PORT:#x} ") } else { String::new() };
    let interactive = if interactive { format!("{INTERACTIVE} ") } else { String::new() };
    format!("{port}{interactive}{more}").trim_end().to_owned()
}

/// Whether a command line, or a menu that holds one with its words in quotes, has db-boot listen to the keyboard.
pub fn is_interactive(text: &str) -> bool {
    text.split_whitespace().any(|word| word.trim_matches('\'') == INTERACTIVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_user_adds_comes_last() {
        assert!(xen_args(20, "loglvl=all").ends_with("dom0_mem=20M,max:20M loglvl=all"));
        assert!(xen_args(20, "").ends_with("dom0_mem=20M,max:20M"));
        let fresh = xen_args_in_fresh_memory(&xen_args(20, "bootscrub=1"));
        assert!(fresh.find("bootscrub=0") < fresh.find("bootscrub=1"), "{fresh}");
        assert_eq!(builder_args(true, false, "policy=each"), "exit-port=0xf4 policy=each");
        assert_eq!(builder_args(false, false, ""), "");
        let interactive = builder_args(true, true, "escape=^T");
        assert_eq!(interactive, "exit-port=0xf4 interactive escape=^T");
        assert!(
            is_interactive(&interactive)
                && is_interactive("x 'interactive'\n")
                && !is_interactive("keyboard=interactive")
        );
    }

    #[test]
    fn a_text_file_is_not_db_boot() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db-boot");
        std::fs::write(&path, "hello").unwrap();
        let error = Builder::read(&path).err().unwrap().to_string();
        assert!(error.contains("is not db-boot"), "{error}");
    }
}
