//! A conversation with the control domain.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use event_channel::EventWords;
use hypercall::Xen;
use protocols::channel::ChannelWord;
use protocols::message::{
    ControlNotice, ControlReply, ControlRequest, ControlVm, Failure, HEADER_LEN, Kind, VERSION,
};
use pv_runtime::{GrantPage, Hypervisor, clock, events};
use server_client::{Messages, MessagesError, Patience};
use vchan::{ChannelError, Client};
use verdict::Verdict;

/// How long to wait for anything: 120 s, in nanoseconds. A Linux is unpacked and built on the way.
const PATIENCE: u64 = 120_000_000_000;

/// Between two looks at the list: 20 ms, in nanoseconds.
const LOOK_AGAIN: u64 = 20_000_000;

/// System time in nanoseconds.
pub(crate) fn now() -> u64 {
    clock::now().nanos()
}

/// What a conversation needs.
pub(crate) struct Machine {
    xen: Xen<Hypervisor>,
    words: EventWords<'static>,
}

impl Machine {
    pub(crate) fn new() -> Result<Self, Verdict> {
        Ok(Self {
            xen: Xen::unprivileged(Hypervisor).map_err(Verdict::error)?,
            words: events::words().ok_or_else(|| Verdict::error("no event bitmaps"))?,
        })
    }

    /// Sleeps for so many nanoseconds.
    pub(crate) fn sleep(&self, nanos: u64) -> Result<(), Verdict> {
        self.xen.poll(&[], Some(now().saturating_add(nanos))).map_err(Verdict::error)
    }
}

/// A conversation.
pub(crate) struct Session<'m> {
    machine: &'m Machine,
    channel: Client<'m, Hypervisor, GrantPage>,
    messages: Messages,
    last_id: u32,
    notices: VecDeque<ControlNotice>,
}

impl<'m> Session<'m> {
    /// Connects to the control domain, which offered the channel before this VM was built, and says hello.
    pub(crate) fn open(machine: &'m Machine, word: &ChannelWord) -> Result<Self, Verdict> {
        let slot = || GrantPage::new().ok();
        let channel = server_client::connect(&machine.xen, word, Patience::of(PATIENCE), now, slot);
        let mut session = Self {
            machine,
            channel: channel.map_err(Verdict::failure)?,
            messages: Messages::default(),
            last_id: 0,
            notices: VecDeque::new(),
        };
        let hello =
            ControlRequest::Hello { lowest: VERSION, highest: VERSION, name: "control-client".into() };
        match session.ask(&hello)? {
            ControlReply::Hello { version: VERSION, .. } => Ok(session),
            other => Err(Verdict::Failure(format!("the hello was answered by {other:?}"))),
        }
    }

    /// Sends what is no message, and hears the control domain out: a notice why it says no more, and the end of the stream.
    pub(crate) fn break_the_rules(mut self) -> Result<Failure, Verdict> {
        self.channel.write(&[0; HEADER_LEN]).map_err(Verdict::failure)?;
        let deadline = now().saturating_add(PATIENCE);
        let mut dropped = None;
        loop {
            match self.messages.receive(&mut self.channel) {
                Ok(Some(frame)) => match frame.decode().map_err(Verdict::failure)? {
                    ControlNotice::Dropped(failure) => dropped = Some(failure),
                    other => self.notices.push_back(other),
                },
                Ok(None) => self.wait(deadline)?,
                Err(MessagesError::Transport(ChannelError::Closed { .. })) => break,
                Err(other) => return Err(Verdict::failure(other)),
            }
        }
        self.channel.close().map_err(Verdict::failure)?;
        dropped.ok_or_else(|| Verdict::failure("the channel was closed without a word"))
    }

    /// Asks, and waits for the answer.
    pub(crate) fn ask(&mut self, request: &ControlRequest) -> Result<ControlReply, Verdict> {
        self.last_id += 1;
        self.messages.send(self.last_id, request).map_err(Verdict::error)?;
        let deadline = now().saturating_add(PATIENCE);
        loop {
            let moved = self.messages.flush(&mut self.channel).map_err(Verdict::failure)?;
            if let Some(reply) = self.hear()? {
                return Ok(reply);
            }
            if !moved {
                self.wait(deadline)?;
            }
        }
    }

    /// Takes what has come, up to the next answer.
    fn hear(&mut self) -> Result<Option<ControlReply>, Verdict> {
        while let Some(frame) = self.messages.receive(&mut self.channel).map_err(Verdict::failure)? {
            if frame.kind == Kind::ControlNotice {
                self.notices.push_back(frame.decode().map_err(Verdict::failure)?);
            } else if frame.id == self.last_id {
                return frame.decode().map(Some).map_err(Verdict::failure);
            } else {
                return Err(Verdict::Failure(format!("an answer to request {}, not asked", frame.id)));
            }
        }
        Ok(None)
    }

    /// Sleeps until something has moved.
    fn wait(&mut self, deadline: u64) -> Result<(), Verdict> {
        self.channel.wait(self.machine.words, Some(deadline), now).map_err(Verdict::failure)?;
        if now() >= deadline { Err(Verdict::failure("waited in vain for an answer")) } else { Ok(()) }
    }

    /// Asks for something that has to be done.
    pub(crate) fn done(&mut self, what: &str, request: &ControlRequest) -> Result<(), Verdict> {
        match self.ask(request)? {
            ControlReply::Done => Ok(()),
            other => Err(Verdict::Failure(format!("{what}: {other:?}"))),
        }
    }

    /// The VMs of a platform.
    pub(crate) fn list(&mut self, platform: &str) -> Result<Vec<ControlVm>, Verdict> {
        match self.ask(&ControlRequest::List { platform: platform.into(), skip: 0 })? {
            ControlReply::Vms { vms, more: false } => Ok(vms),
            other => Err(Verdict::Failure(format!("a list: {other:?}"))),
        }
    }

    /// Reads the whole journal: each entry's text.
    pub(crate) fn journal(&mut self) -> Result<Vec<String>, Verdict> {
        let (mut first, mut texts) = (0, Vec::new());
        loop {
            match self.ask(&ControlRequest::ReadJournal { first })? {
                ControlReply::Journal { entries, more } => {
                    first = entries.last().map_or(first, |entry| entry.number.saturating_add(1));
                    texts.extend(entries.into_iter().map(|entry| entry.text));
                    if !more {
                        return Ok(texts);
                    }
                }
                other => return Err(Verdict::Failure(format!("the journal: {other:?}"))),
            }
        }
    }

    /// Waits until a VM of a platform is as `wanted`, and gives it.
    pub(crate) fn until(
        &mut self,
        (platform, vm): (&str, &str),
        wanted: impl Fn(&ControlVm) -> bool,
    ) -> Result<ControlVm, Verdict> {
        let deadline = now().saturating_add(PATIENCE);
        loop {
            let found = self.list(platform)?.into_iter().find(|entry| entry.name == vm);
            let found = found.ok_or_else(|| Verdict::Failure(format!("{platform} lists no VM {vm}")))?;
            if wanted(&found) {
                return Ok(found);
            }
            if now() >= deadline {
                return Err(Verdict::Failure(format!("waited in vain for VM {vm}: {found:?}")));
            }
            self.machine.sleep(LOOK_AGAIN)?;
        }
    }

    /// What was told without being asked for, so far.
    pub(crate) fn notices(&self) -> Vec<String> {
        self.notices.iter().map(|notice| format!("{notice:?}")).collect()
    }
}
