//! How a PV guest receives exceptions and events, switches stacks, and sets its
//! descriptor tables.

use crate::{Errno, HypercallNr, Mfn, platform::Hypercall};

crate::facts::constants! {
    /// The code segment of a 64-bit PV kernel.
    FLAT_KERNEL_CS64: u16 = 57_395;
    /// The same.
    FLAT_KERNEL_CS: u16 = 57_395;
    /// The code segment of a 64-bit PV guest's user mode.
    FLAT_USER_CS64: u16 = 57_395;
    /// The same.
    FLAT_USER_CS: u16 = 57_395;
    /// The code segment behind both.
    FLAT_RING3_CS64: u16 = 57_395;
    /// The data segment of a 64-bit PV kernel: none.
    FLAT_KERNEL_DS64: u16 = 0;
    /// The same.
    FLAT_KERNEL_DS: u16 = 0;
    /// The data segment of a 64-bit PV guest's user mode: none.
    FLAT_USER_DS64: u16 = 0;
    /// The same.
    FLAT_USER_DS: u16 = 0;
    /// The data segment behind both.
    FLAT_RING3_DS64: u16 = 0;
    /// The stack segment of a 64-bit PV kernel.
    FLAT_KERNEL_SS64: u16 = 57_387;
    /// The same.
    FLAT_KERNEL_SS: u16 = 57_387;
    /// The stack segment of a 64-bit PV guest's user mode.
    FLAT_USER_SS64: u16 = 57_387;
    /// The same.
    FLAT_USER_SS: u16 = 57_387;
    /// The stack segment behind both.
    FLAT_RING3_SS64: u16 = 57_387;
    /// The code segment of 32-bit code.
    FLAT_KERNEL_CS32: u16 = 57_379;
    /// The code segment of 32-bit user mode.
    FLAT_USER_CS32: u16 = 57_379;
    /// The code segment behind both.
    FLAT_RING3_CS32: u16 = 57_379;
    /// The data segment of 32-bit code.
    FLAT_KERNEL_DS32: u16 = 57_387;
    /// The data segment of 32-bit user mode.
    FLAT_USER_DS32: u16 = 57_387;
    /// The data segment behind both.
    FLAT_RING3_DS32: u16 = 57_387;
    /// The stack segment of 32-bit code.
    FLAT_KERNEL_SS32: u16 = 57_387;
    /// The stack segment of 32-bit user mode.
    FLAT_USER_SS32: u16 = 57_387;
    /// The stack segment behind both.
    FLAT_RING3_SS32: u16 = 57_387;
    /// [`IretContext::flags`]: return by `sysret`, where `rcx` and `r11` are
    /// lost.
    VGCF_IN_SYSCALL: u64 = 256, "VGCF_in_syscall";
    /// [`set_segment_base`]: the base of `fs`.
    SEGBASE_FS: usize = 0;
    /// [`set_segment_base`]: the base of `gs` in user mode.
    SEGBASE_GS_USER: usize = 1;
    /// [`set_segment_base`]: the base of `gs` in kernel mode.
    SEGBASE_GS_KERNEL: usize = 2;
    /// [`set_segment_base`]: the selector of `gs` in user mode.
    SEGBASE_GS_USER_SEL: usize = 3;
    /// The first page of the descriptor table that is Xen's.
    FIRST_RESERVED_GDT_PAGE: usize = 14;
    /// The first byte of the descriptor table that is Xen's.
    FIRST_RESERVED_GDT_BYTE: usize = 57_344;
    /// The first entry of the descriptor table that is Xen's.
    FIRST_RESERVED_GDT_ENTRY: usize = 7168;
    /// Where Xen's part of the address space starts.
    HYPERVISOR_VIRT_START: u64 = 18_446_603_336_221_196_288;
    /// Where it ends.
    HYPERVISOR_VIRT_END: u64 = 18_446_612_132_314_218_496;
    /// Where the machine-to-physical table may be; ask
    /// [`crate::memory::machphys_mapping`] instead.
    MACH2PHYS_VIRT_START: u64 = 18_446_603_336_221_196_288;
    /// Where it ends.
    MACH2PHYS_VIRT_END: u64 = 18_446_603_611_099_103_232;
    /// How many entries it may have.
    MACH2PHYS_NR_ENTRIES: u64 = 34_359_738_368;
}

crate::facts::structs! {
    /// An entry of a PV guest's table of exception handlers; one with a zero
    /// address ends it.
    "trap_info" 16
    pub struct TrapInfo {
        /// The exception.
        vector: u8 = 0,
        /// Bits 0 and 1: who may raise it by instruction; bit 2: mask events.
        flags: u8 = 1,
        /// The handler's code segment.
        cs: u16 = 2,
        #[doc(hidden)]
        _gap0: [u8; 4] = 4,
        /// The handler.
        address: u64 = 8,
    }

    /// What lies on the stack when a PV guest calls `iret` (hypercall 23), from
    /// the stack pointer up.
    "iret_context" 72
    pub struct IretContext {
        /// `rax`, for the hypercall's number takes its place.
        rax: u64 = 0,
        /// `r11`, which `syscall` overwrites.
        r11: u64 = 8,
        /// `rcx`, which `syscall` overwrites.
        rcx: u64 = 16,
        /// Zero or [`VGCF_IN_SYSCALL`].
        flags: u64 = 24,
        /// Where to go.
        rip: u64 = 32,
        /// The code segment; its two low bits are those of the mode.
        cs: u64 = 40,
        /// The flags; the interrupt flag is the opposite of the event mask.
        rflags: u64 = 48,
        /// The stack pointer.
        rsp: u64 = 56,
        /// The stack segment.
        ss: u64 = 64,
    }

    /// A vCPU's registers, as [`VcpuGuestContext`](super::VcpuGuestContext) has them.
    "cpu_user_regs" 200
    pub struct CpuUserRegs {
        /// `r15`.
        r15: u64 = 0,
        /// `r14`.
        r14: u64 = 8,
        /// `r13`.
        r13: u64 = 16,
        /// `r12`.
        r12: u64 = 24,
        /// `rbp`.
        rbp: u64 = 32,
        /// `rbx`.
        rbx: u64 = 40,
        /// `r11`.
        r11: u64 = 48,
        /// `r10`.
        r10: u64 = 56,
        /// `r9`.
        r9: u64 = 64,
        /// `r8`.
        r8: u64 = 72,
        /// `rax`.
        rax: u64 = 80,
        /// `rcx`.
        rcx: u64 = 88,
        /// `rdx`.
        rdx: u64 = 96,
        /// `rsi`.
        rsi: u64 = 104,
        /// `rdi`.
        rdi: u64 = 112,
        /// The error code of the exception.
        error_code: u32 = 120,
        /// The vector of the exception.
        entry_vector: u32 = 124,
        /// `rip`.
        rip: u64 = 128,
        /// `cs`.
        cs: u16 = 136,
        /// Zero.
        _pad0: u16 = 138,
        /// The event mask.
        saved_upcall_mask: u8 = 140,
        /// Zero.
        _pad1: [u8; 3] = 141,
        /// `rflags`.
        rflags: u64 = 144,
        /// `rsp`.
        rsp: u64 = 152,
        /// `ss`.
        ss: u16 = 160,
        /// Zero.
        _pad2: [u8; 6] = 162,
        /// `es`.
        es: u16 = 168,
        /// Zero.
        _pad3: [u8; 6] = 170,
        /// `ds`.
        ds: u16 = 176,
        /// Zero.
        _pad4: [u8; 6] = 178,
        /// `fs`.
        fs: u16 = 184,
        /// Zero.
        _pad5: [u8; 6] = 186,
        /// `gs`.
        gs: u16 = 192,
        /// Zero.
        _pad6: [u8; 6] = 194,
    }
}

/// The flag of [`TrapInfo`] that masks events in the handler. Source:
/// `TI_SET_IF`, `arch-x86/xen.h`.
#[doc(alias = "TI_SET_IF")]
pub const TI_MASK_EVENTS: u8 = 1 << 2;

/// A segment whose base a 64-bit PV guest may set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentBase {
    /// The base of `fs`.
    Fs,
    /// The base of `gs` in user mode.
    GsUser,
    /// The base of `gs` in kernel mode.
    GsKernel,
    /// The selector of `gs` in user mode, by which its base is loaded.
    GsUserSelector,
}

/// Sets the guest's exception handlers. `table` ends with a zero entry.
///
/// PV guests only. Source: `HYPERVISOR_set_trap_table`, `xen.h`.
///
/// # Errors
/// `EPERM`: a code segment is not allowed; `EFAULT`: the table cannot be read;
/// `EINVAL`: it has no end; `ENOSYS`: not a PV guest.
///
/// # Safety
/// The handlers are code that can handle exceptions.
#[inline]
pub unsafe fn set_trap_table<H: Hypercall + ?Sized>(
    h: &H,
    table: &[TrapInfo],
) -> Result<(), Errno> {
    if table.last().is_none_or(|last| last.address != 0) {
        return Err(Errno::EINVAL);
    }
    // SAFETY: the table is read up to its zero entry; this function's contract.
    let answer = unsafe {
        h.call1(
            HypercallNr::SET_TRAP_TABLE,
            table.as_ptr().expose_provenance(),
        )
    };
    Errno::check(answer).map(|_| ())
}

/// Sets the descriptor table: `entries` in `frames`, which no longer may be
/// mapped writable. PV guests only.
///
/// # Errors
/// `EINVAL`: too many entries, a frame that is mapped writable, or a bad
/// descriptor in it.
///
/// # Safety
/// The segments in use are in it, as they were.
#[inline]
pub unsafe fn set_gdt<H: Hypercall + ?Sized>(
    h: &H,
    frames: &[Mfn],
    entries: u32,
) -> Result<(), Errno> {
    // A frame holds 512 entries.
    if frames.len() < (entries as usize).div_ceil(512) {
        return Err(Errno::EINVAL);
    }
    // SAFETY: the list is read, and is long enough; this function's contract.
    let answer = unsafe {
        h.call2(
            HypercallNr::SET_GDT,
            frames.as_ptr().expose_provenance(),
            entries as usize,
        )
    };
    Errno::check(answer).map(|_| ())
}

/// Sets one descriptor, at a machine address. PV guests only.
///
/// # Errors
/// `EINVAL`: the descriptor is not allowed, or the address is not that of one.
///
/// # Safety
/// The segments in use stay as they were.
#[inline]
pub unsafe fn update_descriptor<H: Hypercall + ?Sized>(
    h: &H,
    machine_address: u64,
    descriptor: u64,
) -> Result<(), Errno> {
    // SAFETY: this function's contract.
    let answer = unsafe {
        h.call2(
            HypercallNr::UPDATE_DESCRIPTOR,
            machine_address as usize,
            descriptor as usize,
        )
    };
    Errno::check(answer).map(|_| ())
}

/// Sets the stack on which the kernel is entered from user mode. PV guests
/// only.
///
/// # Errors
/// `EPERM`: the segment is not allowed.
///
/// # Safety
/// The stack is there for it.
#[inline]
pub unsafe fn stack_switch<H: Hypercall + ?Sized>(
    h: &H,
    ss: u16,
    stack_pointer: u64,
) -> Result<(), Errno> {
    // SAFETY: this function's contract.
    let answer = unsafe {
        h.call2(
            HypercallNr::STACK_SWITCH,
            usize::from(ss),
            stack_pointer as usize,
        )
    };
    Errno::check(answer).map(|_| ())
}

/// Sets where upcalls, failures and system calls go, the older way; see
/// [`crate::callback::register`]. PV guests only.
///
/// # Errors
/// `ENOSYS`: not a PV guest. An address that is not canonical is ignored
/// without a word.
///
/// # Safety
/// Code is there that can handle them.
#[inline]
pub unsafe fn set_callbacks<H: Hypercall + ?Sized>(
    h: &H,
    event: u64,
    failsafe: u64,
    syscall: u64,
) -> Result<(), Errno> {
    // SAFETY: this function's contract.
    let answer = unsafe {
        h.call3(
            HypercallNr::SET_CALLBACKS,
            event as usize,
            failsafe as usize,
            syscall as usize,
        )
    };
    Errno::check(answer).map(|_| ())
}

/// Sets a segment's base. PV guests only.
///
/// # Errors
/// `EINVAL`: the base is not canonical; `ENOSYS`: not a PV guest.
///
/// # Safety
/// Nothing that runs needs the segment as it was.
#[inline]
pub unsafe fn set_segment_base<H: Hypercall + ?Sized>(
    h: &H,
    segment: SegmentBase,
    base: u64,
) -> Result<(), Errno> {
    let which = match segment {
        SegmentBase::Fs => SEGBASE_FS,
        SegmentBase::GsUser => SEGBASE_GS_USER,
        SegmentBase::GsKernel => SEGBASE_GS_KERNEL,
        SegmentBase::GsUserSelector => SEGBASE_GS_USER_SEL,
    };
    // SAFETY: this function's contract.
    let answer = unsafe { h.call2(HypercallNr::SET_SEGMENT_BASE, which, base as usize) };
    Errno::check(answer).map(|_| ())
}
