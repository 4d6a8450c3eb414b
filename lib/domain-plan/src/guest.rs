//! A plan of either kind.

use core::fmt;

use kernel_image::KernelImage;
use xen_abi::{PageCount, Pfn};

use crate::{Area, GuestRequest, PlanError, PvKernel, PvPlan, PvhKernel, PvhPlan, Vcpus};

/// The start-of-day picture of a guest, PV or PVH.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuestPlan<'k> {
    /// Of a PV guest.
    Pv(PvPlan<'k>),
    /// Of a PVH guest.
    Pvh(PvhPlan<'k>),
}

impl<'k> GuestPlan<'k> {
    /// Plans a PV guest that starts `image`.
    pub fn pv(image: &KernelImage<'k>, request: &GuestRequest<'_>) -> Result<Self, PlanError> {
        PvPlan::new(PvKernel::from_image(image)?, request).map(Self::Pv)
    }

    /// Plans a PVH guest with `vcpus` vCPUs that starts `image`.
    pub fn pvh(
        image: &KernelImage<'k>,
        request: &GuestRequest<'_>,
        vcpus: impl Into<Vcpus>,
    ) -> Result<Self, PlanError> {
        PvhPlan::new(PvhKernel::from_image(image)?, request, vcpus).map(Self::Pvh)
    }

    /// The guest's memory.
    pub fn memory(&self) -> PageCount {
        match self {
            Self::Pv(plan) => plan.memory(),
            Self::Pvh(plan) => plan.memory(),
        }
    }

    /// All areas, by ascending frame.
    pub fn areas(&self) -> &[Area] {
        match self {
            Self::Pv(plan) => plan.areas(),
            Self::Pvh(plan) => plan.areas(),
        }
    }

    /// Fails if the memory of a device, given as its first frame and its pages, cannot be where the guest is to find it. A PV guest finds
    /// a device wherever it maps it.
    pub fn check_devices(&self, ranges: impl IntoIterator<Item = (u64, u64)>) -> Result<(), PlanError> {
        let Self::Pvh(plan) = self else { return Ok(()) };
        ranges
            .into_iter()
            .try_for_each(|(first, pages)| plan.check_device(Pfn::new(first), PageCount::new(pages)))
    }

    /// Pages that are written before the guest starts.
    pub fn written(&self) -> PageCount {
        match self {
            Self::Pv(plan) => plan.written(),
            Self::Pvh(plan) => plan.written(),
        }
    }
}

impl fmt::Display for GuestPlan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pv(plan) => plan.fmt(f),
            Self::Pvh(plan) => plan.fmt(f),
        }
    }
}
