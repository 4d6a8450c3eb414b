//! The first steps of a kernel, and what it is told by whoever built its domain.

use core::fmt;

use thiserror::Error;
use xen_abi::start_info::{StartFlags, StartInfo};
use xen_abi::{DomId, Errno, GuestVirt, MachineAddr, Mfn, PAGE_SHIFT, PAGE_SIZE, Pfn, Port};

use hypercall::WindowError;

use crate::ending::{self, Ending, exit_port};
use crate::hypervisor::Hypervisor;
use crate::layout::{self, LayoutError, Regions, page_of};
use crate::memory::{self, MemoryError, READ_ONLY};
use crate::ramdisk::Module;
use crate::window::{self, SharedBytes, SharedFrames, Window};
use crate::{clock, console, events, heap, logger, machine, traps};

/// Why a kernel did not start.
#[derive(Debug, Error)]
enum StartError {
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error("preparing memory: {0}")]
    Memory(#[from] MemoryError),
    #[error("setting trap handlers: {0}")]
    Traps(Errno),
    #[error("stopping the periodic timer: {0}")]
    PeriodicTimer(Errno),
    #[error("mapping the shared info page: {0}")]
    SharedInfo(WindowError),
}

/// What a kernel is told at its start, and what it can take once.
pub struct Boot {
    start: &'static StartInfo,
    address: GuestVirt,
    window_taken: bool,
    module_taken: bool,
    store_taken: bool,
}

/// Pages that the runtime does not use, mapped at their own address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SparePages {
    /// The first.
    pub start: Pfn,
    /// Behind the last.
    pub end: Pfn,
}

impl Boot {
    /// The start info that the builder wrote.
    pub fn start_info(&self) -> &'static StartInfo {
        self.start
    }

    /// Address of the start info.
    pub fn start_address(&self) -> GuestVirt {
        self.address
    }

    /// The flags in the start info that are known.
    pub fn flags(&self) -> StartFlags {
        StartFlags::from_bits_truncate(self.start.flags)
    }

    /// Whether this is the hardware domain, Dom0 of a stock Xen.
    pub fn is_hardware_domain(&self) -> bool {
        self.flags().contains(StartFlags::INITDOMAIN)
    }

    /// The command line; of one that is not UTF-8 the part before what is not.
    pub fn command_line(&self) -> &'static str {
        text(self.start.command_line())
    }

    /// The value of `key=value` on the command line: the last, if there are several.
    pub fn argument(&self, key: &str) -> Option<&'static str> {
        argument(self.command_line(), key)
    }

    /// The module that was loaded with the kernel, empty when there is none. It can be taken once; `None` after that.
    pub fn module(&mut self) -> Option<Result<Module, MemoryError>> {
        let taken = core::mem::replace(&mut self.module_taken, true);
        (!taken).then(|| self.map_module())
    }

    /// Maps the module. Must be called once.
    fn map_module(&self) -> Result<Module, MemoryError> {
        let (first, end) = layout::module(self.start).unwrap_or_default();
        if memory::lock().mapped() < end {
            heap::map_up_to(end)?;
        }
        let by_page = self.flags().contains(StartFlags::MOD_START_PFN);
        let offset = if by_page { 0 } else { self.start.mod_start as usize % PAGE_SIZE };
        let len = if first == end { 0 } else { self.start.mod_len as usize };
        // SAFETY: its pages are below `mapped`, to which the check above has seen; `regions` keeps them out of free memory, by the same
        // `layout::module`. `module_taken` lets the only caller come here once, so that no second value gives the pages away.
        Ok(unsafe { Module::new(first, offset, len) })
    }

    /// The window for other domains' frames. It can be taken once; `None` after that.
    pub fn window(&mut self) -> Option<Result<Window, MemoryError>> {
        let taken = core::mem::replace(&mut self.window_taken, true);
        (!taken).then(Window::new)
    }

    /// The ring of the domain's XenStore, a page, and its port; `None` when there is none. It can be taken once; `None` after that.
    pub fn store(&mut self) -> Option<(SharedBytes, Port)> {
        let page = store_page(self.start).filter(|_| !core::mem::replace(&mut self.store_taken, true))?;
        let address = GuestVirt::new(layout::address_of(page));
        // SAFETY: the builder mapped the page, and it stays; it is no page of the heap, the stack or the image, which are all
        // elsewhere (`layout::regions`), and this is the only call.
        let memory = unsafe { SharedBytes::new(address, PAGE_SIZE) }?;
        Some((memory, Port::new(self.start.store_evtchn)))
    }

    /// Maps all pages that the runtime has no use for yet. From then on the heap does not grow.
    pub fn spare_pages(&mut self) -> Result<SparePages, MemoryError> {
        let (start, end) = heap::take_rest()?;
        Ok(SparePages { start, end })
    }
}

/// What is UTF-8 of some bytes, from the front.
fn text(bytes: &[u8]) -> &str {
    let valid = match core::str::from_utf8(bytes) {
        Ok(text) => return text,
        Err(error) => bytes.get(..error.valid_up_to()).unwrap_or_default(),
    };
    core::str::from_utf8(valid).unwrap_or_default()
}

/// The value of the last `key=value` among words.
fn argument<'a>(words: &'a str, key: &str) -> Option<&'a str> {
    words.split_ascii_whitespace().rev().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
}

/// A port number, decimal or with `0x`.
fn port_number(text: &str) -> Option<u16> {
    match text.strip_prefix("0x") {
        Some(digits) => u16::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// Sets everything up, and runs `main`; called once, on the kernel's own stack, with what the builder told.
#[cfg_attr(not(target_os = "none"), expect(dead_code, reason = "a host does not enter here"))]
pub(crate) fn start(start_address: u64, boot_stack_end: u64, main: fn(&mut Boot) -> Ending) -> ! {
    logger::initialise(machine::kernel_name());
    let start = core::ptr::with_exposed_provenance::<StartInfo>(start_address as usize);
    // SAFETY: by the PV ABI the entry point's rsi, which is passed on here, holds the address of the start info, at the beginning of a page
    // that the builder mapped; all fields are integers and bytes, so that any content is one. Nobody writes it: Xen and the builder are
    // done with it, and `layout::regions` begins free memory behind it, so that the heap never hands it out.
    let start: &'static StartInfo = unsafe { &*start };
    console::initialise(start);
    if let Some(port) = argument(text(start.command_line()), "exit-port").and_then(port_number) {
        exit_port::configure(port);
    }
    if let Err(error) = prepare(start, start_address, boot_stack_end) {
        ending::fail(format_args!("the kernel cannot start: {error}"));
    }
    let mut boot = Boot {
        start,
        address: GuestVirt::new(start_address),
        window_taken: false,
        module_taken: false,
        store_taken: false,
    };
    ending::end(main(&mut boot))
}

/// Brings everything up that `main` may rely on.
fn prepare(start: &'static StartInfo, start_address: u64, boot_stack_end: u64) -> Result<(), StartError> {
    traps::initialise().map_err(StartError::Traps)?;
    let rings = [console::ring_page(start), store_page(start)];
    let image_end = machine::symbols().image_end;
    let Regions { free_start, free_end } =
        layout::regions(start, start_address, image_end, boot_stack_end, rings)?;
    memory::initialise(start, free_start);
    // SAFETY: `regions` has them begin behind everything that the linker, the builder and the PV ABI have put into memory, and
    // `memory::initialise` has just found out up to where they are mapped: as ordinary pages, for the builder's tables are in front.
    // `prepare` runs once, and calls this once.
    unsafe { heap::initialise(free_start, free_end) };
    window::initialise()?;
    map_shared_info(MachineAddr::new(start.shared_info))?;
    Hypervisor.stop_periodic_timer().map_err(StartError::PeriodicTimer)?;
    protect_image()
}

/// Page of the XenStore ring, if the domain has one.
fn store_page(start: &StartInfo) -> Option<Pfn> {
    let usable = start.store_evtchn != 0 && start.store_mfn != 0;
    usable.then(|| memory::pfn_of(Mfn::new(start.store_mfn)))
}

/// Maps the shared info page for good.
fn map_shared_info(address: MachineAddr) -> Result<(), StartError> {
    let frame = Mfn::new(address.raw() >> PAGE_SHIFT);
    // SAFETY: the page is Xen's, not one of those that this domain was given.
    let shared = unsafe { SharedFrames::map(DomId::SELF, &[frame]) }.map_err(StartError::SharedInfo)?;
    clock::initialise(shared.address().raw());
    events::mask_upcalls();
    // Mapped as long as the kernel runs.
    core::mem::forget(shared);
    Ok(())
}

/// Makes code and constants read-only and all but code not executable, and lets null pointers and an overflowing stack fault.
fn protect_image() -> Result<(), StartError> {
    let symbols = machine::symbols();
    let memory = memory::lock();
    // SAFETY: the linker script puts into the pages from the start of the image up to the constants' end what no Rust code writes (`.text`,
    // `.rodata`), and all code in front of the text's end. The image begins above page 0, and nothing is put into the page
    // below the stack: there is no reference to either.
    unsafe {
        memory.protect(page_of(symbols.image_start), page_of(symbols.constant_end), Some(READ_ONLY))?;
        memory.protect(Pfn::new(0), Pfn::new(1), None)?;
        let guard = page_of(symbols.stack_guard);
        memory.protect(guard, Pfn::new(guard.raw() + 1), None)?;
        memory.forbid_execution(page_of(symbols.text_end))?;
    }
    Ok(())
}

impl fmt::Debug for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Boot(start_info at {})", self.address)
    }
}

impl fmt::Display for Boot {
    /// The start info, one line for each field.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = self.start;
        writeln!(f, "start_info     at {}", self.address)?;
        writeln!(
            f,
            "magic          {}",
            text(start.magic.split(|byte| *byte == 0).next().unwrap_or_default())
        )?;
        writeln!(f, "nr_pages       {} ({} KiB)", start.nr_pages, start.nr_pages * 4)?;
        writeln!(f, "shared_info    {:#x}", start.shared_info)?;
        writeln!(f, "flags          {:#x} ({})", start.flags, Flags(self.flags()))?;
        writeln!(f, "store_mfn      {:#x}", start.store_mfn)?;
        writeln!(f, "store_evtchn   {}", start.store_evtchn)?;
        if self.is_hardware_domain() {
            // Two words in place of the ring's frame: where the video information is.
            let (offset, size) = (start.console_mfn & 0xffff_ffff, start.console_mfn >> 32);
            writeln!(f, "console.info   at offset {offset:#x}, {size} bytes")?;
        } else {
            writeln!(f, "console_mfn    {:#x}", start.console_mfn)?;
            writeln!(f, "console_evtchn {}", start.console_evtchn)?;
        }
        writeln!(f, "pt_base        {:#x}", start.pt_base)?;
        writeln!(f, "nr_pt_frames   {}", start.nr_pt_frames)?;
        writeln!(f, "mfn_list       {:#x}", start.mfn_list)?;
        writeln!(f, "mod_start      {:#x}", start.mod_start)?;
        writeln!(f, "mod_len        {}", start.mod_len)?;
        writeln!(f, "cmd_line       \"{}\"", self.command_line())?;
        writeln!(f, "first_p2m_pfn  {:#x}", start.first_p2m_pfn)?;
        write!(f, "nr_p2m_frames  {}", start.nr_p2m_frames)
    }
}

/// Start flags by their names in the header.
struct Flags(StartFlags);

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        for (index, (name, _)) in self.0.iter_names().enumerate() {
            let bar = if index == 0 { "" } else { " | " };
            write!(f, "{bar}SIF_{name}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_whole_words_and_the_last_counts() {
        let line = "a=1 nonce=x  anonce=no nonce=y nonce";
        assert_eq!(argument(line, "nonce"), Some("y"));
        assert_eq!(argument(line, "a"), Some("1"));
        assert_eq!(argument(line, "on"), None);
        assert_eq!(argument("a=", "a"), Some(""));
    }

    #[test]
    fn ports_are_decimal_or_hexadecimal() {
        assert_eq!(port_number("0xf4"), Some(0xf4));
        assert_eq!(port_number("244"), Some(0xf4));
        assert_eq!(port_number("0x10000"), None);
        assert_eq!(port_number("f4"), None);
    }

    #[test]
    fn text_ends_where_it_is_none() {
        assert_eq!(text(b"abc\xffdef"), "abc");
        assert_eq!(text(b"abc"), "abc");
    }
}
