//! The control domain as a VM: it meets the machine here, all that happens is in the library of this crate.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

extern crate alloc;

mod channels;

use alloc::vec::Vec;

use control_domain::{Config, Control, Lost, Options, Source, Status};
use event_channel::{EventWords, LocalPort};
use hypercall::{Ramdisk, Xen};
use protocols::channel::{ChannelWord, End};
use protocols::control;
use protocols::server;
use pv_runtime::{Boot, Ending, GrantPage, Hypervisor, clock, events, println};
use vchan::{CHECK_INTERVAL, Client};
use xen_abi::event_channel::PortState;
use xen_abi::{DomId, Port};

use channels::Clients;

pv_runtime::entry!(kernel);

/// The exit status when there is nothing to control: no db-server, or no platform.
const REFUSED: u8 = 4;

fn kernel(boot: &mut Boot) -> Ending {
    let options = Options::parse(boot.command_line());
    log::set_max_level(options.level);
    let status = run(boot, &options);
    if status.is_none() {
        log::error!("event=ended status=refused: there is nothing to control");
    }
    Ending::Status(status.map_or(REFUSED, Status::code))
}

/// System time in nanoseconds.
fn now() -> u64 {
    clock::now().nanos()
}

/// Controls the platform; `None` when it cannot, after saying why.
fn run(boot: &mut Boot, options: &Options) -> Option<Status> {
    let xen = Xen::unprivileged(Hypervisor).map_err(|error| log::error!("step=probe {error}")).ok()?;
    let words = events::words()?;
    let mut channel_words = ChannelWord::on(boot.command_line());
    let Some(server) = channel_words.find(|word| word.end == End::Client && word.name == server::NAME) else {
        log::error!(
            "step=channel there is no channel to db-server on the command line: name this VM in a [[controller]] of the \
             platform file, and pack it for db-server"
        );
        return None;
    };
    let domid = own_domid(&xen)?;
    let ramdisk = boot.module()?.map_err(|error| log::error!("step=ramdisk {error}")).ok()?;
    let source = Source::read(ramdisk.bytes(), options).map_err(|error| log::error!("{error}")).ok()?;
    let (mut clients, terms) = Clients::offer(&xen, boot, source.clients())?;
    let config = Config { name: control::NAME.into(), domid, clients: terms };
    let control = Control::new(source, config, now()).map_err(|error| log::error!("step=spec {error}"));
    let mut control = control.ok()?;
    let mut link = Link { xen: &xen, word: server, channel: None };
    let status = drive(&mut control, &mut link, &mut clients, words);
    link.close();
    tell(&control, status);
    Some(status)
}

/// Shows the journal again, now that nothing is added to it.
fn tell(control: &Control<'_>, status: Status) {
    let journal = control.journal();
    let (kept, forgotten) = (journal.entries().count(), journal.forgotten());
    log::info!("event=journal entries={kept} forgotten={forgotten} status={status}");
    for entry in journal.entries() {
        println!("journal: {entry}");
    }
}

/// This domain's own id, which nobody tells an unprivileged one: a port that may be connected by oneself says by whom.
fn own_domid(xen: &Xen<Hypervisor>) -> Option<u16> {
    let state = LocalPort::listen(xen, DomId::SELF).and_then(|port| {
        let state = port.state();
        port.close()?;
        state
    });
    match state {
        Ok(PortState::Unbound(domid)) => Some(domid.raw()),
        Ok(other) => {
            log::error!("step=self a port for this domain is {other:?}");
            None
        }
        Err(error) => {
            log::error!("step=self {error}");
            None
        }
    }
}

/// The channel to db-server, when there is one.
struct Link<'x> {
    xen: &'x Xen<Hypervisor>,
    word: ChannelWord,
    channel: Option<Client<'x, Hypervisor, GrantPage>>,
}

impl Link<'_> {
    /// Connects, if it is time for that.
    fn connect(&mut self, control: &mut Control<'_>) {
        if self.channel.is_some() || !control.is_to_connect(now()) {
            return;
        }
        match server_client::try_connect(self.xen, &self.word, || GrantPage::new().ok()) {
            Ok(channel) => {
                self.channel = Some(channel);
                control.connected(now());
            }
            Err(error) => control.not_connected(&error, now()),
        }
    }

    /// Closes the channel, if there is one.
    fn close(&mut self) {
        if let Some(Err(error)) = self.channel.take().map(Client::close) {
            log::warn!("event=close {error}");
        }
    }

    /// Moves the conversation on.
    fn turn(&mut self, control: &mut Control<'_>) -> bool {
        let Some(channel) = &mut self.channel else { return false };
        control.turn(channel, now()).unwrap_or_else(|Lost| {
            self.close();
            true
        })
    }
}

/// Runs the control domain to its end.
fn drive(
    control: &mut Control<'_>,
    link: &mut Link<'_>,
    clients: &mut Clients<'_>,
    words: EventWords<'_>,
) -> Status {
    loop {
        link.connect(control);
        let mut moved = link.turn(control);
        moved |= clients.turn(control, now());
        control.tick(now());
        if let Some(status) = control.status() {
            clients.turn(control, now());
            return status;
        }
        if moved {
            continue;
        }
        let mut ports: Vec<Port> = link.channel.iter().map(vchan::Channel::port).collect();
        ports.extend(clients.ports());
        let check = now().saturating_add(CHECK_INTERVAL);
        let renewal = clients.renewal(control, now());
        let until = control.deadline(now()).into_iter().chain(renewal).fold(check, u64::min);
        match event_channel::wait(link.xen, words, &ports, Some(until), now) {
            Ok(woken) => {
                for port in &ports {
                    words.take(*port);
                }
                if !woken {
                    // No event tells that a peer is gone. What is found shows at the next turn.
                    let _ = link.channel.as_mut().map(vchan::Channel::check_peer);
                    clients.check();
                }
            }
            Err(error) => log::error!("event=wait {error}"),
        }
    }
}
