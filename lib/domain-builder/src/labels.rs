//! The security labels of a new domain.

use hypercall::{RawHypercall, Xen};
use protocols::settings::Labels;

use crate::{BuildError, Step};

/// Labels as Xen knows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LabelNumbers {
    /// The one that the domain is created with; 0 on a Xen without labels.
    pub creation: u32,
    /// The one that it gets before it starts; `None` if that is the same.
    pub running: Option<u32>,
}

/// Asks Xen for the numbers of `labels`, which are valid. Nothing is built for it, so that a platform can be refused before.
///
/// A domain without a label gets the one that Xen's own tools give: without any, no policy would let it be created.
pub fn find_labels<H: RawHypercall>(xen: &Xen<H>, labels: &Labels) -> Result<LabelNumbers, BuildError> {
    let Some(running) = &labels.running else {
        return Ok(LabelNumbers { creation: xen.interface().default_label(), running: None });
    };
    if xen.interface().labels.is_none() {
        return Err(BuildError::NoLabels);
    }
    let number = |text: &str| xen.label_number(text).map_err(BuildError::call(Step::Label));
    let running = number(running)?;
    match &labels.building {
        Some(building) => Ok(LabelNumbers { creation: number(building)?, running: Some(running) }),
        None => Ok(LabelNumbers { creation: running, running: None }),
    }
}
