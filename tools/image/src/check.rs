//! What db-boot would find out, found out on the host: every kernel is unpacked and every VM planned by the same
//! code.

use std::collections::BTreeMap;
use std::fmt;

use domain_plan::{GuestPlan, GuestRequest, Module, PlanError, Vcpus};
use kernel_image::{ImageError, KernelImage};
use protocols::spec::{BootSpec, GuestKind};
use xen_abi::PageCount;
use xen_abi::start_info::StartFlags;

use crate::initrd::{self, Finding};
use crate::interrupt;
use crate::kernel::MAX_UNPACKED;
use crate::platform::{Platform, PlatformError, Vm};
use crate::report::Layout;
use crate::source::Diagnostic;

/// A VM that can be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmReport {
    /// Its boot spec.
    pub spec: BootSpec,
    /// The file format of its kernel.
    pub kernel_format: String,
    /// Its start-of-day picture, as text of several lines.
    pub plan: String,
    /// The same in numbers.
    pub layout: Layout,
    /// What may keep it from working all the same, with its place.
    pub warnings: Vec<String>,
}

impl fmt::Display for VmReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: fine ({}, kernel: {})", self.spec.name, summary(&self.spec), self.kernel_format)
    }
}

/// A spec in a few words: `PV, 2 vCPUs, 64 MiB`.
pub(crate) fn summary(spec: &BootSpec) -> String {
    let vcpus = match (spec.vcpus, spec.settings.processor.online) {
        (1, _) => "1 vCPU".into(),
        (vcpus, None) => format!("{vcpus} vCPUs"),
        (vcpus, Some(online)) => format!("{online} of {vcpus} vCPUs"),
    };
    let kind = match spec.kind {
        GuestKind::Pv => "PV",
        GuestKind::Pvh => "PVH",
    };
    format!("{kind}, {vcpus}, {}", mib(spec.memory_kib))
}

fn mib(kib: u64) -> String {
    if kib.is_multiple_of(1024) { format!("{} MiB", kib / 1024) } else { format!("{kib} KiB") }
}

/// Plans every VM of a platform. The reports are in the order of the VMs; the problems of all VMs are reported.
pub fn check(platform: &Platform) -> Result<Vec<VmReport>, PlatformError> {
    let mut by_kernel: BTreeMap<usize, Vec<(usize, &Vm)>> = BTreeMap::new();
    for (index, vm) in platform.vms().iter().enumerate() {
        by_kernel.entry(vm.kernel).or_default().push((index, vm));
    }
    // One kernel after the other: unpacked, the kernels of a platform may take more memory than the host has.
    let mut results = BTreeMap::new();
    for vms in by_kernel.into_values() {
        results.extend(check_kernel(platform, &vms));
        if interrupt::requested() {
            return Err(PlatformError { problems: vec!["interrupted".into()] });
        }
    }
    let (mut reports, mut problems) = (Vec::new(), Vec::new());
    for result in results.into_values() {
        match result {
            Ok(report) => reports.push(report),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(reports) } else { Err(PlatformError { problems }) }
}

type VmResult = Result<VmReport, String>;

/// Plans VMs that have the same kernel.
fn check_kernel(platform: &Platform, vms: &[(usize, &Vm)]) -> Vec<(usize, VmResult)> {
    let Some((_, first)) = vms.first() else { return Vec::new() };
    let image = platform.kernel(first);
    let unwrapped = kernel_image::unwrap(&image.bytes, MAX_UNPACKED);
    let check = |vm: &Vm| {
        let unwrapped = unwrapped.as_ref().map_err(|error| bad_kernel(vm, error))?;
        let kernel = KernelImage::parse(&unwrapped.elf).map_err(|error| bad_kernel(vm, &error))?;
        let ramdisk = platform.ramdisk(vm).map(|image| u64::try_from(image.bytes.len()).unwrap_or(u64::MAX));
        let modules: Vec<_> = vm
            .spec
            .modules
            .iter()
            .map(|module| Module { bytes: module.bytes, command_line: &module.command_line })
            .collect();
        let request = GuestRequest {
            memory: PageCount::new(vm.spec.memory_kib / 4),
            max_memory: PageCount::new(vm.spec.max_memory_kib / 4),
            command_line: &vm.spec.command_line,
            ramdisk,
            modules: &modules,
            claims: StartFlags::from_bits_truncate(vm.spec.settings.claims.sif_flags()),
            paging_pool: vm
                .spec
                .settings
                .processor
                .paging_pool_mib
                .map(|mib| PageCount::new(u64::from(mib) << 8)),
        };
        let vcpus = Vcpus { all: vm.spec.vcpus, online: vm.spec.online_vcpus() };
        let plan = match vm.spec.kind {
            GuestKind::Pv => GuestPlan::pv(&kernel, &request),
            GuestKind::Pvh => GuestPlan::pvh(&kernel, &request, vcpus),
        };
        let devices = vm.spec.settings.access.io_memory.iter();
        let devices = devices.map(|range| (range.guest_first(), range.pages));
        let plan = plan.and_then(|plan| plan.check_devices(devices).map(|()| plan));
        let plan = plan.map_err(|error| cannot_plan(vm, &error))?;
        let mut warnings: Vec<_> = about_32_bits(vm, &plan).into_iter().collect();
        let finding = platform.ramdisk(vm).and_then(|ramdisk| {
            // The first module is the one that Linux takes for its RAM disk.
            let first = vm.spec.modules.first().and_then(|module| usize::try_from(module.bytes).ok());
            let length = first.unwrap_or(ramdisk.bytes.len());
            initrd::look(&kernel, ramdisk.bytes.get(..length)?)
        });
        match finding {
            Some(Finding::Unusable(text)) => return Err(about_ramdisk(vm, &text)),
            Some(Finding::Doubtful(text)) => warnings.push(about_ramdisk(vm, &text)),
            None => {}
        }
        let kernel_format = image.unpacked_from.clone().unwrap_or_else(|| unwrapped.format.to_string());
        Ok(VmReport {
            spec: vm.spec.clone(),
            kernel_format,
            plan: plan.to_string(),
            layout: Layout::from(&plan),
            warnings,
        })
    };
    vms.iter().map(|(index, vm)| (*index, check(vm))).collect()
}

/// The message for a kernel that is none, at the line that names it.
fn bad_kernel(vm: &Vm, error: &ImageError) -> String {
    let path = &vm.file.config.kernel;
    let message = format!("VM {:?}: kernel {}: {error}", vm.spec.name, path.value.display());
    Diagnostic::error(path.span, message).render(&vm.file.source)
}

/// What has to be said of a 32-bit PV kernel, which not every Xen runs; on the host there is none to ask.
fn about_32_bits(vm: &Vm, plan: &GuestPlan<'_>) -> Option<String> {
    let GuestPlan::Pv(plan) = plan else { return None };
    let path = &vm.file.config.kernel;
    let message = format!(
        "VM {:?}: kernel {}: 32-bit PV guests run only on a Xen that is built with CONFIG_PV32, as Debian's are not; db-boot asks it, and \
         builds no VM where it has none",
        vm.spec.name,
        path.value.display()
    );
    plan.address_size().is_32_bit().then(|| Diagnostic::error(path.span, message).render(&vm.file.source))
}

/// A message about a VM's RAM disk, at the line that names it.
fn about_ramdisk(vm: &Vm, text: &str) -> String {
    let Some(path) = vm.file.config.ramdisks.first() else { return text.to_owned() };
    let message = format!("VM {:?}: RAM disk {}: {text}", vm.spec.name, path.value.display());
    Diagnostic::error(path.span, message).render(&vm.file.source)
}

/// The message for a VM that cannot be planned, at the line that is best changed.
fn cannot_plan(vm: &Vm, error: &PlanError) -> String {
    let config = &vm.file.config;
    let span = match error {
        PlanError::Image(error) => return bad_kernel(vm, error),
        PlanError::Memory { .. } | PlanError::MemorySize(_) => config.memory_kib.span,
        _ => config.kernel.span,
    };
    Diagnostic::error(span, format!("VM {:?}: {error}", vm.spec.name)).render(&vm.file.source)
}
