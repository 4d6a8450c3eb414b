//! Typed calls about the machine itself. Xen takes them from the hardware domain only.

use xen_abi::number::HypercallNumber;
use xen_abi::platform::{
    EfiConfigTable, EnterAcpiSleep, PlatformOp, XENPF_ACPI_SLEEP_EXTENDED, XENPF_ENTER_ACPI_SLEEP,
    XENPF_FIRMWARE_INFO, name,
};
use xen_abi::{DomId, Errno, MachineAddr};

use crate::calls::address_mut;
use crate::{CallError, RawHypercall, Xen};

/// SCI_EN of a PM1 control register: the machine is in ACPI mode, as every system that uses ACPI leaves it.
const PM1_SCI_EN: u16 = 1;
/// Position of SLP_TYP in a PM1 control register; it has three bits.
const PM1_SLP_TYP_SHIFT: u32 = 10;
/// The highest value of SLP_TYP.
const SLP_TYP_MAX: u8 = 7;
/// SLP_EN of a PM1 control register: enter the state that SLP_TYP names.
const PM1_SLP_EN: u16 = 1 << 13;
/// The state "soft off": n of Sn.
const S5: u32 = 5;

/// Where EFI left its configuration table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EfiTables {
    /// Machine address of the first entry.
    pub address: MachineAddr,
    /// How many entries there are.
    pub entries: u32,
}

/// How a machine is asked for the sleep state S5, soft off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SleepRequest {
    /// The sleep type for the first register, 0 to 7.
    pub type_a: u8,
    /// The sleep type for the second register, 0 to 7, if the machine has one.
    pub type_b: u8,
    /// Whether the machine has the sleep control register of hardware-reduced ACPI instead of PM1.
    pub hardware_reduced: bool,
}

impl SleepRequest {
    /// The request in Xen's terms.
    fn encode(self) -> EnterAcpiSleep {
        let (type_a, type_b) = (self.type_a & SLP_TYP_MAX, self.type_b & SLP_TYP_MAX);
        if self.hardware_reduced {
            let (val_a, val_b) = (u16::from(type_a), u16::from(type_b));
            return EnterAcpiSleep { val_a, val_b, sleep_state: S5, flags: XENPF_ACPI_SLEEP_EXTENDED };
        }
        let value = |kind: u8| u16::from(kind) << PM1_SLP_TYP_SHIFT | PM1_SLP_EN | PM1_SCI_EN;
        EnterAcpiSleep { val_a: value(type_a), val_b: value(type_b), sleep_state: S5, flags: 0 }
    }
}

impl<H: RawHypercall> Xen<H> {
    /// Makes a platform operation; OUT fields are in `op` afterwards.
    fn platform_op(&self, op: &mut PlatformOp) -> Result<(), CallError> {
        let name = name(op.cmd);
        let args = [address_mut(op), 0, 0, 0, 0];
        // SAFETY: takes the address of one `PlatformOp`, valid for reads and writes for the length of the call; no payload
        // made in this module holds an address.
        unsafe { self.call(HypercallNumber::PLATFORM_OP, args, name, DomId::SELF) }.map(|_| ())
    }

    /// Where EFI left its configuration table; `None` on a machine that Xen started without EFI.
    pub fn efi_tables(&self) -> Result<Option<EfiTables>, CallError> {
        let mut op = PlatformOp::new(XENPF_FIRMWARE_INFO, &EfiConfigTable::QUESTION);
        match self.platform_op(&mut op) {
            Ok(()) => {
                Ok(EfiConfigTable::decode(&op.payload)
                    .map(|(address, entries)| EfiTables { address, entries }))
            }
            Err(CallError { errno: Errno::ENOSYS, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Switches the machine off by ACPI, Xen and every domain with it; returns only when that did not happen.
    ///
    /// EPERM says that Xen itself found no register to write to.
    pub fn enter_soft_off(&self, request: SleepRequest) -> Result<(), CallError> {
        self.platform_op(&mut PlatformOp::new(XENPF_ENTER_ACPI_SLEEP, &request.encode()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pm1_values_hold_type_enable_and_acpi_mode() {
        let request = SleepRequest { type_a: 5, type_b: 0, hardware_reduced: false };
        let expected = EnterAcpiSleep { val_a: 0x3401, val_b: 0x2001, sleep_state: 5, flags: 0 };
        assert_eq!(request.encode(), expected);
    }

    #[test]
    fn hardware_reduced_values_are_bare_types() {
        let request = SleepRequest { type_a: 7, type_b: 3, hardware_reduced: true };
        let expected = EnterAcpiSleep { val_a: 7, val_b: 3, sleep_state: 5, flags: 1 };
        assert_eq!(request.encode(), expected);
    }

    #[test]
    fn a_type_never_reaches_other_bits() {
        let request = SleepRequest { type_a: 0xff, type_b: 8, hardware_reduced: false };
        assert_eq!((request.encode().val_a, request.encode().val_b), (0x3c01, 0x2001));
    }
}
