//! Images that controllers have sent, known by their digests.
//!
//! An image is received in parts, each of which is hashed when it comes. Once complete it is anybody's to build from who knows its digest;
//! it counts against the quota of the controller that sent it. When room is wanted, complete images that nobody builds from
//! are forgotten, the one that was not used for longest first.

use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;

use protocols::Digest;
use protocols::message::{Failure, Reason};
use sha2::{Digest as _, Sha256};

use crate::failure::failure;

mod room;

/// Heap that is left alone when an image is to be stored, in bytes: for plans, messages and everything else.
const RESERVE: usize = 4 << 20;

/// The most images of one controller's, complete or not: what the store keeps of each costs heap too, also of one without bytes.
const MOST_IMAGES: usize = 256;

/// An image that is complete, and was checked.
struct Complete {
    bytes: Rc<Vec<u8>>,
    /// Who sent it, by index; none for one that db-server has unpacked itself.
    owner: Option<usize>,
    /// When it was used last, in uses of the store.
    used: u64,
}

/// An image of which parts are missing.
struct Partial {
    bytes: Vec<u8>,
    size: usize,
    hash: Sha256,
}

/// What a controller is told of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    /// Bytes from its start.
    pub(crate) bytes: u64,
    /// Whether it is complete and was checked.
    pub(crate) complete: bool,
}

/// What an image that is begun may take, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// What all images of its sender's may take together.
    pub(crate) quota: u64,
    /// What the heap has left.
    pub(crate) spare: usize,
    /// What of that others may take yet.
    pub(crate) reserved: usize,
}

/// The images.
pub(crate) struct Store {
    /// The most bytes that all images take together.
    capacity: u64,
    complete: BTreeMap<Digest, Complete>,
    /// By who sends them, so that nobody waits for another's.
    partial: BTreeMap<(usize, Digest), Partial>,
    /// What packed kernels unpack to, by the digests of the files.
    unpacked: BTreeMap<Digest, Complete>,
    uses: u64,
}

impl Store {
    /// An empty store that may take `capacity` bytes.
    pub(crate) fn new(capacity: u64) -> Self {
        let (complete, partial, unpacked) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { capacity, complete, partial, unpacked, uses: 0 }
    }

    /// Bytes of all images.
    pub(crate) fn stored(&self) -> u64 {
        let kept = self.complete.values().chain(self.unpacked.values()).map(|image| image.bytes.len());
        kept.chain(self.partial.values().map(|image| image.size)).map(|size| size as u64).sum()
    }

    /// Bytes that count against the quota of `owner`.
    fn stored_by(&self, owner: usize) -> u64 {
        let complete = self.complete.values().filter(|image| image.owner == Some(owner));
        let partial = self.partial.iter().filter(|((by, _), _)| *by == owner);
        let partial = partial.map(|(_, image)| image.size);
        complete.map(|image| image.bytes.len()).chain(partial).map(|size| size as u64).sum()
    }

    /// Begins an image of `size` bytes, or goes on with one; the answer tells what is there. Others make room only for one that is
    /// taken.
    pub(crate) fn begin(
        &mut self,
        owner: usize,
        digest: Digest,
        size: u64,
        room: &Room,
    ) -> Result<Received, Failure> {
        if let Some(image) = self.complete.get_mut(&digest) {
            self.uses += 1;
            image.used = self.uses;
            let bytes = image.bytes.len() as u64;
            self.partial.remove(&(owner, digest));
            return Ok(Received { bytes, complete: true });
        }
        let replaced = match self.partial.get(&(owner, digest)) {
            Some(image) if image.size as u64 == size => {
                return Ok(Received { bytes: image.bytes.len() as u64, complete: false });
            }
            other => other.map(|image| image.size as u64),
        };
        let victims = self.room_for(owner, size, replaced, room.quota)?;
        let freed = victims.iter().map(|image| image.size).chain(replaced).sum();
        let length = usize::try_from(size).map_err(|_| no_memory())?;
        let needed = length.saturating_add(RESERVE).saturating_add(room.reserved);
        let mut bytes = Vec::new();
        let is_there = needed <= room.spare && bytes.try_reserve_exact(length).is_ok();
        if !is_there && needed as u64 > (room.spare as u64).saturating_add(freed) {
            return Err(no_memory());
        }
        self.partial.remove(&(owner, digest));
        self.forget(&victims);
        // A heap that is in pieces may refuse what it has: the only refusal for which something has gone.
        if !is_there && bytes.try_reserve_exact(length).is_err() {
            return Err(no_memory());
        }
        self.partial.insert((owner, digest), Partial { bytes, size: length, hash: Sha256::new() });
        Ok(Received { bytes: 0, complete: false })
    }

    /// Forgets what there is of an image that `owner` has begun and not ended.
    pub(crate) fn cancel(&mut self, owner: usize, digest: Digest) -> Result<(), Failure> {
        let image = self.partial.remove(&(owner, digest));
        image.map(|_| ()).ok_or_else(|| {
            let detail = alloc::format!(
                "image {digest}: there is nothing to give up, as this controller has not begun it or has ended it"
            );
            failure(Reason::NoSuchImage, detail)
        })
    }

    /// Takes the next part of an image.
    pub(crate) fn add(
        &mut self,
        owner: usize,
        digest: Digest,
        offset: u64,
        bytes: &[u8],
    ) -> Result<Received, Failure> {
        let Some(image) = self.partial.get_mut(&(owner, digest)) else { return Err(not_begun(digest)) };
        let received = image.bytes.len();
        if offset != received as u64 {
            let detail = alloc::format!("a part at {offset} of image {digest}: {received} bytes are there");
            return Err(failure(Reason::WrongOffset, detail));
        }
        if bytes.len() > image.size.saturating_sub(received) {
            let detail = alloc::format!(
                "a part of {} bytes at {offset} of image {digest}: it was to have {} bytes",
                bytes.len(),
                image.size
            );
            return Err(failure(Reason::WrongOffset, detail));
        }
        image.hash.update(bytes);
        image.bytes.extend_from_slice(bytes);
        Ok(Received { bytes: image.bytes.len() as u64, complete: false })
    }

    /// Ends an image: from here on it can be built from, if it is what its digest says.
    pub(crate) fn end(&mut self, owner: usize, digest: Digest) -> Result<Received, Failure> {
        if let Some(image) = self.complete.get(&digest) {
            let bytes = image.bytes.len() as u64;
            self.partial.remove(&(owner, digest));
            return Ok(Received { bytes, complete: true });
        }
        let Some(image) = self.partial.get(&(owner, digest)) else { return Err(not_begun(digest)) };
        let (received, size) = (image.bytes.len(), image.size);
        if received < size {
            let detail =
                alloc::format!("image {digest} ends at {received} of {size} bytes: send the rest first");
            return Err(failure(Reason::WrongOffset, detail));
        }
        let Some(image) = self.partial.remove(&(owner, digest)) else { return Err(not_begun(digest)) };
        let found = Digest(image.hash.finalize().into());
        if found != digest {
            let detail = alloc::format!(
                "the image sent as {digest} has digest {found}: it is forgotten; send it again"
            );
            return Err(failure(Reason::WrongDigest, detail));
        }
        self.uses += 1;
        let complete = Complete { bytes: Rc::new(image.bytes), owner: Some(owner), used: self.uses };
        self.complete.insert(digest, complete);
        Ok(Received { bytes: size as u64, complete: true })
    }

    /// A complete image, to build from. As long as the value lives, the image stays.
    pub(crate) fn get(&mut self, digest: Digest) -> Option<Rc<Vec<u8>>> {
        self.uses += 1;
        let image = self.complete.get_mut(&digest)?;
        image.used = self.uses;
        Some(Rc::clone(&image.bytes))
    }

    /// What the packed kernel of this digest unpacks to, if that was kept.
    pub(crate) fn unpacked(&mut self, digest: Digest) -> Option<Rc<Vec<u8>>> {
        self.uses += 1;
        let image = self.unpacked.get_mut(&digest)?;
        image.used = self.uses;
        Some(Rc::clone(&image.bytes))
    }

    /// Keeps what a packed kernel unpacks to, if there is room.
    pub(crate) fn keep_unpacked(&mut self, digest: Digest, bytes: &Rc<Vec<u8>>) {
        if let Some(victims) = self.room_to_unpack(bytes.len() as u64) {
            self.forget(&victims);
            self.uses += 1;
            let image = Complete { bytes: Rc::clone(bytes), owner: None, used: self.uses };
            self.unpacked.insert(digest, image);
        }
    }

    /// Forgets what a controller has begun to send and not completed.
    pub(crate) fn forget_partial(&mut self, owner: usize) {
        self.partial.retain(|(by, _), _| *by != owner);
    }

    /// How many images count against the quota of `owner`.
    fn count_of(&self, owner: usize) -> usize {
        let complete = self.complete.values().filter(|image| image.owner == Some(owner)).count();
        complete.saturating_add(self.partial.keys().filter(|(by, _)| *by == owner).count())
    }
}

fn no_memory() -> Failure {
    let detail = "the store cannot take the image: db-server has no memory left; raise dom0_mem";
    failure(Reason::OutOfMemory, detail)
}

fn not_begun(digest: Digest) -> Failure {
    let detail: String = alloc::format!("image {digest} was not begun, or is forgotten: begin it again");
    failure(Reason::NoSuchImage, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Room on the heap, and a quota.
    fn room(quota: u64) -> Room {
        Room { quota, spare: 64 << 20, reserved: 0 }
    }

    fn digest(bytes: &[u8]) -> Digest {
        Digest(Sha256::digest(bytes).into())
    }

    /// Sends an image in parts of 7 bytes.
    fn send(store: &mut Store, owner: usize, bytes: &[u8], quota: u64) -> Result<Received, Failure> {
        let digest = digest(bytes);
        let mut at = store.begin(owner, digest, bytes.len() as u64, &room(quota))?;
        while !at.complete && at.bytes < bytes.len() as u64 {
            let from = usize::try_from(at.bytes).unwrap();
            let part = &bytes[from..bytes.len().min(from + 7)];
            at = store.add(owner, digest, at.bytes, part)?;
        }
        store.end(owner, digest)
    }

    fn reason<T>(result: Result<T, Failure>) -> Reason {
        result.err().unwrap().reason
    }

    #[test]
    fn an_image_is_sent_once() {
        let mut store = Store::new(100);
        assert_eq!(send(&mut store, 0, b"an image of some length", 50).unwrap().bytes, 23);
        let known = store.begin(1, digest(b"an image of some length"), 23, &room(50)).unwrap();
        assert_eq!(known, Received { bytes: 23, complete: true });
        assert_eq!((store.stored_by(0), store.stored_by(1), store.stored()), (23, 0, 23));
        assert_eq!(**store.get(digest(b"an image of some length")).unwrap(), *b"an image of some length");
        assert!(send(&mut store, 0, b"", 50).unwrap().complete, "an empty one too");
    }

    #[test]
    fn what_does_not_fit_is_refused_for_what_it_is() {
        let mut store = Store::new(100);
        let image = digest(b"abc");
        assert_eq!(reason(store.add(0, image, 0, b"a")), Reason::NoSuchImage);
        assert_eq!(reason(store.end(0, image)), Reason::NoSuchImage);
        store.begin(0, image, 3, &room(50)).unwrap();
        assert_eq!(reason(store.add(0, image, 1, b"b")), Reason::WrongOffset);
        assert_eq!(reason(store.add(0, image, 0, b"abcd")), Reason::WrongOffset);
        assert_eq!(reason(store.add(1, image, 0, b"a")), Reason::NoSuchImage, "somebody else's");
        store.add(0, image, 0, b"ab").unwrap();
        assert_eq!(reason(store.end(0, image)), Reason::WrongOffset);
        assert_eq!(store.begin(0, image, 3, &room(50)).unwrap(), Received { bytes: 2, complete: false });
        store.add(0, image, 2, b"x").unwrap();
        assert_eq!(reason(store.end(0, image)), Reason::WrongDigest);
        assert_eq!(reason(store.end(0, image)), Reason::NoSuchImage, "it is forgotten");
        assert_eq!(reason(store.begin(0, image, 51, &room(50))), Reason::OverQuota);
        assert_eq!(reason(store.begin(0, image, 101, &room(200))), Reason::OutOfMemory);
        assert_eq!(
            reason(store.begin(0, image, 50, &Room { spare: RESERVE, ..room(50) })),
            Reason::OutOfMemory
        );
        assert_eq!(reason(store.begin(0, image, u64::MAX, &room(u64::MAX))), Reason::OutOfMemory);
        assert_eq!(store.stored(), 0);
    }

    #[test]
    fn the_longest_unused_goes_first_and_nothing_that_is_built_from() {
        let mut store = Store::new(30);
        for image in [&[1; 10], &[2; 10], &[3; 10]] {
            send(&mut store, 0, image, 30).unwrap();
        }
        let used = store.get(digest(&[1; 10])).unwrap();
        send(&mut store, 1, &[4; 10], 30).unwrap();
        assert!(store.get(digest(&[2; 10])).is_none());
        let also_used = store.get(digest(&[3; 10])).unwrap();
        let unpacked = Rc::new(alloc::vec![5; 10]);
        store.keep_unpacked(digest(b"packed"), &unpacked);
        assert!(store.get(digest(&[4; 10])).is_none() && store.unpacked(digest(b"packed")).is_some());
        assert_eq!(reason(send(&mut store, 1, &[6; 10], 30)), Reason::OutOfMemory);
        drop((used, also_used, unpacked));
        send(&mut store, 1, &[6; 30], 30).unwrap();
        assert_eq!(store.stored(), 30);
    }

    #[test]
    fn images_without_bytes_are_counted() {
        let mut store = Store::new(1000);
        let name = |number: usize| digest(&number.to_le_bytes());
        for number in 0..MOST_IMAGES {
            store.begin(0, name(number), 0, &room(100)).unwrap();
        }
        let refused =
            |store: &mut Store, owner, quota| reason(store.begin(owner, name(9999), 0, &room(quota)));
        assert_eq!(refused(&mut store, 0, 100), Reason::OverQuota);
        assert_eq!(refused(&mut store, 1, 0), Reason::OverQuota, "it has no part of the store");
        assert!(store.begin(1, name(9999), 0, &room(100)).is_ok());
        store.forget_partial(0);
        assert!(store.begin(0, name(9998), 0, &room(100)).is_ok());
    }

    #[test]
    fn a_quota_is_kept_by_forgetting_own_images_only() {
        let mut store = Store::new(100);
        send(&mut store, 1, &[9; 20], 20).unwrap();
        send(&mut store, 0, &[1; 10], 20).unwrap();
        let used = store.get(digest(&[1; 10])).unwrap();
        send(&mut store, 0, &[2; 10], 20).unwrap();
        assert_eq!(reason(send(&mut store, 0, &[3; 11], 20)), Reason::OverQuota);
        send(&mut store, 0, &[3; 10], 20).unwrap();
        assert!(store.get(digest(&[9; 20])).is_some() && !used.is_empty());
        store.begin(0, digest(b"more"), 4, &room(24)).unwrap();
        store.forget_partial(0);
        assert_eq!(store.stored(), 40);
    }

    #[test]
    fn an_image_that_does_not_come_after_all_is_given_up() {
        let mut store = Store::new(100);
        let (image, other) = (digest(b"abc"), digest(b"other"));
        assert_eq!(reason(store.cancel(0, image)), Reason::NoSuchImage);
        store.begin(0, image, 30, &room(50)).unwrap();
        store.add(0, image, 0, b"ab").unwrap();
        let refused = store.begin(0, other, 21, &room(50)).unwrap_err();
        assert_eq!(refused.reason, Reason::OverQuota);
        let begun = alloc::format!("1 of its images with 30 bytes are begun and not ended ({image})");
        assert!(refused.detail.contains(&begun), "{refused}");
        assert!(refused.detail.contains("give them up by PutImageCancel"), "{refused}");
        assert_eq!(reason(store.cancel(1, image)), Reason::NoSuchImage, "somebody else's");
        store.cancel(0, image).unwrap();
        assert_eq!((store.stored(), reason(store.add(0, image, 2, b"c"))), (0, Reason::NoSuchImage));
        send(&mut store, 0, &[7; 21], 50).unwrap();
        assert_eq!(reason(store.cancel(0, digest(&[7; 21]))), Reason::NoSuchImage, "it is complete");
    }

    #[test]
    fn the_longest_refusal_fits_a_message() {
        let mut store = Store::new(u64::MAX);
        for number in 0..MOST_IMAGES {
            store.begin(0, digest(&number.to_le_bytes()), 1, &room(u64::MAX)).unwrap();
        }
        for (size, quota) in [(1, u64::MAX), (u64::MAX, u64::MAX)] {
            let refused = store.begin(0, digest(b"more"), size, &room(quota)).unwrap_err();
            assert!(refused.detail.ends_with("give them up by PutImageCancel"), "{refused}");
        }
    }

    /// A second image of the same name that is larger takes the place of the first, if there is room for it.
    #[test]
    fn an_image_that_is_begun_anew_keeps_what_is_there_until_it_is_taken() {
        let mut store = Store::new(100);
        let image = digest(b"abc");
        store.begin(0, image, 3, &room(50)).unwrap();
        store.add(0, image, 0, b"ab").unwrap();
        assert_eq!(reason(store.begin(0, image, 51, &room(50))), Reason::OverQuota);
        assert_eq!(store.begin(0, image, 3, &room(50)).unwrap().bytes, 2);
        assert_eq!(store.begin(0, image, 50, &room(50)).unwrap().bytes, 0);
        assert_eq!(store.stored(), 50);
    }

    #[test]
    fn what_goes_counts_as_memory_that_there_is() {
        let mut store = Store::new(2 << 20);
        let stored = alloc::vec![1; 2 << 20];
        let full = |spare: usize| Room { spare: RESERVE + spare, ..room(2 << 20) };
        send(&mut store, 0, &stored, 2 << 20).unwrap();
        // The megabyte that is missing is in an image that has to go anyway.
        assert!(store.begin(1, digest(b"x"), 2 << 20, &full(1 << 20)).is_ok());
        store.cancel(1, digest(b"x")).unwrap();
        send(&mut store, 0, &stored, 2 << 20).unwrap();
        let short = Room { reserved: (3 << 20) + 1, ..full(3 << 20) };
        assert_eq!(reason(store.begin(1, digest(b"x"), 2 << 20, &short)), Reason::OutOfMemory);
        assert!(store.get(digest(&stored)).is_some());
    }

    /// What can be told of a store from outside.
    fn shown(store: &Store) -> alloc::vec::Vec<(Digest, usize)> {
        let complete = store.complete.iter().map(|(digest, image)| (*digest, image.bytes.len()));
        let unpacked = store.unpacked.iter().map(|(digest, image)| (*digest, image.bytes.len()));
        let partial = store.partial.iter().map(|((owner, digest), image)| {
            let marked = digest.0.map(|byte| byte ^ u8::try_from(*owner).unwrap());
            (Digest(marked), image.bytes.len() + 1000 * image.size)
        });
        complete.chain(unpacked).chain(partial).collect()
    }

    proptest! {
        #[test]
        fn a_refused_image_changes_nothing(
            sent in prop::collection::vec((0_usize..3, 0_u8..9, 0_u64..40, 0_u8..4), 0..30),
            begun in (0_usize..3, 0_u8..9, 0_u64..80, 0_u64..64, 0_usize..80, 0_usize..80),
            held in 0_usize..4
        ) {
            let mut store = Store::new(64);
            for (owner, image, size, act) in sent {
                let content = alloc::vec![image; usize::try_from(size).unwrap()];
                let digest = digest(&content);
                match act {
                    0 => _ = store.begin(owner, digest, size, &room(40)),
                    1 => store.keep_unpacked(digest, &Rc::new(content)),
                    _ => _ = send(&mut store, owner, &content, 40),
                }
            }
            // Some are being built from.
            let held: Vec<_> = store.complete.values().take(held).map(|image| Rc::clone(&image.bytes)).collect();
            let before = shown(&store);
            let (owner, image, size, quota, spare, reserved) = begun;
            let room = Room { quota, spare: RESERVE + spare, reserved };
            let content = alloc::vec![image; 50];
            if store.begin(owner, digest(&content[..40]), size, &room).is_err() {
                prop_assert_eq!(shown(&store), before);
            } else {
                prop_assert!(store.stored() <= 64);
                prop_assert!(store.stored_by(owner) <= quota.max(40));
            }
            drop(held);
        }

        #[test]
        fn neither_quota_nor_capacity_is_ever_exceeded(
            steps in prop::collection::vec((0_usize..3, 0_u8..6, 0_u64..40, 0_u8..4), 0..60)
        ) {
            let mut store = Store::new(64);
            for (owner, image, size, act) in steps {
                let content = alloc::vec![image; usize::try_from(size).unwrap()];
                let digest = digest(&content);
                let _ = match act {
                    0 => send(&mut store, owner, &content, 32),
                    1 => store.begin(owner, digest, size, &room(32)),
                    2 => store.add(owner, digest, 0, &content),
                    _ => store.end(owner, digest),
                };
                prop_assert!(store.stored() <= 64);
                prop_assert!((0..3).all(|owner| store.stored_by(owner) <= 32));
                for (digest, image) in &store.complete {
                    prop_assert_eq!(super::tests::digest(&image.bytes), *digest);
                }
            }
        }
    }
}
