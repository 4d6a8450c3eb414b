//! Images on their way to db-server's store.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use protocols::Digest;
use protocols::message::{Failure, MAX_CHUNK_LEN, Reason, ServerReply, ServerRequest};

use crate::source::Images;

/// Parts of an image that are under way at a time.
const WINDOW: usize = 4;
/// How often an image is begun again because a part of it was refused.
const BEGIN_AGAIN: u32 = 5;

/// How far an image is.
#[derive(Clone, Debug)]
enum Progress {
    /// It is to be begun.
    Wanted,
    /// db-server is asked how much of it is there.
    Begun,
    /// Parts are sent: up to here, and so many of them are not answered. A part that was refused makes the rest be waited for only.
    Sending {
        sent: usize,
        unanswered: usize,
        refused: bool,
    },
    /// It is checked.
    Ending,
    Stored,
    Failed(Failure),
}

#[derive(Debug)]
struct Upload {
    progress: Progress,
    begun: u32,
    /// How many images were wanted before it: they go first, so that VMs that need little are not held up by one that needs much
    /// and comes later.
    turn: u64,
}

/// The images that VMs are waiting for, or were built of.
#[derive(Debug, Default)]
pub(crate) struct Uploads {
    images: BTreeMap<Digest, Upload>,
    wanted: u64,
}

/// Whether a VM can be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    Ready,
    Pending,
    Failed(Failure),
}

impl Uploads {
    /// Has an image sent, unless it was; says how far it is. A failure is told once: who asks again has it tried again.
    pub(crate) fn want(&mut self, digest: Digest) -> Readiness {
        let turn = self.wanted;
        let upload = self.images.entry(digest).or_insert_with(|| {
            self.wanted += 1;
            Upload { progress: Progress::Wanted, begun: 0, turn }
        });
        match &upload.progress {
            Progress::Stored => Readiness::Ready,
            Progress::Failed(failure) => {
                let failure = failure.clone();
                self.images.remove(&digest);
                Readiness::Failed(failure)
            }
            _ => Readiness::Pending,
        }
    }

    /// db-server may not have an image any more.
    pub(crate) fn forget(&mut self, digest: &Digest) {
        if self.images.get(digest).is_some_and(|upload| matches!(upload.progress, Progress::Stored)) {
            self.images.remove(digest);
        }
    }

    /// There is a new conversation: nothing that was sent is certain.
    pub(crate) fn disconnected(&mut self) {
        self.images.clear();
    }

    /// The next request to make for an image, if one is to be made now.
    pub(crate) fn next_request(&mut self, images: &Images<'_>) -> Option<(Digest, ServerRequest)> {
        let mut uploads: Vec<_> = self.images.iter_mut().collect();
        uploads.sort_unstable_by_key(|(_, upload)| upload.turn);
        uploads.into_iter().find_map(|(digest, upload)| {
            let bytes = images.bytes(digest).unwrap_or_default();
            Some((*digest, upload.next_request(*digest, bytes)?))
        })
    }

    /// Takes db-server's answer to a request for an image.
    pub(crate) fn answered(&mut self, digest: &Digest, answer: Result<ServerReply, Failure>) {
        if let Some(upload) = self.images.get_mut(digest) {
            upload.answered(answer);
        }
    }
}

impl Upload {
    fn next_request(&mut self, digest: Digest, bytes: &[u8]) -> Option<ServerRequest> {
        match &mut self.progress {
            Progress::Wanted => {
                self.progress = Progress::Begun;
                self.begun += 1;
                Some(ServerRequest::PutImageBegin { digest, size: bytes.len() as u64 })
            }
            Progress::Sending { sent, unanswered, refused: false } if *unanswered < WINDOW => {
                let rest = bytes.get(*sent..).unwrap_or_default();
                if rest.is_empty() {
                    if *unanswered > 0 {
                        return None;
                    }
                    self.progress = Progress::Ending;
                    return Some(ServerRequest::PutImageEnd { digest });
                }
                let (chunk, _) = rest.split_at(rest.len().min(MAX_CHUNK_LEN));
                let request =
                    ServerRequest::PutImageChunk { digest, offset: *sent as u64, bytes: chunk.to_vec() };
                *sent += chunk.len();
                *unanswered += 1;
                Some(request)
            }
            _ => None,
        }
    }

    fn answered(&mut self, answer: Result<ServerReply, Failure>) {
        let passes = |failure: &Failure| matches!(failure.reason, Reason::Busy | Reason::WrongOffset);
        let may_begin = self.begun < BEGIN_AGAIN;
        match (&mut self.progress, answer) {
            (_, Ok(ServerReply::Image { complete: true, .. })) => self.progress = Progress::Stored,
            (Progress::Begun, Ok(ServerReply::Image { received, .. })) => {
                let sent = usize::try_from(received).unwrap_or(usize::MAX);
                self.progress = Progress::Sending { sent, unanswered: 0, refused: false };
            }
            (Progress::Sending { unanswered, refused, .. }, answer) => {
                *unanswered = unanswered.saturating_sub(1);
                match answer {
                    Err(failure) if !passes(&failure) || !may_begin => {
                        self.progress = Progress::Failed(failure);
                        return;
                    }
                    Err(_) => *refused = true,
                    Ok(_) => {}
                }
                if *refused && *unanswered == 0 {
                    self.progress = Progress::Wanted;
                }
            }
            (Progress::Begun | Progress::Ending, Err(failure)) => {
                self.progress =
                    if passes(&failure) && may_begin { Progress::Wanted } else { Progress::Failed(failure) };
            }
            (Progress::Ending, Ok(_)) => self.progress = Progress::Wanted,
            _ => {}
        }
    }
}
