//! Where Xen enters a kernel: the assembly that calls what is above it.

use core::arch::global_asm;

use crate::machine::VECTORS;
use crate::{Boot, Ending, boot, traps};

unsafe extern "Rust" {
    safe fn __kernel_main(boot: &mut Boot) -> Ending;
}

/// The first Rust code. `main` is the kernel's, from [`entry!`](crate::entry).
extern "C" fn enter(start_address: u64, boot_stack_end: u64) -> ! {
    boot::start(start_address, boot_stack_end, __kernel_main)
}

// The first instruction: rsi is the address of the start info, rsp the end of the boot stack that the builder made.
// The own stack has a guard page, and the boot stack's memory is below all memory that is free.
global_asm!(
    r#"
    .pushsection .text.start, "ax", @progbits
    .globl _start
    _start:
        cld
        mov rdi, rsi
        mov rsi, rsp
        lea rsp, [rip + __stack_top]
        xor ebp, ebp
        call {start}
        ud2
    .popsection
    "#,
    start = sym enter,
);

// One stub of 16 bytes for each exception vector. Xen enters with rcx and r11 pushed on top of the processor's frame.
// `resume` of the answer is where to go on: only a probe's fault is answered, and the probe returns to its caller at
// once, so that only the registers that a function preserves have to be put back.
global_asm!(
    r#"
    .pushsection .text.traps, "ax", @progbits
    .balign 16
    trap_stubs:
    .set vector, 0
    .rept {vectors}
        .balign 16
        .byte 0x6a, vector              # push vector, as a sign-extended byte
        jmp trap_common
        .set vector, vector + 1
    .endr
    trap_common:
        push rax
        push rdx
        push rbx
        push rbp
        push rsi
        push rdi
        push r8
        push r9
        push r10
        push r12
        push r13
        push r14
        push r15
        cld
        mov rdi, rsp
        mov rbx, rsp
        and rsp, -16
        call {handler}
        mov rsp, rdx
        mov r15, [rbx]
        mov r14, [rbx + 8]
        mov r13, [rbx + 16]
        mov r12, [rbx + 24]
        mov rbp, [rbx + 72]
        mov rbx, [rbx + 80]
        jmp rax
    .popsection
    "#,
    vectors = const VECTORS,
    handler = sym traps::handle,
);
