//! The platform spec: what holds for all VMs of a RAM disk together.
//!
//! It is the entry [`PLATFORM_ENTRY`](crate::archive::PLATFORM_ENTRY) of db-boot's RAM disk; without the entry, everything is as
//! [`PlatformSpec::default`] says. On the wire: a [header](crate::header) with [`MAGIC`] and [`VERSION`], then [`PlatformSpec`]
//! in the postcard encoding, fields in the order of the struct, in its shortest form, then nothing.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::control::{DEFAULT_SHUTDOWN_MS, MAX_SHUTDOWN_MS};
use crate::header::{Header, HeaderError};
pub use crate::limits::MAX_VMS;
use crate::server::{self, ServerSpec, ServerSpecError};
use crate::spec::{BootSpec, MAX_COMMAND_LINE_LEN, MAX_MEMORY_KIB, SpecError, check_name};
use crate::store::StoreRole;

/// The first eight bytes of an encoded platform spec.
pub const MAGIC: [u8; 8] = *b"DBPLAT\0\0";
/// The format version that this crate writes, and the only one that it reads.
pub const VERSION: u16 = 1;
/// The longest body. The bounds of the fields add up to less; the rest is room to grow within the version.
pub const MAX_BODY_LEN: usize = 1 << 18;

/// The most names that [`Ends::With`] holds.
pub const MAX_ENDS: usize = 32;
/// The longest time that a VM can be given to become ready, in milliseconds: an hour.
pub const MAX_READY_TIMEOUT_MS: u32 = 3_600_000;

const HEADER: Header = Header { magic: MAGIC, version: VERSION, max_body_len: MAX_BODY_LEN };

/// What happens to the other VMs when one cannot be planned or built. The order of the variants is the wire format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Policy {
    /// None is started: a platform is all its VMs.
    #[default]
    All,
    /// The others are started.
    Each,
}

/// What ends the platform. Besides, it always ends when a VM that is critical ends badly. VMs that run when it ends are
/// destroyed. The order of the variants is the wire format.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ends {
    /// The end of the last VM.
    #[default]
    Last,
    /// The end of the last VM that is critical: the others are there to serve these.
    Critical,
    /// The end of any of these VMs: 1 to [`MAX_ENDS`] names, none twice.
    With(Vec<String>),
    /// Nothing else: the builder stays when no VM runs any more.
    Never,
}

/// What the VMs may use together, as far as it is limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// The memory that they start with, in KiB: `1..=`[`MAX_MEMORY_KIB`].
    pub memory_kib: Option<u64>,
    /// Their vCPUs; not 0.
    pub vcpus: Option<u32>,
    /// How many they are: `1..=`[`MAX_VMS`].
    pub vms: Option<u32>,
}

/// What happens when a VM is not ready in time. The order of the variants is the wire format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LateAction {
    /// Those that start after it are given up; it runs on.
    #[default]
    GiveUp,
    /// Those that start after it start all the same.
    Start,
    /// The platform ends, as a failure of the VM.
    End,
}

/// How long a VM may take to show that it is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// Milliseconds from its start: `1..=`[`MAX_READY_TIMEOUT_MS`].
    pub timeout_ms: u32,
    /// What happens then.
    pub late: LateAction,
}

/// How much db-boot says. The order of the variants is the wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogLevel {
    /// What went wrong.
    Error,
    /// And what might.
    Warn,
    /// And what happens.
    Info,
    /// And why.
    Debug,
}

/// What holds for all VMs of a RAM disk together. The order of the fields is the wire format.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlatformSpec {
    /// What happens to the other VMs when one cannot be planned or built.
    pub policy: Policy,
    /// What ends the platform.
    pub ends: Ends,
    /// What the VMs may use together.
    pub limits: Limits,
    /// How long VMs may take to become ready; for ever, without.
    pub readiness: Option<Readiness>,
    /// How much db-boot says, unless its command line has `loglevel=`.
    pub log_level: Option<LogLevel>,
    /// What db-server serves, and to whom; db-boot serves nothing.
    pub server: Option<ServerSpec>,
    /// Milliseconds that a VM gets to power itself off when it is asked to, `0..=`[`MAX_SHUTDOWN_MS`]; without,
    /// [`DEFAULT_SHUTDOWN_MS`].
    pub shutdown_ms: Option<u32>,
}

/// Why a platform spec is not valid, or bytes are not a platform spec.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PlatformSpecError {
    /// The bytes around the body are wrong.
    #[error("platform spec: {0}")]
    Header(#[from] HeaderError),
    /// The body does not decode.
    #[error("platform spec: the body of {length} bytes does not decode ({cause}): it is corrupt")]
    BadBody {
        /// Length of the body in bytes.
        length: usize,
        /// What the decoder says.
        cause: postcard::Error,
    },
    /// The body decodes, but bytes are left, or a shorter encoding of the same value exists.
    #[error("platform spec: the body is not in its shortest form: domb did not write it")]
    NotCanonical,
    /// The body could not be encoded. Cannot happen for a valid spec.
    #[error("platform spec: cannot be encoded ({cause})")]
    Encode {
        /// What the encoder says.
        cause: postcard::Error,
    },
    /// The name of a VM could not be one.
    #[error("{0}")]
    Name(#[from] SpecError),
    /// No VM, or too many, whose end would end the platform.
    #[error("{count} VMs whose end ends the platform: 1 to {MAX_ENDS} can be named")]
    EndsCount {
        /// How many are named.
        count: usize,
    },
    /// A VM is named twice.
    #[error("VM {name:?} is named twice: name it once")]
    EndsTwice {
        /// Its name.
        name: String,
    },
    /// A limit that leaves nothing, or is none.
    #[error("limit of {value} {unit}: must be 1 to {most}")]
    BadLimit {
        /// The limit.
        value: u64,
        /// What it counts.
        unit: &'static str,
        /// The highest that can be set.
        most: u64,
    },
    /// No time, or more than anybody waits.
    #[error("{timeout_ms} ms to become ready: must be 1 to {MAX_READY_TIMEOUT_MS} ms (an hour)")]
    BadReadyTimeout {
        /// The time in milliseconds.
        timeout_ms: u32,
    },
    /// More time than anybody waits.
    #[error("{shutdown_ms} ms to power off: must be at most {MAX_SHUTDOWN_MS} ms (ten minutes)")]
    BadShutdown {
        /// The time in milliseconds.
        shutdown_ms: u32,
    },
    /// What db-server is to serve is not valid.
    #[error(transparent)]
    Server(#[from] ServerSpecError),
}

impl PlatformSpec {
    /// Checks every field against its range, first to last, and reports the first that is wrong.
    pub fn validate(&self) -> Result<(), PlatformSpecError> {
        if let Ends::With(names) = &self.ends {
            check_ends(names)?;
        }
        self.limits.validate()?;
        match self.readiness {
            Some(Readiness { timeout_ms, .. }) if !(1..=MAX_READY_TIMEOUT_MS).contains(&timeout_ms) => {
                return Err(PlatformSpecError::BadReadyTimeout { timeout_ms });
            }
            _ => {}
        }
        if let Some(shutdown_ms) = self.shutdown_ms.filter(|time| *time > MAX_SHUTDOWN_MS) {
            return Err(PlatformSpecError::BadShutdown { shutdown_ms });
        }
        Ok(self.server.as_ref().map_or(Ok(()), ServerSpec::validate)?)
    }

    /// Milliseconds that a VM gets to power itself off when it is asked to.
    pub fn shutdown_time_ms(&self) -> u32 {
        self.shutdown_ms.unwrap_or(DEFAULT_SHUTDOWN_MS)
    }

    /// The bytes of the spec, header included; a spec that is not valid is not encoded.
    pub fn encode(&self) -> Result<Vec<u8>, PlatformSpecError> {
        self.validate()?;
        Ok(HEADER.wrap(&self.encode_body()?)?)
    }

    /// Reads a spec back. Total: any bytes give a spec that [`validate`](Self::validate)s, or an error.
    pub fn decode(bytes: &[u8]) -> Result<Self, PlatformSpecError> {
        let body = HEADER.unwrap(bytes)?;
        let bad_body = |cause| PlatformSpecError::BadBody { length: body.len(), cause };
        let spec: Self = postcard::from_bytes(body).map_err(bad_body)?;
        spec.validate()?;
        if spec.encode_body()? != body {
            return Err(PlatformSpecError::NotCanonical);
        }
        Ok(spec)
    }

    fn encode_body(&self) -> Result<Vec<u8>, PlatformSpecError> {
        postcard::to_allocvec(self).map_err(|cause| PlatformSpecError::Encode { cause })
    }
}

impl Limits {
    fn validate(&self) -> Result<(), PlatformSpecError> {
        let most_vms = u64::try_from(MAX_VMS).unwrap_or(u64::MAX);
        let limits = [
            (self.memory_kib, "KiB of memory", MAX_MEMORY_KIB),
            (self.vcpus.map(u64::from), "vCPUs", u64::from(u32::MAX)),
            (self.vms.map(u64::from), "VMs", most_vms),
        ];
        for (value, unit, most) in limits {
            if let Some(value) = value.filter(|value| !(1..=most).contains(value)) {
                return Err(PlatformSpecError::BadLimit { value, unit, most });
            }
        }
        Ok(())
    }
}

/// Checks the names of the VMs whose end ends the platform; see [`Ends::With`].
pub fn check_ends(names: &[String]) -> Result<(), PlatformSpecError> {
    if !(1..=MAX_ENDS).contains(&names.len()) {
        return Err(PlatformSpecError::EndsCount { count: names.len() });
    }
    for (index, name) in names.iter().enumerate() {
        check_name(name)?;
        if names.iter().take(index).any(|earlier| earlier == name) {
            return Err(PlatformSpecError::EndsTwice { name: name.clone() });
        }
    }
    Ok(())
}

/// Something that a platform spec and the VMs do not agree on: both are right on their own.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Disagreement {
    /// The VMs use more together than they may.
    #[error("there are {} together, the platform's limit is {}", what.amount(*used), what.amount(*limit))]
    OverLimit {
        /// Which limit.
        what: Limited,
        /// What they use.
        used: u64,
        /// What they may use.
        limit: u64,
    },
    /// A VM is named that there is not.
    #[error("the platform is to end with {name:?}, and there is no VM of that name")]
    EndsWithNobody {
        /// The name.
        name: String,
    },
    /// The platform ends with its critical VMs, and has none.
    #[error("the platform is to end with the last critical VM, and no VM is critical")]
    NothingCritical,
    /// A controller is named that there is not.
    #[error("{name:?} is to be a controller, and there is no VM of that name")]
    ControllerIsNobody {
        /// The name.
        name: String,
    },
    /// A controller whose channel cannot be settled before it is built.
    #[error("VM {name:?} is a controller and needs a `domid`: db-server opens its channel before it exists")]
    ControllerWithoutDomid {
        /// The controller.
        name: String,
    },
    /// The words of a controller's command line and of its channel do not fit together.
    #[error(
        "VM {name:?} is a controller: its command line of {length} bytes leaves no room for the {} of its channel",
        server::CHANNEL_WORD_ROOM
    )]
    NoRoomForChannel {
        /// The controller.
        name: String,
        /// Length of its command line.
        length: usize,
    },
    /// A VM has a domain id that a controller may give to others.
    #[error("VM {name:?} has domain id {domid}, which is among those of controller {controller:?}")]
    DomidIsControllers {
        /// The VM.
        name: String,
        /// Its domain id.
        domid: u16,
        /// The controller.
        controller: String,
    },
    /// There are two XenStores.
    #[error("VMs {first:?} and {second:?} both serve a XenStore: there can be one")]
    TwoStores {
        /// The first of them.
        first: String,
        /// The second.
        second: String,
    },
    /// A VM's XenStore is served by a VM that is none, or is not there.
    #[error(
        "VM {name:?} is a client of a XenStore of domain {server}, and no VM with that domain id serves one"
    )]
    StoreIsNobody {
        /// The client.
        name: String,
        /// The domain id of its server.
        server: u16,
    },
    /// A VM that would be taken for db-server.
    #[error("a VM is called {name:?}, which is what controllers know db-server by", name = server::NAME)]
    NamedLikeServer,
}

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Limited {
    /// [`Limits::memory_kib`].
    Memory,
    /// [`Limits::vcpus`].
    Vcpus,
    /// [`Limits::vms`], or [`MAX_VMS`].
    Vms,
}

impl Limited {
    /// So much of it, in words.
    fn amount(self, number: u64) -> Amount {
        Amount { what: self, number }
    }
}

/// So much of something that is limited.
struct Amount {
    what: Limited,
    number: u64,
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, number } = self;
        match what {
            Limited::Memory if number.is_multiple_of(1024) => {
                write!(f, "{} MiB of memory", number.checked_div(1024).unwrap_or_default())
            }
            Limited::Memory => write!(f, "{number} KiB of memory"),
            Limited::Vcpus => write!(f, "{number} vCPUs"),
            Limited::Vms => write!(f, "{number} VMs"),
        }
    }
}

impl PlatformSpec {
    /// Everything that the platform and `vms` do not agree on.
    pub fn disagreements(&self, vms: &[&BootSpec]) -> Vec<Disagreement> {
        let mut found = Vec::new();
        let vms_limit = u64::try_from(MAX_VMS).unwrap_or(u64::MAX);
        let count = u64::try_from(vms.len()).unwrap_or(u64::MAX);
        let sum = |of: fn(&BootSpec) -> u64| vms.iter().fold(0_u64, |sum, vm| sum.saturating_add(of(vm)));
        let used = [
            (Limited::Memory, sum(|vm| vm.memory_kib), self.limits.memory_kib),
            (Limited::Vcpus, sum(|vm| u64::from(vm.vcpus)), self.limits.vcpus.map(u64::from)),
            (Limited::Vms, count, Some(self.limits.vms.map_or(vms_limit, u64::from))),
        ];
        for (what, used, limit) in used {
            if let Some(limit) = limit.filter(|limit| used > *limit) {
                found.push(Disagreement::OverLimit { what, used, limit });
            }
        }
        match &self.ends {
            Ends::Critical if !vms.iter().any(|vm| vm.life.critical) => {
                found.push(Disagreement::NothingCritical);
            }
            Ends::With(names) => {
                let missing = names.iter().filter(|name| !vms.iter().any(|vm| vm.name == **name));
                found.extend(missing.map(|name| Disagreement::EndsWithNobody { name: name.clone() }));
            }
            Ends::Last | Ends::Critical | Ends::Never => {}
        }
        if let Some(server) = &self.server {
            found.extend(server_disagreements(server, vms));
        }
        found.extend(store_disagreements(vms));
        found
    }
}

/// What the VMs do not agree on about their XenStore.
fn store_disagreements(vms: &[&BootSpec]) -> Vec<Disagreement> {
    let mut servers = vms.iter().filter(|vm| vm.store == StoreRole::Server);
    let first = servers.next();
    let mut found: Vec<_> = first
        .zip(servers.next())
        .map(|(first, second)| Disagreement::TwoStores {
            first: first.name.clone(),
            second: second.name.clone(),
        })
        .into_iter()
        .collect();
    for vm in vms {
        if let StoreRole::Client { server } = vm.store
            && first.and_then(|first| first.domid) != Some(server)
        {
            found.push(Disagreement::StoreIsNobody { name: vm.name.clone(), server });
        }
    }
    found
}

/// Everything that db-server's part of a platform and `vms` do not agree on.
fn server_disagreements(server: &ServerSpec, vms: &[&BootSpec]) -> Vec<Disagreement> {
    let mut found = Vec::new();
    for controller in &server.controllers {
        let name = controller.vm.clone();
        match vms.iter().find(|vm| vm.name == name) {
            None => found.push(Disagreement::ControllerIsNobody { name }),
            Some(vm) if vm.domid.is_none() => found.push(Disagreement::ControllerWithoutDomid { name }),
            Some(vm) => {
                let length = vm.command_line.len();
                if length.saturating_add(server::CHANNEL_WORD_ROOM) > MAX_COMMAND_LINE_LEN {
                    found.push(Disagreement::NoRoomForChannel { name, length });
                }
            }
        }
    }
    for vm in vms {
        let owner = |domid| server.controllers.iter().find(|controller| controller.has_domid(domid));
        if let Some((domid, controller)) = vm.domid.and_then(|domid| Some((domid, owner(domid)?))) {
            let (name, controller) = (vm.name.clone(), controller.vm.clone());
            found.push(Disagreement::DomidIsControllers { name, domid, controller });
        }
        if vm.name == server::NAME {
            found.push(Disagreement::NamedLikeServer);
        }
    }
    found
}
