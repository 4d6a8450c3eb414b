//! What is kept of a RAM disk once the VMs are built: what those that may be restarted are built from. The rest of its memory
//! goes back to Xen.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

use hypercall::{KeptRamdisk, Ramdisk, RawHypercall, Xen};
use protocols::{BootSpec, ExitAction};
use xen_abi::PageCount;

use crate::event_log::SharedLog;
use crate::planned::{VmError, parse_kernel, plan_image};
use crate::{PlannedVm, Recipe};

/// An image that may be needed again.
pub(crate) enum Image {
    /// It lies in the RAM disk as it is used.
    Stored(Range<usize>),
    /// It was unpacked.
    Unpacked(Vec<u8>),
}

/// The images that may be needed again, by name.
#[derive(Default)]
pub(crate) struct Needed {
    pub(crate) kernels: BTreeMap<String, Image>,
    pub(crate) ramdisks: BTreeMap<String, Range<usize>>,
    /// What a service keeps.
    pub(crate) kept: BTreeMap<String, Range<usize>>,
    pub(crate) event_log: SharedLog,
}

/// The images that may be needed again, and the memory they lie in.
#[derive(Default)]
pub(crate) struct Store {
    kept: Option<Box<dyn KeptRamdisk>>,
    images: Needed,
}

/// Whether a VM may be built again.
pub(crate) fn may_restart(spec: &BootSpec) -> bool {
    let actions = [spec.on_poweroff, spec.on_reboot, spec.on_crash, spec.life.on_watchdog];
    actions.contains(&ExitAction::Restart)
}

impl Needed {
    /// The parts of the RAM disk that have to stay.
    fn ranges(&self) -> Vec<Range<usize>> {
        let stored = |image: &Image| match image {
            Image::Stored(range) => Some(range.clone()),
            Image::Unpacked(_) => None,
        };
        let whole = self.ramdisks.values().chain(self.kept.values()).cloned();
        self.kernels.values().filter_map(stored).chain(whole).collect()
    }
}

impl Store {
    /// Keeps what `images` needs of the RAM disk and gives the rest back to Xen; how much that was.
    pub(crate) fn new<R>(ramdisk: R, images: Needed, xen: &Xen<impl RawHypercall>) -> (Self, PageCount)
    where
        R: Ramdisk<Kept: 'static>,
    {
        let (kept, released) = give_back(ramdisk, &images.ranges(), xen);
        (Self { kept: Some(Box::new(kept)), images }, released)
    }

    /// What a service keeps under `name`.
    pub(crate) fn kept(&self, name: &str) -> Option<&[u8]> {
        self.kept.as_ref()?.bytes(self.images.kept.get(name)?.clone())
    }

    /// What `vm` is built from, planned again.
    pub(crate) fn recipe(&self, vm: &PlannedVm) -> Result<Recipe<'_>, VmError> {
        let spec = &vm.spec;
        let stored = |range: &Range<usize>| self.kept.as_ref()?.bytes(range.clone());
        let kernel = match self.images.kernels.get(&spec.kernel) {
            Some(Image::Stored(range)) => stored(range),
            Some(Image::Unpacked(elf)) => Some(elf.as_slice()),
            None => None,
        };
        let ramdisk = match &spec.ramdisk {
            Some(name) => self.images.ramdisks.get(name).and_then(stored).map(Some),
            None => Some(None),
        };
        let (kernel, ramdisk) = kernel.zip(ramdisk).ok_or(VmError::NotKept)?;
        plan_image(spec, &parse_kernel(spec, kernel)?, ramdisk, &self.images.event_log)
    }
}

/// Gives the memory of a RAM disk back to Xen, but for the pages of what is to be kept; how much that was.
pub(crate) fn give_back<R: Ramdisk>(
    ramdisk: R,
    keep: &[Range<usize>],
    xen: &Xen<impl RawHypercall>,
) -> (R::Kept, PageCount) {
    let mut released = 0;
    let (kept, unmapped) = ramdisk.release(keep, |frames| match xen.give_back(frames) {
        Ok(taken) => {
            released += taken as u64;
            if let Some(frame) = frames.get(taken) {
                log::warn!("event=ramdisk-released: Xen does not take frame {frame} back");
            }
        }
        Err(error) => log::warn!("event=ramdisk-released {error}: {} pages stay unused", frames.len()),
    });
    if let Err(error) = unmapped {
        log::warn!("event=ramdisk-released: the rest of the RAM disk stays mapped: {error}");
    }
    (kept, PageCount::new(released))
}
