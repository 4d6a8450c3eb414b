//! How a kernel would start with the least memory that it starts with, for programs.

use domain_plan::{GuestPlan, PvhPlan};
use serde::Serialize;
use xen_abi::hvm::start_info::{MEMORY_ACPI, MEMORY_RAM, MemoryRange};

use crate::report::Layout;

/// How a kernel starts as a PV guest or as a PVH guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlanFacts {
    /// The least memory that it starts with, without a RAM disk, in MiB. The rest is for this memory.
    pub least_mib: u64,
    /// The address of its first instruction: virtual of a PV guest, physical of a PVH guest.
    pub entry: u64,
    /// What is where in its memory.
    pub layout: Layout,
    /// Of a PVH guest.
    pub pvh: Option<PvhFacts>,
}

/// What only a PVH guest has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PvhFacts {
    /// Pages on top of its memory: those that it shares with Xen and the builder.
    pub special_pages: u64,
    /// Pages that Xen needs for its paging structures.
    pub paging_pool_pages: u64,
    /// Its memory map.
    pub memory_map: Vec<MapFacts>,
}

/// A range of a memory map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MapFacts {
    /// Its physical address.
    pub address: u64,
    /// Its size.
    pub bytes: u64,
    /// `memory`, `acpi`, `reserved`.
    pub range_kind: String,
}

impl PlanFacts {
    /// The facts of a plan for `least_mib` MiB.
    pub(super) fn of(plan: &GuestPlan<'_>, least_mib: u64) -> Self {
        let (entry, pvh) = match plan {
            GuestPlan::Pv(plan) => (plan.kernel().entry.raw(), None),
            GuestPlan::Pvh(plan) => (u64::from(plan.kernel().entry), Some(PvhFacts::from(plan))),
        };
        Self { least_mib, entry, layout: Layout::from(plan), pvh }
    }
}

impl From<&PvhPlan<'_>> for PvhFacts {
    fn from(plan: &PvhPlan<'_>) -> Self {
        Self {
            special_pages: plan.special_pages().raw(),
            paging_pool_pages: plan.paging_pool().raw(),
            memory_map: plan.memory_map().iter().map(MapFacts::from).collect(),
        }
    }
}

impl From<&MemoryRange> for MapFacts {
    fn from(range: &MemoryRange) -> Self {
        let range_kind = match range.kind {
            MEMORY_RAM => "memory",
            MEMORY_ACPI => "acpi",
            _ => "reserved",
        };
        Self { address: range.addr, bytes: range.size, range_kind: range_kind.into() }
    }
}
