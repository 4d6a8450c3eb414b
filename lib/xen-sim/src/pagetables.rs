//! Page tables of PV domains: the rules under which Xen accepts frames as page tables.
//!
//! A frame becomes a page table of a level when something uses it as one: a pin, a vCPU's CR3, an entry of the level above.
//! It is then looked through entry by entry; what the entries name is used in turn: tables of the level below, or memory that
//! is mapped read-only or writable. As a frame can be used as one thing only, no page table is ever mapped writable.

use xen_abi::mmu::{PteFlags, TABLE_ENTRIES};
use xen_abi::{DomId, Errno, GuestVirt, Mfn};
use zerocopy::IntoBytes;

use crate::frames::{Frames, Use};

/// The level of a 32-bit domain's top table: it is one of level 3, of which only the first four entries count.
///
/// A number of its own, because what is a top table here is none in a 64-bit domain, and the other way round.
pub(crate) const ROOT_32: u8 = 32 + 3;
/// Entries of such a table.
const ROOT_32_SLOTS: usize = 4;
/// The entry that has to be there: Xen puts its own into the table of level 2 that it names.
const LAST_GIB: usize = 3;

/// Slots of a top-level table that Xen fills in itself.
const XEN_SLOTS: core::ops::RangeInclusive<usize> = 256..=271;

/// Bits that an entry of a 64-bit PV guest may have beside the frame: present, writable, user, accessed, dirty, the bits left
/// to software (9 to 11 and 52 to 61; Xen marks grant mappings with bit 62), and no-execute.
const ALLOWED: u64 = 0b1110_0110_0111 | (0x3ff << 52) | (1 << 63);
/// Bits that an entry of a level-1 table may have beside those: global.
const GLOBAL: u64 = 1 << 8;
/// Bits 12 to 51: the frame.
const FRAME: u64 = ((1 << 52) - 1) & !0xfff;

/// An entry as found in a page table.
#[derive(Clone, Copy)]
struct Entry(u64);

impl Entry {
    fn is_present(self) -> bool {
        self.0 & PteFlags::PRESENT.bits() != 0
    }

    fn is_writable(self) -> bool {
        self.0 & PteFlags::RW.bits() != 0
    }

    fn frame(self) -> Mfn {
        Mfn::new((self.0 & FRAME) >> 12)
    }

    /// Whether all its bits are allowed in a table of `level`.
    fn is_well_formed(self, level: u8) -> bool {
        let allowed = if level == 1 { ALLOWED | GLOBAL } else { ALLOWED };
        self.0 & !(FRAME | allowed) == 0
    }

    /// Whether it makes a table read-only part of the address space that the table describes, by naming the table itself:
    /// allowed above level 1, as what can be reached by it cannot be written.
    fn is_linear(self, table: Mfn, level: u8) -> bool {
        level > 1 && self.frame() == table && !self.is_writable()
    }

    /// As Xen rewrites it when it accepts it: PV kernels run in user mode, and top-level entries count as accessed.
    fn adjusted(self, level: u8) -> u64 {
        if !self.is_present() {
            return self.0;
        }
        let accessed = if level == 4 { PteFlags::ACCESSED.bits() } else { 0 };
        self.0 | PteFlags::USER.bits() | accessed
    }
}

impl Frames {
    /// Uses `mfn`, which `owner` has, as `usage` once more; takes a reference too.
    ///
    /// EINVAL, as from Xen: the frame is not the owner's, or it is in use as something else; or what an attempt to use it as a
    /// page table came across.
    pub(crate) fn use_as(&mut self, mfn: Mfn, owner: DomId, usage: Use) -> Result<(), Errno> {
        if !self.get_reference(mfn, owner) {
            return Err(Errno::EINVAL);
        }
        self.add_use(mfn, owner, usage).inspect_err(|_| self.put_reference(mfn))
    }

    fn add_use(&mut self, mfn: Mfn, owner: DomId, usage: Use) -> Result<(), Errno> {
        let frame = self.get_mut(mfn).ok_or(Errno::EINVAL)?;
        if frame.uses > 0 {
            if frame.usage != usage {
                return Err(Errno::EINVAL);
            }
            frame.uses += 1;
            return Ok(());
        }
        frame.usage = usage;
        frame.uses = 1;
        let Use::Table(level) = usage else { return Ok(()) };
        let accepted = self.accept_table(mfn, owner, level);
        if accepted.is_err()
            && let Some(frame) = self.get_mut(mfn)
        {
            frame.uses = 0;
            frame.usage = Use::Plain;
        }
        accepted
    }

    /// Ends one use, and the reference that came with it.
    pub(crate) fn end_use(&mut self, mfn: Mfn) {
        if let Some(frame) = self.get_mut(mfn) {
            frame.uses -= 1;
            if frame.uses == 0
                && let Use::Table(level) = frame.usage
            {
                frame.usage = Use::Plain;
                self.forget_table(mfn, level, TABLE_ENTRIES);
            }
        }
        self.put_reference(mfn);
    }

    /// The level at which the tables of an address space begin.
    fn top_level(&self, root: Mfn) -> u8 {
        match self.get(root).map(|frame| frame.usage) {
            Some(Use::Table(ROOT_32)) => ROOT_32,
            _ => 4,
        }
    }

    /// Goes through a table that is about to become one of `level`, and uses what its entries name.
    fn accept_table(&mut self, mfn: Mfn, owner: DomId, level: u8) -> Result<(), Errno> {
        let mut table = self.table(mfn);
        if level == ROOT_32 {
            if !Entry(table[LAST_GIB]).is_present() {
                return Err(Errno::EINVAL);
            }
            // A domain need not fill in more than it has; a processor in 64-bit mode sees all.
            table[ROOT_32_SLOTS..].fill(0);
        }
        for slot in guest_slots(level) {
            let entry = Entry(table[slot]);
            if let Err(errno) = self.enter(entry, owner, mfn, level) {
                self.forget_table(mfn, level, slot);
                return Err(errno);
            }
            table[slot] = entry.adjusted(level);
        }
        self.write_at(mfn, 0, table.as_bytes());
        Ok(())
    }

    /// Uses what one entry of the table `table` of `level` names.
    fn enter(&mut self, entry: Entry, owner: DomId, table: Mfn, level: u8) -> Result<(), Errno> {
        if !entry.is_present() {
            // An entry that is not present but names memory lets a processor with L1TF read that memory. Xen watches the
            // domain's page tables from then on, or ends the domain if it was built without the means, as those of the
            // distributions are. Here it is refused, which no test can miss.
            return if entry.0 & FRAME == 0 { Ok(()) } else { Err(Errno::EINVAL) };
        }
        if !entry.is_well_formed(level) {
            return Err(Errno::EINVAL);
        }
        let mfn = entry.frame();
        if entry.is_linear(table, level) {
            return if self.get_reference(mfn, owner) { Ok(()) } else { Err(Errno::EINVAL) };
        }
        if level > 1 {
            return self.use_as(mfn, owner, Use::Table(height(level) - 1));
        }
        match self.get(mfn) {
            // Not memory: devices, which only who was given them may map.
            None => Err(Errno::EPERM),
            Some(_) if entry.is_writable() => {
                self.use_as(mfn, owner, Use::Writable).map_err(|_| Errno::EBUSY)
            }
            Some(_) => self.get_reference(mfn, owner).then_some(()).ok_or(Errno::EBUSY),
        }
    }

    /// Ends what the entries before `end` use.
    fn forget_table(&mut self, mfn: Mfn, level: u8, end: usize) {
        let table = self.table(mfn);
        for slot in guest_slots(level).take_while(|slot| *slot < end) {
            self.leave(Entry(table[slot]), mfn, level);
        }
    }

    /// Ends what one entry uses.
    fn leave(&mut self, entry: Entry, table: Mfn, level: u8) {
        match entry {
            entry if !entry.is_present() => {}
            entry if entry.is_linear(table, level) => self.put_reference(entry.frame()),
            entry if level > 1 || entry.is_writable() => self.end_use(entry.frame()),
            entry => self.put_reference(entry.frame()),
        }
    }

    /// Changes an entry of a frame of `owner`, as `mmu_update` does: under the rules if the frame is a page table, as plain
    /// memory otherwise.
    pub(crate) fn update_entry(
        &mut self,
        mfn: Mfn,
        slot: usize,
        value: u64,
        owner: DomId,
    ) -> Result<(), Errno> {
        let frame = self.get(mfn).filter(|frame| frame.owner() == Some(owner)).ok_or(Errno::EINVAL)?;
        let new = Entry(value);
        let value = match (frame.usage, frame.uses) {
            (Use::Table(level), 1..) => {
                let is_last_gib = level == ROOT_32 && slot >= LAST_GIB;
                if level == 4 && XEN_SLOTS.contains(&slot) || is_last_gib {
                    return Err(Errno::EINVAL);
                }
                self.enter(new, owner, mfn, level)?;
                self.leave(Entry(self.table(mfn)[slot]), mfn, level);
                new.adjusted(level)
            }
            (Use::Plain | Use::Writable, _) | (_, 0) => value,
            (Use::Descriptors, _) => return Err(Errno::EINVAL),
        };
        self.write_at(mfn, slot * 8, value.as_bytes());
        Ok(())
    }

    /// Pins `mfn` as a table of `level`.
    pub(crate) fn pin(&mut self, mfn: Mfn, owner: DomId, level: u8) -> Result<(), Errno> {
        self.use_as(mfn, owner, Use::Table(level))?;
        match self.get_mut(mfn) {
            Some(frame) if !frame.pinned => {
                frame.pinned = true;
                Ok(())
            }
            _ => {
                self.end_use(mfn);
                Err(Errno::EINVAL)
            }
        }
    }

    /// Takes a pin back.
    pub(crate) fn unpin(&mut self, mfn: Mfn, owner: DomId) -> Result<(), Errno> {
        match self.get_mut(mfn) {
            Some(frame) if frame.holder == crate::frames::Holder::Domain(owner) && frame.pinned => {
                frame.pinned = false;
                self.end_use(mfn);
                Ok(())
            }
            _ => Err(Errno::EINVAL),
        }
    }

    /// Finds what a virtual address stands for, as the processor does.
    pub(crate) fn walk(&self, root: Mfn, address: GuestVirt) -> Option<(Mfn, PteFlags)> {
        let mut mfn = root;
        let mut flags = PteFlags::all();
        if self.top_level(root) == ROOT_32 && address.raw() >> 32 != 0 {
            return None;
        }
        for level in (1..=u32::from(height(self.top_level(root)))).rev() {
            let slot = (address.raw() >> (12 + 9 * (level - 1))) as usize % TABLE_ENTRIES;
            let entry = self.table(mfn)[slot];
            if !Entry(entry).is_present() {
                return None;
            }
            flags &= PteFlags::from_bits_truncate(entry);
            mfn = Entry(entry).frame();
        }
        Some((mfn, flags))
    }

    /// Every present entry of a level-1 table below `root`, as virtual address, frame, and whether it can be written.
    pub(crate) fn mappings(&self, root: Mfn) -> Vec<(GuestVirt, Mfn, bool)> {
        let mut found = Vec::new();
        self.collect(root, self.top_level(root), 0, true, &mut found);
        found
    }

    fn collect(
        &self,
        mfn: Mfn,
        level: u8,
        base: u64,
        writable: bool,
        found: &mut Vec<(GuestVirt, Mfn, bool)>,
    ) {
        let table = self.table(mfn);
        for slot in guest_slots(level) {
            let entry = Entry(table[slot]);
            if !entry.is_present() {
                continue;
            }
            let address = base | (slot as u64) << (12 + 9 * (u32::from(height(level)) - 1));
            let writable = writable && entry.is_writable();
            if level > 1 {
                self.collect(entry.frame(), height(level) - 1, address, writable, found);
            } else {
                found.push((GuestVirt::new(canonical(address)), entry.frame(), writable));
            }
        }
    }
}

/// How many levels of tables a table of `level` is the top of.
pub(crate) fn height(level: u8) -> u8 {
    if level == ROOT_32 { 3 } else { level }
}

/// Slots of a table of `level` that are the guest's.
fn guest_slots(level: u8) -> impl Iterator<Item = usize> {
    let slots = if level == ROOT_32 { ROOT_32_SLOTS } else { TABLE_ENTRIES };
    (0..slots).filter(move |slot| level != 4 || !XEN_SLOTS.contains(slot))
}

/// Extends bit 47 of an address upwards.
fn canonical(address: u64) -> u64 {
    if address >> 47 & 1 == 1 { address | 0xffff << 48 } else { address }
}

/// Whether the processor takes `address` for an address.
pub(crate) fn is_canonical(address: u64) -> bool {
    canonical(address & ((1 << 48) - 1)) == address
}

/// The frame that a CR3 of a 64-bit PV guest names: page-aligned, as the processor has it.
pub(crate) fn frame_of_cr3(cr3: u64) -> Mfn {
    Mfn::new(cr3 >> 12)
}
