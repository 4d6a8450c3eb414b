//! What is done with the channels.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use grant_table::GrantTable;
use pv_runtime::{Ending, SharedFrames, println};
use vchan::ChannelError;
use verdict::{Outcome, Verdict, require, success};

use crate::ends::{Channel, Machine, Named, now};

/// Bytes that a client sends, and gets back.
const AMOUNT: usize = 1 << 20;

/// Bytes that one who quits has sent and received before.
const LITTLE: usize = 5000;

/// Bytes moved at once, which no ring divides evenly.
const PIECE: usize = 3001;

/// A sum that depends on every byte and on their order (FNV-1a).
#[derive(Clone, Copy, PartialEq, Eq)]
struct Sum(u64);

impl Sum {
    const START: Self = Self(0xcbf2_9ce4_8422_2325);

    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

/// Bytes that no shift of themselves resembles.
struct Pattern(u64);

impl Pattern {
    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            [.., *byte] = self.0.to_le_bytes();
        }
    }
}

/// How a channel ended.
fn ending(peer: &str, error: &ChannelError) -> Result<&'static str, Verdict> {
    match error {
        ChannelError::Closed { .. } => Ok("closed"),
        ChannelError::Gone { .. } => Ok("gone"),
        other => Err(Verdict::Failure(format!("channel with {peer}: {other}"))),
    }
}

/// What came on a channel and has not gone back yet.
struct Echo<'x> {
    named: Named<'x>,
    pending: VecDeque<u8>,
    carried: usize,
}

impl Echo<'_> {
    /// Moves what can be moved; says whether that was anything.
    fn step(&mut self) -> Result<bool, ChannelError> {
        let mut moved = false;
        if self.pending.is_empty() {
            let mut buffer = vec![0; PIECE];
            let count = self.named.channel.read(&mut buffer)?;
            self.pending.extend(buffer.iter().take(count));
            moved |= count > 0;
        }
        if !self.pending.is_empty() {
            let count = self.named.channel.write(self.pending.make_contiguous())?;
            self.pending.drain(..count);
            self.carried += count;
            moved |= count > 0;
        }
        Ok(moved)
    }
}

/// Sends back what comes until nobody is left to send it to.
pub(crate) fn echo(machine: &Machine, channels: Vec<Named<'_>>) -> Outcome {
    let mut open: Vec<_> =
        channels.into_iter().map(|named| Echo { named, pending: VecDeque::new(), carried: 0 }).collect();
    let (mut closed, mut gone) = (0, 0);
    while !open.is_empty() {
        let mut moved = false;
        let mut left = Vec::with_capacity(open.len());
        for mut echo in open {
            match echo.step() {
                Ok(some) => {
                    moved |= some;
                    left.push(echo);
                }
                Err(error) => {
                    let how = ending(&echo.named.peer, &error)?;
                    println!("{} is {how} after {} bytes", echo.named.peer, echo.carried);
                    if how == "gone" { gone += 1 } else { closed += 1 }
                }
            }
        }
        open = left;
        if !moved && !open.is_empty() {
            machine.wait(open.iter_mut().map(|echo| &mut echo.named.channel).collect())?;
        }
    }
    success!("{closed} channels closed, {gone} peers gone")
}

/// Sends and receives `amount` bytes, which have to be the same.
fn exchange(machine: &Machine, named: &mut [Named<'_>], amount: usize) -> Outcome {
    let (mut to_send, mut sent, mut got) = (Pattern(amount as u64), 0, 0);
    let (mut sum_sent, mut sum_got) = (Sum::START, Sum::START);
    let (mut piece, mut buffer): (VecDeque<u8>, _) = (VecDeque::new(), vec![0; PIECE]);
    let begin = now();
    while got < amount {
        if piece.is_empty() && sent < amount {
            let mut bytes = vec![0; PIECE.min(amount - sent)];
            to_send.fill(&mut bytes);
            sum_sent.add(&bytes);
            sent += bytes.len();
            piece.extend(bytes);
        }
        let Some(Named { channel, .. }) = named.first_mut() else { break };
        let wrote = channel.write(piece.make_contiguous()).map_err(Verdict::failure)?;
        piece.drain(..wrote);
        let count = channel.read(&mut buffer).map_err(Verdict::failure)?;
        sum_got.add(buffer.get(..count).unwrap_or_default());
        got += count;
        if wrote == 0 && count == 0 {
            machine.wait(named.iter_mut().map(|named| &mut named.channel).collect())?;
        }
    }
    if got != amount || sum_got != sum_sent {
        return Err(Verdict::Failure(format!("{got} of {amount} bytes came back, or others than were sent")));
    }
    let micros = (now() - begin) / 1000;
    success!("{amount} bytes there and back in {micros} us, sum {:016x}", sum_got.0)
}

/// Sends and receives much, and closes the channel.
pub(crate) fn client(machine: &Machine, mut channels: Vec<Named<'_>>) -> Outcome {
    let outcome = exchange(machine, &mut channels, AMOUNT)?;
    for named in channels {
        if let Channel::Client(end) = named.channel {
            end.close().map_err(Verdict::failure)?;
        }
    }
    Ok(outcome)
}

/// Sends and receives a little, and lets the builder destroy the domain with everything open.
pub(crate) fn quit(machine: &Machine, mut channels: Vec<Named<'_>>) -> Outcome {
    let outcome = exchange(machine, &mut channels, LITTLE)?;
    if let Some(named) = channels.first_mut() {
        named.channel.write(b"and then").map_err(Verdict::failure)?;
    }
    // Nothing is dropped, hence nothing closed or unmapped: as a kernel that dies.
    core::mem::forget(channels);
    Ok(outcome)
}

/// Echoes until the peer is gone without having closed its channel.
pub(crate) fn witness(machine: &Machine, channels: Vec<Named<'_>>) -> Outcome {
    let Some(named) = channels.into_iter().next() else { return Err(Verdict::error("there is no channel")) };
    let mut echo = Echo { named, pending: VecDeque::new(), carried: 0 };
    loop {
        match echo.step() {
            Ok(true) => {}
            Ok(false) => machine.wait(vec![&mut echo.named.channel])?,
            Err(error) => {
                let how = ending(&echo.named.peer, &error)?;
                require!(how == "gone", "{} has closed its channel, and should have died", echo.named.peer);
                return success!("{} is gone after {} bytes", echo.named.peer, echo.carried);
            }
        }
    }
}

/// Tells a client that keeps crashing which of its lives this is, until it closes the channel.
pub(crate) fn keeper(
    machine: &Machine,
    channels: Vec<Named<'_>>,
    table: &mut GrantTable<SharedFrames>,
) -> Outcome {
    let Some(Named { mut channel, .. }) = channels.into_iter().next() else {
        return Err(Verdict::error("there is no channel"));
    };
    for life in 1..=u8::MAX {
        channel.write(&[life]).map_err(Verdict::failure)?;
        loop {
            match channel.read(&mut [0; 16]) {
                Ok(_) => machine.wait(vec![&mut channel])?,
                Err(ChannelError::Closed { .. }) => return success!("closed in life {life}"),
                Err(ChannelError::Gone { .. }) => break,
                Err(error) => return Err(Verdict::failure(error)),
            }
        }
        println!("life {life} is over");
        let Channel::Server(server) = &mut channel else {
            return Err(Verdict::error("a keeper is a server"));
        };
        while !server.renew(table).map_err(Verdict::failure)? {
            machine.pause()?;
        }
    }
    Err(Verdict::failure("the client has more lives than a cat"))
}

/// The life in which a [`phoenix`] ends well.
const LAST_LIFE: u8 = 3;

/// Asks which life this is, and crashes in all but the last.
pub(crate) fn phoenix(machine: &Machine, channels: Vec<Named<'_>>) -> Outcome {
    let Some(Named { mut channel, .. }) = channels.into_iter().next() else {
        return Err(Verdict::error("there is no channel"));
    };
    let mut life = [0];
    while channel.read(&mut life).map_err(Verdict::failure)? == 0 {
        machine.wait(vec![&mut channel])?;
    }
    let [life] = life;
    if life < LAST_LIFE {
        pv_runtime::end(Ending::Crash);
    }
    if let Channel::Client(end) = channel {
        end.close().map_err(Verdict::failure)?;
    }
    success!("this is life {life}")
}
