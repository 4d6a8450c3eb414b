//! The boot spec's wire format, pinned: golden bytes, variant numbers, corrupt input, round trips.
#![allow(clippy::unwrap_used, reason = "a helper of a test may stop it at the first surprise")]
#![allow(missing_docs, reason = "a test's name says what it checks")]

use proptest::prelude::*;
use protocols::header::HeaderError;
use protocols::life::{MAX_AFTER, MAX_RESTART_DELAY_MS, MAX_RESTART_LIMIT};
use protocols::module::{MAX_MODULES, Module};
use protocols::settings::{
    Access, Affinity, Claims, CpuRange, CpuSet, CpuidChange, IoMemory, IoPorts, Labels, Limits, MAX_CAP,
    MAX_CPU_RANGES, MAX_CPUID_CHANGES, MAX_EVENT_CHANNELS, MAX_FRAME, MAX_INTERRUPT, MAX_LABEL_LEN,
    MAX_PAGING_POOL_MIB, MAX_RANGES, MAX_TABLE_FRAMES, MAX_WEIGHT, Paging, Placement, Processor, Register,
    TscMode,
};
use protocols::spec::{HEADER_LEN, MAX_BODY_LEN, MAX_MEMORY_KIB, MAX_VCPUS, check_name};
use protocols::{
    BootSpec, Channels, ExitAction, GuestKind, Life, Settings, SettingsError, SpecError, StoreRole,
};

fn sample() -> BootSpec {
    BootSpec {
        name: "web".into(),
        kind: GuestKind::Pv,
        domid: Some(300),
        uuid: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
        vcpus: 2,
        memory_kib: 65536,
        max_memory_kib: 131_072,
        kernel: "images/k".into(),
        ramdisk: Some("images/r".into()),
        command_line: "a=b".into(),
        on_poweroff: ExitAction::Destroy,
        on_reboot: ExitAction::Destroy,
        on_crash: ExitAction::Preserve,
        life: Life {
            on_watchdog: ExitAction::Restart,
            restart_limit: 5,
            restart_delay_ms: 250,
            critical: true,
            after: vec!["db".into()],
            ready: Some("up".into()),
        },
        channels: Channels { clients: vec![7, 0x1234] },
        settings: Settings {
            access: Access {
                io_memory: vec![IoMemory { first: 0xb8, pages: 8, guest: Some(0x81) }],
                io_ports: vec![IoPorts { first: 0x70, last: 0x71 }],
                interrupts: vec![8],
            },
            limits: Limits {
                event_channels: 127,
                grant_frames: 4,
                maptrack_frames: 0,
                grant_version: Some(1),
            },
            placement: Placement {
                hard: Affinity::All(cpus(&[0, 1, 2, 5])),
                soft: Affinity::Each(vec![cpus(&[1])]),
                weight: Some(512),
                cap: Some(50),
                pool: 0,
            },
            labels: Labels { running: Some("u:r:t".into()), building: Some("u:r:b".into()) },
            processor: Processor {
                tsc: TscMode::Native,
                stays: true,
                relaxed_msrs: false,
                cpuid: vec![change()],
                online: Some(1),
                paging: Paging::Any,
                shadows_in_sync: false,
                paging_pool_mib: None,
            },
            claims: Claims { privileged: true, initial_domain: true, module_list: false },
        },
        store: StoreRole::Client { server: 0x345 },
        modules: Vec::new(),
    }
}

fn modules(count: usize) -> Vec<Module> {
    vec![Module { bytes: 1, command_line: String::new() }; count]
}

fn change() -> CpuidChange {
    CpuidChange { leaf: 7, subleaf: 0, register: Register::Ecx, ones: 1, zeros: 0x80, host: 2 }
}

fn cpus(list: &[u32]) -> CpuSet {
    CpuSet::new(list.iter().copied()).unwrap()
}

#[rustfmt::skip]
const GOLDEN: &[u8] = &[
    b'D', b'B', b'S', b'P', b'E', b'C', 0, 0,   1, 0,   0, 0,   145, 0, 0, 0,
    3, b'w', b'e', b'b',
    0,                                              // kind
    1, 0xac, 0x02,                                  // domid 300
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15,
    2,                                              // vcpus
    0x80, 0x80, 0x04,                               // memory
    0x80, 0x80, 0x08,                               // maximum memory
    8, b'i', b'm', b'a', b'g', b'e', b's', b'/', b'k',
    1, 8, b'i', b'm', b'a', b'g', b'e', b's', b'/', b'r',
    3, b'a', b'=', b'b',
    0, 0, 1,                                        // on_poweroff, on_reboot, on_crash
    2,                                              // on_watchdog
    5, 0xfa, 0x01, 1,                               // restart_limit, restart_delay_ms, critical
    1, 2, b'd', b'b',                               // after
    1, 2, b'u', b'p',                               // ready
    2, 7, 0xb4, 0x24,                               // channels
    1, 0xb8, 0x01, 8, 1, 0x81, 0x01,                // I/O memory
    1, 0x70, 0x71,                                  // I/O ports
    1, 8,                                           // interrupts
    0x7f, 4, 0, 1, 1,                               // event channels, grant frames, maptrack frames, grant version
    1, 2, 0, 2, 5, 5,                               // hard affinity: all vCPUs, two ranges
    2, 1, 1, 1, 1,                                  // soft affinity: each vCPU, one set of one range
    1, 0x80, 0x04, 1, 50, 0,                        // weight, cap, pool
    1, 5, b'u', b':', b'r', b':', b't',             // label
    1, 5, b'u', b':', b'r', b':', b'b',             // label to build with
    2, 1, 0,                                        // time-stamp counter, stays, relaxed registers
    1, 7, 0, 2, 1, 0x80, 0x01, 2,                   // changes of CPUID: leaf, subleaf, register, ones, zeros, host
    1, 1,                                           // vCPUs that are on at the start
    0, 0, 0,                                        // paging, shadows in sync, paging pool
    1, 1, 0,                                        // claims: privileged, initial domain, module list
    1, 0xc5, 0x06,                                  // store: a client of domain 0x345
    0,                                              // modules
];

#[test]
fn the_bytes_are_pinned() {
    assert_eq!(sample().encode().unwrap(), GOLDEN);
    assert_eq!(BootSpec::decode(GOLDEN).unwrap(), sample());
}

#[test]
fn the_numbers_of_roles_are_pinned() {
    let roles = [StoreRole::None, StoreRole::Client { server: 9 }, StoreRole::Server, StoreRole::Own];
    assert_eq!(roles.map(|role| postcard::to_allocvec(&role).unwrap()[0]), [0, 1, 2, 3]);
    let first = |store| {
        let channels = Channels { clients: vec![7] };
        let spec = BootSpec { store, domid: Some(5), channels, ..BootSpec::new("web", "k", 4096) };
        assert_eq!(BootSpec::decode(&spec.encode().unwrap()), Ok(spec.clone()));
        spec.channel_ports().next()
    };
    assert_eq!(roles.map(first), [2, 3, 2, 3].map(|port| Some((7, port))), "behind the ring of a store");
}

/// The list of modules ends the spec: each has its bytes and its command line.
#[test]
fn the_bytes_of_modules_are_pinned() {
    let modules = vec![
        Module { bytes: 300, command_line: String::new() },
        Module { bytes: 1, command_line: "c=d".into() },
    ];
    let bytes = BootSpec { kind: GuestKind::Pvh, modules, ..sample() }.encode().unwrap();
    assert_eq!(bytes[bytes.len() - 9..], [2, 0xac, 2, 0, 1, 3, b'c', b'=', b'd']);
}

/// As in public/xen.h: SIF_PRIVILEGED, SIF_INITDOMAIN, SIF_MULTIBOOT_MOD.
#[test]
fn claims_are_the_flags_of_xens_header() {
    let flags = [("privileged", 1), ("initdomain", 2), ("multiboot_mod", 4)];
    for (index, (name, flag)) in flags.into_iter().enumerate() {
        let mut claims = Claims::default();
        *claims.by_name()[index].1 = true;
        assert_eq!((claims.sif_flags(), claims.names().collect::<Vec<_>>()), (flag, vec![name]));
    }
}

#[test]
fn variant_numbers_are_pinned() {
    let number = |bytes: Vec<u8>| bytes[0];
    assert_eq!(number(postcard::to_allocvec(&GuestKind::Pv).unwrap()), 0);
    let pagings = [Paging::Any, Paging::Nested, Paging::Shadow];
    assert_eq!(pagings.map(|paging| number(postcard::to_allocvec(&paging).unwrap())), [0, 1, 2]);
    assert_eq!(number(postcard::to_allocvec(&ExitAction::Destroy).unwrap()), 0);
    assert_eq!(number(postcard::to_allocvec(&ExitAction::Preserve).unwrap()), 1);
    assert_eq!(number(postcard::to_allocvec(&ExitAction::Restart).unwrap()), 2);
}

#[test]
fn every_truncation_is_an_error() {
    for length in 0..GOLDEN.len() {
        let error = BootSpec::decode(&GOLDEN[..length]).unwrap_err();
        assert!(
            matches!(error, SpecError::Header(HeaderError::Truncated { have, .. }) if have == length),
            "{length}: {error}"
        );
    }
}

#[test]
fn every_truncation_with_a_matching_length_is_an_error() {
    for length in HEADER_LEN..GOLDEN.len() {
        let mut bytes = GOLDEN[..length].to_vec();
        bytes[12] = u8::try_from(length - HEADER_LEN).unwrap();
        assert!(matches!(BootSpec::decode(&bytes), Err(SpecError::BadBody { .. })), "{length}");
    }
}

#[test]
fn no_changed_byte_panics_or_reads_as_the_same_spec() {
    for at in 0..GOLDEN.len() {
        for value in 0..=u8::MAX {
            let mut bytes = GOLDEN.to_vec();
            bytes[at] = value;
            if let Ok(spec) = BootSpec::decode(&bytes) {
                assert_eq!(spec.encode().unwrap(), bytes, "byte {at} = {value:#x}");
            }
        }
    }
}

#[test]
fn a_name_is_no_time_stamp_and_needs_no_quotes() {
    for good in ["a", "1", "1.5", "12.345678x", "1.23456", "1.2345678", "a~b+c@d:e"] {
        assert_eq!(check_name(good), Ok(()), "{good}");
    }
    for bad in ["", ".a", "-a", "a b", "a/b", "a'b", "a\n"] {
        assert!(matches!(check_name(bad), Err(SpecError::BadName { .. })), "{bad}");
    }
    for time in ["0.123456", "12.345678"] {
        assert!(matches!(check_name(time), Err(SpecError::NameIsTime { .. })), "{time}");
    }
}

#[test]
fn a_longer_form_of_a_number_is_refused() {
    let mut bytes = GOLDEN.to_vec();
    let vcpus = bytes.iter().position(|&b| b == 15).unwrap() + 1;
    bytes.splice(vcpus..=vcpus, [0x82, 0x00]);
    bytes[12] += 1;
    assert_eq!(BootSpec::decode(&bytes), Err(SpecError::NotCanonical));
}

#[test]
fn each_lie_of_the_header_has_its_error() {
    let with = |at: usize, value: u8| {
        let mut bytes = GOLDEN.to_vec();
        bytes[at] = value;
        BootSpec::decode(&bytes).unwrap_err()
    };
    let body = GOLDEN[12];
    assert!(matches!(with(0, b'X'), SpecError::Header(HeaderError::BadMagic { .. })));
    assert_eq!(with(8, 2), HeaderError::UnknownVersion { found: 2, known: 1 }.into());
    assert_eq!(with(11, 1), HeaderError::ReservedNotZero { found: 0x100 }.into());
    assert_eq!(
        with(15, 0xff),
        HeaderError::BodyTooLong { length: 0xff00_0000 + usize::from(body), most: MAX_BODY_LEN }.into()
    );
    assert_eq!(with(12, body - 1), HeaderError::TrailingBytes { count: 1 }.into());
    assert_eq!(
        with(12, body + 1),
        HeaderError::Truncated { have: GOLDEN.len(), need: GOLDEN.len() + 1 }.into()
    );
}

#[test]
fn bytes_after_the_body_are_an_error() {
    let mut bytes = GOLDEN.to_vec();
    bytes.push(0);
    assert_eq!(BootSpec::decode(&bytes), Err(HeaderError::TrailingBytes { count: 1 }.into()));
    bytes[12] += 1;
    assert_eq!(BootSpec::decode(&bytes), Err(SpecError::TrailingBytes { count: 1 }));
}

/// One wrong field each: the name, the change, and how the message starts.
type WrongField = (&'static str, fn(&mut BootSpec), &'static str);

const WRONG_FIELDS: &[WrongField] = &[
    ("empty name", |s| s.name.clear(), "name \"\""),
    ("long name", |s| s.name = "x".repeat(64), "name \"xxxx"),
    ("name with slash", |s| s.name = "a/b".into(), "name \"a/b\""),
    ("name starts with dash", |s| s.name = "-a".into(), "name \"-a\""),
    ("name not ascii", |s| s.name = "é".into(), "name \"é\""),
    ("domid 0", |s| s.domid = Some(0), "domid 0: must be 1 to 32751"),
    ("reserved domid", |s| s.domid = Some(0x7ff0), "domid 32752"),
    ("no vCPU", |s| s.vcpus = 0, "0 vCPUs"),
    ("no vCPU on", |s| s.settings.processor.online = Some(0), "0 of 2 vCPUs on at the start"),
    ("all vCPUs on, said twice", |s| s.settings.processor.online = Some(2), "2 of 2 vCPUs on at the start"),
    ("modules of a PV guest", |s| s.modules = modules(1), "modules: a PV guest is told of one RAM disk"),
    (
        "a list of modules of a PVH guest",
        |s| (s.kind, s.settings.claims.module_list) = (GuestKind::Pvh, true),
        "RAM disk: `multiboot_mod` says that it is a list",
    ),
    (
        "a list of modules that is not there",
        |s| (s.ramdisk, s.settings.claims.module_list) = (None, true),
        "RAM disk: `multiboot_mod`",
    ),
    (
        "shadow paging of a PV guest",
        |s| s.settings.processor.paging = Paging::Shadow,
        "`hap`, `oos` and `shadow_memory` are for PVH guests",
    ),
    (
        "shadows in sync of a PV guest",
        |s| s.settings.processor.shadows_in_sync = true,
        "`hap`, `oos` and `shadow_memory` are for PVH guests",
    ),
    (
        "a paging pool of a PV guest",
        |s| s.settings.processor.paging_pool_mib = Some(1),
        "`hap`, `oos` and `shadow_memory` are for PVH guests",
    ),
    (
        "no paging pool",
        |s| (s.kind, s.settings.processor.paging_pool_mib) = (GuestKind::Pvh, Some(0)),
        "a paging pool in MiB of 0: must be 1 to 1048576",
    ),
    (
        "too large a paging pool",
        |s| s.settings.processor.paging_pool_mib = Some(MAX_PAGING_POOL_MIB + 1),
        "a paging pool in MiB of 1048577",
    ),
    (
        "modules of no RAM disk",
        |s| (s.kind, s.modules, s.ramdisk) = (GuestKind::Pvh, modules(1), None),
        "1 modules",
    ),
    ("too many modules", |s| (s.kind, s.modules) = (GuestKind::Pvh, modules(13)), "13 modules"),
    (
        "an empty module",
        |s| {
            (s.kind, s.modules) = (GuestKind::Pvh, modules(2));
            s.modules[1].bytes = 0;
        },
        "module 1: must have 1 byte",
    ),
    (
        "a module's command line with a NUL",
        |s| {
            (s.kind, s.modules) = (GuestKind::Pvh, modules(1));
            s.modules[0].command_line.push('\0');
        },
        "module 0: ",
    ),
    ("too many vCPUs", |s| s.vcpus = MAX_VCPUS + 1, "513 vCPUs"),
    ("no memory", |s| s.memory_kib = 0, "memory of 0 KiB"),
    ("half a page", |s| s.memory_kib = 65538, "memory of 65538 KiB"),
    ("too much memory", |s| s.memory_kib = MAX_MEMORY_KIB + 4, "memory of "),
    ("maximum below start", |s| s.max_memory_kib = 65532, "maximum memory of 65532 KiB"),
    ("maximum with half a page", |s| s.max_memory_kib = 65538, "maximum memory of 65538 KiB"),
    ("too high a maximum", |s| s.max_memory_kib = u64::MAX - 3, "maximum memory of "),
    ("no kernel", |s| s.kernel.clear(), "kernel \"\""),
    ("absolute kernel", |s| s.kernel = "/boot/k".into(), "kernel \"/boot/k\""),
    ("kernel climbs out", |s| s.kernel = "images/../k".into(), "kernel \"images/../k\""),
    ("kernel with a NUL", |s| s.kernel = "k\0".into(), "kernel \"k\\0\""),
    ("long kernel name", |s| s.kernel = "k".repeat(256), "kernel \"kkk"),
    ("empty ramdisk", |s| s.ramdisk = Some(String::new()), "ramdisk \"\""),
    ("long command line", |s| s.command_line = "x".repeat(1024), "command line of 1024 bytes"),
    (
        "command line with a NUL",
        |s| s.command_line = "ab\0c".into(),
        "command line: a NUL character at byte 2",
    ),
    ("no restart", |s| s.life.restart_limit = 0, "restart limit of 0"),
    ("too many restarts", |s| s.life.restart_limit = MAX_RESTART_LIMIT + 1, "restart limit of 1000001"),
    ("I/O memory of no page", |s| s.settings.access.io_memory[0].pages = 0, "I/O memory of 0x0 pages"),
    (
        "I/O memory beyond all addresses",
        |s| s.settings.access.io_memory[0].first = MAX_FRAME,
        "I/O memory of 0x8 pages from page 0xffffffffff",
    ),
    (
        "I/O memory that wraps",
        |s| s.settings.access.io_memory[0] = IoMemory { first: 1, pages: u64::MAX, guest: None },
        "I/O memory of 0xffffffffffffffff",
    ),
    ("I/O ports backwards", |s| s.settings.access.io_ports[0].last = 0x6f, "I/O ports 0x70 to 0x6f"),
    (
        "too high an interrupt",
        |s| s.settings.access.interrupts[0] = MAX_INTERRUPT + 1,
        "interrupt 16: must be 1 to 15",
    ),
    ("the timer's interrupt", |s| s.settings.access.interrupts[0] = 0, "interrupt 0: must be 1 to 15"),
    ("too many interrupts", |s| s.settings.access.interrupts = vec![1; 65], "65 interrupts: at most 64"),
    (
        "no event channel",
        |s| s.settings.limits.event_channels = 0,
        "event channels of 0: must be 1 to 131071",
    ),
    ("no grant frame", |s| s.settings.limits.grant_frames = 0, "grant frames of 0"),
    ("unknown grant version", |s| s.settings.limits.grant_version = Some(3), "grant table version of 3"),
    ("no weight", |s| s.settings.placement.weight = Some(0), "weight of 0"),
    ("too high a cap", |s| s.settings.placement.cap = Some(MAX_CAP + 1), "cap of 65535"),
    (
        "too many ranges of CPUs",
        |s| s.settings.placement.hard = Affinity::Each(vec![cpus(&[1]); MAX_CPU_RANGES + 1]),
        "513 ranges of CPUs",
    ),
    ("a label of two parts", |s| s.settings.labels.running = Some("a::b".into()), "label \"a::b\": must be"),
    ("a label with a space", |s| s.settings.labels.running = Some("a:b:c d".into()), "label \"a:b:c d\""),
    (
        "too long a label",
        |s| s.settings.labels.building = Some(format!("u:r:{}", "t".repeat(MAX_LABEL_LEN - 3))),
        "label \"u:r:ttt",
    ),
    (
        "a bit of CPUID both ways",
        |s| s.settings.processor.cpuid[0].host = 1,
        "CPUID leaf 0x7: a register is changed twice",
    ),
    (
        "a register of CPUID twice",
        |s| s.settings.processor.cpuid.push(CpuidChange { ones: 4, ..change() }),
        "CPUID leaf 0x7",
    ),
    (
        "no change of CPUID",
        |s| s.settings.processor.cpuid[0] = CpuidChange { ones: 0, zeros: 0, host: 0, ..change() },
        "CPUID leaf 0x7",
    ),
    (
        "too many changes of CPUID",
        |s| s.settings.processor.cpuid = vec![change(); MAX_CPUID_CHANGES + 1],
        "65 registers of CPUID: at most 64",
    ),
    ("only a label to build with", |s| s.settings.labels.running = None, "label \"u:r:b\" is only for"),
    (
        "too long a delay",
        |s| s.life.restart_delay_ms = MAX_RESTART_DELAY_MS + 1,
        "restart delay of 3600001 ms",
    ),
    (
        "too many channels",
        |s| s.channels.clients = (1..8).collect(),
        "it serves 7 channels: must be at most 6",
    ),
    ("a channel for itself", |s| s.channels.clients = vec![300], "a channel for domain 300"),
    ("two channels for one", |s| s.channels.clients = vec![7, 7], "a channel for domain 7"),
    ("a channel for Dom0", |s| s.channels.clients = vec![0], "domid 0"),
    ("a channel of any domain", |s| s.domid = None, "a channel for domain 7"),
];

#[test]
fn each_wrong_field_is_refused_before_encoding_and_after_decoding() {
    for (what, change, message) in WRONG_FIELDS {
        let mut spec = sample();
        change(&mut spec);
        let error = spec.validate().expect_err(what);
        assert!(error.to_string().starts_with(message), "{what}: {error}");
        assert_eq!(spec.encode(), Err(error.clone()), "{what}");

        let body = postcard::to_allocvec(&spec).unwrap();
        let mut bytes = GOLDEN[..12].to_vec();
        bytes.extend_from_slice(&u32::try_from(body.len()).unwrap().to_le_bytes());
        bytes.extend_from_slice(&body);
        assert_eq!(BootSpec::decode(&bytes), Err(error), "{what}");
    }
}

#[test]
fn the_largest_spec_fits_the_body() {
    let spec = BootSpec {
        name: "n".repeat(63),
        domid: Some(0x7fef),
        vcpus: MAX_VCPUS,
        memory_kib: MAX_MEMORY_KIB,
        max_memory_kib: MAX_MEMORY_KIB,
        kernel: "k".repeat(255),
        ramdisk: Some("r".repeat(255)),
        command_line: "c".repeat(1023),
        life: Life {
            restart_limit: MAX_RESTART_LIMIT,
            restart_delay_ms: MAX_RESTART_DELAY_MS,
            after: (0..MAX_AFTER).map(|number| format!("{number:a>63}")).collect(),
            ready: Some("r".repeat(255)),
            ..sample().life
        },
        channels: Channels { clients: (1..=6).collect() },
        kind: GuestKind::Pvh,
        modules: vec![Module { bytes: 0xffff_ffff, command_line: "m".repeat(255) }; MAX_MODULES],
        settings: largest_settings(),
        ..sample()
    };
    let bytes = spec.encode().unwrap();
    assert!(bytes.len() < HEADER_LEN + MAX_BODY_LEN / 2, "{}", bytes.len());
    assert_eq!(BootSpec::decode(&bytes).unwrap(), spec);
}

fn largest_settings() -> Settings {
    let label = || Some(format!("u:r:{}", "t".repeat(MAX_LABEL_LEN - 4)));
    let affinity = || Affinity::Each((0..512).map(|vcpu| cpus(&[16383 - vcpu])).collect());
    Settings {
        access: Access {
            io_memory: vec![
                IoMemory { first: MAX_FRAME / 2, pages: MAX_FRAME / 2, guest: Some(1 << 39) };
                MAX_RANGES
            ],
            io_ports: vec![IoPorts { first: 0xffff, last: 0xffff }; MAX_RANGES],
            interrupts: vec![MAX_INTERRUPT; MAX_RANGES],
        },
        limits: Limits {
            event_channels: MAX_EVENT_CHANNELS,
            grant_frames: MAX_TABLE_FRAMES,
            maptrack_frames: MAX_TABLE_FRAMES,
            grant_version: Some(2),
        },
        placement: Placement {
            hard: affinity(),
            soft: affinity(),
            weight: Some(MAX_WEIGHT),
            cap: Some(MAX_CAP),
            pool: u32::MAX,
        },
        labels: Labels { running: label(), building: label() },
        processor: Processor {
            cpuid: (0..64).map(largest_change).collect(),
            online: Some(MAX_VCPUS - 1),
            ..Processor::default()
        },
        claims: Claims { privileged: true, initial_domain: true, module_list: false },
    }
}

fn largest_change(number: u32) -> CpuidChange {
    let (leaf, subleaf) = (u32::MAX - number, u32::MAX);
    CpuidChange { leaf, subleaf, ones: 0xf000_0000, zeros: 0x0f00_0000, host: 0x00ff_ffff, ..change() }
}

/// A set on the wire that the constructor would not make.
#[test]
fn cpus_out_of_order_are_refused() {
    let mut bytes = GOLDEN.to_vec();
    let at = bytes.windows(6).position(|bytes| bytes == [1, 2, 0, 2, 5, 5]).unwrap();
    bytes[at + 4] = 3;
    assert_eq!(BootSpec::decode(&bytes), Err(SpecError::Settings(SettingsError::BadCpus)));
    let range = CpuRange { first: 5, last: 5 };
    assert_eq!(cpus(&[5]).ranges(), [range]);
}

fn any_cpus() -> impl Strategy<Value = CpuSet> {
    prop::collection::vec(0..200_u32, 1..9).prop_map(|list| cpus(&list))
}

fn any_affinity() -> impl Strategy<Value = Affinity> {
    prop_oneof![
        Just(Affinity::Any),
        any_cpus().prop_map(Affinity::All),
        prop::collection::vec(any_cpus(), 0..5).prop_map(Affinity::Each),
    ]
}

/// A change of some bits; each of the others is cleared or the machine's.
fn any_change(leaf: u32, a: u32, b: u32) -> CpuidChange {
    CpuidChange { leaf, ones: a, zeros: !a & b, host: !a & !b, ..change() }
}

prop_compose! {
    fn any_valid_settings()(
        io_memory in prop::collection::vec((0..MAX_FRAME / 2, 1..MAX_FRAME / 2), 0..4),
        io_ports in prop::collection::vec((any::<u16>(), any::<u16>()), 0..4),
        interrupts in prop::collection::vec(1..=MAX_INTERRUPT, 0..4),
        event_channels in 1..=MAX_EVENT_CHANNELS,
        grant_frames in 1..=MAX_TABLE_FRAMES,
        maptrack_frames in 0..=MAX_TABLE_FRAMES,
        grant_version in proptest::option::of(1..=2_u8),
        hard in any_affinity(),
        soft in any_affinity(),
        weight in proptest::option::of(1..=MAX_WEIGHT),
        cap in proptest::option::of(0..=MAX_CAP),
        pool in any::<u32>(),
        label in proptest::option::of("[a-z]{1,9}:[a-z]{1,9}:[a-zA-Z_]{1,20}(:s0)?"),
        build in any::<bool>(),
        flags in any::<[bool; 4]>(),
        masks in prop::collection::vec(any::<(u32, u32)>(), 0..5),
    ) -> Settings {
        let io_memory = io_memory.into_iter().map(|(first, pages)| IoMemory {
            first,
            pages,
            guest: (first % 2 == 0).then_some(first / 2),
        }).collect();
        let io_ports =
            io_ports.into_iter().map(|(a, b)| IoPorts { first: a.min(b), last: a.max(b) }).collect();
        Settings {
            access: Access { io_memory, io_ports, interrupts },
            limits: Limits { event_channels, grant_frames, maptrack_frames, grant_version },
            placement: Placement { hard, soft, weight, cap, pool },
            labels: Labels { building: label.clone().filter(|_| build), running: label },
            processor: Processor {
                tsc: TscMode::AlwaysEmulate,
                stays: flags[0],
                relaxed_msrs: flags[1],
                cpuid: (1..).zip(masks).map(|(leaf, (a, b))| any_change(leaf, a, b)).collect(),
                ..Processor::default()
            },
            claims: Claims { privileged: flags[2], initial_domain: flags[3], module_list: false },
        }
    }
}

prop_compose! {
    fn any_valid_spec()(
        settings in any_valid_settings(),
        name in "[A-Za-z0-9][A-Za-z0-9._-]{0,62}",
        domid in proptest::option::of(1_u16..0x7ff0),
        uuid in any::<[u8; 16]>(),
        vcpus in 1..=MAX_VCPUS,
        online in proptest::option::of(1..=MAX_VCPUS),
        pages in 1..=MAX_MEMORY_KIB / 4,
        more_pages in 0..=MAX_MEMORY_KIB / 4,
        kernel in "[a-z]{1,20}(/[a-z]{1,20}){0,3}",
        ramdisk in proptest::option::of("[a-z]{1,20}/[a-z.]{3,20}x"),
        command_line in "[ -~]{0,1023}",
        action in any::<[u8; 4]>(),
        restart_limit in 1..=MAX_RESTART_LIMIT,
        restart_delay_ms in 0..=MAX_RESTART_DELAY_MS,
        critical in any::<bool>(),
        after in prop::collection::hash_set("[a-z]{1,9}", 0..5).prop_map(|names| names.into_iter().collect()),
        ready in proptest::option::of("[ -~]{1,255}"),
        clients in prop::collection::hash_set(1_u16..0x7ff0, 0..=6),
        store in proptest::option::of(1_u16..0x7ff0),
    ) -> BootSpec {
        let actions = [ExitAction::Destroy, ExitAction::Preserve, ExitAction::Restart];
        let action = action.map(|number| actions[usize::from(number) % actions.len()]);
        let memory_kib = pages * 4;
        let mut settings = settings;
        settings.processor.online = online.filter(|online| *online < vcpus);
        BootSpec {
            name, kind: GuestKind::Pv, domid, uuid, vcpus, memory_kib,
            max_memory_kib: (memory_kib + more_pages * 4).min(MAX_MEMORY_KIB),
            kernel, ramdisk, command_line,
            on_poweroff: action[0], on_reboot: action[1], on_crash: action[2],
            life: Life { on_watchdog: action[3], restart_limit, restart_delay_ms, critical, after, ready },
            channels: Channels {
                clients: clients.into_iter().filter(|id| domid.is_some_and(|own| own != *id)).collect(),
            },
            settings,
            store: match (store, domid) {
                (Some(server), own) if own != Some(server) => StoreRole::Client { server },
                (None, Some(_)) => StoreRole::Server,
                (Some(_), _) => StoreRole::Own,
                _ => StoreRole::None,
            },
            modules: Vec::new(),
        }
    }
}

proptest! {
    #[test]
    fn every_valid_spec_survives_the_wire(spec in any_valid_spec()) {
        prop_assert_eq!(BootSpec::decode(&spec.encode().unwrap()), Ok(spec));
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut with_header = GOLDEN[..12].to_vec();
        with_header.extend_from_slice(&u32::try_from(bytes.len()).unwrap().to_le_bytes());
        with_header.extend_from_slice(&bytes);
        let _ = BootSpec::decode(&with_header);
        let _ = BootSpec::decode(&bytes);
    }
}
