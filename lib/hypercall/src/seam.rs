//! The two traits that stand between this project and Xen.

use xen_abi::number::HypercallNumber;
use xen_abi::{DomId, Mfn};

use crate::WindowError;

/// Makes hypercalls.
///
/// # Safety
///
/// An implementation passes the number and the arguments on to Xen, or to something that gives the arguments the same
/// meaning and touches no other memory than Xen would.
pub unsafe trait RawHypercall {
    /// Makes hypercall `number` with `args` in the ABI's order and gives back its result: negative for an error.
    ///
    /// # Safety
    ///
    /// 1. Arguments that are addresses are those of structures of the type that the hypercall takes, valid for reads,
    ///    and for writes where the hypercall has OUT fields, for the length of the call.
    /// 2. What the hypercall does to the caller's own address space, frames or control flow (page-table updates,
    ///    trap tables, ...) leaves all memory that Rust code relies on mapped and unchanged.
    unsafe fn hypercall(&self, number: HypercallNumber, args: [u64; 5]) -> i64;
}

// SAFETY: a reference passes the call on to the implementation it refers to.
unsafe impl<T: RawHypercall + ?Sized> RawHypercall for &T {
    unsafe fn hypercall(&self, number: HypercallNumber, args: [u64; 5]) -> i64 {
        // SAFETY: the caller keeps the same contract.
        unsafe { (**self).hypercall(number, args) }
    }
}

/// Gives access to frames of memory by mapping them for a while.
pub trait FrameWindow {
    /// Frames that stay mapped until the value is dropped, and that others may write at any time.
    type Shared: SharedMemory;

    /// The most frames that [`with_frames`](Self::with_frames) maps at once; callers split longer runs.
    fn capacity(&self) -> usize;

    /// Maps `frames` of `owner` one after the other, calls `access` with their bytes, and unmaps them again.
    ///
    /// The bytes are `frames.len()` pages. This is for domains that have not started, so that nobody writes the frames
    /// meanwhile; no frame is named twice. Frames are mapped read-write; `frames` is not empty and not longer than
    /// [`capacity`](Self::capacity). When mapping fails nothing stays mapped.
    ///
    /// `owner` is another domain: [`DomId::SELF`] is refused with [`WindowError::Own`], and Xen refuses the caller's identifier
    /// and frames that are not `owner`'s. So no byte of it is one that the calling domain's own code knows by another address.
    fn with_frames<R>(
        &mut self,
        owner: DomId,
        frames: &[Mfn],
        access: impl FnOnce(&mut [u8]) -> R,
    ) -> Result<R, WindowError>;

    /// The same for one frame that Xen has made for `owner` beside its memory, such as one of its grant table: `frame` is a
    /// machine frame, also of a domain that knows its memory by guest frames.
    fn with_machine_frame<R>(
        &mut self,
        owner: DomId,
        frame: Mfn,
        access: impl FnOnce(&mut [u8]) -> R,
    ) -> Result<R, WindowError>;

    /// Maps `frames` of `owner`, which is another domain as for [`with_frames`](Self::with_frames), one after the other for as
    /// long as the value given back lives.
    fn map_shared(&mut self, owner: DomId, frames: &[Mfn]) -> Result<Self::Shared, WindowError>;
}

/// Gives access to frames of the calling domain that are not its program's memory, such as those of its grant table.
pub trait OwnFrameWindow: FrameWindow {
    /// Maps `frames` of the calling domain one after the other for as long as the value given back lives.
    ///
    /// # Safety
    ///
    /// As long as the value lives nothing but such shared memory refers to the frames: they are no memory of the heap, of the
    /// stack or of the image.
    unsafe fn map_own(&mut self, frames: &[Mfn]) -> Result<Self::Shared, WindowError>;
}

/// Memory that another domain can change at any moment: it is copied from and to, never borrowed.
///
/// Offsets are in bytes from the start; all accesses are bounds checked by the implementation and an access outside
/// panics: the callers here use constant layouts of one page.
pub trait SharedMemory {
    /// Bytes that are mapped.
    fn size(&self) -> usize;

    /// Copies out `buffer.len()` bytes from `offset`.
    fn read(&self, offset: usize, buffer: &mut [u8]);

    /// Copies in `bytes` at `offset`.
    fn write(&self, offset: usize, bytes: &[u8]);

    /// Reads the aligned word at `offset`; later accesses are not moved before it.
    fn load_u32(&self, offset: usize) -> u32;

    /// Writes the aligned word at `offset`; earlier accesses are not moved behind it.
    fn store_u32(&self, offset: usize, value: u32);

    /// Writes `new` to the aligned word at `offset` if it holds `current`, in one step that no other CPU can come between;
    /// an error holds what was there instead. Other accesses are not moved across it.
    fn compare_exchange_u32(&self, offset: usize, current: u32, new: u32) -> Result<u32, u32>;
}
