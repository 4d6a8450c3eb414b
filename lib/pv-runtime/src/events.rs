//! The event bitmaps in the shared info page. Upcalls stay masked; whoever waits polls.

use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use event_channel::EventWords;
use xen_abi::shared_info::{EVENT_WORDS, SharedInfo};

use crate::clock;
use crate::hypervisor::Hypervisor;

/// The domain's own event bitmaps; `None` before the shared info page is mapped.
pub fn words() -> Option<EventWords<'static>> {
    let shared = clock::vcpu_info()?.cast::<SharedInfo>();
    // SAFETY: `clock` gives the address only after `boot::map_shared_info` has mapped the page, which it never unmaps; this is the address
    // of a field within it, at a multiple of 8 of a page.
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

/// The bytes by which Xen and this vCPU agree on upcalls: whether one is due, and whether they are masked.
fn upcall_bytes() -> Option<(&'static AtomicU8, &'static AtomicU8)> {
    let vcpu = clock::vcpu_info()?;
    // SAFETY: the page stays mapped for good; this is the address of a field within it.
    let pending = unsafe { &raw mut (*vcpu).evtchn_upcall_pending };
    // SAFETY: as above.
    let mask = unsafe { &raw mut (*vcpu).evtchn_upcall_mask };
    // SAFETY: a byte that is only accessed atomically.
    let pending = unsafe { AtomicU8::from_ptr(pending) };
    // SAFETY: as above.
    Some((pending, unsafe { AtomicU8::from_ptr(mask) }))
}

/// The word that has a bit for each word of the pending bitmap with news.
fn selector() -> Option<&'static AtomicU64> {
    let vcpu = clock::vcpu_info()?;
    // SAFETY: the page stays mapped for good; this is the address of an aligned field within it.
    let selector = unsafe { &raw mut (*vcpu).evtchn_pending_sel };
    // SAFETY: a word that is only accessed atomically.
    Some(unsafe { AtomicU64::from_ptr(selector) })
}

/// Masks upcalls, if the builder did not.
pub(crate) fn mask_upcalls() {
    if let Some((_, mask)) = upcall_bytes() {
        mask.store(1, Ordering::SeqCst);
    }
}

/// Sleeps until a port that is not masked is pending; returns at once if one is. For any number of ports, unlike
/// [`event_channel::wait`], but without a deadline: bind `VIRQ_TIMER` and set the timer for one.
pub fn block() {
    let (Some(words), Some((due, _)), Some(selector)) = (words(), upcall_bytes(), selector()) else { return };
    // First forget what Xen has said so far, then look: what comes after the look makes an upcall due, and Xen does not
    // let a vCPU sleep then.
    due.store(0, Ordering::SeqCst);
    selector.store(0, Ordering::SeqCst);
    if words.pending().next().is_none() {
        Hypervisor.block();
    }
}
