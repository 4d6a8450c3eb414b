//! All that Xen knows.

use std::collections::BTreeMap;

use xen_abi::sysctl::Capabilities;
use xen_abi::{DomId, Errno, Mfn};

use crate::DOM0;
use crate::domains::{Domain, Life};
use crate::faults::Faults;
use crate::frames::Frames;
use crate::grants::Maptrack;
use crate::release::Release;
use crate::scheduling::Cpus;
use crate::trace::Trace;

/// The state of the machine and its Xen.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) release: Release,
    pub(crate) frames: Frames,
    pub(crate) domains: BTreeMap<DomId, Domain>,
    /// The identifier that was chosen last.
    pub(crate) last_domid: u16,
    /// Identifiers of domains that were refused, which no domain gets any more.
    pub(crate) lost_domids: std::collections::BTreeSet<DomId>,
    /// Who handles global virtual interrupts that are not Dom0's.
    pub(crate) virq_handlers: BTreeMap<u32, DomId>,
    /// Grants that are mapped, by handle.
    pub(crate) maptrack: Maptrack,
    /// Frames that are mapped through windows, by who mapped them.
    pub(crate) windows: BTreeMap<Mfn, u32>,
    /// System time, nanoseconds.
    pub(crate) now: u64,
    /// What was written to Xen's console.
    pub(crate) console: Vec<u8>,
    /// What was typed there and not read yet.
    pub(crate) typed: Vec<u8>,
    /// What Xen itself has said, which its console ring keeps.
    pub(crate) said: Vec<u8>,
    pub(crate) faults: Faults,
    pub(crate) trace: Trace,
    /// Calls made since the machine was switched on.
    pub(crate) calls: usize,
    /// With which reason Dom0 shut the machine down.
    pub(crate) ended: Option<u8>,
    /// Whether Xen takes its time with freeing the last of a domain.
    pub(crate) lingers: bool,
    /// What Xen can do on this machine.
    pub(crate) capabilities: Capabilities,
    /// Whether Xen runs 32-bit PV domains.
    pub(crate) pv32: bool,
    /// Whether Xen enforces its security policy; `None` without FLASK.
    pub(crate) flask: Option<bool>,
    /// The machine's CPUs.
    pub(crate) cpus: Cpus,
    /// Domains that Xen does not answer for any more and has not freed yet, with what is left of them.
    pub(crate) lingering: Vec<Vec<Mfn>>,
    /// Free frames when the machine was switched on.
    pub(crate) free_at_start: u64,
}

impl State {
    /// Whether a domain controls others: only Dom0 does.
    #[expect(clippy::unused_self, reason = "a security policy would be part of the state")]
    pub(crate) fn is_privileged(&self, domain: DomId) -> bool {
        domain == DOM0
    }

    /// The domain of that identifier, dead or alive; ESRCH when there is none.
    pub(crate) fn domain(&mut self, domid: DomId) -> Result<&mut Domain, Errno> {
        self.domains.get_mut(&domid).ok_or(Errno::ESRCH)
    }

    /// The same, but EINVAL when it is being destroyed.
    pub(crate) fn living(&mut self, domid: DomId) -> Result<&mut Domain, Errno> {
        let domain = self.domain(domid)?;
        if domain.life == Life::Alive { Ok(domain) } else { Err(Errno::EINVAL) }
    }
}
