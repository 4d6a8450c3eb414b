//! What planning needs to know of a PVH kernel.

use alloc::vec::Vec;

use kernel_image::{KernelImage, NoteSource};

use crate::kernel::{extent_of, loads_of};
use crate::{Load, PlanError};

/// A PVH kernel, as its program headers and notes describe it. All addresses are guest-physical.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PvhKernel<'k> {
    /// Address of the first instruction, which is 32-bit code.
    pub entry: u32,
    /// What to load, by ascending address, not overlapping.
    pub loads: Vec<Load<'k>>,
}

impl<'k> PvhKernel<'k> {
    /// Reads the facts from a parsed image.
    pub fn from_image(image: &KernelImage<'k>) -> Result<Self, PlanError> {
        let notes = image.notes();
        let Some(address) = notes.phys32_entry else {
            return Err(PlanError::NotPvh { any_notes: notes.source != NoteSource::None });
        };
        let loads = loads_of(image);
        let (start, end) = extent_of(&loads)?;
        let outside = PlanError::PvhEntry { address, start, end };
        let entry = u32::try_from(address).map_err(|_| outside.clone())?;
        let inside = loads.iter().any(|load| (load.address..load.end()).contains(&address));
        if inside { Ok(Self { entry, loads }) } else { Err(outside) }
    }

    /// Addresses of the first byte and behind the last, rounded to pages.
    pub(super) fn extent(&self) -> Result<(u64, u64), PlanError> {
        extent_of(&self.loads)
    }
}
