//! What a controller must not do, and what comes of it.
//!
//! | `by=` | does after the hello |
//! |---|---|
//! | `magic` | sends bytes that are no message |
//! | `length` | announces a body of 4 GiB |
//! | `variant` | sends a request that there is not |
//! | `kind` | sends what only db-server may say |
//! | `stall` | sends half a header, and then nothing |
//! | `flood` | asks without pause and never reads an answer |
//! | `indices` | publishes an index that its ring cannot have |

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use grant_table::{Access, Mapping};
use hypercall::SharedMemory;
use protocols::Digest;
use protocols::channel::ChannelWord;
use protocols::message::{
    self, Failure, HEADER_LEN, Kind, Message, ServerNotice, ServerReply, ServerRequest, Stream, VERSION,
};
use pv_runtime::{Ending, GrantPage, println};
use vchan::ChannelError;
use verdict::{Outcome, Verdict, success};
use xen_abi::{DomId, GrantRef};

use crate::link::{Channel, Machine, PATIENCE, now};
use crate::session::Session;
use crate::vm;

/// Bytes that a flood sends at most: many times what a ring and db-server's own buffers hold.
const FLOOD: usize = 8 << 20;

/// A flood that gets nowhere for so long has been held up: 3 s, in nanoseconds.
const HELD_UP: u64 = 3_000_000_000;

/// Where in the shared page a client publishes how much it has written.
const LEFT_PRODUCER: usize = 4;

/// Does what `by` says, and waits for what comes of it.
pub(crate) fn run(machine: &Machine, word: &ChannelWord, by: &str) -> Outcome {
    let mut raw = Raw { machine, channel: machine.connect(word)?, stream: Stream::new() };
    let hello = ServerRequest::Hello { lowest: VERSION, highest: VERSION, name: "attacker".into() };
    raw.send_message(1, &hello)?;
    match by {
        "magic" => raw.send(&[0xff; 64])?,
        "length" => raw.send(&header(Kind::ServerRequest, u32::MAX))?,
        "variant" => {
            raw.send(&header(Kind::ServerRequest, 1))?;
            raw.send(&[0x7f])?;
        }
        "kind" => raw.send_message(2, &ServerReply::Done)?,
        "stall" => raw.send(header(Kind::ServerRequest, 10).get(..8).unwrap_or_default())?,
        "flood" => return raw.flood(),
        "indices" => raw.lie(word)?,
        other => return Err(Verdict::Error(format!("by={other}: there is no such attack"))),
    }
    raw.is_dropped(by)
}

/// A header with this length of the body in it.
fn header(kind: Kind, length: u32) -> [u8; HEADER_LEN] {
    let mut bytes = [0; HEADER_LEN];
    let fields: [(usize, &[u8]); 5] = [
        (0, &message::MAGIC),
        (4, &VERSION.to_le_bytes()),
        (6, &(kind as u16).to_le_bytes()),
        (8, &2_u32.to_le_bytes()),
        (12, &length.to_le_bytes()),
    ];
    for (at, field) in fields {
        for (byte, value) in bytes.iter_mut().skip(at).zip(field) {
            *byte = *value;
        }
    }
    bytes
}

/// A channel, used as its user likes.
struct Raw<'m> {
    machine: &'m Machine,
    channel: Channel<'m>,
    stream: Stream,
}

impl Raw<'_> {
    fn send_message<M: Message>(&mut self, id: u32, message: &M) -> Result<(), Verdict> {
        self.send(&message::encode(id, message).map_err(Verdict::error)?)
    }

    /// Sends all of it.
    fn send(&mut self, mut bytes: &[u8]) -> Result<(), Verdict> {
        let deadline = now().saturating_add(PATIENCE);
        while !bytes.is_empty() {
            let count = self.channel.write(bytes).map_err(Verdict::failure)?;
            bytes = bytes.get(count..).unwrap_or_default();
            if count == 0 && self.machine.wait(&mut self.channel, deadline).map_err(Verdict::failure)? {
                return Err(Verdict::failure("db-server does not read"));
            }
        }
        Ok(())
    }

    /// Reads until db-server closes the channel, which it has to.
    fn is_dropped(&mut self, by: &str) -> Outcome {
        let deadline = now().saturating_add(PATIENCE);
        let mut farewell = None;
        loop {
            match self.read(&mut farewell) {
                Ok(true) => {}
                Ok(false) => {
                    let late = self.machine.wait(&mut self.channel, deadline);
                    if matches!(late, Ok(true)) {
                        return Err(Verdict::Failure(format!("by={by}: db-server goes on with it")));
                    }
                }
                Err(ChannelError::Closed { .. }) => break,
                // The lie is also this side's own view of its ring.
                Err(ChannelError::Broken { .. }) if by == "indices" => break,
                Err(error) => return Err(Verdict::Failure(format!("by={by}: {error}"))),
            }
        }
        match farewell {
            Some(Failure { reason, detail }) => success!("by={by}: dropped ({reason:?}): {detail}"),
            None => success!("by={by}: dropped"),
        }
    }

    /// Takes what has come; says whether that was anything.
    fn read(&mut self, farewell: &mut Option<Failure>) -> Result<bool, ChannelError> {
        let mut buffer = vec![0; 4096];
        let count = self.channel.read(&mut buffer)?;
        let mut bytes = buffer.get(..count).unwrap_or_default();
        while !bytes.is_empty() {
            let Ok(frame) = self.stream.take(&mut bytes) else { break };
            let notice = frame.filter(|frame| frame.kind == Kind::ServerNotice);
            if let Some(Ok(ServerNotice::Dropped(failure))) = notice.map(|frame| frame.decode()) {
                *farewell = Some(failure);
            }
        }
        Ok(count > 0)
    }

    /// Asks and asks without ever reading an answer.
    fn flood(&mut self) -> Outcome {
        let (mut sent, mut id) = (0, 2_u32);
        let mut pending: Vec<u8> = Vec::new();
        let mut last = now();
        while sent < FLOOD {
            if pending.is_empty() {
                pending = message::encode(id, &ServerRequest::List { after: 0 }).map_err(Verdict::error)?;
                id = id.wrapping_add(1).max(2);
            }
            let count = match self.channel.write(&pending) {
                Ok(count) => count,
                Err(ChannelError::Closed { .. }) => return success!("by=flood: dropped after {sent} bytes"),
                Err(error) => return Err(Verdict::failure(error)),
            };
            pending.drain(..count);
            sent += count;
            if count > 0 {
                last = now();
                continue;
            }
            let held_up = last.saturating_add(HELD_UP);
            match self.machine.wait(&mut self.channel, held_up) {
                Ok(true) => return success!("by=flood: held up after {sent} bytes"),
                // The next write tells.
                Ok(false) | Err(ChannelError::Closed { .. }) => {}
                Err(error) => return Err(Verdict::failure(error)),
            }
        }
        Err(Verdict::Failure(format!("by=flood: db-server took {sent} bytes and waits for more")))
    }

    /// Publishes an index beyond the ring, past the code that would not.
    fn lie(&mut self, word: &ChannelWord) -> Result<(), Verdict> {
        let xen = &self.machine.xen;
        let slot = GrantPage::new().map_err(Verdict::error)?;
        let (domid, reference) = (DomId::new(word.domid), GrantRef::new(word.reference));
        let page = Mapping::new(xen, slot, domid, reference, Access::ReadWrite).map_err(Verdict::failure)?;
        let honest = page.load_u32(LEFT_PRODUCER);
        page.store_u32(LEFT_PRODUCER, honest.wrapping_add(0x4000_0000));
        xen.send(self.channel.port()).map_err(Verdict::failure)
    }
}

/// Leaves a VM, half an image and a request under way behind.
pub(crate) fn desert(mut session: Session<'_>) -> Outcome {
    let built = session.get("building", ServerRequest::Build(vm::build(&vm::spec("orphan"), false)?))?;
    let paused = session.get("building", ServerRequest::Build(vm::build(&vm::spec("asleep"), true)?))?;
    let digest = Digest([9; 32]);
    session.get("an image", ServerRequest::PutImageBegin { digest, size: 1 << 16 })?;
    let chunk = ServerRequest::PutImageChunk { digest, offset: 0, bytes: vec![0; 1000] };
    session.get("a part", chunk)?;
    let unfinished = ServerRequest::Build(vm::build(&vm::spec("unborn"), true)?);
    session.submit(unfinished);
    let mut turns = 2;
    session.until("a request to be sent", |_| {
        turns -= 1;
        (turns == 0).then_some(())
    })?;
    println!("{}", left_behind(&[built, paused]));
    pv_runtime::end(Ending::Crash)
}

fn left_behind(replies: &[ServerReply]) -> String {
    let domids = replies.iter().filter_map(|reply| match reply {
        ServerReply::Built(built) => Some(format!("{}", built.domid)),
        _ => None,
    });
    format!("left behind: domains {}", domids.collect::<Vec<_>>().join(", "))
}
