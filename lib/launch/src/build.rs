//! Building the planned VMs, paused.

use alloc::vec::Vec;

use domain_builder::{BuildError, Sealed, build_pv, build_pvh};
use domain_plan::GuestPlan;
use hypercall::{FrameWindow, RawHypercall};
use xen_abi::{DomId, PageCount};

use crate::channels::open_ports;
use crate::{Environment, PlannedVm, Recipe};

/// A VM that is complete and paused; it is destroyed when this is dropped.
pub(crate) struct BuiltVm<'x, 'p, H: RawHypercall> {
    pub(crate) vm: &'p PlannedVm,
    pub(crate) domain: Sealed<'x, H>,
}

/// Builds one VM, logging a line for each step with its duration.
pub(crate) fn build_vm<'x, 'p, H: RawHypercall, W: FrameWindow>(
    environment: &mut Environment<'x, H, W>,
    vm: &'p PlannedVm,
    recipe: &Recipe<'_>,
) -> Result<BuiltVm<'x, 'p, H>, BuildError> {
    let name = &vm.spec.name;
    let now = environment.now;
    let (begin, calls_before) = (now(), environment.xen.counts().total());
    let mut last = begin;
    let observe = |step, domid: DomId| {
        let time = now();
        log::info!("vm={name} domid={domid} step={step} took={}us", micros(last, time));
        last = time;
    };
    let (xen, window, spec) = (environment.xen, &mut environment.window, vm.domain_spec());
    let Recipe { plan, ramdisk } = recipe;
    let domain = match plan {
        GuestPlan::Pv(plan) => build_pv(xen, window, &spec, plan, ramdisk, observe)?,
        GuestPlan::Pvh(plan) => build_pvh(xen, window, &spec, plan, ramdisk, observe)?,
    };
    open_ports(xen, domain.domid(), &vm.spec.channels)?;
    let calls = environment.xen.counts().total() - calls_before;
    log::info!(
        "vm={name} domid={} event=built memory={}KiB written={}KiB extents={} hypercalls={calls} took={}us",
        domain.domid(),
        plan.memory().kib(),
        plan.written().kib(),
        domain.memory_runs(),
        micros(begin, now())
    );
    Ok(BuiltVm { vm, domain })
}

/// The memory of all VMs.
pub(crate) fn total_memory(vms: &[PlannedVm]) -> PageCount {
    PageCount::new(vms.iter().map(|vm| vm.spec.memory_kib / 4).sum())
}

/// From nanoseconds to microseconds between two times.
pub(crate) fn micros(from: u64, to: u64) -> u64 {
    to.saturating_sub(from) / 1000
}

/// Gives up every VM in `built`, last first.
pub(crate) fn take_back<H: RawHypercall>(built: &mut Vec<BuiltVm<'_, '_, H>>) {
    while let Some(vm) = built.pop() {
        log::info!("vm={} domid={} event=taken-back", vm.vm.spec.name, vm.domain.domid());
    }
}
