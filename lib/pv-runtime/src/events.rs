//! The event bitmaps in the shared info page. Upcalls stay masked; whoever waits polls.

use core::sync::atomic::AtomicU64;

use event_channel::EventWords;
use xen_abi::shared_info::{EVENT_WORDS, SharedInfo};

use crate::clock;

/// The domain's own event bitmaps; `None` before the shared info page is mapped.
pub fn words() -> Option<EventWords<'static>> {
    let shared = clock::vcpu_info()?.cast::<SharedInfo>();
    // SAFETY: the page stays mapped for good; this is the address of an aligned field within it.
    let pending = unsafe { &raw const (*shared).evtchn_pending };
    // SAFETY: as above.
    let mask = unsafe { &raw const (*shared).evtchn_mask };
    // SAFETY: an atomic word has the layout of a word, Xen changes these words with atomic instructions, and nothing in this
    // domain reaches them other than through such references.
    let pending = unsafe { &*pending.cast::<[AtomicU64; EVENT_WORDS]>() };
    // SAFETY: as above.
    let mask = unsafe { &*mask.cast::<[AtomicU64; EVENT_WORDS]>() };
    Some(EventWords::new(pending, mask))
}
