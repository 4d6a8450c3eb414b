//! Page tables under the rules: changed through `mmu_update`, and filled with anything at all.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise, in its helpers too")]

mod support;

use hypercall::RawHypercall;
use proptest::prelude::*;
use support::{ByHand, PAGES, STACK, TABLES};
use xen_abi::memory::{Reservation, XENMEM_DECREASE_RESERVATION};
use xen_abi::mmu::{
    MMU_MACHPHYS_UPDATE, MMU_NORMAL_PT_UPDATE, MmuUpdate, MulticallEntry, Pte, PteFlags, UVMF_INVLPG,
};
use xen_abi::number::HypercallNumber;
use xen_abi::{Errno, GuestVirt, Mfn, Pfn};
use xen_sim::{Machine, SimHypervisor};
use zerocopy::IntoBytes;

fn machine() -> Machine {
    Machine::builder().build()
}

/// Address of a value, as an argument of a hypercall.
fn address<T: ?Sized>(value: &mut T) -> u64 {
    std::ptr::from_mut(value).cast::<u8>().expose_provenance() as u64
}

/// Makes updates with a guest's own rights; gives the result and how many were done.
fn update(guest: &SimHypervisor, updates: &mut [MmuUpdate], foreign: u64) -> (i64, u32) {
    let mut done = 0_u32;
    let args = [address(updates), updates.len() as u64, address(&mut done), foreign, 0];
    // SAFETY: a list of updates with its length, and the address of a count.
    let result = unsafe { guest.hypercall(HypercallNumber::MMU_UPDATE, args) };
    (result, done)
}

/// An update of the entry for `page` in the level-1 table.
fn entry_update(built: &ByHand, page: usize, pte: Pte) -> MmuUpdate {
    let table = built.frames[TABLES].raw() << 12;
    MmuUpdate { ptr: table + page as u64 * 8 + MMU_NORMAL_PT_UPDATE, val: pte.raw() }
}

const SELF: u64 = 0x7ff0;

#[test]
fn a_guest_changes_its_own_mappings_within_the_rules() {
    let built = ByHand::running(machine());
    let guest = built.machine.guest(built.domain).hypervisor();
    let view = built.machine.guest(built.domain).view().unwrap();
    let read_only = Pte::new(built.frames[STACK], PteFlags::PRESENT);
    let mut updates = [entry_update(&built, STACK, read_only), entry_update(&built, 3, Pte::EMPTY)];
    assert_eq!(update(&guest, &mut updates, SELF), (0, 2));
    assert!(!view.translate(GuestVirt::new(STACK as u64 * 4096)).unwrap().writable);
    assert_eq!(view.translate(GuestVirt::new(3 * 4096)), None);

    let both = PteFlags::PRESENT | PteFlags::RW;
    let table = Pte::new(built.frames[TABLES + 1], both);
    let mut updates =
        [entry_update(&built, 3, Pte::new(built.frames[3], both)), entry_update(&built, 4, table)];
    assert_eq!(update(&guest, &mut updates, SELF), (Errno::EBUSY.to_result(), 1), "the first was done");
    built.xen.destroy_domain(built.domain).unwrap();
    built.machine.assert_clean();
}

#[test]
fn the_machine_to_physical_table_changes_for_own_frames_only() {
    let built = ByHand::running(machine());
    let guest = built.machine.guest(built.domain).hypervisor();
    let view = built.machine.guest(built.domain).view().unwrap();
    let m2p = |frame: Mfn, pfn| MmuUpdate { ptr: frame.raw() << 12 | MMU_MACHPHYS_UPDATE, val: pfn };
    assert_eq!(update(&guest, &mut [m2p(built.frames[1], 77)], SELF), (0, 1));
    assert_eq!(view.m2p(built.frames[1]), Some(Pfn::new(77)));
    let missing = Mfn::new(built.frames[1].raw() + (1 << 30));
    assert_eq!(update(&guest, &mut [m2p(missing, 77)], SELF), (Errno::EINVAL.to_result(), 0));
    assert_eq!(update(&guest, &mut [m2p(built.frames[1], 1)], 0), (Errno::EPERM.to_result(), 0), "as Dom0's");
}

#[test]
fn a_multicall_makes_its_calls_in_turn() {
    let built = ByHand::running(machine());
    let dom0 = built.machine.dom0();
    built.machine.clear_trace();
    let mut text = *b"within\n";
    let write = [0, text.len() as u64, address(&mut text), 0, 0, 0];
    let console = HypercallNumber::CONSOLE_IO.raw();
    let mut entries = [
        MulticallEntry { op: u64::from(console), result: 9, args: write },
        MulticallEntry {
            op: u64::from(HypercallNumber::UPDATE_VA_MAPPING.raw()),
            result: 9,
            args: [0, 0, UVMF_INVLPG, 0, 0, 0],
        },
    ];
    let args = [address(&mut entries), 2, 0, 0, 0];
    // SAFETY: a list of two entries, each with arguments that its call takes.
    assert_eq!(unsafe { dom0.hypercall(HypercallNumber::MULTICALL, args) }, 0);
    let results = entries.map(|entry| entry.result.cast_signed());
    assert_eq!(results, [0, Errno::ENOSYS.to_result()], "Dom0's own address space is not simulated");
    assert_eq!(built.machine.console(), "within\n");
}

#[test]
fn memory_that_dom0_gives_back_is_free() {
    let machine = machine();
    let dom0 = machine.dom0();
    let before = machine.free_memory();
    let domain = ByHand::populated(machine.clone());
    let mut frames: Vec<u64> = domain.frames.iter().map(|frame| frame.raw()).collect();
    let mut give_back = |count: usize| {
        let mut reservation = Reservation {
            extent_start: address(frames.as_mut_slice()),
            nr_extents: count as u64,
            extent_order: 0,
            mem_flags: 0,
            domid: domain.domain.raw(),
            pad: [0; 3],
        };
        let args = [u64::from(XENMEM_DECREASE_RESERVATION), address(&mut reservation), 0, 0, 0];
        // SAFETY: a reservation whose list has at least as many frames as it says.
        unsafe { dom0.hypercall(HypercallNumber::MEMORY_OP, args) }
    };
    assert_eq!(give_back(PAGES), 32);
    assert_eq!(give_back(PAGES), 0, "they are not the domain's any more");
    domain.xen.destroy_domain(domain.domain).unwrap();
    assert_eq!(machine.free_memory(), before);
}

/// An entry that is now and then one that Xen takes.
fn any_entry() -> impl Strategy<Value = (usize, u64, u64)> {
    let flags = prop_oneof![
        4 => Just(PteFlags::PRESENT.bits()),
        2 => Just((PteFlags::PRESENT | PteFlags::RW).bits()),
        1 => any::<u64>().prop_map(|bits| bits & !0x000f_ffff_ffff_f000),
    ];
    (0..512_usize, 0..PAGES as u64 + 2, flags)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whatever_is_in_the_tables_a_refusal_changes_nothing_and_all_memory_comes_back(
        entries in prop::collection::vec((0..4_usize, any_entry()), 0..12),
        root in 0..PAGES,
    ) {
        let built = ByHand::populated(machine());
        built.load();
        for (level, (slot, page, flags)) in entries {
            let frame = built.frames.get(usize::try_from(page).unwrap()).map_or(page, |frame| frame.raw());
            let entry = frame << 12 | flags;
            let table = built.frames[TABLES + level];
            let set = |bytes: &mut [u8]| bytes[slot * 8..][..8].copy_from_slice(entry.as_bytes());
            hypercall::FrameWindow::with_frames(&mut built.machine.window(), built.domain, &[table], set).unwrap();
        }
        for table in [built.root(), built.frames[root]] {
            if built.xen.pin_l4(built.domain, table).is_err() {
                // Nothing stays used by tables that were refused: the builder can still map everything that is not pinned.
                let tables = built.machine.guest(built.domain).view();
                prop_assert!(tables.is_none());
            }
        }
        built.xen.destroy_domain(built.domain).unwrap();
        built.machine.assert_clean();
    }

    #[test]
    fn a_refused_table_leaves_every_frame_free_to_be_mapped(slot in 0..512_usize, flags in any::<u64>()) {
        let built = ByHand::populated(machine());
        built.load();
        // The last entry of the top table is wrong: everything below the entries before it has been accepted by then.
        let wrong = flags & !0x000f_ffff_ffff_f000 | 1 << 7 | 1;
        let set = |bytes: &mut [u8]| bytes[slot * 8..][..8].copy_from_slice(wrong.as_bytes());
        let root = [built.root()];
        hypercall::FrameWindow::with_frames(&mut built.machine.window(), built.domain, &root, set).unwrap();
        prop_assume!(!(256..272).contains(&slot));
        prop_assert!(built.xen.pin_l4(built.domain, built.root()).is_err());
        let mapped = hypercall::FrameWindow::with_frames(&mut built.machine.window(), built.domain, &built.frames, |_| ());
        prop_assert_eq!(mapped, Ok(()));
    }
}

#[test]
fn xens_own_slots_of_a_top_table_are_not_looked_at() {
    let built = ByHand::populated(machine());
    built.load();
    let set = |bytes: &mut [u8]| bytes[260 * 8..][..8].copy_from_slice(&u64::MAX.to_le_bytes());
    let root = [built.root()];
    hypercall::FrameWindow::with_frames(&mut built.machine.window(), built.domain, &root, set).unwrap();
    assert_eq!(built.xen.pin_l4(built.domain, built.root()), Ok(()));
}
