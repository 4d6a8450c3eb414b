//! Asking db-server.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;

use protocols::message::{
    EndReason, Failure, Frame, Kind, MessageError, Quota, ServerNotice, ServerReply, ServerRequest, VERSION,
};

use crate::{ClientError, Messages, MessagesError, Transport};

/// The number of a request, by which its answer is known.
pub type RequestId = u32;

/// Bytes that wait to be sent from which on no further request is encoded: what is queued stays small as long as db-server
/// does not read.
const ENOUGH: usize = 64 << 10;

/// Messages that one turn takes.
const TURN: usize = 64;

/// What db-server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It has answered the hello; from here on requests are sent.
    Ready {
        /// Its name.
        server: String,
        /// What this controller may have.
        quota: Quota,
    },
    /// It has answered a request: with what was asked for, or why not.
    Answered {
        /// The request.
        id: RequestId,
        /// The answer: of the kind that belongs to the request, never [`ServerReply::Failed`].
        answer: Result<ServerReply, Failure>,
    },
    /// A VM of this controller has ended.
    Ended {
        /// Its domain id.
        domid: u16,
        /// Its name.
        name: String,
        /// How.
        reason: EndReason,
        /// Its serial number, by which a VM is known that has the domain id of an earlier one.
        serial: u64,
    },
}

/// The kinds of answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Hello,
    Image,
    Built,
    Vms,
    Done,
    Facts,
}

impl Wanted {
    fn of(request: &ServerRequest) -> Self {
        match request {
            ServerRequest::Hello { .. } => Self::Hello,
            ServerRequest::PutImageBegin { .. }
            | ServerRequest::PutImageChunk { .. }
            | ServerRequest::PutImageEnd { .. } => Self::Image,
            ServerRequest::Build(_) => Self::Built,
            ServerRequest::List { .. } => Self::Vms,
            ServerRequest::Facts => Self::Facts,
            ServerRequest::Pause { .. }
            | ServerRequest::Unpause { .. }
            | ServerRequest::Shutdown { .. }
            | ServerRequest::Destroy { .. }
            | ServerRequest::WatchExits { .. }
            | ServerRequest::PutImageCancel { .. } => Self::Done,
        }
    }

    fn is_met_by(self, reply: &ServerReply) -> bool {
        match reply {
            ServerReply::Hello { .. } => self == Self::Hello,
            ServerReply::Image { .. } => self == Self::Image,
            ServerReply::Built(_) => self == Self::Built,
            ServerReply::Vms { .. } => self == Self::Vms,
            ServerReply::Done => self == Self::Done,
            ServerReply::Facts(_) => self == Self::Facts,
            ServerReply::Failed(_) => true,
        }
    }
}

/// A controller's side of its conversation with db-server. A channel that was lost is the end of a conversation: the next begins
/// with another client.
#[derive(Debug)]
pub struct Client {
    messages: Messages,
    last_id: RequestId,
    /// Requests that were not sent yet.
    queued: VecDeque<(RequestId, ServerRequest)>,
    /// Those that were, with the answers that they can have.
    under_way: BTreeMap<RequestId, Wanted>,
    quota: Option<Quota>,
    events: VecDeque<Event>,
}

impl Client {
    /// A controller that calls itself `name` (the form of a VM's name) and begins with a hello.
    pub fn new(name: &str) -> Result<Self, MessageError> {
        let mut client = Self {
            messages: Messages::default(),
            last_id: 0,
            queued: VecDeque::new(),
            under_way: BTreeMap::new(),
            quota: None,
            events: VecDeque::new(),
        };
        let id = client.next_id();
        let hello = ServerRequest::Hello { lowest: VERSION, highest: VERSION, name: name.into() };
        client.messages.send(id, &hello)?;
        client.under_way.insert(id, Wanted::Hello);
        Ok(client)
    }

    /// Asks for something. It is sent as soon as the hello is answered and fewer requests are under way than the quota allows.
    pub fn ask(&mut self, request: ServerRequest) -> RequestId {
        let id = self.next_id();
        self.queued.push_back((id, request));
        id
    }

    /// How many requests would be sent at once if they were asked now; 0 before the hello was answered.
    pub fn room(&self) -> usize {
        let busy = self.under_way.len().saturating_add(self.queued.len());
        self.limit().saturating_sub(busy)
    }

    /// Whether everything that was asked has been answered.
    pub fn is_idle(&self) -> bool {
        self.queued.is_empty() && self.under_way.is_empty()
    }

    /// What this controller may have, once the hello was answered.
    pub fn quota(&self) -> Option<Quota> {
        self.quota
    }

    /// The next thing that db-server said.
    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Sends and receives what can be; says whether anything moved. After an error the conversation is over, and the events that came
    /// before it can still be taken.
    pub fn turn<T: Transport>(&mut self, transport: &mut T) -> Result<bool, ClientError<T::Error>> {
        let mut moved = self.send(transport)?;
        for _ in 0..TURN {
            let Some(frame) = self.messages.receive(transport)? else { break };
            self.take(&frame)?;
            moved = true;
        }
        // Answers make room for requests that waited.
        Ok(self.send(transport)? || moved)
    }

    fn send<T: Transport>(&mut self, transport: &mut T) -> Result<bool, ClientError<T::Error>> {
        while self.under_way.len() < self.limit() && self.messages.unsent() < ENOUGH {
            let Some((id, request)) = self.queued.pop_front() else { break };
            self.under_way.insert(id, Wanted::of(&request));
            self.messages.send(id, &request).map_err(MessagesError::Message)?;
        }
        Ok(self.messages.flush(transport)?)
    }

    /// Requests that may be under way: none but the hello before that was answered, and always one after that.
    fn limit(&self) -> usize {
        self.quota.map_or(0, |quota| usize::try_from(quota.requests).unwrap_or(usize::MAX).max(1))
    }

    fn next_id(&mut self) -> RequestId {
        loop {
            self.last_id = self.last_id.wrapping_add(1);
            let taken = self.queued.iter().any(|(id, _)| *id == self.last_id);
            // 0 is the number of notices.
            if self.last_id != 0 && !taken && !self.under_way.contains_key(&self.last_id) {
                return self.last_id;
            }
        }
    }

    fn take<E>(&mut self, frame: &Frame) -> Result<(), ClientError<E>> {
        if frame.kind == Kind::ServerNotice {
            return match frame.decode().map_err(MessagesError::Message)? {
                ServerNotice::Ended { domid, name, reason, serial } => {
                    self.events.push_back(Event::Ended { domid, name, reason, serial });
                    Ok(())
                }
                ServerNotice::Dropped(failure) => Err(ClientError::Dropped(failure)),
            };
        }
        let (id, reply) = (frame.id, frame.decode::<ServerReply>().map_err(MessagesError::Message)?);
        let wanted = self.under_way.remove(&id).filter(|wanted| wanted.is_met_by(&reply));
        let wanted = wanted.ok_or(ClientError::Unasked { id })?;
        match (wanted, reply) {
            (Wanted::Hello, ServerReply::Failed(failure)) => return Err(ClientError::Refused(failure)),
            (Wanted::Hello, ServerReply::Hello { name: server, quota, .. }) => {
                self.quota = Some(quota);
                self.events.push_back(Event::Ready { server, quota });
            }
            (_, ServerReply::Failed(failure)) => {
                self.events.push_back(Event::Answered { id, answer: Err(failure) });
            }
            (_, answer) => self.events.push_back(Event::Answered { id, answer: Ok(answer) }),
        }
        Ok(())
    }
}
