//! Switching the machine off when the platform has ended.
//!
//! Xen does not do this by itself: a hardware domain that powers off leaves it idling. It has to be told by ACPI's numbers,
//! which stand in tables of the firmware that only the hardware domain reads.

use acpi::{AcpiError, MachineMemory, RootPointer, find_in_bios_area, find_in_efi_table, soft_off};
use alloc::vec::Vec;
use hypercall::{CallError, FrameWindow, RawHypercall, SharedMemory, SleepRequest, WindowError, Xen};
use thiserror::Error;
use xen_abi::sched::SHUTDOWN_POWEROFF;
use xen_abi::{DomId, Mfn, PAGE_SIZE};

use crate::Environment;

/// The most frames of tables that are mapped at once: one call for the BIOS area, few for the largest table.
const FRAMES_AT_ONCE: usize = 32;

/// Why the machine could not be switched off.
#[derive(Debug, Error)]
enum PowerOffError {
    /// The tables do not tell how.
    #[error(transparent)]
    Tables(#[from] AcpiError<WindowError>),
    /// Xen does not tell where EFI left the tables, or does not do as they say.
    #[error(transparent)]
    Call(#[from] CallError),
    /// Xen said that it did, and the machine is still on.
    #[error("XENPF_enter_acpi_sleep came back without an error")]
    StillOn,
}

/// Switches the machine off by ACPI; where that is not possible says why, and has Xen halt it.
///
/// Returns only when Xen refuses that too. No domain of this machine runs afterwards, preserved or not.
pub fn power_off<H: RawHypercall, W: FrameWindow>(environment: &mut Environment<'_, H, W>) {
    let error = match try_power_off(environment) {
        Ok(()) => PowerOffError::StillOn,
        Err(error) => error,
    };
    log::warn!("machine=halted: it cannot be switched off by ACPI and stays on until somebody does: {error}");
    if let Err(error) = environment.xen.shutdown(SHUTDOWN_POWEROFF) {
        log::error!("machine=running: {error}");
    }
}

/// Finds out how to switch the machine off, and does.
fn try_power_off<H: RawHypercall, W: FrameWindow>(
    environment: &mut Environment<'_, H, W>,
) -> Result<(), PowerOffError> {
    let xen = environment.xen;
    let mut memory = MachineFrames(&mut environment.window);
    let root = find_root(xen, &mut memory)?;
    let off = soft_off(&mut memory, &root)?;
    let (type_a, type_b) = (off.types.a, off.types.b);
    log::info!("machine=off acpi={} table={} types={type_a},{type_b}", root.revision, off.table);
    let request = SleepRequest { type_a, type_b, hardware_reduced: off.hardware_reduced };
    Ok(xen.enter_soft_off(request)?)
}

/// Finds the root pointer where the firmware of this machine leaves it.
fn find_root<H: RawHypercall, W: FrameWindow>(
    xen: &Xen<H>,
    memory: &mut MachineFrames<'_, W>,
) -> Result<RootPointer, PowerOffError> {
    Ok(match xen.efi_tables()? {
        Some(efi) => find_in_efi_table(memory, efi.address.raw(), efi.entries)?,
        None => find_in_bios_area(memory)?,
    })
}

/// Machine memory that belongs to no domain, as the hardware domain may map it.
///
/// Others can write it, devices and firmware, so it is mapped as shared memory and copied.
struct MachineFrames<'w, W>(&'w mut W);

impl<W: FrameWindow> MachineMemory for MachineFrames<'_, W> {
    type Error = WindowError;

    fn read(&mut self, address: u64, into: &mut [u8]) -> Result<(), WindowError> {
        let (mut frame, mut offset) =
            (address / PAGE_SIZE as u64, usize::try_from(address % PAGE_SIZE as u64).unwrap_or(0));
        let mut rest = into;
        while !rest.is_empty() {
            let count = (offset + rest.len()).div_ceil(PAGE_SIZE).min(FRAMES_AT_ONCE);
            let frames: Vec<Mfn> = (frame..).take(count).map(Mfn::new).collect();
            let mapped = self.0.map_shared(DomId::IO, &frames)?;
            let now = rest.len().min(count * PAGE_SIZE - offset);
            let (part, behind) = rest.split_at_mut(now);
            mapped.read(offset, part);
            (frame, offset, rest) = (frame + count as u64, 0, behind);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    /// A window onto memory in which each 8 bytes hold their own address.
    #[derive(Default)]
    struct Addresses {
        mapped: Vec<(u64, usize)>,
    }

    struct Mapped(Vec<u8>);

    impl FrameWindow for Addresses {
        type Shared = Mapped;

        fn capacity(&self) -> usize {
            0
        }

        fn with_frames<R>(
            &mut self,
            _: DomId,
            frames: &[Mfn],
            _: impl FnOnce(&mut [u8]) -> R,
        ) -> Result<R, WindowError> {
            Err(WindowError::TooMany { wanted: frames.len(), capacity: 0 })
        }

        fn with_machine_frame<R>(
            &mut self,
            _: DomId,
            _: Mfn,
            _: impl FnOnce(&mut [u8]) -> R,
        ) -> Result<R, WindowError> {
            Err(WindowError::TooMany { wanted: 1, capacity: 0 })
        }

        fn map_shared(&mut self, owner: DomId, frames: &[Mfn]) -> Result<Mapped, WindowError> {
            assert_eq!(owner, DomId::IO);
            self.mapped.push((frames[0].raw(), frames.len()));
            let pages = frames.iter().map(|frame| frame.raw() * PAGE_SIZE as u64);
            let words = pages.flat_map(|page| (page..).step_by(8).take(PAGE_SIZE / 8));
            Ok(Mapped(words.flat_map(u64::to_le_bytes).collect()))
        }
    }

    impl SharedMemory for Mapped {
        fn size(&self) -> usize {
            self.0.len()
        }
        fn read(&self, offset: usize, buffer: &mut [u8]) {
            buffer.copy_from_slice(&self.0[offset..][..buffer.len()]);
        }
        fn write(&self, _: usize, _: &[u8]) {
            panic!("the firmware's memory is written to");
        }
        fn load_u32(&self, _: usize) -> u32 {
            0
        }
        fn store_u32(&self, _: usize, _: u32) {
            panic!("the firmware's memory is written to");
        }
        fn compare_exchange_u32(&self, _: usize, _: u32, _: u32) -> Result<u32, u32> {
            panic!("the firmware's memory is written to");
        }
    }

    /// Reads and checks the bytes; gives back what was mapped.
    fn read(address: u64, length: usize) -> Vec<(u64, usize)> {
        let mut window = Addresses::default();
        let mut bytes = vec![0; length];
        MachineFrames(&mut window).read(address, &mut bytes).unwrap();
        for (place, byte) in (address..).zip(bytes) {
            assert_eq!(byte, (place & !7).to_le_bytes()[(place % 8) as usize], "at {place:#x}");
        }
        window.mapped
    }

    #[test]
    fn tables_are_read_across_pages() {
        assert_eq!(read(0xf_5ad0, 20), [(0xf5, 1)]);
        assert_eq!(read(0x7fe_0ffd, 8), [(0x7fe0, 2)]);
        assert_eq!(read(0xe_0000, 0x2_0000), [(0xe0, 32)]);
        assert_eq!(read(0x7fe_0ffe, 33 * PAGE_SIZE), [(0x7fe0, 32), (0x8000, 2)]);
        assert_eq!(read(0x1000, 0), []);
    }
}
