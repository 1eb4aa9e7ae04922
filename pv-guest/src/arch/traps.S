// Exception entry. A frame is the general registers, the vector and error
// code, and what the processor (or Xen) pushed: `trap::Frame`.

    .macro SAVE_AND_HANDLE exit
    pushq %rdi
    movl 8(%rsp), %edi                  // the vector: into the upper half of the error code
    movl %edi, 20(%rsp)
    popq %rdi
    movq %rdi, (%rsp)                   // in its place
    pushq %rsi
    pushq %rdx
    pushq %rcx
    pushq %rax
    pushq %r8
    pushq %r9
    pushq %r10
    pushq %r11
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    cld
    movq %rsp, %rdi
    movq %rsp, %rbx
    andq $-16, %rsp
    call {trap}
    movq %rbx, %rsp
    jmp \exit
    .endm

    .macro RESTORE
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    popq %r11
    popq %r10
    popq %r9
    popq %r8
    popq %rax
    popq %rcx
    popq %rdx
    popq %rsi
    popq %rdi
    .endm

    .section .text.traps, "ax"
    .code64
pv_guest_trap_common:
    SAVE_AND_HANDLE pv_guest_trap_exit

pv_guest_trap_exit:
    cmpb $0, {is_pv}(%rip)
    jne 1f
    RESTORE
    addq $8, %rsp                       // vector and error code
    iretq
1:  RESTORE
    // Xen's iret also restores the event mask: rax, r11, rcx, flags lie below
    // the processor's frame (struct iret_context).
    addq $8, %rsp
    pushq $0                            // flags
    pushq %rcx
    pushq %r11
    pushq %rax
    movl $23, %eax                      // __HYPERVISOR_iret
    syscall
    ud2

// 35 pairs of 12 bytes (the last three are interrupts): Xen's PV entry at 0, the processor's at +3. Xen pushes
// rcx and r11 below the processor's frame. Vectors 8, 10..14, 17, 21, 29 and 30
// come with an error code, of 32 bits; the others get a zero.
    .balign 16
    .globl pv_guest_trap_stubs
pv_guest_trap_stubs:
    .set vector, 0
    .rept 35
    .set this, vector
    popq %rcx
    popq %r11
    .if this == 8 || (this >= 10 && this <= 14) || this == 17 || this == 21 || this == 29 || this == 30
    .set padding, 2
    .else
    .set padding, 0
    pushq $0
    .endif
    pushq $this
    .byte 0xe9                          // jmp, of one length for all
    .long pv_guest_trap_common - . - 4
    .skip padding, 0xcc
    .set vector, vector + 1
    .endr
    .text
