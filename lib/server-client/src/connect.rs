//! Connecting to the channel that a command line names.

use grant_table::GrantSlot;
use hypercall::{CallError, RawHypercall, Xen};
use protocols::channel::ChannelWord;
use thiserror::Error;
use vchan::{ChannelError, Client};
use xen_abi::{DomId, GrantRef, Port};

use crate::attempts::{Attempts, GivenUp, Patience};

/// Why there is no channel.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum ConnectError {
    /// The server did not take this client in time.
    #[error(
        "cannot connect to {name} in domain {domid}: {given_up}; is that VM running, and this one its only client?"
    )]
    GivenUp {
        /// The channel's name.
        name: alloc::string::String,
        /// The server.
        domid: u16,
        /// What was tried.
        given_up: GivenUp,
    },
    /// There is no waiting between two tries.
    #[error("{0}")]
    Wait(#[from] CallError),
}

/// Tries once to connect to the channel of `word`, whose end is the client's; `slot` is that of [`Client::connect`], as are the errors.
pub fn try_connect<'x, H: RawHypercall, P: GrantSlot>(
    xen: &'x Xen<H>,
    word: &ChannelWord,
    slot: impl FnMut() -> Option<P>,
) -> Result<Client<'x, H, P>, ChannelError> {
    let (server, reference) = (DomId::new(word.domid), GrantRef::new(word.reference));
    Client::connect(xen, server, reference, Port::new(word.port), slot)
}

/// Connects to the channel of `word`, and sleeps between two tries. The server may not have started, or may not have noticed yet that an earlier
/// life of this VM is over. `now` is the system time in nanoseconds.
pub fn connect<'x, H: RawHypercall, P: GrantSlot>(
    xen: &'x Xen<H>,
    word: &ChannelWord,
    patience: Patience,
    now: impl Fn() -> u64,
    mut slot: impl FnMut() -> Option<P>,
) -> Result<Client<'x, H, P>, ConnectError> {
    let mut attempts = Attempts::new(patience, now());
    loop {
        match try_connect(xen, word, &mut slot) {
            Ok(client) => return Ok(client),
            Err(error) => attempts.lost(&error, now()),
        }
        if let Some(given_up) = attempts.given_up(now()) {
            return Err(ConnectError::GivenUp { name: word.name.clone(), domid: word.domid, given_up });
        }
        xen.poll(&[], Some(attempts.due()))?;
    }
}
