//! The store as its clients see it: by bytes.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise, in its helpers too")]
#![allow(missing_docs, reason = "a test's name says what it checks")]

use std::cell::RefCell;
use std::rc::Rc;

use hypercall::SharedMemory;
use proptest::prelude::*;
use xenstore::{Domains, Kind, Limits, Message, Reader, Ring, RingError, Side, Store, StoreError};

const CONTROL: u16 = 6;

/// What was asked to be done with domains.
#[derive(Default)]
struct Asked(Vec<(u16, Option<u32>)>);

impl Domains for Asked {
    fn introduce(&mut self, domid: u16, port: u32) -> Result<(), StoreError> {
        if port == 0 {
            return Err(StoreError::Invalid);
        }
        self.0.push((domid, Some(port)));
        Ok(())
    }

    fn release(&mut self, domid: u16) {
        self.0.push((domid, None));
    }
}

/// A store with domains 7 and 8, whose homes are theirs.
struct World {
    store: Store,
    asked: Asked,
}

impl World {
    fn new() -> Self {
        let mut world = Self { store: Store::new(CONTROL), asked: Asked::default() };
        for domid in ["7", "8"] {
            let home = format!("/local/domain/{domid}");
            assert_eq!(world.ask(CONTROL, Kind::Introduce, 0, &[domid, "0", "2", ""]), Ok("OK\0".into()));
            assert_eq!(world.ask(CONTROL, Kind::Mkdir, 0, &[&home, ""]), Ok("OK\0".into()));
            assert_eq!(
                world.ask(CONTROL, Kind::SetPerms, 0, &[&home, &format!("n{domid}"), ""]),
                Ok("OK\0".into())
            );
        }
        world
    }

    /// Everything that waits for a domain.
    fn take(&mut self, domid: u16) -> Vec<Message> {
        let mut messages = Vec::new();
        let mut reader = Reader::default();
        while !self.store.waiting(domid).is_empty() {
            let bytes = self.store.waiting(domid);
            let bytes = bytes[..bytes.len().min(reader.room())].to_vec();
            self.store.sent(domid, bytes.len());
            reader.push(&bytes);
            while let Some(message) = reader.take_message().unwrap() {
                messages.push(message);
            }
        }
        messages
    }

    /// Makes a request of strings joined by NUL; gives the answer's payload, or the name of an error.
    fn ask(&mut self, domid: u16, kind: Kind, transaction: u32, strings: &[&str]) -> Result<String, String> {
        let request = Message::new(kind, 99, transaction, strings.join("\0").into_bytes());
        self.store.receive(&mut self.asked, domid, &request.encode());
        let mut answers = self.take(domid).into_iter();
        let is_answer = |message: &Message| message.header.kind != Kind::WatchEvent;
        let answer = answers.find(is_answer).unwrap();
        assert_eq!((answer.header.request, answer.header.transaction), (99, transaction));
        let text = String::from_utf8(answer.payload).unwrap();
        if answer.header.kind == Kind::Error { Err(text.trim_end_matches('\0').into()) } else { Ok(text) }
    }

    fn write(&mut self, domid: u16, path: &str, value: &str) -> Result<String, String> {
        self.ask(domid, Kind::Write, 0, &[path, value])
    }

    fn read(&mut self, domid: u16, path: &str) -> Result<String, String> {
        self.ask(domid, Kind::Read, 0, &[path, ""])
    }

    /// The news that a domain has got: path and token.
    fn news(&mut self, domid: u16) -> Vec<String> {
        let news = self.take(domid).into_iter().filter(|message| message.header.kind == Kind::WatchEvent);
        news.map(|message| String::from_utf8(message.payload).unwrap().replace('\0', " ")).collect()
    }
}

#[test]
fn nodes_are_written_read_listed_and_removed() {
    let mut world = World::new();
    assert_eq!(world.write(7, "data/a", "one"), Ok("OK\0".into()));
    assert_eq!(world.write(7, "data/b", ""), Ok("OK\0".into()));
    assert_eq!(world.read(7, "/local/domain/7/data/a"), Ok("one".into()));
    assert_eq!(world.ask(7, Kind::Directory, 0, &["data", ""]), Ok("a\0b\0".into()));
    assert_eq!(world.ask(7, Kind::Directory, 0, &["", ""]), Err("EINVAL".into()));
    assert_eq!(world.ask(7, Kind::Remove, 0, &["data", ""]), Ok("OK\0".into()));
    assert_eq!(world.read(7, "data/a"), Err("ENOENT".into()));
    assert_eq!(world.ask(CONTROL, Kind::Remove, 0, &["/", ""]), Err("EINVAL".into()));
    assert_eq!(world.ask(7, Kind::GetDomainPath, 0, &["8", ""]), Ok("/local/domain/8\0".into()));
}

#[test]
fn a_domain_reaches_what_is_its_own_and_what_it_is_given() {
    let mut world = World::new();
    world.write(7, "secret", "x").unwrap();
    for path in ["/local/domain/7/secret", "/local/domain/7/absent", "/local", "/"] {
        assert_eq!(world.read(8, path), Err("EACCES".into()), "{path}");
        assert_eq!(world.write(8, path, "y"), Err("EACCES".into()), "{path}");
    }
    assert_eq!(world.ask(7, Kind::GetPerms, 0, &["secret", ""]), Ok("n7\0".into()));
    assert_eq!(world.ask(8, Kind::SetPerms, 0, &["/local/domain/7/secret", "b8", ""]), Err("EACCES".into()));
    assert_eq!(world.ask(7, Kind::SetPerms, 0, &["secret", "n7", "r8", ""]), Ok("OK\0".into()));
    assert_eq!(world.read(8, "/local/domain/7/secret"), Ok("x".into()));
    assert_eq!(world.write(8, "/local/domain/7/secret", "y"), Err("EACCES".into()));
    assert_eq!(
        world.ask(7, Kind::SetPerms, 0, &["secret", "n8", ""]),
        Err("EACCES".into()),
        "not given away"
    );
    assert_eq!(world.write(CONTROL, "/local/domain/7/secret", "z"), Ok("OK\0".into()));
}

#[test]
fn watches_tell_of_changes_by_the_names_that_their_owners_use() {
    let mut world = World::new();
    let shutdown = "/local/domain/7/control/shutdown";
    assert!(!world.store.watches(7, shutdown));
    world.ask(7, Kind::Watch, 0, &["control/shutdown", "t1", ""]).unwrap();
    assert!(world.store.watches(7, shutdown) && !world.store.watches(8, shutdown));
    assert!(!world.store.watches(7, "/local/domain/7/control"), "what is above it is another matter");
    world.ask(7, Kind::Watch, 0, &["/local/domain/7", "t2", ""]).unwrap();
    assert!(world.store.watches(7, "/local/domain/7/control"));
    assert_eq!(world.ask(7, Kind::Watch, 0, &["control/shutdown", "t1", ""]), Err("EEXIST".into()));
    world.write(CONTROL, "/local/domain/7/control/shutdown", "poweroff").unwrap();
    let path = "/local/domain/7/control/shutdown";
    assert_eq!(world.news(7), ["control/shutdown t1 ".to_owned(), format!("{path} t2 ")]);
    world.ask(CONTROL, Kind::Remove, 0, &["/local/domain/7/control", ""]).unwrap();
    assert_eq!(world.news(7), ["control/shutdown t1 ", "/local/domain/7/control t2 "]);
    world.ask(7, Kind::Unwatch, 0, &["control/shutdown", "t1", ""]).unwrap();
    world.ask(7, Kind::Watch, 0, &["/local/domain/8", "t3", ""]).unwrap();
    world.write(8, "x", "unseen").unwrap();
    assert_eq!(world.news(7), [""; 0]);
}

#[test]
fn a_watch_tells_at_once_that_it_is_there() {
    let mut world = World::new();
    let request = Message::new(Kind::Watch, 1, 0, b"@releaseDomain\0t\0".to_vec());
    world.store.receive(&mut world.asked, CONTROL, &request.encode());
    let kinds: Vec<_> = world.take(CONTROL).iter().map(|message| message.header.kind).collect();
    assert_eq!(kinds, [Kind::Watch, Kind::WatchEvent]);
    world.store.disconnect(8);
    assert_eq!(world.news(CONTROL), ["@releaseDomain t "]);
    assert_eq!(world.ask(7, Kind::Watch, 0, &["@releaseDomain", "t", ""]), Err("EACCES".into()));
}

#[test]
fn a_transaction_is_seen_together_or_not_at_all() {
    let mut world = World::new();
    let start = |world: &mut World| -> u32 {
        let number = world.ask(7, Kind::TransactionStart, 0, &["", ""]).unwrap();
        number.trim_end_matches('\0').parse().unwrap()
    };
    let number = start(&mut world);
    world.ask(7, Kind::Write, number, &["a", "1"]).unwrap();
    assert_eq!(world.read(7, "a"), Err("ENOENT".into()));
    assert_eq!(world.ask(7, Kind::Read, number, &["a", ""]), Ok("1".into()));
    world.ask(7, Kind::TransactionEnd, number, &["T", ""]).unwrap();
    assert_eq!(world.read(7, "a"), Ok("1".into()));

    let number = start(&mut world);
    world.ask(7, Kind::Write, number, &["a", "2"]).unwrap();
    world.write(8, "b", "meanwhile").unwrap();
    assert_eq!(world.ask(7, Kind::TransactionEnd, number, &["T", ""]), Err("EAGAIN".into()));
    assert_eq!(world.ask(7, Kind::TransactionEnd, number, &["T", ""]), Err("ENOENT".into()));
    assert_eq!(world.read(7, "a"), Ok("1".into()));
    for _ in 0..5 {
        start(&mut world);
    }
    assert_eq!(world.ask(7, Kind::TransactionStart, 0, &["", ""]), Err("ENOSPC".into()));
}

#[test]
fn only_the_domain_in_control_introduces_and_releases() {
    let mut world = World::new();
    assert_eq!(world.ask(7, Kind::Introduce, 0, &["9", "0", "2", ""]), Err("EACCES".into()));
    assert_eq!(world.ask(CONTROL, Kind::Introduce, 0, &["9", "0", "0", ""]), Err("EINVAL".into()));
    assert_eq!(world.ask(CONTROL, Kind::IsIntroduced, 0, &["9", ""]), Ok("F\0".into()));
    assert_eq!(world.ask(CONTROL, Kind::Release, 0, &["8", ""]), Ok("OK\0".into()));
    assert_eq!(world.ask(CONTROL, Kind::Release, 0, &["6", ""]), Err("ENOENT".into()));
    assert_eq!(world.asked.0, [(7, Some(2)), (8, Some(2)), (8, None)]);
    assert_eq!(world.store.domains().collect::<Vec<_>>(), [6, 7]);
}

#[test]
fn a_domain_that_takes_and_takes_finds_an_end() {
    let mut world = World::new();
    let refused = (0..1100).find_map(|number| world.write(7, &format!("n{number}"), "").err());
    assert_eq!(refused, Some("ENOSPC".into()));
    assert_eq!(world.write(7, "n1", &"x".repeat(2049)), Err("E2BIG".into()));
    let refused =
        (0..200).find_map(|number| world.ask(7, Kind::Watch, 0, &["n1", &number.to_string(), ""]).err());
    assert_eq!(refused, Some("ENOSPC".into()));
    // It does not read its answers: first nothing is taken from it any more, and when news go on coming, its connection ends.
    while world.store.room(7) > 0 {
        let request = Message::new(Kind::Directory, 1, 0, b"/local/domain/7\0".to_vec());
        world.store.receive(&mut world.asked, 7, &request.encode());
    }
    assert!(!world.store.is_broken(7) && world.store.waiting(7).len() < 32 << 10);
    for _ in 0..100 {
        world.write(CONTROL, "/local/domain/7/n1", "").unwrap();
    }
    assert!(world.store.is_broken(7) && world.store.waiting(7).is_empty());
    assert_eq!(world.read(CONTROL, "/local/domain/7/n1"), Ok(String::new()), "others are served on");
}

/// A page that two ends have.
#[derive(Clone)]
struct Page(Rc<RefCell<[u8; 4096]>>);

impl SharedMemory for Page {
    fn size(&self) -> usize {
        4096
    }
    fn read(&self, offset: usize, buffer: &mut [u8]) {
        buffer.copy_from_slice(&self.0.borrow()[offset..][..buffer.len()]);
    }
    fn write(&self, offset: usize, bytes: &[u8]) {
        self.0.borrow_mut()[offset..][..bytes.len()].copy_from_slice(bytes);
    }
    fn load_u32(&self, offset: usize) -> u32 {
        u32::from_le_bytes(*self.0.borrow()[offset..].first_chunk().unwrap())
    }
    fn store_u32(&self, offset: usize, value: u32) {
        self.write(offset, &value.to_le_bytes());
    }
    fn compare_exchange_u32(&self, offset: usize, current: u32, new: u32) -> Result<u32, u32> {
        let found = self.load_u32(offset);
        if found == current {
            self.store_u32(offset, new);
        }
        if found == current { Ok(found) } else { Err(found) }
    }
}

proptest! {
    #[test]
    fn bytes_come_through_a_ring_whole_and_in_order(
        sizes in prop::collection::vec((0_usize..1500, 0_usize..1500), 1..40),
        start in any::<u32>(),
    ) {
        let page = Page(Rc::new(RefCell::new([0; 4096])));
        for offset in [2048, 2052, 2056, 2060] {
            page.store_u32(offset, start);
        }
        let (client, server) = (Ring::new(page.clone(), Side::Client), Ring::new(page, Side::Server));
        let (mut sent, mut got) = (Vec::new(), Vec::new());
        for (out, back) in sizes {
            let bytes: Vec<u8> = (0..out).map(|at| ((sent.len() + at) % 251).to_le_bytes()[0]).collect();
            let count = client.write(&bytes).unwrap();
            sent.extend_from_slice(&bytes[..count]);
            let mut buffer = vec![0; back];
            let count = server.read(&mut buffer).unwrap();
            got.extend_from_slice(&buffer[..count]);
        }
        prop_assert!(sent.starts_with(&got) && sent.len() - got.len() <= 1024);
    }

    #[test]
    fn no_bytes_from_a_domain_panic(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..40)) {
        let mut world = World::new();
        for bytes in pieces {
            let room = world.store.room(7);
            world.store.receive(&mut world.asked, 7, &bytes[..bytes.len().min(room)]);
        }
        prop_assert_eq!(world.read(CONTROL, "/"), Ok(String::new()));
    }

    #[test]
    fn no_request_from_a_domain_panics_or_reaches_another(
        requests in prop::collection::vec((0_u32..24, 0_u32..3, "[a0/@.\\x00nrbT7]{0,12}"), 0..60),
    ) {
        let mut world = World::new();
        world.write(8, "kept", "safe").unwrap();
        for (kind, transaction, payload) in requests {
            let request = Message::new(Kind::from_raw(kind), 5, transaction, payload.into_bytes());
            world.store.receive(&mut world.asked, 7, &request.encode());
            world.take(7);
        }
        prop_assert_eq!(world.read(8, "kept"), Ok("safe".into()));
        prop_assert_eq!(world.asked.0.len(), 2);
    }
}

#[test]
fn indices_that_no_ring_has_are_an_error() {
    let page = Page(Rc::new(RefCell::new([0; 4096])));
    let server = Ring::new(page.clone(), Side::Server);
    page.store_u32(2052, 1025);
    assert_eq!(server.read(&mut [0; 10]), Err(RingError { used: 1025 }));
    page.store_u32(2056, 7);
    assert_eq!(server.write(&[0]), Err(RingError { used: 7_u32.wrapping_neg() }));
}

/// A store that domain 7 has for itself.
fn single() -> World {
    let mut store = Store::with_limits(0, Limits::SINGLE);
    store.introduce(7).unwrap();
    World { store, asked: Asked::default() }
}

#[test]
fn whoever_runs_the_store_tells_a_domain_by_its_watch() {
    let mut world = single();
    world.store.set("/local/domain/7/control/shutdown", b"").unwrap();
    assert_eq!(world.ask(7, Kind::Watch, 0, &["control/shutdown", "down", ""]), Ok("OK\0".into()));
    world.take(7);
    world.store.set("/local/domain/7/control/shutdown", b"poweroff").unwrap();
    assert_eq!(world.news(7), ["control/shutdown down "]);
    assert_eq!(world.read(7, "control/shutdown"), Ok("poweroff".into()));
    // That it has read it, it says by emptying the node: in a transaction, as Linux does.
    let number: u32 =
        world.ask(7, Kind::TransactionStart, 0, &["", ""]).unwrap().trim_end_matches('\0').parse().unwrap();
    assert_eq!(world.ask(7, Kind::Write, number, &["control/shutdown", ""]), Ok("OK\0".into()));
    assert_eq!(world.ask(7, Kind::TransactionEnd, number, &["T", ""]), Ok("OK\0".into()));
    assert_eq!(world.store.get("/local/domain/7/control/shutdown"), Some(b"".as_slice()));
    assert_eq!(world.write(7, "/elsewhere", "x"), Err("EACCES".into()), "its home is all that it has");
    assert!(world.store.set("no/path", b"").is_err());
}

#[test]
fn a_domain_cannot_make_the_store_keep_more_than_it_may() {
    let mut world = single();
    let value = "x".repeat(2000);
    let written =
        (0..100).take_while(|index| world.write(7, &format!("data/{index}"), &value).is_ok()).count();
    assert!((6..9).contains(&written), "{written} values of 2000 bytes in 16 KiB");
    assert_eq!(world.write(7, "data/0", &value), Ok("OK\0".into()), "as much as before is not more");
    assert_eq!(world.write(7, "data/0", ""), Ok("OK\0".into()));
    let made = (0..1000)
        .take_while(|index| world.ask(7, Kind::Mkdir, 0, &[&format!("n/{index}"), ""]).is_ok())
        .count();
    assert!(made < 256, "{made} nodes");
    let watched = (0..1000)
        .take_while(|index| world.ask(7, Kind::Watch, 0, &["a", &index.to_string(), ""]).is_ok())
        .count();
    assert_eq!(watched, Limits::SINGLE.watches);
    let begun = (0..9).map_while(|_| world.ask(7, Kind::TransactionStart, 0, &["", ""]).ok());
    let begun: Vec<u32> = begun.map(|number| number.trim_end_matches('\0').parse().unwrap()).collect();
    assert_eq!(begun.len(), Limits::SINGLE.transactions);
    // The same path again and again is one change; ever new ones come to an end.
    for _ in 0..1000 {
        assert_eq!(world.ask(7, Kind::Write, begun[0], &["data/1", ""]), Ok("OK\0".into()));
    }
    let removed = |index: &usize| {
        let path = format!("{}/{index}", "x".repeat(1000));
        world.ask(7, Kind::Remove, begun[1], &[&path, ""]).is_ok()
    };
    assert!((0..1000).take_while(removed).count() < 20);
}
