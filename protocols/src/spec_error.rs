//! What can be wrong with a spec.

use alloc::string::String;
use thiserror::Error;

use crate::header::HeaderError;
use crate::limits::{
    FIRST_RESERVED_DOMID, MAX_AFTER, MAX_CHANNELS, MAX_COMMAND_LINE_LEN, MAX_IMAGE_NAME_LEN, MAX_MEMORY_KIB,
    MAX_MODULE_LINE_LEN, MAX_MODULES, MAX_NAME_LEN, MAX_READY_LEN, MAX_RESTART_DELAY_MS, MAX_RESTART_LIMIT,
    MAX_VCPUS, NAME_PUNCTUATION,
};
use crate::settings::SettingsError;

/// Which of the two images of a spec an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageRole {
    /// [`BootSpec::kernel`](crate::BootSpec::kernel).
    Kernel,
    /// [`BootSpec::ramdisk`](crate::BootSpec::ramdisk).
    Ramdisk,
}

impl core::fmt::Display for ImageRole {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Kernel => "kernel",
            Self::Ramdisk => "ramdisk",
        })
    }
}

/// Why a spec is not valid, or bytes are not a spec.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SpecError {
    /// The bytes around the body are wrong.
    #[error("boot spec: {0}")]
    Header(#[from] HeaderError),
    /// Bytes of the body follow the spec.
    #[error("boot spec: {count} bytes follow its end within the body: the file is corrupt")]
    TrailingBytes {
        /// How many.
        count: usize,
    },
    /// The body does not decode.
    #[error("boot spec: the body of {length} bytes does not decode ({cause}): the file is corrupt")]
    BadBody {
        /// Length of the body in bytes.
        length: usize,
        /// What the decoder says.
        cause: postcard::Error,
    },
    /// The body decodes, but a shorter encoding of the same value exists.
    #[error("boot spec: the body is not in its shortest form: not a file that `domb compile` wrote")]
    NotCanonical,
    /// A body could not be encoded. Cannot happen for a valid spec.
    #[error("boot spec: cannot be encoded ({cause})")]
    Encode {
        /// What the encoder says.
        cause: postcard::Error,
    },
    /// The name is empty, too long, or has a character it must not have.
    #[error(
        "name {name:?}: must be 1 to {MAX_NAME_LEN} letters, digits or characters of \"{NAME_PUNCTUATION}\" and start with \
         a letter or digit"
    )]
    BadName {
        /// The name.
        name: String,
    },
    /// The name could be taken for the time in a line of db-boot's.
    #[error("name {name:?}: lines of db-boot's begin with such a time; add a letter to it")]
    NameIsTime {
        /// The name.
        name: String,
    },
    /// The domain id is 0 (Dom0) or reserved by Xen.
    #[error(
        "domid {domid}: must be 1 to {}; 0 is Dom0, higher ones are reserved by Xen; leave it out and Xen chooses",
        FIRST_RESERVED_DOMID.saturating_sub(1)
    )]
    BadDomid {
        /// The id.
        domid: u16,
    },
    /// No vCPU, or more than [`MAX_VCPUS`].
    #[error("{vcpus} vCPUs: must be 1 to {MAX_VCPUS}")]
    BadVcpus {
        /// The number asked for.
        vcpus: u32,
    },
    /// No vCPU is on at the start, or not less than there are.
    #[error(
        "{online} of {vcpus} vCPUs on at the start: must be 1 at least, and is left out if it is all of them"
    )]
    BadOnline {
        /// Those that are to be on.
        online: u32,
        /// All of them.
        vcpus: u32,
    },
    /// No memory, too much, or a part of a page.
    #[error(
        "memory of {kib} KiB: must be a multiple of 4 KiB (one page), from 4 KiB to {MAX_MEMORY_KIB} KiB"
    )]
    BadMemory {
        /// KiB asked for.
        kib: u64,
    },
    /// The maximum is below the start, too large, or has a part of a page.
    #[error(
        "maximum memory of {max_kib} KiB: must be a multiple of 4 KiB, from the {kib} KiB the VM starts with to \
         {MAX_MEMORY_KIB} KiB"
    )]
    BadMaxMemory {
        /// KiB it starts with.
        kib: u64,
        /// KiB it may grow to.
        max_kib: u64,
    },
    /// An image's name could not be that of an archive entry.
    #[error(
        "{role} {name:?}: must name an entry of the archive: 1 to {MAX_IMAGE_NAME_LEN} bytes, no control \
         characters, no leading '/', no empty, '.' or '..' part"
    )]
    BadImageName {
        /// Which image.
        role: ImageRole,
        /// The name.
        name: String,
    },
    /// The command line does not fit into `start_info`.
    #[error("command line of {length} bytes: Xen's start_info has room for {MAX_COMMAND_LINE_LEN}")]
    CommandLineTooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// No restart, or more than anybody means.
    #[error(
        "restart limit of {limit}: must be 1 to {MAX_RESTART_LIMIT}; a VM that is not to be restarted has no \
         action \"restart\""
    )]
    BadRestartLimit {
        /// The limit asked for.
        limit: u32,
    },
    /// Too long a wait.
    #[error("restart delay of {delay_ms} ms: must be 0 to {MAX_RESTART_DELAY_MS} ms (an hour)")]
    BadRestartDelay {
        /// The delay asked for, in milliseconds.
        delay_ms: u32,
    },
    /// It starts after too many VMs.
    #[error("it starts after {count} VMs: {MAX_AFTER} can be named; name those that start last")]
    AfterTooMany {
        /// How many are named.
        count: usize,
    },
    /// It starts after the same VM twice.
    #[error("it starts after {name:?} twice: name it once")]
    AfterTwice {
        /// The VM.
        name: String,
    },
    /// The text by which a VM shows that it is ready could not stand in a line of its console.
    #[error(
        "ready text {ready:?}: must be 1 to {MAX_READY_LEN} bytes within one line, without control characters"
    )]
    BadReady {
        /// The text.
        ready: String,
    },
    /// It serves too many channels.
    #[error("it serves {count} channels: must be at most {MAX_CHANNELS}")]
    TooManyChannels {
        /// How many are asked for.
        count: usize,
    },
    /// A channel that cannot be settled beforehand.
    #[error(
        "a channel for domain {client}: must be for another domain, one for each, and of a VM whose own `domid` is fixed"
    )]
    BadChannel {
        /// The client's domain id.
        client: u16,
    },
    /// It serves a XenStore, and nobody could name it.
    #[error("it serves a XenStore: its `domid` must be fixed")]
    StoreWithoutDomid,
    /// Its XenStore is itself.
    #[error("domain {domid} is to serve its own XenStore: another must")]
    OwnStore {
        /// Its domain id.
        domid: u16,
    },
    /// A PV guest has no list of modules.
    #[error(
        "modules: a PV guest is told of one RAM disk, and has no list of modules: use type = \"pvh\", or `ramdisk` alone"
    )]
    ModulesOfPv,
    /// Too many modules, or modules of no RAM disk.
    #[error("{count} modules: there must be at most {MAX_MODULES}, and a RAM disk that holds them")]
    BadModules {
        /// How many there are.
        count: usize,
    },
    /// A module that is empty or has a bad command line.
    #[error(
        "module {index}: must have 1 byte at least, and a command line of at most {MAX_MODULE_LINE_LEN} bytes without NUL"
    )]
    BadModule {
        /// Which, from 0 on.
        index: usize,
    },
    /// A list of modules where there can be none.
    #[error(
        "RAM disk: `multiboot_mod` says that it is a list of modules, which only a PV guest with a RAM disk can be told: a PVH guest \
         has `modules`"
    )]
    BadModuleList,
    /// Shadow paging of a PV guest.
    #[error("`hap`, `oos` and `shadow_memory` are for PVH guests: a PV guest's page tables are its own")]
    PagingOfPv,
    /// What it may do or get is out of range.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The command line has a NUL, behind which no kernel would look.
    #[error("command line: a NUL character at byte {at} would end it early")]
    CommandLineHasNul {
        /// Where the first one is.
        at: usize,
    },
}
