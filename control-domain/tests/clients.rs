//! Clients: what they may, what they get, and what hostile ones cannot do.
#![allow(missing_docs, reason = "a test's name says what it checks")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise, in its helpers too"
)]

mod support;

use control_domain::{Status, total};
use proptest::prelude::*;
use protocols::control::{ClientRights, ControlClient, ControlSpec};
use protocols::message::{
    ControlNotice, ControlReply, ControlRequest, EndReason, JournalEntry, JournalLevel, MAX_JOURNAL_ENTRIES,
    Reason, VmState,
};
use protocols::module::{MAX_MODULE_LINE_LEN, MAX_MODULES, Module};
use protocols::platform::Ends;
use protocols::{BootSpec, GuestKind, PlatformSpec};
use support::{World, after, kernel, ramdisk, spec};
use trust::sha256;

const ALL: ClientRights =
    ClientRights { list: true, create: true, shutdown: true, terminate: true, measure: true, journal: true };

/// A platform with two clients, one that may do everything and one that may do nothing, and a VM that is none.
fn disk() -> Vec<u8> {
    let client = |vm: &str, may| ControlClient { vm: vm.into(), may };
    let clients = vec![client("master", ALL), client("slave", ClientRights::default())];
    let control = ControlSpec { platform: "main".into(), clients, ..ControlSpec::default() };
    let settings = PlatformSpec { ends: Ends::Never, ..PlatformSpec::default() };
    let fixed = |name: &str, domid| BootSpec { domid: Some(domid), ..spec(name) };
    ramdisk(Some(&settings), Some(&control), &[fixed("master", 7), fixed("slave", 8), spec("web")])
}

/// A world in which both have said hello.
fn world(disk: &[u8]) -> World<'_> {
    let mut world = World::new(disk);
    world.until("all", |world| ["master", "slave", "web"].iter().all(|name| world.server.runs(name)));
    for client in &world.clients {
        client.hello();
    }
    world.settle();
    assert!(matches!(world.clients[0].answer(1), Some(ControlReply::Hello { version: 1, .. })));
    world
}

fn requests() -> Vec<ControlRequest> {
    let platform = || "main".to_owned();
    vec![
        ControlRequest::CreatePlatform { name: "other".into(), specs: vec![] },
        ControlRequest::CreateVm { platform: platform(), spec: vec![] },
        ControlRequest::List { platform: platform(), skip: 0 },
        ControlRequest::ShutdownVm { platform: platform(), vm: "web".into() },
        ControlRequest::MeasurePlatform { platform: platform(), skip: 0 },
        ControlRequest::ReadJournal { first: 0 },
        ControlRequest::TerminatePlatform { platform: platform() },
    ]
}

#[test]
fn who_lacks_a_right_or_has_not_said_hello_is_refused() {
    let disk = disk();
    let mut world = world(&disk);
    for (id, request) in (10..).zip(requests()) {
        world.clients[1].say(id, &request);
        world.settle();
        assert_eq!(world.clients[1].reason(id), Some(Reason::NotPermitted), "{request:?}");
    }
    assert_eq!(world.server.vms.len(), 3);
    let mut world = World::new(&disk);
    world.until_running("web");
    for (id, request) in (10..).zip(requests()) {
        world.clients[0].say(id, &request);
        world.settle();
        assert_eq!(world.clients[0].reason(id), Some(Reason::NoHello), "{request:?}");
    }
    world.clients[0].say(3, &ControlRequest::Hello { lowest: 2, highest: 9, name: "new".into() });
    world.settle();
    assert_eq!(world.clients[0].reason(3), Some(Reason::Version));
}

#[test]
fn vms_are_listed_shut_down_and_measured() {
    let disk = disk();
    let mut world = world(&disk);
    world.clients[0].say(2, &ControlRequest::ShutdownVm { platform: "main".into(), vm: "web".into() });
    world.clients[0].say(3, &ControlRequest::ShutdownVm { platform: "main".into(), vm: "nobody".into() });
    world.settle();
    assert_eq!(world.clients[0].answer(2), Some(&ControlReply::Done));
    assert_eq!(world.clients[0].reason(3), Some(Reason::NoSuchVm));
    world.clients[0].say(4, &ControlRequest::List { platform: "main".into(), skip: 1 });
    world.clients[0].say(5, &ControlRequest::MeasurePlatform { platform: "main".into(), skip: 0 });
    world.settle();
    let Some(ControlReply::Vms { vms, more: false }) = world.clients[0].answer(4) else { panic!() };
    let seen: Vec<_> = vms.iter().map(|vm| (vm.name.as_str(), vm.domid, vm.state)).collect();
    assert_eq!(seen, [("slave", Some(8), Some(VmState::Running)), ("web", None, None)]);
    let Some(ControlReply::Measured { measurements, more: false, total: sum }) = world.clients[0].answer(5)
    else {
        panic!()
    };
    assert_eq!(measurements[2].spec, sha256(&spec("web").encode().unwrap()));
    assert_eq!(measurements[2].kernel, sha256(&kernel()));
    assert_eq!(*sum, total(measurements.iter()));
}

#[test]
fn the_journal_is_read_in_parts_and_read_on() {
    let disk = disk();
    let mut world = world(&disk);
    let mut known = vec![];
    let mut read_on = |world: &mut World<'_>, ids: std::ops::Range<u32>| {
        let mut parts = 0;
        for id in ids {
            let first = known.last().map_or(0, |entry: &JournalEntry| entry.number + 1);
            world.clients[0].say(id, &ControlRequest::ReadJournal { first });
            world.settle();
            let Some(ControlReply::Journal { entries, more }) = world.clients[0].answer(id) else { panic!() };
            assert!(entries.len() <= MAX_JOURNAL_ENTRIES);
            known.extend(entries.iter().cloned());
            parts += 1;
            if !more {
                return (parts, known.clone());
            }
        }
        panic!("it has no end")
    };
    let (_, before) = read_on(&mut world, 100..110);
    let said: Vec<String> = before.iter().map(|entry| entry.text.clone()).collect();
    let shown: Vec<String> = world.control.journal().entries().map(|entry| entry.text.clone()).collect();
    assert_eq!(said, shown);
    assert!(said.iter().any(|text| text == "client=slave says hello as c"), "{said:#?}");
    for _ in 0..100 {
        world.cut();
        world.until_running("master");
        world.now += 20 * support::SECOND;
    }
    let (parts, after) = read_on(&mut world, 110..200);
    assert!(parts > 3, "{parts}");
    let lost: Vec<_> = after.iter().filter(|entry| entry.text.starts_with("event=disconnected")).collect();
    assert!(!lost.is_empty() && lost.iter().all(|entry| entry.level == JournalLevel::Warn));
    assert!(after.is_sorted_by(|one, next| one.number < next.number));
}

#[test]
fn a_platform_of_a_client_lives_and_is_nobody_elses() {
    let disk = disk();
    let mut world = world(&disk);
    let specs = [after("app", &["store"]), spec("store")].map(|spec| spec.encode().unwrap()).to_vec();
    world.clients[0].say(2, &ControlRequest::CreatePlatform { name: "shop".into(), specs: specs.clone() });
    world.until("shop", |world| world.clients[0].answer(2).is_some());
    assert_eq!(world.clients[0].answer(2), Some(&ControlReply::PlatformCreated { vms: 2 }));
    let more = after("more", &["app"]).encode().unwrap();
    world.clients[0].say(3, &ControlRequest::CreateVm { platform: "shop".into(), spec: more });
    world.clients[0].say(4, &ControlRequest::CreatePlatform { name: "shop".into(), specs });
    world.clients[1].say(4, &ControlRequest::TerminatePlatform { platform: "shop".into() });
    world.until("more", |world| world.clients[0].answer(3).is_some());
    let domid = world.server.domid("more").unwrap();
    assert_eq!(world.clients[0].answer(3), Some(&ControlReply::VmCreated { domid }));
    assert_eq!(world.clients[0].reason(4), Some(Reason::Taken));
    world.server.end_vm("more", EndReason::Crash);
    world.settle();
    let ended = ControlNotice::VmEnded {
        platform: "shop".into(),
        vm: "more".into(),
        reason: EndReason::Crash,
        restarts: false,
    };
    assert!(world.clients[0].heard.contains(&(0, Err(ended))));
    world.clients[0].say(5, &ControlRequest::TerminatePlatform { platform: "shop".into() });
    world.until("the end", |world| world.clients[0].answer(5).is_some());
    let over = ControlNotice::PlatformEnded { platform: "shop".into(), well: false };
    assert!(world.clients[0].heard.contains(&(0, Err(over))));
    assert_eq!(world.server.vms.len(), 3);
    assert!(!world.clients[1].heard.iter().any(|(_, said)| said.is_err()));
}

#[test]
fn a_platform_that_cannot_be_built_leaves_nothing() {
    let disk = disk();
    let mut world = world(&disk);
    let lost = BootSpec { kernel: "images/absent".into(), ..spec("lost") };
    let specs = [spec("app"), lost].map(|spec| spec.encode().unwrap()).to_vec();
    world.clients[0].say(2, &ControlRequest::CreatePlatform { name: "shop".into(), specs });
    world.until("an answer", |world| world.clients[0].answer(2).is_some());
    assert_eq!(world.clients[0].reason(2), Some(Reason::NoSuchImage));
    assert_eq!(world.server.vms.len(), 3);
    let bad = [vec![1, 2, 3], after("x", &["y"]).encode().unwrap()];
    for (id, spec) in (3..).zip(bad) {
        world.clients[0].say(id, &ControlRequest::CreatePlatform { name: "bad".into(), specs: vec![spec] });
        world.settle();
        assert_eq!(world.clients[0].reason(id), Some(Reason::BadSpec));
    }
}

#[test]
fn terminating_its_own_platform_ends_the_control_domain() {
    for obeys in [true, false] {
        let disk = disk();
        let mut world = world(&disk);
        let specs = vec![spec("app").encode().unwrap()];
        world.clients[0].say(2, &ControlRequest::CreatePlatform { name: "shop".into(), specs });
        world.until("shop", |world| world.clients[0].answer(2).is_some());
        world.clients[0].say(3, &ControlRequest::TerminatePlatform { platform: "main".into() });
        world.until("the answer", |world| world.clients[0].answer(3).is_some());
        assert_eq!(world.clients[0].answer(3), Some(&ControlReply::Done));
        let left: Vec<_> = world.server.vms.values().map(|vm| vm.name.as_str()).collect();
        assert_eq!(left, ["master"], "who has asked is the last, and has its answer");
        assert!(world.server.runs("master"));
        if obeys {
            world.server.end_vm("master", EndReason::Poweroff);
        }
        assert_eq!(world.until_end(), Status::Success);
        assert!(world.server.vms.is_empty());
        assert_eq!(world.server.asked.contains(&"destroy master".into()), !obeys, "it had its time");
        assert!(
            !world.server.asked.contains(&"stop master".into()),
            "it need not be asked for what it wants"
        );
    }
}

/// It waits neither for those that start after it, nor they for it.
#[test]
fn who_ends_the_platform_is_the_last_whatever_the_order_of_starts() {
    for (first, second) in [("master", "web"), ("web", "master")] {
        let clients = vec![ControlClient { vm: "master".into(), may: ALL }];
        let control = ControlSpec { platform: "main".into(), clients, ..ControlSpec::default() };
        let settings = PlatformSpec { ends: Ends::Never, ..PlatformSpec::default() };
        let mut specs = [spec(first), after(second, &[first])];
        specs.iter_mut().filter(|spec| spec.name == "master").for_each(|spec| spec.domid = Some(7));
        let disk = ramdisk(Some(&settings), Some(&control), &specs);
        let mut world = World::new(&disk);
        world.until("both", |world| world.server.runs("master") && world.server.runs("web"));
        world.clients[0].hello();
        world.clients[0].say(2, &ControlRequest::TerminatePlatform { platform: "main".into() });
        world.until("the answer", |world| world.clients[0].answer(2).is_some());
        assert!(world.server.runs("master") && !world.server.runs("web"));
        world.server.end_vm("master", EndReason::Poweroff);
        assert_eq!(world.until_end(), Status::Success);
    }
}

#[test]
fn a_client_that_breaks_the_protocol_is_dropped_and_comes_back_with_a_new_channel() {
    let disk = disk();
    let mut world = world(&disk);
    world.clients[0].far.push(b"this is no message at all");
    world.settle();
    let dropped = |(_, said): &(u32, Result<ControlReply, ControlNotice>)| {
        matches!(said, Err(ControlNotice::Dropped(_)))
    };
    assert!(world.clients[0].heard.iter().any(dropped) && world.control.is_dropped(0));
    world.clients[0].hello();
    world.settle();
    assert_eq!(world.clients[0].heard.iter().filter(|(id, _)| *id == 1).count(), 1, "nothing more is read");
    world.control.client_gone(0, world.now);
    world.clients[0].far.cut();
    world.settle();
    world.clients[0].hello();
    world.settle();
    assert_eq!(world.clients[0].heard.iter().filter(|(id, _)| *id == 1).count(), 2);
    assert_eq!(world.server.vms.len(), 3, "the platform does not notice");
}

#[test]
fn a_client_that_comes_and_goes_without_pause_has_to_wait() {
    let disk = disk();
    let mut world = world(&disk);
    let mut pauses = vec![];
    for _ in 0..10 {
        world.control.client_gone(0, world.now);
        pauses.push((world.control.renewal(0) - world.now) / 1_000_000);
        world.now = world.control.renewal(0);
        world.clients[0].far.cut();
        world.settle();
        world.clients[0].hello();
        world.settle();
    }
    assert!(pauses.is_sorted() && pauses[0] <= 40 && pauses[9] == 1000, "{pauses:?}");
    assert_eq!(world.control.renewal(1), support::SECOND, "the other is not held up");
}

/// The first stays the last one; who asks after it is a VM like the others.
#[test]
fn of_two_clients_that_end_the_platform_the_first_is_the_last_and_is_answered() {
    let client = |vm: &str| ControlClient { vm: vm.into(), may: ALL };
    let clients = vec![client("master"), client("slave")];
    let control = ControlSpec { platform: "main".into(), clients, ..ControlSpec::default() };
    let settings = PlatformSpec { ends: Ends::Never, ..PlatformSpec::default() };
    let fixed = |name: &str, domid| BootSpec { domid: Some(domid), ..spec(name) };
    let disk =
        ramdisk(Some(&settings), Some(&control), &[fixed("master", 7), fixed("slave", 8), spec("web")]);
    let mut world = world(&disk);
    world.server.manners = support::Manners::Ignores;
    for client in &world.clients {
        client.say(2, &ControlRequest::TerminatePlatform { platform: "main".into() });
    }
    world.until("the answer", |world| world.clients[0].answer(2).is_some());
    assert_eq!(world.clients[0].answer(2), Some(&ControlReply::Done));
    let left: Vec<_> = world.server.vms.values().map(|vm| vm.name.as_str()).collect();
    assert_eq!(left, ["master"]);
    assert_eq!(world.until_end(), Status::Success);
}

#[test]
fn a_vm_that_is_called_like_another_takes_nothing_from_it_when_the_channel_is_lost() {
    let disk = disk();
    let mut world = world(&disk);
    let web = world.server.domid("web").unwrap();
    let specs = vec![spec("web").encode().unwrap()];
    // The build is under way when the stream is cut: whether it was done is not known.
    world.server.cut = Some((world.server.count, false));
    world.clients[0].say(2, &ControlRequest::CreatePlatform { name: "evil".into(), specs });
    world.until("the answer", |world| world.clients[0].answer(2).is_some());
    assert!(world.has("event=disconnected"), "{:#?}", world.journal());
    assert_eq!(world.clients[0].reason(2), Some(Reason::Taken));
    assert_eq!(world.server.domid("web"), Some(web), "{:#?}", world.journal());
    assert!(!world.server.asked.contains(&"destroy web".into()), "{:?}", world.server.asked);
}

#[test]
fn what_becomes_of_clients_platforms_drives_nothing_else_out_of_the_journal() {
    let disk = disk();
    let mut world = world(&disk);
    for id in (2..100).step_by(2) {
        let (name, specs) = (format!("p{id}"), vec![spec("app").encode().unwrap()]);
        world.clients[0].say(id, &ControlRequest::CreatePlatform { name: name.clone(), specs });
        world.until("platform", |world| world.clients[0].answer(id).is_some());
        world.clients[0].say(id + 1, &ControlRequest::TerminatePlatform { platform: name });
        world.until("its end", |world| world.clients[0].answer(id + 1).is_some());
    }
    assert!(world.control.journal().forgotten() > 200);
    assert!(world.has("vm=web domid=100 event=started"), "{:#?}", world.journal());
}

#[test]
fn what_a_client_waits_for_is_forgotten_when_it_goes() {
    let disk = disk();
    let mut world = world(&disk);
    world.server.manners = support::Manners::Ignores;
    let waiting = |world: &World<'_>| format!("{:?}", world.control).matches("VmGone").count();
    for _ in 0..3 {
        for id in 2..10 {
            world.clients[0]
                .say(id, &ControlRequest::ShutdownVm { platform: "main".into(), vm: "web".into() });
        }
        world.settle();
        assert_eq!(waiting(&world), 8);
        world.control.client_gone(0, world.now);
        assert_eq!(waiting(&world), 0);
        world.clients[0].far.cut();
        world.settle();
        world.clients[0].hello();
        world.settle();
    }
}

#[test]
fn boot_specs_of_clients_are_bounded_by_their_bytes() {
    let disk = disk();
    let mut world = world(&disk);
    let modules = vec![Module { bytes: 1, command_line: "x".repeat(MAX_MODULE_LINE_LEN) }; MAX_MODULES];
    let large = |name: &str| BootSpec {
        kind: GuestKind::Pvh,
        ramdisk: Some("images/kernel".into()),
        modules: modules.clone(),
        ..spec(name)
    };
    let mut taken = 0;
    let failure = (2..500).find_map(|id| {
        let spec = large(&format!("v{id}")).encode().unwrap();
        taken += spec.len();
        let request = match id % 2 {
            0 => ControlRequest::CreateVm { platform: "main".into(), spec },
            _ => ControlRequest::CreatePlatform { name: format!("p{id}"), specs: vec![spec] },
        };
        world.clients[0].say(id, &request);
        world.until("an answer", |world| world.clients[0].answer(id).is_some());
        match world.clients[0].answer(id) {
            Some(ControlReply::Failed(failure)) if failure.reason == Reason::OverQuota => {
                Some(failure.clone())
            }
            _ => None,
        }
    });
    let detail = failure.unwrap().detail;
    assert!(detail.contains("the control domain keeps 1048576"), "{detail}");
    assert!(taken > 1 << 19, "a platform that has ended is not counted, but some are there: {taken}");
}

#[test]
fn a_client_with_too_much_under_way_is_told_so() {
    let disk = disk();
    let mut world = world(&disk);
    world.server.manners = support::Manners::Ignores;
    for id in 2..30 {
        world.clients[0].say(id, &ControlRequest::ShutdownVm { platform: "main".into(), vm: "web".into() });
    }
    world.settle();
    let busy = (2..30).filter(|id| world.clients[0].reason(*id) == Some(Reason::Busy)).count();
    assert_eq!(busy, 20);
    world.until("the rest", |world| (2..30).all(|id| world.clients[0].answer(id).is_some()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    /// Whatever a client sends, the platform goes on, and an honest client is answered.
    #[test]
    fn garbage_of_a_client_hurts_only_itself(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        at in 0_usize..200,
        value: u8,
    ) {
        let disk = disk();
        let mut world = world(&disk);
        let valid: Vec<u8> = (2..).zip(requests()).take(6)
            .flat_map(|(id, request)| protocols::message::encode(id, &request).unwrap()).collect();
        let mut damaged = valid;
        if let Some(byte) = damaged.get_mut(at) { *byte = value; }
        world.clients[1].far.push(&damaged);
        world.clients[1].far.push(&bytes);
        world.settle();
        world.clients[0].say(9, &ControlRequest::List { platform: "main".into(), skip: 0 });
        world.settle();
        let listed = matches!(world.clients[0].answer(9), Some(ControlReply::Vms { vms, .. }) if vms.len() == 3);
        prop_assert!(listed);
        prop_assert_eq!(world.server.vms.len(), 3);
    }
}
