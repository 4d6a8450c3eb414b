//! Hundreds of VMs, one after the other and several at a time.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use protocols::message::{EndReason, ServerReply, ServerRequest};
use pv_runtime::Boot;
use server_client::RequestId;
use verdict::{Outcome, Verdict, success};

use crate::link::now;
use crate::session::Session;
use crate::vm;

/// One cycle in so many lets the VM run to its end instead of destroying it.
const RUN_EVERY: u32 = 16;

/// What is asked for.
pub(crate) struct Plan {
    /// What the VMs' names begin with.
    name: String,
    /// How often a VM is built.
    cycles: u32,
    /// How many at a time.
    chains: u32,
    /// It goes on until then at least: system time in nanoseconds.
    not_before: u64,
}

impl Plan {
    pub(crate) fn of(boot: &Boot) -> Result<Self, Verdict> {
        let number = |key, default: &'static str| {
            boot.argument(key).unwrap_or(default).parse::<u32>().map_err(Verdict::error)
        };
        let seconds = u64::from(number("seconds", "0")?);
        Ok(Self {
            name: boot.argument("as").unwrap_or("vm").into(),
            cycles: number("cycles", "100")?,
            chains: number("chains", "1")?.max(1),
            not_before: now().saturating_add(seconds.saturating_mul(1_000_000_000)),
        })
    }

    /// Whether there is a VM to build after so many.
    fn goes_on(&self, begun: u32) -> bool {
        begun < self.cycles || now() < self.not_before
    }
}

/// What a request is a step of.
enum Step {
    /// Building a VM that is destroyed then.
    Build,
    /// Building one that runs to its end.
    BuildToRun,
    Destroy,
}

/// A request on its way.
struct Asked {
    chain: u32,
    step: Step,
    time: u64,
}

/// How long requests took, in nanoseconds.
#[derive(Default)]
struct Times {
    build: Vec<u64>,
    destroy: Vec<u64>,
}

struct Storm<'m, 'p> {
    session: Session<'m>,
    plan: &'p Plan,
    begun: u32,
    ended: u32,
    asked: BTreeMap<RequestId, Asked>,
    times: Times,
}

/// Builds and destroys until the plan is fulfilled.
pub(crate) fn run(mut session: Session<'_>, plan: &Plan) -> Outcome {
    session.get("watching", ServerRequest::WatchExits { watch: true })?;
    let (begin, times) = (now(), Times::default());
    let mut storm = Storm { session, plan, begun: 0, ended: 0, asked: BTreeMap::new(), times };
    for chain in 0..plan.chains {
        storm.begin(chain)?;
    }
    while !storm.asked.is_empty() {
        let (id, answer) = storm.session.next_answer()?;
        let asked = storm.asked.remove(&id).ok_or_else(|| Verdict::failure("an answer to nothing"))?;
        let reply = answer.map_err(|failure| {
            Verdict::Failure(format!("after {} VMs: {:?}: {}", storm.ended, failure.reason, failure.detail))
        })?;
        storm.go_on(asked, &reply)?;
    }
    let micros = now().saturating_sub(begin) / 1000;
    let (vms, mut times) = (storm.ended, storm.times);
    storm.session.close()?;
    let requests = times.build.len() + times.destroy.len();
    let rate = (requests as u64).saturating_mul(1_000_000) / micros.max(1);
    success!(
        "{vms} VMs built and gone, {requests} requests in {micros} us: {rate}/s; build {}; destroy {}",
        percentiles(&mut times.build),
        percentiles(&mut times.destroy)
    )
}

impl Storm<'_, '_> {
    /// Asks for a chain's next VM, if there is one.
    fn begin(&mut self, chain: u32) -> Result<(), Verdict> {
        if !self.plan.goes_on(self.begun) {
            return Ok(());
        }
        self.begun += 1;
        let runs = self.begun.is_multiple_of(RUN_EVERY);
        let spec = vm::spec(&format!("{}-{chain}", self.plan.name));
        let request = ServerRequest::Build(vm::build(&spec, !runs)?);
        self.ask(chain, if runs { Step::BuildToRun } else { Step::Build }, request);
        Ok(())
    }

    fn ask(&mut self, chain: u32, step: Step, request: ServerRequest) {
        let id = self.session.submit(request);
        self.asked.insert(id, Asked { chain, step, time: now() });
    }

    /// Takes the answer to a request, and asks for what follows.
    fn go_on(&mut self, asked: Asked, reply: &ServerReply) -> Result<(), Verdict> {
        let took = now().saturating_sub(asked.time);
        match (asked.step, reply) {
            (Step::Build, ServerReply::Built(built)) => {
                self.times.build.push(took);
                let request = ServerRequest::Destroy { domid: built.domid, serial: Some(built.serial) };
                self.ask(asked.chain, Step::Destroy, request);
                Ok(())
            }
            (Step::BuildToRun, ServerReply::Built(built)) => {
                self.times.build.push(took);
                let end = self.session.end_of(built.serial)?;
                if end != EndReason::Poweroff {
                    return Err(Verdict::Failure(format!("a VM ended by {end:?}")));
                }
                self.ended += 1;
                self.begin(asked.chain)
            }
            (Step::Destroy, ServerReply::Done) => {
                self.times.destroy.push(took);
                self.ended += 1;
                self.begin(asked.chain)
            }
            (_, other) => Err(Verdict::Failure(format!("an answer to something else: {other:?}"))),
        }
    }
}

/// The median and the value that one in a hundred is above, in microseconds.
fn percentiles(times: &mut [u64]) -> String {
    times.sort_unstable();
    let at = |percent: usize| {
        let index = (times.len() * percent / 100).min(times.len().saturating_sub(1));
        times.get(index).map_or(0, |nanos| nanos / 1000)
    };
    format!("p50={}us p99={}us max={}us", at(50), at(99), at(100))
}
