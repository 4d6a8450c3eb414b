//! Finding out which Xen this is.
//!
//! The control interfaces carry a version number in each call and refuse any other than their own. There is no call that
//! tells the number, so a harmless one is tried with each version known here.

use core::fmt;

use thiserror::Error;
use xen_abi::domctl::{Command, Domctl, DomctlVersion};
use xen_abi::number::HypercallNumber;
use xen_abi::sysctl::{Sysctl, SysctlVersion, XEN_SYSCTL_PHYSINFO};
use xen_abi::version::XENVER_VERSION;
use xen_abi::{DomId, Errno};

use crate::calls::address_mut;
use crate::{Enforcement, RawHypercall};

/// The release of a Xen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct XenVersion {
    /// As the 4 in 4.17.
    pub major: u16,
    /// As the 17 in 4.17.
    pub minor: u16,
}

impl fmt::Display for XenVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// What was found out about the Xen underneath.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its release.
    pub xen: XenVersion,
    /// The domctl interface it speaks.
    pub domctl: DomctlVersion,
    /// The sysctl interface it speaks; `None` if it speaks none that is known here, which costs only statistics.
    pub sysctl: Option<SysctlVersion>,
    /// What it does about its security policy; `None` without FLASK: then domains have no labels.
    pub labels: Option<Enforcement>,
}

/// Why the calling domain cannot build others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ProbeError {
    /// Xen did not tell its version: not the result of a real Xen.
    #[error("xen_version: {0}; this does not look like Xen")]
    Version(Errno),
    /// Every known version of the interface was refused.
    #[error(
        "Xen {xen} refused every domctl interface version from {} to {} with EACCES: either this Xen is older or newer than \
         the ones this builder knows (4.14 to 4.23), or its security policy (FLASK) denies this domain the right to control others",
        DomctlVersion::OLDEST,
        DomctlVersion::NEWEST
    )]
    NoDomctlVersion {
        /// The release that was found.
        xen: XenVersion,
    },
    /// Xen did not say whether domains have security labels.
    #[error(
        "FLASK_GETENFORCE: {errno}; a Xen without security labels (FLASK) answers ENOSYS and one with them how it enforces its policy: \
         this one is in doubt, and no VM is built without the label that it might need"
    )]
    Labels {
        /// What Xen answered.
        errno: Errno,
    },
    /// The calling domain may not control others.
    #[error(
        "XEN_DOMCTL_getdomaininfo: {errno}; this domain may not control others: start it as Dom0, \
         or label it as a domain builder on a Xen with FLASK"
    )]
    NotPrivileged {
        /// What Xen answered.
        errno: Errno,
    },
}

impl Interface {
    /// Asks the Xen behind `raw` for its release and the versions of its control interfaces.
    pub(crate) fn probe(raw: &impl RawHypercall) -> Result<Self, ProbeError> {
        let xen = Self::probe_xen(raw)?;
        let domctl = Self::probe_domctl(raw, xen, DomId::SELF)?;
        Ok(Self { xen, domctl, sysctl: Self::probe_sysctl(raw), labels: Self::probe_labels(raw)? })
    }

    /// The same of what a domain needs to know that may ask about others and no more. From Xen 4.22 on it is told EPERM of a domain that is
    /// not found, so that it asks about one that there is.
    pub(crate) fn probe_to_ask(raw: &impl RawHypercall) -> Result<Self, ProbeError> {
        let xen = Self::probe_xen(raw)?;
        let domctl = Self::probe_domctl(raw, xen, DomId::DOM0)?;
        Ok(Self { xen, domctl, sysctl: None, labels: None })
    }

    /// Asks the Xen behind `raw` for its release only.
    pub(crate) fn unprivileged(raw: &impl RawHypercall) -> Result<Self, ProbeError> {
        Ok(Self { xen: Self::probe_xen(raw)?, domctl: DomctlVersion::NEWEST, sysctl: None, labels: None })
    }

    fn probe_xen(raw: &impl RawHypercall) -> Result<XenVersion, ProbeError> {
        // SAFETY: XENVER_version takes no address and changes nothing.
        let result =
            unsafe { raw.hypercall(HypercallNumber::XEN_VERSION, [u64::from(XENVER_VERSION), 0, 0, 0, 0]) };
        let version = u32::try_from(result)
            .map_err(|_| ProbeError::Version(Errno::from_result(result).unwrap_or(Errno::ERANGE)))?;
        let [minor_low, minor_high, major_low, major_high] = version.to_le_bytes();
        Ok(XenVersion {
            major: u16::from_le_bytes([major_low, major_high]),
            minor: u16::from_le_bytes([minor_low, minor_high]),
        })
    }

    /// The version of the control interface in which Xen answers about the domain `known`.
    fn probe_domctl(
        raw: &impl RawHypercall,
        xen: XenVersion,
        known: DomId,
    ) -> Result<DomctlVersion, ProbeError> {
        for version in DomctlVersion::known() {
            let mut call = Domctl::new(Command::GETDOMAININFO, version, known);
            // SAFETY: a domctl takes the address of one `Domctl`, which lives on this stack; getdomaininfo only fills it.
            let result =
                unsafe { raw.hypercall(HypercallNumber::DOMCTL, [address_mut(&mut call), 0, 0, 0, 0]) };
            match Errno::from_result(result) {
                // The version was right. No release takes DOMID_SELF here: older ones call it invalid, newer ones do not find it.
                None | Some(Errno::EINVAL | Errno::ESRCH) => return Ok(version),
                Some(Errno::EACCES) => {}
                Some(errno) => return Err(ProbeError::NotPrivileged { errno }),
            }
        }
        Err(ProbeError::NoDomctlVersion { xen })
    }

    fn probe_sysctl(raw: &impl RawHypercall) -> Option<SysctlVersion> {
        SysctlVersion::known().find(|version| {
            let mut call =
                Sysctl { cmd: XEN_SYSCTL_PHYSINFO, interface_version: version.raw(), payload: [0; 128] };
            // SAFETY: a sysctl takes the address of one `Sysctl`, which lives on this stack; physinfo only fills it.
            let result =
                unsafe { raw.hypercall(HypercallNumber::SYSCTL, [address_mut(&mut call), 0, 0, 0, 0]) };
            result == 0
        })
    }
}
