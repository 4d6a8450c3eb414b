//! How a kernel ends, in order or not.

use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering};

use protocols::MachineStatus;
use protocols::status::GUEST_STATUS_BASE;
use spin::Once;
use xen_abi::sched::{
    SHUTDOWN_CRASH, SHUTDOWN_POWEROFF, SHUTDOWN_REBOOT, SHUTDOWN_SOFT_RESET, SHUTDOWN_SUSPEND,
    SHUTDOWN_WATCHDOG,
};

use crate::console;
use crate::hypervisor::Hypervisor;
use crate::logger::Prefix;

/// How a kernel ends: what its `main` gives back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// In order.
    Poweroff,
    /// It wants to be started again.
    Reboot,
    /// It wrote its state down and sleeps.
    Suspend,
    /// It gave up.
    Crash,
    /// Its watchdog was not fed.
    Watchdog,
    /// It asks for a reset that keeps its memory.
    SoftReset,
    /// With an exit status of 0 to 127, 0 for success; the top bit is ignored.
    Status(u8),
    /// The whole machine ends: as [`MachineStatus`] by the exit port if there is one, else in order or as a crash.
    Machine(MachineStatus),
}

impl Ending {
    /// The shutdown reason that Xen is told.
    pub const fn reason(self) -> u8 {
        match self {
            Self::Poweroff | Self::Machine(MachineStatus::Success) => SHUTDOWN_POWEROFF,
            Self::Reboot => SHUTDOWN_REBOOT,
            Self::Suspend => SHUTDOWN_SUSPEND,
            Self::Crash | Self::Machine(_) => SHUTDOWN_CRASH,
            Self::Watchdog => SHUTDOWN_WATCHDOG,
            Self::SoftReset => SHUTDOWN_SOFT_RESET,
            Self::Status(status) => GUEST_STATUS_BASE | status,
        }
    }

    /// The machine's status when the kernel that ends so is the hardware domain.
    pub const fn machine_status(self) -> MachineStatus {
        match self {
            Self::Poweroff | Self::Reboot | Self::Suspend | Self::Status(0) => MachineStatus::Success,
            Self::Watchdog | Self::SoftReset | Self::Status(_) => MachineStatus::VmFailed,
            Self::Crash => MachineStatus::BuilderFailed,
            Self::Machine(status) => status,
        }
    }
}

/// The I/O port by which the machine's status is told, as QEMU's device `isa-debug-exit` takes it.
pub mod exit_port {
    use core::sync::atomic::Ordering;

    use xen_abi::Errno;

    use super::EXIT_PORT;
    use crate::hypervisor::Hypervisor;
    use crate::machine;

    /// Uses `port` when the kernel ends, by a panic too. The start does so for `exit-port=` of the command line.
    pub fn configure(port: u16) {
        EXIT_PORT.store(u32::from(port), Ordering::Relaxed);
    }

    /// The port in use, once: an end that the write to it brought about does not write again.
    pub(super) fn take() -> Option<u16> {
        u16::try_from(EXIT_PORT.swap(u32::MAX, Ordering::Relaxed)).ok()
    }

    /// Writes `value` to `port`. With a device there that ends the machine this does not return.
    ///
    /// # Safety
    ///
    /// The port is the one that the kernel was configured with: what is there ends the machine, or does nothing.
    pub(super) unsafe fn write(port: u16, value: u8) -> Result<(), Errno> {
        Hypervisor.allow_io()?;
        // SAFETY: by the caller's promise no memory changes; a port that the domain may not use gives a fault, which is
        // reported.
        unsafe { machine::io_write(port, value) };
        Ok(())
    }
}

/// Above all ports: none.
static EXIT_PORT: AtomicU32 = AtomicU32::new(u32::MAX);

/// Ends that are not in order and have begun: more than one when a mistake happens while one is reported.
static FAILURES: AtomicU32 = AtomicU32::new(0);

/// Ends the kernel.
pub fn end(ending: Ending) -> ! {
    console::flush();
    end_now(ending)
}

/// Ends the kernel without a look at the console, whose lock may be held by what was interrupted.
fn end_now(ending: Ending) -> ! {
    if let Some(port) = exit_port::take() {
        let status = ending.machine_status().to_byte();
        // SAFETY: whoever configured the port said that it is one to end the machine by.
        if let Err(errno) = unsafe { exit_port::write(port, status) } {
            console::emergency(format_args!("{Prefix}error: exit port {port:#x}: {errno}"));
        }
    }
    Hypervisor.shutdown(ending.reason())
}

/// Called with what happened before a kernel ends because of a mistake.
static FAILURE_HOOK: Once<fn(fmt::Arguments<'_>)> = Once::new();

/// Has `hook` called when the kernel ends because of a panic or an exception, after that was printed. The first call counts.
///
/// The hook must not use the heap, which may be locked. A mistake within it is reported too, and ends the kernel.
pub fn on_failure(hook: fn(fmt::Arguments<'_>)) {
    FAILURE_HOOK.call_once(|| hook);
}

/// Ends the kernel because of a mistake, after saying what happened: of the first in whole, of a second, within the report of
/// the first, in a few words, and then no more.
pub(crate) fn fail(text: fmt::Arguments<'_>) -> ! {
    match FAILURES.fetch_add(1, Ordering::Relaxed) {
        0 => {
            console::emergency(format_args!("{Prefix}error: {text}"));
            if let Some(hook) = FAILURE_HOOK.get() {
                hook(text);
            }
        }
        1 => console::emergency(format_args!("{Prefix}error: while that was reported: {text}")),
        _ => {}
    }
    end_now(Ending::Crash)
}

/// Reports a panic as `file:line: message`, and ends the kernel.
#[cfg(target_os = "none")]
#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    match info.location() {
        Some(place) => fail(format_args!("panic at {}:{}: {}", place.file(), place.line(), info.message())),
        None => fail(format_args!("panic: {}", info.message())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_those_of_xen_and_ours_above() {
        let reasons = [
            (Ending::Poweroff, 0),
            (Ending::Reboot, 1),
            (Ending::Suspend, 2),
            (Ending::Crash, 3),
            (Ending::Watchdog, 4),
            (Ending::SoftReset, 5),
            (Ending::Status(0), 0x80),
            (Ending::Status(127), 0xff),
            (Ending::Machine(MachineStatus::Success), 0),
            (Ending::Machine(MachineStatus::BuildFailed), 3),
        ];
        for (ending, reason) in reasons {
            assert_eq!(ending.reason(), reason, "{ending:?}");
        }
    }

    #[test]
    fn only_a_good_end_is_a_success_of_the_machine() {
        assert_eq!(Ending::Status(0).machine_status(), MachineStatus::Success);
        assert_eq!(Ending::Status(1).machine_status(), MachineStatus::VmFailed);
        assert_eq!(Ending::Crash.machine_status(), MachineStatus::BuilderFailed);
    }
}
