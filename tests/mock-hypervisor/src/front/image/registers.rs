//! The registers of a vCPU, wherever they are kept while it does not run.

use hypercall_abi::xen::traps::CpuUserRegs;

/// Flags.
pub(super) const TRAP: u64 = 1 << 8;
pub(super) const INTERRUPTS: u64 = 1 << 9;
pub(super) const IO_LEVEL: u64 = 3 << 12;
/// Where the I/O privilege level begins in the flags.
pub(super) const IO_LEVEL_SHIFT: u32 = 12;
pub(super) const NESTED: u64 = 1 << 14;
pub(super) const RESUME: u64 = 1 << 16;
pub(super) const VIRTUAL_8086: u64 = 1 << 17;
pub(super) const ALIGNMENT: u64 = 1 << 18;
/// What a guest may set of its flags: arithmetic, steps, direction, nesting,
/// alignment, identification.
const GUESTS: u64 = 0xcd5 | TRAP | NESTED | RESUME | ALIGNMENT | 1 << 21;

/// All general registers, in the order of a signal's context.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(super) struct Registers {
    pub(super) r8: u64,
    pub(super) r9: u64,
    pub(super) r10: u64,
    pub(super) r11: u64,
    pub(super) r12: u64,
    pub(super) r13: u64,
    pub(super) r14: u64,
    pub(super) r15: u64,
    pub(super) rdi: u64,
    pub(super) rsi: u64,
    pub(super) rbp: u64,
    pub(super) rbx: u64,
    pub(super) rdx: u64,
    pub(super) rax: u64,
    pub(super) rcx: u64,
    pub(super) rsp: u64,
    pub(super) rip: u64,
    pub(super) rflags: u64,
}

impl Registers {
    /// Those of a signal's context.
    pub(super) fn of(context: &libc::ucontext_t) -> Self {
        let words: &[i64; 23] = &context.uc_mcontext.gregs;
        let word = |index: usize| words[index].cast_unsigned();
        Self {
            r8: word(0),
            r9: word(1),
            r10: word(2),
            r11: word(3),
            r12: word(4),
            r13: word(5),
            r14: word(6),
            r15: word(7),
            rdi: word(8),
            rsi: word(9),
            rbp: word(10),
            rbx: word(11),
            rdx: word(12),
            rax: word(13),
            rcx: word(14),
            rsp: word(15),
            rip: word(16),
            rflags: word(17),
        }
    }

    /// Has the vCPU go on with these when the signal's handler returns.
    pub(super) fn put(&self, context: &mut libc::ucontext_t) {
        let words = [
            self.r8,
            self.r9,
            self.r10,
            self.r11,
            self.r12,
            self.r13,
            self.r14,
            self.r15,
            self.rdi,
            self.rsi,
            self.rbp,
            self.rbx,
            self.rdx,
            self.rax,
            self.rcx,
            self.rsp,
            self.rip,
            clean(self.rflags),
        ];
        for (place, word) in context.uc_mcontext.gregs.iter_mut().zip(words) {
            *place = word.cast_signed();
        }
    }

    /// Those that a vCPU is to start with.
    pub(super) fn of_context(from: &CpuUserRegs) -> Self {
        Self {
            r8: from.r8,
            r9: from.r9,
            r10: from.r10,
            r11: from.r11,
            r12: from.r12,
            r13: from.r13,
            r14: from.r14,
            r15: from.r15,
            rdi: from.rdi,
            rsi: from.rsi,
            rbp: from.rbp,
            rbx: from.rbx,
            rdx: from.rdx,
            rax: from.rax,
            rcx: from.rcx,
            rsp: from.rsp,
            rip: from.rip,
            rflags: from.rflags,
        }
    }

    /// One of the sixteen, by the processor's number.
    pub(super) fn general(&mut self, number: usize) -> &mut u64 {
        match number & 15 {
            0 => &mut self.rax,
            1 => &mut self.rcx,
            2 => &mut self.rdx,
            3 => &mut self.rbx,
            4 => &mut self.rsp,
            5 => &mut self.rbp,
            6 => &mut self.rsi,
            7 => &mut self.rdi,
            8 => &mut self.r8,
            9 => &mut self.r9,
            10 => &mut self.r10,
            11 => &mut self.r11,
            12 => &mut self.r12,
            13 => &mut self.r13,
            14 => &mut self.r14,
            _ => &mut self.r15,
        }
    }
}

/// Flags with which a process may run: interrupts on, no rights to ports.
pub(super) const fn clean(flags: u64) -> u64 {
    (flags & GUESTS & !IO_LEVEL) | INTERRUPTS | 2
}
