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

    /// Begins an image of `size` bytes, or goes on with one; the answer tells what is there. `quota` is what `owner` may have in
    /// bytes, `spare` what the heap has left.
    pub(crate) fn begin(
        &mut self,
        owner: usize,
        digest: Digest,
        size: u64,
        quota: u64,
        spare: usize,
    ) -> Result<Received, Failure> {
        self.uses += 1;
        if let Some(image) = self.complete.get_mut(&digest) {
            image.used = self.uses;
            return Ok(Received { bytes: image.bytes.len() as u64, complete: true });
        }
        if let Some(image) = self.partial.get(&(owner, digest)) {
            if image.size as u64 == size {
                return Ok(Received { bytes: image.bytes.len() as u64, complete: false });
            }
            self.partial.remove(&(owner, digest));
        }
        self.make_room(owner, size, quota)?;
        let no_memory = || {
            let detail = "the store cannot take the image: db-server has no memory left; raise dom0_mem";
            failure(Reason::OutOfMemory, detail)
        };
        let length = usize::try_from(size).map_err(|_| no_memory())?;
        let mut bytes = Vec::new();
        if length.saturating_add(RESERVE) > spare || bytes.try_reserve_exact(length).is_err() {
            return Err(no_memory());
        }
        self.partial.insert((owner, digest), Partial { bytes, size: length, hash: Sha256::new() });
        Ok(Received { bytes: 0, complete: false })
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
        let size = bytes.len() as u64;
        if self.evict(size, |_| true) {
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

    /// Makes room for one more image of a controller's, of `size` bytes.
    fn make_room(&mut self, owner: usize, size: u64, quota: u64) -> Result<(), Failure> {
        if quota == 0 {
            return Err(failure(
                Reason::OverQuota,
                "an image: the platform gives this controller no part of the store",
            ));
        }
        while self.count_of(owner) >= MOST_IMAGES {
            if !self.evict_one(|image| image.owner == Some(owner)) {
                let detail = alloc::format!(
                    "one more image: the controller has {MOST_IMAGES} in use or begun, the most there may be"
                );
                return Err(failure(Reason::OverQuota, detail));
            }
        }
        while self.stored_by(owner).saturating_add(size) > quota {
            if size > quota || !self.evict_one(|image| image.owner == Some(owner)) {
                let detail = alloc::format!(
                    "an image of {size} bytes: the controller may store {quota}, and what it has stored is in use"
                );
                return Err(failure(Reason::OverQuota, detail));
            }
        }
        if self.evict(size, |_| true) {
            return Ok(());
        }
        let capacity = self.capacity;
        let detail = alloc::format!(
            "an image of {size} bytes: the store takes {capacity} in all, and what is in it is in use; raise `store`"
        );
        Err(failure(Reason::OutOfMemory, detail))
    }

    /// Forgets images until `size` more bytes fit; says whether they do.
    fn evict(&mut self, size: u64, may: impl Fn(&Complete) -> bool) -> bool {
        while self.stored().saturating_add(size) > self.capacity {
            if size > self.capacity || !self.evict_one(&may) {
                return false;
            }
        }
        true
    }

    /// Forgets the image that was not used for longest of those that `may` go and nobody builds from.
    fn evict_one(&mut self, may: impl Fn(&Complete) -> bool) -> bool {
        let idle = |image: &Complete| Rc::strong_count(&image.bytes) == 1 && may(image);
        let oldest = |images: &BTreeMap<Digest, Complete>| {
            let idle = images.iter().filter(|(_, image)| idle(image));
            idle.map(|(digest, image)| (image.used, *digest)).min()
        };
        let (sent, unpacked) = (oldest(&self.complete), oldest(&self.unpacked));
        let (images, digest) = match (sent, unpacked) {
            (Some(sent), Some(unpacked)) if unpacked < sent => (&mut self.unpacked, unpacked.1),
            (Some(sent), _) => (&mut self.complete, sent.1),
            (None, Some(unpacked)) => (&mut self.unpacked, unpacked.1),
            (None, None) => return false,
        };
        if let Some(image) = images.remove(&digest) {
            log::info!("event=image-forgotten digest={digest} size={}", image.bytes.len());
        }
        true
    }
}

fn not_begun(digest: Digest) -> Failure {
    let detail: String = alloc::format!("image {digest} was not begun, or is forgotten: begin it again");
    failure(Reason::NoSuchImage, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SPARE: usize = 64 << 20;

    fn digest(bytes: &[u8]) -> Digest {
        Digest(Sha256::digest(bytes).into())
    }

    /// Sends an image in parts of 7 bytes.
    fn send(store: &mut Store, owner: usize, bytes: &[u8], quota: u64) -> Result<Received, Failure> {
        let digest = digest(bytes);
        let mut at = store.begin(owner, digest, bytes.len() as u64, quota, SPARE)?;
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
        let known = store.begin(1, digest(b"an image of some length"), 23, 50, SPARE).unwrap();
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
        store.begin(0, image, 3, 50, SPARE).unwrap();
        assert_eq!(reason(store.add(0, image, 1, b"b")), Reason::WrongOffset);
        assert_eq!(reason(store.add(0, image, 0, b"abcd")), Reason::WrongOffset);
        assert_eq!(reason(store.add(1, image, 0, b"a")), Reason::NoSuchImage, "somebody else's");
        store.add(0, image, 0, b"ab").unwrap();
        assert_eq!(reason(store.end(0, image)), Reason::WrongOffset);
        assert_eq!(store.begin(0, image, 3, 50, SPARE).unwrap(), Received { bytes: 2, complete: false });
        store.add(0, image, 2, b"x").unwrap();
        assert_eq!(reason(store.end(0, image)), Reason::WrongDigest);
        assert_eq!(reason(store.end(0, image)), Reason::NoSuchImage, "it is forgotten");
        assert_eq!(reason(store.begin(0, image, 51, 50, SPARE)), Reason::OverQuota);
        assert_eq!(reason(store.begin(0, image, 101, 200, SPARE)), Reason::OutOfMemory);
        assert_eq!(reason(store.begin(0, image, 50, 50, RESERVE)), Reason::OutOfMemory);
        assert_eq!(reason(store.begin(0, image, u64::MAX, u64::MAX, SPARE)), Reason::OutOfMemory);
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
    fn an_image_that_was_begun_is_given_up_by_beginning_it_without_bytes() {
        let mut store = Store::new(100);
        let image = digest(b"abc");
        store.begin(0, image, 60, 100, SPARE).unwrap();
        store.add(0, image, 0, b"ab").unwrap();
        assert_eq!(store.stored(), 60);
        assert_eq!(store.begin(0, image, 0, 100, SPARE).unwrap(), Received { bytes: 0, complete: false });
        assert_eq!(reason(store.end(0, image)), Reason::WrongDigest);
        assert_eq!((store.stored(), store.count_of(0)), (0, 0));
        // What another has completed meanwhile stays, and the part of it goes.
        store.begin(0, image, 3, 100, SPARE).unwrap();
        send(&mut store, 1, b"abc", 100).unwrap();
        assert!(store.begin(0, image, 0, 100, SPARE).unwrap().complete);
        assert!(store.end(0, image).unwrap().complete);
        assert_eq!((store.stored(), store.count_of(0)), (3, 0));
    }

    #[test]
    fn images_without_bytes_are_counted() {
        let mut store = Store::new(1000);
        let name = |number: usize| digest(&number.to_le_bytes());
        for number in 0..MOST_IMAGES {
            store.begin(0, name(number), 0, 100, SPARE).unwrap();
        }
        let refused =
            |store: &mut Store, owner, quota| reason(store.begin(owner, name(9999), 0, quota, SPARE));
        assert_eq!(refused(&mut store, 0, 100), Reason::OverQuota);
        assert_eq!(refused(&mut store, 1, 0), Reason::OverQuota, "it has no part of the store");
        assert!(store.begin(1, name(9999), 0, 100, SPARE).is_ok());
        store.forget_partial(0);
        assert!(store.begin(0, name(9998), 0, 100, SPARE).is_ok());
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
        store.begin(0, digest(b"more"), 4, 24, SPARE).unwrap();
        store.forget_partial(0);
        assert_eq!(store.stored(), 40);
    }

    proptest! {
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
                    1 => store.begin(owner, digest, size, 32, SPARE),
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
