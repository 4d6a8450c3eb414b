//! Building a PV domain call by call: what works, and what Xen refuses with which error.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise, in its helpers too")]

mod support;

use hypercall::{FrameWindow, WindowError, Xen};
use support::{ByHand, CONSOLE, PAGES, STACK, TABLES, request};
use xen_abi::domctl::CreateFlags;
use xen_abi::mmu::{Pte, PteFlags};
use xen_abi::{DomId, Errno, GuestVirt, Mfn, PageCount, Pfn, VcpuId};
use xen_sim::{Machine, Release};

fn machine() -> Machine {
    Machine::builder().build()
}

#[test]
fn a_domain_is_built_runs_and_goes_on_every_release() {
    for release in Release::ALL {
        let built = ByHand::running(Machine::builder().release(release).stale_memory().build());
        let guest = built.machine.guest(built.domain);
        assert!(guest.runs(), "{release}");
        guest.view().unwrap().assert_sane();
        built.xen.destroy_domain(built.domain).unwrap();
        built.machine.assert_clean();
    }
}

#[test]
fn the_view_translates_as_the_page_tables_say() {
    let built = ByHand::running(machine());
    let view = built.machine.guest(built.domain).view().unwrap();
    let table = view.translate(GuestVirt::new(TABLES as u64 * 4096 + 8)).unwrap();
    assert_eq!((table.frame, table.writable), (built.frames[TABLES], false));
    let stack = view.translate(GuestVirt::new(STACK as u64 * 4096)).unwrap();
    assert_eq!((stack.frame, stack.writable), (built.frames[STACK], true));
    assert_eq!(view.translate(GuestVirt::new(PAGES as u64 * 4096)), None);
    assert_eq!(view.m2p(built.frames[5]), Some(Pfn::new(5)));
    assert_eq!(view.mappings().len(), PAGES);
}

#[test]
fn create_requests_are_checked() {
    let xen = Xen::probe(machine().dom0()).unwrap();
    let refused = |change: fn(&mut xen_abi::domctl::CreateDomain)| {
        let mut request = request();
        change(&mut request);
        xen.create_domain(None, &request).unwrap_err().errno
    };
    assert_eq!(refused(|it| it.max_vcpus = 0), Errno::EINVAL);
    assert_eq!(refused(|it| it.max_vcpus = 8193), Errno::EINVAL);
    assert_eq!(refused(|it| it.max_grant_version = 0), Errno::EINVAL);
    assert_eq!(refused(|it| it.max_grant_version = 3), Errno::EINVAL);
    assert_eq!(refused(|it| it.max_grant_frames = 0), Errno::EINVAL);
    assert_eq!(refused(|it| it.flags = CreateFlags::HAP), Errno::EINVAL);
    assert_eq!(refused(|it| it.flags = CreateFlags::from_bits_retain(1 << 12)), Errno::EINVAL);
    assert_eq!(refused(|it| it.emulation_flags = 1), Errno::EOPNOTSUPP);
}

#[test]
fn identifiers_are_chosen_in_turn_and_never_the_same_twice_in_a_row() {
    for release in Release::ALL {
        let xen = Xen::probe(Machine::with_release(release).dom0()).unwrap();
        let first = xen.create_domain(None, &request()).unwrap();
        xen.destroy_domain(first).unwrap();
        let second = xen.create_domain(None, &request()).unwrap();
        assert_eq!((first, second), (DomId::new(1), DomId::new(2)), "{release}");
        let wanted = DomId::new(77);
        assert_eq!(xen.create_domain(Some(wanted), &request()), Ok(wanted));
        assert_eq!(xen.create_domain(Some(wanted), &request()).unwrap_err().errno, Errno::EEXIST);
    }
}

#[test]
fn zero_is_a_taken_identifier_for_the_newest_interface_and_means_any_for_older_ones() {
    let create_zero = |release| {
        let xen = Xen::probe(Machine::with_release(release).dom0()).unwrap();
        xen.create_domain(Some(DomId::new(0)), &request()).map_err(|error| error.errno)
    };
    assert_eq!(create_zero(Release::V4_21), Ok(DomId::new(1)));
    assert_eq!(create_zero(Release::V4_22), Err(Errno::EEXIST));
}

#[test]
fn the_number_of_vcpus_has_to_be_repeated() {
    let xen = Xen::probe(machine().dom0()).unwrap();
    let domain = xen.create_domain(None, &request()).unwrap();
    assert_eq!(xen.set_max_vcpus(domain, 2).unwrap_err().errno, Errno::EINVAL);
    assert_eq!(xen.set_max_vcpus(domain, 1), Ok(()));
}

#[test]
fn populating_stops_at_the_limit_of_the_domain_and_at_the_end_of_memory() {
    let machine = Machine::builder().memory(PageCount::new(0x800)).build();
    let xen = Xen::probe(machine.dom0()).unwrap();
    let domain = xen.create_domain(None, &request()).unwrap();
    xen.set_max_memory(domain, PageCount::new(3)).unwrap();
    let mut extents = [10, 11, 12, 13];
    assert_eq!(xen.populate(domain, 0, &mut extents).unwrap().extents, 3);
    assert_eq!(extents[3], 13, "what was not done is unchanged");
    xen.set_max_memory(domain, PageCount::new(0x1_0000)).unwrap();
    let mut extents = [0; 0x800];
    let done = xen.populate(domain, 0, &mut extents).unwrap().extents;
    assert_eq!((machine.free_memory(), done < 0x800), (PageCount::ZERO, true));
    xen.destroy_domain(domain).unwrap();
    machine.assert_clean();
}

#[test]
fn an_extent_above_the_largest_order_is_not_populated() {
    let xen = Xen::probe(machine().dom0()).unwrap();
    let domain = xen.create_domain(None, &request()).unwrap();
    xen.set_max_memory(domain, PageCount::new(1 << 20)).unwrap();
    assert_eq!(xen.populate(domain, 19, &mut [0]).unwrap().extents, 0);
    assert_eq!(xen.populate(domain, 9, &mut [0]).unwrap().extents, 1);
}

#[test]
fn claimed_memory_is_kept_for_the_claimant() {
    let machine = Machine::builder().memory(PageCount::new(0x800)).build();
    let xen = Xen::probe(machine.dom0()).unwrap();
    let [owner, other] = [(); 2].map(|()| {
        let domain = xen.create_domain(None, &request()).unwrap();
        xen.set_max_memory(domain, PageCount::new(0x1000)).unwrap();
        domain
    });
    let free = machine.free_memory();
    let too_much = PageCount::new(free.raw() + 1);
    assert_eq!(xen.claim_pages(owner, too_much).unwrap_err().errno, Errno::ENOMEM);
    xen.claim_pages(owner, free).unwrap();
    assert_eq!(xen.claim_pages(owner, free).unwrap_err().errno, Errno::EINVAL, "one claim at a time");
    assert_eq!(xen.populate(other, 0, &mut [0]).unwrap().extents, 0);
    assert_eq!(xen.populate(owner, 0, &mut [0]).unwrap().extents, 1);
    assert_eq!(xen.domain_info(owner).unwrap().outstanding_pages, free.raw() - 1);
    xen.claim_pages(owner, PageCount::ZERO).unwrap();
    assert_eq!(xen.populate(other, 0, &mut [0]).unwrap().extents, 1);
}

/// Builds a domain whose tables `spoil` has changed, and gives the error that pinning ends with.
fn pin_error(spoil: impl FnOnce(&ByHand)) -> Errno {
    let built = ByHand::populated(machine());
    built.load();
    spoil(&built);
    let errno = built.xen.pin_l4(built.domain, built.root()).unwrap_err().errno;
    built.xen.destroy_domain(built.domain).unwrap();
    built.machine.assert_clean();
    errno
}

#[test]
fn a_page_table_that_is_mapped_writable_is_refused() {
    let both = PteFlags::PRESENT | PteFlags::RW;
    for level in 0..4 {
        let errno = pin_error(|built| {
            let entry = Pte::new(built.frames[TABLES + level], both);
            built.write_table(TABLES, &[(0, entry)]);
        });
        assert_eq!(errno, Errno::EBUSY, "level {}", level + 1);
    }
}

#[test]
fn an_entry_with_a_reserved_bit_is_refused() {
    let errno = pin_error(|built| {
        let entry = Pte::new(built.frames[0], PteFlags::PRESENT | PteFlags::from_bits_retain(1 << 7));
        built.write_table(TABLES + 1, &[(0, entry)]);
    });
    assert_eq!(errno, Errno::EINVAL);
}

#[test]
fn an_entry_that_is_not_present_but_names_memory_is_refused() {
    let errno = pin_error(|built| {
        let entry = Pte::new(built.frames[0], PteFlags::RW);
        built.write_table(TABLES, &[(0, entry)]);
    });
    assert_eq!(errno, Errno::EINVAL);
}

#[test]
fn an_entry_for_memory_of_another_domain_is_refused() {
    let errno = pin_error(|built| {
        let dom0 = built.machine.dom0();
        let xen = Xen::probe(dom0).unwrap();
        let other = xen.create_domain(None, &request()).unwrap();
        xen.set_max_memory(other, PageCount::new(1)).unwrap();
        let mut extent = [0];
        xen.populate(other, 0, &mut extent).unwrap();
        built.write_table(TABLES, &[(0, Pte::new(Mfn::new(extent[0]), PteFlags::PRESENT))]);
        xen.destroy_domain(other).unwrap();
    });
    assert_eq!(errno, Errno::EBUSY);
}

#[test]
fn an_entry_for_no_memory_is_refused() {
    let errno = pin_error(|built| {
        built.write_table(TABLES, &[(0, Pte::new(Mfn::new(1), PteFlags::PRESENT))]);
    });
    assert_eq!(errno, Errno::EPERM);
}

#[test]
fn a_table_that_the_builder_still_has_mapped_is_refused() {
    let mut mapping = None;
    let built = ByHand::populated(machine());
    built.load();
    mapping.replace(built.machine.window().map_shared(built.domain, &[built.frames[TABLES]]).unwrap());
    assert_eq!(built.xen.pin_l4(built.domain, built.root()).unwrap_err().errno, Errno::EINVAL);
    drop(mapping);
    assert_eq!(built.xen.pin_l4(built.domain, built.root()), Ok(()));
    assert_eq!(
        built.xen.pin_l4(built.domain, built.root()).unwrap_err().errno,
        Errno::EINVAL,
        "pinned already"
    );
}

#[test]
fn a_pinned_table_cannot_be_mapped_by_the_builder() {
    let built = ByHand::populated(machine());
    built.load();
    built.seal().unwrap();
    let error =
        built.machine.window().with_frames(built.domain, &[built.frames[TABLES]], |_| ()).unwrap_err();
    assert!(error.to_string().contains("EBUSY"), "{error}");
}

#[test]
fn vcpu_states_are_checked() {
    let refused = |change: fn(&mut xen_abi::vcpu::VcpuGuestContext)| {
        let built = ByHand::populated(Machine::with_release(Release::V4_20));
        built.load();
        let mut context = built.context();
        change(&mut context);
        let result = built.xen.set_vcpu_context(built.domain, VcpuId::BOOT, &context);
        result.unwrap_err().errno
    };
    assert_eq!(refused(|it| it.user_regs.rip = 1 << 47), Errno::EINVAL);
    assert_eq!(refused(|it| it.trap_ctxt[14].address = 0x1234_5678_9abc_def0), Errno::EINVAL);
    assert_eq!(refused(|it| it.ldt_base = 8), Errno::EINVAL);
    assert_eq!(refused(|it| it.gdt_ents = 8192), Errno::EINVAL);
    assert_eq!(refused(|it| it.debugreg[7] = 1 << 40), Errno::EINVAL);
    assert_eq!(refused(|it| it.vm_assist = 1 << 9), Errno::EINVAL);
    assert_eq!(refused(|it| it.ctrlreg[3] = 0x1000), Errno::EINVAL);
    assert_eq!(refused(|it| it.flags = 0), Errno::EINVAL);
}

#[test]
fn a_vcpu_keeps_its_address_space_once_it_has_one() {
    let built = ByHand::populated(machine());
    built.load();
    built.seal().unwrap();
    let mut context = built.context();
    context.user_regs.rip = 0x2000;
    assert_eq!(built.xen.set_vcpu_context(built.domain, VcpuId::BOOT, &context), Ok(()));
    context.ctrlreg[3] = built.frames[0].raw() << 12;
    let error = built.xen.set_vcpu_context(built.domain, VcpuId::BOOT, &context).unwrap_err();
    assert_eq!(error.errno, Errno::EOPNOTSUPP);
}

#[test]
fn a_domain_whose_memory_is_mapped_stays_as_a_zombie() {
    let built = ByHand::running(machine());
    let console = built.machine.window().map_shared(built.domain, &[built.frames[CONSOLE]]).unwrap();
    built.xen.destroy_domain(built.domain).unwrap();
    assert_eq!(built.machine.domains(), [built.domain]);
    let info = built.xen.domain_info(built.domain).unwrap();
    assert!(info.state().contains(xen_abi::domctl::DomainState::DYING));
    drop(console);
    assert_eq!(built.xen.domain_info(built.domain).unwrap_err().errno, Errno::ESRCH);
    built.machine.assert_clean();
}

#[test]
fn pauses_count() {
    let built = ByHand::running(machine());
    let guest = built.machine.guest(built.domain);
    built.xen.pause_domain(built.domain).unwrap();
    built.xen.pause_domain(built.domain).unwrap();
    built.xen.unpause_domain(built.domain).unwrap();
    assert!(!guest.runs());
    built.xen.unpause_domain(built.domain).unwrap();
    assert!(guest.runs());
    assert_eq!(built.xen.unpause_domain(built.domain).unwrap_err().errno, Errno::EINVAL);
}

#[test]
fn a_domain_without_privilege_may_not_build() {
    let built = ByHand::running(machine());
    let refused = Xen::probe(built.machine.guest(built.domain).hypervisor()).unwrap_err();
    assert!(refused.to_string().contains("EPERM"), "{refused}");
    let guest = built.machine.guest(built.domain);
    let dom0_frame = guest.window().with_frames(DomId::new(0), &built.frames[..1], |_| ());
    assert!(dom0_frame.is_err());
}

#[test]
fn own_memory_is_not_mapped_a_second_time() {
    let machine = machine();
    let guest = machine.spawn(PageCount::new(4));
    let (frames, mut window) = (guest.frames(), guest.window());
    assert_eq!(window.with_frames(DomId::SELF, &frames[..1], |_| ()), Err(WindowError::Own));
    assert_eq!(window.map_shared(DomId::SELF, &frames[..1]).unwrap_err(), WindowError::Own);
    let by_number = window.with_frames(guest.domain(), &frames[..1], |_| ());
    assert!(matches!(by_number, Err(WindowError::Refused { errno: Errno::ESRCH, .. })), "{by_number:?}");
}

#[test]
fn dom0_has_no_hypercall_page_of_its_own_filled() {
    let built = ByHand::populated(machine());
    for own in [DomId::SELF, DomId::DOM0] {
        assert_eq!(built.xen.init_hypercall_page(own, built.frames[0]).unwrap_err().errno, Errno::EINVAL);
    }
}

#[test]
fn stale_memory_is_not_zero() {
    let built = ByHand::populated(Machine::builder().stale_memory().build());
    let mut window = built.machine.window();
    let dirty =
        window.with_frames(built.domain, &built.frames[..2], |bytes| bytes.iter().all(|byte| *byte == 0xc2));
    assert_eq!(dirty, Ok(true));
}

#[test]
fn the_hypercall_page_is_filled() {
    let built = ByHand::populated(machine());
    built.xen.init_hypercall_page(built.domain, built.frames[0]).unwrap();
    let stub =
        built.machine.window().with_frames(built.domain, &built.frames[..1], |page| page[32..37].to_vec());
    assert_eq!(stub, Ok(vec![0xb8, 1, 0, 0, 0]));
}
