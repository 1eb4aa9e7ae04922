// Where Xen starts a PVH guest: 32-bit, paging off; ebx holds the physical address of
// hvm_start_info.

    .section .note.Xen, "a", @note
    .balign 4
    .long 4, 8, 18                      // PHYS32_ENTRY
    .asciz "Xen"
    .long kernel_entry, 0

    .text
    .code32
    .globl kernel_entry
kernel_entry:
    cld
    cli
    movl $kernel_stack_top, %esp
    movl %ebx, %esi

    // The first four GiB where they are, in pages of 2 MiB.
    movl $kernel_l2, %edi
    xorl %ecx, %ecx
1:  movl %ecx, %eax
    shll $21, %eax
    orl $0x83, %eax                     // present, writable, 2 MiB
    movl %eax, (%edi,%ecx,8)
    incl %ecx
    cmpl $2048, %ecx
    jne 1b
    movl $(kernel_l2 + 3), %eax
    movl $kernel_l3, %edi
    movl $4, %ecx
2:  movl %eax, (%edi)
    addl $4096, %eax
    addl $8, %edi
    loop 2b
    movl $(kernel_l3 + 3), kernel_l4

    movl %cr4, %eax
    orl $0x20, %eax                     // PAE
    movl %eax, %cr4
    movl $kernel_l4, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx              // EFER
    rdmsr
    orl $0x100, %eax                    // long mode
    wrmsr
    movl %cr0, %eax
    orl $0x80000001, %eax               // paging, protection
    movl %eax, %cr0
    lgdt kernel_gdtr
    ljmpl $8, $3f

    .code64
3:  movl $16, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movq $kernel_stack_top, %rsp
    xorl %ebp, %ebp
    movl %esi, %edi
    call {start}
    ud2

    // Of all exceptions: this kernel expects none.
    .globl kernel_trap
kernel_trap:
    movq %rsp, %rdi
    andq $-16, %rsp
    call {fault}
    ud2

    .section .rodata
    .balign 8
kernel_gdt:
    .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff
kernel_gdtr:
    .word 23
    .quad kernel_gdt

    .bss
    .balign 4096
kernel_l4: .skip 4096
kernel_l3: .skip 4096
kernel_l2: .skip 4 * 4096
    .skip 256 * 1024
kernel_stack_top:
    .text
