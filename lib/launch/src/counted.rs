//! A window that counts.

use hypercall::{FrameWindow, WindowError};
use xen_abi::{DomId, Mfn};

/// A window, and how many frames were mapped by it since it was made.
pub(crate) struct CountedWindow<'w, W> {
    window: &'w mut W,
    frames: u64,
}

impl<'w, W> CountedWindow<'w, W> {
    /// Nothing was mapped yet.
    pub(crate) fn new(window: &'w mut W) -> Self {
        Self { window, frames: 0 }
    }

    /// Frames that were mapped, or tried to; a frame that was mapped twice counts twice.
    pub(crate) fn frames(&self) -> u64 {
        self.frames
    }
}

impl<W: FrameWindow> FrameWindow for CountedWindow<'_, W> {
    type Shared = W::Shared;

    fn capacity(&self) -> usize {
        self.window.capacity()
    }

    fn with_frames<R>(
        &mut self,
        owner: DomId,
        frames: &[Mfn],
        access: impl FnOnce(&mut [u8]) -> R,
    ) -> Result<R, WindowError> {
        self.frames += frames.len() as u64;
        self.window.with_frames(owner, frames, access)
    }

    fn with_machine_frame<R>(
        &mut self,
        owner: DomId,
        frame: Mfn,
        access: impl FnOnce(&mut [u8]) -> R,
    ) -> Result<R, WindowError> {
        self.frames += 1;
        self.window.with_machine_frame(owner, frame, access)
    }

    fn map_shared(&mut self, owner: DomId, frames: &[Mfn]) -> Result<Self::Shared, WindowError> {
        self.frames += frames.len() as u64;
        self.window.map_shared(owner, frames)
    }
}
