//! How a kernel ends, in order or not.

use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

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

    /// The port in use.
    pub fn configured() -> Option<u16> {
        u16::try_from(EXIT_PORT.load(Ordering::Relaxed)).ok()
    }

    /// Writes `value` to `port`. With a device there that ends the machine this does not return.
    pub fn write(port: u16, value: u8) -> Result<(), Errno> {
        Hypervisor.allow_io()?;
        // SAFETY: the domain may use the port or else gets a fault that is reported; the device ends the machine, or there
        // is none.
        unsafe { machine::io_write(port, value) };
        Ok(())
    }
}

/// Above all ports: none.
static EXIT_PORT: AtomicU32 = AtomicU32::new(u32::MAX);

/// Whether an end that is not in order has begun: another one within it says no more.
static FAILING: AtomicBool = AtomicBool::new(false);

/// Ends the kernel.
pub fn end(ending: Ending) -> ! {
    console::flush();
    if let Some(port) = exit_port::configured() {
        let status = ending.machine_status().to_byte();
        if let Err(errno) = exit_port::write(port, status) {
            console::emergency(format_args!("{Prefix}error: exit port {port:#x}: {errno}"));
        }
    }
    Hypervisor.shutdown(ending.reason())
}

/// Called with what happened before a kernel ends because of a mistake.
static FAILURE_HOOK: Once<fn(fmt::Arguments<'_>)> = Once::new();

/// Has `hook` called when the kernel ends because of a panic or an exception, after that was printed. The first call counts.
///
/// The hook must not use the heap, which may be locked. A mistake within it ends the kernel without more words.
pub fn on_failure(hook: fn(fmt::Arguments<'_>)) {
    FAILURE_HOOK.call_once(|| hook);
}

/// Ends the kernel because of a mistake, after saying what happened.
pub(crate) fn fail(text: fmt::Arguments<'_>) -> ! {
    if !FAILING.swap(true, Ordering::Relaxed) {
        console::emergency(format_args!("{Prefix}error: {text}"));
        if let Some(hook) = FAILURE_HOOK.get() {
            hook(text);
        }
    }
    end(Ending::Crash)
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
