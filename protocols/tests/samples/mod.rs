//! One message of every variant, by the name of its golden file.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a helper of a test may stop it at the first surprise")]

use std::path::PathBuf;

use protocols::digest::Digest;
use protocols::message::{
    BuildRequest, Built, ControlNotice, ControlReply, ControlRequest, ControlVm, EndReason, Facts, Failure,
    Frame, ImageSource, JournalEntry, JournalLevel, Kind, Measurement, MessageError, Quota, Reason,
    RingPlace, ServerNotice, ServerReply, ServerRequest, Stream, VmEntry, VmState, encode,
};

const KERNEL: Digest = Digest([0xa1; 32]);
const RAMDISK: Digest = Digest([0xb2; 32]);

/// Stands for an encoded boot spec, which is pinned elsewhere: messages carry it as it is.
pub(crate) fn spec() -> Vec<u8> {
    b"DBSPEC".to_vec()
}

fn failure() -> Failure {
    Failure { reason: Reason::OverQuota, detail: "build of web: 8 MiB, 4 MiB are left".into() }
}

const QUOTA: Quota = Quota {
    memory_kib: 1 << 20,
    vms: 16,
    first_domid: 100,
    last_domid: 199,
    store_bytes: 64 << 20,
    requests: 8,
};

/// Every message with its number and its name.
pub(crate) fn all() -> Vec<(&'static str, Vec<u8>)> {
    let mut all = Vec::new();
    all.extend(server_requests().into_iter().map(|(name, message)| (name, encode(7, &message).unwrap())));
    all.extend(server_replies().into_iter().map(|(name, message)| (name, encode(7, &message).unwrap())));
    all.extend(server_notices().into_iter().map(|(name, message)| (name, encode(0, &message).unwrap())));
    all.extend(control_requests().into_iter().map(|(name, message)| (name, encode(300, &message).unwrap())));
    all.extend(control_replies().into_iter().map(|(name, message)| (name, encode(300, &message).unwrap())));
    all.extend(control_notices().into_iter().map(|(name, message)| (name, encode(0, &message).unwrap())));
    all
}

pub(crate) fn server_requests() -> Vec<(&'static str, ServerRequest)> {
    use ServerRequest as R;
    let build = BuildRequest {
        spec: spec(),
        kernel: ImageSource::Ramdisk("images/k".into()),
        ramdisk: Some(ImageSource::Store(RAMDISK)),
        paused: true,
        console: Some(3),
        xenstore: None,
        label: Some("guest_t".into()),
        measured: false,
    };
    vec![
        ("server-request-hello", R::Hello { lowest: 1, highest: 2, name: "control".into() }),
        ("server-request-put-image-begin", R::PutImageBegin { digest: KERNEL, size: 100 << 20 }),
        (
            "server-request-put-image-chunk",
            R::PutImageChunk { digest: KERNEL, offset: 300, bytes: vec![0, 255, 7] },
        ),
        ("server-request-put-image-end", R::PutImageEnd { digest: KERNEL }),
        ("server-request-build", R::Build(build)),
        ("server-request-list", R::List { after: 128 }),
        ("server-request-pause", R::Pause { domid: 9, serial: Some(300) }),
        ("server-request-unpause", R::Unpause { domid: 9, serial: None }),
        ("server-request-shutdown", R::Shutdown { domid: 9, serial: Some(1) }),
        ("server-request-destroy", R::Destroy { domid: 0x7fef, serial: Some(300) }),
        ("server-request-watch-exits", R::WatchExits { watch: true }),
        ("server-request-facts", R::Facts),
        ("server-request-put-image-cancel", R::PutImageCancel { digest: KERNEL }),
    ]
}

pub(crate) fn server_replies() -> Vec<(&'static str, ServerReply)> {
    use ServerReply as R;
    let built = Built {
        domid: 9,
        start_info: 0x1_2345,
        kernel: KERNEL,
        ramdisk: Some(RAMDISK),
        console: RingPlace { frame: 0x1_2346, port: 1 },
        xenstore: None,
        serial: 300,
    };
    let vm = |domid, name: &str, state| VmEntry {
        domid,
        name: name.into(),
        state,
        memory_kib: 8192,
        vcpus: 1,
        serial: u64::from(domid) + 291,
    };
    let facts = Facts {
        xen_major: 4,
        xen_minor: 17,
        domctl: 0x15,
        memory_kib: 512 << 10,
        free_kib: 400 << 10,
        stored_bytes: 3 << 20,
        quota: QUOTA,
    };
    vec![
        ("server-reply-hello", R::Hello { version: 1, name: "db-server".into(), quota: QUOTA }),
        ("server-reply-image", R::Image { digest: KERNEL, received: 303, complete: false }),
        ("server-reply-built", R::Built(built)),
        (
            "server-reply-vms",
            R::Vms {
                vms: vec![
                    vm(9, "web", VmState::Running),
                    vm(10, "db", VmState::Ended),
                    vm(11, "old", VmState::Dying),
                ],
                more: true,
            },
        ),
        ("server-reply-done", R::Done),
        ("server-reply-facts", R::Facts(facts)),
        ("server-reply-failed", R::Failed(failure())),
    ]
}

pub(crate) fn server_notices() -> Vec<(&'static str, ServerNotice)> {
    use ServerNotice as N;
    vec![
        (
            "server-notice-ended",
            N::Ended { domid: 9, name: "web".into(), reason: EndReason::Status(3), serial: 300 },
        ),
        ("server-notice-dropped", N::Dropped(failure())),
    ]
}

pub(crate) fn control_requests() -> Vec<(&'static str, ControlRequest)> {
    use ControlRequest as R;
    let platform = || "shop".to_owned();
    vec![
        ("control-request-hello", R::Hello { lowest: 1, highest: 1, name: "operator".into() }),
        (
            "control-request-create-platform",
            R::CreatePlatform { name: platform(), specs: vec![spec(), spec()] },
        ),
        ("control-request-create-vm", R::CreateVm { platform: platform(), spec: spec() }),
        ("control-request-list", R::List { platform: platform(), skip: 256 }),
        ("control-request-shutdown-vm", R::ShutdownVm { platform: platform(), vm: "web".into() }),
        ("control-request-terminate-platform", R::TerminatePlatform { platform: platform() }),
        ("control-request-measure-platform", R::MeasurePlatform { platform: platform(), skip: 0 }),
        ("control-request-read-journal", R::ReadJournal { first: 300 }),
    ]
}

pub(crate) fn control_replies() -> Vec<(&'static str, ControlReply)> {
    use ControlReply as R;
    let running =
        ControlVm { name: "web".into(), domid: Some(9), state: Some(VmState::Running), restarts: 2 };
    let waiting = ControlVm { name: "db".into(), domid: None, state: None, restarts: 0 };
    let measurement =
        Measurement { vm: "web".into(), spec: Digest([0xc3; 32]), kernel: KERNEL, ramdisk: None };
    let entry =
        |number, level, text: &str| JournalEntry { number, time: 1_500_000_000, level, text: text.into() };
    let entries = vec![
        entry(299, JournalLevel::Info, "event=connected"),
        entry(301, JournalLevel::Error, "vm=web event=leaked"),
    ];
    vec![
        ("control-reply-hello", R::Hello { version: 1, name: "control".into() }),
        ("control-reply-platform-created", R::PlatformCreated { vms: 2 }),
        ("control-reply-vm-created", R::VmCreated { domid: 300 }),
        ("control-reply-vms", R::Vms { vms: vec![running, waiting], more: false }),
        ("control-reply-done", R::Done),
        (
            "control-reply-measured",
            R::Measured { measurements: vec![measurement], more: false, total: Digest([0xd4; 32]) },
        ),
        ("control-reply-failed", R::Failed(failure())),
        ("control-reply-journal", R::Journal { entries, more: true }),
    ]
}

pub(crate) fn control_notices() -> Vec<(&'static str, ControlNotice)> {
    use ControlNotice as N;
    let (platform, vm) = (|| "shop".to_owned(), || "web".to_owned());
    vec![
        (
            "control-notice-vm-ended",
            N::VmEnded { platform: platform(), vm: vm(), reason: EndReason::Crash, restarts: true },
        ),
        ("control-notice-platform-ended", N::PlatformEnded { platform: platform(), well: false }),
        ("control-notice-dropped", N::Dropped(failure())),
    ]
}

/// The only message in `bytes`, read as what its header says, and encoded again.
pub(crate) fn read_again(bytes: &[u8]) -> Result<Vec<u8>, MessageError> {
    let mut stream = Stream::new();
    let mut rest = bytes;
    let frame =
        stream.take(&mut rest)?.ok_or(MessageError::TooLong { what: "a wait", length: 0, most: 0 })?;
    assert!(rest.is_empty());
    encode_again(&frame)
}

/// Decodes the body of a frame as what its header says and encodes it again.
pub(crate) fn encode_again(frame: &Frame) -> Result<Vec<u8>, MessageError> {
    let id = frame.id;
    match frame.kind {
        Kind::ServerRequest => encode(id, &frame.decode::<ServerRequest>()?),
        Kind::ServerReply => encode(id, &frame.decode::<ServerReply>()?),
        Kind::ServerNotice => encode(id, &frame.decode::<ServerNotice>()?),
        Kind::ControlRequest => encode(id, &frame.decode::<ControlRequest>()?),
        Kind::ControlReply => encode(id, &frame.decode::<ControlReply>()?),
        Kind::ControlNotice => encode(id, &frame.decode::<ControlNotice>()?),
    }
}

/// Where the golden bytes are, one file for each message, in hexadecimal.
pub(crate) fn golden_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn digit(nibble: u8) -> char {
    char::from_digit(u32::from(nibble), 16).unwrap()
}

/// Bytes in lines of 32, in hexadecimal.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    let line = |chunk: &[u8]| {
        let mut line: String = chunk.iter().flat_map(|byte| [byte >> 4, byte & 0xf]).map(digit).collect();
        line.push('\n');
        line
    };
    bytes.chunks(32).map(line).collect()
}
