//! A client and a scripted db-server over streams in memory that carry a few bytes at a time.
#![allow(missing_docs, reason = "a test's name says what it checks")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise, in its helpers too"
)]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use proptest::prelude::*;
use protocols::message::{
    self, EndReason, Failure, Frame, Message, Quota, Reason, ServerNotice, ServerReply, ServerRequest, Stream,
};
use server_client::{Client, ClientError, Event, Messages, MessagesError, SEND_LIMIT, Transport};

/// Two directions of bytes, with room for so many.
#[derive(Clone, Default)]
struct Wire {
    to_server: Rc<RefCell<VecDeque<u8>>>,
    to_client: Rc<RefCell<VecDeque<u8>>>,
    room: usize,
}

/// The stream is at its end.
#[derive(Debug, PartialEq)]
struct Never;

impl std::fmt::Display for Never {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("never")
    }
}

impl Transport for Wire {
    type Error = Never;

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Never> {
        let mut from = self.to_client.borrow_mut();
        let count = buffer.len().min(from.len());
        for (to, byte) in buffer.iter_mut().zip(from.drain(..count)) {
            *to = byte;
        }
        Ok(count)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<usize, Never> {
        let mut to = self.to_server.borrow_mut();
        let count = bytes.len().min(self.room.saturating_sub(to.len()));
        to.extend(&bytes[..count]);
        Ok(count)
    }
}

/// The other side.
struct Server {
    wire: Wire,
    stream: Stream,
}

impl Server {
    /// The requests that have come whole.
    fn requests(&mut self) -> Vec<(u32, ServerRequest)> {
        let bytes: Vec<u8> = self.wire.to_server.borrow_mut().drain(..).collect();
        let (mut rest, mut found) = (bytes.as_slice(), Vec::new());
        while !rest.is_empty() {
            if let Some(frame) = self.stream.take(&mut rest).unwrap() {
                found.push((frame.id, Frame::decode(&frame).unwrap()));
            }
        }
        found
    }

    fn say<M: Message>(&mut self, id: u32, message: &M) {
        self.wire.to_client.borrow_mut().extend(message::encode(id, message).unwrap());
    }
}

fn quota(requests: u32) -> Quota {
    Quota { memory_kib: 1024, vms: 4, first_domid: 10, last_domid: 19, store_bytes: 0, requests }
}

fn pair(room: usize) -> (Client, Wire, Server) {
    let wire = Wire { room, ..Wire::default() };
    (Client::new("control").unwrap(), wire.clone(), Server { wire, stream: Stream::new() })
}

/// A client that was greeted, and may have so many requests under way.
fn greeted(requests: u32) -> (Client, Wire, Server) {
    let (mut client, mut wire, mut server) = pair(1 << 20);
    client.turn(&mut wire).unwrap();
    assert!(matches!(server.requests().as_slice(), [(1, ServerRequest::Hello { .. })]));
    server.say(1, &ServerReply::Hello { version: 1, name: "db-server".into(), quota: quota(requests) });
    client.turn(&mut wire).unwrap();
    let ready = Event::Ready { server: "db-server".into(), quota: quota(requests) };
    assert_eq!(client.next_event(), Some(ready));
    (client, wire, server)
}

#[test]
fn nothing_is_asked_before_the_hello_is_answered_and_then_no_more_than_allowed() {
    let (mut client, mut wire, mut server) = pair(1 << 20);
    let ids: Vec<u32> = (0..3).map(|_| client.ask(ServerRequest::Facts)).collect();
    client.turn(&mut wire).unwrap();
    assert_eq!((server.requests().len(), client.room()), (1, 0));
    server.say(1, &ServerReply::Hello { version: 1, name: "s".into(), quota: quota(2) });
    client.turn(&mut wire).unwrap();
    let sent: Vec<u32> = server.requests().iter().map(|(id, _)| *id).collect();
    assert_eq!(sent, ids[..2]);
    let refusal = Failure { reason: Reason::Busy, detail: "not now".into() };
    server.say(ids[1], &ServerReply::Failed(refusal.clone()));
    client.turn(&mut wire).unwrap();
    assert_eq!(server.requests().len(), 1);
    assert!(matches!(client.next_event(), Some(Event::Ready { .. })));
    assert_eq!(client.next_event(), Some(Event::Answered { id: ids[1], answer: Err(refusal) }));
    assert!(!client.is_idle());
}

#[test]
fn answers_in_another_order_find_their_requests_and_notices_come_between() {
    let (mut client, mut wire, mut server) = greeted(8);
    let (list, pause) = (
        client.ask(ServerRequest::List { after: 0 }),
        client.ask(ServerRequest::Pause { domid: 12, serial: None }),
    );
    client.turn(&mut wire).unwrap();
    server.say(pause, &ServerReply::Done);
    server
        .say(0, &ServerNotice::Ended { domid: 12, name: "web".into(), reason: EndReason::Crash, serial: 7 });
    server.say(list, &ServerReply::Vms { vms: vec![], more: false });
    client.turn(&mut wire).unwrap();
    assert_eq!(client.next_event(), Some(Event::Answered { id: pause, answer: Ok(ServerReply::Done) }));
    assert!(matches!(client.next_event(), Some(Event::Ended { domid: 12, serial: 7, .. })));
    assert!(matches!(client.next_event(), Some(Event::Answered { id, .. }) if id == list));
    assert!(client.is_idle() && client.next_event().is_none());
}

#[test]
fn an_answer_that_nobody_asked_for_or_of_another_kind_ends_the_conversation() {
    for (answer, asked) in [(ServerReply::Done, true), (ServerReply::Vms { vms: vec![], more: false }, false)]
    {
        let (mut client, mut wire, mut server) = greeted(8);
        let id = client.ask(ServerRequest::Facts);
        client.turn(&mut wire).unwrap();
        let id = if asked { id } else { id + 1 };
        server.say(id, &answer);
        assert_eq!(client.turn(&mut wire), Err(ClientError::Unasked { id }));
    }
}

#[test]
fn being_dropped_and_being_refused_are_told_with_the_reason() {
    let failure = Failure { reason: Reason::Busy, detail: "flood".into() };
    let (mut client, mut wire, mut server) = greeted(1);
    server.say(0, &ServerNotice::Dropped(failure.clone()));
    assert_eq!(client.turn(&mut wire), Err(ClientError::Dropped(failure.clone())));
    let (mut client, mut wire, mut server) = pair(1 << 20);
    client.turn(&mut wire).unwrap();
    server.say(1, &ServerReply::Failed(failure.clone()));
    assert_eq!(client.turn(&mut wire), Err(ClientError::Refused(failure)));
}

#[test]
fn what_a_peer_does_not_take_is_bounded() {
    let (mut messages, mut wire) = (Messages::default(), Wire::default());
    let request = ServerRequest::PutImageChunk {
        digest: protocols::Digest([0; 32]),
        offset: 0,
        bytes: vec![0; 32 << 10],
    };
    for id in 1.. {
        messages.send(id, &request).unwrap();
        match messages.flush(&mut wire) {
            Ok(moved) => assert!(!moved && messages.unsent() <= SEND_LIMIT),
            Err(MessagesError::Stalled { waiting, .. }) => return assert!(waiting > SEND_LIMIT),
            Err(other) => panic!("{other}"),
        }
    }
}

proptest! {
    /// However the bytes are cut, every request arrives once and every answer is told.
    #[test]
    fn streams_of_any_grain_carry_a_conversation(room in 1_usize..200, count in 1_usize..20, limit in 1_u32..5) {
        let (mut client, mut wire, mut server) = pair(room);
        let ids: Vec<u32> = (0..count).map(|_| client.ask(ServerRequest::Facts)).collect();
        let (mut asked, mut answered) = (Vec::new(), Vec::new());
        for _ in 0..100_000 {
            client.turn(&mut wire).unwrap();
            for (id, request) in server.requests() {
                if matches!(request, ServerRequest::Hello { .. }) {
                    server.say(id, &ServerReply::Hello { version: 1, name: "s".into(), quota: quota(limit) });
                } else {
                    asked.push(id);
                    server.say(id, &ServerReply::Failed(Failure { reason: Reason::Busy, detail: String::new() }));
                }
            }
            while let Some(event) = client.next_event() {
                if let Event::Answered { id, .. } = event { answered.push(id); }
            }
            if answered.len() == count { break; }
        }
        prop_assert_eq!(&asked, &ids);
        prop_assert_eq!(&answered, &ids);
    }

    /// Whatever a server sends, there is an event or an error, and no panic.
    #[test]
    fn any_bytes_of_a_server_are_events_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..400), cut in 0_usize..60) {
        let (mut client, mut wire, mut server) = greeted(8);
        let id = client.ask(ServerRequest::Facts);
        client.turn(&mut wire).unwrap();
        server.say(id, &ServerReply::Done);
        server.wire.to_client.borrow_mut().truncate(cut);
        server.wire.to_client.borrow_mut().extend(&bytes);
        let _ = client.turn(&mut wire);
        while client.next_event().is_some() {}
    }
}
