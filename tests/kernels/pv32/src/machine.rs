//! The entry, hypercalls, and memory as words.

use core::arch::global_asm;
use core::fmt::Write;
use core::panic::PanicInfo;
use core::ptr;

use crate::checks::{self, Start};
use crate::console::Console;

/// Where pseudo-physical address 0 is mapped.
pub(crate) const VIRT_BASE: u32 = 0xc000_0000;
/// The machine-to-physical table of a 32-bit guest, and the first address that is Xen's.
pub(crate) const M2P: u32 = 0xf580_0000;

const MEMORY_OP: u32 = 12;
const VCPU_OP: u32 = 24;
const SCHED_OP: u32 = 29;
const EVENT_CHANNEL_OP: u32 = 32;
const CURRENT_RESERVATION: u32 = 3;
const IS_UP: u32 = 3;
const YIELD: u32 = 0;
const SHUTDOWN: u32 = 2;
const SEND: u32 = 4;
const DOMID_SELF: u16 = 0x7ff0;

global_asm!(
    // Notes: sizes of name and content, type, name, content.
    ".macro xen_note kind",
    "  .pushsection .note.Xen, \"a\", @note",
    "  .p2align 2",
    "  .long 4, 2f - 1f, \\kind",
    "  .asciz \"Xen\"",
    ".endm",
    "xen_note 1", // ENTRY
    "1: .long _start",
    "2: .popsection",
    "xen_note 2", // HYPERCALL_PAGE
    "1: .long HYPERCALL_PAGE",
    "2: .popsection",
    "xen_note 3", // VIRT_BASE
    "1: .long 0xc0000000",
    "2: .popsection",
    "xen_note 5", // XEN_VERSION
    "1: .asciz \"xen-3.0\"",
    "2: .popsection",
    "xen_note 8", // LOADER
    "1: .asciz \"generic\"",
    "2: .popsection",
    "xen_note 9", // PAE_MODE
    "1: .asciz \"yes\"",
    "2: .popsection",
    ".pushsection .text.hypercall_page, \"ax\", @progbits",
    ".p2align 12",
    ".global HYPERCALL_PAGE",
    "HYPERCALL_PAGE: .skip 4096",
    ".popsection",
    ".pushsection .text, \"ax\", @progbits",
    ".global _start",
    "_start:",
    "  cld",
    "  mov eax, esp",
    "  mov esp, offset __stack_top",
    "  sub esp, 4",
    "  push cs",
    "  push eax",
    "  push esi",
    "  call kernel_start",
    // Xen's stub for each hypercall has 32 bytes; arguments are in ebx, ecx, edx.
    ".global hypercall",
    "hypercall:",
    "  push ebx",
    "  mov eax, [esp + 8]",
    "  shl eax, 5",
    "  add eax, offset HYPERCALL_PAGE",
    "  mov ebx, [esp + 12]",
    "  mov ecx, [esp + 16]",
    "  mov edx, [esp + 20]",
    "  call eax",
    "  pop ebx",
    "  ret",
    ".popsection",
);

unsafe extern "C" {
    /// Makes the hypercall `number`. The arguments must be what it takes.
    fn hypercall(number: u32, first: u32, second: u32, third: u32) -> i32;
}

/// The address of a value, for Xen.
fn address<T>(value: &mut T) -> u32 {
    ptr::from_mut(value).expose_provenance() as u32
}

/// Pages that Xen says this domain has.
pub(crate) fn current_pages() -> i32 {
    let mut domain = DOMID_SELF;
    // SAFETY: the operation reads the domain identifier at the address.
    unsafe { hypercall(MEMORY_OP, CURRENT_RESERVATION, address(&mut domain), 0) }
}

/// Whether the vCPU of that number is up: 1, down: 0, or not there: less than 0.
pub(crate) fn vcpu_is_up(number: u32) -> i32 {
    // SAFETY: the operation takes no argument.
    unsafe { hypercall(VCPU_OP, IS_UP, number, 0) }
}

/// Tells the other end of `port`.
pub(crate) fn send(port: u32) {
    let mut port = port;
    // SAFETY: the operation reads the port at the address.
    unsafe { hypercall(EVENT_CHANNEL_OP, SEND, address(&mut port), 0) };
}

/// Lets others run.
pub(crate) fn give_way() {
    // SAFETY: the operation takes nothing.
    unsafe { hypercall(SCHED_OP, YIELD, 0, 0) };
}

/// Powers off.
pub(crate) fn power_off() -> ! {
    let mut reason = 0_u32;
    loop {
        // SAFETY: the operation reads the reason at the address.
        unsafe { hypercall(SCHED_OP, SHUTDOWN, address(&mut reason), 0) };
    }
}

/// The 32-bit word at an address. Where nothing is mapped the domain crashes, which is a verdict too.
pub(crate) fn word(address: u32) -> u32 {
    let place = ptr::with_exposed_provenance::<u32>(address as usize);
    // SAFETY: this program only ever reads memory that it holds no reference to: what the builder put there, and Xen's table.
    unsafe { place.read_volatile() }
}

/// Writes a byte.
pub(crate) fn set_byte(address: u32, value: u8) {
    let place = ptr::with_exposed_provenance_mut::<u8>(address as usize);
    // SAFETY: only the console's ring is written, which nothing here refers to.
    unsafe { place.write_volatile(value) };
}

/// Writes a word.
pub(crate) fn set_word(address: u32, value: u32) {
    let place = ptr::with_exposed_provenance_mut::<u32>(address as usize);
    // SAFETY: as for `set_byte`.
    unsafe { place.write_volatile(value) };
}

/// The first Rust code.
#[unsafe(no_mangle)]
extern "C" fn kernel_start(start_info: u32, stack: u32, cs: u32) -> ! {
    let start = Start { address: start_info, stack, cs: cs & 0xffff };
    let mut console = Console::new(&start);
    let nonce = start.argument("nonce=");
    match checks::all(&start, &mut console) {
        Ok(pages) => {
            let _ = writeln!(console, "TEST pv32 {nonce} VERDICT SUCCESS: a 32-bit domain of {pages} pages");
        }
        Err(fault) => {
            let _ = writeln!(console, "TEST pv32 {nonce} VERDICT FAILURE: {fault}");
        }
    }
    power_off()
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    // Silence is an error, and so is an end for another reason.
    power_off()
}
