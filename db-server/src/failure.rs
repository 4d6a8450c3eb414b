//! Answers that say why something was not done.

use alloc::string::String;
use core::fmt::Display;

use domain_builder::BuildError;
use launch::{AttachError, VmError};
use protocols::message::{Failure, MAX_TEXT_LEN, Reason};
use xen_abi::Errno;

/// A failure whose detail is cut to what a message holds.
pub(crate) fn failure(reason: Reason, detail: impl Display) -> Failure {
    let mut detail: String = alloc::format!("{detail}");
    let cut = (0..=MAX_TEXT_LEN).rev().find(|at| detail.is_char_boundary(*at)).unwrap_or(0);
    if detail.len() > MAX_TEXT_LEN {
        detail.truncate(cut);
    }
    Failure { reason, detail }
}

/// Why a VM is not there.
pub(crate) fn not_built(error: &AttachError) -> Failure {
    let reason = match error {
        AttachError::Build(BuildError::OutOfMemory { .. }) => Reason::OutOfMemory,
        AttachError::Build(BuildError::Call { error, .. }) | AttachError::Call(error) => match error.errno {
            Errno::ENOMEM => Reason::OutOfMemory,
            Errno::EEXIST => Reason::Taken,
            _ => Reason::Xen,
        },
        AttachError::Plan(error) => return not_planned(error),
        AttachError::Build(
            BuildError::NoPvh { .. }
            | BuildError::NoShadow
            | BuildError::TooOld { .. }
            | BuildError::NoShares { .. },
        ) => Reason::BadSpec,
        AttachError::Build(_) | AttachError::Window(_) | AttachError::Store(_) => Reason::Xen,
    };
    failure(reason, error)
}

/// Why a VM cannot be planned.
pub(crate) fn not_planned(error: &VmError) -> Failure {
    let reason = match error {
        VmError::Kernel { .. } => Reason::BadKernel,
        VmError::NoRoom { .. } | VmError::NoRoomForLog { .. } => Reason::OutOfMemory,
        _ => Reason::BadSpec,
    };
    failure(reason, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_are_cut_between_characters() {
        let long = "ä".repeat(600);
        let cut = failure(Reason::Xen, &long);
        assert_eq!((cut.detail.len(), failure(Reason::Xen, "short").detail.as_str()), (1024, "short"));
        assert_eq!(failure(Reason::Xen, alloc::format!("x{long}")).detail.len(), 1023);
    }
}
