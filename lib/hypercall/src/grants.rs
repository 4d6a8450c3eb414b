//! Typed calls about grant tables: the caller's own, and frames that others have granted.

use alloc::vec;
use alloc::vec::Vec;

use xen_abi::grant_table::{self, MapGrantRef, SetVersion, SetupTable, UnmapGrantRef};
use xen_abi::number::HypercallNumber;
use xen_abi::{DomId, Errno, Mfn};

use crate::calls::address_mut;
use crate::{CallError, RawHypercall, Xen};

impl<H: RawHypercall> Xen<H> {
    /// Grows the calling domain's own grant table to `frames` frames, if it has fewer, and gives its first `frames` frames.
    pub fn set_up_grant_table(&self, frames: u32) -> Result<Vec<Mfn>, CallError> {
        const NAME: &str = "GNTTABOP_setup_table";
        let mut list = vec![0_u64; frames as usize];
        let mut argument = SetupTable {
            dom: DomId::SELF.raw(),
            nr_frames: frames,
            frame_list: address_mut(list.as_mut_slice()),
            ..SetupTable::default()
        };
        let args = [u64::from(grant_table::GNTTABOP_SETUP_TABLE), address_mut(&mut argument), 1, 0, 0];
        // SAFETY: one `SetupTable`, as the count says, whose list has as many entries as it says.
        unsafe { self.call(HypercallNumber::GRANT_TABLE_OP, args, NAME, DomId::SELF) }?;
        match argument.status {
            0 => Ok(list.into_iter().map(Mfn::new).collect()),
            // The one reason for which a domain is refused its own table: it may not have so many frames.
            _ => Err(CallError { call: NAME, domain: DomId::SELF, errno: Errno::ENOSPC }),
        }
    }

    /// Changes the version of the calling domain's grant table, in which nothing may be granted; ENOSYS if it may not have that one.
    ///
    /// Everything else here reads and writes entries of version 1.
    pub fn set_grant_version(&self, version: u32) -> Result<(), CallError> {
        let mut argument = SetVersion { version };
        let args = [u64::from(grant_table::GNTTABOP_SET_VERSION), address_mut(&mut argument), 1, 0, 0];
        // SAFETY: one `SetVersion`, as the count says. Xen gives the table's frames another meaning; that is no memory of Rust's.
        unsafe { self.call(HypercallNumber::GRANT_TABLE_OP, args, "GNTTABOP_set_version", DomId::SELF) }
            .map(|_| ())
    }

    /// Maps granted frames.
    ///
    /// # Safety
    ///
    /// Each `host_addr` is an address that the caller keeps for this mapping and that Rust code holds no reference to.
    pub unsafe fn map_grants(&self, requests: &mut [MapGrantRef]) -> Result<(), CallError> {
        let args = [
            u64::from(grant_table::GNTTABOP_MAP_GRANT_REF),
            address_mut(requests),
            requests.len() as u64,
            0,
            0,
        ];
        let domain = requests.first().map_or(DomId::SELF, |first| DomId::new(first.dom));
        // SAFETY: the list has the length that is said; the caller answers for the addresses in it.
        unsafe { self.call(HypercallNumber::GRANT_TABLE_OP, args, "GNTTABOP_map_grant_ref", domain) }
            .map(|_| ())
    }

    /// Unmaps granted frames.
    ///
    /// # Safety
    ///
    /// Nothing refers to the mappings any more.
    pub unsafe fn unmap_grants(&self, requests: &mut [UnmapGrantRef]) -> Result<(), CallError> {
        let args = [
            u64::from(grant_table::GNTTABOP_UNMAP_GRANT_REF),
            address_mut(requests),
            requests.len() as u64,
            0,
            0,
        ];
        // SAFETY: the list has the length that is said; the caller answers for the addresses in it.
        unsafe { self.call(HypercallNumber::GRANT_TABLE_OP, args, "GNTTABOP_unmap_grant_ref", DomId::SELF) }
            .map(|_| ())
    }
}
