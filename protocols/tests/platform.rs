//! The platform spec's wire format, pinned: golden bytes, variant numbers, corrupt input, round trips; and what platform and
//! VMs must agree on.
#![allow(missing_docs, reason = "a test's name says what it checks")]

use proptest::prelude::*;
use protocols::header::{HEADER_LEN, HeaderError};
use protocols::platform::{
    Disagreement, Ends, LateAction, Limited, Limits, LogLevel, MAX_BODY_LEN, MAX_ENDS, MAX_READY_TIMEOUT_MS,
    MAX_VMS, PlatformSpecError, Policy, Readiness,
};
use protocols::spec::{MAX_MEMORY_KIB, MAX_NAME_LEN};
use protocols::{BootSpec, PlatformSpec};

fn sample() -> PlatformSpec {
    PlatformSpec {
        policy: Policy::Each,
        ends: Ends::With(vec!["db".into(), "web".into()]),
        limits: Limits { memory_kib: Some(65536), vcpus: Some(3), vms: None },
        readiness: Some(Readiness { timeout_ms: 300, late: LateAction::End }),
        log_level: Some(LogLevel::Debug),
        server: None,
        shutdown_ms: Some(300),
    }
}

#[rustfmt::skip]
const GOLDEN: &[u8] = &[
    b'D', b'B', b'P', b'L', b'A', b'T', 0, 0,   1, 0,   0, 0,   27, 0, 0, 0,
    1,                                              // policy
    2, 2, 2, b'd', b'b', 3, b'w', b'e', b'b',       // ends
    1, 0x80, 0x80, 0x04, 1, 3, 0,                   // limits
    1, 0xac, 0x02, 2,                               // readiness
    1, 3,                                           // log level
    0,                                              // server
    1, 0xac, 0x02,                                  // time to power off
];

#[test]
fn the_bytes_are_pinned() {
    assert_eq!(sample().encode().unwrap(), GOLDEN);
    assert_eq!(PlatformSpec::decode(GOLDEN).unwrap(), sample());
    let usual = PlatformSpec::default().encode().unwrap();
    assert_eq!(usual[HEADER_LEN..], [0; 9]);
}

#[test]
fn variant_numbers_are_pinned() {
    fn numbers<T: serde::Serialize>(variants: &[T]) -> Vec<u8> {
        variants.iter().map(|variant| postcard::to_allocvec(variant).unwrap()[0]).collect()
    }
    assert_eq!(numbers(&[Policy::All, Policy::Each]), [0, 1]);
    assert_eq!(numbers(&[Ends::Last, Ends::Critical, Ends::With(Vec::new()), Ends::Never]), [0, 1, 2, 3]);
    assert_eq!(numbers(&[LateAction::GiveUp, LateAction::Start, LateAction::End]), [0, 1, 2]);
    assert_eq!(numbers(&[LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug]), [0, 1, 2, 3]);
}

#[test]
fn every_truncation_is_an_error() {
    for length in 0..GOLDEN.len() {
        let error = PlatformSpec::decode(&GOLDEN[..length]).unwrap_err();
        let truncated =
            matches!(error, PlatformSpecError::Header(HeaderError::Truncated { have, .. }) if have == length);
        assert!(truncated, "{length}: {error}");
        if length >= HEADER_LEN {
            let mut bytes = GOLDEN[..length].to_vec();
            bytes[12] = u8::try_from(length - HEADER_LEN).unwrap();
            assert!(
                matches!(PlatformSpec::decode(&bytes), Err(PlatformSpecError::BadBody { .. })),
                "{length}"
            );
        }
    }
}

#[test]
fn no_changed_byte_panics_or_reads_as_the_same_spec() {
    for at in 0..GOLDEN.len() {
        for value in (0..=u8::MAX).filter(|value| *value != GOLDEN[at]) {
            let mut bytes = GOLDEN.to_vec();
            bytes[at] = value;
            assert_ne!(PlatformSpec::decode(&bytes).ok(), Some(sample()), "byte {at} = {value:#x}");
        }
    }
}

#[test]
fn what_is_around_the_body_is_checked() {
    let with = |at: usize, value: u8| {
        let mut bytes = GOLDEN.to_vec();
        bytes[at] = value;
        PlatformSpec::decode(&bytes).unwrap_err()
    };
    assert!(matches!(with(0, b'X'), PlatformSpecError::Header(HeaderError::BadMagic { .. })));
    assert_eq!(with(8, 2), HeaderError::UnknownVersion { found: 2, known: 1 }.into());
    assert_eq!(with(10, 1), HeaderError::ReservedNotZero { found: 1 }.into());
    assert_eq!(with(14, 4), HeaderError::BodyTooLong { length: 0x4001b, most: MAX_BODY_LEN }.into());
    assert_eq!(with(12, 26), HeaderError::TrailingBytes { count: 1 }.into());
    let mut longer = GOLDEN.to_vec();
    longer.push(0);
    assert_eq!(PlatformSpec::decode(&longer), Err(HeaderError::TrailingBytes { count: 1 }.into()));
    longer[12] += 1;
    assert_eq!(PlatformSpec::decode(&longer), Err(PlatformSpecError::NotCanonical));
    let mut wordy = GOLDEN.to_vec();
    // Three vCPUs in two bytes, where the limit of VMs and the byte behind it are.
    wordy.splice(GOLDEN.len() - 12..GOLDEN.len() - 11, [0x83, 0]);
    wordy[12] += 1;
    assert_eq!(PlatformSpec::decode(&wordy), Err(PlatformSpecError::NotCanonical));
}

#[test]
fn every_field_has_its_range() {
    let bad = |change: fn(&mut PlatformSpec)| {
        let mut spec = sample();
        change(&mut spec);
        let error = spec.encode().unwrap_err();
        assert_eq!(spec.validate(), Err(error.clone()));
        error.to_string()
    };
    for (error, expected) in [
        (bad(|spec| spec.ends = Ends::With(Vec::new())), "0 VMs whose end"),
        (bad(|spec| spec.ends = Ends::With(vec!["a".into(); MAX_ENDS + 1])), "33 VMs whose end"),
        (bad(|spec| spec.ends = Ends::With(vec!["a".into(); 2])), "VM \"a\" is named twice"),
        (bad(|spec| spec.ends = Ends::With(vec!["a b".into()])), "name \"a b\""),
        (bad(|spec| spec.limits.memory_kib = Some(0)), "limit of 0 KiB"),
        (bad(|spec| spec.limits.memory_kib = Some(MAX_MEMORY_KIB + 1)), "KiB of memory: must be 1 to"),
        (bad(|spec| spec.limits.vcpus = Some(0)), "limit of 0 vCPUs"),
        (bad(|spec| spec.limits.vms = Some(2001)), "limit of 2001 VMs: must be 1 to 2000"),
        (
            bad(|spec| spec.readiness = Some(Readiness { timeout_ms: 0, late: LateAction::End })),
            "0 ms to become",
        ),
        (bad(|spec| spec.shutdown_ms = Some(600_001)), "600001 ms to power off: must be at most 600000"),
    ] {
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn the_longest_spec_fits() {
    let names = (0..MAX_ENDS).map(|number| format!("{number:0MAX_NAME_LEN$}")).collect();
    let spec = PlatformSpec {
        ends: Ends::With(names),
        limits: Limits { memory_kib: Some(MAX_MEMORY_KIB), vcpus: Some(u32::MAX), vms: Some(2000) },
        readiness: Some(Readiness { timeout_ms: MAX_READY_TIMEOUT_MS, late: LateAction::End }),
        ..sample()
    };
    assert_eq!(PlatformSpec::decode(&spec.encode().unwrap()), Ok(spec));
}

fn vm(name: &str) -> BootSpec {
    BootSpec { vcpus: 2, max_memory_kib: 4096, ..BootSpec::new(name, "k", 1024) }
}

fn all(vms: &[BootSpec]) -> Vec<&BootSpec> {
    vms.iter().collect()
}

#[test]
fn limits_hold_for_the_sum_of_all_vms() {
    let vms = [vm("a"), vm("b"), vm("c")];
    let limits = |memory_kib, vcpus, vms| PlatformSpec {
        limits: Limits { memory_kib: Some(memory_kib), vcpus: Some(vcpus), vms: Some(vms) },
        ..PlatformSpec::default()
    };
    assert_eq!(limits(3072, 6, 3).disagreements(&all(&vms)), []);
    let over = |what, used, limit| Disagreement::OverLimit { what, used, limit };
    let expected = [over(Limited::Memory, 3072, 3071), over(Limited::Vcpus, 6, 5), over(Limited::Vms, 3, 2)];
    assert_eq!(limits(3071, 5, 2).disagreements(&all(&vms)), expected);
    let many: Vec<_> = (0..=MAX_VMS).map(|number| vm(&number.to_string())).collect();
    assert_eq!(PlatformSpec::default().disagreements(&all(&many)), [over(Limited::Vms, 2001, 2000)]);
    assert_eq!(PlatformSpec::default().disagreements(&all(&many[1..])), []);
}

#[test]
fn what_ends_the_platform_has_to_be_there() {
    let mut vms = [vm("a"), vm("b")];
    let ends = |ends| PlatformSpec { ends, ..PlatformSpec::default() };
    assert_eq!(ends(Ends::With(vec!["b".into()])).disagreements(&all(&vms)), []);
    let nobody = Disagreement::EndsWithNobody { name: "c".into() };
    assert_eq!(ends(Ends::With(vec!["b".into(), "c".into()])).disagreements(&all(&vms)), [nobody]);
    assert_eq!(ends(Ends::Critical).disagreements(&all(&vms)), [Disagreement::NothingCritical]);
    vms[1].life.critical = true;
    assert_eq!(ends(Ends::Critical).disagreements(&all(&vms)), []);
}

proptest! {
    #[test]
    fn any_bytes_give_a_valid_spec_or_an_error(body in prop::collection::vec(any::<u8>(), 0..64)) {
        let mut bytes = GOLDEN[..HEADER_LEN].to_vec();
        bytes[12] = u8::try_from(body.len()).unwrap();
        bytes.extend(&body);
        if let Ok(spec) = PlatformSpec::decode(&bytes) {
            prop_assert_eq!(spec.encode().unwrap(), bytes);
        }
    }

    #[test]
    fn a_spec_is_read_back_as_it_was_written(
        policy in prop::sample::select(vec![Policy::All, Policy::Each]),
        ends in prop_oneof![
            Just(Ends::Last), Just(Ends::Critical), Just(Ends::Never),
            prop::collection::btree_set("[a-z0-9]{1,63}", 1..MAX_ENDS).prop_map(|names| Ends::With(names.into_iter().collect())),
        ],
        memory_kib in prop::option::of(1..=MAX_MEMORY_KIB),
        vcpus in prop::option::of(1..=u32::MAX),
        vms in prop::option::of(1..=2000_u32),
        timeout_ms in prop::option::of(1..=MAX_READY_TIMEOUT_MS),
        shutdown_ms in prop::option::of(0..=600_000_u32),
    ) {
        let readiness = timeout_ms.map(|timeout_ms| Readiness { timeout_ms, late: LateAction::Start });
        let limits = Limits { memory_kib, vcpus, vms };
        let spec = PlatformSpec { policy, ends, limits, readiness, log_level: None, server: None, shutdown_ms };
        prop_assert_eq!(PlatformSpec::decode(&spec.encode().unwrap()), Ok(spec));
    }
}
