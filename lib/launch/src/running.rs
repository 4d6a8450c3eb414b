//! A VM that runs, and its console.

use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;

use event_channel::LocalPort;
use hypercall::{RawHypercall, SharedMemory, Xen};
use platform::Row;
use xen_abi::{DomId, Port};

use crate::guest_store::GuestStore;
use crate::keyboard::Typed;
use crate::screen::{OpenLine, write};
use crate::shutdown::Asked;
use crate::{ConsoleRing, Cursor, LineBuffer, PlannedVm};

/// How long a line without an end, such as a prompt, waits for the rest of it: 200 ms, in nanoseconds.
const PROMPT_DELAY: u64 = 200_000_000;

/// A VM that runs.
pub(crate) struct Running<'x, H: RawHypercall, S> {
    pub(crate) vm: Rc<PlannedVm>,
    pub(crate) domid: DomId,
    /// When it was started.
    pub(crate) since: u64,
    /// The restarts that led to it.
    pub(crate) row: Row,
    /// Its console, unless another domain serves that.
    pub(crate) console: Option<Console<'x, H, S>>,
    /// Its XenStore, if the builder serves it one.
    pub(crate) store: Option<GuestStore<'x, H, S>>,
    /// Whose affair its end is.
    pub(crate) owner: Owner,
    pub(crate) line: LineBuffer,
    /// When the line was begun that is not ended yet.
    pub(crate) open_since: Option<u64>,
    /// Whether the VMs that start after it may.
    pub(crate) is_ready: bool,
    /// Whether it had its time to become ready and was not.
    pub(crate) is_late: bool,
    /// The line that was begun, as the guest wrote it.
    pub(crate) open: OpenLine,
    /// What was typed for it and does not fit its ring yet.
    pub(crate) typed: Typed,
    /// Whether somebody has paused it.
    pub(crate) is_paused: bool,
    /// Whether it was asked to power off, for the platform or at the prompt.
    pub(crate) asked: Option<Asked>,
}

/// The builder's end of a VM's console.
pub(crate) struct Console<'x, H: RawHypercall, S> {
    pub(crate) port: LocalPort<'x, H>,
    pub(crate) ring: ConsoleRing<S>,
    /// Whether the guest has written anything.
    pub(crate) has_spoken: bool,
}

/// Whose a VM is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The platform's: its spec says what happens when it ends.
    #[default]
    Platform,
    /// The service's, which is told of its end.
    Service,
}

/// How a guest's output is shown.
#[derive(Clone, Copy)]
pub(crate) struct View<'c> {
    pub(crate) cursor: &'c Cursor,
    /// As it comes, because the guest has the keyboard; else by lines with its name in front.
    pub(crate) is_raw: bool,
}

impl<H: RawHypercall, S: SharedMemory> Running<'_, H, S> {
    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.vm.spec.name
    }

    /// The port by which it says that it has written, or read.
    pub(crate) fn port(&self) -> Option<Port> {
        self.console.as_ref().map(|console| console.port.port())
    }

    /// Whether it is the service's.
    pub(crate) fn is_served(&self) -> bool {
        self.owner == Owner::Service
    }

    /// Relays everything that the guest has written, and tells it that there is room again.
    ///
    /// Once is enough: what the guest writes after the look at its ring, it announces with another event.
    pub(crate) fn relay(&mut self, xen: &Xen<H>, now: u64, view: View<'_>) {
        let vm = Rc::clone(&self.vm);
        let (name, Self { console, line, is_ready, open, open_since, .. }) = (&vm.spec.name, &mut *self);
        let Some(Console { port, ring, has_spoken }) = console else { return };
        let sink = |bytes: &[u8]| {
            if view.is_raw {
                view.cursor.write_behind(xen, &open.text(), bytes);
            }
            open.push(bytes);
            line.push(bytes, |line| *is_ready |= show(xen, &vm, line, view));
        };
        if !ring.take_output(sink) {
            return;
        }
        *has_spoken = true;
        *open_since = line.is_open().then_some(now);
        if let Err(error) = port.notify() {
            log::warn!("vm={name} console: {error}");
        }
    }

    /// Hands over as much of what was typed as there is room for.
    pub(crate) fn feed(&mut self) {
        let name = &self.vm.spec.name;
        if let Some(Console { port, ring, .. }) = &self.console
            && ring.put_input(&mut self.typed.waiting)
            && let Err(error) = port.notify()
        {
            log::warn!("vm={name} console: {error}");
        }
        let lost = self.typed.take_lost();
        if lost > 0 {
            log::warn!("vm={name} event=input-lost bytes={lost}: they were typed while it read nothing");
        }
    }

    /// Shows the line that was begun.
    pub(crate) fn flush(&mut self, xen: &Xen<H>, view: View<'_>) {
        let Self { vm, line, is_ready, .. } = self;
        line.flush(|line| *is_ready |= show(xen, vm, line, view));
        self.open_since = None;
    }

    /// Brings the terminal back from whatever the guest, which has had the screen, has done to it.
    ///
    /// Where the cursor is after that is not known: whoever writes next begins a line.
    pub(crate) fn release_screen(&self, xen: &Xen<H>, cursor: &Cursor) {
        cursor.write_behind(xen, b"", &self.open.undo_modes());
    }

    /// Brings the terminal to where the guest, which gets the screen, has left it.
    pub(crate) fn take_screen(&self, xen: &Xen<H>) {
        write(xen, &self.open.redo_modes());
    }

    /// When to show the line that was begun.
    pub(crate) fn prompt_deadline(&self) -> Option<u64> {
        self.open_since.map(|since| since.saturating_add(PROMPT_DELAY))
    }
}

/// Shows a line of a VM's console, and says whether it is the one by which the VM shows that it is ready.
fn show<H: RawHypercall>(xen: &Xen<H>, vm: &PlannedVm, line: &[u8], view: View<'_>) -> bool {
    if !view.is_raw {
        write_line(xen, &vm.spec.name, line, view.cursor);
    }
    let contains = |text: &String| line.windows(text.len()).any(|part| part == text.as_bytes());
    vm.spec.life.ready.as_ref().is_some_and(contains)
}

/// Writes a guest's line to Xen's console, in one call so that lines of several guests do not mix.
fn write_line<H: RawHypercall>(xen: &Xen<H>, name: &str, line: &[u8], cursor: &Cursor) {
    let mut text = Vec::with_capacity(name.len() + line.len() + 4);
    text.push(b'[');
    text.extend_from_slice(name.as_bytes());
    text.extend_from_slice(b"] ");
    text.extend_from_slice(line);
    cursor.write_line(xen, text);
}
