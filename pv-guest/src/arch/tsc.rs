//! The time stamp counter, and its rate on a machine that does not tell.

use hypercall_abi::arch_x86::cpuid::Cpuid;
use x86::io::{inb, outb};

use crate::{
    clock::{
        TscRate,
        tsc_rate::{self, Moment},
    },
    cpu::set_once::SetOnce,
};

/// Reads the counter, after all that came before.
pub(crate) fn read() -> u64 {
    // SAFETY: every x86-64 processor has it, and Xen lets its guests use it.
    unsafe {
        core::arch::x86_64::_mm_lfence();
    }
    // SAFETY: as above.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// The clock of a plain machine.
#[derive(Clone, Copy)]
struct Start {
    rate: TscRate,
    /// The counter then.
    tsc: u64,
    /// Nanoseconds in a tick, times 2^32: a division for each look would cost more.
    ns_per_tick: u64,
}

static START: SetOnce<Start> = SetOnce::new();

/// The timer's second channel, its mode register, and its gate and output.
const TIMER: u16 = 0x42;
const TIMER_MODE: u16 = 0x43;
const TIMER_GATE: u16 = 0x61;
const OUTPUT: u8 = 0x20;
/// At least so many of the timer's ticks lie between two moments: 10 ms.
const INTERVAL: u16 = (tsc_rate::TIMER_HZ / 100) as u16;
/// A look at the timer may be interrupted: of so many, the shortest counts.
const LOOKS: usize = 16;
/// Measurements that may fail because the timer was not looked at for 55 ms.
const TRIES: usize = 8;
/// Looks at a timer that does not move before it is given up.
const MAX_STILL: usize = 10_000;

/// Finds the counter's rate: as CPUID says it, else by the interval timer, else by what
/// the processor is called.
pub(crate) fn calibrate() -> TscRate {
    let tsc = read();
    let leaf = |number| Cpuid::PLAIN.leaf(number, 0);
    let measured = || (0..TRIES).find_map(|_| measure());
    let rate = tsc_rate::by_cpuid(leaf)
        .or_else(measured)
        .unwrap_or_else(|| tsc_rate::nominal(leaf));
    START.set(Start {
        rate,
        tsc,
        ns_per_tick: (1_000_000 << 32) / rate.khz.max(1),
    });
    rate
}

/// The rate, on a plain machine.
pub(crate) fn rate() -> Option<TscRate> {
    START.get().map(|start| start.rate)
}

/// Compares the counter with the timer.
fn measure() -> Option<TscRate> {
    // SAFETY: reading the gate is harmless.
    let gate = unsafe { inb(TIMER_GATE) };
    // SAFETY: the timer and its gate belong to this kernel: the channel counts, the
    // speaker is off.
    unsafe { outb(TIMER_GATE, (gate & !2) | 1) };
    // SAFETY: as above: the second channel, both bytes, once down from 65,535.
    unsafe { outb(TIMER_MODE, 0xb0) };
    for _ in 0..2 {
        // SAFETY: as above.
        unsafe { outb(TIMER, 0xff) };
    }
    let first = moment();
    let mut still = 0;
    let mut before = first.timer;
    while first.timer.saturating_sub(before) < INTERVAL {
        let now = look().timer;
        // A timer that is not there reads always the same.
        still = if now == before { still + 1 } else { 0 };
        if still > MAX_STILL || is_over() {
            return None;
        }
        before = now;
    }
    let last = moment();
    if is_over() {
        return None;
    }
    tsc_rate::between(first, last)
}

/// Whether the timer has passed zero.
fn is_over() -> bool {
    // SAFETY: reading the gate's status is harmless.
    (unsafe { inb(TIMER_GATE) }) & OUTPUT != 0
}

/// The shortest of some looks.
fn moment() -> Moment {
    let looks = (0..LOOKS).map(|_| look());
    looks.min_by_key(Moment::width).unwrap_or_else(look)
}

fn look() -> Moment {
    let before = read();
    // SAFETY: the timer belongs to this kernel: has it note what the channel says now.
    unsafe { outb(TIMER_MODE, 0x80) };
    // SAFETY: as above: what it noted.
    let low = unsafe { inb(TIMER) };
    // SAFETY: as above.
    let high = unsafe { inb(TIMER) };
    Moment {
        tsc: [before, read()],
        timer: u16::from_le_bytes([low, high]),
    }
}

/// Nanoseconds since [`calibrate`]; zero before it.
pub(crate) fn since_start_ns() -> u64 {
    START.get().map_or(0, |start| {
        let ticks = read().saturating_sub(start.tsc);
        ((u128::from(ticks) * u128::from(start.ns_per_tick)) >> 32) as u64
    })
}
