//! Reading a platform and planning every VM of it.

use alloc::collections::btree_map::Entry;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use kernel_image::KernelImage;
use platform::{ReadError, SpecFailure, Specs};
use protocols::archive::SPEC_FOLDER;
use protocols::{BootSpec, PlatformSpec};
use ramdisk::Archive;

use crate::images::Images;
use crate::planned::{PlannedVm, Recipe, VmError, parse_kernel, plan_image};

/// A VM that cannot be part of the platform.
#[derive(Debug)]
pub struct VmFailure {
    /// Its name.
    pub name: String,
    /// Whether the platform cannot do without it; not known, hence `false`, when its boot spec cannot be read.
    pub critical: bool,
    /// Why.
    pub error: VmError,
}

/// The VMs of a RAM disk, in the order in which they stand there, and what holds for all of them.
#[derive(Debug, Default)]
pub struct Platform {
    settings: PlatformSpec,
    specs: Vec<BootSpec>,
    failures: Vec<VmFailure>,
}

impl Platform {
    /// Reads the platform spec, if there is one, and the boot specs in `archive`.
    pub fn read(archive: &Archive<'_>) -> Result<Self, ReadError> {
        let Specs { settings, vms: specs, failures } = Specs::read(archive)?;
        let failures = failures.into_iter().map(|SpecFailure { name, critical, fault }| VmFailure {
            name,
            critical,
            error: fault.into(),
        });
        Ok(Self { settings, specs, failures: failures.collect() })
    }

    /// What holds for all VMs.
    pub fn settings(&self) -> &PlatformSpec {
        &self.settings
    }

    /// The specs that could be read.
    pub fn specs(&self) -> impl Iterator<Item = &BootSpec> {
        self.specs.iter()
    }

    /// The same, to be changed before they are planned.
    pub(crate) fn specs_mut(&mut self) -> &mut [BootSpec] {
        &mut self.specs
    }

    /// Whether the RAM disk has no VM at all, good or bad.
    pub fn is_empty(&self) -> bool {
        self.specs.is_empty() && self.failures.is_empty()
    }

    /// Plans every VM; gives back those that can be built, with what they are built from, and all that cannot.
    pub fn plan<'a>(
        self,
        archive: &Archive<'a>,
        images: &'a Images<'a>,
    ) -> (Vec<(PlannedVm, Recipe<'a>)>, Vec<VmFailure>) {
        let Self { specs, mut failures, .. } = self;
        let mut planned = Vec::new();
        let mut kernels = BTreeMap::new();
        for spec in specs {
            match plan_vm(&spec, archive, images, &mut kernels) {
                Ok(recipe) => planned.push((spec.into(), recipe)),
                Err(error) => {
                    failures.push(VmFailure { name: spec.name, critical: spec.life.critical, error });
                }
            }
        }
        (planned, failures)
    }
}

/// What an archive without VMs gets told.
pub(crate) fn no_vms(archive: &Archive<'_>) -> String {
    let names: BTreeSet<_> = archive.entries().iter().take(8).map(ramdisk::Entry::name).collect();
    alloc::format!(
        "the RAM disk holds no boot spec ({SPEC_FOLDER}NAME.spec), only {names:?}; \
         make one with `domb pack` or `domb compile`"
    )
}

/// Plans a VM. `kernels` are those that were parsed for others: many VMs start the same one.
fn plan_vm<'a>(
    spec: &BootSpec,
    archive: &Archive<'a>,
    images: &'a Images<'a>,
    kernels: &mut BTreeMap<String, KernelImage<'a>>,
) -> Result<Recipe<'a>, VmError> {
    let ramdisk = match &spec.ramdisk {
        Some(name) => Some(archive.file(name).map_err(VmError::Missing)?),
        None => None,
    };
    let elf = images.kernel(spec, archive)?;
    let image = match kernels.entry(spec.kernel.clone()) {
        Entry::Occupied(parsed) => parsed.into_mut(),
        Entry::Vacant(place) => place.insert(parse_kernel(spec, elf)?),
    };
    plan_image(spec, image, ramdisk, images.event_log())
}
