//! The page between a domain and its XenStore (`struct xenstore_domain_interface`): a ring for each direction.

use core::fmt;

use hypercall::SharedMemory;

/// Bytes of either ring (`XENSTORE_RING_SIZE`).
const RING: usize = 1024;
const _: () = assert!(RING.is_power_of_two());

/// Offset of the requests' ring, and of its two indices.
const REQUESTS: Half = Half { bytes: 0, consumer: 2048, producer: 2052 };
/// The same of the responses.
const RESPONSES: Half = Half { bytes: 1024, consumer: 2056, producer: 2060 };

/// Where things of one direction are.
#[derive(Clone, Copy, Debug)]
struct Half {
    bytes: usize,
    consumer: usize,
    producer: usize,
}

/// Which end of a ring this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// It asks.
    Client,
    /// It answers.
    Server,
}

/// The other end has written indices that no ring has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingError {
    /// Bytes that would be in the ring.
    pub used: u32,
}

impl fmt::Display for RingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the indices of a XenStore ring say that {} of {RING} bytes are in it", self.used)
    }
}

/// One end of a ring's page. It does not notify: that is done by an event channel, whenever a call has moved bytes.
#[derive(Debug)]
pub struct Ring<M> {
    memory: M,
    side: Side,
}

impl<M: SharedMemory> Ring<M> {
    /// The ring in `memory`, a page.
    pub fn new(memory: M, side: Side) -> Self {
        Self { memory, side }
    }

    /// Copies out what has come, at most as much as `buffer` takes; says how much.
    pub fn read(&self, buffer: &mut [u8]) -> Result<usize, RingError> {
        let half = match self.side {
            Side::Client => RESPONSES,
            Side::Server => REQUESTS,
        };
        let consumer = self.memory.load_u32(half.consumer);
        let used = used(self.memory.load_u32(half.producer), consumer)?;
        let count = used.min(buffer.len());
        let (first, second) = split(consumer, count);
        let (one, two) = buffer.split_at_mut(first.1);
        self.memory.read(half.bytes + first.0, one);
        self.memory.read(half.bytes, two.get_mut(..second).unwrap_or_default());
        self.memory.store_u32(half.consumer, advanced(consumer, count));
        Ok(count)
    }

    /// Copies in as much of `bytes` as there is room for; says how much.
    pub fn write(&self, bytes: &[u8]) -> Result<usize, RingError> {
        let half = match self.side {
            Side::Client => REQUESTS,
            Side::Server => RESPONSES,
        };
        let producer = self.memory.load_u32(half.producer);
        let used = used(producer, self.memory.load_u32(half.consumer))?;
        let count = (RING - used).min(bytes.len());
        let (first, second) = split(producer, count);
        let (one, two) = bytes.split_at(first.1);
        self.memory.write(half.bytes + first.0, one);
        self.memory.write(half.bytes, two.get(..second).unwrap_or_default());
        self.memory.store_u32(half.producer, advanced(producer, count));
        Ok(count)
    }
}

/// Bytes in a ring.
fn used(producer: u32, consumer: u32) -> Result<usize, RingError> {
    let used = producer.wrapping_sub(consumer);
    usize::try_from(used).ok().filter(|used| *used <= RING).ok_or(RingError { used })
}

/// Where `count` bytes from `index` on are: offset and length up to the ring's end, and how many there are from its start.
fn split(index: u32, count: usize) -> ((usize, usize), usize) {
    let offset = usize::try_from(index).unwrap_or(0) % RING;
    let first = count.min(RING - offset);
    ((offset, first), count - first)
}

fn advanced(index: u32, count: usize) -> u32 {
    index.wrapping_add(u32::try_from(count).unwrap_or(0))
}
