//! The messages' wire format, pinned: golden bytes, numbers of variants, corrupt input, arbitrary pieces.
//!
//! `UPDATE_GOLDEN=1 cargo test -p protocols --test messages` writes the golden files anew: a difference in one that was released
//! is a break of the protocol.
#![allow(missing_docs, reason = "a test's name says what it checks")]
#![allow(clippy::unwrap_used, reason = "a helper of a test may stop it at the first surprise")]

mod samples;

use std::collections::BTreeSet;
use std::fs;

use proptest::prelude::*;
use protocols::SpecError;
use protocols::digest::Digest;
use protocols::message::{
    BuildRequest, ControlNotice, ControlReply, ControlRequest, ControlVm, EndReason, Failure, HEADER_LEN,
    ImageSource, JournalEntry, JournalLevel, Kind, MAX_BODY_LEN, MAX_CHUNK_LEN, MAX_ENTRIES,
    MAX_JOURNAL_ENTRIES, MAX_PLATFORM_VMS, MAX_SPEC_LEN, MAX_TEXT_LEN, Message, MessageError, Reason,
    ServerNotice, ServerReply, ServerRequest, Stream, VmState, encode,
};
use samples::{all, encode_again, golden_folder, read_again, spec, to_hex};

#[test]
fn the_bytes_of_every_message_are_pinned() {
    let mut names = BTreeSet::new();
    for (name, bytes) in all() {
        let path = golden_folder().join(name).with_extension("hex");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&path, to_hex(&bytes)).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap_or_default(), to_hex(&bytes), "{name}");
        assert_eq!(read_again(&bytes).unwrap(), bytes, "{name}");
        names.insert(format!("{name}.hex"));
    }
    let files = fs::read_dir(golden_folder()).unwrap();
    let files: BTreeSet<_> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(files, names, "a file for each message, and no other");
}

/// The first byte of a body is the number of the variant.
#[test]
fn the_numbers_of_variants_are_pinned() {
    let mut last = (0, 0);
    for (name, bytes) in all() {
        let kind = u16::from_le_bytes([bytes[6], bytes[7]]);
        let variant = bytes[HEADER_LEN];
        let expected = if kind == last.0 { (kind, last.1 + 1) } else { (kind, 0) };
        assert_eq!((kind, variant), expected, "{name}: one sample for each variant, in their order");
        last = expected;
    }
    assert_eq!(last, (6, 2));
    assert_eq!(Kind::ALL.map(|kind| kind as u16), [1, 2, 3, 4, 5, 6]);
    let number = |reason| postcard::to_allocvec(&reason).unwrap()[0];
    let reasons = [
        Reason::Version,
        Reason::NoHello,
        Reason::NotPermitted,
        Reason::OverQuota,
        Reason::NoSuchVm,
        Reason::NoSuchImage,
        Reason::WrongDigest,
        Reason::WrongOffset,
        Reason::BadSpec,
        Reason::BadKernel,
        Reason::OutOfMemory,
        Reason::Xen,
        Reason::WrongState,
        Reason::Busy,
        Reason::Taken,
    ];
    assert_eq!(reasons.map(number), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]);
    let number = |reason| postcard::to_allocvec(&reason).unwrap()[0];
    let ends = [
        EndReason::Poweroff,
        EndReason::Reboot,
        EndReason::Suspend,
        EndReason::Crash,
        EndReason::Watchdog,
        EndReason::SoftReset,
        EndReason::Status(0),
        EndReason::Destroyed,
    ];
    assert_eq!(ends.map(number), [0, 1, 2, 3, 4, 5, 6, 7]);
    let number = |state| postcard::to_allocvec(&state).unwrap()[0];
    assert_eq!([VmState::Paused, VmState::Running, VmState::Ended].map(number), [0, 1, 2]);
}

#[test]
fn a_truncated_message_is_waited_for_and_one_with_a_short_body_refused() {
    for (name, bytes) in all() {
        for length in 0..bytes.len() {
            let mut stream = Stream::new();
            assert_eq!(stream.take(&mut &bytes[..length]), Ok(None), "{name} {length}");
            assert_eq!(stream.is_between_messages(), length == 0);
        }
        for length in HEADER_LEN..bytes.len() {
            let mut short = bytes[..length].to_vec();
            let body = u32::try_from(length - HEADER_LEN).unwrap();
            short[12..16].copy_from_slice(&body.to_le_bytes());
            assert!(read_again(&short).is_err(), "{name} {length}");
        }
    }
}

#[test]
fn no_changed_byte_panics_or_reads_as_another_message_than_it_says() {
    for (name, bytes) in all() {
        for at in 0..bytes.len() {
            for value in [0, 1, 2, 0x7f, 0x80, 0xff, bytes[at] ^ 1, bytes[at] ^ 0x80] {
                let mut changed = bytes.clone();
                changed[at] = value;
                let mut rest = changed.as_slice();
                if let Ok(Some(frame)) = Stream::new().take(&mut rest)
                    && let Ok(again) = encode_again(&frame)
                {
                    assert_eq!(again, changed, "{name}: byte {at} = {value:#x}");
                }
            }
        }
    }
}

#[test]
fn each_lie_of_the_header_has_its_error_and_ends_the_stream() {
    let (_, good) = all().remove(0);
    let with = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        let mut stream = Stream::new();
        let error = stream.take(&mut bytes.as_slice()).unwrap_err();
        assert_eq!(
            stream.take(&mut good.as_slice()),
            Err(error.clone()),
            "an honest message does not mend it"
        );
        assert!(!stream.is_between_messages());
        error
    };
    assert_eq!(with(0, b'X'), MessageError::BadMagic { found: *b"XBMG" });
    assert_eq!(with(4, 2), MessageError::UnknownVersion { found: 2 });
    assert_eq!(with(6, 0), MessageError::UnknownKind { found: 0 });
    assert_eq!(with(7, 1), MessageError::UnknownKind { found: 257 });
    assert_eq!(with(15, 0xff), MessageError::BodyTooLong { length: 0xff00_000b });
    let just = u32::try_from(MAX_BODY_LEN + 1).unwrap().to_le_bytes();
    let mut bytes = good.clone();
    bytes[12..16].copy_from_slice(&just);
    let error = Stream::new().take(&mut bytes.as_slice()).unwrap_err();
    assert_eq!(error, MessageError::BodyTooLong { length: MAX_BODY_LEN + 1 });
}

#[test]
fn a_message_of_another_kind_is_refused() {
    let (_, bytes) = all().remove(0);
    let frame = Stream::new().take(&mut bytes.as_slice()).unwrap().unwrap();
    let error = frame.decode::<ServerReply>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "message: a request to db-server, where only a reply of db-server may come"
    );
}

#[test]
fn a_longer_form_and_bytes_behind_are_refused() {
    let mut frame = Stream::new().take(&mut encode(1, &ServerRequest::List { after: 5 }).unwrap().as_slice());
    let frame = frame.as_mut().unwrap().as_mut().unwrap();
    frame.body = vec![5, 0x85, 0];
    let kind = Kind::ServerRequest;
    assert_eq!(frame.decode::<ServerRequest>(), Err(MessageError::NotCanonical { kind }));
    frame.body = vec![5, 5, 0, 0];
    assert_eq!(frame.decode::<ServerRequest>(), Err(MessageError::TrailingBytes { kind, count: 2 }));
}

#[test]
fn a_notice_with_a_number_is_refused_at_both_ends() {
    let dropped = Failure { reason: Reason::WrongState, detail: String::new() };
    let notices = [
        (Kind::ServerNotice, encode(0, &ServerNotice::Dropped(dropped.clone()))),
        (Kind::ControlNotice, encode(0, &ControlNotice::Dropped(dropped.clone()))),
    ];
    for (kind, bytes) in notices {
        let mut bytes = bytes.unwrap();
        assert_eq!(read_again(&bytes).as_ref(), Ok(&bytes));
        bytes[8..12].copy_from_slice(&0x0100_0000_u32.to_le_bytes());
        assert_eq!(read_again(&bytes), Err(MessageError::NumberedNotice { kind, id: 0x0100_0000 }));
    }
    let error = encode(7, &ServerNotice::Dropped(dropped)).unwrap_err();
    assert_eq!(error, MessageError::NumberedNotice { kind: Kind::ServerNotice, id: 7 });
    // A request may have any number, and its answer the same.
    for id in [0, u32::MAX] {
        assert!(read_again(&encode(id, &ServerRequest::Facts).unwrap()).is_ok());
        assert!(read_again(&encode(id, &ServerReply::Done).unwrap()).is_ok());
    }
}

/// Whether a receiver takes a body that no sender of ours would write.
fn is_taken(kind: u16, body: &[&[u8]]) -> bool {
    let body = body.concat();
    let length = u32::try_from(body.len()).unwrap().to_le_bytes();
    read_again(&[b"DBMG\x01\0", &kind.to_le_bytes()[..], &[0; 4], &length, &body].concat()).is_ok()
}

#[test]
fn numbers_are_taken_up_to_the_end_of_their_type_and_in_their_shortest_form_only() {
    let (list, skip, journal) = (&[5][..], b"\x03\x01a", &[7][..]);
    let nine = [0xff; 9];
    let cases: [(u16, [&[u8]; 3], bool); 12] = [
        (1, [list, b"\xff\xff\x03", b""], true),
        (1, [list, b"\x80\x80\x04", b""], false),
        (1, [list, b"\x80\x00", b""], false),
        (1, [list, b"\x80", b""], false),
        (4, [skip, b"\xff\xff\xff\xff\x0f", b""], true),
        (4, [skip, b"\xff\xff\xff\xff\x1f", b""], false),
        (4, [skip, b"\xff\xff\xff\xff\x8f\x00", b""], false),
        (4, [journal, &nine, b"\x01"], true),
        (4, [journal, &nine, b"\x02"], false),
        (4, [journal, &nine, b"\x81\x00"], false),
        (1, [b"\x85\x00", b"\x05", b""], false),
        (1, [b"\x8b\x80\x00", b"", b""], false),
    ];
    for (kind, body, taken) in cases {
        assert_eq!(is_taken(kind, &body), taken, "{kind} {body:02x?}");
    }
}

#[test]
fn tags_that_mean_nothing_are_refused() {
    let member = |option: &'static [u8]| [b"\x03\x01\x01a", option, b"\x00\x00\x00"];
    assert!(is_taken(1, &[b"\x0a\x01"]) && !is_taken(1, &[b"\x0a\x02"]), "a bool");
    assert!(is_taken(5, &member(b"\x01\x09")) && !is_taken(5, &member(b"\x02\x09")), "an option");
    assert!(is_taken(2, &[b"\x06\x0e\x00"]) && !is_taken(2, &[b"\x06\x0f\x00"]), "a reason");
    let ended = |end: u8| is_taken(6, &[b"\x00\x01a\x01b", &[end, 0]]);
    assert!(ended(7) && !ended(8), "an end");
    for (kind, last) in [(1, 12), (2, 6), (3, 1), (4, 7), (5, 7), (6, 2)] {
        let body = [&[last + 1][..], &[0; 64]];
        assert!(
            (0..64).all(|length| !is_taken(kind, &[body[0], &body[1][..length]])),
            "{kind}: {last} is the last"
        );
    }
}

#[test]
fn texts_are_well_formed_and_names_and_entries_have_their_rules() {
    let failed = |text: &[u8]| is_taken(2, &[b"\x06\x00", &postcard::to_allocvec(text).unwrap()]);
    for text in ["", "tab\t, nul\0 and \u{85}", "\u{10ffff}"] {
        assert!(failed(text.as_bytes()), "{text:?}");
    }
    for text in [&b"\xff"[..], b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"] {
        assert!(!failed(text), "{text:02x?}");
    }
    let hello = |name: &str| {
        encode(1, &ServerRequest::Hello { lowest: 1, highest: 1, name: name.into() }).map(|_| ())
    };
    for name in ["a", "9", "a:1@b~c+d_e-f.", "1.23456", "1.2345678", "1.123456x", &"n".repeat(63)] {
        assert!(hello(name).is_ok(), "{name}");
    }
    for name in ["", ".123456", "-a", "a b", "\u{e4}", "a/b", "0.123456", "12345.000000", &"n".repeat(64)] {
        assert!(hello(name).is_err(), "{name}");
    }
    let entry = |name: &str| is_taken(1, &[b"\x04\x00\x00", &postcard::to_allocvec(name).unwrap(), &[0; 6]]);
    for name in ["k", "a/b/c", ".hidden", "a...", "a b", "\u{2028}", &"e".repeat(255)] {
        assert!(entry(name), "{name}");
    }
    for name in ["", "/k", "k/", "a//b", ".", "a/./b", "../k", "\t", "\u{7f}", "\u{85}", &"e".repeat(256)] {
        assert!(!entry(name), "{name}");
    }
}

/// The message is refused before it is sent, and by a receiver.
fn refused<M: Message + core::fmt::Debug + PartialEq>(message: &M, expected: &str) {
    let error = encode(1, message).unwrap_err();
    assert!(error.to_string().starts_with(expected), "{error}");
    let body = postcard::to_allocvec(message).unwrap();
    let frame = protocols::message::Frame { kind: M::KIND, id: 1, body };
    assert_eq!(frame.decode::<M>(), Err(error));
}

#[test]
fn what_is_out_of_bounds_is_refused_at_both_ends() {
    let hello = |name: &str| ServerRequest::Hello { lowest: 1, highest: 1, name: name.into() };
    refused(&hello("-"), "message: name \"-\"");
    let chunk =
        |length| ServerRequest::PutImageChunk { digest: Digest([0; 32]), offset: 0, bytes: vec![0; length] };
    assert!(encode(1, &chunk(MAX_CHUNK_LEN)).is_ok());
    refused(&chunk(MAX_CHUNK_LEN + 1), "message: a part of an image of 32769");
    let build = |spec: Vec<u8>, name: &str, label: usize| {
        ServerRequest::Build(BuildRequest {
            spec,
            kernel: ImageSource::Ramdisk(name.into()),
            ramdisk: None,
            paused: false,
            console: None,
            xenstore: None,
            label: Some("x".repeat(label)),
            measured: false,
        })
    };
    assert!(encode(1, &build(spec(), "k", MAX_TEXT_LEN)).is_ok());
    refused(&build(spec(), "k", MAX_TEXT_LEN + 1), "message: a label of 1025");
    refused(&build(spec(), "../k", 0), "message: kernel \"../k\"");
    assert!(encode(1, &build(vec![0; MAX_SPEC_LEN], "k", 0)).is_ok());
    refused(&build(vec![0; MAX_SPEC_LEN + 1], "k", 0), "message: a boot spec of 32785");
    let failed = |length| ServerReply::Failed(Failure { reason: Reason::Xen, detail: "x".repeat(length) });
    refused(&failed(MAX_TEXT_LEN + 1), "message: the detail of a failure of 1025");
    let ended = |status| ServerNotice::Ended {
        domid: 1,
        name: "a".into(),
        reason: EndReason::Status(status),
        serial: 1,
    };
    assert!(encode(0, &ended(127)).is_ok());
    refused(&ended(128), "message: an exit status of 128");
    let vm = ControlVm { name: "a".into(), domid: None, state: None, restarts: 0 };
    let vms = |count| ControlReply::Vms { vms: vec![vm.clone(); count], more: false };
    assert!(encode(1, &vms(MAX_ENTRIES)).is_ok());
    refused(&vms(MAX_ENTRIES + 1), "message: a list of VMs of 257");
    let journal = |count, length: usize| {
        let (number, time, level) = (u64::MAX, u64::MAX, JournalLevel::Warn);
        let entry = JournalEntry { number, time, level, text: "x".repeat(length) };
        ControlReply::Journal { entries: vec![entry; count], more: false }
    };
    assert!(encode(1, &journal(MAX_JOURNAL_ENTRIES, MAX_TEXT_LEN)).is_ok(), "the longest fit");
    refused(&journal(MAX_JOURNAL_ENTRIES + 1, 0), "message: a part of the journal of 49");
    refused(&journal(1, MAX_TEXT_LEN + 1), "message: an entry of the journal of 1025");
    let platform = |count| ControlRequest::CreatePlatform { name: "p".into(), specs: vec![spec(); count] };
    assert!(encode(1, &platform(MAX_PLATFORM_VMS)).is_ok());
    refused(&platform(MAX_PLATFORM_VMS + 1), "message: a platform's list of VMs of 65");
}

#[test]
fn a_length_that_promises_more_than_there_is_takes_no_memory_for_it() {
    // A list of 2^32 - 1 VMs in six bytes.
    let body = vec![3, 0xff, 0xff, 0xff, 0xff, 0x0f];
    let frame = protocols::message::Frame { kind: Kind::ServerReply, id: 1, body };
    assert!(matches!(frame.decode::<ServerReply>(), Err(MessageError::BadBody { length: 6, .. })));
}

#[test]
fn a_spec_error_names_what_is_wrong() {
    let error = encode(1, &ControlRequest::TerminatePlatform { platform: String::new() }).unwrap_err();
    assert_eq!(error, MessageError::Spec(SpecError::BadName { name: String::new() }));
}

proptest! {
    #[test]
    fn messages_come_out_whole_however_the_stream_is_cut(
        order in prop::collection::vec(0_usize..38, 1..12),
        cuts in prop::collection::vec(1_usize..400, 1..40),
    ) {
        let all = all();
        let sent: Vec<&[u8]> = order.iter().map(|index| all[index % all.len()].1.as_slice()).collect();
        let bytes = sent.concat();
        let (mut stream, mut got, mut rest) = (Stream::new(), Vec::new(), bytes.as_slice());
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (mut piece, later) = rest.split_at((*cut).min(rest.len()));
            while !piece.is_empty() {
                if let Some(frame) = stream.take(&mut piece).unwrap() {
                    got.push(encode_again(&frame).unwrap());
                }
            }
            rest = later;
        }
        prop_assert!(stream.is_between_messages());
        prop_assert_eq!(got, sent);
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), kind in 1_u16..=6) {
        let mut header = b"DBMG\x01\x00".to_vec();
        header.extend(kind.to_le_bytes());
        header.extend([1, 0, 0, 0]);
        header.extend(u32::try_from(bytes.len()).unwrap().to_le_bytes());
        header.extend(&bytes);
        let _ = read_again(&header);
        let _ = Stream::new().take(&mut bytes.as_slice());
    }
}
