//! The PC's real-time clock, for kernels that were given its ports (`ioports = ["70-71"]`).
//!
//! The one device that is simple enough to be used safely without a driver: it has registers and an interrupt, and reaches no
//! memory. What a domain without the ports reads is all ones, by Xen's hand.

use xen_abi::Errno;

use crate::hypervisor::Hypervisor;
use crate::machine;

/// The port that takes a register's number.
const INDEX: u16 = 0x70;
/// The port that the register is then behind.
const DATA: u16 = 0x71;
/// Registers of the clock; what follows is memory that firmware keeps its settings in.
const REGISTERS: u8 = 14;

/// The line of its interrupt.
pub const INTERRUPT: u32 = 8;
/// Register B: which interrupts it raises.
pub const CONTROL: u8 = 11;
/// In [`CONTROL`]: an interrupt each time that the clock has moved on, once a second.
pub const UPDATE_INTERRUPT: u8 = 1 << 4;
/// Register C: which interrupts it has raised. Reading it lets the next one come.
pub const CAUSES: u8 = 12;
/// Register D: bit 7 says that the clock has not lost its power; the others are 0.
pub const VALIDITY: u8 = 13;

/// The clock.
#[derive(Debug)]
pub struct Rtc(());

impl Rtc {
    /// Asks Xen to let this kernel use such I/O ports as the domain has.
    pub fn open() -> Result<Self, Errno> {
        Hypervisor.allow_io()?;
        Ok(Self(()))
    }

    /// Reads a register, by its number below 14; all ones without the right to the ports.
    pub fn read(&self, register: u8) -> u8 {
        self.select(register);
        // SAFETY: `open` has seen to the right to use ports at all; the clock reaches no memory.
        unsafe { machine::io_read(DATA) }
    }

    /// Writes a register, by its number below 14; nothing happens without the right to the ports.
    pub fn write(&self, register: u8, value: u8) {
        self.select(register);
        // SAFETY: as for reading.
        unsafe { machine::io_write(DATA, value) };
    }

    #[expect(clippy::unused_self, reason = "only who has opened the clock may use its ports")]
    fn select(&self, register: u8) {
        assert!(register < REGISTERS, "register {register} is not one of the clock's");
        // SAFETY: as for reading.
        unsafe { machine::io_write(INDEX, register) };
    }
}
