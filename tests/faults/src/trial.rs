//! What goes wrong in a run.

use std::fmt;

use protocols::MachineStatus;
use xen_abi::{Errno, PageCount};
use xen_sim::{Call, Effect, Fault, Machine, Release};

use crate::{Run, Scenario};

/// How often a call is refused that is refused again: more often than the builder tries. It is not for ever, because the builder
/// asks for ever how a VM is that it was once told of.
pub const OFTEN: usize = 20;

/// The call that destroys a domain.
pub(crate) const DESTROY: &str = "XEN_DOMCTL_destroydomain";

/// What goes wrong in a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trial {
    /// The call fails, once.
    Refused(Site, Errno),
    /// The call fails, and what it would have answered is rubbish.
    Scribbled(Site, Errno),
    /// The call fails, and so do the next ones of its name, [`OFTEN`] in all.
    Often(Site, Errno),
    /// The call does so many of the things it is asked for.
    Short(Site, usize),
    /// The same, and the next ones of its name do no more.
    OftenShort(Site, usize),
    /// The call fails, and so does the call that is made so many calls later.
    Twice(Site, usize, Errno),
    /// The call fails, and so does every later one of its name that is about the same domain.
    Always(Site, Errno),
    /// The call destroys a domain, and Xen never lets go of the last of it.
    Held(Site),
    /// So many pages can be had, and no more.
    Memory(u64),
}

/// A call of the whole run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// How many calls are made before it.
    pub index: usize,
    /// Its name in the public headers.
    pub name: &'static str,
    /// The domain it is about.
    pub domain: xen_abi::DomId,
}

impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(site, errno) => write!(f, "{site} fails with {errno:?}"),
            Self::Scribbled(site, errno) => write!(f, "{site} fails with {errno:?} and leaves rubbish"),
            Self::Often(site, errno) => write!(f, "{site} and the next ones of its name fail with {errno:?}"),
            Self::Short(site, done) => write!(f, "{site} does {done} of its work"),
            Self::OftenShort(site, done) => {
                write!(f, "{site} and the next ones of its name do {done} of their work")
            }
            Self::Twice(site, later, errno) => {
                write!(f, "{site} fails with {errno:?}, and so does the call {later} later")
            }
            Self::Always(site, errno) => write!(f, "{site} fails with {errno:?} from then on"),
            Self::Held(site) => write!(f, "{site} leaves a zombie"),
            Self::Memory(pages) => write!(f, "memory runs out after {pages} pages"),
        }
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "call {}, {} for domain {},", self.index, self.name, self.domain)
    }
}

impl Trial {
    /// The call that goes wrong first, if it is a call.
    pub fn site(&self) -> Option<&Site> {
        match self {
            Self::Refused(site, _)
            | Self::Scribbled(site, _)
            | Self::Often(site, _)
            | Self::Short(site, _)
            | Self::OftenShort(site, _)
            | Self::Twice(site, ..)
            | Self::Always(site, _)
            | Self::Held(site) => Some(site),
            Self::Memory(_) => None,
        }
    }

    /// What Xen answers at that call, if it refuses it.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Refused(_, errno)
            | Self::Scribbled(_, errno)
            | Self::Often(_, errno)
            | Self::Twice(_, _, errno)
            | Self::Always(_, errno) => Some(*errno),
            Self::Short(..) | Self::OftenShort(..) | Self::Held(_) | Self::Memory(_) => None,
        }
    }

    /// Lets it happen on `machine`.
    pub fn prepare(&self, machine: &Machine) {
        let later = |site: &Site| {
            let (index, name) = (site.index, site.name);
            move |at: &xen_sim::CallSite| at.index >= index && at.name == name
        };
        match self {
            Self::Refused(site, errno) => machine.inject(Fault::at(site.index, Effect::Fail(*errno))),
            Self::Scribbled(site, errno) => {
                machine.inject(Fault::at(site.index, Effect::FailAndScribble(*errno)));
            }
            Self::Often(site, errno) => {
                machine.inject(Fault::when(later(site), Effect::Fail(*errno)).times(OFTEN));
            }
            Self::Short(site, done) => machine.inject(Fault::at(site.index, Effect::Short(*done))),
            Self::OftenShort(site, done) => {
                machine.inject(Fault::when(later(site), Effect::Short(*done)).times(OFTEN));
            }
            Self::Twice(site, after, errno) => {
                machine.inject(Fault::at(site.index, Effect::Fail(*errno)));
                machine.inject(Fault::at(site.index + after, Effect::Fail(*errno)));
            }
            Self::Always(site, errno) => {
                let (later, domain) = (later(site), site.domain);
                let about = move |at: &xen_sim::CallSite| later(at) && at.domain == domain;
                machine.inject(Fault::when(about, Effect::Fail(*errno)));
            }
            Self::Held(site) => machine.inject(Fault::at(site.index, Effect::Hold)),
            Self::Memory(pages) => machine.run_out_of_memory_after(Some(PageCount::new(*pages))),
        }
    }
}

/// Error numbers that the calls of a builder are refused with by one release or another.
const PLAUSIBLE: &[Errno] = &[
    Errno::EPERM,
    Errno::ENOENT,
    Errno::ESRCH,
    Errno::E2BIG,
    Errno::EAGAIN,
    Errno::ENOMEM,
    Errno::EACCES,
    Errno::EFAULT,
    Errno::EBUSY,
    Errno::EEXIST,
    Errno::EINVAL,
    Errno::ENOSPC,
    Errno::ENOSYS,
    Errno::ENODATA,
    Errno::ERESTART,
    Errno::EOPNOTSUPP,
];

/// Which trials there are of a run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The error numbers.
    pub errnos: &'static [Errno],
    /// Up to how many calls behind the first one a second one fails.
    pub twice: usize,
    /// Each so many pages are the last.
    pub memory_step: usize,
    /// Each so many things are the last that a call does.
    pub short_step: usize,
}

impl Plan {
    /// Everything, for one release.
    pub const DEEP: Self = Self { errnos: Errno::ALL, twice: 40, memory_step: 1, short_step: 1 };
    /// What one release can do differently from the next: the error numbers that Xen's own code gives to calls of these kinds.
    pub const WIDE: Self = Self { errnos: PLAUSIBLE, twice: 4, memory_step: 1, short_step: 1 };
    /// Some of it, for a test that is run often.
    pub const SLICE: Self = Self { errnos: &[Errno::ENOMEM], twice: 1, memory_step: 997, short_step: 61 };

    /// The plan for `release` in a whole sweep.
    pub fn of(release: Release) -> Self {
        if release == Release::V4_17 { Self::DEEP } else { Self::WIDE }
    }

    /// Launches a platform without faults, and checks that it is a success that leaves nothing.
    pub fn whole(scenario: &Scenario, release: Release) -> Result<Run, String> {
        let machine = scenario.machine(release);
        let run = scenario.launch(&machine)?;
        if run.status != Ok(MachineStatus::Success) || !run.left.is_empty() {
            return Err(format!("it ends with {:?} and leaves {:?}", run.status, run.left));
        }
        Ok(run)
    }

    /// The trials of a platform whose run without faults was `whole`.
    pub fn trials(&self, whole: &Run) -> Vec<Trial> {
        // Once as many pages can be had as the VMs have, and a few hundred that Xen keeps about them, none is missing.
        let pages = whole.pages + 0x200;
        let mut trials: Vec<_> = (0..=pages).step_by(self.memory_step).map(Trial::Memory).collect();
        for call in whole.trace.calls() {
            let site = || Site { index: call.index, name: call.name, domain: call.domain };
            trials.extend(self.errnos.iter().map(|errno| Trial::Refused(site(), *errno)));
            trials.push(Trial::Scribbled(site(), Errno::EIO));
            trials.push(Trial::Often(site(), Errno::EIO));
            trials.extend((1..=self.twice).map(|later| Trial::Twice(site(), later, Errno::EIO)));
            trials.extend(lies(call).iter().map(|errno| Trial::Always(site(), *errno)));
            if call.name == DESTROY {
                trials.push(Trial::Held(site()));
            }
            for done in (0..work(call)).step_by(self.short_step) {
                trials.push(Trial::Short(site(), done));
                trials.push(Trial::OftenShort(site(), done));
            }
        }
        trials
    }
}

/// What Xen can answer for ever to a call about a VM without its being true: that it is to be made again, that there is no such domain.
fn lies(call: &Call) -> &'static [Errno] {
    match call.name {
        DESTROY => &[Errno::EAGAIN, Errno::ERESTART],
        "XEN_DOMCTL_getdomaininfo" if call.domain != xen_abi::DomId::DOM0 => &[Errno::ESRCH],
        _ => &[],
    }
}

/// How many things a call is asked to do, if it can do fewer.
fn work(call: &Call) -> usize {
    let count = call.numbers.iter().find(|(name, _)| ["extents", "updates", "ops", "frames"].contains(name));
    count.map_or(0, |(_, count)| usize::try_from(*count).unwrap_or(usize::MAX))
}
