//! Building a domain by and by, in steps each of which takes a bounded time.

use core::mem;

use domain_plan::{GuestPlan, PvPlan, PvhPlan};
use hypercall::{FrameWindow, RawHypercall, Xen};
use xen_abi::DomId;

use crate::pv::{Created, Loaded, Loading, Populating, Sealed};
use crate::{BuildError, DomainSpec, Step, pvh};

/// A plan of either kind.
#[derive(Clone, Copy, Debug)]
pub enum PlanRef<'p> {
    /// Of a PV guest.
    Pv(&'p PvPlan<'p>),
    /// Of a PVH guest.
    Pvh(&'p PvhPlan<'p>),
}

impl<'p> From<&'p GuestPlan<'p>> for PlanRef<'p> {
    fn from(plan: &'p GuestPlan<'p>) -> Self {
        match plan {
            GuestPlan::Pv(plan) => Self::Pv(plan),
            GuestPlan::Pvh(plan) => Self::Pvh(plan),
        }
    }
}

/// A domain that is being built. Dropped before it is complete, it is destroyed.
#[derive(Debug)]
pub struct Construction<'x, H: RawHypercall> {
    stage: Stage<'x, H>,
}

/// How far a domain is.
#[derive(Debug)]
enum Stage<'x, H: RawHypercall> {
    /// It does not exist yet.
    New,
    PvPopulating(Populating<'x, H>),
    PvLoading(Loading<'x, H>),
    PvLoaded(Loaded<'x, H>),
    PvhPopulating(pvh::Populating<'x, H>),
    PvhLoading(pvh::Loading<'x, H>),
    PvhLoaded(pvh::Loaded<'x, H>),
    /// It is complete, or a step has failed.
    Over,
}

/// What a step has come to.
#[derive(Debug)]
pub enum Progress<'x, H: RawHypercall> {
    /// More of the same is to be done.
    Within,
    /// A part of the work is done.
    Done(Step, DomId),
    /// All is done: the domain is complete and paused.
    Complete(Sealed<'x, H>),
}

impl<H: RawHypercall> Default for Construction<'_, H> {
    fn default() -> Self {
        Self { stage: Stage::New }
    }
}

impl<'x, H: RawHypercall> Construction<'x, H> {
    /// Makes the next step: creates the domain, asks Xen once for memory, fills a window's worth of it, or seals it.
    ///
    /// All steps have to be given equal specs, plans and RAM disks. A step that fails is the last: the domain is gone then.
    pub fn step(
        &mut self,
        xen: &'x Xen<H>,
        window: &mut impl FrameWindow,
        spec: &DomainSpec,
        plan: PlanRef<'_>,
        ramdisk: &[u8],
    ) -> Result<Progress<'x, H>, BuildError> {
        let (next, progress) = match (mem::replace(&mut self.stage, Stage::Over), plan) {
            (Stage::New, plan) => create(xen, spec, plan)?,
            (Stage::PvPopulating(mut domain), _) => {
                if domain.step()? {
                    let domain = domain.finish()?;
                    let done = Progress::Done(Step::Populate, domain.domain.domid());
                    (Stage::PvLoading(domain.load()), done)
                } else {
                    (Stage::PvPopulating(domain), Progress::Within)
                }
            }
            (Stage::PvLoading(mut domain), PlanRef::Pv(plan)) => {
                if domain.step(window, plan, ramdisk)? {
                    let domain = domain.finish(window, plan)?;
                    let done = Progress::Done(Step::Load, domain.domain.domid());
                    (Stage::PvLoaded(domain), done)
                } else {
                    (Stage::PvLoading(domain), Progress::Within)
                }
            }
            (Stage::PvLoaded(domain), PlanRef::Pv(plan)) => {
                (Stage::Over, Progress::Complete(domain.seal(plan)?))
            }
            (stage, PlanRef::Pvh(plan)) => step_pvh(stage, window, plan, ramdisk)?,
            // A plan of the other kind: the domain was dropped.
            (_, PlanRef::Pv(_)) => return Err(BuildError::Over),
        };
        self.stage = next;
        Ok(progress)
    }
}

/// Creates the domain.
fn create<'x, H: RawHypercall>(
    xen: &'x Xen<H>,
    spec: &DomainSpec,
    plan: PlanRef<'_>,
) -> Result<(Stage<'x, H>, Progress<'x, H>), BuildError> {
    let (stage, domid) = match plan {
        PlanRef::Pv(plan) => {
            let domain = Created::new(xen, spec, plan)?;
            let domid = domain.domid();
            (Stage::PvPopulating(domain.populate(plan.memory())), domid)
        }
        PlanRef::Pvh(plan) => {
            let domain = pvh::Created::new(xen, spec, plan)?;
            let domid = domain.domid();
            (Stage::PvhPopulating(domain.populate(plan)), domid)
        }
    };
    Ok((stage, Progress::Done(Step::Create, domid)))
}

/// Makes the next step of a PVH domain.
fn step_pvh<'x, H: RawHypercall>(
    stage: Stage<'x, H>,
    window: &mut impl FrameWindow,
    plan: &PvhPlan<'_>,
    ramdisk: &[u8],
) -> Result<(Stage<'x, H>, Progress<'x, H>), BuildError> {
    Ok(match stage {
        Stage::PvhPopulating(mut domain) => {
            if domain.step()? {
                let domain = domain.finish()?;
                let done = Progress::Done(Step::Populate, domain.domain.domid());
                (Stage::PvhLoading(domain.load()), done)
            } else {
                (Stage::PvhPopulating(domain), Progress::Within)
            }
        }
        Stage::PvhLoading(mut domain) => {
            if domain.step(window, plan, ramdisk)? {
                let domain = domain.finish(window, plan)?;
                let done = Progress::Done(Step::Load, domain.domain.domid());
                (Stage::PvhLoaded(domain), done)
            } else {
                (Stage::PvhLoading(domain), Progress::Within)
            }
        }
        Stage::PvhLoaded(domain) => (Stage::Over, Progress::Complete(domain.seal(plan)?)),
        _ => return Err(BuildError::Over),
    })
}

/// Builds a PV domain, up to complete and paused.
///
/// `observe` is told of each step when it is done, so that the caller can log it with a time.
pub fn build_pv<'x, H: RawHypercall>(
    xen: &'x Xen<H>,
    window: &mut impl FrameWindow,
    spec: &DomainSpec,
    plan: &PvPlan<'_>,
    ramdisk: &[u8],
    observe: impl FnMut(Step, DomId),
) -> Result<Sealed<'x, H>, BuildError> {
    build(xen, window, spec, PlanRef::Pv(plan), ramdisk, observe)
}

/// The same for a PVH domain.
pub fn build_pvh<'x, H: RawHypercall>(
    xen: &'x Xen<H>,
    window: &mut impl FrameWindow,
    spec: &DomainSpec,
    plan: &PvhPlan<'_>,
    ramdisk: &[u8],
    observe: impl FnMut(Step, DomId),
) -> Result<Sealed<'x, H>, BuildError> {
    build(xen, window, spec, PlanRef::Pvh(plan), ramdisk, observe)
}

fn build<'x, H: RawHypercall>(
    xen: &'x Xen<H>,
    window: &mut impl FrameWindow,
    spec: &DomainSpec,
    plan: PlanRef<'_>,
    ramdisk: &[u8],
    mut observe: impl FnMut(Step, DomId),
) -> Result<Sealed<'x, H>, BuildError> {
    let mut construction = Construction::default();
    loop {
        match construction.step(xen, window, spec, plan, ramdisk)? {
            Progress::Within => {}
            Progress::Done(step, domid) => observe(step, domid),
            Progress::Complete(domain) => {
                observe(Step::Seal, domain.domid());
                return Ok(domain);
            }
        }
    }
}
