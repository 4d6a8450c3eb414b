//! The control spec: what the control domain is told about its platform beyond the platform spec.
//!
//! It is the entry [`CONTROL_ENTRY`](crate::archive::CONTROL_ENTRY) of the control domain's RAM disk; without the entry, everything
//! is as [`ControlSpec::default`] says. On the wire: a [header](crate::header) with [`MAGIC`] and [`VERSION`], then [`ControlSpec`] in
//! the postcard encoding, fields in the order of the struct, in its shortest form, then nothing.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::header::{Header, HeaderError};
use crate::spec::{BootSpec, MAX_COMMAND_LINE_LEN, SpecError, check_name};

/// The first eight bytes of an encoded control spec.
pub const MAGIC: [u8; 8] = *b"DBCTRL\0\0";
/// The format version that this crate writes, and the only one that it reads.
pub const VERSION: u16 = 2;
/// The longest body: more than the bounds of the fields add up to.
pub const MAX_BODY_LEN: usize = 1 << 13;

/// The control domain's name in the words for its clients.
pub const NAME: &str = "control";
/// The most clients of a control domain.
pub const MAX_CLIENTS: usize = 16;
/// The time that a VM gets to power itself off unless the platform file says otherwise, in milliseconds.
pub const DEFAULT_SHUTDOWN_MS: u32 = 10_000;
/// The longest such time, in milliseconds: ten minutes.
pub const MAX_SHUTDOWN_MS: u32 = 600_000;
/// The longest that ` ` and the word of a channel to the control domain make a command line, in bytes.
pub const CHANNEL_WORD_ROOM: usize = 48;

const HEADER: Header = Header { magic: MAGIC, version: VERSION, max_body_len: MAX_BODY_LEN };

/// What a client may ask for. The order of the fields is the wire format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "a list of rights, each of which is there or not")]
pub struct ClientRights {
    /// The VMs of a platform.
    pub list: bool,
    /// Platforms, and VMs in them.
    pub create: bool,
    /// The end of a VM.
    pub shutdown: bool,
    /// The end of a platform.
    pub terminate: bool,
    /// What a platform was built of.
    pub measure: bool,
    /// What the control domain did, for this client and for all others.
    pub journal: bool,
}

/// A VM of the platform that may ask the control domain. The order of the fields is the wire format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlClient {
    /// Its name. It has a fixed domain id.
    pub vm: String,
    /// What it may ask for.
    pub may: ClientRights,
}

/// What the control domain is told. The order of the fields is the wire format: additions go last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlSpec {
    /// What its platform is called; the form of a VM's name.
    pub platform: String,
    /// Milliseconds that a VM gets to power itself off: `0..=`[`MAX_SHUTDOWN_MS`].
    pub shutdown_ms: u32,
    /// Who may ask it: at most [`MAX_CLIENTS`], no VM twice.
    pub clients: Vec<ControlClient>,
}

impl Default for ControlSpec {
    fn default() -> Self {
        Self { platform: "platform".into(), shutdown_ms: DEFAULT_SHUTDOWN_MS, clients: Vec::new() }
    }
}

/// Why a control spec is not valid, or bytes are not a control spec.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ControlSpecError {
    /// The bytes around the body are wrong.
    #[error("control spec: {0}")]
    Header(#[from] HeaderError),
    /// The body does not decode.
    #[error("control spec: the body of {length} bytes does not decode ({cause}): it is corrupt")]
    BadBody {
        /// Length of the body in bytes.
        length: usize,
        /// What the decoder says.
        cause: postcard::Error,
    },
    /// The body decodes, but bytes are left, or a shorter encoding of the same value exists.
    #[error("control spec: the body is not in its shortest form: domb did not write it")]
    NotCanonical,
    /// The body could not be encoded. Cannot happen for a valid spec.
    #[error("control spec: cannot be encoded ({cause})")]
    Encode {
        /// What the encoder says.
        cause: postcard::Error,
    },
    /// The name of the platform or of a client could not be one.
    #[error("{0}")]
    Name(#[from] SpecError),
    /// More time than anybody waits.
    #[error("{shutdown_ms} ms to power off: must be at most {MAX_SHUTDOWN_MS} ms (ten minutes)")]
    BadShutdown {
        /// The time in milliseconds.
        shutdown_ms: u32,
    },
    /// Too many clients.
    #[error("{count} clients: must be at most {MAX_CLIENTS}")]
    TooManyClients {
        /// How many there are.
        count: usize,
    },
    /// A client is named twice.
    #[error("client {vm:?} is named twice: name it once")]
    ClientTwice {
        /// Its name.
        vm: String,
    },
}

/// Something that a control spec and the VMs do not agree on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ControlDisagreement {
    /// A client is named that there is not.
    #[error("{vm:?} is to be a client of the control domain, and there is no VM of that name")]
    Nobody {
        /// The name.
        vm: String,
    },
    /// A client whose channel cannot be settled before it is built.
    #[error(
        "VM {vm:?} is a client of the control domain and needs a `domid`: its channel is opened before it exists"
    )]
    NoDomid {
        /// The client.
        vm: String,
    },
    /// The words of a client's command line and of its channel do not fit together.
    #[error(
        "VM {vm:?} is a client of the control domain: its command line of {length} bytes leaves no room for the \
         {CHANNEL_WORD_ROOM} of its channel"
    )]
    NoRoom {
        /// The client.
        vm: String,
        /// Length of its command line.
        length: usize,
    },
    /// A VM is to show on its console that it is ready, which the control domain does not see.
    #[error(
        "VM {vm:?} has a `ready` text, and the control domain does not see consoles: leave it out, and those that start after \
         the VM start when it has started"
    )]
    Ready {
        /// The VM.
        vm: String,
    },
}

impl ControlDisagreement {
    /// The VM that it is about.
    pub fn vm(&self) -> &str {
        match self {
            Self::Nobody { vm } | Self::NoDomid { vm } | Self::NoRoom { vm, .. } | Self::Ready { vm } => vm,
        }
    }
}

impl ControlSpec {
    /// Checks every field against its range, first to last, and reports the first that is wrong.
    pub fn validate(&self) -> Result<(), ControlSpecError> {
        check_name(&self.platform)?;
        if self.shutdown_ms > MAX_SHUTDOWN_MS {
            return Err(ControlSpecError::BadShutdown { shutdown_ms: self.shutdown_ms });
        }
        let count = self.clients.len();
        if count > MAX_CLIENTS {
            return Err(ControlSpecError::TooManyClients { count });
        }
        for (index, client) in self.clients.iter().enumerate() {
            check_name(&client.vm)?;
            if self.clients.iter().take(index).any(|earlier| earlier.vm == client.vm) {
                return Err(ControlSpecError::ClientTwice { vm: client.vm.clone() });
            }
        }
        Ok(())
    }

    /// The bytes of the spec, header included; a spec that is not valid is not encoded.
    pub fn encode(&self) -> Result<Vec<u8>, ControlSpecError> {
        self.validate()?;
        Ok(HEADER.wrap(&self.encode_body()?)?)
    }

    /// Reads a spec back. Total: any bytes give a spec that [`validate`](Self::validate)s, or an error.
    pub fn decode(bytes: &[u8]) -> Result<Self, ControlSpecError> {
        let body = HEADER.unwrap(bytes)?;
        let bad_body = |cause| ControlSpecError::BadBody { length: body.len(), cause };
        let spec: Self = postcard::from_bytes(body).map_err(bad_body)?;
        spec.validate()?;
        if spec.encode_body()? != body {
            return Err(ControlSpecError::NotCanonical);
        }
        Ok(spec)
    }

    /// Everything that the spec and `vms` do not agree on.
    pub fn disagreements<'v>(
        &self,
        vms: impl Iterator<Item = &'v BootSpec> + Clone,
    ) -> Vec<ControlDisagreement> {
        let mut found = Vec::new();
        for client in &self.clients {
            let vm = client.vm.clone();
            match vms.clone().find(|spec| spec.name == vm) {
                None => found.push(ControlDisagreement::Nobody { vm }),
                Some(spec) if spec.domid.is_none() => found.push(ControlDisagreement::NoDomid { vm }),
                Some(spec) => {
                    let length = spec.command_line.len();
                    if length.saturating_add(CHANNEL_WORD_ROOM) > MAX_COMMAND_LINE_LEN {
                        found.push(ControlDisagreement::NoRoom { vm, length });
                    }
                }
            }
        }
        let loud = vms.filter(|spec| spec.life.ready.is_some());
        found.extend(loud.map(|spec| ControlDisagreement::Ready { vm: spec.name.clone() }));
        found
    }

    fn encode_body(&self) -> Result<Vec<u8>, ControlSpecError> {
        postcard::to_allocvec(self).map_err(|cause| ControlSpecError::Encode { cause })
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;
    use crate::channel::{ChannelWord, End};

    fn sample() -> ControlSpec {
        let may = ClientRights { list: true, terminate: true, ..ClientRights::default() };
        let client = |vm: &str, may| ControlClient { vm: vm.into(), may };
        ControlSpec {
            platform: "shop".into(),
            shutdown_ms: 300,
            clients: alloc::vec![client("web", may), client("b", ClientRights::default())],
        }
    }

    #[test]
    fn the_bytes_are_pinned() {
        let body = b"\x04shop\xac\x02\x02\x03web\x01\x00\x00\x01\x00\x00\x01b\x00\x00\x00\x00\x00\x00";
        let bytes = sample().encode().unwrap();
        assert!(bytes.starts_with(b"DBCTRL\0\0\x02\0") && bytes.ends_with(body), "{bytes:02x?}");
        assert_eq!(ControlSpec::decode(&bytes), Ok(sample()));
    }

    #[test]
    fn damaged_bytes_are_an_error_and_no_panic() {
        let bytes = sample().encode().unwrap();
        for at in 0..bytes.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bytes = bytes.clone();
                bytes[at] = value;
                let decoded = ControlSpec::decode(&bytes);
                assert!(decoded.is_err() || decoded.unwrap().encode().unwrap() == bytes);
            }
            assert!(ControlSpec::decode(&bytes[..at]).is_err());
        }
    }

    #[test]
    fn what_is_out_of_range_is_refused() {
        let twice =
            ControlSpec { clients: [&sample().clients[..], &sample().clients[..1]].concat(), ..sample() };
        assert_eq!(twice.encode(), Err(ControlSpecError::ClientTwice { vm: "web".into() }));
        let long = ControlSpec { shutdown_ms: MAX_SHUTDOWN_MS + 1, ..sample() };
        assert!(long.encode().unwrap_err().to_string().contains("at most 600000 ms"));
        assert!(ControlSpec { platform: String::new(), ..sample() }.validate().is_err());
        let many: Vec<_> = (0..17)
            .map(|i| ControlClient { vm: alloc::format!("v{i}"), may: ClientRights::default() })
            .collect();
        assert_eq!(
            ControlSpec { clients: many, ..sample() }.validate(),
            Err(ControlSpecError::TooManyClients { count: 17 })
        );
    }

    #[test]
    fn the_longest_word_has_room() {
        let word = ChannelWord {
            end: End::Client,
            name: NAME.into(),
            domid: 32751,
            reference: u32::MAX,
            port: 4095,
        };
        assert!(alloc::format!(" {word}").len() <= CHANNEL_WORD_ROOM);
    }
}
