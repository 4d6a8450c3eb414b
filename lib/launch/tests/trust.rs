//! What a builder that requires a key builds from, and what it says of what it measured, on a simulated Xen.
#![allow(missing_docs, reason = "a test's name says what it checks")]
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise, in its helpers too")]

mod support;

use launch::Options;
use protocols::{BootSpec, ExitAction, MachineStatus};
use ramdisk::{Archive, Writer};
use support::{archive, logged, run_with, spec, then_end, when_running};
use trust::{SigningKey, read_event_log, replay, sha256, sign};
use xen_abi::GuestVirt;
use xen_abi::sched::{SHUTDOWN_POWEROFF, SHUTDOWN_REBOOT};
use xen_sim::{Guest, Machine};

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed([seed; 32]).unwrap()
}

fn digits(seed: u8) -> String {
    key(seed).public().unwrap().to_string()
}

/// A platform of one VM, version 3, signed with key 1.
fn signed() -> Vec<u8> {
    let bytes = archive(&[spec("a")]);
    sign(&Archive::parse(&bytes).unwrap(), "shop", 3, &key(1)).unwrap()
}

/// The same with one entry's data changed, packed as `domb` packs.
fn tampered(entry: &str) -> Vec<u8> {
    let bytes = signed();
    let mut writer = Writer::new();
    for file in Archive::parse(&bytes).unwrap().entries() {
        let mut data = file.data().to_vec();
        if file.name() == entry {
            *data.last_mut().unwrap() ^= 1;
        }
        writer.file(file.name(), &data).unwrap();
    }
    writer.finish()
}

/// Launches a RAM disk whose VM, if it is started, ends at once; how it went and what was logged.
fn launched(archive: &[u8], options: &Options) -> (MachineStatus, String) {
    let earlier = logged().len();
    let machine = Machine::builder().build();
    then_end(&machine, 1, SHUTDOWN_POWEROFF);
    let status = run_with(&machine, archive, options);
    machine.assert_clean();
    (status, logged()[earlier..].trim_start().to_owned())
}

/// Launches a RAM disk that must be refused, for a reason that has these words, before any hypercall that builds.
fn assert_refused(archive: &[u8], command_line: &str, words: &[&str]) {
    let (status, log) = launched(archive, &Options::parse(command_line));
    assert_eq!(status, MachineStatus::BuildFailed, "{log}");
    let refusal = log.lines().rfind(|line| line.starts_with("step=trust ")).unwrap_or_default();
    for word in words {
        assert!(refusal.contains(word), "{word}: {log}");
    }
    assert!(log.ends_with("platform=ended status=build-failed vms=0 preserved=0"), "{log}");
}

#[test]
fn what_the_key_signed_is_built() {
    let (status, log) = launched(&signed(), &Options::parse(&format!("trust=require:{}", digits(1))));
    assert_eq!(status, MachineStatus::Success, "{log}");
    let id = key(1).public().unwrap().id();
    assert!(log.contains(&format!("trust=verified key={id} platform=\"shop\" version=3 files=2 ")), "{log}");
}

#[test]
fn what_is_not_what_the_key_signed_is_refused() {
    let require = format!("trust=require:{}", digits(1));
    let kernel = support::kernel();
    let mut other = kernel.clone();
    *other.last_mut().unwrap() ^= 1;
    let (found, listed) = (sha256(&other).to_string(), sha256(&kernel).to_string());
    assert_refused(&tampered("images/kernel"), &require, &["images/kernel", &found, &listed]);
    assert_refused(&tampered("vms/a.spec"), &require, &["vms/a.spec"]);
    assert_refused(&tampered("manifest"), &require, &["signature is not valid"]);
    assert_refused(&tampered("manifest.sig"), &require, &["signature is not valid"]);
    assert_refused(&archive(&[spec("a")]), &require, &["not signed", "domb sign"]);
    let ids = [1, 2].map(|seed| key(seed).public().unwrap().id().to_string());
    assert_refused(&signed(), &format!("trust=require:{}", digits(2)), &[&ids[0], &ids[1]]);
    assert_refused(&signed(), &format!("{require} trust-version=4"), &["version 3", "at least 4"]);
    // policy=each saves VMs from each other, not from this.
    assert_refused(&tampered("images/kernel"), &format!("policy=each {require}"), &["images/kernel"]);
}

#[test]
fn settings_with_a_slip_refuse_everything() {
    let key = digits(1);
    for (line, words) in [
        ("trust=".to_owned(), "`trust=`: expected trust=measure or trust=require:"),
        (format!("trust={key}"), "expected trust=measure"),
        (format!("trust=requires:{key}"), "expected trust=measure"),
        (format!("trust=require:{}", &key[1..]), "63 characters"),
        (format!("trust=require:{}", "0".repeat(64)), "not an Ed25519 public key"),
        (format!("trust=require:{key} trust=measure"), "not what `trust=` said before"),
        (format!("trust=require:{key} trust-version=x"), "`trust-version=x`: expected a number"),
        (format!("trsut=require:{key}"), "`trsut=` is no setting: is `trust=` meant?"),
        (format!("Trust=require:{key}"), "`Trust=` is no setting: is `trust=` meant?"),
        (format!("key=require:{key}"), "`key=` is no setting: is `trust=` meant?"),
        (format!("trust=require:{key} trust_version=4"), "is `trust-version=` meant?"),
        ("eventlog=a".to_owned(), "is `event-log=` meant?"),
        ("trust-version=1".to_owned(), "`trust-version=` without a key"),
        ("trust=measure trust-version=1".to_owned(), "`trust-version=` without a key"),
    ] {
        assert_refused(&signed(), &line, &[words]);
    }
    // Xen cuts a line that is longer than a start info has room for, and `trust=` may be what is cut off.
    let cut = "x".repeat(1023);
    assert_refused(&signed(), &cut, &["1023 bytes, at which Xen cuts it"]);
    assert_eq!(launched(&signed(), &Options::parse(&cut[1..])).0, MachineStatus::Success);
    let twice = Options::parse(&format!("trust=require:{key} trust=require:{key} trust-version=3"));
    assert_eq!(launched(&signed(), &twice).0, MachineStatus::Success);
}

#[test]
fn what_is_not_utf_8_takes_no_other_word_with_it() {
    let line = [b"note=caf\xe9 trust=require:", digits(2).as_bytes()].concat();
    let (status, log) = launched(&signed(), &Options::from_bytes(&line));
    assert_eq!(status, MachineStatus::BuildFailed, "{log}");
    assert!(log.contains("step=trust the RAM disk is signed with key "), "{log}");
    assert!(log.contains("on the command line is ignored"), "{log}");
}

/// Options of a builder that has key 1 built in, and so has a least version.
fn with_built_in_key(line: &str, least_version: u64) -> Options {
    let mut options = Options::parse(line);
    options.trust.build_in(key(1).public().unwrap().bytes(), least_version);
    options
}

#[test]
fn the_command_line_cannot_take_a_built_in_key_back() {
    for line in ["", "trust=measure", &format!("trust=require:{}", digits(1)), "trust-version=3"] {
        let (status, log) = launched(&signed(), &with_built_in_key(line, 0));
        assert_eq!(status, MachineStatus::Success, "{line}: {log}");
    }
    for archive in [signed(), archive(&[spec("a")])] {
        let (status, log) =
            launched(&archive, &with_built_in_key(&format!("trust=require:{}", digits(2)), 0));
        assert_eq!(status, MachineStatus::BuildFailed);
        assert!(log.contains("and this builder has key "), "{log}");
    }
    assert_eq!(
        launched(&archive(&[spec("a")]), &with_built_in_key("trust=measure", 0)).0,
        MachineStatus::BuildFailed
    );
    let mut options = Options::parse("");
    options.trust.build_in([0; 32], 0);
    let (status, log) = launched(&signed(), &options);
    assert_eq!(status, MachineStatus::BuildFailed);
    assert!(log.contains("the key in this builder: "), "{log}");
}

#[test]
fn the_command_line_cannot_lower_a_built_in_version() {
    for (line, built_in, accepted) in [
        ("", 3, true),
        ("", 4, false),
        ("trust-version=1", 4, false),
        ("trust-version=4", 3, false),
        ("trust-version=2", 3, true),
    ] {
        let (status, log) = launched(&signed(), &with_built_in_key(line, built_in));
        assert_eq!(status == MachineStatus::Success, accepted, "{line:?}, {built_in}: {log}");
        assert_eq!(log.contains("version 3"), !accepted, "{log}");
    }
}

#[test]
fn the_vms_that_are_to_know_get_the_event_log() {
    fn assert_has_log(guest: &Guest) {
        let view = guest.view().unwrap();
        let start = view.start_info().unwrap();
        let disk =
            view.read(GuestVirt::new(start.mod_start), usize::try_from(start.mod_len).unwrap()).unwrap();
        let disk = Archive::parse(&disk).unwrap();
        let events = read_event_log(disk.file("db-boot/event-log").unwrap()).unwrap();
        let registers: Vec<_> = replay(&events).values().map(ToString::to_string).collect();
        let said = format!("pcr8={} pcr9={} ", registers[0], registers[1]);
        assert!(logged().contains(&said), "{said}\n{}", logged());
    }
    let machine = Machine::builder().build();
    when_running(&machine, 1, |guest| {
        assert_has_log(guest);
        guest.shut_down(SHUTDOWN_REBOOT);
    });
    // The same VM, built again when the RAM disk is gone.
    when_running(&machine, 3, |guest| {
        assert_has_log(guest);
        guest.shut_down(SHUTDOWN_POWEROFF);
    });
    when_running(&machine, 2, |guest| {
        assert_eq!(guest.view().unwrap().start_info().unwrap().mod_len, 0);
        guest.shut_down(SHUTDOWN_POWEROFF);
    });
    let again = BootSpec { on_reboot: ExitAction::Restart, ..spec("a") };
    let options = Options::parse("event-log=a,nobody");
    let status = run_with(&machine, &archive(&[again, spec("b")]), &options);
    assert_eq!(status, MachineStatus::Success, "{}", logged());
    assert!(logged().contains("`event-log=` names \"nobody\", and there is no such VM"), "{}", logged());
    machine.assert_clean();
}

#[test]
fn what_is_measured_is_said_and_refuses_nothing() {
    let bytes = archive(&[spec("a")]);
    let (status, log) = launched(&bytes, &Options::parse("trust=measure"));
    assert_eq!(status, MachineStatus::Success);
    let kernel = support::kernel();
    let line =
        format!("event=measured pcr=9 entry=images/kernel bytes={} sha256={}", kernel.len(), sha256(&kernel));
    assert!(log.lines().any(|logged| logged == line), "{line}\n{log}");
    assert!(log.contains("trust=measured: no key is required"), "{log}");
    let summary = log.lines().find(|line| line.starts_with("event=event-log ")).unwrap();
    assert!(summary.contains("events=7 pcr8="), "{summary}");
    let (_, log) = launched(&bytes, &Options::parse(""));
    assert!(!log.contains("event=measured"), "{log}");
}
