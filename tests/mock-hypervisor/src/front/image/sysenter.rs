//! `sysenter`, and code of 32 bits. Where `sysenter` is an instruction of 64-bit programs
//! (Intel's processors; for AMD's it is an invalid opcode), it leads into the host's kernel,
//! which takes it for a system call of 32 bits: neither the guest's address nor its stack
//! pointer is known any more, and what the call would do is done to this process. So the
//! kernel is told to make no such call of a vCPU's thread, and the guest is told what Xen
//! tells it: its `sysenter` callback, if it has set one, or a general protection fault.

use std::io;

use hypercall_abi::callback::CallbackType;

use super::{registers::Registers, vcpu::Cpu};

/// The selectors of programs, by the host's kernel: of 64 bits, and of 32.
const CODE_64: u64 = 0x33;
const CODE_32: u64 = 0x23;
const SELECTOR: u64 = 0xffff;

/// The architecture of ordinary system calls here: x86-64, little-endian, 64 bits.
const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
/// Where a filter finds the architecture of a call.
const ARCHITECTURE_AT: u32 = 4;

/// Whether a signal came while the thread was in code of 32 bits, where a call by
/// `sysenter` goes on; from now on it is not.
pub(super) fn take_back(context: &mut libc::ucontext_t) -> bool {
    let word = &mut context.uc_mcontext.gregs[libc::REG_CSGSFS as usize];
    let selectors = word.cast_unsigned();
    if selectors & SELECTOR != CODE_32 {
        return false;
    }
    *word = ((selectors & !SELECTOR) | CODE_64).cast_signed();
    true
}

impl Cpu {
    /// What becomes of one.
    pub(super) fn sysenter(&mut self, registers: &mut Registers) {
        // The processor has kept neither.
        (registers.rip, registers.rsp) = (0, 0);
        let kind = CallbackType::SYSENTER;
        match self.with_processor(|cpu| cpu.callbacks.contains_key(&kind.0)) {
            true => self.call_back(registers, kind),
            false => self.protection_fault(registers, 0),
        }
    }
}

/// Has every system call of this thread's that is no ordinary one answered by a signal.
pub(super) fn refuse_calls_of_32_bits() -> io::Result<()> {
    let step = |code: u32, jf: u8, k: u32| libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf,
        k,
    };
    let mut steps = [
        step(
            libc::BPF_LD | libc::BPF_W | libc::BPF_ABS,
            0,
            ARCHITECTURE_AT,
        ),
        step(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            1,
            AUDIT_ARCH_X86_64,
        ),
        step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
        step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_TRAP),
    ];
    let program = libc::sock_fprog {
        len: steps.len() as u16,
        filter: steps.as_mut_ptr(),
    };
    // SAFETY: this thread, which runs no other program, gets no more rights by one.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the program is there, and is copied. It is no protection from the guest, and
    // must not slow it down.
    let done = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
            &raw const program,
        )
    };
    match done {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI32, Ordering};

    use super::*;

    const SYS_SECCOMP: i32 = 1;
    static CODE: AtomicI32 = AtomicI32::new(0);

    extern "C" fn note(_: libc::c_int, info: &libc::siginfo_t, _: *mut libc::c_void) {
        CODE.store(info.si_code, Ordering::Relaxed);
    }

    /// A call of 32 bits, and what it is answered.
    fn number_by_32_bits() -> i32 {
        const GETPID: i32 = 20;
        let answer;
        // SAFETY: asks for the process's number.
        unsafe {
            std::arch::asm!("int 0x80", inout("eax") GETPID => answer,
                out("r8") _, out("r9") _, out("r10") _, out("r11") _);
        }
        answer
    }

    #[test]
    fn calls_of_32_bits_are_a_signal() {
        // SAFETY: all zeroes is a valid (empty) action.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = note as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        // SAFETY: the handler has the signature that SA_SIGINFO asks for.
        let done = unsafe { libc::sigaction(libc::SIGSYS, &action, std::ptr::null_mut()) };
        assert_eq!(done, 0);
        let (before, after) = std::thread::spawn(|| {
            let before = number_by_32_bits();
            refuse_calls_of_32_bits().unwrap();
            (before, number_by_32_bits())
        })
        .join()
        .unwrap();
        let number = std::process::id() as i32;
        // A kernel may have none of them.
        assert!(before == number || before == -libc::ENOSYS, "{before}");
        if before == number {
            assert_ne!(after, number);
            assert_eq!(CODE.load(Ordering::Relaxed), SYS_SECCOMP);
        }
        // Others of this thread's go on.
        assert!(std::fs::metadata("/").is_ok());
    }
}
