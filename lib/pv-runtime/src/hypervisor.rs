//! The hypercalls that a PV kernel makes for itself. Calls about other domains are in the `hypercall` crate.

use hypercall::RawHypercall;
use thiserror::Error;
use xen_abi::mmu::{MMU_UPDATE_PREEMPTED, MMUEXT_TLB_FLUSH_LOCAL, MmuUpdate, MmuextOp, MulticallEntry};
use xen_abi::number::HypercallNumber;
use xen_abi::physdev::{PHYSDEVOP_SET_IOPL, SetIopl};
use xen_abi::sched::{SCHEDOP_BLOCK, SCHEDOP_SHUTDOWN, Shutdown};
use xen_abi::vcpu::{TrapInfo, VCPUOP_STOP_PERIODIC_TIMER};
use xen_abi::{DomId, Errno, VcpuId, console};

use crate::clock::SystemTime;
use crate::machine;

/// The Xen that this kernel runs on. All values are the same.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hypervisor;

// SAFETY: the stub of the hypercall page passes number and arguments to Xen unchanged.
unsafe impl RawHypercall for Hypervisor {
    unsafe fn hypercall(&self, number: HypercallNumber, args: [u64; 5]) -> i64 {
        // SAFETY: the caller keeps the same contract.
        unsafe { machine::hypercall(number, args) }
    }
}

/// A batch of page-table updates that Xen stopped in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("mmu_update: update {done} of {wanted} was refused: {errno}")]
pub struct UpdateError {
    /// Updates that were made.
    pub done: usize,
    /// Updates asked for.
    pub wanted: usize,
    /// Why the next one was not made.
    pub errno: Errno,
}

/// Address of a value, for a hypercall.
fn address<T: ?Sized>(value: &T) -> u64 {
    core::ptr::from_ref(value).cast::<u8>().expose_provenance() as u64
}

/// Address of a value that a hypercall writes.
fn address_mut<T: ?Sized>(value: &mut T) -> u64 {
    core::ptr::from_mut(value).cast::<u8>().expose_provenance() as u64
}

/// Turns a negative result into its error.
fn check(result: i64) -> Result<(), Errno> {
    Errno::from_result(result).map_or(Ok(()), Err)
}

/// How many updates were made, from the counter that Xen fills; its top bit only says that Xen was interrupted once.
fn updates_done(counter: u32, wanted: usize) -> usize {
    ((counter & !MMU_UPDATE_PREEMPTED) as usize).min(wanted)
}

/// The last argument of `mmu_update` for frames of `owner` in the caller's own page tables.
fn foreign(owner: DomId) -> u64 {
    u64::from(owner.raw())
}

impl Hypervisor {
    /// Makes page-table updates with frames of `owner`, in order, until one is refused.
    ///
    /// # Safety
    ///
    /// All memory that Rust code relies on stays mapped as it is; what becomes reachable is not aliased by references.
    pub(crate) unsafe fn update_tables(self, owner: DomId, updates: &[MmuUpdate]) -> Result<(), UpdateError> {
        let wanted = updates.len();
        let mut counter: u32 = 0;
        let args = [address(updates), wanted as u64, address_mut(&mut counter), foreign(owner), 0];
        // SAFETY: the list is as long as is said, the counter is writable; the caller answers for the updates.
        let result = unsafe { self.hypercall(HypercallNumber::MMU_UPDATE, args) };
        check(result).map_err(|errno| UpdateError { done: updates_done(counter, wanted), wanted, errno })
    }

    /// Makes page-table updates in own frames and forgets all translations, in one call.
    ///
    /// # Safety
    ///
    /// As [`update_tables`](Self::update_tables).
    pub(crate) unsafe fn update_tables_and_flush(self, updates: &[MmuUpdate]) -> Result<(), UpdateError> {
        let wanted = updates.len();
        let mut counter: u32 = 0;
        let flush = MmuextOp { cmd: MMUEXT_TLB_FLUSH_LOCAL, ..MmuextOp::default() };
        let own = foreign(DomId::SELF);
        let mut calls = [
            MulticallEntry {
                op: u64::from(HypercallNumber::MMU_UPDATE.raw()),
                args: [address(updates), wanted as u64, address_mut(&mut counter), own, 0, 0],
                ..MulticallEntry::default()
            },
            MulticallEntry {
                op: u64::from(HypercallNumber::MMUEXT_OP.raw()),
                args: [address(&flush), 1, 0, own, 0, 0],
                ..MulticallEntry::default()
            },
        ];
        let args = [address_mut(&mut calls), calls.len() as u64, 0, 0, 0];
        // SAFETY: the list of calls is as long as is said and their lists too; a flush changes no mapping; the caller
        // answers for the updates.
        let result = unsafe { self.hypercall(HypercallNumber::MULTICALL, args) };
        let failed = |errno| UpdateError { done: updates_done(counter, wanted), wanted, errno };
        check(result).map_err(failed)?;
        // The results are 64-bit patterns of the signed value.
        calls.iter().try_for_each(|call| check(call.result.cast_signed())).map_err(failed)
    }

    /// Forgets all translations of this vCPU.
    pub(crate) fn flush(self) -> Result<(), Errno> {
        let flush = MmuextOp { cmd: MMUEXT_TLB_FLUSH_LOCAL, ..MmuextOp::default() };
        let args = [address(&flush), 1, 0, foreign(DomId::SELF), 0];
        // SAFETY: one operation, as the count says; it changes no mapping.
        check(unsafe { self.hypercall(HypercallNumber::MMUEXT_OP, args) })
    }

    /// Sets the handlers of exceptions. `table` ends with an entry of address 0.
    pub(crate) fn set_trap_table(self, table: &[TrapInfo]) -> Result<(), Errno> {
        let args = [address(table), 0, 0, 0, 0];
        // SAFETY: Xen reads the table up to the entry with address 0.
        check(unsafe { self.hypercall(HypercallNumber::SET_TRAP_TABLE, args) })
    }

    /// Sets the handler of upcalls, and the one of segment loads that failed.
    pub(crate) fn set_callbacks(self, upcall: u64, failsafe: u64) -> Result<(), Errno> {
        // SAFETY: the call takes addresses of code, no memory; there is no user mode that could make system calls.
        check(unsafe { self.hypercall(HypercallNumber::SET_CALLBACKS, [upcall, failsafe, 0, 0, 0]) })
    }

    /// Gives this kernel the right to use I/O ports, as far as the domain has it.
    pub(crate) fn allow_io(self) -> Result<(), Errno> {
        let level = SetIopl { iopl: 1 };
        let args = [u64::from(PHYSDEVOP_SET_IOPL), address(&level), 0, 0, 0];
        // SAFETY: takes one `SetIopl` and changes no memory.
        check(unsafe { self.hypercall(HypercallNumber::PHYSDEV_OP, args) })
    }

    /// Writes to Xen's console.
    pub(crate) fn console_write(self, text: &[u8]) -> Result<(), Errno> {
        let args = [u64::from(console::CONSOLEIO_WRITE), text.len() as u64, address(text), 0, 0];
        // SAFETY: Xen reads as many bytes as the slice has.
        check(unsafe { self.hypercall(HypercallNumber::CONSOLE_IO, args) })
    }

    /// Unmasks upcalls and sleeps until one comes; see [`events::block`](crate::events::block).
    pub(crate) fn block(self) {
        // SAFETY: takes no memory. The upcall that comes masks upcalls again and does nothing else.
        unsafe { self.hypercall(HypercallNumber::SCHED_OP, [u64::from(SCHEDOP_BLOCK), 0, 0, 0, 0]) };
    }

    /// Stops the timer that raises `VIRQ_TIMER` every 10 ms, which Xen gives each new vCPU.
    pub(crate) fn stop_periodic_timer(self) -> Result<(), Errno> {
        let args = [u64::from(VCPUOP_STOP_PERIODIC_TIMER), u64::from(VcpuId::BOOT.raw()), 0, 0, 0];
        // SAFETY: takes no memory.
        check(unsafe { self.hypercall(HypercallNumber::VCPU_OP, args) })
    }

    /// Has `VIRQ_TIMER` raised at `deadline`, or soon if that is past; replaces an earlier deadline.
    pub fn set_timer(self, deadline: SystemTime) -> Result<(), Errno> {
        // SAFETY: takes a time, no memory.
        check(unsafe { self.hypercall(HypercallNumber::SET_TIMER_OP, [deadline.nanos(), 0, 0, 0, 0]) })
    }

    /// Ends the domain.
    pub(crate) fn shutdown(self, reason: u8) -> ! {
        let argument = Shutdown { reason: u32::from(reason) };
        loop {
            let args = [u64::from(SCHEDOP_SHUTDOWN), address(&argument), 0, 0, 0];
            // SAFETY: takes one `Shutdown`; nothing of this domain runs afterwards.
            unsafe { self.hypercall(HypercallNumber::SCHED_OP, args) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_of_an_interrupted_batch_counts() {
        assert_eq!(updates_done(3, 8), 3);
        assert_eq!(updates_done(MMU_UPDATE_PREEMPTED | 5, 8), 5);
        assert_eq!(updates_done(9, 8), 8);
    }
}
