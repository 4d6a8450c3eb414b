//! The probe and the typed calls over a simulated Xen.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise, in its helpers too")]

use hypercall::{Enforcement, ProbeError, Xen};
use xen_abi::domctl::{CreateDomain, CreateFlags};
use xen_abi::{DomId, Errno, PageCount, Port};
use xen_sim::{Effect, Fault, Machine, Release};

fn request() -> CreateDomain {
    CreateDomain {
        ssidref: 0,
        handle: [3; 16],
        flags: CreateFlags::empty(),
        max_vcpus: 2,
        max_evtchn_port: 1023,
        max_grant_frames: 16,
        max_maptrack_frames: -1,
        max_grant_version: 1,
        emulation_flags: 0,
        misc_flags: 0,
    }
}

#[test]
fn the_probe_finds_the_interfaces_of_every_release() {
    for release in Release::ALL {
        let xen = Xen::probe(Machine::with_release(release).dom0()).unwrap();
        let interface = xen.interface();
        assert_eq!(interface.xen, release.version());
        assert_eq!(interface.domctl.raw(), release.domctl());
        assert_eq!(interface.sysctl.unwrap().raw(), release.sysctl());
    }
}

#[test]
fn a_probe_that_is_always_denied_names_both_reasons() {
    let machine = Machine::with_release(Release::V4_17);
    machine.inject(Fault::named("XEN_DOMCTL_getdomaininfo", Effect::Fail(Errno::EACCES)));
    let error = Xen::probe(machine.dom0()).unwrap_err();
    assert!(matches!(error, ProbeError::NoDomctlVersion { .. }));
    let text = error.to_string();
    assert!(text.contains("4.17") && text.contains("older or newer") && text.contains("FLASK"), "{text}");
}

#[test]
fn a_domain_without_privilege_is_told_so() {
    let machine = Machine::with_release(Release::V4_17);
    machine.inject(Fault::named("XEN_DOMCTL_getdomaininfo", Effect::Fail(Errno::EPERM)));
    let error = Xen::probe(machine.dom0()).unwrap_err();
    assert_eq!(error, ProbeError::NotPrivileged { errno: Errno::EPERM });
}

/// The domain of the XenStore may ask about the others, and Xen has told it of one that there is not in two ways.
#[test]
fn the_domain_of_the_xenstore_may_ask_and_no_other() {
    for release in Release::ALL {
        let machine = Machine::with_release(release);
        let xen = Xen::probe(machine.dom0()).unwrap();
        let store =
            xen.create_domain(None, &CreateDomain { flags: CreateFlags::XS_DOMAIN, ..request() }).unwrap();
        let other = xen.create_domain(None, &request()).unwrap();
        let asking = Xen::probe_to_ask(machine.guest(store).hypervisor()).unwrap();
        assert_eq!(asking.interface().domctl, xen.interface().domctl, "{release:?}");
        assert!(asking.domain_info(other).is_ok());
        let unknown = asking.domain_info(DomId::new(77)).unwrap_err().errno;
        assert_eq!(
            unknown,
            if release >= Release::V4_22 { Errno::EPERM } else { Errno::ESRCH },
            "{release:?}"
        );
        assert_eq!(asking.destroy_domain(other).unwrap_err().errno, Errno::EPERM);
        let refused = ProbeError::NotPrivileged { errno: Errno::EPERM };
        let raw = || machine.guest(other).hypervisor();
        assert_eq!(Xen::probe_to_ask(raw()).unwrap_err(), refused, "{release:?}");
        assert_eq!(Xen::probe(raw()).unwrap_err(), refused, "{release:?}");
    }
}

#[test]
fn only_one_answer_says_that_there_are_no_labels() {
    for flask in [None, Some(true), Some(false)] {
        let builder = Machine::builder();
        let machine = flask.map_or(builder, |enforced| builder.flask(enforced)).build();
        let expected =
            flask.map(|enforced| if enforced { Enforcement::Enforced } else { Enforcement::Permissive });
        assert_eq!(Xen::probe(machine.dom0()).unwrap().interface().labels, expected);
        machine.inject(Fault::named("FLASK_GETENFORCE", Effect::Fail(Errno::EFAULT)));
        let error = Xen::probe(machine.dom0()).unwrap_err();
        assert_eq!(error, ProbeError::Labels { errno: Errno::EFAULT });
        assert!(error.to_string().starts_with("FLASK_GETENFORCE: EFAULT"), "{error}");
    }
}

#[test]
fn a_builder_goes_without_the_machines_memory_when_sysctl_is_denied() {
    let machine = Machine::with_release(Release::V4_17);
    machine.inject(Fault::named("XEN_SYSCTL_physinfo", Effect::Fail(Errno::EACCES)));
    let xen = Xen::probe(machine.dom0()).unwrap();
    assert_eq!(xen.interface().sysctl, None);
    assert_eq!(xen.machine_memory(), Ok(None));
}

#[test]
fn the_machines_memory_is_read_in_every_layout() {
    for release in Release::ALL {
        let machine = Machine::builder().release(release).memory(PageCount::new(0x3000)).build();
        let memory = Xen::probe(machine.dom0()).unwrap().machine_memory().unwrap().unwrap();
        assert_eq!((memory.total, memory.free), (PageCount::new(0x3000), machine.free_memory()), "{release}");
    }
}

#[test]
fn a_domain_that_does_not_exist_is_never_mistaken_for_the_next() {
    for release in Release::ALL {
        let xen = Xen::probe(Machine::with_release(release).dom0()).unwrap();
        xen.create_domain(Some(DomId::new(9)), &request()).unwrap();
        assert_eq!(xen.domain_info(DomId::new(4)).unwrap_err().errno, Errno::ESRCH, "{release}");
        let info = xen.domain_info(DomId::new(9)).unwrap();
        assert_eq!((info.domain, info.handle, info.shutdown_reason()), (9, [3; 16], None));
    }
}

#[test]
fn a_destroy_call_that_xen_hands_back_is_made_again() {
    let machine = Machine::with_release(Release::V4_14);
    let xen = Xen::probe(machine.dom0()).unwrap();
    let domain = xen.create_domain(None, &request()).unwrap();
    machine.inject(Fault::named("XEN_DOMCTL_destroydomain", Effect::Fail(Errno::ERESTART)).times(2));
    machine.inject(Fault::named("XEN_DOMCTL_destroydomain", Effect::Fail(Errno::EAGAIN)).after(2).times(1));
    xen.destroy_domain(domain).unwrap();
    assert_eq!(machine.trace().named("XEN_DOMCTL_destroydomain").count(), 4);
    machine.assert_clean();
}

#[test]
fn a_destroy_call_that_is_handed_back_for_ever_is_an_error() {
    for errno in [Errno::ERESTART, Errno::EAGAIN] {
        let machine = Machine::with_release(Release::V4_14);
        let xen = Xen::probe(machine.dom0()).unwrap();
        let domain = xen.create_domain(None, &request()).unwrap();
        xen.set_max_memory(domain, PageCount::new(4)).unwrap();
        xen.populate(domain, 0, &mut [0, 1, 2]).unwrap();
        machine.inject(Fault::named("XEN_DOMCTL_destroydomain", Effect::Fail(errno)));
        let error = xen.destroy_domain(domain).unwrap_err();
        assert_eq!(error.errno, errno);
        assert!(machine.trace().named("XEN_DOMCTL_destroydomain").count() <= 2000);
        let leak = xen.note_leak(error).to_string();
        assert!(leak.starts_with("XEN_DOMCTL_destroydomain for domain 1: "), "{leak}");
        assert!(leak.ends_with("; Xen keeps 12 KiB of it"), "{leak}");
        assert_eq!((xen.leaked(), xen.going()), (1, vec![]));
    }
}

#[test]
fn a_domain_that_was_not_destroyed_is_there_until_it_is() {
    let machine = Machine::builder().build();
    let xen = Xen::probe(machine.dom0()).unwrap();
    let domain = xen.create_domain(None, &request()).unwrap();
    assert!(xen.leak_of(domain).is_none());
    machine.inject(Fault::named("XEN_DOMCTL_destroydomain", Effect::Fail(Errno::EPERM)).times(2));
    for _ in 0..2 {
        let error = xen.destroy_domain(domain).unwrap_err();
        let leak = xen.note_leak(error);
        assert_eq!((xen.leak_of(domain), xen.leaked()), (Some(leak), 1), "it is one domain");
        assert!(!xen.is_gone(domain), "it is there, though it is not dying");
    }
    xen.destroy_domain(domain).unwrap();
    assert!(xen.is_gone(domain) && xen.leak_of(domain).is_none());
    assert_eq!((xen.leaked(), xen.going()), (0, vec![]));
    machine.assert_clean();
}

/// What was not destroyed and has gone by itself leaves its identifier to others.
#[test]
fn a_domain_that_has_the_identifier_of_a_leaked_one_is_another() {
    let machine = Machine::builder().build();
    let xen = Xen::probe(machine.dom0()).unwrap();
    let domain = xen.create_domain(None, &request()).unwrap();
    machine.inject(Fault::named("XEN_DOMCTL_destroydomain", Effect::Fail(Errno::EPERM)).times(1));
    let _ = xen.note_leak(xen.destroy_domain(domain).unwrap_err());
    let other = Xen::probe(machine.dom0()).unwrap();
    other.destroy_domain(domain).unwrap();
    machine.settle();
    assert_eq!(xen.create_domain(Some(domain), &request()), Ok(domain));
    assert_eq!((xen.leaked(), xen.is_gone(domain)), (0, true), "of the first nothing is left");
    xen.destroy_domain(domain).unwrap();
    machine.assert_clean();
}

#[test]
fn a_destroy_call_that_frees_pages_is_made_again_however_often_it_is_handed_back() {
    const PAGES: u64 = 5000;
    let machine = Machine::builder().memory(PageCount::new(0x4000)).build();
    let xen = Xen::probe(machine.dom0()).unwrap();
    let domain = xen.create_domain(None, &request()).unwrap();
    xen.set_max_memory(domain, PageCount::new(PAGES)).unwrap();
    let mut extents: Vec<u64> = (0..PAGES).collect();
    xen.populate(domain, 0, &mut extents).unwrap();
    // One page in each piece, and then nothing but pieces that are no pages.
    let part = Effect::Short(1);
    machine.inject(Fault::named("XEN_DOMCTL_destroydomain", part).times(usize::try_from(PAGES).unwrap()));
    machine.inject(
        Fault::named("XEN_DOMCTL_destroydomain", Effect::Fail(Errno::ERESTART))
            .after(usize::try_from(PAGES).unwrap())
            .times(500),
    );
    xen.destroy_domain(domain).unwrap();
    machine.assert_clean();
}

#[test]
fn a_domain_is_unknown_when_xen_says_so_twice() {
    for release in Release::ALL {
        let machine = Machine::with_release(release);
        let xen = Xen::probe(machine.dom0()).unwrap();
        let domain = xen.create_domain(None, &request()).unwrap();
        let unknown = || Fault::named("XEN_DOMCTL_getdomaininfo", Effect::Fail(Errno::ESRCH));
        machine.inject(unknown().times(1));
        assert!(xen.find_domain(domain).unwrap().is_some(), "{release}");
        machine.inject(unknown().times(2));
        assert!(xen.find_domain(domain).unwrap().is_none(), "{release}");
        assert!(xen.find_domain(DomId::new(9)).unwrap().is_none(), "{release}");
        machine.inject(Fault::named("XEN_DOMCTL_getdomaininfo", Effect::Fail(Errno::EACCES)).times(1));
        assert_eq!(xen.find_domain(domain).unwrap_err().errno, Errno::EACCES, "{release}");
    }
}

#[test]
fn a_destroyed_domain_is_going_until_it_is_gone() {
    for release in Release::ALL {
        let machine = Machine::with_release(release);
        let xen = Xen::probe(machine.dom0()).unwrap();
        let [stays, goes] =
            [1, 2].map(|domid| xen.create_domain(Some(DomId::new(domid)), &request()).unwrap());
        machine.inject(Fault::named("XEN_DOMCTL_destroydomain", Effect::Hold).times(1));
        xen.destroy_domain(stays).unwrap();
        xen.destroy_domain(goes).unwrap();
        assert_eq!(xen.going(), [stays], "{release}");
        assert!(!xen.is_gone(stays) && xen.is_gone(goes), "{release}");
    }
}

#[test]
fn an_error_says_call_domain_and_cause() {
    let xen = Xen::probe(Machine::with_release(Release::V4_17).dom0()).unwrap();
    let error = xen.unpause_domain(DomId::new(12)).unwrap_err();
    assert_eq!(error.to_string(), "XEN_DOMCTL_unpausedomain for domain 12: ESRCH (no such domain)");
    let error = xen.send(Port::new(40)).unwrap_err();
    assert_eq!(error.call, "EVTCHNOP_send");
}

#[test]
fn calls_are_counted() {
    let xen = Xen::probe(Machine::with_release(Release::V4_17).dom0()).unwrap();
    let before = xen.counts().total();
    let _info = xen.domain_info(DomId::new(0)).unwrap();
    xen.console_write(b"x").unwrap();
    assert_eq!(xen.counts().total() - before, 2);
}

#[test]
fn what_was_typed_is_read_once() {
    let machine = Machine::with_release(Release::V4_17);
    let xen = Xen::probe(machine.dom0()).unwrap();
    machine.type_at_console(b"abcdef");
    let mut buffer = [0; 4];
    assert_eq!(xen.console_read(&mut buffer), Ok(4));
    assert_eq!(&buffer, b"abcd");
    assert_eq!(xen.console_read(&mut buffer), Ok(2));
    assert_eq!(xen.console_read(&mut buffer), Ok(0));
}

#[test]
fn more_than_the_serial_buffer_holds_is_dropped() {
    let machine = Machine::with_release(Release::V4_17);
    let xen = Xen::probe(machine.dom0()).unwrap();
    assert_eq!(machine.type_at_console(&[b'x'; 200]), 128);
    assert_eq!(machine.type_at_console(b"y"), 0);
    assert_eq!(xen.console_read(&mut [0; 256]), Ok(128));
}

#[test]
fn all_domains_are_listed_however_many_there_are() {
    for release in Release::ALL {
        let machine = Machine::with_release(release);
        let xen = Xen::probe(machine.dom0()).unwrap();
        let mut expected = vec![DomId::new(0)];
        assert_eq!(xen.domains(), Ok(Some(expected.clone())), "{release}");
        for domid in [5, 9].into_iter().chain(100..170) {
            expected.push(xen.create_domain(Some(DomId::new(domid)), &request()).unwrap());
        }
        assert_eq!(xen.domains(), Ok(Some(expected)), "{release}");
    }
}

#[test]
fn what_xen_said_is_read_in_pieces_and_stays() {
    for release in Release::ALL {
        let machine = Machine::with_release(release);
        let xen = Xen::probe(machine.dom0()).unwrap();
        assert_eq!(xen.console_ring(1 << 20), Ok(Some(Vec::new())));
        let text = "(XEN) one line of many\n".repeat(1000);
        machine.xen_says(&text);
        assert_eq!(xen.console_ring(1 << 20), Ok(Some(text.clone().into_bytes())), "{release}");
        assert_eq!(xen.console_ring(1 << 20), Ok(Some(text.clone().into_bytes())), "{release}, again");
        assert_eq!(xen.console_ring(5000), Ok(Some(text.as_bytes()[..5000].to_vec())), "{release}");
    }
}
