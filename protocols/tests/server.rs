//! db-server's part of the platform spec: its bytes, its ranges, and what it and the VMs must agree on.
#![allow(missing_docs, reason = "a test's name says what it checks")]

use proptest::prelude::*;
use protocols::channel::ChannelWord;
use protocols::header::HEADER_LEN;
use protocols::message::Quota;
use protocols::platform::{Disagreement, MAX_BODY_LEN, PlatformSpecError};
use protocols::server::{
    CHANNEL_WORD_ROOM, Controller, ImageAccess, MAX_CONTROLLERS, MAX_LISTED_IMAGES, MAX_REQUESTS, NAME,
    Orphans, Rights, ServerSpec, channel_word,
};
use protocols::settings::{Access, IoMemory, IoPorts, MAX_FRAME, MAX_RANGES};
use protocols::spec::{MAX_COMMAND_LINE_LEN, MAX_IMAGE_NAME_LEN, MAX_MEMORY_KIB, MAX_NAME_LEN};
use protocols::{BootSpec, PlatformSpec, Settings};

fn controller(vm: &str, domids: (u16, u16)) -> Controller {
    let quota = Quota {
        memory_kib: 300,
        vms: 3,
        first_domid: domids.0,
        last_domid: domids.1,
        store_bytes: 1024,
        requests: 4,
    };
    Controller {
        vm: vm.into(),
        quota,
        images: ImageAccess::Listed(vec!["images/a".into()]),
        may: Rights {
            devices: Access {
                io_memory: vec![IoMemory { first: 0xfe0, pages: 2, guest: None }],
                io_ports: vec![IoPorts { first: 0x2f8, last: 0x2ff }],
                interrupts: vec![3],
            },
            placement: true,
            labels: vec!["a:b:c".into()],
        },
        orphans: Orphans::Destroy,
    }
}

fn sample() -> ServerSpec {
    let mut second = controller("b", (0, 0));
    second.images = ImageAccess::Any;
    second.may = Rights::default();
    second.orphans = Orphans::Keep;
    second.quota.store_bytes = 0;
    ServerSpec { store_kib: 64, controllers: vec![controller("a", (100, 199)), second] }
}

fn platform(server: ServerSpec) -> PlatformSpec {
    PlatformSpec { server: Some(server), ..PlatformSpec::default() }
}

#[rustfmt::skip]
const GOLDEN: &[u8] = &[
    1,                                              // there is a server
    64,                                             // store
    2,                                              // controllers
    1, b'a',
    0xac, 0x02, 3, 100, 0xc7, 1, 0x80, 8, 4,        // quota
    1, 1, 8, b'i', b'm', b'a', b'g', b'e', b's', b'/', b'a', // images
    1, 0xe0, 0x1f, 2, 0,                            // I/O memory
    1, 0xf8, 5, 0xff, 5,                            // I/O ports
    1, 3,                                           // interrupts
    1,                                              // placement
    1, 5, b'a', b':', b'b', b':', b'c',             // labels
    1,                                              // orphans
    1, b'b',
    0xac, 0x02, 3, 0, 0, 0, 4,
    2,
    0, 0, 0,
    0,
    0,
    0,
    0,                                              // no time to power off: the last field of the platform
];

#[test]
fn the_bytes_are_pinned() {
    let bytes = platform(sample()).encode().unwrap();
    assert_eq!(bytes[HEADER_LEN..][..7], [0; 7]);
    assert_eq!(&bytes[HEADER_LEN + 7..], GOLDEN);
    assert_eq!(PlatformSpec::decode(&bytes).unwrap(), platform(sample()));
}

#[test]
fn variant_numbers_are_pinned() {
    fn numbers<T: serde::Serialize>(variants: &[T]) -> Vec<u8> {
        variants.iter().map(|variant| postcard::to_allocvec(variant).unwrap()[0]).collect()
    }
    let images = [ImageAccess::None, ImageAccess::Listed(Vec::new()), ImageAccess::Any];
    assert_eq!(numbers(&images), [0, 1, 2]);
    assert_eq!(numbers(&[Orphans::Keep, Orphans::Destroy]), [0, 1]);
}

#[test]
fn no_changed_byte_panics_or_reads_as_the_same_spec() {
    let bytes = platform(sample()).encode().unwrap();
    for at in 0..bytes.len() {
        for value in (0..=u8::MAX).filter(|value| *value != bytes[at]) {
            let mut changed = bytes.clone();
            changed[at] = value;
            assert_ne!(
                PlatformSpec::decode(&changed).ok(),
                Some(platform(sample())),
                "byte {at} = {value:#x}"
            );
        }
        assert!(PlatformSpec::decode(&bytes[..at]).is_err(), "{at}");
    }
}

#[test]
fn every_field_has_its_range() {
    let bad = |change: fn(&mut ServerSpec)| {
        let mut spec = sample();
        change(&mut spec);
        let error = platform(spec.clone()).encode().unwrap_err();
        assert_eq!(spec.validate().map_err(PlatformSpecError::from), Err(error.clone()));
        error.to_string()
    };
    for (error, expected) in [
        (
            bad(|spec| spec.controllers[0].may.labels = vec!["a:b:c".into(), "a:b:c".into()]),
            "controller \"a\": label \"a:b:c\" is named twice",
        ),
        (bad(|spec| spec.controllers[0].may.labels = vec!["a b:c:d".into()]), "controller \"a\": "),
        (
            bad(|spec| spec.controllers[0].may.labels = (0..17).map(|n| format!("a:b:c{n}")).collect()),
            "controller \"a\": 17 labels: 16 at most",
        ),
        (bad(|spec| spec.store_kib = MAX_MEMORY_KIB + 1), "a store of "),
        (bad(|spec| spec.controllers.clear()), "0 controllers: 1 to 16"),
        (bad(|spec| spec.controllers = vec![controller("x", (0, 0)); 17]), "17 controllers"),
        (bad(|spec| spec.controllers[1].vm = "a".into()), "\"a\" is named twice"),
        (bad(|spec| spec.controllers[0].vm = "a b".into()), "name \"a b\""),
        (bad(|spec| spec.controllers[0].quota.memory_kib = 0), "memory in KiB of 0: must be 1 to"),
        (bad(|spec| spec.controllers[0].quota.vms = 2001), "a number of VMs of 2001: must be 1 to 2000"),
        (bad(|spec| spec.controllers[0].quota.requests = 65), "requests of 65: must be 1 to 64"),
        (
            bad(|spec| spec.controllers[0].quota.store_bytes = 65537),
            "65537 bytes of images, and the whole store has 64",
        ),
        (bad(|spec| spec.controllers[0].quota.first_domid = 200), "200 to 199: the first"),
        (bad(|spec| spec.controllers[0].quota.first_domid = 0), "domid 0: must be 1 to"),
        (bad(|spec| spec.controllers[0].quota.last_domid = 0x7ff0), "domid 32752: must be"),
        (
            bad(|spec| {
                let quota = &mut spec.controllers[1].quota;
                (quota.first_domid, quota.last_domid) = (150, 250);
            }),
            "\"a\" and \"b\" both have domain id 150",
        ),
        (bad(|spec| spec.controllers[0].images = ImageAccess::Listed(Vec::new())), "0 images: 1 to 32"),
        (
            bad(|spec| spec.controllers[0].images = ImageAccess::Listed(vec!["i".into(); 2])),
            "\"i\" is named twice",
        ),
        (
            bad(|spec| spec.controllers[0].images = ImageAccess::Listed(vec!["../i".into()])),
            "must name an entry",
        ),
        (bad(|spec| spec.controllers[0].may.devices.interrupts = vec![0]), "controller \"a\": interrupt 0"),
    ] {
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn the_longest_spec_fits() {
    let longest = |index: usize| {
        let mut controller = controller(&format!("{index:0MAX_NAME_LEN$}"), (0, 0));
        controller.quota = Quota {
            memory_kib: MAX_MEMORY_KIB,
            vms: 2000,
            first_domid: 1000 + u16::try_from(index).unwrap(),
            last_domid: 1000 + u16::try_from(index).unwrap(),
            store_bytes: MAX_MEMORY_KIB * 1024,
            requests: MAX_REQUESTS,
        };
        let names = (0..MAX_LISTED_IMAGES).map(|number| format!("{number:0MAX_IMAGE_NAME_LEN$}")).collect();
        controller.images = ImageAccess::Listed(names);
        controller.may.devices = Access {
            io_memory: vec![IoMemory { first: MAX_FRAME, pages: 1, guest: None }; MAX_RANGES],
            io_ports: vec![IoPorts { first: u16::MAX, last: u16::MAX }; MAX_RANGES],
            interrupts: vec![15; MAX_RANGES],
        };
        controller
    };
    let spec = platform(ServerSpec {
        store_kib: MAX_MEMORY_KIB,
        controllers: (0..MAX_CONTROLLERS).map(longest).collect(),
    });
    let bytes = spec.encode().unwrap();
    assert!(bytes.len() < MAX_BODY_LEN * 3 / 4, "{}", bytes.len());
    assert_eq!(PlatformSpec::decode(&bytes), Ok(spec));
}

#[test]
fn the_word_of_a_channel_never_takes_more_room_than_is_kept_for_it() {
    let longest = format!(" {}", channel_word(u32::MAX, u32::MAX));
    assert_eq!(longest.len(), CHANNEL_WORD_ROOM);
    assert_eq!(ChannelWord::on(&longest).next(), Some(channel_word(u32::MAX, u32::MAX)));
}

fn vm(name: &str, domid: Option<u16>) -> BootSpec {
    BootSpec { domid, ..BootSpec::new(name, "k", 1024) }
}

#[test]
fn controllers_are_vms_with_domain_ids_and_room_on_their_command_lines() {
    let spec = platform(sample());
    let mut vms = [vm("a", Some(7)), vm("b", Some(8)), vm("c", None)];
    vms[0].command_line = "x".repeat(MAX_COMMAND_LINE_LEN - CHANNEL_WORD_ROOM);
    let found = |vms: &[BootSpec]| spec.disagreements(&vms.iter().collect::<Vec<_>>());
    assert_eq!(found(&vms), []);
    vms[0].command_line.push('x');
    vms[1].domid = None;
    vms[2].domid = Some(199);
    let expected = [
        Disagreement::NoRoomForChannel { name: "a".into(), length: 977 },
        Disagreement::ControllerWithoutDomid { name: "b".into() },
        Disagreement::DomidIsControllers { name: "c".into(), domid: 199, controller: "a".into() },
    ];
    assert_eq!(found(&vms), expected);
    let others = [vm("a", Some(7)), vm(NAME, None)];
    let expected = [Disagreement::ControllerIsNobody { name: "b".into() }, Disagreement::NamedLikeServer];
    assert_eq!(found(&others), expected);
}

#[test]
fn rights_are_to_what_lies_in_the_ranges_altogether() {
    let may = Rights {
        devices: Access {
            io_memory: vec![
                IoMemory { first: 0x20, pages: 0x10, guest: None },
                IoMemory { first: 0x10, pages: 0x10, guest: None },
            ],
            io_ports: vec![IoPorts { first: 0x3f8, last: 0x3ff }],
            interrupts: vec![4],
        },
        placement: false,
        labels: vec!["a:b:c".into(), "a:b:d".into()],
    };
    let asked = |change: fn(&mut Settings)| {
        let mut settings = Settings::default();
        change(&mut settings);
        may.allow(&settings).map_err(|refusal| refusal.to_string())
    };
    assert_eq!(asked(|_| ()), Ok(()));
    assert_eq!(
        asked(|s| s.access.io_memory = vec![IoMemory { first: 0x10, pages: 0x20, guest: None }]),
        Ok(())
    );
    assert_eq!(asked(|s| s.access.io_ports = vec![IoPorts { first: 0x3fa, last: 0x3fa }]), Ok(()));
    assert_eq!(asked(|s| s.access.interrupts = vec![4]), Ok(()));
    for (asked, begins) in [
        (
            asked(|s| s.access.io_memory = vec![IoMemory { first: 0x10, pages: 0x21, guest: None }]),
            "I/O memory 0x10,0x21: ",
        ),
        (
            asked(|s| s.access.io_memory = vec![IoMemory { first: 0xf, pages: 2, guest: None }]),
            "I/O memory 0xf,0x2: ",
        ),
        (
            asked(|s| s.access.io_ports = vec![IoPorts { first: 0x3f8, last: 0x400 }]),
            "I/O ports 0x3f8-0x400: ",
        ),
        (asked(|s| s.access.interrupts = vec![4, 5]), "interrupt 5: "),
        (asked(|s| s.placement.weight = Some(512)), "cpus, "),
        (asked(|s| s.labels.running = Some("a:b:e".into())), "label \"a:b:e\": "),
        (
            asked(|s| (s.labels.running, s.labels.building) = (Some("a:b:c".into()), Some("a:b:e".into()))),
            "label \"a:b:e\": ",
        ),
    ] {
        assert!(asked.as_ref().is_err_and(|text| text.starts_with(begins)), "{asked:?}");
    }
}

proptest! {
    #[test]
    fn ranges_cover_what_counting_says(
        have in prop::collection::vec((0_u16..40, 1_u16..12), 0..6),
        first in 0_u16..50,
        count in 1_u16..20,
    ) {
        let ports = |&(first, count): &(u16, u16)| IoPorts { first, last: first + count - 1 };
        let devices = Access { io_ports: have.iter().map(ports).collect(), ..Access::default() };
        let wanted = Access { io_ports: vec![ports(&(first, count))], ..Access::default() };
        let one = |port: u16| devices.io_ports.iter().any(|range| (range.first..=range.last).contains(&port));
        let all = (first..first + count).all(one);
        prop_assert_eq!(devices.first_lacking(&wanted).is_none(), all);
    }
}
