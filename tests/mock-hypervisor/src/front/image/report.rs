//! How a guest that cannot go on is told of, and a monitor that cannot.

use std::io::Write;

use guest_names::Names;
use hypercall_abi::{HypercallNr, sched::ShutdownReason};

use super::{
    coverage::Coverage, monitor::Monitor, registers::Registers, signals::MONITOR_START, vcpu::Cpu,
};
use crate::core::domain_state::MAX_NR;

/// The most frames of a backtrace.
const MAX_FRAMES: usize = 32;

/// Says something on standard error, if anybody listens there.
pub(super) fn tell(text: &str) {
    let _nobody = std::io::stderr().write_all(text.as_bytes());
}

/// What is to be said when the guest has ended, however it did.
pub(super) fn farewell(monitor: &Monitor) {
    let unknown = monitor.domain.unknown_calls();
    if !unknown.is_empty() {
        let mut text = "xen: calls that there are not here (ENOSYS):\n".to_owned();
        for ((nr, op), count) in unknown {
            let times = if count == 1 { "time" } else { "times" };
            let op = op.map(|op| format!(", operation {op}"));
            let nr = match nr {
                MAX_NR => format!("hypercalls from {MAX_NR} on"),
                nr => format!("{:?}", HypercallNr(nr)),
            };
            text += &format!("  {nr}{}: {count} {times}\n", op.unwrap_or_default());
        }
        tell(&text);
    }
    match monitor.coverage.as_ref().map(Coverage::write) {
        None => {}
        Some(Ok((ran, all))) => tell(&format!("xen: {ran} of {all} lines ran\n")),
        Some(Err(error)) => tell(&format!("xen: what ran cannot be written: {error}\n")),
    }
}

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
         backtrace:\n",
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
    );
    let names = Names::of(&cpu.monitor.kernel);
    let mut frame_of = |depth: usize, address: u64| {
        text += &format!("  #{depth} {address:#x}");
        // All but the first are return addresses: the call is the byte before.
        let place = address.wrapping_sub(u64::from(depth > 0));
        for (index, name) in names.at(place).into_iter().enumerate() {
            let before = if index == 0 { "  " } else { "\n      in " };
            text += &format!("{before}{name}");
        }
        text.push('\n');
    };
    frame_of(0, r.rip);
    let mut frame = r.rbp;
    for depth in 1..MAX_FRAMES {
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
        frame_of(depth, back);
        // Stacks grow down: a caller's frame lies above.
        if caller <= frame {
            break;
        }
        frame = caller;
    }
    tell(&text);
    cpu.monitor.domain.end(ShutdownReason::CRASH, String::new())
}

/// Ends the process for something that the host cannot do.
pub(super) fn fail(what: &str) -> ! {
    tell(&format!("xen: {what}\n"));
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
    tell(&format!(
        "xen: signal {signal} at {rip:#x}, {place} code, for {address:#x}, while a call was \
         served: a bug of the monitor, or its memory was overwritten by the guest\n"
    ));
    std::process::abort()
}
