//! What a controller asks db-server, and what it hears from it.
//!
//! The order of fields and variants is the wire format: additions go last.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::{
    Digest, Failure, Kind, MAX_CHUNK_LEN, MAX_ENTRIES, MAX_TEXT_LEN, Message, MessageError, bytes, check_len,
    check_names, check_spec,
};
use crate::spec::{ImageRole, check_image_name};

/// What is asked. The first request on a channel is [`Hello`](Self::Hello).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServerRequest {
    /// Who asks, and which versions of the protocol it speaks. Answer: [`ServerReply::Hello`].
    Hello {
        /// The lowest version.
        lowest: u16,
        /// The highest.
        highest: u16,
        /// The asker's name, for the log; the form of a VM's name.
        name: String,
    },
    /// An image is to come. Answer: [`ServerReply::Image`] with how much of it is there; all of it, if the store has it.
    PutImageBegin {
        /// What the image is known by from then on.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
    },
    /// The next part of an image. Answer: [`ServerReply::Image`].
    PutImageChunk {
        /// The image.
        digest: Digest,
        /// Where in the image: the end of the part before.
        offset: u64,
        /// At most [`MAX_CHUNK_LEN`] bytes.
        #[serde(with = "bytes")]
        bytes: Vec<u8>,
    },
    /// The image is complete, and is checked against its digest. Answer: [`ServerReply::Image`].
    PutImageEnd {
        /// The image.
        digest: Digest,
    },
    /// A VM is to be built. Answer: [`ServerReply::Built`].
    Build(BuildRequest),
    /// The asker's VMs, in the order of their ids. Answer: [`ServerReply::Vms`].
    List {
        /// Only those with higher domain ids; 0 for all.
        after: u16,
    },
    /// A VM is to stop for a while. Answer: [`ServerReply::Done`], as for the next three.
    Pause {
        /// Its domain id.
        domid: u16,
        /// Its [serial number](Built::serial); none for whichever VM has the id. As for the next three.
        serial: Option<u64>,
    },
    /// It is to go on, or to start for the first time.
    Unpause {
        /// Its domain id.
        domid: u16,
        /// Its serial number.
        serial: Option<u64>,
    },
    /// It is asked to power itself off.
    Shutdown {
        /// Its domain id.
        domid: u16,
        /// Its serial number.
        serial: Option<u64>,
    },
    /// It is destroyed; everything it held is free when the answer comes. For one that was destroyed and is not gone, this waits, or
    /// tries, again.
    Destroy {
        /// Its domain id.
        domid: u16,
        /// Its serial number.
        serial: Option<u64>,
    },
    /// Whether the ends of the asker's VMs are to be told by [`ServerNotice::Ended`]. Answer: [`ServerReply::Done`].
    WatchExits {
        /// Whether they are.
        watch: bool,
    },
    /// About the machine. Answer: [`ServerReply::Facts`].
    Facts,
    /// An image that the asker has begun and not ended is not sent after all: what there is of it is forgotten. Answer:
    /// [`ServerReply::Done`].
    PutImageCancel {
        /// The image.
        digest: Digest,
    },
}

/// Where an image comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ImageSource {
    /// An entry of db-server's RAM disk, named as in a boot spec.
    Ramdisk(String),
    /// An image in the store.
    Store(Digest),
}

/// A VM to build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildRequest {
    /// An encoded boot spec. The names of images in it are not used.
    #[serde(with = "bytes")]
    pub spec: Vec<u8>,
    /// The kernel.
    pub kernel: ImageSource,
    /// The RAM disk, if the VM has one.
    pub ramdisk: Option<ImageSource>,
    /// Whether it stays paused until it is unpaused.
    pub paused: bool,
    /// The domain that serves its console; without, db-server does.
    pub console: Option<u16>,
    /// The domain that serves its XenStore, if it has one.
    pub xenstore: Option<u16>,
    /// Its security label, at most [`MAX_TEXT_LEN`] bytes.
    pub label: Option<String>,
    /// Whether what is built is entered in the event log.
    pub measured: bool,
}

impl BuildRequest {
    fn validate(&self) -> Result<(), MessageError> {
        check_spec(&self.spec)?;
        for (role, source) in
            [(ImageRole::Kernel, Some(&self.kernel)), (ImageRole::Ramdisk, self.ramdisk.as_ref())]
        {
            if let Some(ImageSource::Ramdisk(name)) = source {
                check_image_name(role, name).map_err(MessageError::Spec)?;
            }
        }
        check_len("a label", self.label.as_ref().map_or(0, String::len), MAX_TEXT_LEN)
    }
}

impl Message for ServerRequest {
    const KIND: Kind = Kind::ServerRequest;

    fn validate(&self) -> Result<(), MessageError> {
        match self {
            Self::Hello { name, .. } => check_names([name]),
            Self::PutImageChunk { bytes, .. } => check_len("a part of an image", bytes.len(), MAX_CHUNK_LEN),
            Self::Build(request) => request.validate(),
            _ => Ok(()),
        }
    }
}

/// What the asker may have; 0 means none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    /// Memory of all its VMs together, in KiB.
    pub memory_kib: u64,
    /// How many VMs.
    pub vms: u32,
    /// The lowest domain id that it may ask for.
    pub first_domid: u16,
    /// The highest.
    pub last_domid: u16,
    /// The most bytes of images in the store.
    pub store_bytes: u64,
    /// The most requests under way at a time.
    pub requests: u32,
}

/// A shared ring of a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RingPlace {
    /// The frame: machine frame of a PV guest, guest frame of a PVH guest.
    pub frame: u64,
    /// The VM's port.
    pub port: u32,
}

/// A VM that was built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Built {
    /// Its domain id.
    pub domid: u16,
    /// The frame of its start info, as in [`RingPlace`].
    pub start_info: u64,
    /// The digest of its kernel, as it was given.
    pub kernel: Digest,
    /// That of its RAM disk.
    pub ramdisk: Option<Digest>,
    /// Its console.
    pub console: RingPlace,
    /// Its XenStore, if it has one.
    pub xenstore: Option<RingPlace>,
    /// Its serial number, from 1 on: no other VM has it as long as db-server runs, while a domain id is given again.
    pub serial: u64,
}

/// What a VM is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum VmState {
    /// It is paused.
    Paused,
    /// It runs, or waits for something.
    Running,
    /// It has ended, and was not destroyed.
    Ended,
    /// It was destroyed, or was to be, and something of it is left: its name, its domain id and its memory count until it is gone.
    Dying,
}

/// A VM in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmEntry {
    /// Its domain id.
    pub domid: u16,
    /// Its name.
    pub name: String,
    /// What it is doing.
    pub state: VmState,
    /// Its memory in KiB.
    pub memory_kib: u64,
    /// Its vCPUs.
    pub vcpus: u32,
    /// Its [serial number](Built::serial).
    pub serial: u64,
}

/// About the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// As the 4 in Xen 4.17.
    pub xen_major: u16,
    /// As the 17 in Xen 4.17.
    pub xen_minor: u16,
    /// The version of Xen's interface for building domains.
    pub domctl: u32,
    /// Memory of the machine in KiB.
    pub memory_kib: u64,
    /// How much of it is free.
    pub free_kib: u64,
    /// Bytes of images in the store.
    pub stored_bytes: u64,
    /// What the asker may have.
    pub quota: Quota,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServerReply {
    /// The version that both speak.
    Hello {
        /// The highest that both speak.
        version: u16,
        /// db-server's name, the form of a VM's name.
        name: String,
        /// What the asker may have.
        quota: Quota,
    },
    /// How much of an image is there.
    Image {
        /// The image.
        digest: Digest,
        /// Bytes from its start.
        received: u64,
        /// Whether it is complete and was checked, so that a VM can be built of it.
        complete: bool,
    },
    /// A VM was built.
    Built(Built),
    /// Some of the asker's VMs.
    Vms {
        /// At most [`MAX_ENTRIES`].
        vms: Vec<VmEntry>,
        /// Whether there are more behind the last.
        more: bool,
    },
    /// It was done.
    Done,
    /// About the machine.
    Facts(Facts),
    /// It was not done.
    Failed(Failure),
}

impl Message for ServerReply {
    const KIND: Kind = Kind::ServerReply;

    fn validate(&self) -> Result<(), MessageError> {
        match self {
            Self::Hello { name, .. } => check_names([name]),
            Self::Vms { vms, .. } => {
                check_len("a list of VMs", vms.len(), MAX_ENTRIES)?;
                check_names(vms.iter().map(|vm| &vm.name))
            }
            Self::Failed(failure) => failure.validate(),
            _ => Ok(()),
        }
    }
}

/// How a VM ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EndReason {
    /// It powered off.
    Poweroff,
    /// It asked for a reboot.
    Reboot,
    /// It suspended itself.
    Suspend,
    /// It crashed.
    Crash,
    /// Its watchdog was not fed.
    Watchdog,
    /// It asked for a soft reset.
    SoftReset,
    /// It gave an exit status, 0 to 127.
    Status(u8),
    /// It was destroyed.
    Destroyed,
}

impl EndReason {
    pub(super) fn validate(self) -> Result<(), MessageError> {
        match self {
            Self::Status(status) => check_len("an exit status", usize::from(status), 127),
            _ => Ok(()),
        }
    }
}

/// What db-server says unasked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServerNotice {
    /// A VM of the controller has ended.
    Ended {
        /// Its domain id.
        domid: u16,
        /// Its name.
        name: String,
        /// How.
        reason: EndReason,
        /// Its [serial number](Built::serial).
        serial: u64,
    },
    /// The channel is closed after this, because of what the controller did.
    Dropped(Failure),
}

impl Message for ServerNotice {
    const KIND: Kind = Kind::ServerNotice;

    fn validate(&self) -> Result<(), MessageError> {
        match self {
            Self::Ended { name, reason, .. } => {
                check_names([name])?;
                reason.validate()
            }
            Self::Dropped(failure) => failure.validate(),
        }
    }
}
