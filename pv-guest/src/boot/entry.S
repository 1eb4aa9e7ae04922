// The two ways into the image.

    .set VIRT_BASE, 0x40000000

// Xen PV: 64-bit, paging on; rsi leads to start_info.
    .section .text.boot, "ax"
    .code64
    .globl pv_guest_pv_entry
pv_guest_pv_entry:
    cld
    movq $__boot_stack_top, %rsp
    xorl %ebp, %ebp
    movq %rsi, %rdi
    call {start_pv}
    ud2

// PVH (Xen and QEMU): 32-bit, paging off; ebx holds the physical address of
// hvm_start_info. Maps the first four GiB of memory, where a loader may put
// things, at VIRT_BASE (and the first where it is, for the few instructions
// until we run there) and enters 64-bit mode.
    .code32
    .globl pv_guest_pvh_entry
pv_guest_pvh_entry:
    cld
    cli
    movl $(__boot_stack_top - VIRT_BASE), %esp

    movl $(pv_guest_boot_l2 - VIRT_BASE), %edi
    xorl %ecx, %ecx
1:  movl %ecx, %eax
    shll $21, %eax
    orl $0x83, %eax                     // present, writable, 2 MiB
    movl %eax, (%edi,%ecx,8)
    movl $0, 4(%edi,%ecx,8)
    incl %ecx
    cmpl $2048, %ecx
    jne 1b

    movl $(pv_guest_boot_l2 - VIRT_BASE + 3), %eax
    movl %eax, (pv_guest_boot_l3 - VIRT_BASE)
    movl $(pv_guest_boot_l3 - VIRT_BASE + 8), %edi
    movl $4, %ecx
2:  movl %eax, (%edi)
    addl $4096, %eax
    addl $8, %edi
    loop 2b
    movl $(pv_guest_boot_l3 - VIRT_BASE + 3), %eax
    movl %eax, (pv_guest_boot_l4 - VIRT_BASE)

    // The 2 MiB around the page below the boot stack in small pages, and none for that
    // page: an overflow is a fault from the first function on.
    movl $(pv_guest_boot_l1 - VIRT_BASE), %edi
    movl $(__boot_stack_guard_start - VIRT_BASE), %edx
    movl %edx, %eax
    andl $~0x1fffff, %eax
    orl $3, %eax                        // present, writable
    movl $512, %ecx
5:  movl %eax, (%edi)
    movl $0, 4(%edi)
    addl $4096, %eax
    addl $8, %edi
    loop 5b
    movl %edx, %eax
    shrl $12, %eax
    andl $511, %eax
    movl $0, (pv_guest_boot_l1 - VIRT_BASE)(,%eax,8)
    shrl $21, %edx
    movl $(pv_guest_boot_l1 - VIRT_BASE + 3), (pv_guest_boot_l2 - VIRT_BASE)(,%edx,8)

    movl %cr4, %eax
    orl $0x620, %eax                    // PAE; OSFXSR, OSXMMEXCPT: SSE as on PV
    movl %eax, %cr4
    movl $(pv_guest_boot_l4 - VIRT_BASE), %eax
    movl %eax, %cr3

    movl %ebx, %esi
    movl $0x80000001, %eax
    cpuid
    movl %edx, %edi
    movl $0xc0000080, %ecx              // EFER
    rdmsr
    orl $0x100, %eax                    // long mode
    btl $20, %edi
    jnc 2f
    orl $0x800, %eax                    // no-execute
2:  wrmsr
    movl %cr0, %eax
    andl $~0xc, %eax                    // no emulation, nothing switched
    orl $0x80010023, %eax               // paging, write protection, FPU errors, protection
    movl %eax, %cr0

    lgdt (pv_guest_boot_gdtr - VIRT_BASE)
    pushl $0x08
    pushl $(3f - VIRT_BASE)
    lretl

    .code64
3:  movabsq $4f, %rax
    jmpq *%rax
4:  movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    xorl %eax, %eax
    movl %eax, %fs
    movl %eax, %gs
    movq $__boot_stack_top, %rsp
    xorl %ebp, %ebp
    movl %esi, %edi
    call {start_pvh}
    ud2

    .section .rodata.boot, "a"
    .balign 8
pv_guest_boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff            // 64-bit code
    .quad 0x00cf93000000ffff            // data
pv_guest_boot_gdtr:
    .word 23
    .quad pv_guest_boot_gdt - VIRT_BASE

    .section .bss.boot_tables, "aw", @nobits
    .balign 4096
pv_guest_boot_l4: .skip 4096
pv_guest_boot_l3: .skip 4096
pv_guest_boot_l2: .skip 4 * 4096
pv_guest_boot_l1: .skip 4096

// For the notes of `entry!`, which are in the kernel's own package.
    .globl pv_guest_virt_base, pv_guest_pvh_entry_paddr
    .set pv_guest_virt_base, VIRT_BASE
    .set pv_guest_pvh_entry_paddr, pv_guest_pvh_entry - VIRT_BASE
    .text
