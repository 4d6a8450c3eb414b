//! The first entries of a new domain's table.

use hypercall::FrameWindow;
use xen_abi::grant_table::{ENTRIES_PER_FRAME, GrantEntryV1};
use xen_abi::{DomId, GrantRef, Mfn};
use zerocopy::IntoBytes;

use crate::{Access, GrantError};

/// An entry for a domain that has not started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed {
    /// Which entry: [`RESERVED_CONSOLE`](xen_abi::grant_table::RESERVED_CONSOLE) or
    /// [`RESERVED_XENSTORE`](xen_abi::grant_table::RESERVED_XENSTORE), or another in the table's first frame.
    pub reference: GrantRef,
    /// The frame that is granted (the MFN, in a PV domain).
    pub frame: Mfn,
    /// The domain that may map it, for reading and writing.
    pub peer: DomId,
}

/// Writes `seeds` into `table`, the first frame of the grant table of `domain`, which must not have started.
pub fn seed<W: FrameWindow>(
    window: &mut W,
    domain: DomId,
    table: Mfn,
    seeds: &[Seed],
) -> Result<(), GrantError> {
    window.with_frames(domain, &[table], |bytes| {
        for seed in seeds {
            write(bytes, *seed)?;
        }
        Ok(())
    })?
}

fn write(table: &mut [u8], seed: Seed) -> Result<(), GrantError> {
    let frame =
        u32::try_from(seed.frame.raw()).map_err(|_| GrantError::FrameTooHigh { frame: seed.frame })?;
    if seed.reference.raw() >= ENTRIES_PER_FRAME {
        return Err(GrantError::NoEntry { reference: seed.reference, entries: ENTRIES_PER_FRAME });
    }
    let entry = GrantEntryV1 { flags: Access::ReadWrite.flags().bits(), domid: seed.peer.raw(), frame };
    let start = seed.reference.raw() as usize * size_of::<GrantEntryV1>();
    for (to, from) in table.iter_mut().skip(start).zip(entry.as_bytes()) {
        *to = *from;
    }
    Ok(())
}
