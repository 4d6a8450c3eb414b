//! Somebody at Xen's console: the keyboard goes to one VM at a time, and to the builder's prompt in between.
//!
//! The VM that has the keyboard also has the screen: its output is shown as it comes, while that of all others, and of all while
//! the prompt is open, is shown by lines with names in front. The keyboard follows a VM by its name through restarts, and goes
//! to the next one when it has ended for good.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;

use event_channel::LocalPort;
use hypercall::{CallError, FrameWindow, RawHypercall, Xen};
use nearest::suggestion;
use xen_abi::VcpuId;
use xen_abi::domctl::DomainState;
use xen_abi::event_channel::VIRQ_CONSOLE;

use crate::keyboard::{EscapeKey, Keyboard, Press, Typed};
use crate::prompt::{Command, PROMPT, help};
use crate::running::{Running, View};
use crate::shutdown::Stopping;
use crate::supervisor::Supervisor;
use crate::{Cursor, LineBuffer, Options};

/// Bytes that Xen keeps of what was typed until they are read.
const XENS_BUFFER: usize = 128;

/// How often is said that Xen's buffer was full: once a second, in nanoseconds.
const OVERRUN_PAUSE: u64 = 1_000_000_000;

/// How long nobody has written anything before the open line is shown again: 50 ms, in nanoseconds.
const QUIET: u64 = 50_000_000;

/// The most of Xen's messages in bytes that is shown: many times its ring's size, and a bound should it fill as fast as it is read.
const MAX_DMESG: usize = 1 << 20;

/// Whoever sits at Xen's console.
pub(crate) struct Operator<'x, H: RawHypercall> {
    port: LocalPort<'x, H>,
    keyboard: Keyboard,
    /// The VM that has the keyboard; `None` when there is none to have it.
    owner: Option<String>,
    /// When was last said that Xen's buffer was full.
    overrun: Option<u64>,
    /// Whether was said that the owner does not run.
    told_absent: bool,
    /// Whether the platform is to end.
    pub(crate) wants_end: bool,
}

impl<'x, H: RawHypercall> Operator<'x, H> {
    /// Takes what is typed at Xen's console from now on.
    pub(crate) fn new(xen: &'x Xen<H>, escape: EscapeKey) -> Result<Self, CallError> {
        Ok(Self {
            port: LocalPort::bind_virq(xen, VIRQ_CONSOLE, VcpuId::BOOT)?,
            keyboard: Keyboard::new(escape),
            owner: None,
            overrun: None,
            told_absent: false,
            wants_end: false,
        })
    }

    /// The port by which Xen says that something was typed.
    pub(crate) fn port(&self) -> &LocalPort<'x, H> {
        &self.port
    }

    /// How the output of the VM called `name` is shown.
    pub(crate) fn shows_raw(&self, name: &str) -> bool {
        self.keyboard.line().is_none() && self.owner.as_deref() == Some(name)
    }
}

/// How the output of the VM called `name` is shown.
pub(crate) fn view<'c, H: RawHypercall>(
    operator: Option<&Operator<'_, H>>,
    cursor: &'c Cursor,
    name: &str,
) -> View<'c> {
    View { cursor, is_raw: operator.is_some_and(|operator| operator.shows_raw(name)) }
}

impl<H: RawHypercall, W: FrameWindow> Supervisor<'_, '_, H, W> {
    /// Opens the keyboard, if `options` ask for it: to the VM that they name, or the first.
    pub(crate) fn attend(&mut self, options: &Options) {
        if !options.interactive {
            return;
        }
        match Operator::new(self.xen(), options.escape) {
            Ok(operator) => self.operator = Some(operator),
            Err(error) => return log::warn!("event=no-keyboard {error}: nothing that is typed is heard"),
        }
        let first = options.keyboard.as_deref();
        if let Some(name) = first.filter(|name| !self.is_known(name)) {
            log::warn!("keyboard={name}: there is no such VM; the first one has the keyboard");
        }
        let owner = first.filter(|name| self.is_known(name)).map(String::from);
        match owner.or_else(|| self.names().next().map(String::from)) {
            Some(owner) => self.give_keyboard(&owner),
            None => self.settle_keyboard(),
        }
        self.read_keyboard();
    }

    /// The VMs that run, then those that are to come.
    fn names(&self) -> impl Iterator<Item = &str> {
        let running = self.running.iter().map(Running::name);
        running
            .chain(self.waiting.iter().map(|waiting| waiting.vm.spec.name.as_str()))
            .chain(self.held.names())
    }

    pub(crate) fn is_known(&self, name: &str) -> bool {
        self.names().any(|known| known == name)
    }

    /// Writes a line of the builder's to the screen.
    fn say(&self, text: &str) {
        self.environment.cursor.write_line(self.xen(), text.into());
    }

    /// Takes what was typed, if anything was.
    pub(crate) fn hear(&mut self) {
        let port = self.operator.as_ref().map(|operator| operator.port().port());
        if port.is_some_and(|port| self.environment.events.take(port)) {
            self.read_keyboard();
        }
    }

    /// Takes everything that was typed.
    fn read_keyboard(&mut self) {
        let mut buffer = [0_u8; XENS_BUFFER];
        loop {
            let read = match self.xen().console_read(&mut buffer) {
                Ok(read) => read,
                Err(error) => return log::warn!("event=no-input {error}"),
            };
            if read == XENS_BUFFER {
                self.warn_of_overrun();
            }
            for byte in buffer.iter().take(read) {
                self.press(*byte);
            }
            if read < XENS_BUFFER {
                break;
            }
        }
        for vm in &mut self.running {
            vm.feed();
        }
        self.settle_keyboard();
        self.refresh();
    }

    fn warn_of_overrun(&mut self) {
        let now = self.time();
        let Some(operator) = &mut self.operator else { return };
        if operator.overrun.is_none_or(|last| now.saturating_sub(last) >= OVERRUN_PAUSE) {
            operator.overrun = Some(now);
            log::warn!(
                "event=input-overrun: Xen keeps {XENS_BUFFER} typed bytes, and all were there; if there were more, they are \
                 lost: paste less at a time"
            );
        }
    }

    /// Does what a typed byte asks for.
    fn press(&mut self, byte: u8) {
        let Some(operator) = &mut self.operator else { return };
        let was_at_prompt = operator.keyboard.line().is_some();
        match operator.keyboard.press(byte) {
            Press::Nothing => {}
            Press::Guest(byte) => {
                if was_at_prompt {
                    self.leave_prompt();
                }
                self.type_for_owner(byte);
            }
            // The prompt is shown when all that was typed is dealt with.
            Press::Open => {
                self.release_screen();
                self.environment.cursor.begin_line(|end| self.write(end));
            }
            Press::Close => self.leave_prompt(),
            Press::Next => self.next_vm(),
            // Written whole, the line has what the echo shows.
            Press::Echo(_) if self.environment.cursor.is_at_beginning() => self.refresh(),
            Press::Echo(text) => self.environment.cursor.write_behind(self.xen(), b"", &text),
            Press::Line(line) => {
                self.environment.cursor.begin_line(|end| self.write(end));
                self.obey(&line);
            }
        }
    }

    fn write(&self, bytes: &[u8]) {
        // A console that does not take text leaves nothing to report it on.
        let _ = self.xen().console_write(bytes);
    }

    /// Keeps a byte for the VM that has the keyboard.
    fn type_for_owner(&mut self, byte: u8) {
        let Some(operator) = &mut self.operator else { return };
        let owner = operator.owner.as_deref();
        let Some(vm) = self.running.iter_mut().find(|vm| owner == Some(vm.name())) else {
            if !core::mem::replace(&mut operator.told_absent, true) {
                let name = owner.unwrap_or("no VM");
                log::warn!(
                    "vm={name} event=input-lost: it does not run; what is typed until it does is lost"
                );
            }
            return;
        };
        operator.told_absent = false;
        let was_whole = vm.typed.is_whole();
        if !vm.typed.push(byte) {
            // Those that wait may find room now.
            vm.feed();
            if was_whole && !vm.typed.is_whole() {
                log::warn!(
                    "vm={} event=input-full waiting={}: it reads nothing, and what is typed until it does is lost",
                    vm.name(),
                    Typed::MAX
                );
            }
        }
    }

    /// The line that is open: the prompt's, or that of the VM which has the keyboard.
    fn open_line(&self) -> Option<Cow<'_, [u8]>> {
        let operator = self.operator.as_ref()?;
        if let Some(line) = operator.keyboard.line() {
            return Some(format!("{PROMPT}{line}").into_bytes().into());
        }
        let vm = self.running.iter().find(|vm| operator.shows_raw(vm.name()))?;
        Some(vm.open.text()).filter(|text: &Cow<'_, [u8]>| !text.is_empty())
    }

    /// Shows the open line again, if something else was written since.
    pub(crate) fn refresh(&self) {
        let cursor = self.environment.cursor;
        if cursor.is_at_beginning()
            && let Some(line) = self.open_line()
        {
            cursor.write_behind(self.xen(), b"", &line);
        }
    }

    /// When to show the open line again, should nothing be written until then: at once, it would stand between the lines of a
    /// guest that writes many.
    pub(crate) fn refresh_due(&self) -> Option<u64> {
        let is_hidden = self.environment.cursor.is_at_beginning() && self.open_line().is_some();
        is_hidden.then(|| self.time().saturating_add(QUIET))
    }

    /// Takes the screen from the VM that has it: the builder writes next.
    fn release_screen(&self) {
        let owner = self.operator.as_ref().and_then(|operator| operator.owner.as_deref());
        if let Some(vm) = self.running.iter().find(|vm| owner == Some(vm.name())) {
            vm.release_screen(self.xen(), self.environment.cursor);
        }
    }

    /// Gives the keyboard to the VM called `name`, and closes the prompt.
    fn give_keyboard(&mut self, name: &str) {
        let view = View { cursor: self.environment.cursor, is_raw: true };
        let xen = self.environment.xen;
        let Some(operator) = &mut self.operator else { return };
        operator.owner = Some(name.into());
        operator.told_absent = false;
        operator.keyboard.close();
        let escape = operator.keyboard.escape();
        if let Some(vm) = self.running.iter_mut().find(|vm| vm.name() == name) {
            // What it has begun is about to be shown as it wrote it.
            vm.flush(xen, view);
        }
        self.say(&format!("db-boot: keyboard={name}: what you type goes there; {escape} opens the prompt"));
        if let Some(vm) = self.running.iter().find(|vm| vm.name() == name) {
            vm.take_screen(xen);
        }
    }

    /// Closes the prompt: the keyboard is again its owner's.
    fn leave_prompt(&mut self) {
        let Some(operator) = &mut self.operator else { return };
        operator.keyboard.close();
        match operator.owner.clone() {
            Some(owner) => self.give_keyboard(&owner),
            None => self.say("no VM has the keyboard"),
        }
    }

    /// Gives the keyboard to the VM that runs behind the one that has it.
    fn next_vm(&mut self) {
        let owner = self.operator.as_ref().and_then(|operator| operator.owner.as_deref());
        let at = self.running.iter().position(|vm| owner == Some(vm.name()));
        let next = at.map_or(0, |at| at + 1);
        let vm = self.running.get(next).or(self.running.first());
        match vm.map(|vm| String::from(vm.name())) {
            Some(name) => self.give_keyboard(&name),
            None => self.say("no VM runs"),
        }
    }

    /// Sees to it that the keyboard is somebody's: when its VM has ended for good, it goes to the next.
    pub(crate) fn settle_keyboard(&mut self) {
        let Some(operator) = &self.operator else { return };
        if operator.owner.as_deref().is_some_and(|owner| self.is_known(owner)) {
            return;
        }
        let is_at_prompt = operator.keyboard.line().is_some();
        let next = self.names().next().map(String::from);
        match (next, &mut self.operator) {
            // What is being typed at the prompt is for no guest.
            (next, Some(operator)) if is_at_prompt || next.is_none() => operator.owner = next,
            (Some(name), _) => self.give_keyboard(&name),
            (None, _) => {}
        }
    }

    /// Carries out a line that was entered at the prompt.
    fn obey(&mut self, line: &str) {
        match Command::parse(line) {
            Ok(None) => {}
            Ok(Some(command)) => self.execute(command),
            Err(error) => self.say(&format!("{error}")),
        }
    }

    fn execute(&mut self, command: Command<'_>) {
        match command {
            Command::Help => help().lines().for_each(|line| self.say(line)),
            Command::List => self.list(),
            Command::Console(name) if self.is_known(name) => self.give_keyboard(name),
            Command::Shutdown(None) => {
                let said = self.shut_down_all();
                self.say(&said);
            }
            Command::Shutdown(Some(name)) if self.is_known(name) => {
                let said = self.shut_down(name);
                self.say(&said);
            }
            Command::Destroy(name) if self.is_known(name) => self.destroy_named(name),
            Command::Pause(name) if self.is_known(name) => self.pause(name, true),
            Command::Unpause(name) if self.is_known(name) => self.pause(name, false),
            Command::Console(name)
            | Command::Shutdown(Some(name))
            | Command::Destroy(name)
            | Command::Pause(name)
            | Command::Unpause(name) => {
                if self.preserved.iter().any(|(preserved, _)| preserved == name) {
                    return self.say(&format!("{name} has ended; it is preserved as it was then"));
                }
                let near = suggestion(name, self.names());
                self.say(&format!("there is no VM {name:?}{near}; `list` shows all"));
            }
            Command::Next => self.next_vm(),
            Command::Dmesg => self.dmesg(),
            Command::Poweroff if self.stopping != Stopping::No => {
                self.say("db-boot: the VMs that still run are destroyed");
                self.stopping = Stopping::AtOnce;
            }
            Command::Poweroff => {
                self.say("db-boot: platform=ending: asked for at the prompt");
                if let Some(operator) = &mut self.operator {
                    operator.wants_end = true;
                }
            }
            Command::Quit => self.leave_prompt(),
        }
    }

    /// Shows every VM.
    fn list(&self) {
        let owner = self.operator.as_ref().and_then(|operator| operator.owner.as_deref());
        let mark = |name: &str| if owner == Some(name) { '*' } else { ' ' };
        let preserved = self.preserved.iter().map(|(name, _)| name.as_str());
        let width = self.names().chain(preserved).map(str::len).max().unwrap_or(0).max(4);
        self.say(&format!(
            "  {:width$} {:>5} {:8} {:>5} {:>9} {:>10}",
            "NAME", "DOMID", "STATE", "VCPUS", "MEMORY", "CPU TIME"
        ));
        for vm in &self.running {
            let (name, domid) = (vm.name(), vm.domid);
            match self.xen().domain_info(domid) {
                Ok(info) => self.say(&format!(
                    "{} {name:width$} {:>5} {:8} {:>5} {:>6}MiB {:>9}s",
                    mark(name),
                    domid.raw(),
                    state_word(info.state()),
                    info.nr_online_vcpus,
                    info.tot_pages / 256,
                    format!("{}.{}", info.cpu_time / 1_000_000_000, info.cpu_time / 100_000_000 % 10)
                )),
                Err(error) => self.say(&format!("{} {name:width$} {:>5} {error}", mark(name), domid.raw())),
            }
        }
        for waiting in &self.waiting {
            let name = &waiting.vm.spec.name;
            let due = waiting.due().saturating_sub(self.time()) / 1_000_000;
            self.say(&format!("{} {name:width$}     - restarts in {due} ms", mark(name)));
        }
        for (name, domid) in &self.preserved {
            self.say(&format!(
                "  {name:width$} {:>5} preserved: it has ended, and stays as it is",
                domid.raw()
            ));
        }
        for (name, after) in self.held.waits() {
            self.say(&format!("{} {name:width$}     - starts after {}", mark(name), after.join(", ")));
        }
    }

    /// Destroys a VM because somebody wants it: it does not come back, and that it ended so is nobody's failure.
    fn destroy_named(&mut self, name: &str) {
        if let Some(index) = self.running.iter().position(|vm| vm.name() == name) {
            let vm = self.running.remove(index);
            self.destroy_on_demand(vm);
        } else if let Some(index) = self.waiting.iter().position(|waiting| waiting.vm.spec.name == name) {
            let waiting = self.waiting.remove(index);
            log::info!("vm={name} event=restart-cancelled");
            self.lose_if_critical(&waiting.vm);
        } else {
            self.say(&format!("{name} has not started yet; destroy the VMs that it starts after"));
        }
    }

    /// Stops a VM, or lets it go on.
    fn pause(&mut self, name: &str, pause: bool) {
        let xen = self.xen();
        let Some(vm) = self.running.iter_mut().find(|vm| vm.name() == name) else {
            return self.say(&format!("{name} does not run"));
        };
        if vm.is_paused == pause {
            let word = if pause { "is paused already" } else { "is not paused" };
            return self.say(&format!("{name} {word}"));
        }
        let done = if pause { xen.pause_domain(vm.domid) } else { xen.unpause_domain(vm.domid) };
        match done {
            Ok(()) => {
                vm.is_paused = pause;
                let event = if pause { "paused" } else { "unpaused" };
                log::info!("vm={name} domid={} event={event}", vm.domid);
            }
            Err(error) => log::error!("vm={name} domid={} {error}", vm.domid),
        }
    }

    /// Shows what Xen has in its console ring.
    fn dmesg(&self) {
        match self.xen().console_ring(MAX_DMESG) {
            Ok(Some(text)) => {
                let mut lines = LineBuffer::default();
                let mut show = |line: &[u8]| self.environment.cursor.write_line(self.xen(), line.into());
                lines.push(&text, &mut show);
                lines.flush(&mut show);
            }
            Ok(None) => {
                self.say("this Xen speaks no sysctl interface that is known here: it cannot be asked");
            }
            Err(error) => self.say(&format!("{error}")),
        }
    }
}

/// What a VM does, in one of Xen's words. One that has no flag waits for a processor.
fn state_word(state: DomainState) -> &'static str {
    let words = [
        (DomainState::DYING, "dying"),
        (DomainState::SHUTDOWN, "ended"),
        (DomainState::PAUSED, "paused"),
        (DomainState::BLOCKED, "blocked"),
        (DomainState::RUNNING, "running"),
    ];
    words.iter().find(|(flag, _)| state.contains(*flag)).map_or("runnable", |(_, word)| word)
}
