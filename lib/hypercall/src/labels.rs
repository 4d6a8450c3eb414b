//! Typed calls about security labels, which a Xen with FLASK gives every domain.

use xen_abi::flask::{
    FLASK_CONTEXT_TO_SID, FLASK_GETENFORCE, FLASK_RELABEL_DOMAIN, FlaskOp, Relabel, SidContext, domu_sid,
    name,
};
use xen_abi::number::HypercallNumber;
use xen_abi::{DomId, Errno};
use zerocopy::FromBytes;

use crate::calls::{address, address_mut};
use crate::{CallError, Interface, ProbeError, RawHypercall, Xen};

/// What a Xen with FLASK does about its policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enforcement {
    /// It refuses what the policy does not allow.
    Enforced,
    /// It allows everything, and logs what the policy would not.
    Permissive,
}

impl Interface {
    /// Asks whether there is FLASK. ENOSYS says no: a Xen that has it answers this to every domain. Another error says nothing, and a domain
    /// without a label must not be created where domains have labels.
    pub(crate) fn probe_labels(raw: &impl RawHypercall) -> Result<Option<Enforcement>, ProbeError> {
        let mut op = FlaskOp::new(FLASK_GETENFORCE, &[0_u8; 0]);
        // SAFETY: takes the address of one `FlaskOp`, which lives on this stack; this operation has no argument.
        match unsafe { raw.hypercall(HypercallNumber::XSM_OP, [address_mut(&mut op), 0, 0, 0, 0]) } {
            0 => Ok(Some(Enforcement::Permissive)),
            1 => Ok(Some(Enforcement::Enforced)),
            result => match Errno::from_result(result) {
                Some(Errno::ENOSYS) => Ok(None),
                errno => Err(ProbeError::Labels { errno: errno.unwrap_or(Errno::ERANGE) }),
            },
        }
    }

    /// The number of the label of domains that nobody gave one: what Xen's own tools give them, 0 without FLASK.
    pub fn default_label(&self) -> u32 {
        if self.labels.is_some() { domu_sid(self.xen.major, self.xen.minor) } else { 0 }
    }
}

impl<H: RawHypercall> Xen<H> {
    /// Makes an operation on labels; OUT fields are in `op` afterwards.
    ///
    /// # Safety
    ///
    /// Addresses in the payload keep the contract of [`RawHypercall::hypercall`].
    unsafe fn flask_op(&self, op: &mut FlaskOp, domain: DomId) -> Result<(), CallError> {
        let name = name(op.cmd);
        let args = [address_mut(op), 0, 0, 0, 0];
        // SAFETY: takes the address of one `FlaskOp`, valid for reads and writes for the length of the call; the caller answers
        // for its payload.
        unsafe { self.call(HypercallNumber::XSM_OP, args, name, domain) }.map(|_| ())
    }

    /// The number of the label `text`, such as `system_u:system_r:domU_t`, at most a page long.
    ///
    /// EINVAL when the policy has no such label, ENOSYS when this Xen has no labels.
    pub fn label_number(&self, text: &str) -> Result<u32, CallError> {
        let refused = |errno| CallError { call: name(FLASK_CONTEXT_TO_SID), domain: DomId::SELF, errno };
        let size = u32::try_from(text.len()).map_err(|_| refused(Errno::E2BIG))?;
        let argument = SidContext { sid: 0, size, context: address(text) };
        let mut op = FlaskOp::new(FLASK_CONTEXT_TO_SID, &argument);
        // SAFETY: the one address in the payload is that of `size` bytes, which Xen only reads.
        unsafe { self.flask_op(&mut op, DomId::SELF) }?;
        SidContext::read_from_prefix(&op.payload)
            .map(|(answer, _)| answer.sid)
            .map_err(|_| refused(Errno::EINVAL))
    }

    /// Gives `domain` another label, by its number.
    pub fn relabel(&self, domain: DomId, label: u32) -> Result<(), CallError> {
        let argument = Relabel { domid: u32::from(domain.raw()), sid: label };
        // SAFETY: the payload holds no address.
        unsafe { self.flask_op(&mut FlaskOp::new(FLASK_RELABEL_DOMAIN, &argument), domain) }
    }
}
