//! What is looked at, and what is wrong with it.

use core::fmt::{self, Write};

use crate::console::Console;
use crate::machine::{M2P, VIRT_BASE, current_pages, vcpu_is_up, word};

const PAGE: u32 = 4096;
/// Ring 1, where 32-bit PV kernels run.
const KERNEL_CS: u32 = 0xe019;
const PRESENT: u32 = 1;
const WRITABLE: u32 = 2;

/// What the first instruction found, and the start info, whose fields are read by their offsets.
pub(crate) struct Start {
    pub(crate) address: u32,
    pub(crate) stack: u32,
    pub(crate) cs: u32,
}

/// What is wrong: a text, what was found, and what was expected.
pub(crate) struct Fault(&'static str, u32, u32);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:#x} where {:#x} was expected", self.0, self.1, self.2)
    }
}

fn equal(what: &'static str, found: u32, expected: u32) -> Result<(), Fault> {
    if found == expected { Ok(()) } else { Err(Fault(what, found, expected)) }
}

impl Start {
    /// The word at an offset of the start info.
    pub(crate) fn field(&self, offset: u32) -> u32 {
        word(self.address + offset)
    }

    /// A byte of the command line.
    fn command_line(&self, index: u32) -> u8 {
        self.field(80 + index / 4 * 4).to_le_bytes()[(index % 4) as usize]
    }

    /// The value of an argument on the command line, `-` without.
    pub(crate) fn argument(&self, name: &str) -> Argument {
        let mut text = [0_u8; 32];
        for start in 0..1000 {
            if (0..).zip(name.bytes()).all(|(at, byte)| self.command_line(start + at) == byte) {
                let value = start + name.len() as u32;
                for (index, place) in (value..).zip(&mut text) {
                    match self.command_line(index) {
                        0 | b' ' => break,
                        byte => *place = byte,
                    }
                }
                return Argument(text);
            }
        }
        text[0] = b'-';
        Argument(text)
    }

    fn pages(&self) -> u32 {
        self.field(32)
    }

    /// The frame of a page, from the p2m list.
    fn frame(&self, page: u32) -> u32 {
        word(self.field(68) + page * 4)
    }

    /// Where a frame of the domain is mapped.
    pub(crate) fn page_of_frame(&self, frame: u32) -> u32 {
        VIRT_BASE + word(M2P + frame * 4) * PAGE
    }
}

/// A short text that ends in zeros.
pub(crate) struct Argument([u8; 32]);

impl fmt::Display for Argument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take_while(|byte| **byte != 0).try_for_each(|byte| f.write_char(char::from(*byte)))
    }
}

/// Looks at everything; the pages of the domain.
pub(crate) fn all(start: &Start, console: &mut Console) -> Result<u32, Fault> {
    let pages = start.pages();
    let _ = writeln!(console, "start_info at {:#x}, {pages} pages", start.address);
    for (at, expected) in (0..).step_by(4).zip([*b"xen-", *b"3.0-", *b"x86_", *b"32p\0"]) {
        equal("the magic", start.field(at), u32::from_le_bytes(expected))?;
    }
    equal("the code segment", start.cs, KERNEL_CS)?;
    equal("the pages that Xen counts", current_pages() as u32, pages)?;
    for page in 0..pages {
        let frame = start.frame(page);
        equal("the page that Xen's table has for a frame", word(M2P + frame * 4), page)?;
    }
    let _ = writeln!(console, "{pages} frames, each where both tables say");
    let mapped = tables(start)?;
    let _ = writeln!(console, "{} page tables map {mapped} pages", start.field(64));
    empty(start, mapped)?;
    let vcpus = (0..64).take_while(|number| vcpu_is_up(*number) >= 0).count();
    let up = (0..64).filter(|number| vcpu_is_up(*number) > 0).count();
    let _ = writeln!(console, "{vcpus} vCPUs, {up} of them up");
    let (module, length) = (start.field(72), start.field(76));
    let bytes = (0..length).map(|at| word(module + at / 4 * 4).to_le_bytes()[(at % 4) as usize]);
    let sum: u32 = bytes.map(u32::from).sum();
    let _ = writeln!(console, "a RAM disk of {length} bytes, sum {sum}");
    Ok(pages)
}

/// Behind the boot stack there is nothing, up to the end of what is mapped, and half a MiB of it at least.
fn empty(start: &Start, mapped: u32) -> Result<(), Fault> {
    let end = VIRT_BASE + mapped * PAGE;
    if end < start.stack + (512 << 10) {
        return Err(Fault("the end of what is mapped", end, start.stack + (512 << 10)));
    }
    equal("the end of what is mapped, in 4 MiB", end % (4 << 20), 0)?;
    (start.stack..end).step_by(4).try_for_each(|at| equal("a word behind the stack", word(at), 0))
}

/// An entry of the table at `table`.
fn entry(table: u32, index: u32) -> (u32, u32) {
    (word(table + index * 8), word(table + index * 8 + 4))
}

/// The frame that an entry names.
fn frame_of((low, high): (u32, u32)) -> u32 {
    low >> 12 | (high & 0xfff) << 20
}

/// Goes through the page tables; the pages that are mapped.
fn tables(start: &Start) -> Result<u32, Fault> {
    let (top, count) = (start.field(60), start.field(64));
    let is_table = |address: u32| address >= top && address < top + count * PAGE;
    let (mut tables, mut mapped) = (1, 0);
    for third in 0..4 {
        let high = entry(top, third);
        if high.0 & PRESENT == 0 {
            continue;
        }
        tables += 1;
        let directory = start.page_of_frame(frame_of(high));
        equal("whether a level-2 table is among the tables", u32::from(is_table(directory)), 1)?;
        for second in 0..512 {
            let base = third << 30 | second << 21;
            let middle = entry(directory, second);
            // Xen's own entries are at the end.
            if base >= M2P || middle.0 & PRESENT == 0 {
                continue;
            }
            tables += 1;
            let table = start.page_of_frame(frame_of(middle));
            equal("whether a level-1 table is among the tables", u32::from(is_table(table)), 1)?;
            for first in 0..512 {
                let low = entry(table, first);
                if low.0 & PRESENT == 0 {
                    continue;
                }
                let address = base | first << 12;
                equal("the address of the next page", address, VIRT_BASE + mapped * PAGE)?;
                equal("the frame of a mapped page", frame_of(low), start.frame(mapped))?;
                let writable = u32::from(low.0 & WRITABLE != 0);
                equal("whether a page is writable", writable, u32::from(!is_table(address)))?;
                mapped += 1;
            }
        }
    }
    equal("the number of page tables", tables, count)?;
    Ok(mapped)
}
