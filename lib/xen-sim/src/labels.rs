//! Security labels, on a machine whose Xen has FLASK: the part of Xen's example policy that building domains depends on.

use xen_abi::flask::{
    FLASK_CONTEXT_TO_SID, FLASK_GETENFORCE, FLASK_INTERFACE_VERSION, FLASK_RELABEL_DOMAIN, FlaskOp, Relabel,
    SidContext, domu_sid,
};
use xen_abi::{DomId, Errno};
use zerocopy::{FromBytes, IntoBytes};

use crate::hypervisor::Outcome;
use crate::release::Release;
use crate::state::State;

/// The longest text of a label: a page.
const MAX_TEXT: u32 = 4096;
/// The number of the first label that is not one of Xen's initial ones. Numbers are given when they are asked for; here they
/// stand beforehand.
const FIRST_OF_POLICY: u32 = 30;

/// The label of a domain that was created without one.
const UNLABELED: &str = "system_u:system_r:unlabeled_t";

/// Labels that are numbered from [`FIRST_OF_POLICY`] on, and what Dom0 may do with them.
const LABELS: &[(&str, Rights)] = &[
    ("system_u:system_r:isolated_domU_t", Rights::CREATE),
    ("system_u:system_r:nomigrate_t_building", Rights::CREATE_AND_LEAVE),
    ("system_u:system_r:nomigrate_t", Rights::ENTER),
    ("system_u:system_r:xen_t", Rights::NONE),
];
/// The label that Xen's tools give domains.
const DOMU: (&str, Rights) = ("system_u:system_r:domU_t", Rights::CREATE);

/// What Dom0 may do with a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rights {
    /// Create a domain with it.
    create: bool,
    /// Give a domain that has it another one.
    leave: bool,
    /// Give it to a domain that had another one.
    enter: bool,
}

impl Rights {
    const NONE: Self = Self { create: false, leave: false, enter: false };
    const CREATE: Self = Self { create: true, ..Self::NONE };
    const CREATE_AND_LEAVE: Self = Self { create: true, leave: true, enter: false };
    const ENTER: Self = Self { enter: true, ..Self::NONE };
}

/// The text and the rights of the label of that number.
fn label(release: Release, sid: u32) -> (&'static str, Rights) {
    let version = release.version();
    if sid == domu_sid(version.major, version.minor) {
        return DOMU;
    }
    let index = sid.checked_sub(FIRST_OF_POLICY).map(|index| index as usize);
    index.and_then(|index| LABELS.get(index)).copied().unwrap_or((UNLABELED, Rights::NONE))
}

/// The number of a label.
fn number(release: Release, text: &[u8]) -> Option<u32> {
    let version = release.version();
    if text == DOMU.0.as_bytes() {
        return Some(domu_sid(version.major, version.minor));
    }
    let index = LABELS.iter().position(|(known, _)| known.as_bytes() == text)?;
    Some(FIRST_OF_POLICY + u32::try_from(index).ok()?)
}

impl State {
    /// Whether Dom0 may do something that needs `right` of the label `sid`. A Xen without FLASK, or that only logs, allows all.
    fn allows(&self, sid: u32, right: fn(Rights) -> bool) -> Result<(), Errno> {
        let enforced = self.flask == Some(true);
        if enforced && !right(label(self.release, sid).1) { Err(Errno::EACCES) } else { Ok(()) }
    }

    /// Whether a domain with the label `sid` may be created.
    pub(crate) fn allows_creation(&self, sid: u32) -> Result<(), Errno> {
        self.allows(sid, |rights| rights.create)
    }

    /// The text of the label of a domain; `None` without FLASK.
    pub(crate) fn label_text(&self, sid: u32) -> Option<&'static str> {
        self.flask.map(|_| label(self.release, sid).0)
    }

    /// `xsm_op`; `text` is what a label's number is asked for.
    pub(crate) fn flask_op(&mut self, caller: DomId, op: &mut FlaskOp, text: &[u8]) -> Outcome {
        let Some(enforced) = self.flask else { return Err(Errno::ENOSYS) };
        if op.interface_version != FLASK_INTERFACE_VERSION {
            return Err(Errno::ENOSYS);
        }
        if op.cmd == FLASK_GETENFORCE {
            return Ok(i64::from(enforced));
        }
        if !self.is_privileged(caller) {
            return Err(Errno::EACCES);
        }
        match op.cmd {
            FLASK_CONTEXT_TO_SID => {
                let mut argument = SidContext::read_from_prefix(&op.payload).map_err(|_| Errno::EINVAL)?.0;
                if argument.size > MAX_TEXT {
                    return Err(Errno::ENOBUFS);
                }
                argument.sid = number(self.release, text).ok_or(Errno::EINVAL)?;
                op.payload[..size_of::<SidContext>()].copy_from_slice(argument.as_bytes());
                Ok(0)
            }
            FLASK_RELABEL_DOMAIN => {
                let argument = Relabel::read_from_prefix(&op.payload).map_err(|_| Errno::EINVAL)?.0;
                let domid = u16::try_from(argument.domid).map(DomId::new).map_err(|_| Errno::ESRCH)?;
                let old = self.domain(domid)?.label;
                self.allows(old, |rights| rights.leave)?;
                self.allows(argument.sid, |rights| rights.enter)?;
                self.domain(domid)?.label = argument.sid;
                Ok(0)
            }
            _ => Err(Errno::ENOSYS),
        }
    }
}
