//! A second vCPU, which does one thing when it is told to, and goes down.

use core::{
    cell::UnsafeCell,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use event_channels::Ports;
use hypercall_abi::{
    Errno, Port, VcpuId, event_channel,
    hvm::VcpuHvmX8664,
    peer_field,
    platform::{Clock, Park},
    sched,
    vcpu::{self, VcpuState},
    xen::SharedInfo,
};
use pv_guest::{Current, Guest};

use crate::claim::{Stop, Verdict};

/// The longest that it may take: on a busy machine, it does not run at once.
pub(crate) const PATIENCE_NS: u64 = 20_000_000_000;

/// Which one it is.
pub(crate) const SECOND: VcpuId = VcpuId(1);

/// What it can be told to do.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(crate) enum Order {
    /// Nothing.
    Rest,
    /// To send on a port.
    Send,
    /// To wait for a port.
    Poll,
    /// To try to set the first one's timer.
    SetTimerOfFirst,
    /// To send on a port again and again, until it is told to rest.
    Pace,
    /// To answer each event of a port's by one of another, until it is told to rest.
    Answer,
}

/// What the two tell each other.
struct Letter {
    order: AtomicU32,
    port: AtomicU32,
    /// The port of an answer.
    back: AtomicU32,
    /// How often it came up.
    starts: AtomicU32,
    /// How much it did.
    done: AtomicU32,
    /// What it was answered.
    answer: AtomicU64,
}

static LETTER: Letter = Letter {
    order: AtomicU32::new(0),
    port: AtomicU32::new(0),
    back: AtomicU32::new(0),
    starts: AtomicU32::new(0),
    done: AtomicU32::new(0),
    answer: AtomicU64::new(0),
};

/// Where it finds its platform: written once, before it starts.
struct Place(UnsafeCell<Option<Own>>);

/// What it works with.
#[derive(Clone, Copy)]
struct Own {
    platform: Current,
    ports: &'static Ports<Current>,
}

// SAFETY: written while there is one vCPU, and only read from then on.
unsafe impl Sync for Place {}

static PLATFORM: Place = Place(UnsafeCell::new(None));

impl Place {
    fn get(&self) -> Option<Own> {
        // SAFETY: nobody writes it any more, or nobody else is there yet.
        unsafe { *self.0.get() }
    }
}

/// Its code.
extern "C-unwind" fn code(argument: u64) {
    let Some(Own { platform, ports }) = PLATFORM.get() else {
        return;
    };
    LETTER.answer.store(argument, Ordering::Relaxed);
    let mut done = 0;
    loop {
        LETTER.starts.fetch_add(1, Ordering::Relaxed);
        let port = Port(LETTER.port.load(Ordering::Acquire));
        let order = LETTER.order.load(Ordering::Acquire);
        let answer = if order == Order::Send as u32 {
            event_channel::send(&platform, port)
        } else if order == Order::Poll as u32 {
            sched::poll(&platform, &[port], None)
        } else if order == Order::SetTimerOfFirst as u32 {
            vcpu::stop_singleshot_timer(&platform, VcpuId(0))
        } else if order == Order::Pace as u32 {
            pace(&platform, port)
        } else if order == Order::Answer as u32 {
            let back = Port(LETTER.back.load(Ordering::Acquire));
            answer_each(&platform, ports, port, back)
        } else {
            Ok(())
        };
        if order != Order::Rest as u32 {
            let number = answer.map_or_else(|errno| errno.to_answer() as u64, |()| 0);
            LETTER.answer.store(number, Ordering::Relaxed);
        }
        // Of its own: they must be as they were when it comes up again.
        done += 1;
        LETTER.done.store(done, Ordering::Release);
        let _refused: Result<(), Errno> = vcpu::down(&platform, SECOND);
    }
}

fn is_to_rest() -> bool {
    LETTER.order.load(Ordering::Acquire) == Order::Rest as u32
}

/// How long it is between two events of a pace.
pub(crate) const PACE_NS: u64 = 20_000;

fn pace(platform: &Current, port: Port) -> Result<(), Errno> {
    let mut next_ns = platform.now_ns();
    while !is_to_rest() {
        // Whoever took the last one masked it.
        event_channel::unmask(platform, port)?;
        event_channel::send(platform, port)?;
        next_ns = (next_ns + PACE_NS).max(platform.now_ns());
        while platform.now_ns() < next_ns {
            core::hint::spin_loop();
        }
    }
    Ok(())
}

fn answer_each(
    platform: &Current,
    ports: &Ports<Current>,
    port: Port,
    back: Port,
) -> Result<(), Errno> {
    while !is_to_rest() {
        sched::poll(platform, &[port], None)?;
        // One that came while it was masked is told only now.
        event_channel::unmask(platform, port)?;
        if ports.dispatch(SECOND).events > 0 {
            event_channel::send(platform, back)?;
        }
    }
    Ok(())
}

/// Has it end what it does without an end; an event on its port lets it see that.
pub(crate) fn rest() {
    LETTER.order.store(Order::Rest as u32, Ordering::Release);
}

/// Where it is to answer.
pub(crate) fn answer_on(port: Port) {
    LETTER.back.store(port.0, Ordering::Release);
}

/// How often it came up, how much it did, and what it was answered.
pub(crate) fn told() -> (u32, u32, u64) {
    (
        LETTER.starts.load(Ordering::Relaxed),
        LETTER.done.load(Ordering::Acquire),
        LETTER.answer.load(Ordering::Relaxed),
    )
}

/// Brings it up to do something.
pub(crate) fn begin(guest: &Guest, order: Order, port: Port) -> Verdict {
    LETTER.port.store(port.0, Ordering::Release);
    LETTER.order.store(order as u32, Ordering::Release);
    // SAFETY: its code shares nothing with this vCPU's but the letter.
    unsafe { vcpu::up(guest.platform(), SECOND) }?;
    Ok(())
}

/// Waits until it is down.
pub(crate) fn finish(guest: &Guest) -> Verdict {
    const NAP_NS: u64 = 1_000_000;
    let platform = guest.platform();
    let end = platform.now_ns() + PATIENCE_NS;
    while vcpu::state(platform, SECOND)? == VcpuState::Up {
        if platform.now_ns() > end {
            return Err("it does not go down".into());
        }
        platform.park(&[], Some(platform.now_ns() + NAP_NS));
    }
    Ok(())
}

/// Has it do something, and waits for that.
pub(crate) fn order(guest: &Guest, order: Order, port: Port) -> Verdict {
    begin(guest, order, port)?;
    finish(guest)
}

/// Says what it starts with, where that was not done yet.
pub(crate) fn ensure(guest: &Guest, argument: u64) -> Verdict {
    if PLATFORM.get().is_none() {
        initialise(guest, argument)?;
    }
    Ok(())
}

/// Says what it starts with.
pub(crate) fn initialise(guest: &Guest, argument: u64) -> Result<(), Stop> {
    let (platform, ports) = (*guest.platform(), guest.ports()?);
    let start = (code as *const ()).addr() as u64;
    if PLATFORM.get().is_none() {
        // SAFETY: it has not started.
        unsafe { *PLATFORM.0.get() = Some(Own { platform, ports }) };
    }
    // SAFETY: the code expects this argument and no more.
    unsafe { context::initialise(guest, start, argument) }?;
    // Where events for it are told.
    // SAFETY: the words are the second vCPU's, which holds nothing back.
    let shared = unsafe { guest.shared_info() }.ok_or("no shared page")?;
    let words = peer_field!(shared, SharedInfo, vcpu_info).get(SECOND.0 as usize);
    ports
        .add_vcpu(SECOND, words.ok_or("no words for it")?)
        .map_err(|_| "it cannot be given events")?;
    Ok(())
}

/// A process's vCPU is a thread: it has a stack and tables.
#[cfg(not(target_os = "none"))]
mod context {
    use hypercall_abi::{
        Errno,
        hvm::{VCPU_HVM_MODE_64B, VcpuHvmContext, VcpuHvmX8664},
        vcpu,
        xen::VcpuGuestContext,
    };
    use pv_guest::GuestType;

    use super::{Guest, SECOND, words};

    pub(super) unsafe fn initialise(guest: &Guest, start: u64, argument: u64) -> Result<(), Errno> {
        if guest.guest_type() == GuestType::Pvh {
            let registers = VcpuHvmX8664 {
                rip: start,
                rdi: argument,
                ..VcpuHvmX8664::default()
            };
            let mut context = VcpuHvmContext {
                mode: VCPU_HVM_MODE_64B,
                cpu_regs: words(registers),
                ..VcpuHvmContext::default()
            };
            // SAFETY: this function's contract.
            return unsafe { vcpu::initialise_hvm(guest.platform(), SECOND, &mut context) };
        }
        let mut context = VcpuGuestContext::default();
        context.user_regs.rip = start;
        context.user_regs.rdi = argument;
        // SAFETY: this function's contract.
        unsafe { vcpu::initialise_pv(guest.platform(), SECOND, &mut context) }
    }
}

/// Registers, as the context has them.
fn words(registers: VcpuHvmX8664) -> [u64; 15] {
    let words: [u64; 14] = zerocopy::transmute!(registers);
    let mut all = [0; 15];
    for (slot, word) in all.iter_mut().zip(words) {
        *slot = word;
    }
    all
}

/// On hardware it gets a stack, and this vCPU's page tables.
#[cfg(target_os = "none")]
mod context {
    use core::{arch::asm, cell::UnsafeCell};

    use hypercall_abi::{
        Errno,
        hvm::{VCPU_HVM_MODE_64B, VcpuHvmContext, VcpuHvmX8664},
        vcpu,
        xen::{
            VcpuContextFlags, VcpuGuestContext,
            traps::{FLAT_KERNEL_CS, FLAT_KERNEL_SS},
        },
    };
    use pv_guest::GuestType;

    use super::{Guest, SECOND, words};

    const STACK_BYTES: usize = 16 << 10;

    #[repr(C, align(16))]
    struct Stack(UnsafeCell<[u8; STACK_BYTES]>);

    // SAFETY: the second vCPU alone uses it.
    unsafe impl Sync for Stack {}

    static STACK: Stack = Stack(UnsafeCell::new([0; STACK_BYTES]));

    /// Too large for this vCPU's stack.
    struct Place(UnsafeCell<Option<VcpuGuestContext>>);

    // SAFETY: used by one vCPU, within `initialise`.
    unsafe impl Sync for Place {}

    static CONTEXT: Place = Place(UnsafeCell::new(None));

    /// A control register.
    macro_rules! read {
        ($register:literal) => {{
            let value: u64;
            // SAFETY: reads the register; where it may not, Xen does.
            unsafe { asm!(concat!("mov {}, ", $register), out(reg) value) };
            value
        }};
    }

    pub(super) unsafe fn initialise(guest: &Guest, start: u64, argument: u64) -> Result<(), Errno> {
        const EFER: u32 = 0xc000_0080;
        // As if it had been called.
        let stack = STACK.0.get().addr() as u64 + STACK_BYTES as u64 - 8;
        if guest.guest_type() == GuestType::Pv {
            // SAFETY: this function alone uses it, on one vCPU.
            let context = unsafe { &mut *CONTEXT.0.get() };
            let context = context.insert(VcpuGuestContext::default());
            context.flags = VcpuContextFlags::IN_KERNEL.bits();
            context.user_regs.rip = start;
            context.user_regs.rdi = argument;
            context.user_regs.rsp = stack;
            context.user_regs.cs = FLAT_KERNEL_CS;
            context.user_regs.ss = FLAT_KERNEL_SS;
            context.ctrlreg = [0, 0, 0, read!("cr3"), 0, 0, 0, 0];
            // SAFETY: code, stack and tables are there for good.
            return unsafe { vcpu::initialise_pv(guest.platform(), SECOND, context) };
        }
        // SAFETY: a register of the processor that any kernel may read.
        let efer = unsafe { x86_efer(EFER) };
        let registers = VcpuHvmX8664 {
            rip: start,
            rdi: argument,
            rsp: stack,
            rflags: 2,
            cr0: read!("cr0"),
            cr3: read!("cr3"),
            cr4: read!("cr4"),
            efer,
            ..VcpuHvmX8664::default()
        };
        let mut context = VcpuHvmContext {
            mode: VCPU_HVM_MODE_64B,
            cpu_regs: words(registers),
            ..VcpuHvmContext::default()
        };
        // SAFETY: as above.
        unsafe { vcpu::initialise_hvm(guest.platform(), SECOND, &mut context) }
    }

    /// Reads a register of the model.
    unsafe fn x86_efer(register: u32) -> u64 {
        let (low, high): (u32, u32);
        // SAFETY: this function's contract.
        unsafe { asm!("rdmsr", in("ecx") register, out("eax") low, out("edx") high) };
        u64::from(high) << 32 | u64::from(low)
    }
}
