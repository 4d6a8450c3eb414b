//! The calls by which PV domains, and those that build them, change page tables.

use xen_abi::mmu::{
    MMU_MACHPHYS_UPDATE, MMU_NORMAL_PT_UPDATE, MMUEXT_PIN_L1_TABLE, MMUEXT_PIN_L4_TABLE, MMUEXT_UNPIN_TABLE,
    MmuUpdate, MmuextOp,
};
use xen_abi::{DomId, Errno, Mfn};

use crate::events::resolve;
use crate::hypervisor::Outcome;
use crate::pagetables::ROOT_32;
use crate::request::domid;
use crate::state::State;

impl State {
    /// `mmu_update`: page-table entries of frames of the domain in the upper half of `foreign` (plus one; 0 for the caller),
    /// naming frames of the domain in its lower half.
    pub(crate) fn mmu_updates<'a>(
        &mut self,
        caller: DomId,
        updates: impl Iterator<Item = &'a MmuUpdate>,
        foreign: u64,
        done: &mut u32,
    ) -> Outcome {
        let subject = resolve(domid(foreign), caller);
        let tables = match domid(foreign >> 16).raw() {
            0 => caller,
            number => resolve(DomId::new(number - 1), caller),
        };
        self.controlled(caller, subject)?;
        self.controlled(caller, tables)?;
        for update in updates {
            let (frame, offset) = (Mfn::new(update.ptr >> 12), update.ptr & 0xfff);
            match update.ptr & 3 {
                MMU_NORMAL_PT_UPDATE => {
                    let slot = usize::try_from(offset / 8).map_err(|_| Errno::EINVAL)?;
                    self.frames.update_entry(frame, slot, update.val, tables)?;
                }
                MMU_MACHPHYS_UPDATE => {
                    let held = self.frames.get_mut(frame).filter(|it| it.owner() == Some(subject));
                    held.ok_or(Errno::EINVAL)?.pfn = Some(update.val);
                }
                _ => return Err(Errno::ENOSYS),
            }
            *done += 1;
        }
        Ok(0)
    }

    /// `mmuext_op`, on frames of the domain `foreign`.
    pub(crate) fn mmuext_ops<'a>(
        &mut self,
        caller: DomId,
        ops: impl Iterator<Item = &'a MmuextOp>,
        foreign: DomId,
        done: &mut u32,
    ) -> Outcome {
        let subject = resolve(foreign, caller);
        self.controlled(caller, subject)?;
        for op in ops {
            let frame = Mfn::new(op.arg1);
            match op.cmd {
                MMUEXT_PIN_L1_TABLE..=MMUEXT_PIN_L4_TABLE => {
                    let level = [1, 2, 3, 4][(op.cmd - MMUEXT_PIN_L1_TABLE) as usize];
                    let level = if level < 3 { level } else { self.pinned_level(subject, level)? };
                    self.frames.pin(frame, subject, level)?;
                }
                MMUEXT_UNPIN_TABLE => self.frames.unpin(frame, subject)?,
                // Flushes of translations and caches, new base pointers: nothing here caches or runs.
                _ if subject == caller => {}
                _ => return Err(Errno::EPERM),
            }
            *done += 1;
        }
        Ok(0)
    }

    /// What a table that is pinned as one of the two highest levels becomes: a 32-bit domain has only three, of which this is the top.
    fn pinned_level(&mut self, domain: DomId, level: u8) -> Result<u8, Errno> {
        match (self.domain(domain)?.is_32_bit, level) {
            (true, 3) => Ok(ROOT_32),
            (true, _) => Err(Errno::EINVAL),
            (false, level) => Ok(level),
        }
    }
}
