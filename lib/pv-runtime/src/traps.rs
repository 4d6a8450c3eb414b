//! Exceptions: reported with everything that helps to find the cause, and then the end. Probes are the exception.

use core::fmt;

use thiserror::Error;
use xen_abi::vcpu::{FLAT_KERNEL_CS, TrapInfo};
use xen_abi::{Errno, GuestVirt};

use crate::hypervisor::Hypervisor;
pub use crate::machine::Provocation;
use crate::machine::{self, VECTORS};
use crate::{clock, ending};

/// Vector of a page fault.
const PAGE_FAULT: u64 = 14;
/// Vector of a general protection fault.
const GENERAL_PROTECTION: u64 = 13;

/// Vectors with an error code in their frame, as bits.
const WITH_ERROR_CODE: u64 = 1 << 8 | 0b11111 << 10 | 1 << 17 | 1 << 21 | 1 << 29 | 1 << 30;

/// Words of the stack in a report.
const STACK_WORDS: u64 = 16;

/// What the assembly pushed, below what Xen pushed.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Frame {
    r15: u64,
    r14: u64,
    r13: u64,
    r12: u64,
    r10: u64,
    r9: u64,
    r8: u64,
    rdi: u64,
    rsi: u64,
    rbp: u64,
    rbx: u64,
    rdx: u64,
    rax: u64,
    vector: u64,
    rcx: u64,
    r11: u64,
    /// Error code (only of some vectors), rip, cs, rflags, rsp, ss.
    rest: [u64; 6],
}

/// What the assembly does after a trap that was handled.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Resume {
    rip: u64,
    rsp: u64,
}

/// The processor's part of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Processor {
    error_code: Option<u64>,
    rip: u64,
    cs: u64,
    rflags: u64,
    rsp: u64,
    ss: u64,
}

/// An access that the processor refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("access to {0} faulted")]
pub struct Fault(pub GuestVirt);

const fn has_error_code(vector: u64) -> bool {
    vector < 64 && WITH_ERROR_CODE >> vector & 1 == 1
}

const fn vector_name(vector: u64) -> &'static str {
    match vector {
        0 => "divide error",
        1 => "debug exception",
        2 => "non-maskable interrupt",
        3 => "breakpoint",
        4 => "overflow",
        5 => "bound range exceeded",
        6 => "invalid opcode",
        7 => "device not available",
        8 => "double fault",
        10 => "invalid TSS",
        11 => "segment not present",
        12 => "stack fault",
        GENERAL_PROTECTION => "general protection",
        PAGE_FAULT => "page fault",
        16 => "floating-point error",
        17 => "alignment check",
        18 => "machine check",
        19 => "SIMD floating-point error",
        21 => "control protection",
        _ => "exception",
    }
}

impl Frame {
    fn processor(&self) -> Processor {
        // Above the selector in its word Xen keeps whether upcalls were masked.
        let selector = |word: u64| word & 0xffff;
        let [first, second, third, fourth, fifth, sixth] = self.rest;
        if has_error_code(self.vector) {
            let error_code = Some(first);
            let (cs, ss) = (selector(third), selector(sixth));
            Processor { error_code, rip: second, cs, rflags: fourth, rsp: fifth, ss }
        } else {
            // The sixth word is what was on the stack before.
            let (cs, ss) = (selector(second), selector(fifth));
            Processor { error_code: None, rip: first, cs, rflags: third, rsp: fourth, ss }
        }
    }
}

/// An error code of a page fault in words.
struct PageFaultCause(u64);

impl fmt::Display for PageFaultCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let access = if self.0 & 16 != 0 {
            "execution"
        } else if self.0 & 2 != 0 {
            "write"
        } else {
            "read"
        };
        let state =
            if self.0 & 1 != 0 { "of a page that does not allow it" } else { "of a page that is not mapped" };
        write!(f, "{access} {state}")
    }
}

/// A frame as it is reported.
struct Report<'a> {
    frame: &'a Frame,
    processor: Processor,
    cr2: u64,
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { frame, processor, cr2 } = self;
        write!(f, "exception {}, {}", frame.vector, vector_name(frame.vector))?;
        if let Some(code) = processor.error_code {
            write!(f, ", error code {code:#x}")?;
        }
        write!(f, " at rip={:#x}", processor.rip)?;
        if frame.vector == PAGE_FAULT {
            let cause = PageFaultCause(processor.error_code.unwrap_or(0));
            write!(f, ": {cause}, address cr2={cr2:#x}")?;
        }
        let row = |f: &mut fmt::Formatter<'_>, registers: [(&str, u64); 4]| {
            f.write_str("\n ")?;
            registers.iter().try_for_each(|(name, value)| write!(f, " {name:>6}={value:016x}"))
        };
        row(f, [("rax", frame.rax), ("rbx", frame.rbx), ("rcx", frame.rcx), ("rdx", frame.rdx)])?;
        row(f, [("rsi", frame.rsi), ("rdi", frame.rdi), ("rbp", frame.rbp), ("rsp", processor.rsp)])?;
        row(f, [("r8", frame.r8), ("r9", frame.r9), ("r10", frame.r10), ("r11", frame.r11)])?;
        row(f, [("r12", frame.r12), ("r13", frame.r13), ("r14", frame.r14), ("r15", frame.r15)])?;
        row(
            f,
            [
                ("rip", processor.rip),
                ("cs", processor.cs),
                ("ss", processor.ss),
                ("rflags", processor.rflags),
            ],
        )
    }
}

/// The words on top of a stack, as far as they are readable.
struct StackWords(u64);

impl fmt::Display for StackWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for index in 0..STACK_WORDS {
            let Some(address) = self.0.checked_add(index * 8) else { break };
            if index % 4 == 0 {
                write!(f, "\n  stack {address:#x}:")?;
            }
            match read(GuestVirt::new(address)) {
                Ok(word) => write!(f, " {word:016x}")?,
                Err(_) => return f.write_str(" not readable"),
            }
        }
        Ok(())
    }
}

/// Takes a fault, which ends the kernel.
pub fn provoke(provocation: Provocation) -> ! {
    machine::provoke(provocation)
}

/// Called for each exception, from assembly.
#[cfg_attr(not(target_os = "none"), expect(dead_code, reason = "a host does not enter here"))]
pub(crate) extern "C" fn handle(frame: &Frame) -> Resume {
    let processor = frame.processor();
    let symbols = machine::symbols();
    let probing = processor.rip == symbols.probe_read || processor.rip == symbols.probe_write;
    if probing && matches!(frame.vector, PAGE_FAULT | GENERAL_PROTECTION) {
        return Resume { rip: symbols.probe_faulted, rsp: processor.rsp };
    }
    let cr2 = clock::vcpu_info().map_or(0, |vcpu| {
        // SAFETY: a word of the shared info page, which stays mapped; Xen writes it, hence volatile.
        unsafe { (&raw const (*vcpu).cr2).read_volatile() }
    });
    let report = Report { frame, processor, cr2 };
    ending::fail(format_args!("{report}{}", StackWords(processor.rsp)))
}

/// Sets the handlers.
pub(crate) fn initialise() -> Result<(), Errno> {
    let mut table = [TrapInfo::default(); VECTORS + 1];
    for (vector, (entry, address)) in table.iter_mut().zip(machine::trap_stubs()).enumerate() {
        *entry = TrapInfo {
            vector: u8::try_from(vector).unwrap_or(u8::MAX),
            flags: 0,
            cs: FLAT_KERNEL_CS,
            pad: 0,
            address,
        };
    }
    Hypervisor.set_trap_table(&table)?;
    // A segment register that cannot be loaded again is as good a reason to stop as a general protection fault.
    let failsafe = machine::trap_stubs().nth(13).unwrap_or(0);
    Hypervisor.set_callbacks(machine::event_upcall(), failsafe)
}

/// Reads the word at an address that may not be readable.
pub fn read(address: GuestVirt) -> Result<u64, Fault> {
    // SAFETY: an address that is not mapped faults, which the probe survives. The only memory mapped here that is not RAM is
    // firmware's tables, which `launch::power_off` has mapped while it reads them: reading those has no side effect either.
    let probed = unsafe { machine::probe_read(address.raw()) };
    if probed.faulted == 0 { Ok(probed.value) } else { Err(Fault(address)) }
}

/// Writes the word at an address that may not be writable.
///
/// # Safety
///
/// If the address is writable, no reference to the word exists and no code relies on what it holds.
pub unsafe fn write(address: GuestVirt, value: u64) -> Result<(), Fault> {
    // SAFETY: the caller's promise.
    let probed = unsafe { machine::probe_write(address.raw(), value) };
    if probed.faulted == 0 { Ok(()) } else { Err(Fault(address)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn frame(vector: u64) -> Frame {
        let mut frame = Frame {
            r15: 15,
            r14: 14,
            r13: 13,
            r12: 12,
            r10: 10,
            r9: 9,
            r8: 8,
            rdi: 7,
            rsi: 6,
            rbp: 5,
            rbx: 3,
            rdx: 2,
            rax: 1,
            vector,
            rcx: 4,
            r11: 11,
            rest: [0; 6],
        };
        frame.rest = if has_error_code(vector) {
            [2, 0x1234, 0x1_0000_e033, 0x10246, 0x8000, 0xe02b]
        } else {
            [0x1234, 0xe033, 0x10246, 0x8000, 0xe02b, 0xdead]
        };
        frame
    }

    #[test]
    fn frames_are_told_apart_by_their_error_code() {
        for vector in 0..VECTORS as u64 {
            let processor = frame(vector).processor();
            assert_eq!((processor.rip, processor.rsp, processor.ss), (0x1234, 0x8000, 0xe02b), "{vector}");
        }
        let with: alloc::vec::Vec<u64> = (0..32).filter(|vector| has_error_code(*vector)).collect();
        assert_eq!(with, [8, 10, 11, 12, 13, 14, 17, 21, 29, 30]);
    }

    #[test]
    fn a_report_names_what_happened() {
        let frame = frame(PAGE_FAULT);
        let text = Report { frame: &frame, processor: frame.processor(), cr2: 0xbad0 }.to_string();
        let first = text.lines().next().unwrap();
        assert_eq!(
            first,
            "exception 14, page fault, error code 0x2 at rip=0x1234: write of a page that is not mapped, address cr2=0xbad0"
        );
        assert_eq!(text.lines().count(), 6);
    }
}
