//! A client of the control domain: its channel is on the command line (`vchan=client:control:...`). It breaks the rules, is dropped and comes back; waits until the VM of `crashes=`
//! was started again and the one of `runs=` runs, reads the journal, leaves that alone for `settle=` seconds, has it shut down, and then stops the whole platform of `platform=`, which it
//! is a part of itself: it is answered when it is the last that is left.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

mod session;

use alloc::format;
use alloc::string::String;

use protocols::channel::{ChannelWord, End};
use protocols::control;
use protocols::message::{ControlReply, ControlRequest, Reason, VmState};
use pv_runtime::{Boot, println};
use verdict::{Outcome, Verdict, require, success};

use session::{Machine, Session, now};

verdict::test!(run);

fn run(boot: &mut Boot) -> Outcome {
    let mut words = ChannelWord::on(boot.command_line());
    let word = words.find(|word| word.end == End::Client && word.name == control::NAME);
    let Some(word) = word else {
        return Err(Verdict::Skip("there is no vchan=client:control:... on the command line".into()));
    };
    let argument = |key| {
        let found = boot.argument(key).map(String::from);
        found.ok_or_else(|| Verdict::Error(format!("there is no {key}= on the command line")))
    };
    let (platform, crashes, runs) = (argument("platform")?, argument("crashes")?, argument("runs")?);
    let machine = Machine::new()?;
    let dropped = Session::open(&machine, &word)?.break_the_rules()?;
    require!(dropped.reason == Reason::WrongState, "dropped, with another reason: {dropped:?}");
    println!("dropped: {dropped}");
    let mut session = Session::open(&machine, &word)?;
    is_refused(&mut session, &platform)?;
    let restarted = session.until((&platform, &crashes), |vm| vm.restarts > 0)?;
    println!("{crashes} was started again {} times", restarted.restarts);
    let running = session.until((&platform, &runs), |vm| vm.state == Some(VmState::Running))?;
    println!("{runs} runs as domain {:?}", running.domid);
    let measured = session.ask(&ControlRequest::MeasurePlatform { platform: platform.clone(), skip: 0 })?;
    let ControlReply::Measured { measurements, total, .. } = measured else {
        return Err(Verdict::Failure(format!("measuring: {measured:?}")));
    };
    println!("{} VMs measured, all together {total}", measurements.len());
    let journal = session.journal()?;
    let crash =
        journal.iter().find(|text| text.contains(&format!("vm={crashes} ")) && text.contains("restarting"));
    require!(crash.is_some(), "the journal has no restart of {crashes}: {journal:?}");
    println!(
        "the journal has {} entries, and tells of the restart: {}",
        journal.len(),
        crash.map_or("", |text| text)
    );
    let settle = boot.argument("settle").unwrap_or("0").parse::<u64>().map_err(Verdict::error)?;
    machine.sleep(settle.saturating_mul(1_000_000_000))?;
    let begin = now();
    let shutdown = ControlRequest::ShutdownVm { platform: platform.clone(), vm: runs.clone() };
    session.done("shutting down", &shutdown)?;
    println!("{runs} is gone after {} ms", now().saturating_sub(begin) / 1_000_000);
    session.done("terminating", &ControlRequest::TerminatePlatform { platform: platform.clone() })?;
    let vms = session.list(&platform)?;
    let left = vms.iter().filter(|vm| vm.state.is_some()).count();
    require!(left == 1, "{left} VMs are left, not this one alone: {vms:?}");
    success!("{} VMs, of which this is the last; told unasked: {}", vms.len(), session.notices().len())
}

/// What a client may not ask is refused, and the conversation goes on.
fn is_refused(session: &mut Session<'_>, platform: &str) -> Result<(), Verdict> {
    let create = ControlRequest::CreatePlatform { name: "mine".into(), specs: alloc::vec![] };
    let unknown = ControlRequest::List { platform: format!("{platform}-2"), skip: 0 };
    for (request, expected) in [(create, Reason::NotPermitted), (unknown, Reason::NoSuchVm)] {
        match session.ask(&request)? {
            ControlReply::Failed(failure) if failure.reason == expected => {}
            other => return Err(Verdict::Failure(format!("{request:?}: {other:?}, not {expected:?}"))),
        }
    }
    Ok(())
}
