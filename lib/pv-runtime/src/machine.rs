//! The assembly that is called, and the addresses that the linker script defines; what Xen enters is in `entry`.
//!
//! On a host there is no Xen to talk to: the same functions exist there, so that everything above them compiles and its
//! pure parts can be tested, but calling one is a mistake and panics.

#[cfg(target_os = "none")]
pub(crate) use guest::{
    emulated_cpuid, event_upcall, hypercall, io_read, io_write, kernel_name, model_specific_register,
    probe_read, probe_write, provoke, symbols, trap_stubs, tsc,
};
#[cfg(not(target_os = "none"))]
pub(crate) use host::{
    emulated_cpuid, event_upcall, hypercall, io_read, io_write, kernel_name, model_specific_register,
    probe_read, probe_write, provoke, symbols, trap_stubs, tsc,
};

/// Exception vectors that get a handler.
pub(crate) const VECTORS: usize = 32;

/// Addresses that the linker script and the assembly below define.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Symbols {
    /// First byte of the image; a page boundary, as are the others.
    pub(crate) image_start: u64,
    /// End of the code.
    pub(crate) text_end: u64,
    /// End of what never changes: code and constants.
    pub(crate) constant_end: u64,
    /// The page below the stack.
    pub(crate) stack_guard: u64,
    /// End of the image.
    pub(crate) image_end: u64,
    /// The instruction of [`probe_read`] that may fault.
    pub(crate) probe_read: u64,
    /// The instruction of [`probe_write`] that may fault.
    pub(crate) probe_write: u64,
    /// Where to go on when one of them did.
    pub(crate) probe_faulted: u64,
}

/// A fault to take on purpose, to see that it is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provocation {
    /// An instruction that does not exist.
    InvalidOpcode,
    /// A division by zero.
    Divide,
    /// An access to an address that is not canonical.
    GeneralProtection,
    /// A write to an address where nothing is mapped.
    WriteToNothing,
    /// A write through a null pointer.
    WriteToNull,
    /// A write to code.
    WriteToConstant,
    /// A jump to data.
    ExecuteData,
}

/// What a probe gives back, in two registers.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Probed {
    /// 0, or 1 when the access faulted.
    pub(crate) faulted: u64,
    /// What was read.
    pub(crate) value: u64,
}

#[cfg(target_os = "none")]
mod guest {
    use core::arch::{asm, global_asm};

    use xen_abi::elfnote;
    use xen_abi::number::HypercallNumber;

    use super::{Probed, Provocation, Symbols, VECTORS};

    /// Bytes of one stub in the hypercall page.
    const STUB_SIZE: u64 = 32;

    /// An address beyond everything that the runtime maps.
    const UNMAPPED: u64 = 0x1234_5678_9000;

    /// `XENFEAT_dom0` as a bit of the note SUPPORTED_FEATURES: Xen starts a kernel as Dom0 only with it.
    const FEATURE_DOM0: u64 = 1 << 11;

    // The notes by which Xen and domain builders recognise the kernel.
    global_asm!(
        r#"
        .macro xen_note_text type, text
            .balign 4
            .long 4, 2f - 1f, \type
            .asciz "Xen"
        1:  .asciz "\text"
        2:  .balign 4
        .endm
        .macro xen_note_word type, value
            .balign 4
            .long 4, 8, \type
            .asciz "Xen"
            .quad \value
        .endm

        .pushsection .note.Xen, "a", @note
        xen_note_text {guest_os}, "unikernel"
        xen_note_text {xen_version}, "xen-3.0"
        xen_note_text {loader}, "generic"
        xen_note_word {virt_base}, 0
        xen_note_word {entry}, _start
        xen_note_word {hypercall_page}, HYPERCALL_PAGE
        xen_note_word {supported_features}, {features}
        .popsection
        "#,
        guest_os = const elfnote::GUEST_OS,
        xen_version = const elfnote::XEN_VERSION,
        loader = const elfnote::LOADER,
        virt_base = const elfnote::VIRT_BASE,
        entry = const elfnote::ENTRY,
        hypercall_page = const elfnote::HYPERCALL_PAGE,
        supported_features = const elfnote::SUPPORTED_FEATURES,
        features = const FEATURE_DOM0,
    );

    // Filled with stubs by whoever builds the domain. Until then every byte is a breakpoint, so that a builder that
    // ignores the note is found at the first call.
    global_asm!(
        r#"
        .pushsection .text.hypercall_page, "ax", @progbits
        .balign 4096
        .globl HYPERCALL_PAGE
        HYPERCALL_PAGE:
            .skip 4096, 0xcc
        .popsection
        "#
    );

    // Loads and stores that may fault; the trap handler knows the two instructions and goes on at `probe_faulted`.
    global_asm!(
        r#"
        .pushsection .text.probe, "ax", @progbits
        probe_read:
            mov rdx, [rdi]
            xor eax, eax
            ret
        probe_write:
            mov [rdi], rsi
            xor eax, eax
            ret
        probe_faulted:
            mov eax, 1
            ret
        .popsection
        "#
    );

    // Upcalls come only from within a blocking hypercall. Nothing is done in them: back to where it was, with upcalls
    // masked again, which is what the interrupt flag of a returning frame says.
    global_asm!(
        r#"
        .pushsection .text.upcall, "ax", @progbits
        event_upcall:
            pop rcx
            pop r11
            and dword ptr [rsp + 16], ~0x200
            push 0
            jmp HYPERCALL_PAGE + {iret} * {stub_size}
        .popsection
        "#,
        iret = const HypercallNumber::IRET.raw(),
        stub_size = const STUB_SIZE,
    );

    unsafe extern "C" {
        static HYPERCALL_PAGE: u8;
        static __image_start: u8;
        static __text_end: u8;
        static __constant_end: u8;
        static __stack_guard: u8;
        static __image_end: u8;
        #[link_name = "trap_stubs"]
        static TRAP_STUBS: u8;
        #[link_name = "event_upcall"]
        static EVENT_UPCALL: u8;
        #[link_name = "probe_read"]
        static PROBE_READ: u8;
        #[link_name = "probe_write"]
        static PROBE_WRITE: u8;
        #[link_name = "probe_faulted"]
        static PROBE_FAULTED: u8;
    }

    unsafe extern "Rust" {
        safe fn __kernel_name() -> &'static str;
    }

    /// The kernel's name, from [`entry!`](crate::entry).
    pub(crate) fn kernel_name() -> &'static str {
        __kernel_name()
    }

    /// Address of a symbol.
    macro_rules! symbol {
        ($name:ident) => {
            (&raw const $name).addr() as u64
        };
    }

    /// The addresses that the linker script and the assembly define.
    pub(crate) fn symbols() -> Symbols {
        Symbols {
            image_start: symbol!(__image_start),
            text_end: symbol!(__text_end),
            constant_end: symbol!(__constant_end),
            stack_guard: symbol!(__stack_guard),
            image_end: symbol!(__image_end),
            probe_read: symbol!(PROBE_READ),
            probe_write: symbol!(PROBE_WRITE),
            probe_faulted: symbol!(PROBE_FAULTED),
        }
    }

    /// Entry point for an exception vector.
    pub(crate) fn trap_stubs() -> impl Iterator<Item = u64> {
        let first = symbol!(TRAP_STUBS);
        (0..VECTORS as u64).map(move |vector| first + vector * 16)
    }

    /// Entry point for upcalls.
    pub(crate) fn event_upcall() -> u64 {
        symbol!(EVENT_UPCALL)
    }

    /// Makes a hypercall through its stub in the hypercall page.
    ///
    /// # Safety
    ///
    /// As `hypercall::RawHypercall::hypercall`.
    pub(crate) unsafe fn hypercall(number: HypercallNumber, args: [u64; 5]) -> i64 {
        let stub = symbol!(HYPERCALL_PAGE) + u64::from(number.raw()) * STUB_SIZE;
        let [first, second, third, fourth, fifth] = args;
        let result: i64;
        // SAFETY: a stub takes arguments in rdi, rsi, rdx, r10 and r8 and may destroy them, answers in rax, uses rcx and
        // r11, and keeps the rest; it uses the stack, so there is no `nostack`. What the call does to memory is the
        // caller's promise.
        unsafe {
            asm!(
                "call {stub}",
                stub = in(reg) stub,
                inlateout("rdi") first => _,
                inlateout("rsi") second => _,
                inlateout("rdx") third => _,
                inlateout("r10") fourth => _,
                inlateout("r8") fifth => _,
                lateout("rax") result,
                lateout("rcx") _,
                lateout("r11") _,
            );
        }
        result
    }

    /// The time stamp counter. Ordered with the loads around it, which the clock's version protocol leans on.
    pub(crate) fn tsc() -> u64 {
        // SAFETY: the fence and RDTSC touch no memory, and PV guests may use both.
        unsafe {
            core::arch::x86_64::_mm_lfence();
            core::arch::x86_64::_rdtsc()
        }
    }

    /// What CPUID answers by Xen's hand: EAX, EBX, ECX and EDX. The bytes in front of the instruction are an invalid one, which Xen
    /// takes for the wish that it emulate what follows.
    pub(crate) fn emulated_cpuid(leaf: u32, subleaf: u32) -> [u32; 4] {
        let (eax, ebx, ecx, edx): (u32, u64, u32, u32);
        // SAFETY: Xen emulates CPUID, which changes these four registers and nothing else; RBX, which the compiler keeps for itself, is
        // as before afterwards.
        unsafe {
            asm!(
                "mov {keep}, rbx",
                ".byte 0x0f, 0x0b, 0x78, 0x65, 0x6e, 0x0f, 0xa2",
                "xchg {keep}, rbx",
                keep = out(reg) ebx,
                inout("eax") leaf => eax,
                inout("ecx") subleaf => ecx,
                out("edx") edx,
                options(nomem, nostack, preserves_flags)
            );
        }
        [eax, ebx as u32, ecx, edx]
    }

    /// The value of a model-specific register; a fault where Xen has none.
    pub(crate) fn model_specific_register(number: u32) -> u64 {
        let register = x86_64::registers::model_specific::Msr::new(number);
        // SAFETY: the instruction writes two registers and no memory. A PV kernel does not run at the privilege that it takes, so that the processor
        // hands it to Xen, which emulates it, or has the handler of faults entered, which does not return.
        unsafe { register.read() }
    }

    /// Takes a fault.
    pub(crate) fn provoke(provocation: Provocation) -> ! {
        match provocation {
            // SAFETY: faults, and the handler of faults does not return.
            Provocation::InvalidOpcode => unsafe { asm!("ud2", options(noreturn)) },
            // SAFETY: as above.
            Provocation::Divide => unsafe {
                asm!("div {zero:e}", "ud2", zero = in(reg) 0, in("rax") 1, in("rdx") 0, options(noreturn))
            },
            // SAFETY: as above.
            Provocation::GeneralProtection => unsafe {
                asm!("mov rax, [{address}]", "ud2", address = in(reg) 1_u64 << 63, options(noreturn))
            },
            Provocation::WriteToNothing => write_fault(UNMAPPED),
            Provocation::WriteToNull => write_fault(0),
            Provocation::WriteToConstant => write_fault(symbol!(__image_start)),
            Provocation::ExecuteData => execute_fault(symbol!(__constant_end)),
        }
    }

    /// Writes to an address that the runtime keeps from being writable.
    fn write_fault(address: u64) -> ! {
        // SAFETY: faults, and the handler of faults does not return.
        unsafe { asm!("mov dword ptr [{address}], 0", "ud2", address = in(reg) address, options(noreturn)) }
    }

    /// Jumps to an address that the runtime keeps from being executed.
    fn execute_fault(address: u64) -> ! {
        // SAFETY: the jump itself does nothing but fault at its target, and the handler of faults does not return. Should the page be
        // executable after all, whatever is there runs: this kernel exists to find that out, and has nothing to lose.
        unsafe { asm!("jmp {address}", address = in(reg) address, options(noreturn)) }
    }

    /// Writes a byte to an I/O port.
    ///
    /// # Safety
    ///
    /// The domain may use the port, and the device behind it changes no memory of this domain.
    pub(crate) unsafe fn io_write(port: u16, value: u8) {
        let mut port = x86_64::instructions::port::PortWriteOnly::<u8>::new(port);
        // SAFETY: the caller's promise.
        unsafe { port.write(value) }
    }

    /// Reads a byte from an I/O port.
    ///
    /// # Safety
    ///
    /// The domain may use I/O ports, and the device behind this one changes no memory of this domain.
    pub(crate) unsafe fn io_read(port: u16) -> u8 {
        let mut port = x86_64::instructions::port::PortReadOnly::<u8>::new(port);
        // SAFETY: the caller's promise.
        unsafe { port.read() }
    }

    /// Calls a probe.
    unsafe fn probe(entry: u64, address: u64, value: u64) -> Probed {
        let entry = core::ptr::with_exposed_provenance::<()>(entry as usize);
        // SAFETY: both probes are functions of this signature in the C calling convention.
        let entry = unsafe { core::mem::transmute::<*const (), extern "C" fn(u64, u64) -> Probed>(entry) };
        entry(address, value)
    }

    /// Reads a word that may not be readable.
    ///
    /// # Safety
    ///
    /// The address is not one whose reading has an effect.
    pub(crate) unsafe fn probe_read(address: u64) -> Probed {
        // SAFETY: the function only reads, and a fault is answered by the trap handler.
        unsafe { probe(symbol!(PROBE_READ), address, 0) }
    }

    /// Writes a word that may not be writable.
    ///
    /// # Safety
    ///
    /// If the write succeeds, no memory that Rust code relies on changes.
    pub(crate) unsafe fn probe_write(address: u64, value: u64) -> Probed {
        // SAFETY: the caller answers for the word, and a fault is answered by the trap handler.
        unsafe { probe(symbol!(PROBE_WRITE), address, value) }
    }
}

#[cfg(not(target_os = "none"))]
mod host {
    use xen_abi::number::HypercallNumber;

    use super::{Probed, Provocation, Symbols};

    pub(crate) fn symbols() -> Symbols {
        unimplemented!("only a guest of Xen has the linker script's symbols")
    }

    pub(crate) fn kernel_name() -> &'static str {
        unimplemented!("only a guest of Xen has a kernel")
    }

    pub(crate) fn trap_stubs() -> impl Iterator<Item = u64> {
        core::iter::empty()
    }

    pub(crate) fn event_upcall() -> u64 {
        unimplemented!("only a guest of Xen gets upcalls")
    }

    pub(crate) unsafe fn hypercall(number: HypercallNumber, _args: [u64; 5]) -> i64 {
        unimplemented!("{number}: only a guest of Xen can make hypercalls")
    }

    pub(crate) fn provoke(provocation: Provocation) -> ! {
        unimplemented!("{provocation:?}: only a guest of Xen survives the report")
    }

    pub(crate) fn emulated_cpuid(leaf: u32, _subleaf: u32) -> [u32; 4] {
        unimplemented!("leaf {leaf:#x}: only a guest of Xen can ask it")
    }

    pub(crate) fn model_specific_register(number: u32) -> u64 {
        unimplemented!("register {number:#x}: only a guest of Xen can read it")
    }

    pub(crate) fn tsc() -> u64 {
        unimplemented!("only a guest of Xen has its clock")
    }

    pub(crate) unsafe fn io_write(port: u16, _value: u8) {
        unimplemented!("only a guest of Xen writes to port {port:#x}")
    }

    pub(crate) unsafe fn io_read(port: u16) -> u8 {
        unimplemented!("port {port:#x}: only a guest of Xen may have I/O ports")
    }

    pub(crate) unsafe fn probe_read(address: u64) -> Probed {
        unimplemented!("only a guest of Xen can probe {address:#x}")
    }

    pub(crate) unsafe fn probe_write(address: u64, _value: u64) -> Probed {
        unimplemented!("only a guest of Xen can probe {address:#x}")
    }
}
