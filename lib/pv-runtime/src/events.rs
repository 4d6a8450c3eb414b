//! Pending bits of event channels in the shared info page. Upcalls stay masked; whoever waits polls.

use core::sync::atomic::{AtomicU64, Ordering};

use xen_abi::Port;
use xen_abi::shared_info::{EVENT_WORDS, SharedInfo};

use crate::clock;

/// Ports of the two-level interface.
pub const PORTS: u32 = 64 * EVENT_WORDS as u32;

/// The word that holds a port's bit, and the bit.
const fn position(port: Port) -> Option<(usize, u64)> {
    let raw = port.raw();
    if raw < PORTS { Some((raw as usize / 64, 1 << (raw % 64))) } else { None }
}

/// A word of one of the two bitmaps.
fn word(
    bitmap: impl FnOnce(*mut SharedInfo) -> *mut [u64; EVENT_WORDS],
    index: usize,
) -> Option<&'static AtomicU64> {
    let shared = clock::vcpu_info()?.cast::<SharedInfo>();
    let first = bitmap(shared).cast::<u64>();
    // SAFETY: `position` gives an index within the bitmap.
    let word = unsafe { first.add(index) };
    // SAFETY: an aligned word of a page that stays mapped and is only accessed atomically.
    Some(unsafe { AtomicU64::from_ptr(word) })
}

fn pending(index: usize) -> Option<&'static AtomicU64> {
    // SAFETY: the address of a field in the shared info page.
    word(|shared| unsafe { &raw mut (*shared).evtchn_pending }, index)
}

fn mask(index: usize) -> Option<&'static AtomicU64> {
    // SAFETY: the address of a field in the shared info page.
    word(|shared| unsafe { &raw mut (*shared).evtchn_mask }, index)
}

/// Whether an event came by a port and was not taken yet.
pub fn is_pending(port: Port) -> bool {
    let Some((index, bit)) = position(port) else { return false };
    pending(index).is_some_and(|word| word.load(Ordering::Acquire) & bit != 0)
}

/// Takes the event that came by a port; false when there was none.
pub fn clear(port: Port) -> bool {
    let Some((index, bit)) = position(port) else { return false };
    pending(index).is_some_and(|word| word.fetch_and(!bit, Ordering::AcqRel) & bit != 0)
}

/// Lets a port end a [`block`](crate::Hypervisor::block); all ports are masked at the start.
pub fn unmask(port: Port) {
    let Some((index, bit)) = position(port) else { return };
    if let Some(word) = mask(index) {
        word.fetch_and(!bit, Ordering::AcqRel);
    }
}

/// Undoes [`unmask`].
pub fn mask_port(port: Port) {
    let Some((index, bit)) = position(port) else { return };
    if let Some(word) = mask(index) {
        word.fetch_or(bit, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_has_a_bit() {
        assert_eq!(position(Port::new(0)), Some((0, 1)));
        assert_eq!(position(Port::new(65)), Some((1, 2)));
        assert_eq!(position(Port::new(PORTS - 1)), Some((EVENT_WORDS - 1, 1 << 63)));
        assert_eq!(position(Port::new(PORTS)), None);
    }
}
