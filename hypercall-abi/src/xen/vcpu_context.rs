//! The state of a PV guest's vCPU that is to be started.

use super::traps::{CpuUserRegs, TrapInfo};

crate::facts::flags! {
    /// [`VcpuGuestContext::flags`].
    pub struct VcpuContextFlags: u64 {
        /// The floating point state is valid.
        I387_VALID = 1 << 0, "VGCF_i387_valid";
        /// It starts in kernel mode.
        IN_KERNEL = 1 << 2, "VGCF_in_kernel";
        /// Events are masked in the failsafe callback.
        FAILSAFE_DISABLES_EVENTS = 1 << 3, "VGCF_failsafe_disables_events";
        /// Events are masked in the system call callback.
        SYSCALL_DISABLES_EVENTS = 1 << 4, "VGCF_syscall_disables_events";
        /// It is up.
        ONLINE = 1 << 5, "VGCF_online";
    }
}

crate::facts::structs! {
    /// What a PV guest's vCPU starts with: the argument of
    /// [`crate::vcpu::initialise_pv`].
    "vcpu_guest_context" 5168
    pub struct VcpuGuestContext {
        /// The floating point registers, as `fxsave` writes them.
        fpu_ctxt: [u8; 512] = 0,
        /// [`VcpuContextFlags`].
        flags: u64 = 512,
        /// The registers.
        user_regs: CpuUserRegs = 520,
        /// The exception handlers.
        trap_ctxt: [TrapInfo; 256] = 720,
        /// The local descriptor table.
        ldt_base: u64 = 4816,
        /// Its entries.
        ldt_ents: u64 = 4824,
        /// The machine frames of the descriptor table.
        gdt_frames: [u64; 16] = 4832,
        /// Its entries.
        gdt_ents: u64 = 4960,
        /// The stack segment on entry to the kernel.
        kernel_ss: u64 = 4968,
        /// The stack pointer on entry to the kernel.
        kernel_sp: u64 = 4976,
        /// Control registers: `cr3` is the frame of the top table, `cr1` that
        /// of user mode.
        ctrlreg: [u64; 8] = 4984,
        /// Debug registers.
        debugreg: [u64; 8] = 5048,
        /// Where upcalls go.
        event_callback_eip: u64 = 5112,
        /// Where a failed `iret` goes.
        failsafe_callback_eip: u64 = 5120,
        /// Where system calls go.
        syscall_callback_eip: u64 = 5128,
        /// Assists that are on: [`super::VmAssist`].
        vm_assist: u64 = 5136,
        /// The base of `fs`.
        fs_base: u64 = 5144,
        /// The base of `gs` in kernel mode.
        gs_base_kernel: u64 = 5152,
        /// The base of `gs` in user mode.
        gs_base_user: u64 = 5160,
    }

    /// The floating point registers, as `fxsave` writes them.
    "vcpu_guest_context.fpu_ctxt" 512
    pub struct FpuContext {
        /// The bytes.
        x: [u8; 512] = 0,
    }
}
