//! What is where in a guest's memory at its start.

use alloc::vec::Vec;
use core::fmt;

use xen_abi::{GuestVirt, PAGE_SIZE, PageCount, Pfn};

use crate::PlanError;

/// What an area holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AreaKind {
    /// The kernel's segments.
    Kernel,
    /// The RAM disk.
    Ramdisk,
    /// The p2m list.
    P2m,
    /// Page tables that map the p2m list at the address the kernel asked for.
    P2mTables,
    /// The start info.
    StartInfo,
    /// The XenStore ring.
    XenStore,
    /// The console ring.
    Console,
    /// The initial page tables.
    PageTables,
    /// The stack the kernel starts on.
    BootStack,
    /// A PVH guest's ACPI tables.
    AcpiTables,
    /// A PVH guest's page table for paging switched off.
    IdentityTable,
    /// Nothing: between areas, or mapped for the kernel to use.
    Padding,
}

impl fmt::Display for AreaKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Kernel => "kernel",
            Self::Ramdisk => "RAM disk",
            Self::P2m => "p2m list",
            Self::P2mTables => "p2m page tables",
            Self::StartInfo => "start info",
            Self::XenStore => "XenStore ring",
            Self::Console => "console ring",
            Self::PageTables => "page tables",
            Self::BootStack => "boot stack",
            Self::AcpiTables => "ACPI tables",
            Self::IdentityTable => "identity table",
            Self::Padding => "padding",
        })
    }
}

/// A run of pages with one purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Area {
    /// What it holds.
    pub kind: AreaKind,
    /// Its first frame.
    pub first: Pfn,
    /// Its size.
    pub pages: PageCount,
    /// Where it is mapped at the start, if it is.
    pub virt: Option<GuestVirt>,
}

impl Area {
    /// The frame behind the last one.
    pub fn end(&self) -> Pfn {
        self.first.checked_add(self.pages).unwrap_or(Pfn::new(u64::MAX))
    }

    /// The size in bytes.
    pub fn bytes(&self) -> u64 {
        self.pages.bytes().unwrap_or(u64::MAX)
    }
}

/// Hands out a guest's memory from PFN 0 upwards, one area behind the other.
pub(crate) struct Allocator {
    memory: PageCount,
    base: u64,
    mapped: bool,
    areas: Vec<Area>,
    next: u64,
}

impl Allocator {
    /// An allocator for a guest of `memory` pages whose PFN 0 is mapped at `base`.
    pub(crate) fn new(memory: PageCount, base: u64) -> Self {
        Self { memory, base, mapped: true, areas: Vec::new(), next: 0 }
    }

    /// The first frame not handed out.
    pub(crate) fn next(&self) -> Pfn {
        Pfn::new(self.next)
    }

    fn virt_of(&self, pfn: u64) -> Result<u64, PlanError> {
        pfn.checked_mul(PAGE_SIZE as u64)
            .and_then(|offset| self.base.checked_add(offset))
            .ok_or(PlanError::Overflow { what: "the end of the initial mapping" })
    }

    /// Areas from here on are not in the initial mapping.
    pub(crate) fn end_mapping(&mut self) {
        self.mapped = false;
    }

    /// Fails unless the guest has `end` pages, of which `kind` is to be the last.
    pub(crate) fn check(&self, kind: AreaKind, end: PageCount) -> Result<(), PlanError> {
        if end <= self.memory {
            return Ok(());
        }
        Err(PlanError::Memory {
            area: kind,
            wanted: PageCount::new(end.raw().saturating_sub(self.next)),
            free: PageCount::new(self.memory.raw().saturating_sub(self.next)),
            memory: self.memory,
            least_mib: end.kib().div_ceil(1024),
        })
    }

    /// Hands out `pages` pages.
    pub(crate) fn take(&mut self, kind: AreaKind, pages: PageCount) -> Result<Area, PlanError> {
        let end = PageCount::new(self.next.saturating_add(pages.raw()));
        self.check(kind, end)?;
        let virt = if self.mapped { Some(GuestVirt::new(self.virt_of(self.next)?)) } else { None };
        let area = Area { kind, first: Pfn::new(self.next), pages, virt };
        self.next = end.raw();
        if pages != PageCount::ZERO {
            self.areas.push(area);
        }
        Ok(area)
    }

    /// Hands out padding up to frame `end`.
    pub(crate) fn pad_to(&mut self, end: Pfn) -> Result<(), PlanError> {
        self.take(AreaKind::Padding, PageCount::new(end.raw().saturating_sub(self.next))).map(|_| ())
    }

    /// Everything handed out, in order of frame numbers.
    pub(crate) fn finish(self) -> Vec<Area> {
        self.areas
    }
}
