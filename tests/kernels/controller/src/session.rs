//! A conversation with db-server, as an honest controller leads it.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;

use protocols::channel::ChannelWord;
use protocols::message::{EndReason, Failure, Quota, Reason, ServerReply, ServerRequest};
use server_client::{Client, Event, RequestId};
use verdict::Verdict;

use crate::link::{Channel, Machine, PATIENCE, now};

/// What db-server says to a request.
pub(crate) type Answer = Result<ServerReply, Failure>;

/// A conversation.
pub(crate) struct Session<'m> {
    machine: &'m Machine,
    channel: Channel<'m>,
    client: Client,
    pub(crate) quota: Quota,
    answers: BTreeMap<RequestId, Answer>,
    /// VMs that have ended, by their serial numbers.
    ends: Vec<(u64, EndReason)>,
}

impl<'m> Session<'m> {
    /// Connects and says hello.
    pub(crate) fn open(machine: &'m Machine, word: &ChannelWord) -> Result<Self, Verdict> {
        let quota =
            Quota { memory_kib: 0, vms: 0, first_domid: 0, last_domid: 0, store_bytes: 0, requests: 0 };
        let mut session = Self {
            machine,
            channel: machine.connect(word)?,
            client: Client::new("controller").map_err(Verdict::error)?,
            quota,
            answers: BTreeMap::new(),
            ends: Vec::new(),
        };
        session.until("the hello to be answered", |session| session.client.quota())?;
        session.quota = session.client.quota().unwrap_or(quota);
        Ok(session)
    }

    /// Asks without waiting for the answer.
    pub(crate) fn submit(&mut self, request: ServerRequest) -> RequestId {
        self.client.ask(request)
    }

    /// Asks, and waits for the answer.
    pub(crate) fn ask(&mut self, request: ServerRequest) -> Result<Answer, Verdict> {
        let id = self.submit(request);
        self.until("an answer", |session| session.answers.remove(&id))
    }

    /// Waits for the next answer to anything.
    pub(crate) fn next_answer(&mut self) -> Result<(RequestId, Answer), Verdict> {
        self.until("any answer", |session| session.answers.pop_first())
    }

    /// Asks for something that has to be done.
    pub(crate) fn get(&mut self, what: &str, request: ServerRequest) -> Result<ServerReply, Verdict> {
        self.ask(request)?.map_err(|failure| {
            Verdict::Failure(format!("{what}: failed ({:?}): {}", failure.reason, failure.detail))
        })
    }

    /// Asks for something that has to be refused for one of these reasons.
    pub(crate) fn refused(
        &mut self,
        what: &str,
        request: ServerRequest,
        reasons: &[Reason],
    ) -> Result<(), Verdict> {
        match self.ask(request)? {
            Err(failure) if reasons.contains(&failure.reason) && !failure.detail.is_empty() => Ok(()),
            Err(Failure { reason, detail }) => {
                Err(Verdict::Failure(format!("{what}: refused as {reason:?} ({detail}), not as {reasons:?}")))
            }
            Ok(reply) => Err(Verdict::Failure(format!("{what}: not refused, but {reply:?}"))),
        }
    }

    /// Waits until the VM with this serial number has ended, and says how.
    pub(crate) fn end_of(&mut self, serial: u64) -> Result<EndReason, Verdict> {
        self.until("a VM to end", |session| session.take_end(serial))
    }

    /// How a VM has ended, if that was told.
    pub(crate) fn take_end(&mut self, serial: u64) -> Option<EndReason> {
        let index = self.ends.iter().position(|(ended, _)| *ended == serial)?;
        Some(self.ends.swap_remove(index).1)
    }

    /// Lets messages come and go until `found` gives something.
    pub(crate) fn until<T>(
        &mut self,
        what: &str,
        mut found: impl FnMut(&mut Self) -> Option<T>,
    ) -> Result<T, Verdict> {
        let deadline = now().saturating_add(PATIENCE);
        loop {
            let moved = self.client.turn(&mut self.channel).map_err(Verdict::failure)?;
            while let Some(event) = self.client.next_event() {
                self.take(event);
            }
            if let Some(found) = found(self) {
                return Ok(found);
            }
            if !moved && self.machine.wait(&mut self.channel, deadline).map_err(Verdict::failure)? {
                return Err(Verdict::Failure(format!("waited in vain for {what}")));
            }
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Ready { .. } => {}
            Event::Answered { id, answer } => {
                self.answers.insert(id, answer);
            }
            Event::Ended { serial, reason, .. } => self.ends.push((serial, reason)),
        }
    }

    /// Says goodbye.
    pub(crate) fn close(self) -> Result<(), Verdict> {
        self.channel.close().map(|_| ()).map_err(Verdict::failure)
    }
}
