//! What a client asks the control domain, and what it hears from it.
//!
//! The order of fields and variants is the wire format: additions go last.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::{
    Digest, EndReason, Failure, Kind, MAX_ENTRIES, MAX_JOURNAL_ENTRIES, MAX_PLATFORM_VMS, MAX_TEXT_LEN,
    Message, MessageError, VmState, bytes, check_len, check_names, check_spec,
};

/// What is asked. The first request on a channel is [`Hello`](Self::Hello).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ControlRequest {
    /// Who asks, and which versions of the protocol it speaks. Answer: [`ControlReply::Hello`].
    Hello {
        /// The lowest version.
        lowest: u16,
        /// The highest.
        highest: u16,
        /// The asker's name, for the journal; the form of a VM's name.
        name: String,
    },
    /// A platform is to be started. Answer: [`ControlReply::PlatformCreated`], when all VMs run that start with it.
    CreatePlatform {
        /// What it is known by; the form of a VM's name.
        name: String,
        /// Its VMs: encoded boot specs in the order in which they start, at most [`MAX_PLATFORM_VMS`] and as many as fit a message;
        /// more come by [`CreateVm`](Self::CreateVm). Images are those of db-server's RAM disk that the specs name.
        #[serde(with = "bytes::list")]
        specs: Vec<Vec<u8>>,
    },
    /// A VM is to be added to a platform and started. Answer: [`ControlReply::VmCreated`].
    CreateVm {
        /// The platform.
        platform: String,
        /// Its encoded boot spec.
        #[serde(with = "bytes")]
        spec: Vec<u8>,
    },
    /// The VMs of a platform. Answer: [`ControlReply::Vms`].
    List {
        /// The platform.
        platform: String,
        /// How many to leave out from the front.
        skip: u32,
    },
    /// A VM is asked to power off, waited for, and destroyed if it does not. Answer: [`ControlReply::Done`] when it is gone.
    ShutdownVm {
        /// The platform.
        platform: String,
        /// The VM.
        vm: String,
    },
    /// The same for all VMs of a platform, the last started first. Answer: [`ControlReply::Done`].
    TerminatePlatform {
        /// The platform.
        platform: String,
    },
    /// What a platform was built of. Answer: [`ControlReply::Measured`].
    MeasurePlatform {
        /// The platform.
        platform: String,
        /// How many entries to leave out from the front.
        skip: u32,
    },
    /// What the control domain did, for whom ever. Answer: [`ControlReply::Journal`].
    ReadJournal {
        /// The number of the first entry that is wanted, 0 for the oldest that is kept. To go on reading, one more than that of the last
        /// one read.
        first: u64,
    },
}

impl Message for ControlRequest {
    const KIND: Kind = Kind::ControlRequest;

    fn validate(&self) -> Result<(), MessageError> {
        match self {
            Self::Hello { name, .. } => check_names([name]),
            Self::CreatePlatform { name, specs } => {
                check_names([name])?;
                check_len("a platform's list of VMs", specs.len(), MAX_PLATFORM_VMS)?;
                specs.iter().try_for_each(|spec| check_spec(spec))
            }
            Self::CreateVm { platform, spec } => {
                check_names([platform])?;
                check_spec(spec)
            }
            Self::ShutdownVm { platform, vm } => check_names([platform, vm]),
            Self::List { platform, .. }
            | Self::TerminatePlatform { platform }
            | Self::MeasurePlatform { platform, .. } => check_names([platform]),
            Self::ReadJournal { .. } => Ok(()),
        }
    }
}

/// A VM of a platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlVm {
    /// Its name.
    pub name: String,
    /// Its domain id; none when it has not started, or is gone.
    pub domid: Option<u16>,
    /// What it is doing; none as above.
    pub state: Option<VmState>,
    /// How often it was restarted.
    pub restarts: u32,
}

/// Something that a platform was built of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measurement {
    /// The VM.
    pub vm: String,
    /// The digest of its boot spec.
    pub spec: Digest,
    /// That of its kernel.
    pub kernel: Digest,
    /// That of its RAM disk, if it has one.
    pub ramdisk: Option<Digest>,
}

/// How bad something in the journal is. The order of the variants is the wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JournalLevel {
    /// Something is lost.
    Error,
    /// Something is not as it should be.
    Warn,
    /// Something happened.
    Info,
}

/// Something that the control domain did, or that happened to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalEntry {
    /// Its number: 0 for the first since the control domain has started, and greater than that of the entry before it.
    pub number: u64,
    /// Xen's system time in nanoseconds.
    pub time: u64,
    /// How bad it is.
    pub level: JournalLevel,
    /// What it was: at most [`MAX_TEXT_LEN`] bytes.
    pub text: String,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ControlReply {
    /// The version that both speak.
    Hello {
        /// The highest that both speak.
        version: u16,
        /// The control domain's name, the form of a VM's name.
        name: String,
    },
    /// A platform was started.
    PlatformCreated {
        /// How many VMs it has.
        vms: u32,
    },
    /// A VM was started.
    VmCreated {
        /// Its domain id.
        domid: u16,
    },
    /// Some of the VMs of a platform.
    Vms {
        /// At most [`MAX_ENTRIES`].
        vms: Vec<ControlVm>,
        /// Whether there are more behind the last.
        more: bool,
    },
    /// It was done.
    Done,
    /// What the platform was built of.
    Measured {
        /// At most [`MAX_ENTRIES`], in the order in which they were built.
        measurements: Vec<Measurement>,
        /// Whether there are more behind the last.
        more: bool,
        /// The digest over all of them.
        total: Digest,
    },
    /// It was not done.
    Failed(Failure),
    /// A part of the journal.
    Journal {
        /// At most [`MAX_JOURNAL_ENTRIES`], the oldest first; numbers that are left out are of entries that were forgotten.
        entries: Vec<JournalEntry>,
        /// Whether there are more behind the last.
        more: bool,
    },
}

impl Message for ControlReply {
    const KIND: Kind = Kind::ControlReply;

    fn validate(&self) -> Result<(), MessageError> {
        match self {
            Self::Hello { name, .. } => check_names([name]),
            Self::Vms { vms, .. } => {
                check_len("a list of VMs", vms.len(), MAX_ENTRIES)?;
                check_names(vms.iter().map(|vm| &vm.name))
            }
            Self::Measured { measurements, .. } => {
                check_len("a list of measurements", measurements.len(), MAX_ENTRIES)?;
                check_names(measurements.iter().map(|measurement| &measurement.vm))
            }
            Self::Failed(failure) => failure.validate(),
            Self::Journal { entries, .. } => {
                check_len("a part of the journal", entries.len(), MAX_JOURNAL_ENTRIES)?;
                let mut texts = entries.iter().map(|entry| entry.text.len());
                texts.try_for_each(|length| check_len("an entry of the journal", length, MAX_TEXT_LEN))
            }
            Self::PlatformCreated { .. } | Self::VmCreated { .. } | Self::Done => Ok(()),
        }
    }
}

/// What the control domain says unasked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ControlNotice {
    /// A VM of a platform that the client created has ended.
    VmEnded {
        /// The platform.
        platform: String,
        /// The VM.
        vm: String,
        /// How.
        reason: EndReason,
        /// Whether it comes back.
        restarts: bool,
    },
    /// A platform has ended: none of its VMs runs or comes back.
    PlatformEnded {
        /// The platform.
        platform: String,
        /// Whether every VM ended well.
        well: bool,
    },
    /// The channel is closed after this, because of what the client did.
    Dropped(Failure),
}

impl Message for ControlNotice {
    const KIND: Kind = Kind::ControlNotice;

    fn validate(&self) -> Result<(), MessageError> {
        match self {
            Self::VmEnded { platform, vm, reason, .. } => {
                check_names([platform, vm])?;
                reason.validate()
            }
            Self::PlatformEnded { platform, .. } => check_names([platform]),
            Self::Dropped(failure) => failure.validate(),
        }
    }
}
