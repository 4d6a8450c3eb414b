# The entry of a PVH guest (public/arch-x86/hvm/start_info.h): 32-bit protected mode without paging, the address of the start info in EBX.
# It asks Xen for its hypercall page, maps the first 4 GiB at their own addresses, and goes on in 64-bit mode.

    .section .note.Xen, "a"
    .balign 4
    .long 4, 4, 18              # PHYS32_ENTRY
    .asciz "Xen"
    .long _start

    .section .text.hypercall_page, "ax"
    .balign 4096
hypercall_page:
    .skip 4096, 0xcc

    .section .text.start, "ax"
    .code32
    .globl _start
_start:
    cld
    mov esp, offset __stack_top
    mov edi, ebx
    # Which register takes the address of the page. Without Microsoft's leaves, which a PVH guest has not got, Xen's are the first.
    mov eax, 0x40000002
    cpuid
    mov ecx, ebx
    mov eax, offset hypercall_page
    xor edx, edx
    wrmsr

    # One top table, one of 1 GiB entries, four of 2 MiB pages: present, writable (3), large (0x80).
    mov esi, offset page_tables
    lea eax, [esi + 0x1003]
    mov [esi], eax
    lea eax, [esi + 0x2003]
    lea ebx, [esi + 0x1000]
    mov ecx, 4
2:  mov [ebx], eax
    add ebx, 8
    add eax, 0x1000
    loop 2b
    lea ebx, [esi + 0x2000]
    mov eax, 0x83
    mov ecx, 2048
2:  mov [ebx], eax
    add ebx, 8
    add eax, 0x200000
    loop 2b

    mov cr3, esi
    mov eax, cr4
    or eax, 0x20                # physical address extension
    mov cr4, eax
    mov ecx, 0xc0000080         # EFER
    rdmsr
    or eax, 0x100               # long mode
    wrmsr
    mov eax, cr0
    or eax, 0x80000000          # paging
    mov cr0, eax
    mov eax, offset segments
    lgdt [eax]
    push 8
    mov eax, offset start_64
    push eax
    retf

    .code64
start_64:
    mov eax, 16
    mov ds, eax
    mov es, eax
    mov ss, eax
    lea rsp, [rip + __stack_top]
    mov edi, edi
    call pvh_main
    ud2

# extern "C" fn hypercall(number, first, second, third) -> result: Xen wants the arguments in RDI, RSI and RDX, and each call has
# 32 bytes of the page.
    .globl hypercall
hypercall:
    shl rdi, 5
    lea rax, [rip + hypercall_page]
    add rax, rdi
    mov rdi, rsi
    mov rsi, rdx
    mov rdx, rcx
    jmp rax

    .section .rodata.segments, "a"
    .balign 8
table:
    .quad 0
    .quad 0x00af9a000000ffff    # 64-bit code
    .quad 0x00cf92000000ffff    # data
segments:
    .word 23
    .quad table

    .section .bss.page_tables, "aw", @nobits
    .balign 4096
page_tables:
    .skip 6 * 4096
