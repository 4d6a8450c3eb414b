//! What Xen has written to its console: the ring that `xl dmesg` shows.

use alloc::vec::Vec;

use xen_abi::DomId;
use xen_abi::number::HypercallNumber;
use xen_abi::sysctl::{ReadConsole, Sysctl, XEN_SYSCTL_READCONSOLE};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::calls::{address_mut, call_name};
use crate::{CallError, RawHypercall, Xen};

/// Bytes that are asked for in one call.
const PIECE: usize = 4096;

impl<H: RawHypercall> Xen<H> {
    /// What Xen has in its console ring, from the oldest byte on, at most `limit` bytes; the ring stays as it is. `None` when
    /// this Xen speaks no sysctl interface that is known here.
    ///
    /// Xen may write on meanwhile: the limit is what ends this then.
    pub fn console_ring(&self, limit: usize) -> Result<Option<Vec<u8>>, CallError> {
        let Some(version) = self.interface().sysctl else { return Ok(None) };
        let mut text = Vec::new();
        let mut from = None;
        while text.len() < limit {
            let mut piece = [0_u8; PIECE];
            let wanted = PIECE.min(limit - text.len());
            let request = ReadConsole {
                incremental: u8::from(from.is_some()),
                index: from.unwrap_or(0),
                buffer: address_mut(&mut piece),
                count: u32::try_from(wanted).unwrap_or(0),
                ..ReadConsole::default()
            };
            let mut call = Sysctl::new_zeroed();
            call.cmd = XEN_SYSCTL_READCONSOLE;
            call.interface_version = version.raw();
            // The payload is longer than any request.
            let _ = request.write_to_prefix(&mut call.payload);
            let name = call_name(HypercallNumber::SYSCTL, XEN_SYSCTL_READCONSOLE);
            let args = [address_mut(&mut call), 0, 0, 0, 0];
            // SAFETY: a sysctl takes the address of one `Sysctl`, and this one the address of a buffer, which has at least
            // as many bytes as the request says.
            unsafe { self.call(HypercallNumber::SYSCTL, args, name, DomId::SELF) }?;
            let Ok((answer, _)) = ReadConsole::read_from_prefix(&call.payload) else { break };
            let read = usize::try_from(answer.count).unwrap_or(wanted).min(wanted);
            if read == 0 {
                break;
            }
            text.extend_from_slice(piece.get(..read).unwrap_or_default());
            from = Some(answer.index);
        }
        Ok(Some(text))
    }
}
