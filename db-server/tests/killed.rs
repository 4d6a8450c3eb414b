//! Everything that can be killed is killed at every step of a conversation: between any two of db-server's calls, on a simulated Xen.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise, in its helpers too"
)]

#[path = "support/stage.rs"]
mod stage;
mod support;

use std::cell::RefCell;
use std::rc::Rc;

use protocols::MachineStatus;
use protocols::message::{EndReason, ServerReply};
use stage::{Heard, Outcome, SERVANT, Victim, WORKER, conversation, play};
use support::logged;

/// The steps at which each of these is there to be killed, and what comes of the conversation when none is.
fn rehearse(victim: Victim) -> (Vec<usize>, Outcome) {
    let steps = Rc::new(RefCell::new(Vec::new()));
    let found = Rc::clone(&steps);
    let outcome = play(None, move |machine, step| {
        if victim.is_there(machine) {
            found.borrow_mut().push(step);
        }
    });
    (steps.take(), outcome)
}

/// The other controller got every answer, to what it had asked, and nothing else.
fn is_unharmed(honest: &Heard) {
    honest.is_answered();
    let mut answers: Vec<_> = honest.replies.clone();
    answers.sort_by_key(|(id, _)| *id);
    assert!(matches!(answers.remove(0), (1, ServerReply::Hello { .. })));
    for (turn, (_, reply)) in answers.iter().enumerate() {
        let is_right = match turn % 4 {
            0 => matches!(reply, ServerReply::Built(_)),
            1 => matches!(reply, ServerReply::Vms { vms, .. } if vms.len() == 1),
            2 => *reply == ServerReply::Done,
            _ => matches!(reply, ServerReply::Facts(_)),
        };
        assert!(is_right, "{turn}: {reply:?}\n{}", logged());
    }
    assert_eq!(honest.notices, []);
}

/// Kills `victim` at every step at which it is there.
fn sweep(victim: Victim) {
    let (steps, clean) = rehearse(victim);
    clean.heard.is_answered();
    check_beside(None, &clean, &clean.log);
    assert!(!steps.is_empty(), "{victim:?} is never there");
    for step in steps {
        let found = play(Some((step, victim)), |_, _| ());
        let text = format!("{victim:?} before call {step}: {}", found.log);
        check_beside(Some(victim), &found, &text);
        if victim.is_vm() {
            check_vm(victim, &found, &text);
        } else {
            check_controller(victim, &clean, &found, &text);
        }
    }
}

/// What holds whoever is killed.
fn check_beside(victim: Option<Victim>, found: &Outcome, text: &str) {
    is_unharmed(&found.honest);
    let is_lost = victim.is_some_and(Victim::is_final);
    let expected = if is_lost { MachineStatus::VmFailed } else { MachineStatus::Success };
    assert_eq!(found.status, expected, "{text}");
    for word in ["leaked", "lingering", "channel-lost", "unsaid", "address space is lost", "stays open"] {
        assert!(!found.log.contains(word), "{word}: {text}");
    }
    // Each life of each VM has one beginning and one end, and each domain is taken down once.
    for vm in ["bad domid=1", "honest domid=2", "servant domid=100", "worker domid=101", "worker domid=100"] {
        let count = |event: &str| found.log.matches(&format!("vm={vm} {event}")).count();
        let begun = count("event=started") + count("event=paused") - count("event=paused").min(1);
        let is_worker = vm == "worker domid=101";
        let begun = if is_worker { count("event=built") } else { begun };
        assert_eq!(begun, count("event=ended "), "{vm}: {text}");
        assert!(count("event=destroyed") <= count("step=create"), "{vm}: {text}");
    }
}

/// What a controller that is killed was told is what it would have been told; its end is in the log.
fn check_controller(victim: Victim, clean: &Outcome, found: &Outcome, text: &str) {
    let heard = &found.heard;
    heard.is_answered_once();
    let same = heard.replies.iter().zip(&clean.heard.replies).all(|(one, other)| one == other);
    let all: Vec<_> = heard.notices.iter().chain(&found.later).cloned().collect();
    let told = Heard { notices: all, ..heard.clone() }.ended();
    assert!(same && told.values().all(|reason| *reason == EndReason::Destroyed), "{text}");
    let says = |words: &str| found.log.contains(words);
    let is_told = match victim {
        Victim::Crash => {
            says("vm=bad domid=1 event=ended reason=crash") && says("vm=bad event=controller-ended vms=")
        }
        Victim::Restart => says("vm=bad domid=1 event=ended reason=crash") && says("vm=bad event=restarting"),
        Victim::Destroyed => {
            says("vm=bad domid=1 event=ended reason=gone") && says("vm=bad event=controller-ended vms=")
        }
        Victim::Closed => says("vm=bad event=controller-left unfinished="),
        // At the last message there is nothing to stop in.
        Victim::Silent => {
            says("vm=bad event=controller-dropped reason=stalled unfinished=0: a message was begun")
                || heard.replies.len() == conversation().len()
        }
        Victim::Dies(_) | Victim::Vanishes(_) => true,
    };
    assert!(is_told, "{text}");
    let parts = says("vm=bad event=controller-left") || says("vm=bad event=controller-dropped");
    assert!(parts, "{text}");
}

/// The controller of a VM that is killed gets every answer, and is told of each end once, with the reason that is in the log.
fn check_vm(victim: Victim, found: &Outcome, text: &str) {
    let heard = &found.heard;
    heard.is_answered();
    let told = Heard { notices: [&heard.notices[..], &found.later[..]].concat(), ..heard.clone() }.ended();
    let built = heard.built();
    assert!(built.iter().all(|serial| told.contains_key(serial)), "{told:?} of {built:?}: {text}");
    for (_, reply) in &heard.replies {
        let ServerReply::Built(built) = reply else { continue };
        let word = match told.get(&built.serial) {
            Some(EndReason::Crash) => "crash",
            _ => "",
        };
        let end = format!("domid={} event=ended reason={word}", built.domid);
        assert!(found.log.contains(&end), "{end}: {text}");
    }
    let domid = victim.domid();
    let reasons: &[&str] = match victim {
        Victim::Dies(_) => &["crash", "destroyed"],
        _ => &["gone", "destroyed"],
    };
    let is_told = |reason: &&str| found.log.contains(&format!("domid={domid} event=ended reason={reason}"));
    // One that is destroyed while it is built was never there.
    let is_refused = found.log.lines().any(|line| {
        line.contains(&format!("domain {domid}"))
            && line.contains("the domain is gone: something else destroyed it")
    });
    assert!(reasons.iter().any(is_told) || is_refused, "{text}");
}

#[test]
fn a_controller_may_crash_at_every_call() {
    sweep(Victim::Crash);
}

#[test]
fn a_controller_that_crashes_at_any_call_is_started_again_and_finds_its_books_in_order() {
    sweep(Victim::Restart);
}

#[test]
fn a_controller_may_be_destroyed_by_somebody_else_at_every_call() {
    sweep(Victim::Destroyed);
}

#[test]
fn a_controller_may_close_its_channel_at_every_call() {
    sweep(Victim::Closed);
}

#[test]
fn a_controller_may_stop_in_the_middle_of_every_message() {
    sweep(Victim::Silent);
}

#[test]
fn a_served_vm_may_crash_at_every_call() {
    sweep(Victim::Dies(WORKER));
}

#[test]
fn a_served_vm_may_be_destroyed_by_somebody_else_at_every_call() {
    sweep(Victim::Vanishes(WORKER));
}

#[test]
fn who_serves_a_vms_console_may_crash_at_every_call() {
    sweep(Victim::Dies(SERVANT));
}

#[test]
fn who_serves_a_vms_console_may_be_destroyed_by_somebody_else_at_every_call() {
    sweep(Victim::Vanishes(SERVANT));
}
