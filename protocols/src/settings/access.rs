//! The devices of the machine that a VM may use.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::RangeInclusive;

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
    /// Where a PVH guest finds them: its first guest frame; `None` for the machine's own number. The last one is at most
    /// [`MAX_FRAME`]. A PV guest maps them itself, by the machine's numbers.
    pub guest: Option<u64>,
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
    /// Its ports, as wide as frames are.
    fn numbers(self) -> RangeInclusive<u64> {
        u64::from(self.first)..=u64::from(self.last)
    }

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

    /// The first of the `wanted` devices that does not lie in these altogether, in words.
    pub fn first_lacking(&self, wanted: &Self) -> Option<String> {
        let memory: Vec<_> = self.io_memory.iter().map(|range| range.frames()).collect();
        let ports: Vec<_> = self.io_ports.iter().map(|range| range.numbers()).collect();
        let mut lacking_memory = wanted.io_memory.iter().filter(|range| !covered(&memory, range.frames()));
        let mut lacking_ports = wanted.io_ports.iter().filter(|range| !covered(&ports, range.numbers()));
        let mut lacking_lines = wanted.interrupts.iter().filter(|line| !self.interrupts.contains(line));
        let memory = |range: &IoMemory| format!("I/O memory {:#x},{:#x}", range.first, range.pages);
        let ports = |range: &IoPorts| format!("I/O ports {:#x}-{:#x}", range.first, range.last);
        lacking_memory
            .next()
            .map(memory)
            .or_else(|| lacking_ports.next().map(ports))
            .or_else(|| lacking_lines.next().map(|line| format!("interrupt {line}")))
    }

    /// Checks every field against its range.
    pub(crate) fn validate(&self) -> Result<(), SettingsError> {
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

/// Whether every number of `wanted` is in one of `ranges`, in whatever order these are.
fn covered(ranges: &[RangeInclusive<u64>], wanted: RangeInclusive<u64>) -> bool {
    let mut next = *wanted.start();
    // Each round goes beyond one range at least, so as many rounds as there are ranges go beyond all.
    for _ in ranges {
        match ranges.iter().find(|range| range.contains(&next)) {
            Some(range) if range.end() >= wanted.end() => return true,
            Some(range) => next = range.end().saturating_add(1),
            None => return false,
        }
    }
    false
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
    /// The first guest frame at which a PVH guest finds it.
    pub fn guest_first(self) -> u64 {
        self.guest.unwrap_or(self.first)
    }

    /// Its machine frames.
    fn frames(self) -> RangeInclusive<u64> {
        self.first..=self.first.saturating_add(self.pages).saturating_sub(1)
    }

    /// Checks the range; see the fields.
    pub fn validate(self) -> Result<(), SettingsError> {
        let Self { first, pages, .. } = self;
        let fits = |first: u64| {
            let last = first.checked_add(pages).and_then(|end| end.checked_sub(1));
            last.is_some_and(|last| last <= MAX_FRAME)
        };
        match pages {
            1.. if fits(first) && fits(self.guest_first()) => Ok(()),
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
