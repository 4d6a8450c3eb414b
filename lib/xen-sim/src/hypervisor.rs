//! The hypercalls of one simulated domain.

use std::rc::Rc;
use std::sync::atomic::AtomicU64;

use hypercall::RawHypercall;
use xen_abi::domctl::{Command, Domctl, DomctlVersion};
use xen_abi::number::HypercallNumber;
use xen_abi::sched::POLL_MAX_PORTS;
use xen_abi::shared_info::EVENT_WORDS;
use xen_abi::{DomId, Errno};

use crate::DOM0;
use crate::events::EventBits;
use crate::faults::Effect;
use crate::machine::Machine;
use crate::request::{Request, low_half};
use crate::trace::Call;

/// What a hypercall does to the machine: a result, or the error.
pub(crate) type Outcome = Result<i64, Errno>;

/// The seam of one domain to the simulated Xen.
#[derive(Clone, Debug)]
pub struct SimHypervisor {
    machine: Machine,
    caller: DomId,
    bits: Rc<EventBits>,
}

impl SimHypervisor {
    pub(crate) fn new(machine: Machine, caller: DomId, bits: Rc<EventBits>) -> Self {
        Self { machine, caller, bits }
    }

    /// The domain that makes the calls.
    pub fn domain(&self) -> DomId {
        self.caller
    }

    /// `evtchn_pending` of the domain's shared info page.
    pub fn pending_words(&self) -> &[AtomicU64; EVENT_WORDS] {
        &self.bits.pending
    }

    /// `evtchn_mask` of the domain's shared info page.
    pub fn mask_words(&self) -> &[AtomicU64; EVENT_WORDS] {
        &self.bits.mask
    }

    /// Makes the calls of a multicall one after the other.
    ///
    /// # Safety
    ///
    /// Each entry keeps the contract of [`RawHypercall::hypercall`].
    unsafe fn multicall(&self, request: &mut Request) -> Outcome {
        let Request::Multicall(entries) = request else { return Err(Errno::ENOSYS) };
        for entry in entries {
            let [first, second, third, fourth, fifth, _] = entry.args;
            let number = HypercallNumber::from_raw(low_half(entry.op));
            // SAFETY: the caller answers for each entry.
            let result = unsafe { self.hypercall(number, [first, second, third, fourth, fifth]) };
            entry.result = result.cast_unsigned();
        }
        Ok(0)
    }

    /// Waits for a port. Nothing of the machine is borrowed meanwhile, for the script acts through it.
    fn poll(&self, ports: &[u32], timeout: u64) -> Outcome {
        if ports.len() > POLL_MAX_PORTS {
            return Err(Errno::EINVAL);
        }
        loop {
            {
                let mut state = self.machine.state();
                if state.any_pending(self.caller, ports)? {
                    return Ok(0);
                }
                if self.caller == DOM0 && state.free_lingering() {
                    continue;
                }
                if timeout != 0 && state.now >= timeout {
                    return Ok(0);
                }
            }
            if self.caller == DOM0 && self.machine.run_step() {
                continue;
            }
            if timeout == 0 {
                self.machine.fail_for_ever(self.caller, ports);
            }
            self.machine.state().now = timeout;
        }
    }
}

// SAFETY: `Request` reads and writes the arguments as the public headers define them, and nothing else.
unsafe impl RawHypercall for SimHypervisor {
    unsafe fn hypercall(&self, number: HypercallNumber, args: [u64; 5]) -> i64 {
        // SAFETY: the caller keeps the contract of the call.
        let mut request = match unsafe { Request::decode(number, args) } {
            Ok(request) => request,
            Err(errno) => return errno.to_result(),
        };
        let (name, domain) = request.subject(number, args, self.caller);
        let (mut call, effect) = self.machine.begin(self.caller, number, name, domain);
        let version = DomctlVersion::from_raw(self.machine.state().release.domctl());
        call.numbers = request.numbers(version);
        let (outcome, answers) = match effect {
            Some(Effect::Fail(errno)) => (Err(errno), false),
            Some(Effect::FailAndScribble(errno)) => {
                request.scribble();
                (Err(errno), true)
            }
            effect => {
                if effect == Some(Effect::Hold) {
                    self.machine.state().hold(domain);
                }
                let most = match effect {
                    Some(Effect::Short(most)) => most,
                    _ => usize::MAX,
                };
                let outcome = match &mut request {
                    // SAFETY: the caller keeps the contract for the entries too.
                    Request::Multicall(_) => unsafe { self.multicall(&mut request) },
                    Request::Poll { ports, timeout } => self.poll(ports, *timeout),
                    request => self.machine.state().perform(self.caller, request, most),
                };
                (outcome, outcome.is_ok() || request.counts_on_error())
            }
        };
        if answers {
            // SAFETY: as for `decode`, with the same arguments.
            unsafe { request.encode(args) };
        }
        if let (Request::Domctl { call: answer, .. }, Ok(_)) = (&request, outcome) {
            // A create call tells only now which domain it is about.
            call.domain = DomId::new(answer.domain);
        }
        self.machine.end(Call { result: outcome, ..call });
        outcome.unwrap_or_else(Errno::to_result)
    }
}

impl Request {
    /// Whether the call writes how far it got, or what it objects to, even when it fails.
    fn counts_on_error(&self) -> bool {
        let names_leaf = |call: &Domctl| Command::from_raw(call.cmd) == Command::SET_CPU_POLICY;
        matches!(self, Self::MmuUpdate { .. } | Self::MmuExt { .. })
            || matches!(self, Self::Domctl { call, .. } if names_leaf(call))
    }
}
