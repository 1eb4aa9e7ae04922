// Entries that spoil what the loader hands over, and go on to the real ones.
// `cargo lab run conformance --spoil KIND` makes the image's notes lead here.
//
// start_info: xen/include/public/xen.h; hvm_start_info: hvm/start_info.h.

    .section .text.spoil, "axR"

    .macro PV kind
    .code64
    .globl spoil_pv_\kind
spoil_pv_\kind:
    .endm

    .macro PVH kind
    .code32
    .globl spoil_pvh_\kind
spoil_pvh_\kind:
    .endm

// Nothing is wrong: what the guest starts with is noted, in `boot_witness`
// (claims/boot.rs has its layout).
    PV witness
    movq %rsi, boot_witness+8(%rip)
    movq %rsp, boot_witness+16(%rip)
    pushfq
    popq boot_witness+24(%rip)
    movw %cs, boot_witness+32(%rip)
    movw %ss, boot_witness+40(%rip)
    movw %ds, boot_witness+48(%rip)
    movw %es, boot_witness+56(%rip)
    movq %cr0, %rax
    movq %rax, boot_witness+64(%rip)
    movq %cr3, %rax
    movq %rax, boot_witness+72(%rip)
    movq %cr4, %rax
    movq %rax, boot_witness+80(%rip)
    movq $1, boot_witness(%rip)
    jmp pv_guest_pv_entry
    PVH witness
    .set WITNESS, boot_witness - 0x40000000
    movl %ebx, WITNESS+8
    movl $(__boot_stack_top - 0x40000000), %esp
    pushfl
    popl WITNESS+24
    movw %cs, WITNESS+32
    movw %ss, WITNESS+40
    movw %ds, WITNESS+48
    movw %es, WITNESS+56
    movl %cr0, %eax
    movl %eax, WITNESS+64
    movl %cr3, %eax
    movl %eax, WITNESS+72
    movl %cr4, %eax
    movl %eax, WITNESS+80
    xorl %eax, %eax
    str %ax
    movl %eax, WITNESS+88
    cld
    movl %ebx, %esi                     // struct hvm_start_info, 56 bytes
    movl $(WITNESS+96), %edi
    movl $14, %ecx
    rep movsl
    movl 32(%ebx), %esi                 // rsdp_paddr: 8 bytes of what is there
    testl %esi, %esi
    jz 1f
    movl $2, %ecx
    rep movsl
1:  movl $2, WITNESS
    jmp pv_guest_pvh_entry

// The magic number is wrong.
    PV magic
    movb $0, (%rsi)
    jmp pv_guest_pv_entry
    PVH magic
    movl $0, (%ebx)
    jmp pv_guest_pvh_entry

// There is no memory: no pages; a map of nothing usable.
    PV nothing
    movq $0, 32(%rsi)
    jmp pv_guest_pv_entry
    PVH nothing
    movl 40(%ebx), %eax
    movl 48(%ebx), %ecx
1:  movl $2, 16(%eax)                   // reserved
    addl $24, %eax
    loop 1b
    jmp pv_guest_pvh_entry

// Cut short: no frame list; no memory map, as in version 0.
    PV short
    movq $0, 104(%rsi)
    jmp pv_guest_pv_entry
    PVH short
    movl $0, 4(%ebx)
    jmp pv_guest_pvh_entry

// Addresses lead nowhere.
    PV absurd
    movq $-4096, 88(%rsi)
    jmp pv_guest_pv_entry
    PVH absurd
    movl $-8, 40(%ebx)
    movl $-1, 44(%ebx)
    jmp pv_guest_pvh_entry

// Ranges overlap: the last one becomes usable memory within the first, and
// the last but one, where there are three, reserved memory without an end
// (PV has no map).
    PV overlap
    jmp pv_guest_pv_entry
    PVH overlap
    movl 40(%ebx), %eax
    movl 48(%ebx), %ecx
    leal (%ecx,%ecx,2), %edx
    leal -24(%eax,%edx,8), %edx
    movl $0x300000, (%edx)
    movl $0, 4(%edx)
    movl $0x100000, 8(%edx)
    movl $0, 12(%edx)
    movl $1, 16(%edx)
    cmpl $3, %ecx
    jb pv_guest_pvh_entry
    movl $-1, -16(%edx)
    movl $-1, -12(%edx)
    movl $2, -8(%edx)
    jmp pv_guest_pvh_entry

// There is no console: no ring; no port for it, where Xen is.
    PV console
    movq $0, 72(%rsi)
    movl $0, 80(%rsi)
    jmp pv_guest_pv_entry
    PVH console
    movl %ebx, %edi
    movl $0x40000000, %eax
    cpuid
    cmpl $0x566e6558, %ebx              // "XenV"
    movl %edi, %ebx
    jne pv_guest_pvh_entry
    movl $(parameter - 0x40000000), %ecx
    movl $0, %ebx                       // HVMOP_set_param
    movl $34, %eax                      // __HYPERVISOR_hvm_op
    vmmcall
    movl %edi, %ebx
    jmp pv_guest_pvh_entry

// The console's ring is a page of something else: one of the image's that is writable;
// the command line's, which is moved there, as a guest cannot move the ring.
    PV ring
    leaq boot_witness(%rip), %rcx
    subq $0x40000000, %rcx
    shrq $12, %rcx
    movq 104(%rsi), %rax                // the frame list
    movq (%rax,%rcx,8), %rax
    movq %rax, 72(%rsi)
    jmp pv_guest_pv_entry
    PVH ring
    movl %ebx, %edi
    movl $0x40000000, %eax
    cpuid
    cmpl $0x566e6558, %ebx              // "XenV"
    movl %edi, %ebx
    jne pv_guest_pvh_entry
    movl $(ring_parameter - 0x40000000), %ecx
    movl $1, %ebx                       // HVMOP_get_param
    movl $34, %eax                      // __HYPERVISOR_hvm_op
    vmmcall
    movl %edi, %ebx
    movl ring_parameter - 0x40000000 + 8, %eax
    shll $12, %eax
    movl %eax, 24(%ebx)                 // cmdline_paddr
    movl $0, 28(%ebx)
    jmp pv_guest_pvh_entry

// The console's ring is memory that nothing uses: the last page, where there is a list.
    PV free
    movq 32(%rsi), %rcx                 // nr_pages
    movq 104(%rsi), %rax
    movq -8(%rax,%rcx,8), %rax
    movq %rax, 72(%rsi)
    jmp pv_guest_pv_entry
    PVH free
    jmp pv_guest_pvh_entry
    .code64

    .section .data.spoil, "awR"
    .balign 8
    .globl boot_witness
boot_witness:
    .skip 160
ring_parameter:                         // struct xen_hvm_param
    .word 0x7ff0, 0                     // DOMID_SELF
    .long 17                            // HVM_PARAM_CONSOLE_PFN
    .quad 0

    .section .rodata.spoil, "aR"
    .balign 8
parameter:                              // struct xen_hvm_param
    .word 0x7ff0, 0                     // DOMID_SELF
    .long 18                            // HVM_PARAM_CONSOLE_EVTCHN
    .quad 0
    .text
