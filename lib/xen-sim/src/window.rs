//! Access to frames.

use grant_table::{GrantAddress, GrantSlot, Shareable};
use hypercall::{FrameWindow, OwnFrameWindow, SharedMemory, WindowError};
use xen_abi::number::HypercallNumber;
use xen_abi::{DomId, Errno, Mfn, PAGE_SIZE};

use crate::events::resolve;
use crate::faults::Effect;
use crate::frames::Use;
use crate::machine::Machine;
use crate::trace::Call;

/// Name of a mapping in traces and to faults. On a real machine it is an `mmu_update` of the caller's own page tables.
const MAP: &str = "map frames";

/// By which numbers frames are named.
#[derive(Clone, Copy, Debug)]
enum Numbers {
    /// Their owner's: guest frames, if it has a translation of its own.
    Owner,
    /// The machine's.
    Machine,
}

/// A window of one simulated domain on frames of any domain that it controls.
#[derive(Clone, Debug)]
pub struct SimWindow {
    machine: Machine,
    caller: DomId,
    capacity: usize,
}

impl SimWindow {
    pub(crate) fn new(machine: Machine, caller: DomId, capacity: usize) -> Self {
        Self { machine, caller, capacity }
    }

    /// Maps frames writable: all of them, or none. Gives back the owner and the machine frames.
    fn map(&self, owner: DomId, numbers: Numbers, frames: &[Mfn]) -> Result<(DomId, Vec<Mfn>), WindowError> {
        let by_number = owner != DomId::SELF;
        let owner = resolve(owner, self.caller);
        let (call, effect) = self.machine.begin(self.caller, HypercallNumber::MMU_UPDATE, MAP, owner);
        let most = match effect {
            Some(Effect::Short(most)) => most,
            Some(Effect::Fail(_) | Effect::FailAndScribble(_)) => 0,
            Some(Effect::Hold) | None => usize::MAX,
        };
        let injected = match effect {
            Some(Effect::Fail(errno) | Effect::FailAndScribble(errno)) => errno,
            _ => Errno::EINVAL,
        };
        let (mapped, outcome) = self.map_some((owner, by_number), numbers, frames, most, injected);
        let numbers = vec![("frames", frames.len() as u64)];
        self.machine.end(Call { numbers, result: outcome.map(|()| 0), ..call });
        let Err(errno) = outcome else { return Ok((owner, mapped)) };
        let done = mapped.len();
        self.unmap(owner, &mapped);
        Err(WindowError::Refused { domain: owner, frame: frames[done], done, wanted: frames.len(), errno })
    }

    /// Maps frames until one is refused, or `most` are mapped; gives back the machine frames that were.
    fn map_some(
        &self,
        (owner, by_number): (DomId, bool),
        numbers: Numbers,
        frames: &[Mfn],
        most: usize,
        beyond: Errno,
    ) -> (Vec<Mfn>, Result<(), Errno>) {
        let mut state = self.machine.state();
        let mut mapped = Vec::new();
        if let Err(errno) = state.controlled(self.caller, owner) {
            return (mapped, Err(errno));
        }
        if by_number && owner == self.caller {
            // Xen wants a domain that means itself to say so.
            return (mapped, Err(Errno::ESRCH));
        }
        for frame in frames {
            if mapped.len() >= most {
                return (mapped, Err(beyond));
            }
            // The errors of a level-1 entry: a guest frame that is not there, no memory but devices, or memory that cannot be
            // had in this way.
            let found = match numbers {
                Numbers::Owner => state.machine_frame(owner, *frame),
                Numbers::Machine => Some(*frame),
            };
            let Some(mfn) = found else { return (mapped, Err(Errno::EINVAL)) };
            if state.frames.get(mfn).is_none() {
                return (mapped, Err(Errno::EPERM));
            }
            if state.frames.use_as(mfn, owner, Use::Writable).is_err() {
                return (mapped, Err(Errno::EBUSY));
            }
            *state.windows.entry(mfn).or_default() += 1;
            mapped.push(mfn);
        }
        (mapped, Ok(()))
    }

    /// Maps frames until the value is dropped.
    fn keep(&self, owner: DomId, frames: &[Mfn]) -> Result<SimShared, WindowError> {
        let (owner, frames) = self.map(owner, Numbers::Owner, frames)?;
        Ok(SimShared { window: self.clone(), owner, frames })
    }

    fn unmap(&self, owner: DomId, frames: &[Mfn]) {
        let mut state = self.machine.state();
        for mfn in frames {
            state.frames.end_use(*mfn);
            if let Some(count) = state.windows.get_mut(mfn) {
                *count -= 1;
                if *count == 0 {
                    state.windows.remove(mfn);
                }
            }
        }
        state.bury(owner);
    }
}

impl SimWindow {
    /// Panics when a frame is named twice: the bytes handed out would be the same memory at two places.
    fn with<R>(
        &mut self,
        owner: DomId,
        numbers: Numbers,
        frames: &[Mfn],
        access: impl FnOnce(&mut [u8]) -> R,
    ) -> Result<R, WindowError> {
        if owner == DomId::SELF {
            return Err(WindowError::Own);
        }
        if frames.len() > self.capacity {
            return Err(WindowError::TooMany { wanted: frames.len(), capacity: self.capacity });
        }
        let mut sorted = frames.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), frames.len(), "a frame is named twice in one window: {frames:?}");
        let (owner, mapped) = self.map(owner, numbers, frames)?;
        let mut bytes = Vec::with_capacity(mapped.len() * PAGE_SIZE);
        for mfn in &mapped {
            bytes.extend_from_slice(&self.machine.state().frames.read(*mfn));
        }
        let result = access(&mut bytes);
        for (mfn, page) in mapped.iter().zip(bytes.chunks_exact(PAGE_SIZE)) {
            self.machine.state().frames.write_at(*mfn, 0, page);
        }
        self.unmap(owner, &mapped);
        Ok(result)
    }
}

impl FrameWindow for SimWindow {
    type Shared = SimShared;

    fn capacity(&self) -> usize {
        self.capacity
    }

    fn with_frames<R>(
        &mut self,
        owner: DomId,
        frames: &[Mfn],
        access: impl FnOnce(&mut [u8]) -> R,
    ) -> Result<R, WindowError> {
        self.with(owner, Numbers::Owner, frames, access)
    }

    fn with_machine_frame<R>(
        &mut self,
        owner: DomId,
        frame: Mfn,
        access: impl FnOnce(&mut [u8]) -> R,
    ) -> Result<R, WindowError> {
        self.with(owner, Numbers::Machine, &[frame], access)
    }

    fn map_shared(&mut self, owner: DomId, frames: &[Mfn]) -> Result<SimShared, WindowError> {
        if owner == DomId::SELF {
            return Err(WindowError::Own);
        }
        self.keep(owner, frames)
    }
}

impl OwnFrameWindow for SimWindow {
    unsafe fn map_own(&mut self, frames: &[Mfn]) -> Result<SimShared, WindowError> {
        self.keep(DomId::SELF, frames)
    }
}

/// Frames that stay mapped.
#[derive(Debug)]
pub struct SimShared {
    window: SimWindow,
    owner: DomId,
    frames: Vec<Mfn>,
}

impl Drop for SimShared {
    fn drop(&mut self) {
        self.window.unmap(self.owner, &self.frames);
    }
}

/// Copies between a buffer and frames, page by page.
fn for_each_page(
    frames: &[Mfn],
    offset: usize,
    length: usize,
    mut copy: impl FnMut(Mfn, usize, core::ops::Range<usize>),
) {
    let mut done = 0;
    while done < length {
        let (page, within) = ((offset + done) / PAGE_SIZE, (offset + done) % PAGE_SIZE);
        let count = (PAGE_SIZE - within).min(length - done);
        copy(frames[page], within, done..done + count);
        done += count;
    }
}

fn read_frames(machine: &Machine, frames: &[Mfn], offset: usize, buffer: &mut [u8]) {
    let state = machine.state();
    for_each_page(frames, offset, buffer.len(), |mfn, within, range| {
        state.frames.read_at(mfn, within, &mut buffer[range]);
    });
}

fn write_frames(machine: &Machine, frames: &[Mfn], offset: usize, bytes: &[u8]) {
    let mut state = machine.state();
    for_each_page(frames, offset, bytes.len(), |mfn, within, range| {
        state.frames.write_at(mfn, within, &bytes[range]);
    });
}

fn load(memory: &impl SharedMemory, offset: usize) -> u32 {
    assert!(offset.is_multiple_of(4), "a word at {offset:#x} is not aligned");
    let mut bytes = [0; 4];
    memory.read(offset, &mut bytes);
    u32::from_le_bytes(bytes)
}

fn compare_exchange(memory: &impl SharedMemory, offset: usize, current: u32, new: u32) -> Result<u32, u32> {
    let found = load(memory, offset);
    if found != current {
        return Err(found);
    }
    memory.write(offset, &new.to_le_bytes());
    Ok(found)
}

impl SharedMemory for SimShared {
    fn size(&self) -> usize {
        self.frames.len() * PAGE_SIZE
    }

    fn read(&self, offset: usize, buffer: &mut [u8]) {
        read_frames(&self.window.machine, &self.frames, offset, buffer);
    }

    fn write(&self, offset: usize, bytes: &[u8]) {
        write_frames(&self.window.machine, &self.frames, offset, bytes);
    }

    fn load_u32(&self, offset: usize) -> u32 {
        load(self, offset)
    }

    fn store_u32(&self, offset: usize, value: u32) {
        assert!(offset.is_multiple_of(4), "a word at {offset:#x} is not aligned");
        self.write(offset, &value.to_le_bytes());
    }

    fn compare_exchange_u32(&self, offset: usize, current: u32, new: u32) -> Result<u32, u32> {
        compare_exchange(self, offset, current, new)
    }
}

/// A page of a simulated domain's address space, for a granted frame.
#[derive(Debug)]
pub struct SimSlot {
    machine: Machine,
    caller: DomId,
    address: u64,
}

impl SimSlot {
    pub(crate) fn new(machine: Machine, caller: DomId, address: u64) -> Self {
        Self { machine, caller, address }
    }

    /// The frame mapped here, and whether it may be written.
    fn frame(&self) -> (Mfn, bool) {
        let granted = self.machine.state().granted_at(self.caller, self.address);
        assert!(granted.is_some(), "page fault: nothing is mapped at {:#x}", self.address);
        granted.unwrap_or((Mfn::INVALID, false))
    }
}

// SAFETY: every slot has its own address, at which simulated grants are kept apart, and its memory is that of the simulated
// frame mapped there.
unsafe impl GrantSlot for SimSlot {
    type Memory = Self;

    fn address(&self) -> GrantAddress {
        GrantAddress::Virtual(self.address)
    }

    unsafe fn memory(&self) -> &Self {
        self
    }
}

/// A page of a simulated domain's memory that its program uses and may share.
#[derive(Debug)]
pub struct SimOwnPage {
    bytes: SimShared,
    frame: Mfn,
}

impl SimOwnPage {
    pub(crate) fn new(window: &SimWindow, frame: Mfn) -> Result<Self, WindowError> {
        Ok(Self { bytes: window.keep(DomId::SELF, &[frame])?, frame })
    }
}

// SAFETY: no memory of the program that simulates is behind it.
unsafe impl Shareable for SimOwnPage {
    fn frame(&self) -> Mfn {
        self.frame
    }
}

impl SharedMemory for SimOwnPage {
    fn size(&self) -> usize {
        self.bytes.size()
    }

    fn read(&self, offset: usize, buffer: &mut [u8]) {
        self.bytes.read(offset, buffer);
    }

    fn write(&self, offset: usize, bytes: &[u8]) {
        self.bytes.write(offset, bytes);
    }

    fn load_u32(&self, offset: usize) -> u32 {
        self.bytes.load_u32(offset)
    }

    fn store_u32(&self, offset: usize, value: u32) {
        self.bytes.store_u32(offset, value);
    }

    fn compare_exchange_u32(&self, offset: usize, current: u32, new: u32) -> Result<u32, u32> {
        self.bytes.compare_exchange_u32(offset, current, new)
    }
}

/// A page of a simulated domain's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SimPage(pub Mfn);

// SAFETY: no memory of the program that simulates is behind it.
unsafe impl Shareable for SimPage {
    fn frame(&self) -> Mfn {
        self.0
    }
}

impl SharedMemory for SimSlot {
    fn size(&self) -> usize {
        PAGE_SIZE
    }

    fn read(&self, offset: usize, buffer: &mut [u8]) {
        read_frames(&self.machine, &[self.frame().0], offset, buffer);
    }

    fn write(&self, offset: usize, bytes: &[u8]) {
        let (mfn, writable) = self.frame();
        assert!(writable, "page fault: {:#x} is mapped read-only", self.address);
        write_frames(&self.machine, &[mfn], offset, bytes);
    }

    fn load_u32(&self, offset: usize) -> u32 {
        load(self, offset)
    }

    fn store_u32(&self, offset: usize, value: u32) {
        assert!(offset.is_multiple_of(4), "a word at {offset:#x} is not aligned");
        self.write(offset, &value.to_le_bytes());
    }

    fn compare_exchange_u32(&self, offset: usize, current: u32, new: u32) -> Result<u32, u32> {
        compare_exchange(self, offset, current, new)
    }
}
