//! A VM that was planned: what it is built from, and why it may not be.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

use domain_builder::{DomainSpec, Servers};
use domain_plan::{GuestPlan, GuestRequest, Module, PlanError, Vcpus};
use kernel_image::{ImageError, KernelImage};
use platform::SpecFault;
use protocols::{BootSpec, GuestKind, StoreRole};
use ramdisk::RamdiskError;
use thiserror::Error;
use xen_abi::start_info::StartFlags;
use xen_abi::{DomId, PageCount};

use crate::event_log::SharedLog;

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
        max_memory: PageCount::new(spec.max_memory_kib / 4),
        command_line: &spec.command_line,
        ramdisk: ramdisk.as_ref().map(|ramdisk| ramdisk.len() as u64),
        modules: &modules,
        claims: StartFlags::from_bits_truncate(spec.settings.claims.sif_flags()),
        paging_pool: spec.settings.processor.paging_pool_mib.map(|mib| PageCount::new(u64::from(mib) << 8)),
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
