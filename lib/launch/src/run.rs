//! A platform from its RAM disk to its end.

use alloc::rc::Rc;
use alloc::vec::Vec;

use domain_builder::find_labels;
use hypercall::{FrameWindow, Ramdisk, RawHypercall};
use protocols::platform::Policy;
use protocols::{MachineStatus, PlatformSpec, StoreRole};
use ramdisk::Archive;
use xen_abi::PageCount;

use crate::build::{BuiltVm, build_vm, micros, take_back, total_memory};
use crate::packed::unpack;
use crate::platform::no_vms;
use crate::refused::log_failure;
use crate::service::{NoService, Service};
use crate::settings::Words;
use crate::store::{Needed, Store, give_back};
use crate::supervisor::Supervisor;
use crate::trust::examine;
use crate::usage::Usage;
use crate::{Environment, Images, Options, PlannedVm, Platform, Recipe};

/// Launches the platform in `ramdisk`, looks after it, and says how it ended.
///
/// A RAM disk that is compressed is unpacked first, and its memory goes back to Xen at once.
///
/// Every VM is planned before any is built, and all are built before any is started. What happens when one of them fails
/// is the policy of the platform, or of `options`. Whatever fails, nothing half-built stays behind. Once the VMs run, the memory of
/// the RAM disk goes back to Xen, but for what VMs may be restarted from.
pub fn launch<H: RawHypercall, W: FrameWindow, R: Ramdisk<Kept: 'static>>(
    environment: &mut Environment<'_, H, W>,
    options: &Options,
    ramdisk: R,
) -> MachineStatus {
    launch_serving(environment, options, ramdisk, &mut NoService)
}

/// The same, with a service that takes part as long as the platform lives.
pub fn launch_serving<'x, H: RawHypercall, W: FrameWindow, R: Ramdisk<Kept: 'static>>(
    environment: &mut Environment<'x, H, W>,
    options: &Options,
    ramdisk: R,
    service: &mut dyn Service<'x, H, W>,
) -> MachineStatus {
    for complaint in &options.complaints {
        log::warn!("{complaint}");
    }
    let begin = (environment.now)();
    let usage = Usage::new(options.usage);
    usage.log(environment);
    let mut memory = Memory { free: free_memory(environment), released: None, usage };
    let (compression, unpacked) = match unpack(ramdisk.bytes(), (environment.spare_memory)()) {
        Ok(Some(unpacked)) => unpacked,
        Ok(None) => return launch_from(environment, options, ramdisk, service, &mut memory, begin),
        Err(error) => return refuse(&error),
    };
    let took = micros(begin, (environment.now)());
    let (packed, size) = (ramdisk.bytes().len(), unpacked.bytes().len());
    log::info!(
        "event=ramdisk-unpacked compression={compression} packed={}KiB unpacked={}KiB took={took}us",
        packed / 1024,
        size / 1024
    );
    memory.released = Some(release_packed(environment, ramdisk));
    launch_from(environment, options, unpacked, service, &mut memory, begin)
}

/// What is known about Xen's memory, and what else is in use.
struct Memory {
    /// What was free before anything was done, if Xen tells.
    free: Option<PageCount>,
    /// What was given back of the RAM disk, once it was.
    released: Option<PageCount>,
    /// What else is counted, if it is.
    usage: Usage,
}

/// The same for a RAM disk that is not compressed.
fn launch_from<'x, H: RawHypercall, W: FrameWindow, R: Ramdisk<Kept: 'static>>(
    environment: &mut Environment<'x, H, W>,
    options: &Options,
    ramdisk: R,
    service: &mut dyn Service<'x, H, W>,
    memory: &mut Memory,
    begin: u64,
) -> MachineStatus {
    let built = match build(environment, options, ramdisk.bytes(), service, begin) {
        Ok(built) => built,
        Err(Refused { status, planned }) => {
            if planned {
                log_memory(environment, memory);
            }
            return status;
        }
    };
    let status = run(built, options, ramdisk, service, begin, memory);
    log_memory(environment, memory);
    status
}

/// VMs that are built, and what the rest of their lives needs.
struct Built<'e, 'x, H: RawHypercall, W: FrameWindow> {
    supervisor: Supervisor<'e, 'x, H, W>,
    vms: Vec<BuiltVm<'x, H>>,
    needed: Needed,
    /// VMs that were planned.
    count: usize,
    /// Whether one could not be planned or built.
    failed: bool,
}

/// No VM is started.
struct Refused {
    status: MachineStatus,
    /// Whether anything was built.
    planned: bool,
}

impl Refused {
    /// Nothing was built of a platform that has `vms` VMs as far as is known.
    fn unplanned(vms: usize) -> Self {
        Self { status: report(MachineStatus::BuildFailed, vms, 0), planned: false }
    }

    /// The RAM disk cannot be used.
    fn unusable(error: &dyn core::fmt::Display) -> Self {
        Self { status: refuse(error), planned: false }
    }
}

/// Reads the platform in `ramdisk`, plans its VMs, and builds them.
fn build<'e, 'x, H: RawHypercall, W: FrameWindow>(
    environment: &'e mut Environment<'x, H, W>,
    options: &Options,
    ramdisk: &[u8],
    service: &mut dyn Service<'x, H, W>,
    begin: u64,
) -> Result<Built<'e, 'x, H, W>, Refused> {
    let archive = Archive::parse(ramdisk).map_err(|error| Refused::unusable(&error))?;
    let examined = examine(&options.trust, &options.line, ramdisk, &archive, environment.now);
    let event_log = examined.map_err(|refusal| {
        log::error!("step=trust {refusal}");
        Refused::unplanned(0)
    })?;
    let (platform, settings) = read(&archive, options, service, environment)?;
    for name in event_log.unknown(|name| platform.specs().any(|spec| spec.name == name)) {
        log::warn!("`event-log=` names {name:?}, and there is no such VM");
    }
    let images =
        Images::unpack(&archive, platform.specs(), environment.spare_memory).with_event_log(event_log);
    let Planned { vms, recipes, failed } = plan(platform, &settings, &archive, &images, environment, begin)?;
    let count = vms.len();
    // A VM that serves a XenStore is told in the builder's place.
    let hears = !vms.iter().any(|vm| vm.spec.store == StoreRole::Server);
    // Before the first VM is built: one that nobody hears of when it ends must not exist.
    let supervisor = Supervisor::new(environment, Rc::clone(&settings), hears).map_err(|error| {
        log::error!("platform=refused: {error}: the builder cannot hear of VMs that end");
        Refused { status: report(MachineStatus::BuilderFailed, count, 0), planned: true }
    })?;
    let mut built = Built { supervisor, vms: Vec::new(), needed: Needed::default(), count, failed };
    for (vm, recipe) in vms.iter().zip(&recipes) {
        built.add(vm, recipe)?;
    }
    drop(recipes);
    let keeps = |name: &str| service.keeps(name);
    built.needed = images.needed(&archive, &vms, keeps);
    Ok(built)
}

impl<H: RawHypercall, W: FrameWindow> Built<'_, '_, H, W> {
    /// Builds one more VM; an error is the end of the platform.
    fn add(&mut self, vm: &Rc<PlannedVm>, recipe: &Recipe<'_>) -> Result<(), Refused> {
        let supervisor = &mut self.supervisor;
        match build_vm(supervisor.environment, vm, recipe) {
            Ok(vm) => self.vms.push(vm),
            Err(error) => {
                log_failure(supervisor.xen(), &vm.spec.name, &error);
                self.failed = true;
                if refuses(&supervisor.settings, vm.spec.life.critical) {
                    take_back(&mut self.vms);
                    log_refusal(&supervisor.settings);
                    supervisor.wait_until_gone();
                    let status = report(status(true, 0, supervisor.leaked() > 0), self.count, 0);
                    return Err(Refused { status, planned: true });
                }
            }
        }
        Ok(())
    }
}

/// Reads what holds for all VMs, and their specs, in which the service may enter what it has for them.
fn read<'x, H: RawHypercall, W: FrameWindow>(
    archive: &Archive<'_>,
    options: &Options,
    service: &mut dyn Service<'x, H, W>,
    environment: &Environment<'x, H, W>,
) -> Result<(Platform, Rc<PlatformSpec>), Refused> {
    let mut platform = Platform::read(archive).map_err(|error| Refused::unusable(&error))?;
    if platform.is_empty() {
        return Err(Refused::unusable(&no_vms(archive)));
    }
    let mut settings = platform.settings().clone();
    options.override_in(&mut settings);
    if settings.log_level.is_some() {
        log::set_max_level(options.level(Some(&settings)));
    }
    if settings != PlatformSpec::default() {
        log::info!("platform=settings {}", Words(&settings));
    }
    let count = platform.specs().count();
    if !agree(&settings, &platform) {
        return Err(Refused::unplanned(count));
    }
    if let Err(error) = service.open(environment.xen, &settings, platform.specs_mut()) {
        log::error!("step=service {error}");
        log::error!("platform=refused: no VM is started because the service cannot be");
        return Err(Refused::unplanned(count));
    }
    Ok((platform, Rc::new(settings)))
}

/// VMs that are planned.
struct Planned<'a> {
    vms: Vec<Rc<PlannedVm>>,
    /// What each of them is built from.
    recipes: Vec<Recipe<'a>>,
    /// Whether one could not be planned.
    failed: bool,
}

/// Plans all VMs, and finds out whether they fit the machine.
fn plan<'a, H: RawHypercall, W: FrameWindow>(
    platform: Platform,
    settings: &PlatformSpec,
    archive: &Archive<'a>,
    images: &'a Images<'a>,
    environment: &Environment<'_, H, W>,
    begin: u64,
) -> Result<Planned<'a>, Refused> {
    let (planned, failures) = platform.plan(archive, images);
    for failure in &failures {
        log::error!("vm={} {}", failure.name, failure.error);
    }
    let took = micros(begin, (environment.now)());
    log::info!("platform=planned vms={} failed={} took={took}us", planned.len(), failures.len());
    let count = planned.len();
    if failures.iter().any(|failure| refuses(settings, failure.critical)) {
        log_refusal(settings);
        return Err(Refused::unplanned(count + failures.len()));
    }
    let (vms, recipes): (Vec<_>, Vec<_>) =
        planned.into_iter().map(|(vm, recipe)| (Rc::new(vm), recipe)).unzip();
    let possible = labels_exist(environment, &vms) & fits(free_memory(environment), &vms);
    if !possible && settings.policy == Policy::All {
        log_refusal(settings);
        return Err(Refused::unplanned(count));
    }
    Ok(Planned { vms, recipes, failed: !failures.is_empty() })
}

/// Starts VMs that are built, gives back the RAM disk's memory, and looks after them.
fn run<'x, H: RawHypercall, W: FrameWindow, R: Ramdisk<Kept: 'static>>(
    built: Built<'_, 'x, H, W>,
    options: &Options,
    ramdisk: R,
    service: &mut dyn Service<'x, H, W>,
    begin: u64,
    memory: &mut Memory,
) -> MachineStatus {
    let Built { mut supervisor, vms, needed, count: planned, mut failed } = built;
    let settings = Rc::clone(&supervisor.settings);
    supervisor.usage = memory.usage;
    let mut count = 0;
    let mut built = vms.into_iter();
    while let Some(vm) = built.next() {
        let planned_vm = Rc::clone(&vm.vm);
        let spec = &planned_vm.spec;
        if !spec.life.after.is_empty() {
            supervisor.held.hold(vm);
        } else if let Err(error) = supervisor.start(vm) {
            log_failure(supervisor.xen(), &spec.name, &error);
            failed = true;
            if refuses(&settings, spec.life.critical) {
                log_refusal(&settings);
                take_back(&mut built.collect());
                supervisor.destroy_all();
                supervisor.wait_until_gone();
                return report(status(true, 0, supervisor.leaked() > 0), planned, 0);
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
    release(&mut supervisor, ramdisk, needed, memory);
    let supervised = supervisor.run(service);
    supervisor.wait_until_gone();
    memory.usage = supervisor.usage;
    let (bad, preserved) = (supervisor.bad_endings(), supervisor.preserved.len());
    if let Err(error) = supervised {
        log::error!("platform=lost: {error}: the builder can no longer wait for its VMs");
        return report(MachineStatus::BuilderFailed, count, preserved);
    }
    let leaked = supervisor.leaked() > 0;
    report(status(failed || supervisor.is_missing_one(), bad, leaked), count, preserved)
}

/// Gives all memory of a RAM disk that was unpacked back to Xen; how much that was.
fn release_packed<H: RawHypercall, W: FrameWindow>(
    environment: &Environment<'_, H, W>,
    ramdisk: impl Ramdisk,
) -> PageCount {
    let (begin, pages) = ((environment.now)(), PageCount::for_bytes(ramdisk.bytes().len() as u64));
    let (_, released) = give_back(ramdisk, &[], environment.xen);
    log_released(pages, released, micros(begin, (environment.now)()));
    released
}

/// Gives the RAM disk's memory back to Xen, but for what VMs may be restarted from. The copy of a compressed one is the
/// builder's own: it stays.
fn release<H: RawHypercall, W: FrameWindow, R: Ramdisk<Kept: 'static>>(
    supervisor: &mut Supervisor<'_, '_, H, W>,
    ramdisk: R,
    needed: Needed,
    memory: &mut Memory,
) {
    let (begin, pages) = (supervisor.time(), PageCount::for_bytes(ramdisk.bytes().len() as u64));
    let (store, released) = Store::new(ramdisk, needed, supervisor.xen());
    supervisor.store = store;
    if memory.released.is_none() {
        memory.released = Some(released);
        log_released(pages, released, micros(begin, supervisor.time()));
    }
}

/// Logs how much of a RAM disk of `pages` was given back.
fn log_released(pages: PageCount, released: PageCount, took: u64) {
    log::info!(
        "event=ramdisk-released memory={}KiB kept={}KiB took={took}us",
        released.kib(),
        pages.kib().saturating_sub(released.kib())
    );
}

/// Whether the VMs are what the platform says of all of them; says so if not.
fn agree(settings: &PlatformSpec, platform: &Platform) -> bool {
    let disagreements = settings.disagreements(&platform.specs().collect::<Vec<_>>());
    for disagreement in &disagreements {
        log::error!("step=platform {disagreement}");
    }
    if !disagreements.is_empty() {
        log::error!("platform=refused: no VM is started because the platform file and its VMs do not agree");
    }
    disagreements.is_empty()
}

/// Whether no VM is to run when one, critical or not, cannot.
fn refuses(settings: &PlatformSpec, critical: bool) -> bool {
    critical || settings.policy == Policy::All
}

/// Logs that no VM is started.
fn log_refusal(settings: &PlatformSpec) {
    match settings.policy {
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

/// Whether Xen has the memory that the VMs start with; says so if not. Where Xen does not tell, building them will show.
fn fits(free: Option<PageCount>, planned: &[Rc<PlannedVm>]) -> bool {
    let wanted = total_memory(planned);
    let Some(free) = free.filter(|free| wanted > *free) else { return true };
    log::error!(
        "event=memory wanted={}KiB free={}KiB: the VMs do not fit the machine together; lower their `memory`, start fewer, lower \
         dom0_mem, or give the machine more memory",
        wanted.kib(),
        free.kib()
    );
    false
}

/// Whether Xen knows every label that a VM is to have; says so of each that it does not.
fn labels_exist<H: RawHypercall, W: FrameWindow>(
    environment: &Environment<'_, H, W>,
    planned: &[Rc<PlannedVm>],
) -> bool {
    let mut exist = true;
    for spec in planned.iter().map(|vm| &vm.spec).filter(|spec| !spec.settings.labels.is_default()) {
        if let Err(error) = find_labels(environment.xen, &spec.settings.labels) {
            log_failure(environment.xen, &spec.name, &error);
            exist = false;
        }
    }
    exist
}

/// Logs Xen's free memory before and after, and what of the builder's own was given back in between: when nothing was left
/// behind, the first and the last together are the second.
fn log_memory<H: RawHypercall, W: FrameWindow>(environment: &Environment<'_, H, W>, memory: &Memory) {
    if let (Some(before), Some(after)) = (memory.free, free_memory(environment)) {
        let released = memory.released.unwrap_or(PageCount::ZERO).kib();
        let (before, after) = (before.kib(), after.kib());
        log::info!("event=memory free-before={before}KiB free-after={after}KiB released={released}KiB");
    }
    memory.usage.log(environment);
}
