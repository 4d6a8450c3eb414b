//! Opening the channels that the command line names, and waiting on them.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use event_channel::{EventWords, LocalPort};
use grant_table::GrantTable;
use hypercall::Xen;
use protocols::channel::{ChannelWord, End};
use pv_runtime::{Boot, GrantPage, Hypervisor, OwnPage, SharedFrames, clock, events};
use server_client::Patience;
use vchan::{CHECK_INTERVAL, ChannelError, Client, Order, Peer, Server, Sizes, Terms};
use verdict::Verdict;
use xen_abi::{DomId, GrantRef, Port};

/// How long to wait for anything: 20 s, in nanoseconds.
const PATIENCE: u64 = 20_000_000_000;

/// A moment: 5 ms, in nanoseconds.
const PAUSE: u64 = 5_000_000;

/// Frames of the grant table: enough for rings of a megabyte.
const TABLE_FRAMES: u32 = 2;

/// What every end needs.
pub(crate) struct Machine {
    xen: Xen<Hypervisor>,
    words: EventWords<'static>,
}

/// An end of either kind.
pub(crate) enum Channel<'x> {
    Server(Server<'x, Hypervisor, OwnPage>),
    Client(Client<'x, Hypervisor, GrantPage>),
}

/// A channel with the name of the VM at its other end.
pub(crate) struct Named<'x> {
    pub(crate) peer: String,
    pub(crate) channel: Channel<'x>,
}

/// System time in nanoseconds.
pub(crate) fn now() -> u64 {
    clock::now().nanos()
}

impl Machine {
    pub(crate) fn new() -> Result<Self, Verdict> {
        Ok(Self {
            xen: Xen::unprivileged(Hypervisor).map_err(Verdict::error)?,
            words: events::words().ok_or_else(|| Verdict::error("no event bitmaps"))?,
        })
    }

    /// Sleeps until something happened on one of the channels, at most until their peers should be looked after.
    pub(crate) fn wait(&self, channels: Vec<&mut Channel<'_>>) -> Result<(), Verdict> {
        let ports: Vec<Port> = channels.iter().map(|channel| channel.port()).collect();
        let until = now() + CHECK_INTERVAL;
        let woken = event_channel::wait(&self.xen, self.words, &ports, Some(until), now);
        let woken = woken.map_err(Verdict::error)?;
        for port in ports {
            self.words.take(port);
        }
        if !woken {
            for channel in channels {
                channel.check_peer().map_err(Verdict::failure)?;
            }
        }
        Ok(())
    }

    /// Sleeps for a moment.
    pub(crate) fn pause(&self) -> Result<(), Verdict> {
        self.xen.poll(&[], Some(now() + PAUSE)).map_err(Verdict::error)
    }

    fn connect(&self, word: &ChannelWord) -> Result<Channel<'_>, Verdict> {
        let slot = || GrantPage::new().ok();
        let client = server_client::connect(&self.xen, word, Patience::of(PATIENCE), now, slot);
        client.map(Channel::Client).map_err(Verdict::failure)
    }

    fn serve(
        &self,
        word: &ChannelWord,
        sizes: Sizes,
        table: &mut GrantTable<SharedFrames>,
    ) -> Result<Channel<'_>, Verdict> {
        let terms =
            Terms { client: DomId::new(word.domid), sizes, reference: Some(GrantRef::new(word.reference)) };
        let pages: Option<Vec<_>> = (0..=sizes.pages()).map(|_| OwnPage::new()).collect();
        let pages = pages.ok_or_else(|| Verdict::error("no memory for the rings"))?;
        let port = LocalPort::adopt(&self.xen, Port::new(word.port));
        Server::offer(&self.xen, table, port, &terms, pages).map(Channel::Server).map_err(Verdict::failure)
    }
}

/// Opens every channel of the command line.
pub(crate) fn open_all<'x>(
    machine: &'x Machine,
    boot: &mut Boot,
) -> Result<(Vec<Named<'x>>, GrantTable<SharedFrames>), Verdict> {
    let mut window = boot.window().ok_or_else(|| Verdict::error("no window"))?.map_err(Verdict::error)?;
    let mut table = GrantTable::open(&machine.xen, &mut window, TABLE_FRAMES).map_err(Verdict::error)?;
    let sizes = sizes(boot)?;
    let open = |word: ChannelWord| {
        let channel = match word.end {
            End::Server => machine.serve(&word, sizes, &mut table)?,
            End::Client => machine.connect(&word)?,
        };
        Ok(Named { peer: word.name, channel })
    };
    let channels: Result<Vec<_>, _> = ChannelWord::on(boot.command_line()).map(open).collect();
    Ok((channels?, table))
}

/// The sizes of a server's rings.
fn sizes(boot: &Boot) -> Result<Sizes, Verdict> {
    let order = |key, default| {
        let bytes = boot.argument(key).unwrap_or(default).parse().map_err(Verdict::error)?;
        Order::holding(bytes).ok_or_else(|| Verdict::Error(format!("{key}={bytes}: at most 1 MiB")))
    };
    Sizes::new(order("left", "1024")?, order("right", "2048")?).map_err(Verdict::error)
}

impl Channel<'_> {
    pub(crate) fn port(&self) -> Port {
        match self {
            Self::Server(end) => end.port(),
            Self::Client(end) => end.port(),
        }
    }

    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ChannelError> {
        match self {
            Self::Server(end) => end.read(buffer),
            Self::Client(end) => end.read(buffer),
        }
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<usize, ChannelError> {
        match self {
            Self::Server(end) => end.write(bytes),
            Self::Client(end) => end.write(bytes),
        }
    }

    fn check_peer(&mut self) -> Result<Peer, ChannelError> {
        match self {
            Self::Server(end) => end.check_peer(),
            Self::Client(end) => end.check_peer(),
        }
    }
}
