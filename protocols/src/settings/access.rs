//! The devices of the machine that a VM may use.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::SettingsError;

/// The most ranges of one kind.
pub const MAX_RANGES: usize = 64;
/// The highest machine frame: physical addresses have 52 bits.
pub const MAX_FRAME: u64 = (1 << 40) - 1;
/// The highest number of an interrupt line: the last of the ISA bus. How the lines above are wired, to PCI devices, only an
/// interpreter of the machine's ACPI tables knows, and there is none.
pub const MAX_INTERRUPT: u32 = 15;

/// Devices that a VM may use itself. Xen must have left them to the builder's domain. The order of the fields is the wire
/// format.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// Memory of devices: at most [`MAX_RANGES`] ranges.
    pub io_memory: Vec<IoMemory>,
    /// I/O ports: at most [`MAX_RANGES`] ranges.
    pub io_ports: Vec<IoPorts>,
    /// Interrupt lines: at most [`MAX_RANGES`], each `1..=`[`MAX_INTERRUPT`]; line 0 is Xen's timer.
    pub interrupts: Vec<u32>,
}

/// Machine frames that belong to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoMemory {
    /// The first machine frame, at most [`MAX_FRAME`].
    pub first: u64,
    /// How many, 1 at least; the last one is at most [`MAX_FRAME`].
    pub pages: u64,
}

/// I/O ports, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoPorts {
    /// The first port.
    pub first: u16,
    /// The last port, at least `first`.
    pub last: u16,
}

impl IoPorts {
    /// How many ports there are, 1 at least in a valid range.
    pub fn count(self) -> u32 {
        u32::from(self.last.saturating_sub(self.first)).saturating_add(1)
    }
}

impl Access {
    /// Whether it is access to nothing.
    pub fn is_empty(&self) -> bool {
        self.io_memory.is_empty() && self.io_ports.is_empty() && self.interrupts.is_empty()
    }

    /// Checks every field against its range.
    pub(super) fn validate(&self) -> Result<(), SettingsError> {
        let counts = [
            ("ranges of I/O memory", self.io_memory.len()),
            ("ranges of I/O ports", self.io_ports.len()),
            ("interrupts", self.interrupts.len()),
        ];
        if let Some((what, count)) = counts.into_iter().find(|(_, count)| *count > MAX_RANGES) {
            return Err(SettingsError::TooMany { what, count, most: MAX_RANGES });
        }
        self.io_memory.iter().try_for_each(|range| range.validate())?;
        self.io_ports.iter().try_for_each(|range| range.validate())?;
        self.interrupts.iter().copied().try_for_each(check_interrupt)
    }
}

/// Checks an interrupt line; see [`Access::interrupts`].
pub fn check_interrupt(interrupt: u32) -> Result<(), SettingsError> {
    if (1..=MAX_INTERRUPT).contains(&interrupt) {
        Ok(())
    } else {
        Err(SettingsError::BadInterrupt { interrupt })
    }
}

impl IoMemory {
    /// Checks the range; see the fields.
    pub fn validate(self) -> Result<(), SettingsError> {
        let Self { first, pages } = self;
        let last = first.checked_add(pages).and_then(|end| end.checked_sub(1));
        match last {
            Some(last) if pages > 0 && last <= MAX_FRAME => Ok(()),
            _ => Err(SettingsError::BadIoMemory { first, pages }),
        }
    }
}

impl IoPorts {
    /// Checks the range; see the fields.
    pub fn validate(self) -> Result<(), SettingsError> {
        let Self { first, last } = self;
        if first <= last { Ok(()) } else { Err(SettingsError::BadIoPorts { first, last }) }
    }
}
