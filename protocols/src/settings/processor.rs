//! What a VM sees of the processor and of its clock.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::{SettingsError, within};

/// The most registers of CPUID that a VM file may change.
pub const MAX_CPUID_CHANGES: usize = 64;
/// The largest pool for paging, 1 TiB.
pub const MAX_PAGING_POOL_MIB: u32 = 1 << 20;
/// The number of a subleaf of a leaf that has none.
pub const NO_SUBLEAF: u32 = u32::MAX;

/// What a VM sees of the processor. The order of the fields is the wire format.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Processor {
    /// How it reads the time-stamp counter.
    pub tsc: TscMode,
    /// Whether it stays on this machine for ever, so that it may know that the counter's rate never changes.
    pub stays: bool,
    /// Whether unknown model-specific registers read as 0 instead of a fault.
    pub relaxed_msrs: bool,
    /// What CPUID answers otherwise than by default: at most [`MAX_CPUID_CHANGES`], no register twice.
    pub cpuid: Vec<CpuidChange>,
    /// How many of its vCPUs are on when it starts, 1 to one less than it has; `None` for all. A PVH guest reads it in its ACPI
    /// tables; a PV guest has nowhere to read it.
    pub online: Option<u32>,
    /// Who translates its memory, if it is a PVH guest.
    pub paging: Paging,
    /// Whether shadows of its page tables are never behind them (`oos = 0`); without meaning where there are none.
    pub shadows_in_sync: bool,
    /// What Xen keeps for tables of a PVH guest's paging, in MiB, `1..=`[`MAX_PAGING_POOL_MIB`]; `None` for what Xen's own tools give.
    pub paging_pool_mib: Option<u32>,
}

/// Who translates a PVH guest's memory. A PV guest's page tables are its own. The order of the variants is the wire format: additions go
/// last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Paging {
    /// The processor where it can, else Xen, where that can.
    #[default]
    Any,
    /// The processor, by tables of Xen's (EPT, NPT).
    Nested,
    /// Xen, by shadows of the guest's page tables.
    Shadow,
}

/// How a VM reads the time-stamp counter. The order of the variants is the wire format: additions go last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TscMode {
    /// The processor's where it can be relied on, else Xen's emulation of one.
    #[default]
    Default,
    /// Always the emulation.
    AlwaysEmulate,
    /// Always the processor's.
    Native,
}

/// A register of a leaf of CPUID. Bits that are in no mask are left as they are by default; no bit is in two of them. The order
/// of the variants is the wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Register {
    /// EAX.
    Eax,
    /// EBX.
    Ebx,
    /// ECX.
    Ecx,
    /// EDX.
    Edx,
}

/// A change of one register. The order of the fields is the wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuidChange {
    /// The leaf.
    pub leaf: u32,
    /// The subleaf, or [`NO_SUBLEAF`].
    pub subleaf: u32,
    /// The register.
    pub register: Register,
    /// Bits that are to be 1.
    pub ones: u32,
    /// Bits that are to be 0.
    pub zeros: u32,
    /// Bits that are to be as the machine has them.
    pub host: u32,
}

impl Processor {
    /// Whether nothing is asked for.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Checks the pool, and the changes: their number, and that no bit is asked for twice.
    pub(super) fn validate(&self) -> Result<(), SettingsError> {
        if let Some(pool) = self.paging_pool_mib {
            within("a paging pool in MiB", pool, 1, MAX_PAGING_POOL_MIB)?;
        }
        let count = self.cpuid.len();
        if count > MAX_CPUID_CHANGES {
            return Err(SettingsError::TooMany {
                what: "registers of CPUID",
                count,
                most: MAX_CPUID_CHANGES,
            });
        }
        for (index, change) in self.cpuid.iter().enumerate() {
            let key = |it: &CpuidChange| (it.leaf, it.subleaf, it.register);
            let again = self.cpuid.iter().take(index).any(|earlier| key(earlier) == key(change));
            let CpuidChange { leaf, ones, zeros, host, .. } = *change;
            let overlap = ones & zeros != 0 || ones & host != 0 || zeros & host != 0;
            if again || overlap || ones | zeros | host == 0 {
                return Err(SettingsError::BadCpuid { leaf });
            }
        }
        Ok(())
    }
}
