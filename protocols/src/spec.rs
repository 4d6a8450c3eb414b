//! The boot spec: everything db-boot needs to know about one VM, apart from its images.
//!
//! On the wire: a [header](crate::header) with [`MAGIC`] and [`VERSION`], a body of at most [`MAX_BODY_LEN`] bytes, then
//! nothing. The body is a [`BootSpec`] in the postcard encoding, fields in the order of the struct.
//!
//! Postcard's wire format is published and stable: integers are LEB128 varints, strings carry their length,
//! options a tag byte, enums the index of their variant. Only the shortest encoding of a value is accepted,
//! so two specs are equal exactly when their bytes are.

use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::channel::{Channels, MAX_CHANNELS, first_channel_port};
pub use crate::header::HEADER_LEN;
use crate::header::{Header, HeaderError};
use crate::life::{Life, MAX_AFTER, MAX_READY_LEN, MAX_RESTART_DELAY_MS, MAX_RESTART_LIMIT};
use crate::module::{self, MAX_MODULE_LINE_LEN, MAX_MODULES, Module};
use crate::settings::{Settings, SettingsError};
use crate::store::StoreRole;

/// The first eight bytes of an encoded spec.
pub const MAGIC: [u8; 8] = *b"DBSPEC\0\0";
/// The format version that this crate writes, and the only one that it reads.
pub const VERSION: u16 = 1;
/// The longest body. The bounds of the single fields add up to less than 17000 bytes; the rest is room to
/// grow within the version.
pub const MAX_BODY_LEN: usize = 32768;

const HEADER: Header = Header { magic: MAGIC, version: VERSION, max_body_len: MAX_BODY_LEN };

/// The longest name of a VM in bytes: the console prefix `[name]` must leave room for a line.
pub const MAX_NAME_LEN: usize = 63;
/// The characters that a name may have besides letters and digits: those that need no quotes in a log or a file's name.
pub const NAME_PUNCTUATION: &str = "._-~+@:";
/// Xen's `DOMID_FIRST_RESERVED`: domain ids from here on are not those of domains.
pub const FIRST_RESERVED_DOMID: u16 = 0x7ff0;
/// The most vCPUs of a VM. Xen itself allows 8192 for PV; nothing we boot on has more than 512 CPUs.
pub const MAX_VCPUS: u32 = 512;
/// The most memory of a VM in KiB: 16 TiB, the machine memory that Xen on x86 supports at most.
pub const MAX_MEMORY_KIB: u64 = 16 << 30;
/// The longest command line in bytes: `start_info.cmd_line` has 1024 with the closing NUL.
pub const MAX_COMMAND_LINE_LEN: usize = 1023;
/// The longest name of an image in the archive in bytes.
pub const MAX_IMAGE_NAME_LEN: usize = 255;

/// The kind of a guest. The order of the variants is the wire format: additions go last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GuestKind {
    /// A 64-bit paravirtualised guest.
    Pv,
    /// A hardware-assisted guest without emulated devices.
    Pvh,
}

/// What becomes of a VM when it ends. The order of the variants is the wire format: additions go last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitAction {
    /// It is destroyed; everything it held is free again.
    Destroy,
    /// It stays, paused, for someone to look at.
    Preserve,
    /// It is destroyed, and built and started again from the same images; see [`Life::restart_limit`].
    Restart,
}

/// One VM. The order of the fields is the wire format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootSpec {
    /// 1 to [`MAX_NAME_LEN`] of `A-Z a-z 0-9` and [`NAME_PUNCTUATION`], the first a letter or digit, and not in the form of
    /// db-boot's time stamps, `1.234567`. Unique in a platform.
    pub name: String,
    /// What kind of guest it is.
    pub kind: GuestKind,
    /// The domain id it must get, `1..`[`FIRST_RESERVED_DOMID`]; `None` lets Xen choose.
    pub domid: Option<u16>,
    /// The domain's handle (UUID bytes in the order they are written); all zero for none.
    pub uuid: [u8; 16],
    /// vCPUs, `1..=`[`MAX_VCPUS`], those that are off when it starts included; see [`Processor::online`](crate::settings::Processor::online).
    pub vcpus: u32,
    /// Memory it starts with in KiB: a multiple of 4, `4..=`[`MAX_MEMORY_KIB`].
    pub memory_kib: u64,
    /// Memory it may grow to in KiB: a multiple of 4, at least `memory_kib`, at most [`MAX_MEMORY_KIB`].
    pub max_memory_kib: u64,
    /// The archive entry that holds its kernel.
    pub kernel: String,
    /// The archive entry that holds its RAM disk, if it has one. db-boot does not look into it.
    pub ramdisk: Option<String>,
    /// The kernel's command line: at most [`MAX_COMMAND_LINE_LEN`] bytes, none of them NUL.
    pub command_line: String,
    /// What happens when it powers off.
    pub on_poweroff: ExitAction,
    /// What happens when it asks for a reboot.
    pub on_reboot: ExitAction,
    /// What happens when it crashes.
    pub on_crash: ExitAction,
    /// How it lives besides.
    pub life: Life,
    /// The channels that it serves; a VM with channels has a `domid`.
    pub channels: Channels,
    /// What it may do and get besides.
    pub settings: Settings,
    /// What it has to do with a XenStore.
    pub store: StoreRole,
    /// The modules that its RAM disk consists of, if that is not one module: at most [`MAX_MODULES`], only of a PVH guest.
    pub modules: Vec<Module>,
}

/// Which of the two images of a spec an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageRole {
    /// [`BootSpec::kernel`].
    Kernel,
    /// [`BootSpec::ramdisk`].
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

impl BootSpec {
    /// A PV VM of one vCPU and `memory_kib` KiB, with the archive entry `kernel` as its kernel, and nothing that need not be said:
    /// Xen chooses its domain id, and it is destroyed however it ends.
    #[must_use]
    pub fn new(name: &str, kernel: &str, memory_kib: u64) -> Self {
        Self {
            name: name.into(),
            kind: GuestKind::Pv,
            domid: None,
            uuid: [0; 16],
            vcpus: 1,
            memory_kib,
            max_memory_kib: memory_kib,
            kernel: kernel.into(),
            ramdisk: None,
            command_line: String::new(),
            on_poweroff: ExitAction::Destroy,
            on_reboot: ExitAction::Destroy,
            on_crash: ExitAction::Destroy,
            life: Life::default(),
            channels: Channels::default(),
            settings: Settings::default(),
            store: StoreRole::None,
            modules: Vec::new(),
        }
    }

    /// Checks every field against its range, first to last, and reports the first that is wrong.
    pub fn validate(&self) -> Result<(), SpecError> {
        check_name(&self.name)?;
        check_domid(self.domid)?;
        if !(1..=MAX_VCPUS).contains(&self.vcpus) {
            return Err(SpecError::BadVcpus { vcpus: self.vcpus });
        }
        if let Some(online) = self.settings.processor.online
            && !(1..self.vcpus).contains(&online)
        {
            return Err(SpecError::BadOnline { online, vcpus: self.vcpus });
        }
        check_memory(self.memory_kib, self.max_memory_kib)?;
        check_image_name(ImageRole::Kernel, &self.kernel)?;
        if let Some(ramdisk) = &self.ramdisk {
            check_image_name(ImageRole::Ramdisk, ramdisk)?;
        }
        check_command_line(&self.command_line)?;
        self.life.validate()?;
        self.channels.validate(self.domid)?;
        self.settings.validate()?;
        self.store.validate(self.domid)?;
        module::validate(&self.modules, self.kind, self.ramdisk.is_some())?;
        Ok(())
    }

    /// The clients of its channels with the port that the builder opens for each.
    pub fn channel_ports(&self) -> impl Iterator<Item = (u16, u32)> {
        self.channels.clients.iter().copied().zip(first_channel_port(self.store)..)
    }

    /// vCPUs that are on when it starts.
    pub fn online_vcpus(&self) -> u32 {
        self.settings.processor.online.unwrap_or(self.vcpus)
    }

    /// The bytes of the spec, header included; a spec that is not valid is not encoded.
    pub fn encode(&self) -> Result<Vec<u8>, SpecError> {
        self.validate()?;
        Ok(HEADER.wrap(&self.encode_body()?)?)
    }

    /// Reads a spec back. Total: any bytes give a spec that [`validate`](Self::validate)s, or an error.
    pub fn decode(bytes: &[u8]) -> Result<Self, SpecError> {
        let body = HEADER.unwrap(bytes)?;
        let bad_body = |cause| SpecError::BadBody { length: body.len(), cause };
        let (spec, rest) = postcard::take_from_bytes::<Self>(body).map_err(bad_body)?;
        if !rest.is_empty() {
            return Err(SpecError::TrailingBytes { count: rest.len() });
        }
        spec.validate()?;
        if spec.encode_body()? != body {
            return Err(SpecError::NotCanonical);
        }
        Ok(spec)
    }

    fn encode_body(&self) -> Result<Vec<u8>, SpecError> {
        postcard::to_allocvec(self).map_err(|cause| SpecError::Encode { cause })
    }
}

/// Checks a VM's name; see [`BootSpec::name`].
pub fn check_name(name: &str) -> Result<(), SpecError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || NAME_PUNCTUATION.contains(c);
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if is_time_stamp(name) {
        Err(SpecError::NameIsTime { name: name.into() })
    } else if starts_well && name.len() <= MAX_NAME_LEN && name.chars().all(allowed) {
        Ok(())
    } else {
        Err(SpecError::BadName { name: name.into() })
    }
}

/// Whether `text` is the time in seconds that db-boot's log lines begin with: digits, a dot, six digits.
///
/// A guest's lines begin with the guest's name at that place, so no name has this form.
pub fn is_time_stamp(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.split_once('.')
        .is_some_and(|(seconds, micros)| digits(seconds) && digits(micros) && micros.len() == 6)
}

/// Checks a domain id; see [`BootSpec::domid`].
pub fn check_domid(domid: Option<u16>) -> Result<(), SpecError> {
    match domid {
        Some(domid) if !(1..FIRST_RESERVED_DOMID).contains(&domid) => Err(SpecError::BadDomid { domid }),
        _ => Ok(()),
    }
}

/// Checks start and maximum memory, both in KiB; see [`BootSpec::memory_kib`].
pub fn check_memory(kib: u64, max_kib: u64) -> Result<(), SpecError> {
    let whole_pages = |kib: u64| kib.is_multiple_of(4);
    if !(4..=MAX_MEMORY_KIB).contains(&kib) || !whole_pages(kib) {
        return Err(SpecError::BadMemory { kib });
    }
    if !(kib..=MAX_MEMORY_KIB).contains(&max_kib) || !whole_pages(max_kib) {
        return Err(SpecError::BadMaxMemory { kib, max_kib });
    }
    Ok(())
}

/// Checks the name of an archive entry; see [`SpecError::BadImageName`] for the rule.
pub fn check_image_name(role: ImageRole, name: &str) -> Result<(), SpecError> {
    let bad_part = |part: &str| matches!(part, "" | "." | "..");
    if name.len() > MAX_IMAGE_NAME_LEN || name.chars().any(char::is_control) || name.split('/').any(bad_part)
    {
        return Err(SpecError::BadImageName { role, name: name.into() });
    }
    Ok(())
}

/// Checks a command line; see [`BootSpec::command_line`].
pub fn check_command_line(command_line: &str) -> Result<(), SpecError> {
    if let Some(at) = command_line.find('\0') {
        return Err(SpecError::CommandLineHasNul { at });
    }
    if command_line.len() > MAX_COMMAND_LINE_LEN {
        return Err(SpecError::CommandLineTooLong { length: command_line.len() });
    }
    Ok(())
}
