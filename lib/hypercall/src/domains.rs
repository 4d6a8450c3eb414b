//! Which domains there are.

use alloc::vec;
use alloc::vec::Vec;

use xen_abi::DomId;
use xen_abi::number::HypercallNumber;
use xen_abi::sysctl::{DomainInfoList, Sysctl, XEN_SYSCTL_GETDOMAININFOLIST};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::calls::{address_mut, call_name};
use crate::{CallError, RawHypercall, Xen};

/// Domains that are asked for in one call.
const PIECE: usize = 32;

impl<H: RawHypercall> Xen<H> {
    /// All domains that Xen knows, those that it is destroying among them, by identifier. `None` when this Xen speaks no sysctl
    /// interface that is known here.
    pub fn domains(&self) -> Result<Option<Vec<DomId>>, CallError> {
        let Some(version) = self.interface().sysctl else { return Ok(None) };
        let entry = self.interface().domctl.domain_info_size();
        let mut buffer = vec![0_u8; PIECE * entry];
        let mut domains: Vec<DomId> = Vec::new();
        let mut from = DomId::new(0);
        loop {
            let request = DomainInfoList {
                first_domain: from.raw(),
                max_domains: u32::try_from(PIECE).unwrap_or(0),
                buffer: address_mut(buffer.as_mut_slice()),
                ..DomainInfoList::default()
            };
            let mut call = Sysctl::new_zeroed();
            call.cmd = XEN_SYSCTL_GETDOMAININFOLIST;
            call.interface_version = version.raw();
            // The payload is longer than any request.
            let _ = request.write_to_prefix(&mut call.payload);
            let name = call_name(HypercallNumber::SYSCTL, XEN_SYSCTL_GETDOMAININFOLIST);
            let args = [address_mut(&mut call), 0, 0, 0, 0];
            // SAFETY: a sysctl takes the address of one `Sysctl`, and this one the address of a buffer, which has room for
            // as many entries of this version's size as the request says.
            unsafe { self.call(HypercallNumber::SYSCTL, args, name, DomId::SELF) }?;
            let filled =
                DomainInfoList::read_from_prefix(&call.payload).map_or(0, |(answer, _)| answer.num_domains);
            let filled = usize::try_from(filled).unwrap_or(PIECE).min(PIECE);
            // The identifier is what an entry begins with.
            let ids = buffer.chunks_exact(entry).take(filled).filter_map(|entry| entry.first_chunk::<2>());
            domains.extend(ids.map(|id| DomId::new(u16::from_le_bytes(*id))));
            let next = domains.last().and_then(|last| last.raw().checked_add(1)).map(DomId::new);
            match next {
                // A list that does not go on would be asked for without end.
                Some(next) if filled == PIECE && next > from => from = next,
                _ => return Ok(Some(domains)),
            }
        }
    }
}
