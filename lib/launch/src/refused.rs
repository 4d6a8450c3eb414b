//! Logging that a VM cannot be built or started: the error, and what it most likely comes from on this release of Xen.

use core::fmt::Display;

use domain_builder::BuildError;
use hypercall::{CallError, RawHypercall, Xen};

use crate::supervisor::AttachError;

/// How many causes are logged. They stand in the order of likelihood; `domb explain` has all.
const MAX_HINTS: usize = 2;

/// An error that may be Xen's answer to a call.
pub(crate) trait Refusal: Display {
    /// The call that Xen refused, if it is that.
    fn call(&self) -> Option<&CallError>;
}

impl Refusal for BuildError {
    fn call(&self) -> Option<&CallError> {
        if let Self::Call { error, .. } = self { Some(error) } else { None }
    }
}

impl Refusal for AttachError {
    fn call(&self) -> Option<&CallError> {
        match self {
            Self::Call(error) => Some(error),
            Self::Build(error) => error.call(),
            Self::Window(_) | Self::Plan(_) | Self::Store(_) => None,
        }
    }
}

/// Logs why the VM `name` is not there.
pub(crate) fn log_failure<H: RawHypercall>(xen: &Xen<H>, name: &str, error: &impl Refusal) {
    log::error!("vm={name} {error}");
    let Some(call) = error.call() else { return };
    let version = xen.interface().xen;
    let explanation = refusals::explain(call.call, call.errno, Some((version.major, version.minor)));
    // What a number means anywhere the error itself says.
    if explanation.specific {
        for check in explanation.checks.iter().take(MAX_HINTS) {
            log::error!("vm={name} hint={} {}", check.found, check.remedy);
        }
    }
}
