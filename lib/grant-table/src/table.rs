//! The granting side.

use alloc::collections::BTreeSet;

use hypercall::{OwnFrameWindow, RawHypercall, SharedMemory, Xen};
use xen_abi::grant_table::{GrantEntryV1, GrantFlags, RESERVED_ENTRIES};
use xen_abi::{DomId, GrantRef, Mfn, PAGE_SIZE};

use crate::GrantError;

/// Bytes of an entry.
const ENTRY: usize = size_of::<GrantEntryV1>();

/// What the peer may do with a granted frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read it.
    ReadOnly,
    /// Read and write it.
    ReadWrite,
}

impl Access {
    /// The flags of an entry that grants this.
    pub(crate) fn flags(self) -> GrantFlags {
        match self {
            Self::ReadOnly => GrantFlags::PERMIT_ACCESS | GrantFlags::READONLY,
            Self::ReadWrite => GrantFlags::PERMIT_ACCESS,
        }
    }
}

/// A page of the calling domain that may be granted.
///
/// # Safety
///
/// The page is at [`frame`](Self::frame) and stays set aside for this purpose for as long as the domain lives, also when the
/// value is dropped: who was granted it may have it mapped, and may write it at any moment. The domain's own code reaches it by
/// [`SharedMemory`] only, or not at all.
pub unsafe trait Shareable {
    /// The machine frame (of a PV domain).
    fn frame(&self) -> Mfn;
}

/// The calling domain's grant table.
#[derive(Debug)]
pub struct GrantTable<S> {
    memory: S,
    entries: u32,
    free: BTreeSet<u32>,
    /// Reserved entries that are in use.
    reserved: BTreeSet<u32>,
}

impl<S: SharedMemory> GrantTable<S> {
    /// Takes over the table in `memory`: whole frames of the table, from its first.
    ///
    /// The first eight entries are left to the toolstack; all others have to be unused.
    pub fn new(memory: S) -> Self {
        let entries = u32::try_from(memory.size() / ENTRY).unwrap_or(u32::MAX);
        Self { memory, entries, free: (RESERVED_ENTRIES..entries).collect(), reserved: BTreeSet::new() }
    }

    /// Gives the calling domain a table of `frames` frames, or the one it has, and maps it.
    pub fn open<H, W>(xen: &Xen<H>, window: &mut W, frames: u32) -> Result<Self, GrantError>
    where
        H: RawHypercall,
        W: OwnFrameWindow<Shared = S>,
    {
        let frames = xen.set_up_grant_table(frames)?;
        // SAFETY: Xen has just said that these frames are the grant table, which Xen allocates beside the domain's memory.
        Ok(Self::new(unsafe { window.map_own(&frames) }?))
    }

    /// Byte offset of an entry.
    fn offset(reference: GrantRef) -> usize {
        reference.raw() as usize * ENTRY
    }

    /// Lets `peer` map `page`.
    pub fn grant(
        &mut self,
        peer: DomId,
        page: &impl Shareable,
        access: Access,
    ) -> Result<GrantRef, GrantError> {
        let frame = page.frame();
        let frame32 = u32::try_from(frame.raw()).map_err(|_| GrantError::FrameTooHigh { frame })?;
        let full = GrantError::TableFull { entries: self.entries.saturating_sub(RESERVED_ENTRIES) };
        let reference = GrantRef::new(self.free.pop_first().ok_or(full)?);
        self.enter(reference, peer, frame32, access);
        Ok(reference)
    }

    /// The same by a reference that the toolstack set aside for this (one of the first eight), so that the peer knows it beforehand.
    pub fn grant_reserved(
        &mut self,
        reference: GrantRef,
        peer: DomId,
        page: &impl Shareable,
        access: Access,
    ) -> Result<(), GrantError> {
        let frame = page.frame();
        let frame32 = u32::try_from(frame.raw()).map_err(|_| GrantError::FrameTooHigh { frame })?;
        let number = reference.raw();
        if number >= RESERVED_ENTRIES.min(self.entries) || self.reserved.contains(&number) {
            return Err(GrantError::NotReserved { reference });
        }
        // An entry that the toolstack has filled itself is not overwritten.
        if self.memory.load_u32(Self::offset(reference)) != 0 {
            return Err(GrantError::NotReserved { reference });
        }
        self.reserved.insert(number);
        self.enter(reference, peer, frame32, access);
        Ok(())
    }

    /// Writes an entry that is not in use.
    fn enter(&self, reference: GrantRef, peer: DomId, frame: u32, access: Access) {
        let offset = Self::offset(reference);
        // The frame first. Flags and domain share a word whose store is not moved before it: Xen never sees an entry that is
        // valid and not complete.
        self.memory.store_u32(offset + 4, frame);
        self.memory.store_u32(offset, u32::from(access.flags().bits()) | u32::from(peer.raw()) << 16);
    }

    /// Whether the peer has the frame mapped now.
    pub fn is_mapped(&self, reference: GrantRef) -> bool {
        if reference.raw() >= self.entries {
            return false;
        }
        in_use(self.memory.load_u32(Self::offset(reference)))
    }

    /// Takes a grant back, so that it cannot be mapped any more; refused while the peer has it mapped.
    pub fn revoke(&mut self, reference: GrantRef) -> Result<(), GrantError> {
        let number = reference.raw();
        let is_granted = if number < RESERVED_ENTRIES {
            self.reserved.contains(&number)
        } else {
            number < self.entries && !self.free.contains(&number)
        };
        if !is_granted {
            return Err(GrantError::NotGranted { reference });
        }
        let offset = Self::offset(reference);
        loop {
            let word = self.memory.load_u32(offset);
            if in_use(word) {
                return Err(GrantError::InUse { reference });
            }
            // Xen sets the in-use bits with a compare-exchange too: exactly one of the two wins.
            if self.memory.compare_exchange_u32(offset, word, 0).is_ok() {
                break;
            }
        }
        if !self.reserved.remove(&number) {
            self.free.insert(number);
        }
        Ok(())
    }

    /// Frames that the table has.
    pub fn frames(&self) -> usize {
        self.memory.size() / PAGE_SIZE
    }
}

/// Whether the first word of an entry says that the frame is mapped.
fn in_use(word: u32) -> bool {
    let [low, high, _, _] = word.to_le_bytes();
    GrantFlags::from_bits_retain(u16::from_le_bytes([low, high]))
        .intersects(GrantFlags::READING | GrantFlags::WRITING)
}
