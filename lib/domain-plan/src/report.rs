//! A plan as text.

use core::fmt;

use xen_abi::{GuestVirt, PAGE_SHIFT};

use crate::PvPlan;

impl fmt::Display for PvPlan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = self.kernel.address_size.word().saturating_mul(8);
        writeln!(f, "{bits}-bit PV guest, {} pages ({} KiB)", self.memory, self.memory.kib())?;
        writeln!(f, "entry {}, pseudo-physical 0 at {}", self.kernel.entry, self.kernel.base)?;
        writeln!(f, "{:<16} {:>10} {:>10}  {:>9}  virtual address", "area", "first pfn", "end pfn", "pages")?;
        for area in &self.areas {
            write!(
                f,
                "{:<16} {:>#10x} {:>#10x}  {:>9}  ",
                area.kind,
                area.first.raw(),
                area.end().raw(),
                area.pages.raw()
            )?;
            match area.virt.or_else(|| self.virt_of_unmapped(area)) {
                Some(virt) => {
                    writeln!(f, "[{virt}..{:#x})", virt.raw().wrapping_add(area.pages.raw() << PAGE_SHIFT))?;
                }
                None => writeln!(f, "not mapped")?,
            }
        }
        writeln!(
            f,
            "{} pages are written, {} are left to the kernel",
            self.written(),
            self.memory.raw().saturating_sub(self.written().raw())
        )?;
        match self.hypercall_page {
            Some(frame) => writeln!(f, "hypercall page: pfn {frame}, filled by Xen"),
            None => writeln!(f, "hypercall page: none asked for"),
        }
    }
}

impl PvPlan<'_> {
    /// The address of an area that is mapped outside of the initial mapping: the p2m list.
    fn virt_of_unmapped(&self, area: &crate::Area) -> Option<GuestVirt> {
        self.tables.ranges().iter().skip(1).find(|range| range.first == area.first).map(|range| range.virt)
    }
}
