//! How a guest that cannot go on is told of, and a monitor that cannot.

use hypercall_abi::sched::ShutdownReason;

use super::{registers::Registers, signals::MONITOR_START, vcpu::Cpu};

/// The most frames of a backtrace.
const MOST_FRAMES: usize = 32;

/// Ends the domain for something that its guest did: says what, where, and with which
/// registers.
pub(super) fn crash(cpu: &Cpu, registers: &Registers, what: &str) -> ! {
    let r = registers;
    let mut text = format!(
        "xen: the guest is ended for {what}\n\
         xen: vCPU {}, {:?} mode, rip {:#x}, rsp {:#x}, flags {:#x}\n\
         rax {:016x} rbx {:016x} rcx {:016x} rdx {:016x}\n\
         rsi {:016x} rdi {:016x} rbp {:016x} r8  {:016x}\n\
         r9  {:016x} r10 {:016x} r11 {:016x} r12 {:016x}\n\
         r13 {:016x} r14 {:016x} r15 {:016x}\n\
         backtrace:\n  #0 {:#x}\n",
        cpu.id.0,
        cpu.mode,
        r.rip,
        r.rsp,
        r.rflags,
        r.rax,
        r.rbx,
        r.rcx,
        r.rdx,
        r.rsi,
        r.rdi,
        r.rbp,
        r.r8,
        r.r9,
        r.r10,
        r.r11,
        r.r12,
        r.r13,
        r.r14,
        r.r15,
        r.rip
    );
    let mut frame = r.rbp;
    for depth in 1..MOST_FRAMES {
        let mut words = [0_u8; 16];
        if !frame.is_multiple_of(8) || cpu.monitor.read(frame, &mut words).is_err() {
            break;
        }
        let (caller, back) = words.split_at(8);
        let word = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes);
        let (caller, back) = (word(caller), word(back));
        if back == 0 {
            break;
        }
        text += &format!("  #{depth} {back:#x}\n");
        // Stacks grow down: a caller's frame lies above.
        if caller <= frame {
            break;
        }
        frame = caller;
    }
    eprint!("{text}");
    cpu.monitor.domain.end(ShutdownReason::CRASH, String::new())
}

/// Ends the process for something that the host cannot do.
pub(super) fn fail(what: &str) -> ! {
    eprintln!("xen: {what}");
    std::process::exit(1)
}

/// Ends the process for a fault of the monitor itself, or of a guest that wrote into
/// it.
pub(super) fn die_of(signal: libc::c_int, info: &libc::siginfo_t, context: &libc::ucontext_t) -> ! {
    let rip = context.uc_mcontext.gregs[libc::REG_RIP as usize].cast_unsigned();
    // SAFETY: there is an address for faults; it is not used for others.
    let address = unsafe { info.si_addr() }.addr();
    let place = if rip < MONITOR_START {
        "the guest's"
    } else {
        "the monitor's"
    };
    eprintln!(
        "xen: signal {signal} at {rip:#x}, {place} code, for {address:#x}, while a call was \
         served: a bug of the monitor, or its memory was overwritten by the guest"
    );
    std::process::abort()
}
