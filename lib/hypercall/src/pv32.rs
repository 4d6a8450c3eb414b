//! 32-bit PV domains: whether there can be any, and the calls that are different for them.

use alloc::boxed::Box;
use core::fmt;

use xen_abi::domctl::{Command, Domctl, VcpuContextArgument};
use xen_abi::number::HypercallNumber;
use xen_abi::pv32::{AddressSizeArgument, VcpuGuestContext32};
use xen_abi::vcpu::VcpuGuestContext;
use xen_abi::version::{CAPABILITIES_LEN, XENVER_CAPABILITIES};
use xen_abi::{DomId, VcpuId};
use zerocopy::IntoBytes;

use crate::calls::{address, address_mut};
use crate::{CallError, RawHypercall, Xen};

/// The kinds of guests that a Xen runs, by what it says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GuestKinds {
    /// 64-bit PV guests.
    pub pv64: bool,
    /// 32-bit PV guests with PAE.
    pub pv32: bool,
    /// Hardware-assisted guests, PVH among them.
    pub hvm: bool,
}

impl GuestKinds {
    /// Reads Xen's text: names like xen-3.0-x86_64 with spaces between them, up to a NUL.
    fn parse(text: &[u8]) -> Self {
        let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
        let has = |start: &[u8], end: &[u8]| {
            text.split(|byte| *byte == b' ').any(|word| word.starts_with(start) && word.ends_with(end))
        };
        Self {
            pv64: has(b"xen-", b"-x86_64"),
            pv32: has(b"xen-", b"-x86_32p"),
            hvm: has(b"hvm-", b"-x86_64"),
        }
    }
}

impl fmt::Display for GuestKinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [(self.pv64, "64-bit PV"), (self.pv32, "32-bit PV"), (self.hvm, "PVH")];
        let mut found = names.into_iter().filter_map(|(has, name)| has.then_some(name));
        f.write_str(found.next().unwrap_or("no guests that are known here"))?;
        found.try_for_each(|name| write!(f, ", {name}"))
    }
}

impl<H: RawHypercall> Xen<H> {
    /// The kinds of guests that this Xen runs.
    pub fn guest_kinds(&self) -> Result<GuestKinds, CallError> {
        let mut buffer = Box::new([0_u8; CAPABILITIES_LEN]);
        let args = [u64::from(XENVER_CAPABILITIES), address_mut(&mut *buffer), 0, 0, 0];
        // SAFETY: XENVER_capabilities fills 1024 bytes, as many as the buffer has.
        unsafe { self.call(HypercallNumber::XEN_VERSION, args, "XENVER_capabilities", DomId::SELF) }?;
        Ok(GuestKinds::parse(&*buffer))
    }

    /// Makes a PV domain that has no memory yet a 32-bit one.
    pub fn make_32_bit(&self, domain: DomId) -> Result<(), CallError> {
        self.set(Command::SET_ADDRESS_SIZE, domain, &AddressSizeArgument { size: 32 })
    }

    /// Sets what a vCPU of a 32-bit domain starts with.
    pub fn set_vcpu_context_32(
        &self,
        domain: DomId,
        vcpu: VcpuId,
        context: &VcpuGuestContext32,
    ) -> Result<(), CallError> {
        // For a domain that is no 32-bit one Xen would read a larger structure: there is one.
        let mut room = Box::new(VcpuGuestContext::zeroed());
        if let Some(place) = room.as_mut_bytes().get_mut(..size_of::<VcpuGuestContext32>()) {
            place.copy_from_slice(context.as_bytes());
        }
        let mut call = Domctl::new(Command::SETVCPUCONTEXT, self.interface().domctl, domain)
            .with(&VcpuContextArgument::new(vcpu, address(&*room)));
        // SAFETY: the one address in the payload is that of `room`, which Xen only reads, and which holds the larger of the structures
        // that it may read.
        unsafe { self.domctl(&mut call) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn kinds_are_found_in_xens_own_text() {
        let stock = b"xen-3.0-x86_64 hvm-3.0-x86_32 hvm-3.0-x86_32p hvm-3.0-x86_64 \0\0";
        assert_eq!(GuestKinds::parse(stock), GuestKinds { pv64: true, pv32: false, hvm: true });
        assert_eq!(GuestKinds::parse(stock).to_string(), "64-bit PV, PVH");
        let with = b"xen-3.0-x86_64 xen-3.0-x86_32p \0 hvm-3.0-x86_64";
        assert_eq!(GuestKinds::parse(with), GuestKinds { pv64: true, pv32: true, hvm: false });
        assert_eq!(GuestKinds::parse(b"\0").to_string(), "no guests that are known here");
    }
}
