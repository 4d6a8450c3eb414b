//! The modules of a VM: its RAM disk and the files of `modules`, one after the other in one image.

use std::fs;

use protocols::module::{MODULE_ALIGNMENT, Module};

use crate::config::VmFile;
use crate::source::Diagnostic;

/// What the boot spec says of the modules of the VM in `file`: nothing, unless the file has `modules`. How long each is, the
/// files have to tell, which therefore must be there.
pub(super) fn table(file: &VmFile) -> Result<Vec<Module>, String> {
    let config = &file.config;
    if config.modules.is_empty() {
        return Ok(Vec::new());
    }
    let mut modules = Vec::new();
    if !config.ramdisks.is_empty() {
        let joined = config.ramdisks.iter().try_fold(0_u64, |sum, path| {
            let start = sum.next_multiple_of(super::images::RAMDISK_ALIGNMENT);
            length(file, path).map(|length| start.saturating_add(length))
        });
        modules.push(Module { bytes: joined?, command_line: String::new() });
    }
    for module in &config.modules {
        modules
            .push(Module { bytes: length(file, &module.path)?, command_line: module.command_line.clone() });
    }
    Ok(modules)
}

/// Fills `joined` with zeros up to where the next module begins.
pub(super) fn pad(joined: &mut Vec<u8>) {
    let alignment = usize::try_from(MODULE_ALIGNMENT).unwrap_or(1);
    joined.resize(joined.len().next_multiple_of(alignment), 0);
}

fn length(file: &VmFile, path: &crate::source::Spanned<std::path::PathBuf>) -> Result<u64, String> {
    let found = fs::metadata(&path.value).map(|metadata| metadata.len());
    found.map_err(|error| {
        let text = format!("module: cannot read {}: {error}", path.value.display());
        Diagnostic::error(path.span, text)
            .with_help("the boot spec says how long each module is, so that they have to be there")
            .render(&file.source)
    })
}
