//! The console: Xen's own for the hardware domain, the ring in the start info's page for any other.
//!
//! Text goes out by whole lines, so that lines of several writers do not mix and each costs one hypercall. A ring that is
//! full is waited for: nothing is lost as long as somebody reads it.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU32, Ordering};

use spin::Mutex;
use xen_abi::console::{ConsoleInterface, IN_RING, OUT_RING};
use xen_abi::event_channel::{EVTCHNOP_SEND, OnePort};
use xen_abi::number::HypercallNumber;
use xen_abi::sched::{Poll, SCHEDOP_POLL};
use xen_abi::start_info::{StartFlags, StartInfo};
use xen_abi::{Mfn, Pfn, Port};

use hypercall::RawHypercall;

use crate::hypervisor::Hypervisor;
use crate::{clock, layout, memory};

/// Bytes of a line that are kept until it is complete; a longer line goes out in pieces.
const LINE: usize = 512;

/// How long a full ring is waited for before it is looked at again, should a notification be lost: 10 ms.
const PATIENCE_NANOS: u64 = 10_000_000;

static CONSOLE: Mutex<Console> = Mutex::new(Console { sink: Sink::Nowhere, line: [0; LINE], len: 0 });

/// Where bytes go.
#[derive(Clone, Copy)]
enum Sink {
    /// There is no console (yet).
    Nowhere,
    /// Xen's console.
    Xen,
    /// A ring.
    Ring(Ring),
}

/// The domain's side of its console ring.
#[derive(Clone, Copy)]
struct Ring {
    /// Address of the [`ConsoleInterface`].
    page: u64,
    port: Port,
}

/// Bytes that can be written at once: up to where the ring is full, or where it wraps.
///
/// The other side owns `consumer`; one that is ahead of the producer counts as a full ring.
fn free_run(producer: u32, consumer: u32) -> (usize, usize) {
    let used = producer.wrapping_sub(consumer) as usize;
    let free = OUT_RING.saturating_sub(used);
    let offset = producer as usize % OUT_RING;
    (offset, free.min(OUT_RING - offset))
}

/// Bytes that wait to be read, and where the first is; bounded by the ring whatever the other side writes.
fn waiting(producer: u32, consumer: u32) -> (usize, usize) {
    (consumer as usize % IN_RING, (producer.wrapping_sub(consumer) as usize).min(IN_RING))
}

impl Ring {
    fn interface(self) -> *mut ConsoleInterface {
        core::ptr::with_exposed_provenance_mut(self.page as usize)
    }

    /// An index of the ring.
    fn index(self, field: impl FnOnce(*mut ConsoleInterface) -> *mut u32) -> &'static AtomicU32 {
        // SAFETY: `field` projects one of the four indices, words at multiples of 4, from the start of the ring's page. The builder mapped
        // that, `layout::regions` keeps it out of the heap, and nothing unmaps it. This function is the only way to an index, so that
        // this side accesses it atomically alone; the other side is not Rust's.
        unsafe { AtomicU32::from_ptr(field(self.interface())) }
    }

    fn out_cons(self) -> &'static AtomicU32 {
        // SAFETY: the address of a field in the page.
        self.index(|ring| unsafe { &raw mut (*ring).out_cons })
    }

    fn out_prod(self) -> &'static AtomicU32 {
        // SAFETY: as above.
        self.index(|ring| unsafe { &raw mut (*ring).out_prod })
    }

    fn in_cons(self) -> &'static AtomicU32 {
        // SAFETY: as above.
        self.index(|ring| unsafe { &raw mut (*ring).in_cons })
    }

    fn in_prod(self) -> &'static AtomicU32 {
        // SAFETY: as above.
        self.index(|ring| unsafe { &raw mut (*ring).in_prod })
    }

    fn write(self, mut text: &[u8]) {
        while !text.is_empty() {
            let producer = self.out_prod().load(Ordering::Relaxed);
            let (offset, room) = free_run(producer, self.out_cons().load(Ordering::Acquire));
            if room == 0 {
                self.notify();
                self.wait();
                continue;
            }
            let (now, later) = text.split_at(room.min(text.len()));
            // SAFETY: the address of a field in the page.
            let output = unsafe { &raw mut (*self.interface()).output }.cast::<u8>();
            for (index, byte) in now.iter().enumerate() {
                // SAFETY: `offset + index` is within the ring; the other side may read it at any time, hence volatile.
                unsafe { output.add(offset + index).write_volatile(*byte) };
            }
            // No more than the ring has, so it fits.
            self.out_prod().store(producer.wrapping_add(now.len() as u32), Ordering::Release);
            text = later;
        }
        self.notify();
    }

    fn read(self, buffer: &mut [u8]) -> usize {
        let consumer = self.in_cons().load(Ordering::Relaxed);
        let (first, len) = waiting(self.in_prod().load(Ordering::Acquire), consumer);
        let len = len.min(buffer.len());
        // SAFETY: the address of a field in the page.
        let input = unsafe { &raw const (*self.interface()).input }.cast::<u8>();
        for (index, byte) in buffer.iter_mut().take(len).enumerate() {
            // SAFETY: within the ring; the other side may write it, hence volatile.
            *byte = unsafe { input.add((first + index) % IN_RING).read_volatile() };
        }
        self.in_cons().store(consumer.wrapping_add(len as u32), Ordering::Release);
        if len > 0 {
            self.notify();
        }
        len
    }

    /// Tells the other side that something changed.
    fn notify(self) {
        let argument = OnePort { port: self.port.raw() };
        let argument = (&raw const argument).expose_provenance() as u64;
        let args = [u64::from(EVTCHNOP_SEND), argument, 0, 0, 0];
        // SAFETY: takes one `OnePort`. A port that is closed is not worth a word: there is nobody to tell.
        unsafe { Hypervisor.hypercall(HypercallNumber::EVENT_CHANNEL_OP, args) };
    }

    /// Waits for something to read.
    fn wait_for_input(self) {
        loop {
            // Cleared before the look: what comes after it is announced again, and ends the sleep.
            if let Some(words) = crate::events::words() {
                words.take(self.port);
            }
            let consumer = self.in_cons().load(Ordering::Relaxed);
            if waiting(self.in_prod().load(Ordering::Acquire), consumer).1 > 0 {
                return;
            }
            self.sleep(0);
        }
    }

    /// Waits for the other side to make room.
    fn wait(self) {
        // The pending bit stays set otherwise, and the next wait would end at once.
        if let Some(words) = crate::events::words() {
            words.take(self.port);
        }
        if free_run(self.out_prod().load(Ordering::Relaxed), self.out_cons().load(Ordering::Acquire)).1 > 0 {
            return;
        }
        self.sleep(clock::now().nanos().saturating_add(PATIENCE_NANOS));
    }

    /// Sleeps until the other side says something, or until system time `timeout` in nanoseconds; 0 sleeps for ever.
    fn sleep(self, timeout: u64) {
        let port = self.port.raw();
        let argument =
            Poll { ports: (&raw const port).expose_provenance() as u64, nr_ports: 1, pad: 0, timeout };
        let args = [u64::from(SCHEDOP_POLL), (&raw const argument).expose_provenance() as u64, 0, 0, 0];
        // SAFETY: takes one `Poll` with a list of one port.
        unsafe { Hypervisor.hypercall(HypercallNumber::SCHED_OP, args) };
    }
}

struct Console {
    sink: Sink,
    line: [u8; LINE],
    len: usize,
}

impl Console {
    fn push(&mut self, byte: u8) {
        if let Some(slot) = self.line.get_mut(self.len) {
            *slot = byte;
            self.len += 1;
        }
        if byte == b'\n' || self.len == LINE {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let text = self.line.get(..self.len).unwrap_or_default();
        match self.sink {
            Sink::Nowhere => {}
            // There is nobody to tell that the console does not work.
            Sink::Xen => _ = Hypervisor.console_write(text),
            Sink::Ring(ring) => ring.write(text),
        }
        self.len = 0;
    }
}

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(|byte| self.push(byte));
        Ok(())
    }
}

/// Page of the console ring, if the domain has one.
pub(crate) fn ring_page(start: &StartInfo) -> Option<Pfn> {
    let hardware = StartFlags::from_bits_truncate(start.flags).contains(StartFlags::INITDOMAIN);
    let usable = !hardware && start.console_evtchn != 0 && start.console_mfn != 0;
    usable.then(|| memory::pfn_of(Mfn::new(start.console_mfn)))
}

/// Chooses where the console is.
pub(crate) fn initialise(start: &StartInfo) {
    let hardware = StartFlags::from_bits_truncate(start.flags).contains(StartFlags::INITDOMAIN);
    CONSOLE.lock().sink = match ring_page(start) {
        _ if hardware => Sink::Xen,
        Some(page) => {
            Sink::Ring(Ring { page: layout::address_of(page), port: Port::new(start.console_evtchn) })
        }
        None => Sink::Nowhere,
    };
}

/// Prints text; see [`print!`](crate::print).
pub fn print(text: fmt::Arguments<'_>) {
    // Fails only when a value's own formatting does; what it printed before is out then.
    let _ = CONSOLE.lock().write_fmt(text);
}

/// Writes bytes as they are; a line goes out when it is complete, the rest with [`flush`].
pub fn write(bytes: &[u8]) {
    let mut console = CONSOLE.lock();
    for byte in bytes {
        console.push(*byte);
    }
}

/// Writes out a line that is not complete.
pub fn flush() {
    CONSOLE.lock().flush();
}

/// Takes what was typed; gives back how many bytes of `buffer` were filled, 0 when there was nothing.
///
/// Only for a console in a ring; Xen's own is read through `hypercall::Xen`.
pub fn read(buffer: &mut [u8]) -> usize {
    let sink = CONSOLE.lock().sink;
    match sink {
        Sink::Ring(ring) => ring.read(buffer),
        Sink::Nowhere | Sink::Xen => 0,
    }
}

/// Sleeps until something was typed that [`read`] gives; says whether there is anything to wait for: only a console in a ring
/// has input.
pub fn wait_for_input() -> bool {
    // Not with the lock held: whoever prints meanwhile would wait with us.
    let sink = CONSOLE.lock().sink;
    match sink {
        Sink::Ring(ring) => {
            ring.wait_for_input();
            true
        }
        Sink::Nowhere | Sink::Xen => false,
    }
}

/// Port by which the console says that something was typed, or that there is room again; `None` without a ring.
pub fn port() -> Option<Port> {
    match CONSOLE.lock().sink {
        Sink::Ring(ring) => Some(ring.port),
        Sink::Nowhere | Sink::Xen => None,
    }
}

/// Prints a line unless the console is in use: for those who may be called while a line is being made.
pub(crate) fn print_if_free(text: fmt::Arguments<'_>) {
    if let Some(mut console) = CONSOLE.try_lock() {
        let _ = console.write_fmt(text);
        console.push(b'\n');
    }
}

/// Prints a line when the kernel ends: the console's lock is broken if it is held.
///
/// There is one vCPU, and the caller does not return to whoever holds the lock.
pub(crate) fn emergency(text: fmt::Arguments<'_>) {
    if CONSOLE.try_lock().is_none() {
        // SAFETY: the holder is below this call on the only vCPU and does not go on, as all callers end the kernel.
        unsafe { CONSOLE.force_unlock() };
    }
    let mut console = CONSOLE.lock();
    if console.len > 0 {
        console.push(b'\n');
    }
    let _ = console.write_fmt(text);
    console.push(b'\n');
}

/// Prints text to the console.
#[macro_export]
macro_rules! print {
    ($($text:tt)*) => { $crate::console::print(::core::format_args!($($text)*)) };
}

/// Prints a line to the console.
#[macro_export]
macro_rules! println {
    () => { $crate::console::print(::core::format_args!("\n")) };
    ($format:literal $($rest:tt)*) => {
        $crate::console::print(::core::format_args!("{}\n", ::core::format_args!($format $($rest)*)))
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_ends_at_the_end_of_the_ring() {
        assert_eq!(free_run(0, 0), (0, OUT_RING));
        assert_eq!(free_run(10, 0), (10, OUT_RING - 10));
        assert_eq!(free_run(OUT_RING as u32, 0), (0, 0));
        assert_eq!(free_run(OUT_RING as u32 + 5, 7), (5, 2));
        assert_eq!(free_run(u32::MAX, u32::MAX), (OUT_RING - 1, 1));
        assert_eq!(free_run(3, u32::MAX - 1), (3, OUT_RING - 5));
    }

    #[test]
    fn a_lying_index_stays_within_the_ring() {
        assert_eq!(free_run(0, 1), (0, 0));
        assert_eq!(waiting(u32::MAX, 0), (0, IN_RING));
        assert_eq!(waiting(7, 5), (5, 2));
        assert_eq!(waiting(5, 5), (5, 0));
    }
}
