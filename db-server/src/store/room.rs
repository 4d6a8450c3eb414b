//! Which images go when another is to come. Nothing goes before it is known that there will be room.

use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;

use protocols::Digest;
use protocols::message::{Failure, Reason};

use super::{Complete, MOST_IMAGES, Store};
use crate::failure::failure;

/// How many unfinished images are named to a controller that has no room left: a detail has an end.
const NAMED: usize = 3;

/// Which of the kept images is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    Sent(Digest),
    Unpacked(Digest),
}

/// An image that nobody builds from.
pub(super) struct Idle {
    used: u64,
    kept: Kept,
    owner: Option<usize>,
    /// Bytes.
    pub(super) size: u64,
}

impl Store {
    /// The images that have to go for one more of a controller's of `size` bytes, which takes the place of a begun one of `replaced`
    /// bytes if there is such.
    pub(super) fn room_for(
        &self,
        owner: usize,
        size: u64,
        replaced: Option<u64>,
        quota: u64,
    ) -> Result<Vec<Idle>, Failure> {
        let refuse = |reason, detail: String| Err(failure(reason, detail));
        if quota == 0 {
            let detail = "an image: the platform gives this controller no part of the store";
            return refuse(Reason::OverQuota, detail.into());
        }
        if size > quota {
            let detail =
                alloc::format!("an image of {size} bytes: the controller may store {quota} bytes in all");
            return refuse(Reason::OverQuota, detail);
        }
        let (mut idle, mut victims) = (self.idle(), Vec::new());
        let is_own = |image: &Idle| image.owner == Some(owner);
        let count = self.count_of(owner).saturating_sub(usize::from(replaced.is_some()));
        for _ in MOST_IMAGES..=count {
            if choose_one(&mut idle, is_own, &mut victims).is_none() {
                let detail = alloc::format!(
                    "one more image: the controller has {count}, the most there may be; {}",
                    self.remedy(owner)
                );
                return refuse(Reason::OverQuota, detail);
            }
        }
        let taken = |by: u64, victims: &[Idle]| {
            let freed = victims.iter().map(|image| image.size).chain(replaced).sum();
            by.saturating_add(size).saturating_sub(freed)
        };
        let own = taken(self.stored_by(owner), &victims);
        if !choose(&mut idle, own.saturating_sub(quota), is_own, &mut victims) {
            let detail = alloc::format!(
                "an image of {size} bytes: the controller may store {quota}, and has stored {}; {}",
                self.stored_by(owner),
                self.remedy(owner)
            );
            return refuse(Reason::OverQuota, detail);
        }
        let all = taken(self.stored(), &victims);
        if !choose(&mut idle, all.saturating_sub(self.capacity), |_| true, &mut victims) {
            let detail = alloc::format!(
                "an image of {size} bytes: the store takes {} in all, and what is in it is in use or not complete; raise `store`; {}",
                self.capacity,
                self.remedy(owner)
            );
            return refuse(Reason::OutOfMemory, detail);
        }
        Ok(victims)
    }

    /// The images that have to go for one that db-server has unpacked itself; `None` if there is no room.
    pub(super) fn room_to_unpack(&self, size: u64) -> Option<Vec<Idle>> {
        let mut victims = Vec::new();
        let over = self.stored().saturating_add(size).saturating_sub(self.capacity);
        choose(&mut self.idle(), over, |_| true, &mut victims).then_some(victims)
    }

    /// What a controller can do that has no room for another image.
    fn remedy(&self, owner: usize) -> String {
        let begun = || self.partial.iter().filter(|((by, _), _)| *by == owner);
        let (count, size) = (begun().count(), begun().map(|(_, image)| image.size).sum::<usize>());
        if count == 0 {
            return "VMs are being built from the rest: wait for the answers".into();
        }
        let named = begun().take(NAMED).map(|((_, digest), _)| alloc::format!("{digest}"));
        let named = named.collect::<Vec<_>>().join(", ");
        let more = if count > NAMED { ", ..." } else { "" };
        alloc::format!(
            "{count} of its images with {size} bytes are begun and not ended ({named}{more}): end them, or give them up by PutImageCancel"
        )
    }

    /// The images that nobody builds from, the one that was not used for longest first.
    fn idle(&self) -> Vec<Idle> {
        let sent = self.complete.iter().map(|(digest, image)| (Kept::Sent(*digest), image));
        let unpacked = self.unpacked.iter().map(|(digest, image)| (Kept::Unpacked(*digest), image));
        let idle = sent.chain(unpacked).filter(|(_, image)| Rc::strong_count(&image.bytes) == 1);
        let idle = idle.map(|(kept, image)| {
            let Complete { bytes, owner, used } = image;
            Idle { used: *used, kept, owner: *owner, size: bytes.len() as u64 }
        });
        let mut idle: Vec<Idle> = idle.collect();
        idle.sort_unstable_by_key(|image| image.used);
        idle
    }

    /// Forgets images.
    pub(super) fn forget(&mut self, victims: &[Idle]) {
        for Idle { kept, size, .. } in victims {
            let digest = match kept {
                Kept::Sent(digest) => {
                    self.complete.remove(digest);
                    digest
                }
                Kept::Unpacked(digest) => {
                    self.unpacked.remove(digest);
                    digest
                }
            };
            log::info!("event=image-forgotten digest={digest} size={size}");
        }
    }
}

/// Moves the first of `idle` that `may` go to `victims`; gives its size.
fn choose_one(idle: &mut Vec<Idle>, may: impl Fn(&Idle) -> bool, victims: &mut Vec<Idle>) -> Option<u64> {
    let at = idle.iter().position(may)?;
    let image = idle.remove(at);
    let size = image.size;
    victims.push(image);
    Some(size)
}

/// The same until they have `over` bytes; says whether there are so many.
fn choose(idle: &mut Vec<Idle>, mut over: u64, may: impl Fn(&Idle) -> bool, victims: &mut Vec<Idle>) -> bool {
    while over > 0 {
        let Some(size) = choose_one(idle, |image| image.size > 0 && may(image), victims) else {
            return false;
        };
        over = over.saturating_sub(size);
    }
    true
}
