//! What a platform is launched with.

use event_channel::EventWords;
use hypercall::{FrameWindow, RawHypercall, Xen};

use crate::Cursor;

/// The machine, as the builder's own domain sees it.
pub struct Environment<'x, H: RawHypercall, W: FrameWindow> {
    /// The Xen underneath.
    pub xen: &'x Xen<H>,
    /// Access to frames of the VMs.
    pub window: W,
    /// The builder's own event bitmaps.
    pub events: EventWords<'x>,
    /// System time, in nanoseconds since Xen started.
    pub now: &'x dyn Fn() -> u64,
    /// Bytes that the builder can still allocate.
    pub spare_memory: &'x dyn Fn() -> usize,
    /// Where the cursor of Xen's console stands. Whoever else writes lines there begins them with
    /// [`Cursor::begin_line`].
    pub cursor: &'x Cursor,
}
