//! What the page tables say.

use alloc::collections::BTreeMap;
use alloc::format;

use pv_runtime::{pages, traps};
use verdict::Verdict;
use xen_abi::mmu::{Pte, PteFlags, TABLE_ENTRIES};
use xen_abi::{GuestVirt, Pfn};

/// The page tables of this domain, and the level of each.
pub(crate) type Tables = BTreeMap<Pfn, u32>;

/// How a page has to be mapped at its own address.
#[derive(Debug, PartialEq, Eq)]
enum Expected {
    Nothing,
    ReadOnly,
    ReadWrite,
}

/// Finds all page tables; each has to be one of the domain's own pages.
pub(crate) fn collect(total: u64) -> Result<Tables, Verdict> {
    let mut tables = Tables::new();
    let mut stranger = None;
    pages::visit_tables(&mut |level, table| {
        if table.raw() < total {
            tables.insert(table, level);
        } else {
            stranger = Some((level, table));
        }
    });
    match stranger {
        None => Ok(tables),
        Some((level, table)) => Err(Verdict::Failure(format!(
            "a page table of level {level} is page {table}, but the domain has {total} pages"
        ))),
    }
}

/// How the runtime and the PV interface want a page to be mapped.
fn expected(page: Pfn, tables: &Tables) -> Expected {
    let map = pages::memory_map();
    if page == map.null || page == map.stack_guard {
        Expected::Nothing
    } else if tables.contains_key(&page) || map.constants.contains(&page) {
        Expected::ReadOnly
    } else {
        Expected::ReadWrite
    }
}

/// How an entry maps `page`.
fn found(page: Pfn, entry: Pte) -> Result<Expected, Verdict> {
    if !entry.is_present() {
        return Ok(Expected::Nothing);
    }
    let frame = pages::frame_of(page);
    if entry.frame() != frame {
        let other = entry.frame();
        return Err(Verdict::Failure(format!(
            "page {page} is frame {frame}, but frame {other} is mapped there"
        )));
    }
    Ok(if entry.flags().contains(PteFlags::RW) { Expected::ReadWrite } else { Expected::ReadOnly })
}

/// Each page is mapped at its own address as it has to be.
pub(crate) fn mappings_are_right(total: u64, tables: &Tables) -> Result<(), Verdict> {
    for page in (0..total).map(Pfn::new) {
        let entry = pages::leaf(pages::address_of(page)).map_or(Pte::EMPTY, |leaf| leaf.entry);
        let (expected, found) = (expected(page, tables), found(page, entry)?);
        if found != expected {
            return Err(Verdict::Failure(format!("page {page} is mapped {found:?} instead of {expected:?}")));
        }
    }
    Ok(())
}

/// What must not be written cannot be: page tables, constants, the page at 0, the page below the stack.
pub(crate) fn are_protected(tables: &Tables) -> Result<(), Verdict> {
    let map = pages::memory_map();
    // Xen emulates writes to tables of level 1, as the interface says; those above it fault.
    let upper = tables.iter().filter(|(_, level)| **level > 1).map(|(page, _)| *page);
    // The last entry of the domain's half: empty in all of these tables.
    let upper = upper.map(|page| (page, (TABLE_ENTRIES / 2 - 1) * size_of::<Pte>()));
    let others = [map.null, map.stack_guard, map.constants.start].map(|page| (page, 8));
    for (page, offset) in upper.chain(others) {
        let address = GuestVirt::new(pages::address_of(page).raw() + offset as u64);
        let old = traps::read(address).unwrap_or(0);
        // SAFETY: the word is written with what it holds, so that nothing changes if it can be written.
        if unsafe { traps::write(address, old) }.is_ok() {
            return Err(Verdict::Failure(format!("page {page} can be written, which should fault")));
        }
    }
    Ok(())
}
