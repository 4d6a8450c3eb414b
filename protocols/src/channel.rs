//! Channels between VMs that are settled before either of them runs: what the tool promises on both command lines, and
//! the builder keeps.
//!
//! A VM that serves channels gets, for each, one of the grant references that Xen's interface reserves for toolstacks and a port
//! that the builder opens for the client. The references are 2, 3, ... (0 and 1 are those of console and XenStore), the ports 2,
//! 3, ... (port 1 is the console's), or 3, 4, ... in a VM with a XenStore, in the order of the channels. The server fills its grant
//! entries itself when it runs.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

pub use crate::limits::MAX_CHANNELS;
use crate::names::{check_domid, check_name};
use crate::spec_error::SpecError;
use crate::store::{STORE_PORT, StoreRole};

/// The reference of a VM's first channel.
const FIRST_REFERENCE: u32 = 2;
/// The port of the first channel of a VM that has to do with a XenStore in this way.
pub const fn first_channel_port(store: StoreRole) -> u32 {
    if store.has_ring() { STORE_PORT.saturating_add(1) } else { STORE_PORT }
}

/// The channels that a VM serves. The order of the fields is the wire format.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channels {
    /// The domain id of the client of each, at most [`MAX_CHANNELS`], none twice.
    pub clients: Vec<u16>,
}

impl Channels {
    /// Checks the clients of a VM whose own domain id is `domid`.
    pub(crate) fn validate(&self, domid: Option<u16>) -> Result<(), SpecError> {
        if self.clients.len() > MAX_CHANNELS {
            return Err(SpecError::TooManyChannels { count: self.clients.len() });
        }
        for (index, client) in self.clients.iter().enumerate() {
            check_domid(Some(*client))?;
            let twice = self.clients.iter().take(index).any(|earlier| earlier == client);
            if twice || domid.is_none() || domid == Some(*client) {
                return Err(SpecError::BadChannel { client: *client });
            }
        }
        Ok(())
    }
}

/// Which end of a channel a VM is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It grants the pages.
    Server,
    /// It connects.
    Client,
}

/// A word `vchan=END:NAME:DOMID:REFERENCE:PORT` on a VM's command line: one channel, as that VM has to know it. Only the name may
/// have colons of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelWord {
    /// Which end this VM is.
    pub end: End,
    /// The name of the other VM.
    pub name: String,
    /// Its domain id.
    pub domid: u16,
    /// The grant reference of the shared page, in the server's table.
    pub reference: u32,
    /// The server's port.
    pub port: u32,
}

/// What the word begins with.
const KEY: &str = "vchan=";

impl ChannelWord {
    /// The two words for channel `index` of `server`, each a VM's name and domain id: for the server's command line and for
    /// the client's. `first_port` is the server's [`first_channel_port`]. `None` when a VM does not serve so many.
    pub fn pair(
        index: usize,
        first_port: u32,
        server: (&str, u16),
        client: (&str, u16),
    ) -> Option<(Self, Self)> {
        let number = u32::try_from(index).ok().filter(|_| index < MAX_CHANNELS)?;
        let word = |end, (name, domid): (&str, u16)| Self {
            end,
            name: name.into(),
            domid,
            reference: FIRST_REFERENCE.saturating_add(number),
            port: first_port.saturating_add(number),
        };
        Some((word(End::Server, client), word(End::Client, server)))
    }

    /// Reads a word of a command line; `None` for one that is none of these.
    pub fn parse(word: &str) -> Option<Self> {
        // From the right: a name may have colons, and the numbers behind it have none.
        let mut parts = word.strip_prefix(KEY)?.rsplitn(4, ':');
        let (port, reference) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let domid = parts.next()?.parse().ok()?;
        let (end, name) = parts.next()?.split_once(':')?;
        let end = match end {
            "server" => End::Server,
            "client" => End::Client,
            _ => return None,
        };
        check_name(name).ok()?;
        // Dom0 serves channels to controllers, and is a client of nobody.
        if domid != 0 || end == End::Server {
            check_domid(Some(domid)).ok()?;
        }
        Some(Self { end, name: name.into(), domid, reference, port })
    }

    /// All of them on a command line, in order.
    pub fn on(command_line: &str) -> impl Iterator<Item = Self> {
        command_line.split_ascii_whitespace().filter_map(Self::parse)
    }
}

impl fmt::Display for ChannelWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { end, name, domid, reference, port } = self;
        let end = match end {
            End::Server => "server",
            End::Client => "client",
        };
        write!(f, "{KEY}{end}:{name}:{domid}:{reference}:{port}")
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn both_ends_are_told_the_same_channel() {
        let (server, client) = ChannelWord::pair(1, 2, ("store", 7), ("web-1", 9)).unwrap();
        assert_eq!(server.to_string(), "vchan=server:web-1:9:3:3");
        assert_eq!(client.to_string(), "vchan=client:store:7:3:3");
        let line = alloc::format!("root=/dev/null {server} {client} quiet");
        assert_eq!(ChannelWord::on(&line).collect::<Vec<_>>(), [server, client]);
        assert_eq!(ChannelWord::pair(MAX_CHANNELS, 2, ("a", 1), ("b", 2)), None);
    }

    #[test]
    fn a_client_may_be_told_of_dom0() {
        let word = crate::server::channel_word(9, 30);
        assert_eq!(word.to_string(), "vchan=client:db-server:0:9:30");
        assert_eq!(ChannelWord::parse(&word.to_string()), Some(word));
    }

    #[test]
    fn every_name_that_a_vm_may_have_comes_back() {
        for name in ["a:1", "a:1:2:3:4", "server:x", "a.b_c-d~e+f@g:"] {
            check_name(name).unwrap();
            let (word, _) = ChannelWord::pair(0, 2, ("s", 1), (name, 9)).unwrap();
            assert_eq!(ChannelWord::parse(&word.to_string()), Some(word));
        }
    }

    #[test]
    fn other_words_are_none() {
        let others = [
            "vchan=",
            "vchan=server",
            "vchan=server:a:1:2",
            "vchan=server:a 1:1:2:3",
            "vchan=server::a:1:2:3",
            "vchan=server:a:1:2:3:",
            "vchan=peer:a:1:2:3",
            "vchan=client::1:2:3",
            "vchan=server:a:0:2:3",
            "vchan=client:a:32752:2:3",
            "vchan=client:a:1:-2:3",
            "vchan=client:a:1:2:4294967296",
            "xvchan=client:a:1:2:3",
        ];
        for other in others {
            assert_eq!(ChannelWord::parse(other), None, "{other}");
        }
    }
}
