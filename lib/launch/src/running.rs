//! A VM that runs, and its console.

use alloc::string::String;
use alloc::vec::Vec;

use event_channel::LocalPort;
use hypercall::{RawHypercall, SharedMemory, Xen};
use xen_abi::DomId;

use crate::restart::Row;
use crate::{ConsoleRing, LineBuffer, PlannedVm};

/// How long a line without an end, such as a prompt, waits for the rest of it: 200 ms, in nanoseconds.
const PROMPT_DELAY: u64 = 200_000_000;

/// A VM that runs.
pub(crate) struct Running<'x, 'p, H: RawHypercall, S> {
    pub(crate) vm: &'p PlannedVm<'p>,
    pub(crate) domid: DomId,
    /// When it was started.
    pub(crate) since: u64,
    /// The restarts that led to it.
    pub(crate) row: Row,
    pub(crate) port: LocalPort<'x, H>,
    pub(crate) ring: ConsoleRing<S>,
    pub(crate) line: LineBuffer,
    /// When the line was begun that is not ended yet.
    pub(crate) open_since: Option<u64>,
    /// Whether the VMs that start after it may.
    pub(crate) is_ready: bool,
}

impl<H: RawHypercall, S: SharedMemory> Running<'_, '_, H, S> {
    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.vm.spec.name
    }

    /// Relays everything that the guest has written, and tells it that there is room again.
    ///
    /// Once is enough: what the guest writes after the look at its ring, it announces with another event.
    pub(crate) fn relay(&mut self, xen: &Xen<H>, now: u64) {
        let vm = self.vm;
        let (name, Self { ring, line, is_ready, .. }) = (&vm.spec.name, &mut *self);
        if !ring.take_output(|bytes| line.push(bytes, |line| *is_ready |= show(xen, vm, line))) {
            return;
        }
        self.open_since = self.line.is_open().then_some(now);
        if let Err(error) = self.port.notify() {
            log::warn!("vm={name} console: {error}");
        }
    }

    /// Shows the line that was begun.
    pub(crate) fn flush(&mut self, xen: &Xen<H>) {
        let Self { vm, line, is_ready, .. } = self;
        line.flush(|line| *is_ready |= show(xen, vm, line));
        self.open_since = None;
    }

    /// When to show the line that was begun.
    pub(crate) fn prompt_deadline(&self) -> Option<u64> {
        self.open_since.map(|since| since.saturating_add(PROMPT_DELAY))
    }
}

/// Shows a line of a VM's console, and says whether it is the one by which the VM shows that it is ready.
fn show<H: RawHypercall>(xen: &Xen<H>, vm: &PlannedVm<'_>, line: &[u8]) -> bool {
    write_line(xen, &vm.spec.name, line);
    let contains = |text: &String| line.windows(text.len()).any(|part| part == text.as_bytes());
    vm.spec.life.ready.as_ref().is_some_and(contains)
}

/// Writes a guest's line to Xen's console, in one call so that lines of several guests do not mix.
fn write_line<H: RawHypercall>(xen: &Xen<H>, name: &str, line: &[u8]) {
    let mut text = Vec::with_capacity(name.len() + line.len() + 4);
    text.push(b'[');
    text.extend_from_slice(name.as_bytes());
    text.extend_from_slice(b"] ");
    text.extend_from_slice(line);
    text.push(b'\n');
    // A console that does not take text leaves nothing to report it on.
    let _ = xen.console_write(&text);
}
