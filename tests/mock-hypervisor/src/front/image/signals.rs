//! The way from the guest into the monitor: signals. Each vCPU is a thread with a
//! signal stack in an area of its own, by which the handler knows whose signal it
//! is: no register and no segment base of the guest's is asked.

use std::{
    arch::global_asm, cell::UnsafeCell, io, mem::MaybeUninit, ptr::NonNull, sync::atomic::Ordering,
};

use super::{direct::Call, kept, vcpu::Cpu};

/// Of the area of a vCPU, which begins at a multiple of this.
pub(super) const AREA_BYTES: usize = 256 << 10;
/// Where the signal stack begins in it: behind the words, and a page that is never
/// mapped.
const STACK_AT: usize = 16 << 10;
const GUARD_AT: usize = 12 << 10;
const PAGE: usize = 4096;
/// The addresses from which on there is the monitor, and not the guest.
pub(super) const MONITOR_START: u64 = 0x5000_0000_0000;
const MONITOR_END: u64 = 0x7fff_ffff_f000;

/// The signal that interrupts a vCPU.
pub(super) const KICK: libc::c_int = libc::SIGUSR1;

/// What the kernel tells of an instruction that it did not run.
const PR_SET_SYSCALL_USER_DISPATCH: libc::c_int = 59;
const PR_SYS_DISPATCH_ON: libc::c_ulong = 1;
const SYSCALL_DISPATCH_FILTER_BLOCK: u8 = 1;

/// The first words of an area: the assembly below knows where they are.
#[repr(C)]
pub(super) struct Area {
    /// The monitor's own base of `fs`.
    pub(super) monitor_fs: u64,
    pub(super) call: Call,
    pub(super) cpu: Cpu,
}

const _: () = assert!(size_of::<Area>() <= GUARD_AT);

// The flags that could disturb the monitor are cleared (alignment checks, nesting;
// the kernel has cleared direction and steps), and the base of `fs` becomes the
// monitor's until it returns.
global_asm!(
    ".globl mock_user_signal",
    "mock_user_signal:",
    "mov rcx, rsp",
    "and rcx, -{area}",
    "pushfq",
    "and dword ptr [rsp], 0xfffbbfff",
    "popfq",
    "rdfsbase r8",
    "mov rax, [rcx]",
    "wrfsbase rax",
    "sub rsp, 8",
    "call {handler}",
    "add rsp, 8",
    "wrfsbase rax",
    "ret",
    area = const AREA_BYTES,
    handler = sym on_signal,
);

unsafe extern "C" {
    fn mock_user_signal();
}

/// Where the assembly leads; answers what the base of `fs` is to be.
extern "C" fn on_signal(
    signal: libc::c_int,
    info: &libc::siginfo_t,
    context: &mut libc::ucontext_t,
    area: &UnsafeCell<Area>,
    fs_base: u64,
) -> u64 {
    // SAFETY: only this thread uses its area, and its handler is not entered
    // again while it runs: what may interrupt it is masked, and a fault of its own
    // is told below, without this reference.
    let inside = unsafe { &(*area.get()).call.inside };
    if inside.load(Ordering::Relaxed) != 0 {
        if signal == libc::SIGSEGV && kept::is_own(context) {
            return fs_base;
        }
        if signal != KICK {
            super::report::die_of(signal, info, context);
        }
        // A direct call, which will look: signals mask this one.
        // SAFETY: as above.
        let kicked = unsafe { &(*area.get()).call.kicked };
        kicked.store(1, Ordering::Relaxed);
        return fs_base;
    }
    // SAFETY: as above.
    let Area { cpu, call, .. } = unsafe { &mut *area.get() };
    call.inside.store(1, Ordering::Relaxed);
    call.kicked.store(0, Ordering::Relaxed);
    let fs_base = cpu.enter(signal, context, call, fs_base);
    call.inside.store(0, Ordering::Relaxed);
    fs_base
}

fn check(answer: libc::c_int, what: &str) -> io::Result<()> {
    if answer == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    Err(io::Error::new(error.kind(), format!("{what}: {error}")))
}

/// Has the process's signals come here.
pub(super) fn install() -> io::Result<()> {
    for signal in [
        libc::SIGSEGV,
        libc::SIGBUS,
        libc::SIGILL,
        libc::SIGFPE,
        libc::SIGTRAP,
        libc::SIGSYS,
        KICK,
    ] {
        // SAFETY: all zeroes is a valid (empty) action.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = mock_user_signal as *const () as usize;
        // A fault in the monitor is to be told: faults are not masked.
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
        // SAFETY: adds a signal to a set.
        unsafe { libc::sigaddset(&mut action.sa_mask, KICK) };
        // SAFETY: the handler has the signature that SA_SIGINFO asks for.
        let done = unsafe { libc::sigaction(signal, &action, std::ptr::null_mut()) };
        check(done, "cannot handle signals")?;
    }
    Ok(())
}

/// Makes the area of a vCPU, for the process's lifetime.
pub(super) fn area(cpu: Cpu) -> io::Result<NonNull<UnsafeCell<Area>>> {
    let (both, flags) = (
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
    );
    // SAFETY: the kernel chooses where.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), 2 * AREA_BYTES, both, flags, -1, 0) };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let offset = start.align_offset(AREA_BYTES);
    // SAFETY: twice as many bytes were mapped.
    let start = unsafe { start.byte_add(offset) };
    // SAFETY: as above.
    let guard = unsafe { start.byte_add(GUARD_AT) };
    // SAFETY: a page of the area that nothing uses.
    let done = unsafe { libc::mprotect(guard, PAGE, libc::PROT_NONE) };
    check(done, "cannot protect a stack")?;
    let area = start.cast::<UnsafeCell<Area>>();
    let fresh = Area {
        monitor_fs: 0,
        call: Call::default(),
        cpu,
    };
    // SAFETY: fresh memory that is large enough.
    unsafe { area.write(UnsafeCell::new(fresh)) };
    NonNull::new(area).ok_or_else(|| io::Error::other("an area at 0"))
}

/// Makes this thread a vCPU, and runs the guest's code on it: never returns.
pub(super) fn run(area: NonNull<UnsafeCell<Area>>) -> io::Error {
    match prepare(area) {
        Ok(()) => {}
        Err(error) => return error,
    }
    // SAFETY: the handler has the vCPU start.
    unsafe { libc::raise(KICK) };
    io::Error::other("the guest did not start")
}

fn prepare(area: NonNull<UnsafeCell<Area>>) -> io::Result<()> {
    let fs_base: u64;
    // SAFETY: reads a register; that the processor lets programs do so was
    // looked up before the first vCPU was made.
    unsafe { std::arch::asm!("rdfsbase {}", out(reg) fs_base) };
    // SAFETY: the area is this thread's, and there for as long as the process.
    let words = unsafe { area.as_ref() }.get();
    // SAFETY: no signal comes to it yet that would use it.
    let is_virtual = unsafe { (*words).cpu.monitor.is_virtual };
    // SAFETY: no signal comes to it yet that would use it.
    unsafe { (*words).monitor_fs = fs_base };
    // SAFETY: within the area.
    let stack = unsafe { area.cast::<u8>().add(STACK_AT) };
    let stack = libc::stack_t {
        ss_sp: stack.as_ptr().cast(),
        ss_flags: 0,
        ss_size: AREA_BYTES - STACK_AT,
    };
    // SAFETY: memory that nothing else uses.
    let done = unsafe { libc::sigaltstack(&stack, std::ptr::null_mut()) };
    check(done, "cannot set a signal stack")?;
    // What is meant for the process is for its other threads.
    let mut signals = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: fills the set.
    unsafe { libc::sigemptyset(signals.as_mut_ptr()) };
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGALRM] {
        // SAFETY: a set that was filled.
        unsafe { libc::sigaddset(signals.as_mut_ptr(), signal) };
    }
    // SAFETY: as above.
    let signals = unsafe { signals.assume_init() };
    // SAFETY: changes this thread's mask.
    let done = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &signals, std::ptr::null_mut()) };
    check(done, "cannot mask signals")?;
    if is_virtual {
        kept::let_read_counter(false)?;
    }
    // Not every processor can keep that from a program.
    let _can = kept::let_identify(false);
    // Where the kernel has no filters, a guest must not use that.
    let _can = super::sysenter::refuse_calls_of_32_bits();
    static BLOCK: u8 = SYSCALL_DISPATCH_FILTER_BLOCK;
    // SAFETY: from now on, `syscall` at the guest's addresses is a signal.
    let done = unsafe {
        libc::prctl(
            PR_SET_SYSCALL_USER_DISPATCH,
            PR_SYS_DISPATCH_ON,
            MONITOR_START,
            MONITOR_END - MONITOR_START,
            &raw const BLOCK,
        )
    };
    check(
        done,
        "this kernel has no syscall user dispatch (Linux 5.11 and later, x86-64, have it; \
         it may be off in this container)",
    )
}
