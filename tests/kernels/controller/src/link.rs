//! The channel to db-server, and waiting on it.

use event_channel::EventWords;
use hypercall::Xen;
use protocols::channel::{ChannelWord, End};
use protocols::server;
use pv_runtime::{Boot, GrantPage, Hypervisor, clock, events};
use server_client::Patience;
use vchan::{ChannelError, Client};
use verdict::Verdict;

/// How long to wait for anything: 60 s, in nanoseconds.
pub(crate) const PATIENCE: u64 = 60_000_000_000;

/// The channel as this end has it.
pub(crate) type Channel<'x> = Client<'x, Hypervisor, GrantPage>;

/// What every conversation needs.
pub(crate) struct Machine {
    pub(crate) xen: Xen<Hypervisor>,
    words: EventWords<'static>,
}

/// System time in nanoseconds: the clock that db-server's log has too.
pub(crate) fn now() -> u64 {
    clock::now().nanos()
}

/// The word for the channel to db-server.
pub(crate) fn word(boot: &Boot) -> Option<ChannelWord> {
    ChannelWord::on(boot.command_line()).find(|word| word.end == End::Client && word.name == server::NAME)
}

impl Machine {
    pub(crate) fn new() -> Result<Self, Verdict> {
        Ok(Self {
            xen: Xen::unprivileged(Hypervisor).map_err(Verdict::error)?,
            words: events::words().ok_or_else(|| Verdict::error("no event bitmaps"))?,
        })
    }

    /// Connects to db-server.
    pub(crate) fn connect(&self, word: &ChannelWord) -> Result<Channel<'_>, Verdict> {
        let slot = || GrantPage::new().ok();
        server_client::connect(&self.xen, word, Patience::of(PATIENCE), now, slot).map_err(Verdict::failure)
    }

    /// Sleeps until db-server has done something, until `deadline` at most; says whether that has passed.
    pub(crate) fn wait(&self, channel: &mut Channel<'_>, deadline: u64) -> Result<bool, ChannelError> {
        channel.wait(self.words, Some(deadline), now)?;
        Ok(now() >= deadline)
    }
}
