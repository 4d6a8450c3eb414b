//! Controllers that ask db-server for VMs, on a simulated Xen.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise, in its helpers too"
)]

mod support;

use std::cell::Cell;
use std::io::Write as _;
use std::rc::Rc;

use flate2::Compression;
use flate2::write::GzEncoder;
use protocols::message::{
    EndReason, ImageSource, MAX_CHUNK_LEN, Quota, Reason, ServerNotice, ServerReply, ServerRequest, VmState,
};
use protocols::server::{Controller, ImageAccess, Orphans};
use protocols::{BootSpec, ExitAction, MachineStatus, StoreRole};
use support::{Script, build, controller, digest, hello, kernel, logged, platform, put, serve, spec};
use xen_abi::sched::{SHUTDOWN_CRASH, SHUTDOWN_POWEROFF};
use xen_abi::{DomId, Errno};
use xen_sim::{Effect, Fault, Machine};

/// A VM that is asked for.
fn asked(name: &str) -> BootSpec {
    BootSpec { kernel: "images/kernel".into(), ..spec(name) }
}

/// Lets a VM end.
fn end(script: &Script, domid: u16, reason: u8) {
    script.act(move |ctl| ctl.guest.machine().guest(DomId::new(domid)).shut_down(reason));
}

/// Serves one controller to its end, and finds everything as it was.
fn run(machine: &Machine, controllers: &[Controller]) -> MachineStatus {
    let (settings, specs) = platform(controllers);
    let status = serve(machine, &settings, &specs, "");
    machine.assert_clean();
    status
}

#[test]
fn an_image_is_sent_a_vm_built_of_it_heard_of_and_destroyed() {
    let machine = Machine::builder().build();
    let script = Script::greeted(&machine, 1);
    script.ask(ServerRequest::WatchExits { watch: true });
    for request in put(&kernel(), 100) {
        script.ask(request);
        script.act(|ctl| assert!(matches!(ctl.last(), ServerReply::Image { .. })));
    }
    let image = digest(&kernel());
    let mut request = build(&asked("worker"));
    request.kernel = ImageSource::Store(image);
    request.paused = true;
    script.ask(ServerRequest::Build(request.clone()));
    script.act(move |ctl| {
        let built = ctl.built();
        assert_eq!((built.domid, built.kernel, built.ramdisk), (100, image, None));
        let machine = ctl.guest.machine();
        assert!(!machine.guest(DomId::new(100)).runs());
        let info = machine.guest(DomId::new(100)).view().unwrap().start_info().unwrap();
        assert_eq!((built.console.frame, built.console.port), (info.console_mfn, info.console_evtchn));
    });
    script.ask(ServerRequest::List { after: 0 });
    script.act(|ctl| match ctl.last() {
        ServerReply::Vms { vms, more: false } => {
            assert_eq!((vms.len(), vms[0].name.as_str(), vms[0].state), (1, "worker", VmState::Paused));
        }
        other => panic!("{other:?}"),
    });
    script.refuse(ServerRequest::Pause { domid: 100, serial: None }, Reason::WrongState);
    script.ask(ServerRequest::Unpause { domid: 100, serial: None });
    script.act(|ctl| assert_eq!(ctl.last(), ServerReply::Done));
    end(&script, 100, SHUTDOWN_POWEROFF);
    script.act(|ctl| {
        ctl.hear();
        let ended =
            ServerNotice::Ended { domid: 100, name: "worker".into(), reason: EndReason::Poweroff, serial: 1 };
        assert_eq!(ctl.notices, [ended]);
    });
    // The next one has the next id, and goes on demand.
    request.paused = false;
    script.ask(ServerRequest::Build(request));
    script.act(|ctl| assert_eq!(ctl.built().domid, 101));
    script.ask(ServerRequest::Destroy { domid: 101, serial: None });
    script.act(|ctl| {
        assert_eq!(ctl.last(), ServerReply::Done);
        assert!(!ctl.guest.machine().has_domain(DomId::new(101)), "it is gone when the answer comes");
    });
    script.ask(ServerRequest::Facts);
    script.act(|ctl| match ctl.last() {
        ServerReply::Facts(facts) => {
            assert_eq!(facts.stored_bytes, kernel().len() as u64);
            assert_eq!(facts.free_kib, ctl.guest.machine().free_memory().kib());
        }
        other => panic!("{other:?}"),
    });
    script.end();
    assert_eq!(run(&machine, &[controller("control", 100, 110)]), MachineStatus::Success, "{}", logged());
    let log = logged();
    assert!(log.contains("vm=worker domid=100 event=measured kernel="), "{log}");
    assert!(log.contains("vm=control event=served requests="), "{log}");
}

#[test]
fn what_may_not_be_is_refused_for_what_it_is() {
    let machine = Machine::builder().build();
    let script = Script::new(&machine, 1);
    script.refuse(ServerRequest::Facts, Reason::NoHello);
    script.refuse(ServerRequest::Hello { lowest: 2, highest: 9, name: "new".into() }, Reason::Version);
    script.ask(hello());
    script.act(|ctl| assert!(matches!(ctl.last(), ServerReply::Hello { .. })));
    for domid in [0, 1, 100, 999] {
        script.refuse(ServerRequest::Destroy { domid, serial: None }, Reason::NoSuchVm);
        script.refuse(ServerRequest::Pause { domid, serial: None }, Reason::NoSuchVm);
    }
    let with = |change: &dyn Fn(&mut BootSpec)| {
        let mut spec = asked("worker");
        change(&mut spec);
        ServerRequest::Build(build(&spec))
    };
    script.refuse(with(&|it| it.max_memory_kib = 65 << 10), Reason::OverQuota);
    script.refuse(with(&|it| it.domid = Some(99)), Reason::NotPermitted);
    script.refuse(with(&|it| it.domid = Some(1)), Reason::NotPermitted);
    script.refuse(with(&|it| it.name = "control".into()), Reason::Taken);
    script.refuse(with(&|it| it.name = "db-server".into()), Reason::Taken);
    script.refuse(with(&|it| it.settings.access.interrupts = vec![5]), Reason::NotPermitted);
    script.refuse(with(&|it| it.settings.placement.weight = Some(3)), Reason::NotPermitted);
    script.refuse(with(&|it| (it.domid, it.store) = (Some(105), StoreRole::Server)), Reason::NotPermitted);
    script.refuse(
        with(&|it| (it.domid, it.store) = (Some(105), StoreRole::Client { server: 9 })),
        Reason::NotPermitted,
    );
    let request = |change: &dyn Fn(&mut protocols::message::BuildRequest)| {
        let mut request = build(&asked("worker"));
        change(&mut request);
        ServerRequest::Build(request)
    };
    script.refuse(request(&|it| it.spec = b"no spec".to_vec()), Reason::BadSpec);
    script.refuse(
        request(&|it| it.kernel = ImageSource::Ramdisk("vms/control.spec".into())),
        Reason::NotPermitted,
    );
    script.refuse(request(&|it| it.kernel = ImageSource::Store(digest(b"x"))), Reason::NoSuchImage);
    script.refuse(request(&|it| it.console = Some(7)), Reason::NotPermitted);
    script.refuse(request(&|it| it.xenstore = Some(0)), Reason::NotPermitted);
    script.refuse(request(&|it| it.label = Some("a:b:c".into())), Reason::NotPermitted);
    script.refuse(request(&|it| it.label = Some("no label".into())), Reason::BadSpec);
    for request in put(b"not a kernel", 100) {
        script.ask(request);
    }
    script.refuse(request(&|it| it.kernel = ImageSource::Store(digest(b"not a kernel"))), Reason::BadKernel);
    script.refuse(ServerRequest::PutImageBegin { digest: digest(b""), size: 2 << 20 }, Reason::OverQuota);
    script.refuse(ServerRequest::PutImageEnd { digest: digest(b"z") }, Reason::NoSuchImage);
    // Four VMs, and no fifth; an id that is taken; one that cannot be asked to shut down.
    for (name, domid) in [("a", Some(103)), ("b", None), ("c", None), ("d", None)] {
        script.ask(ServerRequest::Build(build(&BootSpec { domid, ..asked(name) })));
        script.act(|ctl| {
            ctl.built();
        });
        script.refuse(
            with(&|it| (it.name, it.domid) = ("twin".into(), Some(103))),
            match name {
                "d" => Reason::OverQuota,
                _ => Reason::Taken,
            },
        );
    }
    script.ask(ServerRequest::Shutdown { domid: 103, serial: None });
    script.act(|ctl| assert_eq!(ctl.last(), ServerReply::Done));
    script.end();
    assert_eq!(run(&machine, &[controller("control", 100, 110)]), MachineStatus::Success, "{}", logged());
    assert_eq!(machine.trace().named("XEN_DOMCTL_createdomain").count(), 5);
}

#[test]
fn labels_are_those_that_the_platform_lets_a_controller_give() {
    const GIVEN: &str = "system_u:system_r:isolated_domU_t";
    let built_with = |machine: &Machine, label: &'static str| {
        let script = Script::greeted(machine, 1);
        let mut request = build(&asked("worker"));
        request.label = Some(label.into());
        script.ask(ServerRequest::Build(request));
        let answer = Rc::new(Cell::new(None));
        let set = Rc::clone(&answer);
        script.act(move |ctl| {
            let machine = ctl.guest.machine().clone();
            set.set(Some(match ctl.last() {
                ServerReply::Built(built) => Ok(machine.guest(DomId::new(built.domid)).label()),
                ServerReply::Failed(failure) => Err(failure),
                other => panic!("{other:?}"),
            }));
        });
        script.end();
        let mut may = controller("control", 100, 110);
        may.may.labels = vec![GIVEN.into()];
        assert_eq!(run(machine, &[may]), MachineStatus::Success, "{}", logged());
        answer.take().unwrap()
    };
    let flask = || Machine::builder().flask(true).build();
    assert_eq!(built_with(&flask(), GIVEN), Ok(Some(GIVEN)), "Xen has it so");
    let refused = built_with(&flask(), "system_u:system_r:domU_t").unwrap_err();
    assert_eq!(refused.reason, Reason::NotPermitted);
    assert!(refused.detail.contains("does not let this controller give it"), "{}", refused.detail);
    let refused = built_with(&Machine::builder().build(), GIVEN).unwrap_err();
    assert!(refused.detail.contains("this Xen has no security labels"), "{}", refused.detail);
}

#[test]
fn requests_under_way_are_bounded_and_answered_once_each() {
    let machine = Machine::builder().build();
    let script = Script::greeted(&machine, 1);
    script.ask(ServerRequest::Build(build(&asked("worker"))));
    script.act(|ctl| {
        ctl.built();
        // Xen does not tell whether the domain is gone: who wants it destroyed has to wait, and may ask for nothing else.
        let unknown = Fault::when(|call| call.domain == DomId::new(100), Effect::Fail(Errno::EAGAIN));
        ctl.guest.machine().inject(unknown.after(1).times(3));
        ctl.send(&ServerRequest::Destroy { domid: 100, serial: None });
        ctl.send(&ServerRequest::Facts);
        ctl.send(&ServerRequest::List { after: 0 });
    });
    for _ in 0..6 {
        machine.when_idle(|machine| machine.advance(20_000_000));
    }
    script.act(|ctl| {
        ctl.hear();
        assert_eq!(ctl.replies.len(), 3, "{:?}", ctl.replies);
        for (id, reply) in &ctl.replies {
            let busy = matches!(reply, ServerReply::Failed(it) if it.reason == Reason::Busy);
            assert_eq!((busy, *reply == ServerReply::Done), (*id != 3, *id == 3));
        }
    });
    script.end();
    let mut limited = controller("control", 100, 110);
    limited.quota.requests = 1;
    assert_eq!(run(&machine, &[limited]), MachineStatus::Success, "{}", logged());
}

#[test]
fn a_vm_that_is_kept_is_listed_as_ended_until_it_is_destroyed() {
    let machine = Machine::builder().build();
    let script = Script::greeted(&machine, 1);
    script.ask(ServerRequest::WatchExits { watch: true });
    script.ask(ServerRequest::Build(build(&BootSpec { on_crash: ExitAction::Preserve, ..asked("kept") })));
    end(&script, 100, SHUTDOWN_CRASH);
    script.ask(ServerRequest::List { after: 0 });
    script.act(|ctl| {
        assert!(matches!(ctl.last(), ServerReply::Vms { vms, .. } if vms[0].state == VmState::Ended));
        assert!(matches!(&ctl.notices[..], [ServerNotice::Ended { reason: EndReason::Crash, .. }]));
    });
    script.refuse(ServerRequest::Unpause { domid: 100, serial: None }, Reason::WrongState);
    script.ask(ServerRequest::Destroy { domid: 100, serial: None });
    script.act(|ctl| assert_eq!(ctl.last(), ServerReply::Done));
    script.end();
    assert_eq!(run(&machine, &[controller("control", 100, 110)]), MachineStatus::Success, "{}", logged());
}

#[test]
fn another_domain_may_serve_console_and_xenstore() {
    let machine = Machine::builder().build();
    let script = Script::greeted(&machine, 1);
    let mut request = build(&asked("worker"));
    (request.console, request.xenstore) = (Some(1), Some(1));
    script.ask(ServerRequest::Build(request));
    script.act(|ctl| {
        let built = ctl.built();
        let info = ctl.guest.machine().guest(DomId::new(100)).view().unwrap().start_info().unwrap();
        let store = built.xenstore.unwrap();
        assert_eq!((store.frame, store.port), (info.store_mfn, info.store_evtchn));
        assert_eq!((built.console.frame, built.console.port), (info.console_mfn, info.console_evtchn));
    });
    script.end();
    assert_eq!(run(&machine, &[controller("control", 100, 110)]), MachineStatus::Success, "{}", logged());
}

#[test]
fn an_id_that_was_asked_for_in_vain_is_not_kept_for_later() {
    let machine = Machine::builder().build();
    let script = Script::greeted(&machine, 1);
    let mut request = build(&BootSpec { domid: Some(100), ..asked("fixed") });
    request.kernel = ImageSource::Store(digest(b"never sent"));
    script.refuse(ServerRequest::Build(request), Reason::NoSuchImage);
    for (name, domid) in [("a", 100), ("b", 101)] {
        script.ask(ServerRequest::Build(build(&asked(name))));
        script.act(move |ctl| assert_eq!(ctl.built().domid, domid));
    }
    script.end();
    assert_eq!(run(&machine, &[controller("control", 100, 102)]), MachineStatus::Success, "{}", logged());
}

#[test]
fn an_image_that_was_begun_is_given_up() {
    let machine = Machine::builder().build();
    let script = Script::greeted(&machine, 1);
    let (half, whole) = (digest(b"half"), digest(b"whole"));
    script.ask(ServerRequest::PutImageBegin { digest: half, size: 1 << 20 });
    script.act(|ctl| assert!(matches!(ctl.last(), ServerReply::Image { .. })));
    script.refuse(ServerRequest::PutImageBegin { digest: whole, size: 5 }, Reason::OverQuota);
    script.ask(ServerRequest::PutImageCancel { digest: half });
    script.act(|ctl| assert_eq!(ctl.last(), ServerReply::Done));
    script.refuse(ServerRequest::PutImageCancel { digest: half }, Reason::NoSuchImage);
    script.ask(ServerRequest::PutImageBegin { digest: whole, size: 5 });
    script.act(|ctl| assert!(matches!(ctl.last(), ServerReply::Image { received: 0, .. })));
    script.end();
    assert_eq!(run(&machine, &[controller("control", 100, 102)]), MachineStatus::Success, "{}", logged());
}

/// A VM that is to have its id again finds it free, as long as there are others.
#[test]
fn ids_that_were_fixed_once_are_given_to_others_last() {
    let machine = Machine::builder().build();
    let script = Script::greeted(&machine, 1);
    script.ask(ServerRequest::Build(build(&BootSpec { domid: Some(101), ..asked("fixed") })));
    script.ask(ServerRequest::Destroy { domid: 101, serial: None });
    for (name, domid) in [("a", 102), ("b", 100), ("c", 101)] {
        script.ask(ServerRequest::Build(build(&asked(name))));
        script.act(move |ctl| assert_eq!(ctl.built().domid, domid));
    }
    script.end();
    assert_eq!(run(&machine, &[controller("control", 100, 102)]), MachineStatus::Success, "{}", logged());
}

#[test]
fn the_id_of_a_controller_that_is_gone_is_nobody_elses() {
    let machine = Machine::builder().build();
    let (first, second) = (Script::greeted(&machine, 1), Script::greeted(&machine, 2));
    first.end();
    second.ask(ServerRequest::Build(build(&asked("worker"))));
    // 1 would be free, and with it the channel and the rights of the one that had it.
    second.act(|ctl| assert_eq!(ctl.built().domid, 3));
    second.end();
    run(&machine, &[controller("first", 0, 0), controller("second", 0, 0)]);
}

#[test]
fn orphans_run_on_or_go_as_the_platform_says() {
    for (orphans, stays) in [(Orphans::Keep, true), (Orphans::Destroy, false)] {
        let machine = Machine::builder().build();
        let script = Script::greeted(&machine, 1);
        script.ask(ServerRequest::Build(build(&asked("orphan"))));
        script.end();
        let seen = Rc::new(Cell::new(None));
        if stays {
            let seen = Rc::clone(&seen);
            machine.when_idle(move |machine| {
                seen.set(Some(machine.has_domain(DomId::new(1))));
                machine.guest(DomId::new(100)).shut_down(SHUTDOWN_POWEROFF);
            });
        }
        let controller = Controller { orphans, ..controller("control", 100, 110) };
        assert_eq!(run(&machine, &[controller]), MachineStatus::Success, "{}", logged());
        assert_eq!(seen.get(), stays.then_some(false));
    }
}

#[test]
fn a_vm_asked_for_with_the_last_breath_is_an_orphan_too() {
    let machine = Machine::builder().build();
    let script = Script::greeted(&machine, 1);
    script.act(|ctl| {
        ctl.send(&ServerRequest::Build(build(&asked("orphan"))));
        ctl.guest.shut_down(SHUTDOWN_POWEROFF);
    });
    assert_eq!(run(&machine, &[controller("control", 100, 110)]), MachineStatus::Success, "{}", logged());
}

/// What arrives together is one event: what is left in the ring after it is announced by none.
#[test]
fn a_message_longer_than_one_reading_is_answered_without_another_event() {
    let machine = Machine::builder().build();
    let script = Script::greeted(&machine, 1);
    let begin = Rc::new(Cell::new(0));
    let (set, get) = (Rc::clone(&begin), begin);
    script.act(move |ctl| set.set(ctl.guest.machine().now()));
    for request in put(&vec![7; 3 * MAX_CHUNK_LEN + 5], MAX_CHUNK_LEN) {
        script.ask(request);
        script.act(|ctl| assert!(matches!(ctl.last(), ServerReply::Image { .. })));
    }
    script.act(move |ctl| {
        let took = ctl.guest.machine().now() - get.get();
        assert!(took < 100_000_000, "{took} ns: it waited for its clock");
    });
    script.end();
    assert_eq!(run(&machine, &[controller("control", 100, 110)]), MachineStatus::Success, "{}", logged());
}

#[test]
fn a_large_image_does_not_hold_up_anothers_tiny_vm() {
    const PARTS: usize = 60;
    let machine = Machine::builder().build();
    let (large, small) = (Script::greeted(&machine, 1), Script::greeted(&machine, 2));
    let image = vec![7_u8; 100_000];
    let parts = put(&image, 1000);
    large.ask(parts[0].clone());
    // The ring is full of parts when the other asks, before db-server has looked at any of them.
    let other = small.clone();
    large.act(move |ctl| {
        ctl.hear();
        for part in &parts[1..=PARTS] {
            ctl.send(part);
        }
        other.look(|ctl| ctl.send(&ServerRequest::Build(build(&asked("tiny")))));
    });
    large.end();
    small.end();
    let (settings, specs) = platform(&[controller("large", 100, 110), controller("small", 120, 130)]);
    // How many parts were answered when the VM was there.
    let mut answered = None;
    let mut look = || {
        let built = small.look(|ctl| {
            ctl.hear();
            ctl.replies.iter().any(|(_, reply)| matches!(reply, ServerReply::Built(_)))
        });
        if built == Some(true) && answered.is_none() {
            answered = large.look(|ctl| {
                ctl.hear();
                ctl.replies.len()
            });
        }
    };
    let status = support::serve_watched(&machine, &settings, &specs, "", &mut look);
    assert_eq!(status, MachineStatus::Success, "{}", logged());
    assert!(answered.is_some_and(|answered| answered < PARTS / 4), "{answered:?} of {PARTS}");
    machine.assert_clean();
}

#[test]
fn a_large_packed_kernel_does_not_hold_up_anothers_tiny_vms() {
    const TINY: usize = 4;
    // Time passes only by looking at the clock, so that a slice of a controller's is ten pieces of work.
    let machine = Machine::builder().look_time(100_000).build();
    let (large, small) = (Script::greeted(&machine, 1), Script::greeted(&machine, 2));
    let mut elf = kernel();
    elf.resize(elf.len() + (32 << 20), 0);
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(&elf).unwrap();
    let packed = packed.finish().unwrap();
    for part in put(&packed, MAX_CHUNK_LEN) {
        large.ask(part);
    }
    let mut request = build(&asked("packed"));
    request.kernel = ImageSource::Store(digest(&packed));
    let other = small.clone();
    large.act(move |ctl| {
        ctl.hear();
        ctl.send(&ServerRequest::Build(request));
        other.look(|ctl| {
            for number in 0..TINY {
                ctl.send(&ServerRequest::Build(build(&asked(&format!("tiny-{number}")))));
            }
        });
    });
    large.act(|ctl| assert_eq!(ctl.built().domid, 100));
    large.end();
    small.end();
    let built = |script: &Script| {
        script.look(|ctl| {
            ctl.hear();
            ctl.replies.iter().filter(|(_, reply)| matches!(reply, ServerReply::Built(_))).count()
        })
    };
    // How many small VMs were there when the large one was not yet.
    let mut most = 0;
    let mut look = || {
        if built(&large) == Some(0) {
            most = most.max(built(&small).unwrap_or(0));
        }
    };
    let (settings, specs) = platform(&[controller("large", 100, 110), controller("small", 120, 130)]);
    let status = support::serve_watched(&machine, &settings, &specs, "", &mut look);
    assert_eq!(status, MachineStatus::Success, "{}", logged());
    assert_eq!(most, TINY, "they waited for the large kernel");
    machine.assert_clean();
}

#[test]
fn whichever_call_for_a_served_vm_fails_the_request_is_answered_and_nothing_stays() {
    let attempt = |index: Option<usize>| {
        let machine = Machine::builder().build();
        if let Some(index) = index {
            let served = Fault::when(|call| call.domain == DomId::new(100), Effect::Fail(Errno::ENOMEM));
            machine.inject(served.after(index).times(1));
        }
        let script = Script::greeted(&machine, 1);
        script.ask(ServerRequest::Build(build(&asked("worker"))));
        let built = Rc::new(Cell::new(None));
        let result = Rc::clone(&built);
        script.act(move |ctl| match ctl.last() {
            ServerReply::Built(_) => result.set(Some(true)),
            ServerReply::Failed(_) => result.set(Some(false)),
            other => panic!("{other:?}"),
        });
        // It can be asked for again.
        script.ask(ServerRequest::Build(build(&asked("another"))));
        script.act(|ctl| {
            ctl.built();
        });
        script.end();
        let (settings, specs) = platform(&[controller("control", 100, 110)]);
        serve(&machine, &settings, &specs, "");
        let calls = machine.trace().calls().iter().filter(|call| call.domain == DomId::new(100)).count();
        if !logged().contains("event=leaked") {
            machine.assert_clean();
        }
        (built.get().unwrap(), calls)
    };
    let (built, calls) = attempt(None);
    assert!(built && calls > 10);
    let failed = (0..calls).filter(|index| !attempt(Some(*index)).0).count();
    assert!(failed > 8, "most of {calls} calls are needed to build it: {failed}");
}

#[test]
fn a_platform_without_controllers_is_refused_with_what_to_do() {
    let machine = Machine::builder().build();
    let settings = protocols::PlatformSpec::default();
    assert_eq!(serve(&machine, &settings, &[spec("vm")], ""), MachineStatus::BuildFailed);
    assert!(logged().contains("add a [server] table"), "{}", logged());
    machine.assert_clean();
}

#[test]
fn quotas_are_told_as_the_platform_gives_them() {
    let machine = Machine::builder().build();
    let script = Script::new(&machine, 1);
    script.ask(hello());
    script.act(|ctl| match ctl.last() {
        ServerReply::Hello { version: 1, name, quota } => {
            let Quota { memory_kib, vms, first_domid, last_domid, store_bytes, requests } = quota;
            assert_eq!((name.as_str(), memory_kib, vms), ("db-server", 64 << 10, 4));
            assert_eq!((first_domid, last_domid, store_bytes, requests), (0, 0, 0, 4));
        }
        other => panic!("{other:?}"),
    });
    // Without a part of the store, and without domain ids of its own, it has what is nobody's.
    script.refuse(ServerRequest::PutImageBegin { digest: digest(b"x"), size: 1 }, Reason::OverQuota);
    script.ask(ServerRequest::Build(build(&asked("worker"))));
    script.act(|ctl| assert_eq!(ctl.built().domid, 2));
    script.end();
    let mut poor = Controller { images: ImageAccess::Any, ..controller("control", 0, 0) };
    poor.quota.store_bytes = 0;
    assert_eq!(run(&machine, &[poor]), MachineStatus::Success, "{}", logged());
}
