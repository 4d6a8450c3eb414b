//! Asking a XenStore.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString};

use event_channel::LocalPort;
use pv_runtime::{Boot, Hypervisor, SharedBytes};
use verdict::Verdict;
use xenstore::{Kind, Message, Reader, Ring, Side};

use crate::{Machine, now};

/// How long an answer, or news, may take: 120 s, in nanoseconds.
const PATIENCE: u64 = 120_000_000_000;

/// A domain's own connection.
pub(crate) struct Asking<'x> {
    machine: &'x Machine,
    ring: Ring<SharedBytes>,
    port: LocalPort<'x, Hypervisor>,
    reader: Reader,
    requests: u32,
    news: VecDeque<String>,
}

impl<'x> Asking<'x> {
    /// Takes the ring that the domain was born with.
    pub(crate) fn new(machine: &'x Machine, boot: &mut Boot) -> Result<Self, Verdict> {
        let nobody = || Verdict::Failure("this domain was told of no XenStore".into());
        let (memory, port) = boot.store().ok_or_else(nobody)?;
        Ok(Self {
            machine,
            ring: Ring::new(memory, Side::Client),
            port: LocalPort::adopt(&machine.xen, port),
            reader: Reader::default(),
            requests: 0,
            news: VecDeque::new(),
        })
    }

    /// Makes a request whose payload is `strings` with NULs between; gives the answer's payload, or the name of an error.
    pub(crate) fn try_ask(
        &mut self,
        kind: Kind,
        strings: &[&str],
    ) -> Result<Result<String, String>, Verdict> {
        self.requests += 1;
        let request = Message::new(kind, self.requests, 0, strings.join("\0").into_bytes()).encode();
        let mut rest = request.as_slice();
        while !rest.is_empty() {
            let sent = self.ring.write(rest).map_err(Verdict::failure)?;
            rest = rest.get(sent..).unwrap_or_default();
            self.port.notify().map_err(Verdict::failure)?;
            if sent == 0 {
                self.sleep()?;
            }
        }
        loop {
            let message = self.next()?;
            let text = String::from_utf8(message.payload).map_err(Verdict::failure)?;
            match message.header.kind {
                Kind::WatchEvent => self.news.push_back(text.replace('\0', " ")),
                Kind::Error => return Ok(Err(text.trim_end_matches('\0').to_string())),
                _ => return Ok(Ok(text)),
            }
        }
    }

    /// The same for a request that has to be granted.
    pub(crate) fn ask(&mut self, kind: Kind, strings: &[&str]) -> Result<String, Verdict> {
        let answer = self.try_ask(kind, strings)?;
        answer.map_err(|error| Verdict::Failure(format!("{kind:?} {strings:?}: {error}")))
    }

    /// Sets a value.
    pub(crate) fn write(&mut self, path: &str, value: &str) -> Result<(), Verdict> {
        self.ask(Kind::Write, &[path, value]).map(|_| ())
    }

    /// The next news: path and token.
    pub(crate) fn news(&mut self) -> Result<String, Verdict> {
        if let Some(news) = self.news.pop_front() {
            return Ok(news);
        }
        let message = self.next()?;
        String::from_utf8(message.payload).map(|text| text.replace('\0', " ")).map_err(Verdict::failure)
    }

    /// The next message from the store.
    fn next(&mut self) -> Result<Message, Verdict> {
        loop {
            let damaged = |length| Verdict::Failure(format!("a message of {length} bytes"));
            if let Some(message) = self.reader.take_message().map_err(damaged)? {
                return Ok(message);
            }
            let mut buffer = [0; 256];
            let taken = self.ring.read(&mut buffer).map_err(Verdict::failure)?;
            self.reader.push(buffer.get(..taken).unwrap_or_default());
            if taken > 0 {
                self.port.notify().map_err(Verdict::failure)?;
            } else {
                self.sleep()?;
            }
        }
    }

    /// Sleeps until the store has done something.
    fn sleep(&self) -> Result<(), Verdict> {
        let Machine { xen, words } = self.machine;
        let deadline = now() + PATIENCE;
        let ports = [self.port.port()];
        let woken = event_channel::wait(xen, *words, &ports, Some(deadline), now).map_err(Verdict::error)?;
        words.take(self.port.port());
        if !woken && now() >= deadline {
            return Err(Verdict::Failure("the XenStore does not answer".into()));
        }
        Ok(())
    }
}
