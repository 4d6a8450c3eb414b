//! How the machine and its guests say how they ended.
//!
//! db-boot ends the machine by writing one byte, a [`MachineStatus`], to the I/O port that its command line
//! names (`exit-port=`). QEMU's `isa-debug-exit` device turns the byte `b` into the process status
//! `2 * b + 1`, which is why no status is 0 and why `domb run` can tell ours from QEMU's own.
//!
//! A guest ends itself with `SCHEDOP_shutdown(reason)`. Xen defines the reasons 0 to 5; by our convention
//! the reasons [`GUEST_STATUS_BASE`]`..=0xff` carry an exit status, see [`guest_exit_status`].

/// The byte with which db-boot ends the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum MachineStatus {
    /// Every VM was built, ran and ended well.
    Success = 0x10,
    /// A VM crashed, was ended by its watchdog, or reported a status other than 0.
    VmFailed = 0x11,
    /// A VM could not be planned or built.
    BuildFailed = 0x12,
    /// The builder itself failed: it panicked or could not read its RAM disk.
    BuilderFailed = 0x13,
}

impl MachineStatus {
    /// All of them, in the order of their bytes.
    pub const ALL: [Self; 4] = [Self::Success, Self::VmFailed, Self::BuildFailed, Self::BuilderFailed];

    /// The byte to write to the exit port.
    pub const fn to_byte(self) -> u8 {
        self as u8
    }

    /// The status with this byte; `None` for a byte that is not ours.
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.to_byte() == byte)
    }

    /// The status behind the process status of a QEMU with an `isa-debug-exit` device.
    ///
    /// `None` for a process status that our byte cannot have caused: then QEMU ended for a reason of its own.
    pub fn from_qemu_status(process_status: i32) -> Option<Self> {
        let doubled = process_status.checked_sub(1)?;
        if doubled.rem_euclid(2) != 0 {
            return None;
        }
        Self::from_byte(u8::try_from(doubled.checked_div(2)?).ok()?)
    }
}

/// The first shutdown reason that carries an exit status of a guest.
pub const GUEST_STATUS_BASE: u8 = 0x80;

/// The exit status (0 to 127, 0 is success) that a guest gave with its shutdown reason.
///
/// `None` for a reason below [`GUEST_STATUS_BASE`], which is Xen's, or above 0xff, which is nobody's.
pub fn guest_exit_status(shutdown_reason: u32) -> Option<u8> {
    u8::try_from(shutdown_reason).ok()?.checked_sub(GUEST_STATUS_BASE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_pinned() {
        assert_eq!(MachineStatus::ALL.map(MachineStatus::to_byte), [0x10, 0x11, 0x12, 0x13]);
    }

    #[test]
    fn qemu_statuses_map_back_and_others_do_not() {
        let ours = [(33, "Success"), (35, "VmFailed"), (37, "BuildFailed"), (39, "BuilderFailed")];
        for (process_status, name) in ours {
            let status = MachineStatus::from_qemu_status(process_status).unwrap();
            assert_eq!(alloc::format!("{status:?}"), name);
        }
        for other in [i32::MIN, -1, 0, 1, 2, 31, 32, 34, 36, 38, 40, 41, 255, i32::MAX] {
            assert_eq!(MachineStatus::from_qemu_status(other), None, "{other}");
        }
    }

    #[test]
    fn guest_statuses_start_at_0x80() {
        assert_eq!(guest_exit_status(0x80), Some(0));
        assert_eq!(guest_exit_status(0xff), Some(127));
        for xens in 0..=5 {
            assert_eq!(guest_exit_status(xens), None);
        }
        assert_eq!(guest_exit_status(0x100), None);
    }
}
