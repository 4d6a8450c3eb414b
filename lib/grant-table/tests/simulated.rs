//! Granting and mapping on a simulated Xen.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise, in its helpers too")]

use grant_table::{Access, GrantError, GrantTable, Mapping};
use hypercall::{OwnFrameWindow, SharedMemory, Xen};
use xen_abi::{Errno, GrantRef, Mfn, PageCount};
use xen_sim::{Effect, Fault, Guest, Machine, SimHypervisor, SimPage, SimShared};

/// Two domains on one machine.
fn two_domains() -> (Machine, Guest, Guest) {
    let machine = Machine::builder().build();
    let (one, two) = (machine.spawn(PageCount::new(4)), machine.spawn(PageCount::new(4)));
    (machine, one, two)
}

fn xen_of(guest: &Guest) -> Xen<SimHypervisor> {
    Xen::unprivileged(guest.hypervisor()).unwrap()
}

/// A domain's own table, as its kernel would open it.
fn table_of(guest: &Guest, frames: u32) -> GrantTable<SimShared> {
    GrantTable::open(&xen_of(guest), &mut guest.window(), frames).unwrap()
}

fn page(guest: &Guest) -> SimPage {
    SimPage(guest.frames()[1])
}

fn read(memory: &impl SharedMemory) -> u8 {
    let mut byte = [0];
    memory.read(7, &mut byte);
    byte[0]
}

#[test]
fn a_frame_is_shared_both_ways() {
    let (_machine, granter, mapper) = two_domains();
    let mut table = table_of(&granter, 1);
    let frame = page(&granter);
    let reference = table.grant(mapper.domain(), &frame, Access::ReadWrite).unwrap();
    assert_eq!(reference, GrantRef::new(8), "the first eight are reserved");
    granter.set_byte(frame.0, 7, 42);
    let xen = xen_of(&mapper);
    let mapping =
        Mapping::new(&xen, mapper.grant_slot(), granter.domain(), reference, Access::ReadWrite).unwrap();
    assert_eq!(read(&mapping), 42);
    mapping.write(7, &[43]);
    assert_eq!(granter.byte(frame.0, 7), 43);
}

#[test]
fn a_grant_for_reading_is_not_mapped_for_writing() {
    let (_machine, granter, mapper) = two_domains();
    let mut table = table_of(&granter, 1);
    let reference = table.grant(mapper.domain(), &page(&granter), Access::ReadOnly).unwrap();
    let xen = xen_of(&mapper);
    let map = |access| Mapping::new(&xen, mapper.grant_slot(), granter.domain(), reference, access);
    let refused = map(Access::ReadWrite).unwrap_err();
    assert!(
        refused.to_string().starts_with("GNTTABOP_map_grant_ref of reference 8 of domain 1"),
        "{refused}"
    );
    let mapping = map(Access::ReadOnly).unwrap();
    assert_eq!(read(&mapping), 0);
    let written = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| mapping.write(7, &[1])));
    assert!(written.is_err(), "written to what is mapped for reading");
}

#[test]
fn a_grant_is_for_one_peer() {
    let (machine, granter, mapper) = two_domains();
    let third = machine.spawn(PageCount::new(1));
    let mut table = table_of(&granter, 1);
    let reference = table.grant(mapper.domain(), &page(&granter), Access::ReadOnly).unwrap();
    let xen = xen_of(&third);
    let stolen = Mapping::new(&xen, third.grant_slot(), granter.domain(), reference, Access::ReadOnly);
    assert!(matches!(stolen, Err(GrantError::Refused { status: -3, .. })), "{stolen:?}");
}

#[test]
fn what_is_mapped_cannot_be_revoked() {
    let (_machine, granter, mapper) = two_domains();
    let mut table = table_of(&granter, 1);
    let reference = table.grant(mapper.domain(), &page(&granter), Access::ReadWrite).unwrap();
    let xen = xen_of(&mapper);
    let map = || Mapping::new(&xen, mapper.grant_slot(), granter.domain(), reference, Access::ReadOnly);
    let (first, second) = (map().unwrap(), map().unwrap());
    assert!(table.is_mapped(reference));
    drop(first);
    assert_eq!(table.revoke(reference), Err(GrantError::InUse { reference }), "the second is still there");
    let slot = second.unmap().unwrap();
    assert!(!table.is_mapped(reference));
    assert_eq!(table.revoke(reference), Ok(()));
    assert_eq!(table.revoke(reference), Err(GrantError::NotGranted { reference }));
    let gone = Mapping::new(&xen, slot, granter.domain(), reference, Access::ReadOnly);
    assert!(gone.is_err());
}

#[test]
fn references_are_used_again_lowest_first() {
    let (_machine, granter, mapper) = two_domains();
    let mut table = table_of(&granter, 1);
    let frame = page(&granter);
    let grant =
        |table: &mut GrantTable<_>| table.grant(mapper.domain(), &frame, Access::ReadOnly).unwrap().raw();
    assert_eq!([grant(&mut table), grant(&mut table), grant(&mut table)], [8, 9, 10]);
    table.revoke(GrantRef::new(9)).unwrap();
    assert_eq!([grant(&mut table), grant(&mut table)], [9, 11]);
}

#[test]
fn a_full_table_says_so_and_a_larger_one_holds_more() {
    let (_machine, granter, mapper) = two_domains();
    let frame = page(&granter);
    for (frames, entries) in [(1, 504), (2, 1016)] {
        let mut table = table_of(&granter, frames);
        let count = (0..).map_while(|_| table.grant(mapper.domain(), &frame, Access::ReadOnly).ok()).count();
        assert_eq!(count, entries);
        let full = table.grant(mapper.domain(), &frame, Access::ReadOnly).unwrap_err();
        assert!(full.to_string().contains(&format!("all {entries} references")), "{full}");
    }
}

#[test]
fn reserved_and_unknown_references_are_not_revoked() {
    let (_machine, granter, _) = two_domains();
    let mut table = table_of(&granter, 1);
    for reference in [0, 7, 8, 511, 512, u32::MAX].map(GrantRef::new) {
        assert_eq!(table.revoke(reference), Err(GrantError::NotGranted { reference }));
        assert!(!table.is_mapped(reference));
    }
}

#[test]
fn a_frame_beyond_32_bits_is_refused() {
    let (_machine, granter, mapper) = two_domains();
    let frame = Mfn::new(1 << 32);
    let refused = table_of(&granter, 1).grant(mapper.domain(), &SimPage(frame), Access::ReadOnly);
    assert_eq!(refused, Err(GrantError::FrameTooHigh { frame }));
}

#[test]
fn the_domain_of_a_mapped_frame_stays_until_it_is_unmapped() {
    let (machine, granter, mapper) = two_domains();
    let mut table = table_of(&granter, 1);
    let reference = table.grant(mapper.domain(), &page(&granter), Access::ReadWrite).unwrap();
    drop(table);
    let xen = xen_of(&mapper);
    let mapping =
        Mapping::new(&xen, mapper.grant_slot(), granter.domain(), reference, Access::ReadWrite).unwrap();
    let dom0 = Xen::probe(machine.dom0()).unwrap();
    dom0.destroy_domain(granter.domain()).unwrap();
    assert!(machine.has_domain(granter.domain()), "a zombie");
    drop(mapping);
    assert!(!machine.has_domain(granter.domain()));
}

#[test]
fn a_frame_that_cannot_be_unmapped_keeps_its_address() {
    let (machine, granter, mapper) = two_domains();
    let mut table = table_of(&granter, 1);
    let reference = table.grant(mapper.domain(), &page(&granter), Access::ReadOnly).unwrap();
    let xen = xen_of(&mapper);
    let mapping =
        Mapping::new(&xen, mapper.grant_slot(), granter.domain(), reference, Access::ReadOnly).unwrap();
    machine.inject(Fault::named("GNTTABOP_unmap_grant_ref", Effect::Fail(Errno::EFAULT)).times(1));
    let error = mapping.unmap().unwrap_err();
    assert!(matches!(error, GrantError::Call(call) if call.errno == Errno::EFAULT), "{error}");
    assert!(table.is_mapped(reference));
}

#[test]
fn a_table_larger_than_allowed_is_refused() {
    let (_machine, granter, _) = two_domains();
    let refused = xen_of(&granter).set_up_grant_table(65).unwrap_err();
    assert_eq!((refused.call, refused.errno), ("GNTTABOP_setup_table", Errno::ENOSPC));
}

#[test]
fn a_reserved_reference_is_granted_by_its_number_and_once() {
    let (_machine, granter, mapper) = two_domains();
    let mut table = table_of(&granter, 1);
    let (page, reference) = (SimPage(granter.frames()[1]), GrantRef::new(2));
    table.grant_reserved(reference, mapper.domain(), &page, Access::ReadWrite).unwrap();
    let again = table.grant_reserved(reference, mapper.domain(), &page, Access::ReadWrite);
    assert_eq!(again, Err(GrantError::NotReserved { reference }));
    let xen = xen_of(&mapper);
    let map = || Mapping::new(&xen, mapper.grant_slot(), granter.domain(), reference, Access::ReadWrite);
    let mapping = map().unwrap();
    assert_eq!(table.revoke(reference), Err(GrantError::InUse { reference }));
    drop(mapping);
    assert_eq!(table.revoke(reference), Ok(()));
    assert!(map().is_err());
    assert_eq!(
        table.grant(mapper.domain(), &page, Access::ReadOnly),
        Ok(GrantRef::new(8)),
        "not the freed one"
    );
    for number in [8, 511, u32::MAX] {
        let reference = GrantRef::new(number);
        let refused = table.grant_reserved(reference, mapper.domain(), &page, Access::ReadOnly);
        assert_eq!(refused, Err(GrantError::NotReserved { reference }));
    }
}

#[test]
fn an_entry_that_the_toolstack_filled_is_not_overwritten() {
    let (_machine, granter, mapper) = two_domains();
    let frames = xen_of(&granter).set_up_grant_table(1).unwrap();
    // SAFETY: the frames of the grant table, which nobody else looks at.
    let memory = unsafe { granter.window().map_own(&frames) }.unwrap();
    memory.store_u32(4, 77);
    memory.store_u32(0, 1);
    let mut table = GrantTable::new(memory);
    let reference = GrantRef::new(0);
    let refused =
        table.grant_reserved(reference, mapper.domain(), &SimPage(granter.frames()[1]), Access::ReadOnly);
    assert_eq!(refused, Err(GrantError::NotReserved { reference }));
}
