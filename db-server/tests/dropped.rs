//! Controllers that end, fail or attack in the middle of things, on a simulated Xen.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise, in its helpers too"
)]

mod support;

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;

use hypercall::Xen;
use proptest::prelude::*;
use protocols::message::{self, ServerNotice, ServerReply, ServerRequest};
use protocols::{BootSpec, ExitAction, Life, MachineStatus};
use support::{Ctl, Script, build, controller, hello, kernel, logged, platform, put, serve, spec};
use xen_abi::sched::{SHUTDOWN_CRASH, SHUTDOWN_POWEROFF};
use xen_abi::{DomId, PageCount};
use xen_sim::Machine;

/// Seconds, in nanoseconds.
const SECOND: u64 = 1_000_000_000;

/// Serves two controllers to their ends: one that does what `act` says, and an honest one that is answered before and after.
fn beside_an_honest_one(act: impl FnOnce(&Machine, &Script)) -> Machine {
    let machine = Machine::builder().build();
    let (bad, honest) = (Script::greeted(&machine, 1), Script::greeted(&machine, 2));
    act(&machine, &bad);
    honest.ask(ServerRequest::Build(build(&spec("tiny"))));
    honest.act(|ctl| assert_eq!(ctl.built().domid, 120));
    bad.end();
    honest.end();
    let (settings, specs) = platform(&[controller("bad", 100, 110), controller("honest", 120, 130)]);
    assert_eq!(serve(&machine, &settings, &specs, ""), MachineStatus::Success, "{}", logged());
    machine.assert_clean();
    machine
}

/// The controller finds its channel closed, after a notice of why.
fn is_dropped(script: &Script) {
    script.act(|ctl| {
        assert!(ctl.hear().is_some(), "{}", logged());
        assert!(matches!(ctl.notices.last(), Some(ServerNotice::Dropped(_))), "{:?}", ctl.notices);
    });
}

fn assert_dropped(reason: &str) {
    assert!(logged().contains(&format!("vm=bad event=controller-dropped reason={reason}")), "{}", logged());
}

#[test]
fn garbage_ends_the_conversation_and_what_was_begun() {
    beside_an_honest_one(|_, bad| {
        bad.act(|ctl| {
            ctl.send(&ServerRequest::Build(build(&BootSpec {
                memory_kib: 32 << 10,
                max_memory_kib: 32 << 10,
                ..spec("large")
            })));
            ctl.send_bytes(b"this is no message at all");
        });
        is_dropped(bad);
    });
    assert_dropped("garbage unfinished=1: message: starts with");
}

#[test]
fn a_message_that_is_not_for_db_server_is_garbage_too() {
    beside_an_honest_one(|_, bad| {
        bad.act(|ctl| ctl.send_bytes(&message::encode(1, &ServerReply::Done).unwrap()));
        is_dropped(bad);
    });
    assert_dropped("garbage");
}

#[test]
fn a_message_that_is_not_continued_is_waited_for_so_long() {
    beside_an_honest_one(|machine, bad| {
        bad.act(|ctl| {
            for request in &put(&kernel(), 200)[..2] {
                ctl.send(request);
            }
            let begun = message::encode(9, &ServerRequest::Facts).unwrap();
            ctl.send_bytes(&begun[..begun.len() - 1]);
        });
        machine.when_idle(|machine| machine.advance(9 * SECOND));
        bad.act(|ctl| {
            assert!(ctl.hear().is_none());
            ctl.guest.machine().advance(2 * SECOND);
        });
        is_dropped(bad);
    });
    assert_dropped("stalled");
}

#[test]
fn a_controller_that_does_not_read_is_not_heard_and_then_dropped() {
    let machine = beside_an_honest_one(|machine, bad| {
        // Answers are longer than these requests: they fill its ring, then db-server's own bound, then requests stay unread.
        for _ in 0..8 {
            bad.act(|ctl| {
                let bytes = message::encode(1, &ServerRequest::Facts).unwrap();
                for _ in 0..2000 {
                    if ctl.channel.writable(bytes.len()).unwrap() < bytes.len() {
                        break;
                    }
                    ctl.send_bytes(&bytes);
                }
            });
        }
        bad.act(|ctl| assert!(ctl.channel.writable(1 << 16).unwrap() < 1 << 16, "requests stay unread"));
        machine.when_idle(|machine| machine.advance(11 * SECOND));
    });
    assert_dropped("deaf");
    assert!(machine.free_memory().raw() > 0);
}

#[test]
fn indices_that_lie_end_the_channel() {
    beside_an_honest_one(|_, bad| {
        bad.act(|ctl| {
            // The producer index of the ring from the client, far beyond what the ring holds.
            ctl.write_shared(4, 0x4000_0000);
        });
    });
    assert_dropped("broken-channel");
}

#[test]
fn a_controller_that_comes_back_has_its_channel_and_its_vms_again() {
    let machine = Machine::builder().build();
    let first = Script::greeted(&machine, 1);
    first.ask(ServerRequest::Build(build(&spec("worker"))));
    first.act(|ctl| {
        ctl.built();
    });
    // In the middle of a build and of an image.
    first.act(|ctl| {
        ctl.send(&put(&kernel(), 100)[0]);
        ctl.send(&ServerRequest::Build(build(&BootSpec { domid: Some(105), ..spec("half") })));
        ctl.guest.shut_down(SHUTDOWN_CRASH);
    });
    first.forget();
    machine.when_idle(|machine| machine.advance(2 * SECOND));
    support::launching::when_running(&machine, 1, |_| {});
    machine.when_idle(|machine| machine.advance(2 * SECOND));
    let second = Script::new(&machine, 1);
    second.ask(hello());
    second.ask(ServerRequest::List { after: 0 });
    second.act(|ctl| match ctl.last() {
        ServerReply::Vms { vms, .. } => {
            let names: Vec<_> = vms.iter().map(|vm| vm.name.as_str()).collect();
            assert!(names.contains(&"worker"), "{names:?}");
        }
        other => panic!("{other:?}"),
    });
    second.ask(ServerRequest::Destroy { domid: 100, serial: None });
    second.act(|ctl| assert_eq!(ctl.last(), ServerReply::Done));
    second.end();
    let (settings, mut specs) = platform(&[controller("control", 100, 110)]);
    specs[0].on_crash = ExitAction::Restart;
    specs[0].life = Life { restart_delay_ms: 10, ..Life::default() };
    assert_eq!(serve(&machine, &settings, &specs, ""), MachineStatus::Success, "{}", logged());
    assert!(logged().contains("vm=control event=channel-renewed"), "{}", logged());
    machine.assert_clean();
}

#[test]
fn a_controller_that_leaves_in_order_may_connect_again() {
    let machine = Machine::builder().build();
    let script = Script::greeted(&machine, 1);
    script.close();
    machine.when_idle(|machine| machine.advance(SECOND));
    let again = Script::greeted(&machine, 1);
    again.end();
    let (settings, specs) = platform(&[controller("control", 100, 110)]);
    assert_eq!(serve(&machine, &settings, &specs, ""), MachineStatus::Success, "{}", logged());
    assert!(logged().contains("vm=control event=controller-left"), "{}", logged());
    machine.assert_clean();
}

#[test]
fn a_controller_may_die_at_any_step_of_what_it_asked_for() {
    // After so many calls of Xen's since the request, the controller is gone.
    for calls in 0..40 {
        let machine = Machine::builder().build();
        let script = Script::greeted(&machine, 1);
        script.act(|ctl| {
            ctl.send(&ServerRequest::Build(build(&spec("half"))));
        });
        machine.inject(
            xen_sim::Fault::when(
                |call| call.domain == DomId::new(100),
                xen_sim::Effect::Fail(xen_abi::Errno::EAGAIN),
            )
            .after(calls)
            .times(1),
        );
        script.act(|ctl| {
            if ctl.guest.runs() {
                ctl.guest.shut_down(SHUTDOWN_POWEROFF);
            }
        });
        let (settings, specs) = platform(&[controller("control", 100, 110)]);
        serve(&machine, &settings, &specs, "");
        if !logged().contains("event=leaked") {
            machine.assert_clean();
        }
    }
}

/// What a controller says from its hello to the end of a VM, message by message: every kind of request, and an image in parts.
fn conversation() -> Vec<Vec<u8>> {
    let mut requests = vec![hello(), ServerRequest::WatchExits { watch: true }];
    requests.extend(put(b"an image of two parts", 16));
    requests.extend([
        ServerRequest::Build(build(&spec("worker"))),
        ServerRequest::Facts,
        ServerRequest::List { after: 0 },
        ServerRequest::Pause { domid: 100, serial: None },
        ServerRequest::Unpause { domid: 100, serial: None },
        ServerRequest::Shutdown { domid: 100, serial: None },
        ServerRequest::Destroy { domid: 100, serial: None },
    ]);
    (1..).zip(&requests).map(|(id, request)| message::encode(id, request).unwrap()).collect()
}

/// Serves a controller that says these `pieces`, waiting after each for db-server to have nothing to do, and is killed.
fn killed_after(pieces: Vec<Vec<u8>>) {
    let machine = Machine::builder().build();
    let script = Script::new(&machine, 1);
    for piece in pieces {
        script.act(move |ctl| {
            ctl.hear();
            ctl.send_bytes(&piece);
        });
    }
    script.act(|ctl| ctl.guest.shut_down(SHUTDOWN_CRASH));
    let (settings, specs) = platform(&[controller("control", 100, 110)]);
    assert_eq!(serve(&machine, &settings, &specs, ""), MachineStatus::VmFailed, "{}", logged());
    machine.assert_clean();
}

#[test]
fn a_controller_may_be_killed_after_every_message() {
    let messages = conversation();
    for count in 0..=messages.len() {
        killed_after(messages[..count].to_vec());
    }
}

/// All that it ever says lies in the ring at once, up to the byte at which it is killed.
#[test]
fn a_controller_may_be_killed_at_every_byte() {
    let bytes = conversation().concat();
    assert!((400..2000).contains(&bytes.len()), "{}", bytes.len());
    for count in 0..=bytes.len() {
        killed_after(vec![bytes[..count].to_vec()]);
    }
}

/// A valid message of some kind.
fn requests() -> impl Strategy<Value = Vec<u8>> {
    let all = [
        hello(),
        ServerRequest::Facts,
        ServerRequest::List { after: 0 },
        ServerRequest::WatchExits { watch: true },
        ServerRequest::Build(build(&spec("some"))),
        ServerRequest::Destroy { domid: 100, serial: None },
        ServerRequest::Pause { domid: 100, serial: None },
        ServerRequest::Unpause { domid: 100, serial: None },
        ServerRequest::Shutdown { domid: 100, serial: None },
    ];
    let all: Vec<_> = all.into_iter().chain(put(&kernel(), 300)).collect();
    prop::sample::select(all).prop_map(|request| message::encode(1, &request).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whatever_two_controllers_say_nothing_stays(
        acts in prop::collection::vec((0_usize..2, requests(), prop::option::of((any::<u16>(), any::<u8>())), any::<bool>()), 1..24)
    ) {
        let machine = Machine::builder().build();
        let scripts = [Script::greeted(&machine, 1), Script::greeted(&machine, 2)];
        for (who, mut bytes, change, cut) in acts {
            if let Some((at, value)) = change {
                let at = usize::from(at) % bytes.len();
                bytes[at] ^= value;
            }
            if cut {
                bytes.truncate(bytes.len() / 2);
            }
            scripts[who].act(move |ctl| {
                // It may have been dropped for what it said before.
                if ctl.hear().is_none() && ctl.channel.writable(bytes.len()).is_ok_and(|room| room >= bytes.len()) {
                    let _sent = ctl.channel.write(&bytes);
                }
            });
        }
        for script in &scripts {
            script.end();
        }
        let (settings, specs) = platform(&[controller("one", 100, 110), controller("other", 120, 130)]);
        prop_assert_eq!(serve(&machine, &settings, &specs, ""), MachineStatus::Success);
        machine.assert_clean();
    }
}

/// A controller says the next of `requests`, if it is there, and has heard of no end.
fn say(machine: &Machine, script: &Script, bytes: Vec<u8>) {
    let script = script.clone();
    machine.when_idle(move |_| {
        script.look(|ctl| {
            if ctl.hear().is_none() && ctl.channel.writable(bytes.len()).is_ok_and(|room| room >= bytes.len())
            {
                let _sent = ctl.channel.write(&bytes);
            }
        });
    });
}

/// Before the calls of these numbers, counted from when both controllers were there, these domains crash or are destroyed by somebody else.
/// Gives whether a controller was that had not ended.
fn kill(machine: &Machine, scripts: [Script; 2], mut kills: Vec<(usize, u16, bool)>) -> Rc<Cell<bool>> {
    let is_lost = Rc::new(Cell::new(false));
    let lost = Rc::clone(&is_lost);
    kills.sort_unstable_by(|one, other| other.cmp(one));
    let (mut calls, mut has_begun) = (0, false);
    machine.before_calls(move |machine| {
        has_begun |= scripts.iter().all(Script::is_connected);
        calls += usize::from(has_begun);
        while let Some((_, domid, crashes)) = kills.pop_if(|(at, ..)| *at < calls) {
            let id = DomId::new(domid);
            let runs = machine.has_domain(id) && machine.guest(id).runs();
            lost.set(lost.get() || runs && domid < 3);
            if crashes && runs {
                machine.guest(id).crash();
            } else if !crashes && machine.has_domain(id) {
                Xen::probe(machine.dom0()).unwrap().destroy_domain(id).unwrap();
            } else {
                continue;
            }
            for script in scripts.iter().filter(|script| script.is_of(domid)) {
                script.vanish();
            }
        }
    });
    is_lost
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_is_killed_when_nothing_stays(
        acts in prop::collection::vec((0_usize..2, requests()), 1..30),
        kills in prop::collection::vec(
            (0_usize..250, prop::sample::select(vec![1_u16, 2, 100, 101, 120, 121]), any::<bool>()), 1..5
        )
    ) {
        let machine = Machine::builder().memory(PageCount::new(0x4000)).build();
        let scripts = [Script::new(&machine, 1), Script::new(&machine, 2)];
        for script in &scripts {
            say(&machine, script, message::encode(0, &hello()).unwrap());
        }
        for (id, (who, bytes)) in (1_u32..).zip(acts) {
            let mut bytes = bytes;
            bytes[8..12].copy_from_slice(&id.to_le_bytes());
            say(&machine, &scripts[who], bytes);
        }
        for script in &scripts {
            say(&machine, script, message::encode(99, &ServerRequest::Facts).unwrap());
        }
        for _ in 0..4 {
            machine.when_idle(|machine| machine.advance(SECOND));
        }
        let heard: [Rc<RefCell<Option<Vec<u32>>>>; 2] = Default::default();
        for (script, heard) in scripts.iter().cloned().zip(heard.clone()) {
            machine.when_idle(move |_| {
                script.look(|ctl| {
                    ctl.hear();
                    *heard.borrow_mut() = Some(ctl.replies.iter().map(|(id, _)| *id).collect());
                });
            });
        }
        for domid in [1, 2] {
            support::launching::then_end(&machine, domid, SHUTDOWN_POWEROFF);
        }
        let is_lost = kill(&machine, scripts.clone(), kills);
        let (settings, specs) = platform(&[controller("one", 100, 110), controller("other", 120, 130)]);
        let status = serve(&machine, &settings, &specs, "");
        machine.assert_clean();
        // Who is there at the end was answered to everything, once.
        for ids in heard.iter().filter_map(|heard| heard.take()) {
            let once: BTreeSet<_> = ids.iter().collect();
            prop_assert!(once.len() == ids.len() && once.contains(&99), "{ids:?}");
        }
        let expected = if is_lost.get() { MachineStatus::VmFailed } else { MachineStatus::Success };
        prop_assert_eq!(status, expected, "{}", logged());
        scripts.iter().for_each(Script::vanish);
    }
}

#[test]
fn a_second_client_of_one_channel_is_refused_by_the_channel() {
    let machine = Machine::builder().build();
    let script = Script::greeted(&machine, 1);
    script.act(|ctl| {
        let machine = ctl.guest.machine().clone();
        assert!(Ctl::try_connect(&machine, 1).is_err());
    });
    script.ask(ServerRequest::Facts);
    script.act(|ctl| assert!(matches!(ctl.last(), ServerReply::Facts(_))));
    script.end();
    let (settings, specs) = platform(&[controller("control", 100, 110)]);
    assert_eq!(serve(&machine, &settings, &specs, ""), MachineStatus::Success, "{}", logged());
    machine.assert_clean();
}
