//! A db-server that fails requests, loses the channel, forgets images; and everything at random.
#![allow(missing_docs, reason = "a test's name says what it checks")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise, in its helpers too"
)]

mod support;

use std::cell::Cell;

use control_domain::{SERVER_PATIENCE, Status};
use proptest::prelude::*;
use protocols::message::{EndReason, Reason, ServerRequest, VmState};
use protocols::platform::Policy;
use protocols::{BootSpec, ExitAction, Life, PlatformSpec};
use support::{SECOND, World, after, ramdisk, spec};

fn disk() -> Vec<u8> {
    let life = Life { restart_limit: 2, ..Life::default() };
    let web = BootSpec { on_crash: ExitAction::Restart, life, ..spec("web") };
    ramdisk(None, None, &[web, after("db", &["web"])])
}

/// The whole life of a platform with a crash in it; how many requests it took.
fn live(world: &mut World<'_>) -> Status {
    for step in 0..400 {
        world.settle();
        if let Some(status) = world.control.status() {
            return status;
        }
        if step == 3 && world.server.runs("web") {
            world.server.end_vm("web", EndReason::Crash);
        } else if step > 20 {
            for name in ["web", "db"] {
                if world.server.runs(name) {
                    world.server.end_vm(name, EndReason::Poweroff);
                }
            }
        }
        world.now = world.control.deadline(world.now).unwrap_or(world.now).min(world.now + SECOND) + 1;
    }
    panic!("it does not end: {:#?}", world.journal());
}

#[test]
fn each_request_that_fails_in_turn_ends_in_order_with_nothing_left() {
    let disk = disk();
    let mut world = World::new(&disk);
    assert_eq!(live(&mut world), Status::Success);
    let count = world.server.count;
    assert!(count > 15, "{count}");
    let reasons = [
        Reason::Xen,
        Reason::Busy,
        Reason::OutOfMemory,
        Reason::NoSuchImage,
        Reason::NotPermitted,
        Reason::WrongState,
    ];
    for reason in reasons {
        for at in 0..count {
            let mut world = World::new(&disk);
            world.server.fail = Box::new(move |number, _| (number == at).then_some(reason));
            live(&mut world);
            let left: Vec<_> = world.server.vms.values().map(|vm| vm.name.clone()).collect();
            assert!(left.is_empty(), "{reason:?} at {at} leaves {left:?}: {:#?}", world.journal());
        }
    }
}

#[test]
fn each_request_that_fails_for_ever_ends_too() {
    let disk = disk();
    let kinds: [fn(&ServerRequest) -> bool; 7] = [
        |request| matches!(request, ServerRequest::PutImageBegin { .. }),
        |request| matches!(request, ServerRequest::PutImageChunk { .. }),
        |request| matches!(request, ServerRequest::PutImageEnd { .. }),
        |request| matches!(request, ServerRequest::Build(_)),
        |request| matches!(request, ServerRequest::Unpause { .. }),
        |request| matches!(request, ServerRequest::Destroy { .. }),
        |request| matches!(request, ServerRequest::List { .. }),
    ];
    for which in kinds {
        for reason in [Reason::Busy, Reason::OverQuota, Reason::NoSuchImage, Reason::WrongOffset] {
            let mut world = World::new(&disk);
            world.server.fail = Box::new(move |_, request| which(request).then_some(reason));
            if which(&ServerRequest::List { after: 0 }) {
                // Without the list nothing is known: as though there were no db-server.
                for _ in 0..100 {
                    world.step();
                }
                world.now += SERVER_PATIENCE;
                world.step();
                assert_eq!(world.control.status(), Some(Status::ServerLost));
            } else {
                live(&mut world);
            }
        }
    }
}

#[test]
fn a_channel_that_is_lost_at_each_request_is_renewed_and_the_platform_lives_on() {
    let disk = disk();
    let mut world = World::new(&disk);
    live(&mut world);
    for at in 0..world.server.count {
        for done in [false, true] {
            let mut world = World::new(&disk);
            world.server.cut = Some((at, done));
            let status = live(&mut world);
            assert!(world.has("event=disconnected"), "{at}");
            assert!(world.server.vms.is_empty(), "{at} {done}: {:#?}", world.journal());
            // An end that nobody saw may have been a bad one.
            assert!(matches!(status, Status::Success | Status::VmFailed), "{at} {done}: {status}");
        }
    }
}

#[test]
fn a_vm_that_ended_while_nobody_listened_is_restarted_like_one_that_crashed() {
    let disk = disk();
    let mut world = World::new(&disk);
    world.until_running("db");
    world.reachable = false;
    world.server.cut = Some((world.server.count, false));
    world.server.end_vm("db", EndReason::Poweroff);
    world.settle();
    let domid = world.server.domid("web").unwrap();
    world.server.vms.remove(&domid);
    world.reachable = true;
    world.server.cut = Some((0, false));
    // The stream is cut from the far side.
    world.cut();
    world.until_running("web");
    assert_ne!(world.server.domid("web"), Some(domid));
    assert!(world.has("event=ended reason=gone") && world.has("event=restarting restart=1/2"));
}

/// While nobody listened, the VM has gone and another has got its domain id and its name.
#[test]
fn a_vm_is_known_by_its_serial_number() {
    let disk = disk();
    let mut world = World::new(&disk);
    world.until_running("db");
    let web = world.server.domid("web").unwrap();
    world.server.vms.get_mut(&web).unwrap().serial += 100;
    world.cut();
    world.until("the other", |world| world.has("vm=web domid=100 event=left-over"));
    world.until_running("web");
    assert!(world.has("event=ended reason=gone"), "{:#?}", world.journal());
    // An end of a VM that had the id before is not the end of this one.
    let domid = world.server.domid("web").unwrap();
    world.server.tell_end(domid, "web", EndReason::Crash, 50);
    world.settle();
    assert!(world.server.runs("web") && !world.has("event=ended reason=crash"), "{:#?}", world.journal());
}

#[test]
fn a_vm_that_is_listed_as_dying_has_ended_and_is_waited_for() {
    let disk = disk();
    let mut world = World::new(&disk);
    world.until_running("db");
    let web = world.server.domid("web").unwrap();
    world.server.vms.get_mut(&web).unwrap().state = VmState::Dying;
    world.cut();
    world.until_running("web");
    assert!(world.has("event=ended reason=gone"), "{:#?}", world.journal());
    assert!(world.server.asked.contains(&"destroy web".into()), "{:?}", world.server.asked);
}

#[test]
fn vms_of_an_earlier_life_are_destroyed_before_anything_is_built() {
    let old = ramdisk(None, None, &[spec("web"), spec("old-1"), spec("old-2"), spec("old-3")]);
    let mut before = World::new(&old);
    before.until("all", |world| world.server.vms.len() == 4 && world.server.runs("old-3"));
    let disk = disk();
    let mut world = World::new(&disk);
    world.server.vms = before.server.vms;
    world.until_running("db");
    let asked = &world.server.asked;
    assert!(asked[..4].iter().all(|asked| asked.starts_with("destroy")), "{asked:?}");
    assert_eq!(world.server.vms.len(), 2);
}

#[test]
fn images_that_were_evicted_are_sent_again_for_a_restart() {
    let disk = disk();
    let mut world = World::new(&disk);
    world.until_running("db");
    world.server.store.clear();
    world.server.end_vm("web", EndReason::Crash);
    let begin = world.now;
    world.until("web again", |world| world.now > begin && world.server.runs("web"));
    assert_eq!(world.server.store.len(), 1);
}

#[test]
fn without_db_server_it_gives_up_after_its_patience() {
    let disk = disk();
    let mut world = World::new(&disk);
    world.reachable = false;
    assert_eq!(world.until_end(), Status::ServerLost);
    assert_eq!(world.now, SECOND + SERVER_PATIENCE);
    let last = world.journal().pop().unwrap();
    assert!(last.contains("event=given-up: db-server: no conversation for 60000 ms, "), "{last}");
    assert!(last.ends_with("at last: nobody is there"), "{last}");
}

#[test]
fn a_db_server_that_is_silent_with_an_open_stream_is_taken_for_lost() {
    let disk = disk();
    let mut world = World::new(&disk);
    world.until_running("db");
    // It has nothing to answer: silence means nothing.
    world.now += 10 * SERVER_PATIENCE;
    world.settle();
    assert!(!world.has("event=disconnected"), "{:#?}", world.journal());
    world.server.end_vm("web", EndReason::Crash);
    let begin = world.now;
    world.step();
    world.server.mute = true;
    world.until("the loss", |world| world.has("event=disconnected: db-server has not answered for 60 s"));
    // The restart is due after a second, and its build is what gets no answer.
    let took = world.now - begin;
    assert!((SERVER_PATIENCE..=SERVER_PATIENCE + SECOND).contains(&took), "{took} {:#?}", world.journal());
    world.server.mute = false;
    world.until("web again", |world| world.server.runs("web"));
}

/// Time passes as fast as the pauses allow.
#[test]
fn a_db_server_that_drops_each_conversation_soon_is_given_up() {
    let disk = disk();
    let mut world = World::new(&disk);
    world.until_running("db");
    let mut rounds = 0;
    while world.control.status().is_none() {
        world.cut();
        world.settle();
        world.now = world.control.deadline(world.now).unwrap_or(world.now);
        rounds += 1;
        assert!(rounds < 100, "{:#?}", world.journal());
    }
    assert_eq!(world.control.status(), Some(Status::ServerLost));
    assert!(world.has("33 conversations lost soon after they began; at last: "), "{:#?}", world.journal());
    assert!((SECOND..SERVER_PATIENCE).contains(&world.now), "a second between two at most: {}", world.now);
    assert!(!world.control.is_to_connect(u64::MAX));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    /// Whatever fails, is cut or ends when, it comes to an end and asks for the destruction of all that was built.
    #[test]
    fn random_interleavings_end_in_order(
        seed in prop::collection::vec((0_u8..7, 0_usize..4), 1..60),
        room in 20_usize..4000,
        requests in 1_u32..6,
        each: bool,
    ) {
        let policy = if each { Policy::Each } else { Policy::All };
        let settings = PlatformSpec { policy, ..PlatformSpec::default() };
        let life = Life { restart_limit: 2, restart_delay_ms: 5, after: vec!["b".into()], ..Life::default() };
        let a = BootSpec { on_crash: ExitAction::Restart, life, ..spec("a") };
        let disk = ramdisk(Some(&settings), None, &[a, spec("b"), after("c", &["a", "b"]), spec("d")]);
        let mut world = World::with_room(&disk, room);
        world.server.requests = requests;
        let fails = std::rc::Rc::new(Cell::new(0));
        let failing = fails.clone();
        world.server.fail = Box::new(move |_, request| {
            let left = failing.get();
            let may = !matches!(request, ServerRequest::List { .. } | ServerRequest::WatchExits { .. });
            if left > 0 && may { failing.set(left - 1); Some(Reason::Busy) } else { None }
        });
        for (what, which) in seed {
            let name = ["a", "b", "c", "d"][which];
            match what {
                0 => { for _ in 0..=which { world.step(); } }
                1 => world.settle(),
                2 => world.now = world.control.deadline(world.now).unwrap_or(world.now).min(world.now + SECOND / 2),
                3 if world.server.runs(name) => world.server.end_vm(name, EndReason::Crash),
                4 if world.server.runs(name) => world.server.end_vm(name, EndReason::Reboot),
                5 => fails.set(which),
                6 => world.cut(),
                _ => {}
            }
        }
        fails.set(0);
        for _ in 0..200 {
            world.settle();
            if world.control.status().is_some() { break; }
            for name in ["a", "b", "c", "d"] {
                if world.server.runs(name) { world.server.end_vm(name, EndReason::Poweroff); }
            }
            world.now = world.control.deadline(world.now).unwrap_or(world.now + 1);
        }
        prop_assert!(world.control.status().is_some(), "{:#?}", world.journal());
        prop_assert!(world.server.vms.is_empty(), "{:#?}", world.journal());
    }
}
