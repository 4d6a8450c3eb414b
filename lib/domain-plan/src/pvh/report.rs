//! A plan of a PVH guest as text.

use core::fmt;

use xen_abi::PAGE_SHIFT;
use xen_abi::hvm::start_info::{MEMORY_ACPI, MEMORY_RAM};

use super::PvhPlan;

impl fmt::Display for PvhPlan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "PVH guest, {} pages ({} KiB), {} for paging structures",
            self.memory(),
            self.memory().kib(),
            self.paging_pool()
        )?;
        writeln!(f, "entry {:#x}, 32-bit", self.kernel().entry)?;
        writeln!(
            f,
            "{:<16} {:>10} {:>10}  {:>9}  physical address",
            "area", "first gfn", "end gfn", "pages"
        )?;
        for area in self.areas() {
            let (first, end) = (area.first.raw(), area.end().raw());
            writeln!(
                f,
                "{:<16} {first:>#10x} {end:>#10x}  {:>9}  [{:#x}..{:#x})",
                area.kind,
                area.pages.raw(),
                first << PAGE_SHIFT,
                end << PAGE_SHIFT
            )?;
        }
        writeln!(f, "memory map:")?;
        for range in self.memory_map() {
            let kind = match range.kind {
                MEMORY_RAM => "memory",
                MEMORY_ACPI => "ACPI tables",
                _ => "reserved",
            };
            writeln!(f, "  [{:#x}..{:#x}) {kind}", range.addr, range.addr.saturating_add(range.size))?;
        }
        writeln!(
            f,
            "{} pages are written, {} are left to the kernel",
            self.written(),
            self.memory()
                .raw()
                .saturating_add(self.special_pages().raw())
                .saturating_sub(self.written().raw())
        )
    }
}
