//! Modules of a PVH guest: the parts of its RAM disk that its start info lists one by one.

use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::kind::GuestKind;
pub use crate::limits::{MAX_MODULE_LINE_LEN, MAX_MODULES};
use crate::spec_error::SpecError;

/// Where modules begin in a RAM disk: at multiples of so many bytes, a page.
pub const MODULE_ALIGNMENT: u64 = 4096;
/// The largest module: a RAM disk is a file of the archive, whose sizes have 32 bits.
const MAX_MODULE_BYTES: u64 = u32::MAX as u64;

/// A part of a RAM disk. The order of the fields is the wire format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Module {
    /// Its bytes, 1 at least. It begins where the one before it ends, at the next multiple of [`MODULE_ALIGNMENT`].
    pub bytes: u64,
    /// Its command line: at most [`MAX_MODULE_LINE_LEN`] bytes, none of them NUL; empty for none.
    pub command_line: String,
}

/// Checks the modules of a VM of a kind, with a RAM disk or without.
pub(crate) fn validate(modules: &[Module], kind: GuestKind, has_ramdisk: bool) -> Result<(), SpecError> {
    if modules.is_empty() {
        return Ok(());
    }
    if kind != GuestKind::Pvh {
        return Err(SpecError::ModulesOfPv);
    }
    let count = modules.len();
    if count > MAX_MODULES || !has_ramdisk {
        return Err(SpecError::BadModules { count });
    }
    let bad = |module: &Module| {
        !(1..=MAX_MODULE_BYTES).contains(&module.bytes)
            || module.command_line.len() > MAX_MODULE_LINE_LEN
            || module.command_line.contains('\0')
    };
    match modules.iter().position(bad) {
        Some(index) => Err(SpecError::BadModule { index }),
        None => Ok(()),
    }
}
