//! Reading a platform and planning every VM of it.

use alloc::borrow::Cow;
use alloc::collections::btree_map::Entry;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use domain_builder::{DomainSpec, Servers};
use domain_plan::{GuestPlan, GuestRequest, Module, PlanError, Vcpus};
use kernel_image::{ImageError, KernelImage, Unpacking, UnpackingCost};
use platform::{ReadError, SpecFailure, SpecFault, Specs};
use protocols::archive::SPEC_FOLDER;
use protocols::{BootSpec, GuestKind, PlatformSpec, StoreRole};
use ramdisk::{Archive, RamdiskError};
use thiserror::Error;
use xen_abi::{DomId, PageCount};

use crate::event_log::SharedLog;
use crate::store::{Image, Needed, may_restart};

/// The most that one kernel may unpack to. The largest distribution kernels unpack to less than 100 MiB; the bound keeps
/// a decompression bomb from taking the builder's memory.
const MAX_KERNEL: usize = 512 << 20;

/// How much memory unpacking takes in proportion to what comes out, where the file does not say what will come out: the
/// output, and a window that may be as large and that is moved to twice the room while it grows.
const UNPACKING_SHARE: usize = 4;

/// Unpacks a kernel, if it is packed and the builder has the memory for that.
fn unpack(file: &[u8], spare: usize) -> Result<Cow<'_, [u8]>, Unusable> {
    let limit = unpacking_limit(file, spare)?;
    let unpacked = kernel_image::unwrap(file, limit).map_err(Unusable::Image)?;
    Ok(unpacked.elf)
}

/// The most bytes that a kernel may unpack to where `spare` can still be allocated.
fn unpacking_limit(file: &[u8], spare: usize) -> Result<usize, Unusable> {
    let limit = match UnpackingCost::declared(file) {
        // A size beyond the limit is a lie, which unwrapping says better.
        Some(cost) if cost.output <= MAX_KERNEL && cost.total() > spare => {
            return Err(Unusable::NoRoom { needed: cost.total(), spare });
        }
        Some(cost) => spare.saturating_sub(cost.workspace),
        None => spare / UNPACKING_SHARE,
    };
    Ok(limit.min(MAX_KERNEL))
}

/// A kernel that is unpacked by and by.
#[derive(Debug)]
pub struct UnpackingKernel {
    name: String,
    unpacking: Unpacking,
}

impl UnpackingKernel {
    /// How much is unpacked between two looks at the clock, in bytes.
    const PIECE: usize = 256 << 10;

    /// Begins with the kernel `file`, called `name`, into at most the `spare` bytes that can still be allocated; `None` if it is not packed.
    pub fn new(name: &str, file: Rc<Vec<u8>>, spare: usize) -> Result<Option<Self>, VmError> {
        let begin = |file: Rc<Vec<u8>>| {
            let limit = unpacking_limit(&file, spare)?;
            Unpacking::new(file, limit).map_err(Unusable::Image)
        };
        let unpacking = begin(file).map_err(|error| error.of(name))?;
        Ok(unpacking.map(|unpacking| Self { name: name.to_string(), unpacking }))
    }

    /// Goes on by a piece, and further until `is_over`; says whether that was all.
    pub fn step(&mut self, mut is_over: impl FnMut() -> bool) -> Result<bool, VmError> {
        loop {
            let ended = self.unpacking.step(Self::PIECE);
            if ended.map_err(|error| Unusable::Image(error).of(&self.name))? {
                return Ok(true);
            }
            if is_over() {
                return Ok(false);
            }
        }
    }

    /// The ELF file, once all of it is there.
    pub fn into_elf(self) -> Result<Vec<u8>, VmError> {
        let Self { name, unpacking } = self;
        unpacking.into_elf().map_err(|error| Unusable::Image(error).of(&name))
    }
}

/// Why a kernel file cannot be used.
#[derive(Clone, Debug)]
enum Unusable {
    Image(ImageError),
    NoRoom { needed: usize, spare: usize },
}

impl Unusable {
    /// The error of a VM whose kernel this is, in the file called `name`.
    fn of(self, name: &str) -> VmError {
        let file = name.into();
        match self {
            Self::Image(error) => VmError::Kernel { file, error },
            Self::NoRoom { needed, spare } => VmError::NoRoom { file, needed, spare },
        }
    }
}

/// Why one VM cannot be part of the platform.
#[derive(Debug, Error)]
pub enum VmError {
    /// Its boot spec cannot be used.
    #[error("step=spec: {0}")]
    Spec(#[from] SpecFault),
    /// A file it names is not in the RAM disk.
    #[error("step=image: {0}")]
    Missing(RamdiskError),
    /// Its kernel is not one.
    #[error("step=image: kernel {file}: {error}")]
    Kernel {
        /// The kernel's name in the RAM disk.
        file: String,
        /// What is wrong with it.
        error: ImageError,
    },
    /// There is not enough memory to unpack its kernel.
    #[error(
        "step=image: unpacking kernel {file} takes {} KiB, and the builder has {} KiB left: \
         store the kernel unpacked, as `domb pack` does by default, or raise dom0_mem",
        needed.div_ceil(1024), spare / 1024
    )]
    NoRoom {
        /// The kernel's name in the RAM disk.
        file: String,
        /// Bytes that unpacking takes, with the decompressor's own.
        needed: usize,
        /// Bytes that the builder can still allocate.
        spare: usize,
    },
    /// There is not enough memory for its RAM disk with the event log behind it.
    #[error(
        "step=image: a RAM disk with the event log takes {} KiB, which the builder does not have: raise dom0_mem, or \
         leave the VM out of event-log=",
        needed.div_ceil(1024)
    )]
    NoRoomForLog {
        /// Bytes that it takes.
        needed: usize,
    },
    /// Its kernel was not among those that were unpacked: the specs changed since, which is a defect of the caller.
    #[error("step=image: the kernel was not unpacked; this is a defect in the builder, please report it")]
    NotUnpacked,
    /// An image of it went back to Xen with the RAM disk although it may be restarted, which is a defect.
    #[error("step=image: its images were not kept; this is a defect in the builder, please report it")]
    NotKept,
    /// It cannot be planned.
    #[error("step=plan: {0}")]
    Plan(#[from] PlanError),
}

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

/// The kernels of a platform, unpacked: each once, however many VMs start it.
#[derive(Default)]
pub struct Images<'a> {
    kernels: BTreeMap<String, Result<Cow<'a, [u8]>, Unusable>>,
    event_log: SharedLog,
}

impl<'a> Images<'a> {
    /// Unpacks every kernel that a spec names and the archive has; what is stored as a plain ELF file is not copied.
    ///
    /// `spare_memory` tells how many bytes can still be allocated: a kernel that might take more is not unpacked.
    pub fn unpack<'s>(
        archive: &Archive<'a>,
        specs: impl Iterator<Item = &'s BootSpec>,
        spare_memory: impl Fn() -> usize,
    ) -> Self {
        let mut kernels = BTreeMap::new();
        for spec in specs {
            if !kernels.contains_key(&spec.kernel)
                && let Ok(file) = archive.file(&spec.kernel)
            {
                kernels.insert(spec.kernel.clone(), unpack(file, spare_memory()));
            }
        }
        Self { kernels, event_log: SharedLog::default() }
    }

    /// Has some VMs get the event log with their RAM disks.
    pub(crate) fn with_event_log(self, event_log: SharedLog) -> Self {
        Self { event_log, ..self }
    }

    /// What those of `vms` that may be restarted will need again, and what else `keeps` is true of.
    pub(crate) fn needed(
        mut self,
        archive: &Archive<'a>,
        vms: &[Rc<PlannedVm>],
        keeps: impl Fn(&str) -> bool,
    ) -> Needed {
        let range = |name: &str| {
            let entry = archive.entry(name)?;
            let start = entry.data_offset();
            Some(start..start.saturating_add(entry.data().len()))
        };
        let mut needed = Needed::default();
        let names = archive.entries().iter().map(ramdisk::Entry::name).filter(|name| keeps(name));
        needed.kept = names.filter_map(|name| Some((name.to_string(), range(name)?))).collect();
        for spec in vms.iter().map(|vm| &vm.spec).filter(|spec| may_restart(spec)) {
            let kernel = match self.kernels.remove(&spec.kernel) {
                Some(Ok(Cow::Owned(elf))) => Some(Image::Unpacked(elf)),
                Some(Ok(Cow::Borrowed(_))) => range(&spec.kernel).map(Image::Stored),
                _ => None,
            };
            needed.kernels.extend(kernel.map(|image| (spec.kernel.clone(), image)));
            let ramdisk = spec.ramdisk.as_ref().and_then(|name| Some((name.clone(), range(name)?)));
            needed.ramdisks.extend(ramdisk);
        }
        Needed { event_log: self.event_log, ..needed }
    }
}

/// A VM that was planned.
#[derive(Debug)]
pub struct PlannedVm {
    /// Its boot spec.
    pub spec: BootSpec,
    /// Who serves its console, unless the builder does.
    pub console: Option<DomId>,
    /// Whether the builder serves it a XenStore of its own; its spec names no other then.
    pub own_store: bool,
}

impl From<BootSpec> for PlannedVm {
    fn from(spec: BootSpec) -> Self {
        let own_store = spec.store == StoreRole::Own;
        Self { spec, console: None, own_store }
    }
}

/// What a VM is built from. It borrows the images, hence the RAM disk.
#[derive(Debug)]
pub struct Recipe<'a> {
    /// Its start-of-day picture.
    pub plan: GuestPlan<'a>,
    /// Its RAM disk; empty without one.
    pub ramdisk: Cow<'a, [u8]>,
}

impl PlannedVm {
    /// What it is built from: the kernel `elf`, which is not packed, and its RAM disk.
    pub fn recipe<'a>(&self, elf: &'a [u8], ramdisk: Option<&'a [u8]>) -> Result<Recipe<'a>, VmError> {
        plan_image(&self.spec, &parse_kernel(&self.spec, elf)?, ramdisk, &SharedLog::default())
    }

    /// What the domain is to be created with.
    pub fn domain_spec(&self) -> DomainSpec {
        DomainSpec {
            domid: self.spec.domid.map(DomId::new),
            uuid: self.spec.uuid,
            vcpus: self.spec.vcpus,
            max_memory: PageCount::new(self.spec.max_memory_kib / 4),
            settings: self.spec.settings.clone(),
            servers: Servers { console: self.console, store: self.store_server() },
            serves_store: self.spec.store == StoreRole::Server,
        }
    }

    /// Who serves its XenStore.
    fn store_server(&self) -> Option<DomId> {
        match self.spec.store {
            StoreRole::Client { server } => Some(DomId::new(server)),
            StoreRole::None | StoreRole::Own if self.own_store => Some(DomId::SELF),
            StoreRole::None | StoreRole::Server | StoreRole::Own => None,
        }
    }
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
    let elf = match images.kernels.get(&spec.kernel) {
        Some(Ok(elf)) => elf,
        Some(Err(error)) => return Err(error.clone().of(&spec.kernel)),
        None => return Err(archive.file(&spec.kernel).err().map_or(VmError::NotUnpacked, VmError::Missing)),
    };
    let image = match kernels.entry(spec.kernel.clone()) {
        Entry::Occupied(parsed) => parsed.into_mut(),
        Entry::Vacant(place) => place.insert(parse_kernel(spec, elf)?),
    };
    plan_image(spec, image, ramdisk, &images.event_log)
}

/// The kernel of `spec`, whose file is `elf`.
pub(crate) fn parse_kernel<'a>(spec: &BootSpec, elf: &'a [u8]) -> Result<KernelImage<'a>, VmError> {
    KernelImage::parse(elf).map_err(|error| bad_kernel(spec, error))
}

fn bad_kernel(spec: &BootSpec, error: ImageError) -> VmError {
    VmError::Kernel { file: spec.kernel.clone(), error }
}

/// Plans the VM that `spec` describes with the kernel `image` and a RAM disk, behind which the event log may come.
pub(crate) fn plan_image<'a>(
    spec: &BootSpec,
    image: &KernelImage<'a>,
    ramdisk: Option<&'a [u8]>,
    event_log: &SharedLog,
) -> Result<Recipe<'a>, VmError> {
    let ramdisk =
        event_log.ramdisk(&spec.name, ramdisk).map_err(|needed| VmError::NoRoomForLog { needed })?;
    let modules: Vec<_> = spec
        .modules
        .iter()
        .map(|module| Module { bytes: module.bytes, command_line: &module.command_line })
        .collect();
    let request = GuestRequest {
        memory: PageCount::new(spec.memory_kib / 4),
        command_line: &spec.command_line,
        ramdisk: ramdisk.as_ref().map(|ramdisk| ramdisk.len() as u64),
        modules: &modules,
    };
    let vcpus = Vcpus { all: spec.vcpus, online: spec.online_vcpus() };
    let plan = match spec.kind {
        GuestKind::Pv => GuestPlan::pv(image, &request),
        GuestKind::Pvh => GuestPlan::pvh(image, &request, vcpus),
    };
    let devices = spec.settings.access.io_memory.iter().map(|range| (range.guest_first(), range.pages));
    let plan = plan.and_then(|plan| plan.check_devices(devices).map(|()| plan));
    let plan = plan.map_err(|error| match error {
        PlanError::Image(error) => bad_kernel(spec, error),
        other => VmError::Plan(other),
    })?;
    Ok(Recipe { plan, ramdisk: ramdisk.unwrap_or_default() })
}
