//! The event log's layout, pinned, read back, replayed, and read by TPM software where that is installed.
#![allow(missing_docs, reason = "a test's name says what it checks")]
#![allow(clippy::unwrap_used, reason = "a test's own helpers may stop the test")]

use std::io::Write as _;
use std::process::{Command, Stdio};

use proptest::prelude::*;
use protocols::Digest;
use trust::{EventKind, EventLog, EventLogError, RegisterIndex, read_event_log, replay, sha256};

fn sample() -> EventLog {
    let mut log = EventLog::new();
    log.loaded(RegisterIndex::SETTINGS, sha256(b"policy=each"), "command line: policy=each");
    log.loaded(RegisterIndex::FILES, sha256(b"kernel"), "images/k");
    log.close(RegisterIndex::SETTINGS);
    log.close(RegisterIndex::FILES);
    log
}

#[rustfmt::skip]
const FIRST: &[u8] = &[
    0, 0, 0, 0,   3, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    33, 0, 0, 0,
    b'S', b'p', b'e', b'c', b' ', b'I', b'D', b' ', b'E', b'v', b'e', b'n', b't', b'0', b'3', 0,
    0, 0, 0, 0,   0, 2, 0, 2,   1, 0, 0, 0,   0x0b, 0, 32, 0,   0,
];

#[test]
fn the_bytes_are_pinned() {
    let mut log = EventLog::new();
    log.loaded(RegisterIndex::FILES, Digest([0xab; 32]), "k");
    log.close(RegisterIndex::FILES);
    let loaded =
        [&[9, 0, 0, 0, 13, 0, 0, 0, 1, 0, 0, 0, 0x0b, 0][..], &[0xab; 32], &[2, 0, 0, 0], b"k\0"].concat();
    let separator: Digest =
        "df3f619804a92fdb4057192dc43dd748ea778adc52bc498ce80524c014b81119".parse().unwrap();
    let close = [&[9, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0x0b, 0][..], &separator.0, &[4, 0, 0, 0, 0, 0, 0, 0]]
        .concat();
    assert_eq!(log.as_bytes(), [FIRST, &loaded, &close].concat());
    assert_eq!(log.events(), 2);
}

#[test]
fn a_register_is_the_digest_of_what_it_held_and_the_event() {
    let mut log = EventLog::new();
    assert_eq!(log.register(RegisterIndex::FILES), Digest([0; 32]));
    log.loaded(RegisterIndex::FILES, Digest([1; 32]), "a");
    let once = sha256(&[[0; 32], [1; 32]].concat());
    assert_eq!(log.register(RegisterIndex::FILES), once);
    log.loaded(RegisterIndex::FILES, Digest([2; 32]), "b");
    assert_eq!(log.register(RegisterIndex::FILES), sha256(&[once.0, [2; 32]].concat()));
    assert_eq!(log.register(RegisterIndex::SETTINGS), Digest([0; 32]));
}

#[test]
fn a_log_is_read_back_and_replayed() {
    let log = sample();
    let events = read_event_log(log.as_bytes()).unwrap();
    assert_eq!(events.len(), log.events());
    assert_eq!((events[1].kind, events[1].data.as_slice()), (EventKind::Loaded, &b"images/k\0"[..]));
    assert_eq!(events[3].kind, EventKind::Separator);
    for (register, digest) in replay(&events) {
        assert_eq!(digest, log.register(register));
    }
}

#[test]
fn corrupt_logs_are_told_apart() {
    let good = sample().as_bytes().to_vec();
    let read = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        read_event_log(&bytes).unwrap_err()
    };
    let offset = FIRST.len();
    assert_eq!(read(&|bytes| bytes[8] = 1), EventLogError::Beginning);
    assert_eq!(read(&|bytes| bytes.truncate(offset + 1)), EventLogError::Truncated { index: 1, offset });
    assert_eq!(
        read(&|bytes| bytes[offset + 8] = 2),
        EventLogError::Digests { index: 1, offset, count: 2, algorithm: 11 }
    );
    assert_eq!(
        read(&|bytes| bytes[offset + 12] = 4),
        EventLogError::Digests { index: 1, offset, count: 1, algorithm: 4 }
    );
    assert_eq!(
        read(&|bytes| bytes[offset + 49] = 0xff),
        EventLogError::DataTooLong { index: 1, offset, length: 0xff00_001a }
    );
    assert_eq!(read_event_log(b""), Err(EventLogError::Beginning));
}

proptest! {
    #[test]
    fn any_bytes_behind_the_first_event_give_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read_event_log(&[FIRST, &bytes].concat());
    }

    #[test]
    fn any_name_can_be_logged(name in ".{0,9000}") {
        let mut log = EventLog::new();
        log.loaded(RegisterIndex::FILES, Digest([0; 32]), &name);
        prop_assert_eq!(read_event_log(log.as_bytes()).unwrap().len(), 1);
    }
}

/// tpm2-tools' reader computes the same registers. Where it is not installed, nothing is compared, and said so.
#[test]
fn tpm_software_reads_it() {
    let log = sample();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(log.as_bytes()).unwrap();
    let mut command = Command::new("tpm2_eventlog");
    let Ok(output) = command.arg(file.path()).stdin(Stdio::null()).output() else {
        println!("tpm2_eventlog (package tpm2-tools) is not installed: skipped");
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    for (number, register) in [(8, RegisterIndex::SETTINGS), (9, RegisterIndex::FILES)] {
        let line = format!("{number}  : 0x{}", log.register(register));
        assert!(text.contains(&line), "{line}\n{text}");
    }
    assert!(text.contains("images/k"), "{text}");
}
