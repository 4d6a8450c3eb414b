//! The control domain's clients: who they are, what they may, and what is under way for them.

use alloc::string::{String, ToString};
use core::fmt;

use protocols::control::{ClientRights, ControlClient};
use protocols::message::{ControlNotice, ControlReply, Failure, MAX_TEXT_LEN, Message, Reason};
use server_client::{Attempts, Messages, Patience};

/// Answers that wait to be read by a client from which on nothing more is read of it.
pub(crate) const ENOUGH: usize = 128 << 10;
/// Requests of a client that may be under way.
pub(crate) const MAX_JOBS: usize = 8;
/// Messages of a client that one turn takes: the others have their turn then.
pub(crate) const TURN: usize = 8;

/// How a client may come back: as often as it likes, but not without pause. Times in nanoseconds.
const COMING_BACK: Patience =
    Patience { pause: 20_000_000, longest: 1_000_000_000, time: u64::MAX, losses: u32::MAX };

/// A client's channel, settled before the client exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The client.
    pub vm: String,
    /// The grant reference of the shared page, in the control domain's table.
    pub reference: u32,
    /// The control domain's port.
    pub port: u32,
}

/// A client and its conversation.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) vm: String,
    pub(crate) may: ClientRights,
    pub(crate) messages: Messages,
    /// Whether it has said hello.
    pub(crate) is_greeted: bool,
    /// Whether nothing more is read of it until it comes back.
    pub(crate) is_dropped: bool,
    /// Which of its conversations this is: an answer goes to the one that asked.
    pub(crate) life: u32,
    /// Its conversations: one begins with the hello.
    pub(crate) attempts: Attempts,
}

impl Session {
    pub(crate) fn new(client: &ControlClient, now: u64) -> Self {
        Self {
            vm: client.vm.clone(),
            may: client.may,
            messages: Messages::default(),
            is_greeted: false,
            is_dropped: false,
            life: 0,
            attempts: Attempts::new(COMING_BACK, now),
        }
    }

    /// It is gone, and may come back.
    pub(crate) fn renew(&mut self, now: u64) {
        self.attempts.lost(&"gone", now);
        self.messages = Messages::default();
        self.is_greeted = false;
        self.is_dropped = false;
        self.life = self.life.wrapping_add(1);
    }

    /// Queues an answer.
    pub(crate) fn answer(&mut self, id: u32, reply: &ControlReply) {
        self.send(id, reply);
    }

    /// Queues a notice, for a client that speaks the protocol and reads what it is sent.
    pub(crate) fn tell(&mut self, notice: &ControlNotice) {
        if self.is_greeted && !self.is_dropped && self.messages.unsent() <= ENOUGH {
            self.send(0, notice);
        }
    }

    fn send<M: Message>(&mut self, id: u32, message: &M) {
        // What is sent is bounded where it is made; if not, an answer that is missing is what the client sees.
        if let Err(error) = self.messages.send(id, message) {
            log::error!("client={} event=not-sent: {error}", self.vm);
        }
    }
}

/// A refusal, with a text for people that is cut where it is too long for a message.
pub(crate) fn failure(reason: Reason, detail: fmt::Arguments<'_>) -> Failure {
    let mut detail = detail.to_string();
    let cut = (0..=MAX_TEXT_LEN.min(detail.len())).rev().find(|at| detail.is_char_boundary(*at));
    detail.truncate(cut.unwrap_or(0));
    Failure { reason, detail }
}
