//! Destroying domains, and knowing when they are gone.

use alloc::vec::Vec;
use core::fmt;

use xen_abi::domctl::{Command, DomainInfo, DomainState, Domctl};
use xen_abi::{DomId, Errno, PageCount};

use crate::{CallError, RawHypercall, Xen};

/// How often Xen may hand a destroy call back without having freed a page in between.
///
/// It does so when something else waits to be done, some of it every millisecond, and every call does some of the work: a second of
/// work on a domain that is not memory is far more than there is.
const HANDED_BACK: usize = 1000;

/// A domain that Xen did not destroy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leak {
    error: CallError,
    kept: Option<PageCount>,
}

impl<H: RawHypercall> Xen<H> {
    /// Destroys a domain. Xen works through its memory in this call, however long it takes.
    ///
    /// A release may give the work back in pieces, with EAGAIN or ERESTART: that is the error if it does so a thousand times and more
    /// without freeing a page.
    pub fn destroy_domain(&self, domain: DomId) -> Result<(), CallError> {
        let mut left = None;
        loop {
            let error = match self.try_to_destroy(domain) {
                Err(error @ CallError { errno: Errno::EAGAIN | Errno::ERESTART, .. }) => error,
                Err(error) => return Err(error),
                Ok(()) => break,
            };
            let pages = match self.find_domain(domain) {
                Ok(None) => break,
                Ok(Some(info)) => info.tot_pages,
                Err(_) => return Err(error),
            };
            if left.is_some_and(|left| pages >= left) {
                return Err(error);
            }
            left = Some(pages);
        }
        self.forget(domain);
        self.going.borrow_mut().push(domain);
        Ok(())
    }

    /// The same, and well if there is no such domain any more, since somebody else has destroyed it: what Xen does not know it is asked
    /// about again.
    pub fn clear_away(&self, domain: DomId) -> Result<(), CallError> {
        match self.destroy_domain(domain) {
            Err(error) if error.errno == Errno::ESRCH && matches!(self.find_domain(domain), Ok(None)) => {
                self.forget(domain);
                Ok(())
            }
            result => result,
        }
    }

    /// Enters nothing of a domain any more.
    pub(crate) fn forget(&self, domain: DomId) {
        self.going.borrow_mut().retain(|going| *going != domain);
        self.leaked.borrow_mut().retain(|error| error.domain != domain);
    }

    /// Makes a destroy call again while Xen hands it back, a limited number of times.
    fn try_to_destroy(&self, domain: DomId) -> Result<(), CallError> {
        let mut result = Ok(());
        for _ in 0..HANDED_BACK {
            result = self.set(Command::DESTROYDOMAIN, domain, &[0_u8; 0]);
            match result {
                Err(CallError { errno: Errno::EAGAIN | Errno::ERESTART, .. }) => {}
                result => return result,
            }
        }
        result
    }

    /// State of a domain; ESRCH when there is none of that identifier, but EPERM from Xen 4.22 on if the caller is the XenStore's domain,
    /// which may ask, and no more.
    pub fn domain_info(&self, domain: DomId) -> Result<DomainInfo, CallError> {
        let mut call = Domctl::new(Command::GETDOMAININFO, self.interface().domctl, domain);
        // SAFETY: the payload is OUT only and holds no address.
        unsafe { self.domctl(&mut call) }?;
        let info = DomainInfo::decode(&call.payload);
        // Some releases answer with the next domain that exists.
        if domain.is_ordinary() && info.domain != domain.raw() {
            return Err(CallError { call: Command::GETDOMAININFO.name(), domain, errno: Errno::ESRCH });
        }
        Ok(info)
    }

    /// The same for a caller who would let go of a domain that there is not: `None` only if Xen says so twice.
    pub fn find_domain(&self, domain: DomId) -> Result<Option<DomainInfo>, CallError> {
        let mut answer = self.domain_info(domain);
        if is_unknown(&answer) {
            answer = self.domain_info(domain);
        }
        if is_unknown(&answer) { Ok(None) } else { answer.map(Some) }
    }

    /// Whether nothing is left of a domain that was destroyed, or was to be.
    pub fn is_gone(&self, domain: DomId) -> bool {
        let gone = match self.find_domain(domain) {
            Ok(None) => true,
            // The identifier may have been given to a new domain; unless this is the one that Xen did not destroy.
            Ok(Some(info)) => !info.state().contains(DomainState::DYING) && self.leaked_by(domain).is_none(),
            Err(_) => false,
        };
        if gone {
            self.forget(domain);
        }
        gone
    }

    /// Domains that were destroyed through this value, and of which Xen still has something.
    pub fn going(&self) -> Vec<DomId> {
        let going = self.going.borrow().clone();
        going.into_iter().filter(|domain| !self.is_gone(*domain)).collect()
    }

    /// Memory of a domain, if Xen tells.
    pub fn kept_by(&self, domain: DomId) -> Option<PageCount> {
        let info = self.find_domain(domain).ok()??;
        Some(PageCount::new(info.tot_pages))
    }

    /// Notes that a domain stays which was to be destroyed, because of `error`; says what there is to tell of it.
    #[must_use]
    pub fn note_leak(&self, error: CallError) -> Leak {
        self.forget(error.domain);
        self.leaked.borrow_mut().push(error);
        Leak { error, kept: self.kept_by(error.domain) }
    }

    /// What there is to tell of a domain that was noted so and not seen to be gone since.
    pub fn leak_of(&self, domain: DomId) -> Option<Leak> {
        let error = self.leaked_by(domain)?;
        Some(Leak { error, kept: self.kept_by(domain) })
    }

    fn leaked_by(&self, domain: DomId) -> Option<CallError> {
        self.leaked.borrow().iter().copied().find(|error| error.domain == domain)
    }

    /// How many domains were noted so, and neither destroyed since nor seen to be gone. What they have is lost until then.
    pub fn leaked(&self) -> usize {
        self.leaked.borrow().len()
    }
}

/// Whether Xen says that there is no such domain.
fn is_unknown<T>(answer: &Result<T, CallError>) -> bool {
    matches!(answer, Err(CallError { errno: Errno::ESRCH, .. }))
}

impl fmt::Display for Leak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { error, kept } = self;
        write!(f, "{error}")?;
        kept.map_or(Ok(()), |pages| write!(f, "; Xen keeps {} KiB of it", pages.raw().saturating_mul(4)))
    }
}
