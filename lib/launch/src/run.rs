//! A platform from its RAM disk to its end.

use alloc::vec::Vec;

use hypercall::{FrameWindow, RawHypercall};
use protocols::MachineStatus;
use ramdisk::Archive;
use xen_abi::PageCount;

use crate::build::{build_vm, micros, take_back, total_memory};
use crate::platform::no_vms;
use crate::supervisor::Supervisor;
use crate::{Environment, Images, Options, PlannedVm, Platform, Policy};

/// Launches the platform in `ramdisk`, looks after it, and says how it ended.
///
/// Every VM is planned before any is built, and all are built before any is started. What happens when one of them fails
/// is `options.policy`. Whatever fails, nothing half-built stays behind.
pub fn launch<H: RawHypercall, W: FrameWindow>(
    environment: &mut Environment<'_, H, W>,
    options: &Options,
    ramdisk: &[u8],
) -> MachineStatus {
    for complaint in &options.complaints {
        log::warn!("{complaint}");
    }
    let free = free_memory(environment);
    let begin = (environment.now)();
    let archive = match Archive::parse(ramdisk) {
        Ok(archive) => archive,
        Err(error) => return refuse(&error),
    };
    let platform = Platform::read(&archive);
    if platform.is_empty() {
        return refuse(&no_vms(&archive));
    }
    let images = Images::unpack(&archive, platform.specs(), environment.spare_memory);
    let (planned, failures) = platform.plan(&archive, &images);
    for failure in &failures {
        log::error!("vm={} {}", failure.name, failure.error);
    }
    let took = micros(begin, (environment.now)());
    log::info!("platform=planned vms={} failed={} took={took}us", planned.len(), failures.len());
    if failures.iter().any(|failure| refuses(options, failure.critical)) {
        log_refusal(options);
        return report(MachineStatus::BuildFailed, planned.len() + failures.len(), 0);
    }
    let status = run(environment, options, &planned, !failures.is_empty(), begin);
    log_memory(environment, free);
    status
}

/// Builds, starts and looks after the VMs that were planned.
fn run<'p, H: RawHypercall, W: FrameWindow>(
    environment: &mut Environment<'_, H, W>,
    options: &Options,
    planned: &'p [PlannedVm<'p>],
    some_failed: bool,
    begin: u64,
) -> MachineStatus {
    warn_of_memory(environment, planned);
    let mut failed = some_failed;
    // Before the first VM is built: one that nobody hears of when it ends must not exist.
    let mut supervisor = match Supervisor::new(environment) {
        Ok(supervisor) => supervisor,
        Err(error) => {
            log::error!("platform=refused: {error}: the builder cannot hear of VMs that end");
            return report(MachineStatus::BuilderFailed, planned.len(), 0);
        }
    };
    let mut built = Vec::new();
    for vm in planned {
        match build_vm(supervisor.environment, vm) {
            Ok(vm) => built.push(vm),
            Err(error) => {
                log::error!("vm={} {error}", vm.spec.name);
                failed = true;
                if refuses(options, vm.spec.life.critical) {
                    take_back(&mut built);
                    log_refusal(options);
                    supervisor.wait_until_gone();
                    return report(MachineStatus::BuildFailed, planned.len(), 0);
                }
            }
        }
    }
    let mut count = 0;
    let mut built = built.into_iter();
    while let Some(vm) = built.next() {
        let spec = &vm.vm.spec;
        if !spec.life.after.is_empty() {
            supervisor.held.hold(vm);
        } else if let Err(error) = supervisor.start(vm) {
            log::error!("vm={} {error}", spec.name);
            failed = true;
            if refuses(options, spec.life.critical) {
                log_refusal(options);
                take_back(&mut built.collect());
                supervisor.destroy_all();
                supervisor.wait_until_gone();
                return report(MachineStatus::BuildFailed, planned.len(), 0);
            }
            continue;
        }
        count += 1;
    }
    supervisor.release();
    let held = supervisor.held.count();
    if held > 0 {
        log::info!("platform=waiting vms={held}: they start after VMs that are not ready");
    }
    log::info!("platform=started vms={} took={}us", count - held, micros(begin, supervisor.time()));
    supervisor.attend(options);
    let supervised = supervisor.run();
    supervisor.wait_until_gone();
    let (bad, preserved) = (supervisor.bad_endings(), supervisor.preserved());
    if let Err(error) = supervised {
        log::error!("platform=lost: {error}: the builder can no longer wait for its VMs");
        return report(MachineStatus::BuilderFailed, count, preserved);
    }
    let leaked = supervisor.leaked() > 0;
    report(status(failed || supervisor.is_missing_one(), bad, leaked), count, preserved)
}

/// Whether no VM is to run when one, critical or not, cannot.
fn refuses(options: &Options, critical: bool) -> bool {
    critical || options.policy == Policy::All
}

/// Logs that no VM is started.
fn log_refusal(options: &Options) {
    match options.policy {
        Policy::All => log::error!(
            "platform=refused: no VM is started because not every VM can be (policy=all; policy=each starts the others)"
        ),
        Policy::Each => {
            log::error!("platform=refused: no VM is started because one cannot be that is critical");
        }
    }
}

/// The worst of what happened.
fn status(failed: bool, bad_endings: usize, leaked: bool) -> MachineStatus {
    if leaked {
        MachineStatus::BuilderFailed
    } else if failed {
        MachineStatus::BuildFailed
    } else if bad_endings > 0 {
        MachineStatus::VmFailed
    } else {
        MachineStatus::Success
    }
}

/// Ends a platform whose RAM disk cannot be used.
fn refuse(error: &dyn core::fmt::Display) -> MachineStatus {
    log::error!("step=ramdisk {error}");
    report(MachineStatus::BuildFailed, 0, 0)
}

/// Logs how the platform ended.
fn report(status: MachineStatus, vms: usize, preserved: usize) -> MachineStatus {
    let word = match status {
        MachineStatus::Success => "success",
        MachineStatus::VmFailed => "vm-failed",
        MachineStatus::BuildFailed => "build-failed",
        MachineStatus::BuilderFailed => "builder-failed",
    };
    log::info!("platform=ended status={word} vms={vms} preserved={preserved}");
    status
}

/// Xen's free memory, if it tells.
fn free_memory<H: RawHypercall, W: FrameWindow>(environment: &Environment<'_, H, W>) -> Option<PageCount> {
    environment.xen.machine_memory().ok().flatten().map(|memory| memory.free)
}

/// Warns when the VMs want more memory than Xen has; building them says precisely which does not fit.
fn warn_of_memory<H: RawHypercall, W: FrameWindow>(
    environment: &Environment<'_, H, W>,
    planned: &[PlannedVm<'_>],
) {
    let wanted = total_memory(planned);
    if let Some(free) = free_memory(environment)
        && wanted > free
    {
        log::warn!(
            "event=memory wanted={}KiB free={}KiB: the VMs do not fit the machine together",
            wanted.kib(),
            free.kib()
        );
    }
}

/// Logs Xen's free memory before and after: they are the same when nothing was left behind.
fn log_memory<H: RawHypercall, W: FrameWindow>(
    environment: &Environment<'_, H, W>,
    before: Option<PageCount>,
) {
    if let (Some(before), Some(after)) = (before, free_memory(environment)) {
        log::info!("event=memory free-before={}KiB free-after={}KiB", before.kib(), after.kib());
    }
}
