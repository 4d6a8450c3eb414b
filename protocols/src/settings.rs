//! The part of a boot spec that says what a VM may do and get besides its memory: access to devices, limits, its place on the
//! machine's CPUs, security labels.
//!
//! Each group stands in a module of its own. The default of everything here is what Xen's own tools give a VM whose file does
//! not say.

mod access;
mod claims;
mod labels;
mod limits;
mod placement;
mod processor;

use alloc::string::String;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use access::{Access, IoMemory, IoPorts, MAX_FRAME, MAX_INTERRUPT, MAX_RANGES, check_interrupt};
pub use claims::Claims;
pub use labels::{Labels, MAX_LABEL_LEN, check_label};
pub use limits::{
    DEFAULT_EVENT_CHANNELS, DEFAULT_GRANT_FRAMES, DEFAULT_MAPTRACK_FRAMES, Limits, MAX_EVENT_CHANNELS,
    MAX_TABLE_FRAMES,
};
pub use placement::{Affinity, CpuRange, CpuSet, MAX_CAP, MAX_CPU, MAX_CPU_RANGES, MAX_WEIGHT, Placement};
pub use processor::{
    CpuidChange, MAX_CPUID_CHANGES, MAX_PAGING_POOL_MIB, NO_SUBLEAF, Paging, Processor, Register, TscMode,
};

/// Settings of a VM. The order of the fields is the wire format: additions go last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// The devices it may use.
    pub access: Access,
    /// What Xen allows it to have.
    pub limits: Limits,
    /// Where its vCPUs run.
    pub placement: Placement,
    /// What a security policy knows it by.
    pub labels: Labels,
    /// What it sees of the processor.
    pub processor: Processor,
    /// What it is told that it is.
    pub claims: Claims,
}

/// Why settings are not valid.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SettingsError {
    /// More ranges than anybody means.
    #[error("{count} {what}: at most {most} can be given; join those that are next to each other")]
    TooMany {
        /// What there are too many of.
        what: &'static str,
        /// How many.
        count: usize,
        /// How many there may be.
        most: usize,
    },
    /// Frames of I/O memory that no machine has.
    #[error(
        "I/O memory of {pages:#x} pages from page {first:#x} on: must be 1 page at least, and pages up to {MAX_FRAME:#x}"
    )]
    BadIoMemory {
        /// The first machine frame.
        first: u64,
        /// How many.
        pages: u64,
    },
    /// I/O ports the wrong way round.
    #[error("I/O ports {first:#x} to {last:#x}: the first must not be above the last")]
    BadIoPorts {
        /// The first.
        first: u16,
        /// The last.
        last: u16,
    },
    /// An interrupt line that cannot be given away.
    #[error(
        "interrupt {interrupt}: must be 1 to {MAX_INTERRUPT}, a line of the ISA bus; how others are wired only an interpreter of \
         the machine's ACPI tables knows"
    )]
    BadInterrupt {
        /// Its number.
        interrupt: u32,
    },
    /// A number outside of its range.
    #[error("{what} of {number}: must be {least} to {most}")]
    OutOfRange {
        /// What it is.
        what: &'static str,
        /// The number.
        number: u32,
        /// The least.
        least: u32,
        /// The most.
        most: u32,
    },
    /// A set of CPUs that is empty, not in order, or has a CPU that no Xen supports.
    #[error(
        "CPUs: a set must have one CPU at least, up to CPU {MAX_CPU}, as ranges in ascending order with gaps between"
    )]
    BadCpus,
    /// A change of CPUID that contradicts itself or another, or changes nothing.
    #[error("CPUID leaf {leaf:#x}: a register is changed twice, or a bit in two ways, or no bit at all")]
    BadCpuid {
        /// The leaf.
        leaf: u32,
    },
    /// A text that is no label of any policy.
    #[error(
        "label {label:?}: must be USER:ROLE:TYPE in at most {MAX_LABEL_LEN} characters, such as \"system_u:system_r:domU_t\""
    )]
    BadLabel {
        /// The text.
        label: String,
    },
    /// A label to build with, and none to run with.
    #[error("label {label:?} is only for building: say which label the VM runs with")]
    LoneBuildLabel {
        /// The label.
        label: String,
    },
}

impl Settings {
    /// Checks every field against its range.
    pub(crate) fn validate(&self) -> Result<(), SettingsError> {
        self.access.validate()?;
        self.limits.validate()?;
        self.placement.validate()?;
        self.labels.validate()?;
        self.processor.validate()
    }
}

/// Checks that `number` is within `least..=most`.
fn within(what: &'static str, number: u32, least: u32, most: u32) -> Result<(), SettingsError> {
    if (least..=most).contains(&number) {
        Ok(())
    } else {
        Err(SettingsError::OutOfRange { what, number, least, most })
    }
}
