//! The channels that the control domain serves: one for each client, from before the client exists.

use alloc::vec::Vec;

use control_domain::{Control, Terms};
use event_channel::LocalPort;
use grant_table::GrantTable;
use hypercall::Xen;
use pv_runtime::{Boot, Hypervisor, OwnPage, SharedFrames};
use vchan::{Order, Peer, Server, Sizes};
use xen_abi::{DomId, Port};

/// Frames of the grant table: 512 references each, a client takes five.
const TABLE_FRAMES: u32 = 1;

/// Each ring of a client's channel: 8 KiB. Messages that are longer go through in pieces.
const RING: usize = 8 << 10;

/// A client's channel.
struct Channel<'x> {
    server: Server<'x, Hypervisor, OwnPage>,
    /// Its client broke the rules, and was told the end of the stream.
    is_hung_up: bool,
    /// Its client is gone, and it waits to be made new for the next.
    is_over: bool,
}

/// All of them, in the order of the platform file.
pub(crate) struct Clients<'x> {
    channels: Vec<Channel<'x>>,
    table: Option<GrantTable<SharedFrames>>,
}

impl<'x> Clients<'x> {
    /// Offers a channel to each of `clients`, given by name and domain id; `None` when one cannot be offered, after saying why.
    pub(crate) fn offer<'c>(
        xen: &'x Xen<Hypervisor>,
        boot: &mut Boot,
        clients: impl Iterator<Item = (&'c str, u16)>,
    ) -> Option<(Self, Vec<Terms>)> {
        let (mut channels, mut terms) = (Vec::new(), Vec::new());
        let mut table = None;
        for (vm, domid) in clients {
            if table.is_none() {
                table = Some(open_table(xen, boot)?);
            }
            let server = offer(xen, table.as_mut()?, domid)?;
            terms.push(Terms {
                vm: vm.into(),
                reference: server.reference().raw(),
                port: server.port().raw(),
            });
            channels.push(Channel { server, is_hung_up: false, is_over: false });
        }
        Some((Self { channels, table }, terms))
    }

    /// Moves all conversations on; says whether anything moved.
    pub(crate) fn turn(&mut self, control: &mut Control<'_>, now: u64) -> bool {
        let mut moved = false;
        for (index, Channel { server, is_hung_up, is_over }) in self.channels.iter_mut().enumerate() {
            if *is_over {
                if now < control.renewal(index) {
                    continue;
                }
                let renewed = self.table.as_mut().map(|table| server.renew(table));
                *is_over = !matches!(renewed, Some(Ok(true)));
                *is_hung_up &= *is_over;
                continue;
            }
            let turned = control.turn_client(index, server, now);
            if control.is_dropped(index) && !*is_hung_up {
                // Behind the notice, as far as there was room for it, stands the end of the stream.
                let _ = server.hang_up();
                *is_hung_up = true;
            }
            // Of one that was dropped nothing is read, so that nothing would show that it is gone.
            let is_gone = control.is_dropped(index) && !matches!(server.peer_state(), Ok(Peer::Open));
            match turned {
                Ok(some) if !is_gone => moved |= some,
                _ => {
                    control.client_gone(index, now);
                    *is_over = true;
                }
            }
        }
        moved
    }

    /// The ports to wait for.
    pub(crate) fn ports(&self) -> impl Iterator<Item = Port> {
        self.channels.iter().map(|channel| channel.server.port())
    }

    /// When the next of those whose client is gone is to be made new.
    pub(crate) fn renewal(&self, control: &Control<'_>, now: u64) -> Option<u64> {
        let over = self.channels.iter().enumerate().filter(|(_, channel)| channel.is_over);
        over.map(|(index, _)| control.renewal(index)).filter(|time| *time > now).min()
    }

    /// Finds out who is gone.
    pub(crate) fn check(&mut self) {
        for Channel { server, .. } in &mut self.channels {
            // What is found shows at the next turn.
            let _ = server.check_peer();
        }
    }
}

fn open_table(xen: &Xen<Hypervisor>, boot: &mut Boot) -> Option<GrantTable<SharedFrames>> {
    let mut window = boot.window()?.map_err(|error| log::error!("step=window {error}")).ok()?;
    GrantTable::open(xen, &mut window, TABLE_FRAMES).map_err(|error| log::error!("step=grants {error}")).ok()
}

fn offer<'x>(
    xen: &'x Xen<Hypervisor>,
    table: &mut GrantTable<SharedFrames>,
    client: u16,
) -> Option<Server<'x, Hypervisor, OwnPage>> {
    let client = DomId::new(client);
    let order = Order::holding(RING)?;
    let sizes = Sizes::new(order, order).map_err(|error| log::error!("step=channel {error}")).ok()?;
    let port = LocalPort::listen(xen, client).map_err(|error| log::error!("step=channel {error}")).ok()?;
    let Some(pages) = (0..=sizes.pages()).map(|_| OwnPage::new()).collect::<Option<Vec<_>>>() else {
        log::error!(
            "step=channel no memory for the channel of domain {client}: give the control domain more `memory`"
        );
        return None;
    };
    let terms = vchan::Terms { client, sizes, reference: None };
    Server::offer(xen, table, port, &terms, pages).map_err(|error| log::error!("step=channel {error}")).ok()
}
