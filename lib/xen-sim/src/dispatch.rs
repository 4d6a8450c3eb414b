//! From a request to the part of Xen that serves it.

use xen_abi::domctl::Command;
use xen_abi::memory::MachphysMapping;
use xen_abi::sysctl::Capabilities;
use xen_abi::version::{
    CAPABILITIES_LEN, EXTRAVERSION_LEN, XENVER_CAPABILITIES, XENVER_EXTRAVERSION, XENVER_VERSION,
};
use xen_abi::{DomId, Errno};

use crate::DOM0;
use crate::events::resolve;
use crate::faults::{CallSite, Effect};
use crate::hypervisor::Outcome;
use crate::request::Request;
use crate::state::State;

/// Nanoseconds that each hypercall takes.
const CALL_TIME: u64 = 1_000;
/// Where every PV guest sees the machine-to-physical table.
const M2P_START: u64 = 0xffff_8000_0000_0000;

impl State {
    /// Counts a call, and finds the fault that waits for it.
    pub(crate) fn strike(&mut self, site: &CallSite) -> Option<Effect> {
        self.calls += 1;
        self.now += CALL_TIME;
        self.faults.strike(site)
    }

    /// Does what a request asks for; lists only up to `most` entries.
    pub(crate) fn perform(&mut self, caller: DomId, request: &mut Request, most: usize) -> Outcome {
        match request {
            Request::Domctl { call, .. } if most < usize::MAX && call.cmd == Command::DESTROYDOMAIN.raw() => {
                self.destroy_in_part(caller, DomId::new(call.domain), most).map(|()| 0)
            }
            Request::Domctl { call, context, buffer } => {
                self.domctl(caller, call, context.as_deref(), &mut buffer.bytes)
            }
            Request::SetParam(param) => self.set_param(caller, param),
            Request::Sysctl { call, buffer } => self.sysctl(caller, call, &mut buffer.bytes),
            Request::Flask { op, text } => self.flask_op(caller, op, text),
            Request::MapPirq(argument) => self.map_pirq(caller, argument),
            Request::UnmapPirq(argument) => self.unmap_pirq(caller, *argument),
            Request::Populate { reservation, extents } => {
                Ok(count(self.populate(caller, reservation, extents, most)))
            }
            Request::Decrease { reservation, extents } => {
                Ok(count(self.decrease(caller, reservation, extents, most)))
            }
            Request::Claim(reservation) => self.claim(caller, reservation).map(|()| 0),
            Request::Acquire { resource, frames } => self.acquire(caller, resource, frames),
            Request::SetMemoryMap { domain, entries } => self.set_memory_map(caller, *domain, entries),
            Request::CurrentReservation(domain) => {
                let domain = self.living(resolve(*domain, caller))?;
                Ok(domain.pages.cast_signed())
            }
            Request::MaximumRamPage => Ok(self.frames.highest().raw().cast_signed()),
            Request::MachphysMapping(mapping) => {
                let max_mfn = self.frames.highest().raw();
                let v_end = M2P_START + (max_mfn + 1) * 8;
                *mapping = MachphysMapping { v_start: M2P_START, v_end, max_mfn };
                Ok(0)
            }
            Request::MmuUpdate { updates, done, foreign } => {
                let outcome = self.mmu_updates(caller, updates.iter().take(most), *foreign, done);
                outcome.and(if updates.len() > most { Err(Errno::EINVAL) } else { Ok(0) })
            }
            Request::MmuExt { ops, done, foreign } => {
                let outcome = self.mmuext_ops(caller, ops.iter().take(most), *foreign, done);
                outcome.and(if ops.len() > most { Err(Errno::EINVAL) } else { Ok(0) })
            }
            Request::MapGrants(requests) => {
                for request in requests {
                    self.map_grant(caller, request);
                }
                Ok(0)
            }
            Request::UnmapGrants(requests) => {
                for request in requests {
                    self.unmap_grant(caller, request);
                }
                Ok(0)
            }
            Request::SetUpTable { .. } | Request::QuerySize(_) => self.grant_table_op(caller, request),
            Request::ConsoleWrite(bytes) => self.console_write(caller, bytes),
            Request::ConsoleRead { wanted, bytes } => self.console_read(caller, *wanted, bytes),
            Request::Version { command, text } => self.xen_version(*command, text),
            Request::Shutdown(reason) => self.shutdown_op(caller, *reason),
            Request::Yield | Request::SetTimer => Ok(0),
            // Handled by the caller, because other calls are made meanwhile.
            Request::Multicall(_) | Request::Poll { .. } | Request::Unknown => Err(Errno::ENOSYS),
            request => self.event_channel_op(caller, request),
        }
    }

    /// Whether `caller` may work on the memory of `domain`: its own, or that of a domain it controls.
    pub(crate) fn controlled(&mut self, caller: DomId, domain: DomId) -> Result<(), Errno> {
        self.domain(domain)?;
        if domain == caller || self.is_privileged(caller) { Ok(()) } else { Err(Errno::EPERM) }
    }

    fn console_write(&mut self, caller: DomId, bytes: &[u8]) -> Outcome {
        // A release build takes nothing from domains without privilege.
        if !self.is_privileged(caller) {
            return Err(Errno::EPERM);
        }
        self.console.extend_from_slice(bytes);
        Ok(0)
    }

    fn console_read(&mut self, caller: DomId, wanted: usize, bytes: &mut Vec<u8>) -> Outcome {
        if !self.is_privileged(caller) {
            return Err(Errno::EPERM);
        }
        let take = wanted.min(self.typed.len());
        bytes.extend(self.typed.drain(..take));
        Ok(count(take))
    }

    fn xen_version(&mut self, command: u32, text: &mut Vec<u8>) -> Outcome {
        let version = self.release.version();
        match command {
            XENVER_VERSION => Ok(i64::from(version.major) << 16 | i64::from(version.minor)),
            XENVER_EXTRAVERSION => {
                text.extend(b".sim");
                text.resize(EXTRAVERSION_LEN, 0);
                Ok(0)
            }
            XENVER_CAPABILITIES => {
                let pv32 = if self.pv32 { "xen-3.0-x86_32p " } else { "" };
                let hvm = self.capabilities.contains(Capabilities::HVM);
                let hvm = if hvm { "hvm-3.0-x86_32 hvm-3.0-x86_32p hvm-3.0-x86_64 " } else { "" };
                text.extend(format!("xen-3.0-x86_64 {pv32}{hvm}").bytes());
                text.resize(CAPABILITIES_LEN, 0);
                Ok(0)
            }
            _ => Err(Errno::ENOSYS),
        }
    }

    fn shutdown_op(&mut self, caller: DomId, reason: u32) -> Outcome {
        let [reason, ..] = reason.to_le_bytes();
        if caller == DOM0 {
            // Dom0's end is the machine's.
            self.ended.get_or_insert(reason);
            return Ok(0);
        }
        self.shut_down(caller, reason).map(|()| 0)
    }
}

/// A count as a hypercall's result.
fn count(done: usize) -> i64 {
    i64::try_from(done).unwrap_or(i64::MAX)
}
