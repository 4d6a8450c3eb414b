//! What of this kernel touches the machine: its entry, hypercalls, memory by its address, the console, the end.

use core::fmt::{self, Write};
use core::sync::atomic::{Ordering, fence};

use xen_abi::hvm::{HVMOP_GET_PARAM, PARAM_CONSOLE_EVTCHN, PARAM_CONSOLE_PFN, Param};
use xen_abi::number::HypercallNumber;
use xen_abi::sched::{SCHEDOP_SHUTDOWN, SCHEDOP_YIELD, SHUTDOWN_POWEROFF, Shutdown};
use xen_abi::{DomId, PAGE_SHIFT};

core::arch::global_asm!(include_str!("start.s"));

unsafe extern "C" {
    fn hypercall(number: u64, first: u64, second: u64, third: u64) -> i64;
}

/// `EVTCHNOP_send`, argument: a port.
const SEND: u64 = 4;
/// Where the output of a console ring is, and its counters (public/io/console.h).
const OUTPUT: u64 = 1024;
const OUTPUT_LEN: u32 = 2048;
const OUTPUT_TAKEN: u64 = 1024 + 2048 + 8;
const OUTPUT_WRITTEN: u64 = OUTPUT_TAKEN + 4;

/// Called by the entry, with the address of the start info.
#[unsafe(no_mangle)]
extern "C" fn pvh_main(start_info: u64) -> ! {
    crate::run(start_info);
    power_off()
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    if let Some(mut console) = Console::open() {
        let _ = writeln!(console, "{info}");
    }
    power_off()
}

fn call(number: HypercallNumber, first: u64, second: u64) -> i64 {
    // SAFETY: the calls made here take at most the address of one value, which lives until they return.
    unsafe { hypercall(u64::from(number.raw()), first, second, 0) }
}

fn address<T>(value: &mut T) -> u64 {
    core::ptr::from_mut(value).expose_provenance() as u64
}

fn power_off() -> ! {
    loop {
        let mut argument = Shutdown { reason: u32::from(SHUTDOWN_POWEROFF) };
        call(HypercallNumber::SCHED_OP, u64::from(SCHEDOP_SHUTDOWN), address(&mut argument));
    }
}

fn parameter(index: u32) -> Option<u64> {
    let mut param = Param::new(DomId::SELF, index, 0);
    let result = call(HypercallNumber::HVM_OP, u64::from(HVMOP_GET_PARAM), address(&mut param));
    (result == 0).then_some(param.value)
}

/// The byte at an address below 4 GiB, all of which is mapped. Each byte is read once: it may be a device's.
pub(crate) fn byte(address: u64) -> u8 {
    let pointer =
        core::ptr::with_exposed_provenance::<u8>(usize::try_from(address & 0xffff_ffff).unwrap_or(0));
    // SAFETY: the entry has mapped every address below 4 GiB; any bits are a byte.
    unsafe { pointer.read_volatile() }
}

/// Reads a register of the PC's real-time clock, which has an address port and a data port.
pub(crate) fn clock_register(number: u8) -> u8 {
    let value: u8;
    // SAFETY: a port touches no memory; choosing a register of the clock and reading it changes nothing.
    unsafe {
        core::arch::asm!(
            "out 0x70, al",
            "in al, 0x71",
            inout("al") number => value,
            options(nomem, nostack, preserves_flags),
        );
    }
    value
}

/// Sets a byte of a page that this kernel shares with others.
fn set_byte(address: u64, value: u8) {
    let pointer = core::ptr::with_exposed_provenance_mut::<u8>(usize::try_from(address).unwrap_or(0));
    // SAFETY: `address` lies in the console ring, which belongs to nobody else here.
    unsafe { pointer.write_volatile(value) }
}

/// The 32-bit number at an address.
pub(crate) fn word(address: u64) -> u32 {
    u32::from_le_bytes([0, 1, 2, 3].map(|offset| byte(address.wrapping_add(offset))))
}

/// The console that the builder relays.
pub(crate) struct Console {
    ring: u64,
    port: u32,
}

impl Console {
    /// The console, if there is one.
    pub(crate) fn open() -> Option<Self> {
        let frame = parameter(PARAM_CONSOLE_PFN)?;
        let port = parameter(PARAM_CONSOLE_EVTCHN)?;
        Some(Self { ring: frame << PAGE_SHIFT, port: u32::try_from(port).ok()? })
    }

    fn notify(&self) {
        let mut port = self.port;
        call(HypercallNumber::EVENT_CHANNEL_OP, SEND, address(&mut port));
    }

    fn put(&self, byte: u8) {
        let written = word(self.ring + OUTPUT_WRITTEN);
        while written.wrapping_sub(word(self.ring + OUTPUT_TAKEN)) >= OUTPUT_LEN {
            self.notify();
            call(HypercallNumber::SCHED_OP, u64::from(SCHEDOP_YIELD), 0);
        }
        set_byte(self.ring + OUTPUT + u64::from(written % OUTPUT_LEN), byte);
        // The reader must see the byte before the counter that tells of it. It reads the counter as one number: the lowest byte
        // goes last where more than it changes, but for a reader that looks in between, which would read old bytes.
        fence(Ordering::SeqCst);
        self.set_written(written.wrapping_add(1));
    }

    fn set_written(&self, value: u32) {
        let address = usize::try_from(self.ring + OUTPUT_WRITTEN).unwrap_or(0);
        let pointer = core::ptr::with_exposed_provenance_mut::<u32>(address);
        // SAFETY: the counter is an aligned number in the console ring, which belongs to nobody else here.
        unsafe { pointer.write_volatile(value) }
    }
}

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(|byte| self.put(byte));
        self.notify();
        Ok(())
    }
}
