//! Operations on the machine itself (public/platform.h), for the hardware domain.
//!
//! The interface is versioned, but has had one version since before Xen 4.14.

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use crate::{MachineAddr, assert_layout};

/// `XENPF_INTERFACE_VERSION`: the same from Xen 4.14 to the newest.
pub const INTERFACE_VERSION: u32 = 0x0300_0001;

/// `XENPF_firmware_info`, argument [`EfiConfigTable`].
pub const XENPF_FIRMWARE_INFO: u32 = 50;
/// `XENPF_enter_acpi_sleep`, argument [`EnterAcpiSleep`].
pub const XENPF_ENTER_ACPI_SLEEP: u32 = 51;

/// `XEN_FW_EFI_INFO`: a firmware info call about EFI.
pub const XEN_FW_EFI_INFO: u32 = 4;
/// `XEN_FW_EFI_CONFIG_TABLE`: of [`XEN_FW_EFI_INFO`], where EFI's configuration table is.
pub const XEN_FW_EFI_CONFIG_TABLE: u32 = 1;

/// `XENPF_ACPI_SLEEP_EXTENDED`: sleep by the sleep control register of hardware-reduced ACPI, not by PM1.
pub const XENPF_ACPI_SLEEP_EXTENDED: u32 = 1;

/// The header's name of an operation.
pub const fn name(op: u32) -> &'static str {
    match op {
        XENPF_FIRMWARE_INFO => "XENPF_firmware_info",
        XENPF_ENTER_ACPI_SLEEP => "XENPF_enter_acpi_sleep",
        _ => "unknown platform_op",
    }
}

/// Bytes of the payload of every platform operation.
pub const PAYLOAD: usize = 128;

/// `struct xen_platform_op`.
#[derive(Clone, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(8))]
pub struct PlatformOp {
    /// IN: operation.
    pub cmd: u32,
    /// IN: [`INTERFACE_VERSION`]; another one is refused with EACCES.
    pub interface_version: u32,
    /// The operation's own structure, zero padded.
    pub payload: [u8; PAYLOAD],
}

impl PlatformOp {
    /// Operation `cmd` on `argument`, which has to fit the payload.
    pub fn new<T: IntoBytes + Immutable>(cmd: u32, argument: &T) -> Self {
        const { assert!(size_of::<T>() <= PAYLOAD) };
        let mut op = Self::new_zeroed();
        op.cmd = cmd;
        op.interface_version = INTERFACE_VERSION;
        for (to, from) in op.payload.iter_mut().zip(argument.as_bytes()) {
            *to = *from;
        }
        op
    }
}

/// `struct xenpf_firmware_info` with the variant `efi_info.cfg` of its union.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EfiConfigTable {
    /// IN: [`XEN_FW_EFI_INFO`].
    pub kind: u32,
    /// IN: [`XEN_FW_EFI_CONFIG_TABLE`].
    pub index: u32,
    /// OUT: machine address of the first `EFI_CONFIGURATION_TABLE`, in bytes.
    pub address: u64,
    /// OUT: how many there are.
    pub entries: u32,
    /// Padding.
    pub pad: u32,
}

impl EfiConfigTable {
    /// The question.
    pub const QUESTION: Self =
        Self { kind: XEN_FW_EFI_INFO, index: XEN_FW_EFI_CONFIG_TABLE, address: 0, entries: 0, pad: 0 };

    /// The answer in the payload of a call.
    pub fn decode(payload: &[u8; PAYLOAD]) -> Option<(MachineAddr, u32)> {
        let (answer, _) = Self::read_from_prefix(payload).ok()?;
        Some((MachineAddr::new(answer.address), answer.entries))
    }
}

/// `struct xenpf_enter_acpi_sleep`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EnterAcpiSleep {
    /// IN: what Xen writes to the PM1a control register; with [`XENPF_ACPI_SLEEP_EXTENDED`] the bare sleep type.
    pub val_a: u16,
    /// IN: the same for PM1b, where there is one; its SLP_EN bit has to be that of `val_a` unless it is all zero.
    pub val_b: u16,
    /// IN: n of the state Sn that these values lead to.
    pub sleep_state: u32,
    /// IN: 0 or [`XENPF_ACPI_SLEEP_EXTENDED`].
    pub flags: u32,
}

assert_layout!(PlatformOp, size = 136, payload @ 8);
assert_layout!(EfiConfigTable, size = 24, address @ 8, entries @ 16);
assert_layout!(EnterAcpiSleep, size = 12, sleep_state @ 4, flags @ 8);
