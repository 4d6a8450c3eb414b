//! A platform's life: order, ends, restarts, shutdown, over a db-server that does what it is asked.
#![allow(missing_docs, reason = "a test's name says what it checks")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise, in its helpers too"
)]

mod support;

use control_domain::{Options, Refusal, Source, Status};
use protocols::control::{ClientRights, ControlClient, ControlSpec};
use protocols::message::{EndReason, ServerRequest};
use protocols::platform::{Ends, Policy};
use protocols::{BootSpec, ExitAction, Life, PlatformSpec};
use support::{Manners, SECOND, World, after, kernel, ramdisk, spec};
use trust::sha256;

#[test]
fn all_are_built_before_any_starts_and_each_starts_after_those_that_it_waits_for() {
    let disk = ramdisk(None, None, &[after("web", &["db", "cache"]), after("cache", &["db"]), spec("db")]);
    let mut world = World::new(&disk);
    world.until_running("web");
    let asked = ["build web", "build cache", "build db", "start db", "start cache", "start web"];
    assert_eq!(world.server.asked, asked);
    assert_eq!(world.server.store.get(&sha256(&kernel())), Some(&kernel()));
    for name in ["web", "cache", "db"] {
        world.server.end_vm(name, EndReason::Poweroff);
    }
    assert_eq!(world.until_end(), Status::Success);
    assert!(world.has("event=ended reason=poweroff") && world.has("status=success vms=3 preserved=0"));
    assert!(world.server.vms.is_empty());
}

#[test]
fn a_vm_with_a_fixed_id_gets_it_before_others_could() {
    let fixed = BootSpec { domid: Some(100), ..spec("fixed") };
    let disk = ramdisk(None, None, &[spec("any"), fixed]);
    let mut world = World::new(&disk);
    world.until("both", |world| world.server.runs("any") && world.server.runs("fixed"));
    assert_eq!((world.server.domid("fixed"), world.server.domid("any")), (Some(100), Some(101)));
}

#[test]
fn an_image_that_db_server_has_is_not_sent_and_one_of_its_own_is_named() {
    let other = BootSpec { kernel: "images/servers".into(), ..spec("other") };
    let disk = ramdisk(None, None, &[spec("web"), other]);
    let mut world = World::new(&disk);
    world.server.store.insert(sha256(&kernel()), kernel());
    world.server.fail = Box::new(|_, request| {
        assert!(!matches!(request, ServerRequest::PutImageChunk { .. } | ServerRequest::PutImageEnd { .. }));
        None
    });
    world.until("both", |world| world.server.runs("web") && world.server.runs("other"));
}

#[test]
fn the_own_domid_and_a_clients_channel_are_on_command_lines() {
    let client = ControlClient { vm: "web".into(), may: ClientRights::default() };
    let control = ControlSpec { clients: vec![client], ..ControlSpec::default() };
    let line = "a=$(control) b=$(control)".to_owned();
    let web = BootSpec { domid: Some(9), command_line: line, ..spec("web") };
    let disk = ramdisk(None, Some(&control), &[web, spec("db")]);
    let mut world = World::new(&disk);
    world.until_running("web");
    assert_eq!(world.server.vms[&9].spec.command_line, "a=5 b=5 vchan=client:control:5:8:3");
}

#[test]
fn a_crash_is_restarted_with_longer_and_longer_delays_until_the_limit() {
    let life = Life { restart_limit: 3, restart_delay_ms: 1000, ..Life::default() };
    let disk = ramdisk(None, None, &[BootSpec { on_crash: ExitAction::Restart, life, ..spec("web") }]);
    let mut world = World::new(&disk);
    for delay in [1, 2, 4] {
        world.until_running("web");
        world.server.end_vm("web", EndReason::Crash);
        let begin = world.now;
        world.until_running("web");
        assert_eq!(world.now - begin, delay * SECOND);
    }
    world.server.end_vm("web", EndReason::Crash);
    assert_eq!(world.until_end(), Status::VmFailed);
    assert!(world.has("event=given-up restarts=3"));
    // db-server was never told to restart anything itself.
    assert_eq!(world.server.asked.iter().filter(|asked| *asked == "build web").count(), 4);
}

#[test]
fn every_end_has_the_action_that_the_spec_gives_it() {
    let ends = [
        (EndReason::Poweroff, Status::Success),
        (EndReason::Suspend, Status::Success),
        (EndReason::Reboot, Status::Success),
        (EndReason::Status(0), Status::Success),
        (EndReason::Status(9), Status::VmFailed),
        (EndReason::Crash, Status::VmFailed),
        (EndReason::Watchdog, Status::VmFailed),
        (EndReason::SoftReset, Status::VmFailed),
        (EndReason::Destroyed, Status::Success),
    ];
    for (reason, status) in ends {
        let disk = ramdisk(None, None, &[spec("web")]);
        let mut world = World::new(&disk);
        world.until_running("web");
        world.server.end_vm("web", reason);
        assert_eq!(world.until_end(), status, "{reason:?}");
    }
}

#[test]
fn what_is_to_be_preserved_stays_when_the_platform_ends() {
    let disk = ramdisk(None, None, &[BootSpec { on_crash: ExitAction::Preserve, ..spec("web") }]);
    let mut world = World::new(&disk);
    world.until_running("web");
    world.server.end_vm("web", EndReason::Crash);
    assert_eq!(world.until_end(), Status::VmFailed);
    assert!(world.has("preserved=1") && world.server.domid("web").is_some());
}

#[test]
fn the_end_of_a_critical_vm_or_of_one_that_is_named_stops_the_others() {
    let critical = BootSpec { life: Life { critical: true, ..Life::default() }, ..spec("web") };
    let named = PlatformSpec { ends: Ends::With(vec!["web".into()]), ..PlatformSpec::default() };
    for (settings, web, reason, status) in [
        (PlatformSpec::default(), critical, EndReason::Crash, Status::VmFailed),
        (named, spec("web"), EndReason::Poweroff, Status::Success),
    ] {
        let disk = ramdisk(Some(&settings), None, &[web, spec("db"), after("log", &["db"])]);
        let mut world = World::new(&disk);
        world.until("all", |world| ["web", "db", "log"].iter().all(|name| world.server.runs(name)));
        world.settle();
        world.server.end_vm("web", reason);
        assert_eq!(world.until_end(), status);
        let stops: Vec<_> = world.server.asked.iter().filter(|asked| asked.starts_with("stop")).collect();
        assert_eq!(stops, ["stop log", "stop db"], "who started after another is stopped before it");
        assert!(world.server.vms.is_empty());
    }
}

#[test]
fn a_vm_that_does_not_power_off_has_its_time_and_is_destroyed() {
    let named = PlatformSpec { ends: Ends::With(vec!["web".into()]), ..PlatformSpec::default() };
    let control = ControlSpec { shutdown_ms: 7000, ..ControlSpec::default() };
    let disk = ramdisk(Some(&named), Some(&control), &[spec("web"), spec("db")]);
    for (manners, took) in [(Manners::Ignores, 7 * SECOND), (Manners::CannotBeAsked, 0), (Manners::Obeys, 0)]
    {
        let mut world = World::new(&disk);
        world.server.manners = manners;
        world.until("all", |world| world.server.runs("web") && world.server.runs("db"));
        world.settle();
        let begin = world.now;
        world.server.end_vm("web", EndReason::Poweroff);
        assert_eq!(world.until_end(), Status::Success);
        assert_eq!(world.now - begin, took);
        let destroyed = world.server.asked.iter().any(|asked| asked == "destroy db");
        assert_eq!(destroyed, manners != Manners::Obeys);
    }
}

#[test]
fn with_policy_each_the_others_start_and_those_that_wait_for_the_missing_do_not() {
    let each = PlatformSpec { policy: Policy::Each, ..PlatformSpec::default() };
    let lost = BootSpec { kernel: "images/absent".into(), ..spec("lost") };
    let vms = [lost, after("waits", &["lost"]), after("longer", &["waits"]), spec("web")];
    let disk = ramdisk(Some(&each), None, &vms);
    let mut world = World::new(&disk);
    world.until_running("web");
    assert!(world.has("vm=waits domid") && world.has("starts after waits, which did not start"));
    assert_eq!(world.server.vms.len(), 1);
    world.server.end_vm("web", EndReason::Poweroff);
    assert_eq!(world.until_end(), Status::NotBuilt);
    // With policy all nothing is left.
    let disk = ramdisk(None, None, &vms);
    let mut world = World::new(&disk);
    assert_eq!(world.until_end(), Status::NotBuilt);
    assert!(
        world.server.vms.is_empty() && !world.server.asked.iter().any(|asked| asked.starts_with("start"))
    );
}

#[test]
fn a_ramdisk_that_cannot_be_used_is_refused_with_every_reason() {
    let read = |disk: &[u8]| Source::read(disk, &Options::default()).unwrap_err();
    assert!(matches!(read(b"no archive"), Refusal::Archive(_)));
    assert!(matches!(read(&ramdisk(None, None, &[])), Refusal::Empty));
    let loud = BootSpec { life: Life { ready: Some("up".into()), ..Life::default() }, ..spec("loud") };
    let client = |vm: &str| ControlClient { vm: vm.into(), may: ClientRights::default() };
    let control = ControlSpec { clients: vec![client("loud"), client("none")], ..ControlSpec::default() };
    let text = read(&ramdisk(None, Some(&control), &[loud, after("late", &["none"])])).to_string();
    for part in [
        "needs a `domid`",
        "no VM of that name",
        "does not see consoles",
        "vm=late it is to start after \"none\"",
    ] {
        assert!(text.contains(part), "{text} lacks {part}");
    }
    let required = format!("trust=require:{}", "11".repeat(32));
    let options = Options::parse(&required);
    if options.faults.is_empty() {
        assert!(matches!(
            Source::read(&ramdisk(None, None, &[spec("a")]), &options),
            Err(Refusal::Untrusted(_))
        ));
    }
    let slip = Options::parse("trust=required");
    assert!(matches!(Source::read(&ramdisk(None, None, &[spec("a")]), &slip), Err(Refusal::Settings(_))));
}
